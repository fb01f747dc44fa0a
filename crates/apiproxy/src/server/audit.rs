//! One line for each request, to the `tracing` target `audit`, when it has ended; for tunnels one more when
//! they begin. Written when the record is dropped, so that no way out of a request is without.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use http::{HeaderValue, Method, StatusCode, Uri};

use super::Shared;
use super::counters::{add, less};
use super::peers::{Membership, Ticket};
use crate::identity::Impersonation;
use crate::request_info::RequestInfo;
use crate::upstream::Progress;

/// What is known of a request under way.
pub(crate) struct Record {
    shared: Arc<Shared>,
    peer: Arc<Membership>,
    _ticket: Option<Ticket>,
    started: Instant,
    method: Method,
    uri: Uri,
    pub(crate) info: RequestInfo,
    pub(crate) user: Option<Arc<Impersonation>>,
    pub(crate) code: Option<StatusCode>,
    pub(crate) audit_id: Option<HeaderValue>,
    pub(crate) upload: Option<Arc<Progress>>,
    pub(crate) sent: u64,
    pub(crate) received: u64,
    /// Why it ended otherwise than by itself.
    pub(crate) ended_by: Option<&'static str>,
    is_tunnel: bool,
}

impl Record {
    pub(crate) fn new(
        shared: &Arc<Shared>,
        peer: &Arc<Membership>,
        ticket: Option<Ticket>,
        method: &Method,
        uri: &Uri,
    ) -> Box<Self> {
        add(&shared.counters.in_flight, 1);
        Box::new(Self {
            info: RequestInfo::new(method, uri.path(), uri.query()),
            shared: Arc::clone(shared),
            peer: Arc::clone(peer),
            _ticket: ticket,
            started: Instant::now(),
            method: method.clone(),
            uri: uri.clone(),
            user: None,
            code: None,
            audit_id: None,
            upload: None,
            sent: 0,
            received: 0,
            ended_by: None,
            is_tunnel: false,
        })
    }

    /// The request has become a tunnel.
    pub(crate) fn tunnel(&mut self) {
        self.is_tunnel = true;
        add(&self.shared.counters.tunnels, 1);
        add(&self.shared.counters.tunnels_total, 1);
        self.write("ResponseStarted");
    }

    fn write(&self, stage: &'static str) {
        let identity = self.user.as_deref().map(Impersonation::identity);
        let groups = identity.map_or(&[][..], |identity| &identity.groups);
        let info = &self.info;
        tracing::info!(
            target: "audit",
            stage,
            peer = %self.peer.address,
            user = identity.map_or("", |identity| identity.user.as_str()),
            groups = ?groups,
            verb = info.verb,
            group = info.group,
            resource = info.resource,
            subresource = info.subresource,
            namespace = info.namespace,
            name = info.name,
            method = %self.method,
            uri = %self.uri.path_and_query().map_or("", |path| path.as_str()),
            code = self.code.map_or(0, |code| code.as_u16()),
            received = self.received,
            sent = self.sent,
            duration_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX),
            audit_id = self.audit_id.as_ref().and_then(|id| id.to_str().ok()).unwrap_or(""),
            ended_by = self.ended_by.unwrap_or(""),
        );
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        if let Some(upload) = &self.upload {
            self.received += upload.bytes.load(Ordering::Relaxed);
        }
        if self.ended_by.is_none() && self.peer.end.is_cancelled() {
            self.ended_by = Some("proxy");
        }
        let counters = &self.shared.counters;
        less(&counters.in_flight);
        if self.is_tunnel {
            less(&counters.tunnels);
        }
        counters.request(self.code);
        add(&counters.received, self.received);
        add(&counters.sent, self.sent);
        self.write("ResponseComplete");
    }
}
