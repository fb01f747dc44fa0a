//! Listens to one container from its start to its end: output, and how it ended.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use holdfast_lifecycle::status::InstanceId;
use tokio::sync::Notify;
use tonic::Code;

use super::Inner;
use super::api::{self, ContainerState};
use super::client::REQUEST;
use super::logs::{Line, LogReader};
use super::process::Process;
use crate::contract::{PodUid, RuntimeEvent};
use crate::process::output::Tail;
use crate::process::termination::Termination;

/// A container that was started.
#[derive(Debug)]
pub(super) struct Started {
    /// The runtime's name for it.
    pub(super) id: String,
    /// The runtime's name for its sandbox.
    pub(super) sandbox: String,
    pub(super) pod: PodUid,
    pub(super) name: String,
    pub(super) instance: InstanceId,
    /// The signal of `lifecycle.stopSignal`, which no image of the runtime's knows.
    pub(super) stop_signal: Option<i32>,
    /// Where its log is.
    pub(super) log: PathBuf,
    /// Whether everything in it has ended when its main process has.
    pub(super) own_processes: bool,
    /// Whether its end is to look like the kernel's doing.
    pub(super) oom: Cell<bool>,
    /// Whether it was sent SIGKILL, or given up, while the runtime was gone.
    pub(super) killed: Cell<bool>,
    /// Its main process, once it is known.
    pub(super) process: RefCell<Option<Rc<Process>>>,
    /// Whether the runtime has been asked which that is.
    pub(super) looked: Cell<bool>,
    /// Whether it has ended and that has been told.
    pub(super) ended: Cell<bool>,
    /// Whether all of its output has been passed on, and it has ended.
    pub(super) written: Cell<bool>,
    /// Wakes those who wait for these, and for its process to be known.
    pub(super) news: Notify,
}

/// How a container ended.
enum End {
    /// By itself, or killed.
    Exited(api::ContainerStatus),
    /// Its process has this exit code; the runtime may not know yet.
    Process(i32),
    /// Someone has removed it from the runtime.
    Removed,
}

/// How often an end is looked for although nothing hints at one.
const SAFETY: Duration = Duration::from_secs(10);
/// A log that has grown over this is begun anew (kubelet: `containerLogMaxSize`).
const MAX_LOG: u64 = 10 << 20;
/// How long a runtime may take to close a log that it has left.
const CLOSING: Duration = Duration::from_secs(1);
/// How long it may take to write the last output of a process that has ended, before it is asked.
const LAST_WORDS: Duration = Duration::from_millis(50);
/// How long a process that cannot be found may be taken for one that has ended already.
const MISSED: Duration = Duration::from_millis(300);
/// How soon a runtime is asked again that has refused to say how a container is.
const IN_TROUBLE: Duration = Duration::from_millis(100);
/// How often it is asked, at the least, whether it has noticed the end of a process.
const NOTICED: Duration = Duration::from_millis(5);

impl Started {
    /// Waits until its end has been told.
    pub(super) async fn until_ended(&self) {
        self.until(|this| this.ended.get()).await;
    }

    /// Waits until it is known which its process is, or that nobody can say.
    pub(super) async fn until_looked(&self) {
        self.until(|this| this.looked.get() || this.ended.get()).await;
    }

    /// Waits until all of its output has been passed on.
    pub(super) async fn until_written(&self) {
        self.until(|this| this.written.get()).await;
    }

    async fn until(&self, holds: impl Fn(&Self) -> bool) {
        while !holds(self) {
            let news = self.news.notified();
            tokio::pin!(news);
            news.as_mut().enable();
            if !holds(self) {
                news.await;
            }
        }
    }
}

/// Listens to a container until it has ended, and passes its output on, after that of the run `before`.
///
/// The runtime keeps the output in a file, so that a container does not wait for whoever takes it, and
/// neither does the news of its end: what nobody has taken by then follows.
pub(super) async fn attend(
    inner: Rc<Inner>,
    container: Rc<Started>,
    reader: LogReader,
    termination: Termination,
    before: Option<Rc<Started>>,
) {
    let tail = termination.from_logs.then(Tail::default);
    let lines = VecDeque::new();
    let mut output = Output { inner: &inner, container: &container, reader, lines, tail, before };
    let mut end = output.until(end(&inner, &container, true)).await;
    if matches!(end, End::Process(_)) {
        // All of the output is there when the runtime has closed the file.
        let whole = tokio::time::timeout(LAST_WORDS, output.until_closed()).await;
        if whole != Ok(true) {
            end = output.until(self::end(&inner, &container, false)).await;
        }
    }
    // The runtime tells an end when it has written all of the output.
    let is_whole = output.take_what_fits();
    let tail = output.last_words(is_whole);
    container.ended.set(true);
    inner.files.forget_instance(container.instance.0);
    tell(&inner, &container, end, &termination, &tail);
    container.news.notify_waiters();
    if !is_whole {
        output.take_all().await;
        output.finish().await;
    }
    container.written.set(true);
    container.news.notify_waiters();
}

fn tell(inner: &Inner, container: &Started, end: End, termination: &Termination, tail: &Tail) {
    let (pod, instance) = (Arc::clone(&container.pod), container.instance);
    let event = match end {
        End::Process(code) => {
            let (message, oom) = (termination.take(code, tail), container.oom.get());
            RuntimeEvent::Exited { pod, instance, code, oom, message }
        }
        End::Exited(status) => {
            let code = status.exit_code;
            // kubelet: `convertToKubeContainerStatus`.
            let own = termination.take(code, tail);
            let message = match (status.message.as_str(), own.as_str()) {
                ("", _) => own,
                (runtimes, "") => runtimes.to_owned(),
                (runtimes, own) => format!("{runtimes}: {own}"),
            };
            let oom = container.oom.get() || status.reason == "OOMKilled";
            RuntimeEvent::Exited { pod, instance, code, oom, message }
        }
        End::Removed => {
            termination.take(0, tail);
            RuntimeEvent::Removed { pod, instance }
        }
    };
    // Nobody listens any more: then nobody misses it.
    let _ = inner.events.send(event);
}

/// Waits for the end of a container; if `quickly`, for that of its process.
async fn end(inner: &Inner, container: &Started, quickly: bool) -> End {
    let hint = inner.hints.about(&container.id);
    let mut unknown = false;
    // How soon to ask again when its process has ended and the runtime does not say so yet.
    let mut again = Duration::from_millis(1);
    let mut asked = 0;
    // Its process was gone before anybody could look at it.
    let mut missed = None;
    loop {
        let process = container.process.borrow().clone();
        let request = api::ContainerStatusRequest {
            container_id: container.id.clone(),
            verbose: process.is_none(),
        };
        match inner.client.once(request, Some(REQUEST)).await {
            Ok(api::ContainerStatusResponse { status: Some(status), info }) => match status.state()
            {
                ContainerState::Exited => return End::Exited(status),
                ContainerState::Unknown if !unknown => {
                    unknown = true;
                    let (pod, instance) = (Arc::clone(&container.pod), container.instance);
                    let _ = inner.events.send(RuntimeEvent::Unknown { pod, instance });
                }
                _ if process.is_none() => {
                    *container.process.borrow_mut() =
                        Process::of(&info, &container.id).map(Rc::new);
                    if !container.looked.replace(true) && Process::named(&info).is_some() {
                        missed = Some(Instant::now());
                    }
                    container.news.notify_waiters();
                }
                _ => {}
            },
            Err(error) if error.is(Code::NotFound) => return End::Removed,
            Err(error) if error.is_gone() => {
                tokio::select! {
                    () = inner.client.surely_returned() => {}
                    () = killed(container) => {
                        // Nobody else can say how it ended.
                        return End::Exited(api::ContainerStatus {
                            exit_code: 137,
                            ..api::ContainerStatus::default()
                        });
                    }
                }
                continue;
            }
            // An answer that says nothing: not as often as a runtime in trouble could be asked.
            Ok(_) | Err(_) => tokio::time::sleep(IN_TROUBLE).await,
        }
        let process = container.process.borrow().clone();
        let soon = process.is_none() && missed.is_some_and(|at| at.elapsed() < MISSED);
        let safety = if soon { NOTICED } else { SAFETY };
        let ended = async {
            match &process {
                Some(process) => {
                    process.ended().await;
                    if quickly && container.own_processes {
                        // Why a process was killed is for the runtime to say.
                        let code = process.exit_code().await;
                        if let Some(code) = code.filter(|&code| code != KILLED) {
                            return Some(code);
                        }
                    }
                    // It takes a moment until that has come round to the runtime.
                    tokio::time::sleep(again).await;
                    None
                }
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            code = ended => match code {
                Some(code) => return End::Process(code),
                None => {
                    asked += 1;
                    // After a while it is slow, or stuck.
                    let most = if asked < 50 { NOTICED } else { 10 * NOTICED };
                    again = (again * 2).min(most);
                }
            },
            () = hint.comes(process.is_some()) => {}
            () = tokio::time::sleep(safety) => {}
        }
    }
}

/// Waits until a container is dead that was sent SIGKILL behind the runtime's back, or is given up.
async fn killed(container: &Started) {
    while !container.killed.get() {
        container.news.notified().await;
    }
    let process = container.process.borrow().clone();
    if let Some(process) = process {
        process.ended().await;
    }
}

/// Passes output on.
struct Output<'a> {
    inner: &'a Inner,
    container: &'a Started,
    reader: LogReader,
    /// What has been read and not passed on: nothing is lost if a future is dropped that passes it on.
    lines: VecDeque<Line>,
    /// The end of what has been read.
    tail: Option<Tail>,
    /// The container's last run, whose output comes first.
    before: Option<Rc<Started>>,
}

impl Output<'_> {
    /// Passes output on until something has happened, which does not wait for those who take it.
    async fn until<T>(&mut self, something: impl Future<Output = T>) -> T {
        let all = async {
            loop {
                self.take_all().await;
                self.reader.changed().await;
            }
        };
        tokio::pin!(something, all);
        tokio::select! {
            biased;
            never = all => never,
            result = something => result,
        }
    }

    /// Passes output on until the runtime has closed the log; false if nobody knows whether it has.
    async fn until_closed(&mut self) -> bool {
        loop {
            self.take_all().await;
            match self.reader.is_closed() {
                Some(false) => self.reader.changed().await,
                closed => return closed.is_some(),
            }
        }
    }

    /// Takes all there is at the moment.
    async fn take_all(&mut self) {
        if let Some(before) = &self.before {
            before.until_written().await;
            self.before = None;
        }
        self.pass_on().await;
        while self.read() {
            self.pass_on().await;
            if self.reader.size() > MAX_LOG && !self.container.ended.get() {
                self.rotate().await;
            }
        }
    }

    /// Takes what there is room for; false if something is left.
    fn take_what_fits(&mut self) -> bool {
        if self.before.as_ref().is_some_and(|before| !before.written.get()) {
            return false;
        }
        let mut has_more = true;
        while has_more {
            has_more = self.read();
            if !has_more {
                let rest = self.reader.finish();
                self.keep(rest);
            }
            while let Some(line) = self.lines.pop_front() {
                if !self.inner.room.is_some() {
                    self.lines.push_front(line);
                    return false;
                }
                self.send(line);
            }
        }
        true
    }

    async fn finish(&mut self) {
        let rest = self.reader.finish();
        self.keep(rest);
        self.pass_on().await;
    }

    /// What may become the termination message: of all that was read, or else of the file's end.
    fn last_words(&mut self, is_whole: bool) -> Tail {
        let Some(tail) = self.tail.take() else { return Tail::default() };
        if is_whole {
            return tail;
        }
        let mut tail = Tail::default();
        for line in self.reader.last_lines().unwrap_or_default() {
            tail.push(&line.text);
        }
        tail
    }

    /// Reads the next piece; false if there is none at the moment.
    fn read(&mut self) -> bool {
        match self.reader.read() {
            Ok(Some(lines)) => {
                self.keep(lines);
                true
            }
            Ok(None) => false,
            Err(error) => {
                let name = &self.container.name;
                let log = self.container.log.display();
                self.inner.client.warn(format!("{name}: cannot read its log {log}: {error}"));
                false
            }
        }
    }

    fn keep(&mut self, lines: Vec<Line>) {
        if let Some(tail) = &mut self.tail {
            lines.iter().for_each(|line| tail.push(&line.text));
        }
        self.lines.extend(lines);
    }

    /// Passes on what has been read, as fast as it is taken.
    async fn pass_on(&mut self) {
        while !self.lines.is_empty() {
            self.inner.room.some().await;
            if let Some(line) = self.lines.pop_front() {
                self.send(line);
            }
        }
        // A container that never stops writing must not keep the others waiting.
        tokio::task::yield_now().await;
    }

    fn send(&self, Line { stderr, text }: Line) {
        let receipt = self.inner.room.receipt(text.len());
        // Nobody listens any more: then nobody misses it.
        let _ = self.inner.events.send(RuntimeEvent::Output {
            pod: Arc::clone(&self.container.pod),
            container: self.container.name.clone(),
            stderr,
            line: text,
            receipt,
        });
    }

    /// Lets the runtime begin a new file, and removes the one that has been read.
    async fn rotate(&mut self) {
        let log = &self.container.log;
        let old = log.with_extension("log.old");
        if std::fs::rename(log, &old).is_err() {
            return;
        }
        let request = api::ReopenContainerLogRequest { container_id: self.container.id.clone() };
        match self.inner.client.call(request, Some(REQUEST)).await {
            Ok(_) => {
                // What it had in its hands goes into the old file still.
                let _ = tokio::time::timeout(CLOSING, self.reader.closed()).await;
                while self.read() {
                    self.pass_on().await;
                }
                let _ = std::fs::remove_file(&old);
            }
            // It has ended; or the runtime cannot do that, and the file grows.
            Err(_) => drop(std::fs::rename(&old, log)),
        }
    }
}

/// 128 + SIGKILL.
const KILLED: i32 = 137;
