//! Waits for things that no event of this pod announces.
//!
//! Every target is tried at once, and then again when it may have changed: interfaces on rtnetlink
//! events; what can only be asked is asked again soon while asking is cheap, and seldom when it is not
//! (`pace`). Paths are asked too: the kernel would tell of them (inotify), but it lets go of a watch
//! so slowly, often 10 ms and more, that whoever waited for it would come later than by asking.

mod interface;
mod target;

use std::future::pending;
use std::io;
use std::net::ToSocketAddrs;
use std::path::Path;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use holdfast_runtime::probe;
use tokio::net::{UnixDatagram, UnixStream};
use tokio::time::{sleep, timeout};

pub use target::{ParseTargetError, Statuses, Target};

use interface::InterfaceWatch;

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

/// Waits until all targets are there, or the time is over. What is left then is the answer: nothing if
/// all were seen, though not necessarily all in one moment.
///
/// Runs inside of a tokio runtime with I/O and time.
pub async fn wait(wish: &Wish, mut tell: impl FnMut(News)) -> Vec<Unmet> {
    let count = wish.targets.len();
    let mut last: Vec<Option<String>> = vec![None; count];
    let mut open = vec![true; count];
    let (sender, mut seen) = tokio::sync::mpsc::unbounded_channel();
    let mut tries: FuturesUnordered<_> = (0..count)
        .map(|target| {
            let sender = sender.clone();
            async move {
                // The receiver lives as long as this future.
                let note = |seen: String| drop(sender.send((target, seen)));
                (target, until_there(&wish.targets[target], wish, note).await)
            }
        })
        .collect();
    let over = async { if wish.once { pending().await } else { sleep(wish.timeout).await } };
    tokio::pin!(over);
    loop {
        tokio::select! {
            biased;
            Some((target, words)) = seen.recv() => {
                if last[target].as_ref() != Some(&words) {
                    tell(News::NotYet { target, seen: words.clone() });
                    last[target] = Some(words);
                }
            }
            done = tries.next() => match done {
                Some((target, Some(seen))) => {
                    open[target] = false;
                    tell(News::There { target, seen });
                }
                Some((_, None)) => {}
                None => break,
            },
            () = &mut over => break,
        }
    }
    // A try that has just failed has put its words here.
    while let Ok((target, words)) = seen.try_recv() {
        last[target] = Some(words);
    }
    let left = (0..count).filter(|target| open[*target]);
    left.map(|target| {
        let seen = last[target].take().unwrap_or_else(|| "no answer yet".to_owned());
        Unmet { target, seen }
    })
    .collect()
}

/// Tries until the target is there and says what was seen; `None` if there is only one try and it
/// failed.
async fn until_there(target: &Target, wish: &Wish, mut note: impl FnMut(String)) -> Option<String> {
    let mut watch = Watch::of(target);
    loop {
        let begin = Instant::now();
        match timeout(wish.timeout, watch.check(target, wish)).await {
            Ok(Ok(seen)) => return Some(seen),
            Ok(Err(seen)) => note(seen),
            Err(_) => note(format!("no answer within {:?}", wish.timeout)),
        }
        if wish.once {
            return None;
        }
        watch.changed(begin.elapsed()).await;
    }
}

/// How a target is looked at, and what tells that it may have changed.
enum Watch {
    Asked,
    Interface(InterfaceWatch),
}

impl Watch {
    fn of(target: &Target) -> Self {
        match target {
            Target::Interface(name) => Self::Interface(InterfaceWatch::new(name)),
            _ => Self::Asked,
        }
    }

    /// Looks once: what is there, or what is there instead.
    async fn check(&mut self, target: &Target, wish: &Wish) -> Result<String, String> {
        match (target, self) {
            (_, Self::Interface(watch)) => watch.check().await,
            (Target::Tcp { host, port }, _) => probe::connect(host, *port).await,
            (Target::Http(get), _) => {
                let status = probe::http_status(get, "holdfast-wait", wish.timeout).await?;
                let words = format!("status {status}");
                if wish.statuses.contain(status) { Ok(words) } else { Err(words) }
            }
            (Target::Dns(name), _) => resolve(name).await,
            (Target::Unix(path), _) => connect(path).await,
            (Target::File(path), _) => match std::fs::metadata(path) {
                Ok(_) => Ok("it exists".to_owned()),
                Err(error) => Err(words(&error)),
            },
            // `of` gave it its watch.
            (Target::Interface(_), Self::Asked) => pending().await,
        }
    }

    /// Waits until another look may be worth it; the last one took `cost`.
    async fn changed(&mut self, cost: Duration) {
        match self {
            Self::Asked => sleep(pace(cost)).await,
            Self::Interface(watch) => watch.changed().await,
        }
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
