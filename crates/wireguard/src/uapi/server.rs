//! The socket itself: made so that nobody but root ever can open it, a stale one replaced, removed at
//! the end.

use std::collections::HashMap;
use std::fs::{self, DirBuilder, Permissions};
use std::io::{self, BufRead, BufReader, ErrorKind, Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use thiserror::Error;

use super::{Everything, Request, parse, write};
use crate::config::Update;

/// Where `wg` looks for sockets.
const DIRECTORY: &str = "/var/run/wireguard";

/// A request may be as long as that, in bytes: some 100,000 peers.
const LONGEST: u64 = 64 << 20;

/// As many may be connected at once.
const CLIENTS: usize = 32;

/// An answer that nobody reads is not waited for any longer.
const PATIENCE: Duration = Duration::from_secs(10);

/// The socket of an interface.
#[must_use]
pub fn socket_path(interface: &str) -> PathBuf {
    Path::new(DIRECTORY).join(format!("{interface}.sock"))
}

/// Who carries out what is asked for.
pub trait Answerer: Send + Sync + 'static {
    /// Tells everything.
    ///
    /// # Errors
    /// If there is no device any more.
    fn get(&self) -> io::Result<Everything>;

    /// Makes a change, as a whole or not at all.
    ///
    /// # Errors
    /// If it cannot be made.
    fn set(&self, update: Update) -> io::Result<()>;
}

/// Why there is no socket.
#[derive(Debug, Error)]
pub enum ServerError {
    /// Somebody listens there.
    #[error(
        "another program listens at {}: it has an interface of that name (in another network \
         namespace?); end it, or take another name", path.display()
    )]
    Taken {
        /// Where.
        path: PathBuf,
    },
    /// The file system refuses.
    #[error("cannot make the socket {}", path.display())]
    File {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// A socket that answers until it is dropped.
#[derive(Debug)]
pub struct Server {
    path: PathBuf,
    /// Device and inode: the file may be another's by the time that it is to be removed.
    file: (u64, u64),
    shared: Arc<Shared>,
    socket: Arc<UnixListener>,
    listener: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    ending: AtomicBool,
    clients: Mutex<HashMap<u64, UnixStream>>,
}

impl Server {
    /// Listens at a path, in threads of its own.
    ///
    /// # Errors
    /// If another program listens there, or there can be no socket.
    pub fn start(path: &Path, answerer: Arc<dyn Answerer>) -> Result<Self, ServerError> {
        let fail = |source| ServerError::File { path: path.to_owned(), source };
        if let Some(directory) = path.parent() {
            DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(fail)?;
        }
        match UnixStream::connect(path) {
            Ok(_) => return Err(ServerError::Taken { path: path.to_owned() }),
            // Nobody is at the other end any more: left by one that was killed.
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(fail(error)),
        }
        let (listener, file) = bind(path).map_err(fail)?;
        let shared = Arc::new(Shared::default());
        let socket = Arc::new(listener);
        let (theirs, accepting) = (Arc::clone(&shared), Arc::clone(&socket));
        let thread = thread::Builder::new().name("wg-uapi".to_owned());
        let spawned = thread.spawn(move || listen(&accepting, &theirs, &answerer));
        let listener = Some(spawned.map_err(fail)?);
        Ok(Self { path: path.to_owned(), file, shared, socket, listener })
    }
}

/// A socket that is there with its permissions at once: made under another name that `wg` does not look
/// at, then renamed.
fn bind(path: &Path) -> io::Result<(UnixListener, (u64, u64))> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}", std::process::id()));
    let draft = path.with_file_name(name);
    match fs::remove_file(&draft) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&draft)?;
    let place = || {
        fs::set_permissions(&draft, Permissions::from_mode(0o600))?;
        let file = fs::symlink_metadata(&draft)?;
        fs::rename(&draft, path)?;
        Ok((file.dev(), file.ino()))
    };
    match place() {
        Ok(file) => Ok((listener, file)),
        Err(error) => {
            let _ = fs::remove_file(&draft);
            Err(error)
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.ending.store(true, Ordering::SeqCst);
        // Ends the waiting for clients, with an error.
        let _ = rustix::net::shutdown(&self.socket, rustix::net::Shutdown::Both);
        let file = fs::symlink_metadata(&self.path);
        if file.is_ok_and(|file| (file.dev(), file.ino()) == self.file) {
            let _ = fs::remove_file(&self.path);
        }
        for client in self.shared.clients().values() {
            let _ = client.shutdown(Shutdown::Both);
        }
        if let Some(listener) = self.listener.take() {
            let _ = listener.join();
        }
    }
}

impl Shared {
    fn clients(&self) -> std::sync::MutexGuard<'_, HashMap<u64, UnixStream>> {
        // A map of sockets is right whoever panicked.
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn listen(listener: &UnixListener, shared: &Arc<Shared>, answerer: &Arc<dyn Answerer>) {
    for (number, stream) in (0_u64..).zip(listener.incoming()) {
        if shared.ending.load(Ordering::SeqCst) {
            return;
        }
        let Ok(stream) = stream else {
            // Too many open files: it may pass.
            thread::sleep(Duration::from_millis(100));
            continue;
        };
        let Ok(copy) = stream.try_clone() else { continue };
        {
            let mut clients = shared.clients();
            if clients.len() >= CLIENTS {
                continue;
            }
            clients.insert(number, copy);
        }
        let (theirs, answerer) = (Arc::clone(shared), Arc::clone(answerer));
        let serve = move || {
            if let Err(error) = serve(&stream, answerer.as_ref()) {
                tracing::debug!("a client of the WireGuard socket: {error}");
            }
            theirs.clients().remove(&number);
        };
        if thread::Builder::new().name("wg-uapi-client".to_owned()).spawn(serve).is_err() {
            shared.clients().remove(&number);
        }
    }
}

fn serve(stream: &UnixStream, answerer: &dyn Answerer) -> io::Result<()> {
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut reader = BufReader::new(stream);
    while let Some(request) = read(&mut reader)? {
        let (body, number) = answer(&request, answerer);
        let mut writer = stream;
        writer.write_all(format!("{body}errno={number}\n\n").as_bytes())?;
    }
    Ok(())
}

/// A request up to the empty line; `None` at the end.
fn read(reader: &mut impl BufRead) -> io::Result<Option<String>> {
    let mut request = String::new();
    let mut reader = reader.take(LONGEST);
    loop {
        let before = request.len();
        if reader.read_line(&mut request)? == 0 {
            return Ok(None);
        }
        if &request[before..] == "\n" {
            request.truncate(before);
            return Ok(Some(request));
        }
    }
}

/// The words of an answer, and its number: 0, or what is wrong, as in errno.h.
fn answer(request: &str, answerer: &dyn Answerer) -> (String, i32) {
    let result = match parse(request) {
        Ok(Request::Get) => answerer.get().map(|everything| write(&everything)),
        Ok(Request::Set(update)) => answerer.set(update).map(|()| String::new()),
        Err(error) => {
            tracing::warn!("a request to the WireGuard socket is refused: {error}");
            return (String::new(), rustix::io::Errno::INVAL.raw_os_error());
        }
    };
    match result {
        Ok(body) => (body, 0),
        Err(error) => {
            tracing::warn!("a request to the WireGuard socket failed: {error}");
            let number = error.raw_os_error().unwrap_or(rustix::io::Errno::IO.raw_os_error());
            (String::new(), number)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Status;

    #[derive(Default)]
    struct Sink(Mutex<Vec<Update>>);

    impl Answerer for Sink {
        fn get(&self) -> io::Result<Everything> {
            let status = Status { listen_port: 7, ..Status::default() };
            Ok(Everything { status, private_key: None, preshared_keys: Vec::new() })
        }

        fn set(&self, update: Update) -> io::Result<()> {
            if update.fwmark == Some(1) {
                return Err(io::Error::from_raw_os_error(98));
            }
            self.0.lock().unwrap().push(update);
            Ok(())
        }
    }

    fn ask(stream: &UnixStream, request: &str) -> String {
        (&mut &*stream).write_all(request.as_bytes()).unwrap();
        let mut reader = BufReader::new(stream);
        read(&mut reader).unwrap().unwrap()
    }

    #[test]
    fn a_life() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("inner/wg9.sock");
        let server = Server::start(&path, Arc::new(Sink::default())).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        let stream = UnixStream::connect(&path).unwrap();
        assert_eq!(ask(&stream, "get=1\n\n"), "listen_port=7\nerrno=0\n");
        assert_eq!(ask(&stream, "set=1\nlisten_port=9\n\n"), "errno=0\n");
        assert_eq!(ask(&stream, "set=1\nfwmark=1\n\n"), "errno=98\n");
        assert_eq!(ask(&stream, "set=1\nnonsense\n\n"), "errno=22\n");
        // One that says nothing does not keep others from being answered, nor the end from coming.
        let _silent = UnixStream::connect(&path).unwrap();
        assert_eq!(
            ask(&UnixStream::connect(&path).unwrap(), "get=1\n\n"),
            "listen_port=7\nerrno=0\n"
        );
        let error = Server::start(&path, Arc::new(Sink::default())).unwrap_err();
        assert!(matches!(error, ServerError::Taken { .. }), "{error}");
        drop(server);
        assert!(!path.exists());
        assert_eq!((&mut &stream).read(&mut [0; 8]).unwrap(), 0, "it was hung up");
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 0, "nothing is left");
    }

    #[test]
    fn a_stale_one_is_replaced_and_anothers_is_left() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("wg9.sock");
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let server = Server::start(&path, Arc::new(Sink::default())).unwrap();
        let stream = UnixStream::connect(&path).unwrap();
        assert_eq!(ask(&stream, "get=1\n\n"), "listen_port=7\nerrno=0\n");
        fs::remove_file(&path).unwrap();
        let other = UnixListener::bind(&path).unwrap();
        drop(server);
        assert!(path.exists());
        drop(other);
    }
}
