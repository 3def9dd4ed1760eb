//! Everything wasmtime: slots that run handlers in a memory that is rewound after each call.
//!
//! Owns: engine, runtime component, memories, images, slots, pool, limits, and the capabilities that scripts are given, as
//! traits. Never: HTTP, SQL, or what a tenant is allowed.

mod artifact;
mod bindings;
pub mod capabilities;
mod host;
pub mod image;
pub mod images;
mod memory;
pub mod outside;
pub mod pool;
mod request;
pub mod rewindable;
pub mod runtime;
pub mod slot;
mod state;

pub use artifact::ArtifactOrigin;
pub(crate) use memory::MappedImage;
pub use memory::RewindMethod;
pub use state::{Log, Observation};

#[cfg(test)]
mod tests;
