//! A slot: one live instance of the runtime, which serves one tenant for life.
//!
//! Owns: calling into the guest, telling apart how a call ends, and when a slot may serve again. Never: chooses slots (see
//! `pool`), waits for time limits (see `invoke`).

use std::sync::Arc;

use wasmtime::{Trap, component::TypedFunc};
use wasmtime_wasi::I32Exit;

use crate::{
    domain::{
        exchange::{HandlerBody, HandlerRequest, HandlerResponse},
        limits::{HEADROOM_BYTES, Limits},
        script::SourceFile,
    },
    sandbox::{
        bindings::{ScriptRuntime, SourceFile as GuestSourceFile, pq::host::types},
        capabilities::{Capabilities, CursorId},
        image::PageSet,
        memory::{MappedImage, RewindableStore, WithFaults},
        request,
        state::{Log, Observation, SlotState},
    },
};

/// Fuel after which a running guest lets other tasks of its thread run: about 1 ms.
pub(super) const FUEL_YIELD_INTERVAL: u64 = 5_000_000;

/// Fuel for the export that resets globals.
const RESET_FUEL: u64 = 1_000_000;

const _: () = assert!(FUEL_YIELD_INTERVAL > RESET_FUEL, "a reset never yields");

/// Longest text of a failure, in bytes: a runtime's own have up to 16,000 characters.
const FAILURE_TEXT_BYTES_MAX: usize = 256 << 10;

/// A failure of a script, told to its author.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScriptFailure {
    /// What kind.
    pub kind: FailureKind,
    /// For example `KeyError`.
    pub type_name: String,
    /// The exception's text.
    pub message: String,
    /// With the author's file names and lines.
    pub traceback: String,
    /// The author's innermost file and line.
    pub location: Option<(String, u32)>,
}

/// Kinds of [`ScriptFailure`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// An exception that nobody caught.
    Raised,
    /// The handler returned something that is no response.
    BadReturn,
    /// It asked to end the process.
    Exited,
    /// It needed more memory than it may have.
    OutOfMemory,
    /// Its source cannot be compiled.
    Syntax,
    /// It defines no callable `handler`.
    NoHandler,
}

/// How a call into a guest failed.
#[derive(Debug)]
pub enum CallError {
    /// The runtime is well and reports a failure of the script.
    Script(ScriptFailure),
    /// All fuel was used.
    OutOfFuel {
        /// The limit.
        limit: u64,
    },
    /// Memory was refused, and the guest could not go on.
    OutOfMemory {
        /// The limit, above the runtime's own memory.
        limit_bytes: u64,
    },
    /// The native stack was exhausted.
    StackOverflow,
    /// The guest ended the process.
    Exited,
    /// Any other trap: the guest broke its own runtime.
    Trapped(String),
    /// Module-level code called the host while an image was being made.
    ObservedHost,
}

/// What a call used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Fuel.
    pub fuel: u64,
}

/// One live instance.
pub(crate) struct Slot {
    store: RewindableStore<SlotState>,
    runtime: ScriptRuntime,
    reset: TypedFunc<(), ()>,
    /// False from the start of a call until it has ended well: a call that traps or is cancelled leaves it so.
    intact: bool,
    /// Page faults of calls since the last rewind.
    faults: u64,
}

impl std::fmt::Debug for Slot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Slot").field("mounted", self.mounted()).field("intact", &self.intact).finish_non_exhaustive()
    }
}

impl Slot {
    pub(crate) fn new(store: RewindableStore<SlotState>, runtime: ScriptRuntime, reset: TypedFunc<(), ()>) -> Self {
        // Whatever instantiation dirtied counts, too.
        Self { store, runtime, reset, intact: true, faults: 1 }
    }

    /// Shows another image.
    pub(crate) fn mount(&mut self, image: &Arc<MappedImage>) -> std::io::Result<()> {
        self.store.mount(Arc::clone(image))
    }

    /// The image that the slot shows.
    pub(crate) fn mounted(&self) -> &Arc<MappedImage> {
        self.store.mounted()
    }

    /// Prepares for one invocation, or for making an image if `capabilities` is absent.
    pub(crate) fn begin(
        &mut self,
        capabilities: Option<Box<dyn Capabilities>>,
        limits: &Limits,
    ) -> wasmtime::Result<()> {
        // The image already holds `HEADROOM_BYTES` of free memory; only what the limit allows beyond that is growth.
        let growth = usize::try_from(limits.memory_bytes.saturating_sub(HEADROOM_BYTES)).unwrap_or(usize::MAX);
        let memory_bytes_max = self.store.mounted().bytes().saturating_add(growth);
        let store = self.store.store();
        store.data_mut().begin(capabilities, memory_bytes_max, limits.log_bytes, limits.fuel);
        store.set_fuel(limits.fuel)
    }

    /// Runs module-level code. With `explain`, observations are attributed to lines.
    pub(crate) async fn load(&mut self, files: &[SourceFile], explain: bool, limits: &Limits) -> Result<(), CallError> {
        let files: Vec<_> = files
            .iter()
            .map(|file| GuestSourceFile { name: file.name.clone(), content: file.content.clone() })
            .collect();
        self.intact = false;
        let call = self.runtime.call_load(self.store.store(), &files, explain);
        let (outcome, faults) = WithFaults::new(std::pin::pin!(call)).await;
        self.faults += faults;
        self.store.store().data_mut().note_observations();
        self.finish(outcome, limits)
    }

    /// Runs the handler.
    pub(crate) async fn handle(
        &mut self,
        request: &HandlerRequest,
        limits: &Limits,
    ) -> Result<HandlerResponse<CursorId>, CallError> {
        self.intact = false;
        let incoming = request::to_marshal(request);
        let files: Vec<_> = request::first_of_each_field(&request.files).map(|file| file.content.to_vec()).collect();
        let call = self.runtime.call_handle(self.store.store(), &incoming, &request.body, &files);
        let (outcome, faults) = WithFaults::new(std::pin::pin!(call)).await;
        self.faults += faults;
        self.finish(outcome, limits).map(response_from_guest)
    }

    fn finish<R>(
        &mut self,
        outcome: wasmtime::Result<Result<R, types::ScriptError>>,
        limits: &Limits,
    ) -> Result<R, CallError> {
        match outcome {
            Ok(Ok(result)) => {
                self.intact = true;
                Ok(result)
            }
            Ok(Err(failure)) => {
                self.intact = true;
                Err(CallError::Script(failure.into()))
            }
            Err(error) => Err(self.classify(&error, limits)),
        }
    }

    fn classify(&mut self, error: &wasmtime::Error, limits: &Limits) -> CallError {
        let state = self.store.store().data();
        if error.downcast_ref::<I32Exit>().is_some() {
            return CallError::Exited;
        }
        if matches!(state.observed, Some((Observation::Host, _))) {
            return CallError::ObservedHost;
        }
        match error.downcast_ref::<Trap>() {
            Some(Trap::OutOfFuel) => CallError::OutOfFuel { limit: limits.fuel },
            Some(Trap::StackOverflow) => CallError::StackOverflow,
            _ if state.memory.refused_bytes.is_some() => CallError::OutOfMemory { limit_bytes: limits.memory_bytes },
            Some(trap) => CallError::Trapped(trap.to_string()),
            None => CallError::Trapped(error.root_cause().to_string()),
        }
    }

    /// What module-level code has observed since `begin`, with the line if the load was explained.
    pub(crate) fn observed(&mut self) -> Option<(Observation, Option<(String, u32)>)> {
        self.store.store().data().observed.clone()
    }

    /// What the script has printed since `begin`.
    pub(crate) fn take_log(&mut self) -> Log {
        std::mem::take(&mut self.store.store().data_mut().log)
    }

    /// What the last call used of `limits`.
    pub(crate) fn usage(&mut self, limits: &Limits) -> Usage {
        let store = self.store.store();
        let (left, host_left) = (store.get_fuel().unwrap_or(0), store.data().host_fuel);
        Usage { fuel: limits.fuel.saturating_sub(left) + limits.fuel.saturating_sub(host_left) }
    }

    /// The pages in which memory now differs from the mounted image; for making a script's image after `load`.
    ///
    /// `None` if the memory has grown: the script needs more at rest than images have room for.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub(crate) fn snapshot(&mut self) -> std::io::Result<Option<PageSet>> {
        if self.store.has_grown() { Ok(None) } else { self.store.snapshot().map(Some) }
    }

    /// Makes the slot as it was when its image was mounted. Returns the number of pages that were private.
    ///
    /// # Errors
    /// With the reason why this slot cannot serve again. It must then be dropped.
    pub(crate) async fn rewind(&mut self) -> Result<usize, NotReusable> {
        if !self.intact {
            return Err(NotReusable::Interrupted);
        }
        if self.store.has_grown() {
            return Err(NotReusable::Grown);
        }
        let store = self.store.store();
        if !store.data().table.is_empty() {
            return Err(NotReusable::ResourcesLeft);
        }
        if store.data().held_several {
            return Err(NotReusable::HeldSeveral);
        }
        store.data_mut().begin(None, usize::MAX, 0, 0);
        store.set_fuel(RESET_FUEL).map_err(|error| NotReusable::Reset(error.to_string()))?;
        let call = self.reset.call_async(&mut *store, ());
        let (outcome, faults) = WithFaults::new(std::pin::pin!(call)).await;
        outcome.map_err(|error| NotReusable::Reset(error.to_string()))?;
        let faults = std::mem::take(&mut self.faults) + faults;
        self.store.rewind(faults).map_err(NotReusable::Memory)
    }

    /// Compares the whole memory with the image.
    pub(crate) fn verify(&mut self) -> Result<(), NotReusable> {
        self.store.first_difference().map_or(Ok(()), |offset| Err(NotReusable::Differs { offset }))
    }
}

/// Why a slot is dropped instead of rewound.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotReusable {
    #[error("its last call trapped or was cancelled")]
    Interrupted,
    #[error("its memory has grown")]
    Grown,
    #[error("its script left a WASI resource open")]
    ResourcesLeft,
    #[error("its script held several WASI resources at once")]
    HeldSeveral,
    #[error("resetting its globals failed: {0}")]
    Reset(String),
    #[error("its memory differs from its image at byte {offset} after rewinding")]
    Differs { offset: usize },
    #[error("rewinding its memory failed: {0}")]
    Memory(std::io::Error),
}

fn response_from_guest(response: types::Response) -> HandlerResponse<CursorId> {
    let body = match response.body {
        types::Body::Bytes(bytes) => HandlerBody::Bytes(bytes.into()),
        types::Body::Rows(cursor) => HandlerBody::Rows(CursorId(cursor)),
    };
    HandlerResponse { status: response.status, headers: response.headers, body }
}

impl From<types::ScriptError> for ScriptFailure {
    fn from(error: types::ScriptError) -> Self {
        let types::ScriptError { kind, type_name, message, traceback, file, line } = error;
        let kind = match kind {
            types::Failure::Raised => FailureKind::Raised,
            types::Failure::BadReturn => FailureKind::BadReturn,
            types::Failure::Exited => FailureKind::Exited,
            types::Failure::OutOfMemory => FailureKind::OutOfMemory,
            types::Failure::Syntax => FailureKind::Syntax,
            types::Failure::NoHandler => FailureKind::NoHandler,
        };
        let [type_name, message, traceback] = [type_name, message, traceback].map(shortened);
        Self { kind, type_name, message, traceback, location: file.map(shortened).zip(line) }
    }
}

/// Only a guest that was tampered with has longer ones.
fn shortened(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(FAILURE_TEXT_BYTES_MAX));
    text
}
