//! kubectl columns
use crate::time::Time;
use std::time::Duration;

/// How kubectl shows a span of time (apimachinery: duration.HumanDuration).
pub(crate) fn human_duration(span: Duration) -> String {
    let secs = span.as_secs();
    let (minutes, hours) = (secs / 60, secs / 3_600);
    let two = |a: u64, unit: char, b: u64, small: char| match b {
        0 => format!("{a}{unit}"),
        _ => format!("{a}{unit}{b}{small}"),
    };
    let days = hours / 24;
    match hours {
        _ if secs < 120 => format!("{secs}s"),
        _ if minutes < 10 => two(minutes, 'm', secs % 60, 's'),
        _ if minutes < 180 => format!("{minutes}m"),
        _ if hours < 8 => two(hours, 'h', minutes % 60, 'm'),
        _ if hours < 48 => format!("{hours}h"),
        _ if hours < 192 => two(days, 'd', hours % 24, 'h'),
        _ if days < 730 => format!("{days}d"),
        _ if days < 2_920 => two(days / 365, 'y', days % 365, 'd'),
        _ => format!("{}y", days / 365),
    }
}

/// The age of something, as kubectl shows it.
pub(crate) fn age(since: Time, now: Time) -> String {
    human_duration(now.since(since))
}
