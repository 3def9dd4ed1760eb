//! A whole host, driven over HTTP.

mod bad_input;
mod contract;
mod data;
mod freshness;
mod http;
mod support;
