//! Whether a caller has an answer already (`If-None-Match`).

use axum::{body::Body, response::Response};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header, request::Parts};

/// Bytes of a tag before they are written in hexadecimal: no two answers have the same one by chance.
const TAG_BYTES: usize = 16;

/// The answers that a caller says it has.
#[derive(Debug)]
pub(super) struct Conditions(Vec<HeaderValue>);

impl Conditions {
    pub(super) fn of(headers: &HeaderMap) -> Self {
        Self(headers.get_all(header::IF_NONE_MATCH).iter().cloned().collect())
    }

    /// Whether the answer with this tag is among them. What cannot be read names no answer, so the caller gets a whole one.
    pub(super) fn name(&self, etag: &HeaderValue) -> bool {
        let etag = opaque(etag.as_bytes());
        self.0.iter().any(|value| names(value.as_bytes().trim_ascii(), etag))
    }
}

/// A tag that changes with the content and with what is made of it.
pub(super) fn of(content_type: Option<&HeaderValue>, body: &Bytes) -> HeaderValue {
    let mut hasher = blake3::Hasher::new();
    hasher.update(content_type.map_or(&[], HeaderValue::as_bytes)).update(&[0]).update(body);
    let mut tag = [0; TAG_BYTES];
    hasher.finalize_xof().fill(&mut tag);
    HeaderValue::try_from(format!("\"{}\"", hex::encode(tag))).expect("hexadecimal is visible ASCII")
}

/// Answers GET and HEAD with a text of the host's own, or says that the caller has it.
pub(super) fn respond(parts: &Parts, etag: &HeaderValue, body: &Bytes, content_type: HeaderValue) -> Response {
    let mut response = Response::new(Body::empty());
    let fields = response.headers_mut();
    fields.insert(header::ETAG, etag.clone());
    fields.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if Conditions::of(&parts.headers).name(etag) {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        return response;
    }
    fields.insert(header::CONTENT_TYPE, content_type);
    fields.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
    if parts.method != Method::HEAD {
        *response.body_mut() = Body::from(body.clone());
    }
    response
}

/// The tag without its mark of weakness, which does not matter here: nobody asks for parts of an answer.
fn opaque(tag: &[u8]) -> &[u8] {
    tag.strip_prefix(b"W/").unwrap_or(tag)
}

fn names(list: &[u8], etag: &[u8]) -> bool {
    if list == b"*" || opaque(list) == etag {
        return true;
    }
    let mut rest = list;
    loop {
        let start = rest.iter().position(|byte| !b" \t,".contains(byte)).unwrap_or(rest.len());
        let tag = opaque(&rest[start..]);
        let Some(end) = tag.iter().skip(1).position(|byte| *byte == b'"').filter(|_| tag.starts_with(b"\"")) else {
            return false;
        };
        let (tag, behind) = tag.split_at(end + 2);
        if tag == etag {
            return true;
        }
        rest = behind;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_compared_weakly_in_lists_and_garbage_names_none() {
        let conditions = |lists: &[&str]| Conditions(lists.iter().map(|l| HeaderValue::from_str(l).unwrap()).collect());
        let etag = |text| HeaderValue::from_static(text);
        for list in [
            r#""a""#,
            r#"W/"a""#,
            r#"  "a"  "#,
            "*",
            " * ",
            r#""b", "a""#,
            r#""b","a","c""#,
            r#",, "b",,W/"a","#,
            r#""x, y" , "a""#,
            r#""b""a""#,
        ] {
            for tag in [r#""a""#, r#"W/"a""#] {
                assert!(conditions(&[list]).name(&etag(tag)), "{list} {tag}");
            }
        }
        for list in [
            "",
            ",",
            "a",
            "\"a",
            "a\"",
            "\"",
            "W/",
            "w/\"a\"",
            "\"A\"",
            "\"\"",
            "\"b\" *",
            "'a'",
            "W/W/\"a\"",
            r#""x,"a""#,
            &"\"b\",".repeat(2000),
            &",".repeat(8000),
        ] {
            assert!(!conditions(&[list]).name(&etag(r#""a""#)), "{list}");
        }
        assert!(conditions(&["\"b\"", "\"a\""]).name(&etag("\"a\"")));
        assert!(conditions(&["own"]).name(&etag("own")), "a script's own tag, whatever it looks like");
        assert!(!conditions(&[]).name(&etag("\"a\"")));
    }

    #[test]
    fn a_tag_follows_body_and_type() {
        let json = HeaderValue::from_static("application/json");
        let tags = [
            of(Some(&json), &Bytes::from_static(b"1")),
            of(Some(&json), &Bytes::from_static(b"2")),
            of(None, &Bytes::from_static(b"1")),
        ];
        assert!(tags[0] != tags[1] && tags[0] != tags[2]);
        assert_eq!(tags[0], of(Some(&json), &Bytes::from_static(b"1")));
        assert_eq!(tags[0].len(), 34);
    }
}
