//! Values of ours as text columns hold them.

use serde::{Serialize, de::DeserializeOwned};

use crate::db::DbError;

pub(super) fn to_json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("names, numbers and JSON values are always written")
}

/// Back from [`to_json`]; `what` names it in errors.
pub(super) fn from_json<T: DeserializeOwned>(what: &'static str, text: &str) -> Result<T, DbError> {
    serde_json::from_str(text).map_err(|error| DbError::corrupt(what, error))
}
