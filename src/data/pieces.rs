//! Pieces of SQL text: literals, quoted names, comments, words.
//!
//! Owns: where each of them ends, in the words of each database. Never: checks SQL, or looks at what stands in them.

use crate::data::dialect::Dialect;

/// The first word of SQL text in lower case, after comments and parentheses: what kind of statement it is.
pub(crate) fn first_word(dialect: Dialect, sql: &str) -> String {
    let rest = &sql[before_first_word(dialect, sql).len()..];
    rest.chars().take_while(|c| c.is_ascii_alphabetic()).collect::<String>().to_ascii_lowercase()
}

/// The comments and parentheses that stand before the first word of SQL text.
pub(crate) fn before_first_word(dialect: Dialect, sql: &str) -> &str {
    let mut rest = sql;
    loop {
        rest = rest.trim_start_matches(|c: char| c == '(' || c == ';' || c.is_whitespace());
        let length = comment_at(dialect, rest);
        if length == 0 {
            break;
        }
        rest = &rest[length..];
    }
    &sql[..sql.len() - rest.len()]
}

/// Length of the literal, quoted name, comment or word that begins the text, if one does.
pub(crate) fn opaque_length(dialect: Dialect, text: &str) -> Option<usize> {
    // In MySQL a backslash escapes the quote, unless the server is set otherwise.
    let (postgres, mysql) = (dialect == Dialect::Postgres, dialect == Dialect::MySql);
    match text.as_bytes().first()? {
        b'\'' => Some(quoted_length(text, b'\'', mysql)),
        b'"' => Some(quoted_length(text, b'"', mysql)),
        b'`' if !postgres => Some(quoted_length(text, b'`', false)),
        b'[' if dialect == Dialect::Sqlite => Some(text.find(']').map_or(text.len(), |end| end + 1)),
        b'-' | b'#' | b'/' => Some(comment_at(dialect, text)).filter(|length| *length > 0),
        b'$' if postgres => dollar_length(text),
        _ if starts_word(text) => {
            let word = leading_word(text);
            // E'…' is the one literal of PostgreSQL in which a backslash escapes the quote.
            if postgres && word.eq_ignore_ascii_case("e") && text[1..].starts_with('\'') {
                return Some(1 + quoted_length(&text[1..], b'\'', true));
            }
            Some(word.len())
        }
        _ => None,
    }
}

/// MySQL takes `--` for a comment only with a space or a control character behind it, so that `5--1` is 6.
fn is_two_minuses(text: &str) -> bool {
    text[2..].starts_with(|c: char| !c.is_ascii_whitespace() && !c.is_ascii_control())
}

pub(crate) fn first_length(text: &str) -> usize {
    text.chars().next().map_or(0, char::len_utf8)
}

pub(crate) fn starts_word(text: &str) -> bool {
    text.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

pub(crate) fn leading_word(text: &str) -> &str {
    let end = text.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '$')).unwrap_or(text.len());
    &text[..end]
}

pub(crate) fn leading_digits(text: &str) -> &str {
    &text[..text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len())]
}

/// Length of a quoted run from its opening quote to its closing one; a doubled quote stands for itself.
fn quoted_length(text: &str, quote: u8, backslash: bool) -> usize {
    let bytes = text.as_bytes();
    let mut at = 1;
    while at < bytes.len() {
        if backslash && bytes[at] == b'\\' {
            at += 2;
        } else if bytes[at] != quote {
            at += 1;
        } else if bytes.get(at + 1) == Some(&quote) {
            at += 2;
        } else {
            return at + 1;
        }
    }
    bytes.len()
}

/// Length of the comment that begins the text; 0 if none does.
fn comment_at(dialect: Dialect, text: &str) -> usize {
    let (postgres, mysql) = (dialect == Dialect::Postgres, dialect == Dialect::MySql);
    // PostgreSQL's lines end with a carriage return, too.
    let line_length = || text.find(|c| c == '\n' || (postgres && c == '\r')).unwrap_or(text.len());
    match text.as_bytes() {
        [b'-', b'-', ..] if !(mysql && is_two_minuses(text)) => line_length(),
        [b'#', ..] if mysql => line_length(),
        [b'/', b'*', ..] => comment_length(text, postgres),
        _ => 0,
    }
}

fn comment_length(text: &str, nested: bool) -> usize {
    let bytes = text.as_bytes();
    let mut depth = 1;
    let mut at = 2;
    while at + 1 < bytes.len() {
        match &bytes[at..at + 2] {
            b"*/" => {
                depth -= 1;
                at += 2;
                if depth == 0 {
                    return at;
                }
            }
            b"/*" if nested => {
                depth += 1;
                at += 2;
            }
            _ => at += 1,
        }
    }
    bytes.len()
}

/// Length of a dollar-quoted literal (`$$…$$`, `$tag$…$tag$`), if one starts here.
fn dollar_length(text: &str) -> Option<usize> {
    let tag_end = text[1..].find('$')? + 2;
    let tag = &text[..tag_end];
    let name = &tag[1..tag_end - 1];
    if !name.is_empty() && (!starts_word(name) || leading_word(name) != name) {
        return None;
    }
    Some(text[tag_end..].find(tag).map_or(text.len(), |end| tag_end + end + tag_end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_word_tells_the_kind_of_statement() {
        for (sql, word) in [
            ("SELECT 1", "select"),
            (" /* a */ -- b\n ;(CoMMit)", "commit"),
            ("/* unclosed", ""),
            ("rollback;", "rollback"),
            ("é", ""),
        ] {
            assert_eq!(first_word(Dialect::Postgres, sql), word, "{sql}");
        }
    }

    #[test]
    fn comments_end_where_their_database_ends_them() {
        for (sql, in_postgres, in_mysql, in_sqlite) in [
            ("/* /* */ COMMIT -- */ SELECT 1", "select", "commit", "commit"),
            ("-- a\rCOMMIT\nSELECT 1", "commit", "select", "select"),
            ("# a\nCOMMIT", "", "commit", ""),
            ("--a\nCOMMIT", "commit", "", "commit"),
            ("--\nCOMMIT", "commit", "commit", "commit"),
        ] {
            assert_eq!(first_word(Dialect::Postgres, sql), in_postgres, "{sql}");
            assert_eq!(first_word(Dialect::MySql, sql), in_mysql, "{sql}");
            assert_eq!(first_word(Dialect::Sqlite, sql), in_sqlite, "{sql}");
        }
    }
}
