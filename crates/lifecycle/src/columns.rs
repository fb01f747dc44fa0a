//! The row that `kubectl get pods` prints (spec B; API server: `printPod`).

use crate::options::Features;
use crate::plan::{Kind, Plan};
use crate::status::{ConditionKind, ContainerStatus, PodStatus, State, Terminated};
use crate::time::Time;

/// The columns of one pod that depend on its status.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Row {
    /// First number of READY.
    pub ready: usize,
    /// Second number of READY.
    pub total: usize,
    /// STATUS.
    pub status: String,
    /// RESTARTS.
    pub restarts: u64,
    /// When the latest of the counted restarts happened, for `(5m ago)`.
    pub last_restart: Option<Time>,
}

/// What of a pod's metadata the row depends on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Meta {
    /// Whether `metadata.deletionTimestamp` is set.
    pub deleting: bool,
    /// Whether the pod waits for its scheduling gates.
    pub scheduling_gated: bool,
}

/// The row of a pod.
pub fn row(plan: &Plan, status: &PodStatus, meta: Meta, features: &Features) -> Row {
    let mut row = Row {
        ready: 0,
        total: plan
            .containers
            .iter()
            .filter(|c| c.kind == Kind::Regular || c.kind == Kind::Sidecar)
            .count(),
        status: status.phase.as_str().to_owned(),
        restarts: 0,
        last_restart: None,
    };
    if !status.reason.is_empty() {
        row.status = status.reason.to_string();
    }
    if meta.scheduling_gated {
        row.status = "SchedulingGated".into();
    }
    let mut sidecars = Restarts::default();
    let initializing = walk_inits(plan, status, &mut row, &mut sidecars);
    if !initializing || status.is_true(&ConditionKind::Initialized) {
        let mut counted = sidecars;
        walk_regulars(status, &mut row, &mut counted, features);
        row.restarts = counted.count;
        row.last_restart = counted.last;
    }
    if meta.deleting && status.reason == "NodeLost" {
        row.status = "Unknown".into();
    } else if meta.deleting && !status.phase.is_terminal() {
        row.status = "Terminating".into();
    }
    row
}

#[derive(Clone, Copy, Default)]
struct Restarts {
    count: u64,
    last: Option<Time>,
}

impl Restarts {
    fn add(&mut self, s: &ContainerStatus) {
        self.count += u64::from(s.restart_count);
        self.last = self.last.max(s.last_state.as_ref().and_then(|t| t.finished_at));
    }
}

/// Walks the init list up to the first entry that is not done; true if there is one.
fn walk_inits(plan: &Plan, status: &PodStatus, row: &mut Row, sidecars: &mut Restarts) -> bool {
    let total = plan.inits().count();
    let mut all = Restarts::default();
    let mut inits = plan.inits().map(|id| plan.container(id));
    for (at, s) in status.init.iter().enumerate() {
        let kind = inits
            .next()
            .filter(|c| c.name == s.name)
            .map(|c| c.kind)
            .or_else(|| plan.find(&s.name).map(|id| plan.container(id).kind));
        let sidecar = kind == Some(Kind::Sidecar);
        all.add(s);
        if sidecar {
            sidecars.add(s);
        }
        row.restarts = all.count;
        row.last_restart = all.last;
        match &s.state {
            State::Terminated(t) if t.exit_code == 0 => continue,
            _ if sidecar && s.started == Some(true) => {
                row.ready += usize::from(s.ready);
                continue;
            }
            State::Terminated(t) => row.status = format!("Init:{}", termination(t)),
            State::Waiting { reason, .. } if !reason.is_empty() && reason != "PodInitializing" => {
                row.status = format!("Init:{reason}");
            }
            _ => row.status = format!("Init:{at}/{total}"),
        }
        return true;
    }
    false
}

/// Walks the regular containers; the first one (by name) has the last word.
fn walk_regulars(status: &PodStatus, row: &mut Row, restarts: &mut Restarts, features: &Features) {
    let mut running = false;
    let mut error = None;
    for s in status.regular.iter().rev() {
        restarts.add(s);
        match &s.state {
            State::Waiting { reason, .. } if !reason.is_empty() => row.status = reason.to_string(),
            State::Terminated(t) => {
                row.status = termination(t);
                if t.exit_code != 0 {
                    error = Some(row.status.clone());
                }
            }
            State::Running { .. } if s.ready => {
                running = true;
                row.ready += 1;
            }
            _ => {}
        }
    }
    if row.status == "Completed" {
        if running && status.is_true(&ConditionKind::Ready) {
            row.status = "Running".into();
        } else if let Some(error) = error.filter(|_| features.error_over_completed) {
            row.status = error;
        } else if running {
            row.status = "NotReady".into();
        }
    }
}

/// The word for a termination.
fn termination(t: &Terminated) -> String {
    if !t.reason.is_empty() {
        t.reason.to_string()
    } else if t.exit_code > 128 {
        // The API keeps the signal apart; runtimes report it as 128 + n.
        format!("Signal:{}", t.exit_code - 128)
    } else {
        format!("ExitCode:{}", t.exit_code)
    }
}

/// An age as kubectl prints it (apimachinery: `duration.HumanDuration`).
pub fn human_duration(secs: u64) -> String {
    let (m, h, d) = (secs / 60, secs / 3600, secs / 86_400);
    let with = |big: u64, unit: char, rest: u64, small: char| {
        if rest == 0 { format!("{big}{unit}") } else { format!("{big}{unit}{rest}{small}") }
    };
    if secs < 120 {
        format!("{secs}s")
    } else if m < 10 {
        with(m, 'm', secs % 60, 's')
    } else if h < 3 {
        format!("{m}m")
    } else if h < 8 {
        with(h, 'h', m % 60, 'm')
    } else if h < 48 {
        format!("{h}h")
    } else if h < 192 {
        with(d, 'd', h % 24, 'h')
    } else if h < 17_520 {
        format!("{d}d")
    } else if h < 70_080 {
        with(d / 365, 'y', d % 365, 'd')
    } else {
        format!("{}y", d / 365)
    }
}

impl Row {
    /// READY as printed.
    pub fn ready_text(&self) -> String {
        format!("{}/{}", self.ready, self.total)
    }

    /// RESTARTS as printed at `now`.
    pub fn restarts_text(&self, now: Time) -> String {
        match self.last_restart {
            Some(at) if self.restarts > 0 => {
                format!("{} ({} ago)", self.restarts, human_duration(now.since(at).as_secs()))
            }
            _ => self.restarts.to_string(),
        }
    }
}
