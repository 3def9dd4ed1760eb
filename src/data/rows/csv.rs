//! Rows as CSV (RFC 4180): a header line and a line for each row. NULL is an empty cell, lists and objects are JSON.

use csv::{Terminator, Writer, WriterBuilder};

use crate::{
    data::{
        rows::{JsonRows, Reader, RowWriter},
        statement::Shape,
    },
    domain::sql::{Column, SqlError},
};

/// Writes rows as lines.
#[derive(Debug)]
pub(crate) struct CsvRows {
    writer: Writer<Vec<u8>>,
    /// The cell that is being written, as JSON.
    cell: JsonRows,
    /// The number of lists that are open.
    depth: usize,
}

impl CsvRows {
    /// For rows of these columns, whose names are the first line.
    pub(crate) fn new(columns: &[Column]) -> Self {
        let mut writer = WriterBuilder::new().terminator(Terminator::CRLF).from_writer(Vec::new());
        let names = columns.iter().map(|column| column.name.as_str());
        writer.write_record(names).expect(WRITES);
        Self { writer, cell: JsonRows::bare(Shape::List, Reader::Caller), depth: 0 }
    }

    /// The length of the text so far, but for what is still being written.
    pub(crate) fn len(&self) -> usize {
        self.writer.get_ref().len()
    }

    /// The whole text.
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.writer.into_inner().expect(WRITES)
    }

    fn field(&mut self, text: &str) {
        self.writer.write_field(text).expect(WRITES);
    }

    /// Writes a text, which is quoted inside of a list only.
    fn text_or_item(&mut self, text: &str) {
        if self.depth == 0 {
            self.field(text);
        } else {
            self.cell.text(text);
        }
    }

    /// Writes a value that is in a cell as it is in JSON.
    fn json_cell(&mut self, write: impl FnOnce(&mut JsonRows)) {
        write(&mut self.cell);
        if self.depth == 0 {
            let cell = self.cell.take();
            self.writer.write_field(cell).expect(WRITES);
        }
    }
}

/// Why writing cannot fail.
const WRITES: &str = "writing to memory does not fail, and all records have as many fields";

impl RowWriter for CsvRows {
    fn begin_row(&mut self) {}

    fn end_row(&mut self) {
        self.writer.write_record(None::<&[u8]>).expect(WRITES);
    }

    fn null(&mut self) {
        if self.depth == 0 {
            self.field("");
        } else {
            self.cell.null();
        }
    }

    fn bool(&mut self, value: bool) {
        self.json_cell(|cell| cell.bool(value));
    }

    fn int(&mut self, value: i64) {
        self.json_cell(|cell| cell.int(value));
    }

    fn uint(&mut self, value: u64) {
        self.json_cell(|cell| cell.uint(value));
    }

    fn double(&mut self, value: f64) {
        if value.is_finite() {
            self.json_cell(|cell| cell.double(value));
        } else {
            self.null(); // as JSON has it
        }
    }

    fn single(&mut self, value: f32) {
        if value.is_finite() {
            self.json_cell(|cell| cell.single(value));
        } else {
            self.null();
        }
    }

    fn decimal(&mut self, text: &str) {
        self.json_cell(|cell| cell.decimal(text));
    }

    fn decimal_as_double(&mut self, text: &str) {
        self.json_cell(|cell| cell.decimal_as_double(text));
    }

    fn no_decimal(&mut self, _value: f64) {
        self.null();
    }

    fn text(&mut self, text: &str) {
        self.text_or_item(text);
    }

    fn literal(&mut self, text: &str) {
        self.text_or_item(text);
    }

    fn plain<E>(&mut self, write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>) -> Result<(), E> {
        let mut text = Vec::new();
        write(&mut text)?;
        self.text_or_item(&String::from_utf8_lossy(&text));
        Ok(())
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.text_or_item(&format!("\\x{}", hex::encode(bytes)));
    }

    fn json(&mut self, json: &str) -> Result<(), SqlError> {
        // A text in JSON is a text; null is not there.
        match serde_json::from_str::<String>(json) {
            Ok(text) => self.text_or_item(&text),
            Err(_) if json.trim() == "null" => self.null(),
            Err(_) if self.depth == 0 => self.field(json),
            Err(_) => self.cell.json(json)?,
        }
        Ok(())
    }

    fn begin_list(&mut self) {
        self.cell.begin_list();
        self.depth += 1;
    }

    fn end_list(&mut self) {
        self.depth -= 1;
        self.json_cell(RowWriter::end_list);
    }

    fn texts(&mut self, pairs: &[(&str, Option<&str>)]) {
        self.json_cell(|cell| cell.texts(pairs));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::sql::ColumnKind;

    #[test]
    fn cells_hold_what_json_has() {
        let columns = ["a", "b", "c"].map(|name| Column { name: name.to_owned(), kind: ColumnKind::Plain });
        let mut rows = CsvRows::new(&columns);
        rows.begin_row();
        rows.text("x,\"y\"\n");
        rows.null();
        rows.decimal("1.50");
        rows.end_row();
        rows.begin_row();
        rows.text("");
        rows.json("{\"k\":[1.0]}").unwrap();
        rows.bool(true);
        rows.end_row();
        rows.begin_row();
        rows.json("\"t\\n\"").unwrap();
        rows.begin_list();
        rows.int(1);
        rows.begin_list();
        rows.text("z");
        rows.null();
        rows.json("\"s\"").unwrap();
        rows.end_list();
        rows.end_list();
        rows.double(f64::NAN);
        rows.end_row();
        let expected = "a,b,c\r\n\"x,\"\"y\"\"\n\",,1.50\r\n,\"{\"\"k\"\":[1.0]}\",true\r\n\
                        \"t\n\",\"[1,[\"\"z\"\",null,\"\"s\"\"]]\",\r\n";
        assert_eq!(String::from_utf8(rows.into_bytes()).unwrap(), expected);
    }
}
