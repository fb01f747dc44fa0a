//! The TLS listener.

use holdfast_apiproxy::ServingTls;
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::ServerName;

use crate::support::*;

fn name() -> ServerName<'static> {
    ServerName::try_from("127.0.0.1").unwrap()
}

#[tokio::test]
async fn s10_a_client_without_a_server_name_is_served() {
    let api = Api::echo(false).await;
    let world = world(config(api.address, false), true).await;
    for alpn in [&[][..], &["http/1.1"]] {
        let connector = connector(pki(), alpn, false);
        let stream = tcp("127.0.0.1", world.address).await;
        let mut pipe = Pipe::new(connector.connect(name(), stream).await.unwrap());
        pipe.write(get("/api")).await;
        assert_eq!(soon("an answer", pipe.answer()).await.unwrap().0.code(), 200);
    }
}

#[tokio::test]
async fn http2_obeys_the_same_rules() {
    let api = Api::echo(true).await;
    let world = world(config(api.address, true), true).await;
    let stream = tcp("127.0.0.1", world.address).await;
    let stream = connector(pki(), &["h2", "http/1.1"], true).connect(name(), stream).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let io = TokioIo::new(stream);
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(connection);
    let request = |authority: &str| {
        http::Request::get(format!("https://{authority}/api/v1/pods/a%2Fb?x=//"))
            .header("authorization", "Bearer client")
            .header("x-forwarded-for", "6.6.6.6")
            .header("cookie", "a=b")
    };
    let empty = Empty::<bytes::Bytes>::new;
    let good = request("10.0.0.1:8085").body(empty()).unwrap();
    let answer = soon("an answer", sender.send_request(good)).await.unwrap();
    assert_eq!(answer.status(), 200);
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(said(&body)["first"], "GET /api/v1/pods/a%2Fb?x=// HTTP/1.1");
    let seen = &api.seen()[0];
    assert_eq!(seen.all("authorization"), ["Bearer proxy"]);
    assert_eq!(seen.all("x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!((seen.get("cookie"), seen.all("host").len()), (None, 1));
    for bad in [
        request("evil.example").body(empty()).unwrap(),
        request("10.0.0.1").header("impersonate-user", "admin").body(empty()).unwrap(),
        request("10.0.0.1").header("host", "10.0.0.2").body(empty()).unwrap(),
    ] {
        let code = soon("an answer", sender.send_request(bad)).await.unwrap().status();
        assert!(code == 403 || code == 400, "{code}");
    }
    // Many at once on one connection.
    let many = (0..50).map(|_| {
        let mut sender = sender.clone();
        let request = request("10.0.0.1").body(empty()).unwrap();
        async move { sender.send_request(request).await.unwrap().status() }
    });
    let mut tasks = tokio::task::JoinSet::new();
    many.for_each(|one| {
        tasks.spawn(one);
    });
    assert!(soon("fifty answers", tasks.join_all()).await.iter().all(|code| *code == 200));
    assert_eq!(api.seen().len(), 51);
}

#[tokio::test]
async fn p4_sessions_on_http2_end_too() {
    let api = Api::start(None, |_, mut pipe, _| async move {
        pipe.head().await;
        pipe.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n").await;
        pipe.rest().await;
    })
    .await;
    let world = world(config(api.address, false), true).await;
    let stream = tcp("127.0.0.1", world.address).await;
    let stream = connector(pki(), &["h2"], true).connect(name(), stream).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    tokio::spawn(connection);
    let request = http::Request::get("https://10.0.0.1/api/v1/pods?watch=1")
        .body(Empty::<bytes::Bytes>::new())
        .unwrap();
    let mut body = soon("a watch", sender.send_request(request)).await.unwrap().into_body();
    soon("an event", body.frame()).await.unwrap().unwrap();
    world.proxy.replace_identities(mappings(&[("127.0.0.1", "bob")]), None);
    let end = soon("the end", body.frame()).await;
    assert!(!matches!(end, Some(Ok(_))), "{end:?}");
    until("no request", || world.proxy.counters().snapshot().in_flight == 0).await;
}

#[tokio::test]
async fn a_replaced_certificate_is_presented() {
    let (one, two) = (new_pki(), new_pki());
    let directory = tempfile::tempdir().unwrap();
    let (chain, key) = (directory.path().join("tls.crt"), directory.path().join("tls.key"));
    write(&chain, &one.chain);
    write(&key, &one.key);
    let tls = ServingTls::from_files(chain.clone(), key.clone(), false).unwrap();
    let api = Api::echo(false).await;
    let world = world(config(api.address, false), false).await;
    let (address, _) = listen(&world.proxy, Some(tls.clone())).await;
    let trusts = async |pki: &Pki| {
        let stream = tcp("127.0.0.1", address).await;
        connector(pki, &["h2", "http/1.1"], true).connect(name(), stream).await.is_ok()
    };
    assert!(trusts(&one).await && !trusts(&two).await);
    assert!(!tls.reload().unwrap());
    // Half of the new pair does not serve, and does no harm.
    write(&chain, &two.chain);
    tls.reload().unwrap_err();
    assert!(trusts(&one).await);
    write(&key, &two.key);
    assert!(tls.reload().unwrap());
    assert!(trusts(&two).await && !trusts(&one).await);
    until("the failed handshakes", || world.proxy.counters().snapshot().handshake_errors == 2)
        .await;
}
