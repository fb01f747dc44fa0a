//! The rules, each defect of other proxies by its number, and what must hold for every request there is.

use std::collections::{BTreeMap, HashSet};

use proptest::prelude::*;

use super::*;
use crate::identity::{Identity, SystemNames};

const PEER: &str = "10.9.8.7";

fn jane() -> Impersonation {
    let identity = Identity {
        user: "jane".into(),
        groups: vec!["dev".into(), "system:authenticated".into()],
        uid: None,
        extra: BTreeMap::from([("scope".to_owned(), vec!["a".to_owned()])]),
    };
    Impersonation::new(identity, &SystemNames::default()).unwrap()
}

/// What the proxy itself says, in auth mode.
const OWN: [(&str, &str); 7] = [
    ("authorization", "Bearer proxy"),
    ("host", "api:6443"),
    ("impersonate-extra-scope", "a"),
    ("impersonate-group", "dev"),
    ("impersonate-group", "system:authenticated"),
    ("impersonate-user", "jane"),
    ("x-forwarded-for", PEER),
];

fn parts(method: &str, target: &str, headers: &[(&str, &str)]) -> request::Parts {
    let mut request = Request::builder().method(method).uri(target);
    if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
        request = request.header("host", "10.0.0.1:8085");
    }
    for (name, value) in headers {
        request = request.header(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    request.body(()).unwrap().into_parts().0
}

fn auth(parts: request::Parts) -> Result<(Request<()>, Wishes), Refusal> {
    let (user, credential) = (jane(), HeaderValue::from_static("Bearer proxy"));
    let caller = Caller::Impersonated { user: &user, credential: Some(&credential) };
    let api = HeaderValue::from_static("api:6443");
    forward(parts, PEER.parse().unwrap(), caller, &Hosts::default(), &api)
}

fn noauth(parts: request::Parts) -> Result<(Request<()>, Wishes), Refusal> {
    let api = HeaderValue::from_static("api:6443");
    forward(parts, PEER.parse().unwrap(), Caller::Own, &Hosts::default(), &api)
}

fn sorted(headers: &HeaderMap) -> Vec<(String, String)> {
    let text = |(name, value): (&HeaderName, &HeaderValue)| {
        (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned())
    };
    let mut all: Vec<_> = headers.iter().map(text).collect();
    all.sort();
    all
}

fn owned(headers: &[(&str, &str)]) -> Vec<(String, String)> {
    let mut all: Vec<_> =
        headers.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
    all.sort();
    all
}

fn code(result: Result<(Request<()>, Wishes), Refusal>) -> Result<(), u16> {
    result.map(|_| ()).map_err(|refusal| refusal.code.as_u16())
}

#[test]
fn s1_connection_cannot_take_the_impersonation_away() {
    let names = "Impersonate-User, Impersonate-Group, impersonate-extra-scope, Authorization, X-Forwarded-For, Host";
    let (request, _) = auth(parts("GET", "/api", &[("Connection", names)])).unwrap();
    assert_eq!(sorted(request.headers()), owned(&OWN));
    let split = [
        ("connection", "keep-alive"),
        ("connection", "impersonate-user"),
        ("connection", " ,IMPERSONATE-GROUP"),
    ];
    let (request, _) = auth(parts("GET", "/api", &split)).unwrap();
    assert_eq!(sorted(request.headers()), owned(&OWN));
}

#[test]
fn s2_forwarded_headers_are_no_identity_and_are_replaced() {
    let claims = [
        ("X-Forwarded-For", "10.0.0.99"),
        ("X-Forwarded-For", "127.0.0.1"),
        ("X-Real-IP", "10.0.0.99"),
        ("Forwarded", "for=10.0.0.99"),
        ("X-Forwarded-Host", "api"),
        ("X-Remote-User", "admin"),
        ("X-Remote-Group", "system:masters"),
        ("X-Remote-Extra-Scopes", "all"),
    ];
    let (request, _) = auth(parts("GET", "/api", &claims)).unwrap();
    assert_eq!(sorted(request.headers()), owned(&OWN));
    let (request, _) = noauth(parts("GET", "/api", &claims)).unwrap();
    let only = [("host", "api:6443"), ("x-forwarded-for", PEER)];
    assert_eq!(sorted(request.headers()), owned(&only));
}

#[test]
fn s3_noauth_passes_what_the_client_presents_and_nothing_else() {
    let own = [
        ("Authorization", "Bearer client"),
        ("Impersonate-User", "bob"),
        ("Impersonate-Group", "one"),
        ("Impersonate-Group", "two"),
        ("Cookie", "a=b"),
    ];
    let (request, _) = noauth(parts("GET", "/api", &own)).unwrap();
    let expected = [
        ("authorization", "Bearer client"),
        ("cookie", "a=b"),
        ("host", "api:6443"),
        ("impersonate-group", "one"),
        ("impersonate-group", "two"),
        ("impersonate-user", "bob"),
        ("x-forwarded-for", PEER),
    ];
    assert_eq!(sorted(request.headers()), owned(&expected));
    let (request, _) = noauth(parts("GET", "/api", &[])).unwrap();
    assert!(!request.headers().contains_key("authorization"));
}

#[test]
fn s5_a_client_that_impersonates_is_refused_in_auth_mode() {
    for name in [
        "Impersonate-User",
        "impersonate-group",
        "IMPERSONATE-UID",
        "Impersonate-Extra-Scopes",
        "Impersonate-Anything-To-Come",
    ] {
        let direct = auth(parts("GET", "/api", &[(name, "system:masters")]));
        assert_eq!(code(direct), Err(403), "{name}");
        let hidden = [(name, "x"), ("Connection", name)];
        assert_eq!(code(auth(parts("GET", "/api", &hidden))), Err(403), "{name}");
    }
}

#[test]
fn s5_other_credentials_of_the_client_are_removed() {
    let credentials = [
        ("Authorization", "Bearer client"),
        ("authorization", "Basic eDp5"),
        ("Cookie", "session=1"),
        ("Proxy-Authorization", "Basic eDp5"),
    ];
    let (request, _) = auth(parts("GET", "/api", &credentials)).unwrap();
    assert_eq!(sorted(request.headers()), owned(&OWN));
}

#[test]
fn s5_bearer_tokens_in_websocket_protocols_are_removed() {
    let headers = [
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Protocol", "v5.channel.k8s.io, base64url.bearer.authorization.k8s.io.dG9r"),
        ("Sec-WebSocket-Protocol", "BASE64URL.bearer.authorization.k8s.io.dG9r"),
        (
            "Sec-WebSocket-Protocol",
            "\u{a0}base64url.bearer.authorization.k8s.io.dG9r,v4.channel.k8s.io",
        ),
    ];
    let protocols = |request: Request<()>| -> Vec<String> {
        let all = request.headers().get_all("sec-websocket-protocol");
        all.iter().map(|value| value.to_str().unwrap().to_owned()).collect()
    };
    let (request, _) = auth(parts("GET", "/api", &headers)).unwrap();
    assert_eq!(protocols(request), ["v5.channel.k8s.io", "v4.channel.k8s.io"]);
    let (request, _) = noauth(parts("GET", "/api", &headers[..4])).unwrap();
    assert_eq!(protocols(request).len(), 2, "in noauth mode it is the client's credential");
}

#[test]
fn s6_groups_are_headers_of_their_own() {
    let (request, _) = auth(parts("GET", "/api", &[])).unwrap();
    let groups: Vec<_> = request.headers().get_all("impersonate-group").iter().collect();
    assert_eq!(groups, ["dev", "system:authenticated"]);
    assert_eq!(request.headers().get_all("impersonate-user").iter().count(), 1);
}

#[test]
fn p3_every_path_is_passed_and_byte_for_byte() {
    for target in [
        "/",
        "/openapi/v3",
        "/livez?verbose",
        "/.well-known/openid-configuration",
        "/metrics",
        "//api//v1/../v1/pods",
        "/api/v1/namespaces/n/pods/a%2Fb%2f%20?x=%2F&y=+%20&&z",
        "/api/v1/pods?",
        "/api/v1/pods?fieldSelector=metadata.name%3Dx",
        "/a;b=c/d|e\"f{g}",
    ] {
        let (request, _) = auth(parts("GET", target, &[])).unwrap();
        assert_eq!(request.uri().to_string(), target);
    }
}

#[test]
fn p8_the_client_is_recognisable() {
    let kept = [
        ("accept", "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"),
        ("accept-encoding", "gzip"),
        ("content-type", "application/apply-patch+yaml"),
        ("kubectl-command", "kubectl apply"),
        ("user-agent", "kubectl/v1.35.4"),
        ("x-stream-protocol-version", "v4.channel.k8s.io"),
        ("x-stream-protocol-version", "v3.channel.k8s.io"),
    ];
    let (request, _) = auth(parts("PATCH", "/api", &kept)).unwrap();
    assert_eq!(sorted(request.headers()), owned(&[&kept[..], &OWN[..]].concat()));
}

#[test]
fn methods_that_would_show_the_credential_are_refused() {
    assert_eq!(code(auth(parts("TRACE", "/api", &[]))), Err(405));
    assert_eq!(code(auth(parts("CONNECT", "10.0.0.1:443", &[]))), Err(405));
    assert_eq!(code(auth(parts("OPTIONS", "*", &[]))), Err(400));
    assert_eq!(code(auth(parts("GET", "http://10.0.0.1/api", &[]))), Err(400));
    assert_eq!(code(auth(parts("POST", "/api", &[("Expect", "200-ok")]))), Err(417));
}

#[test]
fn an_upgrade_is_asked_for_anew() {
    let spdy = [("Connection", "Upgrade, X-Other"), ("Upgrade", "spdy/3.1"), ("X-Other", "1")];
    let (request, wishes) = auth(parts("POST", "/api", &spdy)).unwrap();
    assert_eq!(wishes.upgrade, Some(Upgrade::Spdy));
    let upgrade = [("connection", "Upgrade"), ("upgrade", "SPDY/3.1")];
    assert_eq!(sorted(request.headers()), owned(&[&upgrade[..], &OWN[..]].concat()));
    let h2c = [
        ("Connection", "Upgrade, HTTP2-Settings"),
        ("Upgrade", "h2c"),
        ("HTTP2-Settings", "AAMAAABkAAQAAP__"),
    ];
    assert_eq!(code(auth(parts("GET", "/api", &h2c))), Err(400));
    assert_eq!(code(noauth(parts("GET", "/api", &h2c))), Err(400));
}

#[test]
fn s11_no_answer_has_a_word_of_cors() {
    let mut parts = http::Response::builder()
        .status(200)
        .header("access-control-allow-origin", "*")
        .header("access-control-allow-credentials", "true")
        .header("connection", "close, x-hop")
        .header("x-hop", "1")
        .header("keep-alive", "timeout=5")
        .header("retry-after", "1")
        .header("warning", "299 - \"old\"")
        .header("audit-id", "42")
        .header("x-kubernetes-pf-flowschema-uid", "u")
        .body(())
        .unwrap()
        .into_parts()
        .0;
    answer(&mut parts, None);
    let kept = [
        ("audit-id", "42"),
        ("retry-after", "1"),
        ("warning", "299 - \"old\""),
        ("x-kubernetes-pf-flowschema-uid", "u"),
    ];
    assert_eq!(sorted(&parts.headers), owned(&kept));
}

/// Names and values that are likely to confuse, beside arbitrary ones.
fn header() -> impl Strategy<Value = (String, String)> {
    let name = prop_oneof![
        4 => prop::sample::select(vec![
            "Connection", "Authorization", "Impersonate-User", "impersonate-group", "Impersonate-Uid",
            "Impersonate-Extra-A", "X-Remote-User", "x-remote-group", "X-Forwarded-For", "Forwarded",
            "X-Real-Ip", "Cookie", "Upgrade", "TE", "Trailer", "Transfer-Encoding", "Content-Length",
            "Keep-Alive", "Proxy-Authorization", "Sec-WebSocket-Protocol", "Host", "Origin", "Expect",
            "Accept", "User-Agent",
        ]).prop_map(str::to_owned),
        1 => "[!#$%&'*+.^_`|~0-9A-Za-z-]{1,20}",
    ];
    let value = prop_oneof![
        4 => prop::sample::select(vec![
            "impersonate-user", "impersonate-user, authorization ,impersonate-group", "Upgrade",
            "upgrade, close", "websocket", "SPDY/3.1", "h2c", "chunked", "0", "system:masters",
            "10.0.0.1", "base64url.bearer.authorization.k8s.io.eA", "100-continue", "trailers", "",
        ]).prop_map(str::to_owned),
        1 => "[\\t -~\u{80}-\u{ff}]{0,30}",
    ];
    (name, value)
}

const IDENTITY: [&str; 6] =
    ["authorization", "impersonate-", "x-forwarded-", "x-remote-", "x-real-ip", "forwarded"];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Whatever is forwarded says exactly what the proxy says about who it is, and nothing of the client's hop.
    #[test]
    fn every_forwarded_request_has_exactly_the_proxys_identity(
        headers in prop::collection::vec(header(), 0..8),
    ) {
        let headers: Vec<_> = headers.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        let Ok((request, wishes)) = auth(parts("POST", "/api/v1/pods", &headers)) else {
            return Ok(());
        };
        let all = sorted(request.headers());
        let speaks = |name: &String| {
            name == "host" || IDENTITY.iter().any(|prefix| name.starts_with(prefix))
        };
        let said: Vec<_> = all.iter().filter(|(name, _)| speaks(name)).cloned().collect();
        prop_assert_eq!(said, owned(&OWN));
        let names: HashSet<&str> = all.iter().map(|(name, _)| name.as_str()).collect();
        for name in ["te", "trailer", "transfer-encoding", "content-length", "keep-alive", "cookie"] {
            prop_assert!(!names.contains(name), "{}", name);
        }
        prop_assert!(!names.iter().any(|name| name.starts_with("proxy-")));
        prop_assert_eq!(names.contains("upgrade"), wishes.upgrade.is_some());
        prop_assert_eq!(names.contains("connection"), wishes.upgrade.is_some());
        let bears = |value: &String| value.to_lowercase().contains("base64url.bearer");
        prop_assert!(!all.iter().any(|(name, value)| name == "sec-websocket-protocol" && bears(value)));
    }

    /// In noauth mode no credential appears that the client has not presented.
    #[test]
    fn noauth_adds_no_identity(headers in prop::collection::vec(header(), 0..8)) {
        let headers: Vec<_> = headers.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        let incoming = parts("GET", "/api/v1/pods", &headers);
        let before = sorted(&incoming.headers);
        let Ok((request, _)) = noauth(incoming) else { return Ok(()) };
        for pair in sorted(request.headers()) {
            let own = ["host", "x-forwarded-for", "connection", "upgrade"].contains(&pair.0.as_str());
            prop_assert!(own || before.contains(&pair), "{:?}", pair);
        }
    }
}
