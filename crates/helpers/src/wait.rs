//! Waits for things that no event of this pod announces.
//!
//! Every target is tried at once, and then again when it may have changed: interfaces on rtnetlink
//! events; what can only be asked is asked again soon while asking is cheap, and seldom when it is not
//! (`pace`). Paths are asked too: the kernel would tell of them (inotify), but it lets go of a watch
//! so slowly, often 10 ms and more, that whoever waited for it would come later than by asking.

mod target;

use std::cell::RefCell;
use std::io;
use std::net::ToSocketAddrs;
use std::path::Path;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use holdfast_runtime::probe;
use holdfast_wireguard::Interface;
use tokio::net::{UnixDatagram, UnixStream};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

pub use target::{ParseTargetError, Statuses, Target};

/// What is waited for, and how long.
#[derive(Clone, Debug)]
pub struct Wish {
    /// All of these.
    pub targets: Vec<Target>,
    /// Which answers of `http` and `https` targets count.
    pub statuses: Statuses,
    /// The whole wait, and with `once` each try, takes no longer.
    pub timeout: Duration,
    /// Do not wait: say what is the case now.
    pub once: bool,
}

/// Something to tell people while they wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// A target is not there, for another reason than the one told last.
    NotYet {
        /// Which, by its place in [`Wish::targets`].
        target: usize,
        /// What was seen.
        seen: String,
    },
    /// A target is there.
    There {
        /// Which, by its place in [`Wish::targets`].
        target: usize,
        /// What was seen.
        seen: String,
    },
}

/// A target that was not there in time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unmet {
    /// Which, by its place in [`Wish::targets`].
    pub target: usize,
    /// What was seen last.
    pub seen: String,
}

/// The longest that one of many tries may take: a server that took a connection and then says nothing may
/// answer the next one.
const TRY: Duration = Duration::from_secs(5);

/// Waits until all targets are there, or the time is over. What is left then is the answer: nothing if
/// all were seen, though not necessarily all in one moment.
///
/// Runs inside of a tokio runtime with I/O and time.
pub async fn wait(wish: &Wish, tell: impl FnMut(News)) -> Vec<Unmet> {
    // What is not there, and what was seen of it last.
    let open = RefCell::new(vec![Some("no answer yet".to_owned()); wish.targets.len()]);
    let tell = RefCell::new(tell);
    let tries = wish.targets.iter().enumerate().map(async |(target, what)| {
        let not_yet = |seen: String| {
            let before = open.borrow_mut()[target].replace(seen.clone());
            if before.as_ref() != Some(&seen) {
                tell.borrow_mut()(News::NotYet { target, seen });
            }
        };
        if let Some(seen) = until_there(what, wish, not_yet).await {
            open.borrow_mut()[target] = None;
            tell.borrow_mut()(News::There { target, seen });
        }
    });
    // With `once` each try is bounded, and there is no other.
    let whole = if wish.once { Duration::MAX } else { wish.timeout };
    let _ = timeout(whole, join_all(tries)).await;
    let left = open.into_inner().into_iter().enumerate();
    left.filter_map(|(target, seen)| Some(Unmet { target, seen: seen? })).collect()
}

/// Tries until the target is there and says what was seen; `None` if there is only one try and it
/// failed.
async fn until_there(target: &Target, wish: &Wish, not_yet: impl Fn(String)) -> Option<String> {
    let longest = if wish.once { wish.timeout } else { wish.timeout.min(TRY) };
    let mut followed = None;
    loop {
        let begin = Instant::now();
        let looked = timeout(longest, look(target, &wish.statuses, longest, &mut followed));
        match looked.await {
            Ok(Ok(seen)) => return Some(seen),
            Ok(Err(seen)) => not_yet(seen),
            Err(_) => not_yet(format!("no answer within {longest:?}")),
        }
        if wish.once {
            return None;
        }
        match target {
            Target::Interface(_) if let Some(state) = &mut followed => {
                // It says nothing more only if its task is gone, with the reactor.
                let _ = state.changed().await;
            }
            _ => sleep(pace(begin.elapsed())).await,
        }
    }
}

/// Looks once: what is there, or what is there instead.
async fn look(
    target: &Target,
    statuses: &Statuses,
    longest: Duration,
    followed: &mut Option<watch::Receiver<Interface>>,
) -> Result<String, String> {
    match target {
        Target::Tcp { host, port } => probe::connect(host, *port).await,
        Target::Http(get) => {
            let status = probe::http_status(get, "holdfast-wait", longest).await?;
            let words = format!("status {status}");
            if statuses.contain(status) { Ok(words) } else { Err(words) }
        }
        Target::Dns(name) => resolve(name).await,
        Target::Unix(path) => connect(path).await,
        Target::File(path) => match std::fs::metadata(path) {
            Ok(_) => Ok("it exists".to_owned()),
            Err(error) => Err(words(&error)),
        },
        Target::Interface(name) => interface(name, followed).await,
    }
}

/// The first address of an interface, or why it is of no use yet. It is followed from the first look on.
async fn interface(
    name: &str,
    followed: &mut Option<watch::Receiver<Interface>>,
) -> Result<String, String> {
    let state = match followed {
        Some(state) => state,
        None => followed.insert(holdfast_wireguard::follow(name).await),
    };
    let state = state.borrow_and_update();
    match (state.addresses().first(), state.fault()) {
        (Some(address), _) => Ok(address.to_string()),
        (None, fault) => Err(fault.unwrap_or_default().to_owned()),
    }
}

/// How long to wait between two tries of something that must be asked, of which the last took `cost`:
/// twenty times as long as a try, so that asking costs little of either side. A closed port of this
/// machine is asked every 5 ms, one a millisecond away 50 times a second, a slow one once a second.
fn pace(cost: Duration) -> Duration {
    const SHORTEST: Duration = Duration::from_millis(5);
    const LONGEST: Duration = Duration::from_secs(1);
    (cost * 20).clamp(SHORTEST, LONGEST)
}

/// Asks the system's resolver, in a thread that nobody waits for: it may take longer than we have.
async fn resolve(name: &str) -> Result<String, String> {
    let (sender, answer) = tokio::sync::oneshot::channel();
    let asked = name.to_owned();
    std::thread::Builder::new()
        .name("resolver".to_owned())
        .spawn(move || {
            let found =
                (asked.as_str(), 0).to_socket_addrs().map(|found| found.collect::<Vec<_>>());
            let _ = sender.send(found);
        })
        .map_err(|error| format!("cannot ask the resolver: {}", words(&error)))?;
    match answer.await {
        Ok(Ok(found)) => match found.first() {
            Some(first) => Ok(first.ip().to_string()),
            None => Err("no address".to_owned()),
        },
        Ok(Err(error)) => {
            // Such an error has no number: `failed to lookup address information: Name or …`.
            let words = error.to_string();
            Err(format!(
                "lookup {name}: {}",
                words.rsplit(": ").next().unwrap_or_default().to_lowercase()
            ))
        }
        Err(_) => Err("the resolver gave no answer".to_owned()),
    }
}

/// Connects to a socket: of streams, or else of datagrams.
async fn connect(path: &Path) -> Result<String, String> {
    /// `EPROTOTYPE`: the socket is of another type.
    const OTHER_TYPE: i32 = rustix::io::Errno::PROTOTYPE.raw_os_error();
    let result = match UnixStream::connect(path).await {
        Err(error) if error.raw_os_error() == Some(OTHER_TYPE) => {
            UnixDatagram::unbound().and_then(|socket| socket.connect(path))
        }
        result => result.map(drop),
    };
    result.map(|()| "connected".to_owned()).map_err(|error| words(&error))
}

/// What the system said, without the number.
fn words(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut letters = text.chars();
    letters.next().into_iter().flat_map(char::to_lowercase).chain(letters).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cheap_tries_come_often_and_dear_ones_seldom() {
        assert_eq!(pace(Duration::from_micros(30)), Duration::from_millis(5));
        assert_eq!(pace(Duration::from_millis(1)), Duration::from_millis(20));
        assert_eq!(pace(Duration::from_secs(7)), Duration::from_secs(1));
    }

    #[test]
    fn errors_read_as_the_end_of_a_sentence() {
        assert_eq!(words(&io::Error::from_raw_os_error(2)), "no such file or directory");
    }
}
