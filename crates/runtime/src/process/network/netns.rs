//! Network namespaces, each with a connection to its netlink.
//!
//! A netlink socket belongs for ever to the namespace it was opened in. So a thread of its own goes
//! into the new namespace, opens the socket there for the reactor of the caller, and ends.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;

use nix::sched::{CloneFlags, unshare};
use rtnetlink::{Handle, new_connection};
use tokio::sync::oneshot;

/// A network namespace.
pub(super) struct Namespace {
    pub(super) namespace: OwnedFd,
    /// Speaks to it.
    pub(super) netlink: Handle,
}

/// Makes a new one.
pub(super) async fn create() -> io::Result<Namespace> {
    let reactor = tokio::runtime::Handle::current();
    let (sender, receiver) = oneshot::channel();
    let make = move || -> io::Result<Namespace> {
        unshare(CloneFlags::CLONE_NEWNET)?;
        let namespace = File::open("/proc/thread-self/ns/net")?.into();
        let _guard = reactor.enter();
        Ok(Namespace { namespace, netlink: here()? })
    };
    std::thread::Builder::new().name("netns".to_owned()).spawn(move || {
        // Nobody waits any more if the caller was cancelled.
        let _ = sender.send(make());
    })?;
    receiver.await.map_err(|_| io::Error::other("the thread that makes it died"))?
}

/// A connection to the netlink of the calling thread's namespace.
pub(super) fn here() -> io::Result<Handle> {
    let (connection, handle, _) = new_connection()?;
    // It ends when the last handle is dropped.
    tokio::spawn(connection);
    Ok(handle)
}
