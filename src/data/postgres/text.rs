//! PostgreSQL's values as text.
//!
//! Owns: the text of every type, which PostgreSQL reads back as the same value. Dates and times are ISO 8601. Never: quotes for
//! JSON.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::{
    data::{
        moments,
        postgres::{
            geometric,
            numeric::{self, Numeric},
            types::{Codec, Malformed, dimensions, exact, length, take, text},
        },
    },
    domain::value::double_text,
};

const DAY_MICROS: i64 = 86_400_000_000;

/// Writes the value of any type as PostgreSQL prints it.
pub(super) fn write_plain(out: &mut Vec<u8>, codec: &Codec, bytes: &[u8], money_digits: u32) -> Result<(), Malformed> {
    match codec {
        Codec::Bool => out.push(if exact::<1>(bytes)? == [0] { b'f' } else { b't' }),
        Codec::Int2 => write_int(out, i16::from_be_bytes(exact(bytes)?)),
        Codec::Int4 => write_int(out, i32::from_be_bytes(exact(bytes)?)),
        Codec::Int8 => write_int(out, i64::from_be_bytes(exact(bytes)?)),
        Codec::Oid => write_int(out, u32::from_be_bytes(exact(bytes)?)),
        Codec::Xid8 => write_int(out, u64::from_be_bytes(exact(bytes)?)),
        Codec::Float4 => {
            let value = f32::from_be_bytes(exact(bytes)?);
            if value.is_finite() {
                let begin = out.len();
                out.extend_from_slice(zmij::Buffer::new().format_finite(value).as_bytes());
                drop_point(out, begin);
            } else {
                write_double(out, value.into());
            }
        }
        Codec::Float8 => write_double(out, f64::from_be_bytes(exact(bytes)?)),
        Codec::Numeric => out.extend_from_slice(
            match numeric::read(bytes).ok_or(Malformed)? {
                Numeric::Decimal(text) => text,
                Numeric::NotANumber => "NaN".to_owned(),
                Numeric::Infinity => "Infinity".to_owned(),
                Numeric::NegativeInfinity => "-Infinity".to_owned(),
            }
            .as_bytes(),
        ),
        Codec::Money => {
            let number = i64::from_be_bytes(exact(bytes)?);
            out.extend_from_slice(numeric::scaled(number, money_digits).as_bytes());
        }
        Codec::Char => out.extend_from_slice(text(bytes)?.trim_end_matches('\0').as_bytes()),
        Codec::Text | Codec::Json => out.extend_from_slice(bytes),
        Codec::VersionedText | Codec::Jsonb => out.extend_from_slice(bytes.get(1..).ok_or(Malformed)?),
        Codec::Uuid => out.extend_from_slice(uuid::Uuid::from_bytes(exact(bytes)?).to_string().as_bytes()),
        Codec::Bytea => {
            out.extend_from_slice(b"\\x");
            out.extend_from_slice(hex::encode(bytes).as_bytes());
        }
        Codec::Array(item) => write_array(out, item, bytes, money_digits)?,
        Codec::Range(bound) => write_range(out, bound, bytes, money_digits)?,
        Codec::Composite(fields) => write_composite(out, Some(fields), bytes, money_digits)?,
        Codec::Record => write_composite(out, None, bytes, money_digits)?,
        Codec::Geometric(shape) => geometric::write(out, *shape, bytes)?,
        Codec::TsVector => write_lexemes(out, bytes)?,
        Codec::Hstore => write_hstore(out, bytes)?,
        _ => write_unquoted(out, codec, bytes)?,
    }
    Ok(())
}

/// A double as PostgreSQL prints it: whole numbers without a point.
pub(super) fn write_double(out: &mut Vec<u8>, value: f64) {
    let begin = out.len();
    out.extend_from_slice(double_text(value).as_bytes());
    drop_point(out, begin);
}

fn write_int(out: &mut Vec<u8>, value: impl itoa::Integer) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

fn drop_point(out: &mut Vec<u8>, begin: usize) {
    if out[begin..].ends_with(b".0") {
        out.truncate(out.len() - 2);
    }
}

/// Writes the text of a part, in quotes if it holds one of the characters that mean something there.
fn write_part(out: &mut Vec<u8>, part: &[u8], special: &[u8], escape: fn(u8) -> [u8; 2]) {
    let is_special =
        |byte: &u8| matches!(byte, b'"' | b'\\' | b',') || byte.is_ascii_whitespace() || special.contains(byte);
    if !part.is_empty() && !part.iter().any(is_special) {
        out.extend_from_slice(part);
        return;
    }
    out.push(b'"');
    for byte in part {
        if matches!(byte, b'"' | b'\\') {
            out.extend_from_slice(&escape(*byte));
        } else {
            out.push(*byte);
        }
    }
    out.push(b'"');
}

/// `[1,5)`. Wire form: flags, then length and value of each bound that there is.
fn write_range(out: &mut Vec<u8>, bound: &Codec, bytes: &[u8], money_digits: u32) -> Result<(), Malformed> {
    let mut rest = bytes;
    let [flags] = take(&mut rest)?;
    let is = |flag: u8| flags & flag != 0;
    if is(0x01) {
        out.extend_from_slice(b"empty");
        return Ok(());
    }
    let mut write_bound = |out: &mut Vec<u8>| {
        let mut part = Vec::new();
        write_plain(&mut part, bound, value_of(&mut rest)?.ok_or(Malformed)?, money_digits)?;
        write_part(out, &part, b"()[]", |byte| [byte, byte]);
        Ok(())
    };
    out.push(if is(0x02) { b'[' } else { b'(' });
    if !is(0x08) {
        write_bound(out)?;
    }
    out.push(b',');
    if !is(0x10) {
        write_bound(out)?;
    }
    out.push(if is(0x04) { b']' } else { b')' });
    Ok(())
}

/// `(1,"a b",)`. Wire form: number of fields, then type, length and value of each. Without `fields` only types that every
/// database has can be read.
fn write_composite(
    out: &mut Vec<u8>,
    fields: Option<&[Codec]>,
    bytes: &[u8],
    money_digits: u32,
) -> Result<(), Malformed> {
    let mut rest = bytes;
    let n_fields = length(take(&mut rest)?)?;
    out.push(b'(');
    for nth in 0..n_fields {
        if nth > 0 {
            out.push(b',');
        }
        let oid = u32::from_be_bytes(take(&mut rest)?);
        let Some(value) = value_of(&mut rest)? else { continue };
        let built_in = if fields.is_none() { Codec::built_in(oid) } else { None };
        let codec = match fields {
            Some(fields) => fields.get(nth),
            None => built_in.as_ref(),
        };
        let mut part = Vec::new();
        write_plain(&mut part, codec.ok_or(Malformed)?, value, money_digits)?;
        write_part(out, &part, b"()", |byte| [byte, byte]);
    }
    out.push(b')');
    Ok(())
}

/// `{1,NULL,"a b"}`. Wire form: see [`dimensions`].
fn write_array(out: &mut Vec<u8>, item: &Codec, bytes: &[u8], money_digits: u32) -> Result<(), Malformed> {
    let mut rest = bytes;
    let dimensions = dimensions(&mut rest)?;
    if dimensions.is_empty() {
        out.extend_from_slice(b"{}");
        return Ok(());
    }
    write_items(out, item, &dimensions, &mut rest, money_digits)
}

fn write_items(
    out: &mut Vec<u8>,
    item: &Codec,
    dimensions: &[usize],
    rest: &mut &[u8],
    money_digits: u32,
) -> Result<(), Malformed> {
    let Some((n_items, inner)) = dimensions.split_first() else {
        let Some(value) = value_of(rest)? else {
            out.extend_from_slice(b"NULL");
            return Ok(());
        };
        let mut part = Vec::new();
        write_plain(&mut part, item, value, money_digits)?;
        let special: &[u8] = if part.eq_ignore_ascii_case(b"null") { &part.clone() } else { b"{}" };
        write_part(out, &part, special, |byte| [b'\\', byte]);
        return Ok(());
    };
    out.push(b'{');
    for nth in 0..*n_items {
        if nth > 0 {
            out.push(b',');
        }
        write_items(out, item, inner, rest, money_digits)?;
    }
    out.push(b'}');
    Ok(())
}

/// `'cat':3A 'sat':4`. Wire form: number of lexemes; each ends with a zero, then come the number of its positions and
/// these, with the weight in the two highest bits.
fn write_lexemes(out: &mut Vec<u8>, bytes: &[u8]) -> Result<(), Malformed> {
    let mut rest = bytes;
    let n_lexemes = length(take(&mut rest)?)?;
    for nth in 0..n_lexemes {
        let end = rest.iter().position(|byte| *byte == 0).ok_or(Malformed)?;
        let (lexeme, after) = rest.split_at(end);
        rest = after.get(1..).ok_or(Malformed)?;
        out.extend_from_slice(if nth > 0 { b" '" } else { b"'" });
        for byte in lexeme {
            if matches!(byte, b'\'' | b'\\') {
                out.push(*byte);
            }
            out.push(*byte);
        }
        out.push(b'\'');
        let n_positions = u16::from_be_bytes(take(&mut rest)?);
        for nth in 0..n_positions {
            let position = u16::from_be_bytes(take(&mut rest)?);
            out.push(if nth > 0 { b',' } else { b':' });
            write_int(out, position & 0x3FFF);
            out.extend_from_slice([&b""[..], b"C", b"B", b"A"][usize::from(position >> 14)]);
        }
    }
    Ok(())
}

/// `"a"=>"1", "b"=>NULL`.
fn write_hstore(out: &mut Vec<u8>, bytes: &[u8]) -> Result<(), Malformed> {
    let quoted = |text: &str| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
    for (nth, (key, value)) in hstore_pairs(bytes)?.into_iter().enumerate() {
        let separator = if nth > 0 { ", " } else { "" };
        let value = value.map_or_else(|| "NULL".to_owned(), quoted);
        out.extend_from_slice(format!("{separator}{}=>{value}", quoted(key)).as_bytes());
    }
    Ok(())
}

/// Keys and values of an `hstore`. Wire form: number of pairs, then length and text of each key and value.
pub(super) fn hstore_pairs(bytes: &[u8]) -> Result<Vec<(&str, Option<&str>)>, Malformed> {
    let mut rest = bytes;
    let n_pairs = length(take(&mut rest)?)?;
    let mut pairs = Vec::new();
    for _ in 0..n_pairs {
        let key = text(value_of(&mut rest)?.ok_or(Malformed)?)?;
        let value = value_of(&mut rest)?.map(text).transpose()?;
        pairs.push((key, value));
    }
    Ok(pairs)
}

/// A value behind its length; `None` for NULL.
fn value_of<'a>(rest: &mut &'a [u8]) -> Result<Option<&'a [u8]>, Malformed> {
    let n_bytes = take::<4>(rest)?;
    if i32::from_be_bytes(n_bytes) == -1 {
        return Ok(None);
    }
    let (value, after) = rest.split_at_checked(length(n_bytes)?).ok_or(Malformed)?;
    *rest = after;
    Ok(Some(value))
}

/// Writes types whose JSON is a string of plain characters, without the quotes.
pub(super) fn write_unquoted(out: &mut Vec<u8>, codec: &Codec, bytes: &[u8]) -> Result<(), Malformed> {
    match codec {
        Codec::Date => match i32::from_be_bytes(exact(bytes)?) {
            i32::MAX => out.extend_from_slice(b"infinity"),
            i32::MIN => out.extend_from_slice(b"-infinity"),
            days => {
                moments::write_date(out, days.into());
                write_era(out, days.into());
            }
        },
        Codec::Time => moments::write_time(out, i64::from_be_bytes(exact(bytes)?)),
        Codec::TimeTz => {
            let mut rest = bytes;
            moments::write_time(out, i64::from_be_bytes(take(&mut rest)?));
            // The wire has seconds west of Greenwich, people write them east.
            write_offset(out, -i64::from(i32::from_be_bytes(exact(rest)?)));
        }
        Codec::Timestamp => write_timestamp(out, bytes, b"")?,
        Codec::TimestampTz => write_timestamp(out, bytes, b"+00:00")?,
        Codec::Interval => write_interval(out, bytes)?,
        Codec::Inet => write_inet(out, bytes)?,
        Codec::MacAddr => {
            for (nth, byte) in bytes.iter().enumerate() {
                if nth > 0 {
                    out.push(b':');
                }
                out.extend_from_slice(hex::encode([*byte]).as_bytes());
            }
        }
        Codec::Bits => {
            let mut rest = bytes;
            let n_bits = length(take::<4>(&mut rest)?)?;
            for nth in 0..n_bits {
                let byte = rest.get(nth / 8).ok_or(Malformed)?;
                out.push(b'0' + (byte >> (7 - nth % 8) & 1));
            }
        }
        Codec::Lsn => {
            let position = u64::from_be_bytes(exact(bytes)?);
            out.extend_from_slice(format!("{:X}/{:X}", position >> 32, position & 0xFFFF_FFFF).as_bytes());
        }
        Codec::Tid => {
            let mut rest = bytes;
            let block = u32::from_be_bytes(take(&mut rest)?);
            let offset = u16::from_be_bytes(exact(rest)?);
            out.extend_from_slice(format!("({block},{offset})").as_bytes());
        }
        _ => return Err(Malformed),
    }
    Ok(())
}

fn write_timestamp(out: &mut Vec<u8>, bytes: &[u8], zone: &[u8]) -> Result<(), Malformed> {
    match i64::from_be_bytes(exact(bytes)?) {
        i64::MAX => out.extend_from_slice(b"infinity"),
        i64::MIN => out.extend_from_slice(b"-infinity"),
        micros => {
            let days = micros.div_euclid(DAY_MICROS);
            moments::write_date(out, days);
            out.push(b'T');
            moments::write_time(out, micros.rem_euclid(DAY_MICROS));
            out.extend_from_slice(zone);
            write_era(out, days);
        }
    }
    Ok(())
}

fn write_era(out: &mut Vec<u8>, days: i64) {
    if moments::is_before_christ(days) {
        out.extend_from_slice(b" BC");
    }
}

fn write_offset(out: &mut Vec<u8>, seconds: i64) {
    out.push(if seconds < 0 { b'-' } else { b'+' });
    let seconds = seconds.abs();
    moments::write_two(out, seconds / 3600);
    out.push(b':');
    moments::write_two(out, seconds / 60 % 60);
    if seconds % 60 != 0 {
        out.push(b':');
        moments::write_two(out, seconds % 60);
    }
}

/// As PostgreSQL prints intervals by default: `1 year 2 mons -3 days +04:05:06.7`.
fn write_interval(out: &mut Vec<u8>, bytes: &[u8]) -> Result<(), Malformed> {
    let mut rest = bytes;
    let micros = i64::from_be_bytes(take(&mut rest)?);
    let days = i32::from_be_bytes(take(&mut rest)?);
    let months = i32::from_be_bytes(exact(rest)?);
    let infinity: Option<&[u8]> = match (micros, days, months) {
        (i64::MAX, i32::MAX, i32::MAX) => Some(b"infinity"),
        (i64::MIN, i32::MIN, i32::MIN) => Some(b"-infinity"),
        _ => None,
    };
    if let Some(infinity) = infinity {
        out.extend_from_slice(infinity);
        return Ok(());
    }
    let begin = out.len();
    // A positive part after a negative one is marked with a plus.
    let mut after_negative = false;
    for (number, unit) in [(months / 12, "year"), (months % 12, "mon"), (days, "day")] {
        if number == 0 {
            continue;
        }
        let space = if out.len() == begin { "" } else { " " };
        let plus = if after_negative && number > 0 { "+" } else { "" };
        let plural = if number == 1 { "" } else { "s" };
        out.extend_from_slice(format!("{space}{plus}{number} {unit}{plural}").as_bytes());
        after_negative = number < 0;
    }
    if micros == 0 && out.len() > begin {
        return Ok(());
    }
    if out.len() > begin {
        out.push(b' ');
    }
    if micros < 0 {
        out.push(b'-');
    } else if after_negative {
        out.push(b'+');
    }
    let micros = micros.unsigned_abs();
    let (seconds, fraction) = (micros / 1_000_000, micros % 1_000_000);
    out.extend_from_slice(format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60).as_bytes());
    if fraction != 0 {
        out.extend_from_slice(format!(".{fraction:06}").trim_end_matches('0').as_bytes());
    }
    Ok(())
}

/// Wire form: family (2 or 3), bits of the mask, whether it is a `cidr`, length, address.
fn write_inet(out: &mut Vec<u8>, bytes: &[u8]) -> Result<(), Malformed> {
    let mut rest = bytes;
    let [_family, mask, is_cidr, _length] = take(&mut rest)?;
    let (address, full_mask) = if let Ok(octets) = <[u8; 4]>::try_from(rest) {
        (Ipv4Addr::from(octets).to_string(), 32)
    } else {
        (Ipv6Addr::from(exact::<16>(rest)?).to_string(), 128)
    };
    out.extend_from_slice(address.as_bytes());
    if is_cidr != 0 || mask != full_mask {
        out.push(b'/');
        write_int(out, mask);
    }
    Ok(())
}
