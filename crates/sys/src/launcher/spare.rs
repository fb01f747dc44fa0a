//! A container that is prepared before anybody asks for it.
//!
//! The containers of a pod start one after the other: each waits until the one before runs. What takes
//! most of a start is the same for all of them, namespaces and a root of the host's files, so while one
//! starts, the next is built up to there by a process that then waits for its orders. Where the
//! container is to be something else (an image, a privileged one), or the host's mounts have changed
//! since, the spare is dropped and the container is made from the beginning.

use std::convert::Infallible;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::child::{self, Birth, Kind, Stop};
use super::context::Context;
use super::launch::{self, Launched};
use super::memory::Volumes;
use super::parent::{Parent, die_with};
use super::protocol::{Failure, Mode, Packet, Pids, Root, Spec};
use super::rootfs::{self, During};
use super::sandbox::Sandbox;
use super::socket::{self, Inbox};
use crate::caps::Caps;
use crate::cgroup::Cgroup;
use crate::clone::{Cloned, Pid, clone3, exit_now};

/// A process that waits to become a container.
#[derive(Debug)]
pub(super) struct Spare {
    /// The launcher's child.
    pub(super) pid: Pid,
    /// Its leaf.
    pub(super) cgroup: Option<Cgroup>,
    status: OwnedFd,
    /// Where it waits for its orders.
    door: OwnedFd,
    /// The state of the host's mounts that its root is made of.
    mounts: u64,
}

/// What it is to become; its stdout, its stderr and the sources of its mounts come with it.
#[derive(Serialize, Deserialize)]
struct Order {
    spec: Spec,
    caps: Caps,
}

/// The largest order that is put into a packet: room for a larger one would have to be cleared first.
const SMALL: usize = 4096;
/// stdout and stderr, and a file for an order that is not small.
const OTHER_FDS: usize = 3;

impl Spare {
    /// Whether one can be made for the containers of this sandbox.
    pub(super) fn is_possible(context: &Context, sandbox: &Sandbox) -> bool {
        context.mode == Mode::Root && context.overlay && sandbox.pids == Pids::Container
    }

    /// Makes one; `name` is that of its leaf.
    ///
    /// # Errors
    /// What the kernel refused; the container is then made, and refused, without it.
    pub(super) fn make(context: &Context, sandbox: &Sandbox, name: &str) -> io::Result<Self> {
        let cgroup = sandbox.cgroup.as_ref().map(|pod| pod.child(name));
        cgroup.as_ref().map_or(Ok(()), Cgroup::create)?;
        let made = || {
            let (door, inside) = socket::pair()?;
            let into = cgroup.as_ref().map(Cgroup::open).transpose()?;
            let (pid, status) = launch::in_pipe(|status| {
                let flags = libc::CLONE_NEWNS | libc::CLONE_NEWPID;
                // SAFETY: the launcher has one thread (checked when it was forked).
                match unsafe { clone3(flags, into.as_ref().map(AsFd::as_fd)) }? {
                    Cloned::Parent(pid) => Ok(pid),
                    Cloned::Child => wait(context, sandbox, &inside, &status),
                }
            })?;
            Ok((pid, status, door))
        };
        match made() {
            Ok((pid, status, door)) => {
                Ok(Self { pid, cgroup, status, door, mounts: context.host.version() })
            }
            Err(error) => {
                let _ = cgroup.map(|cgroup| cgroup.remove());
                Err(error)
            }
        }
    }

    /// Whether it can become this container.
    pub(super) fn fits(&self, context: &Context, spec: &Spec) -> bool {
        // These are hidden from containers already, and a mount there would lie on top.
        let hidden = |path: &Path| path.starts_with("/proc") || path.starts_with("/sys");
        self.mounts == context.host.version()
            && spec.root == Root::Host
            && !spec.privileged
            && !spec.read_only_root
            && spec.mounts.len() + OTHER_FDS <= socket::MAX_FDS
            && !spec.mounts.iter().any(|mount| hidden(&mount.target))
    }

    /// Makes it this container, which it fits. `None` if it is not there any more.
    pub(super) fn become_container(
        &self,
        context: &Context,
        memory: &mut Volumes,
        spec: &Spec,
        output: [&OwnedFd; 2],
    ) -> Option<Result<Launched, Failure>> {
        let mut warnings = Vec::new();
        let mut prepare = |warnings: &mut Vec<String>| {
            let caps = launch::check(context, spec, warnings)?;
            let sources = rootfs::open_sources(context, memory, spec)?;
            launch::limit(context, self.cgroup.as_ref(), spec, warnings)?;
            Ok((caps, sources))
        };
        let (caps, sources) = match prepare(&mut warnings) {
            Ok(prepared) => prepared,
            Err(failure) => return Some(Err(failure)),
        };
        let order = || {
            let mut fds = vec![output[0].try_clone()?, output[1].try_clone()?];
            fds.extend(sources);
            let body = Order { spec: spec.clone(), caps };
            let message = socket::prepare_within(&Packet { id: 0, body }, fds, SMALL)?;
            socket::send(self.door.as_fd(), &message)?;
            self.status.try_clone()
        };
        let status = order().ok()?;
        Some(Ok(Launched { pid: self.pid, status, cgroup: self.cgroup.clone(), warnings }))
    }
}

/// The life of a spare.
fn wait(context: &Context, sandbox: &Sandbox, inside: &OwnedFd, status: &OwnedFd) -> ! {
    context.dir.forget_lock_in_child();
    let parent = Parent::Launcher(context.alive.as_fd());
    match prepare(context, sandbox, inside, &parent) {
        Ok(Some(never)) => match never {},
        // There is nothing to become.
        Ok(None) => exit_now(0),
        Err(stop) => child::end(stop, status),
    }
}

fn prepare(
    context: &Context,
    sandbox: &Sandbox,
    inside: &OwnedFd,
    parent: &Parent<'_>,
) -> Result<Option<Infallible>, Stop> {
    // Again at the end; but until then others have a copy of the door, and it may wait for long.
    die_with(parent, libc::SIGKILL).during(|| "cannot be tied to the launcher".to_owned())?;
    let (any, nothing) = (Spec::any(), Vec::new());
    let null = context.null.as_fd();
    let birth = |spec, caps, output| Birth {
        context,
        sandbox,
        spec,
        caps,
        output,
        kind: Kind::Main(&nothing),
    };
    child::build(&birth(&any, Caps::default(), [null; 2]), &nothing)?;
    let mut inbox = Inbox::of(SMALL);
    let Ok(Some(received)) = inbox.receive::<Order>(inside.as_fd()) else { return Ok(None) };
    let Order { spec, caps } = received.packet.body;
    let mut fds = received.fds.into_iter();
    let (Some(stdout), Some(stderr)) = (fds.next(), fds.next()) else { return Ok(None) };
    rootfs::add_mounts(&spec, &fds.collect())?;
    let birth = birth(&spec, caps, [stdout.as_fd(), stderr.as_fd()]);
    child::finish(&birth, parent, &spec.argv).map(Some)
}
