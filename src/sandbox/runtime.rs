//! The Python runtime: the component that the binary embeds, compiled and ready to make slots.
//!
//! Owns: wasmtime's settings, the embedded files, the base image. Never: runs scripts (see `slot`).

use std::{io, path::Path, sync::Arc};

use tokio::sync::Mutex;
use wasmtime::{
    Config, Engine, Store,
    component::{ComponentExportIndex, HasSelf, Linker},
};

use crate::sandbox::{
    artifact::{ArtifactCache, ArtifactOrigin},
    bindings::{ScriptRuntime, ScriptRuntimeIndices, pq::host},
    host::{Granted, ToGuest},
    memory::{MappedImage, RewindMethod, RewindableStore, Rewinder, SlotMemories},
    rewindable::{self, NotRewindable, RESET_EXPORT},
    slot::{FUEL_YIELD_INTERVAL, Slot},
    state::SlotState,
};

static COMPONENT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/runtime.wasm.zst"));
static BASE_IMAGE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/base.image"));

/// Largest runtime component, decompressed, in bytes.
const COMPONENT_BYTES_MAX: usize = 256 << 20;

/// Native stack for guest code, in bytes.
///
/// CPython bounds its recursion by its own stack in linear memory, but some C code uses far more native stack per level.
/// 64 MiB lets CPython's `RecursionError` come first for Python code and for the parsers of the standard library; what still
/// overflows is a clean trap. Only touched pages cost memory.
const WASM_STACK_BYTES: usize = 64 << 20;

/// Why there is no runtime.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// The binary was compiled before the runtime was built.
    #[error("this pqhost was built without its Python runtime; run `make build` in its source folder")]
    NotEmbedded,
    /// The embedded component breaks a rule: rewinding it would not be safe.
    #[error("the embedded Python runtime cannot be rewound safely: {0}")]
    NotRewindable(#[from] NotRewindable),
    /// Wasmtime refused.
    #[error("the Python runtime does not start: {0:#}")]
    Wasmtime(wasmtime::Error),
    /// The machine refused.
    #[error("{what}: {error}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// What the machine said.
        error: io::Error,
    },
}

impl From<wasmtime::Error> for RuntimeError {
    fn from(error: wasmtime::Error) -> Self {
        Self::Wasmtime(error)
    }
}

fn io_error(what: &'static str) -> impl FnOnce(io::Error) -> RuntimeError {
    move |error| RuntimeError::Io { what, error }
}

/// Makes slots.
pub struct Runtime {
    engine: Engine,
    pre: wasmtime::component::InstancePre<SlotState>,
    indices: ScriptRuntimeIndices,
    reset: ComponentExportIndex,
    memories: Arc<SlotMemories>,
    base: Arc<MappedImage>,
    method: RewindMethod,
    hash: String,
    /// Held while an instance is made, so that its memory can be told from others'.
    birth: Mutex<()>,
}

impl std::fmt::Debug for Runtime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Runtime").field("hash", &self.hash).field("method", &self.method).finish_non_exhaustive()
    }
}

impl Runtime {
    /// Loads the embedded runtime; native code is kept in `cache`.
    ///
    /// `method` overrides what [`RewindMethod::detect`] finds. `compiling` is called if native code must be compiled first,
    /// which takes some seconds of all cores.
    ///
    /// # Errors
    /// If there is no runtime in this binary, it may not be rewound, or the machine cannot run it.
    pub fn load(
        cache: &Path,
        method: Option<RewindMethod>,
        compiling: impl FnOnce(),
    ) -> Result<(Self, ArtifactOrigin), RuntimeError> {
        if COMPONENT.is_empty() || BASE_IMAGE.is_empty() {
            return Err(RuntimeError::NotEmbedded);
        }
        let component = zstd::bulk::decompress(COMPONENT, COMPONENT_BYTES_MAX)
            .map_err(io_error("decompressing the Python runtime"))?;
        rewindable::check(&component)?;
        let base = MappedImage::decode(BASE_IMAGE, None).map_err(io_error("mapping the base image"))?;
        let base = Arc::new(base);

        let memories = Arc::new(SlotMemories::new());
        memories.set_base(Arc::clone(&base));
        let engine = Engine::new(&settings(&memories))?;
        let artifacts = ArtifactCache::open(cache).map_err(io_error("opening the cache of native code"))?;
        let (component, origin) = artifacts.load(&engine, &component, compiling)?;

        let mut linker = Linker::new(&engine);
        wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
        host::types::add_to_linker::<_, HasSelf<SlotState>>(&mut linker, |state| state)?;
        host::sql::add_to_linker::<_, ToGuest>(&mut linker, |state| Granted::Guest(state))?;
        host::secrets::add_to_linker::<_, ToGuest>(&mut linker, |state| Granted::Guest(state))?;
        host::tenant::add_to_linker::<_, ToGuest>(&mut linker, |state| Granted::Guest(state))?;
        host::state::add_to_linker::<_, ToGuest>(&mut linker, |state| Granted::Guest(state))?;
        host::http::add_to_linker::<_, ToGuest>(&mut linker, |state| Granted::Guest(state))?;
        host::crypto::add_to_linker::<_, HasSelf<SlotState>>(&mut linker, |state| state)?;
        host::log::add_to_linker::<_, HasSelf<SlotState>>(&mut linker, |state| state)?;
        host::context::add_to_linker::<_, ToGuest>(&mut linker, |state| Granted::Guest(state))?;
        host::tracing::add_to_linker::<_, HasSelf<SlotState>>(&mut linker, |state| state)?;
        let reset = component.get_export_index(None, RESET_EXPORT);
        let reset = reset.ok_or(NotRewindable::Reset("there is no such export"))?;
        let pre = linker.instantiate_pre(&component)?;
        let indices = ScriptRuntimeIndices::new(&pre)?;
        let method = method.unwrap_or_else(RewindMethod::detect);
        let hash = embedded_hash();
        Ok((Self { engine, pre, indices, reset, memories, base, method, hash, birth: Mutex::new(()) }, origin))
    }

    /// Names this build of the runtime; images of other builds cannot be mounted.
    #[must_use]
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// How slots of this runtime are rewound.
    #[must_use]
    pub fn rewind_method(&self) -> RewindMethod {
        self.method
    }

    /// The image that new slots show.
    pub(crate) fn base(&self) -> &Arc<MappedImage> {
        &self.base
    }

    /// A new instance that shows the base image.
    pub(crate) async fn new_slot(&self) -> Result<Slot, RuntimeError> {
        let mut store = Store::new(&self.engine, SlotState::new());
        store.limiter(|state| &mut state.memory);
        store.set_fuel(FUEL_YIELD_INTERVAL)?;
        store.fuel_async_yield_interval(Some(FUEL_YIELD_INTERVAL))?;
        let birth = self.birth.lock().await;
        let instance = self.pre.instantiate_async(&mut store).await;
        let memory = self.memories.take_newborn();
        drop(birth);
        let instance = instance?;
        let memory = memory.ok_or(NotRewindable::Memories(0))?;
        let runtime: ScriptRuntime = self.indices.load(&mut store, &instance)?;
        let reset = instance.get_typed_func::<(), ()>(&mut store, self.reset)?;
        let rewinder = Rewinder::new(self.method).map_err(io_error("opening /proc/self/pagemap"))?;
        let store = RewindableStore::new(store, memory, Arc::clone(&self.base), rewinder);
        Ok(Slot::new(store, runtime, reset))
    }
}

/// Wasmtime's settings for slots. What is off is off because most of wasmtime's security advisories are there.
fn settings(memories: &Arc<SlotMemories>) -> Config {
    let mut config = Config::new();
    config.with_host_memory(Arc::<SlotMemories>::clone(memories));
    config.memory_init_cow(false);
    config.consume_fuel(true);
    config.max_wasm_stack(WASM_STACK_BYTES);
    // Host functions run on the same stack above the guest.
    config.async_stack_size(WASM_STACK_BYTES + (2 << 20));
    config.wasm_backtrace_max_frames(None);
    config.generate_address_map(false);
    config.wasm_memory64(false);
    config.wasm_multi_memory(false);
    config.wasm_relaxed_simd(false);
    config.wasm_tail_call(false);
    config.concurrency_support(false);
    config
}

fn embedded_hash() -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&(COMPONENT.len() as u64).to_le_bytes()).update(COMPONENT).update(BASE_IMAGE);
    hasher.finalize().to_hex()[..32].to_owned()
}
