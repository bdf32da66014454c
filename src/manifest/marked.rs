//! A tree, and where each of its nodes is written.

use std::sync::Arc;

use super::scalar::Scalar;
use super::{Like, Mark, Position};
use crate::tree::{Builder, Node, Open, Tree};

/// Bytes of the spelling of a number that is kept for messages.
const LONGEST_SPELLING: usize = 40;

/// A value that was read.
#[derive(Debug)]
pub(super) struct Marked {
    pub(super) tree: Tree,
    /// One for each node of the tree, keys included.
    pub(super) marks: Box<[Mark]>,
}

/// A value that is being read: its parts are added in the order of the text.
pub(super) struct MarkedBuilder {
    builder: Builder,
    marks: Vec<Mark>,
}

// === impl Marked ===

impl Marked {
    pub(super) fn position(&self, node: Node<'_>) -> Position {
        self.marks[node.index()].into()
    }

    /// A part of it, which shares its text; with this kind and version, where some are given.
    pub(super) fn part(&self, node: Node<'_>, like: Option<Like<'_>>) -> Self {
        let mut part = MarkedBuilder::over(self.tree.source());
        let start = self.position(node);
        let map = part.open_map(start);
        let inside = node.index() + 1..node.end();
        part.marks.extend_from_slice(&self.marks[inside]);
        for (key, value) in node.entries() {
            part.builder.borrowed_text(key);
            part.builder.node(value);
        }
        if let Some(Like { kind, version }) = like {
            for text in ["kind", kind, "apiVersion", version] {
                part.text(text, start);
            }
        }
        part.close(map);
        part.finish()
    }
}

// === impl MarkedBuilder ===

impl MarkedBuilder {
    /// Strings may lie in this text.
    pub(super) fn over(source: &Arc<String>) -> Self {
        Self {
            builder: Builder::over(source),
            marks: Vec::new(),
        }
    }

    /// A scalar, and its text as it is written.
    pub(super) fn scalar(&mut self, scalar: &Scalar, written: &str, position: Position) {
        self.marks.push(position.into());
        match scalar {
            Scalar::Null => self.builder.null(),
            Scalar::Bool(value) => self.builder.bool(*value),
            Scalar::Integer(number) => self.builder.signed(*number),
            Scalar::Unsigned(number) => self.builder.unsigned(*number),
            Scalar::Float(number) => self.builder.float(*number),
            Scalar::Text(text) => self.builder.borrowed_text(text),
        }
        if written.len() <= LONGEST_SPELLING && scalar.is_spelled_otherwise(written) {
            self.builder.spelled(written);
        }
    }

    /// A key, or a string.
    pub(super) fn text(&mut self, text: &str, position: Position) {
        self.marks.push(position.into());
        self.builder.borrowed_text(text);
    }

    pub(super) fn open_list(&mut self, position: Position) -> Open {
        self.marks.push(position.into());
        self.builder.open_list()
    }

    pub(super) fn open_map(&mut self, position: Position) -> Open {
        self.marks.push(position.into());
        self.builder.open_map()
    }

    pub(super) fn close(&mut self, open: Open) {
        self.builder.close(open);
    }

    pub(super) fn finish(self) -> Marked {
        Marked {
            tree: self.builder.finish().compact(),
            marks: self.marks.as_slice().into(),
        }
    }
}
