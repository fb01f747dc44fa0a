//! Commands run inside containers, as the launcher follows them.
//!
//! Where the container has a PID namespace, a command is a child of the launcher like any other. Where
//! it has not, the command gets a shim: what it leaves in the background lives on with the container,
//! as it does in Kubernetes, but somebody has to know about it when the container ends.

use std::os::fd::OwnedFd;

use super::{Child, Server, Starting, parse_status, read_status};
use crate::clone::Pid;
use crate::launcher::launch::{self, Executed};
use crate::launcher::protocol::{Exec, Failure, Reply};
use crate::signals::{self, Ended};

pub(super) struct Command {
    /// The launcher's child: the command, or its shim.
    pid: Pid,
    shim: bool,
    pub(super) instance: u64,
    pub(super) starting: Option<Starting>,
    failure: Option<(u64, Failure)>,
    /// Where a shim reports the command's exit code.
    pub(super) report: Option<OwnedFd>,
    /// The command's exit code, once known.
    code: Option<i32>,
    /// Whether that has been told.
    told: bool,
    ended: bool,
}

impl Server {
    pub(super) fn exec(
        &mut self,
        request: u64,
        wish: &Exec,
        output: Option<OwnedFd>,
    ) -> Result<(), Failure> {
        let Some(output) = output else {
            return Err(Failure::create("no descriptor for the output"));
        };
        let gone = || Failure::run("the container is not running");
        let context = self.context.as_ref().ok_or_else(gone)?;
        let container = self.running(wish.instance).ok_or_else(gone)?;
        if container.starting.is_some() {
            return Err(gone());
        }
        let sandbox = self.sandboxes.get(&container.spec.sandbox).ok_or_else(gone)?;
        let Executed { pid, status, report } = launch::exec(
            context,
            sandbox,
            &container.spec,
            container.cgroup.as_ref(),
            container.main,
            &wish.argv,
            &output,
        )?;
        self.children.insert(pid, Child::Exec(wish.exec));
        let command = Command {
            pid,
            shim: report.is_some(),
            instance: wish.instance,
            starting: Some(Starting { request, status, said: Vec::new(), warnings: Vec::new() }),
            failure: None,
            report,
            code: None,
            told: false,
            ended: false,
        };
        self.execs.insert(wish.exec, command);
        Ok(())
    }

    /// Reads what a starting command says.
    pub(super) fn read_exec(&mut self, id: u64) {
        let Some(command) = self.execs.get_mut(&id) else { return };
        let Some(starting) = &mut command.starting else { return };
        if !read_status(starting) {
            return;
        }
        let (_, failure) = parse_status(&starting.said);
        let Some(starting) = command.starting.take() else { return };
        match failure {
            Some(failure) => command.failure = Some((starting.request, failure)),
            None => self.send(starting.request, Reply::Done { warnings: Vec::new() }),
        }
        self.finish_exec(id);
    }

    /// Reads the exit code that a shim reports.
    pub(super) fn read_report(&mut self, id: u64) {
        let Some(command) = self.execs.get_mut(&id) else { return };
        let Some(report) = &command.report else { return };
        let mut code = [0; 4];
        match rustix::io::read(report, &mut code) {
            Ok(4) => command.code = Some(i32::from_ne_bytes(code)),
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => return,
            // The shim was killed before it could report.
            _ => {}
        }
        command.report = None;
        self.finish_exec(id);
    }

    /// Takes note of the end of a command or its shim.
    pub(super) fn exec_ended(&mut self, id: u64, ended: Ended) {
        self.read_exec(id);
        self.read_report(id);
        if let Some(command) = self.execs.get_mut(&id) {
            command.ended = true;
            command.code = command.code.or(Some(ended.code));
        }
        self.finish_exec(id);
    }

    fn finish_exec(&mut self, id: u64) {
        let Some(command) = self.execs.get_mut(&id) else { return };
        if command.starting.is_some() {
            return;
        }
        if let (Some(code), false, None) = (command.code, command.told, &command.failure) {
            command.told = true;
            self.send(0, Reply::ExecEnded { exec: id, code });
        }
        let Some(command) = self.execs.get(&id).filter(|command| command.ended) else { return };
        let instance = command.instance;
        if let Some((request, failure)) = self.execs.remove(&id).and_then(|command| command.failure)
        {
            self.fail(request, failure);
        }
        // Its container may have waited for it.
        self.try_finish(instance);
    }

    /// Kills a command with everything that it has started and that can be told apart.
    pub(super) fn kill_exec(&self, id: u64) {
        let Some(command) = self.execs.get(&id).filter(|command| !command.ended) else { return };
        if command.shim {
            signals::queue(command.pid, signals::kill_all(), 0);
        } else {
            // Its session's group, and itself should it not have made that yet.
            signals::kill(-command.pid, libc::SIGKILL);
            signals::kill(command.pid, libc::SIGKILL);
        }
    }

    /// Kills all commands of a container; true if there are none.
    pub(super) fn end_commands(&self, instance: u64) -> bool {
        let of_it = self.execs.iter().filter(|(_, command)| command.instance == instance);
        let ids: Vec<u64> = of_it.map(|(id, _)| *id).collect();
        ids.iter().for_each(|id| self.kill_exec(*id));
        ids.is_empty()
    }

    /// The shims of commands.
    pub(super) fn command_shims(&self) -> impl Iterator<Item = Pid> + '_ {
        self.execs.values().filter(|command| command.shim).map(|command| command.pid)
    }
}
