//! A registry that gives out archives to whoever can reach it, and takes nothing: for nodes that cannot
//! reach the real one (OCI distribution specification, "Pull").

use std::collections::HashMap;
use std::convert::Infallible;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::sync::oneshot;

/// A registry that runs until it is dropped.
#[derive(Debug)]
pub struct Registry {
    address: SocketAddr,
    /// Dropped to end it.
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Registry {
    /// Gives out the images of these archives at a free port of the address. The name of a registry in
    /// an image's reference is of no account.
    ///
    /// # Errors
    /// When an archive cannot be read, or nothing can listen there.
    pub fn serve(address: IpAddr, archives: &[PathBuf]) -> Result<Self> {
        let mut shelf = Shelf::default();
        for archive in archives {
            shelf.add(archive).with_context(|| archive.display().to_string())?;
        }
        let listener = std::net::TcpListener::bind((address, 0))
            .with_context(|| format!("a registry cannot listen at {address}"))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let (end, ended) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(serve(listener, Arc::new(shelf), ended))
        });
        Ok(Self { address, end: Some(end), thread: Some(thread) })
    }

    /// Where it is.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            // What went wrong there was seen by those who pulled.
            let _ = thread.join();
        }
    }
}

async fn serve(
    listener: std::net::TcpListener,
    shelf: Arc<Shelf>,
    mut ended: oneshot::Receiver<()>,
) -> Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    loop {
        let stream = tokio::select! {
            _ = &mut ended => return Ok(()),
            accepted = listener.accept() => accepted?.0,
        };
        let shelf = Arc::clone(&shelf);
        tokio::spawn(async move {
            let service = service_fn(move |request: Request<Incoming>| {
                let answer = shelf.answer(request.method(), request.uri().path());
                async { Ok::<_, Infallible>(answer) }
            });
            // A client that goes away has its reasons.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

/// What a registry has.
#[derive(Debug, Default)]
struct Shelf {
    /// Digests of manifests, by repository and tag.
    tags: HashMap<(String, String), String>,
    /// By digest.
    blobs: HashMap<String, Blob>,
}

/// Some bytes of an archive.
#[derive(Debug)]
struct Blob {
    archive: PathBuf,
    offset: u64,
    size: u64,
}

impl Shelf {
    fn add(&mut self, path: &Path) -> Result<()> {
        let mut index = Value::Null;
        for entry in tar::Archive::new(File::open(path)?).entries_with_seek()? {
            let mut entry = entry?;
            let name = entry.path()?.to_string_lossy().into_owned();
            if name == "index.json" {
                index = serde_json::from_reader(&mut entry)?;
            } else if let Some(hash) = name.strip_prefix("blobs/sha256/") {
                let (offset, size) = (entry.raw_file_position(), entry.size());
                let blob = Blob { archive: path.to_owned(), offset, size };
                self.blobs.insert(format!("sha256:{hash}"), blob);
            }
        }
        for manifest in index["manifests"].as_array().into_iter().flatten() {
            let name = manifest["annotations"]["io.containerd.image.name"].as_str();
            let digest = manifest["digest"].as_str();
            // registry/repository:tag
            let parts = name.and_then(|name| name.split_once('/')?.1.rsplit_once(':'));
            if let (Some((repository, tag)), Some(digest)) = (parts, digest) {
                self.tags.insert((repository.to_owned(), tag.to_owned()), digest.to_owned());
            }
        }
        Ok(())
    }

    fn answer(&self, method: &Method, path: &str) -> Response<Full<Bytes>> {
        let found = match path.strip_prefix("/v2/") {
            Some("") => return Response::new(Full::default()),
            Some(rest) => self.find(rest),
            None => None,
        };
        let answer = found.and_then(|(digest, kind)| {
            let blob = self.blobs.get(digest)?;
            let body = if *method == Method::HEAD { Bytes::new() } else { blob.read().ok()? };
            Response::builder()
                .header("Docker-Content-Digest", digest)
                .header(CONTENT_TYPE, kind)
                .header(CONTENT_LENGTH, blob.size)
                .body(Full::new(body))
                .ok()
        });
        answer.unwrap_or_else(|| {
            let mut missing = Response::new(Full::default());
            *missing.status_mut() = StatusCode::NOT_FOUND;
            missing
        })
    }

    /// The digest and the kind of what is meant by the rest of a path.
    fn find<'a>(&'a self, rest: &'a str) -> Option<(&'a str, &'static str)> {
        if let Some((_, digest)) = rest.rsplit_once("/blobs/") {
            return Some((digest, "application/octet-stream"));
        }
        let (repository, reference) = rest.rsplit_once("/manifests/")?;
        let tag = || self.tags.get(&(repository.to_owned(), reference.to_owned()));
        let digest = if reference.starts_with("sha256:") { reference } else { tag()?.as_str() };
        Some((digest, "application/vnd.oci.image.manifest.v1+json"))
    }
}

impl Blob {
    fn read(&self) -> Result<Bytes> {
        let mut file = File::open(&self.archive)?;
        file.seek(SeekFrom::Start(self.offset))?;
        let mut data = Vec::new();
        file.take(self.size).read_to_end(&mut data)?;
        Ok(data.into())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::net::{Ipv4Addr, TcpStream};

    use super::*;
    use crate::image::{Image, Node};

    fn ask(registry: &Registry, method: &str, path: &str) -> (String, Vec<u8>) {
        let mut stream = TcpStream::connect(registry.address).unwrap();
        write!(stream, "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        let at = all.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
        let body = all.split_off(at + 4);
        (String::from_utf8(all).unwrap().to_lowercase(), body)
    }

    #[test]
    fn an_archive_is_given_out_by_tag_and_by_digest() {
        let dir = tempfile::tempdir().unwrap();
        let archive = dir.path().join("a.tar");
        let image = Image::new("registry.example/some/image:1.2")
            .with("etc/motd", Node::Data(b"hello".to_vec(), 0o644));
        let digest = image.write(&archive).unwrap();
        let registry = Registry::serve(Ipv4Addr::LOCALHOST.into(), &[archive]).unwrap();

        let (head, body) = ask(&registry, "GET", "/v2/");
        assert!(head.starts_with("http/1.1 200") && body.is_empty(), "{head}");
        let (head, manifest) =
            ask(&registry, "GET", "/v2/some/image/manifests/1.2?ns=registry.example");
        assert!(head.contains(&format!("docker-content-digest: {digest}")), "{head}");
        let by_digest = format!("/v2/some/image/manifests/{digest}");
        assert_eq!(ask(&registry, "GET", &by_digest).1, manifest);
        let (head, body) = ask(&registry, "HEAD", &by_digest);
        assert!(head.contains(&format!("content-length: {}", manifest.len())), "{head}");
        assert!(body.is_empty());

        let manifest: Value = serde_json::from_slice(&manifest).unwrap();
        let layer = &manifest["layers"][0];
        let path = format!("/v2/some/image/blobs/{}", layer["digest"].as_str().unwrap());
        let (_, layer_bytes) = ask(&registry, "GET", &path);
        assert_eq!(Some(layer_bytes.len() as u64), layer["size"].as_u64());
        assert!(layer_bytes.windows(5).any(|five| five == b"hello"));

        for missing in ["/", "/v2/some/image/manifests/2", "/v2/x/blobs/sha256:0", "/v2/some"] {
            assert!(ask(&registry, "GET", missing).0.starts_with("http/1.1 404"), "{missing}");
        }
        let address = registry.address;
        drop(registry);
        assert!(TcpStream::connect(address).is_err(), "it still listens");
    }
}
