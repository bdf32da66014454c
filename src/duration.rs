//! Durations as Go writes them, which is how Kubernetes and what is built on it read them.

/// The nanoseconds of a duration such as `1h0m0s`, `1.5h` or `0` (Go's `time.ParseDuration`: a
/// sign, then numbers with units, at most 2^63 - 1 ns); `None` where Go would refuse it.
#[must_use]
pub fn parse(text: &str) -> Option<i128> {
    let (sign, mut rest) = match text.as_bytes().first()? {
        b'-' => (-1, &text[1..]),
        b'+' => (1, &text[1..]),
        _ => (1, text),
    };
    if rest == "0" {
        return Some(0);
    }
    let mut total: i128 = 0;
    loop {
        let end = rest.find(|char: char| !char.is_ascii_digit() && char != '.')?;
        let (number, tail) = rest.split_at(end);
        let end = tail
            .find(|char: char| char.is_ascii_digit() || char == '.')
            .unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(end);
        total += nanoseconds(number, unit)?;
        if total > i128::from(i64::MAX) {
            return None;
        }
        if tail.is_empty() {
            return Some(sign * total);
        }
        rest = tail;
    }
}

fn nanoseconds(number: &str, unit: &str) -> Option<i128> {
    let unit: i128 = match unit {
        "ns" => 1,
        "us" | "µs" | "μs" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    // 18 digits are a billion years in nanoseconds and keep the product within 128 bits.
    if whole.len() + fraction.len() > 18 || whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let digits: i128 = format!("{whole}{fraction}").parse().ok()?;
    let scale = 10_i128.pow(u32::try_from(fraction.len()).ok()?);
    Some(digits * unit / scale)
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn durations_are_read_as_go_reads_them() {
        const SECOND: i128 = 1_000_000_000;
        for (text, expected) in [
            ("1h", 3600 * SECOND),
            ("1h0m0s", 3600 * SECOND),
            ("1.5h", 5400 * SECOND),
            (".5m", 30 * SECOND),
            ("1.m", 60 * SECOND),
            ("0", 0),
            ("-1s", -SECOND),
            ("+15m", 900 * SECOND),
            ("100ms1us2µs3ns", 100_003_003),
        ] {
            assert_eq!(parse(text), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_go_refuses_is_refused() {
        for text in [
            "",
            "1",
            "h",
            "1d",
            "1 h",
            "1h ",
            ".",
            ".h",
            "1.2.3h",
            "--1h",
            "-",
            "1hour",
            "é",
            "2562048h",
            "9999999999999999999h",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
