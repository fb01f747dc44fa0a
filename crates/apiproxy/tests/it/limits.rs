//! How much a peer may take, and what a browser may not.

use std::time::Duration;

use crate::support::*;

#[tokio::test]
async fn s11_pages_of_other_sites_get_nowhere() {
    let api = Api::echo(false).await;
    let world = world(config(api.address, false), false).await;
    for request in [
        "GET /api HTTP/1.1\r\nHost: evil.example:8085\r\n\r\n",
        "POST /api HTTP/1.1\r\nHost: 10.0.0.1\r\nOrigin: http://evil.example\r\nContent-Length: 0\r\n\r\n",
        "OPTIONS /api HTTP/1.1\r\nHost: 10.0.0.1\r\nOrigin: http://evil.example\r\nAccess-Control-Request-Method: DELETE\r\n\r\n",
        "GET /api HTTP/1.1\r\nHost: 10.0.0.1\r\nOrigin: null\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    ] {
        let answer = world.ask(request).await;
        assert_eq!(status(&answer).0, 403, "{request}");
        assert!(!answer.0.headers.iter().any(|(name, _)| name.starts_with("access-control")));
    }
    assert!(api.seen().is_empty());
}

#[tokio::test]
async fn a_peer_with_too_many_requests_waits_and_others_do_not() {
    let api = Api::start(None, |_, mut pipe, _| async move {
        while let Some(head) = pipe.head().await {
            if head.target().contains("watch") {
                pipe.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await;
                pipe.rest().await;
                return;
            }
            pipe.write(ok("{}")).await;
        }
    })
    .await;
    let mut config = config(api.address, false);
    config.limits.requests_per_peer = 3;
    let world = world(config, false).await;
    let mut watches = Vec::new();
    for _ in 0..3 {
        let mut pipe = world.connect().await;
        pipe.write(get("/api/v1/pods?watch=1")).await;
        assert_eq!(soon("a watch", pipe.head()).await.unwrap().code(), 200);
        watches.push(pipe);
    }
    let answer = world.ask(&get("/api")).await;
    let (code, reason, _) = status(&answer);
    assert_eq!((code, reason.as_str()), (429, "TooManyRequests"));
    assert_eq!(answer.0.get("retry-after"), Some("1"));
    assert_eq!(world.ask_as("127.0.0.2", &get("/api")).await.0.code(), 200);
    drop(watches.pop());
    until("room for a request", || world.proxy.counters().snapshot().in_flight == 2).await;
    assert_eq!(world.ask(&get("/api")).await.0.code(), 200);
}

#[tokio::test]
async fn a_peer_with_too_many_connections_is_told_and_others_are_not() {
    let api = Api::echo(false).await;
    let mut config = config(api.address, false);
    config.limits.connections_per_peer = 2;
    config.limits.connections = 4;
    let world = world(config, false).await;
    let connections = || world.proxy.counters().snapshot().connections;
    let mut kept = [world.connect().await, world.connect().await];
    until("two connections", || connections() == 2).await;
    let answer = world.ask(&get("/api")).await;
    assert_eq!(status(&answer).0, 429);
    assert_eq!(world.ask_as("127.0.0.2", &get("/api")).await.0.code(), 200);
    for pipe in &mut kept {
        pipe.write(get("/api")).await;
        assert_eq!(soon("an answer", pipe.answer()).await.unwrap().0.code(), 200);
    }
    // All together: the fifth is closed, whoever it is.
    until("two connections", || connections() == 2).await;
    let others = [world.connect_as("127.0.0.3").await, world.connect_as("127.0.0.4").await];
    until("four connections", || connections() == 4).await;
    let mut fifth = world.connect_as("127.0.0.5").await;
    fifth.write(get("/api")).await;
    assert!(soon("the end", fifth.rest()).await.is_empty());
    drop((kept, others));
    until("no connections", || connections() == 0).await;
    assert_eq!(world.ask(&get("/api")).await.0.code(), 200);
}

#[tokio::test]
async fn headers_may_be_neither_too_large_nor_too_many_nor_too_slow() {
    let api = Api::echo(false).await;
    let mut config = config(api.address, false);
    config.timeouts.client_headers = Duration::from_millis(300);
    let world = world(config, false).await;
    let with = |more: &str| format!("GET /api HTTP/1.1\r\nHost: 10.0.0.1\r\n{more}\r\n");
    let large = with(&format!("X: {}\r\n", "x".repeat(30 << 10)));
    assert_eq!(world.ask(&large).await.0.code(), 200);
    let too_large = with(&format!("X: {}\r\n", "x".repeat(70 << 10)));
    let endless = format!("GET /api HTTP/1.1\r\nX: {}", "x".repeat(1 << 20));
    let too_many = with(&(0..101).map(|n| format!("X-{n}: 1\r\n")).collect::<String>());
    for (request, why) in [(too_large, "71701 bytes"), (too_many, "102 headers")] {
        let (head, body) = world.ask(&request).await;
        let status: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!((head.code(), &status["code"]), (431, &431.into()));
        assert!(status["message"].as_str().unwrap().contains(why), "{status}");
    }
    let far_too_many = with(&(0..201).map(|n| format!("X-{n}: 1\r\n")).collect::<String>());
    for request in [endless, far_too_many] {
        let mut pipe = world.connect().await;
        pipe.write(request).await;
        let rest = soon("the end", pipe.rest()).await;
        assert!(rest.is_empty() || rest.starts_with(b"HTTP/1.1 431"), "{rest:?}");
    }
    let mut slow = world.connect().await;
    slow.write("GET /api HTTP/1.1\r\nHost: 10.").await;
    assert!(soon("the end", slow.rest()).await.is_empty());
    assert_eq!(api.seen().len(), 1);
}
