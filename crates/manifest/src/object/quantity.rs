//! `resource.Quantity` of Kubernetes: `100m`, `1.5Gi`, `2e3`.

use std::fmt;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A fixed-point number with a suffix (`k8s.io/apimachinery/pkg/api/resource`).
///
/// Kept with a precision of one billionth, rounded up, as Kubernetes keeps it. Numbers beyond what
/// 128 bits of billionths hold are capped.
#[derive(Clone, Debug)]
pub struct Quantity {
    /// Billionths.
    nanos: i128,
    text: Box<str>,
}

/// A text that is no quantity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
)]
pub struct ParseQuantityError;

const NANO: i128 = 1_000_000_000;

impl Quantity {
    /// Reads a quantity (`resource.ParseQuantity`).
    ///
    /// # Errors
    /// If the number or its suffix is not understood.
    pub fn parse(text: &str) -> Result<Self, ParseQuantityError> {
        let nanos = parse_nanos(text).ok_or(ParseQuantityError)?;
        Ok(Self { nanos, text: text.into() })
    }

    /// A whole number.
    pub fn from_int(value: i64) -> Self {
        Self { nanos: i128::from(value) * NANO, text: value.to_string().into() }
    }

    /// The number rounded up to a whole (`Quantity.Value`).
    pub fn value(&self) -> i64 {
        saturate(ceil_div(self.nanos, NANO))
    }

    /// Thousandths, rounded up (`Quantity.MilliValue`).
    pub fn milli_value(&self) -> i64 {
        saturate(ceil_div(self.nanos, NANO / 1000))
    }

    /// Billionths.
    pub fn nanos(&self) -> i128 {
        self.nanos
    }

    /// Whether it is zero.
    pub fn is_zero(&self) -> bool {
        self.nanos == 0
    }

    /// The text it was read from.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

fn saturate(n: i128) -> i64 {
    i64::try_from(n).unwrap_or(if n < 0 { i64::MIN } else { i64::MAX })
}

/// Division rounded away from zero for positive numbers (Kubernetes rounds quantities up).
fn ceil_div(n: i128, d: i128) -> i128 {
    let q = n / d;
    if n % d > 0 { q + 1 } else { q }
}

fn parse_nanos(text: &str) -> Option<i128> {
    let (negative, rest) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let digits_end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
    let (number, suffix) = rest.split_at(digits_end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if fraction.contains('.') || (whole.is_empty() && fraction.is_empty()) {
        return None;
    }
    let scale = Scale::parse(suffix)?;
    let magnitude = scale.apply(whole, fraction);
    Some(if negative { -magnitude } else { magnitude })
}

/// What a suffix multiplies by.
#[derive(Clone, Copy)]
enum Scale {
    /// 2^(10·n).
    Binary(u32),
    /// 10^n.
    Decimal(i32),
}

impl Scale {
    fn parse(suffix: &str) -> Option<Self> {
        Some(match suffix {
            "" => Self::Decimal(0),
            "n" => Self::Decimal(-9),
            "u" => Self::Decimal(-6),
            "m" => Self::Decimal(-3),
            "k" => Self::Decimal(3),
            "M" => Self::Decimal(6),
            "G" => Self::Decimal(9),
            "T" => Self::Decimal(12),
            "P" => Self::Decimal(15),
            "E" => Self::Decimal(18),
            "Ki" => Self::Binary(1),
            "Mi" => Self::Binary(2),
            "Gi" => Self::Binary(3),
            "Ti" => Self::Binary(4),
            "Pi" => Self::Binary(5),
            "Ei" => Self::Binary(6),
            _ => {
                let exponent = suffix.strip_prefix(['e', 'E'])?;
                let digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
                if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
                    return None;
                }
                let n: i32 = exponent.parse().ok()?;
                Self::Decimal(n)
            }
        })
    }

    /// `whole.fraction` in this scale, in billionths rounded up, capped at the largest `i128`.
    fn apply(self, whole: &str, fraction: &str) -> i128 {
        let (multiplier, shift) = match self {
            Self::Binary(n) => (1_i128 << (10 * n), 9),
            Self::Decimal(n) => (1, n.saturating_add(9)),
        };
        // The value is digits·10^(shift − fraction.len())·multiplier. Leading zeros are dropped, and
        // digits beyond what matters are folded into "there is a rest".
        let mut digits = 0_i128;
        let mut power = i64::from(shift);
        let mut capped = false;
        let mut rest = false;
        let mut seen_fraction = 0_i64;
        for (i, b) in whole.bytes().chain(fraction.bytes()).enumerate() {
            let digit = i128::from(b - b'0');
            let in_fraction = i >= whole.len();
            if digits > i128::MAX / 20 / multiplier {
                rest |= digit != 0;
                if !in_fraction {
                    power += 1;
                }
                continue;
            }
            digits = digits * 10 + digit;
            if in_fraction {
                seen_fraction += 1;
            }
        }
        power -= seen_fraction;
        let mut value = digits * multiplier;
        if value == 0 {
            return i128::from(rest);
        }
        while power > 0 {
            match value.checked_mul(10) {
                Some(v) => value = v,
                None => {
                    capped = true;
                    break;
                }
            }
            power -= 1;
        }
        if capped {
            return i128::MAX;
        }
        while power < 0 {
            rest |= value % 10 != 0;
            value /= 10;
            power += 1;
            if value == 0 {
                break;
            }
        }
        value + i128::from(rest)
    }
}

impl Default for Quantity {
    fn default() -> Self {
        Self::from_int(0)
    }
}

/// By value: `1` and `1000m` are equal.
impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nanos == other.nanos
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.nanos.cmp(&other.nanos)
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Serialize for Quantity {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        match serde_json::Value::deserialize(d)? {
            serde_json::Value::String(s) => Self::parse(&s).map_err(D::Error::custom),
            serde_json::Value::Number(n) => Self::parse(&n.to_string()).map_err(D::Error::custom),
            _ => Err(D::Error::custom(ParseQuantityError)),
        }
    }
}
