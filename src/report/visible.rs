//! Text from users, made fit to be shown.
//!
//! Names, values and annotations may hold anything. The API server drops a warning with a control
//! character in it without a word (k8s.io/apiserver, pkg/warning); a terminal obeys an escape
//! sequence; a bidirectional override makes a line read as another one.

use std::borrow::Cow;
use std::fmt::Write;

/// The text on one line: white space becomes a blank, what cannot be seen becomes visible.
#[must_use]
pub fn one_line(text: &str) -> Cow<'_, str> {
    visible(text, char::is_whitespace)
}

/// The text on as many lines as it has: what cannot be seen becomes visible.
#[must_use]
pub fn lines(text: &str) -> Cow<'_, str> {
    visible(text, |char| char.is_whitespace() && char != '\n')
}

/// At most so many characters, with `…` where something was cut off.
#[must_use]
pub fn cut(text: &str, most: usize) -> &str {
    text.char_indices()
        .nth(most)
        .map_or(text, |(end, _)| &text[..end])
}

fn visible(text: &str, is_blank: impl Fn(char) -> bool) -> Cow<'_, str> {
    let is_plain = |char: char| (!is_blank(char) || char == ' ') && !is_hidden(char);
    if text
        .chars()
        .all(|char| is_plain(char) || char == '\n' && !is_blank('\n'))
    {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len());
    for char in text.chars() {
        if is_blank(char) {
            shown.push(' ');
        } else if is_hidden(char) && char != '\n' {
            // Writing to a String cannot fail.
            let _ = write!(shown, "{}", char.escape_unicode());
        } else {
            shown.push(char);
        }
    }
    Cow::Owned(shown)
}

/// Control characters, and the format characters that hide or reorder what stands beside them.
fn is_hidden(char: char) -> bool {
    char.is_control()
        || matches!(char,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_text_is_not_copied() {
        assert!(matches!(one_line("Schlüssel \"a\" 🔑"), Cow::Borrowed(_)));
        assert!(matches!(lines("a\n  b"), Cow::Borrowed(_)));
    }

    #[test]
    fn one_line_stays_one_line() {
        assert_eq!(one_line("a\r\nb\tc\u{2028}d"), "a  b c d");
        assert_eq!(lines("a\r\nb\tc"), "a \nb c");
    }

    #[test]
    fn what_hides_or_commands_becomes_visible() {
        assert_eq!(one_line("a\0b"), "a\\u{0}b");
        assert_eq!(lines("\x1b[2J"), "\\u{1b}[2J");
        assert_eq!(
            one_line("\u{202e}gnp.exe\u{feff}"),
            "\\u{202e}gnp.exe\\u{feff}"
        );
    }

    #[test]
    fn a_cut_never_splits_a_character() {
        assert_eq!(cut("äöü", 2), "äö");
        assert_eq!(cut("äöü", 3), "äöü");
    }
}
