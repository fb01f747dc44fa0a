//! The search for the WireGuard interface, as the ordering guide describes it and tells people to grep it:
//! attempts, and longer and longer waits between them. Only the lines come by that clock. An address is
//! found by an event, and ends the wait it comes in.

use std::net::IpAddr;
use std::pin::Pin;
use std::time::Duration;

use holdfast_wireguard::Interface;
use holdfast_wireguard::retry::Retry;
use tokio::sync::watch;
use tokio::time::Sleep;
use tracing::{error, info, warn};

/// What the search has come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// Nothing yet, and what was seen instead: a whole sentence.
    Not(String),
    /// These addresses, at least one.
    Addresses(Vec<IpAddr>),
}

impl Found {
    /// The addresses, if there are any.
    #[must_use]
    pub(crate) fn addresses(&self) -> &[IpAddr] {
        match self {
            Self::Not(_) => &[],
            Self::Addresses(addresses) => addresses,
        }
    }
}

/// The logger is `manager.wireguard`: the ordering guide's `grep -i "binding\|wireguard"` is said to show all
/// lines of the search, also those whose message has neither word.
const LOGGER: &str = "holdfast_manager::wireguard";

/// Before anything was looked at.
pub(crate) const NOT_LOOKED: &str = "the WireGuard interface has not been looked for yet";

/// Follows the interface for ever, and says in `found` and in the log what has become of it. Ends if
/// nobody is interested any more.
pub(crate) async fn search(name: &str, retry: Retry, found: &watch::Sender<Found>) {
    let mut interface = holdfast_wireguard::follow(name).await;
    loop {
        let attempt = first(name, retry, &mut interface, found).await;
        let Some(attempt) = attempt else { return };
        let mut told = Vec::new();
        loop {
            let state = interface.borrow_and_update().clone();
            let Interface::Up(addresses) = state else {
                let reason = state.fault().unwrap_or_default();
                warn!(target: LOGGER, interface = name, reason, "WireGuard interface lost");
                found.send_replace(missing(name, reason));
                break;
            };
            if told.is_empty() {
                info!(target: LOGGER, interface = name, attempt, "Found WireGuard interface");
            }
            for ip in addresses.iter().filter(|ip| !told.contains(*ip)) {
                info!(target: LOGGER, interface = name, ip = %ip, attempt, "Found IP address");
            }
            for ip in told.iter().filter(|ip| !addresses.contains(*ip)) {
                info!(target: LOGGER, interface = name, ip = %ip, "IP address is gone");
            }
            told.clone_from(&addresses);
            found.send_replace(Found::Addresses(addresses));
            if next(&mut interface, found).await.is_none() {
                return;
            }
        }
    }
}

/// Attempts and waits until there is an address; the number of the attempt that found it.
async fn first(
    name: &str,
    retry: Retry,
    interface: &mut watch::Receiver<Interface>,
    found: &watch::Sender<Found>,
) -> Option<u32> {
    info!(target: LOGGER, interfaces = name, "Searching for WireGuard interfaces with retry logic");
    let most = retry.attempts;
    let mut waits = retry.waits();
    for attempt in 1.. {
        if attempt <= most {
            info!(target: LOGGER, attempt, maxRetries = most, "Attempting to find WireGuard interface");
        }
        let state = interface.borrow_and_update().clone();
        let Some(reason) = state.fault() else { return Some(attempt.min(most)) };
        found.send_replace(missing(name, reason));
        if attempt <= most {
            info!(target: LOGGER, interface = name, attempt, error = reason, "Interface not found yet");
        }
        let mut wait: Option<Pin<Box<Sleep>>> = waits.next().map(|delay| {
            info!(target: LOGGER, delay = %words(delay), nextAttempt = attempt + 1, "Waiting before retry");
            Box::pin(tokio::time::sleep(delay))
        });
        if attempt == most {
            error!(
                target: LOGGER,
                interface = name,
                attempts = most,
                error = reason,
                "WireGuard interface not found; it is still watched, and used as soon as it has an address"
            );
        }
        // Until the wait is over, or an address is there: only that ends it early.
        loop {
            let over = async {
                match &mut wait {
                    Some(wait) => wait.await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = over => break,
                changed = next(interface, found) => changed?,
            }
            let state = interface.borrow_and_update().clone();
            match state.fault() {
                None => return Some(attempt.min(most)),
                Some(reason) => {
                    found.send_replace(missing(name, reason));
                }
            }
        }
    }
    None
}

/// Waits for a change; `None` if nobody wants to know, or it will never change again.
async fn next(
    interface: &mut watch::Receiver<Interface>,
    found: &watch::Sender<Found>,
) -> Option<()> {
    tokio::select! {
        changed = interface.changed() => changed.ok(),
        () = found.closed() => None,
    }
}

fn missing(name: &str, reason: &str) -> Found {
    Found::Not(format!("the WireGuard interface {name} cannot be used: {reason}"))
}

/// As Go writes a duration of whole seconds: `2s`, `1m30s`.
fn words(delay: Duration) -> String {
    let seconds = delay.as_secs();
    match (seconds / 60, seconds % 60) {
        (0, seconds) => format!("{seconds}s"),
        (minutes, seconds) => format!("{minutes}m{seconds}s"),
    }
}
