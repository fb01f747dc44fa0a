//! What one sync of a pod has to do, as a pure function of what is known (spec A2, A4, A5;
//! kubelet: `computePodActions`, `computeInitContainerActions`).

use crate::options::Features;
use crate::plan::{Container, ContainerId, Kind, Plan, ProbeKind, RestartPolicy};
use crate::probe::{Outcome, ProbeResults};
use crate::restart::{self, Verdict, effective_policy, should_restart};
use crate::scope::Scope;
use crate::status::InstanceId;
use crate::view::{Instance, InstanceState, RuntimeView};

/// Everything a decision looks at.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The pod.
    pub plan: &'a Plan,
    /// What the runtime holds.
    pub view: &'a RuntimeView,
    /// The probe results of the newest runs.
    pub results: &'a ProbeResults,
    /// What the imitated version does.
    pub features: &'a Features,
    /// Whether a deletion was asked for.
    pub deleted: bool,
    /// Whether all containers are being restarted in place (condition `AllContainersRestarting`).
    pub restarting_all: bool,
}

/// The work of one sync, in the order it is carried out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodActions {
    /// Stop every running container (in termination order) and the sandbox.
    pub kill_pod: bool,
    /// Make a new sandbox afterwards.
    pub create_sandbox: bool,
    /// The attempt of the sandbox: the new one if one is made.
    pub attempt: u32,
    /// Runs to stop and remove, for an in-place restart of all containers.
    pub reset: Vec<Reset>,
    /// Runs to stop one after another.
    pub kill: Vec<Kill>,
    /// Ephemeral containers to start.
    pub start_ephemeral: Vec<ContainerId>,
    /// Entries of the init list to start, in order.
    pub start_init: Vec<ContainerId>,
    /// Regular containers to start, in order.
    pub start_regular: Vec<ContainerId>,
}

/// One run that a sync stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kill {
    /// The run.
    pub instance: InstanceId,
    /// Its container.
    pub container: ContainerId,
    /// Why.
    pub reason: KillReason,
    /// Whether it is started again afterwards: the event says so.
    pub restart: bool,
}

/// One run that goes for an in-place restart of all containers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reset {
    /// The run.
    pub instance: InstanceId,
    /// Its container.
    pub container: ContainerId,
    /// Whether it runs and is killed first.
    pub kill: bool,
}

/// Why a run is stopped; decides the grace period and the event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KillReason {
    /// The container's definition changed.
    Changed,
    /// Its liveness probe failed.
    Liveness,
    /// The whole pod is stopped.
    Pod,
    /// Its postStart hook failed.
    PostStart,
    /// All containers are restarted in place.
    RestartAll,
    /// Its startup probe failed.
    Startup,
    /// Its state is unknown, and two runs at once must not be.
    Unknown,
}

/// Computes what the next sync does.
pub fn compute(cx: &Context<'_>) -> PodActions {
    compute_in(cx, Scope::All)
}

/// The same, but the walks over all containers leave out those that have nothing to say.
pub(crate) fn compute_in(cx: &Context<'_>, scope: Scope<'_>) -> PodActions {
    let (new_sandbox, attempt) = cx.view.sandbox_changed(cx.plan);
    let mut actions = PodActions {
        kill_pod: new_sandbox,
        create_sandbox: new_sandbox,
        attempt,
        ..PodActions::default()
    };
    if new_sandbox {
        recreate_sandbox(cx, &mut actions);
        return actions;
    }
    if cx.restarting_all && cx.features.restart_all_containers {
        actions.reset = resets(cx);
        if !actions.reset.is_empty() {
            return actions;
        }
    }
    actions.start_ephemeral = scope.ephemerals(cx.plan);
    actions.start_ephemeral.retain(|&id| cx.view.newest(id).is_none());
    let initialized = init_actions(cx, scope, &mut actions);
    if actions.kill_pod || !initialized {
        return actions;
    }
    regular_actions(cx, scope, &mut actions);
    actions
}

/// A new sandbox is needed: decides whether the pod is worth one, and what starts in it.
fn recreate_sandbox(cx: &Context<'_>, actions: &mut PodActions) {
    let plan = cx.plan;
    // Only the pod's policy counts here, whatever a container's own says.
    if plan.restart_policy == RestartPolicy::Never && actions.attempt != 0 && cx.view.has_any() {
        actions.create_sandbox = false;
        return;
    }
    let to_start: Vec<ContainerId> =
        plan.regulars().filter(|&id| !succeeded_for_good(cx, id)).collect();
    if to_start.is_empty() && plan.regulars().any(|id| cx.view.newest(id).is_some()) {
        actions.create_sandbox = false;
        return;
    }
    match plan.inits().next() {
        Some(first) => actions.start_init.push(first),
        None => actions.start_regular = to_start,
    }
}

/// Whether a regular container ended with 0 under a policy that leaves it so.
fn succeeded_for_good(cx: &Context<'_>, id: ContainerId) -> bool {
    effective_policy(cx.plan, cx.plan.container(id), cx.features) == RestartPolicy::OnFailure
        && cx.view.newest(id).and_then(Instance::exit).is_some_and(|t| t.exit_code == 0)
}

/// Runs to remove so that the pod can start over in its sandbox: those whose exit asked for it go
/// last, because their record is what keeps the request alive.
fn resets(cx: &Context<'_>) -> Vec<Reset> {
    let is_source = |i: &Instance| {
        i.exit().is_some_and(|t| {
            restart::on_exit(cx.plan, cx.plan.container(i.container), t.exit_code, cx.features)
                == Verdict::RestartAll
        })
    };
    let runs = |ids: &mut dyn Iterator<Item = ContainerId>, source: bool| -> Vec<Reset> {
        ids.flat_map(|id| cx.view.runs(id).iter().rev())
            .filter(|i| is_source(i) == source)
            .map(|i| Reset { instance: i.id, container: i.container, kill: i.is_running() })
            .collect()
    };
    let mut all = runs(&mut cx.plan.regulars(), false);
    all.extend(runs(&mut cx.plan.inits(), false));
    all.extend(runs(&mut cx.plan.regulars(), true));
    all.extend(runs(&mut cx.plan.inits(), true));
    all
}

/// Walks the init list from its end (kubelet: `computeInitContainerActions`). Returns whether the pod
/// is initialized.
fn init_actions(cx: &Context<'_>, scope: Scope<'_>, actions: &mut PodActions) -> bool {
    let plan = cx.plan;
    let Some((first, last)) = scope.ends(plan) else { return true };
    let has_started = scope.has_started(cx);
    let mut initialized = has_started;
    // Whether an entry further down the list has a record: what lies before it is finished.
    let mut seen = has_started;
    for &id in scope.inits(cx).iter().rev() {
        let c = plan.container(id);
        let sidecar = c.kind == Kind::Sidecar;
        let Some(run) = cx.view.newest(id) else {
            if seen && sidecar {
                actions.start_init.push(id);
            }
            continue;
        };
        if seen && !sidecar {
            continue;
        }
        let advance = |initialized: &mut bool, start: &mut Vec<ContainerId>| {
            if id == last {
                *initialized = true;
            } else if !seen {
                start.push(ContainerId(id.0 + 1));
            }
        };
        match &run.state {
            InstanceState::Created => actions.start_init.push(id),
            InstanceState::Running { .. } if sidecar => {
                if startup_passed(cx, c, id, run, actions) {
                    advance(&mut initialized, &mut actions.start_init);
                    replace_unhealthy_sidecar(cx, c, id, run, actions);
                }
            }
            InstanceState::Running { .. } => {}
            InstanceState::Exited(_) if sidecar => actions.start_init.push(id),
            InstanceState::Exited(t) => {
                let oom = t.reason == "OOMKilled" && cx.features.oom_killed_init_fails;
                if t.exit_code == 0 && !oom {
                    advance(&mut initialized, &mut actions.start_init);
                } else if should_restart(plan, c, Some(run), cx.deleted, cx.features) {
                    actions.start_init.push(id);
                } else {
                    return give_up(actions);
                }
            }
            InstanceState::Unknown => {
                if !sidecar && effective_policy(plan, c, cx.features) == RestartPolicy::Never {
                    return give_up(actions);
                }
                actions.kill.push(kill(id, run, KillReason::Unknown, true));
                actions.start_init.push(id);
            }
        }
        seen = true;
    }
    if !seen {
        actions.start_init.push(first);
    }
    actions.start_init.reverse();
    initialized
}

/// Initialization failed for good: the pod goes, nothing starts.
fn give_up(actions: &mut PodActions) -> bool {
    actions.kill_pod = true;
    actions.start_init.clear();
    false
}

/// Whether a running sidecar has started; a failed startup probe replaces it.
fn startup_passed(
    cx: &Context<'_>,
    c: &Container,
    id: ContainerId,
    run: &Instance,
    actions: &mut PodActions,
) -> bool {
    if c.startup.is_none() {
        return true;
    }
    match cx.results.get(id, ProbeKind::Startup) {
        Some(Outcome::Success) => true,
        Some(Outcome::Failure) => {
            actions.kill.push(kill(id, run, KillReason::Startup, true));
            actions.start_init.push(id);
            false
        }
        None | Some(Outcome::Unknown) => false,
    }
}

/// Replaces a started sidecar whose definition changed or whose liveness probe failed.
fn replace_unhealthy_sidecar(
    cx: &Context<'_>,
    c: &Container,
    id: ContainerId,
    run: &Instance,
    actions: &mut PodActions,
) {
    let reason = if run.image != c.image {
        KillReason::Changed
    } else if c.liveness.is_some()
        && cx.results.get(id, ProbeKind::Liveness) == Some(Outcome::Failure)
    {
        KillReason::Liveness
    } else {
        return;
    };
    actions.kill.push(kill(id, run, reason, true));
    actions.start_init.push(id);
}

/// The regular containers of an initialized pod.
fn regular_actions(cx: &Context<'_>, scope: Scope<'_>, actions: &mut PodActions) {
    let plan = cx.plan;
    let mut keeps = scope.others_run();
    for id in scope.regulars(plan) {
        let c = plan.container(id);
        let newest = cx.view.newest(id);
        let Some(run) = newest.filter(|i| i.is_running()) else {
            if should_restart(plan, c, newest, cx.deleted, cx.features) {
                actions.start_regular.push(id);
                if let Some(run) = newest.filter(|i| i.state == InstanceState::Unknown) {
                    actions.kill.push(kill(id, run, KillReason::Unknown, true));
                }
            }
            continue;
        };
        let failed = |probe| cx.results.get(id, probe) == Some(Outcome::Failure);
        let (reason, restart) = if run.image != c.image {
            (KillReason::Changed, true)
        } else if failed(ProbeKind::Liveness) || failed(ProbeKind::Startup) {
            // The rules of the container are not consulted here, only the policy.
            let restart = effective_policy(plan, c, cx.features) != RestartPolicy::Never;
            let reason = if failed(ProbeKind::Liveness) {
                KillReason::Liveness
            } else {
                KillReason::Startup
            };
            (reason, restart)
        } else {
            keeps = true;
            continue;
        };
        if restart {
            actions.start_regular.push(id);
        }
        actions.kill.push(kill(id, run, reason, restart));
    }
    if !keeps && actions.start_regular.is_empty() {
        actions.kill_pod = true;
        // Otherwise sidecars would keep the pod alive.
        actions.start_init.clear();
    }
}

const fn kill(container: ContainerId, run: &Instance, reason: KillReason, restart: bool) -> Kill {
    Kill { instance: run.id, container, reason, restart }
}
