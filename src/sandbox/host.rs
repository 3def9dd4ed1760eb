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

use wasmtime::component::HasData;

use crate::sandbox::{
    bindings::pq::host::{context, log, tracing, types},
    capabilities::Capabilities,
    state::SlotState,
};

/// Who asks for capabilities.
pub(super) enum Granted<'a> {
    /// A guest.
    Guest(&'a mut SlotState),
    /// A caller outside of any sandbox.
    Outside(&'a mut dyn Capabilities),
}

impl Granted<'_> {
    fn granted(&mut self) -> wasmtime::Result<&mut dyn Capabilities> {
        match self {
            Self::Guest(slot) => slot.granted(),
            Self::Outside(capabilities) => Ok(&mut **capabilities),
        }
    }
}

/// Tells linkers of [`Granted`].
pub(super) struct ToGuest;

impl HasData for ToGuest {
    type Data<'a> = Granted<'a>;
}

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

impl context::Host for Granted<'_> {
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
