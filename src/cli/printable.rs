//! Text from outside, made harmless for a terminal.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Stands for what is not shown.
const HIDDEN: char = char::REPLACEMENT_CHARACTER;

/// Replaces what would move the cursor, change colours or turn the writing direction.
///
/// Every character stays one character, so that columns still fit.
#[must_use]
pub fn line(text: &str) -> Cow<'_, str> {
    replace(text, |char| is_harmful(char) || char == '\n')
}

/// The same for text that may have several lines.
#[must_use]
pub fn lines(text: &str) -> Cow<'_, str> {
    replace(text, |char| is_harmful(char) && char != '\n')
}

/// JSON whose strings hold no character that acts on a terminal; it means the same.
#[must_use]
pub fn json(text: &str) -> Cow<'_, str> {
    // Such characters stand in JSON only within strings, where an escape may replace them.
    let acts = |char: char| is_harmful(char) && char != '\n';
    if !text.contains(acts) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len());
    for char in text.chars() {
        if acts(char) {
            // Writing to a String cannot fail.
            let _ = write!(escaped, "\\u{:04x}", u32::from(char));
        } else {
            escaped.push(char);
        }
    }
    Cow::Owned(escaped)
}

fn replace(text: &str, hide: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(|char| hide(char) || char == '\t') {
        return Cow::Borrowed(text);
    }
    let shown = |char| match char {
        '\t' => ' ',
        char if hide(char) => HIDDEN,
        char => char,
    };
    Cow::Owned(text.chars().map(shown).collect())
}

/// C0 and C1 controls, line separators, and Unicode's marks that reorder text (Unicode Technical
/// Report 36, "Bidirectional Text Spoofing").
fn is_harmful(char: char) -> bool {
    char.is_control() && char != '\t'
        || matches!(
            char,
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_acts_on_a_terminal_is_hidden() {
        assert_eq!(
            line("a\u{1b}[31mb\tc\r\n\u{202e}d"),
            "a\u{fffd}[31mb c\u{fffd}\u{fffd}\u{fffd}d"
        );
        assert_eq!(lines("a\nb\u{9b}"), "a\nb\u{fffd}");
        assert!(matches!(line("plain, ü, 字"), Cow::Borrowed(_)));
    }

    #[test]
    fn json_means_the_same_afterwards() {
        let text = "a\u{7f}\u{9b}\u{202e}\u{1b}\n";
        let written = serde_json::to_string_pretty(&[text]).unwrap();
        let safe = json(&written);
        assert!(
            !safe.contains(|char| is_harmful(char) && char != '\n'),
            "{safe:?}"
        );
        assert_eq!(serde_json::from_str::<Vec<String>>(&safe).unwrap(), [text]);
    }
}
