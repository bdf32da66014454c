//! containerd's own resolver beside ours, against real registries and scripted ones, all reached as
//! the same hosts.toml files say. If containerd resolves, we never refuse; if we refuse as missing,
//! containerd says missing.

use std::path::Path;
use std::process::Command;

use futures::FutureExt as _;
use serde::Deserialize;
use serde_json::json;
use tokio::net::TcpListener;

use super::super::go::go_program;
use super::super::network::Network;
use super::super::pki::Pki;
use super::super::registry_server::Registry;
use super::real::{Debian, push};
use super::*;

const OPEN: &str = "10.9.0.1:5000";
const BASIC: &str = "10.9.0.2:5000";
const TOKEN: &str = "10.9.0.3:5000";
const PROXY: &str = "10.9.0.4:5000";
/// In the public Internet, so that nobody needs to configure it.
const HTTPS: &str = "1.1.1.1:443";
const STRANGE_HTTPS: &str = "10.9.0.5:443";
const DEBIAN: &str = "10.9.0.6:5000";
const SCRIPTED: &str = "10.9.0.7:5000";
const EMPTY: &str = "10.9.0.8:5000";
const NOBODY: &str = "10.9.0.9:5000";

const ADDRESSES: &[&str] = &[
    "1.1.1.1", "10.9.0.1", "10.9.0.2", "10.9.0.3", "10.9.0.4", "10.9.0.5", "10.9.0.6", "10.9.0.7",
    "10.9.0.8", "10.9.0.9",
];

/// One image that registries have, one tag that they lack, and one repository.
const RESTS: &[&str] = &["team/app:v1", "team/app:v9", "team/nothing:v1"];

/// What containerd says.
#[derive(Deserialize)]
struct Answer {
    verdict: String,
    #[serde(default)]
    error: String,
}

/// One question to both.
struct Scenario {
    what: String,
    image: String,
    /// The files of `certs.d`, by folder.
    folders: Vec<(String, String)>,
}

/// Both answers.
struct Row {
    what: String,
    containerd: Answer,
    ours: String,
}

// === impl Scenario ===

impl Scenario {
    /// An image of a registry that is asked by plain HTTP.
    fn plain(what: impl Into<String>, registry: &str, rest: &str) -> Self {
        let server = format!("server = \"http://{registry}\"\n");
        Self::with(what, format!("{registry}/{rest}"), registry, server)
    }

    fn with(
        what: impl Into<String>,
        image: impl Into<String>,
        registry: &str,
        toml: impl Into<String>,
    ) -> Self {
        let folder = match registry.split_once(':') {
            Some((host, port)) => format!("{host}_{port}_"),
            None => registry.to_owned(),
        };
        Self {
            what: what.into(),
            image: image.into(),
            folders: vec![(folder, toml.into())],
        }
    }

    async fn ask(self, containerd: &Path) -> Row {
        let folders = tempfile::tempdir().unwrap();
        for (name, text) in &self.folders {
            std::fs::create_dir(folders.path().join(name)).unwrap();
            std::fs::write(folders.path().join(name).join("hosts.toml"), text).unwrap();
        }
        let output = tokio::task::spawn_blocking({
            let (containerd, image) = (containerd.to_owned(), self.image.clone());
            let directory = folders.path().to_owned();
            move || {
                Command::new(containerd)
                    .arg("--hosts-dir")
                    .arg(directory)
                    .arg(image)
                    .output()
                    .unwrap()
            }
        });
        let output = output.await.unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {said}", self.what);
        let directory = folders.path().display();
        let client = client_of_config(&format!("hostsDirectory: '{directory}'"));
        let ours = match ImageReference::parse(&self.image) {
            Ok(_) => told(probe(&client, &self.image).await),
            Err(_) => "invalid".to_owned(),
        };
        Row {
            what: self.what,
            containerd: serde_json::from_slice(&output.stdout).unwrap(),
            ours,
        }
    }
}

// === impl Row ===

impl Row {
    /// What is wrong with our answer, beside containerd's.
    fn objection(&self) -> Option<&'static str> {
        let is_missing = self.ours.starts_with("missing");
        let is_refused = is_missing || self.ours == "invalid";
        match self.containerd.verdict.as_str() {
            "exists" if is_refused => Some("containerd pulls it"),
            "missing" | "exists" if self.ours == "invalid" => Some("containerd can read it"),
            verdict if is_missing && verdict != "missing" => {
                Some("containerd does not say missing")
            }
            "invalid" if self.ours != "invalid" => Some("containerd cannot read it"),
            _ => None,
        }
    }
}

/// What real registries cannot be made to do: the name of the repository says which.
fn scripted(asked: &Asked) -> Reply {
    let path = asked.path().strip_prefix("/v2/team/").unwrap_or_default();
    let (what, rest) = path.split_once('/').unwrap_or_default();
    let is_head = asked.method == "HEAD";
    let digest = format!("sha256:{}", "a".repeat(64));
    let exists = || {
        Reply::status(200)
            .header("Content-Type", "application/vnd.oci.image.manifest.v1+json")
            .header("Docker-Content-Digest", &digest)
            .body("{}")
    };
    let unknown = || Reply::error(404, "MANIFEST_UNKNOWN");
    if rest == "tags/list" {
        return match what {
            "contradicts" => Reply::tags(&["v1", "v2"]),
            "hides" => Reply::error(404, "NAME_UNKNOWN"),
            "tags-withheld" => Reply::error(401, "UNAUTHORIZED"),
            "tags-null" => Reply::status(200).json(&json!({"tags": null})),
            _ => Reply::tags(&["v2"]),
        };
    }
    match what {
        "no-digest" => Reply::status(200).body("{}"),
        "get-only" if is_head => Reply::status(405),
        "get-finds" if is_head => unknown(),
        "head-finds" if !is_head => unknown(),
        "get-only" | "get-finds" | "head-finds" | "exists" => exists(),
        "accept" => Reply::status(404).json(&json!({"errors": [{
            "code": "MANIFEST_UNKNOWN",
            "message": "OCI manifest found, but accept header does not support OCI manifests",
        }]})),
        "page-404" => Reply::html(404),
        "page-200" => Reply::html(200),
        "wordless" => Reply::status(404),
        "harbor" => Reply::error(404, "NOT_FOUND"),
        "redhat" => Reply::status(404)
            .json(&json!({"errors": [{"code": "UNKNOWN", "message": "Not Found"}]})),
        "no-repository" => Reply::error(404, "NAME_UNKNOWN"),
        "denied-404" => Reply::error(404, "DENIED"),
        "long" => exists().length(6 * 1024 * 1024),
        "schema-1" => {
            let kind = "application/vnd.docker.distribution.manifest.v1+prettyjws";
            let reply = Reply::status(200).header("Content-Type", kind);
            reply.header("Docker-Content-Digest", &digest).body("{}")
        }
        "blob" if rest.starts_with("blobs/") => exists(),
        "redirect" => Reply::status(307).header("Location", "/v2/team/exists/manifests/v1"),
        "redirect-nowhere" => Reply::status(307).header("Location", "http://10.9.0.9:5000/"),
        "loop" => Reply::status(307).header("Location", &asked.target),
        "broken" => Reply::status(0),
        "status-400" => Reply::error(400, "NAME_INVALID"),
        "status-401" => Reply::error(401, "UNAUTHORIZED"),
        "status-403" => Reply::error(403, "DENIED"),
        "status-429" => Reply::error(429, "TOOMANYREQUESTS"),
        "status-500" => Reply::error(500, "UNKNOWN"),
        "status-503" => Reply::error(503, "UNAVAILABLE"),
        "token-denied" | "token-useless" | "basic" => {
            let host = asked.header("host").unwrap();
            let challenge = match what {
                "token-denied" => format!("Bearer realm=\"http://{host}/v2/team/status-403/t\""),
                "token-useless" => format!("Bearer realm=\"http://{host}/v2/team/token/t\""),
                _ => "Basic realm=\"team\"".to_owned(),
            };
            Reply::error(401, "UNAUTHORIZED").header("WWW-Authenticate", &challenge)
        }
        "token" => Reply::status(200).json(&json!({"token": "of no use"})),
        _ => unknown(),
    }
}

/// The repositories of the scripted registry.
const BEHAVIOURS: &[&str] = &[
    "exists",
    "no-digest",
    "get-only",
    "get-finds",
    "head-finds",
    "accept",
    "page-404",
    "page-200",
    "wordless",
    "harbor",
    "redhat",
    "no-repository",
    "denied-404",
    "contradicts",
    "hides",
    "tags-withheld",
    "tags-null",
    "long",
    "schema-1",
    "redirect",
    "redirect-nowhere",
    "loop",
    "broken",
    "status-400",
    "status-401",
    "status-403",
    "status-429",
    "status-500",
    "status-503",
    "token-denied",
    "token-useless",
    "basic",
    "absent",
];

fn scenarios(registry: &Registry, pki: &Pki) -> Vec<Scenario> {
    let digest = registry.digests["team/app:v1"].as_str();
    let none = format!("sha256:{}", "b".repeat(64));
    let mut all = Vec::new();
    for (name, registry) in [
        ("3.1.2 open", OPEN),
        ("3.1.2 basic", BASIC),
        ("3.1.2 token", TOKEN),
        ("3.1.2 proxy", PROXY),
        ("2.8.2", DEBIAN),
        ("empty", EMPTY),
        ("nobody there", NOBODY),
    ] {
        for rest in RESTS {
            all.push(Scenario::plain(format!("{name}: {rest}"), registry, rest));
        }
    }
    all.push(Scenario::plain(
        "3.1.2 token: private",
        TOKEN,
        "private/app:v1",
    ));
    for (what, rest) in [
        ("a digest", format!("team/app@{digest}")),
        (
            "a digest under another tag",
            format!("team/app:v9@{digest}"),
        ),
        ("no such digest", format!("team/app@{none}")),
        ("no such digest under a tag", format!("team/app:v1@{none}")),
        ("a digest elsewhere", format!("team/nothing@{digest}")),
        ("latest", "team/app".to_owned()),
    ] {
        all.push(Scenario::plain(format!("3.1.2 open: {what}"), OPEN, &rest));
    }
    for rest in [
        "team/App:v1",
        "team/app:",
        "team/app@sha256:abc",
        "team/app:тег",
        "a//b",
    ] {
        all.push(Scenario::plain(format!("no reference: {rest}"), OPEN, rest));
    }
    for behaviour in BEHAVIOURS {
        let rest = format!("team/{behaviour}:v1");
        all.push(Scenario::plain(
            format!("scripted: {behaviour}"),
            SCRIPTED,
            &rest,
        ));
    }
    for behaviour in ["absent", "blob", "exists", "status-403"] {
        let what = format!("scripted: {behaviour}, by digest");
        all.push(Scenario::plain(
            what,
            SCRIPTED,
            &format!("team/{behaviour}@{none}"),
        ));
    }
    for rest in RESTS {
        let itself = |toml: &str| {
            let what = format!("HTTPS, {toml:?}: {rest}");
            Scenario::with(what, format!("1.1.1.1/{rest}"), "1.1.1.1", toml)
        };
        all.push(itself("# nothing"));
        let strange = |toml: &str| {
            let what = format!("HTTPS by an unknown authority, {}: {rest}", &toml[..2]);
            Scenario::with(what, format!("10.9.0.5/{rest}"), "10.9.0.5", toml)
        };
        let ca = pki.path("strange.crt");
        all.push(strange("# nothing"));
        all.push(strange(&format!("ca = {:?}", ca.display().to_string())));
        all.push(strange("skip_verify = true"));
    }
    all
}

/// Several hosts for one image, and hosts that may not be asked for everything.
fn chains(digest: &str) -> Vec<Scenario> {
    let mut all = Vec::new();
    for (mirror, name) in [
        (PROXY, "a proxy"),
        (EMPTY, "an empty registry"),
        (NOBODY, "nobody"),
        (BASIC, "one that wants credentials"),
        (SCRIPTED, "a scripted registry"),
    ] {
        for registry in [OPEN, EMPTY, BASIC] {
            for rest in RESTS {
                let toml = format!("server = \"http://{registry}\"\n[host.\"http://{mirror}\"]\n");
                let what = format!("{name} before {}: {rest}", &registry[..8]);
                all.push(Scenario::with(
                    what,
                    format!("{registry}/{rest}"),
                    registry,
                    toml,
                ));
            }
        }
    }
    for (capabilities, reference) in [
        ("[\"pull\"]", "team/app:v1".to_owned()),
        ("[\"pull\"]", "team/app:v9".to_owned()),
        ("[\"pull\"]", format!("team/app@{digest}")),
        ("[\"resolve\"]", "team/app:v1".to_owned()),
        ("[\"push\"]", "team/app:v1".to_owned()),
    ] {
        let toml = format!(
            "server = \"http://{EMPTY}\"\n[host.\"http://{OPEN}\"]\ncapabilities = {capabilities}\n"
        );
        let what = format!("a mirror for {capabilities}: {}", &reference[..11]);
        all.push(Scenario::with(
            what,
            format!("{EMPTY}/{reference}"),
            EMPTY,
            toml,
        ));
        let toml = format!("server = \"http://{OPEN}\"\ncapabilities = {capabilities}\n");
        let what = format!("a server for {capabilities}: {}", &reference[..11]);
        all.push(Scenario::with(
            what,
            format!("{OPEN}/{reference}"),
            OPEN,
            toml,
        ));
    }
    for rest in RESTS {
        let toml = format!("server = \"http://{OPEN}\"\n");
        let what = format!("_default is another server: {rest}");
        all.push(Scenario::with(
            what,
            format!("hub.example/{rest}"),
            "_default",
            toml,
        ));
        let toml = format!("[host.\"http://{OPEN}/v2\"]\noverride_path = true\n");
        let what = format!("a path, before a name of nowhere: {rest}");
        all.push(Scenario::with(
            what,
            format!("hub.example/{rest}"),
            "hub.example",
            toml,
        ));
    }
    all
}

#[test]
fn containerd_would_pull_nothing_that_is_refused() {
    let network = Network {
        addresses: ADDRESSES,
        names: &[],
        environment: &[],
    };
    let test = "registry::oracle::containerd_would_pull_nothing_that_is_refused";
    let containerd = go_program("containerd-resolver");
    let Some(pki) = network.enter(test) else {
        return;
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(compare(&containerd, &pki));
}

async fn compare(containerd: &Path, pki: &Pki) {
    let strange = Pki::new(&["10.9.0.5"]);
    std::fs::copy(strange.path("ca.crt"), pki.path("strange.crt")).unwrap();
    let images = ["team/app:v1", "team/app:v2"];
    let with = |address: &str, more: &[&str], images: &[&str]| {
        Registry::with(&[&["--listen", address], more].concat(), images)
    };
    let certificate = |pki: &Pki| {
        let path = |file| pki.path(file).display().to_string();
        (path("tls.crt"), path("tls.key"))
    };
    let user = ["--user", "team", "--password", "secret", "--auth"];
    let open = with(OPEN, &[], &images);
    let _basic = with(BASIC, &[&user[..], &["basic"]].concat(), &images);
    let _token = with(
        TOKEN,
        &[&user[..], &["token"]].concat(),
        &["team/app:v1", "private/app:v1"],
    );
    let _proxy = with(PROXY, &["--proxy", &open.server()], &[]);
    let (tls, key) = certificate(pki);
    let _https = with(HTTPS, &["--tls-cert", &tls, "--tls-key", &key], &images);
    let (tls, key) = certificate(&strange);
    let _strange = with(
        STRANGE_HTTPS,
        &["--tls-cert", &tls, "--tls-key", &key],
        &images,
    );
    let _empty = with(EMPTY, &[], &["team/app:other"]);
    let _debian = Debian::start(DEBIAN).await;
    push(DEBIAN, "team/app", "v1").await;
    let listener = TcpListener::bind(SCRIPTED).await.unwrap();
    let _scripted = Scripted::on(listener, None, scripted);

    let chains = chains(&open.digests["team/app:v1"]);
    let asked = scenarios(&open, pki)
        .into_iter()
        .chain(chains)
        .map(|scenario| scenario.ask(containerd).boxed());
    let mut rows: Vec<Row> = Vec::new();
    let mut asked = futures::stream::StreamExt::buffered(futures::stream::iter(asked), 8);
    while let Some(row) = futures::stream::StreamExt::next(&mut asked).await {
        rows.push(row);
    }
    // A cache whose registry is away, which real caches answer with 404.
    drop(open);
    for rest in ["team/app:v1", "team/app:v2", "team/app:v9"] {
        let what = format!("a proxy of a registry that is away: {rest}");
        let toml = format!("server = \"http://{OPEN}\"\n[host.\"http://{PROXY}\"]\n");
        let mirrored = Scenario::with(what, format!("{OPEN}/{rest}"), OPEN, toml);
        rows.push(mirrored.ask(containerd).await);
        let what = format!("the same by its own name: {rest}");
        rows.push(Scenario::plain(what, PROXY, rest).ask(containerd).await);
    }

    println!("| {:62} | {:8} | forestall", "scenario", "containerd");
    let mut objections = Vec::new();
    for row in &rows {
        let Row {
            what,
            containerd,
            ours,
        } = row;
        println!("| {what:62} | {:10} | {ours}", containerd.verdict);
        if let Some(objection) = row.objection() {
            objections.push(format!("{what}: {objection}; {}", containerd.error));
        }
    }
    assert!(objections.is_empty(), "{}", objections.join("\n"));
    // A comparison in which nothing exists, or nothing is missing, would say nothing.
    for verdict in ["exists", "missing", "invalid"] {
        let both = |row: &&Row| row.containerd.verdict == verdict && row.ours.starts_with(verdict);
        let count = rows.iter().filter(both).count();
        assert!(count >= 5, "only {count} of {} are {verdict}", rows.len());
    }
}
