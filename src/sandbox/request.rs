//! A request as the Python runtime takes it: what scripts see, in Python's own serialisation, `marshal`.
//!
//! `wit/worlds.wit` describes it. Why `marshal`: with JSON a hello request used 207,000 units of fuel, half of them for
//! reading it; with a `marshal` tuple it used 123,000. The codes used here are those of every CPython 3.

use std::{borrow::Cow, collections::HashSet};

use serde_json::{Map, Number, Value};

use crate::domain::exchange::{Caller, HandlerRequest, UploadedFile};

/// The request without its body and the contents of its files.
pub(super) fn to_marshal(request: &HandlerRequest) -> Vec<u8> {
    let HandlerRequest {
        method,
        url,
        path,
        query_string,
        headers,
        body: _,
        form,
        files,
        path_params,
        client_ip,
        request_id,
        caller,
    } = request;
    let mut tuple = Marshal(Vec::with_capacity(2048));
    tuple.small_tuple(15);
    tuple.text(method);
    tuple.text(url);
    tuple.text(path);
    tuple.text(query_string);
    tuple.headers(headers);
    tuple.first_values(form);
    tuple.query(query_string);
    tuple.first_values(path_params);
    tuple.files(files);
    tuple.cookies(headers);
    tuple.text(client_ip);
    tuple.text(&request_id.to_string());
    tuple.caller(caller);
    tuple.0
}

/// The first file of each form field: those that scripts see.
pub(super) fn first_of_each_field(files: &[UploadedFile]) -> impl Iterator<Item = &UploadedFile> {
    let mut seen = HashSet::new();
    files.iter().filter(move |file| seen.insert(file.field.as_str()))
}

/// Writes objects in CPython's `marshal` format (`Python/marshal.c`).
struct Marshal(Vec<u8>);

impl Marshal {
    const DICT: u8 = b'{';
    const NULL: u8 = b'0';
    const NONE: u8 = b'N';
    const TRUE: u8 = b'T';
    const FALSE: u8 = b'F';
    const INT: u8 = b'i';
    const LONG: u8 = b'l';
    const FLOAT: u8 = b'g';
    const LIST: u8 = b'[';
    const UNICODE: u8 = b'u';
    const SHORT_ASCII: u8 = b'z';
    const SMALL_TUPLE: u8 = b')';

    /// Pairs of key and value follow, then [`Self::end`].
    fn begin(&mut self) {
        self.0.push(Self::DICT);
    }

    fn end(&mut self) {
        self.0.push(Self::NULL);
    }

    fn none(&mut self) {
        self.0.push(Self::NONE);
    }

    /// So many objects follow.
    fn small_tuple(&mut self, n_objects: u8) {
        self.0.extend([Self::SMALL_TUPLE, n_objects]);
    }

    fn text(&mut self, text: &str) {
        if text.len() <= usize::from(u8::MAX) && text.is_ascii() {
            self.0.extend([Self::SHORT_ASCII, u8::try_from(text.len()).expect("it was compared above")]);
        } else {
            self.0.push(Self::UNICODE);
            self.length(text.len());
        }
        self.0.extend(text.as_bytes());
    }

    fn length(&mut self, length: usize) {
        let length = i32::try_from(length).expect("requests are far below 2 GiB");
        self.0.extend(length.to_le_bytes());
    }

    fn value(&mut self, value: &Value) {
        match value {
            Value::Null => self.none(),
            Value::Bool(true) => self.0.push(Self::TRUE),
            Value::Bool(false) => self.0.push(Self::FALSE),
            Value::Number(number) => self.number(number),
            Value::String(text) => self.text(text),
            Value::Array(items) => {
                self.0.push(Self::LIST);
                self.length(items.len());
                items.iter().for_each(|item| self.value(item));
            }
            Value::Object(fields) => self.object(fields),
        }
    }

    fn object(&mut self, fields: &Map<String, Value>) {
        self.begin();
        for (name, value) in fields {
            self.text(name);
            self.value(value);
        }
        self.end();
    }

    fn number(&mut self, number: &Number) {
        if let Some(small) = number.as_i64().and_then(|integer| i32::try_from(integer).ok()) {
            self.0.push(Self::INT);
            self.0.extend(small.to_le_bytes());
        } else if let Some(integer) = number.as_i128() {
            self.long(integer);
        } else {
            self.0.push(Self::FLOAT);
            self.0.extend(number.as_f64().unwrap_or(f64::NAN).to_le_bytes());
        }
    }

    /// Digits of 15 bits, the lowest first; their number has the sign.
    fn long(&mut self, integer: i128) {
        let mut digits = Vec::new();
        let mut rest = integer.unsigned_abs();
        while rest > 0 {
            digits.push(u16::try_from(rest & 0x7fff).expect("15 bits"));
            rest >>= 15;
        }
        let n_digits = i32::try_from(digits.len()).expect("at most nine");
        self.0.push(Self::LONG);
        self.0.extend((if integer < 0 { -n_digits } else { n_digits }).to_le_bytes());
        self.0.extend(digits.into_iter().flat_map(u16::to_le_bytes));
    }

    /// A dict of text to text in which the first of several values counts.
    fn first_values(&mut self, pairs: &[(String, String)]) {
        self.begin();
        let mut seen = HashSet::new();
        for (name, value) in pairs {
            if seen.insert(name) {
                self.text(name);
                self.text(value);
            }
        }
        self.end();
    }

    fn query(&mut self, query_string: &str) {
        self.begin();
        let mut seen: HashSet<Cow<'_, str>> = HashSet::new();
        for (name, value) in url::form_urlencoded::parse(query_string.as_bytes()) {
            if !seen.contains(&name) {
                self.text(&name);
                self.text(&value);
                seen.insert(name);
            }
        }
        self.end();
    }

    /// Names in Title-Case; the values of a repeated field joined by `, `, or by `; ` if it is Cookie.
    fn headers(&mut self, headers: &[(String, String)]) {
        // Requests have at most a hundred fields, and hardly any is repeated.
        let mut joined: Vec<(&str, Cow<'_, str>)> = Vec::with_capacity(headers.len());
        for (name, value) in headers {
            match joined.iter_mut().find(|(known, _)| known == name) {
                Some((_, values)) => {
                    let values = values.to_mut();
                    values.push_str(if name == "cookie" { "; " } else { ", " });
                    values.push_str(value);
                }
                None => joined.push((name, Cow::Borrowed(value))),
            }
        }
        self.begin();
        for (name, value) in joined {
            self.text(&title_case(name));
            self.text(&value);
        }
        self.end();
    }

    /// The cookies of all Cookie fields; of several with one name the last counts, as a dict takes it.
    fn cookies(&mut self, headers: &[(String, String)]) {
        self.begin();
        let fields = headers.iter().filter(|(name, _)| name == "cookie");
        for (name, value) in
            fields.flat_map(|(_, value)| value.split(';')).filter_map(|pair| pair.trim().split_once('='))
        {
            self.text(name);
            self.text(value.trim_matches('"'));
        }
        self.end();
    }

    /// A dict of form field to (name, content type).
    fn files(&mut self, files: &[UploadedFile]) {
        self.begin();
        for UploadedFile { field, name, content_type, content: _ } in first_of_each_field(files) {
            self.text(field);
            self.small_tuple(2);
            self.text(name);
            self.text(content_type);
        }
        self.end();
    }

    /// The kind, the token's id, the claims.
    fn caller(&mut self, caller: &Caller) {
        match caller {
            Caller::Public => {
                self.text("public");
                self.none();
                self.object(&Map::new());
            }
            Caller::Token { id, claims } => {
                self.text("jwt");
                self.text(id);
                self.object(claims);
            }
        }
    }
}

/// A letter is upper case if the character before it is no letter.
fn title_case(name: &str) -> String {
    let mut after_letter = false;
    name.chars()
        .map(|c| {
            let cased = if after_letter { c.to_ascii_lowercase() } else { c.to_ascii_uppercase() };
            after_letter = c.is_ascii_alphabetic();
            cased
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use serde_json::json;

    use super::*;
    use crate::domain::names::InvocationId;

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn file(field: &str, name: &str) -> UploadedFile {
        let content_type = "text/plain".to_owned();
        UploadedFile { field: field.to_owned(), name: name.to_owned(), content_type, content: Bytes::new() }
    }

    /// What Python's own `marshal` makes of the bytes, as JSON.
    fn read_by_python(marshalled: &[u8]) -> Value {
        let script = "import json, marshal, sys; print(json.dumps(marshal.load(sys.stdin.buffer)))";
        let mut python = std::process::Command::new("python3")
            .args(["-c", script])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .expect("python3 is there: the runtime was built with it");
        std::io::Write::write_all(&mut python.stdin.take().unwrap(), marshalled).unwrap();
        serde_json::from_slice(&python.wait_with_output().unwrap().stdout).unwrap()
    }

    #[test]
    fn python_reads_a_request_as_it_was_meant() {
        let long = "é".repeat(300);
        let claims = json!({"n": [0, -1, i32::MAX, i64::MIN, u64::MAX, 1.5, true, false, null], "deep": {"s": long}});
        let request_id = InvocationId::generate();
        let request = HandlerRequest {
            method: "POST".to_owned(),
            url: "http://h/t/x?a=1".to_owned(),
            path: "/x".to_owned(),
            query_string: "a=1&a=2&b&%C3%A9=%22+x".to_owned(),
            headers: pairs(&[
                ("host", "h"),
                ("x-2fa-id", "1"),
                ("accept", "a"),
                ("cookie", "a=1; b=\"2\""),
                ("accept", "b"),
                ("cookie", "a=3; c"),
            ]),
            body: Bytes::from_static(b"not here"),
            form: pairs(&[("f", "1"), ("f", "2"), ("g", "")]),
            files: vec![file("u", "1.txt"), file("v", "2.txt"), file("u", "3.txt")],
            path_params: pairs(&[("id", "7")]),
            client_ip: "::1".to_owned(),
            request_id,
            caller: Caller::Token { id: "t".into(), claims: claims.as_object().unwrap().clone().into() },
        };
        let expected = json!([
            "POST",
            "http://h/t/x?a=1",
            "/x",
            "a=1&a=2&b&%C3%A9=%22+x",
            {"Host": "h", "X-2Fa-Id": "1", "Accept": "a, b", "Cookie": "a=1; b=\"2\"; a=3; c"},
            {"f": "1", "g": ""},
            {"a": "1", "b": "", "é": "\" x"},
            {"id": "7"},
            {"u": ["1.txt", "text/plain"], "v": ["2.txt", "text/plain"]},
            {"a": "3", "b": "2"},
            "::1",
            request_id.to_string(),
            "jwt",
            "t",
            claims,
        ]);
        assert_eq!(read_by_python(&to_marshal(&request)), expected);
        let names: Vec<_> = first_of_each_field(&request.files).map(|file| file.name.as_str()).collect();
        assert_eq!(names, ["1.txt", "2.txt"]);
    }

    #[test]
    fn a_public_caller_has_no_claims() {
        let mut caller = Marshal(Vec::new());
        caller.small_tuple(3);
        caller.caller(&Caller::Public);
        assert_eq!(read_by_python(&caller.0), json!(["public", null, {}]));
    }
}
