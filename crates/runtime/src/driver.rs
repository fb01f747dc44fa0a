//! The driver of one pod: gives the engine a real clock, carries out what it asks for, and tells it
//! what happened. Everything is an event; there is no polling and no sleep but the engine's timers.
//!
//! ```text
//!   RuntimeEvent ──┐                    ┌─▶ Runtime (sandbox, start, stop, exec)
//!   Command ───────┼─▶ Input ─▶ engine ─┼─▶ probes, hooks, image pulls
//!   answers ───────┘      ▲     Output ─┴─▶ Notice (objects, events, marks)
//!                         └── clock
//! ```

mod carry_out;
mod fault;

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use holdfast_lifecycle::columns::{self, Meta};
use holdfast_lifecycle::fault::FaultKind;
use holdfast_lifecycle::progress::{Progress, progress};
use holdfast_lifecycle::status::{ConditionKind, InstanceId};
use holdfast_lifecycle::{
    ContainerId, HookKind, Input, Lifecycle, Options, Phase, Plan, PodStatus,
};
use holdfast_manifest::object::container::Container;
use holdfast_manifest::object::pod::Pod;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};

use crate::assets::Assets;
use crate::clock::{Clock, sleep_until};
use crate::contract::{PodUid, Runtime, RuntimeEvent};
use crate::notice::{ChangeKind, ContainerIds, Mark, MarkStep, Notice, PodChange};

/// What all pods of one node share.
#[derive(Debug)]
pub struct Environment<R> {
    /// What runs the containers.
    pub runtime: R,
    /// The time.
    pub clock: Clock,
    /// Where reports go.
    pub notices: mpsc::UnboundedSender<Notice>,
    /// Settings of the engine.
    pub options: Options,
}

/// Something that a pod is told to do.
#[derive(Clone, Debug)]
pub enum Command {
    /// Stop in the termination order and be removed.
    Delete {
        /// The grace period; `None` takes the pod's own.
        grace: Option<Duration>,
    },
    /// SIGKILL to everything that runs.
    Kill,
    /// Something breaks on purpose.
    Fault(FaultKind),
}

/// What a pod's task is sent.
#[derive(Debug)]
pub enum Message {
    /// Someone wants something.
    Command(Command),
    /// The runtime reports.
    Runtime(RuntimeEvent),
}

/// How a pod ended.
#[derive(Clone, Debug)]
pub struct End {
    /// Its UID.
    pub uid: PodUid,
    /// Its last status.
    pub status: Rc<PodStatus>,
    /// Whether it was deleted rather than ran to its end.
    pub deleted: bool,
}

/// The driver of one pod.
pub struct Driver<R> {
    env: Rc<Environment<R>>,
    uid: PodUid,
    name: Arc<str>,
    pod: Rc<Pod>,
    plan: Rc<Plan>,
    engine: Lifecycle,
    assets: Rc<Assets>,
    answers: mpsc::UnboundedSender<Input>,
    answered: mpsc::UnboundedReceiver<Input>,
    /// Inputs that the engine must see as one.
    batches: mpsc::UnboundedSender<Vec<Input>>,
    batched: mpsc::UnboundedReceiver<Vec<Input>>,
    held: Option<fault::Held>,
    /// Volumes, sandboxes and starts that the runtime has been asked for and has not answered.
    asked: usize,
    /// A restart of the kubelet that waits for these.
    restart_due: bool,
    /// Watches the size of volumes.
    limits: Option<AbortHandle>,
    /// The identity of the next run that was not asked for.
    next_found: u64,
    messages: mpsc::UnboundedReceiver<Message>,
    operations: JoinSet<()>,
    /// Hooks that run.
    hooks: Vec<(InstanceId, HookKind, AbortHandle)>,
    /// Images that are being pulled.
    pulls: Vec<(ContainerId, AbortHandle)>,
    /// Probes of each run, to be dropped when it ends.
    watchers: HashMap<InstanceId, Vec<AbortHandle>>,
    /// Container and restart count of each run.
    runs: HashMap<InstanceId, (ContainerId, u32)>,
    container_ids: ContainerIds,
    announced: bool,
    deletion: Option<(holdfast_lifecycle::Time, u64)>,
    /// What the last published status said, for marks.
    shown: Rc<PodStatus>,
}

impl<R: Runtime + 'static> Driver<R> {
    /// A driver of this pod, whose runs are numbered from `first_instance`. Nothing happens before
    /// [`Driver::run`].
    pub fn new(
        env: Rc<Environment<R>>,
        pod: Rc<Pod>,
        plan: Plan,
        assets: Assets,
        messages: mpsc::UnboundedReceiver<Message>,
        first_instance: u64,
    ) -> Self {
        let (answers, answered) = mpsc::unbounded_channel();
        let (batches, batched) = mpsc::unbounded_channel();
        let uid = Arc::clone(&plan.uid);
        let name = Arc::clone(&plan.name);
        let options = Options { first_instance, ..env.options.clone() };
        let engine = Lifecycle::new(plan.clone(), options, env.clock.now());
        Self {
            env,
            uid,
            name,
            pod,
            plan: Rc::new(plan),
            engine,
            assets: Rc::new(assets),
            answers,
            answered,
            batches,
            batched,
            held: None,
            asked: 0,
            restart_due: false,
            limits: None,
            // The upper half of the pod's range: the engine counts from below.
            next_found: first_instance + (1 << 31),
            messages,
            operations: JoinSet::new(),
            hooks: Vec::new(),
            pulls: Vec::new(),
            watchers: HashMap::new(),
            runs: HashMap::new(),
            container_ids: ContainerIds::default(),
            announced: false,
            deletion: None,
            shown: Rc::default(),
        }
    }

    /// Runs the pod to its end: until it is terminal or deleted and everything of it is taken down.
    pub async fn run(mut self) -> End {
        loop {
            while let Some(output) = self.engine.poll() {
                self.carry_out(output);
            }
            if self.engine.is_finished() {
                return self.finish().await;
            }
            if self.restart_due && self.asked == 0 {
                self.restart_due = false;
                self.feed(Input::DriverRestarted);
                continue;
            }
            let timer = self.engine.poll_timeout().map(|at| self.env.clock.instant(at));
            tokio::select! {
                biased;
                Some(input) = self.answered.recv() => self.feed(input),
                Some(inputs) = self.batched.recv() => self.catch_up(inputs),
                message = self.messages.recv() => match message {
                    Some(Message::Command(command)) => self.command(command),
                    Some(Message::Runtime(event)) => self.runtime_event(event),
                    // Nobody is left who could ask for anything: stop.
                    None => self.feed(Input::Delete { grace: None }),
                },
                Some(done) = self.operations.join_next() => pass_on_panic(done),
                () = sleep_until(timer) => self.feed(Input::Tick),
            }
        }
    }

    fn feed(&mut self, input: Input) {
        self.observe(&input);
        self.engine.handle(self.env.clock.now(), input);
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Delete { grace } => {
                let now = self.env.clock.now();
                let grace = grace.unwrap_or(self.plan.termination_grace);
                let since = self.deletion.map_or(now, |(at, _)| at);
                self.deletion = Some((since, grace.as_secs()));
                self.feed(Input::Delete { grace: Some(grace) });
                self.abort_pulls();
            }
            Command::Kill => {
                self.kill_all(false);
                self.abort_hooks();
            }
            Command::Fault(fault) => self.fault(&fault),
        }
    }

    fn runtime_event(&mut self, event: RuntimeEvent) {
        match event {
            RuntimeEvent::Exited { instance, code, oom, message, .. } => {
                let reason = oom.then_some("OOMKilled".into());
                let input = Input::Exited { instance, code, reason, message };
                if !self.hold(&input) {
                    self.feed(input);
                }
                self.unwatch(instance);
            }
            RuntimeEvent::Output { container, stderr, line, receipt, .. } => {
                let pod = Arc::clone(&self.name);
                self.notify(Notice::Output { pod, container, stderr, line, receipt });
            }
            RuntimeEvent::Removed { instance, .. } => {
                self.unwatch(instance);
                self.feed(Input::Removed { instance });
            }
            RuntimeEvent::Unknown { instance, .. } => self.feed(Input::Unknown { instance }),
            RuntimeEvent::SandboxLost { .. } => self.feed(Input::SandboxLost),
        }
    }

    /// Drops the probes of a run that is over.
    fn unwatch(&mut self, instance: InstanceId) {
        for watcher in self.watchers.remove(&instance).unwrap_or_default() {
            watcher.abort();
        }
    }

    /// Waits for what is still under way, then gives everything back.
    async fn finish(mut self) -> End {
        // Who has something to say of the pod from here on finds nobody; what has been said is passed on.
        self.messages.close();
        while let Some(message) = self.messages.recv().await {
            if let Message::Runtime(event @ RuntimeEvent::Output { .. }) = message {
                self.runtime_event(event);
            }
        }
        if let Some(limits) = self.limits.take() {
            limits.abort();
        }
        while let Some(done) = self.operations.join_next().await {
            pass_on_panic(done);
        }
        self.env.runtime.remove_pod(&self.uid).await;
        let message = self.assets.clean_up();
        if let Err(message) = message {
            self.notify(Notice::Message(message));
        }
        let deleted = self.engine.deletion().is_some();
        let status = Rc::new(self.engine.status().clone());
        if deleted {
            self.announce(ChangeKind::Deleted, Rc::clone(&status));
        }
        End { uid: self.uid, status, deleted }
    }

    fn notify(&self, notice: Notice) {
        // Nobody listens any more: then nobody misses it.
        let _ = self.env.notices.send(notice);
    }

    fn announce(&mut self, kind: ChangeKind, status: Rc<PodStatus>) {
        let meta = Meta { deleting: self.deletion.is_some(), scheduling_gated: false };
        let row = columns::row(&self.plan, &status, meta, self.engine.features());
        self.notify(Notice::Pod(PodChange {
            at: self.env.clock.now(),
            kind,
            uid: Arc::clone(&self.uid),
            pod: Rc::clone(&self.pod),
            plan: Rc::clone(&self.plan),
            status,
            row,
            deletion: self.deletion,
            container_ids: self.container_ids.clone(),
        }));
    }

    /// Publishes the status as the engine has it now.
    fn status_changed(&mut self) {
        let kind = if self.announced { ChangeKind::Modified } else { ChangeKind::Added };
        self.announced = true;
        let status = Rc::new(self.engine.status().clone());
        self.mark_conditions(&status);
        self.shown = Rc::clone(&status);
        self.announce(kind, status);
    }

    fn mark(&self, container: Option<ContainerId>, run: u32, step: MarkStep) {
        self.notify(Notice::Mark(Mark {
            at: self.env.clock.now(),
            uid: Arc::clone(&self.uid),
            container: container.map(|id| Arc::clone(&self.plan.container(id).name)),
            run,
            step,
        }));
    }

    /// Marks what changed in `started` and `ready` since the last published status.
    fn mark_conditions(&self, new: &PodStatus) {
        for (status, change) in progress(&self.shown, new) {
            let step = match change {
                Progress::Started => MarkStep::BecameStarted,
                Progress::Ready => MarkStep::BecameReady,
                Progress::Unready => MarkStep::Unready,
            };
            self.mark(self.plan.find(&status.name), status.restart_count, step);
        }
        if new.is_true(&ConditionKind::Ready) && !self.shown.is_true(&ConditionKind::Ready) {
            self.mark(None, 0, MarkStep::BecameReady);
        }
        if new.phase != self.shown.phase && new.phase != Phase::Pending {
            self.mark(None, 0, MarkStep::Phase(new.phase));
        }
    }

    /// The pod's address, for those who call it from this machine: that of its sandbox, which is known
    /// before a status with it is published. A probe that went to another address in the meantime
    /// could be answered by somebody else.
    fn address(&self) -> IpAddr {
        let sandbox = self.engine.view().sandbox().and_then(|s| s.ip);
        let published = self.engine.status().pod_ip;
        sandbox.or(published).unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST))
    }
}

/// The container of the manifest that this id stands for.
pub(crate) fn spec_of(pod: &Pod, id: ContainerId) -> Option<&Container> {
    let spec = &pod.spec;
    spec.init_containers
        .iter()
        .chain(&spec.containers)
        .chain(&spec.ephemeral_containers)
        .nth(id.index())
}

/// An operation that panicked will never be answered: better to end here than to wait for ever.
fn pass_on_panic(done: Result<(), tokio::task::JoinError>) {
    if let Err(e) = done
        && e.is_panic()
    {
        std::panic::resume_unwind(e.into_panic());
    }
}
