//! Properties of the scanner of placeholders that hold for any text.
//!
//! Owns: the checks, which tests run on seeded texts and `fuzz/` on whatever it finds. Never: part of a host.

use crate::{
    data::{
        dialect::Dialect,
        pieces::{before_first_word, first_word, opaque_length},
        template::{names, parse},
    },
    domain::{
        sql::Params,
        value::{Record, SqlValue},
    },
};

/// Stands for a gap. Texts are checked without it.
const GAP: char = '\0';

/// Checks that scanning a text takes nothing from it but placeholders, as each database writes them.
///
/// # Panics
///
/// If it does not.
pub fn check_scanner(input: &[u8]) {
    let Some((n_values, text)) = input.split_first() else { return };
    let sql = String::from_utf8_lossy(text).replace(GAP, "");
    for dialect in [Dialect::MySql, Dialect::Postgres, Dialect::Sqlite] {
        check_pieces(dialect, &sql);
        check_named(dialect, &sql);
        check_positional(dialect, &sql, (*n_values % 8).into());
        let untouched = parse(dialect, sql.clone(), Params::None).expect("there is nothing to refuse");
        assert_eq!(untouched.sketch(), sql, "{dialect:?}");
    }
}

fn check_pieces(dialect: Dialect, sql: &str) {
    for (at, _) in sql.char_indices() {
        let rest = &sql[at..];
        if let Some(length) = opaque_length(dialect, rest) {
            assert!(length > 0 && rest.is_char_boundary(length), "{dialect:?}: {length} of {rest:?}");
        }
    }
    assert!(sql.starts_with(before_first_word(dialect, sql)), "{dialect:?}: {sql:?}");
    assert!(first_word(dialect, sql).len() <= sql.len(), "{dialect:?}: {sql:?}");
}

/// The names in their gaps make the text again.
fn check_named(dialect: Dialect, sql: &str) {
    let names = names(dialect, sql);
    let values: Record = names.iter().map(|name| (name.clone(), SqlValue::from(name.as_str()))).collect();
    let template = parse(dialect, sql.to_owned(), Params::Named(values)).expect("each name has a value");
    assert_eq!(template.values.len(), names.len(), "{dialect:?}: {sql:?}");
    let filled = template.render(|number| format!(":{}", template.values[number].value.text().unwrap_or_default()));
    assert_eq!(filled, sql, "{dialect:?}");
}

/// All but the gaps is the text, but for `%%`, which is `%`.
fn check_positional(dialect: Dialect, sql: &str, n_values: usize) {
    let values = vec![SqlValue::Null; n_values];
    let Ok(template) = parse(dialect, sql.to_owned(), Params::Positional(values)) else { return };
    assert!(template.gaps().all(|number| number < n_values), "{dialect:?}: {sql:?}");
    let filled = template.render(|_| GAP.to_string());
    assert!(is_filled(dialect, sql, &filled), "{dialect:?}: {sql:?} became {filled:?}");
}

/// Tells that `filled` is `sql` with gaps for placeholders.
fn is_filled(dialect: Dialect, sql: &str, filled: &str) -> bool {
    let (mut sql, mut filled) = (sql, filled);
    loop {
        if sql.is_empty() || filled.is_empty() {
            return sql.is_empty() && filled.is_empty();
        }
        let (n_given, n_kept) = (percents(sql), percents(filled));
        (sql, filled) = (&sql[n_given..], &filled[n_kept..]);
        let gap = filled.strip_prefix(GAP);
        let is_percent = n_given > n_kept && gap.is_some() && sql.starts_with('s');
        let n_given = n_given - usize::from(is_percent);
        if n_kept > n_given || n_given > 2 * n_kept {
            return false;
        }
        (sql, filled) = match (gap, sql.chars().next()) {
            (Some(filled), Some('s')) if is_percent => (&sql[1..], filled),
            (Some(filled), _) => match placeholder(dialect, sql) {
                0 => return false,
                length => (&sql[length..], filled),
            },
            (None, None) => (sql, filled),
            (None, Some(character)) => match filled.strip_prefix(character) {
                Some(filled) => (&sql[character.len_utf8()..], filled),
                None => return false,
            },
        };
    }
}

/// Length of the `?` or `$1` that begins the text; 0 if none does.
fn placeholder(dialect: Dialect, text: &str) -> usize {
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    match (text.as_bytes().first(), dialect) {
        (Some(b'$'), _) if digits(&text[1..]) > 0 => 1 + digits(&text[1..]),
        (Some(b'?'), Dialect::Sqlite) => 1 + digits(&text[1..]),
        (Some(b'?'), Dialect::MySql) => 1,
        _ => 0,
    }
}

fn percents(text: &str) -> usize {
    text.len() - text.trim_start_matches('%').len()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Texts in which something begins or ends.
    const TOKENS: [&str; 40] = [
        "'",
        "\"",
        "`",
        "$$",
        "$t$",
        "$",
        "%s",
        "%",
        "%%",
        "?",
        "?1",
        "$1",
        "$2",
        ":a",
        ":b",
        ":",
        "::",
        ":=",
        "[",
        "]",
        "(",
        ")",
        ";",
        "--",
        "\n",
        "/*",
        "*/",
        "/*!",
        "#",
        "E'",
        "\\",
        "é",
        "\u{10ffff}",
        " ",
        "x",
        "1",
        "select",
        "a.b",
        "'it''s'",
        "*",
    ];

    #[test]
    fn scanner_keeps_random_texts() {
        let mut random = blake3::Hasher::new().update(b"a seed").finalize_xof();
        for _ in 0..20_000 {
            let mut bytes = [0; 24];
            random.fill(&mut bytes);
            check_scanner(&bytes);
            let tokens = bytes[1..].iter().map(|byte| TOKENS[usize::from(*byte) % TOKENS.len()]);
            let text: String = tokens.take(usize::from(bytes[0]) % 23).collect();
            check_scanner(&[&bytes[..1], text.as_bytes()].concat());
        }
    }

    #[test]
    fn lost_text_is_noticed() {
        for (sql, filled, is_same) in [
            ("a = %s", "a = \0", true),
            ("%%%s%%", "%\0%", true),
            ("5 %% 2", "5 % 2", true),
            ("a = $12 ?3?", "a = \0 \0\0", true),
            ("a = %s", "a =\0", false),
            ("a = %s", "a = \0x", false),
            ("a = 1", "a = \0", false),
            ("%%s", "\0", false),
            ("'é'", "'e'", false),
        ] {
            assert_eq!(is_filled(Dialect::Sqlite, sql, filled), is_same, "{sql:?} {filled:?}");
        }
    }
}
