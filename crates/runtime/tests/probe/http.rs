use std::time::Duration;

use holdfast_lifecycle::ProbeResult;
use holdfast_runtime::probe::{Handler, HttpGet, Target};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::server::{Server, acceptor, full_port, http, http_at, https, response, run};
use crate::{LOCAL, LOCAL6, LONG, SHORT, ask, closed_port, failure};

/// A GET of `path` from the pod itself.
fn get(port: u16, path: &str) -> HttpGet {
    HttpGet { https: false, host: None, port, path: path.to_owned(), headers: Vec::new() }
}

async fn probe_with(target: Target, get: HttpGet) -> ProbeResult {
    ask(target, Handler::HttpGet(get), LONG).await
}

async fn probe(port: u16, path: &str) -> ProbeResult {
    probe_with(LOCAL, get(port, path)).await
}

/// A GET with headers; what the server got.
async fn headers_sent(headers: &[(&str, &str)]) -> String {
    let server = http(|_| response("200 OK", "", "")).await;
    let headers = headers.iter().map(|&(n, v)| (n.to_owned(), v.to_owned())).collect();
    let get = HttpGet { headers, ..get(server.port(), "/") };
    assert_eq!(probe_with(LOCAL, get).await, ProbeResult::Success);
    server.requests().concat().replace(&server.address.to_string(), "ADDRESS")
}

#[test]
fn the_status_decides() {
    run(async {
        let server = http(|path| response(&path[1..].replace('-', " "), "", "secret")).await;
        for path in ["/200-OK", "/204-No", "/299-x"] {
            assert_eq!(probe(server.port(), path).await, ProbeResult::Success, "{path}");
        }
        for (path, code) in
            [("/400-Bad", 400), ("/404-Gone", 404), ("/500-x", 500), ("/101-x", 101)]
        {
            let words = format!("HTTP probe failed with statuscode: {code}");
            assert_eq!(probe(server.port(), path).await, failure(words), "{path}");
        }
        let words = "Probe terminated redirects, Response body: secret".to_owned();
        for path in ["/300-Multiple", "/305-Use", "/302-without-location"] {
            let want = ProbeResult::Warning(words.clone());
            assert_eq!(probe(server.port(), path).await, want, "{path}");
        }
    });
}

#[test]
fn the_request_is_the_kubelets() {
    run(async {
        let plain = "GET / HTTP/1.1\r\nHost: ADDRESS\r\nUser-Agent: kube-probe/1.35\r\n\
                     Accept: */*\r\nConnection: close\r\n\r\n";
        assert_eq!(headers_sent(&[]).await, plain);
        let all = [
            ("host", "example.com"),
            ("User-Agent", "me"),
            ("X-Two", "1"),
            ("x-two", "2"),
            ("Accept", ""),
            ("Content-Length", "7"),
        ];
        let sent = headers_sent(&all).await;
        let mut lines: Vec<&str> = sent.split_terminator("\r\n").collect();
        assert_eq!(lines.remove(0), "GET / HTTP/1.1");
        lines.sort_unstable();
        let want = [
            "",
            "Connection: close",
            "Host: example.com",
            "User-Agent: me",
            "X-Two: 1",
            "X-Two: 2",
        ];
        assert_eq!(lines, want);
    });
}

#[test]
fn a_path_may_have_a_query() {
    run(async {
        let server = http(|_| response("200 OK", "", "")).await;
        assert_eq!(probe(server.port(), "/a b?c=d#e").await, ProbeResult::Success);
        assert!(server.requests()[0].starts_with("GET /a%20b?c=d HTTP/1.1\r\n"));
    });
}

#[test]
fn a_bad_header_fails_without_a_request() {
    run(async {
        let server = http(|_| response("200 OK", "", "")).await;
        let headers = vec![("A".to_owned(), "b\r\nC: d".to_owned())];
        let result = probe_with(LOCAL, HttpGet { headers, ..get(server.port(), "/") }).await;
        let url = format!("http://{}/", server.address);
        let words = format!("Get {url:?}: net/http: invalid header field value for \"a\"");
        assert_eq!(result, failure(words));
        assert!(server.requests().is_empty());
    });
}

#[test]
fn redirects_on_the_same_host_are_followed() {
    run(async {
        // A redirect to another port of the same host is followed too.
        let other = http(|path| response("200 OK", "", path)).await;
        let location = format!("http://{}/end", other.address);
        let server = http(move |path| match path {
            "/relative" => response("301 Moved", "Location: next\r\n", ""),
            "/next" => response("307 Temporary", &format!("Location: {location}\r\n"), ""),
            _ => response("302 Found", "Location: /broken\r\n", ""),
        })
        .await;
        let headers = vec![("Host".to_owned(), "example.com".to_owned())];
        let first = HttpGet { headers, ..get(server.port(), "/relative") };
        assert_eq!(probe_with(LOCAL, first).await, ProbeResult::Success);
        let requests = server.requests();
        assert_eq!(requests.len(), 2);
        assert!(requests[1].starts_with("GET /next HTTP/1.1\r\nHost: example.com\r\n"));
        let last = &other.requests()[0];
        let host = format!("GET /end HTTP/1.1\r\nHost: {}\r\n", other.address);
        assert!(last.starts_with(&host), "{last}");
        assert!(last.contains(&format!("\r\nReferer: http://{}/relative\r\n", server.address)));
    });
}

#[test]
fn a_redirect_to_a_failing_path_fails() {
    run(async {
        let server = http(|path| match path {
            "/" => response("302 Found", "Location: /fail\r\n", ""),
            _ => response("503 Service Unavailable", "", ""),
        })
        .await;
        let words = "HTTP probe failed with statuscode: 503";
        assert_eq!(probe(server.port(), "/").await, failure(words));
    });
}

#[test]
fn a_redirect_to_another_host_is_a_warning() {
    run(async {
        let server = http(|path| {
            let to = if path == "/ftp" { "ftp://other/x" } else { "http://0.0.0.0/" };
            let body = "<a href=\"http://0.0.0.0/\">Found</a>.\n\n";
            response("302 Found", &format!("Location: {to}\r\n"), body)
        })
        .await;
        let body = "<a href=\"http://0.0.0.0/\">Found</a>.\n\n";
        let words = format!("Probe terminated redirects, Response body: {body}");
        for path in ["/", "/ftp"] {
            assert_eq!(probe(server.port(), path).await, ProbeResult::Warning(words.clone()));
        }
        assert_eq!(server.requests().len(), 2);
    });
}

#[test]
fn redirects_do_not_go_round_for_ever() {
    run(async {
        let server = http(|_| response("302 Found", "Location: /again\r\n", "")).await;
        let words = "Get \"/again\": stopped after 10 redirects";
        assert_eq!(probe(server.port(), "/").await, failure(words));
        assert_eq!(server.requests().len(), 10);
    });
}

#[test]
fn a_redirect_to_nonsense_fails() {
    run(async {
        let server = http(|_| response("302 Found", "Location: http://[::1/\r\n", "")).await;
        let ProbeResult::Failure(words) = probe(server.port(), "/").await else {
            panic!("it did not fail");
        };
        assert!(words.contains("failed to parse Location header \"http://[::1/\""), "{words}");
    });
}

#[test]
fn a_refused_connection_fails() {
    run(async {
        let (_holder, port) = closed_port();
        let at = format!("127.0.0.1:{port}");
        let words = format!("Get \"http://{at}/\": dial tcp {at}: connect: connection refused");
        assert_eq!(probe(port, "/").await, failure(words));
    });
}

#[test]
fn no_answer_in_time_fails() {
    run(async {
        let words = |port| {
            failure(format!(
                "Get \"http://127.0.0.1:{port}/\": context deadline exceeded \
                 (Client.Timeout exceeded while awaiting headers)"
            ))
        };
        // Accepted and silent; then not even accepted.
        let server =
            Server::new("127.0.0.1:0", async |_stream, _| std::future::pending().await).await;
        let handler = Handler::HttpGet(get(server.port(), "/"));
        assert_eq!(ask(LOCAL, handler, SHORT).await, words(server.port()));
        let (port, _kept) = full_port().await;
        assert_eq!(ask(LOCAL, Handler::HttpGet(get(port, "/")), SHORT).await, words(port));
    });
}

/// Answers with this, then waits for the client to go.
async fn half(text: &'static str) -> Server {
    Server::new("127.0.0.1:0", async |mut stream: TcpStream, log| {
        log.lock().unwrap().push(text.to_owned());
        let mut got = [0; 1000];
        let _ = stream.read(&mut got).await;
        let _ = stream.write_all(text.as_bytes()).await;
        let _ = stream.read(&mut got).await;
    })
    .await
}

#[test]
fn a_body_that_does_not_end_is_an_error_and_tried_again() {
    run(async {
        let server = half("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx").await;
        let result = ask(LOCAL, Handler::HttpGet(get(server.port(), "/")), SHORT).await;
        let words = "context deadline exceeded \
                     (Client.Timeout or context cancellation while reading body)";
        assert_eq!(result, ProbeResult::Error(words.to_owned()));
        assert_eq!(server.requests().len(), 3);
    });
}

#[test]
fn a_broken_answer_fails() {
    run(async {
        for (text, want) in [
            ("", "EOF"),
            ("HTTP/1.1 2", "EOF"),
            ("SSH-2.0-x\r\n\r\n", "net/http: HTTP/1.x transport connection broken"),
        ] {
            let server = Server::new("127.0.0.1:0", async |mut stream: TcpStream, _| {
                let mut got = [0; 1000];
                let _ = stream.read(&mut got).await;
                let _ = stream.write_all(text.as_bytes()).await;
            })
            .await;
            let ProbeResult::Failure(words) = probe(server.port(), "/").await else {
                panic!("{text:?} did not fail");
            };
            let start = format!("Get \"http://{}/\": {want}", server.address);
            assert!(words.starts_with(&start), "{words}");
        }
    });
}

#[test]
fn a_reset_connection_fails() {
    run(async {
        let server = Server::new("127.0.0.1:0", async |mut stream: TcpStream, _| {
            let _ = stream.read_u8().await;
            stream.set_zero_linger().unwrap();
        })
        .await;
        let ProbeResult::Failure(words) = probe(server.port(), "/").await else {
            panic!("it did not fail");
        };
        let end = format!("->{}: read: connection reset by peer", server.address);
        assert!(words.contains(": read tcp 127.0.0.1:") && words.ends_with(&end), "{words}");
    });
}

#[test]
fn only_the_start_of_a_body_is_read() {
    run(async {
        // An endless body: the probe neither waits for its end nor keeps it.
        let server = Server::new("127.0.0.1:0", async |mut stream: TcpStream, _| {
            let _ = stream.write_all(b"HTTP/1.1 308 x\r\n\r\n").await;
            while stream.write_all(&[b'x'; 4000]).await.is_ok() {}
        })
        .await;
        let ProbeResult::Warning(words) = probe(server.port(), "/").await else {
            panic!("it is no warning");
        };
        assert_eq!(words.len(), "Probe terminated redirects, Response body: ".len() + (10 << 10));
    });
}

#[test]
fn ipv6_and_other_hosts() {
    run(async {
        let server = http_at("[::1]:0", |_| response("200 OK", "", "")).await;
        assert_eq!(probe_with(LOCAL6, get(server.port(), "/")).await, ProbeResult::Success);
        let by_name = HttpGet { host: Some("::1".to_owned()), ..get(server.port(), "/") };
        assert_eq!(probe_with(LOCAL, by_name).await, ProbeResult::Success);
        assert!(server.requests()[0].contains(&format!("Host: [::1]:{}\r\n", server.port())));
        let (_holder, port) = closed_port();
        let nobody = HttpGet { host: Some("127.0.0.1".to_owned()), ..get(port, "/") };
        assert!(matches!(probe_with(LOCAL6, nobody).await, ProbeResult::Failure(_)));
    });
}

#[test]
fn certificates_are_not_verified() {
    run(async {
        let server = https(|path| match path {
            "/" => response("200 OK", "", ""),
            _ => response("500 No", "", ""),
        })
        .await;
        let tls = |path| HttpGet { https: true, ..get(server.port(), path) };
        assert_eq!(probe_with(LOCAL, tls("/")).await, ProbeResult::Success);
        let by_name = HttpGet { host: Some("localhost".to_owned()), ..tls("/") };
        assert_eq!(probe_with(LOCAL, by_name).await, ProbeResult::Success);
        let words = "HTTP probe failed with statuscode: 500";
        assert_eq!(probe_with(LOCAL, tls("/x")).await, failure(words));
    });
}

#[test]
fn http2_is_spoken_where_the_server_wants_it() {
    run(async {
        let acceptor = acceptor(&[b"h2"]);
        let server = Server::new("127.0.0.1:0", async move |stream, log| {
            let session = acceptor.accept(stream).await.unwrap();
            let mut connection = h2::server::handshake(session).await.unwrap();
            while let Some(Ok((request, mut respond))) = connection.accept().await {
                log.lock().unwrap().push(format!("{} {:?}", request.uri(), request.headers()));
                let status = if request.uri().path() == "/" { 204 } else { 500 };
                let answer = ::http::Response::builder().status(status).body(()).unwrap();
                respond.send_response(answer, true).unwrap();
            }
        })
        .await;
        let tls = |path| HttpGet { https: true, ..get(server.port(), path) };
        assert_eq!(probe_with(LOCAL, tls("/")).await, ProbeResult::Success);
        let words = "HTTP probe failed with statuscode: 500";
        assert_eq!(probe_with(LOCAL, tls("/x")).await, failure(words));
        let first = &server.requests()[0];
        assert!(first.starts_with(&format!("https://{}/ ", server.address)), "{first}");
        assert!(first.contains("kube-probe/1.35") && !first.contains("connection"), "{first}");
    });
}

#[test]
fn tls_to_a_server_without_it_fails() {
    run(async {
        let plain = http(|_| response("200 OK", "", "")).await;
        let url = format!("https://{}/", plain.address);
        let result = probe_with(LOCAL, HttpGet { https: true, ..get(plain.port(), "/") }).await;
        let words = format!("Get {url:?}: http: server gave HTTP response to HTTPS client");
        assert_eq!(result, failure(words));
        let other = half("220 mail.example.com ESMTP\r\n").await;
        let result = probe_with(LOCAL, HttpGet { https: true, ..get(other.port(), "/") }).await;
        let ProbeResult::Failure(words) = result else { panic!("it did not fail") };
        assert!(
            words.starts_with(&format!("Get \"https://{}/\": tls: ", other.address)),
            "{words}"
        );
    });
}

#[test]
fn a_dropped_probe_leaves_no_connection() {
    run(async {
        let (closed, wait) = tokio::sync::oneshot::channel();
        let closed = std::cell::RefCell::new(Some(closed));
        let server = Server::new("127.0.0.1:0", async move |mut stream: TcpStream, _| {
            let mut rest = Vec::new();
            let _ = stream.read_to_end(&mut rest).await;
            if let Some(closed) = closed.take() {
                let _ = closed.send(());
            }
        })
        .await;
        let handler = Handler::HttpGet(get(server.port(), "/"));
        let _ = tokio::time::timeout(SHORT, ask(LOCAL, handler, LONG)).await.unwrap_err();
        tokio::time::timeout(Duration::from_secs(5), wait).await.unwrap().unwrap();
    });
}
