//! A request as the Python runtime takes it: what scripts see. `wit/worlds.wit` describes it.

use std::{borrow::Cow, collections::HashSet};

use serde_json::{Map, Value};

use crate::{
    domain::exchange::{Caller, HandlerRequest, UploadedFile},
    marshal::Marshal,
};

/// Longest body whose JSON the host reads for the guest, in bytes. It does so within a millisecond, after which a guest
/// would let others run.
const JSON_BYTES_MAX: usize = 128 << 10;

/// The request without its body and the contents of its files.
pub(super) fn to_marshal(request: &HandlerRequest) -> Vec<u8> {
    let HandlerRequest {
        method,
        url,
        path,
        query_string,
        headers,
        body,
        form,
        files,
        path_params,
        client_ip,
        request_id,
        caller,
    } = request;
    let mut tuple = Marshal::with_capacity(2048);
    tuple.small_tuple(14);
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
    tuple.parsed(headers, body);
    tuple.into_bytes()
}

/// The first file of each form field: those that scripts see.
pub(super) fn first_of_each_field(files: &[UploadedFile]) -> impl Iterator<Item = &UploadedFile> {
    let mut seen = HashSet::new();
    files.iter().filter(move |file| seen.insert(file.field.as_str()))
}

impl Marshal {
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

    /// A tuple of what a JSON body describes; None if the guest is to try.
    fn parsed(&mut self, headers: &[(String, String)], body: &[u8]) {
        let kinds = headers.iter().filter(|(name, _)| name == "content-type");
        let is_json = kinds.clone().next().is_none() || kinds.clone().any(|(_, kind)| kind.contains("json"));
        if is_json && body.len() <= JSON_BYTES_MAX {
            let parsed = self.attempt(|tuple| {
                tuple.small_tuple(1);
                tuple.json(body)
            });
            if parsed.is_ok() {
                return;
            }
        }
        self.none();
    }

    /// A dict with all keys, whoever is calling.
    fn caller(&mut self, caller: &Caller) {
        let (token, key) = match caller {
            Caller::Public => (None, None),
            Caller::Token(token) => (Some(token), None),
            Caller::Key(key) => (None, Some(key)),
        };
        let nothing = Map::new();
        self.begin();
        self.text("kind");
        self.text(match caller {
            Caller::Public => "public",
            Caller::Token(_) => "jwt",
            Caller::Key(_) => "key",
        });
        self.text("token_id");
        self.optional_text(token.and_then(|token| token.id.as_deref()));
        self.text("issuer");
        self.optional_text(token.map(|token| &*token.issuer));
        self.text("claims");
        self.object(token.map_or(&nothing, |token| &token.claims));
        self.text("key_id");
        self.optional_text(key.map(|key| &*key.id));
        self.text("attributes");
        self.object(key.map_or(&nothing, |key| &key.attributes));
        self.text("methods");
        let methods = token.and_then(|token| token.methods).or_else(|| key.and_then(|key| key.methods));
        self.value(&Value::Array(
            methods.map_or_else(Vec::new, |methods| methods.names_listed().map(Value::from).collect()),
        ));
        self.end();
    }

    fn optional_text(&mut self, text: Option<&str>) {
        match text {
            Some(text) => self.text(text),
            None => self.none(),
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
    use crate::{
        domain::{
            exchange::{KeyHolder, TokenBearer},
            names::InvocationId,
        },
        marshal::tests,
    };

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn file(field: &str, name: &str) -> UploadedFile {
        let content_type = "text/plain".to_owned();
        UploadedFile { field: field.to_owned(), name: name.to_owned(), content_type, content: Bytes::new() }
    }

    fn read_by_python(marshalled: &[u8]) -> Value {
        serde_json::from_str(&tests::read_by_python("json.dumps(value)", marshalled)).unwrap()
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
            body: Bytes::from_static(br#"{"body": [1]}"#),
            form: pairs(&[("f", "1"), ("f", "2"), ("g", "")]),
            files: vec![file("u", "1.txt"), file("v", "2.txt"), file("u", "3.txt")],
            path_params: pairs(&[("id", "7")]),
            client_ip: "::1".to_owned(),
            request_id,
            caller: Caller::Token(TokenBearer {
                id: Some("t".into()),
                issuer: "pqhost".into(),
                claims: claims.as_object().unwrap().clone().into(),
                methods: Some("GET,POST".parse().unwrap()),
                rows: None,
            }),
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
            {
                "kind": "jwt", "token_id": "t", "issuer": "pqhost", "claims": claims,
                "key_id": null, "attributes": {}, "methods": ["GET", "POST"],
            },
            [{"body": [1]}],
        ]);
        assert_eq!(read_by_python(&to_marshal(&request)), expected);
        let names: Vec<_> = first_of_each_field(&request.files).map(|file| file.name.as_str()).collect();
        assert_eq!(names, ["1.txt", "2.txt"]);
    }

    #[test]
    fn a_body_that_is_no_json_is_left_to_the_guest() {
        let parsed = |headers: &[(&str, &str)], body: &[u8]| {
            let mut marshal = Marshal::default();
            marshal.parsed(&pairs(headers), body);
            read_by_python(&marshal.into_bytes())
        };
        assert_eq!(parsed(&[], b"[1]"), json!([[1]]));
        assert_eq!(parsed(&[("content-type", "application/problem+json")], b" 1 "), json!([1]));
        assert_eq!(parsed(&[("content-type", "text/plain")], b"[1]"), Value::Null);
        assert_eq!(parsed(&[], b""), Value::Null);
        assert_eq!(parsed(&[], b"[1"), Value::Null);
        assert_eq!(parsed(&[], format!("[{}]", " ".repeat(JSON_BYTES_MAX)).as_bytes()), Value::Null);
    }

    #[test]
    fn every_caller_has_the_same_keys() {
        let read = |caller: &Caller| {
            let mut marshal = Marshal::default();
            marshal.caller(caller);
            read_by_python(&marshal.into_bytes())
        };
        let public = json!({
            "kind": "public", "token_id": null, "issuer": null, "claims": {}, "key_id": null, "attributes": {}, "methods": [],
        });
        assert_eq!(read(&Caller::Public), public);
        let attributes = json!({"customer": 17}).as_object().unwrap().clone();
        let key = KeyHolder { id: "k".into(), attributes: attributes.into(), methods: None, rows: None };
        let expected = json!({
            "kind": "key", "token_id": null, "issuer": null, "claims": {}, "key_id": "k", "attributes": {"customer": 17},
            "methods": [],
        });
        assert_eq!(read(&Caller::Key(key)), expected);
    }
}
