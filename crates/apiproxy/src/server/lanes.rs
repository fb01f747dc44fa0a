//! Threads that carry connections, each with a runtime of its own.
//!
//! A connection stays on the thread that it was given to, with everything that comes of it: its requests, the
//! connections to the API server that they use, its tunnel. So nothing of it wakes another thread, and what is
//! waited for is waited for by one `epoll` only. Listeners are not on these threads: they accept where
//! [`Proxy::serve`] is polled and hand over what they accept. (A listener for each thread would need
//! `SO_REUSEPORT`, by which two replicas on the network of one host would share a port without a word.)
//!
//! [`Proxy::serve`]: super::Proxy::serve

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::net::TcpStream;
use tokio::runtime;
use tokio::sync::mpsc;

/// What a thread does with a connection, in its runtime; it spawns and returns.
type Begin = Box<dyn FnOnce(TcpStream, Lane) + Send>;

/// The threads of a proxy. When this is dropped, they end, and all their connections with them.
#[derive(Debug)]
pub(crate) struct Lanes {
    threads: Vec<Thread>,
}

#[derive(Debug)]
struct Thread {
    connections: mpsc::UnboundedSender<Arrival>,
    load: Arc<AtomicUsize>,
}

struct Arrival {
    stream: std::net::TcpStream,
    lane: Lane,
    begin: Begin,
}

/// Where a connection is; dropped with it.
#[derive(Debug)]
pub(crate) struct Lane {
    /// 0: wherever [`super::Proxy::serve`] is polled; else the number of the thread.
    pub(crate) number: usize,
    load: Arc<AtomicUsize>,
}

impl Lane {
    fn new(number: usize, load: &Arc<AtomicUsize>) -> Self {
        load.fetch_add(1, Ordering::Relaxed);
        Self { number, load: Arc::clone(load) }
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.load.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Lanes {
    /// Starts `count` threads; with 0, connections are carried where the listeners are.
    ///
    /// # Errors
    ///
    /// If the kernel has no thread or no `epoll` for it.
    pub(crate) fn start(count: usize) -> io::Result<Self> {
        (1..=count).map(thread).collect::<io::Result<_>>().map(|threads| Self { threads })
    }

    /// Gives `stream` to the thread that has the fewest connections, the first of several, so that where
    /// little is going on, connections to the API server are there already.
    ///
    /// # Errors
    ///
    /// If the socket cannot be moved; it is closed then.
    pub(crate) fn carry(
        &self,
        stream: TcpStream,
        begin: impl FnOnce(TcpStream, Lane) + Send + 'static,
    ) -> io::Result<()> {
        let threads = self.threads.iter().enumerate();
        let least = threads.min_by_key(|(_, thread)| thread.load.load(Ordering::Relaxed));
        let Some((index, thread)) = least else {
            begin(stream, Lane::new(0, &Arc::default()));
            return Ok(());
        };
        let lane = Lane::new(index + 1, &thread.load);
        let arrival = Arrival { stream: stream.into_std()?, lane, begin: Box::new(begin) };
        let sent = thread.connections.send(arrival);
        sent.map_err(|_| {
            io::Error::other(format!("the thread {} has ended", thread_name(index + 1)))
        })
    }
}

fn thread(number: usize) -> io::Result<Thread> {
    let (connections, mut arrivals) = mpsc::unbounded_channel::<Arrival>();
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name(thread_name(number)).spawn(move || {
        runtime.block_on(async {
            while let Some(Arrival { stream, lane, begin }) = arrivals.recv().await {
                match TcpStream::from_std(stream) {
                    Ok(stream) => begin(stream, lane),
                    Err(error) => {
                        tracing::warn!(%error, "Cannot watch a connection, closing it");
                    }
                }
            }
        });
        // A name that is still being looked up keeps nobody waiting.
        runtime.shutdown_background();
    })?;
    Ok(Thread { connections, load: Arc::default() })
}

fn thread_name(number: usize) -> String {
    format!("proxy-{number}")
}
