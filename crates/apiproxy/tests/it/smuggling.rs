//! Hundreds of requests that two readers might understand differently, each on a raw connection. Whatever
//! reaches the API server is one request for each that was accepted, with exactly the proxy's identity.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::Semaphore;

use crate::support::*;

/// A request (or several) as bytes, and how many of them may reach the API server.
struct Case {
    bytes: Vec<u8>,
    at_most: usize,
}

/// What a client would like to be.
const CLAIMS: [&str; 8] = [
    "Impersonate-User: admin",
    "Impersonate-Group: system:masters",
    "Impersonate-Uid: 0",
    "Impersonate-Extra-Scope: all",
    "X-Remote-User: admin",
    "X-Forwarded-For: 10.0.0.1",
    "X-Real-Ip: 10.0.0.1",
    "Authorization: Bearer stolen",
];

fn corpus() -> Vec<Case> {
    let mut all = Vec::new();
    let mut push = |text: String, at_most: usize| {
        // NUL and bytes beyond ASCII are written as such.
        let bytes = text.chars().map(|char| u8::try_from(u32::from(char)).unwrap()).collect();
        all.push(Case { bytes, at_most });
    };
    let host = "Host: 10.0.0.1\r\n";
    let inner = "GET /smuggled/@ HTTP/1.1\r\nHost: 10.0.0.1\r\nImpersonate-User: admin\r\n\r\n";
    let post =
        |headers: &str, body: &str| format!("POST /case/@ HTTP/1.1\r\n{host}{headers}\r\n{body}");

    // Content-Length against Transfer-Encoding, in every spelling.
    let names = [
        "Transfer-Encoding:",
        "transfer-encoding:",
        "TRANSFER-ENCODING:",
        "Transfer-Encoding :",
        "Transfer-Encoding\t:",
        " Transfer-Encoding:",
        "X: y\r\n Transfer-Encoding:",
        "X: y\r\n\tTransfer-Encoding:",
        "Transfer_Encoding:",
        "Transfer-Encoding\0:",
        "\u{b}Transfer-Encoding:",
        "Transfer-Encoding\u{a0}:",
    ];
    let values = [
        " chunked",
        "chunked",
        "\tchunked",
        " chunked ",
        " Chunked",
        " xchunked",
        " chunked, identity",
        " identity, chunked",
        " identity",
        " chunked, chunked",
        " \u{b}chunked",
        " chunked\0",
        " \"chunked\"",
        " chunked;q=1",
        " gzip, chunked",
        " ,chunked",
        "",
        " chunked\r\n x",
        " cow",
    ];
    for name in names {
        for value in values {
            let te = format!("{name}{value}\r\n");
            let hidden = format!("0\r\n\r\n{inner}");
            // The whole as a length, the end in chunks; then the other way round.
            push(post(&format!("Content-Length: {}\r\n{te}", hidden.len()), &hidden), 1);
            push(
                post(&format!("{te}Content-Length: 4\r\n"), &format!("5c\r\n{inner}\r\n0\r\n\r\n")),
                1,
            );
        }
        push(
            post(&format!("{name} chunked\r\n{name} identity\r\n"), &format!("0\r\n\r\n{inner}")),
            1,
        );
    }
    // Lengths that are none, or two.
    for value in [
        "5",
        "+5",
        "-5",
        "-0",
        "05",
        " 5 ",
        "5,5",
        "5, 6",
        "0x5",
        "5\0",
        "5\u{a0}",
        "1e1",
        "５",
        "18446744073709551621",
        "99999999999999999999999",
        "",
        "5;5",
        "5 5",
        "\u{b}5",
    ] {
        let value: String = value.chars().filter(|char| u32::from(*char) < 256).collect();
        for name in [
            "Content-Length:",
            "content-length:",
            "Content-Length :",
            " Content-Length:",
            "Content_Length:",
        ] {
            push(post(&format!("{name} {value}\r\n"), &format!("hello{inner}")), 1);
            push(
                post(&format!("Content-Length: 5\r\n{name} {value}\r\n"), &format!("hello{inner}")),
                1,
            );
        }
    }
    // Line ends.
    for end in ["\n", "\r", "\r\r\n", "\n\r", "\u{85}", "\0\r\n", "\r\n\r", " \r\n"] {
        for claim in CLAIMS {
            push(format!("GET /case/@ HTTP/1.1\r\nHost: 10.0.0.1\r\nX: y{end}{claim}\r\n\r\n"), 1);
        }
        push(format!("GET /case/@ HTTP/1.1{end}Host: 10.0.0.1{end}{end}{inner}"), 1);
        push(format!("GET /case/@ HTTP/1.1\r\n{host}X: y{end}{end}{inner}"), 1);
    }
    // Request lines.
    for line in [
        "GET  /case/@ HTTP/1.1",
        "GET /case/@  HTTP/1.1",
        "GET\t/case/@\tHTTP/1.1",
        "get /case/@ HTTP/1.1",
        "GET /case/@ HTTP/1.2",
        "GET /case/@ HTTP/2.0",
        "GET /case/@ HTTP/0.9",
        "GET /case/@ http/1.1",
        "GET /case/@",
        "GET /case/@ HTTP/1.1 HTTP/1.1",
        "GET case/@ HTTP/1.1",
        "GET * HTTP/1.1",
        "GET http://10.0.0.1/case/@ HTTP/1.1",
        "GET http://evil/case/@ HTTP/1.1",
        "GET //evil/case/@ HTTP/1.1",
        "GET /case/@\r HTTP/1.1",
        "GET /case/@\0 HTTP/1.1",
        "GET /case/@\u{e9} HTTP/1.1",
        "GET /case/@#/smuggled HTTP/1.1",
        "GET \\case\\@ HTTP/1.1",
        "CONNECT 10.0.0.1:443 HTTP/1.1",
        "TRACE /case/@ HTTP/1.1",
        "OPTIONS * HTTP/1.1",
        "G{T /case/@ HTTP/1.1",
        "GET /case/@?a b HTTP/1.1",
        " GET /case/@ HTTP/1.1",
        "\r\nGET /case/@ HTTP/1.1",
        "GET /case/@ HTTP/1.0",
        "GET ?/case/@ HTTP/1.1",
        "GET https:///case/@ HTTP/1.1",
        "GET /case/@ HTTP/1.1\u{b}",
        "PRI * HTTP/2.0",
        "M-SEARCH /case/@ HTTP/1.1",
    ] {
        push(format!("{line}\r\n{host}\r\n"), 1);
        push(format!("{line}\r\n{host}Content-Length: 0\r\nImpersonate-User: admin\r\n\r\n"), 0);
    }
    // Connection takes headers away, or is said to.
    for names in [
        "Impersonate-User",
        "impersonate-user, impersonate-group",
        "Authorization",
        "X-Forwarded-For",
        "close, Impersonate-User",
        "keep-alive,,,IMPERSONATE-GROUP ,",
        "Host",
        "Content-Length",
        "Transfer-Encoding",
        "\"Impersonate-User\"",
        "Impersonate-User;q=1",
        "Connection",
        "TE, Upgrade",
        "impersonate-user\u{a0}",
        "*",
        "Impersonate-Extra-Scope",
    ] {
        for value in [names.to_owned(), format!("Upgrade, {names}")] {
            push(post(&format!("Connection: {value}\r\nContent-Length: 2\r\n"), "ok"), 1);
            push(
                post(
                    &format!(
                        "Connection: x\r\nconnection: {value}\r\nTransfer-Encoding: chunked\r\n"
                    ),
                    "2\r\nok\r\n0\r\n\r\n",
                ),
                1,
            );
        }
    }
    // Claims, spelt so that someone may not know them again.
    for claim in CLAIMS {
        let (name, value) = claim.split_once(':').unwrap();
        for spelling in [
            name.to_owned(),
            name.to_lowercase(),
            name.to_uppercase(),
            name.replace('-', "_"),
            format!("{name} "),
            format!(" {name}"),
            format!("\t{name}"),
            format!("{name}\0"),
            format!("{name}\u{b}"),
            format!("X{name}"),
        ] {
            push(format!("GET /case/@ HTTP/1.1\r\n{host}{spelling}:{value}\r\n\r\n"), 1);
            push(
                format!(
                    "GET /case/@ HTTP/1.1\r\n{spelling}:{value}\r\n{spelling}:{value}\r\n{host}\r\n"
                ),
                1,
            );
        }
        push(format!("GET /case/@ HTTP/1.1\r\n{host}X: y\r\n {claim}\r\n\r\n"), 1);
        // In trailers.
        push(
            post(
                &format!("Transfer-Encoding: chunked\r\nTrailer: {name}\r\n"),
                &format!("2\r\nok\r\n0\r\n{claim}\r\n\r\n"),
            ),
            1,
        );
        push(
            post(
                "Transfer-Encoding: chunked\r\n",
                &format!("0\r\n{claim}\r\nContent-Length: 9\r\n\r\n"),
            ),
            1,
        );
    }
    // Chunks.
    for chunks in [
        "2;a=b\r\nok\r\n0\r\n\r\n",
        "2;a=\"\r\n\"\r\nok\r\n0\r\n\r\n",
        "2;\nok\r\n0\r\n\r\n",
        "2 \r\nok\r\n0\r\n\r\n",
        "02\r\nok\r\n0\r\n\r\n",
        "0x2\r\nok\r\n0\r\n\r\n",
        "+2\r\nok\r\n0\r\n\r\n",
        "-1\r\nok\r\n0\r\n\r\n",
        "2\nok\n0\n\n",
        "2\r\nokX\r\n0\r\n\r\n",
        "2\r\nok0\r\n\r\n",
        "\r\n2\r\nok\r\n0\r\n\r\n",
        "ffffffffffffffff\r\nok\r\n0\r\n\r\n",
        "10000000000000002\r\nok\r\n0\r\n\r\n",
        "2\r\nok\r\n\r\n",
        "2\r\nok\r\n0\r\nX\r\n\r\n",
        "2\r\nok\r\n0\r\n\r\r\n",
        "g\r\nok\r\n0\r\n\r\n",
        "2\r\nok\r\n00000\r\n\r\n",
        "2;a\rb\r\nok\r\n0\r\n\r\n",
        "2\r\r\nok\r\n0\r\n\r\n",
        "2\r\nok\r\n0;x=y\r\n\r\n",
    ] {
        push(post("Transfer-Encoding: chunked\r\n", &format!("{chunks}{inner}")), 1);
        push(post("Transfer-Encoding: chunked\r\n", chunks), 1);
    }
    // Hosts.
    for hosts in [
        "",
        "Host: evil\r\n",
        "Host: 10.0.0.1\r\nHost: evil\r\n",
        "Host: evil\r\nHost: 10.0.0.1\r\n",
        "Host: 10.0.0.1, evil\r\n",
        "Host: 10.0.0.1@evil\r\n",
        "Host: 10.0.0.1\r\n evil\r\n",
        "Host : 10.0.0.1\r\n",
        "Host: 10.0.0.1/x\r\n",
        "Host:\r\n",
        "Host: 10.0.0.1:port\r\n",
        "Host: 10.0.0.1#evil\r\n",
    ] {
        push(format!("GET /case/@ HTTP/1.1\r\n{hosts}\r\n"), 0);
    }
    // Upgrades, with another request behind.
    for upgrade in
        ["h2c", "HTTP/2.0", "h2c, websocket", "websocket\r\nUpgrade: h2c", "TLS/1.3", "\0websocket"]
    {
        let settings = "HTTP2-Settings: AAMAAABkAAQAAP__\r\n";
        push(
            format!(
                "GET /case/@ HTTP/1.1\r\n{host}Connection: Upgrade, HTTP2-Settings\r\n{settings}Upgrade: {upgrade}\r\n\r\n{inner}"
            ),
            0,
        );
    }
    for method in ["GET", "POST"] {
        // The API server here answers 200: no tunnel, and what follows is nobody's.
        push(
            format!(
                "{method} /case/@ HTTP/1.1\r\n{host}Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n{inner}"
            ),
            1,
        );
        push(
            format!(
                "{method} /case/@ HTTP/1.1\r\n{host}Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\nContent-Length: 4\r\n\r\n{inner}"
            ),
            0,
        );
    }
    // Honest pipelining: both are requests, and both are the proxy's.
    for first in [
        format!("GET /case/@ HTTP/1.1\r\n{host}\r\n"),
        post("Content-Length: 5\r\n", "hello"),
        post("Transfer-Encoding: chunked\r\n", "2\r\nok\r\n0\r\n\r\n"),
        post("Expect: 100-continue\r\nContent-Length: 5\r\n", "hello"),
        format!("HEAD /case/@ HTTP/1.1\r\n{host}\r\n"),
    ] {
        push(format!("{first}GET /second/@ HTTP/1.1\r\n{host}X-Remote-User: admin\r\n\r\n"), 2);
        push(format!("{first}{inner}"), 1);
    }
    all
}

/// A target belongs to a case, if it is allowed at all.
fn case_of(target: &str) -> Option<usize> {
    let path = target.trim_start_matches('/').trim_start_matches("evil/");
    let rest = path.strip_prefix("case/").or_else(|| path.strip_prefix("second/"))?;
    let digits = rest.find(|char: char| !char.is_ascii_digit()).unwrap_or(rest.len());
    rest[..digits].parse().ok()
}

/// What is wrong with a request that has reached the API server.
fn wrong(head: &Head, body: Option<&[u8]>) -> Option<String> {
    let token = |text: &str| {
        !text.is_empty()
            && text
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
    };
    if head.first.split(' ').count() != 3 || !head.first.ends_with(" HTTP/1.1") {
        return Some(format!("no request line: {:?}", head.first));
    }
    if case_of(head.target()).is_none() {
        return Some("smuggled".to_owned());
    }
    for (name, value) in &head.headers {
        if !token(name) || value.contains(|char: char| char.is_control() && char != '\t') {
            return Some(format!("no header: {name:?}: {value:?}"));
        }
    }
    let mut identity: Vec<(&str, &str)> = head
        .headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .filter(|(name, _)| {
            let prefixes = [
                "impersonate-",
                "x-remote-",
                "x-forwarded-",
                "x-real-ip",
                "forwarded",
                "authorization",
            ];
            prefixes.iter().any(|prefix| name.starts_with(prefix))
        })
        .collect();
    identity.sort_unstable();
    let own = [
        ("authorization", "Bearer proxy"),
        ("impersonate-group", "dev"),
        ("impersonate-user", "jane"),
        ("x-forwarded-for", "127.0.0.1"),
    ];
    if identity != own {
        return Some(format!("another identity: {identity:?}"));
    }
    let (lengths, codings) = (head.all("content-length"), head.all("transfer-encoding"));
    if lengths.len() + codings.len() > 1
        || codings.iter().any(|coding| *coding != "chunked")
        || lengths.iter().any(|length| length.parse::<u32>().is_err())
    {
        return Some(format!("two framings: {lengths:?} {codings:?}"));
    }
    if body.is_some_and(|body| {
        find(body, b"HTTP/1.1").is_some() && lengths.is_empty() && codings.is_empty()
    }) {
        return Some("a body without framing".to_owned());
    }
    None
}

type Log = Arc<Mutex<Vec<(String, Option<String>)>>>;

/// Answers with the target it has seen, and logs what is wrong.
async fn judge(log: Log) -> Api {
    Api::start(None, move |_, mut pipe, _| {
        let log = Arc::clone(&log);
        async move {
            while let Some(head) = pipe.head().await {
                let framing = wrong(&head, None);
                let sound = framing.as_deref().is_none_or(|wrong| !wrong.starts_with("two framings"));
                let body = if sound { pipe.body(&head).await } else { None };
                let wrong = framing.or_else(|| wrong(&head, body.as_deref()));
                // A body that broke off is a request that was not made.
                if body.is_some() || wrong.is_some() {
                    log.lock().unwrap().push((head.target().to_owned(), wrong));
                }
                if body.is_none() {
                    return;
                }
                let target = head.target();
                let length = target.len();
                let body = if head.first.starts_with("HEAD") { "" } else { target };
                pipe.write(format!(
                    "HTTP/1.1 200 OK\r\nX-Target: {target}\r\nContent-Length: {length}\r\n\r\n{body}"
                ))
                .await;
            }
        }
    })
    .await
}

/// The targets of the 200s among the answers.
async fn accepted(mut pipe: Pipe, is_head: bool) -> Vec<String> {
    let mut targets = Vec::new();
    while let Some(head) = pipe.head().await {
        if head.code() == 200 {
            targets.push(head.get("x-target").unwrap_or("none").to_owned());
        }
        let has_body = !(is_head && targets.len() == 1 && head.code() == 200);
        if head.code() != 100 && has_body && pipe.body(&head).await.is_none() {
            break;
        }
    }
    targets
}

#[tokio::test]
async fn s1_s2_s5_no_spelling_gets_past_the_rules() {
    let log = Log::default();
    let api = judge(Arc::clone(&log)).await;
    let mut config = config(api.address, false);
    config.timeouts.client_headers = Duration::from_millis(200);
    let world = Arc::new(world(config, false).await);
    let corpus = corpus();
    let count = corpus.len();
    assert!(count >= 500, "{count}");
    let at_once = Arc::new(Semaphore::new(100));
    let mut clients = tokio::task::JoinSet::new();
    let mut at_most = Vec::new();
    for (number, case) in corpus.into_iter().enumerate() {
        at_most.push((case.at_most, String::from_utf8_lossy(&case.bytes).into_owned()));
        let (at_once, world) = (Arc::clone(&at_once), Arc::clone(&world));
        clients.spawn(async move {
            let _permit = at_once.acquire_owned().await.unwrap();
            let (mut bytes, number_text) = (Vec::new(), number.to_string());
            for byte in &case.bytes {
                match byte {
                    b'@' => bytes.extend_from_slice(number_text.as_bytes()),
                    byte => bytes.push(*byte),
                }
            }
            let mut pipe = world.connect().await;
            pipe.write(&bytes).await;
            // Half a request is waited for; not for long.
            let answers = accepted(pipe, bytes.starts_with(b"HEAD"));
            let targets = tokio::time::timeout(Duration::from_millis(800), answers).await;
            (number, targets.ok())
        });
    }
    let answers = soon("all answers", clients.join_all()).await;
    let log = log.lock().unwrap();
    for (target, wrong) in log.iter() {
        let case = case_of(target).map(|case| &at_most[case].1);
        assert_eq!(*wrong, None, "{target} arrived of {case:?}");
    }
    let mut arrived: HashMap<usize, Vec<&str>> = HashMap::new();
    for (target, _) in log.iter() {
        arrived.entry(case_of(target).unwrap()).or_default().push(target);
    }
    let mut accepted = 0;
    for (number, answered) in answers {
        let (at_most, case) = &at_most[number];
        let arrived = arrived.remove(&number).unwrap_or_default();
        assert!(arrived.len() <= *at_most, "{arrived:?} of {case:?}");
        // Whoever timed out saw half an answer at most.
        if let Some(answered) = answered {
            assert_eq!(answered, arrived, "an answer for each that arrived: {case:?}");
        }
        accepted += usize::from(!arrived.is_empty());
    }
    println!("{count} cases, {accepted} accepted");
    assert!(accepted > 100 && count - accepted > 300, "{accepted} of {count}");
}
