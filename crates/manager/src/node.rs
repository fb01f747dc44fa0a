//! Labels and annotations of a Node, read once: what the downward API does not tell a pod.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::Node;
use kube::api::{Api, PartialObjectMeta};
use tokio::time::Instant;

use crate::election::chain;

/// What somebody has written on a Node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeMetadata {
    /// `metadata.labels`.
    pub labels: BTreeMap<String, String>,
    /// `metadata.annotations`.
    pub annotations: BTreeMap<String, String>,
}

/// Why they are not known.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// Nothing says where the API server is.
    #[error(
        "no way to the API server: {0}; in a pod this takes a service account whose token is mounted \
         (automountServiceAccountToken: true), elsewhere a kubeconfig (KUBECONFIG)"
    )]
    NoWay(String),
    /// A right is missing.
    #[error(
        "may not read node {name:?} (the API server says: {said}): bind the service account to a ClusterRole with \
         {{apiGroups: [\"\"], resources: [nodes], resourceNames: [{name}], verbs: [get]}}, without resourceNames \
         if it may be any node"
    )]
    Forbidden {
        /// The Node.
        name: String,
        /// The API server's words.
        said: String,
    },
    /// There is no such Node.
    #[error(
        "there is no node {0:?}: in a pod its name comes from the downward API (env NODE_NAME, \
         valueFrom.fieldRef.fieldPath: spec.nodeName)"
    )]
    NotFound(String),
    /// No answer that helps.
    #[error("cannot read node {name:?} from the API server within {} s: {cause}", within.as_secs())]
    Failed {
        /// The Node.
        name: String,
        /// How long it was tried.
        within: Duration,
        /// What came of the last try.
        cause: String,
    },
}

/// Reads them, with the service account of this pod, or a kubeconfig. While the API server does not answer,
/// as when the pod's network is not up yet, it is asked again within `limit`.
///
/// # Errors
/// See [`NodeError`].
pub async fn read(name: &str, limit: Duration) -> Result<NodeMetadata, NodeError> {
    // Somebody has installed one before, or this is it; both will do.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let config = kube::Config::infer().await.map_err(|e| NodeError::NoWay(e.to_string()))?;
    let client = kube::Client::try_from(config).map_err(|e| NodeError::NoWay(chain(&e)))?;
    let nodes: Api<Node> = Api::all(client);
    let failed = |cause| NodeError::Failed { name: name.to_owned(), within: limit, cause };
    let end = Instant::now() + limit;
    let mut last = "no answer".to_owned();
    loop {
        let answer = match tokio::time::timeout_at(end, nodes.get_metadata(name)).await {
            Ok(answer) => answer,
            Err(_) => return Err(failed(last)),
        };
        last = match answer {
            Ok(PartialObjectMeta { metadata, .. }) => {
                let labels = metadata.labels.unwrap_or_default();
                let annotations = metadata.annotations.unwrap_or_default();
                return Ok(NodeMetadata { labels, annotations });
            }
            Err(kube::Error::Api(status)) => match status.code {
                403 => {
                    let (name, said) = (name.to_owned(), status.message.clone());
                    return Err(NodeError::Forbidden { name, said });
                }
                404 => return Err(NodeError::NotFound(name.to_owned())),
                429 | 500.. => status.message.clone(),
                _ => return Err(failed(status.message.clone())),
            },
            Err(error) => chain(&error),
        };
        if Instant::now() + AGAIN >= end {
            return Err(failed(last));
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// Between tries: nothing tells when an API server can be reached.
const AGAIN: Duration = Duration::from_millis(500);
