//! The control API over HTTP.

mod access;
mod bad_input;
mod document;
mod flows;
mod grants;
mod live;
mod reruns;
mod tables;

use pqhost::db::credentials::{Grounds, Holder};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::TestApp;

/// A caller of the API.
#[derive(Clone)]
pub(crate) struct Api {
    client: reqwest::Client,
    url: String,
    token: Option<String>,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Reply {
    pub status: StatusCode,
    pub headers: reqwest::header::HeaderMap,
    pub body: Value,
}

impl Reply {
    /// Status and code of a problem, status alone otherwise: `404 not_found`.
    pub(crate) fn summary(&self) -> String {
        let code = self.body["code"]
            .as_str()
            .filter(|_| self.status.as_u16() >= 400)
            .map(|code| format!(" {code}"))
            .unwrap_or_default();
        format!("{}{code}", self.status.as_u16())
    }

    #[track_caller]
    pub(crate) fn expect(self, summary: &str) -> Value {
        assert_eq!(self.summary(), summary, "{}", self.body);
        self.body
    }
}

impl Api {
    /// An operator's.
    pub(crate) async fn operator(app: &TestApp) -> Self {
        let people = pqhost::auth::people::People::new(app.workspace.db.clone());
        let day = std::time::Duration::from_secs(86400);
        let (holder, grounds) = (Holder::Operator, Grounds::None);
        let token = people.create_token(&app.workspace.db, holder, "tests".to_owned(), day, grounds).await.unwrap();
        Self::anonymous(app).with_token(token.text.expose_str().unwrap())
    }

    pub(crate) fn anonymous(app: &TestApp) -> Self {
        Self { client: app.client.clone(), url: format!("{}/api/v1", app.control_url), token: None }
    }

    /// The same caller at another host.
    pub(crate) fn at(&self, app: &TestApp) -> Self {
        Self { token: self.token.clone(), ..Self::anonymous(app) }
    }

    pub(crate) fn with_token(&self, token: &str) -> Self {
        Self { token: Some(token.to_owned()), ..self.clone() }
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let request = self.client.request(method, format!("{}{path}", self.url));
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    pub(crate) async fn send(request: reqwest::RequestBuilder) -> Reply {
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        let is_endless = headers.get("content-type").is_some_and(|value| value == "text/event-stream");
        let text = if is_endless { String::new() } else { response.text().await.unwrap() };
        let body =
            serde_json::from_str(&text).unwrap_or(if text.is_empty() { Value::Null } else { Value::String(text) });
        Reply { status, headers, body }
    }

    pub(crate) async fn get(&self, path: &str) -> Reply {
        Self::send(self.request(Method::GET, path)).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Reply {
        Self::send(self.request(Method::POST, path).json(body)).await
    }

    pub(crate) async fn put(&self, path: &str, body: &Value) -> Reply {
        Self::send(self.request(Method::PUT, path).json(body)).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Reply {
        Self::send(self.request(Method::DELETE, path)).await
    }

    /// A user with a role in a tenant, calling with a token of its own.
    pub(crate) async fn user(&self, email: &str, tenant: &str, role: &str) -> Self {
        let password = "correct horse battery";
        self.post("/users", &json!({"email": email, "password": password})).await.expect("201");
        self.put(&format!("/tenants/{tenant}/members/{email}"), &json!({"role": role})).await.expect("204");
        let anonymous = Self { token: None, ..self.clone() };
        let session = anonymous.post("/session", &json!({"email": email, "password": password})).await.expect("201");
        let session = self.with_token(session["token"].as_str().unwrap());
        let token = session.post("/session/api-tokens", &json!({"name": "tests"})).await.expect("201");
        self.with_token(token["token"].as_str().unwrap())
    }
}
