//! Where the runtime listens: `unix:///run/containerd/containerd.sock`.

use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// containerd's own default.
pub const DEFAULT_ENDPOINT: &str = "unix:///run/containerd/containerd.sock";

/// The socket of a CRI runtime.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    path: PathBuf,
}

/// A text that is no endpoint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "invalid endpoint {0:?}: expected unix:///PATH of a socket, for example {DEFAULT_ENDPOINT}, or \
     unix:///run/crio/crio.sock for CRI-O"
)]
pub struct ParseEndpointError(String);

impl FromStr for Endpoint {
    type Err = ParseEndpointError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let path = text.strip_prefix("unix://").unwrap_or(text);
        if !path.starts_with('/') || path.contains('\0') {
            return Err(ParseEndpointError(text.to_owned()));
        }
        Ok(Self { path: path.into() })
    }
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "unix://{}", self.path.display())
    }
}

/// A socket that nobody can talk to.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    /// There is nothing.
    #[error(
        "there is no container runtime at {path}: {source}; is it installed and running (systemctl \
         start containerd)? if its socket is elsewhere, name it with --endpoint unix:///PATH"
    )]
    Missing {
        /// The socket.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// There is something else.
    #[error("{0} is not a socket; name the runtime's socket with --endpoint unix:///PATH")]
    NotASocket(PathBuf),
    /// It is not for us.
    #[error(
        "no permission to talk to the container runtime at {0}; run as root, or as a user who may \
         write to this socket"
    )]
    Denied(PathBuf),
    /// Nobody is behind it.
    #[error(
        "nobody listens on {0}: the container runtime that made this socket is gone; start it again \
         (systemctl start containerd)"
    )]
    Refused(PathBuf),
    /// Something else.
    #[error("cannot connect to {path}: {source}")]
    Other {
        /// The socket.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

impl Endpoint {
    /// The socket's path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Connects once, to find out what stands in the way.
    ///
    /// # Errors
    /// [`EndpointError`].
    pub async fn check(&self) -> Result<(), EndpointError> {
        let path = || self.path.clone();
        let of = |source: io::Error| match source.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
                EndpointError::Missing { path: path(), source }
            }
            io::ErrorKind::PermissionDenied => EndpointError::Denied(path()),
            io::ErrorKind::ConnectionRefused => EndpointError::Refused(path()),
            _ => EndpointError::Other { path: path(), source },
        };
        let meta = std::fs::metadata(&self.path).map_err(of)?;
        if !meta.file_type().is_socket() {
            return Err(EndpointError::NotASocket(path()));
        }
        tokio::net::UnixStream::connect(&self.path).await.map(drop).map_err(of)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_read() {
        for (text, path) in [
            (DEFAULT_ENDPOINT, "/run/containerd/containerd.sock"),
            ("/run/crio/crio.sock", "/run/crio/crio.sock"),
        ] {
            assert_eq!(text.parse::<Endpoint>().unwrap().path(), Path::new(path));
        }
        for text in ["", "unix://", "unix://x.sock", "tcp://localhost:1", "x.sock", "http://x"] {
            let error = text.parse::<Endpoint>().unwrap_err();
            assert!(error.to_string().contains("expected unix:///PATH"), "{text}");
        }
    }

    #[tokio::test]
    async fn what_stands_in_the_way_is_said() {
        let temp = tempfile::tempdir().unwrap();
        let at = |name: &str| Endpoint { path: temp.path().join(name) };
        let words = async |name: &str| at(name).check().await.unwrap_err().to_string();
        assert!(words("none").await.contains("there is no container runtime at"));
        std::fs::write(temp.path().join("file"), "").unwrap();
        assert!(words("file").await.contains("is not a socket"));
        drop(std::os::unix::net::UnixListener::bind(temp.path().join("dead")).unwrap());
        assert!(words("dead").await.contains("nobody listens"));
        let _listener = std::os::unix::net::UnixListener::bind(temp.path().join("up")).unwrap();
        at("up").check().await.unwrap();
    }
}
