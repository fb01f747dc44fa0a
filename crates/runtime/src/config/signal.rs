//! Names of signals: `SIGTERM`, `TERM`, `15`, `SIGRTMIN+3`.

/// Names by number, from 1, as Linux numbers them on all machines that Holdfast runs on.
const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
    "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG",
    "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];
/// The first real-time signal that libc leaves to programs, and the last.
const RT_MIN: i32 = 34;
const RT_MAX: i32 = 64;
/// SIGTERM, the default of Kubernetes and of images.
pub const SIGTERM: i32 = 15;

/// The number of a signal as `lifecycle.stopSignal` or an image's `StopSignal` names it.
pub fn signal_number(name: &str) -> Option<i32> {
    if let Ok(number) = name.parse::<i32>() {
        return (1..=RT_MAX).contains(&number).then_some(number);
    }
    let upper = name.to_ascii_uppercase();
    let short = upper.strip_prefix("SIG").unwrap_or(&upper);
    let offset = |text: &str, sign: char| -> Option<i32> {
        if text.is_empty() { Some(0) } else { text.strip_prefix(sign)?.parse().ok() }
    };
    if let Some(rest) = short.strip_prefix("RTMIN") {
        let number = RT_MIN.checked_add(offset(rest, '+')?)?;
        return (RT_MIN..=RT_MAX).contains(&number).then_some(number);
    }
    if let Some(rest) = short.strip_prefix("RTMAX") {
        let number = RT_MAX.checked_sub(offset(rest, '-')?)?;
        return (RT_MIN..=RT_MAX).contains(&number).then_some(number);
    }
    let short = match short {
        "IOT" => "ABRT",
        "CLD" => "CHLD",
        "POLL" => "IO",
        other => other,
    };
    let place = NAMES.iter().position(|&known| known == short)?;
    i32::try_from(place + 1).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        for (name, number) in [
            ("SIGTERM", Some(SIGTERM)),
            ("TERM", Some(15)),
            ("sigusr1", Some(10)),
            ("9", Some(9)),
            ("SIGWINCH", Some(28)),
            ("SIGSYS", Some(31)),
            ("SIGRTMIN", Some(34)),
            ("SIGRTMIN+3", Some(37)),
            ("RTMAX-1", Some(63)),
            ("SIGPOLL", Some(29)),
            ("SIGRTMIN+31", None),
            ("SIGRTMAX-99", None),
            ("SIGRTMIN-1", None),
            ("0", None),
            ("65", None),
            ("-9", None),
            ("SIG", None),
            ("SIGNOPE", None),
            ("", None),
        ] {
            assert_eq!(signal_number(name), number, "{name}");
        }
    }
}
