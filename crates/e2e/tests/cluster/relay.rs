//! A relay of TCP connections that can be cut: like a cable, it closes nothing, it only passes nothing on.

use std::net::SocketAddr;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};

/// It has a thread of its own, so that it passes things on also while a test waits for a process.
pub struct Relay {
    address: SocketAddr,
    upstream: String,
    cut: watch::Sender<bool>,
    end: Option<oneshot::Sender<()>>,
}

impl Relay {
    /// Stands before `upstream`, a host and a port.
    pub fn before(upstream: &str) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (cut, is_cut) = watch::channel(false);
        let (end, ends) = oneshot::channel();
        let to = upstream.to_owned();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async {
                listener.set_nonblocking(true).unwrap();
                let listener = TcpListener::from_std(listener).unwrap();
                tokio::select! {
                    () = accept(listener, to, is_cut) => {}
                    _ = ends => {}
                }
            });
        });
        Self { address, upstream: upstream.to_owned(), cut, end: Some(end) }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The name that certificates are to have.
    pub fn upstream_host(&self) -> &str {
        self.upstream.rsplit_once(':').unwrap().0
    }

    /// From now on nothing gets through.
    pub fn cut(&self) {
        self.cut.send_replace(true);
    }

    /// New connections get through again; old ones are closed.
    pub fn heal(&self) {
        self.cut.send_replace(false);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        // The thread ends by it, and with it what it has open.
        drop(self.end.take());
    }
}

async fn accept(listener: TcpListener, upstream: String, is_cut: watch::Receiver<bool>) {
    loop {
        let Ok((inner, _)) = listener.accept().await else { return };
        tokio::spawn(pass(inner, upstream.clone(), is_cut.clone()));
    }
}

async fn pass(mut inner: TcpStream, upstream: String, mut is_cut: watch::Receiver<bool>) {
    let passing = async {
        if let Ok(mut outer) = TcpStream::connect(upstream).await {
            let _ = copy_bidirectional(&mut inner, &mut outer).await;
        }
    };
    let ended = tokio::select! {
        () = passing => true,
        _ = is_cut.wait_for(|cut| *cut) => false,
    };
    if !ended {
        let _ = is_cut.wait_for(|cut| !*cut).await;
    }
}
