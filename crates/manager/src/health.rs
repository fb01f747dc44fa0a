//! Health in controller-runtime's format: named checks, and the text that they make.
//!
//! Who knows something about the health of the manager registers a [`Check`]; it is asked on each request
//! and must answer at once, from what is already known.
//!
//! The format is that of controller-runtime (`healthz.writeStatusesAsText`, `CheckHandler`), byte for byte,
//! with two additions where somebody asks for more than a probe does: with `?verbose` a failed check says
//! its reason in place of `reason withheld`, and one that has something to say says it behind its `ok`.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::sync::{Arc, Mutex};

use http::{HeaderValue, Request, Response, StatusCode, header};
use tracing::{info, warn};

use crate::serve::{Body, text};

/// What a check says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All is well.
    Ok,
    /// All is well, and there is something to say: shown by `?verbose` only.
    Noted(String),
    /// It is not, and why: shown by `?verbose` and at the check's own path.
    Failed(String),
}

/// A named check, asked on each request. It must not wait for anything.
#[derive(Clone)]
pub struct Check {
    name: &'static str,
    ask: Arc<dyn Fn() -> Verdict + Send + Sync>,
}

impl Check {
    /// A check of this name, such as `leaderElection`.
    pub fn new(name: &'static str, ask: impl Fn() -> Verdict + Send + Sync + 'static) -> Self {
        Self { name, ask: Arc::new(ask) }
    }

    /// One that never fails: it only says that somebody is there to answer.
    #[must_use]
    pub fn ping(name: &'static str) -> Self {
        Self::new(name, || Verdict::Ok)
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Asks it.
    #[must_use]
    pub fn ask(&self) -> Verdict {
        (self.ask)()
    }
}

impl std::fmt::Debug for Check {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Check").field(&self.name).finish()
    }
}

/// An endpoint with its checks: `/healthz`, `/readyz`.
#[derive(Debug)]
pub struct Endpoint {
    path: &'static str,
    /// By name, as they are shown.
    checks: Vec<Check>,
    /// What failed when it was asked last: people are told when that changes.
    failing: Mutex<Vec<(&'static str, String)>>,
}

impl Endpoint {
    /// An endpoint at this path, without a slash at its end.
    #[must_use]
    pub fn new(path: &'static str, mut checks: Vec<Check>) -> Self {
        checks.sort_by_key(Check::name);
        Self { path, checks, failing: Mutex::default() }
    }

    /// What fails now, and why.
    #[must_use]
    pub fn faults(&self) -> Vec<(&'static str, String)> {
        let asked = self.checks.iter().map(|check| (check.name, check.ask()));
        asked
            .filter_map(|(name, verdict)| match verdict {
                Verdict::Failed(why) => Some((name, why)),
                Verdict::Ok | Verdict::Noted(_) => None,
            })
            .collect()
    }

    /// Answers a request whose path is this endpoint's or below; `None` if it is another's.
    pub fn answer<B>(&self, request: &Request<B>) -> Option<Response<Body>> {
        let rest = request.uri().path().strip_prefix(self.path)?;
        if !rest.is_empty() && !rest.starts_with('/') {
            return None;
        }
        let query = request.uri().query().unwrap_or_default();
        Some(match rest.trim_matches('/') {
            "" => self.all(query),
            name => self.one(name),
        })
    }

    /// controller-runtime: `Handler.serveAggregated`.
    fn all(&self, query: &str) -> Response<Body> {
        let mut excluded = BTreeSet::new();
        let mut verbose = false;
        for (key, value) in form(query) {
            match &key[..] {
                b"exclude" => {
                    excluded.insert(value);
                }
                b"verbose" => verbose = true,
                _ => {}
            }
        }
        let mut out = String::new();
        let mut failing = Vec::new();
        for check in &self.checks {
            let name = check.name;
            // Writing to a String cannot fail.
            let _ = if excluded.remove(name.as_bytes()) {
                writeln!(out, "[+]{name} excluded: ok")
            } else {
                match check.ask() {
                    Verdict::Noted(note) if verbose => writeln!(out, "[+]{name} ok: {note}"),
                    Verdict::Ok | Verdict::Noted(_) => writeln!(out, "[+]{name} ok"),
                    Verdict::Failed(why) => {
                        let shown = if verbose { why.as_str() } else { "reason withheld" };
                        let line = writeln!(out, "[-]{name} failed: {shown}");
                        failing.push((name, why));
                        line
                    }
                }
            };
        }
        if !excluded.is_empty() {
            let names: Vec<String> = excluded.iter().map(|name| quoted(name)).collect();
            let _ = writeln!(
                out,
                "warn: some health checks cannot be excluded: no matches for {}",
                names.join(",")
            );
        }
        let status = if failing.is_empty() {
            if verbose {
                out.push_str("healthz check passed\n");
            } else {
                "ok".clone_into(&mut out);
            }
            StatusCode::OK
        } else {
            // Always verbose on failure.
            out.push_str("healthz check failed\n");
            StatusCode::INTERNAL_SERVER_ERROR
        };
        self.tell(failing);
        plain(status, out)
    }

    /// controller-runtime: `CheckHandler`. Here it says the reason too.
    fn one(&self, name: &str) -> Response<Body> {
        let Some(check) = self.checks.iter().find(|check| check.name == name) else {
            return not_found();
        };
        match check.ask() {
            Verdict::Ok | Verdict::Noted(_) => text(StatusCode::OK, "ok"),
            Verdict::Failed(why) => {
                let words = format!("internal server error: {why}\n");
                plain(StatusCode::INTERNAL_SERVER_ERROR, words)
            }
        }
    }

    /// Probes come every few seconds: only what is new is worth a line.
    fn tell(&self, failing: Vec<(&'static str, String)>) {
        // Nothing in here panics, so that the lock is never poisoned.
        let mut before = self.failing.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if *before == failing {
            return;
        }
        for (check, reason) in &failing {
            if !before.iter().any(|old| old == &(*check, reason.clone())) {
                warn!(endpoint = self.path, check, reason, "healthz check failed");
            }
        }
        if failing.is_empty() {
            info!(endpoint = self.path, "healthz check passed");
        }
        *before = failing;
    }
}

/// What Go's server says to a path that nobody serves.
pub(crate) fn not_found() -> Response<Body> {
    plain(StatusCode::NOT_FOUND, "404 page not found\n".to_owned())
}

/// Go: `http.Error`.
fn plain(status: StatusCode, body: String) -> Response<Body> {
    let mut response = text(status, body);
    let nosniff = HeaderValue::from_static("nosniff");
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, nosniff);
    response
}

/// The keys and values of a query (Go: `url.ParseQuery`; a pair with a bad escape is left out).
fn form(query: &str) -> Vec<(Vec<u8>, Vec<u8>)> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty() && !pair.contains(';'));
    pairs
        .filter_map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((unescape(key)?, unescape(value)?))
        })
        .collect()
}

fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut bytes = text.bytes();
    let mut out = Vec::new();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digits = [bytes.next()?, bytes.next()?];
                let digits = std::str::from_utf8(&digits).ok()?;
                u8::from_str_radix(digits, 16).ok()?
            }
            other => other,
        });
    }
    Some(out)
}

/// Go: `strconv.Quote`.
fn quoted(text: &[u8]) -> String {
    let mut out = String::from('"');
    for chunk in text.utf8_chunks() {
        for c in chunk.valid().chars() {
            // Writing to a String cannot fail.
            let _ = match c {
                '"' | '\\' => write!(out, "\\{c}"),
                '\u{7}' => write!(out, "\\a"),
                '\u{8}' => write!(out, "\\b"),
                '\u{c}' => write!(out, "\\f"),
                '\n' => write!(out, "\\n"),
                '\r' => write!(out, "\\r"),
                '\t' => write!(out, "\\t"),
                '\u{b}' => write!(out, "\\v"),
                _ if is_print(c) => write!(out, "{c}"),
                ..' ' | '\u{7f}' => write!(out, "\\x{:02x}", u32::from(c)),
                ..'\u{10000}' => write!(out, "\\u{:04x}", u32::from(c)),
                _ => write!(out, "\\U{:08x}", u32::from(c)),
            };
        }
        for byte in chunk.invalid() {
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
    out.push('"');
    out
}

/// Go: `strconv.IsPrint`, which is what Rust does not escape either, behind another character.
fn is_print(c: char) -> bool {
    let text = String::from_iter(['a', c]);
    // A single quote is the one character that Go leaves alone and Rust does not.
    c == '\'' || text.escape_debug().eq(text.chars())
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    fn endpoint(failing: bool) -> Endpoint {
        let verdict = |failed| {
            move || match failed {
                true => Verdict::Failed("there is no such interface".to_owned()),
                false => Verdict::Ok,
            }
        };
        Endpoint::new(
            "/readyz",
            vec![
                Check::new("wireguard", verdict(failing)),
                Check::new("apiserver", || Verdict::Ok),
                Check::new("leaderElection", || Verdict::Noted("no permission".to_owned())),
            ],
        )
    }

    fn get(endpoint: &Endpoint, path: &str) -> Option<(u16, String)> {
        let request = Request::get(path).body(()).unwrap();
        let response = endpoint.answer(&request)?;
        let status = response.status().as_u16();
        let kind = response.headers()[header::CONTENT_TYPE].to_str().unwrap().to_owned();
        assert_eq!(kind, "text/plain; charset=utf-8");
        let body = futures_util::FutureExt::now_or_never(response.into_body().collect());
        let bytes = body.unwrap().unwrap().to_bytes();
        Some((status, String::from_utf8(bytes.to_vec()).unwrap()))
    }

    /// What controller-runtime 0.18 to 0.22 answers with checks of these names (`writeStatusesAsText`).
    #[test]
    fn what_controller_runtime_says() {
        let (well, ill) = (endpoint(false), endpoint(true));
        for (endpoint, path, status, text) in [
            (&well, "/readyz", 200, "ok"),
            (&well, "/readyz/", 200, "ok"),
            (&well, "/readyz/wireguard", 200, "ok"),
            (&well, "/readyz/wireguard/", 200, "ok"),
            (&well, "/readyz/nothing", 404, "404 page not found\n"),
            (
                &well,
                "/readyz?verbose&exclude=apiserver&exclude=leaderElection",
                200,
                "[+]apiserver excluded: ok\n[+]leaderElection excluded: ok\n[+]wireguard ok\n\
                 healthz check passed\n",
            ),
            (
                &well,
                "/readyz?verbose=1&exclude=leaderElection&exclude=%62&exclude=a",
                200,
                "[+]apiserver ok\n[+]leaderElection excluded: ok\n[+]wireguard ok\n\
                 warn: some health checks cannot be excluded: no matches for \"a\",\"b\"\n\
                 healthz check passed\n",
            ),
            (
                &ill,
                "/readyz",
                500,
                "[+]apiserver ok\n[+]leaderElection ok\n[-]wireguard failed: reason withheld\n\
                 healthz check failed\n",
            ),
            (&ill, "/readyz?exclude=wireguard", 200, "ok"),
            (&ill, "/readyz/wireguard", 500, "internal server error: there is no such interface\n"),
        ] {
            assert_eq!(get(endpoint, path), Some((status, text.to_owned())), "{path}");
        }
        assert_eq!(get(&well, "/readyzz"), None);
        assert_eq!(get(&well, "/healthz"), None);
    }

    #[test]
    fn what_is_said_besides_to_those_who_ask() {
        let text = "[+]apiserver ok\n[+]leaderElection ok: no permission\n\
                    [-]wireguard failed: there is no such interface\nhealthz check failed\n";
        assert_eq!(get(&endpoint(true), "/readyz?verbose"), Some((500, text.to_owned())));
    }

    #[test]
    fn names_are_quoted_as_go_quotes_them() {
        for (name, text) in [
            (&b"a \"b\" \\"[..], r#""a \"b\" \\""#),
            (b"\x07\x08\x0c\n\r\t\x0b\x00\x1b\x7f", r#""\a\b\f\n\r\t\v\x00\x1b\x7f""#),
            (
                "ü e\u{301} 🐬 \u{2028}\u{a0}\u{e0001}".as_bytes(),
                "\"ü e\u{301} 🐬 \\u2028\\u00a0\\U000e0001\"",
            ),
            (b"\xff\xc3", r#""\xff\xc3""#),
        ] {
            assert_eq!(quoted(name), text);
        }
    }

    #[test]
    fn queries_are_read_as_go_reads_them() {
        let pair = |a: &str, b: &str| (a.as_bytes().to_vec(), b.as_bytes().to_vec());
        assert_eq!(
            form("a=b+c&d&%65=%66&x=%zz&"),
            [pair("a", "b c"), pair("d", ""), pair("e", "f")]
        );
    }
}
