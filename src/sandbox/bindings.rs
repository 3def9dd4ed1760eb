//! Bindings generated from `wit/`.
wasmtime::component::bindgen!({
    path: "wit",
    world: "script-runtime",
    imports: {
        "pq:host/sql.fetch": async | trappable,
        "pq:host/sql.next": async | trappable,
        default: trappable,
    },
    exports: { default: async },
});
