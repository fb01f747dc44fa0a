//! From the driver's [`SandboxConfig`] to the CRI's.

use std::path::Path;

use super::api;
use super::labels;
use super::security;
use crate::contract::{HostPort, SandboxConfig};

/// What the runtime is asked for (kubelet: `generatePodSandboxConfig`,
/// `generatePodSandboxLinuxConfig`). `logs` is where the logs of its containers go.
pub(super) fn translate(
    config: &SandboxConfig,
    run: &str,
    cgroup_parent: &str,
    logs: &Path,
) -> api::PodSandboxConfig {
    let hostname = config.hostname.clone().filter(|_| !config.host_network);
    api::PodSandboxConfig {
        metadata: Some(api::PodSandboxMetadata {
            name: config.name.clone(),
            uid: config.pod.to_string(),
            namespace: config.namespace.clone(),
            attempt: config.attempt,
        }),
        hostname: hostname.unwrap_or_default(),
        log_directory: logs.display().to_string(),
        dns_config: Some(api::DnsConfig {
            servers: config.dns.servers.clone(),
            searches: config.dns.searches.clone(),
            options: config.dns.options.clone(),
        }),
        port_mappings: config.host_ports.iter().map(port).collect(),
        labels: labels::of_sandbox(run, config),
        annotations: config.annotations.clone().into_iter().collect(),
        linux: Some(api::LinuxPodSandboxConfig {
            cgroup_parent: cgroup_parent.to_owned(),
            security_context: Some(security_context(config)),
            sysctls: config.sysctls.clone().into_iter().collect(),
        }),
    }
}

fn security_context(config: &SandboxConfig) -> api::LinuxSandboxSecurityContext {
    api::LinuxSandboxSecurityContext {
        namespace_options: Some(namespaces(config)),
        selinux_options: security::se_linux(&config.confinement),
        run_as_user: security::id(config.user.uid),
        // A group without a user is refused by containerd; for the pause process it means nothing.
        run_as_group: security::id(config.user.gid.filter(|_| config.user.uid.is_some())),
        supplemental_groups: config.user.groups.iter().map(|&gid| gid.into()).collect(),
        privileged: config.privileged,
        // Always, so that pods can ask for the least.
        seccomp: Some(security::default_profile()),
        supplemental_groups_policy: security::groups_policy(&config.confinement).into(),
    }
}

/// Which namespaces are whose (kubelet: `NamespacesForPod`).
pub(super) fn namespaces(config: &SandboxConfig) -> api::NamespaceOption {
    use api::NamespaceMode::{Container, Node, Pod};
    let of_node = |host: bool| if host { Node } else { Pod };
    let pid = match (config.host_pid, config.share_process_namespace) {
        (true, _) => Node,
        (false, true) => Pod,
        (false, false) => Container,
    };
    api::NamespaceOption {
        network: of_node(config.host_network).into(),
        pid: pid.into(),
        ipc: of_node(config.host_ipc).into(),
    }
}

fn port(port: &HostPort) -> api::PortMapping {
    api::PortMapping {
        protocol: if port.udp { api::Protocol::Udp } else { api::Protocol::Tcp }.into(),
        container_port: port.container.into(),
        host_port: port.host.into(),
        host_ip: port.ip.map(|ip| ip.to_string()).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::{Dns, User};

    #[test]
    fn a_pod_becomes_a_sandbox() {
        let config = SandboxConfig {
            pod: "uid-1".into(),
            name: "web".into(),
            namespace: "ns".into(),
            labels: [("app".to_owned(), "web".to_owned())].into(),
            attempt: 2,
            hostname: Some("web".into()),
            share_process_namespace: true,
            host_ipc: true,
            host_ports: vec![HostPort { host: 80, container: 8080, udp: true, ip: None }],
            dns: Dns { servers: vec!["192.0.2.1".into()], ..Dns::default() },
            sysctls: [("net.ipv4.tcp_syncookies".to_owned(), "0".to_owned())].into(),
            user: User { gid: Some(5), groups: vec![7], ..User::default() },
            ..SandboxConfig::default()
        };
        let made = translate(&config, "r1", "", Path::new("/logs"));
        assert_eq!(made.metadata.unwrap().attempt, 2);
        assert_eq!((made.hostname.as_str(), made.log_directory.as_str()), ("web", "/logs"));
        assert_eq!(made.labels["app"], "web");
        assert_eq!(labels::run_of(&made.labels), Some("r1"));
        assert!(!labels::is_of_kubelet(&made.labels));
        assert_eq!(made.dns_config.unwrap().servers, ["192.0.2.1"]);
        let port = &made.port_mappings[0];
        assert_eq!((port.protocol, port.host_port, port.container_port), (1, 80, 8080));
        let linux = made.linux.unwrap();
        assert_eq!(linux.sysctls["net.ipv4.tcp_syncookies"], "0");
        let security = linux.security_context.unwrap();
        assert_eq!((security.run_as_user, security.run_as_group), (None, None));
        assert_eq!(security.supplemental_groups, [7]);
        let namespaces = security.namespace_options.unwrap();
        assert_eq!((namespaces.network, namespaces.pid, namespaces.ipc), (0, 0, 2));
        let host = SandboxConfig { host_network: true, host_pid: true, ..config };
        let made = translate(&host, "r1", "", Path::new("/logs"));
        assert_eq!(made.hostname, "");
        let options = namespaces_of(made);
        assert_eq!((options.network, options.pid), (2, 2));
    }

    fn namespaces_of(config: api::PodSandboxConfig) -> api::NamespaceOption {
        config.linux.unwrap().security_context.unwrap().namespace_options.unwrap()
    }
}
