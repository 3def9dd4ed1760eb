//! The functions of `wit/` for a caller outside of any sandbox: by name, with JSON in place of WIT values.
//!
//! A record is an object, a case of an enum its name in `PascalCase`, `list<u8>` base64, and `option` may be null or left out. The
//! conversions and checks behind a function are those that guests meet. `log` and `crypto` are missing: outside of a sandbox
//! there are a terminal and libraries.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde::{Deserialize, Deserializer, Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::sandbox::{
    bindings::pq::host::{context, http, secrets, sql, state, tenant},
    capabilities::Capabilities,
    host::Granted,
};

/// A call of one function.
#[derive(Debug)]
pub struct Call {
    /// For example `sql`.
    pub interface: String,
    /// For example `list_databases`.
    pub function: String,
    /// In the order of `wit/`.
    pub arguments: Vec<Value>,
}

/// What a function answers: its value, or the error that its script would see.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// A value.
    Ok(Value),
    /// A record of `code` and `message`, or a sentence, as `wit/` says.
    Err(Value),
}

/// A call that reaches no function. Both messages are for the caller.
#[derive(Debug, thiserror::Error)]
pub enum OutsideError {
    /// There is no such function.
    #[error("there is no function `{0}`")]
    UnknownFunction(String),
    /// The arguments are not those of the function.
    #[error("the arguments of `{function}`: {problem}")]
    InvalidArguments {
        /// Which function.
        function: String,
        /// What is wrong.
        problem: String,
    },
    /// A value cannot be converted: a bug of ours.
    #[error("the host failed: {0}")]
    Host(String),
}

/// Calls a function.
///
/// # Errors
/// If there is no such function, or it takes other arguments.
pub async fn call(capabilities: &mut dyn Capabilities, call: Call) -> Result<Reply, OutsideError> {
    let Call { interface, function, arguments } = call;
    let shown = |text: &str| text.chars().take(40).flat_map(char::escape_debug).collect::<String>();
    let name = format!("{}.{}", shown(&interface), shown(&function));
    let host = &mut Granted::Outside(capabilities);
    match (interface.as_str(), function.as_str()) {
        ("http", _) => return call_http(host, name, &function, arguments).await,
        ("sql", "fetch" | "change" | "write") => return call_sql(host, name, &function, arguments).await,
        _ => {}
    }

    macro_rules! functions {
        ($($interface:ident.$function:ident($($argument:ident),*) $(.$wait:tt)? => $answer:ident;)*) => {
            match (interface.as_str(), function.as_str()) {
                $((stringify!($interface), stringify!($function)) => {
                    let [$($argument),*] = exactly(&name, arguments)?;
                    $(let $argument = parsed(&name, stringify!($argument), $argument)?;)*
                    let outcome = $interface::Host::$function(host, $($argument),*) $(.$wait)?;
                    $answer(outcome.map_err(broken)?)
                })*
                _ => Err(OutsideError::UnknownFunction(name)),
            }
        };
    }
    functions! {
        sql.next(cursor).await => fallible_bytes;
        sql.close(cursor) => infallible;
        sql.create_schema(place, database, schema).await => fallible;
        sql.create_table(place, table, fields, key).await => fallible;
        sql.describe(place, table).await => fallible;
        sql.list_databases(connection).await => fallible;
        sql.begin(connection).await => fallible;
        sql.commit(transaction).await => fallible;
        sql.rollback(transaction).await => infallible;
        state.get(script_id).await => fallible;
        state.set(script_id, value).await => fallible;
        state.compare_and_set(revision, value).await => fallible;
        secrets.get(name).await => fallible;
        tenant.list_connections().await => fallible;
        tenant.list_scripts().await => fallible;
        context.describe() => infallible;
    }
}

/// A function each of whose records has a field of bytes.
async fn call_http(
    host: &mut Granted<'_>,
    name: String,
    function: &str,
    arguments: Vec<Value>,
) -> Result<Reply, OutsideError> {
    let answer = match function {
        "send" => {
            let [request] = exactly(&name, arguments)?;
            let Request(request) = parsed(&name, "request", request)?;
            http::Host::send(host, request).await
        }
        "call" => {
            let [connection, request] = exactly(&name, arguments)?;
            let Request(request) = parsed(&name, "request", request)?;
            http::Host::call(host, parsed(&name, "connection", connection)?, request).await
        }
        _ => return Err(OutsideError::UnknownFunction(name)),
    };
    fallible(answer.map_err(broken)?.map(|http::Response { status, reason, headers, body }| {
        json!({ "status": status, "reason": reason, "headers": headers, "body": BASE64_STANDARD.encode(body) })
    }))
}

/// A function that is passed values, which are bytes.
async fn call_sql(
    host: &mut Granted<'_>,
    name: String,
    function: &str,
    arguments: Vec<Value>,
) -> Result<Reply, OutsideError> {
    match function {
        "fetch" => {
            let [place, select] = exactly(&name, arguments)?;
            let (place, Select(select)) = (parsed(&name, "place", place)?, parsed(&name, "select", select)?);
            fallible(sql::Host::fetch(host, place, select).await.map_err(broken)?)
        }
        "change" => {
            let [place, table, action, key, rows] = exactly(&name, arguments)?;
            let (place, table) = (parsed(&name, "place", place)?, parsed(&name, "table", table)?);
            let (action, Bytes(key)) = (parsed(&name, "action", action)?, parsed(&name, "key", key)?);
            let Bytes(rows) = parsed(&name, "rows", rows)?;
            fallible_bytes(sql::Host::change(host, place, table, action, key, rows).await.map_err(broken)?)
        }
        _ => {
            let [place, table, records, types, key] = exactly(&name, arguments)?;
            let (place, table) = (parsed(&name, "place", place)?, parsed(&name, "table", table)?);
            let (Bytes(records), types) = (parsed(&name, "records", records)?, parsed(&name, "types", types)?);
            let key = parsed(&name, "key", key)?;
            fallible(sql::Host::write(host, place, table, records, types, key).await.map_err(broken)?)
        }
    }
}

fn exactly<const N: usize>(function: &str, arguments: Vec<Value>) -> Result<[Value; N], OutsideError> {
    arguments.try_into().map_err(|given: Vec<Value>| OutsideError::InvalidArguments {
        function: function.to_owned(),
        problem: format!("it takes {N}, not {}", given.len()),
    })
}

fn parsed<T: DeserializeOwned>(function: &str, argument: &str, value: Value) -> Result<T, OutsideError> {
    serde_json::from_value(value).map_err(|error| OutsideError::InvalidArguments {
        function: function.to_owned(),
        problem: format!("`{argument}`: {error}"),
    })
}

/// Bytes, which are base64.
#[derive(Deserialize)]
struct Bytes(#[serde(deserialize_with = "from_base64")] Vec<u8>);

/// `sql.select`, whose values are base64.
#[derive(Deserialize)]
struct Select(#[serde(with = "SelectFields")] sql::Select);

#[derive(Deserialize)]
#[serde(remote = "sql::Select")]
struct SelectFields {
    database: String,
    schema: Option<String>,
    table: Option<String>,
    query: Option<String>,
    #[serde(deserialize_with = "from_base64")]
    params: Vec<u8>,
    #[serde(deserialize_with = "from_base64")]
    filter: Vec<u8>,
    order_by: Vec<String>,
    limit: Option<u64>,
    offset: Option<u64>,
    decimals: bool,
    lists: bool,
    stream: bool,
}

/// `http.request`, whose body is base64.
#[derive(Deserialize)]
struct Request(#[serde(with = "RequestFields")] http::Request);

#[derive(Deserialize)]
#[serde(remote = "http::Request")]
struct RequestFields {
    method: String,
    url: String,
    headers: Vec<(String, String)>,
    #[serde(deserialize_with = "from_base64")]
    body: Vec<u8>,
    connect_timeout_ms: Option<u32>,
    read_timeout_ms: Option<u32>,
}

fn from_base64<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    let text = String::deserialize(deserializer)?;
    BASE64_STANDARD.decode(text).map_err(|_| serde::de::Error::custom("this is not base64"))
}

fn broken(error: impl std::fmt::Display) -> OutsideError {
    OutsideError::Host(error.to_string())
}

fn infallible(value: impl Serialize) -> Result<Reply, OutsideError> {
    serde_json::to_value(value).map(Reply::Ok).map_err(broken)
}

fn fallible<T: Serialize, E: Serialize>(outcome: Result<T, E>) -> Result<Reply, OutsideError> {
    match outcome {
        Ok(value) => infallible(value),
        Err(error) => serde_json::to_value(error).map(Reply::Err).map_err(broken),
    }
}

fn fallible_bytes<E: Serialize>(outcome: Result<Vec<u8>, E>) -> Result<Reply, OutsideError> {
    fallible(outcome.map(|bytes| BASE64_STANDARD.encode(bytes)))
}
