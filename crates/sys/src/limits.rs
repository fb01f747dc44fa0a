//! Resource limits of the calling process.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the soft limit of open files to the hard one: a run of hundreds of containers needs more than
/// the usual 1024, which is that low only for programs that use `select`. The answer is the old limit.
pub fn raise_open_files() -> Rlimit {
    let old = getrlimit(Resource::Nofile);
    // If it is refused, the old limit stands; running out of descriptors has its own errors.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: old.maximum, maximum: old.maximum });
    old
}
