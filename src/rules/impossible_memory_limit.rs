//! `impossible-memory-limit`: a memory limit under which no container can start.
//!
//! Nearly always a unit mistake: `512m` is half a byte, `512` is 512 bytes. What runc cannot start,
//! another runtime may, so above one page of memory it counts which of them it is.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Certainty, Finding, Judgement, Meta, Mistake, OwnSettings, Response, Rule};
use crate::evidence::{Evidence, ObjectsOf, Questions, Unknown};
use crate::objects::{NodeState, Reads};
use crate::placeholder;
use crate::quantity::{Quantity, QuantityError, display_bytes};
use crate::review::workload::{LONGEST_NAME, MOST_MEMORY_BYTES, MemoryLimit, WORKLOADS};
use crate::review::{Door, Review};

/// What it is.
pub(crate) static META: Meta = Meta {
    name: "impossible-memory-limit",
    summary: "a memory limit under which no container can start, such as 512m",
    incident: "S6",
    watches: WORKLOADS,
    repairs: false,
    reads: &[Reads::all::<NodeState>()],
    page: include_str!("../../docs/rules/impossible-memory-limit.md"),
};

/// Its settings: none of its own.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {}

impl OwnSettings for Settings {
    fn build(&self) -> Result<Box<dyn Rule>, Mistake> {
        Ok(Box::new(ImpossibleMemoryLimit))
    }
}

/// A container whose limit is below this cannot be started by runc, whose own init process, a Go
/// program, runs under the limit. dockerd refuses limits below 6 MiB for it (moby
/// `daemon/daemon_unix.go`, `linuxMinMemory`; 4 MiB before 20.10), CRI-O below 12 MiB (crio.conf(5)
/// `container_min_memory`); the least of them is taken.
const LEAST_BYTES: i128 = 4 * 1024 * 1024;
/// The kernel counts memory in pages (the smallest on any architecture), and a process has some.
const PAGE_BYTES: i128 = 4096;
/// What a guess of the unit may come to at most: few containers have more, and more is no guess.
const MOST_GUESSED_BYTES: i128 = 1 << 40;
/// Where no better number is at hand.
const EXAMPLE: &str = "512Mi";

struct ImpossibleMemoryLimit;

/// What starts the containers of a pod.
enum Runtime {
    /// As nearly everywhere, and nothing says otherwise.
    Runc,
    /// It may be another; why, as a message says it.
    Other(String),
}

/// What to write instead: in words, and as values.
struct Advice {
    help: String,
    offers: Vec<String>,
}

impl Rule for ImpossibleMemoryLimit {
    fn questions(&self, review: &Review) -> Questions {
        let mut questions = Questions::default();
        let limits = limits(review).into_iter().flatten();
        // For others it makes no difference who starts them.
        if limits.flatten().any(|limit| depends_on_runtime(&limit)) {
            questions.ask(&ObjectsOf::<NodeState>::all());
        }
        questions
    }

    fn judge(&self, review: &Review, evidence: &Evidence) -> Judgement {
        match limits(review) {
            Ok(limits) => limits
                .map(|limit| match limit {
                    Ok(limit) => {
                        let finding = inspect(&limit, review, evidence);
                        (limit.item.into_owned(), finding)
                    }
                    Err(reason) => ("the pod".to_owned(), Err(reason)),
                })
                .collect(),
            Err(reason) => Judgement::abstain("containers", reason),
        }
    }
}

/// The limits of the containers, and that of the pod.
fn limits(
    review: &Review,
) -> Result<impl Iterator<Item = Result<MemoryLimit<'_>, Unknown>>, Unknown> {
    let of_containers = review
        .containers()?
        .filter_map(|container| container.memory_limit());
    let of_pod = review.pod_memory_limit().transpose();
    Ok(of_containers.map(Ok).chain(of_pod))
}

fn inspect(
    limit: &MemoryLimit<'_>,
    review: &Review,
    evidence: &Evidence,
) -> Result<Option<Finding>, Unknown> {
    let seen = limit.value.plain();
    let finding = |certainty, magnitude, problem: String, advice: Advice| {
        Ok(Some(Finding {
            certainty,
            path: limit.pointer.clone(),
            item: limit.item.clone().into_owned(),
            value: seen.clone().into_owned(),
            magnitude,
            message: format!(
                "{} has the memory limit {}, {problem}",
                limit.holder,
                limit.shown()
            ),
            help: advice.help,
            offers: advice.offers,
            response: Response::Refuse,
        }))
    };
    let quantity = match Quantity::from_json(limit.value) {
        Ok(quantity) => quantity,
        // The API server refuses it before any webhook is asked; other kinds keep it as written.
        Err(error) if review.door == Door::Files => {
            let problem = "which is no quantity".to_owned();
            // The tool that knows the default makes a quantity of it, before anybody applies this.
            let has_default = placeholder::find(&seen).is_some_and(placeholder::has_default);
            let certainty = if has_default {
                Certainty::Likely
            } else {
                Certainty::Proven
            };
            return finding(certainty, None, problem, respelt(&error));
        }
        Err(_) => return Err(Unknown::unreadable(&limit.pointer, "is no quantity")),
    };
    let bytes = quantity.bytes();
    if bytes < 0 {
        let problem = "which is negative".to_owned();
        let advice = Advice {
            help: format!("write a limit such as {EXAMPLE}, or leave it out"),
            offers: vec![EXAMPLE.to_owned()],
        };
        return finding(Certainty::Proven, Some(bytes), problem, advice);
    }
    if bytes == 0 {
        return Ok(None);
    }
    if bytes < LEAST_BYTES {
        let words = in_words(bytes, &seen);
        let (certainty, problem) = match runtime(limit, review, evidence) {
            Runtime::Runc => (
                Certainty::Proven,
                format!("which is {words}; runc starts no container below 4Mi"),
            ),
            Runtime::Other(_) if bytes < PAGE_BYTES => (
                Certainty::Proven,
                format!("which is {words}; no process runs in less than one page of memory"),
            ),
            Runtime::Other(why) => (
                Certainty::Likely,
                format!("which is {words}; runc starts no container below 4Mi, but {why}"),
            ),
        };
        return finding(certainty, Some(bytes), problem, meant(&seen));
    }
    if bytes >= MOST_MEMORY_BYTES {
        let problem = format!(
            "which is {} TB: more than any node has",
            bytes / 1_000_000_000_000
        );
        let advice = Advice {
            help: "it limits nothing; write the limit that is meant, such as 1Gi".to_owned(),
            offers: vec!["1Gi".to_owned()],
        };
        return finding(Certainty::Likely, None, problem, advice);
    }
    // The API server refuses a request above its limit, so only files can show one.
    let requested = limit.request.filter(|_| review.door == Door::Files);
    let requested = requested.and_then(|written| {
        let request = Quantity::from_json(written).ok()?;
        (request.bytes() > bytes).then(|| (written.plain(), request))
    });
    let Some((written, request)) = requested else {
        return Ok(None);
    };
    let problem = format!("below its own request of {written:?}; the API server refuses that");
    let help = "or a smaller request; M is less than Mi";
    let advice = if is_possible(&request) {
        Advice {
            help: format!("write a limit of at least {written}, {help}"),
            offers: vec![written.into_owned()],
        }
    } else {
        Advice {
            help: format!("write a larger limit, {help}"),
            offers: Vec::new(),
        }
    };
    finding(Certainty::Proven, Some(bytes), problem, advice)
}

/// Whether this guardrail takes such a limit, whoever starts the container.
fn is_possible(limit: &Quantity) -> bool {
    (LEAST_BYTES..MOST_MEMORY_BYTES).contains(&limit.bytes())
}

fn depends_on_runtime(limit: &MemoryLimit<'_>) -> bool {
    let quantity = Quantity::from_json(limit.value);
    quantity.is_ok_and(|quantity| (PAGE_BYTES..LEAST_BYTES).contains(&quantity.bytes()))
}

fn runtime(limit: &MemoryLimit<'_>, review: &Review, evidence: &Evidence) -> Runtime {
    let spec = review.pod_spec().ok().flatten();
    let class = spec.and_then(|(_, spec)| spec.text_at("/runtimeClassName"));
    if let Some(class) = class.filter(|class| !class.is_empty()) {
        let class: String = class.escape_default().take(LONGEST_NAME).collect();
        return Runtime::Other(format!("runtimeClassName {class} may be another runtime"));
    }
    if !depends_on_runtime(limit) {
        return Runtime::Runc;
    }
    // Where there is no cluster to ask, runc is what most have. What comes later may say otherwise.
    let may_come =
        |unknown: &Unknown| !matches!(unknown, Unknown::NotAsked | Unknown::Unavailable(_));
    let unknown = match evidence.get(&ObjectsOf::<NodeState>::all()) {
        Ok(nodes) if nodes.readable().any(|node| node.has_crio) => {
            let why = "nodes here have CRI-O, which mostly runs crun";
            return Runtime::Other(why.to_owned());
        }
        Ok(nodes) => nodes.rest(),
        Err(unknown) => Err(unknown),
    };
    match unknown {
        Err(unknown) if may_come(&unknown) => {
            Runtime::Other("which runtime the nodes have is not known yet".to_owned())
        }
        _ => Runtime::Runc,
    }
}

fn in_words(bytes: i128, seen: &str) -> String {
    let milli = if seen.ends_with('m') {
        " (m means thousandths)"
    } else {
        ""
    };
    match bytes {
        1 => format!("1 byte{milli}"),
        _ => format!("{bytes} bytes{milli}"),
    }
}

/// What was most probably meant by a limit that is too low: the same number of mebibytes, or where
/// these are too few, of gibibytes. Who wrote one of these units meant no other.
fn meant(seen: &str) -> Advice {
    let end = seen.find(|char: char| !char.is_ascii_digit() && char != '.');
    let (number, unit) = seen.split_at(end.unwrap_or(seen.len()));
    let is_guess = matches!(unit, "" | "m" | "k" | "K" | "Ki");
    let mut guesses = [("Mi", "mebibytes"), ("Gi", "gibibytes")]
        .into_iter()
        .map(|(unit, name)| (format!("{number}{unit}"), format!("{name} are meant")));
    let fits = |text: &str| {
        let bytes = Quantity::parse(text).map(|quantity| quantity.bytes());
        bytes.is_ok_and(|bytes| (LEAST_BYTES..=MOST_GUESSED_BYTES).contains(&bytes))
    };
    if let Some((guess, why)) = guesses.find(|(guess, _)| is_guess && fits(guess)) {
        return Advice {
            help: format!("write {guess} if {why}"),
            offers: vec![guess],
        };
    }
    // A number of bytes with a unit behind it.
    let bytes = number.parse().ok().filter(|_| is_guess && fits(number));
    if let Some(bytes) = bytes {
        let guess = display_bytes(bytes);
        return Advice {
            help: format!("write {guess} if bytes are meant"),
            offers: vec![guess],
        };
    }
    Advice {
        help: format!("write 4Mi or more, such as {EXAMPLE}"),
        offers: vec!["4Mi".to_owned(), EXAMPLE.to_owned()],
    }
}

/// What was meant by what is no quantity, as far as this guardrail takes it.
fn respelt(error: &QuantityError) -> Advice {
    let instead = match error {
        QuantityError::Misspelt { instead, .. } => &**instead,
        _ => &[],
    };
    let is_offered = |text: &String| Quantity::parse(text).is_ok_and(|limit| is_possible(&limit));
    match instead {
        [first, ..] if !instead.iter().all(is_offered) => meant(first),
        _ => Advice {
            help: error.to_string(),
            offers: instead.to_vec(),
        },
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn judge(limit: &Value, door: Door) -> Vec<Finding> {
        let mut review = Review::of_manifest(json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"},
            "spec": {"containers": [{"name": "app", "resources": {"limits": {"memory": limit}}}]},
        }))
        .unwrap();
        review.door = door;
        ImpossibleMemoryLimit
            .judge(&review, &Evidence::default())
            .findings
    }

    #[test]
    fn s06_unit_mistakes_are_proven() {
        for limit in [
            json!("512m"),
            json!("1000m"),
            json!(512),
            json!("512"),
            json!(0.5),
            json!("500m"),
            json!("512k"),
            json!("3Mi"),
        ] {
            let found = judge(&limit, Door::Admission);
            assert_eq!(found.len(), 1, "{limit}");
            assert_eq!(found[0].certainty, Certainty::Proven, "{limit}");
        }
    }

    #[test]
    fn values_of_bytes_are_judged_and_not_suffixes() {
        for limit in [
            "128974848000m",
            "512M",
            "1.5G",
            "0.5Gi",
            "1e9",
            "+1Gi",
            "536870912",
            "4Mi",
            "0",
        ] {
            assert_eq!(judge(&json!(limit), Door::Admission), [], "{limit}");
            assert_eq!(judge(&json!(limit), Door::Files), [], "{limit}");
        }
    }

    #[test]
    fn more_than_any_node_has_is_likely() {
        assert_eq!(
            judge(&json!("1E"), Door::Admission)[0].certainty,
            Certainty::Likely
        );
    }

    #[test]
    fn text_that_is_no_quantity_is_found_in_files() {
        for limit in ["512MB", "512mi", "1 Gi", "1g"] {
            assert_eq!(judge(&json!(limit), Door::Files).len(), 1, "{limit}");
        }
    }

    #[test]
    fn the_help_names_the_number_that_was_meant() {
        assert_eq!(
            judge(&json!("512m"), Door::Admission)[0].help,
            "write 512Mi if mebibytes are meant"
        );
        assert_eq!(
            judge(&json!("0.5"), Door::Admission)[0].help,
            "write 0.5Gi if gibibytes are meant"
        );
    }

    #[test]
    fn whatever_the_help_offers_is_a_limit_that_is_taken() {
        for (limit, help) in [
            (json!(2), "write 2Gi if gibibytes are meant"),
            (json!(128), "write 128Mi if mebibytes are meant"),
            (json!("3"), "write 3Gi if gibibytes are meant"),
            (json!("1k"), "write 1Gi if gibibytes are meant"),
            (json!("4194303000m"), "write 4194303000 if bytes are meant"),
            (json!("536870912m"), "write 512Mi if bytes are meant"),
            (json!("2Mi"), "write 4Mi or more, such as 512Mi"),
            (json!("0.003Gi"), "write 4Mi or more"),
            (json!("1e3"), "write 4Mi or more"),
            (json!("0.0001"), "write 4Mi or more"),
            (json!(-1), "write a limit such as 512Mi"),
            (json!("1E"), "such as 1Gi"),
            (json!("512MB"), "write 512M or 512Mi"),
            (json!("2kb"), "write 2Gi if gibibytes are meant"),
            (json!("1_000"), "write 1000Mi if mebibytes are meant"),
            (json!("5 bytes"), "write 5Mi if mebibytes are meant"),
        ] {
            let found = &judge(&limit, Door::Files)[0];
            assert!(found.help.contains(help), "{limit}: {}", found.help);
            assert!(!found.offers.is_empty(), "{limit}");
            for offer in &found.offers {
                assert!(found.help.contains(offer), "{limit}: {offer}");
                assert_eq!(judge(&json!(offer), Door::Files), [], "{limit}: {offer}");
            }
        }
    }

    #[test]
    fn above_a_page_it_counts_whether_the_runtime_is_runc() {
        let pod = |limit: &str, class: &str| {
            let review = Review::of_manifest(json!({
                "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"},
                "spec": {"runtimeClassName": class, "containers": [
                    {"name": "app", "resources": {"limits": {"memory": limit}}},
                ]},
            }));
            review.unwrap()
        };
        let nodes = |has_crio: bool| {
            let node = NodeState {
                has_crio,
                ..NodeState::default()
            };
            Ok(crate::evidence::Listing::of([("node-1", node)]))
        };
        let likely = Certainty::Likely;
        for (review, nodes, expected) in [
            (pod("2Mi", ""), nodes(false), Certainty::Proven),
            (pod("2Mi", ""), Err(Unknown::NotAsked), Certainty::Proven),
            (pod("2Mi", ""), Err(Unknown::NotSynced), likely),
            (pod("2Mi", ""), nodes(true), likely),
            (pod("2Mi", "crun"), nodes(false), likely),
            (pod("512m", "crun"), nodes(true), Certainty::Proven),
            (pod("512m", ""), Err(Unknown::NotSynced), Certainty::Proven),
        ] {
            let mut evidence = Evidence::default();
            let question = ObjectsOf::<NodeState>::all().into();
            evidence.objects.insert(question, nodes);
            let found = ImpossibleMemoryLimit.judge(&review, &evidence).findings;
            assert_eq!(found[0].certainty, expected, "{}", found[0].message);
        }
    }
}
