//! Who a peer is, and what happens when that changes.

use std::time::Duration;

use holdfast_apiproxy::{ClientCertificate, Mode, SystemNames, Token, Unmapped};

use crate::support::*;

fn synchronised(mut config: holdfast_apiproxy::Config) -> holdfast_apiproxy::Config {
    config.mode = Mode::Auth {
        unmapped: Unmapped::Refuse,
        allowed: SystemNames::default(),
        await_mappings: true,
    };
    config
}

#[tokio::test]
async fn s2_only_the_sockets_address_decides() {
    let api = Api::echo(false).await;
    let world = world(synchronised(config(api.address, false)), false).await;
    world.proxy.replace_identities(mappings(&[("127.0.0.2", "bob"), ("127.0.0.3", "eve")]), None);
    for (peer, user) in [("127.0.0.2", "bob"), ("127.0.0.3", "eve")] {
        let claims = "GET /api HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: 127.0.0.2\r\nX-Real-IP: 127.0.0.2\r\nForwarded: for=127.0.0.2\r\n\r\n".replace("Host: h", "Host: 10.0.0.1");
        assert_eq!(world.ask_as(peer, &claims).await.0.code(), 200);
        let seen = api.seen().pop().unwrap();
        assert_eq!(seen.all("impersonate-user"), [user]);
        assert_eq!(seen.all("x-forwarded-for"), [peer]);
        assert_eq!((seen.get("x-real-ip"), seen.get("forwarded")), (None, None));
    }
}

#[tokio::test]
async fn s16_a_peer_without_a_mapping_is_refused() {
    let api = Api::echo(false).await;
    let world = world(synchronised(config(api.address, false)), false).await;
    let before = world.ask(&get("/api")).await;
    assert_eq!(status(&before).1, "ServiceUnavailable", "nothing is known yet");
    let mut identities = mappings(&[("127.0.0.2", "bob")]);
    identities.insert("127.0.0.3".parse().unwrap(), identity("eve", &["system:masters"]));
    let refused = world.proxy.replace_identities(identities, None);
    assert_eq!(refused[0].0.to_string(), "127.0.0.3");
    let (code, reason, message) = status(&world.ask(&get("/api")).await);
    assert_eq!((code, reason.as_str()), (403, "Forbidden"));
    assert!(message.contains("127.0.0.1 is mapped to no Kubernetes user"), "{message}");
    let masters = status(&world.ask_as("127.0.0.3", &get("/api")).await);
    assert!(masters.0 == 403 && masters.2.contains("system:masters"), "{}", masters.2);
    assert_eq!(world.ask_as("127.0.0.2", &get("/api")).await.0.code(), 200);
    assert_eq!(api.seen().len(), 1);
}

#[tokio::test]
async fn s5_as_is_refused_with_a_status() {
    let api = Api::echo(false).await;
    let world = world(config(api.address, false), false).await;
    let answer =
        world.ask("GET /api HTTP/1.1\r\nHost: 10.0.0.1\r\nImpersonate-User: admin\r\n\r\n").await;
    let (code, reason, message) = status(&answer);
    assert_eq!((code, reason.as_str()), (403, "Forbidden"));
    assert!(message.contains("--as"), "{message}");
    assert!(api.seen().is_empty());
}

/// Opens a watch of `peer` that never ends by itself.
async fn watch(world: &World, peer: &str) -> Pipe {
    let mut pipe = world.connect_as(peer).await;
    pipe.write(get("/api/v1/pods?watch=1")).await;
    assert_eq!(soon("a watch", pipe.head()).await.unwrap().code(), 200);
    pipe
}

async fn watched() -> Api {
    Api::start(None, |_, mut pipe, _| async move {
        let Some(head) = pipe.head().await else { return };
        if head.get("upgrade").is_some() {
            pipe.write("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n").await;
        } else {
            pipe.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n").await;
        }
        pipe.rest().await;
    })
    .await
}

#[tokio::test]
async fn p4_sessions_end_when_their_mapping_is_removed_or_changed() {
    let api = watched().await;
    let world = world(synchronised(config(api.address, false)), false).await;
    let all = [("127.0.0.2", "bob"), ("127.0.0.3", "eve"), ("127.0.0.4", "ann")];
    world.proxy.replace_identities(mappings(&all), None);
    let mut bob = watch(&world, "127.0.0.2").await;
    let mut eve = watch(&world, "127.0.0.3").await;
    let mut ann = watch(&world, "127.0.0.4").await;
    let mut tunnel = world.connect_as("127.0.0.2").await;
    tunnel
        .write("GET /api/v1/namespaces/n/pods/p/exec HTTP/1.1\r\nHost: 10.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        .await;
    assert_eq!(soon("a tunnel", tunnel.head()).await.unwrap().code(), 101);
    until("the tunnel", || world.proxy.counters().snapshot().tunnels == 1).await;

    // The same again ends nothing; bob goes, eve becomes someone else, ann stays.
    world.proxy.replace_identities(mappings(&all), None);
    world
        .proxy
        .replace_identities(mappings(&[("127.0.0.3", "mallory"), ("127.0.0.4", "ann")]), None);
    for gone in [&mut bob, &mut eve, &mut tunnel] {
        let rest = soon("the end of a session", gone.rest()).await;
        assert!(find(&rest, b"0\r\n\r\n").is_none(), "broken off, not ended: {rest:?}");
    }
    assert_eq!(soon("ann's event", ann.chunk()).await.unwrap(), b"x");
    let still = tokio::time::timeout(Duration::from_millis(50), ann.more()).await;
    assert!(still.is_err(), "ann's watch has ended");
    assert_eq!(world.ask_as("127.0.0.2", &get("/api")).await.0.code(), 403);
    assert_eq!(world.proxy.counters().snapshot().ended_sessions, 3);
    until("the end of the tunnel", || world.proxy.counters().snapshot().tunnels == 0).await;
}

#[tokio::test]
async fn p4_mappings_that_grow_old_are_not_trusted() {
    let api = watched().await;
    let world = world(synchronised(config(api.address, false)), false).await;
    let of = mappings(&[("127.0.0.2", "bob")]);
    world.proxy.replace_identities(of.clone(), Some(Duration::from_millis(300)));
    let mut bob = watch(&world, "127.0.0.2").await;
    soon("the end of a session", bob.rest()).await;
    let (code, _, message) = status(&world.ask_as("127.0.0.2", &get("/api")).await);
    assert!(code == 503 && message.contains("too old"), "{code} {message}");
    world.proxy.replace_identities(of, None);
    watch(&world, "127.0.0.2").await;
}

#[tokio::test]
async fn s3_noauth_never_presents_the_proxys_own_credentials() {
    let api = Api::echo(true).await;
    let mut config = config(api.address, true);
    config.upstream.client = Some(ClientCertificate {
        chain: pki().client_chain.clone().into_bytes(),
        key: pki().client_key.clone().into_bytes(),
    });
    // S9: with TLS verified, the certificate is presented in auth mode.
    let auth = world(config.clone(), false).await;
    let (_, body) = auth.ask(&get("/api")).await;
    assert_eq!(said(&body)["certificate"], true);
    assert_eq!(api.seen()[0].all("authorization"), ["Bearer proxy"]);

    config.mode = Mode::NoAuth;
    let noauth = world(config, true).await;
    let (_, body) = noauth.ask(&get("/api")).await;
    assert_eq!(said(&body)["certificate"], false);
    assert_eq!(api.seen()[1].get("authorization"), None);
    assert_eq!(api.seen()[1].get("impersonate-user"), None);
    let own = "GET /api HTTP/1.1\r\nHost: 10.0.0.1\r\nAuthorization: Bearer client\r\nImpersonate-User: bob\r\n\r\n";
    noauth.ask(own).await;
    assert_eq!(api.seen()[2].all("authorization"), ["Bearer client"]);
    assert_eq!(api.seen()[2].all("impersonate-user"), ["bob"]);
}

#[tokio::test]
async fn p5_a_token_that_is_replaced_is_used() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("token");
    write(&path, "one");
    let api = Api::start(None, |_, mut pipe, seen| async move {
        while let Some(head) = pipe.head().await {
            let code = if head.get("authorization") == Some("Bearer two") { 200 } else { 401 };
            seen.lock().unwrap().push(head);
            pipe.write(format!("HTTP/1.1 {code} X\r\nContent-Length: 0\r\n\r\n")).await;
        }
    })
    .await;
    let mut config = config(api.address, false);
    config.upstream.token = Some(Token::File(path.clone()));
    let world = world(config, false).await;
    assert_eq!(world.ask(&get("/api")).await.0.code(), 401);
    write(&path, "two");
    // Not at once again after it was just read, but long before it is old.
    soon("the new token", async {
        while world.ask(&get("/api")).await.0.code() != 200 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    })
    .await;
    std::fs::remove_file(&path).unwrap();
    assert_eq!(world.ask(&get("/api")).await.0.code(), 200);
}
