//! Listeners come and go, and the end is orderly.

use std::sync::Arc;
use std::time::{Duration, Instant};

use holdfast_apiproxy::Drained;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::support::*;

/// Answers `/slow` when told, watches never, everything else at once.
async fn api(go: &Arc<Notify>) -> Api {
    let go = Arc::clone(go);
    Api::start(None, move |_, mut pipe, seen| {
        let go = Arc::clone(&go);
        async move {
            while let Some(head) = pipe.head().await {
                let (target, upgrade) = (head.target().to_owned(), head.get("upgrade").is_some());
                seen.lock().unwrap().push(head);
                if upgrade {
                    pipe.write("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n").await;
                    pipe.rest().await;
                } else if target.contains("watch") || target.contains("follow") {
                    pipe.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await;
                    pipe.rest().await;
                } else if target == "/slow" {
                    go.notified().await;
                    pipe.write(ok("slow")).await;
                } else {
                    pipe.write(ok("{}")).await;
                }
            }
        }
    })
    .await
}

async fn started(world: &World, target: &str, more: &str) -> Pipe {
    let mut pipe = world.connect().await;
    pipe.write(format!("GET {target} HTTP/1.1\r\nHost: 10.0.0.1\r\n{more}\r\n")).await;
    let head = soon("a head", pipe.head()).await.unwrap();
    assert!(matches!(head.code(), 200 | 101));
    pipe
}

#[tokio::test]
async fn a_drain_finishes_what_is_under_way() {
    let go = Arc::new(Notify::new());
    let api = api(&go).await;
    let world = world(config(api.address, false), false).await;
    let mut idle = world.connect().await;
    idle.write(get("/api")).await;
    assert_eq!(soon("an answer", idle.answer()).await.unwrap().0.code(), 200);
    let mut slow = world.connect().await;
    slow.write(get("/slow")).await;
    until("the slow request", || api.seen().len() == 2).await;
    let proxy = world.proxy.clone();
    let drain = tokio::spawn(async move { proxy.drain(PATIENCE).await });
    assert!(soon("the idle connection's end", idle.rest()).await.is_empty());
    soon("no listener", async {
        while tokio::net::TcpStream::connect(world.address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    go.notify_one();
    let (head, body) = soon("the slow answer", slow.answer()).await.unwrap();
    assert_eq!((head.code(), body.as_slice()), (200, &b"slow"[..]));
    assert_eq!(soon("the drain", drain).await.unwrap(), Drained { cut: 0 });
}

#[tokio::test]
async fn a_drain_ends_watches_and_cuts_the_rest_at_its_deadline() {
    let go = Arc::new(Notify::new());
    let api = api(&go).await;
    let world = world(config(api.address, false), false).await;
    let mut watch = started(&world, "/api/v1/pods?watch=1", "").await;
    let mut log = started(&world, "/api/v1/namespaces/n/pods/p/log?follow=1", "").await;
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
    let mut exec = started(&world, "/api/v1/namespaces/n/pods/p/exec", upgrade).await;
    until("the tunnel", || world.proxy.counters().snapshot().tunnels == 1).await;
    let began = Instant::now();
    let proxy = world.proxy.clone();
    let drain = tokio::spawn(async move { proxy.drain(Duration::from_millis(300)).await });
    assert_eq!(soon("the end of the watch", watch.rest()).await, b"0\r\n\r\n", "it ends well");
    assert!(began.elapsed() >= Duration::from_millis(300));
    assert_eq!(soon("the cut of the log", log.rest()).await, b"", "it breaks off");
    assert_eq!(soon("the cut of the tunnel", exec.rest()).await, b"");
    assert_eq!(soon("the drain", drain).await.unwrap(), Drained { cut: 3 });
    let counted = world.proxy.counters().snapshot();
    assert_eq!((counted.in_flight, counted.tunnels, counted.connections), (0, 0, 0));
}

#[tokio::test]
async fn p7_another_address_leaves_connections_alone() {
    let go = Arc::new(Notify::new());
    let api = api(&go).await;
    let world = world(config(api.address, false), false).await;
    let mut slow = world.connect().await;
    slow.write(get("/slow")).await;
    until("the slow request", || api.seen().len() == 1).await;
    world.stop.cancel();
    soon("no listener", async {
        while tokio::net::TcpStream::connect(world.address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let (address, _) = listen(&world.proxy, None).await;
    let mut other = Pipe::new(tcp("127.0.0.1", address).await);
    other.write(get("/api")).await;
    assert_eq!(soon("an answer", other.answer()).await.unwrap().0.code(), 200);
    go.notify_one();
    assert_eq!(soon("the slow answer", slow.answer()).await.unwrap().1, b"slow");
    // And the same connection goes on.
    slow.write(get("/api")).await;
    assert_eq!(soon("an answer", slow.answer()).await.unwrap().0.code(), 200);
}

#[tokio::test]
async fn p7_the_connections_of_an_address_that_is_gone_end() {
    let go = Arc::new(Notify::new());
    let api = api(&go).await;
    let world = world(config(api.address, false), false).await;
    let mut stays = world.connect().await;
    stays.write(get("/slow")).await;
    until("the slow request", || api.seen().len() == 1).await;

    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, gone) = (CancellationToken::new(), CancellationToken::new());
    let (proxy, ends) = (world.proxy.clone(), (stop.clone(), gone.clone()));
    let served = tokio::spawn(async move { proxy.serve_at(listener, None, ends.0, ends.1).await });
    let there = async |target: &str, more: &str| {
        let mut pipe = Pipe::new(tcp("127.0.0.1", address).await);
        pipe.write(format!("GET {target} HTTP/1.1\r\nHost: 10.0.0.1\r\n{more}\r\n")).await;
        assert!(matches!(soon("a head", pipe.head()).await.unwrap().code(), 200 | 101));
        pipe
    };
    let mut watch = there("/api/v1/pods?watch=1", "").await;
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
    let mut exec = there("/api/v1/namespaces/n/pods/p/exec", upgrade).await;
    until("the tunnel", || world.proxy.counters().snapshot().tunnels == 1).await;
    stop.cancel();
    soon("the listener's end", served).await.unwrap();
    let counted = world.proxy.counters().snapshot();
    assert_eq!((counted.in_flight, counted.tunnels), (3, 1), "nobody has said that it is gone");
    gone.cancel();
    assert_eq!(soon("the end of the watch", watch.rest()).await, b"", "it breaks off");
    assert_eq!(soon("the end of the tunnel", exec.rest()).await, b"");
    until("nothing is left of them", || {
        let counted = world.proxy.counters().snapshot();
        (counted.in_flight, counted.tunnels, counted.connections) == (1, 0, 1)
    })
    .await;
    go.notify_one();
    assert_eq!(soon("the slow answer", stays.answer()).await.unwrap().1, b"slow");
}

/// The task that knows the age limit has no part in the proxy: with its last owner it goes.
#[tokio::test]
async fn a_proxy_that_nobody_has_any_more_is_gone() {
    let closed = Arc::new(Notify::new());
    let tell = Arc::clone(&closed);
    let api = Api::start(None, move |_, mut pipe, _| {
        let tell = Arc::clone(&tell);
        async move {
            while pipe.head().await.is_some() {
                pipe.write(ok("{}")).await;
            }
            tell.notify_one();
        }
    })
    .await;
    let world = world(config(api.address, false), false).await;
    world.proxy.replace_identities(mappings(&[("127.0.0.1", "anna")]), Some(PATIENCE * 10));
    assert_eq!(world.ask("GET /api HTTP/1.1\r\nHost: 10.0.0.1\r\n\r\n").await.0.code(), 200);
    tokio::select! {
        () = closed.notified() => panic!("the connection to the API server is kept while there is a proxy"),
        () = tokio::time::sleep(Duration::from_millis(50)) => {}
    }
    world.stop.cancel();
    drop(world);
    soon("its connection to the API server ends with it", closed.notified()).await;
}

#[tokio::test]
async fn a_client_that_goes_takes_its_request_with_it() {
    let go = Arc::new(Notify::new());
    let api = api(&go).await;
    let world = world(config(api.address, false), false).await;
    let watch = started(&world, "/api/v1/pods?watch=1", "").await;
    assert_eq!(world.proxy.counters().snapshot().in_flight, 1);
    drop(watch);
    until("the end of the watch", || world.proxy.counters().snapshot().in_flight == 0).await;
}

#[tokio::test]
async fn connections_are_spread_over_threads_and_end_with_their_proxy() {
    let go = Arc::new(Notify::new());
    let api = api(&go).await;
    let world = world(config(api.address, false), false).await;
    let mut pipes = Vec::new();
    for _ in 0..6 {
        let mut pipe = world.connect().await;
        pipe.write(get("/api")).await;
        assert_eq!(soon("an answer", pipe.answer()).await.unwrap().0.code(), 200);
        pipes.push(pipe);
    }
    // One after the other needs one connection; that of the other thread is its own.
    assert_eq!(api.connections.load(std::sync::atomic::Ordering::Relaxed), 2);
    world.stop.cancel();
    soon("no listener", async {
        while tokio::net::TcpStream::connect(world.address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    drop(world);
    for pipe in &mut pipes {
        assert!(soon("the end", pipe.rest()).await.is_empty());
    }
}

#[tokio::test]
async fn without_threads_connections_are_where_the_listener_is() {
    let go = Arc::new(Notify::new());
    let api = api(&go).await;
    let mut config = config(api.address, false);
    config.limits.threads = 0;
    let world = world(config, false).await;
    for _ in 0..3 {
        assert_eq!(world.ask(&get("/api")).await.0.code(), 200);
    }
    assert_eq!(api.connections.load(std::sync::atomic::Ordering::Relaxed), 1);
}
