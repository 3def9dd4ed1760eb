//! A whole host, driven over HTTP.
#![expect(clippy::unwrap_used, clippy::panic, reason = "clippy knows test functions, but not their helpers")]

mod bad_input;
mod contract;
mod crypto;
mod data;
mod egress;
mod freshness;
mod http;
mod program;
mod server;
mod support;
mod upstream;
