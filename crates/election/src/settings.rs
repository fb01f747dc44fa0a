//! Who a candidate is, and the three durations with the rules among them.

use std::time::Duration;

/// How a candidate takes part. Made by [`Settings::new`] or [`Settings::with`], which check it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Settings {
    identity: String,
    lease_duration: Duration,
    renew_deadline: Duration,
    retry_period: Duration,
}

/// Why these settings cannot be kept to (client-go: `NewLeaderElector`).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// An empty identity stands for "nobody" in a Lease.
    #[error("the identity is empty: in a lease that means that nobody holds it")]
    NoIdentity,
    /// It is written as seconds, and others would see it end earlier than its holder.
    #[error("the lease duration {0:?} is not a number of whole seconds, of which a lease consists")]
    LeaseNotSeconds(Duration),
    /// The leader would go on for longer than others wait.
    #[error(
        "the lease duration {lease:?} must be longer than the renew deadline {renew:?}: the difference is what \
         keeps two from leading at once"
    )]
    LeaseTooShort {
        /// The lease duration.
        lease: Duration,
        /// The renew deadline.
        renew: Duration,
    },
    /// The leader would give up before it has tried twice.
    #[error(
        "the renew deadline {renew:?} must be longer than {JITTER_FACTOR} × the retry period {retry:?}: else there \
         may be no second try before it"
    )]
    DeadlineTooShort {
        /// The renew deadline.
        renew: Duration,
        /// The retry period.
        retry: Duration,
    },
    /// Requests without a pause.
    #[error("the retry period is zero: there must be a pause between tries")]
    NoRetryPeriod,
}

impl Settings {
    /// With the durations of controller-runtime: 15 s, 10 s and 2 s.
    ///
    /// # Errors
    /// Without an identity.
    pub fn new(identity: impl Into<String>) -> Result<Self, SettingsError> {
        Self::with(identity, LEASE_DURATION, RENEW_DEADLINE, RETRY_PERIOD)
    }

    /// With other durations. `identity` must be unique among all that ever take part.
    ///
    /// # Errors
    /// When a rule among them is broken: 15 s > 10 s > 1.2 × 2 s.
    pub fn with(
        identity: impl Into<String>,
        lease_duration: Duration,
        renew_deadline: Duration,
        retry_period: Duration,
    ) -> Result<Self, SettingsError> {
        let identity = identity.into();
        if identity.is_empty() {
            return Err(SettingsError::NoIdentity);
        }
        if lease_duration.subsec_nanos() != 0 {
            return Err(SettingsError::LeaseNotSeconds(lease_duration));
        }
        if lease_duration <= renew_deadline {
            let (lease, renew) = (lease_duration, renew_deadline);
            return Err(SettingsError::LeaseTooShort { lease, renew });
        }
        if retry_period.is_zero() {
            return Err(SettingsError::NoRetryPeriod);
        }
        // In integers: 1.2 is no number of binary fractions.
        if renew_deadline * 10 <= retry_period * 12 {
            let (renew, retry) = (renew_deadline, retry_period);
            return Err(SettingsError::DeadlineTooShort { renew, retry });
        }
        Ok(Self { identity, lease_duration, renew_deadline, retry_period })
    }

    /// Who this candidate is in the Lease.
    #[must_use]
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// For how long others leave alone a Lease that does not change.
    #[must_use]
    pub fn lease_duration(&self) -> Duration {
        self.lease_duration
    }

    /// For how long a leader leads after it has sent its last successful renewal.
    #[must_use]
    pub fn renew_deadline(&self) -> Duration {
        self.renew_deadline
    }

    /// Between tries.
    #[must_use]
    pub fn retry_period(&self) -> Duration {
        self.retry_period
    }

    /// How long one request may take (controller-runtime: half the renew deadline, so that one that hangs
    /// leaves time for another).
    #[must_use]
    pub fn request_timeout(&self) -> Duration {
        (self.renew_deadline / 2).max(Duration::from_secs(1))
    }

    /// The pause of a candidate that does not lead: 1 to 2.2 retry periods (client-go: `JitterUntil`).
    pub(crate) fn pause(&self, chance: f64) -> Duration {
        self.retry_period.mul_f64(1.0 + JITTER_FACTOR * chance.clamp(0.0, 1.0))
    }
}

/// client-go: `JitterFactor`.
const JITTER_FACTOR: f64 = 1.2;

/// controller-runtime's defaults.
const LEASE_DURATION: Duration = Duration::from_secs(15);
const RENEW_DEADLINE: Duration = Duration::from_secs(10);
const RETRY_PERIOD: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    /// client-go: `NewLeaderElector`, `TestLeaderElectionConfigValidation`.
    #[test]
    fn rules_among_durations() {
        let with = |lease: u64, renew: u64, retry: u64| {
            let ms = Duration::from_millis;
            Settings::with("baz", ms(lease), ms(renew), ms(retry)).map(|_| ())
        };
        assert_eq!(with(15_000, 10_000, 2_000), Ok(()));
        assert_eq!(with(15_000, 2_000, 1_000), Ok(()));
        assert!(matches!(with(10_000, 10_000, 2_000), Err(SettingsError::LeaseTooShort { .. })));
        assert!(matches!(with(15_000, 2_400, 2_000), Err(SettingsError::DeadlineTooShort { .. })));
        assert_eq!(with(15_000, 2_401, 2_000), Ok(()));
        assert_eq!(with(15_000, 10_000, 0), Err(SettingsError::NoRetryPeriod));
        // Written as 1 s it would be over for others while its holder, with 1.2 s, still leads.
        assert!(matches!(with(1_500, 1_200, 900), Err(SettingsError::LeaseNotSeconds(_))));
        assert_eq!(Settings::new("").unwrap_err(), SettingsError::NoIdentity);
    }

    #[test]
    fn pauses_are_one_to_two_and_a_fifth_periods() {
        let settings = Settings::new("baz").unwrap();
        assert_eq!(settings.pause(0.0), Duration::from_secs(2));
        assert_eq!(settings.pause(1.0), Duration::from_millis(4_400));
        assert_eq!(settings.pause(f64::NAN.max(7.0)), Duration::from_millis(4_400));
        assert_eq!(settings.request_timeout(), Duration::from_secs(5));
    }
}
