//! MySQL's geometry as text.
//!
//! Owns: its binary form as the text that `ST_AsText` gives, such as `POINT(1 2)`. Never: interprets coordinates.

use crate::data::mysql::types::Malformed;

/// Deepest collection within collections. They nest without limit in theory; this one bounds the stack.
const DEPTH_MAX: usize = 32;

/// Writes a value: the number of its reference system, then well-known binary (WKB).
pub(super) fn write(out: &mut Vec<u8>, bytes: &[u8]) -> Result<(), Malformed> {
    let mut reader = Reader { rest: bytes.get(4..).ok_or(Malformed)?, little_endian: true };
    write_geometry(out, &mut reader, None, 0)?;
    if reader.rest.is_empty() { Ok(()) } else { Err(Malformed) }
}

struct Reader<'a> {
    rest: &'a [u8],
    little_endian: bool,
}

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (head, tail) = self.rest.split_first_chunk::<N>().ok_or(Malformed)?;
        self.rest = tail;
        let mut head = *head;
        if !self.little_endian {
            head.reverse();
        }
        Ok(head)
    }

    fn count(&mut self) -> Result<u32, Malformed> {
        Ok(u32::from_le_bytes(self.take()?))
    }

    fn double(&mut self) -> Result<f64, Malformed> {
        Ok(f64::from_le_bytes(self.take()?))
    }
}

/// Writes one geometry with its name, or without if it is a part of something of kind `part_of`.
fn write_geometry(
    out: &mut Vec<u8>,
    reader: &mut Reader<'_>,
    part_of: Option<u32>,
    depth: usize,
) -> Result<(), Malformed> {
    if depth > DEPTH_MAX {
        return Err(Malformed);
    }
    let [byte_order] = reader.take()?;
    reader.little_endian = byte_order == 1;
    let kind = reader.count()?;
    let name = match kind {
        1 => "POINT",
        2 => "LINESTRING",
        3 => "POLYGON",
        4 => "MULTIPOINT",
        5 => "MULTILINESTRING",
        6 => "MULTIPOLYGON",
        7 => "GEOMETRYCOLLECTION",
        _ => return Err(Malformed),
    };
    // The parts of a MULTIPOINT are points (4 - 3 = 1) and so on; those of a collection are named.
    let is_named = part_of.is_none_or(|whole| whole == 7);
    if part_of.is_some_and(|whole| whole != 7 && kind + 3 != whole) {
        return Err(Malformed);
    }
    if is_named {
        out.extend_from_slice(name.as_bytes());
    }
    match kind {
        1 => parenthesized(out, |out| write_point(out, reader)),
        2 => write_list(out, reader, write_point),
        3 => write_list(out, reader, |out, reader| write_list(out, reader, write_point)),
        _ => write_list(out, reader, |out, reader| write_geometry(out, reader, Some(kind), depth + 1)),
    }
}

fn parenthesized(
    out: &mut Vec<u8>,
    write: impl FnOnce(&mut Vec<u8>) -> Result<(), Malformed>,
) -> Result<(), Malformed> {
    out.push(b'(');
    write(out)?;
    out.push(b')');
    Ok(())
}

fn write_list(
    out: &mut Vec<u8>,
    reader: &mut Reader<'_>,
    mut write_item: impl FnMut(&mut Vec<u8>, &mut Reader<'_>) -> Result<(), Malformed>,
) -> Result<(), Malformed> {
    let n_items = reader.count()?;
    if n_items == 0 {
        out.extend_from_slice(b" EMPTY");
        return Ok(());
    }
    parenthesized(out, |out| {
        for nth in 0..n_items {
            if nth > 0 {
                out.push(b',');
            }
            write_item(out, reader)?;
        }
        Ok(())
    })
}

fn write_point(out: &mut Vec<u8>, reader: &mut Reader<'_>) -> Result<(), Malformed> {
    // `{}` of a double is shortest and has no exponent.
    let (x, y) = (reader.double()?, reader.double()?);
    out.extend_from_slice(format!("{x} {y}").as_bytes());
    Ok(())
}

/// Tells whether a text may be well-known text of a shape: its name, then numbers in parentheses that are closed. The server makes NULL of what is
/// not.
pub(super) fn is_text(text: &str) -> bool {
    const NAMES: [&str; 7] =
        ["POINT", "LINESTRING", "POLYGON", "MULTIPOINT", "MULTILINESTRING", "MULTIPOLYGON", "GEOMETRYCOLLECTION"];
    let text = text.trim().to_ascii_uppercase();
    let end = text.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    let rest = rest.trim();
    let is_enclosed = rest == "EMPTY" || (rest.starts_with('(') && rest.ends_with(')'));
    let n_open = rest.matches('(').count();
    NAMES.contains(&name) && is_enclosed && n_open == rest.matches(')').count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(hex: &str) -> Option<String> {
        let mut out = Vec::new();
        write(&mut out, &hex::decode(hex).unwrap()).ok()?;
        String::from_utf8(out).ok()
    }

    #[test]
    fn either_byte_order_is_read_and_damage_is_noticed() {
        let big = "00000000".to_owned() + "0000000001" + "3FF0000000000000" + "C004000000000000";
        assert_eq!(text(&big).as_deref(), Some("POINT(1 -2.5)"));
        let little = "00000000".to_owned() + "0101000000" + "000000000000F03F" + "00000000000004C0";
        assert_eq!(text(&little).as_deref(), Some("POINT(1 -2.5)"));
        assert_eq!(text("00000000".to_owned().as_str()), None);
        assert_eq!(text("000000000107000000".to_owned().as_str()), None);
        assert_eq!(text("00000000010700000000000000").as_deref(), Some("GEOMETRYCOLLECTION EMPTY"));
        for length in (0..little.len()).step_by(2) {
            assert_eq!(text(&little[..length]), None);
        }
        // A collection in a collection, and so on for ever.
        let deep = "00000000".to_owned() + &"010700000001000000".repeat(100_000);
        assert_eq!(text(&deep), None);
        // A multipoint of polygons.
        assert_eq!(text("00000000010400000001000000010300000000000000"), None);
    }
}
