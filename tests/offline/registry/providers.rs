//! Credential providers: programs that speak kubelet's protocol.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use forestall::config::Config;

use super::*;

/// A folder with one plug-in, a script of the shell, and a client that uses it.
struct Plugin {
    folder: tempfile::TempDir,
    client: RegistryClient,
}

impl Plugin {
    /// Where the script says `DIR`, it gets the folder.
    fn new(script: &str, setup: &str, server: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().display().to_string();
        let program = folder.path().join("plugin");
        fs::write(
            &program,
            format!("#!/bin/sh\n{}", script.replace("DIR", &path)),
        )
        .unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let providers = folder.path().join("providers.yaml");
        let setup = format!(
            "apiVersion: kubelet.config.k8s.io/v1\nkind: CredentialProviderConfig\nproviders:\n- name: plugin\n  \
             matchImages: [\"*.test\"]\n  defaultCacheDuration: 1h\n  apiVersion: credentialprovider.kubelet.k8s.io/v1\n{setup}"
        );
        fs::write(&providers, setup).unwrap();
        let config = format!(
            "credentialProviders: {{config: \"{}\", binDir: \"{path}\"}}\n\
             registries: {{registry.test: {{server: \"{server}\"}}, other.test: {{server: \"{server}\"}}}}",
            providers.display(),
        );
        let config = Config::parse("forestall.yaml", &config).unwrap();
        let client = RegistryClient::new(&config.registry(), Arc::new(Metrics::default()));
        Self {
            folder,
            client: client.unwrap(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// How often it ran, where its script counts.
    fn runs(&self) -> usize {
        self.read("runs").lines().count()
    }

    async fn ask(&self, image: &str) -> String {
        told(probe(&self.client, image).await)
    }
}

/// A script that counts its runs and gives the credentials `robot:secret`.
fn script(scope: &str, more: &str) -> String {
    format!(
        "cat > DIR/request; echo run >> DIR/runs; env > DIR/environment; echo \"$@\" > DIR/arguments\n\
         cat <<'END'\n\
         {{\"kind\":\"CredentialProviderResponse\",\"apiVersion\":\"credentialprovider.kubelet.k8s.io/v1\",\
         \"cacheKeyType\":\"{scope}\",{more}\"auth\":{{\"*.test\":{{\"username\":\"robot\",\"password\":\"secret\"}}}}}}\n\
         END\n"
    )
}

/// A registry that shows its images to the robot only: `cm9ib3Q6c2VjcmV0` is `robot:secret`.
async fn registry() -> Scripted {
    Scripted::start(|asked| match asked.header("authorization") {
        Some("basic cm9ib3q6c2vjcmv0") => Reply::status(200),
        _ => Reply::status(401).header("WWW-Authenticate", "Basic realm=\"x\""),
    })
    .await
}

#[tokio::test]
async fn a_plugin_is_asked_as_kubelet_asks_it_and_its_credentials_open_the_registry() {
    let registry = registry().await;
    let setup = "  args: [get-credentials, --verbose]\n  env: [{name: REGION, value: eu}]\n";
    let plugin = Plugin::new(&script("Registry", ""), setup, &registry.url());
    assert_eq!(plugin.ask("registry.test/team/app:v1").await, "exists");
    let request: serde_json::Value = serde_json::from_str(&plugin.read("request")).unwrap();
    assert_eq!(
        request,
        serde_json::json!({
            "kind": "CredentialProviderRequest",
            "apiVersion": "credentialprovider.kubelet.k8s.io/v1",
            // Without its tag, as kubelet writes it.
            "image": "registry.test/team/app",
        })
    );
    assert_eq!(plugin.read("arguments"), "get-credentials --verbose\n");
    let environment = plugin.read("environment");
    assert!(environment.contains("REGION=eu\n"), "{environment}");
    assert!(environment.contains("PATH="), "{environment}");
    // Cargo sets many of these, and no plug-in needs one.
    assert!(!environment.contains("CARGO"), "{environment}");
}

#[tokio::test]
async fn credentials_are_kept_for_as_much_as_the_plugin_says() {
    for (scope, runs) in [("Image", 3), ("Registry", 2), ("Global", 1)] {
        let registry = registry().await;
        let plugin = Plugin::new(&script(scope, ""), "", &registry.url());
        for image in [
            "registry.test/team/app:v1",
            "registry.test/team/app:v2",
            "registry.test/team/other:v1",
            "other.test/team/app:v1",
        ] {
            assert_eq!(plugin.ask(image).await, "exists");
        }
        assert_eq!(plugin.runs(), runs, "{scope}");
    }
}

#[tokio::test]
async fn many_who_ask_at_once_are_one_run() {
    let registry = registry().await;
    let script = format!(
        "sleep 0.3\n{}",
        script("Image", "\"cacheDuration\":\"0s\",")
    );
    let plugin = Plugin::new(&script, "", &registry.url());
    let images: Vec<String> = (0..50)
        .map(|tag| format!("registry.test/team/app:{tag}"))
        .collect();
    for told in futures::future::join_all(images.iter().map(|image| plugin.ask(image))).await {
        assert!(
            told == "exists" || told.contains("too many questions"),
            "{told}"
        );
    }
    assert_eq!(plugin.runs(), 1);
}

#[tokio::test]
async fn a_plugin_is_not_asked_about_images_that_it_is_not_for() {
    let registry = registry().await;
    let plugin = Plugin::new(&script("Global", ""), "", &registry.url());
    let answer = plugin.ask("127.0.0.1:1/team/app:v1").await;
    assert_eq!(
        answer,
        "means the machine that pulls, so it is not asked from here"
    );
    assert_eq!(plugin.runs(), 0);
}

#[tokio::test]
async fn what_fails_is_unknown_and_nothing_is_asked_without_credentials() {
    let good = script("Image", "");
    let failing =
        |problem: &str| format!("was not asked: the credential provider plugin {problem}");
    let no_response = "wrote no CredentialProviderResponse of the version that it was asked for";
    for (script, problem) in [
        ("echo evil >&2; exit 3".to_owned(), "failed"),
        (format!("{good}exit 1"), "failed"),
        ("echo evil".to_owned(), no_response),
        ("exec >/dev/null".to_owned(), no_response),
        (
            good.replace("kubelet.k8s.io/v1", "kubelet.k8s.io/v1beta1"),
            no_response,
        ),
        (
            good.replace("CredentialProviderResponse", "Pod"),
            no_response,
        ),
        (script_of_scope("Namespace"), no_response),
        (
            good.replace("\"auth\"", "\"cacheDuration\":\"soon\",\"auth\""),
            no_response,
        ),
        ("yes evil".to_owned(), "wrote more than 65536 bytes"),
    ] {
        let registry = registry().await;
        let plugin = Plugin::new(&script, "", &registry.url());
        let begun = Instant::now();
        assert_eq!(plugin.ask(IMAGE).await, failing(problem), "{script}");
        assert!(begun.elapsed() < Duration::from_secs(5), "{script}");
        assert_eq!(registry.connections(), 0);
    }
    // No program to start.
    let registry = registry().await;
    let plugin = Plugin::new(&good, "", &registry.url());
    fs::write(plugin.path("plugin"), "#!/nowhere\n").unwrap();
    assert_eq!(plugin.ask(IMAGE).await, failing("cannot be started"));
}

fn script_of_scope(scope: &str) -> String {
    script(scope, "")
}

#[tokio::test]
async fn a_plugin_without_credentials_for_an_image_leaves_it_to_be_asked_without() {
    let registry = Scripted::start(|_| Reply::status(200)).await;
    let none = script("Image", "").replace("\"*.test\"", "\"elsewhere.test\"");
    let plugin = Plugin::new(&none, "", &registry.url());
    assert_eq!(plugin.ask(IMAGE).await, "exists");
    assert_eq!(plugin.runs(), 1);
}

#[tokio::test]
async fn a_plugin_that_hangs_is_ended_with_what_it_started_and_left_alone() {
    let registry = registry().await;
    let hanging = "echo run >> DIR/runs; sleep 300 & echo $! > DIR/child; wait";
    let plugin = Plugin::new(hanging, "", &registry.url());
    // The review does not wait for it.
    let begun = Instant::now();
    let answer = plugin
        .client
        .probe(&reference(IMAGE), begun + Duration::from_millis(300))
        .await;
    assert_eq!(
        told(answer),
        "was not asked: the credential provider did not answer in time"
    );
    assert!(begun.elapsed() < Duration::from_secs(2));
    let answer = plugin.ask(IMAGE).await;
    assert_eq!(
        answer,
        "was not asked: the credential provider plugin did not answer within 10 s"
    );
    assert!(
        begun.elapsed() < Duration::from_secs(15),
        "{:?}",
        begun.elapsed()
    );
    let child = plugin.read("child");
    let process = Path::new("/proc").join(child.trim());
    while fs::read_to_string(process.join("stat")).is_ok_and(|stat| !stat.contains(") Z ")) {
        assert!(
            begun.elapsed() < Duration::from_secs(20),
            "{child} still runs"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // Not at once again.
    plugin.ask(IMAGE).await;
    assert_eq!(plugin.runs(), 1);
}
