//! What a store of ours holds.
//!
//! Owns: the invocation's log, the memory limit, and noticing what module-level code observes. Never: what guests import
//! (see `host`).

use std::{
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU64, Ordering},
    },
    time::Duration,
};

use wasmtime::{ResourceLimiter, Trap, component::ResourceTable};
use wasmtime_wasi::{
    HostMonotonicClock, HostWallClock, Rng, WasiCtx, WasiCtxView, WasiView,
    clocks::{MonotonicClock, WallClock},
    p2::{DynInputStream, DynOutputStream, DynPollable},
};

use crate::sandbox::capabilities::Capabilities;

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

struct WitnessedWallClock {
    clock: WallClock,
    witness: Arc<Witness>,
}

impl HostWallClock for WitnessedWallClock {
    fn resolution(&self) -> Duration {
        self.clock.resolution()
    }

    fn now(&self) -> Duration {
        self.witness.saw(Witness::CLOCK);
        self.clock.now()
    }
}

/// A clock that starts in each invocation, so that it does not tell how old its slot is.
struct InvocationClock {
    clock: Arc<MonotonicClock>,
    begun_ns: Arc<AtomicU64>,
    witness: Arc<Witness>,
}

impl HostMonotonicClock for InvocationClock {
    fn resolution(&self) -> u64 {
        self.clock.resolution()
    }

    fn now(&self) -> u64 {
        self.witness.saw(Witness::CLOCK);
        self.clock.now().saturating_sub(self.begun_ns.load(Ordering::Relaxed))
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

    pub(super) fn append(&mut self, text: &str) {
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
    /// Whether the guest has held more than one resource at once. Wasmtime's table of its handles then remembers in which
    /// order they were given back, and the next call would see that in the numbers of its own handles.
    pub(crate) held_several: bool,
    clock: Arc<MonotonicClock>,
    /// When the invocation began, by that clock.
    begun_ns: Arc<AtomicU64>,
    pub(crate) memory: MemoryLimit,
    witness: Arc<Witness>,
    /// Absent while module-level code is loaded for an image.
    pub(crate) capabilities: Option<Box<dyn Capabilities>>,
    pub(crate) log: Log,
    /// Fuel that the host may still use for what the guest has it compute: as much again as the guest's own.
    pub(super) host_fuel: u64,
    /// The author's line that is being run, while a load is explained.
    pub(super) line: Option<(String, u32)>,
    /// What was observed first, and where.
    pub(crate) observed: Option<(Observation, Option<(String, u32)>)>,
}

impl SlotState {
    pub(crate) fn new() -> Self {
        let witness = Arc::new(Witness::default());
        let mut table = ResourceTable::new();
        table.set_max_capacity(RESOURCES_MAX);
        let (clock, begun_ns) = (Arc::new(MonotonicClock::new()), Arc::new(AtomicU64::new(0)));
        let of_invocation = InvocationClock {
            clock: Arc::clone(&clock),
            begun_ns: Arc::clone(&begun_ns),
            witness: Arc::clone(&witness),
        };
        let wasi = WasiCtx::builder()
            .allow_tcp(false)
            .allow_udp(false)
            .allow_ip_name_lookup(false)
            .max_random_size(RANDOM_BYTES_MAX)
            .wall_clock(WitnessedWallClock { clock: WallClock::new(), witness: Arc::clone(&witness) })
            .monotonic_clock(of_invocation)
            .secure_random(WitnessedRandom { source: wasmtime_wasi::thread_rng(), witness: Arc::clone(&witness) })
            .insecure_random(WitnessedRandom { source: wasmtime_wasi::thread_rng(), witness: Arc::clone(&witness) })
            .build();
        Self {
            wasi,
            table,
            held_several: false,
            clock,
            begun_ns,
            memory: MemoryLimit { bytes_max: usize::MAX, refused_bytes: None, table_elements: 0 },
            witness,
            capabilities: None,
            log: Log::default(),
            host_fuel: 0,
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
        host_fuel: u64,
    ) {
        self.begun_ns.store(self.clock.now(), Ordering::Relaxed);
        self.capabilities = capabilities;
        self.memory.bytes_max = memory_bytes_max;
        self.memory.refused_bytes = None;
        self.log = Log::new(log_bytes);
        self.host_fuel = host_fuel;
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

    /// Remembers that the guest is about to see random numbers of the host.
    pub(super) fn saw_random(&self) {
        self.witness.saw(Witness::RANDOM);
    }

    /// Pays for what the host is about to compute.
    ///
    /// # Errors
    /// As when the guest itself runs out of fuel.
    pub(super) fn charge(&mut self, fuel: u64) -> wasmtime::Result<()> {
        match self.host_fuel.checked_sub(fuel) {
            Some(left) => {
                self.host_fuel = left;
                Ok(())
            }
            None => Err(Trap::OutOfFuel.into()),
        }
    }

    /// The invocation's capabilities; while an image is being made there are none, and the load ends here.
    pub(super) fn granted(&mut self) -> wasmtime::Result<&mut dyn Capabilities> {
        if self.capabilities.is_none() {
            self.observed.get_or_insert((Observation::Host, self.line.take()));
        }
        match &mut self.capabilities {
            Some(capabilities) => Ok(&mut **capabilities),
            None => Err(wasmtime::Error::msg("module-level code called the host")),
        }
    }
}

impl WasiView for SlotState {
    /// Called in each call of a WASI function, so before and after a resource comes or goes.
    fn ctx(&mut self) -> WasiCtxView<'_> {
        self.held_several |= has_several_handles(&mut self.table);
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

/// Whether a guest has more than one handle to what is in the table. Where there is no stream to wait for, a pollable is a
/// timer's, which has an entry of its own beside it.
fn has_several_handles(table: &mut ResourceTable) -> bool {
    let (mut n_entries, mut n_timers, mut has_stream) = (0, 0, false);
    for entry in table.iter_mut() {
        n_entries += 1;
        n_timers += usize::from(entry.is::<DynPollable>());
        has_stream |= entry.is::<DynInputStream>() || entry.is::<DynOutputStream>();
    }
    n_entries > 1 && (has_stream || n_entries - n_timers > 1)
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
}
