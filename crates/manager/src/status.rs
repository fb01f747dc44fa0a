//! `status.json`: the ports that are really bound, for whoever must find them; and the question that an
//! exec probe asks by it.
//!
//! On the host network a port is known only when it is bound, so that a probe with a fixed port would ask
//! nobody, or another replica. The file has the port, and an instance that the answer must come from: a
//! file that a crashed manager has left cannot make its neighbour answer for it.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;

/// The header by which an answer says which instance it comes from.
pub(crate) const INSTANCE: &str = "x-holdfast-instance";

/// What the file says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// Differs from start to start.
    pub instance: String,
    /// The pod, if its name is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
    /// Where health is asked for on this machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<SocketAddr>,
    /// The port of each server that has one.
    pub ports: Ports,
    /// Where the proxy listens now.
    #[serde(default)]
    pub proxy: Vec<SocketAddr>,
    /// Where the small API server listens now.
    #[serde(default)]
    pub api: Vec<SocketAddr>,
}

/// The ports that were chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ports {
    /// Of `/healthz` and `/readyz`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<u16>,
    /// Of the proxy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy: Option<u16>,
    /// Of the small API server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api: Option<u16>,
}

/// Why the manager is not known to be healthy.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// There is no status to read.
    #[error(
        "cannot read {path}: {error}; the manager writes it when it listens (--status-file, STATUS_FILE)",
        path = path.display()
    )]
    NoFile {
        /// Where it should be.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// What is there is not one.
    #[error("{path} is no status of a manager: {error}", path = path.display())]
    BadFile {
        /// Where it is.
        path: PathBuf,
        /// What is wrong.
        error: serde_json::Error,
    },
    /// It has no health server.
    #[error("the manager serves no health (--health-probe-bind-address=0)")]
    NoHealth,
    /// It did not answer.
    #[error("no answer from {address}: {cause}")]
    NoAnswer {
        /// Who was asked.
        address: SocketAddr,
        /// What went wrong.
        cause: String,
    },
    /// Somebody else answered.
    #[error("{address} is another instance now: the manager that wrote the status is gone")]
    Another {
        /// Who was asked.
        address: SocketAddr,
    },
    /// It answered that it is not.
    #[error("{status}: {text}")]
    Not {
        /// The status of the answer.
        status: u16,
        /// What it said.
        text: String,
    },
}

/// Reads the file and asks the manager behind it for `/readyz` or `/healthz`, in this time.
///
/// # Errors
/// Everything but a clear yes: what it said is in the error, each check in a line.
pub async fn ask(file: &Path, endpoint: &str, time: Duration) -> Result<(), AskError> {
    let status = read(file)?;
    let address = status.health.ok_or(AskError::NoHealth)?;
    let no_answer = |cause: String| AskError::NoAnswer { address, cause };
    let asked = tokio::time::timeout(time, get(address, endpoint)).await;
    let (code, instance, text) =
        asked.map_err(|_| no_answer(format!("nothing within {time:?}")))?.map_err(no_answer)?;
    if instance.as_deref() != Some(status.instance.as_bytes()) {
        return Err(AskError::Another { address });
    }
    if code != StatusCode::OK {
        return Err(AskError::Not { status: code.as_u16(), text: text.trim_end().to_owned() });
    }
    Ok(())
}

/// Status code, instance and text.
type Answer = (StatusCode, Option<Vec<u8>>, String);

async fn get(address: SocketAddr, endpoint: &str) -> Result<Answer, String> {
    /// Far more than our own checks have to say.
    const MOST: usize = 64 << 10;
    let words = |error: &dyn std::fmt::Display| error.to_string();
    let stream = TcpStream::connect(address).await.map_err(|e| words(&e))?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|e| words(&e))?;
    // Verbose, so that the reasons are in the event that the kubelet writes.
    let request = Request::get(format!("/{endpoint}?verbose"))
        .header(header::HOST, address.to_string())
        .header(header::USER_AGENT, "holdfast-wait")
        .body(Empty::<Bytes>::new())
        .map_err(|e| words(&e))?;
    let answer = async {
        let response = sender.send_request(request).await.map_err(|e| words(&e))?;
        let status = response.status();
        let instance = response.headers().get(INSTANCE).map(|value| value.as_bytes().to_vec());
        let body = Limited::new(response.into_body(), MOST).collect().await;
        let bytes = body.map_err(|e| words(&e))?.to_bytes();
        Ok((status, instance, String::from_utf8_lossy(&bytes).into_owned()))
    };
    // The connection is driven for as long as the answer takes, and not a moment longer.
    tokio::select! {
        answer = answer => answer,
        never = async { let _ = connection.await; std::future::pending().await } => never,
    }
}

fn read(file: &Path) -> Result<Status, AskError> {
    let path = || file.to_owned();
    let bytes = std::fs::read(file).map_err(|error| AskError::NoFile { path: path(), error })?;
    serde_json::from_slice(&bytes).map_err(|error| AskError::BadFile { path: path(), error })
}

/// The file, for as long as the manager lives.
#[derive(Debug)]
pub(crate) struct File {
    path: PathBuf,
}

impl File {
    /// Removes what an earlier manager has left, and makes the directory.
    pub(crate) fn new(path: &Path) -> io::Result<Self> {
        if let Some(directory) = path.parent() {
            std::fs::create_dir_all(directory)?;
        }
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        Ok(Self { path: path.to_owned() })
    }

    /// Puts a status in the place of the one that is there: whole, or not at all.
    pub(crate) fn write(&self, status: &Status) -> io::Result<()> {
        let mut name = self.path.as_os_str().to_owned();
        name.push(format!(".{}", std::process::id()));
        let part = PathBuf::from(name);
        let written = (|| {
            let mut file = std::fs::File::create(&part)?;
            file.write_all(&serde_json::to_vec_pretty(status)?)?;
            file.write_all(b"\n")?;
            drop(file);
            std::fs::rename(&part, &self.path)
        })();
        if written.is_err() {
            let _ = std::fs::remove_file(&part);
        }
        written
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}
