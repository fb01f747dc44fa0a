//! The small API server beside the proxy: `/health` and `/ready`, as the Netmaker operator has them, but
//! with true answers.

use std::sync::Arc;

use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;

use crate::health::{Endpoint, not_found};
use crate::serve::{Answer, Body, typed};

pub(crate) struct Api {
    /// What `/ready` is an extract of.
    pub(crate) ready: Arc<Endpoint>,
}

impl Answer for Api {
    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        if request.method() != Method::GET {
            return not_found();
        }
        match request.uri().path() {
            "/health" => say(StatusCode::OK, "healthy", None),
            "/ready" => {
                let faults = self.ready.faults();
                let status = match faults.is_empty() {
                    true => return say(StatusCode::OK, "ready", None),
                    false => StatusCode::SERVICE_UNAVAILABLE,
                };
                // Peers get the names of what fails; the reasons are for those who may ask for health.
                let names: Vec<&str> = faults.iter().map(|(name, _)| *name).collect();
                say(status, "not ready", Some(names.join(", ")))
            }
            _ => not_found(),
        }
    }
}

/// Keys in the order in which gin writes them.
fn say(code: StatusCode, status: &str, failing: Option<String>) -> Response<Body> {
    let mut body = serde_json::Map::new();
    body.insert("api".to_owned(), "netmaker-k8s-api".into());
    if let Some(failing) = failing {
        body.insert("failing".to_owned(), failing.into());
    }
    body.insert("status".to_owned(), status.into());
    let text = serde_json::Value::Object(body).to_string();
    typed(code, "application/json; charset=utf-8", text)
}
