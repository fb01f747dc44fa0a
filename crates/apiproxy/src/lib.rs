//! A proxy to a Kubernetes API server: header rules as pure functions, and the connections around them.

#![forbid(unsafe_code)]
