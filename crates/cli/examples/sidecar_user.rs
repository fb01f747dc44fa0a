//! Needs its sidecar: makes one request and fails if nobody answers.
//!
//! Stands for the image `zwindler/sidecar-user` in `examples/cronjobs`: map it with
//! `--image zwindler/sidecar-user=target/…/examples/sidecar_user`. The port is the first argument or
//! `PORT`, 8081 if neither is given.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::ExitCode;
use std::time::Duration;

fn main() -> ExitCode {
    let port = std::env::args().nth(1).or_else(|| std::env::var("PORT").ok());
    match request(port.as_deref().unwrap_or("8081")) {
        Ok(answer) => {
            println!("the sidecar says {answer}");
            ExitCode::SUCCESS
        }
        Err(e) => {
            eprintln!("the sidecar does not answer: {e}");
            ExitCode::FAILURE
        }
    }
}

fn request(port: &str) -> Result<String, Box<dyn std::error::Error>> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port.parse()?));
    let timeout = Duration::from_secs(5);
    let mut stream = TcpStream::connect_timeout(&address, timeout)?;
    stream.set_read_timeout(Some(timeout))?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let body = answer.strip_prefix("HTTP/1.1 200").and_then(|rest| rest.split("\r\n\r\n").nth(1));
    Ok(body.ok_or_else(|| format!("unexpected answer {answer:?}"))?.trim().to_owned())
}
