//! Writing JSON text.
//!
//! Owns: strings, numbers and dates as JSON, straight into a buffer. Never: knows a database.

use crate::data::calendar;

/// Who will read the JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reader {
    /// A script: the tokens `NaN`, `Infinity` and `-Infinity` are allowed, exact decimals are strings.
    Guest,
    /// A caller: strict JSON; what is no number is null, exact decimals are numbers.
    Caller,
}

/// What a row becomes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Shape {
    /// An object of column to value. Of columns with the same name a reader keeps the last.
    #[default]
    Object,
    /// A list of all values.
    List,
}

impl Shape {
    /// What stands before the value of the `nth` column.
    pub(crate) fn prefix(self, nth: usize, column: &str) -> Vec<u8> {
        let mut prefix = vec![if nth == 0 { self.begin() } else { b',' }];
        if self == Self::Object {
            write_string(&mut prefix, column);
            prefix.push(b':');
        }
        prefix
    }

    /// How a row without columns begins.
    pub(crate) fn begin(self) -> u8 {
        match self {
            Self::Object => b'{',
            Self::List => b'[',
        }
    }

    /// How a row ends.
    pub(crate) fn end(self) -> u8 {
        match self {
            Self::Object => b'}',
            Self::List => b']',
        }
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
pub(crate) fn write_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    write_escaped(out, text);
    out.push(b'"');
}

/// Writes `text` as it stands inside a JSON string.
pub(crate) fn write_escaped(out: &mut Vec<u8>, text: &str) {
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
pub(crate) fn write_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(b"\"\\\\x");
    for byte in bytes {
        out.push(HEX[usize::from(byte >> 4)]);
        out.push(HEX[usize::from(byte & 15)]);
    }
    out.push(b'"');
}

/// Writes an integer.
pub(crate) fn write_int(out: &mut Vec<u8>, value: impl itoa::Integer) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Writes the shortest text that reads back as this double, always with a point or an exponent.
pub(crate) fn write_double(out: &mut Vec<u8>, value: f64, reader: Reader) {
    if value.is_finite() {
        out.extend_from_slice(zmij::Buffer::new().format_finite(value).as_bytes());
        return;
    }
    write_not_finite(out, value, reader);
}

/// As [`write_double`] for a single: the shortest text of the *single*, as PostgreSQL prints `float4`.
pub(crate) fn write_single(out: &mut Vec<u8>, value: f32, reader: Reader) {
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
pub(crate) fn write_decimal_as_float(out: &mut Vec<u8>, text: &str, reader: Reader) {
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
pub(crate) fn write_decimal(out: &mut Vec<u8>, text: &str, reader: Reader) {
    match reader {
        Reader::Caller => out.extend_from_slice(text.as_bytes()),
        Reader::Guest => {
            out.push(b'"');
            out.extend_from_slice(text.as_bytes());
            out.push(b'"');
        }
    }
}

/// Days since 2000-01-01 as `2024-01-02`, without quotes. Years Python cannot hold are given as PostgreSQL prints them.
pub(crate) fn write_date(out: &mut Vec<u8>, days: i64) {
    let (year, month, day) = calendar::date_of(days);
    // Year 0 of the calculation is the year 1 BC.
    write_year(out, if year > 0 { year } else { 1 - year });
    out.push(b'-');
    write_two(out, month);
    out.push(b'-');
    write_two(out, day);
}

/// Microseconds since midnight as `03:04:05.123456`; without a fraction when there is none, as Python's `isoformat`.
pub(crate) fn write_time(out: &mut Vec<u8>, micros: i64) {
    let (seconds, fraction) = (micros / 1_000_000, micros % 1_000_000);
    write_two(out, seconds / 3600);
    out.push(b':');
    write_two(out, seconds / 60 % 60);
    out.push(b':');
    write_two(out, seconds % 60);
    if fraction != 0 {
        out.push(b'.');
        write_two(out, fraction / 10_000);
        write_two(out, fraction / 100 % 100);
        write_two(out, fraction % 100);
    }
}

/// Whether [`write_date`] needs ` BC` after the last part.
pub(crate) fn is_before_christ(days: i64) -> bool {
    calendar::date_of(days).0 <= 0
}

fn write_year(out: &mut Vec<u8>, year: i64) {
    if year < 10_000 {
        write_two(out, year / 100);
        write_two(out, year % 100);
        return;
    }
    write_int(out, year);
}

/// Writes a number below 100 with two digits.
pub(crate) fn write_two(out: &mut Vec<u8>, number: i64) {
    out.push(digit(number / 10));
    out.push(digit(number));
}

fn digit(number: i64) -> u8 {
    b'0' + u8::try_from(number.rem_euclid(10)).expect("a remainder of 10 fits a byte")
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
            let json = text(|out| write_decimal_as_float(out, decimal, Reader::Caller));
            assert_eq!(json.parse::<f64>().unwrap().to_bits(), decimal.parse::<f64>().unwrap().to_bits());
            assert_eq!(json.parse::<f64>().unwrap().to_bits(), float.parse::<f64>().unwrap().to_bits());
            assert!(json.contains(['.', 'e']), "{json}");
        }
        let huge = "9".repeat(400);
        assert_eq!(text(|out| write_decimal_as_float(out, &huge, Reader::Guest)), "Infinity");
        assert_eq!(text(|out| write_decimal(out, &huge, Reader::Caller)), huge);
    }

    #[test]
    fn dates_and_times_are_iso() {
        assert_eq!(text(|out| write_date(out, 0)), "2000-01-01");
        assert_eq!(text(|out| write_date(out, -730_119)), "0001-01-01");
        assert_eq!(text(|out| write_date(out, 8767)), "2024-01-02");
        assert_eq!(text(|out| write_time(out, 11_045_123_456)), "03:04:05.123456");
        assert_eq!(text(|out| write_time(out, 86_399_000_000)), "23:59:59");
        assert_eq!(text(|out| write_time(out, 5)), "00:00:00.000005");
    }
}
