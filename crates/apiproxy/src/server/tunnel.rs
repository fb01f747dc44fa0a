//! After `101 Switching Protocols`: bytes, both ways, whatever they mean.

use std::sync::Arc;

use bytes::Bytes;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::copy_bidirectional_with_sizes;

use super::audit::Record;
use super::peers::Membership;
use crate::upstream::Link;

/// Carries bytes until both sides have ended, one has failed, or the peer's sessions end. There is no time
/// limit on silence: the kubelet has one. One side may end (standard input is closed) while the other goes on.
pub(crate) async fn run(
    client: OnUpgrade,
    mut upstream: Link,
    first: Bytes,
    peer: Arc<Membership>,
    mut record: Box<Record>,
) {
    let flow = upstream.flow();
    let (sent, received) = (flow.read(), flow.written());
    upstream.unread(first.clone());
    let carry = async {
        let client = client.await.ok()?;
        // The connection is one of ours, so that it is a `Link`.
        let parts = client.downcast::<TokioIo<Link>>().ok()?;
        let mut client = parts.io.into_inner().without_linger();
        client.unread(parts.read_buf);
        record.tunnel();
        let copied =
            copy_bidirectional_with_sizes(&mut client, &mut upstream, BUFFER, BUFFER).await;
        if copied.is_err() {
            record.ended_by = Some("broken connection");
        }
        Some(())
    };
    if peer.during(carry).await.is_none() {
        record.ended_by = Some("proxy");
    }
    record.sent = flow.read() - sent + first.len() as u64;
    record.received = flow.written() - received;
}

const BUFFER: usize = 16 << 10;
