//! Manifests in YAML or JSON, read as kubectl reads them, and where each value is written.
//!
//! What a file means is decided by three Go libraries together: `k8s.io/apimachinery` splits it
//! into documents, `sigs.k8s.io/yaml` and go-yaml v2 read each, with the words and numbers of YAML
//! 1.1. A check that read `no` as text where kubectl reads false would judge another object than
//! the cluster gets. tests/offline/yaml.rs holds this reader to them, and lists where it is
//! stricter.

mod json;
mod marked;
mod scalar;
mod yaml;

use std::sync::Arc;

use self::marked::Marked;
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
/// U+FEFF in UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// A place in a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
}

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
}

/// A position in half of the memory: files have at most 32 MiB.
#[derive(Clone, Copy, Debug)]
struct Mark {
    line: u32,
    column: u32,
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

/// Lines of a file that are one document.
struct Chunk<'a> {
    bytes: &'a [u8],
    first_line: usize,
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

// === impl Position ===

impl Position {
    /// The place that a number of bytes after the beginning of a text is.
    fn after(text: &[u8]) -> Self {
        let lines = text.split(|byte| *byte == b'\n');
        let last = lines.clone().next_back().unwrap_or_default();
        Self {
            line: lines.count(),
            column: 1 + String::from_utf8_lossy(last).chars().count(),
        }
    }

    fn plus_lines(self, lines: usize) -> Self {
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
            let problem = match self.read_document(&chunk) {
                Ok(()) => None,
                Err(problem) => Some(instead.take().unwrap_or(problem)),
            };
            instead = None;
            if let Some(Problem { position, message }) = problem {
                self.fail(position, message);
            }
        }
    }

    fn read_document(&mut self, chunk: &Chunk<'_>) -> Result<(), Problem> {
        let text = std::str::from_utf8(chunk.bytes).map_err(|error| Problem {
            position: Position::after(&chunk.bytes[..error.valid_up_to()])
                .plus_lines(chunk.first_line - 1),
            message: "this is no UTF-8; save the file as UTF-8".to_owned(),
        })?;
        let Some(parsed) = yaml::read(&self.source, text, chunk.first_line)? else {
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
        let (mut start, mut start_line) = (0, first_line);
        let mut offset = 0;
        for (index, line) in bytes.split_inclusive(|byte| *byte == b'\n').enumerate() {
            let end = offset + line.len();
            if let Some(rest) = line.strip_prefix(SEPARATOR) {
                let line = first_line + index;
                let after = rest.trim_ascii_start();
                let alone = matches!(after.first(), None | Some(b'#'));
                if !alone {
                    let column = 4 + rest.len() - after.len();
                    let message = "kubectl wants a line --- with nothing but a comment after it; \
                                   move the rest to the next line";
                    self.fail(Position { line, column }, message.to_owned());
                }
                if start < offset {
                    chunks.push(Chunk {
                        bytes: &bytes[start..offset],
                        first_line: start_line,
                    });
                }
                // The first line of all may stay: YAML knows it too.
                if start < offset || !alone {
                    (start, start_line) = (end, line + 1);
                }
            }
            offset = end;
        }
        chunks.push(Chunk {
            bytes: &bytes[start..],
            first_line: start_line,
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
        let message = "this is no object; write apiVersion, kind and metadata";
        self.fail(position, message.to_owned());
    }

    fn fail(&mut self, position: Position, message: String) {
        self.errors.push(ManifestError {
            file: self.file.to_owned(),
            position,
            message,
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
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn only(text: &str) -> Document {
        let (mut documents, errors) = read("file.yaml", text.as_bytes());
        assert_eq!(errors, [], "{text:?}");
        assert_eq!(documents.len(), 1, "{text:?}");
        documents.remove(0)
    }

    fn place(document: &Document, pointer: &str) -> (usize, usize) {
        let position = document.locate(pointer);
        (position.line, position.column)
    }

    fn errors(text: &str) -> Vec<String> {
        let (_, errors) = read("file.yaml", text.as_bytes());
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn values_are_located_in_the_file() {
        let text = "# comment\nkind: Pod\nspec:\n  containers:\n  - name: é\n    image: a\n  - {name: b, \
                    image: \"日\", x: [1, 2]}\n---\n\nkind: B\nnone:\na/b~c: 1\n";
        let (documents, errors) = read("file.yaml", text.as_bytes());
        assert_eq!(errors, []);
        let [first, second] = &documents[..] else {
            panic!("{documents:?}");
        };
        for (pointer, expected) in [
            ("", (2, 1)),
            ("/kind", (2, 7)),
            ("/spec", (4, 3)),
            ("/spec/containers", (5, 5)),
            ("/spec/containers/0", (5, 5)),
            ("/spec/containers/0/name", (5, 11)),
            ("/spec/containers/0/image", (6, 12)),
            ("/spec/containers/1/name", (7, 12)),
            ("/spec/containers/1/image", (7, 22)),
            ("/spec/containers/1/x/1", (7, 34)),
            // The nearest parent of what is not there.
            ("/spec/containers/0/resources/limits", (5, 5)),
            ("/spec/containers/7/image", (5, 5)),
            ("/spec/containers/x", (5, 5)),
            ("/kind/deeper", (2, 7)),
        ] {
            assert_eq!(place(first, pointer), expected, "{pointer}");
        }
        assert_eq!(first.start, Position { line: 2, column: 1 });
        assert_eq!(place(second, "/kind"), (10, 7));
        assert_eq!(place(second, "/none"), (11, 5));
        assert_eq!(place(second, "/a~1b~0c"), (12, 8));
    }

    #[test]
    fn values_of_json_are_located_in_the_file() {
        let text = "{\r\n\t\"kind\": \"\\\"é{\",\r\n\t\"a\": [1, {\"b\" : null}, \"\"],\n \"é\":  {\"c\": -1.5e3}\n} \
                    {\"a\" :[]}\n";
        let (documents, errors) = read("file.json", text.as_bytes());
        assert_eq!(errors, []);
        let [first, second] = &documents[..] else {
            panic!("{documents:?}");
        };
        for (pointer, expected) in [
            ("", (1, 1)),
            ("/kind", (2, 10)),
            ("/a", (3, 7)),
            ("/a/0", (3, 8)),
            ("/a/1", (3, 11)),
            ("/a/1/b", (3, 18)),
            ("/a/2", (3, 25)),
            ("/é", (4, 8)),
            ("/é/c", (4, 14)),
            ("/é/d", (4, 8)),
        ] {
            assert_eq!(place(first, pointer), expected, "{pointer}");
        }
        assert_eq!(place(second, ""), (5, 3));
        assert_eq!(place(second, "/a"), (5, 9));
    }

    #[test]
    fn aliases_are_located_where_they_stand_and_their_parts_at_the_anchor() {
        let document = only("a: &x\n  b: 1\nc: *x\nd:\n  <<: *x\n  e: 2\n");
        assert_eq!(place(&document, "/c"), (3, 4));
        assert_eq!(place(&document, "/c/b"), (2, 6));
        assert_eq!(place(&document, "/d/b"), (2, 6));
        assert_eq!(place(&document, "/d/e"), (6, 6));
    }

    #[test]
    fn a_byte_order_mark_and_windows_lines_move_nothing() {
        let document = only("\u{feff}a: 1\r\nb:\r\n  - c\r\n");
        assert_eq!(place(&document, "/a"), (1, 4));
        assert_eq!(place(&document, "/b/0"), (3, 5));
    }

    #[test]
    fn items_of_lists_are_documents() {
        let text = "apiVersion: v1\nkind: List\nitems:\n- kind: A\n- kind: PodList\n  apiVersion: v1\n  items:\n  \
                    - metadata: {name: b}\n  - kind: C\n---\nkind: NameList\nitems: {}\n---\nkind: \
                    List\nitems: []\n---\nkind: List\nitems:\n---\nkind: Box\nitems: [1]\n";
        let (documents, errors) = read("file.yaml", text.as_bytes());
        assert_eq!(errors, []);
        let objects: Vec<_> = documents
            .iter()
            .map(|document| document.object.root().to_value())
            .collect();
        let expected = [
            json!({"kind": "A"}),
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "b"}}),
            json!({"kind": "C"}),
            json!({"kind": "NameList", "items": {}}),
            json!({"kind": "Box", "items": [1]}),
        ];
        assert_eq!(objects, expected);
        assert_eq!(documents[1].start, Position { line: 8, column: 5 });
        assert_eq!(place(&documents[1], "/metadata/name"), (8, 22));
        assert_eq!(place(&documents[1], "/kind"), (8, 5));
    }

    #[test]
    fn a_broken_document_hides_no_other() {
        let text = "a: 1\n---\nb: [\n---\nc: 1\n--- d: 2\ne: 3\n---\n- f\n---\ng: *x\n---\nh: \t1\n---\ni:\n\t- 1\n";
        let (documents, errors) = read("file.yaml", text.as_bytes());
        let objects: Vec<_> = documents
            .iter()
            .map(|document| document.object.root().to_value())
            .collect();
        let expected = [
            json!({"a": 1}),
            json!({"c": 1}),
            json!({"e": 3}),
            json!({"h": 1}),
        ];
        assert_eq!(objects, expected);
        let places: Vec<_> = errors.iter().map(|error| error.position.line).collect();
        assert_eq!(places, [3, 6, 9, 11, 16], "{errors:#?}");
    }

    #[test]
    fn an_error_says_where_and_what_to_write_instead() {
        for (text, expected) in [
            ("a:\n\tb: 1\n", "file.yaml:2:2: this is no YAML: "),
            ("a: {{ .Values.x }} b\n", "file.yaml:1:"),
            ("{{ .Values.x }}\n", "file.yaml:1:"),
            ("a: *b\n", "file.yaml:1:4: this is no YAML: "),
            ("a: b: c\n", "file.yaml:1:5: this is no YAML: "),
            ("a: .inf\n", "file.yaml:1:4: JSON has no .nan and no .inf; "),
            (
                "a: !!int x\n",
                "file.yaml:1:10: \"x\" is no int; leave the tag !!int out",
            ),
            ("~: 1\n", "file.yaml:1:1: the key is null; "),
            ("[a]: 1\n", "file.yaml:1:1: a key is no list and no map; "),
            (
                "<<: 1\n",
                "file.yaml:1:5: << needs a map, or a list of maps",
            ),
            ("- a\n", "file.yaml:1:1: this is no object; "),
            ("%YAML 1.1\n---\na: 1\n", "file.yaml:1:1: this is no YAML: "),
            ("{\"a\": 1 \"b\": 2}\n", "file.yaml:1:9: this is no JSON: "),
            ("{}\n{}\n{\"é\" 1}\n", "file.yaml:3:6: this is no JSON: "),
            (
                "a: 1\n...\nb: 1\n",
                "file.yaml:3:1: kubectl ignores all from here",
            ),
        ] {
            let errors = errors(text);
            assert!(errors[0].starts_with(expected), "{text:?}: {errors:?}");
        }
        assert!(errors("a: {{ .Values.x }} b\n")[0].contains("helm template"));
        let whole_line = errors("{{ .Values.x }}\n");
        assert!(whole_line[0].contains("helm template"), "{whole_line:?}");
        let (_, errors) = read("a", b"a: 1\n---\nb: \xe9\xff\n---\nc: 1\n");
        assert_eq!(
            errors[0].to_string(),
            "a:3:4: this is no UTF-8; save the file as UTF-8"
        );
        let (documents, errors) = read("a", b"\xff\xfea\0:\0");
        assert_eq!((documents.len(), errors.len()), (0, 1));
    }

    #[test]
    fn bombs_are_refused() {
        let mut bomb = "a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n".to_owned();
        for level in 1..12 {
            let last = format!("*a{}, ", level - 1).repeat(9);
            bomb = format!("{bomb}a{level}: &a{level} [{last}]\n");
        }
        let wide = format!(
            "a: &x {}\nb: [{}]\n",
            "x".repeat(1 << 20),
            "*x, ".repeat(1000)
        );
        let merges = format!("a: &x {{b: 1}}\nc:\n{}", "  <<: *x\n".repeat(30_000));
        let itself = "a: &x [1, *x]\n".to_owned();
        let merged_itself = "a: &x {<<: *x}\n".to_owned();
        let chain: Vec<_> = (1..300)
            .map(|level| format!("a{level}: &a{level} [*a{}]\n", level - 1))
            .collect();
        let chain = format!("a0: &a0 [1]\n{}", chain.concat());
        for text in [bomb, wide, merges, itself, merged_itself, chain] {
            let (documents, errors) = read("file.yaml", text.as_bytes());
            assert_eq!((documents.len(), errors.len()), (0, 1), "{text:.60}");
        }
    }

    #[test]
    fn nesting_is_bounded() {
        let flow = |depth: usize| format!("a: {}{}\n", "[".repeat(depth), "]".repeat(depth));
        let block = |depth: usize| {
            let lines = (0..depth).map(|level| format!("{:level$}a:\n", ""));
            lines.collect::<String>()
        };
        let json = |depth: usize| format!("{{\"a\": {}{}}}", "[".repeat(depth), "]".repeat(depth));
        for (deepest, too_deep) in [
            (flow(126), flow(127)),
            (block(127), block(128)),
            (json(126), json(127)),
        ] {
            let text = only(&deepest).object.root().to_string();
            assert!(serde_json::from_str::<Value>(&text).is_ok());
            let (documents, errors) = read("file.yaml", too_deep.as_bytes());
            assert_eq!((documents.len(), errors.len()), (0, 1), "{too_deep:.20}");
        }
        for text in [
            flow(1_000_000),
            "- ".repeat(1_000_000),
            "[".repeat(1_000_000),
            json(1_000_000),
        ] {
            let (documents, errors) = read("file.yaml", text.as_bytes());
            assert_eq!((documents.len(), errors.len()), (0, 1));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn nothing_makes_it_panic(
            text in prop_oneof![
                "\\PC{0,40}",
                "[-{}\\[\\]:,&*!|>'\"%@`#?<ab0 \n\t\r\\\\]{0,40}",
                "\\{[{}\\[\\]:,\"\\\\a0 \n]{0,40}",
            ],
            pointer in "(/[ab0~]{0,2}){0,4}",
        ) {
            let (documents, errors) = read("file.yaml", text.as_bytes());
            let lines = text.split(['\n', '\r']).count();
            for document in documents {
                let position = document.locate(&pointer);
                prop_assert!(position.column > 0 && (1..=lines).contains(&position.line));
            }
            for error in errors {
                let position = error.position;
                prop_assert!(position.column > 0 && (1..=lines).contains(&position.line));
            }
        }

        #[test]
        fn bytes_do_not_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = read("file.yaml", &bytes);
        }

        #[test]
        fn json_means_what_serde_json_says(value in value()) {
            let value = json!({ "a": value });
            for text in [value.to_string(), format!("{value:#}")] {
                prop_assert_eq!(only(&text).object.root().to_value(), value.clone());
                // As YAML too.
                let yaml = only(&format!("# comment\n{text}"));
                prop_assert_eq!(yaml.object.root().to_value(), value.clone());
            }
        }
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "[ -~é日\n\t]{0,8}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[ -~é]{0,4}", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }
}
