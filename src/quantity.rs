//! Kubernetes quantities of bytes, such as `512Mi`.
//!
//! The grammar and its oddities are those of `resource.ParseQuantity` (k8s.io/apimachinery
//! v0.37.2); tests/offline/quantity.rs holds this parser to it. Only whole bytes are kept: no
//! guardrail asks for less.

use thiserror::Error;

use crate::placeholder;
use crate::tree::Node;

/// What a suffix multiplies with: 10 or 2 to a power.
const DECIMAL_UNITS: &[(&str, i32)] = &[
    ("", 0),
    ("n", -9),
    ("u", -6),
    ("m", -3),
    ("k", 3),
    ("M", 6),
    ("G", 9),
    ("T", 12),
    ("P", 15),
    ("E", 18),
];
const BINARY_UNITS: &[(&str, u32)] = &[
    ("Ki", 10),
    ("Mi", 20),
    ("Gi", 30),
    ("Ti", 40),
    ("Pi", 50),
    ("Ei", 60),
];
/// The characters that a suffix is made of (apimachinery `parseQuantityString`).
const SUFFIX_CHARACTERS: &str = "eEinumkKMGTP";
/// A binary quantity is cut to this, the greatest signed 64-bit number (apimachinery `maxAllowed`).
const MOST_BINARY: u128 = i64::MAX as u128;
/// Characters of a bad quantity that a message shows.
const LONGEST_SHOWN: usize = 80;

/// A quantity of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Quantity(i128);

/// Why a text is no quantity, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum QuantityError {
    /// There is nothing.
    #[error("the quantity is empty; write a number and a unit, such as 512Mi")]
    Empty,
    /// The unit is written as Kubernetes does not write it, but it is clear which are near.
    #[error("{seen:?} is no quantity; write {}", instead.join(" or "))]
    Misspelt {
        /// What is written.
        seen: String,
        /// What to write, such as `512M` or `512Mi`.
        instead: Vec<String>,
    },
    /// A tool was to write the quantity here.
    #[error("{seen:?} is a placeholder that nothing has replaced; write a quantity, such as 512Mi")]
    Placeholder {
        /// What is written.
        seen: String,
    },
    /// Neither number nor unit can be made out.
    #[error("{seen:?} is no quantity; write a number and a unit, such as 512Mi, 1.5Gi or 1G")]
    Unclear {
        /// What is written.
        seen: String,
    },
}

/// A text taken apart.
struct Parts<'a> {
    negative: bool,
    /// The digits before the point.
    whole: &'a str,
    /// The digits after the point.
    fraction: &'a str,
    suffix: &'a str,
}

/// What a suffix means.
enum Scale {
    /// A power of 10.
    Ten(i32),
    /// A power of 2.
    Two(u32),
}

// === impl Quantity ===

impl Quantity {
    /// Reads a quantity as Kubernetes does.
    ///
    /// # Errors
    /// What Kubernetes refuses.
    pub fn parse(text: &str) -> Result<Self, QuantityError> {
        Self::read(text).ok_or_else(|| QuantityError::of(text))
    }

    /// Reads a JSON string or number as the API server does: spaces around it are nothing, null is
    /// zero, and `512`, `0.5` and `1e9` need no quotes.
    ///
    /// # Errors
    /// What the API server refuses.
    pub fn from_json(value: Node<'_>) -> Result<Self, QuantityError> {
        match value.as_str() {
            _ if value.is_null() => Ok(Self(0)),
            Some(text) => Self::parse(text.trim()),
            None => Self::parse(&value.to_string()),
        }
    }

    /// Whole bytes, rounded away from zero: half a byte is one byte.
    ///
    /// Kubernetes' `Value()` for all that fits into 64 bits, save that it rounds some negative
    /// fractions towards zero. It makes 0 or a cut number of what does not fit, where this stops at
    /// the greatest `i128`.
    #[must_use]
    pub fn bytes(&self) -> i128 {
        self.0
    }

    fn read(text: &str) -> Option<Self> {
        let parts = Parts::of(text)?;
        let scale = Scale::of(parts.suffix)?;
        let no_digits = parts.whole.is_empty() && parts.fraction.is_empty();
        if text.is_empty() || no_digits && scale.needs_digits() {
            return None;
        }
        let magnitude = match scale {
            Scale::Ten(power) => times_power_of_ten(parts.whole, parts.fraction, power),
            Scale::Two(power) => times(parts.whole, parts.fraction, 1 << power).min(MOST_BINARY),
        };
        let magnitude = i128::try_from(magnitude).unwrap_or(i128::MAX);
        Some(Self(if parts.negative {
            -magnitude
        } else {
            magnitude
        }))
    }
}

// === impl Parts ===

impl<'a> Parts<'a> {
    /// Sign, digits, point, digits, suffix; each may be missing.
    fn of(text: &'a str) -> Option<Self> {
        let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
        let (whole, rest) = split_digits(unsigned);
        let (fraction, suffix) = rest.strip_prefix('.').map_or(("", rest), split_digits);
        let exponent = suffix.trim_start_matches(|char| SUFFIX_CHARACTERS.contains(char));
        let digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
        let (_, left_over) = split_digits(digits);
        left_over.is_empty().then_some(Self {
            negative: text.starts_with('-'),
            whole,
            fraction,
            suffix,
        })
    }
}

fn split_digits(text: &str) -> (&str, &str) {
    let end = text
        .find(|char: char| !char.is_ascii_digit())
        .unwrap_or(text.len());
    text.split_at(end)
}

// === impl Scale ===

impl Scale {
    fn of(suffix: &str) -> Option<Self> {
        if let Some((_, power)) = DECIMAL_UNITS.iter().find(|(unit, _)| *unit == suffix) {
            return Some(Self::Ten(*power));
        }
        if let Some((_, power)) = BINARY_UNITS.iter().find(|(unit, _)| *unit == suffix) {
            return Some(Self::Two(*power));
        }
        let exponent: i64 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
        #[expect(
            clippy::cast_possible_truncation,
            reason = "apimachinery keeps the lower 32 bits, so 1e4294967296 is 1"
        )]
        Some(Self::Ten(exponent as i32))
    }

    /// Whether Kubernetes refuses this unit without a number. It reads a lone `Mi` as 0, as its
    /// short way for small numbers takes no digits for a zero.
    fn needs_digits(&self) -> bool {
        match self {
            Self::Ten(power) => *power < -9,
            Self::Two(power) => *power > 40,
        }
    }
}

/// `whole.fraction` times 10 to a power, rounded up.
fn times_power_of_ten(whole: &str, fraction: &str, power: i32) -> u128 {
    let digits = format!("{whole}{fraction}");
    let point = i64::try_from(whole.len()).unwrap_or(i64::MAX) + i64::from(power);
    match usize::try_from(point) {
        Err(_) => times("", &digits, 1),
        Ok(point) if point <= digits.len() => times(&digits[..point], &digits[point..], 1),
        Ok(point) => {
            let zeros = u32::try_from(point - digits.len()).unwrap_or(u32::MAX);
            times(&digits, "", 10_u128.saturating_pow(zeros))
        }
    }
}

/// `whole.fraction` times a factor, rounded up.
fn times(whole: &str, fraction: &str, factor: u128) -> u128 {
    let digit = |byte: u8| u128::from(byte - b'0');
    let whole = whole.bytes().fold(0_u128, |number, byte| {
        number.saturating_mul(10).saturating_add(digit(byte))
    });
    // From the last digit on: what does not divide by ten only ever rounds up.
    let mut inexact = false;
    let fraction = fraction.bytes().rev().fold(0, |number, byte| {
        let sum = digit(byte) * factor + number;
        inexact |= !sum.is_multiple_of(10);
        sum / 10
    });
    whole
        .saturating_mul(factor)
        .saturating_add(fraction + u128::from(inexact))
}

// === impl QuantityError ===

impl QuantityError {
    fn of(text: &str) -> Self {
        if text.trim().is_empty() {
            return Self::Empty;
        }
        let seen: String = text.chars().take(LONGEST_SHOWN).collect();
        if placeholder::find(text).is_some() {
            return Self::Placeholder { seen };
        }
        match respell(&seen) {
            Some(instead) => Self::Misspelt { seen, instead },
            None => Self::Unclear { seen },
        }
    }
}

/// What somebody who writes 512MB, 512mi, 1g, `1 Gi` or `1_000` most probably means.
fn respell(seen: &str) -> Option<Vec<String>> {
    let plain: String = seen
        .chars()
        .filter(|char| !char.is_whitespace() && *char != '_')
        .collect();
    if Quantity::read(&plain).is_some() {
        return Some(vec![plain]);
    }
    let (number, unit) = plain.split_at(plain.find(|char: char| char.is_ascii_alphabetic())?);
    if number.is_empty() || Quantity::read(number).is_none() {
        return None;
    }
    let unit = unit.to_lowercase();
    let letters = unit
        .trim_end_matches("bytes")
        .trim_end_matches("byte")
        .trim_end_matches('b');
    if letters.is_empty() {
        return Some(vec![number.to_owned()]);
    }
    let same = |unit: &&str| unit.to_lowercase() == letters;
    let binary = |unit: &&str| unit.to_lowercase() == format!("{letters}i");
    let mut units = BINARY_UNITS.iter().map(|(unit, _)| *unit);
    if let Some(unit) = units.clone().find(same) {
        return Some(vec![format!("{number}{unit}")]);
    }
    let binary = units.find(binary)?;
    let mut decimals = DECIMAL_UNITS.iter().filter(|(_, power)| *power > 0);
    let (decimal, _) = decimals.find(|(unit, _)| unit.to_lowercase() == letters)?;
    Some(vec![
        format!("{number}{decimal}"),
        format!("{number}{binary}"),
    ])
}

/// `512Mi` for 536870912: the largest binary unit without a fraction, else bytes.
#[must_use]
pub fn display_bytes(bytes: u64) -> String {
    let exact = BINARY_UNITS
        .iter()
        .rev()
        .find(|(_, power)| bytes > 0 && bytes.is_multiple_of(1 << power));
    match exact {
        Some((unit, power)) => format!("{}{unit}", bytes >> power),
        None => bytes.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::tree::Tree;

    fn bytes(text: &str) -> i128 {
        Quantity::parse(text).unwrap().bytes()
    }

    #[test]
    fn units_are_decimal_or_binary() {
        for (text, expected) in [
            ("512Mi", 536_870_912),
            ("512M", 512_000_000),
            ("0.5Gi", 536_870_912),
            ("1e9", 1_000_000_000),
            ("+1Gi", 1_073_741_824),
            ("128974848000m", 123 * 1024 * 1024),
            ("1E", 1_000_000_000_000_000_000),
            ("1E3", 1000),
            ("-1Ki", -1024),
        ] {
            assert_eq!(bytes(text), expected, "{text}");
        }
    }

    #[test]
    fn s06_512m_is_one_byte() {
        for text in ["512m", "0.5", "1000m", "1n", "0.0000000000000000001"] {
            assert_eq!(bytes(text), 1, "{text}");
        }
        assert_eq!(bytes("1001m"), 2);
        assert_eq!(bytes("-1.5"), -2);
    }

    #[test]
    fn what_no_integer_holds_stops_at_the_greatest() {
        assert_eq!(bytes("16Ei"), i128::from(i64::MAX));
        assert_eq!(bytes("1e30"), 10_i128.pow(30));
        for text in ["1e39", "1e2147483647", &"9".repeat(100_000)] {
            assert_eq!(bytes(text), i128::MAX, "{text:.20}");
        }
        assert_eq!(bytes("1e-2147483648"), 1);
        assert_eq!(bytes("0e2147483647"), 0);
    }

    #[test]
    fn json_numbers_need_no_quotes() {
        for (value, expected) in [
            (json!(512), 512),
            (json!(0.5), 1),
            (json!(1e9), 1_000_000_000),
            (json!(1e-7), 1),
            (json!("512Mi"), 536_870_912),
            (json!(" 512Mi\n"), 536_870_912),
            (json!(null), 0),
            (json!(-1), -1),
        ] {
            let read = Quantity::from_json(Tree::from(&value).root()).unwrap();
            assert_eq!(read.bytes(), expected, "{value}");
        }
        for value in [json!(true), json!([]), json!({}), json!("")] {
            let read = Quantity::from_json(Tree::from(&value).root());
            assert!(read.is_err(), "{value}");
        }
    }

    #[test]
    fn an_error_says_what_to_write_instead() {
        let message = |text: &str| Quantity::parse(text).unwrap_err().to_string();
        for (text, instead) in [
            ("512MB", "512M or 512Mi"),
            ("512MiB", "512Mi"),
            ("512mi", "512Mi"),
            ("512MI", "512Mi"),
            ("1g", "1G or 1Gi"),
            ("1.5gb", "1.5G or 1.5Gi"),
            ("512K", "512k or 512Ki"),
            ("1 Gi", "1Gi"),
            ("1_000", "1000"),
            ("5 bytes", "5"),
        ] {
            let expected = format!("{text:?} is no quantity; write {instead}");
            assert_eq!(message(text), expected);
        }
        for text in ["half", "1.2.3Mi", "1,5Gi", "Gi1", "512Mix", "√", "--1"] {
            assert!(
                message(text).ends_with("such as 512Mi, 1.5Gi or 1G"),
                "{text}"
            );
        }
        assert!(message(" ").contains("empty"));
        assert!(message(&"x".repeat(1_000_000)).len() < 200);
    }

    #[test]
    fn bytes_are_shown_in_the_largest_exact_unit() {
        for (bytes, expected) in [
            (0, "0"),
            (1000, "1000"),
            (1024, "1Ki"),
            (536_870_912, "512Mi"),
            (1 << 60, "1Ei"),
            (u64::MAX, "18446744073709551615"),
        ] {
            assert_eq!(display_bytes(bytes), expected);
        }
    }
}
