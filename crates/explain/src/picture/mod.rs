//! Pictures of a [`Timeline`](crate::timeline::Timeline): text for a terminal, SVG and HTML.

// The other renderers read the rest.
#![allow(dead_code)]

mod critical;
#[cfg(test)]
mod fixture;
mod scene;
pub mod text;
mod words;
