//! PostgreSQL's `numeric` on the wire.
//!
//! Owns: its digits as plain decimal text. Never: rounds.

/// A `numeric` value.
#[derive(Debug, PartialEq)]
pub(super) enum Numeric {
    /// A plain decimal text such as `-12.50`, with as many digits after the point as the value's scale.
    Decimal(String),
    NotANumber,
    Infinity,
    NegativeInfinity,
}

/// Reads the wire form: number of digits, weight, sign, scale, then the digits in base 10,000.
pub(super) fn read(bytes: &[u8]) -> Option<Numeric> {
    let (header, digits) = bytes.split_first_chunk::<8>()?;
    let [n0, n1, w0, w1, s0, s1, d0, d1] = *header;
    let n_digits = usize::from(u16::from_be_bytes([n0, n1]));
    let weight = i32::from(i16::from_be_bytes([w0, w1]));
    let scale = usize::from(u16::from_be_bytes([d0, d1]));
    let negative = match u16::from_be_bytes([s0, s1]) {
        0x0000 => false,
        0x4000 => true,
        0xC000 => return Some(Numeric::NotANumber),
        0xD000 => return Some(Numeric::Infinity),
        0xF000 => return Some(Numeric::NegativeInfinity),
        _ => return None,
    };
    let digits: Vec<u16> = digits.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect();
    if digits.len() != n_digits {
        return None;
    }
    let digit = |place: i32| usize::try_from(weight - place).ok().and_then(|nth| digits.get(nth)).copied().unwrap_or(0);
    let mut text = String::with_capacity(n_digits * 4 + scale + 2);
    if negative {
        text.push('-');
    }
    if weight < 0 {
        text.push('0');
    } else {
        text.push_str(&digit(weight).to_string());
        for place in (0..weight).rev() {
            push_four(&mut text, digit(place));
        }
    }
    if scale > 0 {
        text.push('.');
        let end = text.len() + scale;
        let mut place = -1;
        while text.len() < end {
            push_four(&mut text, digit(place));
            place -= 1;
        }
        text.truncate(end);
    }
    Some(Numeric::Decimal(text))
}

/// A count of units of which 10^`digits` are one, as plain decimal text.
pub(super) fn scaled(number: i64, digits: u32) -> String {
    let unit = 10_u64.pow(digits.min(18));
    let sign = if number < 0 { "-" } else { "" };
    let (whole, rest) = (number.unsigned_abs() / unit, number.unsigned_abs() % unit);
    if digits == 0 {
        return format!("{sign}{whole}");
    }
    let width = usize::try_from(digits).unwrap_or(usize::MAX);
    format!("{sign}{whole}.{rest:0width$}")
}

fn push_four(text: &mut String, digit: u16) {
    for power in [1000, 100, 10, 1] {
        text.push(char::from_digit(u32::from(digit / power % 10), 10).expect("a remainder of 10 is a digit"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire(weight: i16, sign: u16, scale: u16, digits: &[u16]) -> Vec<u8> {
        let n_digits = u16::try_from(digits.len()).unwrap();
        let words = [n_digits, weight.cast_unsigned(), sign, scale];
        words.iter().chain(digits).flat_map(|word| word.to_be_bytes()).collect()
    }

    #[test]
    fn counts_of_cents_become_text() {
        for (number, digits, text) in
            [(150, 2, "1.50"), (-5, 2, "-0.05"), (7, 0, "7"), (i64::MIN, 3, "-9223372036854775.808")]
        {
            assert_eq!(scaled(number, digits), text);
        }
    }

    #[test]
    fn digits_become_text() {
        for (bytes, text) in [
            (wire(0, 0, 0, &[]), "0"),
            (wire(0, 0, 2, &[]), "0.00"),
            (wire(0, 0, 2, &[12, 5000]), "12.50"),
            (wire(0, 0x4000, 1, &[1, 5000]), "-1.5"),
            (wire(-2, 0, 6, &[100]), "0.000001"),
            (wire(2, 0, 0, &[1]), "100000000"),
            (wire(1, 0, 3, &[1, 2, 30]), "10002.003"),
        ] {
            assert_eq!(read(&bytes), Some(Numeric::Decimal(text.to_owned())));
        }
        assert_eq!(read(&wire(0, 0xC000, 0, &[])), Some(Numeric::NotANumber));
        assert_eq!(read(&wire(0, 0x1234, 0, &[])), None);
        assert_eq!(read(&[0; 7]), None);
        assert_eq!(read(&[0, 9, 0, 0, 0, 0, 0, 0]), None);
    }
}
