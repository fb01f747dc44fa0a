use std::time::Duration;

use bytes::Bytes;
use holdfast_lifecycle::ProbeResult;
use holdfast_runtime::probe::{Grpc, Handler, Target};
use http::{HeaderMap, Response};
use tokio::net::TcpListener;

use crate::server::{Server, run};
use crate::{LOCAL, LOCAL6, LONG, SHORT, ask, closed_port, failure};

async fn check(target: Target, port: u16, service: &str, timeout: Duration) -> ProbeResult {
    ask(target, Handler::Grpc(Grpc { port, service: service.to_owned() }), timeout).await
}

/// What the server answers.
#[derive(Clone)]
enum Say {
    /// A message of this many bytes of protobuf, and OK.
    Message(&'static [u8]),
    /// A status in the only headers.
    Status(&'static str, &'static str),
    /// A message, and another status after it.
    Late(&'static str),
    /// An HTTP status.
    Http(u16),
    /// Nothing at all.
    Nothing,
}

/// A health server over plain HTTP/2; logs path, service and headers of each call.
async fn health(address: &str, say: Say) -> Server {
    health_on(TcpListener::bind(address).await.unwrap(), say)
}

fn health_on(listener: TcpListener, say: Say) -> Server {
    Server::on(listener, async move |stream, log| {
        let Ok(mut connection) = h2::server::handshake(stream).await else { return };
        let mut kept = Vec::new();
        while let Some(Ok((request, mut respond))) = connection.accept().await {
            let (head, mut body) = request.into_parts();
            let mut message = Vec::new();
            let talk = async {
                while let Some(Ok(data)) = body.data().await {
                    message.extend_from_slice(&data);
                }
            };
            // The body only arrives while the connection is driven.
            tokio::select! {
                () = talk => {}
                _ = std::future::poll_fn(|cx| connection.poll_closed(cx)) => return,
            }
            let line = format!("{} {message:?} {:?}", head.uri, head.headers);
            log.lock().unwrap().push(line);
            answer(&mut respond, &say);
            kept.push(respond);
        }
    })
}

fn answer(respond: &mut h2::server::SendResponse<Bytes>, say: &Say) {
    let head = |status: u16| {
        let head = Response::builder().status(status).header("content-type", "application/grpc");
        head.body(()).unwrap()
    };
    let mut trailers = HeaderMap::new();
    let mut framed = vec![0, 0, 0, 0];
    match *say {
        Say::Nothing => {}
        Say::Http(status) => _ = respond.send_response(head(status), true).unwrap(),
        Say::Status(code, message) => {
            let mut head = head(200);
            head.headers_mut().insert("grpc-status", code.parse().unwrap());
            head.headers_mut().insert("grpc-message", message.parse().unwrap());
            respond.send_response(head, true).unwrap();
        }
        Say::Message(_) | Say::Late(_) => {
            let mut stream = respond.send_response(head(200), false).unwrap();
            let (message, status) = match *say {
                Say::Message(message) => (message, "0"),
                Say::Late(status) => (&[8, 1][..], status),
                _ => return,
            };
            framed.push(message.len() as u8);
            framed.extend_from_slice(message);
            stream.send_data(framed.into(), false).unwrap();
            trailers.insert("grpc-status", status.parse().unwrap());
            stream.send_trailers(trailers).unwrap();
        }
    }
}

#[test]
fn serving_passes() {
    run(async {
        let server = health("127.0.0.1:0", Say::Message(&[8, 1])).await;
        assert_eq!(check(LOCAL, server.port(), "db", LONG).await, ProbeResult::Success);
        assert_eq!(check(LOCAL, server.port(), "", LONG).await, ProbeResult::Success);
        let requests = server.requests();
        let url = format!("http://{}/grpc.health.v1.Health/Check", server.address);
        let with_service = format!("{url} [0, 0, 0, 0, 4, 10, 2, 100, 98] ");
        assert!(requests[0].starts_with(&with_service), "{}", requests[0]);
        assert!(requests[1].starts_with(&format!("{url} [0, 0, 0, 0, 0] ")), "{}", requests[1]);
        for part in ["\"application/grpc\"", "\"trailers\"", "\"kube-probe/1.35", "grpc-timeout"] {
            assert!(requests[0].contains(part), "{part} in {}", requests[0]);
        }
        let server = health("[::1]:0", Say::Message(&[8, 1])).await;
        assert_eq!(check(LOCAL6, server.port(), "", LONG).await, ProbeResult::Success);
    });
}

#[test]
fn anything_else_fails_with_the_servers_word() {
    run(async {
        for (say, words) in [
            (Say::Message(&[8, 2]), "service unhealthy (responded with \"NOT_SERVING\")"),
            (Say::Message(&[]), "service unhealthy (responded with \"UNKNOWN\")"),
            (Say::Message(&[8, 3]), "service unhealthy (responded with \"SERVICE_UNKNOWN\")"),
            (Say::Message(&[8, 9]), "service unhealthy (responded with \"9\")"),
            (
                Say::Status("5", "unknown%20service"),
                "error: health rpc probe failed: rpc error: code = NotFound desc = unknown service",
            ),
            (
                Say::Status("12", "unknown service grpc.health.v1.Health"),
                "error: this server does not implement the grpc health protocol \
                 (grpc.health.v1.Health): unknown service grpc.health.v1.Health",
            ),
            (
                Say::Http(404),
                "error: this server does not implement the grpc health protocol \
                 (grpc.health.v1.Health): unexpected HTTP status code received from server: \
                 404 (Not Found)",
            ),
            (
                Say::Http(503),
                "error: health rpc probe failed: rpc error: code = Unavailable desc = unexpected \
                 HTTP status code received from server: 503 (Service Unavailable)",
            ),
            (Say::Late("99"), "error: health rpc probe failed: rpc error: code = Code(99) desc = "),
            (
                Say::Message(&[8]),
                "error: health rpc probe failed: rpc error: code = Internal desc = a number in \
                 the answer is cut short",
            ),
        ] {
            let server = health("127.0.0.1:0", say).await;
            assert_eq!(check(LOCAL, server.port(), "", LONG).await, failure(words));
        }
    });
}

#[test]
fn no_answer_in_time_fails() {
    run(async {
        let server = health("127.0.0.1:0", Say::Nothing).await;
        let words = "timeout: health rpc did not complete within 150ms";
        assert_eq!(check(LOCAL, server.port(), "", SHORT).await, failure(words));
        assert_eq!(server.requests().len(), 1);
    });
}

#[test]
fn no_connection_in_time_fails() {
    run(async {
        let words = |port| {
            failure(format!(
                "timeout: failed to connect service \"127.0.0.1:{port}\" within 150ms: \
                 context deadline exceeded"
            ))
        };
        let (_holder, port) = closed_port();
        assert_eq!(check(LOCAL, port, "", SHORT).await, words(port));
        // Accepted, but it does not speak HTTP/2: silent, or gone at once.
        let silent =
            Server::new("127.0.0.1:0", async |_stream, _| std::future::pending().await).await;
        assert_eq!(check(LOCAL, silent.port(), "", SHORT).await, words(silent.port()));
        let gone = Server::new("127.0.0.1:0", async |_stream, _| ()).await;
        assert_eq!(check(LOCAL, gone.port(), "", SHORT).await, words(gone.port()));
    });
}

#[test]
fn a_server_that_comes_up_within_the_timeout_passes() {
    run(async {
        let (socket, port) = closed_port();
        let probe = check(LOCAL, port, "", LONG);
        let server = async {
            tokio::time::sleep(SHORT).await;
            health_on(socket.listen(8).unwrap(), Say::Message(&[8, 1]))
        };
        let (result, server) = tokio::join!(probe, server);
        assert_eq!(result, ProbeResult::Success);
        assert_eq!(server.requests().len(), 1);
    });
}
