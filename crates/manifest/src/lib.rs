//! Kubernetes manifests: YAML and JSON with spans, typed objects, defaults and validation.
//!
//! ```text
//! bytes ─ tree ─▶ values with places ─ decode ─▶ objects ─ defaults, validate ─▶ Loaded
//!                                                   │
//!              pods of a workload ◀─ expand ────────┤
//!              lifecycle::Plan    ◀─ plan ──────────┤
//!              the API's JSON     ◀─ wire ──────────┘
//! ```
//!
//! [`load()`] is the door. It reads what `kubectl apply` reads, in the same YAML dialect, sets
//! Kubernetes' defaults, applies Kubernetes' validation, and reports every error with
//! file:line:column in Kubernetes' words. No input makes it panic or use memory out of proportion
//! ([`Limits`]).
//!
//! ```
//! use holdfast_manifest::{Options, Source, load};
//!
//! let text = "
//! apiVersion: v1
//! kind: Pod
//! metadata: {name: web}
//! spec:
//!   containers:
//!   - {name: web, imagee: nginx}
//! ";
//! let findings = load(&[Source::new("web.yaml", text)], &Options::default()).unwrap_err();
//! assert_eq!(
//!     findings.to_string(),
//!     "web.yaml:7:17: error: Pod/web: unknown field \"spec.containers[0].imagee\" \
//!      (did you mean \"image\"?)"
//! );
//! ```

#![forbid(unsafe_code)]

mod decode;
mod defaults;
pub mod diagnostic;
pub mod expand;
mod known;
mod load;
pub mod object;
pub mod path;
pub mod plan;
mod source;
mod suggest;
mod tree;
mod validate;
pub mod wire;

pub use diagnostic::{Diagnostic, Diagnostics, Style};
pub use load::{Loaded, Options, Refuse, load};
pub use object::Object;
pub use source::{Position, Source};
pub use tree::Limits;
