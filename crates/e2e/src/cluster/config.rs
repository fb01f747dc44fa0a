//! How each component is told what to do: its files and its arguments.

use std::path::{Path, PathBuf};

use anyhow::Result;
use serde_json::{Map, Value, json};

use super::layout::{CONTROL, Layout, node, write};
use super::network::Block;
use super::pki::{self, Authority, Who};
use super::unit::Component;

/// What all components of a cluster have in common.
pub(super) struct Config<'a> {
    pub(super) layout: &'a Layout,
    pub(super) block: Block,
    pub(super) nodes: usize,
    /// The program that is every component of Kubernetes.
    pub(super) kube: &'a Path,
    pub(super) coredns: &'a Path,
    /// What the caller wants different in the kubelet's configuration.
    pub(super) kubelet: &'a Map<String, Value>,
}

impl Config<'_> {
    /// Makes all keys, certificates and kubeconfigs.
    pub(super) fn write_pki(&self) -> Result<()> {
        let Self { layout, block, .. } = *self;
        let ca = Authority::new(layout, "ca")?;
        ca.write_key(layout, "ca")?;
        let front = Authority::new(layout, "front-proxy-ca")?;
        front.leaf(layout, "front-proxy", &Who { name: "front-proxy", ..Who::default() })?;
        pki::service_account_keys(layout)?;
        ca.leaf(
            layout,
            "apiserver",
            &Who {
                name: "kube-apiserver",
                names: &[
                    "localhost",
                    "kubernetes",
                    "kubernetes.default",
                    "kubernetes.default.svc",
                    "kubernetes.default.svc.cluster.local",
                ],
                addresses: &[[127, 0, 0, 1].into(), block.control(), block.api_service()],
                ..Who::default()
            },
        )?;
        let user = |file: &str, name, group| -> Result<()> {
            let leaf = ca.leaf(layout, file, &Who { name, group, ..Who::default() })?;
            write(
                &layout.pki().join(format!("{file}.kubeconfig")),
                ca.kubeconfig(block.control(), &leaf),
            )
        };
        user("controller-manager", "system:kube-controller-manager", None)?;
        user("scheduler", "system:kube-scheduler", None)?;
        user("proxy", "system:kube-proxy", None)?;
        user("coredns", "bench:coredns", Some("system:masters"))?;
        user("apiserver-kubelet", "kube-apiserver-kubelet-client", Some("system:masters"))?;
        for number in 1..=self.nodes {
            let name = node(number);
            let leaf = ca.leaf(
                layout,
                &name,
                &Who {
                    name: &format!("system:node:{name}"),
                    group: Some("system:nodes"),
                    names: &[&name],
                    addresses: &[block.node(number)],
                },
            )?;
            let kubeconfig = ca.kubeconfig(block.control(), &leaf);
            write(&layout.pki().join(format!("{name}.kubeconfig")), kubeconfig)?;
        }
        let admin = Who { name: "bench:admin", group: Some("system:masters"), ..Who::default() };
        let admin = ca.leaf(layout, "admin", &admin)?;
        write(&layout.kubeconfig(), ca.kubeconfig(block.control(), &admin))
    }

    pub(super) fn etcd(&self) -> Component {
        let dir = self.layout.unit(CONTROL).join("etcd");
        // Loopback of the control unit: nobody else is there.
        let (client, peer) = ("http://127.0.0.1:2379", "http://127.0.0.1:2380");
        let data = format!("--data-dir={}", dir.display());
        self.kube(
            "etcd",
            &[
                &data,
                &format!("--listen-client-urls={client}"),
                &format!("--advertise-client-urls={client}"),
                &format!("--listen-peer-urls={peer}"),
                // The cluster lives as long as the machine's power.
                "--unsafe-no-fsync",
                "--log-level=warn",
            ],
        )
    }

    pub(super) fn apiserver(&self) -> Component {
        let file = |flag: &str, name: &str| format!("--{flag}={}", self.pki(name).display());
        self.kube(
            "kube-apiserver",
            &[
                "--etcd-servers=http://127.0.0.1:2379",
                "--bind-address=0.0.0.0",
                "--secure-port=6443",
                &format!("--advertise-address={}", self.block.control()),
                &format!("--service-cluster-ip-range={}", self.block.services()),
                "--authorization-mode=Node,RBAC",
                "--enable-admission-plugins=NodeRestriction",
                "--allow-privileged=true",
                &file("client-ca-file", "ca.crt"),
                &file("tls-cert-file", "apiserver.crt"),
                &file("tls-private-key-file", "apiserver.key"),
                &file("kubelet-certificate-authority", "ca.crt"),
                &file("kubelet-client-certificate", "apiserver-kubelet.crt"),
                &file("kubelet-client-key", "apiserver-kubelet.key"),
                "--kubelet-preferred-address-types=InternalIP",
                "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
                &file("service-account-key-file", "sa.pub"),
                &file("service-account-signing-key-file", "sa.key"),
                &file("requestheader-client-ca-file", "front-proxy-ca.crt"),
                "--requestheader-allowed-names=front-proxy",
                "--requestheader-username-headers=X-Remote-User",
                "--requestheader-group-headers=X-Remote-Group",
                "--requestheader-extra-headers-prefix=X-Remote-Extra-",
                &file("proxy-client-cert-file", "front-proxy.crt"),
                &file("proxy-client-key-file", "front-proxy.key"),
            ],
        )
    }

    pub(super) fn controller_manager(&self) -> Component {
        let file = |flag: &str, name: &str| format!("--{flag}={}", self.pki(name).display());
        let user = "controller-manager.kubeconfig";
        self.kube(
            "kube-controller-manager",
            &[
                &file("kubeconfig", user),
                &file("authentication-kubeconfig", user),
                &file("authorization-kubeconfig", user),
                &file("service-account-private-key-file", "sa.key"),
                &file("root-ca-file", "ca.crt"),
                &file("cluster-signing-cert-file", "ca.crt"),
                &file("cluster-signing-key-file", "ca.key"),
                "--use-service-account-credentials",
                "--controllers=*",
                "--leader-elect=false",
            ],
        )
    }

    pub(super) fn scheduler(&self) -> Component {
        let file = |flag: &str| format!("--{flag}={}", self.pki("scheduler.kubeconfig").display());
        self.kube(
            "kube-scheduler",
            &[
                &file("kubeconfig"),
                &file("authentication-kubeconfig"),
                &file("authorization-kubeconfig"),
                "--leader-elect=false",
            ],
        )
    }

    pub(super) fn containerd(&self, number: usize) -> Result<Component> {
        let dir = self.layout.unit(&node(number));
        let cni = dir.join("cni");
        let network = json!({
            "cniVersion": "0.4.0",
            "name": "bench",
            "plugins": [
                // Routed rather than bridged: all that pods say to each other passes the node's own
                // rules, so that Services work between pods of one node without br_netfilter.
                {
                    "type": "ptp",
                    "ipMasq": false,
                    "ipam": {
                        "type": "host-local",
                        "dataDir": dir.join("ipam"),
                        "ranges": [[{ "subnet": self.block.pods_of(number) }]],
                        "routes": [{ "dst": "0.0.0.0/0" }],
                    },
                },
                { "type": "portmap", "capabilities": { "portMappings": true } },
            ],
        });
        write(&cni.join("10-bench.conflist"), network.to_string())?;
        let config = dir.join("containerd.toml");
        let quoted = |path: PathBuf| Value::from(path.to_string_lossy()).to_string();
        // Paths as JSON strings, which are TOML strings as well.
        let text = format!(
            r#"version = 2
root = {root}
state = {state}
temp = {temp}
disabled_plugins = ["io.containerd.internal.v1.tracing", "io.containerd.tracing.processor.v1.otlp"]

[grpc]
address = {socket}

[plugins."io.containerd.internal.v1.opt"]
path = {opt}

[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{PAUSE}"
# Not every host lets a container be made harder to kill than its node.
restrict_oom_score_adj = true
disable_apparmor = true
disable_hugetlb_controller = true
tolerate_missing_hugetlb_controller = true

[plugins."io.containerd.grpc.v1.cri".registry]
config_path = {registries}

[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{CNI_PLUGINS}"
conf_dir = {cni}

[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "overlayfs"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
"#,
            root = quoted(dir.join("containerd/root")),
            state = quoted(dir.join("containerd/state")),
            temp = quoted(dir.join("tmp")),
            socket = quoted(socket(self.layout, number)),
            opt = quoted(dir.join("containerd/opt")),
            registries = quoted(registries(self.layout, number)),
            cni = quoted(cni),
        );
        write(&config, text)?;
        Ok(component("containerd", &["containerd", "-c", &config.to_string_lossy()]))
    }

    pub(super) fn kubelet(&self, number: usize) -> Result<Component> {
        let name = node(number);
        let dir = self.layout.unit(&name);
        let mut config = json!({
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "authentication": {
                "anonymous": { "enabled": false },
                "webhook": { "enabled": true },
                "x509": { "clientCAFile": self.pki("ca.crt") },
            },
            "authorization": { "mode": "Webhook" },
            "tlsCertFile": self.pki(&format!("{name}.crt")),
            "tlsPrivateKeyFile": self.pki(&format!("{name}.key")),
            "containerRuntimeEndpoint": format!("unix://{}", socket(self.layout, number).display()),
            "cgroupDriver": "cgroupfs",
            "enforceNodeAllocatable": ["pods"],
            // Hybrid hosts have version 1, which the kubelet refuses since 1.35 unless told not to.
            "failCgroupV1": false,
            "failSwapOn": false,
            "clusterDNS": [self.block.dns_service()],
            "clusterDomain": "cluster.local",
            "resolvConf": "",
            "staticPodPath": dir.join("manifests"),
            "podLogsDir": dir.join("pod-logs"),
            "volumePluginDir": dir.join("volume-plugins"),
            "maxPods": 240,
            // The host's disk is not the bench's business.
            "evictionHard": { "memory.available": "100Mi", "nodefs.available": "0%",
                "imagefs.available": "0%", "nodefs.inodesFree": "0%" },
            "imageGCHighThresholdPercent": 100,
            "imageGCLowThresholdPercent": 99,
            "localStorageCapacityIsolation": false,
            "registryPullQPS": 0,
            "serializeImagePulls": false,
            "eventRecordQPS": 0,
            "kubeAPIQPS": 500,
            "kubeAPIBurst": 1000,
            "logging": { "verbosity": 2 },
        });
        if let Some(config) = config.as_object_mut() {
            config.extend(self.kubelet.clone());
        }
        std::fs::create_dir_all(dir.join("manifests"))?;
        let file = dir.join("kubelet.json");
        write(&file, config.to_string())?;
        Ok(self.kube(
            "kubelet",
            &[
                &format!("--config={}", file.display()),
                &format!("--kubeconfig={}", self.pki(&format!("{name}.kubeconfig")).display()),
                &format!("--hostname-override={name}"),
                &format!("--root-dir={}", dir.join("kubelet").display()),
                &format!("--node-ip={}", self.block.node(number)),
            ],
        ))
    }

    pub(super) fn proxy(&self, number: usize) -> Result<Component> {
        let name = node(number);
        let config = json!({
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "clientConnection": { "kubeconfig": self.pki("proxy.kubeconfig") },
            "hostnameOverride": name,
            "mode": "iptables",
            "clusterCIDR": self.block.pods(),
            // The table's size is the host's to set, for all namespaces at once.
            "conntrack": { "maxPerCore": 0 },
        });
        let file = self.layout.unit(&name).join("proxy.json");
        write(&file, config.to_string())?;
        Ok(self.kube("kube-proxy", &[&format!("--config={}", file.display())]))
    }

    pub(super) fn coredns(&self) -> Result<Component> {
        let file = self.layout.unit(CONTROL).join("Corefile");
        let text = format!(
            "cluster.local:53 in-addr.arpa:53 {{
    bind {address}
    errors
    ready {address}:8181
    kubernetes cluster.local in-addr.arpa {{
        kubeconfig {kubeconfig}
        pods insecure
        ttl 5
    }}
}}
.:53 {{
    bind {address}
    errors
    template ANY ANY . {{
        rcode NXDOMAIN
    }}
}}
",
            address = self.block.control(),
            kubeconfig = self.pki("coredns.kubeconfig").display(),
        );
        // Beyond the cluster there is nothing, and saying so is quicker than asking.
        write(&file, text)?;
        let program = self.coredns.to_string_lossy();
        Ok(component("coredns", &[&program, "-conf", &file.to_string_lossy()]))
    }

    /// The Service that pods ask for names, and where it leads: CoreDNS is a process, not a pod.
    pub(super) fn dns(&self) -> [Value; 2] {
        let labels = json!({ "k8s-app": "kube-dns", "kubernetes.io/name": "CoreDNS" });
        let ports = |key: &str| {
            json!([
                { "name": "dns", "port": 53, "protocol": "UDP", (key): 53 },
                { "name": "dns-tcp", "port": 53, "protocol": "TCP", (key): 53 },
            ])
        };
        let service = json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": { "name": "kube-dns", "namespace": "kube-system", "labels": labels },
            "spec": { "clusterIP": self.block.dns_service(), "ports": ports("targetPort") },
        });
        let slice = json!({
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": "kube-dns",
                "namespace": "kube-system",
                "labels": { "kubernetes.io/service-name": "kube-dns" },
            },
            "addressType": "IPv4",
            "endpoints": [{ "addresses": [self.block.control()], "conditions": { "ready": true } }],
            "ports": ports("port"),
        });
        [service, slice]
    }

    fn kube(&self, name: &str, args: &[&str]) -> Component {
        let program = self.kube.to_string_lossy();
        component(name, &[&[&*program, name], args].concat())
    }

    fn pki(&self, name: &str) -> PathBuf {
        self.layout.pki().join(name)
    }
}

/// The containerd of the `number`th node.
pub(super) fn socket(layout: &Layout, number: usize) -> PathBuf {
    layout.unit(&node(number)).join("containerd.sock")
}

/// Where the containerd of the `number`th node looks for what stands for a registry.
pub(super) fn registries(layout: &Layout, number: usize) -> PathBuf {
    layout.unit(&node(number)).join("registries")
}

fn component(name: &str, argv: &[&str]) -> Component {
    let argv = argv.iter().map(|word| (*word).to_owned()).collect();
    Component { name: name.to_owned(), argv, env: std::collections::BTreeMap::new() }
}

/// The sandbox' image, under the name that upstream's own tests know it by.
pub const PAUSE: &str = "registry.k8s.io/pause:3.10.1";
/// Where Debian's containernetworking-plugins are.
pub(super) const CNI_PLUGINS: &str = "/usr/lib/cni";
