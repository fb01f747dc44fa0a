//! The containers that are prepared for the sandboxes that will want one soon.

use std::os::fd::OwnedFd;

use super::{Child, Server};
use crate::launcher::launch::{self, Launched};
use crate::launcher::protocol::{Failure, Spec};
use crate::launcher::spare::Spare;
use crate::signals;

/// What is prepared for a sandbox.
#[derive(Default)]
pub(super) struct Next {
    spare: Option<Spare>,
    /// How many more are going to be started one after the other.
    starts: usize,
    /// How many have been made.
    made: u64,
}

impl Server {
    /// Says how many containers are going to be started in a new sandbox.
    pub(super) fn expect(&mut self, sandbox: u64, starts: usize) {
        self.next.insert(sandbox, Next { starts, ..Next::default() });
    }

    /// Makes a spare if another container is going to be started. Nobody waits for us now: to be called
    /// when all descriptors that came with a request have been closed, for it would keep them open.
    pub(super) fn prepare_next(&mut self, number: u64) {
        let (Some(context), Some(sandbox)) = (&self.context, self.sandboxes.get(&number)) else {
            return;
        };
        let Some(next) = self.next.get_mut(&number).filter(|next| next.starts > 0) else { return };
        if next.spare.is_some() || !Spare::is_possible(context, sandbox) {
            return;
        }
        next.made += 1;
        match Spare::make(context, sandbox, &format!("next-{}", next.made)) {
            Ok(spare) => {
                self.children.insert(spare.pid, Child::Spare(number));
                next.spare = Some(spare);
            }
            // It will be said when a container is really wanted.
            Err(_) => next.starts = 0,
        }
    }

    /// Takes the spare of a sandbox, if there is one and it can become this container.
    pub(super) fn take_spare(
        &mut self,
        spec: &Spec,
        output: [&OwnedFd; 2],
    ) -> Option<Result<Launched, Failure>> {
        let context = self.context.as_ref()?;
        let next = self.next.get_mut(&spec.sandbox)?;
        next.starts = next.starts.saturating_sub(1);
        let spare = next.spare.take()?;
        if spare.fits(context, spec)
            && let Some(launched) = spare.become_container(context, &mut self.memory, spec, output)
        {
            if launched.is_err() {
                self.discard(spare);
            }
            return Some(launched);
        }
        // Its siblings will most likely be like it.
        next.starts = 0;
        self.discard(spare);
        None
    }

    /// Makes a container from the beginning.
    pub(super) fn launch_anew(
        &mut self,
        spec: &Spec,
        output: [&OwnedFd; 2],
    ) -> Result<Launched, Failure> {
        let (Some(context), Some(sandbox)) = (&self.context, self.sandboxes.get(&spec.sandbox))
        else {
            return Err(Failure::create("the pod's sandbox is gone"));
        };
        launch::start(context, sandbox, &mut self.memory, spec, output, false)
    }

    /// Drops what is prepared for a sandbox.
    pub(super) fn forget_next(&mut self, sandbox: u64) {
        if let Some(spare) = self.next.remove(&sandbox).and_then(|next| next.spare) {
            self.discard(spare);
        }
    }

    /// A spare has ended by itself.
    pub(super) fn spare_ended(&mut self, sandbox: u64, pid: crate::clone::Pid) {
        let next = self.next.get_mut(&sandbox);
        if let Some(spare) = next.and_then(|next| next.spare.take_if(|spare| spare.pid == pid)) {
            self.retired.extend(spare.cgroup);
        }
    }

    fn discard(&mut self, spare: Spare) {
        signals::kill(spare.pid, libc::SIGKILL);
        // Its leaf can go when it has been reaped.
        self.retired.extend(spare.cgroup);
    }
}
