//! One container from its start to its exit event.

use std::path::PathBuf;
use std::sync::Arc;

use holdfast_sys::launcher::protocol::{Failure, Mode, Request};
use tokio::net::unix::pipe::Receiver;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::oneshot;

use super::link::lock;
use super::output::{self, Lines, Tail};
use super::termination::{self, Termination};
use super::{Exit, ProcessRuntime, Running, spec, warnings_of};
use crate::contract::{ContainerConfig, MountSource, PodUid, RuntimeEvent, StartError};
use crate::room::Room;
use holdfast_lifecycle::status::InstanceId;

impl ProcessRuntime {
    /// Starts a container and the task that listens to it.
    pub(super) async fn start_container(&self, config: ContainerConfig) -> Result<(), StartError> {
        if self.is_known(config.instance) {
            return Err(
                Failure::create(format!("container {} exists already", config.instance.0)).into()
            );
        }
        let termination = self.termination(&config)?;
        let result = self.launch(&config, termination.file.as_deref()).await;
        match result {
            Ok((streams, exit)) => {
                let attendant = Attendant {
                    pod: config.pod,
                    name: config.name,
                    instance: config.instance,
                    events: self.inner.events.clone(),
                    room: self.inner.room.clone(),
                    tail: Tail::default(),
                    termination,
                };
                tokio::spawn(attendant.attend(streams, exit));
                Ok(())
            }
            Err(failure) => {
                lock(&self.inner.state).containers.remove(&config.instance.0);
                if let Some(file) = &termination.file {
                    let _ = std::fs::remove_file(file);
                }
                Err(failure.into())
            }
        }
    }

    fn is_known(&self, instance: InstanceId) -> bool {
        lock(&self.inner.state).containers.contains_key(&instance.0)
    }

    /// Makes the file of the termination message, where it can be bound.
    fn termination(&self, config: &ContainerConfig) -> Result<Termination, Failure> {
        let wanted = self.mode() != Mode::Plain && !config.termination_message_path.is_empty();
        let file = wanted.then(|| -> PathBuf {
            self.run_dir().join(format!("termination-{}", config.instance.0))
        });
        if let Some(file) = &file {
            termination::create(file).map_err(|error| {
                Failure::create(format!("cannot make {}: {error}", file.display()))
            })?;
        }
        Ok(Termination { file, from_logs: config.termination_message_from_logs })
    }

    async fn launch(
        &self,
        config: &ContainerConfig,
        termination: Option<&std::path::Path>,
    ) -> Result<([Receiver; 2], oneshot::Receiver<Exit>), Failure> {
        let pipe = || {
            output::pipe().map_err(|error| Failure::create(format!("cannot make a pipe: {error}")))
        };
        let ((stdout, stdout_end), (stderr, stderr_end)) = (pipe()?, pipe()?);
        let (sender, exit) = oneshot::channel();
        let sandbox = {
            let mut state = lock(&self.inner.state);
            let known = state.sandboxes.get(&config.pod).map(|known| known.number);
            let Some(sandbox) = known else {
                return Err(Failure::create("the pod has no sandbox"));
            };
            // Known before it is started: its exit may be the next thing we hear.
            let running =
                Running { exit: Some(sender), stop_signal: config.stop_signal, oom: false };
            state.containers.insert(config.instance.0, running);
            if config.mounts.iter().any(|m| matches!(m.source, MountSource::PodTmpfs(_))) {
                state.in_memory.insert(Arc::clone(&config.pod));
            }
            sandbox
        };
        let spec = Box::new(spec::translate(config, sandbox, termination)?);
        let reply = self.inner.link.ask(Request::Start(spec), vec![stdout_end, stderr_end]).await?;
        self.warn(warnings_of(reply));
        Ok(([stdout, stderr], exit))
    }
}

/// Listens to one container.
struct Attendant {
    pod: PodUid,
    name: String,
    instance: InstanceId,
    events: UnboundedSender<RuntimeEvent>,
    room: Room,
    tail: Tail,
    termination: Termination,
}

impl Attendant {
    async fn attend(mut self, streams: [Receiver; 2], mut exit: oneshot::Receiver<Exit>) {
        let [stdout, stderr] = &streams;
        let mut lines = [Lines::default(), Lines::default()];
        let mut open = [true, true];
        let exit = loop {
            // While nobody takes what has been read, the rest waits in the pipe, and then its writer.
            let has_room = self.room.is_some();
            // The exit last: what was written before it has been seen by then, or is still in the pipe.
            let stream = tokio::select! {
                biased;
                ready = stdout.readable(), if open[0] && has_room => ready.map(|()| 0),
                ready = stderr.readable(), if open[1] && has_room => ready.map(|()| 1),
                () = self.room.some(), if !has_room => continue,
                exit = &mut exit => break exit,
            };
            let Ok(stream) = stream else { continue };
            open[stream] = self.read(&streams[stream], stream, &mut lines[stream]);
            // A container that never stops writing must not keep the others waiting.
            tokio::task::yield_now().await;
        };
        for (index, stream) in streams.iter().enumerate() {
            if open[index] {
                output::drain(stream, |bytes| self.take(bytes, index, &mut lines[index]));
            }
            lines[index].finish(|line| self.line(line, index));
        }
        // The sender is only dropped unused when the whole runtime is.
        let Ok(Exit { code, oom }) = exit else { return };
        let message = self.termination.take(code, &self.tail);
        let _ = self.events.send(RuntimeEvent::Exited {
            pod: Arc::clone(&self.pod),
            instance: self.instance,
            code,
            oom,
            message,
        });
    }

    /// Reads a chunk; false at the stream's end.
    fn read(&mut self, stream: &Receiver, index: usize, lines: &mut Lines) -> bool {
        let mut buffer = [0; 16 * 1024];
        match stream.try_read(&mut buffer) {
            Ok(0) => false,
            Ok(read) => {
                self.take(&buffer[..read], index, lines);
                true
            }
            Err(error) => error.kind() == std::io::ErrorKind::WouldBlock,
        }
    }

    fn take(&mut self, bytes: &[u8], index: usize, lines: &mut Lines) {
        lines.push(bytes, |line| self.line(line, index));
    }

    fn line(&mut self, line: Vec<u8>, index: usize) {
        if self.termination.from_logs {
            self.tail.push(&line);
        }
        let receipt = self.room.receipt(line.len());
        let _ = self.events.send(RuntimeEvent::Output {
            pod: Arc::clone(&self.pod),
            container: self.name.clone(),
            stderr: index == 1,
            line,
            receipt,
        });
    }
}
