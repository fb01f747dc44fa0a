//! The launcher's loop: requests, ended children, status pipes, emptying cgroups; one `poll` for all.

mod commands;
mod spares;

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::context::Context;
use super::init::{self, Begun};
use super::launch::{self, Launched};
use super::memory::Volumes;
use super::protocol::{Failure, Packet, Reply, Request, Spec};
use super::sandbox::Sandbox;
use super::socket::Inbox;
use super::{shim, socket};
use crate::cgroup::Cgroup;
use crate::clone::Pid;
use crate::signals::{self, Ended, SignalFd};
use commands::Command;
use spares::Next;

/// How long the processes of a run may take to die at its end.
const PATIENCE: Duration = Duration::from_secs(10);
/// A cgroup that says it is empty may refuse removal for a moment; that has no event.
const BUSY_RETRY: Duration = Duration::from_millis(1);

/// The launcher.
pub(super) struct Server {
    socket: OwnedFd,
    inbox: Inbox,
    signals: SignalFd,
    context: Option<Context>,
    sandboxes: HashMap<u64, Sandbox>,
    memory: Volumes,
    containers: HashMap<u64, Container>,
    execs: HashMap<u64, Command>,
    /// What is prepared for sandboxes.
    next: HashMap<u64, Next>,
    /// Which of them a child is.
    children: HashMap<Pid, Child>,
    /// Sandboxes being dropped, with the request to answer.
    dropping: HashMap<u64, u64>,
    /// Cgroups of dropped sandboxes that still hold someone dying.
    retired: Vec<Cgroup>,
}

#[derive(Clone, Copy, Debug)]
enum Child {
    Container(u64),
    Exec(u64),
    Holder(u64),
    Spare(u64),
}

/// The part of a start that containers and commands share.
struct Starting {
    request: u64,
    status: OwnedFd,
    said: Vec<u8>,
    warnings: Vec<String>,
}

struct Container {
    spec: Box<Spec>,
    pid: Pid,
    shim: bool,
    /// The main process, behind a shim.
    main: Pid,
    cgroup: Option<Cgroup>,
    starting: Option<Starting>,
    failure: Option<(u64, Failure)>,
    ended: Option<Ended>,
    /// Its cgroup's events, while that is still populated after the main process' end.
    emptying: Option<File>,
    retry: bool,
    oom: bool,
}

/// What a poll entry stands for.
enum Source {
    Socket,
    Signals,
    Container(u64),
    Exec(u64),
    Report(u64),
    Emptying(u64),
}

impl Server {
    pub(super) fn new(socket: OwnedFd, signals: SignalFd) -> Self {
        Self {
            socket,
            inbox: Inbox::default(),
            signals,
            context: None,
            sandboxes: HashMap::new(),
            memory: Volumes::default(),
            containers: HashMap::new(),
            execs: HashMap::new(),
            next: HashMap::new(),
            children: HashMap::new(),
            dropping: HashMap::new(),
            retired: Vec::new(),
        }
    }

    /// Serves until `holdfast` says goodbye or is gone, then cleans up.
    pub(super) fn run(mut self) {
        while self.turn() {}
        self.finish();
    }

    /// One round of the loop; false at the end.
    fn turn(&mut self) -> bool {
        let mut sources = vec![Source::Socket, Source::Signals];
        let mut fds = vec![
            PollFd::new(&self.socket, PollFlags::IN),
            PollFd::new(&self.signals, PollFlags::IN),
        ];
        let mut retry = false;
        for (id, container) in &self.containers {
            if let Some(starting) = &container.starting {
                sources.push(Source::Container(*id));
                fds.push(PollFd::new(&starting.status, PollFlags::IN));
            }
            if let Some(events) = &container.emptying {
                sources.push(Source::Emptying(*id));
                fds.push(PollFd::new(events, PollFlags::PRI));
                retry |= container.retry;
            }
        }
        for (id, command) in &self.execs {
            if let Some(starting) = &command.starting {
                sources.push(Source::Exec(*id));
                fds.push(PollFd::new(&starting.status, PollFlags::IN));
            } else if let Some(report) = &command.report {
                sources.push(Source::Report(*id));
                fds.push(PollFd::new(report, PollFlags::IN));
            }
        }
        let timeout = Timespec::try_from(BUSY_RETRY).ok().filter(|_| retry);
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(_) => return false,
        }
        let ready: Vec<Source> = sources
            .into_iter()
            .zip(fds)
            .filter(|(source, fd)| {
                !fd.revents().is_empty() || (retry && matches!(source, Source::Emptying(_)))
            })
            .map(|(source, _)| source)
            .collect();
        // Status pipes before ended children: an exec that was seen comes before its exit.
        for source in &ready {
            match source {
                Source::Container(id) => self.read_container(*id),
                Source::Exec(id) => self.read_exec(*id),
                Source::Report(id) => self.read_report(*id),
                Source::Emptying(id) => self.try_finish(*id),
                Source::Socket | Source::Signals => {}
            }
        }
        for source in ready {
            match source {
                Source::Signals => self.reap(),
                Source::Socket if !self.serve() => return false,
                _ => {}
            }
        }
        true
    }

    fn send(&self, id: u64, body: Reply) {
        // If `holdfast` is gone the next poll says so.
        let message = socket::prepare(&Packet { id, body }, Vec::new());
        let _ = message.and_then(|message| socket::send(self.socket.as_fd(), &message));
    }

    fn fail(&self, id: u64, failure: Failure) {
        self.send(id, Reply::Failed(failure));
    }

    /// Takes one request; false for the last one.
    fn serve(&mut self) -> bool {
        let received = match self.inbox.receive::<Request>(self.socket.as_fd()) {
            Ok(Some(received)) => received,
            Ok(None) => return false,
            // A packet we cannot read is answered by nobody; only a defect of ours can send one.
            Err(error) if error.kind() == io::ErrorKind::InvalidData => return true,
            Err(error) => return error.kind() == io::ErrorKind::WouldBlock,
        };
        let id = received.packet.id;
        let mut fds = received.fds.into_iter();
        match received.packet.body {
            Request::Init(wish) => match init::init(&wish) {
                Ok(Begun { context, ready, trial }) => {
                    self.send(id, Reply::Ready(ready));
                    self.context = Some(context);
                    self.retired.extend(trial);
                }
                Err(failure) => self.fail(id, failure),
            },
            Request::Sandbox(wish) => {
                let Some(context) = &mut self.context else { return false };
                let net = fds.next().filter(|_| wish.network);
                match Sandbox::create(context, &wish, net) {
                    Ok(sandbox) => {
                        if let Some((pid, _)) = sandbox.holder {
                            self.children.insert(pid, Child::Holder(wish.sandbox));
                        }
                        self.sandboxes.insert(wish.sandbox, sandbox);
                        self.send(id, Reply::Done { warnings: Vec::new() });
                        // A mount of our own has changed the list; the first container of the sandbox
                        // need not wait until it is read, and would be told what is wrong with it.
                        let _ = self.context.as_mut().map(Context::refresh_mounts);
                        self.expect(wish.sandbox, wish.starts);
                        self.prepare_next(wish.sandbox);
                    }
                    Err(failure) => self.fail(id, failure),
                }
            }
            Request::DropSandbox { sandbox } => self.drop_sandbox(id, sandbox),
            Request::DropMemory { pod } => self.memory.forget(&pod),
            Request::Start(spec) => {
                let output = (fds.next(), fds.next());
                let sandbox = spec.sandbox;
                if let Err(failure) = self.start(id, spec, output) {
                    self.fail(id, failure);
                }
                self.prepare_next(sandbox);
            }
            Request::Exec(wish) => {
                if let Err(failure) = self.exec(id, &wish, fds.next()) {
                    self.fail(id, failure);
                }
            }
            Request::Signal { instance, signal } => {
                if let Some(container) = self.running(instance) {
                    if container.shim {
                        signals::queue(container.pid, signals::forward(), signal);
                    } else {
                        signals::kill(container.pid, signal);
                    }
                }
            }
            Request::Kill { instance } => {
                if let Some(container) = self.running(instance) {
                    launch::kill(container.pid, container.shim, container.cgroup.as_ref());
                }
            }
            Request::KillExec { exec } => self.kill_exec(exec),
            Request::Shutdown => return false,
        }
        true
    }

    fn running(&self, instance: u64) -> Option<&Container> {
        self.containers.get(&instance).filter(|container| container.ended.is_none())
    }

    fn start(
        &mut self,
        request: u64,
        spec: Box<Spec>,
        output: (Option<OwnedFd>, Option<OwnedFd>),
    ) -> Result<(), Failure> {
        let (Some(stdout), Some(stderr)) = output else {
            return Err(Failure::create("no descriptors for the output"));
        };
        let instance = spec.instance;
        if self.containers.contains_key(&instance) {
            return Err(Failure::create(format!("container {instance} exists already")));
        }
        let Some(context) = &mut self.context else {
            return Err(Failure::create("the launcher is not ready"));
        };
        let sandbox = self
            .sandboxes
            .get(&spec.sandbox)
            .filter(|_| !self.dropping.contains_key(&spec.sandbox));
        let Some(sandbox) = sandbox else {
            return Err(Failure::create("the pod's sandbox is gone"));
        };
        context
            .refresh_mounts()
            .map_err(|error| Failure::create(format!("cannot list mounts: {error}")))?;
        let shim = launch::needs_shim(context, sandbox);
        let output = [&stdout, &stderr];
        let launched = match self.take_spare(&spec, output) {
            Some(launched) => launched?,
            None => self.launch_anew(&spec, output)?,
        };
        let Launched { pid, status, cgroup, warnings } = launched;
        self.children.insert(pid, Child::Container(instance));
        let container = Container {
            spec,
            pid,
            shim,
            main: pid,
            cgroup,
            starting: Some(Starting { request, status, said: Vec::new(), warnings }),
            failure: None,
            ended: None,
            emptying: None,
            retry: false,
            oom: false,
        };
        self.containers.insert(instance, container);
        Ok(())
    }

    /// Reads what a starting container says.
    fn read_container(&mut self, id: u64) {
        let Some(container) = self.containers.get_mut(&id) else { return };
        let Some(starting) = &mut container.starting else { return };
        if !read_status(starting) {
            return;
        }
        let (main, failure) = parse_status(&starting.said);
        if let Some(main) = main {
            container.main = main;
        }
        let Some(starting) = container.starting.take() else { return };
        match failure {
            // The answer waits until nothing is left of it.
            Some(failure) => container.failure = Some((starting.request, failure)),
            None => self.send(starting.request, Reply::Done { warnings: starting.warnings }),
        }
        self.try_finish(id);
    }

    fn is_up(&self, sandbox: u64) -> bool {
        self.sandboxes.contains_key(&sandbox) && !self.dropping.contains_key(&sandbox)
    }

    /// Takes every ended child.
    fn reap(&mut self) {
        while self.signals.take().is_some() {}
        while let Some(ended) = signals::reap(false) {
            match self.children.remove(&ended.pid) {
                Some(Child::Container(id)) => {
                    if let Some(container) = self.containers.get_mut(&id) {
                        container.ended = Some(ended);
                    }
                    // Its death closed the status pipe.
                    self.read_container(id);
                    self.try_finish(id);
                }
                Some(Child::Exec(id)) => {
                    self.exec_ended(id, ended);
                }
                Some(Child::Holder(sandbox)) if self.is_up(sandbox) => {
                    self.send(0, Reply::SandboxLost { sandbox });
                }
                Some(Child::Holder(_)) => {}
                Some(Child::Spare(sandbox)) => self.spare_ended(sandbox, ended.pid),
                // An orphan that came to us as the subreaper.
                None => {}
            }
        }
        self.retired.retain(|cgroup| cgroup.remove().is_err());
    }

    /// Reports the end of a container whose main process ended, once nothing else is left in it.
    fn try_finish(&mut self, id: u64) {
        let Some(container) = self.containers.get_mut(&id) else { return };
        let (Some(ended), None) = (container.ended, &container.starting) else { return };
        let mut oom = false;
        if let Some(cgroup) = &container.cgroup {
            oom = container.oom || cgroup.oom_killed();
            container.oom = oom;
            if !empty(cgroup, &mut container.emptying, &mut container.retry) {
                return;
            }
        } else if let Some(Sandbox { holder: Some(_), .. }) =
            self.sandboxes.get(&container.spec.sandbox)
        {
            // A shared PID namespace and no cgroup: its session is all that can be told apart.
            signals::kill(-container.pid, libc::SIGKILL);
        }
        if !self.end_commands(id) {
            return;
        }
        let Some(container) = self.containers.remove(&id) else { return };
        match container.failure {
            Some((request, failure)) => self.fail(request, failure),
            None => self.send(0, Reply::Exited { instance: id, code: ended.code, oom }),
        }
        self.try_drop(container.spec.sandbox);
    }

    fn drop_sandbox(&mut self, request: u64, sandbox: u64) {
        self.dropping.insert(sandbox, request);
        self.forget_next(sandbox);
        for container in
            self.containers.values().filter(|c| c.spec.sandbox == sandbox && c.ended.is_none())
        {
            launch::kill(container.pid, container.shim, container.cgroup.as_ref());
        }
        self.try_drop(sandbox);
    }

    fn try_drop(&mut self, sandbox: u64) {
        let Some(request) = self.dropping.get(&sandbox).copied() else { return };
        if self.containers.values().any(|container| container.spec.sandbox == sandbox) {
            return;
        }
        self.dropping.remove(&sandbox);
        let mut dropped = self.sandboxes.remove(&sandbox);
        self.retired.extend(dropped.as_mut().and_then(Sandbox::end));
        self.send(request, Reply::Done { warnings: Vec::new() });
        // After the answer: to unmount takes a while, and nobody else can see whether it is done.
        if let Some(sandbox) = dropped {
            sandbox.forget();
        }
    }

    /// The end: nothing of the run stays.
    fn finish(mut self) {
        if let Some(cgroup) = self.context.as_ref().and_then(|context| context.cgroup.as_ref()) {
            let _ = cgroup.kill();
        }
        for container in self.containers.values().filter(|container| container.ended.is_none()) {
            launch::kill(container.pid, container.shim, None);
        }
        for sandbox in self.sandboxes.values_mut() {
            let _ = sandbox.end();
        }
        // Commands, and orphans that we adopted. Shims end by themselves when theirs have.
        let shims = self.containers.values().filter(|c| c.shim).map(|c| c.pid);
        let shims: Vec<Pid> = shims.chain(self.command_shims()).collect();
        for shim in self.command_shims() {
            signals::queue(shim, signals::kill_all(), 0);
        }
        for child in shim::children().into_iter().filter(|child| !shims.contains(child)) {
            signals::kill(child, libc::SIGKILL);
        }
        while signals::reap(true).is_some() {
            for child in shim::children().into_iter().filter(|child| !shims.contains(child)) {
                signals::kill(child, libc::SIGKILL);
            }
        }
        let Some(context) = self.context.take() else { return };
        let Context { cgroup, own, host, dir, .. } = context;
        if let Some(cgroup) = cgroup.filter(|cgroup| cgroup.remove().is_err()) {
            let _ = cgroup.destroy(PATIENCE);
        }
        // It would keep the namespace alive.
        drop(host);
        // With the namespace goes all that is mounted in it. Unmounting it first would only make us wait
        // twice: the kernel lets every processor pass before anything mounted is gone.
        if !own.leave_mounts() {
            let _ = std::env::set_current_dir("/");
            let _ = crate::mount::detach(&dir.staging());
        }
        let _ = dir.remove();
    }
}

/// Removes an ended container's leaf; false while something in it is still dying, with `emptying` as
/// the file that tells of its end.
fn empty(cgroup: &Cgroup, emptying: &mut Option<File>, retry: &mut bool) -> bool {
    if cgroup.remove().is_ok() {
        return true;
    }
    if emptying.is_none() {
        // Left behind by the main process, which was not the PID 1 that takes all along.
        let _ = cgroup.kill();
        *emptying = cgroup.events().ok();
    }
    let Some(events) = emptying else { return true };
    // Reading it arms the next event.
    let mut text = String::new();
    let _ = events.rewind();
    let _ = events.read_to_string(&mut text);
    *retry = !text.contains("populated 1");
    cgroup.remove().is_ok()
}

/// Reads a status pipe; true at its end.
fn read_status(starting: &mut Starting) -> bool {
    let mut buffer = [0; 4096];
    loop {
        match rustix::io::read(&starting.status, &mut buffer) {
            Ok(0) => return true,
            Ok(read) => starting.said.extend_from_slice(&buffer[..read]),
            Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::AGAIN) => return false,
            Err(_) => return true,
        }
    }
}

/// What a status pipe said: the main process behind a shim, and what went wrong.
fn parse_status(said: &[u8]) -> (Option<Pid>, Option<Failure>) {
    let (main, rest) = match said {
        [shim::MAIN, a, b, c, d, rest @ ..] => (Some(Pid::from_ne_bytes([*a, *b, *c, *d])), rest),
        rest => (None, rest),
    };
    if rest.is_empty() {
        return (main, None);
    }
    // The main process of a shim may be quicker than the shim itself.
    let (rest, main) = match rest {
        [front @ .., shim::MAIN, a, b, c, d] if main.is_none() && front.last() == Some(&b'}') => {
            (front, Some(Pid::from_ne_bytes([*a, *b, *c, *d])))
        }
        rest => (rest, main),
    };
    let failure = serde_json::from_slice(rest).unwrap_or_else(|_| {
        Failure::run(format!("the process failed: {}", String::from_utf8_lossy(rest)))
    });
    (main, Some(failure))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_pipe_is_understood_in_any_order() {
        let failure = Failure::run("exec: no");
        let json = serde_json::to_vec(&failure).unwrap();
        let id = [&[shim::MAIN][..], &77_i32.to_ne_bytes()].concat();
        assert_eq!(parse_status(b""), (None, None));
        assert_eq!(parse_status(&id), (Some(77), None));
        assert_eq!(parse_status(&json), (None, Some(failure.clone())));
        assert_eq!(parse_status(&[&id[..], &json].concat()), (Some(77), Some(failure.clone())));
        assert_eq!(parse_status(&[&json[..], &id].concat()), (Some(77), Some(failure)));
        assert!(parse_status(b"garbage").1.is_some());
    }
}
