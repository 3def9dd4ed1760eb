//! Bindings generated from `wit/`.
#![expect(clippy::error_impl_error, reason = "generated from wit/, where the record is `sql.error`")]

wasmtime::component::bindgen!({
    path: "wit",
    world: "script-runtime",
    imports: {
        "pq:host/sql.fetch": async | trappable,
        "pq:host/sql.next": async | trappable,
        "pq:host/http.send": async | trappable,
        "pq:host/http.call": async | trappable,
        "pq:host/crypto": async | trappable,
        default: trappable,
    },
    exports: { default: async },
});
