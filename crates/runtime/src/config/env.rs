//! The environment of a container.

use std::collections::HashMap;

use holdfast_manifest::object::container::{Container, EnvVar, EnvVarSource};

use super::downward::{DownwardError, PodView};
use super::expansion::expand;
use super::objects::{NotFound, Objects};

/// A variable that cannot be made, in Kubernetes' words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnvError {
    /// A ConfigMap or Secret is not there.
    #[error(transparent)]
    NotFound(#[from] NotFound),
    /// A ConfigMap or Secret has no such key.
    #[error("couldn't find key {key} in {kind} {namespace}/{name}")]
    NoKey {
        /// The key.
        key: String,
        /// `ConfigMap` or `Secret`.
        kind: &'static str,
        /// Namespace of the pod.
        namespace: String,
        /// Name of the object.
        name: String,
    },
    /// A field or resource has no value.
    #[error(transparent)]
    Downward(#[from] DownwardError),
    /// `fileKeyRef`.
    #[error("environment variable {0}: fileKeyRef is not supported")]
    FileKey(String),
    /// No process can have such a variable.
    #[error("environment variable {0:?} has a NUL byte in its name or value, or `=` in its name")]
    Unusable(String),
}

/// Variables in the order they were first set, each name once.
#[derive(Clone, Debug, Default)]
pub(super) struct Env {
    list: Vec<(String, String)>,
    places: HashMap<String, usize>,
}

impl Env {
    pub(super) fn set(&mut self, name: &str, value: String) {
        match self.places.get(name) {
            Some(&place) => self.list[place].1 = value,
            None => {
                self.places.insert(name.to_owned(), self.list.len());
                self.list.push((name.to_owned(), value));
            }
        }
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.places.get(name).map(|&place| self.list[place].1.as_str())
    }

    pub(super) fn list(&self) -> &[(String, String)] {
        &self.list
    }

    pub(super) fn into_list(self) -> Vec<(String, String)> {
        self.list
    }
}

/// The variables that the Pod gives a container: `envFrom`, then `env`
/// (kubelet: `makeEnvironmentVariables`). There are no Services here, so no variables about them and
/// no `KUBERNETES_SERVICE_HOST`.
///
/// Events that old kubelets emit are added to `events` as reason and message.
pub(super) fn of_pod(
    view: PodView<'_>,
    container: &Container,
    objects: &Objects,
    kubernetes_minor: u32,
    events: &mut Vec<(&'static str, String)>,
) -> Result<Env, EnvError> {
    let namespace = view.pod.metadata.namespace.as_str();
    let mut env = Env::default();
    for from in &container.env_from {
        // Since 1.32 (RelaxedEnvironmentVariableValidation) every key is taken.
        let strict = kubernetes_minor < 32;
        let mut skipped = Vec::new();
        let mut add = |env: &mut Env, key: &str, value: &str| {
            let name = format!("{}{key}", from.prefix);
            if strict && !is_env_var_name(&name) {
                skipped.push(name);
            } else {
                env.set(&name, value.to_owned());
            }
        };
        let (kind, name) = if let Some(source) = &from.config_map_ref {
            match objects.config_map(namespace, &source.name) {
                Ok(map) => map.data.iter().for_each(|(key, value)| add(&mut env, key, value)),
                Err(_) if source.optional == Some(true) => continue,
                Err(err) => return Err(err.into()),
            }
            ("configMap", &source.name)
        } else if let Some(source) = &from.secret_ref {
            match objects.secret(namespace, &source.name) {
                Ok(secret) => {
                    for (key, value) in &secret.data {
                        add(&mut env, key, &String::from_utf8_lossy(&value.0));
                    }
                    secret.string_data.iter().for_each(|(key, value)| add(&mut env, key, value));
                }
                Err(_) if source.optional == Some(true) => continue,
                Err(err) => return Err(err.into()),
            }
            ("secret", &source.name)
        } else {
            continue;
        };
        if !skipped.is_empty() {
            skipped.sort();
            let keys = skipped.join(", ");
            events.push((
                "InvalidEnvironmentVariableNames",
                format!(
                    "Keys [{keys}] from the EnvFrom {kind} {namespace}/{name} were skipped since they \
                     are considered invalid environment variable names."
                ),
            ));
        }
    }
    for variable in &container.env {
        if let Some(value) = value(view, container, objects, variable, &env)? {
            env.set(&variable.name, value);
        }
    }
    for (name, value) in &env.list {
        if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
            return Err(EnvError::Unusable(name.clone()));
        }
    }
    Ok(env)
}

/// The value of one entry of `env`; `None` if it is optional and missing.
fn value(
    view: PodView<'_>,
    container: &Container,
    objects: &Objects,
    variable: &EnvVar,
    env: &Env,
) -> Result<Option<String>, EnvError> {
    if !variable.value.is_empty() {
        return Ok(Some(expand(&variable.value, |name| env.get(name).map(str::to_owned))));
    }
    let Some(source) = &variable.value_from else { return Ok(Some(String::new())) };
    let namespace = view.pod.metadata.namespace.as_str();
    let no_key = |kind, key: &str, name: &str| EnvError::NoKey {
        key: key.to_owned(),
        kind,
        namespace: namespace.to_owned(),
        name: name.to_owned(),
    };
    match source {
        EnvVarSource { field_ref: Some(field), .. } => Ok(Some(view.field(field)?)),
        EnvVarSource { resource_field_ref: Some(resource), .. } => {
            Ok(Some(view.resource(resource, Some(container))?))
        }
        EnvVarSource { config_map_key_ref: Some(r), .. } => {
            let found = objects.config_map(namespace, &r.name);
            let found = found.map(|map| map.data.get(&r.key).cloned());
            optional(found, r.optional, || no_key("ConfigMap", &r.key, &r.name))
        }
        EnvVarSource { secret_key_ref: Some(r), .. } => {
            let found = objects.secret(namespace, &r.name).map(|secret| {
                let bytes = || secret.data.get(&r.key).map(|value| value.0.as_slice());
                let text = secret.string_data.get(&r.key).cloned();
                text.or_else(|| bytes().map(|bytes| String::from_utf8_lossy(bytes).into_owned()))
            });
            optional(found, r.optional, || no_key("Secret", &r.key, &r.name))
        }
        EnvVarSource { file_key_ref: Some(_), .. } => Err(EnvError::FileKey(variable.name.clone())),
        _ => Ok(Some(String::new())),
    }
}

/// What is missing is an error unless it may be.
fn optional(
    found: Result<Option<String>, NotFound>,
    optional: Option<bool>,
    no_key: impl FnOnce() -> EnvError,
) -> Result<Option<String>, EnvError> {
    match found {
        Ok(Some(value)) => Ok(Some(value)),
        _ if optional == Some(true) => Ok(None),
        Ok(None) => Err(no_key()),
        Err(err) => Err(err.into()),
    }
}

/// The rule of old versions (`validation.IsEnvVarName`).
fn is_env_var_name(name: &str) -> bool {
    let ok = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
    !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.bytes().all(ok)
        && !matches!(name, "." | "..")
        && !name.starts_with("..")
}
