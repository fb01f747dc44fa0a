//! Single values: numbers, booleans, durations, addresses, names.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

/// Where a server listens: an address and a port, or every address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BindAddress {
    /// `None` is every address.
    pub ip: Option<IpAddr>,
    /// 0 lets the kernel choose.
    pub port: u16,
}

/// `:8081`, `127.0.0.1:8081`, `[::1]:8081`; `0` or nothing is "not at all" (controller-runtime).
pub(super) fn bind_address(text: &str) -> Result<Option<BindAddress>, String> {
    if text.is_empty() || text == "0" {
        return Ok(None);
    }
    if let Some(port) = text.strip_prefix(':') {
        let port = port.parse().map_err(|_| "the port is no number up to 65535".to_owned())?;
        return Ok(Some(BindAddress { ip: None, port }));
    }
    if let Some(port) = text.strip_prefix("localhost:")
        && let Ok(port) = port.parse()
    {
        return Ok(Some(BindAddress { ip: Some(Ipv4Addr::LOCALHOST.into()), port }));
    }
    let address: SocketAddr = text
        .parse()
        .map_err(|_| "expected :PORT, ADDRESS:PORT, [ADDRESS]:PORT, or 0 for none".to_owned())?;
    Ok(Some(BindAddress {
        ip: Some(address.ip()).filter(|ip| !ip.is_unspecified()),
        port: address.port(),
    }))
}

pub(super) fn port(text: &str) -> Result<u16, String> {
    let port = text.parse().ok().filter(|port| *port != 0);
    port.ok_or_else(|| "expected a port from 1 to 65535".to_owned())
}

pub(super) fn ip(text: &str) -> Result<IpAddr, String> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    bare.parse().map_err(|_| "expected an IP address, without a port".to_owned())
}

/// As Go's `strconv.ParseBool`, and in any case.
pub(super) fn boolean(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "t" | "1" => Ok(true),
        "false" | "f" | "0" => Ok(false),
        _ => Err("expected true or false".to_owned()),
    }
}

/// Whole seconds, as the variables have them.
pub(super) fn seconds(text: &str, least: u64) -> Result<Duration, String> {
    /// A year: more is a mistake, and would overflow somewhere.
    const MOST: u64 = 365 * 24 * 3600;
    let number = text.parse().ok().filter(|n| (least..=MOST).contains(n));
    number
        .map(Duration::from_secs)
        .ok_or_else(|| format!("expected whole seconds, {least} or more"))
}

/// A duration as Go writes it: `15s`, `1m30s`, `500ms`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let bad = || "expected a time such as 15s, 1m30s or 500ms".to_owned();
    let mut rest = text;
    let mut sum = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(bad)?;
        let number: u32 = rest[..digits].parse().map_err(|_| bad())?;
        let unit = &rest[digits..];
        let end = unit.find(|c: char| c.is_ascii_digit()).unwrap_or(unit.len());
        let unit = match &unit[..end] {
            "ms" => Duration::from_millis(1),
            "s" => Duration::from_secs(1),
            "m" => Duration::from_secs(60),
            "h" => Duration::from_secs(3600),
            _ => return Err(bad()),
        };
        sum = unit.checked_mul(number).and_then(|part| sum.checked_add(part)).ok_or_else(bad)?;
        rest = &rest[digits + end..];
    }
    if sum.is_zero() { Err(bad()) } else { Ok(sum) }
}

/// A network interface's name (`dev_valid_name` in the kernel).
pub(super) fn interface(text: &str) -> Result<String, String> {
    /// `IFNAMSIZ`, with the zero at its end.
    const SIZE: usize = 16;
    let odd = |c: char| c == '/' || c == ':' || c.is_ascii_whitespace();
    if text.len() >= SIZE || text.contains(odd) || text == "." || text == ".." {
        return Err("no network interface can have this name".to_owned());
    }
    Ok(text.to_owned())
}

/// `HOST` or `HOST:PORT`, without a scheme and a path.
pub(super) fn server(text: &str) -> Result<String, String> {
    let text = text.strip_prefix("https://").unwrap_or(text).trim_end_matches('/');
    if text.contains("://") {
        return Err("only https is spoken with it: give HOST or HOST:PORT".to_owned());
    }
    let authority: http::uri::Authority =
        text.parse().map_err(|_| "expected HOST or HOST:PORT".to_owned())?;
    if authority.host().is_empty() || text.contains('@') {
        return Err("expected HOST or HOST:PORT".to_owned());
    }
    // `Authority::port` says nothing about `host:` and `host:99999`.
    let tail = text.rsplit(']').next().unwrap_or_default();
    if let Some((_, number)) = tail.rsplit_once(':') {
        port(number)?;
    }
    Ok(text.to_owned())
}
