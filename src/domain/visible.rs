//! Text of tenants and callers as terminals may show it.
//!
//! Owns: which characters are not shown but do something: move the cursor, turn the direction of text, or hide. Used where
//! text leaves for a terminal, once (see `cli::output` and `telemetry`).

/// Whether a terminal obeys or hides the character instead of showing it. Line breaks and tabs are as they look.
fn is_misleading(c: char, before: Option<char>) -> bool {
    match c {
        '\n' | '\t' => false,
        // Bidi_Control.
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => true,
        // Line and paragraph separators; deprecated controls of Arabic shaping; annotations.
        '\u{2028}' | '\u{2029}' | '\u{206a}'..='\u{206f}' | '\u{fff9}'..='\u{fffb}' => true,
        // Nothing is seen of these: soft hyphen, fillers, zero-width spaces, invisible operators, tags, more variations.
        '\u{ad}' | '\u{34f}' | '\u{115f}' | '\u{1160}' | '\u{180b}'..='\u{180f}' | '\u{200b}' => true,
        '\u{2060}'..='\u{2065}' | '\u{3164}' | '\u{feff}' | '\u{ffa0}' => true,
        '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}' => true,
        // Joiners and variation selectors are part of scripts and emoji; behind ASCII they have nothing to do.
        '\u{200c}' | '\u{200d}' | '\u{fe00}'..='\u{fe0f}' => before.is_none_or(|before| before.is_ascii()),
        c => c.is_control(),
    }
}

fn replaced(text: &str, mut escape: impl FnMut(&mut String, char)) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut before = None;
    for c in text.chars() {
        if is_misleading(c, before) {
            escape(&mut shown, c);
        } else {
            shown.push(c);
        }
        before = Some(c);
    }
    shown
}

/// The text with what a terminal would obey or hide written as `\u{202e}`.
#[must_use]
pub fn visible(text: &str) -> String {
    replaced(text, |shown, c| shown.extend(c.escape_default()))
}

/// The same for a text that has one line, such as a cell of a table.
#[must_use]
pub fn visible_in_line(text: &str) -> String {
    visible(text).replace('\n', "\\n").replace('\t', "\\t")
}

/// The same for a JSON document, which stays one of the same value.
#[must_use]
pub fn visible_json(json: &str) -> String {
    replaced(json, |shown, c| {
        for unit in c.encode_utf16(&mut [0; 2]) {
            shown.push_str(&format!("\\u{unit:04x}"));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Characters of Unicode that are invisible or turn text.
    const MISLEADING: [u32; 59] = [
        0x0, 0x7, 0x8, 0xb, 0xc, 0x1b, 0x1f, 0x7f, 0x80, 0x85, 0x9b, 0x9f, 0xad, 0x34f, 0x61c, 0x115f, 0x1160, 0x180b,
        0x180e, 0x200b, 0x200c, 0x200d, 0x200e, 0x200f, 0x2028, 0x2029, 0x202a, 0x202b, 0x202c, 0x202d, 0x202e, 0x2060,
        0x2061, 0x2062, 0x2063, 0x2064, 0x2065, 0x2066, 0x2067, 0x2068, 0x2069, 0x206a, 0x206f, 0x3164, 0xfe00, 0xfe0f,
        0xfeff, 0xffa0, 0xfff9, 0xfffa, 0xfffb, 0x1bca0, 0x1d173, 0x1d17a, 0xe0000, 0xe0001, 0xe0020, 0xe007f, 0xe01ef,
    ];

    #[test]
    fn what_misleads_is_escaped_and_the_rest_is_as_it_was() {
        for number in MISLEADING {
            let text = format!("a{}b", char::from_u32(number).unwrap());
            assert_eq!(visible(&text), format!("a\\u{{{number:x}}}b"));
            let json = visible_json(&serde_json::json!({ &text: [&text] }).to_string());
            assert!(json.chars().all(|c| c.is_ascii_graphic()), "{json}");
            assert_eq!(
                serde_json::from_str::<serde_json::Value>(&json).unwrap(),
                serde_json::json!({ &text: [&text] })
            );
        }
        for text in [
            "",
            "a\n\tb",
            "äß日本語 עברית العربية",
            "می\u{200c}خواهم",
            "👨\u{200d}👩\u{200d}👧 ❤\u{fe0f}",
            "e\u{301}",
            "\\u{202e}",
        ] {
            assert_eq!(visible(text), text);
            assert_eq!(visible_json(text), text);
        }
        assert_eq!(visible("a\rb"), "a\\rb");
        assert_eq!(visible_in_line("a\nb\tc\u{202e}"), "a\\nb\\tc\\u{202e}");
    }
}
