//! Kubernetes manifests: YAML and JSON with spans, typed objects, defaults and validation.
