//! exec, attach, cp and port-forward: tunnels, and the ways in which they do not come about.

use std::time::Duration;

use crate::support::*;

const EXEC: &str = "/api/v1/namespaces/n/pods/p/exec?command=sh&stdin=true";

fn upgrade(method: &str, protocol: &str, more: &str) -> String {
    format!(
        "{method} {EXEC} HTTP/1.1\r\nHost: 10.0.0.1\r\nConnection: Upgrade\r\nUpgrade: {protocol}\r\n{more}\r\n"
    )
}

/// Agrees to every upgrade, says `early` with the same packet, and echoes in upper case until the client's end.
async fn agreeing(tls: bool) -> Api {
    let acceptor = tls.then(|| acceptor(pki(), false));
    Api::start(acceptor, |_, mut pipe, seen| async move {
        let Some(head) = pipe.head().await else { return };
        let protocol = head.get("upgrade").unwrap_or("none").to_owned();
        let version = head.all("x-stream-protocol-version").join("+");
        seen.lock().unwrap().push(head);
        pipe.write(format!("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: {protocol}\r\nX-Stream-Protocol-Version: {version}\r\n\r\nearly")).await;
        loop {
            let part = std::mem::take(&mut pipe.buffer).to_ascii_uppercase();
            pipe.write(&part).await;
            if !pipe.more().await {
                break;
            }
        }
        pipe.write("last words").await;
        let _ = tokio::io::AsyncWriteExt::shutdown(&mut pipe.stream).await;
    })
    .await
}

#[tokio::test]
async fn websocket_and_spdy_are_tunnels_with_half_close_and_early_data() {
    for tls in [false, true] {
        let api = agreeing(tls).await;
        let world = world(config(api.address, tls), tls).await;
        for (method, protocol) in [("GET", "websocket"), ("POST", "SPDY/3.1")] {
            let mut pipe = world.connect().await;
            let versions = "X-Stream-Protocol-Version: v4.channel.k8s.io\r\nX-Stream-Protocol-Version: v3.channel.k8s.io\r\n";
            // The client does not wait for the answer either.
            let request = upgrade(method, protocol, versions);
            pipe.write(format!("{request}\u{80}first")).await;
            let head = soon("101", pipe.head()).await.unwrap();
            assert_eq!((head.code(), head.get("upgrade")), (101, Some(protocol)));
            assert_eq!(head.get("connection"), Some("Upgrade"));
            let chosen = head.get("x-stream-protocol-version");
            assert_eq!(chosen, Some("v4.channel.k8s.io+v3.channel.k8s.io"), "both arrived");
            pipe.expect(b"early").await;
            pipe.expect("\u{80}FIRST".as_bytes()).await;
            pipe.write("more").await;
            pipe.expect(b"MORE").await;
            tokio::io::AsyncWriteExt::shutdown(&mut pipe.stream).await.unwrap();
            pipe.expect(b"last words").await;
            assert!(soon("the end", pipe.rest()).await.is_empty());
        }
        let seen = api.seen();
        assert_eq!(seen[1].first, format!("POST {EXEC} HTTP/1.1"));
        assert_eq!(seen[1].all("impersonate-user"), ["jane"]);
        until("the ends", || world.proxy.counters().snapshot().in_flight == 0).await;
        let counted = world.proxy.counters().snapshot();
        assert_eq!((counted.tunnels, counted.tunnels_total), (0, 2));
        assert_eq!(counted.requests[&101], 2);
        assert_eq!(counted.received_bytes, 2 * 11);
        assert_eq!(counted.sent_bytes, 2 * (5 + 11 + 10));
    }
}

#[tokio::test]
async fn a_refused_upgrade_closes_both_connections() {
    // CVE-2018-1002105: whoever keeps them open lets the client talk to the API server without rules.
    let api = Api::start(None, |_, mut pipe, seen| async move {
        while let Some(head) = pipe.head().await {
            seen.lock().unwrap().push(head);
            pipe.write("HTTP/1.1 403 Forbidden\r\nContent-Type: application/json\r\nContent-Length: 17\r\n\r\n{\"kind\":\"Status\"}").await;
        }
        seen.lock().unwrap().push(Head { first: "end".into(), headers: Vec::new() });
    })
    .await;
    let world = world(config(api.address, false), false).await;
    let mut pipe = world.connect().await;
    let smuggled =
        "GET /api/v1/secrets HTTP/1.1\r\nHost: 10.0.0.1\r\nImpersonate-User: admin\r\n\r\n";
    pipe.write(upgrade("GET", "websocket", "") + smuggled).await;
    let (head, body) = soon("an answer", pipe.answer()).await.unwrap();
    assert_eq!((head.code(), body.as_slice()), (403, &b"{\"kind\":\"Status\"}"[..]));
    assert_eq!(head.get("connection"), Some("close"));
    assert!(soon("the end", pipe.rest()).await.is_empty());
    until("the end of the other connection", || api.seen().len() == 2).await;
    assert_eq!(api.seen()[1].first, "end", "nothing but the one request arrived");
}

#[tokio::test]
async fn a_refused_upgrade_that_goes_on_is_cut() {
    let api = Api::start(None, |_, mut pipe, _| async move {
        pipe.head().await;
        pipe.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n").await;
        pipe.rest().await;
    })
    .await;
    let mut config = config(api.address, false);
    config.timeouts.refused_upgrade = Duration::from_millis(50);
    let world = world(config, false).await;
    let mut pipe = world.connect().await;
    pipe.write(upgrade("GET", "websocket", "")).await;
    assert_eq!(soon("a head", pipe.head()).await.unwrap().code(), 200);
    let rest = soon("the end", pipe.rest()).await;
    assert!(find(&rest, b"0\r\n\r\n").is_none(), "{rest:?}");
}

#[tokio::test]
async fn other_upgrades_are_refused_before_they_reach_the_api_server() {
    let api = agreeing(false).await;
    let world = world(config(api.address, false), false).await;
    for protocol in ["h2c", "websocket, h2c", "TLS/1.2"] {
        let mut pipe = world.connect().await;
        let settings = "HTTP2-Settings: AAMAAABkAAQAAP__\r\n";
        pipe.write(upgrade("GET", protocol, settings)).await;
        let answer = soon("an answer", pipe.answer()).await.unwrap();
        assert_eq!(status(&answer).0, 400);
        assert!(soon("the end", pipe.rest()).await.is_empty(), "and the connection is closed");
    }
    let body = upgrade("POST", "SPDY/3.1", "Content-Length: 3\r\n") + "abc";
    assert_eq!(status(&world.ask(&body).await).0, 400);
    // Prior knowledge of HTTP/2 where only HTTP/1.1 is spoken.
    let mut pipe = world.connect().await;
    pipe.write("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    let rest = soon("the end", pipe.rest()).await;
    assert!(rest.is_empty() || rest.starts_with(b"HTTP/1.1 400"), "{rest:?}");
    assert!(api.seen().is_empty());
}

#[tokio::test]
async fn an_upgrade_that_nobody_asked_for_is_an_error() {
    let api = Api::start(None, |_, mut pipe, _| async move {
        pipe.head().await;
        pipe.write(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\nxx",
        )
        .await;
        pipe.rest().await;
    })
    .await;
    let world = world(config(api.address, false), false).await;
    assert_eq!(status(&world.ask(&get("/api")).await).0, 502);
    assert_eq!(status(&world.ask(&upgrade("GET", "websocket", "")).await).0, 502);
    assert_eq!(world.proxy.counters().snapshot().tunnels_total, 0);
}

#[tokio::test]
async fn a_tunnel_ends_with_the_api_server() {
    let api = Api::start(None, |_, mut pipe, _| async move {
        pipe.head().await;
        pipe.write("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nbye").await;
    })
    .await;
    let world = world(config(api.address, false), false).await;
    let mut pipe = world.connect().await;
    pipe.write(upgrade("GET", "websocket", "")).await;
    assert_eq!(soon("101", pipe.head()).await.unwrap().code(), 101);
    assert_eq!(soon("the end", pipe.rest()).await, b"bye");
    drop(pipe);
    until("the end", || world.proxy.counters().snapshot().in_flight == 0).await;
}

#[tokio::test]
async fn two_hundred_tunnels_are_held() {
    let api = agreeing(false).await;
    let world = world(config(api.address, false), false).await;
    let mut pipes = Vec::new();
    for _ in 0..200 {
        let mut pipe = world.connect().await;
        pipe.write(upgrade("GET", "websocket", "")).await;
        pipes.push(pipe);
    }
    for pipe in &mut pipes {
        assert_eq!(soon("101", pipe.head()).await.unwrap().code(), 101);
        pipe.expect(b"early").await;
        pipe.write("x").await;
    }
    for pipe in &mut pipes {
        pipe.expect(b"X").await;
    }
    assert_eq!(world.proxy.counters().snapshot().tunnels, 200);
}
