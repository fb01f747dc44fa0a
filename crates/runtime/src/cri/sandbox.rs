//! Sandboxes: making them, noticing that one is gone, and taking them down.

use std::net::IpAddr;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::AbortHandle;
use tonic::Code;

use super::api::{self, PodSandboxState};
use super::client::{CallError, REQUEST};
use super::process::Process;
use super::{CriRuntime, Inner, State, labels, sandbox_config};
use crate::contract::{PodUid, RuntimeEvent, SandboxConfig};

/// A sandbox that was made.
#[derive(Clone, Debug)]
pub(super) struct Sandbox {
    /// The runtime's name for it.
    pub(super) id: String,
    pub(super) attempt: u32,
    /// What it was made from: containers are created with it.
    pub(super) config: api::PodSandboxConfig,
    pub(super) namespaces: api::NamespaceOption,
    watcher: Option<AbortHandle>,
}

/// How often a sandbox is looked at although nothing hints at its end.
const SAFETY: Duration = Duration::from_secs(10);
/// How soon a sandbox is stopped again that could not be; later each time.
const STOP_AGAIN: Duration = Duration::from_millis(100);
/// How long the containers of a sandbox that was stopped may take to be told that they have ended.
const SOON: Duration = Duration::from_secs(10);

impl CriRuntime {
    /// kubelet: `createPodSandbox`, `determinePodSandboxIPs`.
    pub(super) async fn make_sandbox(
        &self,
        config: &SandboxConfig,
    ) -> Result<Option<IpAddr>, String> {
        let inner = &self.inner;
        let logs = config.directory.join("logs");
        std::fs::create_dir_all(&logs).map_err(|error| {
            format!("cannot make the directory of logs {}: {error}", logs.display())
        })?;
        let made = sandbox_config::translate(config, &inner.run, &inner.cgroup_parent, &logs);
        let request = api::RunPodSandboxRequest {
            config: Some(made.clone()),
            runtime_handler: config.runtime_handler.clone(),
        };
        let id = self.run_sandbox(request, config).await.map_err(|error| error.words())?;
        let mut sandbox = Sandbox {
            id: id.clone(),
            attempt: config.attempt,
            config: made,
            namespaces: sandbox_config::namespaces(config),
            watcher: None,
        };
        let status = self.sandbox_status(&id).await;
        let (address, process) = match status {
            Ok((status, info)) => {
                let address = status.network.and_then(|network| network.ip.parse().ok());
                (address, Process::of(&info, &id))
            }
            Err(error) => {
                // If that fails too, it is tried again at the end of the run.
                let _ = self.destroy(&id).await;
                return Err(error.words());
            }
        };
        let pod = Arc::clone(&config.pod);
        let watcher = watch(Rc::clone(inner), id, Arc::clone(&pod), config.attempt, process);
        sandbox.watcher = Some(inner.spawn(watcher));
        inner.state.borrow_mut().sandboxes.entry(pod).or_default().push(sandbox);
        Ok(address.filter(|_| !config.host_network))
    }

    /// Runs a sandbox. Who knows what a runtime has done that was gone before it answered, and some
    /// leave a sandbox behind whose network failed: what there is of this attempt is removed.
    async fn run_sandbox(
        &self,
        request: api::RunPodSandboxRequest,
        config: &SandboxConfig,
    ) -> Result<String, CallError> {
        let client = &self.inner.client;
        loop {
            // Twice as long as other requests (kubelet: `RunPodSandbox`).
            let error = match client.once(request.clone(), Some(2 * REQUEST)).await {
                Ok(answer) => return Ok(answer.pod_sandbox_id),
                Err(error) => error,
            };
            let back = error.is_gone() && client.returned().await;
            if back || !error.is_gone() {
                let label_selector = labels::of_pod(&self.inner.run, &config.pod);
                for sandbox in self.list_sandboxes(label_selector).await.unwrap_or_default() {
                    if sandbox.metadata.is_some_and(|m| m.attempt == config.attempt) {
                        // A plugin that cannot give an address may not be able to take it back. It is
                        // tried again at the end of the run.
                        let _ = self.destroy(&sandbox.id).await;
                    }
                }
            }
            if !back {
                return Err(error);
            }
        }
    }

    async fn sandbox_status(
        &self,
        id: &str,
    ) -> Result<(api::PodSandboxStatus, std::collections::HashMap<String, String>), CallError> {
        let request = api::PodSandboxStatusRequest { pod_sandbox_id: id.to_owned(), verbose: true };
        let answer = self.inner.client.call(request, Some(REQUEST)).await?;
        Ok((answer.status.unwrap_or_default(), answer.info))
    }

    pub(super) async fn list_sandboxes(
        &self,
        label_selector: std::collections::HashMap<String, String>,
    ) -> Result<Vec<api::PodSandbox>, CallError> {
        let filter = Some(api::PodSandboxFilter { label_selector });
        let request = api::ListPodSandboxRequest { filter };
        Ok(self.inner.client.call(request, Some(REQUEST)).await?.items)
    }

    /// Takes a sandbox down, and removes it when all its containers have told their ends.
    pub(super) async fn drop_sandbox(&self, pod: &PodUid, attempt: u32) {
        let known = {
            let mut state = self.inner.state.borrow_mut();
            let sandboxes = state.sandboxes.get_mut(pod);
            let at =
                sandboxes.as_ref().and_then(|all| all.iter().position(|s| s.attempt == attempt));
            sandboxes.zip(at).map(|(all, at)| all.remove(at))
        };
        if let Some(sandbox) = known {
            self.take_down(sandbox).await;
        }
    }

    /// Takes down all that a pod has.
    pub(super) async fn drop_pod(&self, pod: &PodUid) {
        let sandboxes = self.inner.state.borrow_mut().sandboxes.remove(pod).unwrap_or_default();
        for sandbox in sandboxes {
            self.take_down(sandbox).await;
        }
        self.inner.state.borrow_mut().containers.retain(|_, container| container.pod != *pod);
        let is_behind = |state: &State| {
            let writers = state.writers.get(pod);
            writers.is_some_and(|writers| writers.values().any(|run| !run.written.get()))
        };
        // What has not been read yet stays.
        if !is_behind(&self.inner.state.borrow()) {
            self.inner.files.forget_pod(pod);
        }
    }

    /// Waits until the output of a pod that has been dropped has been passed on.
    pub(super) async fn until_written(&self, pod: &PodUid) {
        // The last run of a container waits for those before it.
        let writers = self.inner.state.borrow_mut().writers.remove(pod).unwrap_or_default();
        for run in writers.values() {
            run.until_written().await;
        }
        self.inner.files.forget_pod(pod);
    }

    async fn take_down(&self, sandbox: Sandbox) {
        if let Some(watcher) = &sandbox.watcher {
            watcher.abort();
        }
        let stopped = self.stop(&sandbox.id).await;
        let containers: Vec<_> = {
            let state = self.inner.state.borrow();
            state.containers.values().filter(|c| c.sandbox == sandbox.id).cloned().collect()
        };
        if stopped.is_ok() {
            for container in containers {
                let _ = tokio::time::timeout(SOON, container.until_ended()).await;
            }
        }
        if let Err(error) = stopped {
            self.cannot_remove(&sandbox.id, &error);
        } else if let Err(error) = self.remove(&sandbox.id).await {
            self.cannot_remove(&sandbox.id, &error);
        }
    }

    pub(super) fn cannot_remove(&self, id: &str, error: &CallError) {
        self.inner.client.warn(format!(
            "cannot take down the sandbox {id} of the container runtime: {}; the next `holdfast run \
             --runtime cri` removes what is left of it",
            error.words()
        ));
    }

    /// Stops and removes a sandbox, whatever is in it. A container that was being started when its run was
    /// killed cannot be removed until it is, and then has to be stopped like the others. (What cannot be
    /// stopped ends this at once: the patience of both is not multiplied.)
    pub(super) async fn destroy(&self, id: &str) -> Result<(), CallError> {
        let mut pause = STOP_AGAIN;
        loop {
            self.stop(id).await?;
            match self.remove(id).await {
                Err(CallError::Refused { .. }) if pause <= STOP_AGAIN * 64 => {
                    tokio::time::sleep(pause).await;
                    pause *= 2;
                }
                result => return result,
            }
        }
    }

    /// Stops a sandbox. A network that cannot be taken down now may be so in a moment: someone else may be
    /// at it, and a runtime that has done half of it goes on from there.
    async fn stop(&self, id: &str) -> Result<(), CallError> {
        let mut pause = STOP_AGAIN;
        loop {
            let request = api::StopPodSandboxRequest { pod_sandbox_id: id.to_owned() };
            match absent_is_fine(self.inner.client.call(request, Some(REQUEST)).await) {
                Err(CallError::Refused { .. }) if pause <= STOP_AGAIN * 8 => {
                    tokio::time::sleep(pause).await;
                    pause *= 2;
                }
                result => return result,
            }
        }
    }

    async fn remove(&self, id: &str) -> Result<(), CallError> {
        let request = api::RemovePodSandboxRequest { pod_sandbox_id: id.to_owned() };
        absent_is_fine(self.inner.client.call(request, Some(REQUEST)).await)
    }
}

fn absent_is_fine(answer: Result<api::Empty, CallError>) -> Result<(), CallError> {
    match answer {
        Err(error) if !error.is(Code::NotFound) => Err(error),
        _ => Ok(()),
    }
}

/// Tells when a sandbox is gone or not ready any more.
async fn watch(inner: Rc<Inner>, id: String, pod: PodUid, attempt: u32, process: Option<Process>) {
    let hint = inner.hints.about(&id);
    let mut again = Duration::from_millis(1);
    loop {
        let ended = async {
            match &process {
                Some(process) => {
                    process.ended().await;
                    // It takes a moment until that has come round to the runtime.
                    tokio::time::sleep(again).await;
                    true
                }
                None => std::future::pending().await,
            }
        };
        let over = tokio::select! {
            over = ended => over,
            () = hint.comes(process.is_some()) => false,
            () = tokio::time::sleep(SAFETY) => false,
        };
        if over {
            again = (again * 2).min(Duration::from_millis(50));
        }
        let request = api::PodSandboxStatusRequest { pod_sandbox_id: id.clone(), verbose: false };
        match inner.client.once(request, Some(REQUEST)).await {
            Ok(answer)
                if answer.status.as_ref().map(api::PodSandboxStatus::state)
                    == Some(PodSandboxState::Ready) => {}
            Err(error) if !error.is(Code::NotFound) => inner.client.surely_returned().await,
            _ => {
                // Nobody listens any more: then nobody misses it.
                let _ = inner.events.send(RuntimeEvent::SandboxLost { pod, attempt });
                return;
            }
        }
    }
}

/// The directory of seccomp profiles: the kubelet's, where it has one.
pub(super) fn seccomp_profiles(state_dir: &Path) -> std::path::PathBuf {
    let own = state_dir.join("seccomp");
    if own.is_dir() { own } else { "/var/lib/kubelet/seccomp".into() }
}
