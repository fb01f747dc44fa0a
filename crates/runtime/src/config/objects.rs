//! ConfigMaps and Secrets that pods refer to.

use std::collections::BTreeMap;
use std::sync::Arc;

use holdfast_manifest::object::{ConfigMap, Object, Secret};

/// The ConfigMaps and Secrets that are known, by namespace and name. There is no API server: they
/// come from the manifest that is run.
#[derive(Clone, Debug, Default)]
pub struct Objects {
    config_maps: BTreeMap<(String, String), Arc<ConfigMap>>,
    secrets: BTreeMap<(String, String), Arc<Secret>>,
}

/// A ConfigMap or Secret that is not there, in the API server's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotFound {
    /// A ConfigMap.
    #[error("configmap {0:?} not found")]
    ConfigMap(String),
    /// A Secret.
    #[error("secret {0:?} not found")]
    Secret(String),
}

impl Objects {
    /// Takes the ConfigMaps and Secrets of a manifest.
    pub fn new<'a>(objects: impl IntoIterator<Item = &'a Object>) -> Self {
        let mut all = Self::default();
        for object in objects {
            match object {
                Object::ConfigMap(map) => all.insert_config_map(map.clone()),
                Object::Secret(secret) => all.insert_secret(secret.clone()),
                _ => {}
            }
        }
        all
    }

    /// Adds or replaces a ConfigMap.
    pub fn insert_config_map(&mut self, map: ConfigMap) {
        self.config_maps.insert(key(&map.metadata), Arc::new(map));
    }

    /// Adds or replaces a Secret.
    pub fn insert_secret(&mut self, secret: Secret) {
        self.secrets.insert(key(&secret.metadata), Arc::new(secret));
    }

    /// Removes a ConfigMap; whether it was there.
    pub fn remove_config_map(&mut self, namespace: &str, name: &str) -> bool {
        self.config_maps.remove(&(namespace.to_owned(), name.to_owned())).is_some()
    }

    /// Finds a ConfigMap.
    ///
    /// # Errors
    /// [`NotFound`].
    pub fn config_map(&self, namespace: &str, name: &str) -> Result<&ConfigMap, NotFound> {
        self.config_maps
            .get(&(namespace.to_owned(), name.to_owned()))
            .map(|map| &**map)
            .ok_or_else(|| NotFound::ConfigMap(name.to_owned()))
    }

    /// Finds a Secret.
    ///
    /// # Errors
    /// [`NotFound`].
    pub fn secret(&self, namespace: &str, name: &str) -> Result<&Secret, NotFound> {
        self.secrets
            .get(&(namespace.to_owned(), name.to_owned()))
            .map(|secret| &**secret)
            .ok_or_else(|| NotFound::Secret(name.to_owned()))
    }
}

fn key(meta: &holdfast_manifest::object::ObjectMeta) -> (String, String) {
    let namespace = if meta.namespace.is_empty() { "default" } else { &meta.namespace };
    (namespace.to_owned(), meta.name.clone())
}
