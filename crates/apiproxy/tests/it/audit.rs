//! One line for each request: who, what, with which outcome.

use std::sync::{Arc, Mutex};

use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;

use crate::support::*;

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Lines {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

impl Lines {
    /// The audit lines, without their durations.
    fn audit(&self) -> Vec<String> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        let lines = text.lines().filter(|line| line.contains(" audit: "));
        let without = |line: &str| {
            let words = line.split(' ').filter(|word| !word.starts_with("duration_ms="));
            words.skip_while(|word| *word != "audit:").skip(1).collect::<Vec<_>>().join(" ")
        };
        lines.map(without).collect()
    }
}

// All on this test's thread, so that its subscriber sees its proxy and no other's.
#[tokio::test]
async fn each_request_has_a_line_and_each_tunnel_two() {
    let lines = Lines::default();
    let layer =
        tracing_subscriber::fmt::layer().with_ansi(false).without_time().with_writer(lines.clone());
    let _scope = tracing::subscriber::set_default(tracing_subscriber::registry().with(layer));
    let api = Api::start(None, |_, mut pipe, _| async move {
        while let Some(head) = pipe.head().await {
            if head.get("upgrade").is_some() {
                pipe.write("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nAudit-Id: a2\r\n\r\nabc").await;
                pipe.rest().await;
                return;
            }
            pipe.body(&head).await;
            pipe.write(ok("{}")).await;
        }
    })
    .await;
    let mut config = config(api.address, false);
    config.limits.threads = 0;
    let world = world(config, false).await;
    world.ask("POST /apis/apps/v1/namespaces/shop/deployments HTTP/1.1\r\nHost: 10.0.0.1\r\nContent-Length: 5\r\n\r\nhello").await;
    until("a line", || lines.audit().len() == 1).await;
    let create = r#"stage="ResponseComplete" peer=127.0.0.1 user="jane" groups=["dev"] verb="create" group="apps" resource="deployments" subresource="" namespace="shop" name="" method=POST uri=/apis/apps/v1/namespaces/shop/deployments code=200 received=5 sent=2 audit_id="a1" ended_by="""#;
    assert_eq!(lines.audit()[0], create);

    // What a client sends cannot end the line, nor be taken for another field's value.
    world
        .ask(
            "GET /api/v1/namespaces/n/pods/x%0Auser=%22admin%22 HTTP/1.1\r\nHost: 10.0.0.1\r\n\r\n",
        )
        .await;
    until("a line", || lines.audit().len() == 2).await;
    assert!(lines.audit()[1].contains(r#"name="x\nuser=\"admin\"""#), "{}", lines.audit()[1]);

    // Refused: the line is there all the same.
    world
        .ask("GET /api/v1/secrets HTTP/1.1\r\nHost: 10.0.0.1\r\nImpersonate-User: root\r\n\r\n")
        .await;
    until("a line", || lines.audit().len() == 3).await;
    assert!(lines.audit()[2].contains(r#"user="jane""#) && lines.audit()[2].contains("code=403"));

    let mut exec = world.connect().await;
    exec.write("GET /api/v1/namespaces/n/pods/p/exec?command=sh HTTP/1.1\r\nHost: 10.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n").await;
    assert_eq!(soon("101", exec.head()).await.unwrap().code(), 101);
    exec.expect(b"abc").await;
    until("a line", || lines.audit().len() == 4).await;
    assert!(lines.audit()[3].starts_with(r#"stage="ResponseStarted""#));
    assert!(lines.audit()[3].contains(r#"subresource="exec""#));
    exec.write("12345").await;
    drop(exec);
    until("a line", || lines.audit().len() == 5).await;
    let end = &lines.audit()[4];
    assert!(end.starts_with(r#"stage="ResponseComplete""#), "{end}");
    assert!(end.contains(r#"code=101 received=5 sent=3 audit_id="a2""#), "{end}");

    // A client that goes before the answer.
    let mut gone = world.connect().await;
    gone.write("PUT /api/v1/x HTTP/1.1\r\nHost: 10.0.0.1\r\nContent-Length: 9\r\n\r\nhal").await;
    until("its request", || world.proxy.counters().snapshot().in_flight == 1).await;
    drop(gone);
    until("a line", || lines.audit().len() == 6).await;
    assert!(lines.audit()[5].contains(" verb=\"put\"") || lines.audit()[5].contains("method=PUT"));
}
