//! What a scalar of YAML means to kubectl: the words and numbers of YAML 1.1 as go-yaml v2 reads
//! them (go.yaml.in/yaml/v2 v2.4.4, resolve.go), and as sigs.k8s.io/yaml writes them to JSON.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// The prefix of the tags that YAML itself defines.
const CORE: &str = "tag:yaml.org,2002:";
/// Characters of a bad value that a message shows.
const LONGEST_SHOWN: usize = 40;

/// A value without parts.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Scalar<'a> {
    Null,
    Bool(bool),
    Integer(i64),
    /// Only what no `i64` holds.
    Unsigned(u64),
    Float(f64),
    Text(Cow<'a, str>),
}

/// Reads a scalar; `plain` where it stands without quotes.
///
/// # Errors
/// A tag that does not fit, and what to write instead.
pub(super) fn resolve<'a>(
    text: &'a str,
    plain: bool,
    tag: Option<&str>,
) -> Result<Scalar<'a>, String> {
    let Some(tag) = tag else {
        return Ok(if plain { guess(text) } else { as_written(text) });
    };
    let guessed = guess(text);
    let fitting = match (tag.strip_prefix(CORE), &guessed) {
        (Some("binary"), _) => return decode(text),
        (Some("null"), Scalar::Null)
        | (Some("bool"), Scalar::Bool(_))
        | (Some("int"), Scalar::Integer(_) | Scalar::Unsigned(_))
        | (Some("float"), Scalar::Float(_))
        | (Some("timestamp"), Scalar::Text(_)) => guessed,
        #[expect(clippy::cast_precision_loss, reason = "go-yaml converts it so")]
        (Some("float"), Scalar::Integer(number)) => Scalar::Float(*number as f64),
        (Some(kind @ ("null" | "bool" | "int" | "float" | "timestamp")), _) => {
            let shown: String = text.chars().take(LONGEST_SHOWN).collect();
            return Err(format!(
                "{shown:?} is no {kind}; leave the tag !!{kind} out"
            ));
        }
        // Text, and tags that nobody knows.
        _ => as_written(text),
    };
    Ok(fitting)
}

fn as_written(text: &str) -> Scalar<'_> {
    Scalar::Text(text.into())
}

/// What a plain scalar means. Sexagesimal numbers are text, and so are times.
fn guess(text: &str) -> Scalar<'_> {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Scalar::Null,
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => {
            return Scalar::Bool(true);
        }
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            return Scalar::Bool(false);
        }
        ".nan" | ".NaN" | ".NAN" => return Scalar::Float(f64::NAN),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => {
            return Scalar::Float(f64::INFINITY);
        }
        "-.inf" | "-.Inf" | "-.INF" => return Scalar::Float(f64::NEG_INFINITY),
        _ => {}
    }
    let number = match text.as_bytes()[0] {
        b'.' if underscores_separate_digits(text) => float(&text.replace('_', "")),
        b'0'..=b'9' | b'+' | b'-' => {
            let plain = text.replace('_', "");
            integer(&plain).or_else(|| float(&plain))
        }
        _ => None,
    };
    number.unwrap_or_else(|| as_written(text))
}

/// Go's `strconv.ParseInt(text, 0, 64)`, then `ParseUint`.
fn integer(text: &str) -> Option<Scalar<'static>> {
    let (negative, unsigned) = match text.strip_prefix(['+', '-']) {
        Some(rest) => (text.starts_with('-'), rest),
        None => (false, text),
    };
    let lower = unsigned.to_ascii_lowercase();
    let (radix, digits) = match (lower.get(..2), lower.strip_prefix('0')) {
        (Some("0x"), _) => (16, &lower[2..]),
        (Some("0o"), _) => (8, &lower[2..]),
        (Some("0b"), _) => (2, &lower[2..]),
        (_, Some(digits)) if !digits.is_empty() => (8, digits),
        _ => (10, &*lower),
    };
    // from_str_radix takes a second sign. So does go-yaml, but only in 0b-1.
    let second_sign = digits.starts_with(['+', '-']);
    if second_sign && !text.starts_with("0b") {
        return None;
    }
    let magnitude = i128::from_str_radix(digits, radix).ok()?;
    let number = if negative { -magnitude } else { magnitude };
    if let Ok(number) = i64::try_from(number) {
        return Some(Scalar::Integer(number));
    }
    // ParseUint takes no sign.
    let signed = second_sign || text.starts_with(['+', '-']);
    let number = u64::try_from(number).ok().filter(|_| !signed)?;
    Some(Scalar::Unsigned(number))
}

/// `[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?`, unless it is too large for 64 bits.
fn float(text: &str) -> Option<Scalar<'static>> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (unsigned, None),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let exponent_is_number = exponent.is_none_or(|exponent| {
        let unsigned = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
        !unsigned.is_empty() && digits(unsigned)
    });
    let has_digits = !whole.is_empty() || !fraction.is_empty();
    if !digits(whole) || !digits(fraction) || !has_digits || !exponent_is_number {
        return None;
    }
    let number: f64 = text.parse().ok()?;
    number.is_finite().then_some(Scalar::Float(number))
}

/// Where a number begins with a point, Go looks at its underscores; elsewhere go-yaml has taken
/// them out before.
fn underscores_separate_digits(text: &str) -> bool {
    let bytes = text.as_bytes();
    let digit = |index: Option<usize>| {
        index
            .and_then(|index| bytes.get(index))
            .is_some_and(u8::is_ascii_digit)
    };
    let mut underscores = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'_');
    underscores.all(|(index, _)| digit(index.checked_sub(1)) && digit(Some(index + 1)))
}

fn decode(text: &str) -> Result<Scalar<'static>, String> {
    let cure = "write it as text in base64, without the tag !!binary";
    let text: String = text
        .chars()
        .filter(|char| !"\r\n".contains(*char))
        .collect();
    let bytes = STANDARD
        .decode(text)
        .map_err(|_| format!("this is no base64; {cure}"))?;
    // kubectl would put other characters in their place.
    let text = String::from_utf8(bytes).map_err(|_| {
        format!("JSON cannot hold these bytes, and kubectl would spoil them; {cure}")
    })?;
    Ok(Scalar::Text(text.into()))
}

// === impl Scalar ===

impl<'a> Scalar<'a> {
    /// The value in JSON. A float without a fraction becomes an integer there: `1e3` is 1000.
    pub(super) fn into_json(self) -> Result<Self, String> {
        match self {
            Self::Float(number) if number.is_finite() => {
                let whole = number.to_string().parse::<i64>();
                Ok(whole.map_or(self, Self::Integer))
            }
            Self::Float(_) => {
                Err("JSON has no .nan and no .inf; write a number, or quote it".to_owned())
            }
            other => Ok(other),
        }
    }

    /// Whether somebody who reads the JSON sees another boolean or number than is written: `true`
    /// for `y`, 420 for `0644`.
    pub(super) fn is_spelled_otherwise(&self, written: &str) -> bool {
        match self {
            Self::Null | Self::Text(_) => false,
            Self::Bool(value) => written != value.to_string(),
            Self::Integer(number) => written != number.to_string(),
            Self::Unsigned(number) => written != number.to_string(),
            Self::Float(number) => written != number.to_string(),
        }
    }

    /// The key in JSON, where all keys are text.
    pub(super) fn into_key(self) -> Result<Cow<'a, str>, String> {
        Ok(match self {
            Self::Null => return Err("the key is null; write a name, or quote it".to_owned()),
            Self::Unsigned(_) => return Err("the key is too large a number; quote it".to_owned()),
            Self::Bool(bool) => bool.to_string().into(),
            Self::Integer(number) => number.to_string().into(),
            #[expect(clippy::cast_possible_truncation, reason = "sigs.k8s.io/yaml does so")]
            Self::Float(number) => shortest(number as f32).into(),
            Self::Text(text) => text,
        })
    }
}

/// Go's `strconv.FormatFloat(number, 'g', -1, 32)`, with YAML's words for what is no number.
fn shortest(number: f32) -> String {
    if number.is_nan() {
        return ".nan".to_owned();
    }
    if number.is_infinite() {
        return if number > 0.0 { ".inf" } else { "-.inf" }.to_owned();
    }
    let scientific = format!("{number:e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or_default();
    if (-4..6).contains(&exponent) {
        return number.to_string();
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{mantissa}e{sign}{:02}", exponent.abs())
}
