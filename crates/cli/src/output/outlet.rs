//! Where text leaves the program, without anybody having to wait for whoever reads it.
//!
//! A reader may stop reading (`| less`, a terminal after Ctrl-S), and a write would then hold the event
//! loop, and with it every pod. So text is written at once as long as the kernel takes it, and queues up
//! for a thread otherwise; the thread is only made then. Nothing is lost and nothing overtakes anything.
//!
//! The queue has no limit of its own: what pods say of themselves must not be lost, and is little. The
//! output of containers is much, so each of its lines brings its [`Receipt`] along, which is given back
//! when the line has been written; a runtime stops reading when too many are out.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use anstream::{AutoStream, ColorChoice};
use holdfast_runtime::contract::Receipt;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{FileType, Mode, OFlags};
use tokio::sync::Notify;

/// stdout.
pub(crate) static OUT: Outlet = Outlet::new(Stream::Out);
/// stderr.
pub(crate) static ERR: Outlet = Outlet::new(Stream::Err);

/// One of the two.
#[derive(Clone, Copy, Debug)]
enum Stream {
    Out,
    Err,
}

/// One way out.
#[derive(Debug)]
pub(crate) struct Outlet {
    stream: Stream,
    state: Mutex<State>,
    /// There is something for the thread.
    work: Condvar,
    /// The thread has nothing to do.
    idle: Condvar,
    /// As `idle`, for the event loop.
    drained: Notify,
}

#[derive(Debug)]
struct State {
    /// Found out at the first write.
    way: Option<Way>,
    queue: VecDeque<(Vec<u8>, Vec<Receipt>)>,
    /// Whether the thread has taken something that it has not written yet.
    writing: bool,
    has_thread: bool,
    /// Nothing is written any more.
    failed: bool,
    /// Why, until somebody asks.
    error: Option<io::Error>,
}

/// How to write.
#[derive(Debug)]
struct Way {
    color: ColorChoice,
    direct: Direct,
}

/// How to write without waiting for a reader.
#[derive(Debug)]
enum Direct {
    /// A file, which has no reader.
    File,
    /// The same pipe or terminal, opened once more: only this description of it does not block. The one
    /// that we were given is shared with others, who would be surprised.
    NonBlocking(OwnedFd),
    /// Not at all: a socket, or somebody else's terminal.
    No,
}

impl Outlet {
    const fn new(stream: Stream) -> Self {
        Self {
            stream,
            state: Mutex::new(State {
                way: None,
                queue: VecDeque::new(),
                writing: false,
                has_thread: false,
                failed: false,
                error: None,
            }),
            work: Condvar::new(),
            idle: Condvar::new(),
            drained: Notify::const_new(),
        }
    }

    /// Writes a text in one piece, sooner or later. Its colours are left out where nobody sees them.
    /// After an error nothing is written any more.
    pub(crate) fn write(&'static self, text: &str, receipts: Vec<Receipt>) {
        let mut state = self.lock();
        if state.failed {
            return;
        }
        let is_behind = state.is_behind();
        let way = state.way.get_or_insert_with(|| Way::find(self.stream));
        let bytes = colored(text, way.color);
        if is_behind {
            state.queue.push_back((bytes, receipts));
            self.work.notify_one();
            return;
        }
        match way.direct.write(self.stream, &bytes) {
            Ok(written) if written == bytes.len() => {}
            Ok(written) => {
                state.queue.push_back((bytes[written..].to_owned(), receipts));
                self.hand_over(state);
            }
            Err(error) => state.fail(error),
        }
    }

    /// Lets the thread take care of the queue.
    fn hand_over(&'static self, mut state: MutexGuard<'static, State>) {
        if !state.has_thread {
            let thread = std::thread::Builder::new().name("output".to_owned());
            if thread.spawn(move || self.serve()).is_err() {
                // Without a thread there is nobody but us to wait.
                while let Some((bytes, _)) = state.queue.pop_front() {
                    if let Err(error) = write_all(self.stream, &bytes) {
                        return state.fail(error);
                    }
                }
                return;
            }
            state.has_thread = true;
        }
        self.work.notify_one();
    }

    /// The thread's life.
    fn serve(&self) {
        let mut state = self.lock();
        loop {
            let Some((bytes, receipts)) = state.queue.pop_front() else {
                self.idle.notify_all();
                self.drained.notify_waiters();
                state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            state.writing = true;
            drop(state);
            let result = write_all(self.stream, &bytes);
            drop(receipts);
            state = self.lock();
            state.writing = false;
            if let Err(error) = result {
                state.fail(error);
            }
        }
    }

    /// Whether something waits for a reader.
    pub(crate) fn is_behind(&self) -> bool {
        self.lock().is_behind()
    }

    /// Waits until everything is written, or nothing can be written any more.
    pub(crate) async fn drained(&self) {
        loop {
            let mut notified = std::pin::pin!(self.drained.notified());
            // From here on a notification counts.
            notified.as_mut().enable();
            if !self.is_behind() {
                return;
            }
            notified.await;
        }
    }

    /// As [`drained`](Self::drained), where there is no event loop.
    pub(crate) fn wait(&self) {
        let mut state = self.lock();
        while state.is_behind() {
            state = self.idle.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Forgets what has not been written: nobody is going to read it.
    pub(crate) fn give_up(&self) {
        let mut state = self.lock();
        state.failed = true;
        state.writing = false;
        state.queue.clear();
        self.idle.notify_all();
        self.drained.notify_waiters();
    }

    /// What went wrong, if anything; it is told once.
    pub(crate) fn error(&self) -> Option<io::Error> {
        self.lock().error.take()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nobody panics in the middle of a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn is_behind(&self) -> bool {
        self.writing || !self.queue.is_empty()
    }

    fn fail(&mut self, error: io::Error) {
        if !self.failed {
            self.failed = true;
            self.error = Some(error);
        }
        self.queue.clear();
    }
}

impl Stream {
    fn fd(self) -> BorrowedFd<'static> {
        match self {
            Self::Out => rustix::stdio::stdout(),
            Self::Err => rustix::stdio::stderr(),
        }
    }

    fn color(self) -> ColorChoice {
        match self {
            Self::Out => AutoStream::choice(&io::stdout()),
            Self::Err => AutoStream::choice(&io::stderr()),
        }
    }
}

impl Way {
    fn find(stream: Stream) -> Self {
        Self { color: stream.color(), direct: Direct::find(stream).unwrap_or(Direct::No) }
    }
}

impl Direct {
    fn find(stream: Stream) -> rustix::io::Result<Self> {
        let fd = stream.fd();
        let again = match FileType::from_raw_mode(rustix::fs::fstat(fd)?.st_mode) {
            FileType::Fifo => true,
            FileType::CharacterDevice => rustix::termios::isatty(fd),
            FileType::Socket => return Ok(Self::No),
            _ => false,
        };
        if !again {
            return Ok(Self::File);
        }
        let path = match stream {
            Stream::Out => c"/proc/self/fd/1",
            Stream::Err => c"/proc/self/fd/2",
        };
        let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        rustix::fs::open(path, flags, Mode::empty()).map(Self::NonBlocking)
    }

    /// Writes what can be written at once; the answer says how much.
    fn write(&self, stream: Stream, bytes: &[u8]) -> io::Result<usize> {
        let fd = match self {
            Self::File => return write_all(stream, bytes).map(|()| bytes.len()),
            Self::NonBlocking(fd) => fd,
            Self::No => return Ok(0),
        };
        let mut written = 0;
        while written < bytes.len() {
            match rustix::io::write(fd, &bytes[written..]) {
                Ok(more) => written += more,
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(written)
    }
}

/// Writes everything, however long that takes.
fn write_all(stream: Stream, mut bytes: &[u8]) -> io::Result<()> {
    let fd = stream.fd();
    while !bytes.is_empty() {
        match rustix::io::write(fd, bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(rustix::io::Errno::INTR) => {}
            // Somebody who shares it wants it not to block.
            Err(rustix::io::Errno::AGAIN) => {
                poll(&mut [PollFd::from_borrowed_fd(fd.as_fd(), PollFlags::OUT)], None)?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// The text as it is to be written.
fn colored(text: &str, color: ColorChoice) -> Vec<u8> {
    let mut stream = AutoStream::new(Vec::with_capacity(text.len()), color);
    // Memory takes everything.
    let _ = stream.write_all(text.as_bytes());
    stream.into_inner()
}
