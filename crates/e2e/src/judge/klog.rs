//! Lines of the kubelet's log: `I1121 16:17:39.138895   32668 prober.go:113] "Probe succeeded" k="v"`.

use super::watch::Nanos;

/// Files whose lines are wanted.
const FILES: &[&str] = &[
    "event.go",
    "handlers.go",
    "kubelet.go",
    "kuberuntime_container.go",
    "kuberuntime_manager.go",
    "kuberuntime_sandbox.go",
    "prober.go",
    "volume_manager.go",
];

/// One line.
#[derive(Clone, Debug)]
pub(super) struct Klog {
    pub(super) at: Nanos,
    pub(super) message: String,
    fields: String,
}

impl Klog {
    /// Reads a line that arrived at `arrival`; `None` if it is not one of those wanted.
    pub(super) fn parse(line: &str, arrival: Nanos) -> Option<Self> {
        let (head, rest) = line.split_once("] ")?;
        let mut words = head.split_whitespace();
        let (date, time, place) = (words.next()?, words.next()?, words.nth(1)?);
        if !FILES.contains(&place.split_once(':')?.0) {
            return None;
        }
        let (message, fields) = quoted(rest)?;
        Some(Self { at: moment(date, time, arrival)?, message, fields: fields.to_owned() })
    }

    /// The name of the pod it is about.
    pub(super) fn pod(&self) -> Option<String> {
        let full = self.field("pod").or_else(|| self.field("object")).or_else(|| {
            let list = self.fields.split_once("pods=[\"")?.1;
            Some(list.split_once('"')?.0.to_owned())
        });
        match full {
            Some(full) => Some(full.split_once('/')?.1.to_owned()),
            // `container a start failed in pod NAME_NAMESPACE(UID): …`
            None => {
                let err = self.field("err")?;
                let name = err.split_once(" start failed in pod ")?.1.split_once('_')?.0;
                Some(name.to_owned())
            }
        }
    }

    /// A field's value, unquoted.
    pub(super) fn field(&self, name: &str) -> Option<String> {
        let mut rest = self.fields.as_str();
        loop {
            let (before, after) = rest.split_once(&format!("{name}="))?;
            if before.is_empty() || before.ends_with(' ') {
                if after.starts_with('"') {
                    return Some(quoted(after)?.0);
                }
                let end = after.find(' ').unwrap_or(after.len());
                return Some(after[..end].to_owned());
            }
            rest = after;
        }
    }
}

/// A string in quotes as Go writes it, and what follows.
fn quoted(text: &str) -> Option<(String, &str)> {
    let body = text.strip_prefix('"')?;
    let mut escaped = false;
    let end = body.char_indices().find(|&(_, c)| {
        let is_end = c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        is_end
    })?;
    let raw = &body[..end.0];
    // Go's escapes are JSON's, but for a few that do not occur in these lines.
    let text = serde_json::from_str(&format!("\"{raw}\"")).unwrap_or_else(|_| raw.to_owned());
    Some((text, body[end.0 + 1..].trim_start()))
}

/// `I1121` and `16:17:39.138895`, in a time zone that is found by the time of arrival.
fn moment(date: &str, time: &str, arrival: Nanos) -> Option<Nanos> {
    let (month, day) = (date.get(1..3)?.parse().ok()?, date.get(3..5)?.parse().ok()?);
    let year =
        jiff::Timestamp::from_nanosecond(arrival).ok()?.to_zoned(jiff::tz::TimeZone::UTC).year();
    let time: jiff::civil::Time = time.parse().ok()?;
    let date = jiff::civil::Date::new(year, month, day).ok()?;
    let utc = date.to_datetime(time).to_zoned(jiff::tz::TimeZone::UTC).ok()?;
    let utc = utc.timestamp().as_nanosecond();
    const QUARTER: Nanos = 15 * 60 * 1_000_000_000;
    let zone = (arrival - utc + QUARTER / 2).div_euclid(QUARTER) * QUARTER;
    Some(utc + zone)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_taken_apart() {
        let line = r#"I1121 16:17:39.138895   32668 prober.go:113] "Probe failed" probeType="Startup" pod="default/t1" containerName="a" output="says \"no\"" n=3"#;
        // Arrived in a zone two hours ahead of UTC, half a second later.
        let utc: jiff::Timestamp = "2026-11-21T14:17:39.6Z".parse().unwrap();
        let log = Klog::parse(line, utc.as_nanosecond()).unwrap();
        assert_eq!(log.message, "Probe failed");
        assert_eq!(log.pod().as_deref(), Some("t1"));
        assert_eq!(log.field("output").as_deref(), Some("says \"no\""));
        assert_eq!(log.field("n").as_deref(), Some("3"));
        assert_eq!(utc.as_nanosecond() - log.at, 461_105_000);
        let other = r#"I1121 16:17:39.1 1 x.go:1] "y" pod="a/b""#;
        assert!(Klog::parse(other, 0).is_none());
    }
}
