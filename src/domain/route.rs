//! Routes: which requests of a tenant an endpoint answers.
//!
//! Owns: the grammar of routes and methods, how a request's path is taken apart, and which of several matching routes
//! wins. Never: I/O, HTTP types.
//!
//! The most specific route wins: segment by segment from the left, a literal beats `{name}` and `*`, which beat `**`;
//! the end of the path beats a `**` that matches nothing. Only routes that accept the method take part.

mod methods;
mod path;
mod pattern;
mod table;

pub use methods::{InvalidMethods, MethodSet};
pub use path::{InvalidPath, RequestPath};
pub use pattern::{InvalidRoute, ROUTE_BYTES_MAX, ROUTE_SEGMENTS_MAX, RoutePattern};
pub use table::{Lookup, Match, RouteConflict, RouteTable};

#[cfg(test)]
mod tests;
