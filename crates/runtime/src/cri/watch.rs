//! What tells that a container or a sandbox may have changed.
//!
//! | source | when |
//! |---|---|
//! | the process itself ([`Process`](super::process::Process)) | it runs on this machine |
//! | `GetContainerEvents` | the runtime has it |
//! | lists of all that is ours, every 30 ms | neither: only while something waits for it |
//!
//! All of them are hints: whoever gets one asks the runtime.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tonic::Code;

use super::api;
use super::client::{Client, REQUEST};
use super::labels;

/// The interval of the lists.
const POLL: Duration = Duration::from_millis(30);
/// How long to wait before asking for events again after the stream broke.
const AGAIN: Duration = Duration::from_millis(200);

/// Who waits for what.
#[derive(Clone, Debug)]
pub(super) struct Hints {
    inner: Rc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    waiting: RefCell<HashMap<String, Rc<Notify>>>,
    /// Whether the runtime tells what happens.
    events: Cell<bool>,
    /// How many wait who have nothing else to go by.
    blind: Cell<usize>,
    more_blind: Notify,
    tasks: RefCell<Vec<AbortHandle>>,
}

/// Wakes its owner when something may have happened to one container or sandbox.
#[derive(Debug)]
pub(super) struct Hint {
    inner: Rc<Inner>,
    id: String,
    notify: Rc<Notify>,
}

/// Keeps the lists going.
struct Blind<'a>(&'a Inner);

impl Hints {
    /// Begins to listen to the runtime, for what the run `run` has made.
    pub(super) fn new(client: &Client, run: &str) -> Self {
        let inner = Rc::<Inner>::default();
        let events = listen(Rc::clone(&inner), client.clone());
        let lists = list(Rc::clone(&inner), client.clone(), run.to_owned());
        let tasks = [
            tokio::task::spawn_local(events).abort_handle(),
            tokio::task::spawn_local(lists).abort_handle(),
        ];
        *inner.tasks.borrow_mut() = tasks.into();
        Self { inner }
    }

    /// Hints about one container or sandbox.
    pub(super) fn about(&self, id: &str) -> Hint {
        let notify = Rc::<Notify>::default();
        self.inner.waiting.borrow_mut().insert(id.to_owned(), Rc::clone(&notify));
        Hint { inner: Rc::clone(&self.inner), id: id.to_owned(), notify }
    }

    /// Listens no more.
    pub(super) fn end(&self) {
        self.inner.tasks.borrow_mut().drain(..).for_each(|task| task.abort());
    }
}

impl Inner {
    fn wake(&self, id: &str) {
        if let Some(notify) = self.waiting.borrow().get(id) {
            notify.notify_one();
        }
    }

    fn wake_all(&self) {
        self.waiting.borrow().values().for_each(|notify| notify.notify_one());
    }
}

impl Hint {
    /// Waits for a hint. `sighted` says that its owner has something else to go by.
    pub(super) async fn comes(&self, sighted: bool) {
        let _blind = (!sighted).then(|| Blind::new(&self.inner));
        self.notify.notified().await;
    }
}

impl Drop for Hint {
    fn drop(&mut self) {
        self.inner.waiting.borrow_mut().remove(&self.id);
    }
}

impl<'a> Blind<'a> {
    fn new(inner: &'a Inner) -> Self {
        inner.blind.update(|count| count + 1);
        inner.more_blind.notify_one();
        Self(inner)
    }
}

impl Drop for Blind<'_> {
    fn drop(&mut self) {
        self.0.blind.update(|count| count - 1);
    }
}

/// Passes on what the runtime tells, as long as it does.
async fn listen(inner: Rc<Inner>, client: Client) {
    loop {
        match client.events().await {
            Ok(mut stream) => {
                inner.events.set(true);
                while let Ok(Some(event)) = stream.message().await {
                    inner.wake(&event.container_id);
                }
                inner.events.set(false);
                // Whatever happened while nobody told.
                inner.wake_all();
            }
            // containerd before 1.7.
            Err(error) if error.is(Code::Unimplemented) => return,
            Err(_) => {}
        }
        tokio::time::sleep(AGAIN).await;
        client.surely_returned().await;
    }
}

/// Asks for the state of everything, again and again, while someone has nothing else to go by.
async fn list(inner: Rc<Inner>, client: Client, run: String) {
    loop {
        if inner.blind.get() == 0 || inner.events.get() {
            let more = inner.more_blind.notified();
            // The stream of events may end without anybody new being blind.
            let _ = tokio::time::timeout(Duration::from_secs(1), more).await;
            continue;
        }
        tokio::time::sleep(POLL).await;
        let filter = api::ContainerFilter { label_selector: labels::of_run(&run) };
        let request = api::ListContainersRequest { filter: Some(filter) };
        let Ok(containers) = client.once(request, Some(REQUEST)).await else {
            client.surely_returned().await;
            continue;
        };
        let filter = api::PodSandboxFilter { label_selector: labels::of_run(&run) };
        let request = api::ListPodSandboxRequest { filter: Some(filter) };
        let Ok(sandboxes) = client.once(request, Some(REQUEST)).await else { continue };
        let up = containers
            .containers
            .into_iter()
            .filter(|c| c.state() == api::ContainerState::Running)
            .map(|c| c.id)
            .chain(
                sandboxes
                    .items
                    .into_iter()
                    .filter(|s| s.state() == api::PodSandboxState::Ready)
                    .map(|s| s.id),
            );
        let up: std::collections::HashSet<String> = up.collect();
        for (id, notify) in &*inner.waiting.borrow() {
            if !up.contains(id) {
                notify.notify_one();
            }
        }
    }
}
