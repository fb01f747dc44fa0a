//! The programs on the hosts that are this one: devices, and the two ends of many streams.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use clap::ValueEnum;
use holdfast_wireguard::{Device, Options};

/// What a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Role {
    /// So many devices, wg0 and so on, each with 10.44.0.N, the first N being `first`.
    Devices,
    /// Reads all streams that come, and writes what it has got so far when it reads a line.
    Sink,
    /// Writes a stream to each of so many addresses from 10.44.0.`first` on; or all to that one, if it is
    /// negative.
    Source,
}

/// Where streams end.
pub(super) const PORT: u16 = 5300;

/// Is one of these processes, until its input ends.
///
/// # Errors
/// If a device or a socket cannot be had.
pub fn run(role: Role, first: u8, count: i16) -> Result<()> {
    match role {
        Role::Devices => devices(first, count.unsigned_abs()),
        Role::Sink => sink(),
        Role::Source => source(first, count),
    }
}

fn devices(first: u8, count: u16) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut devices = Vec::new();
    for number in 0..count {
        let address = u8::try_from(u16::from(first) + number).context("too many devices")?;
        let prefix = if count == 1 { 24 } else { 32 };
        let options = Options {
            addresses: vec![format!("10.44.0.{address}/{prefix}").parse()?],
            ..Options::new(&format!("wg{number}"))
        };
        devices.push(runtime.block_on(Device::create(&options))?);
    }
    println!("ready");
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

fn sink() -> Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT))?;
    let total = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&total);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let counted = Arc::clone(&counted);
            thread::spawn(move || {
                let (mut stream, mut buffer) = (stream, vec![0; 1 << 17]);
                while let Ok(length @ 1..) = stream.read(&mut buffer) {
                    counted.fetch_add(length as u64, Ordering::Relaxed);
                }
            });
        }
    });
    println!("ready");
    let mut line = String::new();
    while std::io::stdin().read_line(&mut line)? > 0 {
        println!("{}", total.load(Ordering::Relaxed));
    }
    Ok(())
}

fn source(first: u8, count: i16) -> Result<()> {
    let address = |number: u16| {
        let last = if count < 0 { first } else { first.wrapping_add(number as u8) };
        SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 44, 0, last)), PORT)
    };
    let mut streams = Vec::new();
    for number in 0..count.unsigned_abs() {
        let address = address(number);
        // A handshake may have to come first.
        let begin = Instant::now();
        let stream = loop {
            match TcpStream::connect_timeout(&address, Duration::from_secs(5)) {
                Ok(stream) => break stream,
                Err(error) if begin.elapsed() > Duration::from_secs(10) => {
                    return Err(error).with_context(|| address.to_string());
                }
                Err(_) => thread::sleep(Duration::from_millis(50)),
            }
        };
        streams.push(stream);
    }
    println!("ready");
    for mut stream in streams {
        thread::spawn(move || {
            let buffer = vec![0; 1 << 17];
            while stream.write_all(&buffer).is_ok() {}
        });
    }
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}
