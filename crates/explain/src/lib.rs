//! The look ahead and the look back: what a start-up will be like, and what it was like.

#![forbid(unsafe_code)]

pub mod timeline;
