//! Python's own serialisation, `marshal` (`Python/marshal.c`): how objects enter the runtime.
//!
//! Why not JSON: with it a hello request used 207,000 units of fuel, half of them for reading it, and with a `marshal`
//! tuple 123,000; to read 1,000 rows of 6 columns takes Python 0.8 ms instead of 2.9. The codes used here are those of
//! every CPython 3.

mod json;

use serde_json::{Map, Number, Value};

pub(super) use crate::sandbox::marshal::json::Refused;

/// Writes objects one after the other.
#[derive(Debug)]
pub(super) struct Marshal(pub(super) Vec<u8>);

impl Marshal {
    const DICT: u8 = b'{';
    const NULL: u8 = b'0';
    const NONE: u8 = b'N';
    const TRUE: u8 = b'T';
    const FALSE: u8 = b'F';
    const INT: u8 = b'i';
    const LONG: u8 = b'l';
    const FLOAT: u8 = b'g';
    const LIST: u8 = b'[';
    const UNICODE: u8 = b'u';
    const INTERNED: u8 = b't';
    const ASCII: u8 = b'a';
    const SHORT_ASCII: u8 = b'z';
    const SHORT_ASCII_INTERNED: u8 = b'Z';
    const SMALL_TUPLE: u8 = b')';
    /// An object that was marked before, by its number.
    const REFERENCE: u8 = b'r';
    /// Set in the code of an object that references may name.
    const MARK: u8 = 0x80;

    /// Pairs of key and value follow, then [`Self::end`].
    pub(super) fn begin(&mut self) {
        self.0.push(Self::DICT);
    }

    pub(super) fn end(&mut self) {
        self.0.push(Self::NULL);
    }

    pub(super) fn none(&mut self) {
        self.0.push(Self::NONE);
    }

    pub(super) fn bool(&mut self, value: bool) {
        self.0.push(if value { Self::TRUE } else { Self::FALSE });
    }

    /// So many objects follow.
    pub(super) fn small_tuple(&mut self, n_objects: u8) {
        self.0.extend([Self::SMALL_TUPLE, n_objects]);
    }

    /// So many objects follow.
    fn list(&mut self, n_objects: usize) {
        self.0.push(Self::LIST);
        self.length(n_objects);
    }

    pub(super) fn text(&mut self, text: &str) {
        self.unicode(text.as_bytes(), text.is_ascii());
    }

    /// A text in UTF-8, in which single surrogates may stand too.
    fn unicode(&mut self, text: &[u8], is_ascii: bool) {
        match u8::try_from(text.len()) {
            Ok(length) if is_ascii => self.0.extend([Self::SHORT_ASCII, length]),
            _ => {
                self.0.push(if is_ascii { Self::ASCII } else { Self::UNICODE });
                self.length(text.len());
            }
        }
        self.0.extend_from_slice(text);
    }

    /// A text that will be referred to. Interned, so that Python finds it in a dict without comparing characters.
    fn marked_text(&mut self, text: &[u8]) {
        match u8::try_from(text.len()) {
            Ok(length) if text.is_ascii() => self.0.extend([Self::SHORT_ASCII_INTERNED | Self::MARK, length]),
            _ => {
                self.0.push(Self::INTERNED | Self::MARK);
                self.length(text.len());
            }
        }
        self.0.extend_from_slice(text);
    }

    /// The text that was marked as the `nth`.
    fn reference(&mut self, nth: usize) {
        self.0.push(Self::REFERENCE);
        self.length(nth);
    }

    fn length(&mut self, length: usize) {
        let length = i32::try_from(length).expect("what enters a guest is far below 2 GiB");
        self.0.extend(length.to_le_bytes());
    }

    pub(super) fn value(&mut self, value: &Value) {
        match value {
            Value::Null => self.none(),
            Value::Bool(value) => self.bool(*value),
            Value::Number(number) => self.number(number),
            Value::String(text) => self.text(text),
            Value::Array(items) => {
                self.list(items.len());
                items.iter().for_each(|item| self.value(item));
            }
            Value::Object(fields) => self.object(fields),
        }
    }

    pub(super) fn object(&mut self, fields: &Map<String, Value>) {
        self.begin();
        for (name, value) in fields {
            self.text(name);
            self.value(value);
        }
        self.end();
    }

    fn number(&mut self, number: &Number) {
        match number.as_f64() {
            Some(float) if number.is_f64() => self.float(float),
            _ => self.int(&number.to_string()),
        }
    }

    fn float(&mut self, value: f64) {
        self.0.push(Self::FLOAT);
        self.0.extend(value.to_le_bytes());
    }

    /// A whole number of any size, from its decimal digits.
    fn int(&mut self, digits: &str) {
        if let Ok(small) = digits.parse::<i32>() {
            self.0.push(Self::INT);
            self.0.extend(small.to_le_bytes());
            return;
        }
        let (is_negative, digits) = digits.strip_prefix('-').map_or((false, digits), |digits| (true, digits));
        let places = places(digits);
        let n_places = i32::try_from(places.len()).expect("digits are far below 2 GiB");
        self.0.push(Self::LONG);
        self.0.extend((if is_negative { -n_places } else { n_places }).to_le_bytes());
        self.0.extend(places.into_iter().flat_map(u16::to_le_bytes));
    }
}

/// A number in places of 15 bits, the lowest first.
fn places(digits: &str) -> Vec<u16> {
    /// As many as make a factor that fits beside a place in 64 bits.
    const DIGITS_AT_ONCE: usize = 9;
    let mut places: Vec<u16> = Vec::new();
    for part in digits.as_bytes().chunks(DIGITS_AT_ONCE) {
        let (mut carry, mut factor) = (0_u64, 1_u64);
        for digit in part {
            carry = carry * 10 + u64::from(digit - b'0');
            factor *= 10;
        }
        for place in &mut places {
            carry += u64::from(*place) * factor;
            *place = low_place(carry);
            carry >>= 15;
        }
        while carry > 0 {
            places.push(low_place(carry));
            carry >>= 15;
        }
    }
    places
}

fn low_place(number: u64) -> u16 {
    u16::try_from(number & 0x7fff).expect("15 bits")
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A Python expression of `value`, which Python's own `marshal` reads from the bytes.
    pub(in crate::sandbox) fn read_by_python(expression: &str, marshalled: &[u8]) -> String {
        let read = "import json, marshal, sys; value = marshal.load(sys.stdin.buffer)";
        let mut python = std::process::Command::new("python3")
            .args(["-c", &format!("{read}; sys.stdout.write({expression})")])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .expect("python3 is there: the runtime was built with it");
        std::io::Write::write_all(&mut python.stdin.take().unwrap(), marshalled).unwrap();
        String::from_utf8(python.wait_with_output().unwrap().stdout).unwrap()
    }

    #[test]
    fn whole_numbers_of_any_size() {
        for digits in ["0", "-1", "2147483648", "-9223372036854775809", "10000000000000000000000000000000000000000007"]
        {
            let mut marshal = Marshal(Vec::new());
            marshal.int(digits);
            assert_eq!(read_by_python("str(value)", &marshal.0), digits);
        }
    }
}
