//! Bindings generated from `wit/`.
#![expect(clippy::error_impl_error, reason = "generated from wit/, where the record is `sql.error`")]

wasmtime::component::bindgen!({
    path: "wit",
    world: "script-runtime",
    additional_derives: [serde::Serialize, serde::Deserialize],
    imports: {
        "pq:host/sql.fetch": async | trappable,
        "pq:host/sql.next": async | trappable,
        "pq:host/secrets.get": async | trappable,
        "pq:host/tenant.list-connections": async | trappable,
        "pq:host/tenant.list-scripts": async | trappable,
        "pq:host/state.get": async | trappable,
        "pq:host/state.set": async | trappable,
        "pq:host/state.compare-and-set": async | trappable,
        "pq:host/sql.change": async | trappable,
        "pq:host/sql.write": async | trappable,
        "pq:host/sql.create-schema": async | trappable,
        "pq:host/sql.create-table": async | trappable,
        "pq:host/sql.describe": async | trappable,
        "pq:host/sql.list-databases": async | trappable,
        "pq:host/sql.begin": async | trappable,
        "pq:host/sql.commit": async | trappable,
        "pq:host/sql.rollback": async | trappable,
        "pq:host/http.send": async | trappable,
        "pq:host/http.call": async | trappable,
        "pq:host/crypto": async | trappable,
        default: trappable,
    },
    exports: { default: async },
});
