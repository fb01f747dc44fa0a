//! The judge: a real Kubernetes for tests, and Holdfast held against it.
//!
//! Holdfast claims the kubelet's order, so what decides is the kubelet. This crate brings up a real
//! cluster on one machine ([`cluster`]), makes images without a registry ([`image`]), and compares what
//! the kubelet does with a pod to what Holdfast does with it ([`judge`], [`upstream`]).
//!
//! It is outside of the house: nothing that users run depends on it.

#![forbid(unsafe_code)]

pub mod cluster;
pub mod image;
pub mod judge;
pub mod upstream;
