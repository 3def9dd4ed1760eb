//! A whole host, driven over HTTP.
#![expect(clippy::unwrap_used, clippy::panic, reason = "clippy knows test functions, but not their helpers")]

mod authoring;
mod bad_data;
mod bad_input;
mod commands;
mod contract;
mod control;
mod control_database;
mod crypto;
mod custom_auth;
mod data;
mod deploy;
mod egress;
mod fidelity;
mod freshness;
mod http;
mod packages;
mod program;
mod restart;
mod sdk;
mod secrets;
mod server;
mod state;
mod stdlib;
mod stubs;
mod support;
mod tokens;
mod transfer;
mod upstream;
mod writes;
