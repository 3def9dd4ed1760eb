//! Every column type through its whole round: a value is inserted, fetched, found by what was fetched, paged through, and changed by.

mod faults;
mod harness;
mod mysql;
mod postgres;
mod sqlite;
mod values;
mod wrong;

use harness::{Ability, Case, check};
use values::{Given, big, bytes, dec, double, int, json, list, null, text, truth};

use super::*;

/// A type that can be a primary key.
fn key(r#type: &str, values: Vec<Given>) -> Case {
    Case { r#type: r#type.to_owned(), values, ability: Ability::Key("k") }
}

/// A type that can be a primary key, but has no order.
fn unordered_key(r#type: &str, values: Vec<Given>) -> Case {
    Case { ability: Ability::UnorderedKey, ..key(r#type, values) }
}

/// A type that has an order, but is not tried as a primary key.
fn ordered(r#type: &str, values: Vec<Given>) -> Case {
    Case { ability: Ability::Ordered, ..key(r#type, values) }
}

/// A type whose values can be told apart, but have no order.
fn compared(r#type: &str, values: Vec<Given>) -> Case {
    Case { ability: Ability::Compared, ..key(r#type, values) }
}

/// A type whose values cannot be compared.
fn opaque(r#type: &str, values: Vec<Given>) -> Case {
    Case { ability: Ability::Opaque, ..key(r#type, values) }
}
