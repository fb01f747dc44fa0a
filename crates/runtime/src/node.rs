//! A node: runs the objects of a manifest, each by its own rules, until they are done.
//!
//! Pods have drivers; Jobs and CronJobs are kept by the rules of `lifecycle`, Deployments and their
//! like by replacing what ends. All of it is one loop on one thread.

mod controllers;

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use holdfast_lifecycle::fault::{Fault, FaultKind};
use holdfast_lifecycle::{Options, Phase, Time};
use holdfast_manifest::expand::Maker;
use holdfast_manifest::object::{Object, Pod, Timestamp};
use holdfast_manifest::plan;
use tokio::sync::mpsc::{self, error::SendError};
use tokio::task::JoinSet;

use crate::assets::{Assets, Site};
use crate::clock::sleep_until;
use crate::contract::{PodUid, Runtime, RuntimeEvent};
use crate::driver::{Command, Driver, End, Environment, Message};
use crate::notice::{ChangeKind, Mark, MarkStep, Notice, PodChange};

use self::controllers::{Controllers, Wish};

/// What a node is told.
#[derive(Clone, Debug)]
pub enum NodeCommand {
    /// Delete every pod, and end when they are gone.
    Stop,
    /// SIGKILL to everything.
    Kill,
    /// Run another pod.
    Start(Box<Pod>),
    /// Delete the pod that was started under this name: it is stopped within its grace period, and a
    /// notice with [`ChangeKind::Deleted`] says when nothing of it is left.
    Delete(String),
}

/// How a node works.
#[derive(Clone, Debug, Default)]
pub struct NodeOptions {
    /// Whether CronJobs follow their schedule; else each fires once, at once.
    pub schedule: bool,
    /// What breaks in every pod, counted from its creation.
    pub faults: Vec<Fault>,
    /// Whether it goes on when there is nothing left to run, until it is told to stop.
    pub stays: bool,
}

/// Who a pod belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// Nobody: it stands in the manifest itself.
    Manifest,
    /// The job with this number, and the pod's number there.
    Job(usize, holdfast_lifecycle::job::PodId),
    /// The workload with this number, and the pod's number there.
    Replica(usize, u32),
}

/// How a run went.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Pods and Jobs that failed, such as `pod/web` or `job/pi`.
    pub failed: Vec<String>,
}

/// The objects of a manifest, and everything that runs for them.
pub struct Node<R> {
    env: Rc<Environment<R>>,
    site: Rc<Site>,
    options: NodeOptions,
    commands: mpsc::UnboundedReceiver<NodeCommand>,
    runtime_events: mpsc::UnboundedReceiver<RuntimeEvent>,
    from_drivers: mpsc::UnboundedReceiver<Notice>,
    watcher: mpsc::UnboundedSender<Notice>,
    controllers: Controllers,
    pods: HashMap<PodUid, Handle>,
    ended: HashMap<PodUid, (Owner, PodChange)>,
    tasks: JoinSet<End>,
    /// The names of pods that are over and whose output may not have been taken yet.
    trailing: HashMap<PodUid, String>,
    /// Waits for that, pod by pod.
    trailers: JoinSet<PodUid>,
    faults: Vec<(Time, PodUid, FaultKind)>,
    /// Faults whose time is counted from a container that has not started yet.
    armed: Vec<(PodUid, Fault)>,
    created: u64,
    random: Random,
    stopping: bool,
    is_hasty: bool,
    outcome: Outcome,
}

struct Handle {
    messages: mpsc::UnboundedSender<Message>,
    name: String,
    owner: Owner,
    last: Option<PodChange>,
    /// Its owner wants it gone. The pod may have ended by itself before it heard of that.
    unwanted: bool,
}

/// What a node is made from.
pub struct NodeParts<R> {
    /// The runtime of its pods.
    pub runtime: R,
    /// What the runtime reports.
    pub runtime_events: mpsc::UnboundedReceiver<RuntimeEvent>,
    /// Settings of the pods' engines.
    pub engine: Options,
    /// What the pods have in common.
    pub site: Site,
    /// Who is told of everything.
    pub watcher: mpsc::UnboundedSender<Notice>,
    /// Who gives commands.
    pub commands: mpsc::UnboundedReceiver<NodeCommand>,
    /// The clock.
    pub clock: crate::clock::Clock,
}

impl<R: Runtime + 'static> Node<R> {
    /// A node without anything to do yet.
    pub fn new(parts: NodeParts<R>, options: NodeOptions) -> Self {
        let (notices, from_drivers) = mpsc::unbounded_channel();
        let env = Environment {
            runtime: parts.runtime,
            clock: parts.clock,
            notices,
            options: parts.engine,
        };
        Self {
            env: Rc::new(env),
            site: Rc::new(parts.site),
            options,
            commands: parts.commands,
            runtime_events: parts.runtime_events,
            from_drivers,
            watcher: parts.watcher,
            controllers: Controllers::default(),
            pods: HashMap::new(),
            ended: HashMap::new(),
            tasks: JoinSet::new(),
            trailing: HashMap::new(),
            trailers: JoinSet::new(),
            faults: Vec::new(),
            armed: Vec::new(),
            created: 0,
            random: Random::new(),
            stopping: false,
            is_hasty: false,
            outcome: Outcome::default(),
        }
    }

    /// Runs the objects until all are done, or until [`NodeCommand::Stop`] has stopped them.
    pub async fn run(mut self, objects: Vec<Object>) -> Outcome {
        for object in objects {
            self.add(object);
        }
        loop {
            self.reconcile();
            let is_over = self.pods.is_empty() && self.trailers.is_empty();
            let is_done = !self.options.stays && self.controllers.are_done();
            if is_over && (self.stopping || is_done) {
                break;
            }
            let timer = self.next_timer().map(|at| self.env.clock.instant(at));
            tokio::select! {
                biased;
                Some(event) = self.runtime_events.recv() => self.route(event),
                Some(notice) = self.from_drivers.recv() => self.forward(notice),
                Some(command) = self.commands.recv() => self.command(command),
                Some(end) = self.tasks.join_next() => self.pod_ended(end),
                Some(trailed) = self.trailers.join_next() => self.trailed(trailed),
                () = sleep_until(timer) => {}
            }
            self.strike();
        }
        while let Ok(notice) = self.from_drivers.try_recv() {
            self.forward(notice);
        }
        self.outcome.failed.extend(self.controllers.failed_jobs());
        self.outcome
    }

    /// Takes an object: from now on it runs.
    fn add(&mut self, mut object: Object) {
        let now = self.env.clock.now();
        let random = &mut self.random;
        let mut next = || random.next();
        let mut maker = Maker::new(&mut next, Timestamp::from_unix(now));
        maker.admit_object(&mut object);
        let (schedule, minor) = (self.options.schedule, self.env.options.minor);
        match object {
            Object::Pod(pod) => self.start_pod(pod, Owner::Manifest),
            object => self.controllers.add(object, now, schedule, minor, &mut maker),
        }
    }

    /// Does what the controllers wish for, until they wish for nothing.
    fn reconcile(&mut self) {
        if self.stopping {
            return;
        }
        let now = self.env.clock.now();
        loop {
            let random = &mut self.random;
            let mut next = || random.next();
            let mut maker = Maker::new(&mut next, Timestamp::from_unix(now));
            let (wishes, notices) = self.controllers.sync(now, &mut maker);
            for notice in notices {
                let _ = self.watcher.send(notice);
            }
            if wishes.is_empty() {
                return;
            }
            for wish in wishes {
                match wish {
                    Wish::Create(pod, owner) => self.start_pod(*pod, owner),
                    Wish::Delete(owner) => self.delete(owner),
                }
            }
        }
    }

    fn start_pod(&mut self, pod: Pod, owner: Owner) {
        let now = self.env.clock.now();
        let plan = plan::plan(&pod);
        let uid = Arc::clone(&plan.uid);
        let name = pod.metadata.name.clone();
        let pod = Rc::new(pod);
        let (messages, inbox) = mpsc::unbounded_channel();
        let assets = Assets::new(Rc::clone(&self.site), Rc::clone(&pod));
        self.created += 1;
        let first_instance = (self.created << 32) | 1;
        let driver = Driver::new(Rc::clone(&self.env), pod, plan, assets, inbox, first_instance);
        self.tasks.spawn_local(driver.run());
        for fault in &self.options.faults {
            let uid = Arc::clone(&uid);
            match fault.since {
                None => self.faults.push((now + fault.after, uid, fault.kind.clone())),
                Some(_) => self.armed.push((uid, fault.clone())),
            }
        }
        self.controllers.created(owner, &name, now);
        self.pods.insert(uid, Handle { messages, name, owner, last: None, unwanted: false });
    }

    /// Deletes the pod of an owner: it is told to stop, or its object goes if it has ended.
    fn delete(&mut self, owner: Owner) {
        let ended: Vec<PodUid> = self
            .ended
            .iter()
            .filter(|(_, e)| e.0 == owner)
            .map(|(uid, _)| Arc::clone(uid))
            .collect();
        for uid in ended {
            if let Some((owner, change)) = self.ended.remove(&uid) {
                self.bury(owner, change);
            }
        }
        for handle in self.pods.values_mut().filter(|h| h.owner == owner) {
            handle.unwanted = true;
            let _ = handle.messages.send(Message::Command(Command::Delete { grace: None }));
        }
    }

    /// The object of a pod that had ended goes.
    fn bury(&mut self, owner: Owner, mut change: PodChange) {
        let now = self.env.clock.now();
        change.kind = ChangeKind::Deleted;
        change.at = now;
        change.deletion.get_or_insert((now, 0));
        let _ = self.watcher.send(Notice::Pod(change));
        self.controllers.gone(owner, now);
    }

    fn route(&mut self, event: RuntimeEvent) {
        let (RuntimeEvent::Exited { pod, .. }
        | RuntimeEvent::Output { pod, .. }
        | RuntimeEvent::Removed { pod, .. }
        | RuntimeEvent::Unknown { pod, .. }
        | RuntimeEvent::SandboxLost { pod, .. }) = &event;
        let (name, event) = match self.pods.get(pod) {
            Some(handle) => match handle.messages.send(Message::Runtime(event)) {
                Ok(()) => return,
                Err(SendError(Message::Runtime(event))) => (Some(&handle.name), event),
                Err(_) => return,
            },
            None => (self.trailing.get(pod), event),
        };
        // The last words of a pod that is over, after those that its driver has passed on.
        if let Some(name) = name
            && let RuntimeEvent::Output { container, stderr, line, receipt, .. } = event
        {
            let pod = name.as_str().into();
            let notice = Notice::Output { pod, container, stderr, line, receipt };
            let _ = self.env.notices.send(notice);
        }
    }

    /// All output of a pod that is over has been taken.
    fn trailed(&mut self, uid: Result<PodUid, tokio::task::JoinError>) {
        while let Ok(event) = self.runtime_events.try_recv() {
            self.route(event);
        }
        match uid {
            Ok(uid) => drop(self.trailing.remove(&uid)),
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            // Given up.
            Err(_) => {}
        }
    }

    fn forward(&mut self, notice: Notice) {
        if let Notice::Mark(Mark { uid, container: Some(name), step: MarkStep::Started, .. }) =
            &notice
        {
            let now = self.env.clock.now();
            let is_due = |(of, fault): &mut (PodUid, Fault)| {
                of == uid && fault.since.as_deref() == Some(&**name)
            };
            for (uid, fault) in self.armed.extract_if(.., is_due) {
                self.faults.push((now + fault.after, uid, fault.kind));
            }
        }
        if let Notice::Pod(change) = &notice {
            let now = self.env.clock.now();
            if let Some(handle) = self.pods.get_mut(&change.uid) {
                handle.last = Some(change.clone());
                self.controllers.changed(handle.owner, change, now);
            }
        }
        // Nobody watches any more: then nobody misses it.
        let _ = self.watcher.send(notice);
    }

    fn command(&mut self, command: NodeCommand) {
        match command {
            NodeCommand::Start(pod) if !self.stopping => self.add(Object::Pod(*pod)),
            NodeCommand::Start(_) => {}
            NodeCommand::Delete(name) => self.delete_pod(&name),
            NodeCommand::Stop => self.stop_all(&Command::Delete { grace: None }),
            NodeCommand::Kill => {
                // Nor is anybody waited for who reads.
                self.is_hasty = true;
                self.trailers.abort_all();
                self.stop_all(&Command::Kill);
            }
        }
    }

    fn stop_all(&mut self, command: &Command) {
        self.stopping = true;
        for handle in self.pods.values() {
            let _ = handle.messages.send(Message::Command(command.clone()));
        }
    }

    /// Deletes a pod of nobody's: it is told to stop, or its object goes if it has ended.
    fn delete_pod(&mut self, name: &str) {
        let is_it = |change: &PodChange| change.pod.metadata.name == name;
        let ended: Vec<PodUid> = self
            .ended
            .iter()
            .filter(|(_, (owner, change))| *owner == Owner::Manifest && is_it(change))
            .map(|(uid, _)| Arc::clone(uid))
            .collect();
        for uid in ended {
            if let Some((owner, change)) = self.ended.remove(&uid) {
                self.bury(owner, change);
            }
        }
        let theirs = |h: &&mut Handle| h.owner == Owner::Manifest && h.name == name;
        for handle in self.pods.values_mut().filter(theirs) {
            handle.unwanted = true;
            let _ = handle.messages.send(Message::Command(Command::Delete { grace: None }));
        }
    }

    fn pod_ended(&mut self, end: Result<End, tokio::task::JoinError>) {
        let end = match end {
            Ok(end) => end,
            // A driver panicked: that is a defect, and nothing can be said of its pod any more.
            Err(e) => std::panic::resume_unwind(e.into_panic()),
        };
        // Its last words are still in the channel.
        while let Ok(notice) = self.from_drivers.try_recv() {
            self.forward(notice);
        }
        let Some(handle) = self.pods.remove(&end.uid) else { return };
        if !self.is_hasty {
            self.trailing.insert(Arc::clone(&end.uid), handle.name.clone());
            let (env, uid) = (Rc::clone(&self.env), Arc::clone(&end.uid));
            self.trailers.spawn_local(async move {
                env.runtime.written(&uid).await;
                uid
            });
        }
        self.faults.retain(|(_, uid, _)| *uid != end.uid);
        self.armed.retain(|(uid, ..)| *uid != end.uid);
        let now = self.env.clock.now();
        if handle.owner == Owner::Manifest && !end.deleted && end.status.phase == Phase::Failed {
            self.outcome.failed.push(format!("pod/{}", handle.name));
        }
        if end.deleted {
            self.controllers.gone(handle.owner, now);
        } else {
            self.controllers.ended(handle.owner);
            match handle.last {
                Some(change) if handle.unwanted => self.bury(handle.owner, change),
                Some(change) => drop(self.ended.insert(end.uid, (handle.owner, change))),
                None if handle.unwanted => self.controllers.gone(handle.owner, now),
                None => {}
            }
        }
    }

    fn next_timer(&self) -> Option<Time> {
        let fault = self.faults.iter().map(|f| f.0).min();
        let controllers = (!self.stopping).then(|| self.controllers.next_timer()).flatten();
        [fault, controllers].into_iter().flatten().min()
    }

    /// Lets the faults happen whose time has come.
    fn strike(&mut self) {
        let now = self.env.clock.now();
        for (_, uid, kind) in self.faults.extract_if(.., |f| f.0 <= now) {
            if let Some(handle) = self.pods.get(&uid) {
                let _ = handle.messages.send(Message::Command(Command::Fault(kind)));
            }
        }
    }
}

/// Where names and UIDs come from.
struct Random(u64);

impl Random {
    fn new() -> Self {
        use std::hash::{BuildHasher, RandomState};
        Self(RandomState::new().hash_one(std::process::id()))
    }

    /// SplitMix64.
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}
