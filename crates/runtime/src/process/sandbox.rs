//! Sandboxes: making them, with their network and ports, and taking them down.

use std::net::{IpAddr, Ipv4Addr};

use holdfast_sys::launcher::protocol::{Pids, Request, Sandbox};

use super::ProcessRuntime;
use super::link::lock;
use super::network::{Attached, Forwarders};
use crate::contract::{HostPort, PodUid, SandboxConfig};

/// A sandbox that exists.
#[derive(Debug)]
pub(super) struct Known {
    /// The launcher's number for it.
    pub(super) number: u64,
    pub(super) attempt: u32,
    address: Option<Ipv4Addr>,
    /// Held, not used: the forwarders end with it.
    _ports: Forwarders,
}

impl ProcessRuntime {
    pub(super) async fn make_sandbox(
        &self,
        config: &SandboxConfig,
    ) -> Result<Option<IpAddr>, String> {
        // An earlier attempt that nobody stopped has no other owner.
        self.drop_sandbox(&config.pod, None).await;
        let network = self.inner.network.as_ref().filter(|_| !config.host_network);
        let attached = match network {
            Some(network) => Some(network.attach().await.map_err(|error| error.to_string())?),
            None => None,
        };
        let address = attached.as_ref().map(|attached| attached.address);
        match self.fill_sandbox(config, attached).await {
            Ok(known) => {
                lock(&self.inner.state).sandboxes.insert(config.pod.clone(), known);
                Ok(address.map(IpAddr::V4))
            }
            Err(error) => {
                self.release(address);
                Err(error)
            }
        }
    }

    async fn fill_sandbox(
        &self,
        config: &SandboxConfig,
        attached: Option<Attached>,
    ) -> Result<Known, String> {
        let address = attached.as_ref().map(|attached| attached.address);
        let ports = forwarded(config, address);
        let to = address.unwrap_or(Ipv4Addr::LOCALHOST);
        let ports = Forwarders::bind(&ports, to.into()).await.map_err(|error| error.to_string())?;
        let number = {
            let mut state = lock(&self.inner.state);
            state.next += 1;
            state.next
        };
        let wish = Sandbox {
            sandbox: number,
            name: cgroup_name(config),
            cpu_request_milli: config.cpu_request_milli,
            hostname: config.hostname.clone(),
            network: attached.is_some(),
            ipc: !config.host_ipc,
            starts: config.containers,
            pids: if config.share_process_namespace {
                Pids::Pod
            } else if config.host_pid {
                Pids::Host
            } else {
                Pids::Container
            },
        };
        let fds = attached.map(|attached| attached.namespace).into_iter().collect();
        let asked = self.inner.link.ask(Request::Sandbox(wish), fds).await;
        asked.map_err(|failure| failure.message)?;
        Ok(Known { number, attempt: config.attempt, address, _ports: ports })
    }

    /// Takes down the sandbox of a pod, if it is still that attempt.
    pub(super) async fn drop_sandbox(&self, pod: &PodUid, attempt: Option<u32>) {
        let known = {
            let mut state = lock(&self.inner.state);
            match state.sandboxes.get(pod) {
                Some(known) if attempt.is_none_or(|attempt| known.attempt == attempt) => {
                    state.sandboxes.remove(pod)
                }
                _ => None,
            }
        };
        let Some(known) = known else { return };
        // If the launcher is gone, so is the sandbox.
        let request = Request::DropSandbox { sandbox: known.number };
        let _ = self.inner.link.ask(request, Vec::new()).await;
        self.release(known.address);
    }

    fn release(&self, address: Option<Ipv4Addr>) {
        if let (Some(network), Some(address)) = (&self.inner.network, address) {
            network.release(address);
        }
    }
}

/// The ports that need a forwarder: all of a pod with an address of its own; of one on the host's
/// network those that are not where they are wanted already.
fn forwarded(config: &SandboxConfig, address: Option<Ipv4Addr>) -> Vec<HostPort> {
    let needed = |port: &&HostPort| address.is_some() || port.host != port.container;
    config.host_ports.iter().filter(needed).cloned().collect()
}

/// A pod's name in the cgroup tree.
fn cgroup_name(config: &SandboxConfig) -> String {
    let harmless = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' };
    let uid: String = config.pod.chars().map(harmless).collect();
    format!("pod{uid}-{}", config.attempt)
}
