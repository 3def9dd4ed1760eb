//! What a store of ours holds, and the host's side of the WIT imports.
//!
//! Owns: conversion between WIT and domain types, the invocation's log, the memory limit, and noticing what module-level
//! code observes. Never: does the work behind a capability.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use serde_json::Value;
use wasmtime::{ResourceLimiter, component::ResourceTable};
use wasmtime_wasi::{
    HostMonotonicClock, HostWallClock, Rng, WasiCtx, WasiCtxView, WasiView,
    clocks::{MonotonicClock, WallClock},
};

use crate::{
    domain::sql::{ColumnKind, Params, Select, SqlError, SqlErrorCode},
    sandbox::{
        bindings::pq::host::{context, log, sql, tracing, types},
        capabilities::{Capabilities, CursorId},
    },
};

/// Most elements that all tables of an instance may have together; the Python runtime has 5,800.
const TABLE_ELEMENTS_MAX: usize = 20_000;

/// Most WASI resources a script can hold; it needs none.
const RESOURCES_MAX: usize = 64;

/// Most random bytes in one call.
const RANDOM_BYTES_MAX: u64 = 1 << 20;

/// What module-level code saw of the world. An image must not freeze any of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Observation {
    /// A clock.
    Clock,
    /// Random bytes.
    Random,
    /// The host: a database or facts about the script.
    Host,
}

impl std::fmt::Display for Observation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Clock => "reads the clock",
            Self::Random => "uses random numbers",
            Self::Host => "calls the host through `pq`",
        })
    }
}

/// Remembers observations; shared with the clocks and the random source of the store.
#[derive(Debug, Default)]
struct Witness(AtomicU8);

impl Witness {
    const CLOCK: u8 = 1;
    const RANDOM: u8 = 2;

    fn saw(&self, what: u8) {
        self.0.fetch_or(what, Ordering::Relaxed);
    }

    fn take(&self) -> Option<Observation> {
        match self.0.swap(0, Ordering::Relaxed) {
            0 => None,
            seen if seen & Self::RANDOM != 0 => Some(Observation::Random),
            _ => Some(Observation::Clock),
        }
    }
}

struct WitnessedClock<C> {
    clock: C,
    witness: Arc<Witness>,
}

impl<C: HostWallClock> HostWallClock for WitnessedClock<C> {
    fn resolution(&self) -> Duration {
        self.clock.resolution()
    }

    fn now(&self) -> Duration {
        self.witness.saw(Witness::CLOCK);
        self.clock.now()
    }
}

impl<C: HostMonotonicClock> HostMonotonicClock for WitnessedClock<C> {
    fn resolution(&self) -> u64 {
        self.clock.resolution()
    }

    fn now(&self) -> u64 {
        self.witness.saw(Witness::CLOCK);
        self.clock.now()
    }
}

struct WitnessedRandom {
    source: Box<dyn Rng + Send>,
    witness: Arc<Witness>,
}

impl rand_core::TryRng for WitnessedRandom {
    type Error = std::convert::Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
        self.witness.saw(Witness::RANDOM);
        Ok(self.source.next_u32())
    }

    fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
        self.witness.saw(Witness::RANDOM);
        Ok(self.source.next_u64())
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Self::Error> {
        self.witness.saw(Witness::RANDOM);
        self.source.fill_bytes(bytes);
        Ok(())
    }
}

/// Text that a script printed, up to a limit.
#[derive(Debug, Default)]
pub struct Log {
    /// What is kept. Ends in a whole character.
    pub text: String,
    /// Bytes that were printed beyond the limit.
    pub dropped_bytes: u64,
    bytes_max: usize,
}

impl Log {
    fn new(bytes_max: u64) -> Self {
        Self { bytes_max: usize::try_from(bytes_max).unwrap_or(usize::MAX), ..Self::default() }
    }

    fn append(&mut self, text: &str) {
        let room = self.bytes_max.saturating_sub(self.text.len());
        let kept = text.floor_char_boundary(room);
        // Once something is dropped, what follows is too: a log with a hole in it would mislead.
        let kept = if self.dropped_bytes > 0 { 0 } else { kept };
        self.text.push_str(&text[..kept]);
        self.dropped_bytes += (text.len() - kept) as u64;
    }
}

/// Refuses memory beyond the limit and remembers that it did.
#[derive(Debug)]
pub(crate) struct MemoryLimit {
    /// Size that the linear memory may have.
    pub(crate) bytes_max: usize,
    /// A size that was asked for and refused.
    pub(crate) refused_bytes: Option<usize>,
    table_elements: usize,
}

impl ResourceLimiter for MemoryLimit {
    fn memory_growing(&mut self, _current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        if desired > self.bytes_max {
            self.refused_bytes = Some(desired);
        }
        Ok(desired <= self.bytes_max)
    }

    fn table_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        self.table_elements += desired.saturating_sub(current);
        Ok(self.table_elements <= TABLE_ELEMENTS_MAX)
    }
}

/// The data of a slot's store.
pub(crate) struct SlotState {
    wasi: WasiCtx,
    pub(crate) table: ResourceTable,
    pub(crate) memory: MemoryLimit,
    witness: Arc<Witness>,
    /// Absent while module-level code is loaded for an image.
    pub(crate) capabilities: Option<Box<dyn Capabilities>>,
    pub(crate) log: Log,
    /// The author's line that is being run, while a load is explained.
    line: Option<(String, u32)>,
    /// What was observed first, and where.
    pub(crate) observed: Option<(Observation, Option<(String, u32)>)>,
}

impl SlotState {
    pub(crate) fn new() -> Self {
        let witness = Arc::new(Witness::default());
        let mut table = ResourceTable::new();
        table.set_max_capacity(RESOURCES_MAX);
        let wasi = WasiCtx::builder()
            .allow_tcp(false)
            .allow_udp(false)
            .allow_ip_name_lookup(false)
            .max_random_size(RANDOM_BYTES_MAX)
            .wall_clock(WitnessedClock { clock: WallClock::new(), witness: Arc::clone(&witness) })
            .monotonic_clock(WitnessedClock { clock: MonotonicClock::new(), witness: Arc::clone(&witness) })
            .secure_random(WitnessedRandom { source: wasmtime_wasi::thread_rng(), witness: Arc::clone(&witness) })
            .insecure_random(WitnessedRandom { source: wasmtime_wasi::thread_rng(), witness: Arc::clone(&witness) })
            .build();
        Self {
            wasi,
            table,
            memory: MemoryLimit { bytes_max: usize::MAX, refused_bytes: None, table_elements: 0 },
            witness,
            capabilities: None,
            log: Log::default(),
            line: None,
            observed: None,
        }
    }

    /// Forgets the last call and prepares the next.
    pub(crate) fn begin(
        &mut self,
        capabilities: Option<Box<dyn Capabilities>>,
        memory_bytes_max: usize,
        log_bytes: u64,
    ) {
        self.capabilities = capabilities;
        self.memory.bytes_max = memory_bytes_max;
        self.memory.refused_bytes = None;
        self.log = Log::new(log_bytes);
        self.line = None;
        self.observed = None;
        self.witness.take();
    }

    /// Attributes what clocks and random sources have seen to the line that was running.
    pub(crate) fn note_observations(&mut self) {
        if let Some(what) = self.witness.take() {
            self.observed.get_or_insert((what, self.line.take()));
        }
    }

    /// The invocation's capabilities; while an image is being made there are none, and the load ends here.
    fn granted(&mut self) -> wasmtime::Result<&mut Box<dyn Capabilities>> {
        if self.capabilities.is_none() {
            self.observed.get_or_insert((Observation::Host, self.line.take()));
        }
        self.capabilities.as_mut().ok_or_else(|| wasmtime::Error::msg("module-level code called the host"))
    }
}

impl WasiView for SlotState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
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

impl sql::Host for SlotState {
    async fn fetch(
        &mut self,
        connection: String,
        select: sql::Select,
    ) -> wasmtime::Result<Result<sql::Opened, sql::Error>> {
        let select = match select_from_guest(select) {
            Ok(select) => select,
            Err(error) => return Ok(Err(error.into())),
        };
        let opened = self.granted()?.fetch(&connection, select).await;
        Ok(opened.map_err(sql::Error::from).map(|opened| sql::Opened {
            cursor: opened.cursor.0,
            columns: opened.columns.into_iter().map(|c| sql::Column { name: c.name, kind: c.kind.into() }).collect(),
        }))
    }

    async fn next(&mut self, cursor: u32) -> wasmtime::Result<Result<Vec<u8>, sql::Error>> {
        let batch = self.granted()?.next(CursorId(cursor)).await;
        Ok(batch.map(|batch| batch.map(Vec::from).unwrap_or_default()).map_err(sql::Error::from))
    }

    fn close(&mut self, cursor: u32) -> wasmtime::Result<()> {
        self.granted()?.close(CursorId(cursor));
        Ok(())
    }
}

/// Checks what a guest asks for. Identifiers and values are `data`'s to judge.
fn select_from_guest(select: sql::Select) -> Result<Select, SqlError> {
    let invalid = |what: &str| SqlError::new(SqlErrorCode::InvalidArgument, what);
    let sql::Select { database, schema, table, query, params, where_, order_by, limit, offset, decimals } = select;
    if table.is_some() == query.is_some() {
        return Err(invalid("give either a table name or `query`, and not both"));
    }
    let params = match serde_json::from_str(&params) {
        Ok(Value::Null) => Params::None,
        Ok(Value::Array(values)) => Params::Positional(values),
        Ok(Value::Object(values)) => Params::Named(values),
        _ => return Err(invalid("`params` must be a list or a dict of values that JSON can express")),
    };
    let filter = match serde_json::from_str(&where_) {
        Ok(Value::Null) => serde_json::Map::new(),
        Ok(Value::Object(filter)) => filter,
        _ => return Err(invalid("`where` must be a dict of column to value that JSON can express")),
    };
    Ok(Select { database, schema, table, query, params, filter, order_by, limit, offset, decimals })
}

impl From<ColumnKind> for sql::ColumnKind {
    fn from(kind: ColumnKind) -> Self {
        match kind {
            ColumnKind::Plain => Self::Plain,
            ColumnKind::Decimal => Self::Decimal,
            ColumnKind::Date => Self::Date,
            ColumnKind::Time => Self::Time,
            ColumnKind::Timestamp => Self::Timestamp,
            ColumnKind::TimestampTz => Self::TimestampTz,
        }
    }
}

impl From<SqlError> for sql::Error {
    fn from(error: SqlError) -> Self {
        let code = match error.code {
            SqlErrorCode::UnknownConnection => sql::ErrorCode::UnknownConnection,
            SqlErrorCode::UnknownDatabase => sql::ErrorCode::UnknownDatabase,
            SqlErrorCode::UnknownSchema => sql::ErrorCode::UnknownSchema,
            SqlErrorCode::UnknownTable => sql::ErrorCode::UnknownTable,
            SqlErrorCode::UnknownColumn => sql::ErrorCode::UnknownColumn,
            SqlErrorCode::InvalidArgument => sql::ErrorCode::InvalidArgument,
            SqlErrorCode::StatementFailed => sql::ErrorCode::StatementFailed,
            SqlErrorCode::NotAllowed => sql::ErrorCode::NotAllowed,
            SqlErrorCode::UnsupportedType => sql::ErrorCode::UnsupportedType,
            SqlErrorCode::StatementTimeout => sql::ErrorCode::StatementTimeout,
            SqlErrorCode::ResultTooLarge => sql::ErrorCode::ResultTooLarge,
            SqlErrorCode::TooManyStatements => sql::ErrorCode::TooManyStatements,
            SqlErrorCode::Unavailable => sql::ErrorCode::Unavailable,
        };
        Self { code, message: error.message }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_keeps_whole_characters_up_to_its_limit_and_counts_the_rest() {
        let mut log = Log::new(5);
        for text in ["abc", "éé", "x"] {
            log.append(text);
        }
        assert_eq!((log.text.as_str(), log.dropped_bytes), ("abcé", 3));
    }

    #[test]
    fn a_select_is_a_table_or_a_query_with_json_arguments() {
        let select = |table: Option<&str>, query: Option<&str>, params: &str, filter: &str| {
            select_from_guest(sql::Select {
                database: String::new(),
                schema: None,
                table: table.map(str::to_owned),
                query: query.map(str::to_owned),
                params: params.to_owned(),
                where_: filter.to_owned(),
                order_by: Vec::new(),
                limit: None,
                offset: None,
                decimals: false,
            })
        };
        assert!(select(Some("t"), None, "null", r#"{"a": 1}"#).is_ok());
        assert_eq!(select(None, Some("q"), "[1]", "null").unwrap().params, Params::Positional(vec![Value::from(1)]));
        for (table, query, params, filter) in [
            (None, None, "null", "null"),
            (Some("t"), Some("q"), "null", "null"),
            (None, Some("q"), "1", "null"),
            (None, Some("q"), "[", "null"),
            (Some("t"), None, "null", "[]"),
        ] {
            assert_eq!(select(table, query, params, filter).unwrap_err().code, SqlErrorCode::InvalidArgument);
        }
    }
}
