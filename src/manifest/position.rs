//! Places in a file.

/// A place in a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
}

/// A position in half of the memory: files have at most 32 MiB.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark {
    line: u32,
    column: u32,
}

// === impl Position ===

impl Position {
    /// The place that a number of bytes after the beginning of a text is.
    pub(super) fn after(text: &[u8]) -> Self {
        let lines = text.split(|byte| *byte == b'\n');
        let last = lines.clone().next_back().unwrap_or_default();
        Self {
            line: lines.count(),
            column: 1 + String::from_utf8_lossy(last).chars().count(),
        }
    }

    /// The place that a text which begins here ends at.
    pub(super) fn plus(self, text: &[u8]) -> Self {
        let Self { line, column } = Self::after(text);
        let before = if line == 1 { self.column - 1 } else { 0 };
        Self {
            line: self.line + line - 1,
            column: before + column,
        }
    }

    pub(super) fn plus_lines(self, lines: usize) -> Self {
        Self {
            line: self.line + lines,
            ..self
        }
    }
}

// === impl Mark ===

impl From<Position> for Mark {
    fn from(position: Position) -> Self {
        let short = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        Self {
            line: short(position.line),
            column: short(position.column),
        }
    }
}

impl From<Mark> for Position {
    fn from(mark: Mark) -> Self {
        Self {
            line: mark.line as usize,
            column: mark.column as usize,
        }
    }
}
