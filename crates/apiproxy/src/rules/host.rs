//! For whom the request says it is, and where a browser says it comes from.
//!
//! A peer is known by its address, so whatever runs on it speaks for it, a web page in its browser too.
//! A page cannot forge `Host`, `Origin` and `Sec-Fetch-Site`, and these give it away: a page whose name was
//! re-bound to our address carries its own name in `Host`; one that calls us across origins says so.

use http::header::{HOST, ORIGIN};
use http::{HeaderMap, HeaderValue, Uri, Version};
use std::net::{Ipv4Addr, Ipv6Addr};

use crate::refusal::Refusal;

/// The names under which this proxy may be called.
///
/// Addresses are always allowed (nobody can re-bind a literal address), and so is `localhost`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hosts {
    /// Names, without a port; one that begins with a dot stands for everything that ends so.
    pub names: Vec<String>,
    /// Origins of browsers besides the proxy itself: `https://dashboard.example`.
    pub origins: Vec<String>,
    /// Whether any name is allowed.
    pub any: bool,
}

impl Hosts {
    /// Whether the request is meant for this proxy, and not sent by another site's page.
    ///
    /// # Errors
    ///
    /// 400 without exactly one well-formed host, 403 for a name or an origin that is not allowed.
    pub fn check(&self, version: Version, uri: &Uri, headers: &HeaderMap) -> Result<(), Refusal> {
        let host = host(version, uri, headers)?;
        let name = name_of(host).ok_or_else(|| {
            Refusal::bad_request(format!("the request's host {host:?} is not a host"))
        })?;
        if !self.allows(name) {
            return Err(Refusal::forbidden(format!(
                "host {name:?} is not one of the proxy's names: call it by its address, or allow the name in the proxy's configuration"
            )));
        }
        if let Some(site) = headers.get("sec-fetch-site")
            && site != "same-origin"
            && site != "none"
        {
            return Err(cross_origin(site));
        }
        for origin in headers.get_all(ORIGIN) {
            if !self.same_origin(origin, host) {
                return Err(cross_origin(origin));
            }
        }
        Ok(())
    }

    fn allows(&self, name: &str) -> bool {
        let name = name.strip_suffix('.').unwrap_or(name);
        let listed = |pattern: &String| match pattern.strip_prefix('.') {
            Some(_) => ends_with(name, pattern),
            None => name.eq_ignore_ascii_case(pattern),
        };
        self.any
            || name.eq_ignore_ascii_case("localhost")
            || is_address(name)
            || self.names.iter().any(listed)
    }

    fn same_origin(&self, origin: &HeaderValue, host: &str) -> bool {
        let Ok(origin) = origin.to_str() else {
            return false;
        };
        let authority = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
        authority.is_some_and(|authority| authority.eq_ignore_ascii_case(host))
            || self.origins.iter().any(|allowed| allowed.eq_ignore_ascii_case(origin))
    }
}

/// The one host of a request. In HTTP/1 that is the `Host` header: a target with a host is a request to a
/// forward proxy, and two hosts are an attempt to be seen differently by two readers.
fn host<'a>(version: Version, uri: &'a Uri, headers: &'a HeaderMap) -> Result<&'a str, Refusal> {
    let mut all = headers.get_all(HOST).iter();
    let header = match (all.next(), all.next()) {
        (Some(_), Some(_)) => return Err(Refusal::bad_request("the request has two Host headers")),
        (Some(value), None) => Some(
            value
                .to_str()
                .map_err(|_| Refusal::bad_request("the request's Host header is not a host"))?,
        ),
        (None, _) => None,
    };
    if version == Version::HTTP_2 {
        let authority = uri.authority().map(http::uri::Authority::as_str);
        return match (authority, header) {
            (Some(authority), Some(host)) if !authority.eq_ignore_ascii_case(host) => {
                Err(Refusal::bad_request("the request's :authority and Host differ"))
            }
            (authority, header) => authority
                .or(header)
                .ok_or_else(|| Refusal::bad_request("the request has no :authority")),
        };
    }
    if uri.authority().is_some() || uri.scheme().is_some() {
        return Err(Refusal::bad_request(
            "the request's target is a whole URL, as for a forward proxy; this one is asked by path",
        ));
    }
    header.ok_or_else(|| Refusal::bad_request("the request has no Host header"))
}

/// `host` without its port; `None` if it is neither a name nor an address.
fn name_of(host: &str) -> Option<&str> {
    let (name, port) = match host.strip_prefix('[') {
        Some(rest) => {
            let (address, after) = rest.split_once(']')?;
            address.parse::<Ipv6Addr>().ok()?;
            let port = match after {
                "" => None,
                _ => Some(after.strip_prefix(':')?),
            };
            (address, port)
        }
        None => match host.split_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (host, None),
        },
    };
    let name_is_legal = !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._:".contains(&byte));
    let port_is_legal = port.is_none_or(|port| port.parse::<u16>().is_ok());
    (name_is_legal && port_is_legal).then_some(name)
}

fn is_address(name: &str) -> bool {
    name.parse::<Ipv4Addr>().is_ok() || name.parse::<Ipv6Addr>().is_ok()
}

fn ends_with(name: &str, suffix: &str) -> bool {
    name.len() > suffix.len()
        && name.as_bytes()[name.len() - suffix.len()..].eq_ignore_ascii_case(suffix.as_bytes())
}

fn cross_origin(from: &HeaderValue) -> Refusal {
    Refusal::forbidden(format!(
        "a web page of another site ({from:?}) may not use this peer's access to the cluster"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(hosts: &Hosts, headers: &[(&'static str, &'static str)]) -> Result<(), u16> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_static(value));
        }
        hosts
            .check(Version::HTTP_11, &Uri::from_static("/api"), &map)
            .map_err(|refusal| refusal.code.as_u16())
    }

    #[test]
    fn s11_a_rebound_name_is_refused() {
        let hosts = Hosts {
            names: vec!["proxy.mesh".into(), ".svc.cluster.local".into()],
            ..Hosts::default()
        };
        for good in [
            "10.0.0.1",
            "10.0.0.1:8085",
            "[fd00::1]:8085",
            "[fd00::1]",
            "localhost:1",
            "LocalHost",
            "PROXY.mesh.",
            "x.ns.svc.cluster.local:8085",
        ] {
            assert_eq!(check(&hosts, &[("host", good)]), Ok(()), "{good}");
        }
        for (bad, code) in [
            ("evil.example", 403),
            ("evil.example:8085", 403),
            ("10.0.0.1.evil.example", 403),
            ("notproxy.mesh", 403),
            (".svc.cluster.local", 403),
            ("", 400),
            (":8085", 400),
            ("a b", 400),
            ("user@10.0.0.1", 400),
            ("10.0.0.1:8085/x", 400),
            ("[evil]", 400),
            ("[fd00::1]evil", 400),
            ("10.0.0.1:99999", 400),
        ] {
            assert_eq!(check(&hosts, &[("host", bad)]), Err(code), "{bad}");
        }
        assert_eq!(check(&hosts, &[]), Err(400));
        let twice = [("host", "10.0.0.1"), ("host", "10.0.0.1")];
        assert_eq!(check(&hosts, &twice), Err(400));
    }

    #[test]
    fn s11_a_page_of_another_site_is_refused() {
        let hosts = Hosts { origins: vec!["https://dashboard.example".into()], ..Hosts::default() };
        let with = |name, value| check(&hosts, &[("host", "10.0.0.1:8085"), (name, value)]);
        assert_eq!(with("origin", "http://10.0.0.1:8085"), Ok(()));
        assert_eq!(with("origin", "https://dashboard.example"), Ok(()));
        assert_eq!(with("sec-fetch-site", "same-origin"), Ok(()));
        for origin in [
            "null",
            "http://evil.example",
            "http://10.0.0.1",
            "http://10.0.0.1:8085.evil.example",
            "",
        ] {
            assert_eq!(with("origin", origin), Err(403), "{origin}");
        }
        assert_eq!(with("sec-fetch-site", "cross-site"), Err(403));
        assert_eq!(with("sec-fetch-site", "same-site"), Err(403));
    }

    #[test]
    fn a_target_with_a_host_is_refused() {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, HeaderValue::from_static("10.0.0.1"));
        let hosts = Hosts::default();
        let absolute = Uri::from_static("http://10.0.0.1/api");
        hosts.check(Version::HTTP_11, &absolute, &headers).unwrap_err();
        hosts.check(Version::HTTP_2, &absolute, &headers).unwrap();
        let other = Uri::from_static("http://10.0.0.2/api");
        hosts.check(Version::HTTP_2, &other, &headers).unwrap_err();
    }
}
