//! The text of a file, whatever encoding it was saved in.

/// What the bytes of a file are.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Text {
    /// UTF-8, with a byte order mark or without.
    Utf8(String),
    /// Text that was UTF-16, by its byte order mark.
    Utf16(String),
    /// Something else, at least in part.
    Other(Vec<u8>),
}

// === impl Text ===

impl Text {
    pub(super) fn of(bytes: Vec<u8>) -> Self {
        let number: Option<fn([u8; 2]) -> u16> = match bytes.get(..2) {
            Some(b"\xff\xfe") => Some(u16::from_le_bytes),
            Some(b"\xfe\xff") => Some(u16::from_be_bytes),
            _ => None,
        };
        let Some(number) = number else {
            return match String::from_utf8(bytes) {
                Ok(text) => Self::Utf8(text),
                Err(error) => Self::Other(error.into_bytes()),
            };
        };
        let (pairs, rest) = bytes[2..].as_chunks::<2>();
        let decoded: Result<String, _> =
            char::decode_utf16(pairs.iter().map(|pair| number(*pair))).collect();
        match decoded {
            Ok(text) if rest.is_empty() => Self::Utf16(text),
            _ => Self::Other(bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn utf_16_is_read_by_its_byte_order_mark() {
        let text = "a: é😀\n";
        let units: Vec<u16> = text.encode_utf16().collect();
        let little = units.iter().flat_map(|unit| unit.to_le_bytes());
        let big = units.iter().flat_map(|unit| unit.to_be_bytes());
        let little: Vec<u8> = [0xff, 0xfe].into_iter().chain(little).collect();
        let big: Vec<u8> = [0xfe, 0xff].into_iter().chain(big).collect();
        assert_eq!(Text::of(little.clone()), Text::Utf16(text.to_owned()));
        assert_eq!(Text::of(big), Text::Utf16(text.to_owned()));
        // Half a character is none.
        let half = little[..little.len() - 1].to_vec();
        assert_eq!(Text::of(half.clone()), Text::Other(half));
        let lone = vec![0xff, 0xfe, 0x00, 0xd8];
        assert_eq!(Text::of(lone.clone()), Text::Other(lone));
        assert_eq!(Text::of(text.into()), Text::Utf8(text.to_owned()));
        assert_eq!(Text::of(vec![0xe9]), Text::Other(vec![0xe9]));
    }
}
