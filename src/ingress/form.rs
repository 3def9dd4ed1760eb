//! Fields and files of form bodies.

use bytes::Bytes;
use http::{HeaderMap, header};

use crate::{domain::exchange::UploadedFile, problem::RequestError};

/// Fields and files in one form, at most.
const PARTS_MAX: usize = 1000;

/// A form's fields and files, in order.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Form {
    pub(super) fields: Vec<(String, String)>,
    pub(super) files: Vec<UploadedFile>,
}

/// The form in a body; an empty one if the body is of another media type.
pub(super) async fn parse(headers: &HeaderMap, body: &Bytes) -> Result<Form, RequestError> {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    if media_type.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
        let fields: Vec<_> = url::form_urlencoded::parse(body).into_owned().take(PARTS_MAX + 1).collect();
        return if fields.len() > PARTS_MAX { Err(too_many()) } else { Ok(Form { fields, files: Vec::new() }) };
    }
    if media_type.eq_ignore_ascii_case("multipart/form-data") {
        return multipart(content_type, body).await;
    }
    Ok(Form::default())
}

fn too_many() -> RequestError {
    RequestError::InvalidForm(format!("it has more than {PARTS_MAX} fields"))
}

async fn multipart(content_type: &str, body: &Bytes) -> Result<Form, RequestError> {
    let invalid = |error: multer::Error| RequestError::InvalidForm(error.to_string());
    let boundary = multer::parse_boundary(content_type).map_err(invalid)?;
    let whole = futures::stream::iter([Ok::<_, std::convert::Infallible>(body.clone())]);
    let mut parts = multer::Multipart::new(whole, boundary);
    let mut form = Form::default();
    while let Some(part) = parts.next_field().await.map_err(invalid)? {
        if form.fields.len() + form.files.len() >= PARTS_MAX {
            return Err(too_many());
        }
        let name = part.name().ok_or_else(|| RequestError::InvalidForm("a part has no name".to_owned()))?.to_owned();
        match part.file_name().map(str::to_owned) {
            Some(file_name) => {
                let content_type =
                    part.content_type().map_or("application/octet-stream", |mime| mime.as_ref()).to_owned();
                let content = part.bytes().await.map_err(invalid)?;
                form.files.push(UploadedFile { field: name, name: file_name, content_type, content });
            }
            None => form.fields.push((name, part.text().await.map_err(invalid)?)),
        }
    }
    Ok(form)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn parsed(content_type: &str, body: &str) -> Result<Form, RequestError> {
        let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, content_type.parse().unwrap())]);
        parse(&headers, &Bytes::from(body.to_owned())).await
    }

    #[tokio::test]
    async fn reads_urlencoded_fields_in_order() {
        let form = parsed("application/x-www-form-urlencoded; charset=utf-8", "a=1&b=%C3%A9+x&a=2&c").await.unwrap();
        let expected = [("a", "1"), ("b", "é x"), ("a", "2"), ("c", "")];
        assert_eq!(form.fields, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
        assert_eq!(parsed("application/json", "a=1").await.unwrap(), Form::default());
    }

    #[tokio::test]
    async fn reads_multipart_fields_and_files() {
        let body = "--x\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n1\r\n--x\r\nContent-Disposition: form-data; \
                    name=\"f\"; filename=\"a.txt\"\r\nContent-Type: text/plain\r\n\r\nhi\r\n--x--\r\n";
        let form = parsed("multipart/form-data; boundary=x", body).await.unwrap();
        assert_eq!(form.fields, [("a".to_owned(), "1".to_owned())]);
        assert_eq!((form.files[0].name.as_str(), &form.files[0].content[..]), ("a.txt", &b"hi"[..]));
    }

    #[tokio::test]
    async fn refuses_broken_and_huge_forms() {
        let many = "a=1&".repeat(PARTS_MAX + 1);
        for (content_type, body) in [
            ("multipart/form-data", "--x--"),
            ("multipart/form-data; boundary=x", "--x\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n1"),
            ("multipart/form-data; boundary=x", "--x\r\nContent-Disposition: form-data\r\n\r\n1\r\n--x--\r\n"),
            ("application/x-www-form-urlencoded", many.as_str()),
        ] {
            let outcome = parsed(content_type, body).await;
            assert!(matches!(outcome, Err(RequestError::InvalidForm(_))), "{content_type} {outcome:?}");
        }
    }
}
