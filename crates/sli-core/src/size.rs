//! Sizes as people write them: `8GiB`, `500MB`, `1.5G`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::SliError;

/// A number of bytes. Parses `1024`, `500MB` (powers of ten), `8GiB` (powers of two); prints the nearest binary unit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ByteSize(pub u64);

const UNITS: [(&str, u64); 13] = [
    ("", 1),
    ("b", 1),
    ("k", 1_000),
    ("kb", 1_000),
    ("m", 1_000_000),
    ("mb", 1_000_000),
    ("g", 1_000_000_000),
    ("gb", 1_000_000_000),
    ("tb", 1_000_000_000_000),
    ("kib", 1 << 10),
    ("mib", 1 << 20),
    ("gib", 1 << 30),
    ("tib", 1 << 40),
];

impl ByteSize {
    /// The number of bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

impl FromStr for ByteSize {
    type Err = SliError;

    fn from_str(text: &str) -> Result<Self, SliError> {
        let text = text.trim();
        let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, unit) = (&text[..split], text[split..].trim().to_ascii_lowercase());
        let factor = UNITS.iter().find(|(name, _)| *name == unit).map(|(_, factor)| *factor);
        match (number.parse::<f64>(), factor) {
            (Ok(number), Some(factor)) if number > 0.0 && number * (factor as f64) < u64::MAX as f64 => {
                Ok(Self((number * factor as f64) as u64))
            }
            _ => Err(SliError::Usage(format!("'{text}' is not a size: write it like 8GiB, 500MB or 1.5GiB"))),
        }
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.0 as f64;
        for (unit, factor) in [("TiB", 1u64 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)] {
            if self.0 >= factor {
                let value = bytes / factor as f64;
                let decimals = if value >= 100.0 || value.fract() == 0.0 { 0 } else { 1 };
                return write!(f, "{value:.decimals$}{unit}");
            }
        }
        write!(f, "{}B", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_what_people_write() {
        for (text, bytes) in [
            ("1024", 1024),
            ("500MB", 500_000_000),
            ("8GiB", 8 << 30),
            ("1.5 GiB", 3 << 29),
            ("1.5G", 1_500_000_000),
            ("96mib", 96 << 20),
        ] {
            assert_eq!(text.parse::<ByteSize>().unwrap().bytes(), bytes, "{text}");
        }
    }

    #[test]
    fn refuses_what_is_no_size() {
        for text in ["", "GiB", "-1GB", "8 apples", "0", "1e3", "99999999999TiB", "1.2.3MB"] {
            assert!(text.parse::<ByteSize>().is_err(), "{text}");
        }
    }

    #[test]
    fn prints_the_nearest_unit() {
        assert_eq!(ByteSize(700 << 20).to_string(), "700MiB");
        assert_eq!(ByteSize((3 << 29) + 5).to_string(), "1.5GiB");
        assert_eq!(ByteSize(12).to_string(), "12B");
    }
}
