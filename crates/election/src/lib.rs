//! Leader election by client-go's algorithm as a pure state machine: no clock, no IO, no Kubernetes client.

#![forbid(unsafe_code)]
