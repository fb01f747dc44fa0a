//! Who is who on the mesh: the user of each peer address, as the Netmaker server has it.
//!
//! Asked for at an interval, and kept whole or not at all: what the server does not name any more is gone
//! with the next answer. An answer that cannot be understood changes nothing. What could not be confirmed
//! for [`Users::max_age`](crate::config::Users::max_age) counts no more, and then nobody is anybody.
//!
//! The proxy's mode does not depend on any of it: whatever the server says, or whoever answers in its
//! place, `auth` stays `auth`.

mod client;
mod mappings;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::{debug, info, warn};

use crate::config::Users;
use crate::health::{Check, Verdict};

pub use mappings::{Mapping, Mappings};

use client::{Answer, AskError, Client};

/// What is known of the synchronisation.
#[derive(Debug, Default)]
struct Known {
    /// When the mappings that hold were asked for.
    asked: Option<Instant>,
    /// How many they are.
    entries: usize,
    /// What went wrong last, if the last try failed.
    fault: Option<String>,
}

/// What the synchronisation has come to, for health and metrics.
#[derive(Clone, Debug)]
pub struct Sync {
    known: Arc<Mutex<Known>>,
    max_age: Duration,
}

impl Sync {
    /// Before anything is known.
    pub(crate) fn new(max_age: Duration) -> Self {
        Self { known: Arc::default(), max_age }
    }

    /// The check `user-sync`: whether the mappings can be trusted.
    #[must_use]
    pub fn check(&self) -> Check {
        let this = self.clone();
        Check::new("user-sync", move || this.verdict(Instant::now()))
    }

    /// How old the mappings are that hold, and how many they are.
    #[must_use]
    pub fn age(&self) -> Option<(Duration, usize)> {
        let known = self.known();
        known.asked.map(|asked| (asked.elapsed(), known.entries))
    }

    fn verdict(&self, now: Instant) -> Verdict {
        let known = self.known();
        let fault = known.fault.as_deref();
        match known.asked.map(|asked| now.saturating_duration_since(asked)) {
            None => {
                Verdict::Failed(fault.unwrap_or("users have not been asked for yet").to_owned())
            }
            Some(age) if age >= self.max_age => Verdict::Failed(format!(
                "the last user mappings are {} s old and count no more: {}",
                age.as_secs(),
                fault.unwrap_or("the server has not been asked since")
            )),
            Some(age) => fault.map_or(Verdict::Ok, |fault| {
                Verdict::Noted(format!("mappings are {} s old, since {fault}", age.as_secs()))
            }),
        }
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        // Nobody panics while holding it.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The first pause after a failure; it doubles up to the interval.
const BACK_OFF: Duration = Duration::from_secs(1);
/// A server may ask for a longer pause, but not for any.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// Asks for users again and again; `apply` puts mappings in the place of those before, for this long at
/// most. The future never ends.
pub(crate) async fn synchronise(users: Users, told: Sync, apply: impl Fn(&Mappings, Duration)) {
    let mut client = Client::new(users.clone());
    let mut pro = None;
    let mut current: Option<Mappings> = None;
    let mut failures = 0;
    loop {
        let asked = Instant::now();
        let pause = match client.mappings().await {
            Ok(answer) => {
                let anew = failures > 0 || current.is_none();
                failures = 0;
                match answer {
                    Answer::Mappings(mappings) => {
                        mappings.warn();
                        if anew || current.as_ref() != Some(&mappings) {
                            info!(users = mappings.len(), "User mappings synchronised");
                        }
                        current = Some(mappings);
                    }
                    Answer::Same => debug!("user mappings are unchanged"),
                }
                // `Same` is only an answer to one who has some.
                let mappings = current.get_or_insert_default();
                // Of the time the answer took nobody knows which moment it describes.
                apply(mappings, users.max_age.saturating_sub(asked.elapsed()));
                let mut known = told.known();
                (known.asked, known.fault) = (Some(asked), None);
                known.entries = mappings.len();
                users.interval
            }
            Err(error) => {
                if pro.is_none() {
                    pro = client.is_pro().await;
                }
                let mut words = error.to_string();
                if pro == Some(false) {
                    words.push_str(&format!(
                        "; {} says that it is not Netmaker Pro, which has user mappings",
                        users.pro_server
                    ));
                }
                if told.known().fault.as_ref() != Some(&words) {
                    warn!(error = words, "Cannot synchronise user mappings; the mode stays auth");
                }
                told.known().fault = Some(words);
                let pause = back_off(failures, users.interval);
                failures += 1;
                match error {
                    AskError::Status { retry_after: Some(asked_for), .. } => {
                        pause.max(asked_for.min(LONGEST_PAUSE))
                    }
                    _ => pause,
                }
            }
        };
        tokio::time::sleep(pause).await;
    }
}

/// 1, 2, 4 … seconds, and no longer than the interval.
fn back_off(failures: u32, interval: Duration) -> Duration {
    BACK_OFF.saturating_mul(1 << failures.min(16)).min(interval)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_make_pauses_longer_up_to_the_interval() {
        let pauses: Vec<u64> =
            (0..7).map(|n| back_off(n, Duration::from_secs(30)).as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30]);
        assert_eq!(back_off(u32::MAX, Duration::from_secs(30)), Duration::from_secs(30));
    }

    #[test]
    fn mappings_grow_old() {
        let sync = Sync::new(Duration::from_secs(60));
        let now = Instant::now();
        assert!(
            matches!(sync.verdict(now), Verdict::Failed(why) if why.contains("not been asked"))
        );
        sync.known().asked = Some(now);
        assert_eq!(sync.verdict(now), Verdict::Ok);
        sync.known().fault = Some("the server is down".to_owned());
        let later = |seconds| sync.verdict(now + Duration::from_secs(seconds));
        assert!(matches!(later(59), Verdict::Noted(note) if note.contains("the server is down")));
        assert!(matches!(later(60), Verdict::Failed(why) if why.contains("count no more")));
    }
}
