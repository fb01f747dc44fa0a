//! Probes of the scripted containers.

use holdfast_lifecycle::plan::{ContainerId, ProbeKind};
use holdfast_lifecycle::{InstanceId, ProbeResult};

use super::{Happening, World, latency, probe_done};
use crate::script::Check;

impl World {
    fn check_of(&self, container: ContainerId, kind: ProbeKind) -> Option<Check> {
        let script = &self.scripts[container.index()];
        match kind {
            ProbeKind::Startup => script.startup.clone(),
            ProbeKind::Readiness => script.readiness.clone(),
            ProbeKind::Liveness => script.liveness.clone(),
        }
    }

    pub(super) fn run_probe(&mut self, container: ContainerId, id: InstanceId, kind: ProbeKind) {
        let timeout = self.engine.plan().container(container).probe(kind).map(|p| p.timeout);
        let (Some(check), Some(timeout)) = (self.check_of(container, kind), timeout) else {
            self.fail(format!("{} has no {kind:?} probe", self.name(container)));
            return;
        };
        *self.probes.entry((container, kind)).or_default() += 1;
        let takes = match check {
            Check::Takes(d, _) => d.min(timeout),
            _ => latency::EXEC,
        };
        if matches!(check, Check::Logs(_)) {
            self.after(takes, Happening::ProbeLogs(id, kind));
        }
        self.after(takes, Happening::ProbeEnds(self.life, container, id, kind));
    }

    pub(super) fn probe_logs(&mut self, id: InstanceId, kind: ProbeKind) {
        let Some(p) = self.processes.get(&id).filter(|p| !p.ended) else { return };
        let who = format!("{kind:?}-{}", self.name(p.container));
        for what in ["Starting", "Started", "Exiting"] {
            self.write(who.clone(), what);
        }
    }

    pub(super) fn probe_ends(
        &mut self,
        life: u32,
        container: ContainerId,
        id: InstanceId,
        kind: ProbeKind,
    ) {
        if life != self.life || self.down {
            return;
        }
        let Some(check) = self.check_of(container, kind) else { return };
        let timeout = self.engine.plan().container(container).probe(kind).map(|p| p.timeout);
        let nth = self.answers.entry((id, kind)).or_default();
        *nth += 1;
        let nth = *nth;
        let result = match self.processes.get(&id).filter(|p| !p.ended) {
            None => ProbeResult::Error("no such container".into()),
            Some(p) => {
                let fail = |why: &str| ProbeResult::Failure(why.into());
                match &check {
                    Check::Fixed(true) | Check::Logs(0) => ProbeResult::Success,
                    Check::Fixed(false) | Check::Logs(_) => fail("it failed"),
                    Check::File(name) if p.files.contains(name) => ProbeResult::Success,
                    Check::File(_) => fail("no such file"),
                    Check::Takes(d, _) if Some(*d) > timeout => fail("command timed out"),
                    Check::Takes(_, ok) => {
                        if *ok {
                            ProbeResult::Success
                        } else {
                            fail("it failed")
                        }
                    }
                    Check::Http(answers) => {
                        let age = self.now.since(p.started);
                        match answers.iter().rev().find(|(at, _)| *at <= age) {
                            Some((_, 200..=399)) => ProbeResult::Success,
                            Some((_, code)) => {
                                fail(&format!("HTTP probe failed with statuscode: {code}"))
                            }
                            None => fail("connection refused"),
                        }
                    }
                    Check::Answers(list) => match list[nth.min(list.len()) - 1] {
                        'S' => ProbeResult::Success,
                        'F' => fail("it failed"),
                        _ => ProbeResult::Error("it could not be run".into()),
                    },
                    Check::RedirectAway => {
                        ProbeResult::Warning("Probe terminated redirects, Response body: ".into())
                    }
                }
            }
        };
        self.tell(probe_done(id, kind, result));
    }
}
