//! Which statements neither leave nor see anything in their session.
//!
//! Owns: the proof, from the text alone. Says no where it is in doubt: that costs a new session, and nothing else.

use crate::data::{
    dialect::Dialect,
    pieces::{leading_word, opaque_length},
};

/// Functions and keywords that may stand before a parenthesis, sorted. All others may be stored functions, which may do
/// anything, or built-in ones like `GET_LOCK` and `LAST_INSERT_ID`.
#[rustfmt::skip]
const HARMLESS: &[&str] = &[
    "abs", "acos", "adddate", "addtime", "all", "and", "any", "any_value", "as", "ascii", "asin", "atan", "atan2",
    "avg", "between", "bin", "bit_and", "bit_count", "bit_length", "bit_or", "bit_xor", "by", "case", "cast", "ceil",
    "ceiling", "char", "char_length", "character_length", "coalesce", "concat", "concat_ws", "connection_id", "conv",
    "convert", "convert_tz", "cos", "cot", "count", "crc32", "cume_dist", "curdate", "current_date", "current_time",
    "current_timestamp", "curtime", "database", "date", "date_add", "date_format", "date_sub", "datediff", "datetime",
    "day", "dayname", "dayofmonth", "dayofweek", "dayofyear", "decimal", "degrees", "dense_rank", "distinct", "div",
    "else", "elt", "except", "exists", "exp", "extract", "field", "find_in_set", "first_value", "floor", "format",
    "from", "from_base64", "from_days", "from_unixtime", "greatest", "group_concat", "having", "hex", "hour", "if",
    "ifnull", "in", "instr", "intersect", "interval", "isnull", "join", "json_array", "json_arrayagg", "json_contains",
    "json_extract", "json_keys", "json_length", "json_object", "json_objectagg", "json_quote", "json_type",
    "json_unquote", "json_valid", "json_value", "lag", "last_day", "last_value", "lcase", "lead", "least", "left",
    "length", "like", "limit", "ln", "localtime", "localtimestamp", "locate", "log", "log10", "log2", "lower", "lpad",
    "ltrim", "makedate", "max", "md5", "microsecond", "mid", "min", "minute", "mod", "month", "monthname", "not", "now",
    "nth_value", "ntile", "nullif", "on", "or", "over", "partition", "percent_rank", "pi", "position", "pow", "power",
    "quarter", "radians", "rand", "rank", "regexp", "repeat", "replace", "reverse", "right", "round", "row_number",
    "rpad", "rtrim", "sec_to_time", "second", "select", "sha1", "sha2", "sign", "sin", "sleep", "some", "space", "sqrt",
    "st_asgeojson", "st_astext", "st_distance", "st_x", "st_y", "std", "stddev", "stddev_pop", "stddev_samp",
    "str_to_date", "subdate", "substr", "substring", "substring_index", "subtime", "sum", "tan", "then", "time",
    "time_format", "time_to_sec", "timediff", "timestamp", "timestampadd", "timestampdiff", "to_base64", "to_days",
    "to_seconds", "trim", "truncate", "ucase", "unhex", "union", "unix_timestamp", "upper", "using", "utc_date",
    "utc_time", "utc_timestamp", "uuid", "values", "var_pop", "var_samp", "varchar", "variance", "version", "week",
    "weekday", "weekofyear", "when", "where", "with", "xor", "year", "yearweek",
];

/// Words that a plain statement has nowhere outside of literals: writing, numbers drawn from a sequence, tables of the
/// session's own state.
const SUSPECT: &[&str] =
    &["delete", "into", "next", "previous", "procedure", "session_status", "session_variables", "update"];

/// What stands before a parenthesis.
enum Before {
    Word(String),
    /// A quoted name, or one with a dot before it.
    Name,
    Other,
}

/// Tells whether a statement only reads, and reads and writes no user variables, locks, settings or numbers of its session.
///
/// What stored functions behind a *view* do is not seen; who creates those is asked not to use session state.
pub(super) fn is_plain(sql: &str) -> bool {
    // Executable comments and hints are SQL. What a backslash means in a literal depends on a setting of the server.
    if ["/*!", "/*M!", "/*m!", "/*+", "\\"].iter().any(|suspect| sql.contains(suspect)) {
        return false;
    }
    let mut rest = sql;
    let mut first_word = None;
    let mut after_dot = false;
    let mut before = Before::Other;
    while let Some(character) = rest.chars().next() {
        // Names may begin with a digit or a dollar here.
        let word = leading_word(rest);
        let length = if word.is_empty() {
            opaque_length(Dialect::MySql, rest).unwrap_or(character.len_utf8())
        } else {
            word.len()
        };
        let (token, after) = rest.split_at(length);
        rest = after;
        if !word.is_empty() {
            let word = word.to_ascii_lowercase();
            if !word.is_ascii() || SUSPECT.contains(&&*word) {
                return false;
            }
            first_word.get_or_insert_with(|| word.clone());
            before = if after_dot { Before::Name } else { Before::Word(word) };
        } else if character == '`' {
            if SUSPECT.contains(&&*token.trim_matches('`').to_ascii_lowercase()) {
                return false;
            }
            before = Before::Name;
        } else if character.is_whitespace() || (length > 1 && matches!(character, '-' | '#' | '/')) {
            continue; // a comment counts as little
        } else if matches!(character, '\'' | '"') {
            before = Before::Other;
        } else {
            match (character, &before) {
                ('@', _) | ('(', Before::Name) => return false,
                ('(', Before::Word(word)) if HARMLESS.binary_search(&&**word).is_err() => return false,
                (character, _) if !character.is_ascii() => return false,
                _ => before = Before::Other,
            }
        }
        after_dot = token == ".";
    }
    matches!(first_word.as_deref(), Some("select" | "with" | "values" | "table"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_harmless_are_sorted() {
        assert!(HARMLESS.is_sorted());
    }

    #[test]
    fn reading_is_plain() {
        for sql in [
            "SELECT 1",
            " (select * from `a`.`b` where x IN (1, 2) and name = '@x; SET' -- @y\n order by 1)",
            "WITH t AS (SELECT COUNT (*) AS n FROM a /* GET_LOCK( */) SELECT n, 'INTO' FROM t # UPDATE",
            "VALUES (1), (2)",
            "SELECT \"GET_LOCK('a')\", CONCAT(a, 'é'), count(*), 5.5 * (a - 1) FROM t WHERE a = ? LIMIT 5;",
            "SELECT a.count FROM a",
        ] {
            assert!(is_plain(sql), "{sql}");
        }
    }

    #[test]
    fn whatever_may_touch_the_session_is_not() {
        for sql in [
            "",
            "SET @a = 1",
            "SHOW WARNINGS",
            "INSERT INTO t VALUES (1)",
            "SELECT @a := 1",
            "SELECT @@autocommit",
            "SELECT 1 INTO @a",
            "SELECT * INTO OUTFILE 'x' FROM t",
            "SELECT GET_LOCK('a', 1)",
            "SELECT get_lock /* x */ ('a', 1)",
            "SELECT LAST_INSERT_ID(5)",
            "SELECT FOUND_ROWS()",
            "SELECT my_function(1)",
            "SELECT db.count(1)",
            "SELECT db . count(1)",
            "SELECT `count`(1)",
            "SELECT 1count(1)",
            "SELECT $count(1)",
            "SELECT €count(1)",
            "SELECT écount(1)",
            "SELECT NEXT VALUE FOR s",
            "SELECT PREVIOUS VALUE FOR s",
            "SELECT /*! @a := */ 1",
            "SELECT /*M!100000 @a := */ 1",
            "SELECT /*+ SET_VAR(sort_buffer_size = 1) */ 1",
            "SELECT '\\', @a := 1 -- '",
            "SELECT 1 --@a\n, @a := 1",
            "SELECT * FROM information_schema.`SESSION_VARIABLES`",
            "WITH t AS (SELECT 1) DELETE FROM u",
            "SELECT 1 FOR UPDATE",
            "DO SLEEP(1)",
            "CALL p()",
            "BEGIN",
        ] {
            assert!(!is_plain(sql), "{sql}");
        }
    }
}
