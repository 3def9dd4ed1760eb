//! The documentation of the API.

use std::path::Path;

use serde_json::Value;

use super::Api;
use crate::support::TestApp;

/// `INSTA_UPDATE=always cargo test` writes the file anew.
#[tokio::test]
async fn the_published_document_is_what_the_program_says() {
    let app = TestApp::new().await;
    let document = Api::anonymous(&app).get("/openapi.json").await.expect("200");
    let text = serde_json::to_string_pretty(&document).unwrap() + "\n";
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/openapi.json");
    #[expect(clippy::disallowed_methods, reason = "what insta reads for its own snapshots")]
    let is_update = std::env::var("INSTA_UPDATE").is_ok_and(|value| value == "always");
    if is_update {
        std::fs::write(&file, &text).unwrap();
    }
    let published = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(published == text, "docs/openapi.json is out of date: INSTA_UPDATE=always cargo test writes it anew");
}

#[tokio::test]
async fn every_operation_is_documented_for_people_and_programs() {
    let app = TestApp::new().await;
    let api = Api::anonymous(&app);
    let document = api.get("/openapi.json").await.expect("200");
    assert_eq!(document["openapi"], "3.1.0");
    let page = api.get("/").await.expect("200");
    let page = page.as_str().unwrap();
    assert!(!page.contains("<script") && !page.contains("src="), "the page runs nothing and loads nothing");
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let id = operation["operationId"].as_str().unwrap();
            assert!(page.contains(&format!("id='{id}'")), "{id} is not on the page");
            for field in ["summary", "tags", "x-needs"] {
                assert!(!operation[field].is_null(), "{method} {path} has no {field}");
            }
            assert!(!operation["responses"]["default"].is_null(), "{id} documents no problems");
            let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
            let documented =
                |name: &str| parameters.iter().any(|parameter| parameter["name"] == name && parameter["in"] == "path");
            for name in path.split('/').filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}')) {
                assert!(documented(name), "{id} does not document {name}");
            }
        }
    }
    let schemas = document["components"]["schemas"].as_object().unwrap();
    let text = document.to_string();
    for reference in text.split("#/components/schemas/").skip(1) {
        let name = reference.split('"').next().unwrap();
        assert!(schemas.contains_key(name), "{name} is referred to, but not there");
    }
    assert_eq!(schemas["Problem"]["type"], Value::from("object"));
}
