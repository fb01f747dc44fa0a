//! The little of URLs that a probe needs: the one of the manifest, and where a redirect leads.

use std::fmt;

use super::text;

/// An absolute URL without user and fragment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Url {
    /// `http`, `https`, or in a redirect anything else.
    pub(crate) scheme: String,
    /// Name or address, an IPv6 address without brackets.
    pub(crate) host: String,
    /// The port, if it is written.
    port: Option<u16>,
    /// Path and query as they are sent; begins with `/`.
    pub(crate) target: String,
}

impl Url {
    /// From the fields of a handler (`pkg/probe/http`: `formatURL`).
    pub(crate) fn new(scheme: &str, host: &str, port: u16, path: &str) -> Self {
        let target = if path.starts_with('/') { escape(path) } else { escape(&format!("/{path}")) };
        Self { scheme: scheme.to_owned(), host: host.to_owned(), port: Some(port), target }
    }

    /// Where a `Location` of an answer from here leads (RFC 3986, section 5.2).
    ///
    /// # Errors
    /// What is wrong with the authority part.
    pub(crate) fn join(&self, location: &str) -> Result<Self, String> {
        let location = location.split('#').next().unwrap_or_default();
        let (scheme, rest) = match scheme_of(location) {
            Some(scheme) => (scheme.to_ascii_lowercase(), &location[scheme.len() + 1..]),
            None => (self.scheme.clone(), location),
        };
        let (path, query) = match rest.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (rest, None),
        };
        let (own_path, own_query) = match self.target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (self.target.as_str(), None),
        };
        let mut next = self.clone();
        next.scheme = scheme;
        let (path, query) = if let Some(authority) = path.strip_prefix("//") {
            let (authority, path) = match authority.find('/') {
                Some(slash) => authority.split_at(slash),
                None => (authority, "/"),
            };
            (next.host, next.port) = parse_authority(authority)?;
            (path.to_owned(), query)
        } else if path.starts_with('/') {
            (path.to_owned(), query)
        } else if path.is_empty() {
            (own_path.to_owned(), query.or(own_query))
        } else {
            let directory = own_path.rfind('/').map_or("/", |slash| &own_path[..=slash]);
            (format!("{directory}{path}"), query)
        };
        let path = remove_dots(&path);
        next.target = escape(&match query {
            Some(query) => format!("{path}?{query}"),
            None => path,
        });
        Ok(next)
    }

    /// The port, or that of the scheme.
    pub(crate) fn port(&self) -> u16 {
        self.port.unwrap_or(if self.scheme == "https" { 443 } else { 80 })
    }

    /// Host and port as the `Host` header has them.
    pub(crate) fn authority(&self) -> String {
        match self.port {
            Some(port) => text::host_port(&self.host, port),
            None if self.host.contains(':') => format!("[{}]", self.host),
            None => self.host.clone(),
        }
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.scheme, self.authority(), self.target)
    }
}

/// The scheme a reference begins with; a reference with one is absolute.
pub(crate) fn scheme_of(reference: &str) -> Option<&str> {
    let (scheme, _) = reference.split_once(':')?;
    let word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
    (scheme.starts_with(|c: char| c.is_ascii_alphabetic()) && scheme.chars().all(word))
        .then_some(scheme)
}

/// Host and port of `user@host:port`.
fn parse_authority(authority: &str) -> Result<(String, Option<u16>), String> {
    let authority = authority.rsplit('@').next().unwrap_or_default();
    let (host, port) = match authority.strip_prefix('[') {
        Some(v6) => v6.split_once(']').ok_or("missing ']' in host")?,
        None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
    };
    let port = match port.strip_prefix(':') {
        None if port.is_empty() => None,
        Some("") => None,
        Some(digits) => Some(digits.parse().map_err(|_| invalid_port(port))?),
        None => return Err(invalid_port(port)),
    };
    Ok((host.to_owned(), port))
}

fn invalid_port(port: &str) -> String {
    format!("invalid port {port:?} after host")
}

/// Takes `.` and `..` out of an absolute path (RFC 3986, section 5.2.4).
fn remove_dots(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment {
            "." => {}
            ".." => {
                kept.pop();
            }
            _ => {
                kept.push(segment);
                continue;
            }
        }
        if last {
            kept.push("");
        }
    }
    format!("/{}", kept.join("/"))
}

/// Escapes what may not stand in a request line, and drops the fragment. Escapes that are there
/// stay, unless one of them is broken: then every `%` stands for itself, as in Go.
fn escape(target: &str) -> String {
    let target = target.split('#').next().unwrap_or_default();
    let broken = target.split('%').skip(1).any(|rest| {
        !matches!(rest.as_bytes(), [a, b, ..] if a.is_ascii_hexdigit() && b.is_ascii_hexdigit())
    });
    let mut out = String::with_capacity(target.len());
    for byte in target.bytes() {
        match byte {
            b'%' if broken => out.push_str("%25"),
            b'!' | b'#'..=b';' | b'=' | b'?'..=b'[' | b']' | b'_' | b'a'..=b'z' | b'~' => {
                out.push(char::from(byte));
            }
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base() -> Url {
        Url::new("http", "10.0.0.1", 8080, "/a/b?x=1")
    }

    #[test]
    fn a_handlers_fields_become_a_url() {
        for (path, want) in [
            ("/", "http://10.0.0.1:8080/"),
            ("", "http://10.0.0.1:8080/"),
            ("healthz", "http://10.0.0.1:8080/healthz"),
            ("/a b?c=d&e=f g#h", "http://10.0.0.1:8080/a%20b?c=d&e=f%20g"),
            ("/100%", "http://10.0.0.1:8080/100%25"),
            ("/%41/é", "http://10.0.0.1:8080/%41/%C3%A9"),
            ("/a\r\nHost: x", "http://10.0.0.1:8080/a%0D%0AHost:%20x"),
        ] {
            assert_eq!(Url::new("http", "10.0.0.1", 8080, path).to_string(), want);
        }
        assert_eq!(Url::new("https", "::1", 443, "/").to_string(), "https://[::1]:443/");
    }

    #[test]
    fn references_are_resolved() {
        for (location, want) in [
            ("/c", "http://10.0.0.1:8080/c"),
            ("c", "http://10.0.0.1:8080/a/c"),
            ("../c?y=2", "http://10.0.0.1:8080/c?y=2"),
            ("../../../c/.", "http://10.0.0.1:8080/c/"),
            ("?y=2", "http://10.0.0.1:8080/a/b?y=2"),
            ("#top", "http://10.0.0.1:8080/a/b?x=1"),
            ("//example.com", "http://example.com/"),
            ("https://example.com:8443/x", "https://example.com:8443/x"),
            ("HTTPS://u:p@[fe80::1]/x", "https://[fe80::1]/x"),
        ] {
            assert_eq!(base().join(location).unwrap().to_string(), want, "{location}");
        }
    }

    #[test]
    fn a_bad_authority_is_an_error() {
        for location in ["http://host:port/", "http://[::1/", "http://[::1]x/", "http://h:99999/"] {
            assert!(base().join(location).is_err(), "{location}");
        }
    }

    #[test]
    fn ports_follow_the_scheme() {
        assert_eq!(base().join("https://h/").unwrap().port(), 443);
        assert_eq!(base().join("http://h/").unwrap().port(), 80);
        assert_eq!(base().port(), 8080);
    }
}
