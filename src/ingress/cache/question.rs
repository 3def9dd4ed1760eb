//! What tells answers apart.

use std::sync::Arc;

use axum::body::{Body, HttpBody as _};
use http::{HeaderMap, HeaderName, Method, header, request::Parts};

use crate::{
    domain::{
        endpoint::CachePolicy,
        exchange::{Caller, KeyHolder, TokenBearer},
    },
    ingress::{Routed, etag::Conditions, identify::CREDENTIALS},
    invoke::{Backend, EndpointTarget},
};

/// What most keys are long before they are hashed, in bytes; longer ones are allocated more than once.
const KEY_BYTES: usize = 1 << 10;

/// What an answer is kept under: the hash of all that tells it from others.
pub(super) type Key = blake3::Hash;

/// A request whose answer may be kept, or may have been.
#[derive(Debug)]
pub(in crate::ingress) struct Question {
    pub(super) key: Key,
    /// Of the routes that it found its way by: what was answered before a change is no answer after it.
    pub(super) generation: u64,
    pub(super) endpoint: Arc<EndpointTarget>,
    pub(super) conditions: Conditions,
    pub(super) is_head: bool,
}

impl Question {
    /// A request as a question, if its endpoint keeps answers and there may be one to it.
    ///
    /// A preview is not asked: its author wants to see the version run. Nor is a GET with a body: the body is in no key, so one caller's
    /// could decide what others get. Nor is who shows a public endpoint's script who they are, unless the policy tells answers apart by that:
    /// the host does not know such a caller, so it cannot know whose answer it is.
    pub(in crate::ingress) fn of(route: &Routed, parts: &Parts, body: &Body, caller: &Caller) -> Option<Self> {
        let policy = route.endpoint.settings.cache.as_ref()?;
        let is_get = parts.method == Method::GET || route.head_as_get;
        let is_somebodys = *caller == Caller::Public && shows_a_credential(&parts.headers, policy);
        if !is_get || route.is_preview || !body.is_end_stream() || is_somebodys {
            return None;
        }
        Some(Self {
            key: key(policy, route, parts, caller),
            generation: route.routes.generation,
            endpoint: Arc::clone(&route.endpoint),
            conditions: Conditions::of(&parts.headers),
            is_head: route.head_as_get,
        })
    }
}

/// Whether a request has a credential that does not tell its answer from others.
fn shows_a_credential(headers: &HeaderMap, policy: &CachePolicy) -> bool {
    let is_named = |name: &HeaderName| policy.headers.iter().any(|known| known.eq_ignore_ascii_case(name.as_str()));
    CREDENTIALS.iter().any(|name| headers.contains_key(name) && !is_named(name))
}

fn key(policy: &CachePolicy, route: &Routed, parts: &Parts, caller: &Caller) -> Key {
    let mut key = KeyText(Vec::with_capacity(KEY_BYTES));
    let version = match &route.endpoint.backend {
        Backend::Script(script) => script.version.as_ref().map_or(0, |version| version.version.id.0),
        Backend::Table(_) => 0,
    };
    for number in [route.routes.tenant_id.0, route.endpoint.id.0, route.endpoint.revision, version] {
        key.0.extend(number.to_le_bytes());
    }
    // Handlers see the URL as it was sent, its host too: whoever makes up a host may not decide what others are linked to.
    key.text(parts.uri.authority().map_or("", |authority| authority.as_str()).as_bytes());
    key.fields(&parts.headers, &header::HOST);
    key.text(parts.uri.path().as_bytes());
    let query = parts.uri.query().unwrap_or_default();
    match &policy.query {
        None => key.text(query.as_bytes()),
        Some(names) => key.query(names, query),
    }
    for name in told_apart_by(policy, &route.endpoint) {
        if let Ok(name) = HeaderName::from_bytes(name.as_bytes()) {
            key.fields(&parts.headers, &name);
        }
    }
    key.caller(caller, policy.shared);
    blake3::hash(&key.0)
}

/// Names of the header fields that tell an endpoint's answers apart. A table is JSON or CSV, as `Accept` says.
pub(super) fn told_apart_by<'p>(
    policy: &'p CachePolicy,
    endpoint: &EndpointTarget,
) -> impl Iterator<Item = &'p str> + use<'p> {
    let format = matches!(endpoint.backend, Backend::Table(_)).then_some("accept");
    let named = policy.headers.iter().map(String::as_str);
    named.filter(move |name| format.is_none_or(|format| !name.eq_ignore_ascii_case(format))).chain(format)
}

/// Everything in a key, each part behind its length or its kind, so that no two lists of parts have one text.
struct KeyText(Vec<u8>);

impl KeyText {
    fn number(&mut self, number: usize) {
        self.0.extend((number as u64).to_le_bytes());
    }

    fn text(&mut self, text: &[u8]) {
        self.number(text.len());
        self.0.extend(text);
    }

    fn fields(&mut self, headers: &HeaderMap, name: &HeaderName) {
        let values = headers.get_all(name);
        self.number(values.iter().count());
        for value in values {
            self.text(value.as_bytes());
        }
    }

    /// The fields of a query that have one of these names, in the order of the names; those of one name in the order in which they were sent.
    fn query(&mut self, names: &[String], query: &str) {
        let fields = url::form_urlencoded::parse(query.as_bytes());
        let place = |name: &str| names.iter().position(|known| known == name);
        let mut fields: Vec<_> = fields.filter_map(|(name, value)| Some((place(&name)?, value))).collect();
        fields.sort_by_key(|(place, _)| *place);
        self.number(fields.len());
        for (place, value) in fields {
            self.number(place);
            self.text(value.as_bytes());
        }
    }

    /// Who gets the answer. A caller who reaches some rows only has answers of its own, whatever the endpoint shares.
    fn caller(&mut self, caller: &Caller, shared: bool) {
        match caller {
            Caller::Public => self.0.push(b'p'),
            Caller::Token(TokenBearer { rows: None, .. }) | Caller::Key(KeyHolder { rows: None, .. }) if shared => {
                self.0.push(b's');
            }
            // All claims, because nobody promises that an outside issuer never uses an id twice.
            Caller::Token(TokenBearer { id, issuer, claims, methods: _, rows: _ }) => {
                self.0.push(b't');
                self.text(issuer.as_bytes());
                self.number(usize::from(id.is_some()));
                self.text(id.as_deref().unwrap_or_default().as_bytes());
                serde_json::to_writer(&mut self.0, &**claims).expect("JSON is written to memory");
            }
            Caller::Key(KeyHolder { id, attributes: _, methods: _, rows: _ }) => {
                self.0.push(b'k');
                self.text(id.as_bytes());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn written(write: impl FnOnce(&mut KeyText)) -> Vec<u8> {
        let mut key = KeyText(Vec::new());
        write(&mut key);
        key.0
    }

    #[test]
    fn only_named_fields_of_a_query_count_and_their_order_does_not() {
        let names = ["b", "a", "ü"].map(str::to_owned);
        let query = |text: &str| written(|key| key.query(&names, text));
        let reference = query("a=1&b=2&b=3");
        for same in ["b=2&a=1&b=3", "x=9&b=2&b=3&a=1&&=", "%61=1&b=2&b=%33", "a=1&b=2&b=3&B=4"] {
            assert_eq!(query(same), reference, "{same}");
        }
        for other in ["", "a=1&b=3&b=2", "a=1&b=2", "a=1&b=2&b=3&b=", "a=1&a=2&b=3", "a=1b=2&b=3", "a=1&b=2&b=3&%c3%bc"]
        {
            assert_ne!(query(other), reference, "{other}");
        }
    }

    #[test]
    fn repeated_and_missing_fields_are_told_apart() {
        let fields = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append("accept", value.parse().unwrap());
            }
            written(|key| key.fields(&headers, &header::ACCEPT))
        };
        let lists: [&[&str]; 5] = [&[], &[""], &["a", "b"], &["a, b"], &["b", "a"]];
        for (index, one) in lists.iter().enumerate() {
            for other in &lists[index + 1..] {
                assert_ne!(fields(one), fields(other), "{one:?} {other:?}");
            }
        }
    }

    #[test]
    fn callers_share_where_they_may_and_nowhere_else() {
        let token = |id: Option<&str>, issuer: &str, claims: serde_json::Value, is_restricted: bool| {
            Caller::Token(TokenBearer {
                id: id.map(Into::into),
                issuer: issuer.into(),
                claims: Arc::new(claims.as_object().cloned().unwrap()),
                methods: None,
                rows: is_restricted.then(Arc::default),
            })
        };
        let key = |id: &str, is_restricted: bool| {
            let rows = is_restricted.then(Arc::default);
            Caller::Key(KeyHolder { id: id.into(), attributes: Arc::default(), methods: None, rows })
        };
        let callers = [
            (Caller::Public, false),
            (token(Some("1"), "pqhost", json!({"jti": "1"}), false), true),
            (token(Some("2"), "pqhost", json!({"jti": "2"}), false), true),
            (token(Some("1"), "outside", json!({"jti": "1"}), false), true),
            (token(Some("1"), "outside", json!({"jti": "1", "sub": "ann"}), false), true),
            (token(None, "outside", json!({"sub": "ann"}), false), true),
            (token(None, "outside", json!({"sub": "bob"}), false), true),
            (token(Some(""), "outside", json!({"sub": "bob"}), false), true),
            (token(Some("3"), "pqhost", json!({"jti": "3"}), true), false),
            (key("1", false), true),
            (key("2", false), true),
            (key("3", true), false),
            (key("4", true), false),
        ];
        for (index, (one, one_shares)) in callers.iter().enumerate() {
            for (other, other_shares) in &callers[index + 1..] {
                for shared in [false, true] {
                    let [one_key, other_key] = [one, other].map(|caller| written(|key| key.caller(caller, shared)));
                    let share = shared && *one_shares && *other_shares;
                    assert_eq!(one_key == other_key, share, "{one:?} {other:?} {shared}");
                }
            }
        }
    }
}
