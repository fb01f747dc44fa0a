//! Go's spelling of addresses, durations and system errors, which the kubelet's messages are made of.

use std::fmt::Write as _;
use std::io;
use std::time::Duration;

/// `host:port`, with an IPv6 address in brackets (`net.JoinHostPort`).
pub(crate) fn host_port(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// A duration as Go prints it: `1s`, `1m30s`, `1.5s`, `250ms` (`time.Duration.String`).
pub(crate) fn duration(d: Duration) -> String {
    let nanos = d.as_nanos();
    for (unit, size) in [("ns", 1), ("µs", 1_000), ("ms", 1_000_000)] {
        if nanos != 0 && nanos < size * 1_000 {
            return fraction(nanos, size) + unit;
        }
    }
    let (hours, minutes) = (d.as_secs() / 3600, d.as_secs() / 60 % 60);
    let mut out = String::new();
    if hours > 0 {
        let _ = write!(out, "{hours}h");
    }
    if hours > 0 || minutes > 0 {
        let _ = write!(out, "{minutes}m");
    }
    out + &fraction(nanos % 60_000_000_000, 1_000_000_000) + "s"
}

/// `n / unit` in decimal, without trailing zeros; `unit` is a power of ten.
fn fraction(n: u128, unit: u128) -> String {
    let (whole, rest) = (n / unit, n % unit);
    if rest == 0 {
        return whole.to_string();
    }
    let digits = unit.ilog10() as usize;
    format!("{whole}.{}", format!("{rest:0digits$}").trim_end_matches('0'))
}

/// A system error as Go prints it: C's words in lower case, without the number.
pub(crate) fn system_error(e: &io::Error) -> String {
    let words = e.to_string();
    let words = words.split(" (os error ").next().unwrap_or_default();
    words.to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_as_go_prints_them() {
        for (nanos, want) in [
            (0, "0s"),
            (1, "1ns"),
            (1_500, "1.5µs"),
            (250_000_000, "250ms"),
            (1_000_000_000, "1s"),
            (1_050_000_000, "1.05s"),
            (60_000_000_000, "1m0s"),
            (90_500_000_000, "1m30.5s"),
            (3_600_000_000_000, "1h0m0s"),
        ] {
            assert_eq!(duration(Duration::from_nanos(nanos)), want);
        }
    }

    #[test]
    fn errors_as_go_prints_them() {
        let e = io::Error::from_raw_os_error(111);
        assert_eq!(system_error(&e), "connection refused");
        assert_eq!(host_port("::1", 80), "[::1]:80");
    }
}
