//! An API server that is not there, slow, or not what it should be.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use holdfast_apiproxy::{CheckError, NewError, Proxy, UpstreamError};
use tokio::net::TcpListener;

use crate::support::*;

#[tokio::test]
async fn an_api_server_that_is_not_there_is_a_503() {
    let address = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap()
    };
    let world = world(config(address, false), false).await;
    let answer = world.ask(&get("/api")).await;
    let (code, reason, message) = status(&answer);
    assert_eq!((code, reason.as_str()), (503, "ServiceUnavailable"));
    assert!(message.contains(&address.to_string()), "{message}");
    assert_eq!(answer.0.get("retry-after"), Some("1"), "nothing was sent, so repeat");
    let check = world.proxy.check_upstream(PATIENCE).await;
    assert!(matches!(check, Err(CheckError::Unanswered(_))), "{check:?}");
    assert_eq!(world.proxy.counters().snapshot().upstream_errors, 1);
}

#[tokio::test]
async fn a_slow_api_server_is_a_504_and_delays_nobody_else() {
    let api = Api::start(None, |_, mut pipe, seen| async move {
        while let Some(head) = pipe.head().await {
            if head.target() == "/slow" {
                // Everything is read, and nothing said.
                pipe.rest().await;
                return;
            }
            seen.lock().unwrap().push(head);
            pipe.write(ok("{}")).await;
        }
    })
    .await;
    let mut config = config(api.address, false);
    config.timeouts.upstream_headers = Duration::from_millis(400);
    let world = world(config, false).await;
    let mut slow = Vec::new();
    for _ in 0..100 {
        let mut pipe = world.connect().await;
        pipe.write(get("/slow")).await;
        slow.push(pipe);
    }
    let began = Instant::now();
    assert_eq!(world.ask(&get("/api")).await.0.code(), 200);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    for pipe in &mut slow {
        let answer = soon("504", pipe.answer()).await.unwrap();
        let (code, reason, _) = status(&answer);
        assert_eq!((code, reason.as_str()), (504, "Timeout"));
        assert_eq!(answer.0.get("retry-after"), None, "it may have been carried out");
    }
    let within = Duration::from_millis(1);
    assert_ne!(world.proxy.check_upstream(PATIENCE).await, Err(CheckError::TimedOut(within)));
}

#[tokio::test]
async fn a_body_may_take_its_time() {
    let api = Api::echo(false).await;
    let mut config = config(api.address, false);
    config.timeouts.upstream_headers = Duration::from_millis(50);
    let world = world(config, false).await;
    let mut pipe = world.connect().await;
    pipe.write("PUT /api HTTP/1.1\r\nHost: 10.0.0.1\r\nContent-Length: 4\r\n\r\n").await;
    for byte in ["a", "b", "c", "d"] {
        tokio::time::sleep(Duration::from_millis(40)).await;
        pipe.write(byte).await;
    }
    assert_eq!(soon("an answer", pipe.answer()).await.unwrap().0.code(), 200);
}

#[tokio::test]
async fn what_is_no_http_is_a_502() {
    for nonsense in [
        "SSH-2.0-OpenSSH_9\r\n",
        "",
        "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    ] {
        let api = Api::start(None, move |_, mut pipe, _| async move {
            pipe.head().await;
            pipe.write(nonsense).await;
        })
        .await;
        let world = world(config(api.address, false), false).await;
        let (code, reason, _) = status(&world.ask(&get("/api")).await);
        assert_eq!((code, reason.as_str()), (502, "InternalError"), "{nonsense:?}");
    }
}

#[tokio::test]
async fn huge_headers_of_the_api_server_pass_up_to_a_limit() {
    let api = Api::start(None, |_, mut pipe, _| async move {
        while let Some(head) = pipe.head().await {
            let size = if head.target() == "/large" { 100 << 10 } else { 2 << 20 };
            let value = "x".repeat(size);
            pipe.write(format!("HTTP/1.1 200 OK\r\nX: {value}\r\nContent-Length: 0\r\n\r\n")).await;
        }
    })
    .await;
    let world = world(config(api.address, false), false).await;
    let (head, _) = world.ask(&get("/large")).await;
    assert_eq!(head.get("x").unwrap().len(), 100 << 10);
    assert_eq!(status(&world.ask(&get("/too-large")).await).0, 502);
}

/// Answers one request a connection and closes it then, as if idle for too long; the second connection's
/// first request is not answered at all.
async fn closing() -> Api {
    Api::start(None, |_, mut pipe, seen| async move {
        let mut first = true;
        while let Some(head) = pipe.head().await {
            seen.lock().unwrap().push(head);
            if !first {
                return;
            }
            first = false;
            pipe.write(ok("{}")).await;
        }
    })
    .await
}

#[tokio::test]
async fn only_what_changes_nothing_is_sent_again() {
    let api = closing().await;
    let mut config = config(api.address, false);
    // Which connections are kept depends on the thread.
    config.limits.threads = 1;
    let world = world(config, false).await;
    assert_eq!(world.ask(&get("/one")).await.0.code(), 200);
    // The kept connection closes on the second request, unanswered: a GET is repeated on another one.
    assert_eq!(world.ask(&get("/two")).await.0.code(), 200);
    let targets: Vec<_> = api.seen().iter().map(|head| head.target().to_owned()).collect();
    assert_eq!(targets, ["/one", "/two", "/two"]);
    // A POST might be carried out twice.
    let post = "POST /three HTTP/1.1\r\nHost: 10.0.0.1\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(status(&world.ask(post).await).0, 502);
    assert_eq!(api.seen().len(), 4);
    assert_eq!(api.connections.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn a_connection_that_was_closed_while_idle_is_not_used() {
    let api = Api::start(None, |_, mut pipe, seen| async move {
        let Some(head) = pipe.head().await else { return };
        seen.lock().unwrap().push(head);
        pipe.write(ok("{}")).await;
    })
    .await;
    let world = world(config(api.address, false), false).await;
    for number in 1..=5 {
        let post = "POST /x HTTP/1.1\r\nHost: 10.0.0.1\r\nContent-Length: 0\r\n\r\n";
        assert_eq!(world.ask(post).await.0.code(), 200);
        assert_eq!(api.seen().len(), number);
        // The end of the kept connection is on its way to us.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn s8_a_certificate_of_another_ca_or_name_is_refused() {
    let api = Api::echo(true).await;
    let mut other = config(api.address, true);
    other.upstream.ca = new_pki().ca.into_bytes();
    let world_of_other = world(other, false).await;
    let (code, _, message) = status(&world_of_other.ask(&get("/api")).await);
    assert!(code == 502 && message.contains("TLS"), "{code} {message}");
    let mut named = config(api.address, true);
    named.upstream.server_name = Some("kubernetes.default".into());
    let world_of_named = world(named.clone(), false).await;
    assert_eq!(status(&world_of_named.ask(&get("/api")).await).0, 502);
    assert!(api.seen().is_empty(), "no credential was sent");
    named.upstream.server_name = Some("localhost".into());
    let good = world(named, false).await;
    assert_eq!(good.ask(&get("/api")).await.0.code(), 200);
}

#[tokio::test]
async fn s8_https_without_a_ca_is_not_possible() {
    let address = "127.0.0.1:6443".parse().unwrap();
    let mut without = config(address, true);
    without.upstream.ca = Vec::new();
    let error = Proxy::new(without).err().unwrap();
    assert!(matches!(error, NewError::Upstream(UpstreamError::Tls(_))), "{error}");
    for url in ["https://h/path", "ftp://h", "h:6443", "https://", "https://u@h", "https://h?x"] {
        let mut wrong = config(address, true);
        wrong.upstream.url = url.into();
        assert!(Proxy::new(wrong).is_err(), "{url}");
    }
}

#[tokio::test]
async fn the_health_check_says_what_is_wrong() {
    let api = Api::start(None, |number, mut pipe, seen| async move {
        while let Some(head) = pipe.head().await {
            seen.lock().unwrap().push(head);
            let code = [200, 401, 500][number.min(2)];
            pipe.write(format!(
                "HTTP/1.1 {code} X\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
            ))
            .await;
        }
    })
    .await;
    let world = world(config(api.address, false), false).await;
    assert_eq!(world.proxy.check_upstream(PATIENCE).await, Ok(()));
    let refused = world.proxy.check_upstream(PATIENCE).await;
    assert!(matches!(refused, Err(CheckError::Refused(code)) if code == 401), "{refused:?}");
    let failing = world.proxy.check_upstream(PATIENCE).await;
    assert!(matches!(failing, Err(CheckError::NotReady(code)) if code == 500), "{failing:?}");
    assert_eq!(api.seen()[0].first, "GET /readyz HTTP/1.1");
    assert_eq!(api.seen()[0].all("authorization"), ["Bearer proxy"]);
    assert_eq!(api.seen()[0].get("impersonate-user"), None);
}
