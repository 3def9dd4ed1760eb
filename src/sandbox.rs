//! Everything wasmtime: slots that run handlers in a memory that is rewound after each call.
//!
//! Owns: engine, runtime component, memories, images, slots, pool, limits, and the capabilities that scripts are given, as
//! traits. Never: HTTP, SQL, or what a tenant is allowed.

pub mod image;
pub mod memory;
pub mod rewindable;
