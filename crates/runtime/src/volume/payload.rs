//! What is in the files of configMap, secret, downwardAPI and projected volumes.

use std::path::PathBuf;

use holdfast_manifest::object::volume::{
    ConfigMapSource, DownwardApiFile, DownwardApiSource, KeyToPath, ProjectedSource, SecretSource,
};
use holdfast_manifest::object::{ConfigMap, Secret};

use super::atomic::{Payload, Projected};
use crate::config::{NotFound, Objects, PodView};

/// Kubernetes' default of every `defaultMode`.
const DEFAULT_MODE: i32 = 0o644;

/// Looks the sources of a pod's volumes up.
pub(super) struct Collector<'a> {
    pub(super) view: PodView<'a>,
    pub(super) objects: &'a Objects,
}

impl Collector<'_> {
    fn namespace(&self) -> &str {
        &self.view.pod.metadata.namespace
    }

    pub(super) fn config_map(&self, source: &ConfigMapSource) -> Result<Payload, String> {
        let mode = source.default_mode.unwrap_or(DEFAULT_MODE);
        self.config_map_keys(&source.name, &source.items, source.optional, mode)
    }

    pub(super) fn secret(&self, source: &SecretSource) -> Result<Payload, String> {
        let mode = source.default_mode.unwrap_or(DEFAULT_MODE);
        self.secret_keys(&source.secret_name, &source.items, source.optional, mode)
    }

    pub(super) fn downward(&self, source: &DownwardApiSource) -> Result<Payload, String> {
        self.downward_files(&source.items, source.default_mode.unwrap_or(DEFAULT_MODE))
    }

    /// All sources of a projected volume; a later one wins where two bring the same path
    /// (kubelet: `collectData`).
    pub(super) fn projected(&self, source: &ProjectedSource) -> Result<Payload, String> {
        let mode = source.default_mode.unwrap_or(DEFAULT_MODE);
        let mut payload = Payload::new();
        let mut errors = Vec::new();
        for part in &source.sources {
            let files = if let Some(secret) = &part.secret {
                self.secret_keys(&secret.name, &secret.items, secret.optional, mode)
            } else if let Some(map) = &part.config_map {
                self.config_map_keys(&map.name, &map.items, map.optional, mode)
            } else if let Some(downward) = &part.downward_api {
                self.downward_files(&downward.items, mode)
            } else if part.service_account_token.is_some() {
                Err("serviceAccountToken needs an API server to issue the token".into())
            } else if part.cluster_trust_bundle.is_some() {
                Err("clusterTrustBundle needs an API server to read it from".into())
            } else if part.pod_certificate.is_some() {
                Err("podCertificate needs an API server to issue it".into())
            } else {
                Ok(Payload::new())
            };
            match files {
                Ok(files) => payload.extend(files),
                Err(err) => errors.push(err),
            }
        }
        match errors.as_slice() {
            [] => Ok(payload),
            [one] => Err(one.clone()),
            many => Err(format!("[{}]", many.join(", "))),
        }
    }

    fn config_map_keys(
        &self,
        name: &str,
        items: &[KeyToPath],
        optional: Option<bool>,
        mode: i32,
    ) -> Result<Payload, String> {
        let optional = optional == Some(true);
        let empty = ConfigMap::default();
        let map = found(self.objects.config_map(self.namespace(), name), optional, &empty)?;
        let get = |key: &str| {
            let text = map.data.get(key).map(String::as_bytes);
            text.or_else(|| map.binary_data.get(key).map(|data| data.0.as_slice()))
        };
        let keys = map.data.keys().chain(map.binary_data.keys());
        let missing = |key: &str| format!("configmap references non-existent config key: {key}");
        files(items, keys, get, optional, mode, missing)
    }

    fn secret_keys(
        &self,
        name: &str,
        items: &[KeyToPath],
        optional: Option<bool>,
        mode: i32,
    ) -> Result<Payload, String> {
        let optional = optional == Some(true);
        let empty = Secret::default();
        let secret = found(self.objects.secret(self.namespace(), name), optional, &empty)?;
        // `stringData` wins, in case nobody has moved it into `data` yet.
        let get = |key: &str| {
            let text = secret.string_data.get(key).map(String::as_bytes);
            text.or_else(|| secret.data.get(key).map(|data| data.0.as_slice()))
        };
        let keys = secret.data.keys().chain(secret.string_data.keys());
        let missing = |key: &str| format!("references non-existent secret key: {key}");
        files(items, keys, get, optional, mode, missing)
    }

    fn downward_files(&self, items: &[DownwardApiFile], mode: i32) -> Result<Payload, String> {
        let mut payload = Payload::new();
        for item in items {
            let value = if let Some(field) = &item.field_ref {
                self.view.field(field)
            } else if let Some(resource) = &item.resource_field_ref {
                self.view.resource(resource, None)
            } else {
                continue;
            };
            let data = value.map_err(|err| err.to_string())?.into_bytes();
            let mode = bits(item.mode.unwrap_or(mode));
            payload.insert(clean(&item.path), Projected { data, mode });
        }
        Ok(payload)
    }
}

/// The object, or an empty one if it may be missing.
fn found<'a, T>(
    object: Result<&'a T, NotFound>,
    optional: bool,
    empty: &'a T,
) -> Result<&'a T, String> {
    match object {
        Err(_) if optional => Ok(empty),
        other => other.map_err(|err| err.to_string()),
    }
}

/// All keys, or those of `items`.
fn files<'a>(
    items: &[KeyToPath],
    keys: impl Iterator<Item = &'a String>,
    get: impl Fn(&str) -> Option<&'a [u8]>,
    optional: bool,
    mode: i32,
    missing: impl Fn(&str) -> String,
) -> Result<Payload, String> {
    let file = |data: &[u8], mode: i32| Projected { data: data.to_vec(), mode: bits(mode) };
    if items.is_empty() {
        let all = keys.filter_map(|key| Some((PathBuf::from(key), file(get(key)?, mode))));
        return Ok(all.collect());
    }
    let mut payload = Payload::new();
    for item in items {
        match get(&item.key) {
            Some(data) => {
                payload.insert(clean(&item.path), file(data, item.mode.unwrap_or(mode)));
            }
            None if optional => {}
            None => return Err(missing(&item.key)),
        }
    }
    Ok(payload)
}

fn bits(mode: i32) -> u32 {
    mode.cast_unsigned() & 0o777
}

/// The path without `.` and doubled slashes; `..` stays, to be refused by the writer.
fn clean(path: &str) -> PathBuf {
    std::path::Path::new(path).components().collect()
}
