//! The socket by which the command line asks and orders: `STATE/agent.sock`, for the agent's own user only.
//!
//! One question per connection: a line of JSON. The answer is a line of JSON, [`Answer`], and after
//! [`Answer::Lines`] the lines of a log until the end of the stream.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};

/// Longest question.
const MOST: u64 = 64 << 10;
/// How long a question may take to arrive.
const PATIENCE: Duration = Duration::from_secs(10);

/// What can be asked and ordered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
pub enum Question {
    /// How everything is.
    Status,
    /// What a container wrote.
    Logs {
        /// Whose.
        pod: String,
        /// May be left out if there is only one.
        container: Option<String>,
        /// How many lines at most of what is there already.
        lines: Option<usize>,
        /// Whether to go on with what comes.
        follow: bool,
    },
    /// Stop a pod until it is started again; answered when nothing is left of it.
    Stop {
        /// Which.
        pod: String,
    },
    /// Start a pod again; answered when it has been started.
    Restart {
        /// Which.
        pod: String,
    },
    /// Stop everything, and end; answered when it has begun.
    Shutdown,
}

/// The first line of an answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// It is done.
    Done,
    /// To [`Question::Status`].
    Status(Box<Status>),
    /// To [`Question::Logs`]: the lines follow, with time and stream, as they are in the files.
    Lines,
    /// Why not.
    Error(String),
}

/// How everything is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Status {
    /// The agent's process.
    pub pid: u32,
    /// Its version.
    pub version: String,
    /// When it was started, in seconds since 1970.
    pub started: u64,
    /// What time it is, in seconds since 1970.
    pub now: u64,
    /// Whether everything is being stopped.
    pub stopping: bool,
    /// The directory of manifests.
    pub manifests: PathBuf,
    /// Pods, by name.
    pub pods: Vec<PodState>,
    /// Names of pods that were stopped and not started again.
    pub stopped: Vec<String>,
    /// Manifests that cannot be used, and why.
    pub faults: Vec<Fault>,
}

/// A pod, with the cells that kubectl prints of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PodState {
    /// `metadata.name`.
    pub name: String,
    /// The manifest.
    pub file: Option<PathBuf>,
    /// When it was created, in seconds since 1970.
    pub created: u64,
    /// `status.phase`.
    pub phase: String,
    /// How many of its containers are ready.
    pub ready: usize,
    /// Of how many.
    pub total: usize,
    /// STATUS.
    pub status: String,
    /// RESTARTS.
    pub restarts: u64,
    /// When the last was, in seconds since 1970.
    pub last_restart: Option<u64>,
    /// Init containers first.
    pub containers: Vec<ContainerState>,
}

/// A container.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ContainerState {
    /// Its name.
    pub name: String,
    /// Whether it is an init container.
    pub init: bool,
    /// `running`, `waiting: REASON` or `exited: CODE`.
    pub state: String,
    /// Whether it is ready.
    pub ready: bool,
    /// How often it was started again.
    pub restarts: u32,
    /// The file of what it writes.
    pub log: PathBuf,
}

/// A manifest that cannot be used.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Fault {
    /// Its path.
    pub file: PathBuf,
    /// What is wrong, for people.
    pub message: String,
}

/// What the loop answers with.
#[derive(Debug)]
pub(crate) enum Reply {
    Answer(Answer),
    Lines { now: Vec<Vec<u8>>, later: Option<mpsc::Receiver<Vec<u8>>> },
}

/// A question and where its answer goes.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) question: Question,
    pub(crate) reply: oneshot::Sender<Reply>,
}

/// Listens; an old socket of a killed agent is replaced. The caller holds the lock of the state directory.
///
/// # Errors
/// A path that is too long, a directory that cannot be written to.
pub(crate) fn listen(path: &Path) -> io::Result<UnixListener> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Takes questions to the loop until that ends.
pub(crate) async fn serve(listener: UnixListener, asked: mpsc::Sender<Asked>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::task::spawn_local(connection(stream, asked.clone()));
            }
            // Out of descriptors: others have to go first.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

async fn connection(mut stream: UnixStream, asked: mpsc::Sender<Asked>) {
    let mut line = Vec::new();
    let mut reader = BufReader::new((&mut stream).take(MOST));
    let read = tokio::time::timeout(PATIENCE, reader.read_until(b'\n', &mut line)).await;
    if !matches!(read, Ok(Ok(1..))) {
        return;
    }
    let question = match serde_json::from_slice(&line) {
        Ok(question) => question,
        Err(e) => {
            let error = Answer::Error(format!("that is no question to an agent: {e}"));
            let _ = say(&mut stream, &error).await;
            return;
        }
    };
    let (reply, answer) = oneshot::channel();
    if asked.send(Asked { question, reply }).await.is_err() {
        return;
    }
    match answer.await {
        Err(_) => {}
        Ok(Reply::Answer(answer)) => drop(say(&mut stream, &answer).await),
        Ok(Reply::Lines { now, later }) => drop(lines(&mut stream, now, later).await),
    }
}

async fn lines(
    stream: &mut UnixStream,
    now: Vec<Vec<u8>>,
    later: Option<mpsc::Receiver<Vec<u8>>>,
) -> io::Result<()> {
    say(stream, &Answer::Lines).await?;
    for line in now {
        stream.write_all(&line).await?;
    }
    let Some(mut later) = later else { return Ok(()) };
    let mut nothing = [0];
    loop {
        tokio::select! {
            line = later.recv() => match line {
                Some(line) => stream.write_all(&line).await?,
                None => return Ok(()),
            },
            // The reader went away.
            _ = stream.read(&mut nothing) => return Ok(()),
        }
    }
}

async fn say(stream: &mut UnixStream, answer: &Answer) -> io::Result<()> {
    let mut text = serde_json::to_vec(answer).map_err(io::Error::other)?;
    text.push(b'\n');
    stream.write_all(&text).await
}

/// Why there was no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody listens.
    #[error(
        "no agent listens on {}: {source}; is `holdfast agent` running with this --state-dir, and are you its user?",
        path.display()
    )]
    NoAgent {
        /// The socket.
        path: PathBuf,
        /// What connecting said.
        source: io::Error,
    },
    /// It ended, or was ended, before it answered.
    #[error("the agent ended before it answered")]
    Ended,
    /// It says something else.
    #[error("the agent's answer is not understood ({0}); is it of another version?")]
    Strange(serde_json::Error),
    /// It refuses.
    #[error("{0}")]
    Refused(String),
    /// Reading or writing.
    #[error("cannot talk to the agent: {0}")]
    Io(#[from] io::Error),
}

/// Asks the agent of a state directory: its answer, and the rest of the stream.
///
/// # Errors
/// [`AskError`]; also if the agent answers with an error.
pub async fn ask(
    socket: &Path,
    question: &Question,
) -> Result<(Answer, BufReader<UnixStream>), AskError> {
    let mut stream = UnixStream::connect(socket)
        .await
        .map_err(|source| AskError::NoAgent { path: socket.to_owned(), source })?;
    let mut text = serde_json::to_vec(question).map_err(AskError::Strange)?;
    text.push(b'\n');
    stream.write_all(&text).await?;
    let mut reader = BufReader::new(stream);
    let mut line = Vec::new();
    if reader.read_until(b'\n', &mut line).await? == 0 {
        return Err(AskError::Ended);
    }
    match serde_json::from_slice(&line).map_err(AskError::Strange)? {
        Answer::Error(error) => Err(AskError::Refused(error)),
        answer => Ok((answer, reader)),
    }
}

/// The socket of the agent with this state directory.
#[must_use]
pub fn socket(state_dir: &Path) -> PathBuf {
    state_dir.join("agent.sock")
}
