//! Health in controller-runtime's format: named checks, and the text that they make.
//!
//! Who knows something about the health of the manager registers a [`Check`]; it is asked on each request
//! and must answer at once, from what is already known.

use std::sync::Arc;

/// What a check says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All is well.
    Ok,
    /// All is well, and there is something to say: shown by `?verbose` only.
    Noted(String),
    /// It is not, and why: shown by `?verbose` and at the check's own path.
    Failed(String),
}

/// A named check, asked on each request. It must not wait for anything.
#[derive(Clone)]
pub struct Check {
    name: &'static str,
    ask: Arc<dyn Fn() -> Verdict + Send + Sync>,
}

impl Check {
    /// A check of this name, such as `leaderElection`.
    pub fn new(name: &'static str, ask: impl Fn() -> Verdict + Send + Sync + 'static) -> Self {
        Self { name, ask: Arc::new(ask) }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Asks it.
    #[must_use]
    pub fn ask(&self) -> Verdict {
        (self.ask)()
    }
}

impl std::fmt::Debug for Check {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Check").field(&self.name).finish()
    }
}
