//! Headers that belong to one connection and not to the message (RFC 9110, 7.6.1), and upgrades.

use http::header::{CONNECTION, HeaderName, TE, TRAILER, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderValue};

use crate::refusal::Refusal;

/// A protocol to which a connection may change. All others are refused: after `h2c`, say, requests would
/// follow that no rule has seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upgrade {
    /// exec, attach, cp, port-forward of kubectl up to 1.29 and as a fallback.
    Spdy,
    /// The same since 1.30, and watches.
    WebSocket,
}

impl Upgrade {
    /// The token as it is sent on.
    pub fn token(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Spdy => "SPDY/3.1",
            Self::WebSocket => "websocket",
        })
    }
}

/// Which upgrade the request asks for.
///
/// # Errors
///
/// 400 for a token that is not allowed, or several.
pub(super) fn upgrade(headers: &HeaderMap) -> Result<Option<Upgrade>, Refusal> {
    let asked = tokens(headers, &CONNECTION).any(|token| token.eq_ignore_ascii_case(b"upgrade"));
    let mut upgrade = None;
    for token in tokens(headers, &UPGRADE) {
        let this = if token.eq_ignore_ascii_case(b"websocket") {
            Upgrade::WebSocket
        } else if token.eq_ignore_ascii_case(b"spdy/3.1") {
            Upgrade::Spdy
        } else {
            return Err(Refusal::bad_request(format!(
                "an upgrade to {:?} is not allowed: only to websocket and SPDY/3.1",
                String::from_utf8_lossy(token)
            )));
        };
        if upgrade.replace(this).is_some() {
            return Err(Refusal::bad_request("the request asks for two upgrades"));
        }
    }
    Ok(upgrade.filter(|_| asked))
}

/// Removes what `Connection` names, and what is of one connection even if not named.
pub(super) fn remove(headers: &mut HeaderMap) {
    if headers.contains_key(CONNECTION) {
        let named: Vec<HeaderName> = tokens(headers, &CONNECTION)
            .filter_map(|token| HeaderName::from_bytes(token).ok())
            .collect();
        for name in named {
            headers.remove(name);
        }
        headers.remove(CONNECTION);
    }
    for name in [TE, TRAILER, TRANSFER_ENCODING, UPGRADE] {
        headers.remove(name);
    }
    headers.remove("keep-alive");
    remove_all(headers, |name| name.starts_with("proxy-"));
}

/// Removes every header whose name (in lower case) is `unwanted`.
pub(super) fn remove_all(headers: &mut HeaderMap, unwanted: impl Fn(&str) -> bool) {
    let names: Vec<HeaderName> =
        headers.keys().filter(|name| unwanted(name.as_str())).cloned().collect();
    for name in names {
        headers.remove(name);
    }
}

fn tokens<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a [u8]> {
    headers
        .get_all(name)
        .into_iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|token| !token.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(headers: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_static(value));
        }
        map
    }

    #[test]
    fn only_websocket_and_spdy_are_upgrades() {
        let of = |connection, token| {
            upgrade(&map(&[("connection", connection), ("upgrade", token)]))
                .map_err(|refusal| refusal.code.as_u16())
        };
        assert_eq!(of("Upgrade", "websocket"), Ok(Some(Upgrade::WebSocket)));
        assert_eq!(of("keep-alive, upgrade", "WebSocket"), Ok(Some(Upgrade::WebSocket)));
        assert_eq!(of("Upgrade", "SPDY/3.1"), Ok(Some(Upgrade::Spdy)));
        assert_eq!(of("close", "SPDY/3.1"), Ok(None));
        for token in
            ["h2c", "HTTP/2.0", "TLS/1.0", "SPDY/2", "websocket, h2c", "websocket,websocket"]
        {
            assert_eq!(of("Upgrade", token), Err(400), "{token}");
        }
        assert_eq!(upgrade(&map(&[("connection", "Upgrade")])), Ok(None));
        let apart = map(&[("connection", "Upgrade"), ("upgrade", "websocket"), ("upgrade", "h2c")]);
        upgrade(&apart).unwrap_err();
    }

    #[test]
    fn what_belongs_to_the_connection_goes() {
        let mut headers = map(&[
            ("connection", "close, X-One ,,"),
            ("connection", "x-two"),
            ("x-one", "1"),
            ("x-two", "2"),
            ("x-three", "3"),
            ("keep-alive", "timeout=5"),
            ("proxy-authorization", "Basic eDp5"),
            ("proxy-connection", "keep-alive"),
            ("te", "trailers"),
            ("trailer", "authorization"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
        ]);
        remove(&mut headers);
        assert_eq!(headers, map(&[("x-three", "3")]));
    }
}
