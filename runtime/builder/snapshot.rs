//! Runs `prime` in an instrumented component and reads back its memory and globals.

use anyhow::{Context as _, Result, anyhow};
use wasmtime::{
    Config, Engine, Store,
    component::{Component, Instance, Lift, Linker, ResourceTable, WasmList, types::ComponentItem},
};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wizer::{ComponentInstanceState, Wizer};

struct State {
    wasi: WasiCtx,
    table: ResourceTable,
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

/// A component that has run `prime`.
pub(crate) struct Snapshot {
    /// The component with the state it has after `prime` as its initial state.
    pub(crate) component: Vec<u8>,
    /// What `prime` gave: addresses of reference counts.
    pub(crate) reference_counts: Vec<u32>,
}

/// Runs `prime`.
pub(crate) fn take(component: &[u8]) -> Result<Snapshot> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async { primed(component).await.map_err(|error| anyhow!("{error:?}")) })
}

async fn primed(component: &[u8]) -> wasmtime::Result<Snapshot> {
    let wizer = Wizer::new();
    let (context, instrumented) = wizer.instrument_component(component)?;
    let engine = Engine::new(&Config::new())?;
    let instrumented = Component::new(&engine, &instrumented)?;
    let mut linker = Linker::<State>::new(&engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    define_host(&mut linker, &engine, &instrumented)?;

    let wasi = WasiCtx::builder().inherit_stderr().build();
    let mut store = Store::new(&engine, State { wasi, table: ResourceTable::new() });
    let instance = linker.instantiate_async(&mut store, &instrumented).await?;
    let prime = instance.get_typed_func::<(), (Vec<u8>,)>(&mut store, "prime")?;
    let (addresses,) = prime.call_async(&mut store, ()).await?;
    let (addresses, _) = addresses.as_chunks();
    let reference_counts = addresses.iter().copied().map(u32::from_le_bytes).collect();
    if !store.data().table.is_empty() {
        return Err(wasmtime::Error::msg("`prime` left a WASI resource open; a snapshot cannot hold handles"));
    }
    let component = wizer.snapshot_component(&context, &mut Accessors { store: &mut store, instance }).await?;
    Ok(Snapshot { component, reference_counts })
}

/// Gives `prime` a host that shows what is printed and refuses everything else.
fn define_host(linker: &mut Linker<State>, engine: &Engine, component: &Component) -> wasmtime::Result<()> {
    for (interface, item) in component.component_type().imports(engine) {
        let (true, ComponentItem::ComponentInstance(instance)) = (interface.starts_with("pq:host/"), item.ty) else {
            continue;
        };
        let mut definitions = linker.instance(interface)?;
        for (name, item) in instance.exports(engine) {
            if !matches!(item.ty, ComponentItem::ComponentFunc(_)) {
                continue;
            }
            let is_log = interface.starts_with("pq:host/log@");
            let refusal = format!("`prime` called {interface}#{name}, which only a running script may");
            definitions.func_new(
                name,
                move |_, _, _, _| {
                    if is_log { Ok(()) } else { Err(wasmtime::Error::msg(refusal.clone())) }
                },
            )?;
        }
    }
    Ok(())
}

/// Lets wizer read state through the accessors that it added. (Its own implementation comes only with a feature that
/// would turn on parts of wasmtime that pqhost leaves out.)
struct Accessors<'a> {
    store: &'a mut Store<State>,
    instance: Instance,
}

impl Accessors<'_> {
    async fn call<R: Lift + 'static>(&mut self, instance: &str, function: &str) -> R {
        self.try_call(instance, function).await.expect("wizer added this accessor, and it has no reason to trap")
    }

    async fn try_call<R: Lift + 'static>(&mut self, instance: &str, function: &str) -> Result<R> {
        let (_, instance) =
            self.instance.get_export(&mut *self.store, None, instance).context("no accessor instance")?;
        let (_, function) =
            self.instance.get_export(&mut *self.store, Some(&instance), function).context("no accessor")?;
        let function =
            self.instance.get_typed_func::<(), (R,)>(&mut *self.store, function).map_err(|e| anyhow!("{e:?}"))?;
        let (result,) = function.call_async(&mut *self.store, ()).await.map_err(|e| anyhow!("{e:?}"))?;
        Ok(result)
    }
}

impl ComponentInstanceState for Accessors<'_> {
    async fn call_func_ret_list_u8(&mut self, instance: &str, function: &str, contents: impl FnOnce(&[u8]) + Send) {
        let list: WasmList<u8> = self.call(instance, function).await;
        contents(list.as_le_slice(&*self.store));
    }

    async fn call_func_ret_s32(&mut self, instance: &str, function: &str) -> i32 {
        self.call(instance, function).await
    }

    async fn call_func_ret_s64(&mut self, instance: &str, function: &str) -> i64 {
        self.call(instance, function).await
    }

    async fn call_func_ret_f32(&mut self, instance: &str, function: &str) -> u32 {
        self.call::<f32>(instance, function).await.to_bits()
    }

    async fn call_func_ret_f64(&mut self, instance: &str, function: &str) -> u64 {
        self.call::<f64>(instance, function).await.to_bits()
    }
}
