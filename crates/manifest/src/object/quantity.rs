//! `resource.Quantity` of Kubernetes: `100m`, `1.5Gi`, `2e3`.

use std::fmt;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A fixed-point number with a suffix (`k8s.io/apimachinery/pkg/api/resource`).
///
/// Kept with a precision of one billionth, rounded up, as Kubernetes keeps it. Numbers beyond what
/// 128 bits of billionths hold are capped.
#[derive(Clone, Copy, Debug)]
pub struct Quantity {
    /// Billionths.
    nanos: i128,
    format: Format,
}

/// In which kind of suffix a quantity is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    /// `Ki`, `Mi`, ….
    Binary,
    /// `m`, none, `k`, ….
    Decimal,
    /// `e3`.
    Exponent,
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
        let (nanos, format) = parse(text).ok_or(ParseQuantityError)?;
        Ok(Self { nanos, format })
    }

    /// A whole number.
    pub const fn from_int(value: i64) -> Self {
        Self { nanos: value as i128 * NANO, format: Format::Decimal }
    }

    /// The same rounded up to thousandths, the precision of resource lists
    /// (`SetDefaults_ResourceList`).
    pub(crate) fn round_up_to_milli(&mut self) {
        self.nanos = ceil_div(self.nanos, NANO / 1000).saturating_mul(NANO / 1000);
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
}

fn saturate(n: i128) -> i64 {
    i64::try_from(n).unwrap_or(if n < 0 { i64::MIN } else { i64::MAX })
}

/// Division rounded away from zero for positive numbers (Kubernetes rounds quantities up).
fn ceil_div(n: i128, d: i128) -> i128 {
    let q = n / d;
    if n % d > 0 { q + 1 } else { q }
}

fn parse(text: &str) -> Option<(i128, Format)> {
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
    let format = match scale {
        Scale::Binary(_) => Format::Binary,
        Scale::Decimal(_) if suffix.len() > 1 => Format::Exponent,
        Scale::Decimal(_) => Format::Decimal,
    };
    Some((if negative { -magnitude } else { magnitude }, format))
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

/// The canonical form (`CanonicalizeBytes`): no fraction, and the largest suffix that allows it.
/// `0.5` is `500m`, `1.5Gi` is `1536Mi`, `1000` is `1k`.
impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const BINARY: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
        const DECIMAL: [&str; 10] = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"];
        if self.nanos == 0 {
            return f.write_str("0");
        }
        // What is too small for a binary suffix, or no whole number of bytes, is written in decimals.
        let whole = self.nanos % NANO == 0 && self.nanos.abs() >= 1024 * NANO;
        if self.format == Format::Binary && whole {
            let mut value = self.nanos / NANO;
            let mut power = 0;
            while value % 1024 == 0 && power + 1 < BINARY.len() {
                value /= 1024;
                power += 1;
            }
            return write!(f, "{value}{}", BINARY[power]);
        }
        let mut value = self.nanos;
        let mut power = 0;
        while value % 1000 == 0 && power + 1 < DECIMAL.len() {
            value /= 1000;
            power += 1;
        }
        match (self.format, power) {
            (Format::Exponent, 3) | (Format::Decimal | Format::Binary, _) => {
                write!(f, "{value}{}", DECIMAL[power])
            }
            // `power` is at most 9: the exponent is within -9 and 18.
            (Format::Exponent, _) => write!(f, "{value}e{}", power as i32 * 3 - 9),
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical_forms() {
        for (text, canonical) in [
            ("0.5", "500m"),
            ("1.5Gi", "1536Mi"),
            ("1024Mi", "1Gi"),
            ("1000Mi", "1000Mi"),
            ("1000", "1k"),
            ("1500", "1500"),
            ("1000m", "1"),
            ("0.5Ki", "512"),
            ("2e3", "2e3"),
            ("20e2", "2e3"),
            ("5e0", "5"),
            ("0.0001", "100u"),
            ("-1.5", "-1500m"),
            ("0Gi", "0"),
            ("1e-3", "1e-3"),
            (".5", "500m"),
            ("5.", "5"),
            ("+5", "5"),
            ("1E", "1E"),
        ] {
            let quantity = Quantity::parse(text).unwrap();
            assert_eq!(quantity.to_string(), canonical, "{text}");
            assert_eq!(Quantity::parse(canonical).unwrap(), quantity, "{text}");
        }
    }

    #[test]
    fn numbers_beyond_all_bounds() {
        let digits = "9".repeat(1000);
        for text in [digits.as_str(), "1e2147483647", "99999999999999999999Ei"] {
            let quantity = Quantity::parse(text).unwrap();
            assert_eq!(quantity.value(), i64::MAX, "{text}");
        }
        // Rounded up to the smallest number there is.
        for text in
            ["1e-2147483648", "0.0000000000000000000000001", &format!("0.{}1", "0".repeat(999))]
        {
            assert_eq!(Quantity::parse(text).unwrap().nanos(), 1, "{text}");
        }
        assert_eq!(Quantity::parse("1.0000000001").unwrap().nanos(), 1_000_000_001);
        for text in
            ["", ".", "1e", "e3", "1 Gi", "1e99999999999", "1.2.3", "Gi", "1ki", "0x10", "--1"]
        {
            assert_eq!(Quantity::parse(text), Err(ParseQuantityError), "{text}");
        }
    }

    #[test]
    fn roundings_go_up() {
        let cpu = Quantity::parse("0.0001").unwrap();
        assert_eq!((cpu.value(), cpu.milli_value()), (1, 1));
        let mut cpu = Quantity::parse("1234567n").unwrap();
        cpu.round_up_to_milli();
        assert_eq!(cpu.to_string(), "2m");
    }
}
