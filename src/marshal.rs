//! Python's own serialisation, `marshal` (`Python/marshal.c`): how objects enter the runtime, and how values leave it.
//!
//! Owns: writing objects, reading values within bounds. Never: knows a database or a request.
//!
//! Why not JSON: with it a hello request used 207,000 units of fuel, half of them for reading it, and with a `marshal`
//! tuple 123,000; to read 1,000 rows of 6 columns takes Python 0.8 ms instead of 2.9. And it loses nothing: whole numbers of any
//! size, doubles with all their bits, bytes. The codes used here are those of every CPython 3.

mod json;
mod read;

use serde_json::{Map, Number, Value};

pub(crate) use crate::marshal::{
    json::Refused,
    read::{Reader, Unreadable},
};

/// Keys that are remembered: more than a table has columns in nearly all cases. Further ones are written each time.
const KEYS_MAX: usize = 256;

/// Codes of objects.
mod code {
    pub(super) const DICT: u8 = b'{';
    pub(super) const NULL: u8 = b'0';
    pub(super) const NONE: u8 = b'N';
    pub(super) const TRUE: u8 = b'T';
    pub(super) const FALSE: u8 = b'F';
    pub(super) const ELLIPSIS: u8 = b'.';
    pub(super) const INT: u8 = b'i';
    pub(super) const LONG: u8 = b'l';
    pub(super) const FLOAT: u8 = b'g';
    pub(super) const LIST: u8 = b'[';
    pub(super) const TUPLE: u8 = b'(';
    pub(super) const SMALL_TUPLE: u8 = b')';
    pub(super) const BYTES: u8 = b's';
    pub(super) const UNICODE: u8 = b'u';
    pub(super) const INTERNED: u8 = b't';
    pub(super) const ASCII: u8 = b'a';
    pub(super) const SHORT_ASCII: u8 = b'z';
    pub(super) const SHORT_ASCII_INTERNED: u8 = b'Z';
    /// An object that was marked before, by its number.
    pub(super) const REFERENCE: u8 = b'r';
    /// Set in the code of an object that references may name.
    pub(super) const MARK: u8 = 0x80;
}

/// Writes objects one after the other.
///
/// Keys of dicts are written once and then referred to: the rows of a result have the same ones. So all that one `Marshal` writes
/// must be read as one text.
#[derive(Debug, Default)]
pub(crate) struct Marshal {
    out: Vec<u8>,
    /// Keys that were marked, with their numbers, in the order of their first appearance.
    keys: Vec<(Box<str>, u32)>,
    /// The one that probably comes next: that which came after the last one before.
    expected: usize,
    n_marked: u32,
}

impl Marshal {
    pub(crate) fn with_capacity(n_bytes: usize) -> Self {
        Self { out: Vec::with_capacity(n_bytes), ..Self::default() }
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.out
    }

    /// Writes something, or nothing if that fails.
    pub(crate) fn attempt<E>(&mut self, write: impl FnOnce(&mut Self) -> Result<(), E>) -> Result<(), E> {
        let (length, n_keys, n_marked) = (self.out.len(), self.keys.len(), self.n_marked);
        let result = write(self);
        if result.is_err() {
            self.out.truncate(length);
            self.keys.truncate(n_keys);
            self.n_marked = n_marked;
        }
        result
    }

    /// A key of a dict.
    pub(crate) fn key(&mut self, key: &str) {
        let expected = if self.expected < self.keys.len() { self.expected } else { 0 };
        let found = match self.keys.get(expected) {
            Some((known, _)) if **known == *key => Some(expected),
            _ => self.keys.iter().position(|(known, _)| **known == *key),
        };
        if let Some(nth) = found {
            self.expected = nth + 1;
            self.reference(self.keys[nth].1);
        } else if self.keys.len() == KEYS_MAX {
            self.text(key);
        } else {
            let number = self.marked_text(key);
            self.keys.push((key.into(), number));
            self.expected = self.keys.len();
        }
    }

    /// Pairs of key and value follow, then [`Self::end`].
    pub(crate) fn begin(&mut self) {
        self.out.push(code::DICT);
    }

    pub(crate) fn end(&mut self) {
        self.out.push(code::NULL);
    }

    pub(crate) fn none(&mut self) {
        self.out.push(code::NONE);
    }

    pub(crate) fn bool(&mut self, value: bool) {
        self.out.push(if value { code::TRUE } else { code::FALSE });
    }

    /// So many objects follow.
    pub(crate) fn small_tuple(&mut self, n_objects: u8) {
        self.out.extend([code::SMALL_TUPLE, n_objects]);
    }

    /// So many objects follow.
    fn list(&mut self, n_objects: usize) {
        self.out.push(code::LIST);
        self.length(n_objects);
    }

    pub(crate) fn text(&mut self, text: &str) {
        self.unicode(text.as_bytes(), text.is_ascii());
    }

    /// A text in UTF-8, in which single surrogates may stand too.
    fn unicode(&mut self, text: &[u8], is_ascii: bool) {
        match u8::try_from(text.len()) {
            Ok(length) if is_ascii => self.out.extend([code::SHORT_ASCII, length]),
            _ => {
                self.out.push(if is_ascii { code::ASCII } else { code::UNICODE });
                self.length(text.len());
            }
        }
        self.out.extend_from_slice(text);
    }

    /// A text of ASCII characters, which `write` appends.
    pub(crate) fn ascii<E>(&mut self, write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>) -> Result<(), E> {
        let begin = self.out.len();
        self.out.extend([code::SHORT_ASCII, 0]);
        write(&mut self.out)?;
        let length = self.out.len() - begin - 2;
        match u8::try_from(length) {
            Ok(length) => self.out[begin + 1] = length,
            Err(_) => {
                self.out[begin] = code::ASCII;
                self.out.splice(begin + 1..begin + 2, length_bytes(length));
            }
        }
        Ok(())
    }

    /// A text that will be referred to by the number given. Interned, so that Python finds it in a dict without comparing
    /// characters.
    pub(crate) fn marked_text(&mut self, text: &str) -> u32 {
        let number = self.n_marked;
        self.n_marked += 1;
        let text = text.as_bytes();
        match u8::try_from(text.len()) {
            Ok(length) if text.is_ascii() => self.out.extend([code::SHORT_ASCII_INTERNED | code::MARK, length]),
            _ => {
                self.out.push(code::INTERNED | code::MARK);
                self.length(text.len());
            }
        }
        self.out.extend_from_slice(text);
        number
    }

    /// The text that was marked with this number.
    pub(crate) fn reference(&mut self, number: u32) {
        self.out.push(code::REFERENCE);
        self.out.extend(number.to_le_bytes());
    }

    /// A list whose length is said by [`end_list`](Self::end_list). Gives where it is to be written.
    pub(crate) fn begin_list(&mut self) -> usize {
        self.out.push(code::LIST);
        self.length(0);
        self.out.len() - size_of::<i32>()
    }

    /// Says how many objects a list has.
    pub(crate) fn end_list(&mut self, length_at: usize, n_objects: usize) {
        let length = length_bytes(n_objects);
        self.out[length_at..length_at + length.len()].copy_from_slice(&length);
    }

    fn length(&mut self, length: usize) {
        self.out.extend(length_bytes(length));
    }

    pub(crate) fn value(&mut self, value: &Value) {
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

    pub(crate) fn object(&mut self, fields: &Map<String, Value>) {
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
            _ => self.digits(&number.to_string()),
        }
    }

    pub(crate) fn float(&mut self, value: f64) {
        self.out.push(code::FLOAT);
        self.out.extend(value.to_le_bytes());
    }

    pub(crate) fn int(&mut self, value: i64) {
        match i32::try_from(value) {
            Ok(small) => {
                self.out.push(code::INT);
                self.out.extend(small.to_le_bytes());
            }
            Err(_) => self.long(&value.to_string()),
        }
    }

    /// A whole number of any size, from its decimal digits.
    pub(crate) fn digits(&mut self, digits: &str) {
        match digits.parse::<i32>() {
            Ok(small) => self.int(small.into()),
            Err(_) => self.long(digits),
        }
    }

    fn long(&mut self, digits: &str) {
        let (is_negative, digits) = digits.strip_prefix('-').map_or((false, digits), |digits| (true, digits));
        let places = places(digits);
        let n_places = i32::try_from(places.len()).expect("digits are far below 2 GiB");
        self.out.push(code::LONG);
        self.out.extend((if is_negative { -n_places } else { n_places }).to_le_bytes());
        self.out.extend(places.into_iter().flat_map(u16::to_le_bytes));
    }
}

fn length_bytes(length: usize) -> [u8; 4] {
    i32::try_from(length).expect("what enters a guest is far below 2 GiB").to_le_bytes()
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
pub(crate) mod tests {
    use super::*;

    /// A Python expression of `value`, which Python's own `marshal` reads from the bytes.
    pub(crate) fn read_by_python(expression: &str, marshalled: &[u8]) -> String {
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
            let mut marshal = Marshal::default();
            marshal.digits(digits);
            assert_eq!(read_by_python("str(value)", &marshal.into_bytes()), digits);
        }
    }
}
