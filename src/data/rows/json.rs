//! Rows as JSON text.
//!
//! Owns: strings and numbers as JSON, straight into a buffer. Never: knows a database.

use crate::{
    data::{rows::RowWriter, statement::Shape},
    domain::{
        sql::{Column, SqlError},
        value::double_text,
    },
};

/// The reader of the JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reader {
    /// A script: the tokens `NaN`, `Infinity` and `-Infinity` are allowed, exact decimals are strings.
    Guest,
    /// A caller: strict JSON; NaN and infinities are null, exact decimals are numbers.
    Caller,
}

/// Writes rows as JSON values with commas between them.
#[derive(Debug)]
pub(crate) struct JsonRows {
    out: Vec<u8>,
    reader: Reader,
    shape: Shape,
    /// The text before the value of each column: `{"name":` or `,"name":`. Empty for values outside of rows.
    prefixes: Vec<Vec<u8>>,
    column: usize,
    n_rows: u64,
    /// For each list that is open, whether it has items.
    lists: Vec<bool>,
}

impl JsonRows {
    /// For rows of these columns.
    pub(crate) fn new(columns: &[Column], shape: Shape, reader: Reader) -> Self {
        let prefix = |(nth, column): (usize, &Column)| {
            let mut prefix = vec![if nth == 0 { begin_of(shape) } else { b',' }];
            if shape == Shape::Object {
                write_string(&mut prefix, &column.name);
                prefix.push(b':');
            }
            prefix
        };
        let prefixes = columns.iter().enumerate().map(prefix).collect();
        Self { prefixes, ..Self::bare(shape, reader) }
    }

    /// For values outside of rows.
    pub(super) fn bare(shape: Shape, reader: Reader) -> Self {
        Self { out: Vec::new(), reader, shape, prefixes: Vec::new(), column: 0, n_rows: 0, lists: Vec::new() }
    }

    /// Takes out what was written so far.
    pub(crate) fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.out)
    }

    pub(crate) fn out(&mut self) -> &mut Vec<u8> {
        &mut self.out
    }

    /// Writes the text before a value.
    fn lead(&mut self) {
        match self.lists.last_mut() {
            Some(true) => self.out.push(b','),
            Some(has_items) => *has_items = true,
            None => {
                if let Some(prefix) = self.prefixes.get(self.column) {
                    self.out.extend_from_slice(prefix);
                }
                self.column += 1;
            }
        }
    }
}

fn begin_of(shape: Shape) -> u8 {
    match shape {
        Shape::Object => b'{',
        Shape::List => b'[',
    }
}

impl RowWriter for JsonRows {
    fn begin_row(&mut self) {
        if self.n_rows > 0 {
            self.out.push(b',');
        }
        self.n_rows += 1;
        self.column = 0;
        if self.prefixes.is_empty() {
            self.out.push(begin_of(self.shape));
        }
    }

    fn end_row(&mut self) {
        self.out.push(match self.shape {
            Shape::Object => b'}',
            Shape::List => b']',
        });
    }

    fn null(&mut self) {
        self.lead();
        self.out.extend_from_slice(b"null");
    }

    fn bool(&mut self, value: bool) {
        self.lead();
        self.out.extend_from_slice(if value { b"true" } else { b"false" });
    }

    fn int(&mut self, value: i64) {
        self.lead();
        self.out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
    }

    fn uint(&mut self, value: u64) {
        self.lead();
        self.out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
    }

    fn double(&mut self, value: f64) {
        self.lead();
        write_double(&mut self.out, value, self.reader);
    }

    fn single(&mut self, value: f32) {
        self.lead();
        write_single(&mut self.out, value, self.reader);
    }

    fn decimal(&mut self, text: &str) {
        self.lead();
        write_decimal(&mut self.out, text, self.reader);
    }

    fn decimal_as_double(&mut self, text: &str) {
        self.lead();
        write_decimal_as_double(&mut self.out, text, self.reader);
    }

    fn no_decimal(&mut self, value: f64) {
        match self.reader {
            // A column of decimals holds strings; Python's Decimal reads these too.
            Reader::Guest => self.text(&double_text(value)),
            Reader::Caller => self.double(value),
        }
    }

    fn text(&mut self, text: &str) {
        self.lead();
        write_string(&mut self.out, text);
    }

    fn literal(&mut self, text: &str) {
        self.text(text);
    }

    fn plain<E>(&mut self, write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>) -> Result<(), E> {
        self.lead();
        self.out.push(b'"');
        write(&mut self.out)?;
        self.out.push(b'"');
        Ok(())
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.lead();
        write_bytes(&mut self.out, bytes);
    }

    fn json(&mut self, json: &str) -> Result<(), SqlError> {
        self.lead();
        self.out.extend_from_slice(json.as_bytes());
        Ok(())
    }

    fn begin_list(&mut self) {
        self.lead();
        self.out.push(b'[');
        self.lists.push(false);
    }

    fn end_list(&mut self) {
        self.lists.pop();
        self.out.push(b']');
    }

    fn texts(&mut self, pairs: &[(&str, Option<&str>)]) {
        self.lead();
        self.out.push(b'{');
        for (nth, (key, value)) in pairs.iter().enumerate() {
            if nth > 0 {
                self.out.push(b',');
            }
            write_string(&mut self.out, key);
            self.out.push(b':');
            match value {
                Some(value) => write_string(&mut self.out, value),
                None => self.out.extend_from_slice(b"null"),
            }
        }
        self.out.push(b'}');
    }
}

/// For each byte: 0 when it stands for itself in a JSON string, else how it is escaped (`u` means `\u00XX`).
static ESCAPES: [u8; 256] = escapes();

const fn escapes() -> [u8; 256] {
    let mut table = [0; 256];
    let mut control = 0;
    while control < 0x20 {
        table[control] = b'u';
        control += 1;
    }
    table[b'\n' as usize] = b'n';
    table[b'\r' as usize] = b'r';
    table[b'\t' as usize] = b't';
    table[0x08] = b'b';
    table[0x0c] = b'f';
    table[b'"' as usize] = b'"';
    table[b'\\' as usize] = b'\\';
    table
}

const HEX: &[u8; 16] = b"0123456789abcdef";

/// Writes `text` as a JSON string.
fn write_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    write_escaped(out, text);
    out.push(b'"');
}

/// Writes `text` as it stands inside a JSON string.
fn write_escaped(out: &mut Vec<u8>, text: &str) {
    let bytes = text.as_bytes();
    let mut clean_from = 0;
    for (at, &byte) in bytes.iter().enumerate() {
        let escape = ESCAPES[usize::from(byte)];
        if escape == 0 {
            continue;
        }
        out.extend_from_slice(&bytes[clean_from..at]);
        clean_from = at + 1;
        if escape == b'u' {
            out.extend_from_slice(b"\\u00");
            out.push(HEX[usize::from(byte >> 4)]);
            out.push(HEX[usize::from(byte & 15)]);
        } else {
            out.extend_from_slice(&[b'\\', escape]);
        }
    }
    out.extend_from_slice(&bytes[clean_from..]);
}

/// Writes bytes as PostgreSQL prints `bytea`, as a JSON string: `"\\x00ff"`.
fn write_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(b"\"\\\\x");
    for byte in bytes {
        out.push(HEX[usize::from(byte >> 4)]);
        out.push(HEX[usize::from(byte & 15)]);
    }
    out.push(b'"');
}

/// Writes the shortest text that reads back as this double, always with a point or an exponent.
fn write_double(out: &mut Vec<u8>, value: f64, reader: Reader) {
    if value.is_finite() {
        out.extend_from_slice(zmij::Buffer::new().format_finite(value).as_bytes());
        return;
    }
    write_not_finite(out, value, reader);
}

/// As [`write_double`] for a single: the shortest text of the *single*, as PostgreSQL prints `float4`.
fn write_single(out: &mut Vec<u8>, value: f32, reader: Reader) {
    if value.is_finite() {
        out.extend_from_slice(zmij::Buffer::new().format_finite(value).as_bytes());
        return;
    }
    write_not_finite(out, f64::from(value), reader);
}

fn write_not_finite(out: &mut Vec<u8>, value: f64, reader: Reader) {
    out.extend_from_slice(match reader {
        Reader::Caller => b"null",
        Reader::Guest if value.is_nan() => b"NaN",
        Reader::Guest if value > 0.0 => b"Infinity",
        Reader::Guest => b"-Infinity",
    });
}

/// Most significant digits for which a decimal text and the shortest text of its double are the same number and the
/// same digits.
const DOUBLE_DIGITS: usize = 15;

/// Writes a plain decimal text (`-12.50`) as a float: the same bytes that [`write_double`] gives for the nearest double.
fn write_decimal_as_double(out: &mut Vec<u8>, text: &str, reader: Reader) {
    let digits = text.trim_start_matches('-');
    if digits.len() <= DOUBLE_DIGITS + 1 && !digits.starts_with("0.0") {
        // Short enough that its own digits are the shortest ones: only drop trailing zeros.
        let Some((whole, fraction)) = text.split_once('.') else {
            out.extend_from_slice(text.as_bytes());
            out.extend_from_slice(b".0");
            return;
        };
        let fraction = fraction.trim_end_matches('0');
        out.extend_from_slice(whole.as_bytes());
        out.push(b'.');
        out.extend_from_slice(if fraction.is_empty() { b"0" } else { fraction.as_bytes() });
        return;
    }
    // A text of digits always parses; an overflow gives infinity, as Python's float() does.
    write_double(out, text.parse().unwrap_or(f64::NAN), reader);
}

/// Writes an exact decimal: a string for a script, a number for a caller.
fn write_decimal(out: &mut Vec<u8>, text: &str, reader: Reader) {
    match reader {
        Reader::Caller => out.extend_from_slice(text.as_bytes()),
        Reader::Guest => {
            out.push(b'"');
            out.extend_from_slice(text.as_bytes());
            out.push(b'"');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn strings_are_escaped_as_json_wants() {
        let all: String = (0..0x300).filter_map(char::from_u32).chain("\u{2028}😀".chars()).collect();
        let json = text(|out| write_string(out, &all));
        assert_eq!(serde_json::from_str::<String>(&json).unwrap(), all);
        assert_eq!(text(|out| write_string(out, "a\"\\\n\u{1}é")), r#""a\"\\\n\u0001é""#);
    }

    #[test]
    fn floats_are_shortest_and_marked_as_floats() {
        for value in [0.1, 1.0, -0.0, 1e300, 5e-324, 1.0 / 3.0, 123_456_789.125, 1e22, 2.5e-7] {
            let json = text(|out| write_double(out, value, Reader::Caller));
            assert!(json.contains(['.', 'e']), "{json}");
            assert_eq!(serde_json::from_str::<f64>(&json).unwrap().to_bits(), value.to_bits(), "{json}");
        }
        assert_eq!(text(|out| write_single(out, 0.1, Reader::Guest)), "0.1");
        assert_eq!(text(|out| write_double(out, f64::NEG_INFINITY, Reader::Guest)), "-Infinity");
        assert_eq!(text(|out| write_double(out, f64::NAN, Reader::Caller)), "null");
    }

    #[test]
    fn decimals_become_the_text_of_the_nearest_double() {
        for (decimal, float) in [
            ("12.50", "12.5"),
            ("5", "5.0"),
            ("-0.10", "-0.1"),
            ("100", "100.0"),
            ("1.000", "1.0"),
            ("12345678901234567890.123", "12345678901234567000.0"),
            ("0.000000001", "1e-9"),
        ] {
            let json = text(|out| write_decimal_as_double(out, decimal, Reader::Caller));
            assert_eq!(json.parse::<f64>().unwrap().to_bits(), decimal.parse::<f64>().unwrap().to_bits());
            assert_eq!(json.parse::<f64>().unwrap().to_bits(), float.parse::<f64>().unwrap().to_bits());
            assert!(json.contains(['.', 'e']), "{json}");
        }
        let huge = "9".repeat(400);
        assert_eq!(text(|out| write_decimal_as_double(out, &huge, Reader::Guest)), "Infinity");
        assert_eq!(text(|out| write_decimal(out, &huge, Reader::Caller)), huge);
    }
}
