//! Changing rows and tables.

pub(super) mod change;
mod define;
mod records;
