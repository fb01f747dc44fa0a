//! HTTP/2 by the crate that hyper itself is built on: there the whole connection is one future, so
//! that a probe whose time is over leaves no task and no socket behind.

use bytes::Bytes;
use h2::PingPong;
use h2::client::SendRequest;
use tokio::io::{AsyncRead, AsyncWrite};

use super::http::alongside;

/// Opens an HTTP/2 connection and keeps it going while `work` uses it.
///
/// # Errors
/// If the connection's first bytes cannot be sent.
pub(super) async fn converse<S, T>(
    stream: S,
    work: impl AsyncFnOnce(SendRequest<Bytes>, Option<PingPong>) -> T,
) -> Result<T, h2::Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (sender, mut connection) = h2::client::handshake(stream).await?;
    let ping = connection.ping_pong();
    Ok(alongside(work(sender, ping), connection).await)
}
