//! Who runs a container.

use std::io;
use std::path::Path;

use holdfast_manifest::object::Pod;
use holdfast_manifest::object::container::Container;
use holdfast_manifest::object::pod::PodSecurityContext;

use crate::contract::{RootFs, User};
use crate::image::{Image, view};

/// More than any real /etc/passwd, so that a hostile image cannot fill our memory.
const MAX_FILE: u64 = 4 << 20;

/// A user that a container cannot run as.
#[derive(Debug, thiserror::Error)]
pub enum UserError {
    /// `runAsNonRoot` and `runAsUser: 0`.
    #[error("container's runAsUser breaks non-root policy ({0})")]
    RunAsRoot(String),
    /// `runAsNonRoot` and an image for root.
    #[error("container has runAsNonRoot and image will run as root ({0})")]
    ImageRoot(String),
    /// `runAsNonRoot` and an image with a user name.
    #[error(
        "container has runAsNonRoot and image has non-numeric user ({0}), cannot verify user is \
         non-root ({1})"
    )]
    NonNumeric(String, String),
    /// The image's user is not in its /etc/passwd (containerd: `no users found`).
    #[error("failed to generate spec: no users found: {0:?} is not in /etc/passwd of the image")]
    Unknown(String),
    /// A number beyond what a user or group can have.
    #[error("{field} {value} is out of range")]
    Range {
        /// `runAsUser`, `runAsGroup`, ….
        field: &'static str,
        /// What it says.
        value: i64,
    },
    /// The files of the image cannot be read.
    #[error("cannot read {path} of the image: {source}")]
    Read {
        /// `/etc/passwd` or `/etc/group`.
        path: &'static str,
        /// What went wrong.
        source: io::Error,
    },
}

impl UserError {
    /// Whether the kubelet finds it before it asks the runtime.
    pub(super) fn is_config(&self) -> bool {
        matches!(self, Self::RunAsRoot(_) | Self::ImageRoot(_) | Self::NonNumeric(_, _))
    }
}

/// What an image says of its user; its group is not looked at by Kubernetes (containerd:
/// `getUserFromImage`).
enum ImageUser<'a> {
    Id(u32),
    Name(&'a str),
}

/// The identity of a container (kubelet: `determineEffectiveSecurityContext`, `verifyRunAsNonRoot`;
/// containerd: `WithUser`, `WithAdditionalGIDs`).
///
/// A container that nobody gives a user keeps the caller's: root's, or in a user namespace what looks
/// like root. `is_root` says whether groups can be set at all: without it those of the image are left
/// out, and only those the Pod asks for are passed on.
pub(super) fn resolve(
    pod: &Pod,
    container: &Container,
    image: &Image,
    is_root: bool,
) -> Result<User, UserError> {
    let pod_security = pod.spec.security_context.as_ref();
    let own = container.security_context.as_ref();
    let run_as_user =
        own.and_then(|s| s.run_as_user).or_else(|| pod_security.and_then(|s| s.run_as_user));
    let run_as_group =
        own.and_then(|s| s.run_as_group).or_else(|| pod_security.and_then(|s| s.run_as_group));
    let non_root = own
        .and_then(|s| s.run_as_non_root)
        .or_else(|| pod_security.and_then(|s| s.run_as_non_root));
    let meta = &pod.metadata;
    let who = || {
        let pod = format!("{}_{}({})", meta.name, meta.namespace, meta.uid);
        format!("pod: {pod:?}, container: {}", container.name)
    };
    let image_user = image_user(&image.config.user);
    if non_root == Some(true) {
        match (run_as_user, &image_user) {
            (Some(0), _) => return Err(UserError::RunAsRoot(who())),
            (Some(_), _) => {}
            (None, ImageUser::Id(0)) => return Err(UserError::ImageRoot(who())),
            (None, ImageUser::Id(_)) => {}
            (None, ImageUser::Name(name)) => {
                return Err(UserError::NonNumeric((*name).to_owned(), who()));
            }
        }
    }
    if matches!(image.root, RootFs::Image(_)) {
        return for_runtime(pod_security, run_as_user, run_as_group, &image_user);
    }
    let passwd = read(&image.root, "/etc/passwd");
    let (uid, entry) = match (run_as_user, image_user) {
        (Some(uid), _) => {
            let uid = id("runAsUser", uid)?;
            (Some(uid), passwd?.and_then(|text| passwd_entry(&text, |e| e.uid == uid)))
        }
        // Nobody asks for a user: what we are already.
        (None, ImageUser::Id(0)) => {
            (None, passwd.ok().flatten().and_then(|text| passwd_entry(&text, |e| e.uid == 0)))
        }
        (None, ImageUser::Id(uid)) => {
            (Some(uid), passwd?.and_then(|text| passwd_entry(&text, |e| e.uid == uid)))
        }
        (None, ImageUser::Name(name)) => {
            let entry = passwd?.and_then(|text| passwd_entry(&text, |e| e.name == name));
            let entry = entry.ok_or_else(|| UserError::Unknown(name.to_owned()))?;
            (Some(entry.uid), Some(entry))
        }
    };
    let gid = match run_as_group {
        Some(gid) => Some(id("runAsGroup", gid)?),
        // As containerd: the user's own group, else 0.
        None => uid.map(|_| entry.as_ref().map_or(0, |entry| entry.gid)),
    };
    let mut groups = Groups::default();
    groups.0.extend(gid);
    let strict = pod_security
        .and_then(|s| s.supplemental_groups_policy.as_deref())
        .is_some_and(|policy| policy == "Strict");
    if let Some(entry) = entry.filter(|_| !strict && is_root)
        && let Some(text) = read(&image.root, "/etc/group")?
    {
        groups_of(&text, &entry.name).for_each(|gid| groups.add(gid));
    }
    groups.of_pod(pod_security)?;
    Ok(User { uid, gid, groups: groups.0, name: None })
}

/// What a runtime is told that looks into /etc/passwd and /etc/group by itself (kubelet:
/// `determineEffectiveSecurityContext`).
fn for_runtime(
    pod: Option<&PodSecurityContext>,
    user: Option<i64>,
    group: Option<i64>,
    image_user: &ImageUser<'_>,
) -> Result<User, UserError> {
    let (uid, name) = match (user, image_user) {
        (Some(uid), _) => (Some(id("runAsUser", uid)?), None),
        (None, ImageUser::Id(uid)) => (Some(*uid), None),
        (None, ImageUser::Name(name)) => (None, Some((*name).to_owned())),
    };
    let gid = group.map(|gid| id("runAsGroup", gid)).transpose()?;
    let mut groups = Groups::default();
    groups.of_pod(pod)?;
    Ok(User { uid, gid, groups: groups.0, name })
}

/// Group ids in order, each once.
#[derive(Default)]
struct Groups(Vec<u32>);

impl Groups {
    fn add(&mut self, gid: u32) {
        if !self.0.contains(&gid) {
            self.0.push(gid);
        }
    }

    /// Those that the pod asks for.
    fn of_pod(&mut self, security: Option<&PodSecurityContext>) -> Result<(), UserError> {
        let Some(security) = security else { return Ok(()) };
        if let Some(gid) = security.fs_group {
            self.add(id("fsGroup", gid)?);
        }
        for &gid in &security.supplemental_groups {
            self.add(id("supplementalGroups", gid)?);
        }
        Ok(())
    }
}

fn id(field: &'static str, value: i64) -> Result<u32, UserError> {
    // Kubernetes allows what fits an int32.
    i32::try_from(value)
        .ok()
        .and_then(|id| u32::try_from(id).ok())
        .ok_or(UserError::Range { field, value })
}

fn image_user(user: &str) -> ImageUser<'_> {
    let user = user.split(':').next().unwrap_or_default();
    match user.parse::<u32>() {
        Ok(uid) => ImageUser::Id(uid),
        Err(_) if user.is_empty() => ImageUser::Id(0),
        Err(_) => ImageUser::Name(user),
    }
}

fn read(root: &RootFs, path: &'static str) -> Result<Option<String>, UserError> {
    let data = view::read_file(root, Path::new(path), MAX_FILE)
        .map_err(|source| UserError::Read { path, source })?;
    Ok(data.map(|data| String::from_utf8_lossy(&data).into_owned()))
}

/// One line of /etc/passwd.
struct Entry {
    name: String,
    uid: u32,
    gid: u32,
}

fn passwd_entry(text: &str, wanted: impl Fn(&Entry) -> bool) -> Option<Entry> {
    text.lines().find_map(|line| {
        let mut fields = line.trim().split(':');
        let name = fields.next().filter(|name| !name.is_empty() && !name.starts_with('#'))?;
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        Some(Entry { name: name.to_owned(), uid, gid }).filter(&wanted)
    })
}

/// The groups in /etc/group that list `user` as a member.
fn groups_of<'a>(text: &'a str, user: &'a str) -> impl Iterator<Item = u32> + 'a {
    text.lines().filter_map(move |line| {
        let mut fields = line.trim().split(':');
        let _name = fields.next().filter(|name| !name.starts_with('#'))?;
        let gid = fields.nth(1)?.parse().ok()?;
        fields.next()?.split(',').any(|member| member == user).then_some(gid)
    })
}
