//! Leader election among replicas: the machine of crate `election` on a real clock and a real API server.
//!
//! ```text
//!   watch ──▶┐                        ┌──▶ Get, Create, Update (one at a time, each with a time limit)
//!   answers ▶├─ holdfast_election ────┼──▶ the work that is led: begun, told to stop, ended
//!   clock ──▶┘                        └──▶ state (`watch` channel), Events, log
//! ```
//!
//! Losing the lease ends the work that is led and nothing else: the process stays, and so do the
//! connections of its proxy. A clean stop ends the work first and lets go of the lease then, so that
//! another replica leads at once. What holds and what does not: `docs/election.md`.

mod clock;
mod events;
mod follow;
mod leases;
mod rights;
mod shell;

use std::time::Duration;

use futures_util::future::BoxFuture;
use holdfast_election::{Settings, SettingsError, Time};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

pub(crate) use leases::chain;
pub use rights::MissingRight;

use crate::config;
use crate::health::{Check, Verdict};

/// A replica that takes part. Dropping it ends that without letting go of the lease.
#[derive(Debug)]
pub struct Elected {
    state: watch::Receiver<State>,
    stop: CancellationToken,
    task: AbortOnDropHandle<()>,
    lease: String,
    lease_duration: Duration,
}

/// What is known of the election.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// Whether this process was elected. For a decision ask [`Leadership::is_leading`], which looks at the
    /// clock as well.
    pub leading: bool,
    /// Until when it leads unless it renews the lease before, by [`now`].
    pub until: Option<Time>,
    /// When its last successful renewal was sent.
    pub renewed: Option<Time>,
    /// Who holds the lease, as last seen; this process or another.
    pub holder: Option<String>,
    /// Why the last request to the API server did not succeed.
    pub trouble: Option<String>,
    /// Rights that it lacks.
    pub missing: Vec<MissingRight>,
    /// How often the lease had to be read before it could be renewed.
    pub slow_paths: u64,
}

/// Why this replica cannot take part.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The durations break a rule.
    #[error("leader election: {0}")]
    Settings(#[from] SettingsError),
    /// There is no way to the API server.
    #[error("leader election: no client for the API server: {0}")]
    Client(#[from] kube::Error),
}

/// What is led: called each time this process is elected. Its future is told to end by
/// [`Term::stop`] on a clean stop, and dropped when the lease is lost.
pub type Work = Box<dyn FnMut(Term) -> BoxFuture<'static, ()> + Send>;

/// One time of leading.
#[derive(Clone, Debug)]
pub struct Term {
    /// To be asked before each step that must not be done twice.
    pub leadership: Leadership,
    /// Cancelled when the work is to end.
    pub stop: CancellationToken,
    /// `leaseTransitions`: grows with each change of the leader, so that what is written elsewhere can
    /// be told from what an earlier leader has written.
    pub epoch: u32,
}

/// Whether this process leads at this instant.
#[derive(Clone, Debug)]
pub struct Leadership(watch::Receiver<State>);

impl Leadership {
    /// By the clock: also right if the process was frozen and nothing else has noticed yet.
    #[must_use]
    pub fn is_leading(&self) -> bool {
        self.0.borrow().until.is_some_and(|until| now() < until)
    }
}

/// Sets what the election needs in the configuration of its client.
pub(crate) type Adjust = Box<dyn Fn(&mut kube::Config) + Send>;

/// Takes part in an election, in a task of its own.
///
/// `cluster` is how to reach the API server; the election has a client of its own, so that nothing else
/// that this process asks for can delay it. A provider for TLS must be installed.
///
/// # Errors
/// When the settings break a rule, or no client can be made.
pub fn start(
    cluster: kube::Config,
    config: &config::Election,
    work: Option<Work>,
) -> Result<Elected, StartError> {
    start_with(config, work, |adjust| {
        let mut cluster = cluster;
        adjust(&mut cluster);
        kube::Client::try_from(cluster)
    })
}

/// The same with a client that `client` makes, once it is told what has to be set in its configuration.
pub(crate) fn start_with(
    config: &config::Election,
    work: Option<Work>,
    client: impl FnOnce(Adjust) -> Result<kube::Client, kube::Error>,
) -> Result<Elected, StartError> {
    let settings =
        Settings::with(config.identity.clone(), config.lease, config.renew, config.retry)?;
    let patience = settings.request_timeout();
    let client = client(Box::new(move |cluster| {
        // A request is tried again by the machine, which knows when that is right.
        cluster.default_retry = false;
        cluster.connect_timeout = Some(patience);
    }))?;
    let (sender, state) = watch::channel(State::default());
    let stop = CancellationToken::new();
    let lease_duration = settings.lease_duration();
    let place = leases::Place { namespace: config.namespace.clone(), name: config.name.clone() };
    let lease = place.to_string();
    let shell = shell::Shell::new(&client, place, settings, sender, stop.clone());
    let task: JoinHandle<()> = tokio::spawn(shell.run(work));
    Ok(Elected { state, stop, task: AbortOnDropHandle::new(task), lease, lease_duration })
}

impl Elected {
    /// What is known, and when it changes. A renewal alone is no change.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<State> {
        self.state.clone()
    }

    /// Whether this process leads, to be asked anywhere.
    #[must_use]
    pub fn leadership(&self) -> Leadership {
        Leadership(self.state.clone())
    }

    /// Ends the work that is led, lets go of the lease and tells people; seconds at most.
    pub async fn stop(self) {
        self.stop.cancel();
        // It ends by itself now; that it panicked was logged by whoever catches panics.
        let _ = self.task.await;
    }

    /// The check `leaderElection` (client-go: `HealthzAdaptor`): fails if this process believes to lead
    /// although it has not renewed the lease for long, so that something in it must be stuck. Rights that
    /// it lacks are named, and fail nothing: who does not lead serves all the same.
    #[must_use]
    pub fn check(&self) -> Check {
        let (state, lease) = (self.state.clone(), self.lease.clone());
        let limit = self.lease_duration + TOLERANCE;
        Check::new("leaderElection", move || verdict(&state.borrow(), now(), limit, &lease))
    }

    /// Adds `leader_election_master_status` and `leader_election_slowpath_total`, as they are when they are
    /// asked for: a process that was frozen does not say that it leads when it wakes.
    pub fn register(&self, registry: &mut Registry) {
        let name = self.lease.rsplit('/').next().unwrap_or_default().to_owned();
        registry.register_collector(Box::new(Metrics { name, leadership: self.leadership() }));
    }
}

/// The values of the metrics.
#[derive(Debug)]
struct Metrics {
    name: String,
    leadership: Leadership,
}

impl Collector for Metrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let name = [("name", self.name.as_str())];
        let leads = "leader_election_master_status";
        let mut descriptor = encoder.encode_descriptor(
            leads,
            "Whether this process leads: 1 or 0",
            None,
            MetricType::Gauge,
        )?;
        let leading = ConstGauge::new(i64::from(self.leadership.is_leading()));
        leading.encode(descriptor.encode_family(&name)?)?;
        let slow = "leader_election_slowpath";
        let mut descriptor = encoder.encode_descriptor(
            slow,
            "Renewals for which the lease had to be read first",
            None,
            MetricType::Counter,
        )?;
        let slow_paths = ConstCounter::new(self.leadership.0.borrow().slow_paths);
        slow_paths.encode(descriptor.encode_family(&name)?)
    }
}

/// The clock of [`State::until`].
#[must_use]
pub fn now() -> Time {
    clock::now()
}

fn verdict(state: &State, now: Time, limit: Duration, lease: &str) -> Verdict {
    if state.leading && state.renewed.is_some_and(|renewed| now.since(renewed) > limit) {
        return Verdict::Failed(format!("failed election to renew leadership on lease {lease}"));
    }
    let mut words: Vec<String> = state.missing.iter().map(ToString::to_string).collect();
    if words.is_empty() {
        words.extend(state.trouble.clone());
    }
    match words.is_empty() {
        true => Verdict::Ok,
        false => Verdict::Noted(words.join("; ")),
    }
}

/// How long past the lease's end an unrenewed one is borne (kube-controller-manager's and
/// controller-runtime's adaptor).
const TOLERANCE: Duration = Duration::from_secs(20);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_check_fails_for_a_stuck_leader_only() {
        let at = |seconds: u64| Time::from_millis(seconds * 1000);
        let limit = Duration::from_secs(35);
        let mut state = State { leading: true, renewed: Some(at(100)), ..State::default() };
        assert_eq!(verdict(&state, at(135), limit, "ns/l"), Verdict::Ok);
        let words = "failed election to renew leadership on lease ns/l".to_owned();
        assert_eq!(verdict(&state, at(136), limit, "ns/l"), Verdict::Failed(words));
        state.leading = false;
        assert_eq!(verdict(&state, at(136), limit, "ns/l"), Verdict::Ok);
        state.trouble = Some("no answer".into());
        assert_eq!(verdict(&state, at(136), limit, "ns/l"), Verdict::Noted("no answer".into()));
        state.missing = vec![MissingRight::lease("get", "ns", "l", "no")];
        let Verdict::Noted(words) = verdict(&state, at(136), limit, "ns/l") else { panic!() };
        assert!(words.contains("may not get leases") && !words.contains("no answer"), "{words}");
    }

    #[test]
    fn leadership_ends_by_the_clock() {
        let (sender, receiver) = watch::channel(State::default());
        let leadership = Leadership(receiver);
        assert!(!leadership.is_leading());
        let until = Some(now() + Duration::from_secs(60));
        sender.send_replace(State { leading: true, until, ..State::default() });
        assert!(leadership.is_leading());
        // Nobody has said that it is over, as in a process that was frozen.
        sender.send_replace(State { leading: true, until: Some(now()), ..State::default() });
        assert!(!leadership.is_leading());
    }

    #[tokio::test]
    async fn metrics_follow_the_state() {
        let (sender, state) = watch::channel(State::default());
        let elected = Elected {
            state,
            stop: CancellationToken::new(),
            task: AbortOnDropHandle::new(tokio::spawn(std::future::pending())),
            lease: "mesh/l".into(),
            lease_duration: Duration::from_secs(15),
        };
        let mut registry = Registry::default();
        elected.register(&mut registry);
        let soon = now() + Duration::from_secs(60);
        for (until, slow_paths) in [(None, 0), (Some(soon), 2), (Some(now()), 3), (None, 3)] {
            let leading = until == Some(soon);
            sender.send_replace(State { leading: true, until, slow_paths, ..State::default() });
            let mut text = String::new();
            prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
            let status =
                format!("leader_election_master_status{{name=\"l\"}} {}", u8::from(leading));
            let slow = format!("leader_election_slowpath_total{{name=\"l\"}} {slow_paths}");
            assert!(text.contains(&status) && text.contains(&slow), "{text}");
        }
    }
}
