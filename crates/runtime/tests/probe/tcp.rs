use holdfast_lifecycle::ProbeResult;
use holdfast_runtime::probe::{Handler, Target, TcpSocket};

use crate::server::{full_port, run};
use crate::{LOCAL, LOCAL6, LONG, SHORT, ask, closed_port, failure};

async fn connect(target: Target, host: Option<&str>, port: u16) -> ProbeResult {
    let host = host.map(str::to_owned);
    ask(target, Handler::TcpSocket(TcpSocket { host, port }), LONG).await
}

#[test]
fn an_open_port_passes() {
    run(async {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        assert_eq!(connect(LOCAL, None, port).await, ProbeResult::Success);
        assert_eq!(connect(LOCAL6, Some("127.0.0.1"), port).await, ProbeResult::Success);
        assert_eq!(connect(LOCAL6, Some("localhost"), port).await, ProbeResult::Success);
        let listener = std::net::TcpListener::bind("[::1]:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        assert_eq!(connect(LOCAL6, None, port).await, ProbeResult::Success);
    });
}

#[test]
fn a_closed_port_fails() {
    run(async {
        let (_holder, port) = closed_port();
        let words = format!("dial tcp 127.0.0.1:{port}: connect: connection refused");
        assert_eq!(connect(LOCAL, None, port).await, failure(words));
    });
}

#[test]
fn silence_fails_in_time() {
    run(async {
        let (port, _kept) = full_port().await;
        let result = ask(LOCAL, Handler::TcpSocket(TcpSocket { host: None, port }), SHORT).await;
        assert_eq!(result, failure(format!("dial tcp 127.0.0.1:{port}: i/o timeout")));
    });
}

#[test]
fn an_unknown_name_fails() {
    run(async {
        let ProbeResult::Failure(words) = connect(LOCAL, Some("no.such.host.invalid"), 1).await
        else {
            panic!("a name under .invalid was found");
        };
        assert!(words.starts_with("dial tcp: lookup no.such.host.invalid: "), "{words}");
    });
}
