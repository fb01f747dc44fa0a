//! The look ahead and the look back: what a start-up will be like, and what it was like.

#![forbid(unsafe_code)]

pub mod assume;
pub mod bounds;
pub mod document;
pub mod explanation;
pub mod notes;
pub mod picture;
pub mod span;
pub mod stops;
pub mod subject;
pub mod text;
pub mod timeline;
pub mod world;
