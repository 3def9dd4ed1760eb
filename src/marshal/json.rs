//! JSON text as Python objects, without making values of ours in between.
//!
//! Owns: what is accepted: strict JSON and the tokens `NaN`, `Infinity` and `-Infinity`, as Python's module `json`. Never:
//! guesses; whatever Python would refuse or read otherwise is refused.

use crate::marshal::Marshal;

/// Deepest nesting. Python's `marshal` goes a thousand levels further, and no database's or caller's data come near.
const DEPTH_MAX: usize = 500;
/// Longest whole number, in digits: Python's own limit.
const DIGITS_MAX: usize = 4300;

/// Why JSON was not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refused;

impl Marshal {
    /// The objects that JSON text describes. What was written of a text that is refused is to be taken back.
    pub(crate) fn json(&mut self, json: &[u8]) -> Result<(), Refused> {
        let text = std::str::from_utf8(json).map_err(|_| Refused)?;
        self.out.reserve(json.len());
        let mut reader = Reader { text, at: 0 };
        reader.value(self)?;
        if reader.next().is_some() { Err(Refused) } else { Ok(()) }
    }
}

/// A list or dict that is not complete.
enum Open {
    /// Where its length is to be written, and how many items it has so far.
    List {
        length_at: usize,
        n_items: usize,
    },
    Dict,
}

fn check_depth(open: &[Open]) -> Result<(), Refused> {
    if open.len() > DEPTH_MAX { Err(Refused) } else { Ok(()) }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    /// A value with all that is in it. A loop, so that nesting does not take stack.
    fn value(&mut self, out: &mut Marshal) -> Result<(), Refused> {
        let mut open: Vec<Open> = Vec::new();
        loop {
            match self.next().ok_or(Refused)? {
                b'{' => {
                    self.at += 1;
                    out.begin();
                    if !self.skip(b'}') {
                        open.push(Open::Dict);
                        check_depth(&open)?;
                        self.key(out)?;
                        continue;
                    }
                    out.end();
                }
                b'[' => {
                    self.at += 1;
                    let length_at = out.begin_list();
                    if !self.skip(b']') {
                        open.push(Open::List { length_at, n_items: 1 });
                        check_depth(&open)?;
                        continue;
                    }
                }
                b'"' => match self.string()? {
                    Text::Plain { text, is_ascii } => out.unicode(text.as_bytes(), is_ascii),
                    Text::Escaped(text) => out.unicode(&unescaped(text)?, false),
                },
                b'-' | b'0'..=b'9' | b'I' | b'N' => self.number(out)?,
                _ => self.word(out)?,
            }
            if !self.close(out, &mut open)? {
                return Ok(());
            }
        }
    }

    /// Ends what ends after a value. Says whether another value follows.
    fn close(&mut self, out: &mut Marshal, open: &mut Vec<Open>) -> Result<bool, Refused> {
        loop {
            let Some(innermost) = open.last_mut() else { return Ok(false) };
            let next = self.next().ok_or(Refused)?;
            self.at += 1;
            match (next, innermost) {
                (b',', Open::List { n_items, .. }) => {
                    *n_items += 1;
                    return Ok(true);
                }
                (b',', Open::Dict) => {
                    self.key(out)?;
                    return Ok(true);
                }
                (b']', Open::List { length_at, n_items }) => {
                    out.end_list(*length_at, *n_items);
                    open.pop();
                }
                (b'}', Open::Dict) => {
                    out.end();
                    open.pop();
                }
                _ => return Err(Refused),
            }
        }
    }

    fn key(&mut self, out: &mut Marshal) -> Result<(), Refused> {
        if self.next() != Some(b'"') {
            return Err(Refused);
        }
        match self.string()? {
            Text::Plain { text, .. } => out.key(text),
            Text::Escaped(text) => out.unicode(&unescaped(text)?, false),
        }
        if self.skip(b':') { Ok(()) } else { Err(Refused) }
    }

    /// The next byte that is no white space; it stays.
    fn next(&mut self) -> Option<u8> {
        let bytes = self.text.as_bytes();
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = bytes.get(self.at) {
            self.at += 1;
        }
        bytes.get(self.at).copied()
    }

    /// Passes over `byte` if it is next.
    fn skip(&mut self, byte: u8) -> bool {
        let is_next = self.next() == Some(byte);
        self.at += usize::from(is_next);
        is_next
    }

    /// Passes over a string, whose opening quote is next.
    fn string(&mut self) -> Result<Text<'a>, Refused> {
        let begin = self.at + 1;
        let (mut is_escaped, mut all) = (false, 0);
        let mut at = begin;
        let bytes = self.text.as_bytes();
        loop {
            let byte = *bytes.get(at).ok_or(Refused)?;
            match byte {
                b'"' => break,
                b'\\' => {
                    is_escaped = true;
                    at += 2;
                }
                0..0x20 => return Err(Refused),
                _ => {
                    all |= byte;
                    at += 1;
                }
            }
        }
        self.at = at + 1;
        let text = self.text.get(begin..at).ok_or(Refused)?;
        Ok(if is_escaped { Text::Escaped(text) } else { Text::Plain { text, is_ascii: all < 0x80 } })
    }

    fn number(&mut self, out: &mut Marshal) -> Result<(), Refused> {
        let rest = &self.text[self.at..];
        let length =
            rest.bytes().take_while(|byte| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E')).count();
        let (number, after) = rest.split_at(length);
        if matches!(number, "" | "-") {
            let (token, float) = match (number, after.starts_with("NaN"), after.starts_with("Infinity")) {
                ("", true, _) => ("NaN", f64::NAN),
                ("", _, true) => ("Infinity", f64::INFINITY),
                (_, _, true) => ("Infinity", f64::NEG_INFINITY),
                _ => return Err(Refused),
            };
            self.at += length + token.len();
            out.float(float);
            return Ok(());
        }
        self.at += length;
        let digits = number.strip_prefix('-').unwrap_or(number);
        let n_digits = digits.bytes().take_while(u8::is_ascii_digit).count();
        if n_digits == 0 || (n_digits > 1 && digits.starts_with('0')) {
            return Err(Refused);
        }
        if n_digits == digits.len() {
            if n_digits > DIGITS_MAX {
                return Err(Refused);
            }
            out.digits(number);
            return Ok(());
        }
        // Rust's `parse` takes `1.` and `1.e5`, JSON does not.
        let fraction = &digits[n_digits..];
        if fraction.starts_with('.') && !fraction[1..].starts_with(|c: char| c.is_ascii_digit()) {
            return Err(Refused);
        }
        out.float(number.parse().map_err(|_| Refused)?);
        Ok(())
    }

    fn word(&mut self, out: &mut Marshal) -> Result<(), Refused> {
        let rest = &self.text[self.at..];
        let length = if rest.starts_with("null") {
            out.none();
            4
        } else if rest.starts_with("true") {
            out.bool(true);
            4
        } else if rest.starts_with("false") {
            out.bool(false);
            5
        } else {
            return Err(Refused);
        };
        self.at += length;
        Ok(())
    }
}

/// A string as it stands between its quotes.
enum Text<'a> {
    Plain { text: &'a str, is_ascii: bool },
    Escaped(&'a str),
}

/// A string without its escapes, in UTF-8. `\ud800` alone becomes what UTF-8 has no place for, as Python wants it.
fn unescaped(text: &str) -> Result<Vec<u8>, Refused> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.extend_from_slice(&rest.as_bytes()[..at]);
        let escaped = rest.as_bytes().get(at + 1).ok_or(Refused)?;
        let plain = match escaped {
            b'"' | b'\\' | b'/' => *escaped,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'b' => 8,
            b'f' => 12,
            b'u' => {
                let unit = hex(rest, at + 2)?;
                let low = rest[at + 6..].starts_with("\\u").then(|| hex(rest, at + 8)).transpose()?;
                let length = match low {
                    Some(low @ 0xdc00..=0xdfff) if (0xd800..=0xdbff).contains(&unit) => {
                        push_character(&mut out, 0x10000 + ((unit & 0x3ff) << 10) + (low & 0x3ff));
                        12
                    }
                    _ => {
                        push_character(&mut out, unit);
                        6
                    }
                };
                rest = &rest[at + length..];
                continue;
            }
            _ => return Err(Refused),
        };
        out.push(plain);
        rest = &rest[at + 2..];
    }
    out.extend_from_slice(rest.as_bytes());
    Ok(out)
}

/// Four hexadecimal digits.
fn hex(text: &str, at: usize) -> Result<u32, Refused> {
    let digits = text.get(at..at + 4).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
    u32::from_str_radix(digits.ok_or(Refused)?, 16).map_err(|_| Refused)
}

fn push_character(out: &mut Vec<u8>, code: u32) {
    match char::from_u32(code) {
        Some(character) => out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
        // A surrogate: three bytes, as other characters of its size.
        None => {
            let [_, _, high, low] = code.to_be_bytes();
            out.extend([0xe0 | high >> 4, 0x80 | (high & 15) << 2 | low >> 6, 0x80 | low & 63]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::marshal::tests::read_by_python;

    fn marshalled(json: &str) -> Result<Vec<u8>, Refused> {
        let mut marshal = Marshal::default();
        marshal.json(json.as_bytes()).map(|()| marshal.into_bytes())
    }

    /// What Python reads with `json.loads`, as `repr` shows it; nothing where it refuses.
    fn read_as_json(texts: &[&str]) -> Vec<Option<String>> {
        let script = "import json, sys\n\
            for text in sys.argv[1:]:\n    \
                try: print(ascii(json.loads(text)))\n    \
                except ValueError: print()";
        let output = std::process::Command::new("python3").args(["-c", script]).args(texts).output().unwrap();
        let lines: Vec<_> = str::from_utf8(&output.stdout).unwrap().lines().map(str::to_owned).collect();
        assert_eq!(lines.len(), texts.len());
        lines.into_iter().map(|line| (!line.is_empty()).then_some(line)).collect()
    }

    #[test]
    fn python_reads_the_same_as_from_json() {
        let many_keys: Vec<String> = (0..300).map(|nth| format!("\"k{nth}\": {{\"k{}\": {nth}}}", 299 - nth)).collect();
        let texts = [
            r#" [ {"id": 1, "name": "A", "é": null}, {"id": 2, "é": [], "name": {}}, {"id": -3, "name": "z"} ] "#,
            r#"[0, -0, 2147483647, 2147483648, -2147483649, 123456789012345678901234567890, -1]"#,
            r#"[1.5, -0.0, 1e3, 1E-3, 1.25e+2, 1e400, NaN, Infinity, -Infinity, true, false, null]"#,
            r#"["\"\\\/\b\f\n\r\t", "\u00e9\u5efa", "\ud83d\ude00", "\ud83d", "\ude00\ud83d", "\ud83dx", "a\u0000b"]"#,
            r#"{"a": 1, "a": 2, "\u0061": 3, "建設": {"建設": "建設"}}"#,
            r#""text""#,
            "7",
            &format!("\"{}\"", "long ".repeat(100)),
            &format!("{{\"{}\": 1}}", "long ".repeat(100)),
            &format!("{{{}}}", many_keys.join(", ")),
            &format!("{}{}", "[".repeat(DEPTH_MAX), "]".repeat(DEPTH_MAX)),
            &format!("{}1{}", "{\"a\": ".repeat(DEPTH_MAX), "}".repeat(DEPTH_MAX)),
        ];
        for (json, read) in texts.into_iter().zip(read_as_json(&texts)) {
            assert_eq!(read_by_python("ascii(value)", &marshalled(json).unwrap()), read.unwrap(), "{json}");
        }
    }

    #[test]
    fn what_python_refuses_is_refused() {
        let texts = [
            "",
            " ",
            "[",
            "[1",
            "[1,]",
            "[,1]",
            "[1 2]",
            "{",
            "{}}",
            "{1: 2}",
            "{\"a\"}",
            "{\"a\": 1,}",
            "{\"a\" 1}",
            "[1}",
            "nul",
            "True",
            "-",
            "+1",
            "01",
            "-01",
            "1.",
            "1.e5",
            ".5",
            "1e",
            "1e+",
            "1-2",
            "0x1",
            "-NaN",
            "nan",
            "\"",
            "\"\\\"",
            "\"\\x\"",
            "\"\\u12\"",
            "\"\\u12g4\"",
            "\"\\u+123\"",
            "\"a\nb\"",
            "1 2",
            "[1]]",
            "'a'",
            "\"\\ud800\\u12\"",
        ];
        for (json, read) in texts.into_iter().zip(read_as_json(&texts)) {
            assert_eq!((marshalled(json), read), (Err(Refused), None), "{json}");
        }
        let deep = DEPTH_MAX + 1;
        assert_eq!(marshalled(&format!("{}1{}", "[".repeat(deep), "]".repeat(deep))), Err(Refused));
        assert_eq!(marshalled(&format!("{}1{}", "{\"a\": ".repeat(deep), "}".repeat(deep))), Err(Refused));
        assert_eq!(marshalled(&"9".repeat(DIGITS_MAX + 1)), Err(Refused));
        assert_eq!(Marshal::default().json(b"\"\xff\""), Err(Refused));
    }
}
