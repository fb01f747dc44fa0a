//! `/etc/hosts`, `/etc/resolv.conf` and the host name of a pod.

use std::fmt::Write as _;
use std::net::IpAddr;

use holdfast_manifest::object::Pod;
use holdfast_manifest::object::pod::{HostAlias, PodDnsConfig};

use crate::contract::Dns;

/// The domain that a cluster's names end in, for pods with a `subdomain`.
const CLUSTER_DOMAIN: &str = "cluster.local";

/// Names of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostNames {
    /// The short name.
    pub hostname: String,
    /// `SUBDOMAIN.NAMESPACE.svc.cluster.local`, empty without `subdomain`.
    pub domain: String,
    /// What `hostname` prints: the short name, or all of it with `setHostnameAsFQDN`.
    pub kernel: String,
}

/// A host name that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostNameError {
    /// Nothing is left of it.
    #[error("hostname for pod {0:?} was invalid: {1:?}")]
    Invalid(String, String),
    /// `setHostnameAsFQDN` with a name longer than Linux takes.
    #[error(
        "failed to construct FQDN from pod hostname and cluster domain, FQDN {0} is too long (64 \
         characters is the max, {len} characters requested)",
        len = .0.len()
    )]
    TooLong(String),
}

/// The host name and domain of a pod (kubelet: `GeneratePodHostNameAndDomain`).
///
/// # Errors
/// [`HostNameError`].
pub fn host_names(pod: &Pod) -> Result<HostNames, HostNameError> {
    let (spec, meta) = (&pod.spec, &pod.metadata);
    let truncated = |name: &str| {
        let cut: String = name.chars().take(63).collect();
        let cut = if cut.len() < name.len() { cut.trim_end_matches(['-', '.']) } else { &cut };
        if cut.is_empty() {
            return Err(HostNameError::Invalid(meta.name.clone(), name.to_owned()));
        }
        Ok(cut.to_owned())
    };
    if let Some(name) = &spec.hostname_override {
        let hostname = truncated(name)?;
        return Ok(HostNames { kernel: hostname.clone(), hostname, domain: String::new() });
    }
    let hostname = truncated(if spec.hostname.is_empty() { &meta.name } else { &spec.hostname })?;
    let domain = match spec.subdomain.as_str() {
        "" => String::new(),
        sub => format!("{sub}.{}.svc.{CLUSTER_DOMAIN}", meta.namespace),
    };
    let mut kernel = hostname.clone();
    if spec.set_hostname_as_fqdn == Some(true) && !domain.is_empty() {
        kernel = format!("{hostname}.{domain}");
        if kernel.len() > 64 {
            return Err(HostNameError::TooLong(kernel));
        }
    }
    Ok(HostNames { hostname, domain, kernel })
}

/// `/etc/hosts` of a pod with its own addresses (kubelet: `managedHostsFileContent`).
pub(super) fn hosts(ips: &[IpAddr], names: &HostNames, aliases: &[HostAlias]) -> String {
    let mut text = String::from(
        "# Kubernetes-managed hosts file.\n\
         127.0.0.1\tlocalhost\n\
         ::1\tlocalhost ip6-localhost ip6-loopback\n\
         fe00::0\tip6-localnet\n\
         fe00::0\tip6-mcastprefix\n\
         fe00::1\tip6-allnodes\n\
         fe00::2\tip6-allrouters\n",
    );
    let HostNames { hostname, domain, .. } = names;
    for ip in ips {
        // Writing to a String cannot fail.
        let _ = match domain.as_str() {
            "" => writeln!(text, "{ip}\t{hostname}"),
            domain => writeln!(text, "{ip}\t{hostname}.{domain}\t{hostname}"),
        };
    }
    text + &alias_lines(aliases)
}

/// `/etc/hosts` of a pod on the host's network (kubelet: `nodeHostsFileContent`).
pub(super) fn hosts_of_node(node: &str, aliases: &[HostAlias]) -> String {
    format!("# Kubernetes-managed hosts file (host network).\n{node}{}", alias_lines(aliases))
}

fn alias_lines(aliases: &[HostAlias]) -> String {
    if aliases.is_empty() {
        return String::new();
    }
    let mut text = String::from("\n# Entries added by HostAliases.\n");
    for alias in aliases {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{}\t{}", alias.ip, alias.hostnames.join("\t"));
    }
    text
}

/// Limits of resolvers (validation: `MaxDNSNameservers`, `MaxDNSSearchPaths`, `MaxDNSSearchListChars`).
const MAX_NAMESERVERS: usize = 3;
const MAX_SEARCHES: usize = 32;
const MAX_SEARCH_CHARS: usize = 2048;

/// `/etc/resolv.conf` of a pod (kubelet: `GetPodDNS`). There is no cluster DNS, so `ClusterFirst` is
/// what it is on a kubelet without one: the host's. Limits that were met are added to `events`.
pub(super) fn resolv_conf(
    pod: &Pod,
    host: &str,
    events: &mut Vec<(&'static str, String)>,
) -> String {
    let none = pod.spec.dns_policy == "None";
    let Some(own) = &pod.spec.dns_config else {
        // As it is, with comments and whatever only the host's resolver understands.
        return if none { String::new() } else { host.to_owned() };
    };
    let mut config = if none { ResolvConf::default() } else { ResolvConf::parse(host) };
    config.add(own);
    config.limit(events);
    config.to_string()
}

/// The resolvers of a pod, for a runtime that writes the file by itself (kubelet: `GetPodDNS`).
pub(crate) fn pod_dns(pod: &Pod) -> (Dns, Vec<(&'static str, String)>) {
    let mut events = Vec::new();
    let text = resolv_conf(pod, &host_resolv_conf(pod.spec.host_network), &mut events);
    let ResolvConf { servers, searches, options } = ResolvConf::parse(&text);
    (Dns { servers, searches, options }, events)
}

/// A parsed resolv.conf (kubelet: `parseResolvConf`).
#[derive(Default)]
struct ResolvConf {
    servers: Vec<String>,
    searches: Vec<String>,
    options: Vec<String>,
}

impl ResolvConf {
    fn parse(text: &str) -> Self {
        let mut config = Self::default();
        for line in text.lines().filter(|line| !line.trim_start().starts_with('#')) {
            let mut fields = line.split_whitespace().map(str::to_owned);
            match fields.next().as_deref() {
                Some("nameserver") => config.servers.extend(fields.next()),
                // The last line of these counts.
                Some("search") => {
                    config.searches = fields
                        .map(|s| if s == "." { s } else { s.trim_end_matches('.').to_owned() })
                        .collect();
                }
                Some("options") => config.options = fields.collect(),
                _ => {}
            }
        }
        config
    }

    fn add(&mut self, own: &PodDnsConfig) {
        let add = |list: &mut Vec<String>, more: &[String]| {
            for entry in more {
                if !list.contains(entry) {
                    list.push(entry.clone());
                }
            }
        };
        add(&mut self.servers, &own.nameservers);
        add(&mut self.searches, &own.searches);
        for option in &own.options {
            self.options.retain(|known| known.split(':').next() != Some(&option.name));
            self.options.push(match option.value.as_deref() {
                None | Some("") => option.name.clone(),
                Some(value) => format!("{}:{value}", option.name),
            });
        }
    }

    fn limit(&mut self, events: &mut Vec<(&'static str, String)>) {
        if self.servers.len() > MAX_NAMESERVERS {
            self.servers.truncate(MAX_NAMESERVERS);
            let message = format!(
                "Nameserver limits were exceeded, some nameservers have been omitted, the applied \
                 nameserver line is: {}",
                self.servers.join(" ")
            );
            events.push(("DNSConfigForming", message));
        }
        let before = self.searches.len();
        self.searches.truncate(MAX_SEARCHES);
        while self.searches.join(" ").len() > MAX_SEARCH_CHARS {
            self.searches.pop();
        }
        if self.searches.len() < before {
            let message = format!(
                "Search Line limits were exceeded, some search paths have been omitted, the applied \
                 search line is: {}",
                self.searches.join(" ")
            );
            events.push(("DNSConfigForming", message));
        }
    }
}

impl std::fmt::Display for ResolvConf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if !self.searches.is_empty() {
            writeln!(f, "search {}", self.searches.join(" "))?;
        }
        for server in &self.servers {
            writeln!(f, "nameserver {server}")?;
        }
        if !self.options.is_empty() {
            writeln!(f, "options {}", self.options.join(" "))?;
        }
        Ok(())
    }
}

/// The host's resolv.conf for a pod. With a network of its own, a pod cannot reach a resolver on the
/// host's loopback: then the file with systemd-resolved's own upstreams is taken, as kubeadm tells
/// the kubelet to.
pub(super) fn host_resolv_conf(host_network: bool) -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    reachable(read("/etc/resolv.conf"), host_network, || read("/run/systemd/resolve/resolv.conf"))
}

/// `text`, or what `upstream` says if `text` names only resolvers on a loopback that is not the pod's.
fn reachable(text: String, host_network: bool, upstream: impl FnOnce() -> String) -> String {
    let servers = ResolvConf::parse(&text).servers;
    let loopback = |server: &String| server.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    if host_network || servers.is_empty() || !servers.iter().all(loopback) {
        return text;
    }
    match upstream() {
        upstream if upstream.is_empty() => text,
        upstream => upstream,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(spec: Value) -> Pod {
        let meta = json!({"name": "web-0", "namespace": "ns"});
        serde_json::from_value(json!({"metadata": meta, "spec": spec})).unwrap()
    }

    fn names(spec: Value) -> HostNames {
        host_names(&pod(spec)).unwrap()
    }

    #[test]
    fn host_names_follow_the_spec() {
        let plain = names(json!({}));
        assert_eq!((plain.kernel.as_str(), plain.domain.as_str()), ("web-0", ""));
        assert_eq!(names(json!({"hostname": "h"})).kernel, "h");
        assert_eq!(names(json!({"hostname": "h", "hostnameOverride": "o.x"})).kernel, "o.x");
        let sub = names(json!({"subdomain": "s"}));
        assert_eq!((sub.kernel.as_str(), sub.domain.as_str()), ("web-0", "s.ns.svc.cluster.local"));
        let fqdn = names(json!({"subdomain": "s", "setHostnameAsFQDN": true}));
        assert_eq!(fqdn.kernel, "web-0.s.ns.svc.cluster.local");
        let long = format!("{}-x", "a".repeat(62));
        assert_eq!(names(json!({"hostname": long})).kernel, "a".repeat(62));
        let spec = json!({"hostname": "a".repeat(60), "subdomain": "s", "setHostnameAsFQDN": true});
        assert!(host_names(&pod(spec)).unwrap_err().to_string().contains("is too long"));
    }

    #[test]
    fn hosts_files() {
        let aliases = vec![HostAlias {
            ip: "10.1.2.3".into(),
            hostnames: vec!["a.local".into(), "b.local".into()],
        }];
        let ips = ["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()];
        let text = hosts(&ips, &names(json!({})), &aliases);
        assert!(text.starts_with("# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n"));
        assert!(text.contains("fe00::2\tip6-allrouters\n10.0.0.1\tweb-0\nfd00::1\tweb-0\n"));
        let end = "\n# Entries added by HostAliases.\n10.1.2.3\ta.local\tb.local\n";
        assert!(text.ends_with(end), "{text}");
        let text = hosts(&ips[..1], &names(json!({"subdomain": "s"})), &[]);
        assert!(text.ends_with("10.0.0.1\tweb-0.s.ns.svc.cluster.local\tweb-0\n"), "{text}");
        let text = hosts_of_node("1.2.3.4 me\n", &aliases);
        assert!(text.starts_with("# Kubernetes-managed hosts file (host network).\n1.2.3.4 me\n"));
        assert!(text.ends_with(end));
    }

    #[test]
    fn resolvers() {
        let host = "# mine\nsearch old\nsearch a.example. b.example\nnameserver 192.0.2.1\n\
                    options ndots:2 rotate\nsortlist x\n";
        let resolve = |spec: Value| {
            let mut events = Vec::new();
            (resolv_conf(&pod(spec), host, &mut events), events)
        };
        for policy in ["ClusterFirst", "Default", "ClusterFirstWithHostNet"] {
            assert_eq!(resolve(json!({"dnsPolicy": policy})).0, host);
        }
        let config = json!({
            "nameservers": ["192.0.2.53"], "searches": ["b.example", "c.example"],
            "options": [{"name": "ndots", "value": "5"}, {"name": "edns0"}],
        });
        let (text, _) = resolve(json!({"dnsPolicy": "Default", "dnsConfig": config}));
        assert_eq!(
            text,
            "search a.example b.example c.example\nnameserver 192.0.2.1\nnameserver 192.0.2.53\n\
             options rotate ndots:5 edns0\n"
        );
        let (text, events) = resolve(json!({"dnsPolicy": "None", "dnsConfig": config}));
        assert_eq!(
            text,
            "search b.example c.example\nnameserver 192.0.2.53\noptions ndots:5 edns0\n"
        );
        assert!(events.is_empty());
        let many = json!({"nameservers": ["192.0.2.2", "192.0.2.3", "192.0.2.4"]});
        let (text, events) = resolve(json!({"dnsConfig": many}));
        assert_eq!(text.matches("nameserver").count(), 3);
        assert_eq!(events[0].0, "DNSConfigForming");
        assert!(events[0].1.ends_with("192.0.2.1 192.0.2.2 192.0.2.3"));
    }

    #[test]
    fn a_resolver_on_the_hosts_loopback_is_not_the_pods() {
        let local = "nameserver 127.0.0.53\n";
        let both = "nameserver 127.0.0.53\nnameserver 192.0.2.1\n";
        for (text, host_network, upstream, expected) in [
            (local, false, "nameserver 192.0.2.9\n", "nameserver 192.0.2.9\n"),
            (local, false, "", local),
            (local, true, "nameserver 192.0.2.9\n", local),
            (both, false, "nameserver 192.0.2.9\n", both),
            ("", false, "nameserver 192.0.2.9\n", ""),
        ] {
            assert_eq!(reachable(text.to_owned(), host_network, || upstream.to_owned()), expected);
        }
    }
}
