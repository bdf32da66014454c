//! What is in an image: for which platforms it is built, and what it says of its process.

mod guardrail;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use forestall::evidence::ImagePlatforms;
use forestall::registry::Urgency;
use forestall::registry::credentials::PodCredentials;
use forestall::registry::{ImageContent, Part};
use serde_json::json;

use super::super::registry_server::Registry;
use super::*;

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const IMAGE_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG_TYPE: &str = "application/vnd.oci.image.config.v1+json";

fn digest(body: &str) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, body.as_bytes());
    digest
        .as_ref()
        .iter()
        .fold("sha256:".to_owned(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
}

/// What a registry has of one repository: each document by its path there.
#[derive(Clone, Default)]
struct Store {
    documents: BTreeMap<String, (&'static str, String)>,
    /// The digest of the tag.
    tagged: String,
}

impl Store {
    /// A manifest, which is what the tag means until there is another.
    fn manifest(&mut self, kind: &'static str, body: &str) -> String {
        self.tagged = digest(body);
        let path = format!("/v2/team/app/manifests/{}", self.tagged);
        self.documents.insert(path, (kind, body.to_owned()));
        self.tagged.clone()
    }

    /// An image whose process has this environment.
    fn image(&mut self, env: &str) -> String {
        let config = json!({"config": {"Env": [env], "Cmd": ["serve"]}}).to_string();
        let blob = digest(&config);
        let path = format!("/v2/team/app/blobs/{blob}");
        self.documents.insert(path, (CONFIG_TYPE, config));
        let manifest =
            json!({"schemaVersion": 2, "config": {"mediaType": CONFIG_TYPE, "digest": blob}});
        self.manifest(IMAGE_TYPE, &manifest.to_string())
    }

    /// An index of these platforms, and of images by their digests.
    fn index(&mut self, images: &[(&str, &str)]) -> String {
        let entries = images.iter().map(|(platform, digest)| {
            let (os, architecture) = platform.split_once('/').unwrap();
            json!({"digest": digest, "platform": {"os": os, "architecture": architecture}})
        });
        let index = json!({"schemaVersion": 2, "manifests": entries.collect::<Vec<_>>()});
        self.manifest(INDEX, &index.to_string())
    }

    async fn serve(self) -> Scripted {
        Scripted::start(move |asked| {
            let by_tag = format!("/v2/team/app/manifests/{}", self.tagged);
            let path = if asked.path().contains(':') {
                asked.path()
            } else {
                &by_tag
            };
            match self.documents.get(path) {
                Some((kind, body)) => Reply::status(200)
                    .header("Content-Type", kind)
                    .header(
                        "Docker-Content-Digest",
                        &path[path.rfind('/').unwrap() + 1..],
                    )
                    .body(body.clone()),
                None => Reply::error(404, "MANIFEST_UNKNOWN"),
            }
        })
        .await
    }
}

/// What was asked, such as `HEAD manifests/v1`; of a digest no more than its algorithm.
fn asked(registry: &Scripted) -> Vec<String> {
    let asked = registry.asked().into_iter().map(|asked| {
        let path = asked.path().strip_prefix("/v2/team/app/").unwrap();
        let path = path.split(':').next().unwrap();
        format!("{} {path}", asked.method)
    });
    asked.collect()
}

async fn content(client: &RegistryClient, image: &str, part: Part, urgency: Urgency) -> String {
    let by = Instant::now() + PATIENCE;
    let (image, pod) = (reference(image), PodCredentials::default());
    match client.content_for(&image, part, &pod, urgency, by).await {
        Ok(ImageContent::Platforms(ImagePlatforms::Any)) => "any".to_owned(),
        Ok(ImageContent::Platforms(ImagePlatforms::Only(platforms))) => {
            let words: Vec<_> = platforms.iter().map(ToString::to_string).collect();
            words.join(" ")
        }
        Ok(ImageContent::Config(config)) => config.env.join(" "),
        Err(unknown @ Unknown::BeingFetched(_)) => unknown.to_string(),
        other => told(Err(other.unwrap_err())),
    }
}

async fn platforms(client: &RegistryClient, image: &str) -> String {
    content(client, image, Part::Platforms, Urgency::Immediate).await
}

/// As `check` asks, which waits.
async fn env(client: &RegistryClient, image: &str) -> String {
    content(client, image, Part::Config, Urgency::Patient).await
}

/// As reviews ask, again and again until it is there.
async fn env_at_last(client: &RegistryClient, image: &str) -> String {
    let by = Instant::now() + PATIENCE;
    loop {
        let env = content(client, image, Part::Config, Urgency::Immediate).await;
        if !env.ends_with("being fetched") {
            return env;
        }
        assert!(Instant::now() < by, "{env}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn registry_case_104_and_105_only_an_index_names_platforms() {
    let mut both = Store::default();
    let image = both.image("A=1");
    let listed = [
        ("linux/arm64", &*image),
        ("linux/amd64", &image),
        ("unknown/unknown", &image),
    ];
    both.index(&listed);
    let (_, body) = both.documents[&format!("/v2/team/app/manifests/{}", both.tagged)].clone();
    for (kind, body, expected) in [
        (INDEX, &*body, "linux/amd64 linux/arm64"),
        (LIST, &body, "linux/amd64 linux/arm64"),
        (IMAGE_TYPE, &body, "any"),
        (INDEX, "evil", "gives an index that cannot be read"),
        (
            INDEX,
            &format!("[{}]", " ".repeat(5 * 1024 * 1024)),
            "answered with a manifest that is too long for a node",
        ),
    ] {
        let mut store = Store::default();
        store.manifest(kind, body);
        let registry = store.serve().await;
        assert_eq!(
            platforms(&client_of(&registry.url()), IMAGE).await,
            expected
        );
    }
    let absent = Scripted::start(absent).await;
    let answer = platforms(&client_of(&absent.url()), IMAGE).await;
    assert_eq!(answer, "has no such manifest");
}

#[tokio::test]
async fn a_manifest_is_fetched_once_for_all_tags_of_its_digest() {
    let mut store = Store::default();
    store.index(&[("linux/arm64", &digest("none"))]);
    let registry = store.serve().await;
    let client = client_of(&registry.url());
    for tag in ["v1", "v2", "v1"] {
        let image = format!("registry.test/team/app:{tag}");
        assert_eq!(platforms(&client, &image).await, "linux/arm64");
        // The same HEAD says that it exists.
        assert_eq!(told(probe(&client, &image).await), "exists");
    }
    assert_eq!(
        asked(&registry),
        [
            "HEAD manifests/v1",
            "GET manifests/sha256",
            "HEAD manifests/v2"
        ]
    );
}

#[tokio::test]
async fn a_mirror_answers_for_the_registry() {
    let mut store = Store::default();
    store.index(&[("linux/arm64", &digest("none"))]);
    let away = Scripted::start(|_| Reply::status(0)).await;
    let registry = store.serve().await;
    let client = client_of_config(&format!(
        "registries: {{registry.test: {{server: '{}', mirrors: ['{}']}}}}",
        registry.url(),
        away.url()
    ));
    assert_eq!(platforms(&client, IMAGE).await, "linux/arm64");
}

#[tokio::test]
async fn a_review_does_not_wait_for_a_configuration_and_the_next_one_has_it() {
    let mut store = Store::default();
    store.image("A=1");
    let registry = store.serve().await;
    let client = client_of(&registry.url());
    let first = content(&client, IMAGE, Part::Config, Urgency::Immediate).await;
    assert_eq!(
        first,
        "registry.test: the configuration of the image is being fetched"
    );
    assert_eq!(env_at_last(&client, IMAGE).await, "A=1");
    // The leader waits: nobody waits for it.
    let leader = client_of(&registry.url());
    let told = content(&leader, IMAGE, Part::Config, Urgency::Background).await;
    assert_eq!(told, "A=1");
    let other_tag = "registry.test/team/app:v2";
    let first = content(&client, other_tag, Part::Config, Urgency::Immediate).await;
    assert_eq!(first, "A=1");
    assert_eq!(
        asked(&registry),
        [
            "HEAD manifests/v1",
            "GET manifests/sha256",
            "GET blobs/sha256",
            "HEAD manifests/v1",
            "GET manifests/sha256",
            "GET blobs/sha256",
            "HEAD manifests/v2"
        ]
    );
}

#[tokio::test]
async fn a_hundred_reviews_at_once_are_one_fetch() {
    let mut store = Store::default();
    let digest = store.image("A=1");
    let image = format!("registry.test/team/app@{digest}");
    let registry = store.serve().await;
    let client = client_of(&registry.url());
    let reviews = (0..100).map(|_| content(&client, &image, Part::Config, Urgency::Immediate));
    for first in futures::future::join_all(reviews).await {
        assert!(first.ends_with("is being fetched"), "{first}");
    }
    assert_eq!(env_at_last(&client, &image).await, "A=1");
    assert_eq!(asked(&registry).len(), 3, "{:?}", asked(&registry));
}

#[tokio::test]
async fn of_an_index_the_image_for_linux_on_amd64_stands_for_all() {
    let mut store = Store::default();
    let (arm, intel) = (store.image("ARM=1"), store.image("INTEL=1"));
    store.index(&[("linux/arm64", &arm), ("linux/amd64", &intel)]);
    let registry = store.serve().await;
    let client = client_of(&registry.url());
    assert_eq!(env(&client, IMAGE).await, "INTEL=1");
    // The index is known from there, and not fetched again.
    assert_eq!(platforms(&client, IMAGE).await, "linux/amd64 linux/arm64");
    assert_eq!(
        asked(&registry),
        [
            "HEAD manifests/v1",
            "GET manifests/sha256",
            "GET manifests/sha256",
            "GET blobs/sha256"
        ]
    );
}

#[tokio::test]
async fn what_has_another_digest_is_not_believed() {
    let mut store = Store::default();
    store.image("A=1");
    let paths: Vec<String> = store.documents.keys().cloned().collect();
    for path in paths {
        let mut forged = store.clone();
        forged.documents.get_mut(&path).unwrap().1 += " ";
        let registry = forged.serve().await;
        assert_eq!(
            env(&client_of(&registry.url()), IMAGE).await,
            "gives another content than the digest's",
            "{path}"
        );
    }
}

#[tokio::test]
async fn what_one_repository_says_is_no_answer_for_another() {
    let mut store = Store::default();
    let digest = store.image("A=1");
    let registry = store.serve().await;
    // It says that it has that digest, and has nothing.
    let liar = Scripted::start(move |asked| match asked.method.as_str() {
        "HEAD" => Reply::status(200).header("Docker-Content-Digest", &digest),
        _ => Reply::error(404, "MANIFEST_UNKNOWN"),
    })
    .await;
    let client = client(&[
        ("registry.test", &registry.url()),
        ("liar.test", &liar.url()),
    ]);
    assert_eq!(env(&client, IMAGE).await, "A=1");
    let answer = env(&client, "liar.test/team/app:v1").await;
    assert_eq!(answer, "has no such manifest");
}

#[tokio::test]
async fn a_configuration_that_cannot_be_had_is_unknown() {
    type Change = fn(&mut Store, &str, &str);
    let cases: [(Change, &str); 6] = [
        (
            |store, _, blob| drop(store.documents.remove(blob)),
            "has no configuration of its image",
        ),
        (
            |store, manifest, _| drop(store.documents.remove(manifest)),
            "has no such manifest",
        ),
        (
            |store, _, _| drop(store.manifest(IMAGE_TYPE, "{}")),
            "has an image without a configuration",
        ),
        (
            |store, _, _| drop(store.manifest(IMAGE_TYPE, "evil")),
            "has an image without a configuration",
        ),
        (
            |store, _, _| {
                let (inner, outer) = (store.index(&[]), "linux/amd64");
                store.index(&[(outer, &inner)]);
            },
            "has an image without a configuration",
        ),
        (
            |store, _, _| {
                let config = format!("{{\"a\":\"{}\"}}", "x".repeat(2 * 1024 * 1024));
                let blob = digest(&config);
                let path = format!("/v2/team/app/blobs/{blob}");
                store.documents.insert(path, (CONFIG_TYPE, config));
                store.manifest(IMAGE_TYPE, &json!({"config": {"digest": blob}}).to_string());
            },
            "gave a longer answer than a registry gives",
        ),
    ];
    for (change, expected) in cases {
        let mut store = Store::default();
        store.image("A=1");
        let paths: Vec<String> = store.documents.keys().cloned().collect();
        let [blob, manifest] = paths.as_slice() else {
            panic!("{paths:?}");
        };
        change(&mut store, manifest, blob);
        let tagged = store.tagged.clone();
        let store = store.serve().await;
        // A HEAD finds even what is not there.
        let registry = Scripted::start({
            let url = store.url();
            move |asked| match asked.method.as_str() {
                "HEAD" => Reply::status(200).header("Docker-Content-Digest", &tagged),
                _ => Reply::status(307).header("Location", &format!("{url}{}", asked.target)),
            }
        })
        .await;
        let client = client(&[
            ("registry.test", &registry.url()),
            ("store.test", &store.url()),
        ]);
        assert_eq!(env(&client, IMAGE).await, expected);
        // A review is told so, too, and nothing is fetched anew for each.
        let before = registry.asked().len();
        assert_eq!(env_at_last(&client, IMAGE).await, expected);
        assert_eq!(registry.asked().len(), before);
    }
}

#[tokio::test]
async fn a_tag_without_a_digest_leads_to_no_content() {
    let registry = Scripted::start(|_| Reply::status(200).body("{}")).await;
    for told in ["", "evil", "sha256:0"] {
        let registry = match told {
            "" => registry.clone(),
            told => {
                let reply =
                    move |_: &Asked| Reply::status(200).header("Docker-Content-Digest", told);
                Scripted::start(reply).await
            }
        };
        let client = client_of(&registry.url());
        let answer = "does not say what its tag stands for";
        assert_eq!(env(&client, IMAGE).await, answer);
        assert_eq!(platforms(&client, IMAGE).await, answer);
    }
}

#[tokio::test]
async fn a_large_manifest_waits_for_other_large_ones_only() {
    let never = digest("never");
    let slow = Scripted::start({
        move |asked| match asked.method.as_str() {
            "HEAD" => Reply::status(200).header("Docker-Content-Digest", &never),
            // The rest of it does not come.
            _ => Reply::status(200)
                .body("{")
                .length(1024 * 1024)
                .then_silent(PATIENCE),
        }
    })
    .await;
    let mut store = Store::default();
    store.image("A=1");
    let registry = store.serve().await;
    let client = client(&[
        ("slow.test", &slow.url()),
        ("registry.test", &registry.url()),
    ]);
    let images: Vec<_> = (0..4).map(|tag| format!("slow.test/a{tag}:v1")).collect();
    let slowly = futures::future::join_all(images.iter().map(|image| env(&client, image)));
    let quickly = async {
        while slow.asked().len() < 8 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        env(&client, IMAGE).await
    };
    tokio::select! {
        _ = slowly => panic!("what never ends came before the rest"),
        env = quickly => assert_eq!(env, "A=1"),
    }
}

#[tokio::test]
async fn a_real_registry_says_what_an_image_says() {
    let registry = Registry::start(&["team/none:v1"]);
    let base = format!("http://{}/v2/team/app", registry.address);
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let config = json!({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers"},
                        "config": {"Env": ["PATH=/bin", "DEBUG=1"]}})
    .to_string();
    let begun = http.post(format!("{base}/blobs/uploads/")).send().await;
    let upload = begun.unwrap().headers()["location"]
        .to_str()
        .unwrap()
        .to_owned();
    let upload = format!("{upload}&digest={}", digest(&config));
    let put = http.put(upload).body(config.clone()).send().await.unwrap();
    assert!(put.status().is_success(), "{put:?}");
    let manifest = json!({
        "schemaVersion": 2, "mediaType": IMAGE_TYPE, "layers": [],
        "config": {"mediaType": CONFIG_TYPE, "digest": digest(&config), "size": config.len()},
    });
    let put = http.put(format!("{base}/manifests/v1"));
    let put = put
        .header("Content-Type", IMAGE_TYPE)
        .body(manifest.to_string());
    let put = put.send().await.unwrap();
    assert!(put.status().is_success(), "{put:?}");

    let client = client_of(&registry.server());
    assert_eq!(env(&client, IMAGE).await, "PATH=/bin DEBUG=1");
    // What the registry made itself has no configuration that anybody wrote.
    assert_eq!(
        platforms(&client, "registry.test/team/none:v1").await,
        "any"
    );
}
