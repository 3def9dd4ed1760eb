//! Values that a Python program passes, from `marshal.dumps(value, 2)`.
//!
//! Owns: which objects are values, and how many there may be. Never: trusts a length or a depth; whatever is not a value is
//! refused with a reason for the script's author.
//!
//! `None`, `bool`, `int`, `float`, `str`, `bytes`, lists, tuples and dicts stand for themselves. What `marshal` has no code for is a
//! tuple that begins with `...`: `(..., "decimal", "1.50")`, and `(..., "moment", "2024-01-02T03:04:05+00:00")` for what the
//! module `datetime` has.

use crate::{
    domain::value::{DIGITS_MAX, NotJson, Record, SqlValue, double_text},
    marshal::code,
};

/// Deepest nesting of lists and dicts in a value.
const DEPTH_MAX: usize = 120;

/// Most places of 15 bits of a whole number: it then has some digits more than [`DIGITS_MAX`].
const PLACES_MAX: usize = DIGITS_MAX * 222 / 1000;

/// The number of values that an empty dict counts for, as it takes the memory of so many.
const DICT_WEIGHT: usize = 4;

/// Why something is not a value. A sentence for the script's author, without its subject.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unreadable {
    #[error("hold more than {0} values")]
    TooMany(usize),
    #[error("are nested deeper than {DEPTH_MAX} times")]
    TooDeep,
    #[error("hold a whole number of more than {DIGITS_MAX} digits")]
    TooLong,
    #[error("hold characters that are not valid Unicode")]
    NotUnicode,
    #[error("hold a NaN or an infinity inside of a dict, which JSON cannot express")]
    NotJson,
    #[error("hold a dict with a key that is none of text, number, True, False and None")]
    Key,
    #[error("hold a value of a type that is not supported")]
    Unsupported,
    #[error("have the wrong form")]
    Malformed,
}

impl From<NotJson> for Unreadable {
    fn from(_: NotJson) -> Self {
        Self::NotJson
    }
}

/// Reads objects one after the other.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
    n_values_max: usize,
    n_values: usize,
}

/// The beginning of a text of marshal.
enum Token<'a> {
    Scalar(SqlValue),
    /// A list or a tuple of so many objects.
    Items(usize),
    Dict,
    Ellipsis,
    /// The end of a dict.
    End,
    Text(&'a str),
}

impl<'a> Reader<'a> {
    /// Of at most so many values.
    pub(crate) fn new(marshalled: &'a [u8], n_values_max: usize) -> Self {
        Self { rest: marshalled, n_values_max, n_values: 0 }
    }

    /// One value, and nothing behind it. A dict is JSON.
    pub(crate) fn value(mut self) -> Result<SqlValue, Unreadable> {
        let token = self.token()?;
        let value = self.complete(token, 0)?;
        self.end(value)
    }

    /// A dict of names to values, and nothing behind it; `None` for None.
    pub(crate) fn record(mut self) -> Result<Option<Record>, Unreadable> {
        let record = match self.token()? {
            Token::Dict => Some(self.fields()?),
            Token::Scalar(SqlValue::Null) => None,
            _ => return Err(Unreadable::Malformed),
        };
        self.end(record)
    }

    /// A list of dicts, and nothing behind it.
    pub(crate) fn records(mut self) -> Result<Vec<Record>, Unreadable> {
        let Token::Items(n_records) = self.token()? else { return Err(Unreadable::Malformed) };
        let mut records = Vec::new();
        for _ in 0..n_records {
            let Token::Dict = self.token()? else { return Err(Unreadable::Malformed) };
            records.push(self.fields()?);
        }
        self.end(records)
    }

    /// A [`value`](Self::value) or a [`record`](Self::record).
    pub(crate) fn value_or_record(self) -> Result<Result<SqlValue, Record>, Unreadable> {
        match self.rest.first() {
            Some(&code::DICT) => Ok(Err(self.record()?.unwrap_or_default())),
            _ => self.value().map(Ok),
        }
    }

    fn end<T>(&self, read: T) -> Result<T, Unreadable> {
        if self.rest.is_empty() { Ok(read) } else { Err(Unreadable::Malformed) }
    }

    /// The fields of a dict that has begun.
    fn fields(&mut self) -> Result<Record, Unreadable> {
        let mut fields = Record::new();
        loop {
            let key = match self.token()? {
                Token::End => return Ok(fields),
                token => key(token)?,
            };
            let token = self.token()?;
            let value = self.complete(token, 0)?;
            fields.insert(key, value);
        }
    }

    /// The value that begins with a token.
    fn complete(&mut self, token: Token<'a>, depth: usize) -> Result<SqlValue, Unreadable> {
        if depth > DEPTH_MAX {
            return Err(Unreadable::TooDeep);
        }
        match token {
            Token::Scalar(value) => Ok(value),
            Token::Text(text) => Ok(SqlValue::from(text)),
            Token::Dict => {
                let mut json = String::new();
                self.write_object(&mut json, depth)?;
                Ok(SqlValue::Json(json))
            }
            Token::Items(n_items) => {
                let mut items = Vec::new();
                for nth in 0..n_items {
                    match self.token()? {
                        Token::Ellipsis if nth == 0 && n_items == 3 => return self.tagged(),
                        token => items.push(self.complete(token, depth + 1)?),
                    }
                }
                Ok(SqlValue::List(items))
            }
            Token::Ellipsis => Err(Unreadable::Unsupported),
            Token::End => Err(Unreadable::Malformed),
        }
    }

    /// The value behind `...`.
    fn tagged(&mut self) -> Result<SqlValue, Unreadable> {
        let (Token::Text(tag), Token::Text(text)) = (self.token()?, self.token()?) else {
            return Err(Unreadable::Unsupported);
        };
        match tag {
            "decimal" => Ok(SqlValue::Decimal(text.to_owned())),
            "moment" => Ok(SqlValue::Moment(text.to_owned())),
            _ => Err(Unreadable::Unsupported),
        }
    }

    /// The fields of a dict that has begun, as JSON.
    fn write_object(&mut self, json: &mut String, depth: usize) -> Result<(), Unreadable> {
        json.push('{');
        let mut separator = "";
        loop {
            let name = match self.token()? {
                Token::End => break,
                token => key(token)?,
            };
            json.push_str(separator);
            SqlValue::Text(name).write_json(json)?;
            json.push(':');
            let token = self.token()?;
            self.complete(token, depth + 1)?.write_json(json)?;
            separator = ",";
        }
        json.push('}');
        Ok(())
    }

    fn token(&mut self) -> Result<Token<'a>, Unreadable> {
        let [byte] = self.take()?;
        if byte != code::NULL {
            self.count(if byte == code::DICT { DICT_WEIGHT } else { 1 })?;
        }
        Ok(match byte {
            code::NULL => Token::End,
            code::NONE => Token::Scalar(SqlValue::Null),
            code::TRUE => Token::Scalar(SqlValue::Bool(true)),
            code::FALSE => Token::Scalar(SqlValue::Bool(false)),
            code::INT => Token::Scalar(SqlValue::Int(i32::from_le_bytes(self.take()?).into())),
            code::LONG => Token::Scalar(self.long()?),
            code::FLOAT => Token::Scalar(SqlValue::Double(f64::from_le_bytes(self.take()?))),
            code::BYTES => {
                let length = self.length()?;
                Token::Scalar(SqlValue::Bytes(self.take_all(length)?.to_vec()))
            }
            code::UNICODE | code::INTERNED | code::ASCII => {
                let length = self.length()?;
                Token::Text(self.text(length)?)
            }
            code::SHORT_ASCII | code::SHORT_ASCII_INTERNED => {
                let [length] = self.take()?;
                Token::Text(self.text(length.into())?)
            }
            code::LIST | code::TUPLE => Token::Items(self.length()?),
            code::SMALL_TUPLE => {
                let [length] = self.take()?;
                Token::Items(length.into())
            }
            code::DICT => Token::Dict,
            code::ELLIPSIS => Token::Ellipsis,
            _ => return Err(Unreadable::Unsupported),
        })
    }

    /// A whole number beyond 32 bits, in places of 15 bits, the lowest first.
    fn long(&mut self) -> Result<SqlValue, Unreadable> {
        let n_places = i32::from_le_bytes(self.take()?);
        let length = usize::try_from(n_places.unsigned_abs()).map_err(|_| Unreadable::Malformed)?;
        if length > PLACES_MAX {
            return Err(Unreadable::TooLong);
        }
        let bytes = self.take_all(length * 2)?;
        let places = bytes.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
        let digits = digits(places.rev());
        let sign = if n_places < 0 { "-" } else { "" };
        let text = format!("{sign}{digits}");
        Ok(text.parse().map_or(SqlValue::BigInt(text), SqlValue::Int))
    }

    fn count(&mut self, n_values: usize) -> Result<(), Unreadable> {
        self.n_values += n_values;
        if self.n_values > self.n_values_max { Err(Unreadable::TooMany(self.n_values_max)) } else { Ok(()) }
    }

    fn text(&mut self, length: usize) -> Result<&'a str, Unreadable> {
        str::from_utf8(self.take_all(length)?).map_err(|_| Unreadable::NotUnicode)
    }

    fn length(&mut self) -> Result<usize, Unreadable> {
        usize::try_from(i32::from_le_bytes(self.take()?)).map_err(|_| Unreadable::Malformed)
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], Unreadable> {
        let (head, tail) = self.rest.split_first_chunk::<N>().ok_or(Unreadable::Malformed)?;
        self.rest = tail;
        Ok(*head)
    }

    fn take_all(&mut self, length: usize) -> Result<&'a [u8], Unreadable> {
        let (head, tail) = self.rest.split_at_checked(length).ok_or(Unreadable::Malformed)?;
        self.rest = tail;
        Ok(head)
    }
}

/// A key of a dict, as Python's `json` writes it.
fn key(token: Token<'_>) -> Result<String, Unreadable> {
    match token {
        Token::Text(text) => Ok(text.to_owned()),
        Token::Scalar(SqlValue::Null) => Ok("null".to_owned()),
        Token::Scalar(SqlValue::Double(double)) => Ok(double_text(double)),
        Token::Scalar(value @ (SqlValue::Bool(_) | SqlValue::Int(_) | SqlValue::BigInt(_))) => {
            Ok(value.text().unwrap_or_default().into_owned())
        }
        Token::Scalar(_) | Token::Items(_) | Token::Dict | Token::Ellipsis => Err(Unreadable::Key),
        Token::End => Err(Unreadable::Malformed),
    }
}

/// The decimal digits of a number in places of 15 bits, the highest first.
fn digits(places: impl Iterator<Item = u16>) -> String {
    /// As large a power of ten as fits beside a place in 64 bits.
    const BASE: u64 = 1_000_000_000;
    // The lowest first.
    let mut parts: Vec<u64> = Vec::new();
    for place in places {
        let mut carry = u64::from(place & 0x7fff);
        for part in &mut parts {
            carry += *part << 15;
            *part = carry % BASE;
            carry /= BASE;
        }
        if carry > 0 {
            parts.push(carry);
        }
    }
    let mut text = parts.pop().unwrap_or(0).to_string();
    for part in parts.iter().rev() {
        text.push_str(&format!("{part:09}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The text that Python's own `marshal` writes of an expression.
    fn written_by_python(expression: &str) -> Vec<u8> {
        let script = format!("import marshal, sys; sys.stdout.buffer.write(marshal.dumps({expression}, 2))");
        let output = std::process::Command::new("python3").args(["-c", &script]).output().unwrap();
        assert!(output.status.success(), "{expression}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }

    fn read(expression: &str) -> Result<SqlValue, Unreadable> {
        Reader::new(&written_by_python(expression), 1000).value()
    }

    #[test]
    fn values_keep_all_they_have() {
        let text = |text: &str| SqlValue::Text(text.to_owned());
        for (expression, value) in [
            ("None", SqlValue::Null),
            ("True", SqlValue::Bool(true)),
            ("-7", SqlValue::Int(-7)),
            ("2**31", SqlValue::Int(1 << 31)),
            ("-2**63", SqlValue::Int(i64::MIN)),
            ("2**63", SqlValue::BigInt("9223372036854775808".to_owned())),
            ("-10**30 - 7", SqlValue::BigInt("-1000000000000000000000000000007".to_owned())),
            ("-941989543.4327705", SqlValue::Double(-941_989_543.432_770_5)),
            ("float('inf')", SqlValue::Double(f64::INFINITY)),
            ("'é建'", text("é建")),
            ("b'\\x00\\xff'", SqlValue::Bytes(vec![0, 255])),
            ("bytearray(b'a')", SqlValue::Bytes(vec![97])),
            ("[1, ('a', None)]", SqlValue::List(vec![SqlValue::Int(1), SqlValue::List(vec![text("a"), SqlValue::Null])])),
            ("(..., 'decimal', '1.50')", SqlValue::Decimal("1.50".to_owned())),
            ("(..., 'moment', '2024-01-02')", SqlValue::Moment("2024-01-02".to_owned())),
            (
                "{'v': 1234567890123456789012, 1: [b'a', (..., 'decimal', '1.50')], None: {}, 0.5: 1e22, False: '\"'}",
                SqlValue::Json(
                    "{\"v\":1234567890123456789012,\"1\":[\"\\\\x61\",1.50],\"null\":{},\"0.5\":1e+22,\"false\":\"\\\"\"}".to_owned(),
                ),
            ),
        ] {
            assert_eq!(read(expression), Ok(value), "{expression}");
        }
        assert_eq!(read("10**4299").unwrap().text().unwrap().len(), 4300);
    }

    #[test]
    fn everything_else_is_refused_with_a_reason() {
        for (expression, reason) in [
            ("{'a': float('nan')}", Unreadable::NotJson),
            ("[{'a': [float('inf')]}]", Unreadable::NotJson),
            ("{1, 2}", Unreadable::Unsupported),
            ("1j", Unreadable::Unsupported),
            ("...", Unreadable::Unsupported),
            ("[...]", Unreadable::Unsupported),
            ("(..., 'other', 'x')", Unreadable::Unsupported),
            ("(..., 1, 'x')", Unreadable::Unsupported),
            ("{(1, 2): 3}", Unreadable::Key),
            ("{b'a': 3}", Unreadable::Key),
            ("'\\ud800'", Unreadable::NotUnicode),
            ("10**4400", Unreadable::TooLong),
            ("[0] * 1000", Unreadable::TooMany(1000)),
            ("[{}] * 250", Unreadable::TooMany(1000)),
            ("eval('[' * 130 + ']' * 130)", Unreadable::TooDeep),
            ("{'a': eval('[' * 130 + ']' * 130)}", Unreadable::TooDeep),
        ] {
            assert_eq!(read(expression), Err(reason), "{expression}");
        }
    }

    #[test]
    fn damaged_texts_are_malformed_and_never_more() {
        let whole = written_by_python("[{'a': [1, 2.5, 'é', b'x', 2**70, None, True], 'b': (..., 'decimal', '1')}]");
        assert_eq!(Reader::new(&whole, 1000).records().unwrap().len(), 1);
        for length in 0..whole.len() {
            assert!(Reader::new(&whole[..length], 1000).records().is_err(), "{length}");
            let mut damaged = whole.clone();
            for byte in [0, 1, 0x7f, 0x80, 0xff, b'[', b'(', b'{', b'l', b'u'] {
                damaged[length] = byte;
                _ = Reader::new(&damaged, 1000).records(); // does not panic, and takes no more memory than the text
            }
        }
        for claims in [&b"[\xff\xff\xff\x7f"[..], b"u\xff\xff\xff\x7f", b"l\xff\xff\xff\x7f", b"[\xff\xff\xff\xff", b""]
        {
            assert!(Reader::new(claims, 1000).value().is_err());
        }
        assert!(Reader::new(&[whole, vec![b'N']].concat(), 1000).records().is_err());
    }

    #[test]
    fn arguments_are_none_a_record_or_a_value() {
        let read = |expression: &str| Reader::new(&written_by_python(expression), 1000).value_or_record();
        assert_eq!(read("None"), Ok(Ok(SqlValue::Null)));
        assert_eq!(read("[1]"), Ok(Ok(SqlValue::List(vec![SqlValue::Int(1)]))));
        let record = read("{'a': {'b': 1}}").unwrap().unwrap_err();
        assert_eq!(record["a"], SqlValue::Json("{\"b\":1}".to_owned()));
        assert_eq!(Reader::new(&written_by_python("None"), 9).record(), Ok(None));
        assert_eq!(Reader::new(&written_by_python("[1]"), 9).record(), Err(Unreadable::Malformed));
        assert_eq!(Reader::new(&written_by_python("[[]]"), 9).records(), Err(Unreadable::Malformed));
    }
}
