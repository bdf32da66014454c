use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::super::RegistryClient;
use super::*;
use crate::config::Config;
use crate::image::MissingPart;
use crate::registry::RegistrySettings;
use crate::report::metrics::Metrics;

fn missing(tags: usize) -> Found {
    Found::from(ImageState::Missing(Missing {
        what: MissingPart::Tag,
        asked: String::new(),
        tags: Arc::new(vec!["v1.2.3".to_owned(); tags]),
        holder: Ok(None),
    }))
}

fn exists() -> Found {
    Found::from(ImageState::Exists)
}

#[test]
fn registry_case_73_what_may_change_soon_is_asked_again_soon() {
    let reference = |text: &str| ImageReference::parse(text).unwrap().pulled();
    let tag = reference("nginx:1");
    let digest = reference(&format!("nginx@sha256:{}", "a".repeat(64)));
    for (image, answer, seconds) in [
        (&tag, Ok(exists()), 600),
        (&digest, Ok(exists()), 86_400),
        (&tag, Ok(missing(0)), 30),
        (&digest, Ok(missing(0)), 30),
        (&tag, Err(ProbeError::Denied(401)), 60),
        (&tag, Err(ProbeError::Status(500)), 5),
        (&tag, Err(ProbeError::TimedOut), 5),
        (
            &tag,
            Err(ProbeError::TokenServer(Box::new(ProbeError::Denied(403)))),
            60,
        ),
    ] {
        let lifetime = lifetime(image, &answer);
        assert_eq!(lifetime.as_secs(), seconds, "{answer:?}");
    }
}

/// A registry whose status can be changed; 0 ends the connection without an answer.
struct Registry {
    address: std::net::SocketAddr,
    status: Arc<AtomicU16>,
    asked: Arc<AtomicUsize>,
}

impl Registry {
    async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let registry = Self {
            address: listener.local_addr().unwrap(),
            status: Arc::new(AtomicU16::new(200)),
            asked: Arc::default(),
        };
        let (status, asked) = (Arc::clone(&registry.status), Arc::clone(&registry.asked));
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = [0; 1024];
                assert!(stream.read(&mut request).await.unwrap() > 0);
                asked.fetch_add(1, Ordering::SeqCst);
                let status = status.load(Ordering::SeqCst);
                let body = match status {
                    404 => r#"{"errors":[{"code":"MANIFEST_UNKNOWN"}]}"#,
                    _ => "",
                };
                let length = body.len();
                let head = format!("HTTP/1.1 {status} Said\r\nConnection: close\r\n");
                let answer = format!("{head}Content-Length: {length}\r\n\r\n{body}");
                // It takes a moment, in which others may ask for the same.
                tokio::time::sleep(Duration::from_millis(50)).await;
                if status != 0 {
                    stream.write_all(answer.as_bytes()).await.unwrap();
                }
            }
        });
        registry
    }

    fn client(&self) -> RegistryClient {
        let server = format!("server: 'http://{}'", self.address);
        let yaml = format!("registries: {{registry.test: {{{server}}}}}");
        let config = Config::parse("config.yaml", &yaml).unwrap();
        RegistryClient::new(&config.registry(), Arc::new(Metrics::default())).unwrap()
    }

    fn says(&self, status: u16) {
        self.status.store(status, Ordering::SeqCst);
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

fn image() -> ImageReference {
    ImageReference::parse("registry.test/a:1").unwrap()
}

/// Waits until nothing goes on behind the answers.
async fn quiet(client: &RegistryClient) {
    let flight = Flight::Image(client.0.asked(&image(), None));
    let by = Instant::now() + Duration::from_secs(20);
    while client.0.single_flight.begin(flight.clone()).is_none() {
        assert!(Instant::now() < by);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn probe(client: &RegistryClient, urgency: Urgency) -> Result<ImageState, Unknown> {
    let (nobody, by) = (
        PodCredentials::default(),
        Instant::now() + Duration::from_secs(20),
    );
    client.probe_for(&image(), &nobody, urgency, by).await
}

#[tokio::test]
async fn registry_case_74_an_image_that_existed_is_believed_while_its_registry_is_away() {
    let registry = Registry::start().await;
    let client = registry.client();
    let new = ImageReference::parse("registry.test/a:new").unwrap();
    let by = Instant::now() + Duration::from_secs(20);
    assert_eq!(
        probe(&client, Urgency::Patient).await,
        Ok(ImageState::Exists)
    );
    client.0.answers.invalidate_all();
    registry.says(0);
    for urgency in [Urgency::Patient, Urgency::Background, Urgency::Immediate] {
        let answer = probe(&client, urgency).await;
        assert_eq!(answer, Ok(ImageState::Exists), "{urgency:?}");
    }
    assert!(client.probe(&new, by).await.is_err());
    // A registry that is there and will not say is another matter, then and from then on.
    client.0.answers.invalidate_all();
    registry.says(401);
    for status in [401, 0] {
        registry.says(status);
        assert!(probe(&client, Urgency::Patient).await.is_err());
        client.0.answers.invalidate_all();
    }
}

#[tokio::test]
async fn a_review_is_told_at_once_of_an_image_that_existed_and_it_is_asked_anew_once() {
    let registry = Registry::start().await;
    let client = registry.client();
    assert_eq!(
        probe(&client, Urgency::Immediate).await,
        Ok(ImageState::Exists)
    );
    assert_eq!(registry.asked(), 1);
    // Ten minutes later.
    client.0.answers.invalidate_all();
    for _ in 0..20 {
        let by = Instant::now();
        assert_eq!(client.probe(&image(), by).await, Ok(ImageState::Exists));
    }
    quiet(&client).await;
    assert_eq!(registry.asked(), 2);
    // Now it is known afresh.
    assert_eq!(
        probe(&client, Urgency::Immediate).await,
        Ok(ImageState::Exists)
    );
    assert_eq!(registry.asked(), 2);
}

#[tokio::test]
async fn registry_case_73_an_image_that_is_gone_is_found_out_behind_and_missing_is_never_stale() {
    let registry = Registry::start().await;
    let client = registry.client();
    assert_eq!(
        probe(&client, Urgency::Immediate).await,
        Ok(ImageState::Exists)
    );
    registry.says(404);
    client.0.answers.invalidate_all();
    assert_eq!(
        probe(&client, Urgency::Immediate).await,
        Ok(ImageState::Exists)
    );
    quiet(&client).await;
    // HEAD, GET and the list of tags.
    assert_eq!(registry.asked(), 4);
    let answer = probe(&client, Urgency::Immediate).await;
    assert!(matches!(answer, Ok(ImageState::Missing(_))), "{answer:?}");
    // Half a minute later it may have been pushed, and a review waits to know.
    registry.says(200);
    client.0.answers.invalidate_all();
    assert_eq!(
        probe(&client, Urgency::Immediate).await,
        Ok(ImageState::Exists)
    );
    // What judges the cluster, and files, is not told what was.
    registry.says(404);
    for urgency in [Urgency::Background, Urgency::Patient] {
        client.0.answers.invalidate_all();
        let answer = probe(&client, urgency).await;
        assert!(matches!(answer, Ok(ImageState::Missing(_))), "{answer:?}");
    }
}

#[tokio::test]
async fn docker_hub_is_not_asked_for_more_configurations_than_it_gives() {
    let client =
        RegistryClient::new(&RegistrySettings::default(), Arc::new(Metrics::default())).unwrap();
    let inner = &client.0;
    while inner.limits.spend_a_pull(Instant::now()).is_ok() {}
    let image = ImageReference::parse("nginx:1").unwrap();
    let asked = inner.asked(&image, None);
    let chain = inner.chain(&image).unwrap();
    let pinned = Pinned {
        repository: image.repository.clone(),
        digest: format!("sha256:{}", "a".repeat(64)),
    };
    let by = Instant::now() + PROBE;
    let asking = inner.asking(&asked, None, Priority::Awaited, by);
    let fetched = asking.fetch(&chain, &inner.contents, &pinned, Part::Config);
    assert!(matches!(fetched.await, Err(ProbeError::Spent(20))));
}

#[test]
fn an_answer_weighs_what_its_tags_weigh() {
    let image = Asked {
        image: ImageReference::parse("nginx").unwrap(),
        fingerprint: None,
    };
    assert_eq!(weight(&image, &Arc::new(Ok(exists()))), 1);
    assert_eq!(weight(&image, &Arc::new(Ok(missing(0)))), 1);
    let many = weight(&image, &Arc::new(Ok(missing(20_000))));
    assert!((500..1000).contains(&many), "{many}");
}
