//! Credentials for registries, from imagePullSecrets and the user's docker configuration.
//!
//! Which of them fit an image is decided as the kubelet does (`pkg/credentialprovider`): by the
//! registry's host, where `*` stands for one part of the name, and the beginning of the path; the more
//! special ones first.

use std::collections::BTreeMap;
use std::path::PathBuf;

use holdfast_manifest::object::Base64;
use serde::Deserialize;

/// What to log in with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Credentials {
    pub(super) username: String,
    pub(super) password: String,
    pub(super) identity_token: String,
}

/// Credentials by what they are for.
#[derive(Clone, Debug, Default)]
pub(super) struct Keyring {
    entries: Vec<(String, Credentials)>,
}

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum KeyringError {
    #[error("it has no {0}")]
    NoKey(&'static str),
    #[error("it is not a docker configuration: {0}")]
    Json(#[from] serde_json::Error),
    #[error("the auth of {0:?} is not the base64 of USER:PASSWORD")]
    Auth(String),
}

/// The parts of `~/.docker/config.json` and `.dockerconfigjson` that matter.
#[derive(Deserialize)]
struct DockerConfig {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Entry {
    username: String,
    password: String,
    auth: String,
    #[serde(alias = "identitytoken")]
    identity_token: String,
}

/// Where images without a registry in their name come from.
const DEFAULT_REGISTRY: &str = "index.docker.io";

impl Keyring {
    /// The user's own: `$DOCKER_CONFIG/config.json`, else `~/.docker/config.json`. The text is for the
    /// user, if it cannot be used.
    pub(super) fn of_user() -> (Self, Option<String>) {
        let home = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".docker"));
        let dir = std::env::var_os("DOCKER_CONFIG").map(PathBuf::from).or_else(home);
        let Some(path) = dir.map(|dir| dir.join("config.json")) else { return Default::default() };
        let mut keyring = Self::default();
        let problem = match std::fs::read(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => Some(error.to_string()),
            Ok(text) => keyring.add_config_json(&text).err().map(|error| error.to_string()),
        };
        (keyring, problem.map(|problem| format!("{} is not used: {problem}", path.display())))
    }

    /// Adds those of a Secret; one of a type that has none is passed over, as by the kubelet.
    ///
    /// # Errors
    /// [`KeyringError`].
    pub(super) fn add_secret(
        &mut self,
        kind: &str,
        data: &BTreeMap<String, Vec<u8>>,
    ) -> Result<(), KeyringError> {
        let get = |key: &'static str| data.get(key).ok_or(KeyringError::NoKey(key));
        match kind {
            "kubernetes.io/dockerconfigjson" => self.add_config_json(get(".dockerconfigjson")?),
            "kubernetes.io/dockercfg" => {
                let auths = serde_json::from_slice(get(".dockercfg")?)?;
                self.add(auths)
            }
            _ => Ok(()),
        }
    }

    fn add_config_json(&mut self, text: &[u8]) -> Result<(), KeyringError> {
        let config: DockerConfig = serde_json::from_slice(text)?;
        self.add(config.auths)
    }

    fn add(&mut self, auths: BTreeMap<String, Entry>) -> Result<(), KeyringError> {
        for (server, entry) in auths {
            let (mut username, mut password) = (entry.username, entry.password);
            if !entry.auth.is_empty() {
                let wrong = || KeyringError::Auth(server.clone());
                let decoded = Base64::parse(&entry.auth).map_err(|_| wrong())?;
                let text = String::from_utf8(decoded.0).map_err(|_| wrong())?;
                let (user, rest) = text.split_once(':').ok_or_else(wrong)?;
                // docker pads with NULs.
                (username, password) = (user.to_owned(), rest.trim_end_matches('\0').to_owned());
            }
            // An entry that only says where a helper keeps the rest.
            if username.is_empty() && entry.identity_token.is_empty() {
                continue;
            }
            let key = key(&server);
            let identity_token = entry.identity_token;
            self.entries.push((key, Credentials { username, password, identity_token }));
        }
        Ok(())
    }

    /// These first, then those.
    pub(super) fn and_then(mut self, other: &Self) -> Self {
        self.entries.extend(other.entries.iter().cloned());
        self
    }

    /// Those that fit an image's name (without tag or digest), the most special first.
    pub(super) fn lookup(&self, image: &str) -> Vec<Credentials> {
        let mut fitting: Vec<&(String, Credentials)> =
            self.entries.iter().filter(|(key, _)| fits(key, image)).collect();
        if fitting.is_empty() && is_of_default_registry(image) {
            fitting = self.entries.iter().filter(|(key, _)| key == DEFAULT_REGISTRY).collect();
        }
        fitting.sort_by(|a, b| b.0.cmp(&a.0));
        let mut all: Vec<Credentials> = Vec::new();
        for (_, credentials) in fitting {
            if !all.contains(credentials) {
                all.push(credentials.clone());
            }
        }
        all
    }
}

/// A server of a configuration as host and path.
fn key(server: &str) -> String {
    let rest = server.strip_prefix("https://").or_else(|| server.strip_prefix("http://"));
    let rest = rest.unwrap_or(server);
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let path = match path {
        "/v1/" | "/v2/" | "/v1" | "/v2" | "/" => "",
        path => path
            .strip_prefix("/v1")
            .or_else(|| path.strip_prefix("/v2"))
            .filter(|rest| rest.starts_with('/'))
            .unwrap_or(path),
    };
    format!("{host}{path}")
}

/// kubelet: `URLsMatch`.
fn fits(key: &str, image: &str) -> bool {
    let split = |text: &str| -> (String, String) {
        let (host, path) = text.split_at(text.find('/').unwrap_or(text.len()));
        (host.to_owned(), path.to_owned())
    };
    let ((pattern, path), (host, image_path)) = (split(key), split(image));
    let port = |host: &str| -> (String, String) {
        match host.split_once(':') {
            Some((name, port)) => (name.to_owned(), port.to_owned()),
            None => (host.to_owned(), String::new()),
        }
    };
    let ((pattern, pattern_port), (host, host_port)) = (port(&pattern), port(&host));
    let parts = |host: &str| host.split('.').map(str::to_owned).collect::<Vec<_>>();
    let (pattern, host) = (parts(&pattern), parts(&host));
    pattern_port == host_port
        && pattern.len() == host.len()
        && pattern.iter().zip(&host).all(|(pattern, part)| glob(pattern, part))
        && image_path.starts_with(&path)
}

/// `*` stands for any characters.
fn glob(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((start, rest)) => text.strip_prefix(start).is_some_and(|left| {
            (0..=left.len())
                .filter(|&at| left.is_char_boundary(at))
                .any(|at| glob(rest, &left[at..]))
        }),
    }
}

/// kubelet: `isDefaultRegistryMatch`.
fn is_of_default_registry(image: &str) -> bool {
    match image.split_once('/') {
        None => !image.is_empty(),
        Some(("", _)) => false,
        Some(("docker.io" | "index.docker.io", _)) => true,
        Some((first, _)) => !first.contains(['.', ':']),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keyring(json: &str) -> Keyring {
        let mut keyring = Keyring::default();
        let data = BTreeMap::from([(".dockerconfigjson".to_owned(), json.as_bytes().to_vec())]);
        keyring.add_secret("kubernetes.io/dockerconfigjson", &data).unwrap();
        keyring
    }

    fn users(keyring: &Keyring, image: &str) -> Vec<String> {
        keyring.lookup(image).into_iter().map(|c| c.username).collect()
    }

    #[test]
    fn the_fitting_ones_are_found() {
        // dTpw is u:p.
        let keyring = keyring(
            r#"{"auths": {
                "https://index.docker.io/v1/": {"auth": "aHViOnA="},
                "quay.io": {"username": "quay", "password": "p"},
                "quay.io/team": {"username": "team", "password": "p"},
                "*.example.com": {"username": "star", "password": "p"},
                "localhost:5000": {"username": "local", "password": "p"},
                "helper.io": {}
            }}"#,
        );
        assert_eq!(users(&keyring, "busybox"), ["hub"]);
        assert_eq!(users(&keyring, "library/busybox"), ["hub"]);
        assert_eq!(users(&keyring, "docker.io/library/busybox"), ["hub"]);
        assert_eq!(users(&keyring, "quay.io/team/app"), ["team", "quay"]);
        assert_eq!(users(&keyring, "quay.io/other"), ["quay"]);
        assert_eq!(users(&keyring, "a.example.com/x"), ["star"]);
        assert_eq!(users(&keyring, "localhost:5000/x"), ["local"]);
        for none in
            ["example.com/x", "b.a.example.com/x", "localhost:1/x", "ghcr.io/x", "helper.io/x"]
        {
            assert_eq!(users(&keyring, none), Vec::<String>::new(), "{none}");
        }
        assert_eq!(keyring.lookup("busybox")[0].password, "p");
    }

    #[test]
    fn old_secrets_and_wrong_ones() {
        let mut keyring = Keyring::default();
        let mut add = |kind: &str, key: &str, text: &str| {
            let data = BTreeMap::from([(key.to_owned(), text.as_bytes().to_vec())]);
            keyring.add_secret(kind, &data).map_err(|error| error.to_string())
        };
        let cfg = r#"{"quay.io": {"auth": "dTpw"}}"#;
        assert_eq!(add("kubernetes.io/dockercfg", ".dockercfg", cfg), Ok(()));
        assert_eq!(add("Opaque", "x", "y"), Ok(()));
        let json = "kubernetes.io/dockerconfigjson";
        assert!(add(json, "x", "y").unwrap_err().contains("no .dockerconfigjson"));
        assert!(add(json, ".dockerconfigjson", "{").unwrap_err().contains("not a docker"));
        let bad = r#"{"auths": {"quay.io": {"auth": "dQ=="}}}"#;
        assert!(add(json, ".dockerconfigjson", bad).unwrap_err().contains("USER:PASSWORD"));
        assert_eq!(users(&keyring, "quay.io/x"), ["u"]);
    }

    #[test]
    fn paths_and_versions() {
        for (server, expected) in [
            ("https://index.docker.io/v1/", "index.docker.io"),
            ("http://r.io/v2/", "r.io"),
            ("r.io/v1/team", "r.io/team"),
            ("r.io/v1team", "r.io/v1team"),
            ("r.io:5000", "r.io:5000"),
        ] {
            assert_eq!(key(server), expected);
        }
        assert!(glob("a*c", "abbc") && glob("*", "") && !glob("a*c", "ab"));
    }
}
