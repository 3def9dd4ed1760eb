//! Reading: tables, pages, catalogues, and what a caller may reach of them.

mod access;
pub(super) mod catalog;
pub(super) mod condition;
mod describe;
mod page;
pub(super) mod scope;
pub(super) mod source;
pub(super) mod table;
