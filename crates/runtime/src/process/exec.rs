//! Commands inside a running container (`ExecSync` of the CRI): probes and hooks.

use std::time::Duration;

use holdfast_lifecycle::status::InstanceId;
use holdfast_sys::launcher::protocol::{Exec, Request};
use tokio::sync::oneshot;

use super::link::{Link, lock};
use super::{ProcessRuntime, output};
use crate::contract::ExecOutcome;

/// kubelet: `maxReadLength` of exec probes.
const MAX_OUTPUT: usize = 10 * 1024;

/// Kills the command if nobody waits for it any more.
struct Guard {
    link: Link,
    exec: u64,
    armed: bool,
}

impl Drop for Guard {
    fn drop(&mut self) {
        if self.armed {
            self.link.tell(Request::KillExec { exec: self.exec });
        }
    }
}

impl ProcessRuntime {
    pub(super) async fn run_exec(
        &self,
        instance: InstanceId,
        argv: &[String],
        timeout: Option<Duration>,
    ) -> Result<ExecOutcome, String> {
        let (pipe, end) = output::pipe().map_err(|error| format!("cannot make a pipe: {error}"))?;
        let (sender, mut ended) = oneshot::channel();
        let exec = {
            let mut state = lock(&self.inner.state);
            state.next += 1;
            let exec = state.next;
            state.execs.insert(exec, sender);
            exec
        };
        let deadline = async {
            match timeout {
                Some(timeout) => tokio::time::sleep(timeout).await,
                None => std::future::pending().await,
            }
        };
        tokio::pin!(deadline);
        let mut guard = Guard { link: self.inner.link.clone(), exec, armed: true };
        let wish = Exec { exec, instance: instance.0, argv: argv.to_vec() };
        let asked = self.inner.link.ask(Request::Exec(wish), vec![end]).await;
        if let Err(failure) = asked {
            guard.armed = false;
            lock(&self.inner.state).execs.remove(&exec);
            return Err(format!(
                "OCI runtime exec failed: exec failed: unable to start container process: {}",
                failure.message
            ));
        }
        let mut output = Vec::new();
        let mut keep = |bytes: &[u8]| {
            output.extend_from_slice(&bytes[..bytes.len().min(MAX_OUTPUT - output.len())]);
        };
        let mut open = true;
        let mut buffer = [0; 4096];
        let code = loop {
            tokio::select! {
                biased;
                ready = pipe.readable(), if open => match ready.and_then(|()| pipe.try_read(&mut buffer)) {
                    Ok(0) => open = false,
                    Ok(read) => keep(&buffer[..read]),
                    Err(error) => open = error.kind() == std::io::ErrorKind::WouldBlock,
                },
                code = &mut ended => break code,
                () = &mut deadline => return Ok(ExecOutcome::TimedOut),
            }
        };
        guard.armed = false;
        output::drain(&pipe, keep);
        match code {
            Ok(code) => Ok(ExecOutcome::Ended { code, output }),
            Err(_) => Err("the launcher process is gone, and the container with it".to_owned()),
        }
    }
}
