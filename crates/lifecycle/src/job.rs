//! Jobs: placeholder during construction.
mod columns;
pub(crate) use columns::age;
