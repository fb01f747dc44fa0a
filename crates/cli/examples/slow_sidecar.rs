//! A sidecar that is slow to become useful: a web server that sleeps before it listens.
//!
//! Stands for the image `zwindler/slow-sidecar` in `examples/cronjobs`: map it with
//! `--image zwindler/slow-sidecar=target/…/examples/slow_sidecar`.
//!
//! - first argument or `PORT`: where it listens, 8081 if neither is given
//! - `START_DELAY_MS`: how long it sleeps first, 5000 if not given
//! - `IGNORE_TERM=1`: it does not listen to SIGTERM, as a program that runs as PID 1 and has no handler

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::ExitCode;
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal};

fn main() -> ExitCode {
    let mut term = SigSet::empty();
    term.add(Signal::SIGTERM);
    // Blocked in every thread: only the one that waits for it sees it.
    if let Err(e) = term.thread_block() {
        eprintln!("cannot block SIGTERM: {e}");
        return ExitCode::FAILURE;
    }
    if std::env::var_os("IGNORE_TERM").is_none() {
        std::thread::spawn(move || {
            if term.wait().is_ok() {
                println!("told to stop");
                std::process::exit(0);
            }
        });
    }
    let port = std::env::args().nth(1).or_else(|| std::env::var("PORT").ok());
    let Ok(port) = port.as_deref().unwrap_or("8081").parse::<u16>() else {
        eprintln!("{port:?} is not a port");
        return ExitCode::FAILURE;
    };
    let delay = std::env::var("START_DELAY_MS").ok().and_then(|ms| ms.parse().ok());
    std::thread::sleep(Duration::from_millis(delay.unwrap_or(5000)));
    let listener = match TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)) {
        Ok(listener) => listener,
        Err(e) => {
            eprintln!("cannot listen on port {port}: {e}");
            return ExitCode::FAILURE;
        }
    };
    println!("listening on port {port}");
    for client in listener.incoming().flatten() {
        std::thread::spawn(move || answer(client));
    }
    ExitCode::SUCCESS
}

/// Reads a request to its empty line and says hello.
fn answer(mut client: TcpStream) {
    let _ = client.set_read_timeout(Some(Duration::from_secs(5)));
    for line in BufReader::new(&client).lines() {
        match line {
            Ok(line) if line.is_empty() => break,
            Ok(_) => {}
            Err(_) => return,
        }
    }
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\nhello\n";
    let _ = client.write_all(answer.as_bytes());
}
