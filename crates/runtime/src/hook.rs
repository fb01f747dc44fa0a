//! Runs `postStart` and `preStop` hooks (kubelet: `pkg/kubelet/lifecycle/handlers.go`).
//!
//! A hook runs once, without retry and, but for the grace period that the engine keeps, without
//! timeout: dropping the future ends it.
//!
//! | handler | fails if |
//! |---|---|
//! | `exec` | the exit code is not 0, or the command could not be run |
//! | `httpGet` | there is no HTTP answer; *any* status is good. An HTTPS hook that is answered in plain HTTP is asked again in plain HTTP |
//! | `tcpSocket` | always: manifests may have it, the kubelet cannot run it |
//! | `sleep` | never |

use std::time::Duration;

use holdfast_manifest::object::IntOrString;
use holdfast_manifest::object::container as object;

use crate::contract::ExecOutcome;
use crate::probe::http::{self, GetError};
use crate::probe::{Exec, HandlerError, HttpGet, Target, http_get};

/// What a hook does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Handler {
    /// `exec`.
    Exec(Exec),
    /// `httpGet`.
    HttpGet(HttpGet),
    /// `tcpSocket`, of which only the words of its failure are left.
    TcpSocket {
        /// `host`.
        host: String,
        /// `port`.
        port: IntOrString,
    },
    /// `sleep`.
    Sleep(Duration),
}

/// Whose hook it is, for the messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner<'a> {
    /// `metadata.namespace`.
    pub namespace: &'a str,
    /// `metadata.name`.
    pub pod: &'a str,
    /// `metadata.uid`.
    pub uid: &'a str,
    /// The container's name.
    pub container: &'a str,
}

/// A hook that went well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Done {
    /// As it was asked for.
    Plainly,
    /// In plain HTTP instead of HTTPS: the message of the Warning event `LifecycleHTTPFallback`.
    FellBack(String),
}

/// A hook that failed.
///
/// The text is what the kubelet puts into `state.waiting.message` beside `PostStartHookError`. The
/// events `FailedPostStartHook` and `FailedPreStopHook` themselves say only `PostStartHook failed`
/// and `PreStopHook failed`, since the text may hold secrets.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HookError {
    /// The command failed.
    #[error(
        "Exec lifecycle hook ([{command}]) for {owner} failed - error: {error}, message: {output:?}"
    )]
    Exec {
        /// The command's words, joined.
        command: String,
        /// Container and pod.
        owner: String,
        /// Exit code, or why it could not be run.
        error: String,
        /// What it wrote.
        output: String,
    },
    /// There was no answer.
    #[error("HTTP lifecycle hook ({path}) for {owner} failed - error: {error}")]
    HttpGet {
        /// The path that was asked for.
        path: String,
        /// Container and pod.
        owner: String,
        /// Why.
        error: String,
    },
    /// The kubelet has no client for this handler.
    #[error("Cannot run handler: invalid handler: {0}")]
    Invalid(String),
}

/// Runs a hook to its end.
///
/// `exec` runs a command inside the container ([`crate::Runtime::exec`]); only a
/// [`Handler::Exec`] calls it, without timeout.
///
/// # Errors
/// See [`HookError`].
pub async fn run(
    target: &Target,
    handler: &Handler,
    owner: Owner<'_>,
    exec: impl AsyncFn(&[String], Option<Duration>) -> Result<ExecOutcome, String>,
) -> Result<Done, HookError> {
    match handler {
        Handler::Exec(Exec { command }) => {
            let words = command.join(" ");
            let (error, output) = match exec(command, None).await {
                Ok(ExecOutcome::Ended { code: 0, .. }) => return Ok(Done::Plainly),
                Ok(ExecOutcome::Ended { code, output }) => {
                    let output = String::from_utf8_lossy(&output).into_owned();
                    (format!("command '{words}' exited with {code}: "), output)
                }
                Ok(ExecOutcome::TimedOut) => {
                    (format!("command {words:?} timed out"), String::new())
                }
                Err(error) => (error, String::new()),
            };
            Err(HookError::Exec { command: words, owner: owner.to_string(), error, output })
        }
        Handler::HttpGet(get) => request(target, get).await.map_err(|e| HookError::HttpGet {
            path: get.path.clone(),
            owner: owner.to_string(),
            error: e.to_string(),
        }),
        Handler::TcpSocket { host, port } => Err(invalid_tcp_socket(host, port)),
        Handler::Sleep(time) => {
            tokio::time::sleep(*time).await;
            Ok(Done::Plainly)
        }
    }
}

/// kubelet: `runHTTPHandler`. A body that breaks off does no harm, an answer was there.
async fn request(target: &Target, get: &HttpGet) -> Result<Done, GetError> {
    let agent = format!("kube-lifecycle/1.{}", target.kubernetes_minor);
    let url = get.url(target);
    match http::get(url.clone(), &get.headers, &agent, None).await {
        Ok(_) | Err(GetError::Body(_)) => Ok(Done::Plainly),
        Err(tls @ GetError::PlainHttp { .. }) => {
            let mut headers = get.headers.clone();
            headers.retain(|(name, _)| !name.eq_ignore_ascii_case("authorization"));
            let plain = HttpGet { https: false, ..get.clone() }.url(target);
            match http::get(plain, &headers, &agent, None).await {
                Ok(_) | Err(GetError::Body(_)) => Ok(Done::FellBack(format!(
                    "request to HTTPS lifecycle hook {} got HTTP response, retry with HTTP succeeded",
                    url.authority()
                ))),
                Err(_) => Err(tls),
            }
        }
        Err(e) => Err(e),
    }
}

/// The handler printed as Go prints it, since that is all the kubelet says.
fn invalid_tcp_socket(host: &str, port: &IntOrString) -> HookError {
    let port = match port {
        IntOrString::Int(number) => format!("{{0 {number} }}"),
        IntOrString::String(name) => format!("{{1 0 {name}}}"),
    };
    HookError::Invalid(format!(
        "&LifecycleHandler{{Exec:nil,HTTPGet:nil,\
         TCPSocket:&TCPSocketAction{{Port:{port},Host:{host},}},Sleep:nil,}}"
    ))
}

impl Handler {
    /// The handler of a hook of `container`.
    ///
    /// # Errors
    /// If a named port is not among the container's ports, or there is no handler.
    pub fn from_manifest(
        hook: &object::LifecycleHandler,
        container: &object::Container,
    ) -> Result<Self, HandlerError> {
        if let Some(exec) = &hook.exec {
            return Ok(Self::Exec(Exec { command: exec.command.clone() }));
        }
        if let Some(get) = &hook.http_get {
            return http_get(get, container).map(Self::HttpGet);
        }
        if let Some(sleep) = &hook.sleep {
            return Ok(Self::Sleep(Duration::from_secs(sleep.seconds.try_into().unwrap_or(0))));
        }
        if let Some(tcp) = &hook.tcp_socket {
            return Ok(Self::TcpSocket { host: tcp.host.clone(), port: tcp.port.clone() });
        }
        Err(HandlerError::Missing(container.name.clone()))
    }
}

impl std::fmt::Display for Owner<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let pod = format!("{}_{}({})", self.pod, self.namespace, self.uid);
        write!(f, "Container {:?} in Pod {pod:?}", self.container)
    }
}
