//! One request, from its headers to its answer's.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use http::header::{CONNECTION, EXPECT, UPGRADE};
use http::{HeaderValue, Request, Response, StatusCode, Version};
use hyper::body::{Body as _, Incoming};
use tokio_util::sync::CancellationToken;

use super::Shared;
use super::audit::Record;
use super::counters::add;
use super::peers::Membership;
use super::reply::Reply;
use super::tunnel;
use crate::config::{Limits, Mode};
use crate::refusal::Refusal;
use crate::rules::{self, Caller, Upgrade, Wishes};
use crate::upstream::{SendError, Sending, Sent, Upload};

/// Answers `request` of `peer`.
pub(crate) async fn handle(
    shared: Arc<Shared>,
    peer: Arc<Membership>,
    request: Request<Incoming>,
) -> Result<Response<Reply>, Infallible> {
    let ticket = peer.ticket(shared.limits.requests_per_peer);
    let too_many = ticket.is_none();
    let mut record = Record::new(&shared, &peer, ticket, request.method(), request.uri());
    let version = request.version();
    let has_body = !request.body().is_end_stream();
    let answer = if too_many {
        Err(Refusal::too_many_requests(format!(
            "peer {} has {} requests under way, which is as many as it may",
            peer.address, shared.limits.requests_per_peer
        )))
    } else if let Some(refusal) = too_large(&request, &shared.limits) {
        Err(refusal)
    } else {
        send(&shared, &peer, request, &mut record).await
    };
    let body_is_in =
        record.upload.as_ref().map_or(!has_body, |upload| upload.whole.load(Ordering::Relaxed));
    if !body_is_in {
        peer.answered_early.store(true, Ordering::Relaxed);
    }
    let mut response = match answer {
        Ok(Answered::Response(response)) => answered(&shared, record, response),
        Ok(Answered::RefusedUpgrade(response)) => {
            let (mut parts, download) = response.into_parts();
            note(&mut record, &parts);
            rules::answer(&mut parts, None);
            parts.headers.insert(CONNECTION, CLOSE);
            let end = tokio::time::sleep(shared.timeouts.refused_upgrade);
            Response::from_parts(parts, Reply::until(end, false, download, record))
        }
        Ok(Answered::Tunnel(tunnel)) => {
            let (mut parts, ()) = tunnel.response.into_parts();
            note(&mut record, &parts);
            rules::answer(&mut parts, Some(tunnel.upgrade));
            shared.tasks.spawn(tunnel::run(
                tunnel.client,
                tunnel.upstream,
                tunnel.first,
                peer,
                record,
            ));
            Response::from_parts(parts, Reply::own(bytes::Bytes::new(), None))
        }
        Err(refusal) => {
            record.code = Some(refusal.code);
            let (mut parts, body) = refusal.response().into_parts();
            // Who sends malformed requests may send more behind them.
            let closes = [StatusCode::BAD_REQUEST, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE];
            if closes.contains(&refusal.code) {
                parts.headers.insert(CONNECTION, CLOSE);
            }
            record.sent = body.len() as u64;
            Response::from_parts(parts, Reply::own(body, Some(record)))
        }
    };
    if version == Version::HTTP_2 {
        response.headers_mut().remove(CONNECTION);
        *response.version_mut() = version;
    }
    Ok(response)
}

/// Why a request has too many headers, or too large ones.
fn too_large(request: &Request<Incoming>, limits: &Limits) -> Option<Refusal> {
    // With ": " and a line end each, as they came.
    let size =
        |(name, value): (&http::HeaderName, &HeaderValue)| name.as_str().len() + value.len() + 4;
    let bytes: usize = request.headers().iter().map(size).sum();
    let count = request.headers().len();
    let refuse = |message| Some(Refusal::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, message));
    if count > limits.headers {
        return refuse(format!(
            "the request has {count} headers, and {} are the most",
            limits.headers
        ));
    }
    if bytes > limits.header_bytes {
        let most = limits.header_bytes;
        return refuse(format!(
            "the request's headers have {bytes} bytes, and {most} are the most"
        ));
    }
    None
}

enum Answered {
    Response(Response<crate::upstream::Download>),
    RefusedUpgrade(Response<crate::upstream::Download>),
    Tunnel(Box<Opened>),
}

/// A tunnel that the API server has agreed to.
struct Opened {
    response: Response<()>,
    upgrade: Upgrade,
    client: hyper::upgrade::OnUpgrade,
    upstream: crate::upstream::Link,
    first: bytes::Bytes,
}

async fn send(
    shared: &Shared,
    peer: &Membership,
    mut request: Request<Incoming>,
    record: &mut Record,
) -> Result<Answered, Refusal> {
    let failed = |error: SendError| {
        if !matches!(error, SendError::Client(_)) {
            add(&shared.counters.upstream_errors, 1);
            tracing::warn!(%error, peer = %peer.address, "The API server did not answer");
        }
        error.refusal()
    };
    let upstream = shared.upstream.load_full();
    let credential;
    let caller = match &shared.mode {
        Mode::NoAuth => Caller::Own,
        Mode::Auth { .. } => {
            credential = upstream.credential().await.map_err(failed)?;
            // After the credential, which may take its time: who the peer is now.
            let user = shared.identities.load().lookup(peer.address, Instant::now())?.clone();
            Caller::Impersonated { user: record.user.insert(user), credential: credential.as_ref() }
        }
    };
    let client = request.headers().contains_key(UPGRADE).then(|| hyper::upgrade::on(&mut request));
    let (parts, body) = request.into_parts();
    let version = parts.version;
    let (head, wishes) =
        rules::forward(parts, peer.address, caller, &shared.hosts, upstream.authority())?;
    let (request, mut sending) = with_body(head, body, version, &wishes, record)?;
    sending.lane = peer.lane.as_ref().map_or(0, |lane| lane.number);
    let sent = upstream.send(request, &sending).await.map_err(failed)?;
    let bad_gateway = |what: &str| {
        add(&shared.counters.upstream_errors, 1);
        Refusal::new(StatusCode::BAD_GATEWAY, what)
    };
    match (sent, wishes.upgrade, client) {
        (Sent::Answer(response), None, _) => Ok(Answered::Response(response)),
        (Sent::Answer(response), Some(_), _) => Ok(Answered::RefusedUpgrade(response)),
        (Sent::Tunnel(response, link, first), Some(upgrade), Some(client)) => {
            let agreed = response.headers().get(UPGRADE).is_some_and(|token| {
                token.as_bytes().eq_ignore_ascii_case(upgrade.token().as_bytes())
            });
            if !agreed {
                return Err(bad_gateway("the API server changed to another protocol than asked"));
            }
            Ok(Answered::Tunnel(Box::new(Opened {
                response,
                upgrade,
                client,
                upstream: link,
                first,
            })))
        }
        (Sent::Tunnel(..), ..) => {
            Err(bad_gateway("the API server changed the protocol without being asked"))
        }
    }
}

/// The request as it is sent on, and how.
fn with_body(
    head: Request<()>,
    body: Incoming,
    version: Version,
    wishes: &Wishes,
    record: &mut Record,
) -> Result<(Request<Upload>, Sending), Refusal> {
    let mut sending = Sending {
        patient: record.info.is_long_running(),
        upgrade: wishes.upgrade.is_some(),
        ..Sending::default()
    };
    if body.is_end_stream() {
        let mut request = head.map(|()| Upload::empty());
        request.headers_mut().remove(EXPECT);
        return Ok((request, sending));
    }
    if sending.upgrade {
        // Where would the body end and the tunnel begin?
        return Err(Refusal::bad_request("a request for an upgrade has a body"));
    }
    let waits = wishes.expects_continue && version == Version::HTTP_11;
    let gate = waits.then(CancellationToken::new);
    let (upload, progress) = Upload::new(body, gate.as_ref());
    let mut request = head.map(|()| upload);
    if gate.is_none() {
        request.headers_mut().remove(EXPECT);
    }
    sending.gate = gate;
    sending.progress = Some(Arc::clone(&progress));
    record.upload = Some(progress);
    Ok((request, sending))
}

fn answered(
    shared: &Shared,
    mut record: Box<Record>,
    response: Response<crate::upstream::Download>,
) -> Response<Reply> {
    let (mut parts, download) = response.into_parts();
    note(&mut record, &parts);
    rules::answer(&mut parts, None);
    let reply = if record.info.verb == "watch" {
        // A watch may end at any time, and its client then begins another, elsewhere.
        Reply::until(shared.cut.clone().cancelled_owned(), true, download, record)
    } else {
        Reply::passed(download, record)
    };
    Response::from_parts(parts, reply)
}

fn note(record: &mut Record, parts: &http::response::Parts) {
    record.code = Some(parts.status);
    record.audit_id = parts.headers.get("audit-id").cloned();
}

const CLOSE: HeaderValue = HeaderValue::from_static("close");
