//! Rows as Python's `marshal` reads them: a list of dicts, or of lists.

use crate::{
    data::{rows::RowWriter, statement::Shape},
    domain::{
        sql::{Column, SqlError, SqlErrorCode},
        value::double_text,
    },
    marshal::{Marshal, Refused},
};

/// Writes batches of rows, each as one text that can be read by itself.
#[derive(Debug)]
pub(crate) struct MarshalRows {
    marshal: Marshal,
    shape: Shape,
    names: Vec<String>,
    /// The number of each name, once it was written in this batch.
    numbers: Vec<Option<u32>>,
    column: usize,
    /// For each list that is open: where its length is to be written, and how many items it has. The first is that of the rows, if
    /// any was begun.
    lists: Vec<(usize, usize)>,
}

impl MarshalRows {
    /// For rows of these columns.
    pub(crate) fn new(columns: &[Column], shape: Shape) -> Self {
        let names: Vec<String> = columns.iter().map(|column| column.name.clone()).collect();
        let numbers = vec![None; names.len()];
        Self { marshal: Marshal::default(), shape, names, numbers, column: 0, lists: Vec::new() }
    }

    /// Takes out the list of the rows that were written so far.
    pub(crate) fn take(&mut self) -> Vec<u8> {
        if self.lists.is_empty() {
            self.lists.push((self.marshal.begin_list(), 0));
        }
        for (length_at, n_items) in self.lists.drain(..) {
            self.marshal.end_list(length_at, n_items);
        }
        self.numbers.fill(None);
        std::mem::take(&mut self.marshal).into_bytes()
    }

    /// Writes the text before a value.
    fn lead(&mut self) {
        let is_in_row = self.lists.len() == 1;
        if !is_in_row || self.shape == Shape::List {
            if let Some((_, n_items)) = self.lists.last_mut() {
                *n_items += 1;
            }
            return;
        }
        let nth = self.column;
        self.column += 1;
        match self.numbers[nth] {
            Some(number) => self.marshal.reference(number),
            None => self.numbers[nth] = Some(self.marshal.marked_text(&self.names[nth])),
        }
    }
}

impl RowWriter for MarshalRows {
    fn begin_row(&mut self) {
        if self.lists.is_empty() {
            self.lists.push((self.marshal.begin_list(), 0));
        }
        self.lists[0].1 += 1;
        self.column = 0;
        match self.shape {
            Shape::Object => self.marshal.begin(),
            Shape::List => self.lists.push((self.marshal.begin_list(), 0)),
        }
    }

    fn end_row(&mut self) {
        match self.shape {
            Shape::Object => self.marshal.end(),
            Shape::List => {
                if let Some((length_at, n_items)) = self.lists.pop() {
                    self.marshal.end_list(length_at, n_items);
                }
            }
        }
    }

    fn null(&mut self) {
        self.lead();
        self.marshal.none();
    }

    fn bool(&mut self, value: bool) {
        self.lead();
        self.marshal.bool(value);
    }

    fn int(&mut self, value: i64) {
        self.lead();
        self.marshal.int(value);
    }

    fn uint(&mut self, value: u64) {
        self.lead();
        match i64::try_from(value) {
            Ok(value) => self.marshal.int(value),
            Err(_) => self.marshal.digits(&value.to_string()),
        }
    }

    fn double(&mut self, value: f64) {
        self.lead();
        self.marshal.float(value);
    }

    fn single(&mut self, value: f32) {
        let double = if value.is_finite() {
            zmij::Buffer::new().format_finite(value).parse().unwrap_or(f64::NAN) // a text of a number always parses
        } else {
            f64::from(value)
        };
        self.double(double);
    }

    fn decimal(&mut self, text: &str) {
        self.text(text); // which Python's Decimal reads
    }

    fn decimal_as_double(&mut self, text: &str) {
        // A text of digits always parses; an overflow gives infinity, as Python's float() does.
        self.double(text.parse().unwrap_or(f64::NAN));
    }

    fn no_decimal(&mut self, value: f64) {
        self.text(&double_text(value));
    }

    fn text(&mut self, text: &str) {
        self.lead();
        self.marshal.text(text);
    }

    fn literal(&mut self, text: &str) {
        self.text(text);
    }

    fn plain<E>(&mut self, write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>) -> Result<(), E> {
        self.lead();
        self.marshal.ascii(write)
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.lead();
        _ = self.marshal.ascii(|out| {
            out.extend_from_slice(b"\\x");
            out.extend_from_slice(hex::encode(bytes).as_bytes());
            Ok::<_, std::convert::Infallible>(())
        });
    }

    fn json(&mut self, json: &str) -> Result<(), SqlError> {
        self.lead();
        self.marshal.json(json.as_bytes()).map_err(|Refused| {
            let message = "a JSON value in the rows is nested deeper than 500 times or has a number of more than 4300 \
                           digits: select it as text in a `query`";
            SqlError::new(SqlErrorCode::ResultTooLarge, message)
        })
    }

    fn begin_list(&mut self) {
        self.lead();
        self.lists.push((self.marshal.begin_list(), 0));
    }

    fn end_list(&mut self) {
        if let Some((length_at, n_items)) = self.lists.pop() {
            self.marshal.end_list(length_at, n_items);
        }
    }

    fn texts(&mut self, pairs: &[(&str, Option<&str>)]) {
        self.lead();
        self.marshal.begin();
        for (key, value) in pairs {
            self.marshal.key(key);
            match value {
                Some(value) => self.marshal.text(value),
                None => self.marshal.none(),
            }
        }
        self.marshal.end();
    }
}
