//! What a YAML scalar without quotes means to kubectl.
//!
//! kubectl reads YAML by sigs.k8s.io/yaml, that is YAML 1.1 as go-yaml v2 resolves it: `on` and `y`
//! are booleans, `0777` is octal, `1_000` is a number, and a date stays a string.

use std::borrow::Cow;

use super::Value;

/// Resolves a plain scalar (go-yaml v2: `resolve`). `None` for `.inf` and `.nan`, which JSON, and so
/// Kubernetes, cannot hold.
pub(super) fn resolve(text: Cow<'_, str>) -> Option<Value<'_>> {
    let Some(&first) = text.as_bytes().first() else { return Some(Value::Null) };
    match first {
        b'+'
        | b'-'
        | b'0'..=b'9'
        | b'.'
        | b'~'
        | b'y'
        | b'Y'
        | b'n'
        | b'N'
        | b't'
        | b'T'
        | b'f'
        | b'F'
        | b'o'
        | b'O' => {}
        _ => return Some(Value::Str(text)),
    }
    Some(match &*text {
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => {
            Value::Bool(true)
        }
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            Value::Bool(false)
        }
        "~" | "null" | "Null" | "NULL" => Value::Null,
        ".nan" | ".NaN" | ".NAN" | ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF"
        | "-.inf" | "-.Inf" | "-.INF" => return None,
        _ => match number(&text) {
            Some(value) => value,
            None => Value::Str(text),
        },
    })
}

/// The number that the text is, if it is one.
pub(super) fn number(text: &str) -> Option<Value<'static>> {
    let first = *text.as_bytes().first()?;
    if first == b'.' {
        return float(text);
    }
    if !matches!(first, b'+' | b'-' | b'0'..=b'9') || is_timestamp(text) {
        return None;
    }
    let plain: Cow<'_, str> =
        if text.contains('_') { text.replace('_', "").into() } else { text.into() };
    integer(&plain).or_else(|| float(&plain))
}

/// Go's `strconv.ParseInt(s, 0, 64)` and what go-yaml tries after it.
fn integer(text: &str) -> Option<Value<'static>> {
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let (radix, digits) = match digits.as_bytes() {
        [b'0', b'x' | b'X', ..] => (16, &digits[2..]),
        [b'0', b'o' | b'O', ..] => (8, &digits[2..]),
        [b'0', b'b' | b'B', ..] => (2, &digits[2..]),
        [b'0', _, ..] => (8, &digits[1..]),
        _ => (10, digits),
    };
    if digits.is_empty() || !digits.chars().all(|c| c.is_digit(radix)) {
        return None;
    }
    match i128::from_str_radix(digits, radix) {
        Ok(n) => {
            let n = if negative { -n } else { n };
            Some(match i64::try_from(n) {
                Ok(n) => Value::Int(n),
                Err(_) => Value::BigInt(n.to_string().into()),
            })
        }
        Err(_) if radix == 10 => {
            let digits = digits.trim_start_matches('0');
            Some(Value::BigInt(format!("{}{digits}", if negative { "-" } else { "" }).into()))
        }
        // Beyond 128 bits and not decimal: too large for any field either way.
        Err(_) => Some(Value::BigInt(text.to_owned().into())),
    }
}

/// go-yaml's `yamlStyleFloat`.
fn float(text: &str) -> Option<Value<'static>> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (mantissa, exponent) = match unsigned.find(['e', 'E']) {
        Some(i) => (&unsigned[..i], Some(&unsigned[i + 1..])),
        None => (unsigned, None),
    };
    let all_digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if !all_digits(whole) || !all_digits(fraction) || (whole.is_empty() && fraction.is_empty()) {
        return None;
    }
    if let Some(exponent) = exponent {
        let digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
        if digits.is_empty() || !all_digits(digits) {
            return None;
        }
    }
    // Go's ParseFloat reports what overflows as an error, and the text stays a string.
    text.parse::<f64>().ok().filter(|f| f.is_finite()).map(Value::Float)
}

/// go-yaml leaves what looks like a date a string (`parseTimestamp`); only the shapes that would
/// otherwise be read as a number matter here, and none is one.
fn is_timestamp(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() > 4 && bytes[..4].iter().all(u8::is_ascii_digit) && bytes[4] == b'-'
}

/// A whole number as an integer: Go prints a float64 without fraction as one in JSON, below 1e21.
pub(super) fn whole(f: f64) -> Option<i64> {
    (f.fract() == 0.0 && f.abs() < 9.2e18).then_some(f as i64)
}

/// How a scalar key is spelled as a JSON key (sigs.k8s.io/yaml: `convertToJSONableObject`).
/// `None` for null, which is no key.
pub(super) fn key(value: Value<'_>) -> Option<Cow<'_, str>> {
    Some(match value {
        Value::Str(s) | Value::BigInt(s) => s,
        Value::Bool(true) => "true".into(),
        Value::Bool(false) => "false".into(),
        Value::Int(n) => n.to_string().into(),
        Value::Float(f) => go_float32(f).into(),
        Value::Null | Value::List(_) | Value::Map(_) => return None,
    })
}

/// Go's `strconv.FormatFloat(f, 'g', -1, 32)`.
fn go_float32(f: f64) -> String {
    let narrow = f as f32;
    if narrow == 0.0 {
        return "0".to_owned();
    }
    let exponent = narrow.abs().log10().floor();
    if (-4.0..21.0).contains(&exponent) {
        return narrow.to_string();
    }
    let text = format!("{narrow:e}");
    match text.split_once('e') {
        Some((mantissa, exponent)) => match exponent.strip_prefix('-') {
            Some(digits) => format!("{mantissa}e-{digits:0>2}"),
            None => format!("{mantissa}e+{exponent:0>2}"),
        },
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &str) -> String {
        match resolve(text.into()) {
            None => "no JSON".into(),
            Some(Value::Null) => "null".into(),
            Some(Value::Bool(b)) => b.to_string(),
            Some(Value::Int(n)) => n.to_string(),
            Some(Value::BigInt(n)) => format!("big {n}"),
            Some(Value::Float(f)) => format!("float {f}"),
            Some(Value::Str(s)) => format!("{s:?}"),
            Some(Value::List(_) | Value::Map(_)) => unreachable!(),
        }
    }

    #[test]
    fn plain_scalars_mean_what_they_mean_to_kubectl() {
        let cases = [
            ("on", "true"),
            ("y", "true"),
            ("No", "false"),
            ("yEs", "\"yEs\""),
            ("~", "null"),
            ("", "null"),
            ("0777", "511"),
            ("0o17", "15"),
            ("0x1F", "31"),
            ("0b101", "5"),
            ("-0b11", "-3"),
            ("08", "float 8"),
            ("1_000", "1000"),
            ("+5", "5"),
            ("1e3", "float 1000"),
            (".5", "float 0.5"),
            ("1.", "float 1"),
            (".", "\".\""),
            ("-", "\"-\""),
            ("1.2.3", "\"1.2.3\""),
            ("100m", "\"100m\""),
            ("2001-01-02", "\"2001-01-02\""),
            ("12:30", "\"12:30\""),
            (".inf", "no JSON"),
            ("18446744073709551615", "big 18446744073709551615"),
            (
                "999999999999999999999999999999999999999999",
                "big 999999999999999999999999999999999999999999",
            ),
            ("1e999", "\"1e999\""),
            ("0x", "\"0x\""),
            ("09x", "\"09x\""),
        ];
        for (text, expected) in cases {
            assert_eq!(json(text), expected, "{text}");
        }
    }

    #[test]
    fn keys_are_spelled_as_json_keys() {
        for (text, expected) in
            [("1.10", "1.1"), ("on", "true"), ("0777", "511"), ("1e30", "1e+30"), ("a", "a")]
        {
            assert_eq!(key(resolve(text.into()).unwrap()).unwrap(), expected);
        }
        assert_eq!(key(Value::Null), None);
    }

    impl PartialEq for Value<'_> {
        fn eq(&self, other: &Self) -> bool {
            format!("{self:?}") == format!("{other:?}")
        }
    }
}
