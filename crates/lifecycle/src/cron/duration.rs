//! Durations as Go writes them (`1h30m`, `-1.5h`, `300ms`), for `@every`.

/// Reads a duration in nanoseconds, with the words of Go's `time.ParseDuration` on failure.
pub(super) fn parse(text: &str) -> Result<i64, String> {
    let invalid = || format!("time: invalid duration {text:?}");
    let (negative, mut rest) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let (whole, tail) = digits(rest);
        let (fraction, tail) = match tail.strip_prefix('.') {
            Some(tail) => digits(tail),
            None => ("", tail),
        };
        if whole.is_empty() && fraction.is_empty() {
            return Err(invalid());
        }
        let end = tail.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(end);
        if unit.is_empty() {
            return Err(format!("time: missing unit in duration {text:?}"));
        }
        let Some(scale) = scale(unit) else {
            return Err(format!("time: unknown unit {unit:?} in duration {text:?}"));
        };
        let whole: i128 =
            if whole.is_empty() { 0 } else { whole.parse().map_err(|_| invalid())? };
        total = whole
            .checked_mul(scale)
            .and_then(|w| w.checked_add(part(fraction, scale)))
            .and_then(|n| n.checked_add(total))
            .filter(|n| *n <= i128::from(i64::MAX) + i128::from(negative))
            .ok_or_else(invalid)?;
        rest = tail;
    }
    let signed = if negative { -total } else { total };
    i64::try_from(signed).map_err(|_| invalid())
}

fn digits(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

/// The nanoseconds of the digits behind the point; what is below a nanosecond is cut off.
fn part(fraction: &str, scale: i128) -> i128 {
    let (mut sum, mut unit) = (0, scale);
    for digit in fraction.bytes() {
        // Beyond 18 digits nothing is left of the largest unit (3.6e12 ns).
        if unit == 0 {
            break;
        }
        sum += i128::from(digit - b'0') * unit;
        unit = unit.checked_div(10).unwrap_or(0);
        if unit == 0 {
            break;
        }
    }
    sum / 10
}

fn scale(unit: &str) -> Option<i128> {
    Some(match unit {
        "ns" => 1,
        "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::parse;

    const S: i64 = 1_000_000_000;

    #[test]
    fn reads_what_go_reads() {
        for (text, want) in [
            ("0", 0),
            ("5s", 5 * S),
            ("1h30m", 5_400 * S),
            ("1.5h", 5_400 * S),
            (".5s", S / 2),
            ("1.s", S),
            ("-1h", -3_600 * S),
            ("+5m", 300 * S),
            ("39h9m14.425s", 140_954_425_000_000),
            ("1us", 1_000),
            ("1\u{b5}s", 1_000),
            ("0.000000001s", 1),
            ("9223372036854775807ns", i64::MAX),
            ("-9223372036854775808ns", i64::MIN),
        ] {
            assert_eq!(parse(text), Ok(want), "{text}");
        }
    }

    #[test]
    fn refuses_what_go_refuses() {
        for (text, want) in [
            ("", "time: invalid duration \"\""),
            ("3", "time: missing unit in duration \"3\""),
            ("-", "time: invalid duration \"-\""),
            ("s", "time: invalid duration \"s\""),
            (".", "time: invalid duration \".\""),
            ("1d", "time: unknown unit \"d\" in duration \"1d\""),
            ("5 m", "time: unknown unit \" m\" in duration \"5 m\""),
            ("3000000h", "time: invalid duration \"3000000h\""),
            ("9223372036854775808ns", "time: invalid duration \"9223372036854775808ns\""),
        ] {
            assert_eq!(parse(text), Err(want.to_owned()), "{text}");
        }
    }
}
