//! The host's side of the WIT imports, one file per interface that has capabilities behind it.
//!
//! Owns: conversion between WIT and domain types, and checking what a guest passes. Never: does the work behind a
//! capability.

mod crypto;
mod http;
mod secrets;
mod sql;
mod state;
mod tenant;

use crate::sandbox::{
    bindings::pq::host::{context, log, tracing, types},
    state::SlotState,
};

impl types::Host for SlotState {}

impl log::Host for SlotState {
    fn write(&mut self, _source: log::Source, text: String) -> wasmtime::Result<()> {
        self.log.append(&text);
        Ok(())
    }
}

impl tracing::Host for SlotState {
    fn at(&mut self, file: String, line: u32) -> wasmtime::Result<()> {
        self.note_observations();
        self.line = Some((file, line));
        Ok(())
    }
}

impl context::Host for SlotState {
    fn describe(&mut self) -> wasmtime::Result<context::Info> {
        let info = self.granted()?.describe();
        let (id, name) = info.default_connection.unzip();
        Ok(context::Info {
            tenant: info.tenant.to_string(),
            script_id: info.script_id.0,
            script_name: info.script_name.to_string(),
            default_connection: name,
            default_connection_id: id.map(|id| id.0),
        })
    }
}
