//! Finding the runtime, and what it can do.

use std::hash::{BuildHasher, RandomState};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;
use tonic::Code;

use super::client::{CallError, Client};
use super::files::Files;
use super::inotify::Inotify;
use super::keyring::Keyring;
use super::watch::Hints;
use super::{CriRuntime, Endpoint, EndpointError, Inner, api, image, leftovers, sandbox};
use crate::contract::RuntimeEvent;
use crate::image::{ImageName, NameError};
use crate::room::Room;

/// How long a runtime may take to say that it is there.
const GREETING: Duration = Duration::from_secs(10);

/// How the runtime is used.
#[derive(Clone, Debug)]
pub struct CriOptions {
    /// Where it listens.
    pub endpoint: Endpoint,
    /// Where the directories of runs are made; shared by all runs on this machine.
    pub run_state: PathBuf,
    /// Where seccomp profiles of one's own may be (`seccomp/` in it), else the kubelet's place.
    pub state_dir: PathBuf,
    /// Images that stand for others.
    pub renames: Vec<(ImageName, String)>,
    /// Gets warnings that come up later, such as a runtime that is gone.
    pub warnings: Option<UnboundedSender<String>>,
}

impl CriOptions {
    /// The options of a runtime that listens at `endpoint`.
    #[must_use]
    pub fn new(endpoint: Endpoint) -> Self {
        Self {
            endpoint,
            run_state: "/run/holdfast-cri".into(),
            state_dir: "/var/lib/holdfast".into(),
            renames: Vec::new(),
            warnings: None,
        }
    }
}

/// Why there is no CRI runtime.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody can be talked to.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// Someone who speaks another language.
    #[error(
        "{path} is not the socket of a runtime that speaks CRI v1: {words}; in containerd the cri \
         plugin must be on (disabled_plugins in /etc/containerd/config.toml must not name it)",
        path = path.display()
    )]
    NotCri {
        /// The socket.
        path: PathBuf,
        /// What it said.
        words: String,
    },
    /// Someone who does not answer.
    #[error("the container runtime at {path} does not answer: {words}", path = path.display())]
    NoAnswer {
        /// The socket.
        path: PathBuf,
        /// What happened.
        words: String,
    },
    /// It says so itself.
    #[error("the container runtime at {path} is not ready: {words}", path = path.display())]
    NotReady {
        /// The socket.
        path: PathBuf,
        /// Its words.
        words: String,
    },
    /// The run's directory cannot be made.
    #[error(
        "cannot make the directory of this run in {path}: {source}; volumes and messages of containers \
         are mounted there, which needs root",
        path = path.display()
    )]
    State {
        /// Where.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
}

/// An entry of `--image` that a CRI runtime can do nothing with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RenameError {
    /// Files.
    #[error(
        "image {name:?} cannot be taken from {from}: a CRI runtime keeps images of its own, and takes \
         them from registries only; put it there first (containerd: ctr -n k8s.io images import \
         ARCHIVE), then leave the mapping out, or map the name to that image's name"
    )]
    Files {
        /// The image.
        name: String,
        /// What stands for it.
        from: String,
    },
    /// No name.
    #[error("{name:?} is no image name: {source}")]
    Name {
        /// The image.
        name: String,
        /// Why.
        source: NameError,
    },
}

/// Reads the image map for a CRI runtime: each NAME stands for another image of the runtime's.
///
/// # Errors
/// [`RenameError`], for the first entry that is not the name of an image.
pub fn renames<'a>(
    map: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Result<Vec<(ImageName, String)>, RenameError> {
    map.into_iter()
        .map(|(name, other)| {
            let files = || RenameError::Files { name: name.to_owned(), from: other.to_owned() };
            let kinds = ["dir:", "oci:", "archive:", "exec:"];
            let is_path = other.starts_with(['.', '/', '~']) || Path::new(other).exists();
            if other == "host" || is_path || kinds.iter().any(|kind| other.starts_with(kind)) {
                return Err(files());
            }
            let key = ImageName::parse(name)
                .map_err(|source| RenameError::Name { name: name.to_owned(), source })?;
            let other = image::with_tag(other).map_err(|_| files())?;
            Ok((key, other))
        })
        .collect()
}

impl CriRuntime {
    /// Connects to a runtime and removes what killed runs have left there. The texts are for the user, a
    /// line each.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn connect(
        options: CriOptions,
        events: UnboundedSender<RuntimeEvent>,
    ) -> Result<(Self, Vec<String>), Error> {
        holdfast_sys::limits::raise_open_files();
        options.endpoint.check().await?;
        let client = Client::new(&options.endpoint, options.warnings.clone());
        let greeted = greet(&client, &options.endpoint).await?;
        let state = |source| Error::State { path: options.run_state.clone(), source };
        let run = format!("{:08x}", RandomState::new().hash_one(std::process::id()) as u32);
        let files = Files::create(&options.run_state, &run).map_err(state)?;
        let inotify = Inotify::new().map_err(state)?;
        let (keyring, problem) = Keyring::of_user();
        let hints = Hints::new(&client, &run);
        let inner = Inner {
            name: greeted.name,
            run,
            files,
            inotify,
            hints,
            events,
            cgroup_parent: cgroup_parent(&client, &greeted.info).await,
            seccomp: sandbox::seccomp_profiles(&options.state_dir),
            read_only_below: greeted.read_only_below,
            renames: options.renames,
            keyring,
            room: Room::default(),
            state: Default::default(),
            tasks: Default::default(),
            client,
        };
        let runtime = Self { inner: Rc::new(inner) };
        let mut notes = greeted.notes;
        notes.extend(problem);
        match leftovers::remove(&runtime, &options.run_state).await {
            Ok(more) => notes.extend(more),
            Err(error) => {
                let path = options.endpoint.path().to_owned();
                runtime.shutdown().await;
                return Err(Error::NoAnswer { path, words: error.words() });
            }
        }
        Ok((runtime, notes))
    }
}

/// What a runtime says of itself.
struct Greeted {
    name: String,
    notes: Vec<String>,
    info: std::collections::HashMap<String, String>,
    read_only_below: bool,
}

async fn greet(client: &Client, endpoint: &Endpoint) -> Result<Greeted, Error> {
    let path = || endpoint.path().to_owned();
    let failed = |error: CallError| match error {
        CallError::Refused { code: Code::Unimplemented, .. } => {
            Error::NotCri { path: path(), words: error.words() }
        }
        // Not even gRPC.
        CallError::Gone(_) => Error::NotCri { path: path(), words: error.message() },
        _ => Error::NoAnswer { path: path(), words: error.words() },
    };
    let request = api::VersionRequest { version: "v1".to_owned() };
    let version = client.greeting(request, Some(GREETING)).await.map_err(failed)?;
    let request = api::StatusRequest { verbose: true };
    let status = client.greeting(request, Some(GREETING)).await.map_err(failed)?;
    let mut notes = Vec::new();
    for condition in status.status.map(|status| status.conditions).unwrap_or_default() {
        let api::RuntimeCondition { kind, status: holds, reason, message } = condition;
        let words = format!("{kind}=false reason:{reason} message:{message}");
        match kind.as_str() {
            _ if holds => {}
            "RuntimeReady" => return Err(Error::NotReady { path: path(), words }),
            "NetworkReady" => notes.push(format!(
                "the container runtime has no network for pods ({words}): only pods with hostNetwork \
                 can start; a CNI configuration in /etc/cni/net.d gives it one"
            )),
            _ => {}
        }
    }
    let supports = |handler: &api::RuntimeHandler| {
        handler.name.is_empty()
            && handler.features.as_ref().is_some_and(|can| can.recursive_read_only_mounts)
    };
    let read_only_below = status.runtime_handlers.iter().any(supports);
    Ok(Greeted { name: version.runtime_name, notes, info: status.info, read_only_below })
}

/// A runtime whose cgroups are systemd's needs a slice to put sandboxes in; others have a place of their
/// own.
async fn cgroup_parent(
    client: &Client,
    info: &std::collections::HashMap<String, String>,
) -> String {
    let answer = client.greeting(api::RuntimeConfigRequest {}, Some(GREETING)).await;
    let systemd = match answer {
        Ok(answer) => {
            answer.linux.is_some_and(|linux| linux.cgroup_driver() == api::CgroupDriver::Systemd)
        }
        // containerd before 2.0 shows its configuration instead.
        Err(_) => info.get("config").is_some_and(|config| uses_systemd(config)),
    };
    if systemd { "holdfast.slice".to_owned() } else { String::new() }
}

/// Whether the default handler of a containerd has `SystemdCgroup`.
fn uses_systemd(config: &str) -> bool {
    let Ok(config) = serde_json::from_str::<serde_json::Value>(config) else { return false };
    let containerd = &config["containerd"];
    let name = containerd["defaultRuntimeName"].as_str().unwrap_or("runc");
    let options = &containerd["runtimes"][name]["options"];
    options["SystemdCgroup"].as_bool() == Some(true) || config["systemdCgroup"] == true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_stand_for_images_only() {
        let map = [("nginx", "registry.local/web"), ("a/b:1", "c@sha256:0")];
        let made = renames([map[0]]).unwrap();
        assert_eq!(made[0].0.repository, "docker.io/library/nginx");
        assert_eq!(made[0].1, "registry.local/web:latest");
        assert!(renames([map[1]]).is_err());
        for files in
            ["host", "./rootfs", "/a.tar", "dir:x", "oci:x:y", "archive:x", "exec:x", "~/x"]
        {
            let error = renames([("nginx", files)]).unwrap_err();
            assert!(error.to_string().contains("ctr -n k8s.io images import"), "{error}");
        }
        assert!(matches!(renames([("UPPER", "x")]), Err(RenameError::Name { .. })));
    }

    #[test]
    fn systemds_cgroups_are_recognized() {
        let config = |runc: &str, on: bool| {
            format!(
                r#"{{"containerd": {{"defaultRuntimeName": "{runc}", "runtimes": {{
                    "runc": {{"options": {{"SystemdCgroup": {on}}}}}, "crun": {{}}}}}}}}"#
            )
        };
        assert!(uses_systemd(&config("runc", true)));
        assert!(!uses_systemd(&config("runc", false)));
        assert!(!uses_systemd(&config("crun", true)));
        assert!(!uses_systemd("{") && !uses_systemd("{}"));
    }
}
