//! A registry with one image, for pulls that go right and wrong.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::Value;

use crate::containerd::Containerd;
use crate::image_archive;

/// How it answers.
#[derive(Clone, Debug)]
pub enum Manner {
    /// To everybody.
    Open,
    /// Only to who sends this as basic authorization: the base64 of USER:PASSWORD.
    Wants(&'static str),
    /// Never.
    Silent,
}

/// A registry on the loopback address of a containerd's network. It ends with the tests.
pub struct Registry {
    /// The reference of its image.
    pub image: String,
    /// Where it listens, as docker configurations name it.
    pub server: String,
    state: Arc<State>,
}

struct State {
    manner: Mutex<Manner>,
    blobs: HashMap<String, Vec<u8>>,
    manifest: String,
    manifests: AtomicUsize,
    refused: AtomicUsize,
    open: AtomicUsize,
}

impl Registry {
    pub fn start(containerd: &Containerd, manner: Manner) -> Self {
        let archive = containerd.dir.path().join("registry.tar");
        image_archive::write("registry.test/app:1", &archive);
        let (blobs, manifest) = contents(&archive);
        // A socket stays in the network that it was made in.
        let listener = containerd.inside(|| TcpListener::bind("127.0.0.1:0").unwrap());
        let server = listener.local_addr().unwrap().to_string();
        // Not every containerd tries plain http.
        let hosts = containerd.dir.path().join("certs.d").join(&server);
        std::fs::create_dir_all(&hosts).unwrap();
        std::fs::write(hosts.join("hosts.toml"), format!("server = \"http://{server}\"\n"))
            .unwrap();
        let state = Arc::new(State {
            manner: Mutex::new(manner),
            blobs,
            manifest,
            manifests: AtomicUsize::new(0),
            refused: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
        });
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = Arc::clone(&shared);
                std::thread::spawn(move || {
                    state.open.fetch_add(1, Ordering::SeqCst);
                    // A client that goes away is none of our business.
                    let _ = state.serve(&stream);
                    state.open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Self { image: format!("{server}/team/app:1"), server, state }
    }

    pub fn change(&self, manner: Manner) {
        *self.state.manner.lock().unwrap() = manner;
    }

    /// How often it has been asked for the image by its name, and has answered.
    pub fn pulls(&self) -> usize {
        self.state.manifests.swap(0, Ordering::SeqCst)
    }

    /// How often it has refused somebody.
    pub fn refused(&self) -> usize {
        self.state.refused.load(Ordering::SeqCst)
    }

    /// How many are connected.
    pub fn connections(&self) -> usize {
        self.state.open.load(Ordering::SeqCst)
    }
}

impl State {
    fn serve(&self, stream: &TcpStream) -> std::io::Result<()> {
        let mut reader = BufReader::new(stream.try_clone()?);
        loop {
            let mut first = String::new();
            if reader.read_line(&mut first)? == 0 {
                return Ok(());
            }
            let mut authorization = None;
            loop {
                let mut line = String::new();
                reader.read_line(&mut line)?;
                match line.trim_end().split_once(": ") {
                    Some((name, value)) if name.eq_ignore_ascii_case("authorization") => {
                        authorization = value.strip_prefix("Basic ").map(str::to_owned);
                    }
                    Some(_) => {}
                    None => break,
                }
            }
            let manner = self.manner.lock().unwrap().clone();
            if matches!(manner, Manner::Silent) {
                // Until the other side loses patience.
                return reader.read_to_end(&mut Vec::new()).map(drop);
            }
            let wanted = match manner {
                Manner::Wants(wanted) => Some(wanted),
                Manner::Open | Manner::Silent => None,
            };
            let mut words = first.split_whitespace();
            let (method, path) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
            if wanted.is_some_and(|wanted| authorization.as_deref() != Some(wanted)) {
                self.refused.fetch_add(1, Ordering::SeqCst);
                let head = "401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"test\"";
                answer(stream, head, b"", true)?;
                continue;
            }
            let name = path.rsplit('/').next().unwrap_or("");
            let digest = if path.contains("/manifests/1") { &self.manifest } else { name };
            let ours = path.starts_with("/v2/team/app/");
            match self.blobs.get(digest).filter(|_| ours) {
                Some(blob) => {
                    if path.contains("/manifests/1") {
                        self.manifests.fetch_add(1, Ordering::SeqCst);
                    }
                    let kind = match path.contains("/manifests/") {
                        true => "application/vnd.oci.image.manifest.v1+json",
                        false => "application/octet-stream",
                    };
                    let head = format!(
                        "200 OK\r\nContent-Type: {kind}\r\nDocker-Content-Digest: {digest}"
                    );
                    answer(stream, &head, blob, method == "GET")?;
                }
                None if path == "/v2/" => answer(stream, "200 OK", b"", true)?,
                None => answer(stream, "404 Not Found", b"", true)?,
            }
        }
    }
}

fn answer(mut stream: &TcpStream, head: &str, body: &[u8], with_body: bool) -> std::io::Result<()> {
    write!(stream, "HTTP/1.1 {head}\r\nContent-Length: {}\r\n\r\n", body.len())?;
    if with_body { stream.write_all(body) } else { Ok(()) }
}

/// What an archive holds, by digest; and which of it is the manifest.
fn contents(archive: &Path) -> (HashMap<String, Vec<u8>>, String) {
    let mut tar = tar::Archive::new(std::fs::File::open(archive).unwrap());
    let (mut blobs, mut manifest) = (HashMap::new(), String::new());
    for entry in tar.entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().to_str().unwrap().to_owned();
        let mut data = Vec::new();
        entry.read_to_end(&mut data).unwrap();
        if let Some(name) = path.strip_prefix("blobs/sha256/") {
            blobs.insert(format!("sha256:{name}"), data);
        } else if path == "index.json" {
            let index: Value = serde_json::from_slice(&data).unwrap();
            manifest = index["manifests"][0]["digest"].as_str().unwrap().to_owned();
        }
    }
    (blobs, manifest)
}
