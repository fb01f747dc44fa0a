//! Requests and answers pass as they are, streams as they come.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::Notify;

use crate::support::*;

#[tokio::test]
async fn a_request_arrives_as_the_proxys_and_its_answer_returns() {
    for (upstream_tls, listener_tls) in [(false, false), (true, true)] {
        let api = Api::echo(upstream_tls).await;
        let world = world(config(api.address, upstream_tls), listener_tls).await;
        let (head, body) = world
            .ask("POST /api/v1/pods?dryRun=All%2F HTTP/1.1\r\nHost: 10.0.0.1\r\nUser-Agent: kubectl/v1.35.4\r\nX-Forwarded-For: 6.6.6.6\r\nAuthorization: Bearer client\r\nAccept-Encoding: gzip\r\nContent-Length: 5\r\n\r\nhello")
            .await;
        assert_eq!(head.code(), 200);
        assert_eq!(head.get("audit-id"), Some("a1"));
        assert_eq!(head.all("access-control-allow-origin"), [""; 0]);
        let said = said(&body);
        assert_eq!(said["first"], "POST /api/v1/pods?dryRun=All%2F HTTP/1.1");
        assert_eq!(said["body"], 5);
        let mut headers = api.seen()[0].headers.clone();
        headers.sort();
        let host = api.address.to_string();
        let expected = [
            ("accept-encoding", "gzip"),
            ("authorization", "Bearer proxy"),
            ("content-length", "5"),
            ("host", &host),
            ("impersonate-group", "dev"),
            ("impersonate-user", "jane"),
            ("user-agent", "kubectl/v1.35.4"),
            ("x-forwarded-for", "127.0.0.1"),
        ];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(headers, expected);
    }
}

#[tokio::test]
async fn connections_to_the_api_server_are_used_again() {
    let api = Api::echo(true).await;
    let world = world(config(api.address, true), false).await;
    let mut pipe = world.connect().await;
    for number in 0..20 {
        let body = if number % 2 == 0 { "" } else { "x" };
        let request = format!(
            "POST /api/{number} HTTP/1.1\r\nHost: 10.0.0.1\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        pipe.write(request).await;
        let (head, _) = soon("an answer", pipe.answer()).await.unwrap();
        assert_eq!(head.code(), 200);
    }
    assert_eq!(api.connections.load(std::sync::atomic::Ordering::Relaxed), 1);
}

#[tokio::test]
async fn p1_a_watch_passes_each_event_at_once_and_may_be_silent() {
    let next = Arc::new(Notify::new());
    let script = Arc::clone(&next);
    let api = Api::start(None, move |_, mut pipe, _| {
        let next = Arc::clone(&script);
        async move {
            pipe.head().await;
            pipe.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await;
            for _ in 0..3 {
                next.notified().await;
                pipe.write("8\r\n{\"a\":1}\n\r\n").await;
            }
            next.notified().await;
            pipe.write("0\r\n\r\n").await;
        }
    })
    .await;
    let mut config = config(api.address, false);
    // None of these may end a stream.
    config.timeouts.upstream_headers = Duration::from_millis(50);
    config.timeouts.client_headers = Duration::from_millis(50);
    let world = world(config, false).await;
    let mut pipe = world.connect().await;
    pipe.write(get("/api/v1/pods?watch=true")).await;
    let head = soon("the watch", pipe.head()).await.unwrap();
    assert_eq!(head.get("transfer-encoding"), Some("chunked"));
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_millis(80)).await;
        next.notify_one();
        assert_eq!(soon("an event", pipe.chunk()).await.unwrap(), b"{\"a\":1}\n");
    }
    next.notify_one();
    assert_eq!(soon("the end", pipe.chunk()).await.unwrap(), b"");
}

#[tokio::test]
async fn p1_silent_logs_wait_for_their_first_line() {
    let go = Arc::new(Notify::new());
    let script = Arc::clone(&go);
    let api = Api::start(None, move |_, mut pipe, _| {
        let go = Arc::clone(&script);
        async move {
            pipe.head().await;
            go.notified().await;
            pipe.write(ok("line")).await;
        }
    })
    .await;
    let mut config = config(api.address, false);
    config.timeouts.upstream_headers = Duration::from_millis(30);
    let world = world(config, false).await;
    let mut pipe = world.connect().await;
    pipe.write(get("/api/v1/namespaces/n/pods/p/log?follow=true")).await;
    let early = tokio::time::timeout(Duration::from_millis(150), pipe.more()).await;
    assert!(early.is_err(), "{:?}", String::from_utf8_lossy(&pipe.buffer));
    go.notify_one();
    assert_eq!(soon("logs", pipe.answer()).await.unwrap().1, b"line");
}

#[tokio::test]
async fn a_body_of_50_mb_streams_both_ways() {
    const SIZE: usize = 50 << 20;
    for tls in [false, true] {
        let acceptor = tls.then(|| acceptor(pki(), false));
        let api = Api::start(acceptor, |_, mut pipe, _| async move {
            let head = pipe.head().await.unwrap();
            let length: usize = head.get("content-length").unwrap().parse().unwrap();
            pipe.write(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n")).await;
            // Echoed as it comes: nobody could hold it all back.
            let mut left = length;
            while left > 0 {
                if pipe.buffer.is_empty() && !pipe.more().await {
                    return;
                }
                let part = std::mem::take(&mut pipe.buffer);
                left -= part.len();
                pipe.write(&part).await;
            }
        })
        .await;
        let world = world(config(api.address, tls), tls).await;
        let pipe = world.connect().await;
        let (mut reader, mut writer) = tokio::io::split(pipe.stream);
        let send = async {
            use tokio::io::AsyncWriteExt;
            let head = format!(
                "PUT /api/v1/x HTTP/1.1\r\nHost: 10.0.0.1\r\nContent-Length: {SIZE}\r\n\r\n"
            );
            writer.write_all(head.as_bytes()).await.unwrap();
            let part = vec![7; 64 << 10];
            for _ in 0..SIZE / part.len() {
                writer.write_all(&part).await.unwrap();
            }
            writer.flush().await.unwrap();
        };
        let receive = async {
            use tokio::io::AsyncReadExt;
            let (mut total, mut chunk) = (0, vec![0; 64 << 10]);
            while total < SIZE {
                let count = reader.read(&mut chunk).await.unwrap();
                assert!(count > 0, "ended after {total} bytes");
                total += count;
            }
        };
        soon("50 MB there and back", async { tokio::join!(send, receive) }).await;
        until("the record", || world.proxy.counters().snapshot().in_flight == 0).await;
        let counted = world.proxy.counters().snapshot();
        assert_eq!(counted.received_bytes, SIZE as u64);
        assert_eq!(counted.sent_bytes, SIZE as u64);
    }
}

/// The API server refuses what is too large before it has read it, and closes. Who is still sending then must
/// be able to read why.
#[tokio::test]
async fn an_answer_that_comes_early_is_not_lost() {
    const SIZE: usize = 50_000_000;
    const ANSWER: &str =
        "HTTP/1.1 413 Payload Too Large\r\nConnection: close\r\nContent-Length: 4\r\n\r\nlong";
    let api = Api::start(None, |_, mut pipe, _| async move {
        pipe.head().await.unwrap();
        pipe.exactly(100_000).await;
        pipe.write(ANSWER).await;
        // As Go's server: it does not read on, and does not close at once.
        tokio::time::sleep(Duration::from_millis(500)).await;
    })
    .await;
    for tls in [false, true] {
        let world = world(config(api.address, false), tls).await;
        for _ in 0..5 {
            let (mut reader, mut writer) = tokio::io::split(world.connect().await.stream);
            let head =
                format!("POST / HTTP/1.1\r\nHost: 10.0.0.1\r\nContent-Length: {SIZE}\r\n\r\n");
            writer.write_all(head.as_bytes()).await.unwrap();
            // All of it is sent before anything is read, as a simple client does.
            let chunk = vec![b'x'; 64 << 10];
            for _ in 0..SIZE / chunk.len() {
                soon("sending", writer.write_all(&chunk)).await.unwrap();
            }
            let mut answer = vec![0; 30];
            soon("the answer", reader.read_exact(&mut answer)).await.unwrap();
            assert_eq!(String::from_utf8_lossy(&answer), ANSWER[..30]);
        }
    }
}

#[tokio::test]
async fn the_body_is_asked_for_when_the_api_server_asks_for_it() {
    let api = Api::start(None, |_, mut pipe, _| async move {
        while let Some(head) = pipe.head().await {
            match head.target() {
                "/too-large" => {
                    assert_eq!(head.get("expect"), Some("100-continue"));
                    pipe.write("HTTP/1.1 413 Payload Too Large\r\nContent-Length: 0\r\n\r\n").await;
                    assert!(pipe.rest().await.is_empty(), "nobody asked for the body");
                    return;
                }
                "/never-asks" => {
                    assert_eq!(pipe.body(&head).await.unwrap(), b"hello");
                    pipe.write(ok("asked by itself")).await;
                }
                _ => {
                    assert!(pipe.buffer.is_empty(), "the body came before it was asked for");
                    pipe.write("HTTP/1.1 100 Continue\r\n\r\n").await;
                    assert_eq!(pipe.body(&head).await.unwrap(), b"hello");
                    pipe.write(ok("got it")).await;
                }
            }
        }
    })
    .await;
    let mut config = config(api.address, false);
    config.timeouts.expect_continue = Duration::from_millis(50);
    let impatient = world(config.clone(), false).await;
    config.timeouts.expect_continue = Duration::from_secs(3600);
    let world = world(config, false).await;
    let request = |target: &str| {
        format!(
            "POST {target} HTTP/1.1\r\nHost: 10.0.0.1\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"
        )
    };
    let mut pipe = world.connect().await;
    pipe.write(request("/ok")).await;
    assert_eq!(soon("100", pipe.head()).await.unwrap().code(), 100);
    pipe.write("hello").await;
    assert_eq!(soon("200", pipe.answer()).await.unwrap().1, b"got it");

    let mut pipe = world.connect().await;
    pipe.write(request("/too-large")).await;
    assert_eq!(soon("413 without a 100", pipe.head()).await.unwrap().code(), 413);

    let mut pipe = impatient.connect().await;
    pipe.write(request("/never-asks")).await;
    assert_eq!(soon("100", pipe.head()).await.unwrap().code(), 100);
    pipe.write("hello").await;
    assert_eq!(soon("200", pipe.answer()).await.unwrap().1, b"asked by itself");
}

#[tokio::test]
async fn p2_an_answer_that_breaks_off_is_no_whole_answer() {
    let api = Api::start(None, |number, mut pipe, _| async move {
        pipe.head().await;
        let framing =
            if number == 0 { "Transfer-Encoding: chunked" } else { "Content-Length: 100" };
        pipe.write(format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n5\r\nhello\r\n")).await;
    })
    .await;
    let world = world(config(api.address, false), false).await;
    for _ in 0..2 {
        let mut pipe = world.connect().await;
        pipe.write(get("/api")).await;
        // It may break off before the head is out.
        let code = soon("a head", pipe.head()).await.map(|head| head.code());
        assert!(matches!(code, None | Some(200)), "{code:?}");
        let rest = soon("the end", pipe.rest()).await;
        assert!(find(&rest, b"0\r\n\r\n").is_none() && rest.len() < 100, "{rest:?}");
    }
}

#[tokio::test]
async fn trailers_and_lengths_of_head_answers() {
    let api = Api::start(None, |_, mut pipe, _| async move {
        while let Some(head) = pipe.head().await {
            if head.first.starts_with("HEAD") {
                pipe.write("HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n").await;
            } else {
                pipe.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x-t\r\n\r\n2\r\nab\r\n0\r\nX-T: 1\r\n\r\n").await;
            }
        }
    })
    .await;
    let world = world(config(api.address, false), false).await;
    let mut pipe = world.connect().await;
    pipe.write("HEAD /api HTTP/1.1\r\nHost: 10.0.0.1\r\n\r\n").await;
    assert_eq!(soon("a head", pipe.head()).await.unwrap().get("content-length"), Some("1234"));
    pipe.write(get("/api")).await;
    let (head, body) = soon("an answer", pipe.answer()).await.unwrap();
    assert_eq!((head.get("trailer"), body), (None, b"ab".to_vec()));
    assert_eq!(api.connections.load(std::sync::atomic::Ordering::Relaxed), 1);
}
