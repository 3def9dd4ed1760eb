//! A whole host, driven over HTTP.
#![expect(clippy::unwrap_used, clippy::panic, reason = "clippy knows test functions, but not their helpers")]

mod bad_input;
mod contract;
mod data;
mod freshness;
mod http;
mod support;
mod writes;
