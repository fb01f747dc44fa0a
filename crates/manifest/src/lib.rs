//! Kubernetes manifests: YAML and JSON with spans, typed objects, defaults and validation.

#![forbid(unsafe_code)]

pub mod object;
