//! Containers: creating, starting, stopping and removing them, and commands in them.

use std::cell::{Cell, RefCell};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use holdfast_lifecycle::StartStage;
use holdfast_lifecycle::status::InstanceId;
use tonic::Code;

use super::api::{self, ContainerState};
use super::attend::{self, Started};
use super::client::{CallError, REQUEST};
use super::container_config::{self, Surroundings};
use super::logs::LogReader;
use super::{CriRuntime, labels};
use crate::contract::{
    Below, ContainerConfig, ExecOutcome, Mount, MountSource, Propagation, StartError,
};
use crate::process::termination::{self, Termination};

/// kubelet: `maxReadLength` of exec probes.
const MAX_OUTPUT: usize = 10 * 1024;
/// How long a container that has ended may take to be told so.
const SOON: Duration = Duration::from_secs(10);
/// How soon a stop that failed is tried again.
const AGAIN: Duration = Duration::from_secs(1);

fn failed(stage: StartStage, message: impl Into<String>) -> StartError {
    StartError { stage, message: message.into() }
}

impl CriRuntime {
    /// Creates and starts a container, and the task that listens to it (kubelet: `startContainer`).
    pub(super) async fn start_container(&self, config: ContainerConfig) -> Result<(), StartError> {
        let inner = &self.inner;
        let number = config.instance.0;
        let known = inner.state.borrow().newest_sandbox(&config.pod);
        let sandbox = known.ok_or_else(|| failed(StartStage::Create, "the pod has no sandbox"))?;
        // kubelet: `resolveRecursiveReadOnly`.
        let strict = |mount: &&Mount| mount.read_only && mount.below == Below::ReadOnly;
        if let Some(mount) = config.mounts.iter().find(strict).filter(|_| !inner.read_only_below) {
            let message = format!(
                "volume mount {} requested recursive read-only mode, but it is not supported by the \
                 runtime",
                mount.target.display()
            );
            return Err(failed(StartStage::Create, message));
        }
        let mut mounts = inner.files.mounts(&config)?;
        let termination = match self.termination(&config, &mut mounts) {
            Ok(termination) => termination,
            Err(error) => {
                inner.files.forget_instance(number);
                return Err(error);
            }
        };
        let labels = labels::of_container(&inner.run, &sandbox.config.labels, &config);
        let log = Path::new(&config.name).join(format!("{}.log", config.restart_count));
        let logs = Path::new(&sandbox.config.log_directory);
        let made = self.log_file(logs.join(&log)).map_err(|error| {
            failed(StartStage::Create, format!("cannot make the container's log: {error}"))
        });
        let around = Surroundings {
            labels: &labels,
            namespaces: &sandbox.namespaces,
            log: &log,
            seccomp: &inner.seccomp,
            own_files: logs.parent().unwrap_or(logs),
            read_only_below: inner.read_only_below,
        };
        let request = api::CreateContainerRequest {
            pod_sandbox_id: sandbox.id.clone(),
            config: Some(container_config::translate(&config, &mounts, around)),
            sandbox_config: Some(sandbox.config.clone()),
        };
        let created = match made {
            Ok(reader) => self
                .create(request, &config)
                .await
                .map(|id| (id, reader))
                .map_err(|error| failed(StartStage::Create, error.message())),
            Err(error) => Err(error),
        };
        let (id, reader) = match created {
            Ok(created) => created,
            Err(error) => {
                termination.take(0, &Default::default());
                inner.files.forget_instance(number);
                return Err(error);
            }
        };
        let started = Rc::new(Started {
            id,
            sandbox: sandbox.id,
            pod: Arc::clone(&config.pod),
            name: config.name.clone(),
            instance: config.instance,
            stop_signal: config.own_stop_signal.then_some(config.stop_signal),
            log: logs.join(log),
            own_processes: sandbox.namespaces.pid() == api::NamespaceMode::Container,
            oom: Cell::new(false),
            killed: Cell::new(false),
            process: RefCell::default(),
            looked: Cell::new(false),
            ended: Cell::new(false),
            written: Cell::new(false),
            news: Default::default(),
        });
        inner.state.borrow_mut().containers.insert(number, Rc::clone(&started));
        if let Err(error) = self.start_created(&started.id).await {
            // It stays with the runtime as one that has ended, until the engine lets go of it.
            started.ended.set(true);
            started.written.set(true);
            termination.take(0, &Default::default());
            inner.files.forget_instance(number);
            return Err(failed(StartStage::Run, error.message()));
        }
        let before = {
            let mut state = inner.state.borrow_mut();
            let writers = state.writers.entry(Arc::clone(&config.pod)).or_default();
            writers.insert(config.name.clone(), Rc::clone(&started))
        };
        let before = before.filter(|run| !run.written.get());
        let attendant = attend::attend(Rc::clone(inner), started, reader, termination, before);
        inner.spawn(attendant);
        Ok(())
    }

    /// Makes the file of the termination message and its mount.
    fn termination(
        &self,
        config: &ContainerConfig,
        mounts: &mut Vec<(String, Mount)>,
    ) -> Result<Termination, StartError> {
        let target = &config.termination_message_path;
        let mut file = None;
        if !target.is_empty() {
            let path = self.inner.files.termination(config.instance.0);
            termination::create(&path).map_err(|error| {
                failed(StartStage::Create, format!("cannot make {}: {error}", path.display()))
            })?;
            let mount = Mount {
                source: MountSource::Bind(path.clone()),
                target: target.into(),
                read_only: false,
                below: Below::default(),
                propagation: Propagation::Private,
            };
            mounts.push((path.display().to_string(), mount));
            file = Some(path);
        }
        Ok(Termination { file, from_logs: config.termination_message_from_logs })
    }

    /// Makes the file of a log, and watches it before the runtime has it: a short life is missed otherwise.
    /// A log of this name is one of a sandbox that is gone.
    fn log_file(&self, path: PathBuf) -> std::io::Result<LogReader> {
        if let Some(dir) = path.parent() {
            std::fs::create_dir_all(dir)?;
        }
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mode = std::fs::Permissions::from_mode(0o640);
        std::fs::File::create_new(&path)?.set_permissions(mode)?;
        let mut reader = LogReader::new(path, self.inner.inotify.clone());
        reader.open()?;
        Ok(reader)
    }

    /// Creates a container. Who knows whether the first try did it, if the runtime was gone then, or
    /// whether a container of its name from a sandbox before is still on its way out? Both are looked
    /// for and removed before the one other try.
    async fn create(
        &self,
        request: api::CreateContainerRequest,
        config: &ContainerConfig,
    ) -> Result<String, CallError> {
        let client = &self.inner.client;
        let answer = match client.once(request.clone(), Some(REQUEST)).await {
            Err(error) if error.is_gone() && client.returned().await => {
                let mine = labels::of_instance(&self.inner.run, config.instance.0);
                for container in self.list_containers(mine).await? {
                    self.remove_container(&container.id).await?;
                }
                client.once(request, Some(REQUEST)).await
            }
            Err(error) if error.message().contains("is reserved for") => {
                let pods = labels::of_pod(&self.inner.run, &config.pod);
                for container in self.list_containers(pods).await? {
                    let same = container.metadata.as_ref().is_some_and(|m| {
                        m.name == config.name && m.attempt == config.restart_count
                    });
                    if same && container.state() != ContainerState::Running {
                        self.remove_container(&container.id).await?;
                    }
                }
                client.once(request, Some(REQUEST)).await
            }
            other => other,
        };
        answer.map(|answer| answer.container_id)
    }

    /// Starts a container, also if the runtime is restarted in the middle of it.
    async fn start_created(&self, id: &str) -> Result<(), CallError> {
        let client = &self.inner.client;
        loop {
            let request = api::StartContainerRequest { container_id: id.to_owned() };
            match client.once(request, Some(REQUEST)).await {
                Ok(_) => return Ok(()),
                Err(error) if error.is_gone() && client.returned().await => {
                    let request =
                        api::ContainerStatusRequest { container_id: id.to_owned(), verbose: false };
                    let status = client.call(request, Some(REQUEST)).await?.status;
                    match status.map(|status| status.state()) {
                        Some(ContainerState::Created) => {}
                        Some(ContainerState::Running | ContainerState::Exited) => return Ok(()),
                        Some(ContainerState::Unknown) | None => return Err(error),
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn list_containers(
        &self,
        label_selector: std::collections::HashMap<String, String>,
    ) -> Result<Vec<api::Container>, CallError> {
        let filter = Some(api::ContainerFilter { label_selector });
        let request = api::ListContainersRequest { filter };
        Ok(self.inner.client.call(request, Some(REQUEST)).await?.containers)
    }

    async fn remove_container(&self, id: &str) -> Result<(), CallError> {
        let request = api::RemoveContainerRequest { container_id: id.to_owned() };
        match self.inner.client.call(request, Some(REQUEST)).await {
            Err(error) if !error.is(Code::NotFound) => Err(error),
            _ => Ok(()),
        }
    }

    fn container(&self, instance: InstanceId) -> Option<Rc<Started>> {
        self.inner.state.borrow().containers.get(&instance.0).cloned()
    }

    /// A container that has not ended.
    fn running(&self, instance: InstanceId) -> Option<Rc<Started>> {
        self.container(instance).filter(|container| !container.ended.get())
    }

    /// Asks a container to stop, and sees to it that it does.
    pub(super) async fn stop_container(&self, instance: InstanceId, grace: Duration) {
        let Some(container) = self.running(instance) else { return };
        let deadline = Instant::now() + grace;
        let runtime = self.clone();
        let task = async move {
            if !grace.is_zero() && runtime.signal(&container).await {
                let left = deadline.saturating_duration_since(Instant::now());
                let _ = tokio::time::timeout(left, container.until_ended()).await;
            }
            while !container.ended.get() {
                let left = deadline.saturating_duration_since(Instant::now());
                let stopped = runtime.ask_to_stop(&container, left).await;
                // Its end may not have come round yet.
                let patience = if stopped { SOON } else { AGAIN };
                let _ = tokio::time::timeout(patience, container.until_ended()).await;
            }
        };
        self.inner.spawn(task);
    }

    /// Sends the stop signal that only the Pod knows, if there is one: runtimes before CRI 0.33 cannot
    /// be told.
    async fn signal(&self, container: &Started) -> bool {
        let Some(number) = container.stop_signal else { return false };
        let _ = tokio::time::timeout(SOON, container.until_looked()).await;
        let process = container.process.borrow().clone();
        let sent = process.is_some_and(|process| process.signal(number).is_ok());
        if !sent {
            self.inner.client.warn(format!(
                "{}: lifecycle.stopSignal cannot be sent, as the process is not on this machine; the \
                 runtime sends the image's",
                container.name
            ));
        }
        sent
    }

    /// One `StopContainer`; whether the runtime says that the container is stopped.
    async fn ask_to_stop(&self, container: &Started, grace: Duration) -> bool {
        // Whole seconds, as the kubelet counts; a started one counts.
        let seconds = grace.as_millis().div_ceil(1000);
        let request = api::StopContainerRequest {
            container_id: container.id.clone(),
            timeout: i64::try_from(seconds).unwrap_or(i64::MAX),
        };
        match self.inner.client.call(request, Some(REQUEST + grace)).await {
            Ok(_) => true,
            Err(error) if error.is(Code::NotFound) => true,
            Err(error) => {
                let name = &container.name;
                self.inner.client.warn(format!("{name}: cannot be stopped: {}", error.words()));
                false
            }
        }
    }

    /// SIGKILL, behind the runtime's back if it is gone.
    pub(super) async fn kill_container(&self, instance: InstanceId, oom: bool) {
        let Some(container) = self.running(instance) else { return };
        container.oom.update(|before| before || oom);
        if self.inner.client.is_gone() {
            // Who asks for this does not want to wait.
            self.inner.client.stop_waiting();
            let process = container.process.borrow().clone();
            if process.is_none_or(|process| process.signal(SIGKILL).is_err()) {
                self.inner.client.warn(format!(
                    "{}: it may go on; the next `holdfast run --runtime cri` removes it",
                    container.name
                ));
            }
            container.killed.set(true);
            container.news.notify_waiters();
            return;
        }
        self.stop_container(instance, Duration::ZERO).await;
    }

    /// Removes a container that has ended.
    pub(super) async fn forget_container(&self, instance: InstanceId) {
        let Some(container) = self.container(instance) else { return };
        let _ = tokio::time::timeout(SOON, container.until_ended()).await;
        // What cannot be removed goes with the sandbox.
        let _ = self.remove_container(&container.id).await;
        let _ = std::fs::remove_file(&container.log);
        self.inner.state.borrow_mut().containers.remove(&instance.0);
    }

    /// Runs a command in a container (kubelet: `RunInContainer`).
    pub(super) async fn run_exec(
        &self,
        instance: InstanceId,
        argv: &[String],
        timeout: Option<Duration>,
    ) -> Result<ExecOutcome, String> {
        let container = self.running(instance).ok_or("the container is not running")?;
        let seconds = timeout.map_or(0, |timeout| timeout.as_millis().div_ceil(1000));
        let request = api::ExecSyncRequest {
            container_id: container.id.clone(),
            cmd: argv.to_vec(),
            timeout: i64::try_from(seconds).unwrap_or(i64::MAX),
        };
        // The runtime keeps the time; beyond it, it has the time of any other request.
        let limit = timeout.map(|timeout| REQUEST + timeout);
        match self.inner.client.once(request, limit).await {
            Ok(answer) => {
                let mut output = answer.stdout;
                output.extend_from_slice(&answer.stderr);
                output.truncate(MAX_OUTPUT);
                Ok(ExecOutcome::Ended { code: answer.exit_code, output })
            }
            Err(CallError::TimedOut) => Ok(ExecOutcome::TimedOut),
            Err(error) if error.is(Code::DeadlineExceeded) => Ok(ExecOutcome::TimedOut),
            Err(error) => Err(error.words()),
        }
    }
}

const SIGKILL: i32 = 9;
