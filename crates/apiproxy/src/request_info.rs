//! What a request means to the API server: verb, resource, name (apiserver: `RequestInfoFactory.NewRequestInfo`).
//! For the audit log, and to know which requests may be silent for hours.

use std::borrow::Cow;

use http::Method;

/// A request, taken apart as the API server does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestInfo {
    /// `get`, `list`, `watch`, `create`, …; the method in lower case if it is not about a resource.
    pub verb: &'static str,
    /// Whether the path names a resource.
    pub is_resource: bool,
    /// The API group, empty for the core group.
    pub group: String,
    /// The version of the group.
    pub version: String,
    /// The namespace, empty if there is none.
    pub namespace: String,
    /// The resource in the plural: `pods`.
    pub resource: String,
    /// The part of it: `exec`, `log`, `status`.
    pub subresource: String,
    /// The object's name, empty for collections.
    pub name: String,
    /// A profile of the API server itself, which takes the time it is told.
    is_profile: bool,
}

impl RequestInfo {
    /// Of a request with `method`, the raw `path` and the raw `query`.
    pub fn new(method: &Method, path: &str, query: Option<&str>) -> Self {
        let mut info = Self { verb: lower(method), ..Self::default() };
        let path = decode(path);
        info.is_profile = path.starts_with("/debug/pprof/");
        let mut parts: &[&str] = &split(&path);
        match parts {
            ["api", version, rest @ ..] if !rest.is_empty() => {
                info.version = (*version).to_owned();
                parts = rest;
            }
            ["apis", group, version, rest @ ..] if !rest.is_empty() => {
                info.group = (*group).to_owned();
                info.version = (*version).to_owned();
                parts = rest;
            }
            _ => return info,
        }
        info.is_resource = true;
        match parts {
            // Without more the API server answers with an error.
            ["proxy" | "watch"] => return info,
            ["proxy", rest @ ..] => (info.verb, parts) = ("proxy", rest),
            ["watch", rest @ ..] => (info.verb, parts) = ("watch", rest),
            _ => {
                info.verb = match *method {
                    Method::POST => "create",
                    Method::GET | Method::HEAD => "get",
                    Method::PUT => "update",
                    Method::PATCH => "patch",
                    Method::DELETE => "delete",
                    _ => "",
                }
            }
        }
        if let ["namespaces", namespace, rest @ ..] = parts {
            info.namespace = (*namespace).to_owned();
            // `/namespaces/x/status` and `/finalize` are parts of the namespace, all else lies in it.
            if let [first, ..] = rest
                && !matches!(*first, "status" | "finalize")
            {
                parts = rest;
            }
        }
        let mut parts = parts.iter().map(|part| (*part).to_owned());
        info.resource = parts.next().unwrap_or_default();
        info.name = parts.next().unwrap_or_default();
        if info.verb != "proxy" {
            info.subresource = parts.next().unwrap_or_default();
        }
        if info.name.is_empty() && info.verb == "get" {
            info.verb = if wants_watch(query) { "watch" } else { "list" };
        }
        if info.name.is_empty() && info.verb == "delete" {
            info.verb = "deletecollection";
        }
        info
    }

    /// Whether the answer may take as long as it likes (apiserver: `BasicLongRunningRequestCheck` with the
    /// kube-apiserver's verbs and subresources).
    pub fn is_long_running(&self) -> bool {
        match self.subresource.as_str() {
            "attach" | "exec" | "log" | "portforward" | "proxy" => true,
            _ => matches!(self.verb, "watch" | "proxy") || self.is_profile,
        }
    }
}

fn lower(method: &Method) -> &'static str {
    match *method {
        Method::GET => "get",
        Method::HEAD => "head",
        Method::POST => "post",
        Method::PUT => "put",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        Method::OPTIONS => "options",
        _ => "other",
    }
}

/// The segments of a path; slashes at either end do not count (apiserver: `splitPath`).
fn split(path: &str) -> Vec<&str> {
    match path.trim_matches('/') {
        "" => Vec::new(),
        path => path.split('/').collect(),
    }
}

fn decode(path: &str) -> Cow<'_, str> {
    if !path.contains('%') {
        return Cow::Borrowed(path);
    }
    let hex = |byte: Option<&u8>| byte.and_then(|byte| char::from(*byte).to_digit(16));
    let mut decoded = Vec::with_capacity(path.len());
    let mut bytes = path.as_bytes();
    while let [byte, rest @ ..] = bytes {
        let escaped = hex(rest.first()).zip(hex(rest.get(1)));
        match escaped.and_then(|(high, low)| u8::try_from(high * 16 + low).ok()) {
            Some(escaped) if *byte == b'%' => {
                decoded.push(escaped);
                bytes = &rest[2..];
            }
            _ => {
                decoded.push(*byte);
                bytes = rest;
            }
        }
    }
    Cow::Owned(String::from_utf8_lossy(&decoded).into_owned())
}

/// Whether a list is to be watched: the first `watch` counts, and everything but `0` and `false` is true
/// (apimachinery: `Convert_Slice_string_To_bool`).
fn wants_watch(query: Option<&str>) -> bool {
    let mut pairs = query.unwrap_or_default().split('&');
    let watch = pairs.find_map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode(name) == "watch").then(|| decode(value))
    });
    watch.is_some_and(|value| value != "0" && !value.eq_ignore_ascii_case("false"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `verb group/version namespace resource/name/subresource`, `-` for what is missing.
    fn info(method: Method, target: &str) -> String {
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (target, None),
        };
        let info = RequestInfo::new(&method, path, query);
        if !info.is_resource {
            return info.verb.to_owned();
        }
        let or = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
        format!(
            "{} {}/{} {} {}/{}/{}",
            info.verb,
            or(&info.group),
            info.version,
            or(&info.namespace),
            info.resource,
            or(&info.name),
            or(&info.subresource)
        )
    }

    // The cases are those of apiserver's `TestGetAPIRequestInfo` and `TestGetNonAPIRequestInfo`, by their meaning.
    #[test]
    fn requests_are_read_as_the_api_server_reads_them() {
        for (method, target, expected) in [
            (Method::GET, "/api/v1/namespaces", "list -/v1 - namespaces/-/-"),
            (Method::GET, "/api/v1/namespaces/other", "get -/v1 other namespaces/other/-"),
            (
                Method::PUT,
                "/api/v1/namespaces/other/status",
                "update -/v1 other namespaces/other/status",
            ),
            (
                Method::PUT,
                "/api/v1/namespaces/other/finalize",
                "update -/v1 other namespaces/other/finalize",
            ),
            (Method::GET, "/api/v1/namespaces/other/pods", "list -/v1 other pods/-/-"),
            (Method::HEAD, "/api/v1/namespaces/other/pods/foo", "get -/v1 other pods/foo/-"),
            (Method::GET, "/api/v1/pods?watch", "watch -/v1 - pods/-/-"),
            (Method::GET, "/api/v1/pods?w%61tch=1", "watch -/v1 - pods/-/-"),
            (Method::GET, "/api/v1/pods?watch=False&watch=true", "list -/v1 - pods/-/-"),
            (Method::GET, "/api/v1/pods/foo?watch=true", "get -/v1 - pods/foo/-"),
            (Method::GET, "/api/v1/watch/namespaces/other/pods", "watch -/v1 other pods/-/-"),
            (
                Method::GET,
                "/api/v1/proxy/namespaces/other/pods/foo/x/y",
                "proxy -/v1 other pods/foo/-",
            ),
            (
                Method::POST,
                "/api/v1/namespaces/other/pods/foo/exec?command=sh",
                "create -/v1 other pods/foo/exec",
            ),
            (
                Method::GET,
                "/api/v1/namespaces/o/services/s:80/proxy/a/b",
                "get -/v1 o services/s:80/proxy",
            ),
            (
                Method::DELETE,
                "/api/v1/namespaces/other/pods",
                "deletecollection -/v1 other pods/-/-",
            ),
            (
                Method::DELETE,
                "/api/v1/namespaces/other/pods/",
                "deletecollection -/v1 other pods/-/-",
            ),
            (
                Method::PATCH,
                "/apis/apps/v1/namespaces/x/deployments/d",
                "patch apps/v1 x deployments/d/-",
            ),
            (Method::OPTIONS, "/api/v1/pods", " -/v1 - pods/-/-"),
            (Method::GET, "/api/v1/namespaces/n/pods/a%2Fb", "get -/v1 n pods/a/b"),
            (Method::GET, "/apis/apps/v1", "get"),
            (Method::GET, "/api/v1", "get"),
            (Method::GET, "/api", "get"),
            (Method::GET, "/", "get"),
            (Method::POST, "/openapi/v3/api/v1/pods", "post"),
            (Method::GET, "/api/v1/watch", "get -/v1 - /-/-"),
        ] {
            assert_eq!(info(method, target), expected, "{target}");
        }
    }

    #[test]
    fn p1_requests_that_may_be_silent_are_known() {
        let long = |target: &str| {
            let (path, query) = target.split_once('?').unwrap_or((target, ""));
            RequestInfo::new(&Method::GET, path, Some(query)).is_long_running()
        };
        for target in [
            "/api/v1/pods?watch=true",
            "/api/v1/namespaces/n/pods/p/log?follow=true",
            "/api/v1/namespaces/n/pods/p/exec",
            "/api/v1/namespaces/n/pods/p/attach",
            "/api/v1/namespaces/n/pods/p/portforward",
            "/api/v1/namespaces/n/services/s/proxy/x",
            "/debug/pprof/profile",
        ] {
            assert!(long(target), "{target}");
        }
        for target in
            ["/api/v1/pods", "/api/v1/pods?watch=0", "/watch", "/api/v1/namespaces/n/pods/log"]
        {
            assert!(!long(target), "{target}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_path_is_a_panic(path in "(/|%2|%zz|api|apis|v1|watch|namespaces|status|é|%C3)*", query in ".*") {
            RequestInfo::new(&Method::GET, &path, Some(&query));
        }
    }
}
