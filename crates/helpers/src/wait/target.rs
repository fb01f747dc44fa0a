//! What can be waited for, as it is written: `tcp://db:5432`, `file:/etc/ready`, `interface:wg0`.

use std::fmt;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;

use holdfast_runtime::probe::HttpGet;

/// One thing to wait for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A port that takes connections: `tcp://HOST:PORT`.
    Tcp {
        /// Name or address.
        host: String,
        /// Which port.
        port: u16,
    },
    /// A URL that answers with one of the wanted statuses: `http://…`, `https://…`. As with a probe no
    /// certificate is verified: nothing is sent and nothing in the answer is used.
    Http(HttpGet),
    /// A socket that takes connections: `unix:PATH`.
    Unix(PathBuf),
    /// Anything at a path: `file:PATH`.
    File(PathBuf),
    /// A name that has an address: `dns:NAME`.
    Dns(String),
    /// A network interface that is up and has an address, of IPv4 or IPv6: `interface:NAME`.
    Interface(String),
}

/// Why a text is no target.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is nothing to wait for: {cause}")]
pub struct ParseTargetError {
    text: String,
    cause: &'static str,
}

const FORMS: &str = "expected tcp://HOST:PORT, http://…, https://…, unix:PATH, file:PATH, dns:NAME \
                     or interface:NAME";

/// `sun_path` of `sockaddr_un`, with the zero at its end.
const SOCKET_PATH: usize = 108;

/// `IFNAMSIZ`, with the zero at its end.
const INTERFACE_NAME: usize = 16;

impl FromStr for Target {
    type Err = ParseTargetError;

    fn from_str(text: &str) -> Result<Self, ParseTargetError> {
        let error = |cause| ParseTargetError { text: text.to_owned(), cause };
        let (scheme, rest) = text.split_once(':').ok_or_else(|| error(FORMS))?;
        match scheme {
            "tcp" => tcp(rest).map_err(error),
            "http" | "https" => http(text, scheme == "https").map_err(error),
            "unix" | "file" => {
                // `unix:///run/x.sock` is how others write it.
                let path = PathBuf::from(rest.strip_prefix("//").unwrap_or(rest));
                if path.as_os_str().is_empty() {
                    return Err(error("the path is missing"));
                }
                if scheme == "unix" && path.as_os_str().len() >= SOCKET_PATH {
                    return Err(error("no socket can have a path of more than 107 bytes"));
                }
                Ok(if scheme == "unix" { Self::Unix(path) } else { Self::File(path) })
            }
            "dns" if rest.is_empty() => Err(error("the name is missing")),
            "dns" => Ok(Self::Dns(rest.to_owned())),
            "interface" if rest.is_empty() => Err(error("the name is missing")),
            "interface" if rest.len() >= INTERFACE_NAME || rest.contains(['/', ' ']) => {
                Err(error("no network interface can have this name"))
            }
            "interface" => Ok(Self::Interface(rest.to_owned())),
            _ => Err(error(FORMS)),
        }
    }
}

fn tcp(rest: &str) -> Result<Target, &'static str> {
    let rest = rest.strip_prefix("//").ok_or("expected tcp://HOST:PORT")?;
    let (host, port) = rest.rsplit_once(':').ok_or("the port is missing")?;
    let port = port.parse().ok().filter(|port| *port != 0);
    let port = port.ok_or("the port is no number from 1 to 65535")?;
    Ok(Target::Tcp { host: bare(host)?, port })
}

fn http(text: &str, https: bool) -> Result<Target, &'static str> {
    let url: http::Uri = text.parse().map_err(|_| "it is no URL")?;
    let authority = url.authority().ok_or("the host is missing")?;
    if authority.as_str().contains('@') {
        return Err("a URL with a user name is not supported");
    }
    // `Authority::port` says nothing about `host:` and `host:99999`.
    let tail = authority.as_str().rsplit(']').next().unwrap_or_default();
    let port = match tail.rsplit_once(':') {
        None => {
            if https {
                443
            } else {
                80
            }
        }
        Some((_, port)) => port.parse().map_err(|_| "the port is no number from 1 to 65535")?,
    };
    let path = url.path_and_query().map_or("/", http::uri::PathAndQuery::as_str).to_owned();
    // In a URL the `%` of a zone is written as `%25` (RFC 6874).
    let host = Some(bare(authority.host())?.replacen("%25", "%", 1));
    Ok(Target::Http(HttpGet { https, host, port, path, headers: Vec::new() }))
}

/// A host without the brackets of an IPv6 address.
fn bare(host: &str) -> Result<String, &'static str> {
    let bare = match host.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']').ok_or("the brackets do not match")?,
        None if host.contains(':') => return Err("an IPv6 address is written in brackets"),
        None => host,
    };
    if bare.is_empty() {
        return Err("the host is missing");
    }
    if bare.contains(|c: char| c.is_whitespace() || c.is_control() || c == '/') {
        return Err("no host can have this name");
    }
    Ok(bare.to_owned())
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host_port = |f: &mut fmt::Formatter<'_>, host: &str, port: u16| {
            if host.contains(':') {
                write!(f, "[{host}]:{port}")
            } else {
                write!(f, "{host}:{port}")
            }
        };
        match self {
            Self::Tcp { host, port } => {
                f.write_str("tcp://")?;
                host_port(f, host, *port)
            }
            Self::Http(get) => {
                f.write_str(if get.https { "https://" } else { "http://" })?;
                host_port(f, get.host.as_deref().unwrap_or_default(), get.port)?;
                f.write_str(&get.path)
            }
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::File(path) => write!(f, "file:{}", path.display()),
            Self::Dns(name) => write!(f, "dns:{name}"),
            Self::Interface(name) => write!(f, "interface:{name}"),
        }
    }
}

/// The HTTP statuses that count: numbers and ranges, such as `200,301-399`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statuses(Vec<RangeInclusive<u16>>);

impl Default for Statuses {
    /// What counts for a probe (kubelet: `DoHTTPProbe`): 200 to 399.
    fn default() -> Self {
        Self(vec![200..=399])
    }
}

impl Statuses {
    /// Whether a status is one of them.
    #[must_use]
    pub fn contain(&self, status: u16) -> bool {
        self.0.iter().any(|range| range.contains(&status))
    }
}

impl FromStr for Statuses {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| {
            let number = text.trim().parse().ok().filter(|n| (100..=599).contains(n));
            number.ok_or_else(|| format!("{text:?} is no HTTP status from 100 to 599"))
        };
        let range = |part: &str| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let range = number(first)?..=number(last)?;
            if range.is_empty() { Err(format!("{part:?} is no range")) } else { Ok(range) }
        };
        text.split(',').map(range).collect::<Result<_, _>>().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_read_and_written() {
        for text in [
            "tcp://db:5432",
            "tcp://[::1]:80",
            "http://web:8081/healthz?full=1",
            "https://[fd00::1]:443/",
            "unix:/run/x.sock",
            "file:/etc/ready",
            "dns:db.example.org",
            "interface:netmaker",
        ] {
            assert_eq!(text.parse::<Target>().unwrap().to_string(), text);
        }
        let same = [
            ("http://web", "http://web:80/"),
            ("https://web/x", "https://web:443/x"),
            ("http://[fe80::1%25eth0]/x", "http://[fe80::1%eth0]:80/x"),
            ("tcp://[fe80::1%eth0]:80", "tcp://[fe80::1%eth0]:80"),
            ("unix:///run/x.sock", "unix:/run/x.sock"),
            ("file:relative", "file:relative"),
        ];
        for (text, read) in same {
            assert_eq!(text.parse::<Target>().unwrap().to_string(), read);
        }
    }

    #[test]
    fn what_is_no_target_is_said() {
        for (text, cause) in [
            ("db:5432", "expected tcp://HOST:PORT, http"),
            ("/etc/ready", "expected tcp://HOST:PORT, http"),
            ("tcp:db:5432", "expected tcp://HOST:PORT"),
            ("tcp://db", "the port is missing"),
            ("tcp://db:0", "no number from 1 to 65535"),
            ("tcp://db:http", "no number from 1 to 65535"),
            ("tcp://:80", "the host is missing"),
            ("tcp://::1:80", "in brackets"),
            ("tcp://[::1:80", "brackets do not match"),
            ("tcp://a b:80", "no host can have this name"),
            ("tcp://a/b:80", "no host can have this name"),
            (&format!("unix:/{}", "x".repeat(107)), "more than 107 bytes"),
            ("http://", "no URL"),
            ("http://u@h/", "user name"),
            ("http://h:99999/", "no number from 1 to 65535"),
            ("http://h:/", "no number from 1 to 65535"),
            ("file:", "the path is missing"),
            ("dns:", "the name is missing"),
            ("interface:", "the name is missing"),
            ("interface:a-name-of-sixteen", "no network interface can have this name"),
        ] {
            let error = text.parse::<Target>().unwrap_err().to_string();
            assert!(error.contains(cause), "{error}");
        }
    }

    #[test]
    fn statuses() {
        let statuses: Statuses = "200,301-399".parse().unwrap();
        let counted: Vec<u16> = [199, 200, 201, 300, 301, 399, 400]
            .into_iter()
            .filter(|s| statuses.contain(*s))
            .collect();
        assert_eq!(counted, [200, 301, 399]);
        for text in ["", "99", "200-", "300-200", "2xx", "200,,300"] {
            assert!(text.parse::<Statuses>().is_err(), "{text}");
        }
    }
}
