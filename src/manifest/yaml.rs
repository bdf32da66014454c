//! One YAML document: its syntax by granit-parser, its meaning as kubectl's libraries have it.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use granit_parser::{
    ErrorKind, Event, Marker, Parser, ScalarStyle, ScanError, Span, StrInput, StructureStyle, Tag,
    options,
};

use super::marked::{Marked, MarkedBuilder};
use super::scalar::{self, Scalar};
use super::{DEEPEST, Position, Problem};

/// Bytes that aliases may add to a document, and what each value in them counts besides its text.
/// go-yaml allows some 100 MB; no manifest needs that.
const MOST_EXPANDED: usize = 16 << 20;
const NODE_BYTES: usize = 256;
/// The tag that makes `<<` a merge even in quotes.
const MERGE_TAG: &str = "tag:yaml.org,2002:merge";

/// A document.
pub(super) struct Parsed {
    pub(super) object: Marked,
    /// Where text begins that kubectl does not read.
    pub(super) ignored: Option<Position>,
}

/// The document as it is written.
struct Node<'a> {
    position: Position,
    kind: Kind<'a>,
}

/// Nodes are named by their index.
enum Kind<'a> {
    Scalar {
        text: Cow<'a, str>,
        plain: bool,
        tag: Option<String>,
    },
    Sequence(Vec<usize>),
    /// Keys and values by turns.
    Mapping(Vec<usize>),
    Alias(usize),
}

/// Gives nodes their meaning, and counts how many of them aliases add.
struct Resolver<'a> {
    nodes: Vec<Node<'a>>,
    read: MarkedBuilder,
    decoded: usize,
    decoded_in_aliases: usize,
    alias_depth: usize,
    expanded: usize,
}

/// Reads the first document of a text, which lies in the source and begins at this place there.
pub(super) fn read(
    source: &Arc<String>,
    text: &str,
    start: Position,
) -> Result<Option<Parsed>, Problem> {
    if let Some((at, char)) = text.char_indices().find(|(_, char)| is_control(*char)) {
        return Err(Problem {
            position: start.plus(&text.as_bytes()[..at]),
            message: format!(
                "the control character U+{:04X} is not allowed in YAML; write it as \"\\x{0:02X}\" in double \
                 quotes, or binary data of a ConfigMap in base64 under binaryData",
                u32::from(char)
            ),
        });
    }
    let mut options = options! {
        disallow_directives: true,
        emit_anchor_events: true,
        flow_nesting_limit: DEEPEST,
        block_nesting_limit: DEEPEST,
    };
    options.set_emit_comments(false);
    let mut parser = Parser::new_from_str_with_options(text, options);
    let place = |mark: &Marker| Position {
        line: mark.line() + start.line - 1,
        column: mark.col() + if mark.line() == 1 { start.column } else { 1 },
    };
    let fail = |error: ScanError| Problem {
        position: place(error.marker()),
        message: explain(&error, text),
    };
    let nodes = nodes(&mut parser, text, place).map_err(fail)?;
    if nodes.is_empty() {
        return Ok(None);
    }
    let ignored = match parser.next_event() {
        None | Some(Ok((Event::StreamEnd, _))) => None,
        Some(Ok((_, span))) => Some(place(&span.start)),
        Some(Err(error)) => Some(place(error.marker())),
    };
    let mut resolver = Resolver {
        nodes,
        read: MarkedBuilder::over(source),
        decoded: 1,
        decoded_in_aliases: 0,
        alias_depth: 0,
        expanded: 0,
    };
    let position = resolver.nodes[0].position;
    resolver.value(0, 0, position)?;
    let object = resolver.read.finish();
    Ok(Some(Parsed { object, ignored }))
}

/// What go-yaml refuses wherever it stands, in comments too (yaml.v2, readerc.go "control characters
/// are not allowed").
fn is_control(char: char) -> bool {
    matches!(char, '\0'..='\x08' | '\x0b' | '\x0c' | '\x0e'..='\x1f' | '\x7f'..='\u{84}' | '\u{86}'..='\u{9f}')
}

/// The nodes of the next document; the root is the first.
fn nodes<'a>(
    parser: &mut Parser<'a, StrInput<'a>>,
    source: &str,
    place: impl Fn(&Marker) -> Position,
) -> Result<Vec<Node<'a>>, ScanError> {
    let mut nodes: Vec<Node<'a>> = Vec::new();
    let mut anchors = HashMap::new();
    let mut open: Vec<(usize, StructureStyle)> = Vec::new();
    while let Some(event) = parser.next_event() {
        let (event, span) = event?;
        let anchor = event.anchor_id();
        let style = match event {
            Event::SequenceStart(style, ..) | Event::MappingStart(style, ..) => Some(style),
            _ => None,
        };
        let in_brackets = matches!(open.last(), Some((_, StructureStyle::Flow)));
        if let Some(message) = misread(&event, &span, in_brackets, source) {
            return Err(ScanError::new(span.start, message));
        }
        let kind = match event {
            Event::Scalar(text, style, _, tag) => Kind::Scalar {
                text,
                plain: style == ScalarStyle::Plain,
                tag: tag.map(|tag| whole(&tag)),
            },
            Event::SequenceStart(..) => Kind::Sequence(Vec::new()),
            Event::MappingStart(..) => Kind::Mapping(Vec::new()),
            Event::Alias(id) => Kind::Alias(anchors.get(&id).copied().unwrap_or_default()),
            Event::SequenceEnd | Event::MappingEnd => {
                open.pop();
                continue;
            }
            Event::DocumentEnd => break,
            _ => continue,
        };
        let index = nodes.len();
        if let Some(id) = anchor {
            anchors.insert(id, index);
        }
        if let Some((parent, _)) = open.last() {
            let parent: &mut Node<'a> = &mut nodes[*parent];
            if let Kind::Sequence(children) | Kind::Mapping(children) = &mut parent.kind {
                children.push(index);
            }
        }
        open.extend(style.map(|style| (index, style)));
        nodes.push(Node {
            position: place(&span.start),
            kind,
        });
    }
    Ok(nodes)
}

/// What go-yaml, which reads YAML 1.1, would silently read as something else.
fn misread(
    event: &Event<'_>,
    span: &Span,
    in_brackets: bool,
    source: &str,
) -> Option<&'static str> {
    match event {
        // [?a] would be a map, and the whole of [a:] text.
        Event::Scalar(text, ScalarStyle::Plain, ..)
            if in_brackets && (text.starts_with(['?', ':']) || is_glued_key(source, span)) =>
        {
            Some("text in brackets begins with ? or :, or a key has no space after :")
        }
        // Of [!a, b] the comma would be part of the tag, and b the text that has it.
        Event::Scalar(text, ScalarStyle::Plain, _, Some(_)) if in_brackets && text.is_empty() => {
            Some("a tag in brackets has no value")
        }
        // &a?b would be the anchor a and the text ?b.
        Event::Anchor(_, name) if !name.chars().all(is_for_anchors) => {
            Some("a name after & has other characters than letters, digits, - and _")
        }
        _ => None,
    }
}

/// Whether a plain key is followed by a colon and then a bracket or comma.
fn is_glued_key(source: &str, span: &Span) -> bool {
    let after = span.byte_range().and_then(|range| source.get(range.end..));
    let after_colon = after.and_then(|after| after.strip_prefix(':'));
    after_colon.is_some_and(|rest| rest.starts_with([',', '[', ']', '{', '}']))
}

fn is_for_anchors(char: char) -> bool {
    char.is_ascii_alphanumeric() || matches!(char, '-' | '_')
}

fn whole(tag: &Tag) -> String {
    let (handle, suffix) = tag.parts();
    format!("{handle}{suffix}")
}

// === impl Resolver ===

impl Resolver<'_> {
    /// Adds a value, which stands at this position: an alias stands elsewhere than what it means.
    fn value(&mut self, index: usize, depth: usize, position: Position) -> Result<(), Problem> {
        self.count(index)?;
        match &self.nodes[index].kind {
            Kind::Alias(target) => {
                let target = *target;
                self.in_alias(|this| this.value(target, depth, position))?;
            }
            Kind::Scalar { text, plain, tag } => {
                let value = scalar::resolve(text, *plain, tag.as_deref());
                let value = value.and_then(Scalar::into_json);
                let value = value.map_err(|message| self.problem(index, message))?;
                self.read.scalar(&value, text, position);
            }
            Kind::Sequence(children) => {
                let children = children.clone();
                self.check_depth(index, depth)?;
                let list = self.read.open_list(position);
                for child in children {
                    self.value(child, depth + 1, self.nodes[child].position)?;
                }
                self.read.close(list);
            }
            Kind::Mapping(_) => {
                self.check_depth(index, depth)?;
                let map = self.read.open_map(position);
                self.fill(index, depth)?;
                self.read.close(map);
            }
        }
        Ok(())
    }

    /// Adds the entries of a mapping in their order, of which the last of equal keys holds. So a later
    /// one replaces an earlier one, and so do merged ones: go-yaml v2 lets `<<` override the keys
    /// before it.
    fn fill(&mut self, index: usize, depth: usize) -> Result<(), Problem> {
        let Kind::Mapping(children) = &self.nodes[index].kind else {
            return Err(self.problem(index, "<< needs a map, or a list of maps".to_owned()));
        };
        let children = children.clone();
        for pair in children.chunks_exact(2) {
            let (key, value) = (pair[0], pair[1]);
            if self.is_merge(key) {
                self.merge(value, depth)?;
                continue;
            }
            self.key(key)?;
            self.value(value, depth + 1, self.nodes[value].position)?;
        }
        Ok(())
    }

    /// Merges a map, or a list of maps of which earlier ones hold.
    fn merge(&mut self, index: usize, depth: usize) -> Result<(), Problem> {
        let maps = match &self.nodes[index].kind {
            Kind::Sequence(children) => children.iter().rev().copied().collect(),
            _ => vec![index],
        };
        for map in maps {
            self.count(map)?;
            self.check_depth(map, depth)?;
            match self.nodes[map].kind {
                Kind::Alias(target) => self.in_alias(|this| {
                    this.count(target)?;
                    this.fill(target, depth + 1)
                })?,
                _ => self.fill(map, depth + 1)?,
            }
        }
        Ok(())
    }

    fn is_merge(&self, index: usize) -> bool {
        let Kind::Scalar { text, plain, tag } = &self.nodes[index].kind else {
            return false;
        };
        let tag = tag.as_deref();
        text == "<<" && (*plain && tag.is_none() || matches!(tag, Some("!" | MERGE_TAG)))
    }

    fn key(&mut self, index: usize) -> Result<(), Problem> {
        self.count(index)?;
        let mut meant = index;
        if let Kind::Alias(target) = self.nodes[index].kind {
            self.in_alias(|this| this.count(target))?;
            meant = target;
        }
        let Kind::Scalar { text, plain, tag } = &self.nodes[meant].kind else {
            let message = "a key is no list and no map; write text, or where {{ }} is a template, \
                           check the output of helm template";
            return Err(self.problem(meant, message.to_owned()));
        };
        let scalar = scalar::resolve(text, *plain, tag.as_deref());
        let scalar = scalar.map_err(|message| self.problem(meant, message))?;
        let key = scalar.into_key();
        let key = key.map_err(|message| self.problem(index, message))?;
        self.read.text(&key, self.nodes[index].position);
        Ok(())
    }

    fn in_alias<T>(
        &mut self,
        inner: impl FnOnce(&mut Self) -> Result<T, Problem>,
    ) -> Result<T, Problem> {
        self.alias_depth += 1;
        let result = inner(self);
        self.alias_depth -= 1;
        result
    }

    /// Stops documents that aliases blow up: go-yaml's own measure (decode.go, `allowedAliasRatio`),
    /// and a limit in bytes, as each alias is a copy here.
    fn count(&mut self, index: usize) -> Result<(), Problem> {
        const LOW: f64 = 400_000.0;
        const HIGH: f64 = 4_000_000.0;
        self.decoded += 1;
        if self.alias_depth == 0 {
            return Ok(());
        }
        self.decoded_in_aliases += 1;
        self.expanded += NODE_BYTES;
        if let Kind::Scalar { text, .. } = &self.nodes[index].kind {
            self.expanded += text.len();
        }
        #[expect(clippy::cast_precision_loss, reason = "both are far below 2^52")]
        let (decoded, in_aliases) = (self.decoded as f64, self.decoded_in_aliases as f64);
        let share = 0.99 - 0.89 * ((decoded - LOW) / (HIGH - LOW)).clamp(0.0, 1.0);
        let too_many = in_aliases > 100.0 && decoded > 1000.0 && in_aliases / decoded > share;
        if too_many || self.expanded > MOST_EXPANDED {
            let message = "aliases make this document too large; write the values out".to_owned();
            return Err(self.problem(index, message));
        }
        Ok(())
    }

    fn check_depth(&self, index: usize, depth: usize) -> Result<(), Problem> {
        if depth < DEEPEST {
            return Ok(());
        }
        let message = format!(
            "more than {DEEPEST} lists and maps in each other, or an anchor that contains itself; \
             nest less"
        );
        Err(self.problem(index, message))
    }

    fn problem(&self, index: usize, message: String) -> Problem {
        Problem {
            position: self.nodes[index].position,
            message,
        }
    }
}

/// What is wrong with the syntax, and what to do.
fn explain(error: &ScanError, text: &str) -> String {
    let line = text.lines().nth(error.marker().line().saturating_sub(1));
    if line.is_some_and(|line| line.contains("{{")) {
        return "this is a template, not YAML; check what it renders to, such as the output of \
                helm template"
            .to_owned();
    }
    let cure = match error.kind() {
        ErrorKind::TabNotAllowed
        | ErrorKind::TabInBlockIndentation
        | ErrorKind::TabInIndentation
        | ErrorKind::TabAtBlockScalarStart => "indent with spaces",
        ErrorKind::MappingValueNotAllowed => {
            "quote a value that holds a colon and a space, or check the indentation"
        }
        ErrorKind::UnknownAnchor => {
            "write &NAME at a value above in the same document, or quote what begins with *"
        }
        ErrorKind::DirectiveDisallowed => "leave the line out: kubectl reads no directives",
        ErrorKind::RecursionLimitExceeded => "nest less",
        ErrorKind::UnclosedQuotedScalar => "close the quotes",
        ErrorKind::UnclosedFlowCollection { .. } => "close the bracket",
        ErrorKind::UnexpectedCharacter { .. } => "quote what begins with this character",
        _ => "check indentation, quotes and brackets",
    };
    format!("this is no YAML: {}; {cure}", error.info())
}
