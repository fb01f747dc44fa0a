//! What a run shows: rows, watch events, container output, events, and the end of waiting.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use holdfast_lifecycle::job::JobConditionKind;
use holdfast_lifecycle::status::ConditionKind;
use holdfast_lifecycle::{Phase, Time};
use holdfast_manifest::object::{Object, ObjectMeta, Timestamp};
use holdfast_manifest::wire::{self, Deletion, Stored};
use holdfast_runtime::clock::Clock;
use holdfast_runtime::config::Node;
use holdfast_runtime::contract::Receipt;
use holdfast_runtime::notice::{ChangeKind, JobChange, Notice, PodChange};
use serde_json::{Value, json};

use crate::args::{Format, RunArgs, Until};
use crate::output;
use crate::output::live::Live;
use crate::output::outlet::{ERR, OUT};
use crate::output::prefix;
use crate::output::table::{Cells, Visible, Widths};
use crate::output::timeline::Timeline;

/// Whether what is waited for is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The condition of `--for` holds.
    Met,
    /// Go on.
    Open,
}

/// How often a live table is drawn anew for the sake of AGE.
const REDRAW: Duration = Duration::from_secs(1);

/// The output of a run.
pub(super) struct Report {
    format: Format,
    clock: Clock,
    node: wire::Node,
    until: Option<Until>,
    /// Whether all objects are in one namespace.
    one_namespace: bool,
    /// Pods and Jobs by name, as last seen, each with its `resourceVersion`.
    pods: BTreeMap<String, (PodChange, u64)>,
    jobs: BTreeMap<String, (JobChange, u64)>,
    /// The last `resourceVersion`.
    version: u64,
    /// Whether what is deleted is forgotten: a schedule has no end.
    forgets: bool,
    /// What `--for` needs to see before it can hold: pods, and Jobs.
    expected: (usize, bool),
    timeline: Option<(PathBuf, Timeline)>,
    visible: Visible,
    /// The last warning about each object and reason.
    noted: HashMap<(String, String), String>,
    widths: Option<Widths>,
    live: Option<Live>,
    /// Lines that wait to be drawn above the live table.
    pending: Vec<(String, Receipt)>,
    next_redraw: tokio::time::Instant,
}

impl Report {
    pub(super) fn new(args: &RunArgs, clock: &Clock, node: &Node, objects: &[Object]) -> Self {
        let on_terminal = std::io::stdout().is_terminal() && std::io::stderr().is_terminal();
        let live = (args.output == Format::Table && on_terminal).then(Live::default);
        let pods = objects.iter().map(own_pods).sum();
        let namespaces: BTreeSet<&str> =
            objects.iter().map(|o| o.metadata().namespace.as_str()).collect();
        let jobs = objects.iter().any(|o| matches!(o, Object::Job(_) | Object::CronJob(_)));
        let timeline = args.timeline.clone().map(|path| (path, Timeline::new(clock.origin())));
        Self {
            format: args.output,
            clock: *clock,
            node: wire::Node {
                name: node.name.clone(),
                ips: node.ips.clone(),
                kubernetes: args.kubernetes,
            },
            until: args.until,
            one_namespace: namespaces.len() < 2,
            pods: BTreeMap::new(),
            jobs: BTreeMap::new(),
            version: 0,
            forgets: args.schedule,
            expected: (pods, jobs),
            timeline,
            visible: Visible::default(),
            noted: HashMap::new(),
            widths: None,
            live,
            pending: Vec::new(),
            next_redraw: tokio::time::Instant::now(),
        }
    }

    /// Shows a notice.
    pub(super) fn take(&mut self, notice: Notice) -> Verdict {
        match notice {
            Notice::Pod(change) => self.pod(change),
            Notice::Job(change) => self.job(change),
            Notice::Event { pod, event, .. } => {
                if event.warning {
                    self.note(&format!("pod/{pod}"), event.reason, &event.message);
                }
                return Verdict::Open;
            }
            Notice::WorkloadEvent { object, event, .. } => {
                if event.warning {
                    self.note(&object, event.reason, &event.message);
                }
                return Verdict::Open;
            }
            Notice::Output { pod, container, line, receipt, .. } => {
                self.line(prefix::line(&pod, &container, &line), receipt);
                return Verdict::Open;
            }
            Notice::Mark(mark) => {
                if let Some((_, timeline)) = &mut self.timeline {
                    timeline.add(mark);
                }
                return Verdict::Open;
            }
            Notice::Message(text) => {
                self.message(&text);
                return Verdict::Open;
            }
        }
        if self.is_met() { Verdict::Met } else { Verdict::Open }
    }

    /// A message for people.
    pub(super) fn message(&mut self, text: &str) {
        let style = anstyle::Style::new().dimmed();
        self.line(format!("{style}holdfast: {text}{style:#}"), None);
    }

    /// A warning event. One that only repeats the last of its kind is not shown again.
    fn note(&mut self, object: &str, reason: &str, message: &str) {
        let key = (object.to_owned(), reason.to_owned());
        let short = message.strip_prefix("Error: ").is_some_and(|m| !m.contains(' '));
        if short || self.noted.insert(key, message.to_owned()).as_deref() == Some(message) {
            return;
        }
        let style = anstyle::AnsiColor::Yellow.on_default();
        let message = message.trim_end();
        self.line(format!("{style}{object}: {reason}: {message}{style:#}"), None);
    }

    /// A line for stderr.
    fn line(&mut self, line: String, receipt: Receipt) {
        if self.live.is_some() {
            self.pending.push((line, receipt));
            self.redraw();
        } else {
            ERR.write(&(line + "\n"), Vec::from_iter(receipt.map(Some)));
        }
    }

    fn pod(&mut self, change: PodChange) {
        let name = self.name(&change.pod.metadata);
        if let Some((_, timeline)) = &mut self.timeline {
            timeline.pod(&change.plan, change.at);
        }
        self.version += 1;
        match self.format {
            Format::Table => self.row(&name, &change),
            Format::Jsonl => {
                let object = self.pod_json(&change, self.version);
                self.watch_event(change.kind, &object);
            }
            Format::Json => {}
        }
        // A deleted pod stays: `-o json` shows what became of it.
        if self.forgets && change.kind == ChangeKind::Deleted {
            self.pods.remove(&name);
            self.visible.forget(&name);
            self.noted.retain(|(object, _), _| object.strip_prefix("pod/") != Some(name.as_str()));
        } else {
            self.pods.insert(name, (change, self.version));
        }
    }

    /// What an object is called here: with its namespace if there are several.
    fn name(&self, meta: &ObjectMeta) -> String {
        if self.one_namespace {
            meta.name.clone()
        } else {
            format!("{}/{}", meta.namespace, meta.name)
        }
    }

    fn row(&mut self, name: &str, change: &PodChange) {
        let created = change.pod.metadata.creation_timestamp.map_or(change.at, Timestamp::to_unix);
        if let Some(live) = &mut self.live {
            if change.kind == ChangeKind::Deleted {
                live.remove(name);
            } else {
                live.update(name, &change.row, created, change.at);
            }
            self.redraw();
            return;
        }
        if !self.visible.changed(name, &change.row) {
            return;
        }
        let cells = Cells::of(name, &change.row, created, change.at);
        let first = self.widths.is_none();
        let widths = self.widths.get_or_insert_default();
        widths.fit(&cells);
        let header = first.then(|| widths.line(&Cells::header(), None));
        let line = widths.line(&cells, Some(&change.row));
        for line in header.into_iter().chain([line]) {
            stdout(line);
        }
    }

    fn watch_event(&self, kind: ChangeKind, object: &Value) {
        let kind = match kind {
            ChangeKind::Added => "ADDED",
            ChangeKind::Modified => "MODIFIED",
            ChangeKind::Deleted => "DELETED",
        };
        stdout(json!({ "type": kind, "object": object }).to_string());
    }

    fn pod_json(&self, change: &PodChange, resource_version: u64) -> Value {
        // The kubelet's last word is a delete without any grace: only then the object goes.
        let gone = change.kind == ChangeKind::Deleted;
        let deletion = change.deletion.map(|(at, grace)| Deletion {
            at,
            grace: Duration::from_secs(if gone { 0 } else { grace }),
        });
        let stored = Stored { resource_version, deletion };
        let ids = |instance| change.container_ids.get(instance);
        wire::pod_json(&change.pod, &change.status, &self.node, stored, &ids)
    }

    fn job(&mut self, change: JobChange) {
        self.version += 1;
        if self.format == Format::Jsonl {
            let object = wire::job_json(&change.job, &change.status, self.version);
            self.watch_event(change.kind, &object);
        }
        let name = self.name(&change.job.metadata);
        if self.forgets && change.kind == ChangeKind::Deleted {
            self.jobs.remove(&name);
            self.noted.retain(|(object, _), _| object.strip_prefix("job/") != Some(name.as_str()));
        } else {
            self.jobs.insert(name, (change, self.version));
        }
    }

    /// Whether the condition of `--for` holds.
    fn is_met(&self) -> bool {
        let Some(until) = self.until else { return false };
        let (pods, jobs) = self.expected;
        if (jobs && self.jobs.is_empty()) || self.pods.len() < pods.max(1) {
            return false;
        }
        match until {
            Until::Ready => {
                let alive =
                    || self.pods.values().map(|p| &p.0).filter(|p| p.kind != ChangeKind::Deleted);
                alive().count() >= pods.max(1)
                    && alive().all(|p| p.status.is_true(&ConditionKind::Ready))
            }
            Until::Complete => {
                let own = |p: &&PodChange| p.pod.metadata.owner_references.is_empty();
                self.jobs.values().all(|j| j.0.status.is_true(JobConditionKind::Complete))
                    && self
                        .pods
                        .values()
                        .map(|p| &p.0)
                        .filter(own)
                        .all(|p| p.status.phase == Phase::Succeeded)
            }
        }
    }

    /// Waits until the live table should be drawn anew; for ever if there is none.
    pub(super) async fn tick(&self) {
        if self.live.is_some() {
            tokio::time::sleep_until(self.next_redraw).await;
        } else {
            std::future::pending().await
        }
    }

    /// Draws the live table, unless the terminal takes nothing at the moment: later is early enough.
    pub(super) fn redraw(&mut self) {
        self.next_redraw = tokio::time::Instant::now() + REDRAW;
        if !OUT.is_behind() {
            self.draw();
        }
    }

    fn draw(&mut self) {
        let now: Time = self.clock.now();
        if let Some(live) = &mut self.live {
            let (lines, receipts): (Vec<String>, _) = self.pending.drain(..).unzip();
            OUT.write(
                &live.draw(&lines, now, output::terminal_size().unwrap_or((80, 24))),
                receipts,
            );
        }
    }

    /// Prints what comes at the end.
    ///
    /// # Errors
    /// If the timeline cannot be written.
    pub(super) fn finish(mut self) -> anyhow::Result<()> {
        self.draw();
        if self.format == Format::Json {
            let pods = self.pods.values().map(|(p, version)| self.pod_json(p, *version));
            let jobs =
                self.jobs.values().map(|(j, version)| wire::job_json(&j.job, &j.status, *version));
            let items: Vec<Value> = jobs.chain(pods).collect();
            let list = json!({ "apiVersion": "v1", "kind": "List", "items": items });
            stdout(format!("{list:#}"));
        }
        if let Some((path, timeline)) = &self.timeline {
            let context = || format!("cannot write the timeline {}", path.display());
            timeline.write(path).with_context(context)?;
        }
        Ok(())
    }
}

/// A line of data.
fn stdout(line: String) {
    OUT.write(&(line + "\n"), Vec::new());
}

/// How many pods an object has from the first moment on, although a StatefulSet makes them one by one.
fn own_pods(object: &Object) -> usize {
    let replicas = match object {
        Object::Pod(_) | Object::DaemonSet(_) => return 1,
        Object::Deployment(o) => o.spec.replicas,
        Object::ReplicaSet(o) => o.spec.replicas,
        Object::StatefulSet(o) => o.spec.replicas,
        _ => return 0,
    };
    replicas.map_or(1, |n| usize::try_from(n).unwrap_or(0))
}
