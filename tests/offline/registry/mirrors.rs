//! Several hosts for one registry: mirrors before it, or a server instead of it.

use super::*;

/// A registry that is asked under its own address, after mirrors.
struct Site {
    registry: Scripted,
    mirror: Scripted,
    /// What is configured of the mirror beside its address.
    mirror_settings: &'static str,
}

impl Site {
    async fn start(
        mirror: impl Fn(&Asked) -> Reply + Send + Sync + 'static,
        registry: impl Fn(&Asked) -> Reply + Send + Sync + 'static,
    ) -> Self {
        Self {
            registry: Scripted::start(registry).await,
            mirror: Scripted::start(mirror).await,
            mirror_settings: "",
        }
    }

    fn client(&self) -> RegistryClient {
        client_of_config(&format!(
            "registries: {{'{}': {{plainHttp: true, mirrors: [{{url: '{}'{}}}]}}}}",
            self.registry.address,
            self.mirror.url(),
            self.mirror_settings
        ))
    }

    fn image(&self) -> String {
        format!("{}/team/app:v1", self.registry.address)
    }

    async fn answer(&self) -> Result<ImageState, Unknown> {
        probe(&self.client(), &self.image()).await
    }

    async fn told(&self) -> String {
        told(self.answer().await)
    }

    /// An answer about the mirror, as it is told.
    fn of_mirror(&self, why: &str) -> String {
        format!("has a mirror, {}, that {why}", self.mirror.address)
    }
}

fn exists(_: &Asked) -> Reply {
    Reply::status(200)
}

#[tokio::test]
async fn an_image_of_the_mirror_is_asked_of_nobody_else() {
    let site = Site::start(exists, absent).await;
    assert_eq!(site.told().await, "exists");
    assert_eq!(site.mirror.asked().len(), 1);
    assert_eq!(site.registry.connections(), 0);
}

#[tokio::test]
async fn registry_case_54_what_the_mirror_lacks_the_registry_may_have() {
    let site = Site::start(absent, exists).await;
    assert_eq!(site.told().await, "exists");
    // A look at the mirror is enough where it need not be proven.
    assert_eq!(site.mirror.asked().len(), 1);
}

#[tokio::test]
async fn registry_case_55_what_all_lack_is_missing_and_all_are_named() {
    let site = Site::start(absent, absent).await;
    let Ok(ImageState::Missing(missing)) = site.answer().await else {
        panic!("not missing");
    };
    let (registry, mirror) = (&site.registry.address, &site.mirror.address);
    let expected = format!("{mirror} (for {registry}, anonymous), {registry} (anonymous)");
    assert_eq!(missing.asked, expected);
    assert_eq!(*missing.tags, ["v2", "v3"]);
}

#[tokio::test]
async fn registry_case_56_a_registry_that_will_not_say_may_have_what_the_mirror_lacks() {
    let site = Site::start(absent, |_| Reply::error(401, "UNAUTHORIZED")).await;
    let denied = "answered 401: it does not say whether the image is there";
    assert_eq!(site.told().await, denied);
    // The same where it may only hide what it has.
    let hides = |asked: &Asked| match asked.path() {
        TAGS => Reply::error(404, "NAME_UNKNOWN"),
        _ => Reply::error(404, "MANIFEST_UNKNOWN"),
    };
    let site = Site::start(absent, hides).await;
    let hidden = "shows nothing of that repository without credentials, so it may hide it";
    assert_eq!(site.told().await, hidden);
}

#[tokio::test]
async fn registry_case_57_a_mirror_that_is_away_keeps_nobody_from_the_registry() {
    for (reply, why) in [
        (Reply::status(0), "broke off before the end of its answer"),
        (Reply::status(500), "answered 500"),
        (
            Reply::status(401),
            "answered 401: it does not say whether the image is there",
        ),
        (
            Reply::html(200),
            "answered with a page for people, as no registry does",
        ),
        (Reply::status(200).after(PATIENCE), "did not answer in time"),
    ] {
        let mirror = |reply: &Reply| {
            let reply = reply.clone();
            move |_: &Asked| reply.clone()
        };
        let site = Site::start(mirror(&reply), exists).await;
        assert_eq!(site.told().await, "exists", "{why}");
        // It may have what the registry lacks.
        let site = Site::start(mirror(&reply), absent).await;
        assert_eq!(site.told().await, site.of_mirror(why));
    }
}

#[tokio::test]
async fn registry_case_58_a_cache_proves_what_is_there_and_never_what_is_not() {
    for (role, expected) in [
        ("", "missing Tag [v2 v3]"),
        (", role: replica", "missing Tag [v2 v3]"),
        (
            ", role: proxy",
            "is asked through a cache, which does not say whether there is such an image",
        ),
    ] {
        let server = Scripted::start(absent).await;
        let client = client_of_config(&format!(
            "registries: {{registry.test: {{server: {{url: '{}'{role}}}}}}}",
            server.url()
        ));
        assert_eq!(told(probe(&client, IMAGE).await), expected, "{role:?}");

        let server = Scripted::start(exists).await;
        let client = client_of_config(&format!(
            "registries: {{registry.test: {{server: {{url: '{}'{role}}}}}}}",
            server.url()
        ));
        assert_eq!(told(probe(&client, IMAGE).await), "exists", "{role:?}");
    }
    // Where the registry itself is asked too, its word is the proof.
    let mut site = Site::start(absent, absent).await;
    site.mirror_settings = ", role: proxy";
    assert_eq!(site.told().await, "missing Tag [v2 v3]");
    assert_eq!(site.mirror.asked().len(), 1);
}

#[tokio::test]
async fn registry_case_59_a_mirror_for_digests_is_not_asked_for_a_tag() {
    let mut site = Site::start(exists, exists).await;
    site.mirror_settings = ", capabilities: [pull]";
    assert_eq!(site.told().await, "exists");
    assert_eq!(site.mirror.connections(), 0);
    let image = format!("{}@sha256:{}", site.image(), "a".repeat(64));
    assert_eq!(told(probe(&site.client(), &image).await), "exists");
    assert_eq!(site.mirror.connections(), 1);

    let server = Scripted::start(absent).await;
    let client = client_of_config(&format!(
        "registries: {{registry.test: {{server: {{url: '{}', capabilities: [pull]}}}}}}",
        server.url()
    ));
    let nobody = "has no host with the capability to resolve a tag";
    assert_eq!(told(probe(&client, IMAGE).await), nobody);
}

#[tokio::test]
async fn a_digest_is_missing_if_no_mirror_has_its_blob_either() {
    let digest = format!("sha256:{}", "a".repeat(64));
    let blob = format!("/v2/team/app/blobs/{digest}");
    let has_blob = {
        let blob = blob.clone();
        move |asked: &Asked| match asked.path() {
            path if path == blob => Reply::status(200),
            _ => absent(asked),
        }
    };
    for (mirror_settings, has, expected) in [
        ("", false, "missing Digest []"),
        (", role: proxy", false, "missing Digest []"),
        (", role: proxy", true, "contradicts itself"),
    ] {
        let mut site = if has {
            Site::start(has_blob.clone(), absent).await
        } else {
            Site::start(absent, absent).await
        };
        site.mirror_settings = mirror_settings;
        let image = format!("{}@{digest}", site.image());
        let told = told(probe(&site.client(), &image).await);
        assert!(told.contains(expected), "{told}");
        assert_eq!(site.mirror.count("HEAD", &blob), 1);
    }
}

#[tokio::test]
async fn registry_case_60_a_mirror_is_told_for_which_registry() {
    let site = Site::start(absent, absent).await;
    site.told().await;
    let namespace = format!("ns={}", site.registry.address.replace(':', "%3A"));
    for asked in site.mirror.asked() {
        assert!(asked.target.contains(&namespace), "{}", asked.target);
    }
    for asked in site.registry.asked() {
        assert!(!asked.target.contains("ns="), "{}", asked.target);
    }
}

#[tokio::test]
async fn registry_case_62_a_token_of_the_registry_goes_to_no_mirror() {
    let registry = |asked: &Asked| match asked.header("authorization") {
        _ if asked.path() == "/token" => Reply::status(200).body("{\"token\":\"good\"}"),
        Some("bearer good") => absent(asked),
        _ => {
            let host = asked.header("host").unwrap();
            let bearer = format!("Bearer realm=\"http://{host}/token\"");
            Reply::status(401).header("WWW-Authenticate", &bearer)
        }
    };
    let site = Site::start(absent, registry).await;
    let client = site.client();
    for tag in ["v1", "v9"] {
        let image = format!("{}/team/app:{tag}", site.registry.address);
        assert_eq!(told(probe(&client, &image).await), "missing Tag [v2 v3]");
    }
    for asked in site.mirror.asked() {
        assert_eq!(asked.header("authorization"), None, "{}", asked.target);
    }
}

#[tokio::test]
async fn images_that_another_webhook_rewrites_are_asked_for_as_nodes_see_them() {
    let mirror = Scripted::start(|asked| match asked.path() {
        "/v2/hub/prom/prometheus/manifests/v1" => Reply::status(200),
        TAGS => Reply::tags(&["v2"]),
        _ => Reply::error(404, "MANIFEST_UNKNOWN"),
    })
    .await;
    let client = client_of_config(&format!(
        r"
registries:
  registry.test: {{server: '{}'}}
imageRewrites:
  - {{from: '^docker\.io/library/', to: '//'}}
  - {{from: '^docker\.io/', to: registry.test/hub/}}
",
        mirror.url()
    ));
    assert_eq!(told(probe(&client, "prom/prometheus:v1").await), "exists");
    let missing = told(probe(&client, "prom/prometheus:v2").await);
    assert_eq!(missing, "missing Tag []");
    // What is rewritten already is asked for as it is.
    assert_eq!(told(probe(&client, IMAGE).await), "missing Tag [v2]");
    let nothing = "has an image that imageRewrites make no reference of";
    assert_eq!(told(probe(&client, "nginx").await), nothing);
}
