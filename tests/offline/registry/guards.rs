//! The guards, where the addresses that they keep away from are real: in a network of its own, the
//! metadata service, the API server and the rest are listeners that must never see a connection,
//! and a registry of the public Internet has a certificate that the system trusts.

use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::net::{TcpListener, UdpSocket};

use super::super::network::Network;
use super::super::pki::Pki;
use super::*;

/// Addresses that must never be dialled unasked.
const INSIDE: &[&str] = &[
    "10.0.0.1",
    "10.96.0.1",
    "100.100.100.200",
    "169.254.169.254",
    "169.254.170.23",
    "127.0.0.1",
    "192.168.0.1",
    "fd00:ec2::254",
    "fd00::1",
];

/// Addresses of the public Internet.
const REGISTRY: &str = "1.1.1.1";
const TOKENS: &str = "1.0.0.1";
const MIRROR: &str = "8.8.8.8";

const NAMES: &[(&str, &str)] = &[
    ("registry.example", REGISTRY),
    ("tokens.example", TOKENS),
    ("mirror.example", MIRROR),
    ("inside.example", "10.0.0.1"),
    ("metadata.example", "169.254.169.254"),
    ("loopback.example", "127.0.0.1"),
    ("six.example", "fd00::1"),
    ("mixed.example", "169.254.169.254"),
    ("mixed.example", "10.0.0.1"),
    ("mixed.example", REGISTRY),
    ("kubernetes.default", "10.96.0.1"),
    ("kubernetes.default.svc", "10.96.0.1"),
    ("metadata.google.internal", "169.254.169.254"),
];

const NEVER: &str = "is a link-local, metadata or multicast address, which is never asked";
const LOOPBACK: &str = "means the machine that pulls, so it is not asked from here";
const INTERNAL: &str =
    "is inside a private network and has no entry in registries, so it is not asked";
const PLAIN: &str = "is not reached by https, so it is not asked";

/// The image that the public registry is asked for.
const PUBLIC: &str = "registry.example/team/app:v1";

/// What is in the network.
struct World {
    pki: Pki,
    /// Where somebody connected to who should not.
    caught: Arc<Mutex<Vec<SocketAddr>>>,
}

impl World {
    async fn new(pki: Pki) -> Self {
        let caught: Arc<Mutex<Vec<SocketAddr>>> = Arc::default();
        for address in INSIDE {
            for port in [80, 443, 6443] {
                let address = SocketAddr::new(address.parse().unwrap(), port);
                let witness = TcpListener::bind(address).await.unwrap();
                let caught = Arc::clone(&caught);
                tokio::spawn(async move {
                    while let Ok((stream, _)) = witness.accept().await {
                        caught.lock().unwrap().push(stream.local_addr().unwrap());
                    }
                });
            }
        }
        Self { pki, caught }
    }

    /// A host of the public Internet that answers by this script.
    async fn public(
        &self,
        address: &str,
        script: impl Fn(&Asked) -> Reply + Send + Sync + 'static,
    ) -> Scripted {
        let listener = TcpListener::bind((address, 443)).await.unwrap();
        Scripted::on(listener, Some(self.pki.server()), script)
    }

    /// What comes of asking for an image where nothing is configured.
    async fn told(&self, image: &str) -> String {
        self.told_by(image, || client(&[])).await
    }

    /// What comes of asking new clients. A machine that is busy may take longer for a handshake than
    /// a registry gets, so there are several.
    async fn told_by(&self, image: &str, client: impl Fn() -> RegistryClient) -> String {
        for _ in 0..5 {
            let answer = told(probe(&client(), image).await);
            if !answer.ends_with("did not answer in time") {
                return answer;
            }
        }
        panic!("{image}: five times no answer in time");
    }

    fn nobody_was_caught(&self) {
        let caught = self.caught.lock().unwrap();
        assert!(caught.is_empty(), "connected to {caught:?}");
    }
}

/// Runs the test in its network.
fn inside(name: &str, test: impl AsyncFnOnce(&World)) {
    let addresses = [INSIDE, &[REGISTRY, TOKENS, MIRROR]].concat();
    let network = Network {
        addresses: &addresses,
        names: NAMES,
        // Case 88: a proxy of the environment is ignored.
        environment: &[
            ("HTTPS_PROXY", "http://10.0.0.1"),
            ("ALL_PROXY", "http://10.0.0.1"),
        ],
    };
    let Some(pki) = network.enter(&format!("registry::guards::{name}")) else {
        return;
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let world = World::new(pki).await;
        test(&world).await;
        world.nobody_was_caught();
    });
}

fn bearer(realm: &str) -> Reply {
    Reply::status(401).header("WWW-Authenticate", &format!("Bearer realm=\"{realm}\""))
}

/// The answers where the public registry sends its clients to these realms for a token.
async fn realms(world: &World, cases: &[(&str, &str)]) {
    let realm = Arc::new(Mutex::new(String::new()));
    let shown = Arc::clone(&realm);
    let _registry = world
        .public(REGISTRY, move |_| bearer(&shown.lock().unwrap()))
        .await;
    for (address, refusal) in cases {
        (*address).clone_into(&mut realm.lock().unwrap());
        let expected = format!("sends its clients for a token to a server that {refusal}");
        assert_eq!(world.told(PUBLIC).await, expected, "{address}");
        world.nobody_was_caught();
    }
}

/// The answers where the public registry redirects to these addresses.
async fn redirects(world: &World, cases: &[(&str, &str)]) {
    let location = Arc::new(Mutex::new(String::new()));
    let shown = Arc::clone(&location);
    let _registry = world
        .public(REGISTRY, move |_| {
            Reply::status(307).header("Location", &shown.lock().unwrap())
        })
        .await;
    for (address, refusal) in cases {
        (*address).clone_into(&mut location.lock().unwrap());
        let expected = format!("redirects to a host that {refusal}");
        assert_eq!(world.told(PUBLIC).await, expected, "{address}");
        world.nobody_was_caught();
    }
}

#[test]
fn a_registry_of_the_public_internet_is_asked_without_being_configured() {
    inside(
        "a_registry_of_the_public_internet_is_asked_without_being_configured",
        async |world| {
            let _registry = world.public(REGISTRY, absent).await;
            assert_eq!(world.told(PUBLIC).await, "missing Tag [v2 v3]");
        },
    );
}

#[test]
fn registry_case_75_a_realm_at_the_metadata_service_is_not_asked() {
    inside(
        "registry_case_75_a_realm_at_the_metadata_service_is_not_asked",
        async |world| {
            realms(
                world,
                &[
                    ("http://169.254.169.254/latest/meta-data", PLAIN),
                    ("https://169.254.169.254/latest/meta-data", NEVER),
                    ("https://0xa9.0xfe.0xa9.0xfe/latest", NEVER),
                    ("https://2852039166/latest", NEVER),
                    ("https://[::ffff:169.254.169.254]/", NEVER),
                    ("https://[fd00:ec2::254]/", NEVER),
                    ("https://100.100.100.200/", NEVER),
                    ("https://169.254.170.23/v1/credentials", NEVER),
                    ("https://metadata.google.internal/", NEVER),
                ],
            )
            .await;
        },
    );
}

#[test]
fn registry_case_76_a_realm_on_this_machine_is_not_asked() {
    inside(
        "registry_case_76_a_realm_on_this_machine_is_not_asked",
        async |world| {
            realms(
                world,
                &[
                    ("https://127.0.0.1/token", LOOPBACK),
                    ("https://localhost/token", LOOPBACK),
                    ("http://localhost/token", PLAIN),
                    ("https://127.1:6443/token", LOOPBACK),
                    ("https://[::ffff:7f00:1]/token", LOOPBACK),
                ],
            )
            .await;
        },
    );
}

#[test]
fn registry_case_79_a_realm_whose_name_leads_inside_is_not_asked() {
    inside(
        "registry_case_79_a_realm_whose_name_leads_inside_is_not_asked",
        async |world| {
            realms(
                world,
                &[
                    ("https://inside.example/token", INTERNAL),
                    ("https://INSIDE.example./token", INTERNAL),
                    ("https://metadata.example/token", NEVER),
                    ("https://loopback.example/token", LOOPBACK),
                    ("https://six.example/token", INTERNAL),
                ],
            )
            .await;
        },
    );
}

#[test]
fn registry_case_80_of_several_addresses_only_the_public_one_is_dialled() {
    inside(
        "registry_case_80_of_several_addresses_only_the_public_one_is_dialled",
        async |world| {
            let _registry = world.public(REGISTRY, |_| Reply::status(200)).await;
            for tag in ["v1", "v2", "v3"] {
                let image = format!("mixed.example/team/app:{tag}");
                assert_eq!(world.told(&image).await, "exists");
            }
        },
    );
}

#[test]
fn registry_case_81_a_redirect_inside_is_not_followed() {
    inside(
        "registry_case_81_a_redirect_inside_is_not_followed",
        async |world| {
            redirects(
                world,
                &[
                    ("http://169.254.169.254/latest", PLAIN),
                    ("https://169.254.169.254/latest", NEVER),
                    ("//169.254.169.254/latest", NEVER),
                    ("https://inside.example/", INTERNAL),
                    ("https://metadata.example/", NEVER),
                    ("https://10.96.0.1/api/v1/secrets", INTERNAL),
                    ("https://kubernetes.default.svc/api", INTERNAL),
                    ("https://localhost:6443/", LOOPBACK),
                    ("http://registry.example/", PLAIN),
                ],
            )
            .await;
        },
    );
}

#[test]
fn registry_case_82_another_public_host_gets_the_question_and_no_token() {
    inside(
        "registry_case_82_another_public_host_gets_the_question_and_no_token",
        async |world| {
            let mirror = world.public(MIRROR, |_| Reply::status(200)).await;
            let tokens = world
                .public(TOKENS, |_| Reply::status(200).body("{\"token\":\"good\"}"))
                .await;
            let _registry = world
                .public(REGISTRY, |asked| match asked.header("authorization") {
                    Some("bearer good") => {
                        Reply::status(307).header("Location", "https://mirror.example/elsewhere")
                    }
                    _ => bearer("https://tokens.example/token"),
                })
                .await;
            assert_eq!(world.told(PUBLIC).await, "exists");
            assert_eq!(tokens.asked().len(), 1);
            let asked = mirror.asked();
            assert!(asked[0].is("HEAD", "/elsewhere"));
            assert_eq!(asked[0].header("authorization"), None);
        },
    );
}

#[test]
fn registry_case_83_redirects_between_public_hosts_end() {
    inside(
        "registry_case_83_redirects_between_public_hosts_end",
        async |world| {
            let to = |host: &str| {
                let location = format!("https://{host}/v2/");
                move |_: &Asked| Reply::status(302).header("Location", &location)
            };
            let _registry = world.public(REGISTRY, to("mirror.example")).await;
            let _mirror = world.public(MIRROR, to("registry.example")).await;
            assert_eq!(world.told(PUBLIC).await, "redirects once too often");
        },
    );
}

#[test]
fn registry_case_84_a_list_of_tags_does_not_go_on_inside() {
    inside(
        "registry_case_84_a_list_of_tags_does_not_go_on_inside",
        async |world| {
            let next = Arc::new(Mutex::new(String::new()));
            let shown = Arc::clone(&next);
            let mirror = world.public(MIRROR, |_| Reply::tags(&["v1"])).await;
            let _registry = world
                .public(REGISTRY, move |asked| match asked.path() {
                    TAGS => Reply::tags(&["v2"]).header(
                        "Link",
                        &format!("<{}>; rel=\"next\"", shown.lock().unwrap()),
                    ),
                    _ => Reply::error(404, "MANIFEST_UNKNOWN"),
                })
                .await;
            for link in [
                "https://169.254.169.254/v2/team/app/tags/list",
                "//10.0.0.1/v2/team/app/tags/list",
                "http://registry.example/v2/team/app/tags/list",
                "https://mirror.example/v2/team/app/tags/list",
                "https://u:p@registry.example/v2/team/app/tags/list?last=v2",
            ] {
                link.clone_into(&mut next.lock().unwrap());
                assert_eq!(world.told(PUBLIC).await, "missing Tag [v2]", "{link}");
            }
            // Not even to a host that may be asked.
            assert_eq!(mirror.connections(), 0);
        },
    );
}

#[test]
fn registry_case_4_an_address_of_a_private_network_is_asked_where_it_is_configured() {
    inside(
        "registry_case_4_an_address_of_a_private_network_is_asked_where_it_is_configured",
        async |world| {
            let listener = TcpListener::bind("[fd00::1]:5000").await.unwrap();
            let registry = Scripted::on(listener, None, |_| Reply::status(200));
            let image = "[fd00::1]:5000/a:b";
            assert_eq!(world.told(image).await, INTERNAL);
            assert_eq!(registry.connections(), 0);
            let configured = || client(&[("[fd00::1]:5000", "")]);
            assert_eq!(world.told_by(image, configured).await, "exists");
        },
    );
}

#[test]
fn registry_case_69_a_name_that_does_not_exist_is_unknown() {
    inside(
        "registry_case_69_a_name_that_does_not_exist_is_unknown",
        async |world| {
            // The resolver of this network says so of every name.
            let resolver = UdpSocket::bind("127.0.0.1:53").await.unwrap();
            let asked = Arc::new(AtomicUsize::new(0));
            let counted = Arc::clone(&asked);
            tokio::spawn(async move {
                let mut message = [0; 512];
                while let Ok((length, from)) = resolver.recv_from(&mut message).await {
                    counted.fetch_add(1, Ordering::SeqCst);
                    // An answer, recursion available, NXDOMAIN (RFC 1035, section 4.1.1).
                    message[2..4].copy_from_slice(&[0x81, 0x83]);
                    // Nothing but the question.
                    message[6..12].fill(0);
                    let _ = resolver.send_to(&message[..length], from).await;
                }
            });
            let answer = probe(&client(&[]), "nowhere.example/team/app:v1").await;
            assert!(!answered_before(&answer));
            assert_eq!(told(answer), "has no address: the name cannot be resolved");
            assert!(asked.load(Ordering::SeqCst) > 0);
            world.nobody_was_caught();
        },
    );
}

#[test]
fn registry_case_87_images_of_hosts_inside_are_not_asked_for() {
    inside(
        "registry_case_87_images_of_hosts_inside_are_not_asked_for",
        async |world| {
            for (host, refusal) in [
                ("169.254.169.254", NEVER),
                ("169.254.169.254:80", NEVER),
                ("0xa9fea9fe:80", NEVER),
                ("[::ffff:a9fe:a9fe]", NEVER),
                ("[fd00:ec2::254]", NEVER),
                ("metadata.google.internal", NEVER),
                ("metadata.example", NEVER),
                ("kubernetes.default.svc", INTERNAL),
                ("kubernetes.default:443", INTERNAL),
                ("10.96.0.1:443", INTERNAL),
                ("10.0.0.1:6443", INTERNAL),
                ("192.168.0.1", INTERNAL),
                ("inside.example", INTERNAL),
                ("six.example", INTERNAL),
                ("[fd00::1]:443", INTERNAL),
                ("0x7f.1:80", LOOPBACK),
                ("localhost:443", LOOPBACK),
                ("loopback.example:6443", LOOPBACK),
            ] {
                let image = format!("{host}/team/app:v1");
                assert_eq!(world.told(&image).await, refusal, "{host}");
                world.nobody_was_caught();
            }
        },
    );
}

#[test]
fn registry_case_61_what_containerds_files_name_may_lie_inside_and_loopback_is_the_nodes() {
    inside(
        "registry_case_61_what_containerds_files_name_may_lie_inside_and_loopback_is_the_nodes",
        async |world| {
            let corp = TcpListener::bind("192.168.0.1:5000").await.unwrap();
            let corp = Scripted::on(corp, None, |asked| match asked.path() {
                "/hub/team/app/manifests/v1" => Reply::status(200),
                _ => Reply::error(404, "MANIFEST_UNKNOWN"),
            });
            let registry = world.public(REGISTRY, absent).await;
            let folders = tempfile::tempdir().unwrap();
            for (name, text) in [
                (
                    "_default",
                    "[host.\"http://192.168.0.1:5000/hub\"]\noverride_path = true\n\
                     [host.\"http://192.168.0.1:5000/hub\".header]\nX-Key = \"of the mirror\"",
                ),
                ("mirror.example", "[host.\"http://127.0.0.1\"]"),
            ] {
                std::fs::create_dir(folders.path().join(name)).unwrap();
                std::fs::write(folders.path().join(name).join("hosts.toml"), text).unwrap();
            }
            let directory = folders.path().display();
            let config = format!("hostsDirectory: '{directory}'");
            let told = async |image| world.told_by(image, || client_of_config(&config)).await;

            assert_eq!(told(PUBLIC).await, "exists");
            assert_eq!(registry.connections(), 0);
            let missing = "registry.example/team/app:v9";
            assert_eq!(told(missing).await, "missing Tag [v2 v3]");
            for asked in corp.asked() {
                assert_eq!(asked.header("x-key"), Some("of the mirror"));
                assert!(asked.target.ends_with("?ns=registry.example"));
            }
            for asked in registry.asked() {
                assert_eq!(asked.header("x-key"), None);
            }

            // The node's own mirror may have what the registry lacks.
            let _empty = world.public(MIRROR, absent).await;
            let of_mirror = format!("has a mirror, 127.0.0.1, that {LOOPBACK}");
            assert_eq!(told("mirror.example/team/app:v9").await, of_mirror);
        },
    );
}
