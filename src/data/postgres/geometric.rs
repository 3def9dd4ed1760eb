//! PostgreSQL's geometric types as text.

use crate::{
    data::postgres::types::{Malformed, Shape, length, take},
    domain::value::double_text,
};

/// Writes a value as PostgreSQL prints it.
pub(super) fn write(out: &mut Vec<u8>, shape: Shape, bytes: &[u8]) -> Result<(), Malformed> {
    let mut rest = bytes;
    match shape {
        Shape::Point => write_points(out, &mut rest, 1)?,
        Shape::Box => write_points(out, &mut rest, 2)?,
        Shape::Segment => {
            out.push(b'[');
            write_points(out, &mut rest, 2)?;
            out.push(b']');
        }
        Shape::Line => {
            out.push(b'{');
            write_doubles(out, &mut rest, 3)?;
            out.push(b'}');
        }
        Shape::Path => {
            let [is_closed] = take(&mut rest)?;
            let (open, close) = if is_closed == 0 { (b'[', b']') } else { (b'(', b')') };
            let n_points = length(take(&mut rest)?)?;
            out.push(open);
            write_points(out, &mut rest, n_points)?;
            out.push(close);
        }
        Shape::Polygon => {
            let n_points = length(take(&mut rest)?)?;
            out.push(b'(');
            write_points(out, &mut rest, n_points)?;
            out.push(b')');
        }
        Shape::Circle => {
            out.push(b'<');
            write_points(out, &mut rest, 1)?;
            out.push(b',');
            write_doubles(out, &mut rest, 1)?;
            out.push(b'>');
        }
    }
    if rest.is_empty() { Ok(()) } else { Err(Malformed) }
}

fn write_points(out: &mut Vec<u8>, rest: &mut &[u8], n_points: usize) -> Result<(), Malformed> {
    for nth in 0..n_points {
        out.extend_from_slice(if nth > 0 { b",(" } else { b"(" });
        write_doubles(out, rest, 2)?;
        out.push(b')');
    }
    Ok(())
}

fn write_doubles(out: &mut Vec<u8>, rest: &mut &[u8], n_doubles: usize) -> Result<(), Malformed> {
    for nth in 0..n_doubles {
        if nth > 0 {
            out.push(b',');
        }
        let text = double_text(f64::from_be_bytes(take(rest)?));
        // PostgreSQL writes whole numbers without a point.
        out.extend_from_slice(text.strip_suffix(".0").unwrap_or(&text).as_bytes());
    }
    Ok(())
}
