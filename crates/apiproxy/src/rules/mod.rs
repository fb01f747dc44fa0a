//! What a request looks like when it is sent on: pure functions, in the order that makes them safe.
//!
//! 1. The method, the target, the host and the upgrade are checked on the request as it came.
//! 2. What belongs to the client's connection is removed, everything that `Connection` names included.
//! 3. In auth mode everything is removed by which a client could say who it is.
//! 4. Only then the proxy's own headers are set. Nothing removes headers after that.
//!
//! Whatever cannot be done ends in a [`Refusal`], never in a request with fewer headers.

mod hop;
mod host;

use http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_LENGTH, COOKIE, EXPECT, HOST, HeaderName,
    SEC_WEBSOCKET_PROTOCOL, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, Version, request, response};
use std::net::IpAddr;

use crate::identity::Impersonation;
use crate::refusal::Refusal;

pub use hop::Upgrade;
pub use host::Hosts;

/// On whose behalf a request is sent on.
#[derive(Clone, Copy, Debug)]
pub enum Caller<'a> {
    /// auth mode: as the user that the peer's address stands for, with the proxy's own credential.
    Impersonated {
        /// The user.
        user: &'a Impersonation,
        /// The `Authorization` of the proxy itself, if it has one besides a client certificate.
        credential: Option<&'a HeaderValue>,
    },
    /// noauth mode: with what the client presents. There is no place for a credential of the proxy.
    Own,
}

/// What the headers of a forwarded request ask of whoever forwards it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wishes {
    /// The connection is to become a tunnel.
    pub upgrade: Option<Upgrade>,
    /// The client waits for `100 Continue` before it sends the body.
    pub expects_continue: bool,
}

/// Makes of a request of `peer` the one that goes to the API server at `authority`.
///
/// # Errors
///
/// A [`Refusal`] if the request is malformed, not for this proxy, or claims an identity of its own.
pub fn forward(
    request: request::Parts,
    peer: IpAddr,
    caller: Caller<'_>,
    hosts: &Hosts,
    authority: &HeaderValue,
) -> Result<(Request<()>, Wishes), Refusal> {
    let request::Parts { method, uri, version, mut headers, .. } = request;
    let target = target(&method, &uri)?;
    hosts.check(version, &uri, &headers)?;
    let wishes = Wishes {
        upgrade: match version {
            Version::HTTP_2 => None,
            _ => hop::upgrade(&headers)?,
        },
        expects_continue: expects_continue(&headers)?,
    };
    if let Caller::Impersonated { .. } = caller {
        refuse_impersonation(&headers)?;
    }

    hop::remove(&mut headers);
    // The length is that of the body as it was read, not what someone says it is.
    headers.remove(CONTENT_LENGTH);
    match caller {
        Caller::Impersonated { .. } => {
            hop::remove_all(&mut headers, |name| {
                speaks_of_origin(name) || name.starts_with("impersonate-")
            });
            headers.remove(AUTHORIZATION);
            headers.remove(COOKIE);
            remove_bearer_protocols(&mut headers)?;
        }
        Caller::Own => hop::remove_all(&mut headers, speaks_of_origin),
    }

    headers.insert(HOST, authority.clone());
    headers.insert(X_FORWARDED_FOR, peer_value(peer)?);
    if let Caller::Impersonated { user, credential } = caller {
        if let Some(credential) = credential {
            headers.insert(AUTHORIZATION, credential.clone());
        }
        for (name, value) in user.headers() {
            headers.append(name, value.clone());
        }
    }
    if let Some(upgrade) = wishes.upgrade {
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, upgrade.token());
    }
    let mut forwarded = Request::new(());
    *forwarded.method_mut() = method;
    *forwarded.uri_mut() = target;
    *forwarded.headers_mut() = headers;
    Ok((forwarded, wishes))
}

/// Makes of the API server's answer the one that goes to the client: without what belongs to the
/// connection, and without any word of CORS. The headers of an accepted upgrade are set anew.
pub fn answer(response: &mut response::Parts, upgraded: Option<Upgrade>) {
    let headers = &mut response.headers;
    if headers.contains_key(TRANSFER_ENCODING) {
        headers.remove(CONTENT_LENGTH);
    }
    hop::remove(headers);
    hop::remove_all(headers, |name| name.starts_with("access-control-"));
    response.version = Version::HTTP_11;
    if let Some(upgrade) = upgraded {
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, upgrade.token());
    }
}

/// The path and query, byte for byte as they came.
fn target(method: &Method, uri: &Uri) -> Result<Uri, Refusal> {
    // TRACE would send the proxy's own credential back to the client.
    if *method == Method::CONNECT || *method == Method::TRACE {
        return Err(Refusal::new(
            StatusCode::METHOD_NOT_ALLOWED,
            format!("the method {method} is not allowed through this proxy"),
        ));
    }
    match uri.path_and_query() {
        Some(path) if path.as_str().starts_with('/') => Ok(Uri::from(path.clone())),
        _ => Err(Refusal::bad_request("the request's target is not a path")),
    }
}

fn expects_continue(headers: &HeaderMap) -> Result<bool, Refusal> {
    let mut expects = false;
    for value in headers.get_all(EXPECT) {
        if !value.as_bytes().eq_ignore_ascii_case(b"100-continue") {
            return Err(Refusal::new(
                StatusCode::EXPECTATION_FAILED,
                format!("the expectation {value:?} is not known: only 100-continue"),
            ));
        }
        expects = true;
    }
    Ok(expects)
}

/// Someone who asks to be another user must not silently act as himself.
fn refuse_impersonation(headers: &HeaderMap) -> Result<(), Refusal> {
    let asks = |name: &&HeaderName| name.as_str().starts_with("impersonate-");
    match headers.keys().find(asks) {
        Some(name) => Err(Refusal::forbidden(format!(
            "the header {name} is not allowed: this proxy decides by the peer's address who a client is, so that --as, --as-group and --as-uid cannot be used through it"
        ))),
        None => Ok(()),
    }
}

/// Headers by which a proxy, and nobody else, says who or where the client is.
fn speaks_of_origin(name: &str) -> bool {
    name.starts_with("x-forwarded-")
        || name.starts_with("x-remote-")
        || name == "x-real-ip"
        || name == "forwarded"
}

/// A browser's way to present a bearer token (apiserver: `websocket.ProtocolAuthenticator`). An entry that
/// has the prefix anywhere goes, whatever blanks the API server would trim before it.
fn remove_bearer_protocols(headers: &mut HeaderMap) -> Result<(), Refusal> {
    const PREFIX: &[u8] = b"base64url.bearer.authorization.k8s.io";
    let bears = |entry: &[u8]| {
        let mut windows = entry.windows(PREFIX.len());
        windows.any(|window| window.eq_ignore_ascii_case(PREFIX))
    };
    let lines = headers.get_all(SEC_WEBSOCKET_PROTOCOL);
    if !lines.iter().any(|line| bears(line.as_bytes())) {
        return Ok(());
    }
    let mut kept = Vec::new();
    for line in lines {
        let entries: Vec<&[u8]> =
            line.as_bytes().split(|byte| *byte == b',').filter(|entry| !bears(entry)).collect();
        let line = entries.join(&b',');
        if !line.trim_ascii().is_empty() {
            let line = HeaderValue::from_bytes(line.trim_ascii());
            kept.push(line.map_err(|_| {
                Refusal::bad_request("the header Sec-WebSocket-Protocol is malformed")
            })?);
        }
    }
    headers.remove(SEC_WEBSOCKET_PROTOCOL);
    for line in kept {
        headers.append(SEC_WEBSOCKET_PROTOCOL, line);
    }
    Ok(())
}

fn peer_value(peer: IpAddr) -> Result<HeaderValue, Refusal> {
    HeaderValue::try_from(peer.to_canonical().to_string())
        .map_err(|_| Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "the peer has no address"))
}

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

#[cfg(test)]
mod tests;
