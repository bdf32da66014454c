//! Reviews that are made to take memory, sent to a real `forestall serve`.

use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;

const MEBIBYTE: usize = 1 << 20;

/// As large as a body may be.
const LARGEST: usize = 32 * MEBIBYTE;

/// How many are sent at a time.
const CROWD: usize = 10;

/// Far more than any answer takes: an unoptimised program on a busy machine reads a megabyte a second.
const PATIENCE: Duration = Duration::from_mins(5);

/// Where such reviews are sent.
pub struct Siege {
    /// HOST:PORT.
    pub address: String,
    /// A name that its certificate has.
    pub name: String,
    pub client: Arc<ClientConfig>,
}

/// What became of a request.
pub struct Answer {
    pub status: u16,
    pub text: String,
}

// === impl Siege ===

impl Siege {
    /// Sends every review of [`hostile`] alone, ten at a time, and all together, with ordinary ones in
    /// between. Each must be answered or turned away, and the ordinary ones answered.
    pub async fn lay(&self, hostile: &[(&'static str, Arc<String>)], mut lives: impl FnMut()) {
        for (what, review) in hostile {
            let answer = self.post(review).await;
            answer.is_decent(what);
            println!("{what}, alone: {} {}", answer.status, answer.reason());
            lives();
            self.judges(what).await;
        }
        for crowded in ["lists", "maps", "legal", "containers", "names", "all"] {
            let chosen = hostile
                .iter()
                .filter(|(what, _)| crowded == "all" || crowded == *what);
            let chosen: Vec<_> = chosen.cycle().take(CROWD).collect();
            assert_eq!(chosen.len(), CROWD, "{crowded}");
            let crowd = chosen.iter().map(async |(what, review)| {
                let answer = self.post(review).await;
                answer.is_decent(what);
                answer.status
            });
            let crowd = futures::future::join_all(crowd);
            let ordinary = async {
                loop {
                    let answer = self.post(&ordinary()).await;
                    assert_eq!(answer.status, 200, "beside {crowded}: {}", answer.text);
                    sleep(Duration::from_millis(20)).await;
                }
            };
            let statuses: Vec<u16> = tokio::select! {
                statuses = crowd => statuses,
                never = ordinary => never,
            };
            let answered = statuses.iter().filter(|status| **status == 200).count();
            println!(
                "{crowded}, ten at a time: {answered} answered, {} turned away",
                CROWD - answered
            );
            lives();
            self.judges(crowded).await;
            lives();
        }
    }

    /// An ordinary review is judged as ever.
    async fn judges(&self, after: &str) {
        let answer = self.post(&ordinary()).await;
        assert!(
            answer.text.contains("512m"),
            "after {after}: {}",
            answer.text
        );
    }

    async fn post(&self, review: &str) -> Answer {
        let exchange = async {
            let stream = TcpStream::connect(&self.address).await.unwrap();
            let name = ServerName::try_from(self.name.clone()).unwrap();
            let connector = TlsConnector::from(Arc::clone(&self.client));
            let mut stream = connector.connect(name, stream).await.unwrap();
            let head = format!(
                "POST /validate?timeout=5s HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
                 content-type: application/json\r\ncontent-length: {}\r\n\r\n",
                review.len()
            );
            stream.write_all(head.as_bytes()).await.unwrap();
            // One that is turned away is not read to its end.
            let (mut reading, mut writing) = tokio::io::split(stream);
            let write = async {
                let _ = writing.write_all(review.as_bytes()).await;
                let _ = writing.flush().await;
                std::future::pending::<()>().await;
            };
            let mut answer = Vec::new();
            tokio::select! {
                _ = reading.read_to_end(&mut answer) => {}
                () = write => {}
            }
            String::from_utf8(answer).unwrap()
        };
        let answer = timeout(PATIENCE, exchange).await.expect("an answer");
        let (head, text) = answer.split_once("\r\n\r\n").unwrap_or_default();
        let status = head.split(' ').nth(1).unwrap_or_default();
        Answer {
            status: status.parse().unwrap_or_default(),
            text: text.to_owned(),
        }
    }
}

// === impl Answer ===

impl Answer {
    /// Answered under its uid, or turned away.
    #[track_caller]
    fn is_decent(&self, what: &str) {
        let Self { status, text } = self;
        match status {
            200 => assert!(text.contains("\"uid\":\"u-1\""), "{what}: {text}"),
            413 | 503 => {}
            _ => panic!("{what}: {status} {text}"),
        }
    }

    fn reason(&self) -> String {
        match serde_json::from_str::<Value>(&self.text) {
            Ok(review) => review["response"]["warnings"].to_string(),
            Err(_) => self.text.trim_end().to_owned(),
        }
    }
}

/// What would take the most memory, each in a Deployment.
pub fn hostile() -> Vec<(&'static str, Arc<String>)> {
    let most = LARGEST - 2_000;
    let fill = |item: &str| format!("[{}0]", item.repeat(most / item.len()));
    let half = most / 2;
    let deep = format!("{}{}", "[".repeat(half), "]".repeat(half));
    let container = r#"{"name":"a","image":"A","resources":{"limits":{"memory":"1m"}}}"#;
    let containers = vec![container; 2_000].join(",");
    // As many and as long as are looked at, in an update, so that both objects are judged.
    let long = json!({
        "name": "n".repeat(253),
        "image": "A".repeat(1024),
        "resources": {"limits": {"memory": format!("{}1m", "0".repeat(62))}},
    });
    let long = json!({"spec": {"template": {"spec": {"containers": vec![long; 250]}}}});
    let mut names: Value = serde_json::from_str(&review(&long)).unwrap();
    names["request"]["operation"] = json!("UPDATE");
    names["request"]["oldObject"] = names["request"]["object"].clone();
    names["request"]["oldObject"]["spec"]["replicas"] = json!(1);
    // As the API server sends 3.1 MB, the most that it takes: Go writes `<` in six characters.
    let legal = format!("\"{}\"", "\\u003c".repeat(3_100_000));
    [
        ("lists", annotated(&fill("[0],"))),
        ("maps", annotated(&fill("{},"))),
        ("entries", annotated(&fill(r#"{"":0},"#))),
        ("text", annotated(&format!("\"{}\"", "x".repeat(most)))),
        (
            "escaped",
            annotated(&format!("\"\\n{}\"", "x".repeat(most - 2))),
        ),
        ("deep", annotated(&deep)),
        ("legal", annotated(&legal)),
        (
            "containers",
            review(&json!({})).replace("[{}]", &format!("[{containers}]")),
        ),
        ("names", names.to_string()),
    ]
    .map(|(what, review)| (what, Arc::new(review)))
    .into()
}

fn annotated(value: &str) -> String {
    review(&json!({"metadata": {"annotations": {"a": "@"}}})).replace("\"@\"", value)
}

fn ordinary() -> String {
    let container =
        json!({"name": "a", "image": "a:1", "resources": {"limits": {"memory": "512m"}}});
    review(&json!({})).replace("[{}]", &json!([container]).to_string())
}

fn review(with: &Value) -> String {
    let mut object = json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web"},
        "spec": {"template": {"spec": {"containers": [{}]}}},
    });
    json_patch::merge(&mut object, with);
    json!({
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": "u-1",
            "kind": {"group": "apps", "version": "v1", "kind": "Deployment"},
            "operation": "CREATE",
            "namespace": "default",
            "name": "web",
            "object": object,
        },
    })
    .to_string()
}
