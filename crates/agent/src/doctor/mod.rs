//! What this machine lacks, for whom, and what to do about it.
//!
//! [`facts`] looks, and [`checks`] judges: the first has no opinion, the second no IO.

pub mod checks;
pub mod facts;

pub use checks::{Finding, Level, Purpose, judge};
pub use facts::{Facts, Places};
