//! A row as bytes: which table (2 bytes), then each value with its kind (1), its length (4) and its bytes. Numbers are little
//! endian.

use zeroize::Zeroizing;

/// A value of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::db) enum Value {
    Null,
    Integer(i64),
    Text(String),
    Blob(Zeroizing<Vec<u8>>),
}

/// A row that is moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MovedRow {
    /// Its table's place in the layout.
    pub(in crate::db) table: u16,
    pub(in crate::db) values: Vec<Value>,
}

impl MovedRow {
    /// As bytes, which may hold secrets.
    #[must_use]
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        let bytes = |value: &Value| match value {
            Value::Null => 0,
            Value::Integer(_) => 8,
            Value::Text(text) => text.len(),
            Value::Blob(bytes) => bytes.len(),
        };
        let size = 2 + self.values.iter().map(|value| 5 + bytes(value)).sum::<usize>();
        let mut encoded = Zeroizing::new(Vec::with_capacity(size)); // no growth that would leave copies behind
        encoded.extend_from_slice(&self.table.to_le_bytes());
        for value in &self.values {
            let mut put = |kind: u8, bytes: &[u8]| {
                encoded.push(kind);
                // What does not fit makes a piece that is too large, and is refused as one.
                encoded.extend_from_slice(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes());
                encoded.extend_from_slice(bytes);
            };
            match value {
                Value::Null => put(0, &[]),
                Value::Integer(number) => put(1, &number.to_le_bytes()),
                Value::Text(text) => put(2, text.as_bytes()),
                Value::Blob(bytes) => put(3, bytes),
            }
        }
        encoded
    }

    /// Back from [`Self::encode`]; `None` if it is something else.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (table, mut rest) = bytes.split_first_chunk()?;
        let mut values = Vec::new();
        while !rest.is_empty() {
            let ([kind, length @ ..], after) = rest.split_first_chunk::<5>()?;
            let (bytes, after) = after.split_at_checked(u32::from_le_bytes(*length) as usize)?;
            values.push(match kind {
                0 => Value::Null,
                1 => Value::Integer(i64::from_le_bytes(bytes.try_into().ok()?)),
                2 => Value::Text(str::from_utf8(bytes).ok()?.to_owned()),
                3 => Value::Blob(Zeroizing::new(bytes.to_vec())),
                _ => return None,
            });
            rest = after;
        }
        Some(Self { table: u16::from_le_bytes(*table), values })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_back_and_others_are_refused() {
        let values = vec![
            Value::Null,
            Value::Integer(i64::MIN),
            Value::Text("Bôb".to_owned()),
            Value::Text(String::new()),
            Value::Blob(Zeroizing::new(vec![0, 255])),
        ];
        let row = MovedRow { table: 513, values };
        let encoded = row.encode();
        assert_eq!(MovedRow::decode(&encoded), Some(row));
        let cuts = (0..encoded.len()).filter(|end| MovedRow::decode(&encoded[..*end]).is_some()).count();
        assert_eq!(cuts, 5, "a row is whole behind its table and behind each value");
        assert_eq!(MovedRow::decode(&[0, 0, 9, 0, 0, 0, 0]), None);
        assert_eq!(MovedRow::decode(&[0, 0, 2, 1, 0, 0, 0, 0xff]), None);
    }
}
