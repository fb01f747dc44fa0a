//! Values with a spelling of their own: quantities, ports by number or name, base64, times.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::macros::Empty;

pub use super::quantity::{ParseQuantityError, Quantity};

/// A number or a name (`k8s.io/apimachinery/pkg/util/intstr`).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum IntOrString {
    /// A number.
    Int(i32),
    /// A name, or a percentage.
    String(String),
}

impl Default for IntOrString {
    fn default() -> Self {
        Self::Int(0)
    }
}

impl fmt::Display for IntOrString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Int(n) => n.fmt(f),
            Self::String(s) => s.fmt(f),
        }
    }
}

impl Empty for IntOrString {
    fn is_empty(&self) -> bool {
        false
    }
}

/// Bytes that are written as standard base64.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Base64(pub Vec<u8>);

impl Base64 {
    /// Decodes as Go's `encoding/json` does: padded standard base64, line ends ignored.
    ///
    /// # Errors
    /// Where and why the text is not base64.
    pub fn parse(text: &str) -> Result<Self, base64::DecodeError> {
        if text.contains(['\r', '\n']) {
            let joined: String = text.chars().filter(|c| !matches!(c, '\r' | '\n')).collect();
            return STANDARD.decode(joined).map(Self);
        }
        STANDARD.decode(text).map(Self)
    }
}

impl fmt::Display for Base64 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&STANDARD.encode(&self.0))
    }
}

/// Only the length, since most such values are secrets.
impl fmt::Debug for Base64 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Base64({} bytes)", self.0.len())
    }
}

impl Serialize for Base64 {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Base64 {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(d)?).map_err(D::Error::custom)
    }
}

/// A point in time, written as RFC 3339 in UTC with whole seconds (`metav1.Time`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp(pub jiff::Timestamp);

impl Timestamp {
    /// From a time of the engine that counts from the Unix epoch.
    pub fn from_unix(time: holdfast_lifecycle::Time) -> Self {
        // Seconds of a u64 of nanoseconds end in the year 2554, well inside jiff's range.
        let secs = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
        Self(jiff::Timestamp::from_second(secs).unwrap_or(jiff::Timestamp::MAX))
    }

    /// As a time that counts from the Unix epoch; what lies before it is the epoch.
    pub fn to_unix(self) -> holdfast_lifecycle::Time {
        let secs = u64::try_from(self.0.as_second()).unwrap_or(0);
        holdfast_lifecycle::Time::from_secs(secs)
    }

    /// Reads RFC 3339.
    ///
    /// # Errors
    /// What is wrong with the text.
    pub fn parse(text: &str) -> Result<Self, jiff::Error> {
        text.parse().map(Self)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.0}", self.0)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(d)?).map_err(D::Error::custom)
    }
}
