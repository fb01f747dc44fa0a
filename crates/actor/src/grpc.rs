//! `grpc.health.v1.Health/Check`, as little of HTTP/2 as a probe needs: the service that is asked for
//! is the name of the probe, and the headers of the request are not looked at.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::script::Answer;
use crate::serve::Answering;

const PREFACE: usize = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".len();
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
/// Of `HealthCheckResponse.ServingStatus`.
const SERVING: u8 = 1;
const NOT_SERVING: u8 = 2;

/// Serves one connection until the other side closes it.
pub(crate) fn serve(common: &Answering, mut stream: TcpStream) -> io::Result<()> {
    frame(&mut stream, SETTINGS, 0, 0, &[])?;
    stream.read_exact(&mut [0; PREFACE])?;
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head)?;
        let [a, b, c, kind, flags, s @ ..] = head;
        let length = u32::from_be_bytes([0, a, b, c]) as usize;
        let id = u32::from_be_bytes(s);
        let mut body = vec![0; length];
        stream.read_exact(&mut body)?;
        match kind {
            SETTINGS if flags & ACK == 0 => frame(&mut stream, SETTINGS, ACK, 0, &[])?,
            PING if flags & ACK == 0 => frame(&mut stream, PING, ACK, 0, &body)?,
            GOAWAY => return Ok(()),
            // The message fits into one frame: a prefix of 5 bytes, then field 1, the service.
            DATA if flags & END_STREAM != 0 => {
                let service = body.get(7..).map(String::from_utf8_lossy).unwrap_or_default();
                respond(&mut stream, id, common.answer(&service))?;
            }
            _ => {}
        }
    }
}

fn respond(stream: &mut TcpStream, id: u32, answer: Answer) -> io::Result<()> {
    let status = match answer {
        Answer::Ok => SERVING,
        Answer::Bad => NOT_SERVING,
        Answer::Hang => {
            std::thread::sleep(Duration::from_secs(3600));
            return Ok(());
        }
    };
    // HPACK: `:status: 200` from the static table, the others literal.
    let mut headers = vec![0x88, 0x0f, 0x10, 16];
    headers.extend(b"application/grpc");
    frame(stream, HEADERS, END_HEADERS, id, &headers)?;
    frame(stream, DATA, 0, id, &[0, 0, 0, 0, 2, 8, status])?;
    let mut trailers = vec![0, 11];
    trailers.extend(b"grpc-status");
    trailers.extend([1, b'0']);
    frame(stream, HEADERS, END_HEADERS | END_STREAM, id, &trailers)
}

fn frame(stream: &mut TcpStream, kind: u8, flags: u8, id: u32, body: &[u8]) -> io::Result<()> {
    let [_, a, b, c] = (body.len() as u32).to_be_bytes();
    let mut bytes = vec![a, b, c, kind, flags];
    bytes.extend(id.to_be_bytes());
    bytes.extend(body);
    stream.write_all(&bytes)
}
