//! Manifests in YAML or JSON, read as kubectl reads them, and where each value is written.
//!
//! What a file means is decided by three Go libraries together: `k8s.io/apimachinery` splits it
//! into documents, `sigs.k8s.io/yaml` and go-yaml v2 read each, with the words and numbers of YAML
//! 1.1. A check that read `no` as text where kubectl reads false would judge another object than
//! the cluster gets. tests/offline/yaml.rs holds this reader to them, and lists where it is
//! stricter.

mod json;
mod marked;
mod position;
mod scalar;
mod yaml;

use std::sync::Arc;

use self::marked::Marked;
use self::position::Mark;
pub use self::position::Position;
use crate::tree::{Node, Tree};

/// Bytes of a file; in memory it is up to some 50 times as large. The API server takes 3 MiB per
/// request (k8s.io/apiserver `MaxRequestBodyBytes`), and a file may hold many objects.
const LARGEST: usize = 32 << 20;
/// Lists and maps in each other; what `serde_json` reads, so that an object that was read can always
/// be read again.
const DEEPEST: usize = 127;
/// The line between documents.
const SEPARATOR: &[u8] = b"---";
/// What stands after a document that YAML ends before kubectl does.
const IGNORED: &str = "kubectl ignores all from here: it reads one document between two lines ---; \
                       write --- before it, or correct the indentation";
/// What stands on a line with a separator, as Helm's `{{-` leaves it.
const GLUED: &str = "kubectl wants a line --- with nothing but a comment after it; move the rest to \
                     the next line (in a template, {{- in place of {{ takes the end of the line away)";
/// U+FEFF in UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// One object of a file. The items of a List are documents of their own.
#[derive(Clone, Debug)]
pub struct Document {
    /// The object.
    pub object: Arc<Tree>,
    /// Where it begins.
    pub start: Position,
    /// Where each node of the object is written.
    marks: Box<[Mark]>,
}

/// Why a file, or a document in it, cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{}:{}: {message}", position.line, position.column)]
pub struct ManifestError {
    /// The file.
    pub file: String,
    /// Where.
    pub position: Position,
    /// What, and what to write instead.
    pub message: String,
    /// Whether it can be read, but is a list or a scalar where kubectl wants an object.
    pub is_no_object: bool,
}

/// A mistake at a place.
#[derive(Debug)]
struct Problem {
    position: Position,
    message: String,
}

/// What has been read so far.
struct Reader<'a> {
    file: &'a str,
    /// The text of the file as far as it is UTF-8.
    source: Arc<String>,
    documents: Vec<Document>,
    errors: Vec<ManifestError>,
}

/// What a document, or an item of a list, turns out to be.
enum What<'t> {
    Object,
    /// Its items, and what those are that do not say so themselves.
    List(Node<'t>, Option<Like<'t>>),
    Nothing,
    Other,
}

/// Kind and version of the items of a list: a `PodList` need not name those of its Pods.
#[derive(Clone, Copy)]
struct Like<'t> {
    kind: &'t str,
    version: &'t str,
}

/// A part of a file that is one document.
struct Chunk<'a> {
    bytes: &'a [u8],
    start: Position,
    /// Whether it begins on the line of its separator, which is told already.
    is_glued: bool,
}

/// Reads all documents of a file; what cannot be read is an error, and the rest is still read.
///
/// The items of a List are documents of their own; documents that are empty are left out.
#[must_use]
pub fn read(file: &str, bytes: &[u8]) -> (Vec<Document>, Vec<ManifestError>) {
    // What follows something else than UTF-8 in a document of its own can be read all the same.
    let readable = bytes.utf8_chunks().next();
    let readable = readable.map_or("", |chunk| chunk.valid());
    read_shared(file, bytes, Arc::new(readable.to_owned()))
}

/// The same for a text whose values the documents may share.
#[must_use]
pub fn read_text(file: &str, text: &Arc<String>) -> (Vec<Document>, Vec<ManifestError>) {
    read_shared(file, text.as_bytes(), Arc::clone(text))
}

fn read_shared(
    file: &str,
    bytes: &[u8],
    source: Arc<String>,
) -> (Vec<Document>, Vec<ManifestError>) {
    let mut reader = Reader {
        file,
        source,
        documents: Vec::new(),
        errors: Vec::new(),
    };
    reader.read(bytes);
    reader.errors.sort_by_key(|error| error.position);
    (reader.documents, reader.errors)
}

// === impl Document ===

impl Document {
    /// Where the value at a JSON pointer (RFC 6901) is written; the nearest parent where it is not.
    #[must_use]
    pub fn locate(&self, pointer: &str) -> Position {
        let mut node = self.object.root();
        let tokens = pointer.match_indices('/').map(|(start, _)| start);
        for start in tokens {
            let end = pointer[start + 1..].find('/');
            let token = &pointer[start..end.map_or(pointer.len(), |end| start + 1 + end)];
            match node.at(token) {
                Some(child) => node = child,
                None => break,
            }
        }
        self.marks[node.index()].into()
    }
}

// === impl Reader ===

impl Reader<'_> {
    fn read(&mut self, bytes: &[u8]) {
        if bytes.len() > LARGEST {
            let message = format!(
                "the file has {} bytes, more than {LARGEST}; split it",
                bytes.len()
            );
            return self.fail(Position { line: 1, column: 1 }, message);
        }
        if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") {
            let message = "the file is UTF-16; save it as UTF-8".to_owned();
            return self.fail(Position { line: 1, column: 1 }, message);
        }
        if !bytes.trim_ascii_start().starts_with(b"{") {
            let bytes = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes);
            return self.read_yaml(bytes, 1, None);
        }
        // kubectl takes what begins with a brace for JSON objects, until one of the first two turns
        // out to be none.
        let objects = json::read(&self.source);
        let count = objects.values.len();
        for object in objects.values {
            self.add(object);
        }
        match objects.problem {
            None => {}
            Some(problem) if count > 1 => self.fail(problem.position, problem.message),
            Some(problem) => {
                let rest = &bytes[objects.end..];
                let start = objects.end + end_of_line(rest);
                // A second document may be YAML, and so may a template be meant.
                let told = count == 0 && !rest.trim_ascii_start().starts_with(b"{{");
                let first_line = Position::after(&bytes[..start]).line;
                self.read_yaml(&bytes[start..], first_line, told.then_some(problem));
            }
        }
    }

    /// Reads documents between lines `---`. Where the first is no YAML, the other problem is told,
    /// if there is one.
    fn read_yaml(&mut self, bytes: &[u8], first_line: usize, mut instead: Option<Problem>) {
        for chunk in self.split(bytes, first_line) {
            let told = self.errors.len();
            let problem = match self.read_document(&chunk) {
                Ok(()) => None,
                Err(problem) => Some(instead.take().unwrap_or(problem)),
            };
            instead = None;
            if let Some(Problem { position, message }) = problem {
                self.fail(position, message);
            }
            if chunk.is_glued {
                // One mistake is one error: the rest may well follow from it.
                self.errors.truncate(told);
            }
        }
    }

    fn read_document(&mut self, chunk: &Chunk<'_>) -> Result<(), Problem> {
        let text = std::str::from_utf8(chunk.bytes).map_err(|error| Problem {
            position: chunk.start.plus(&chunk.bytes[..error.valid_up_to()]),
            message: "this is no UTF-8; save the file as UTF-8".to_owned(),
        })?;
        let Some(parsed) = yaml::read(&self.source, text, chunk.start)? else {
            return Ok(());
        };
        self.add(parsed.object);
        match parsed.ignored {
            None => Ok(()),
            Some(position) => Err(Problem {
                position,
                message: IGNORED.to_owned(),
            }),
        }
    }

    /// Splits at lines that begin with `---`, as apimachinery's `YAMLReader` does: before YAML is
    /// read, so that one broken document does not hide the next.
    fn split<'b>(&mut self, bytes: &'b [u8], first_line: usize) -> Vec<Chunk<'b>> {
        let mut chunks = Vec::new();
        let first = Position {
            line: first_line,
            column: 1,
        };
        let (mut start, mut place, mut is_glued) = (0, first, false);
        let mut offset = 0;
        for (index, line) in bytes.split_inclusive(|byte| *byte == b'\n').enumerate() {
            let end = offset + line.len();
            if let Some(rest) = line.strip_prefix(SEPARATOR) {
                let line = first_line + index;
                let after = rest.trim_ascii_start();
                let alone = matches!(after.first(), None | Some(b'#'));
                let column = 4 + rest.len() - after.len();
                if !alone {
                    self.fail(Position { line, column }, GLUED.to_owned());
                }
                if start < offset {
                    chunks.push(Chunk {
                        bytes: &bytes[start..offset],
                        start: place,
                        is_glued,
                    });
                }
                if !alone {
                    // Read as if it were on the next line, so that it is judged all the same.
                    (start, place) = (end - after.len(), Position { line, column });
                } else if start < offset {
                    (start, place) = (end, Position { line, column: 1 }.plus_lines(1));
                }
                // Else the first line of all may stay: YAML knows it too.
                is_glued = !alone;
            }
            offset = end;
        }
        chunks.push(Chunk {
            bytes: &bytes[start..],
            start: place,
            is_glued,
        });
        chunks
    }

    /// Adds an object, or the items of a list as `FlattenListVisitor` of k8s.io/cli-runtime does.
    fn add(&mut self, object: Marked) {
        let root = object.tree.root();
        let start = object.position(root);
        match what(root, None) {
            What::List(items, like) => self.add_items(&object, items, like),
            What::Object => self.push(object, start),
            What::Nothing => {}
            What::Other => self.refuse(start),
        }
    }

    fn add_items(&mut self, list: &Marked, items: Node<'_>, like: Option<Like<'_>>) {
        for item in items.items() {
            let start = list.position(item);
            match what(item, like) {
                What::List(items, like) => self.add_items(list, items, like),
                What::Object => {
                    let like = like.filter(|_| !is_named(item));
                    self.push(list.part(item, like), start);
                }
                What::Nothing => {}
                What::Other => self.refuse(start),
            }
        }
    }

    fn push(&mut self, object: Marked, start: Position) {
        self.documents.push(Document {
            object: Arc::new(object.tree),
            start,
            marks: object.marks,
        });
    }

    fn refuse(&mut self, position: Position) {
        let message = "this is no object; write apiVersion, kind and metadata".to_owned();
        self.errors.push(ManifestError {
            file: self.file.to_owned(),
            position,
            message,
            is_no_object: true,
        });
    }

    fn fail(&mut self, position: Position, message: String) {
        self.errors.push(ManifestError {
            file: self.file.to_owned(),
            position,
            message,
            is_no_object: false,
        });
    }
}

/// What a document, or an item of a list, is.
fn what<'t>(value: Node<'t>, like: Option<Like<'t>>) -> What<'t> {
    if value.is_null() {
        return What::Nothing;
    }
    if !value.is_map() {
        return What::Other;
    }
    let text = |key: &str| value.get(key).and_then(Node::as_str).unwrap_or_default();
    let Like { kind, version } = like.filter(|_| !is_named(value)).unwrap_or_else(|| Like {
        kind: text("kind"),
        version: text("apiVersion"),
    });
    let items = value.get("items");
    let items = items.filter(|items| items.is_list() || items.is_null());
    match (kind.strip_suffix("List"), items) {
        (Some(kind), Some(items)) => {
            let like = (!kind.is_empty()).then_some(Like { kind, version });
            What::List(items, like)
        }
        _ => What::Object,
    }
}

fn is_named(object: Node<'_>) -> bool {
    object.get("kind").is_some() || object.get("apiVersion").is_some()
}

/// The bytes of white space up to the next text or line.
fn end_of_line(text: &[u8]) -> usize {
    let at = text
        .iter()
        .position(|byte| *byte == b'\n' || !byte.is_ascii_whitespace());
    at.map_or(0, |at| at + usize::from(text[at] == b'\n'))
}

#[cfg(test)]
mod tests;
