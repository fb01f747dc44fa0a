//! Processes and hooks of the scripted containers.

use std::collections::BTreeSet;
use std::time::Duration;

use holdfast_lifecycle::plan::{ContainerId, HookKind};
use holdfast_lifecycle::{Input, InstanceId, Time};

use super::{Happening, World, latency};
use crate::script::{HookScript, Program};

/// The main process of one run.
pub(super) struct Process {
    pub(super) container: ContainerId,
    pub(super) started: Time,
    pub(super) ended: bool,
    pub(super) files: BTreeSet<String>,
    program: Program,
    /// SIGTERM was handled: its own plan no longer counts.
    terminating: bool,
    /// Hooks that run in it, and whether they are commands (which die with it).
    hooks: Vec<HookKind>,
}

/// The next thing a process does.
#[derive(Clone, Debug)]
pub(super) enum Turn {
    /// It writes that it is starting.
    Starting,
    /// It is up.
    Up,
    /// Its work is done.
    Done,
    /// It has cleaned up after SIGTERM.
    Terminated,
    /// SIGKILL.
    Killed,
    /// A file change, by index in the script.
    File(usize),
}

impl World {
    pub(super) fn begin(&mut self, container: ContainerId, id: InstanceId, program: Program) {
        let timed: Vec<_> = self.scripts[container.index()]
            .files
            .iter()
            .enumerate()
            .filter_map(|(i, f)| Some((i, f.at?)))
            .collect();
        self.after(latency::STEP, Happening::Process(id, Turn::Starting));
        let up = latency::STEP * 2 + program.start_delay;
        self.after(up, Happening::Process(id, Turn::Up));
        if let Some(runs) = program.runs {
            let done = (up + runs).max(latency::SEEN + latency::STEP);
            self.after(done, Happening::Process(id, Turn::Done));
        }
        for (i, at) in timed {
            self.after(at, Happening::Process(id, Turn::File(i)));
        }
        self.processes.insert(
            id,
            Process {
                container,
                started: self.now,
                ended: false,
                files: BTreeSet::new(),
                program,
                terminating: false,
                hooks: Vec::new(),
            },
        );
    }

    pub(super) fn turn(&mut self, id: InstanceId, turn: Turn) {
        let Some(p) = self.processes.get_mut(&id).filter(|p| !p.ended) else { return };
        let (container, logs, exit) = (p.container, p.program.logs, p.program.exit);
        match turn {
            Turn::Starting | Turn::Up | Turn::Done if p.terminating => {}
            Turn::Starting if logs => self.write(self.name(container), "Starting"),
            Turn::Starting => {}
            Turn::Up => {
                p.files.insert("started".into());
                if logs {
                    self.write(self.name(container), "Started");
                    self.write(self.name(container), "Delaying");
                }
                self.gates(id);
            }
            Turn::Done | Turn::Terminated => {
                if logs {
                    self.write(self.name(container), "Exiting");
                }
                self.end(id, exit);
            }
            Turn::Killed => self.end(id, 137),
            Turn::File(i) => self.change_file(id, i),
        }
    }

    fn change_file(&mut self, id: InstanceId, index: usize) {
        let Some(p) = self.processes.get_mut(&id) else { return };
        let change = &self.scripts[p.container.index()].files[index];
        if change.make {
            p.files.insert(change.name.clone());
        } else {
            p.files.remove(&change.name);
        }
    }

    /// SIGTERM now, SIGKILL after `grace`.
    pub(super) fn stop(&mut self, id: InstanceId, grace: Duration) {
        let Some(p) = self.processes.get_mut(&id).filter(|p| !p.ended) else { return };
        if !p.terminating
            && let Some(work) = p.program.on_term
        {
            p.terminating = true;
            let on_term: Vec<_> = self.scripts[p.container.index()]
                .files
                .iter()
                .enumerate()
                .filter(|(_, f)| f.at.is_none())
                .map(|(i, _)| i)
                .collect();
            for i in on_term {
                self.change_file(id, i);
            }
            self.after(latency::STEP + work, Happening::Process(id, Turn::Terminated));
        }
        self.after(grace, Happening::Process(id, Turn::Killed));
    }

    /// The process is gone, and with it every command in its container.
    pub(super) fn end(&mut self, id: InstanceId, code: i32) {
        let Some(p) = self.processes.get_mut(&id).filter(|p| !p.ended) else { return };
        p.ended = true;
        let (container, hooks) = (p.container, std::mem::take(&mut p.hooks));
        if let Some(run) = self.runs.entry(container).or_default().last_mut() {
            run.1 = Some(self.now);
        }
        self.invariants.ended(container, code);
        let exited = Input::Exited { instance: id, code, reason: None, message: String::new() };
        self.tell(exited);
        for hook in hooks {
            let result = Err("the container ended".to_owned());
            self.answer(latency::STEP, Input::HookDone { instance: id, hook, result });
        }
    }

    pub(super) fn run_hook(&mut self, container: ContainerId, id: InstanceId, hook: HookKind) {
        let script = &self.scripts[container.index()];
        let script = match hook {
            HookKind::PostStart => script.post.clone(),
            HookKind::PreStop => script.pre.clone(),
        };
        let Some(script) = script else {
            self.fail(format!("{} has no {hook:?} hook", self.name(container)));
            return;
        };
        let Some(p) = self.processes.get_mut(&id).filter(|p| !p.ended) else {
            let result = Err("no such container".to_owned());
            self.answer(latency::EXEC, Input::HookDone { instance: id, hook, result });
            return;
        };
        p.hooks.push(hook);
        let up = p.files.contains("started");
        let ends = |w: &mut Self, after, result| {
            w.after(after, Happening::HookEnds(id, hook, result));
        };
        let outcome =
            |exit: i32| if exit == 0 { Ok(()) } else { Err(format!("exited with {exit}")) };
        if !matches!(script, HookScript::Http(_) | HookScript::Invalid) {
            self.hooks.push((container, hook, self.now));
        }
        match script {
            HookScript::Logs { start_delay, runs, exit } => {
                let at = latency::EXEC;
                self.after(at, Happening::HookLogs(id, hook, "Starting"));
                self.after(
                    at + start_delay + latency::STEP,
                    Happening::HookLogs(id, hook, "Started"),
                );
                let end = at + start_delay + runs + latency::STEP * 2;
                self.after(end, Happening::HookLogs(id, hook, "Exiting"));
                ends(self, end, outcome(exit));
            }
            HookScript::Exec(d, exit) => ends(self, latency::EXEC + d, outcome(exit)),
            HookScript::Sleep(d) => ends(self, d, Ok(())),
            HookScript::Loop => {
                self.after(latency::EXEC, Happening::HookLogs(id, hook, "Starting"));
                self.after(latency::EXEC, Happening::HookLoops(id));
            }
            HookScript::Gate if up => ends(self, latency::EXEC, Ok(())),
            HookScript::Gate => {}
            HookScript::Http(target) => {
                let served = self.engine.plan().find(&target).is_some_and(|t| {
                    self.processes
                        .values()
                        .any(|p| p.container == t && !p.ended && p.files.contains("started"))
                });
                if served {
                    self.hooks.push((container, hook, self.now));
                }
                let result = if served { Ok(()) } else { Err("connection refused".to_owned()) };
                ends(self, latency::EXEC, result);
            }
            HookScript::Invalid => ends(self, Duration::ZERO, Err("invalid handler".to_owned())),
        }
    }

    /// Opens the gates of a container that is up now.
    fn gates(&mut self, id: InstanceId) {
        let Some(p) = self.processes.get(&id) else { return };
        let script = &self.scripts[p.container.index()];
        for hook in p.hooks.clone() {
            let script = match hook {
                HookKind::PostStart => &script.post,
                HookKind::PreStop => &script.pre,
            };
            if matches!(script, Some(HookScript::Gate)) {
                self.after(latency::EXEC, Happening::HookEnds(id, hook, Ok(())));
                return;
            }
        }
    }

    pub(super) fn hook_ends(&mut self, id: InstanceId, hook: HookKind, result: Result<(), String>) {
        let Some(p) = self.processes.get_mut(&id).filter(|p| !p.ended) else { return };
        let Some(at) = p.hooks.iter().position(|h| *h == hook) else { return };
        p.hooks.remove(at);
        self.answer(Duration::ZERO, Input::HookDone { instance: id, hook, result });
    }

    pub(super) fn hook_logs(&mut self, id: InstanceId, hook: HookKind, what: &'static str) {
        let Some(p) = self.processes.get(&id).filter(|p| !p.ended) else { return };
        let prefix = match hook {
            HookKind::PostStart => "Post",
            HookKind::PreStop => "Pre",
        };
        self.write(format!("{prefix}-{}", self.name(p.container)), what);
    }

    pub(super) fn hook_loops(&mut self, id: InstanceId) {
        if self.processes.get(&id).is_some_and(|p| !p.ended) {
            self.hook_logs(id, HookKind::PreStop, "Looping");
            self.after(latency::LOOP, Happening::HookLoops(id));
        }
    }
}
