//! Numbers, each from a command that anybody can run (`docs/benchmarks.md` holds the last ones).
//!
//! | command | what it measures |
//! |---|---|
//! | `engine` | the engine alone, in virtual time: lifecycles a second, cost per container |
//! | `run` | the release binary on real processes: reaction times, time above bare fork+exec, size, memory |
//! | `explain` | a look ahead at a large pod, from the start of the command to its end |
//! | `helpers` | `wait` and `render` beside what people use for it: how soon, and what a kill leaves |
//! | `peer` | the same pods under `podman kube play`, in the same run, and what it does differently |
//! | `kubelet` | pods of a real kubelet and of `run --runtime cri` on the same containerd, in the same run |
//! | `apiproxy` | the API proxy beside `kubectl proxy` and nginx, before the same fast API server |
//! | `manager` | how long nobody leads, and from the interface's address to a proxy that listens there |
//! | `wireguard` | our data plane beside wireguard-go, and with a hundred peers |
//! | `smoke` | `engine` and `run` in small, without judging times: for `cargo test` |
//! | `all` | everything but `kubelet`, `apiproxy`, `manager` and `wireguard`, as one Markdown document |
//!
//! What is compared is measured in turns within one run, so that a busy machine slows both sides.

#![forbid(unsafe_code)]

pub mod apiproxy;
pub mod engine;
pub mod explain;
pub mod helpers;
pub mod kubelet;
pub mod machine;
pub mod manager;
pub mod peer;
pub mod report;
pub mod run;
pub mod stats;
pub mod wireguard;

mod bare;
mod cases;
mod manifests;
mod memory;
mod podman;
mod timeline;
