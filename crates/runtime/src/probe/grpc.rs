//! The gRPC health check (`grpc.health.v1.Health/Check`), with its two messages coded by hand.
//!
//! ```text
//! frame     0x00, length as u32 (big end first), message
//! request   message HealthCheckRequest  { string service = 1; }
//! answer    message HealthCheckResponse { enum status = 1; }   UNKNOWN SERVING NOT_SERVING SERVICE_UNKNOWN
//! trailers  grpc-status, grpc-message
//! ```

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use h2::{Ping, RecvStream};
use holdfast_lifecycle::backoff::go_duration;
use http::{HeaderMap, Request, StatusCode};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout_at};

use super::{Grpc, Target, dial, http2, text};

/// Why a service does not count as healthy, in the words of `pkg/probe/grpc`.
#[derive(Debug, thiserror::Error)]
pub(super) enum CheckError {
    /// Nothing spoke HTTP/2 there before the time was over.
    #[error(
        "timeout: failed to connect service {address:?} within {}: context deadline exceeded",
        go_duration(*timeout)
    )]
    NotConnected {
        /// Who was asked.
        address: String,
        /// For how long.
        timeout: Duration,
    },
    /// No answer before the time was over.
    #[error("timeout: health rpc did not complete within {}", go_duration(*timeout))]
    NoAnswer {
        /// For how long it was waited.
        timeout: Duration,
    },
    /// A gRPC server without the health service.
    #[error(
        "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): {0}"
    )]
    Unimplemented(String),
    /// The call failed.
    #[error("error: health rpc probe failed: {0}")]
    Failed(Status),
    /// The service says that it is not serving.
    #[error("service unhealthy (responded with {:?})", serving_status(*.0))]
    Unhealthy(u64),
}

/// The status of a call, as grpc-go prints it.
#[derive(Debug)]
pub(super) struct Status {
    code: u32,
    message: String,
}

/// Asks whether a service is serving.
///
/// # Errors
/// Whatever else it says, and if nobody answers.
pub(super) async fn check(
    target: &Target,
    service: &Grpc,
    timeout: Duration,
) -> Result<(), CheckError> {
    let deadline = Instant::now() + timeout;
    let host = target.address.to_string();
    let address = text::host_port(&host, service.port);
    let mut pause = FIRST_PAUSE;
    // grpc-go does not give up at a refused connection, it tries again until the deadline: a server
    // that comes up within the timeout passes. There is no event to wait for at the other end.
    let attempts = async {
        loop {
            if let Ok(stream) = dial::connect(&host, service.port).await
                && let Some(result) = call(stream, &address, target, service, deadline).await
            {
                return result;
            }
            sleep(pause).await;
            pause = pause.mul_f64(PAUSE_GROWTH);
        }
    };
    let status = match timeout_at(deadline, attempts).await {
        Ok(Ok(SERVING)) => return Ok(()),
        Ok(Ok(other)) => return Err(CheckError::Unhealthy(other)),
        Ok(Err(status)) => status,
        Err(_) => return Err(CheckError::NotConnected { address, timeout }),
    };
    Err(match status.code {
        DEADLINE_EXCEEDED => CheckError::NoAnswer { timeout },
        UNIMPLEMENTED => CheckError::Unimplemented(status.message),
        _ => CheckError::Failed(status),
    })
}

/// Makes the call on a new connection; `None` if the peer does not speak HTTP/2 (yet).
async fn call(
    stream: TcpStream,
    address: &str,
    target: &Target,
    service: &Grpc,
    deadline: Instant,
) -> Option<Result<u64, Status>> {
    let talk = http2::converse(stream, async |mut sender, ping| {
        // The answer to a ping comes after the server's settings: only then grpc-go takes the
        // connection for usable.
        ping?.ping(Ping::opaque()).await.ok()?;
        let left = deadline.saturating_duration_since(Instant::now()).as_millis().min(99_999_999);
        let request = Request::post(format!("http://{address}/grpc.health.v1.Health/Check"))
            .header("content-type", "application/grpc")
            .header("user-agent", format!("kube-probe/1.{}", target.kubernetes_minor))
            .header("te", "trailers")
            .header("grpc-timeout", format!("{left}m"))
            .body(())
            .ok()?;
        let answer = async {
            let (answer, mut body) = sender.send_request(request, false).map_err(broken)?;
            body.send_data(encode_request(&service.service), true).map_err(broken)?;
            let (head, body) = answer.await.map_err(broken)?.into_parts();
            read_answer(head.status, &head.headers, body).await
        };
        Some(timeout_at(deadline, answer).await.unwrap_or_else(|_| {
            Err(Status { code: DEADLINE_EXCEEDED, message: "context deadline exceeded".to_owned() })
        }))
    });
    talk.await.ok()?
}

/// Reads status and message of an answer.
async fn read_answer(
    status: StatusCode,
    headers: &HeaderMap,
    mut body: RecvStream,
) -> Result<u64, Status> {
    if status != StatusCode::OK && !headers.contains_key("grpc-status") {
        let reason = status.canonical_reason().unwrap_or_default();
        let message = format!(
            "unexpected HTTP status code received from server: {} ({reason})",
            status.as_u16()
        );
        return Err(Status { code: code_of_http(status), message });
    }
    let mut data = Vec::new();
    while let Some(chunk) = body.data().await {
        let chunk = chunk.map_err(broken)?;
        body.flow_control().release_capacity(chunk.len()).map_err(broken)?;
        if data.len() + chunk.len() > MAX_ANSWER {
            return Err(internal(format!("the answer is longer than {MAX_ANSWER} bytes")));
        }
        data.extend_from_slice(&chunk);
    }
    let trailers = body.trailers().await.map_err(broken)?;
    let trailers = trailers.as_ref().unwrap_or(headers);
    let code = match trailers.get("grpc-status").map(|v| v.to_str().unwrap_or_default().parse()) {
        Some(Ok(code)) => code,
        Some(Err(_)) => return Err(internal("malformed grpc-status".to_owned())),
        None => {
            return Err(internal("server closed the stream without sending trailers".to_owned()));
        }
    };
    if code != 0 {
        let message = trailers.get("grpc-message").map_or(&[][..], |v| v.as_bytes());
        return Err(Status { code, message: percent_decode(message) });
    }
    decode_answer(&data).map_err(|what| internal(what.to_owned()))
}

fn encode_request(service: &str) -> Bytes {
    let mut message = Vec::with_capacity(service.len() + 12);
    if !service.is_empty() {
        message.push(1 << 3 | WIRE_BYTES);
        let mut length = service.len();
        while length >= 0x80 {
            message.push((length & 0x7f) as u8 | 0x80);
            length >>= 7;
        }
        message.push(length as u8);
        message.extend_from_slice(service.as_bytes());
    }
    // A service name comes from a manifest and is far below 4 GiB.
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    let mut frame = vec![0];
    frame.extend_from_slice(&length.to_be_bytes());
    frame.extend_from_slice(&message);
    frame.into()
}

/// The `status` of a framed `HealthCheckResponse`.
fn decode_answer(data: &[u8]) -> Result<u64, &'static str> {
    let (compressed, rest) = data.split_first().ok_or("the answer has no message")?;
    if *compressed != 0 {
        return Err("the answer is compressed, which was not asked for");
    }
    let (length, message) = rest.split_first_chunk::<4>().ok_or("the answer is cut short")?;
    let mut message =
        message.get(..u32::from_be_bytes(*length) as usize).ok_or("the answer is cut short")?;
    let mut status = 0;
    while !message.is_empty() {
        let key = varint(&mut message)?;
        match (key >> 3, (key & 7) as u8) {
            (1, WIRE_VARINT) => status = varint(&mut message)?,
            (_, WIRE_VARINT) => _ = varint(&mut message)?,
            (_, WIRE_64) => skip(&mut message, 8)?,
            (_, WIRE_32) => skip(&mut message, 4)?,
            (_, WIRE_BYTES) => {
                let length = varint(&mut message)?;
                skip(&mut message, length)?;
            }
            _ => return Err("the answer is not a HealthCheckResponse"),
        }
    }
    Ok(status)
}

fn varint(data: &mut &[u8]) -> Result<u64, &'static str> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = data.split_first().ok_or("a number in the answer is cut short")?;
        *data = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err("a number in the answer is too long")
}

fn skip(data: &mut &[u8], length: u64) -> Result<(), &'static str> {
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    *data = data.get(length..).ok_or("a field of the answer is cut short")?;
    Ok(())
}

/// Undoes the percent encoding of `grpc-message`; what is not valid stays as it is.
fn percent_decode(text: &[u8]) -> String {
    let hex = |byte: u8| char::from(byte).to_digit(16);
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if let (b'%', [a, b, after @ ..]) = (byte, after)
            && let (Some(a), Some(b)) = (hex(*a), hex(*b))
        {
            out.push((a << 4 | b) as u8);
            rest = after;
        } else {
            out.push(byte);
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn broken(e: h2::Error) -> Status {
    if e.is_io() || e.is_go_away() {
        return Status { code: UNAVAILABLE, message: format!("error reading from server: {e}") };
    }
    internal(e.to_string())
}

fn internal(message: String) -> Status {
    Status { code: INTERNAL, message }
}

/// grpc-go: `HTTPStatusConvTab`.
fn code_of_http(status: StatusCode) -> u32 {
    match status.as_u16() {
        400 => INTERNAL,
        401 => UNAUTHENTICATED,
        403 => PERMISSION_DENIED,
        404 => UNIMPLEMENTED,
        429 | 502..=504 => UNAVAILABLE,
        _ => UNKNOWN,
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rpc error: code = ")?;
        match CODES.get(self.code as usize) {
            Some(name) => f.write_str(name)?,
            None => write!(f, "Code({})", self.code)?,
        }
        write!(f, " desc = {}", self.message)
    }
}

/// The name of a value of `HealthCheckResponse.ServingStatus`.
fn serving_status(value: u64) -> String {
    match value {
        0 => "UNKNOWN".to_owned(),
        1 => "SERVING".to_owned(),
        2 => "NOT_SERVING".to_owned(),
        3 => "SERVICE_UNKNOWN".to_owned(),
        n => n.to_string(),
    }
}

const SERVING: u64 = 1;

/// The wire types of protobuf.
const WIRE_VARINT: u8 = 0;
const WIRE_64: u8 = 1;
const WIRE_BYTES: u8 = 2;
const WIRE_32: u8 = 5;

/// The names of gRPC's status codes, by number.
const CODES: [&str; 17] = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];
const UNKNOWN: u32 = 2;
const DEADLINE_EXCEEDED: u32 = 4;
const PERMISSION_DENIED: u32 = 7;
const UNIMPLEMENTED: u32 = 12;
const INTERNAL: u32 = 13;
const UNAVAILABLE: u32 = 14;
const UNAUTHENTICATED: u32 = 16;

/// grpc-go's back-off between connection attempts: 1 s, then 1.6 times more each time. Its jitter of
/// a fifth, meant for crowds of clients, is left out.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const PAUSE_GROWTH: f64 = 1.6;

/// Far more than any health answer needs.
const MAX_ANSWER: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_framed_protobuf() {
        assert_eq!(encode_request("").as_ref(), [0, 0, 0, 0, 0]);
        assert_eq!(encode_request("ab").as_ref(), [0, 0, 0, 0, 4, 0x0a, 2, b'a', b'b']);
        let long = encode_request(&"x".repeat(300));
        assert_eq!(long[..8], [0, 0, 0, 1, 0x2f, 0x0a, 0xac, 0x02]);
        assert_eq!(long.len(), 5 + 303);
    }

    #[test]
    fn answers_are_read_past_unknown_fields() {
        for (message, want) in [
            (&[][..], Ok(0)),
            (&[8, 1], Ok(1)),
            (&[8, 0xac, 2], Ok(300)),
            (&[0x12, 2, 9, 9, 0x19, 0, 0, 0, 0, 0, 0, 0, 0, 0x25, 0, 0, 0, 0, 8, 2], Ok(2)),
            (&[0x12, 200, 9], Err(())),
            (&[0x0b], Err(())),
            (&[8], Err(())),
            (&[0xff; 12], Err(())),
        ] {
            let mut frame = vec![0, 0, 0, 0, message.len() as u8];
            frame.extend_from_slice(message);
            assert_eq!(decode_answer(&frame).map_err(|_| ()), want, "{message:x?}");
        }
        for frame in [&[][..], &[0, 0, 0], &[0, 0, 0, 0, 9, 8, 1], &[1, 0, 0, 0, 2, 8, 1]] {
            assert!(decode_answer(frame).is_err(), "{frame:x?}");
        }
    }

    #[test]
    fn messages_are_percent_encoded() {
        assert_eq!(percent_decode(b"a%20b%C3%A9%zz%2"), "a bé%zz%2");
    }
}
