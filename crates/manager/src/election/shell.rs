//! The loop: waits for whatever happens first, tells the machine, and does what it says.

use std::future::pending;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use holdfast_election::{Answer, Election, Input, Output, Request, Settings};
use kube::api::DynamicObject;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::{error, info, warn};

use super::events::Reporter;
use super::follow::{News, follow};
use super::leases::{Leases, Outcome, Place, Trouble};
use super::rights::MissingRight;
use super::{Leadership, State, Term, Work, clock};

/// A machine and its surroundings.
pub(super) struct Shell {
    machine: Election,
    leases: Leases,
    reporter: Reporter,
    state: watch::Sender<State>,
    /// As the API server has last said and shown it.
    known: Vec<DynamicObject>,
    news: mpsc::Receiver<News>,
    stop: CancellationToken,
    running: Option<Running>,
    /// Rights of which people were told by an Event.
    told: Vec<(&'static str, &'static str)>,
    trouble: Option<String>,
    missing: Vec<MissingRight>,
    released: Option<bool>,
    /// Ends with the shell.
    _following: AbortOnDropHandle<()>,
}

/// The work that is led.
struct Running {
    task: AbortOnDropHandle<()>,
    stop: CancellationToken,
    /// Until when it may go on, once it was told to end.
    until: Option<Instant>,
}

impl Shell {
    pub(super) fn new(
        client: &kube::Client,
        place: Place,
        settings: Settings,
        state: watch::Sender<State>,
        stop: CancellationToken,
    ) -> Self {
        let (sender, news) = mpsc::channel(16);
        let leases = Leases::new(client, place.clone(), settings.request_timeout());
        let identity = settings.identity().to_owned();
        let reporter = Reporter::new(client, place, identity, sender.clone());
        let following = follow(leases.clone(), sender, settings.lease_duration());
        Self {
            machine: Election::new(settings),
            leases,
            reporter,
            state,
            known: Vec::new(),
            news,
            stop,
            running: None,
            told: Vec::new(),
            trouble: None,
            missing: Vec::new(),
            released: None,
            _following: AbortOnDropHandle::new(tokio::spawn(following)),
        }
    }

    /// Takes part until it is told to stop and has let go of the lease.
    pub(super) async fn run(mut self, mut work: Option<Work>) {
        info!("attempting to acquire leader lease {}...", self.leases.place);
        let mut call: Option<BoxFuture<'static, Outcome>> = None;
        let mut told_to_stop = false;
        let mut input = Some(Input::Tick);
        loop {
            if let Some(input) = input.take() {
                self.machine.handle(clock::moment(), input);
            }
            while let Some(output) = self.machine.poll() {
                if let Some(request) = self.act(output, &mut work) {
                    let known = self.known.clone();
                    call = Some(self.leases.clone().carry_out(request, known).boxed());
                }
            }
            self.publish();
            if let Some(released) = self.released {
                return self.finish(released).await;
            }
            let due = self.machine.poll_timeout().map(|due| due.since(clock::now()));
            input = tokio::select! {
                outcome = next(&mut call) => Some(Input::Answer(self.note(outcome))),
                () = ended(&mut self.running) => Some(Input::WorkStopped),
                () = self.stop.cancelled(), if !told_to_stop => {
                    told_to_stop = true;
                    Some(Input::Stop)
                }
                Some(news) = self.news.recv() => self.hear(news),
                () = after(due) => Some(Input::Tick),
            };
        }
    }

    fn act(&mut self, output: Output, work: &mut Option<Work>) -> Option<Request> {
        let identity = self.machine.settings().identity().to_owned();
        match output {
            Output::Request(request) => return Some(request),
            Output::BecameLeader => {
                info!("successfully acquired lease {}", self.leases.place);
                self.reporter.normal(format!("{identity} became leader"));
                self.publish();
                self.begin(work.as_mut());
            }
            Output::StoppedLeading => {
                // The work ends at its next step; a clean stop has waited for it before.
                match &self.running {
                    Some(running) => {
                        running.stop.cancel();
                        running.task.abort();
                    }
                    None => self.machine.handle(clock::moment(), Input::WorkStopped),
                }
                if self.stop.is_cancelled() {
                    info!("stopped leading, and lets go of lease {}", self.leases.place);
                } else {
                    let why = self.trouble.as_deref().unwrap_or("it is not ours any more");
                    warn!("failed to renew lease {}: {why}", self.leases.place);
                }
                self.reporter.normal(format!("{identity} stopped leading"));
            }
            Output::StopWork => match &mut self.running {
                Some(running) => {
                    running.stop.cancel();
                    running.until = Some(Instant::now() + DRAIN);
                }
                None => self.machine.handle(clock::moment(), Input::WorkStopped),
            },
            Output::NewLeader(holder) if holder != identity => {
                info!("new leader elected: {holder}");
            }
            Output::NewLeader(_) => {}
            Output::Done { released } => self.released = Some(released),
        }
        None
    }

    fn begin(&mut self, work: Option<&mut Work>) {
        let Some(work) = work else { return };
        let stop = CancellationToken::new();
        let epoch = self.machine.lease().map_or(0, |lease| lease.record.transitions);
        let leadership = Leadership(self.state.subscribe());
        let task = tokio::spawn(work(Term { leadership, stop: stop.clone(), epoch }));
        self.running = Some(Running { task: AbortOnDropHandle::new(task), stop, until: None });
    }

    /// Takes note of an answer.
    fn note(&mut self, outcome: Outcome) -> Answer {
        let Outcome { verb, answer, object, trouble } = outcome;
        if let Some(object) = object {
            self.know(object);
        }
        match trouble {
            None => {
                self.may(verb, "leases");
                self.trouble = None;
            }
            Some(Trouble::Missing(missing)) => {
                self.trouble = Some(missing.to_string());
                self.lack(missing);
            }
            Some(trouble) => {
                let words = trouble.to_string();
                if self.trouble.as_ref() != Some(&words) {
                    warn!("{words}");
                }
                self.trouble = Some(words);
            }
        }
        answer
    }

    fn hear(&mut self, news: News) -> Option<Input> {
        match news {
            News::Changed(change, object) => {
                if let Some(object) = object {
                    self.know(*object);
                }
                return Some(Input::Changed(change));
            }
            News::Missing(missing) => self.lack(missing),
            News::May(verb, resource) => self.may(verb, resource),
        }
        None
    }

    /// Keeps the objects that the next write may be based on: the last answer, and the last news.
    fn know(&mut self, object: DynamicObject) {
        self.reporter.about = object.metadata.clone();
        let same = |known: &DynamicObject| {
            known.metadata.resource_version == object.metadata.resource_version
        };
        self.known.retain(|known| !same(known));
        self.known.push(object);
        if self.known.len() > KNOWN {
            self.known.remove(0);
        }
    }

    fn may(&mut self, verb: &str, resource: &str) {
        self.missing.retain(|missing| !missing.is(verb, resource));
    }

    fn lack(&mut self, missing: MissingRight) {
        let (verb, resource) = (missing.verb, missing.resource);
        if self.missing.iter().any(|known| known.is(verb, resource)) {
            return;
        }
        error!("{missing}");
        if resource != "events" && !self.told.contains(&(verb, resource)) {
            self.told.push((verb, resource));
            self.reporter.warning(missing.to_string());
        }
        self.missing.push(missing);
    }

    /// Tells whoever looks. A renewal alone wakes nobody.
    fn publish(&self) {
        let holder = self.machine.lease().map(|lease| lease.record.holder.clone());
        let until = self.machine.leading_until();
        let state = State {
            leading: until.is_some(),
            until,
            renewed: until.and(self.machine.changed_at()),
            holder: holder.filter(|holder| !holder.is_empty()),
            trouble: self.trouble.clone(),
            missing: self.missing.clone(),
            slow_paths: self.machine.slow_paths(),
        };
        self.state.send_if_modified(|shown| {
            let before = State { until, renewed: state.renewed, ..shown.clone() };
            let changed = before != state;
            *shown = state;
            changed
        });
    }

    async fn finish(self, released: bool) {
        if !released {
            let lasts = self.machine.settings().lease_duration();
            let why = self.trouble.as_deref().unwrap_or("no answer");
            warn!(
                "lease {} is not released, others take it in {} s at most: {why}",
                self.leases.place,
                lasts.as_secs()
            );
        }
        self.reporter.finish().await;
    }
}

/// The answer, if something was asked.
async fn next(call: &mut Option<BoxFuture<'static, Outcome>>) -> Outcome {
    let Some(future) = call else { return pending().await };
    let outcome = future.await;
    *call = None;
    outcome
}

/// When the work has ended, also if it panicked or was aborted; when it takes too long to, it is aborted.
async fn ended(running: &mut Option<Running>) {
    let Some(Running { task, stop, until }) = running else { return pending().await };
    let too_long = async {
        match *until {
            Some(until) => tokio::time::sleep_until(until).await,
            None => pending().await,
        }
    };
    tokio::select! {
        _ = &mut *task => {
            if !stop.is_cancelled() {
                error!("the work that is led has ended, though nobody told it to");
            }
        }
        () = too_long => {
            warn!("the work that was led did not end within {} s, and is cut off", DRAIN.as_secs());
            *until = None;
            task.abort();
            let _ = task.await;
        }
    }
    *running = None;
}

async fn after(due: Option<Duration>) {
    match due {
        Some(due) => tokio::time::sleep(due).await,
        None => pending().await,
    }
}

/// The last answer, the last news, and one between them.
const KNOWN: usize = 3;

/// How long work gets to end on a clean stop. While it does, the lease is renewed.
const DRAIN: Duration = Duration::from_secs(10);
