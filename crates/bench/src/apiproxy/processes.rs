//! Starting, loading and weighing what is compared.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use base64::Engine as _;
use tempfile::TempDir;

use super::Role;

/// A directory with certificates, a token and configurations.
pub(super) struct Setup {
    directory: TempDir,
    wrk: PathBuf,
    /// Of a real cluster, as its administrator.
    kubeconfig: Option<PathBuf>,
    /// The name in the API server's certificate, and as whose group peers are.
    name: &'static str,
    group: &'static str,
}

/// A process that listens, and ends with this value.
pub(super) struct Running {
    child: Child,
    pub(super) address: SocketAddr,
}

impl Drop for Running {
    fn drop(&mut self) {
        // nginx' master ends its workers when asked, not when killed.
        if let Ok(pid) = i32::try_from(self.child.id())
            && let Some(pid) = rustix::process::Pid::from_raw(pid)
        {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let _ = self.child.wait();
    }
}

/// What is loaded, and the process to weigh.
pub(super) struct Peer<'a> {
    pub(super) name: &'static str,
    url: String,
    /// With a header, if it is needed.
    header: Option<String>,
    running: Option<&'a Running>,
    wrk: &'a Path,
}

/// One run of wrk; times in milliseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    pub(super) rate: f64,
    pub(super) p50: f64,
    pub(super) p99: f64,
}

impl Setup {
    pub(super) fn new() -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let ca_key = rcgen::KeyPair::generate()?;
        let mut ca = rcgen::CertificateParams::new(Vec::new())?;
        // OpenSSL, unlike rustls, takes a certificate whose subject is its issuer's for a self-signed one.
        ca.distinguished_name.push(rcgen::DnType::CommonName, "bench CA");
        ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let write = |name: &str, text: String| std::fs::write(directory.path().join(name), text);
        write("ca.crt", ca.self_signed(&ca_key)?.pem())?;
        let issuer = rcgen::Issuer::new(ca, ca_key);
        let key = rcgen::KeyPair::generate()?;
        let params = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned(), "api".to_owned()])?;
        write("tls.crt", params.signed_by(&key, &issuer)?.pem())?;
        write("tls.key", key.serialize_pem())?;
        write("token", "a-token-of-a-service-account".to_owned())?;
        let wrk = find("wrk").context("wrk is needed: apt-get install wrk")?;
        Ok(Self { directory, wrk, kubeconfig: None, name: "api", group: "wireguard-peers" })
    }

    /// The same for the cluster of a kubeconfig, and its API server's URL. Peers are administrators there: the API
    /// server holds nobody else back if there are many requests.
    pub(super) fn of_cluster(kubeconfig: &Path) -> Result<(Self, String)> {
        let directory = tempfile::tempdir()?;
        let wrk = find("wrk").context("wrk is needed: apt-get install wrk")?;
        let group = "system:masters";
        let kubeconfig = Some(kubeconfig.to_owned());
        let this = Self { directory, wrk, kubeconfig, name: "kubernetes", group };
        let shown = this.kubectl(&["config", "view", "--raw", "--minify", "-o", "json"])?;
        let config: serde_json::Value = serde_json::from_str(&shown)?;
        let (cluster, user) = (&config["clusters"][0]["cluster"], &config["users"][0]["user"]);
        for (file, of, key) in [
            ("ca.crt", cluster, "certificate-authority"),
            ("client.crt", user, "client-certificate"),
            ("client.key", user, "client-key"),
        ] {
            let bytes = match (&of[key], &of[format!("{key}-data")]) {
                (serde_json::Value::String(path), _) => std::fs::read(path)?,
                (_, serde_json::Value::String(data)) => {
                    base64::engine::general_purpose::STANDARD.decode(data)?
                }
                _ => bail!("the kubeconfig has no {key}"),
            };
            std::fs::write(this.directory().join(file), bytes)?;
        }
        std::fs::write(this.directory().join("groups"), group)?;
        let url = cluster["server"].as_str().context("the kubeconfig has no server")?;
        Ok((this, url.to_owned()))
    }

    pub(super) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// What kubectl says, as the cluster's administrator.
    pub(super) fn kubectl(&self, words: &[&str]) -> Result<String> {
        let kubectl = kubectl().context("no kubectl in PATH or $KUBECTL")?;
        let mut command = Command::new(kubectl);
        if let Some(kubeconfig) = &self.kubeconfig {
            command.arg("--kubeconfig").arg(kubeconfig);
        }
        let output = command.args(words).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "kubectl {}: {said}", words.join(" "));
        Ok(String::from_utf8(output.stdout)?)
    }

    pub(super) fn start(&self, role: Role, upstream: Option<&str>) -> Result<Running> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("apiproxy-inside").arg(format!("{role:?}").to_lowercase());
        command.arg(self.directory.path());
        if let Some(upstream) = upstream {
            command.arg(upstream);
        }
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let line = first_line(&mut child)?;
        let address = line.trim().parse().with_context(|| format!("no address: {line:?}"))?;
        Ok(Running { child, address })
    }

    /// `kubectl proxy` of the test bench's cluster or of this machine.
    pub(super) fn kubectl_proxy(&self, upstream: &str) -> Result<Running> {
        let kubectl = kubectl().context("no kubectl in PATH or $KUBECTL")?;
        let path = self.directory.path();
        let config = self.kubeconfig.clone().unwrap_or_else(|| path.join("kubeconfig"));
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: c\nclusters: [{{name: c, cluster: {{server: '{upstream}', certificate-authority: '{0}/ca.crt'}}}}]\nusers: [{{name: c, user: {{tokenFile: '{0}/token'}}}}]\ncontexts: [{{name: c, context: {{cluster: c, user: c}}}}]\n",
            path.display()
        );
        if self.kubeconfig.is_none() {
            std::fs::write(&config, text)?;
        }
        let mut command = Command::new(kubectl);
        command
            .args(["proxy", "--port=0", "--disable-filter=true"])
            .arg("--kubeconfig")
            .arg(config);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn()?;
        let line = first_line(&mut child)?;
        let address = line.split_whitespace().last().unwrap_or_default();
        let address = address.parse().with_context(|| format!("no address: {line:?}"))?;
        Ok(Running { child, address })
    }

    /// nginx with a worker for each processor, keepalive to both sides, and the API server verified.
    pub(super) fn nginx(&self, upstream: &str) -> Result<Running> {
        let nginx = find("nginx").context("nginx is not in PATH: apt-get install nginx-light")?;
        let path = self.directory.path().display();
        let (name, group) = (self.name, self.group);
        let credential = match self.kubeconfig {
            Some(_) => format!(
                "proxy_ssl_certificate {path}/client.crt; proxy_ssl_certificate_key {path}/client.key;"
            ),
            None => {
                "proxy_set_header Authorization \"Bearer a-token-of-a-service-account\";".to_owned()
            }
        };
        let upstream = upstream.trim_start_matches("https://");
        let address = {
            // Free a moment ago: nginx cannot choose a port.
            TcpListener::bind("127.0.0.1:0")?.local_addr()?
        };
        let config = format!(
            "daemon off; master_process on; user root; worker_processes auto; pid {path}/nginx.pid; error_log {path}/nginx.log;\n\
             events {{ worker_connections 4096; }}\n\
             http {{ access_log off; keepalive_requests 100000000; \
             client_body_temp_path {path}/t1; proxy_temp_path {path}/t2; fastcgi_temp_path {path}/t3; uwsgi_temp_path {path}/t4; scgi_temp_path {path}/t5;\n\
             upstream api {{ server {upstream}; keepalive 64; keepalive_requests 100000000; }}\n\
             server {{ listen {address}; location / {{ proxy_pass https://api; proxy_http_version 1.1; proxy_buffering off;\n\
             proxy_set_header Connection \"\"; {credential}\n\
             proxy_set_header Impersonate-User wireguard-peer; proxy_set_header Impersonate-Group {group};\n\
             proxy_set_header X-Forwarded-For $remote_addr;\n\
             proxy_ssl_verify on; proxy_ssl_trusted_certificate {path}/ca.crt; proxy_ssl_name {name}; proxy_ssl_protocols TLSv1.3;\n\
             }} }} }}\n"
        );
        let file = self.directory.path().join("nginx.conf");
        std::fs::write(&file, config)?;
        let mut command = Command::new(nginx);
        command.arg("-c").arg(file).arg("-e").arg(self.directory.path().join("nginx.log"));
        let mut running = Running { child: command.stdin(Stdio::null()).spawn()?, address };
        let start = Instant::now();
        while std::net::TcpStream::connect(address).is_err() {
            if let Some(status) = running.child.try_wait()? {
                bail!("nginx ended with {status}");
            }
            ensure!(start.elapsed() < Duration::from_secs(10), "nginx does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(running)
    }

    pub(super) fn peer<'a>(&'a self, name: &'static str, running: &'a Running) -> Peer<'a> {
        let url = format!("http://{}/version", running.address);
        Peer { name, url, header: None, running: Some(running), wrk: &self.wrk }
    }

    /// The API server itself, if `running` is known as a process of ours.
    pub(super) fn direct<'a>(
        &'a self,
        url: &str,
        running: Option<&'a Running>,
    ) -> Result<Peer<'a>> {
        let header = match self.kubeconfig {
            None => None,
            Some(_) => {
                let token = self.kubectl(&["create", "token", "default"])?;
                Some(format!("Authorization: Bearer {}", token.trim()))
            }
        };
        let url = format!("{url}/version");
        Ok(Peer { name: "the API server itself", url, header, running, wrk: &self.wrk })
    }
}

impl Running {
    pub(super) fn rss_kib(&self) -> Result<u64> {
        sum(self.child.id(), "VmRSS:")
    }

    /// Of the process and its children, each at its highest.
    pub(super) fn highest_rss_kib(&self) -> Result<u64> {
        sum(self.child.id(), "VmHWM:")
    }
}

impl Peer<'_> {
    pub(super) fn load(&self, seconds: u64) -> Result<Load> {
        let output = Command::new(self.wrk)
            .args(["-t2", "-c32", "--latency"])
            .arg(format!("-d{seconds}s"))
            .args(self.header.iter().flat_map(|header| ["-H", header]))
            .arg(&self.url)
            .output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        ensure!(output.status.success(), "wrk: {}", String::from_utf8_lossy(&output.stderr));
        let wrong = ["Non-2xx", "Socket errors"].iter().any(|wrong| text.contains(wrong));
        ensure!(!wrong, "{}: {text}", self.name);
        let value = |key: &str| -> Result<&str> {
            let line = text.lines().find(|line| line.trim_start().starts_with(key));
            line.and_then(|line| line.split_whitespace().nth(1))
                .with_context(|| format!("no {key} in {text}"))
        };
        Ok(Load {
            rate: value("Requests/sec:")?.parse()?,
            p50: millis(value("50%")?)?,
            p99: millis(value("99%")?)?,
        })
    }

    /// If it is a process of ours.
    pub(super) fn highest_rss_kib(&self) -> Option<u64> {
        self.running?.highest_rss_kib().ok()
    }
}

impl Load {
    /// The run with the median rate.
    pub(super) fn median(loads: &mut [Self]) -> Option<Self> {
        loads.sort_by(|one, two| one.rate.total_cmp(&two.rate));
        loads.get(loads.len() / 2).copied()
    }
}

/// wrk's `1.23ms`, `950.00us` or `1.10s`.
fn millis(text: &str) -> Result<f64> {
    let digits = text.trim_end_matches(|char: char| char.is_ascii_alphabetic());
    let number: f64 = digits.parse().with_context(|| format!("no time: {text:?}"))?;
    Ok(match &text[digits.len()..] {
        "us" => number / 1000.0,
        "ms" => number,
        "s" => number * 1000.0,
        unit => bail!("no unit of time: {unit:?}"),
    })
}

fn first_line(child: &mut Child) -> Result<String> {
    let output = child.stdout.as_mut().context("no standard output")?;
    let mut line = String::new();
    BufReader::new(output).read_line(&mut line)?;
    Ok(line)
}

fn sum(pid: u32, key: &str) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(key));
    let own: u64 = line
        .and_then(|line| line.trim().strip_suffix("kB")?.trim().parse().ok())
        .with_context(|| format!("no {key} of process {pid}: it has ended"))?;
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
    let children = children.split_whitespace().filter_map(|pid| pid.parse().ok());
    children.map(|pid| sum(pid, key)).sum::<Result<u64>>().map(|children| own + children)
}

fn kubectl() -> Option<PathBuf> {
    std::env::var_os("KUBECTL").map(PathBuf::from).or_else(|| find("kubectl"))
}

fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let sbin = PathBuf::from("/usr/sbin");
    let places = std::env::split_paths(&path).chain([sbin]);
    places.map(|place| place.join(program)).find(|file| file.is_file())
}
