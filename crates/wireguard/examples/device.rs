//! A WireGuard interface that `wg` configures, as with wireguard-go: `device wg0 [MTU]`, until it is
//! sent SIGINT or SIGTERM.

#![allow(missing_docs, reason = "a program")]

use holdfast_wireguard::{Backend, Device, Options};
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut words = std::env::args().skip(1);
    let mut options = Options::new(&words.next().ok_or("usage: device NAME [MTU]")?);
    options.backend = Backend::Userspace;
    if let Some(mtu) = words.next() {
        options.mtu = mtu.parse()?;
    }
    let mut terminate = signal(SignalKind::terminate())?;
    let device = Device::create(&options).await?;
    let mut ended = device.ended();
    tokio::select! {
        _ = terminate.recv() => {}
        result = tokio::signal::ctrl_c() => result?,
        _ = ended.wait_for(Option::is_some) => {}
    }
    println!("{:#?}", device.status().await);
    Ok(())
}
