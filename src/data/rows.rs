//! Rows on their way out of a database.
//!
//! Owns: what a value can be, and the forms in which rows leave: JSON, Python's `marshal`, CSV, values. Never: knows a database.

mod csv;
mod json;
mod marshal;
mod values;

use std::{collections::HashSet, ops::Range};

pub(crate) use crate::data::rows::{
    csv::CsvRows,
    json::{JsonRows, Reader},
    marshal::MarshalRows,
    values::ValueRows,
};
use crate::{
    data::described::Described,
    domain::sql::{Column, SqlError},
};

/// Takes the values of rows, in order.
///
/// Each row is `begin_row`, its values, `end_row`. A list is `begin_list`, its values, `end_list`.
pub(crate) trait RowWriter {
    /// Set if values of types that have a text of their own are wanted as [`literal`](Self::literal).
    const WANTS_LITERALS: bool = false;

    fn begin_row(&mut self);
    fn end_row(&mut self);
    fn null(&mut self);
    fn bool(&mut self, value: bool);
    fn int(&mut self, value: i64);
    fn uint(&mut self, value: u64);
    fn double(&mut self, value: f64);
    /// A single, which reads as the shortest text of the *single* says: 0.1, not 0.10000000149011612.
    fn single(&mut self, value: f32);
    /// A plain decimal text (`-12.50`) of a column whose decimals are exact.
    fn decimal(&mut self, text: &str);
    /// A plain decimal text of a column whose decimals are read as doubles.
    fn decimal_as_double(&mut self, text: &str);
    /// NaN or an infinity in a column whose decimals are exact.
    fn no_decimal(&mut self, value: f64);
    fn text(&mut self, text: &str);
    /// The text of a value that has no other form, such as a moment or an address, as its database reads it back.
    fn literal(&mut self, text: &str);
    /// As [`literal`](Self::literal), of plain ASCII characters that neither JSON nor CSV would escape, which `write` appends.
    ///
    /// # Errors
    /// The errors of `write`; what was written so far is then of no use.
    fn plain<E>(&mut self, write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>) -> Result<(), E>;
    fn bytes(&mut self, bytes: &[u8]);
    /// Valid JSON text.
    ///
    /// # Errors
    /// If its reader could not read it: nested too deeply, or with a number that is too long.
    fn json(&mut self, json: &str) -> Result<(), SqlError>;
    fn begin_list(&mut self);
    fn end_list(&mut self);
    /// A dict of texts.
    fn texts(&mut self, pairs: &[(&str, Option<&str>)]);
}

/// Rows as their driver gave them, with all that is needed to read them.
pub(crate) trait RowBatch: Send + Sync + 'static {
    /// Of all rows, in order; no two have the same name.
    fn columns(&self) -> &[Column];

    /// The types of the columns.
    fn described(&self) -> Vec<Described>;

    /// The number of rows.
    fn len(&self) -> usize;

    /// Writes one row.
    ///
    /// # Errors
    /// If a value is not what its type says.
    fn write<W: RowWriter>(&self, row: usize, out: &mut W) -> Result<(), SqlError>;
}

/// A [`RowBatch`] of any database.
pub(crate) trait AnyBatch: Send + Sync {
    fn columns(&self) -> &[Column];
    fn described(&self) -> Vec<Described>;
    fn len(&self) -> usize;
    fn write_json(&self, rows: Range<usize>, out: &mut JsonRows) -> Result<(), SqlError>;
    fn write_marshal(&self, rows: Range<usize>, out: &mut MarshalRows) -> Result<(), SqlError>;
    fn write_csv(&self, rows: Range<usize>, out: &mut CsvRows) -> Result<(), SqlError>;
    fn write_values(&self, rows: Range<usize>, out: &mut ValueRows) -> Result<(), SqlError>;
}

impl<B: RowBatch> AnyBatch for B {
    fn columns(&self) -> &[Column] {
        RowBatch::columns(self)
    }

    fn described(&self) -> Vec<Described> {
        RowBatch::described(self)
    }

    fn len(&self) -> usize {
        RowBatch::len(self)
    }

    fn write_json(&self, rows: Range<usize>, out: &mut JsonRows) -> Result<(), SqlError> {
        write_all(self, rows, out)
    }

    fn write_marshal(&self, rows: Range<usize>, out: &mut MarshalRows) -> Result<(), SqlError> {
        write_all(self, rows, out)
    }

    fn write_csv(&self, rows: Range<usize>, out: &mut CsvRows) -> Result<(), SqlError> {
        write_all(self, rows, out)
    }

    fn write_values(&self, rows: Range<usize>, out: &mut ValueRows) -> Result<(), SqlError> {
        write_all(self, rows, out)
    }
}

fn write_all<B: RowBatch, W: RowWriter>(batch: &B, rows: Range<usize>, out: &mut W) -> Result<(), SqlError> {
    for row in rows {
        out.begin_row();
        batch.write(row, out)?;
        out.end_row();
    }
    Ok(())
}

/// Names of which no two are the same: a second `id` becomes `id_2`, or the next that is free.
pub(crate) fn unique_names<'a>(names: impl Iterator<Item = &'a str>) -> Vec<String> {
    let names: Vec<&str> = names.collect();
    let mut unique = Vec::with_capacity(names.len());
    let all: HashSet<&str> = names.iter().copied().collect();
    let mut taken: HashSet<String> = HashSet::new();
    for name in &names {
        let is_free = |name: &String| !taken.contains(name) && !all.contains(name.as_str());
        let name = match taken.contains(*name) {
            false => (*name).to_owned(),
            true => (2..).map(|nth: u32| format!("{name}_{nth}")).find(is_free).expect("numbers do not run out"),
        };
        taken.insert(name.clone());
        unique.push(name);
    }
    unique
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_columns_have_the_same_name() {
        for (given, unique) in [
            (&["a", "b"][..], &["a", "b"][..]),
            (&["id", "id", "id"], &["id", "id_2", "id_3"]),
            (&["id", "id", "id_2"], &["id", "id_3", "id_2"]),
            (&["id_2", "id", "id"], &["id_2", "id", "id_3"]),
            (&["?column?", "?column?"], &["?column?", "?column?_2"]),
            (&["", ""], &["", "_2"]),
        ] {
            assert_eq!(unique_names(given.iter().copied()), unique);
        }
    }
}
