//! A scripted HTTP server on loopback: it answers what no real registry would.
#![allow(dead_code, reason = "every test binary uses a part of it")]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::ServerConfig;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// What was asked.
#[derive(Clone, Debug)]
pub struct Asked {
    pub method: String,
    /// Path and query.
    pub target: String,
    /// The lines of the head, in lower case.
    pub headers: Vec<String>,
}

/// What is answered.
#[derive(Clone, Debug, Default)]
pub struct Reply {
    status: u16,
    headers: String,
    body: Vec<u8>,
    /// Before the answer.
    delay: Duration,
    /// After the answer, before the connection ends.
    rest: Duration,
    /// The length that the head names, where it is not the body's.
    length: Option<u64>,
    /// Whether the head names no length.
    is_endless: bool,
}

/// A server that runs as long as the test's runtime.
#[derive(Clone)]
pub struct Scripted {
    pub address: String,
    asked: Arc<Mutex<Vec<Asked>>>,
    connections: Arc<AtomicUsize>,
}

// === impl Asked ===

impl Asked {
    /// The value of a header; the name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let value = |line: &'_ str| Some(line.strip_prefix(name)?.strip_prefix(':')?.len());
        let line = self.headers.iter().find(|line| value(line).is_some())?;
        Some(line[name.len() + 1..].trim())
    }

    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap()
    }

    pub fn is(&self, method: &str, path: &str) -> bool {
        self.method == method && self.path() == path
    }
}

// === impl Reply ===

impl Reply {
    pub fn status(status: u16) -> Self {
        Self {
            status,
            ..Self::default()
        }
    }

    /// An error in the words of a registry.
    pub fn error(status: u16, code: &str) -> Self {
        let body = serde_json::json!({"errors": [{"code": code, "message": "no"}]});
        Self::status(status).json(&body)
    }

    pub fn json(self, body: &serde_json::Value) -> Self {
        self.header("Content-Type", "application/json")
            .body(body.to_string())
    }

    pub fn tags(tags: &[&str]) -> Self {
        Self::status(200).json(&serde_json::json!({"name": "team/app", "tags": tags}))
    }

    pub fn html(status: u16) -> Self {
        Self::status(status)
            .header("Content-Type", "text/html; charset=utf-8")
            .body("<html>no</html>")
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers += &[name, ": ", value, "\r\n"].concat();
        self
    }

    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    pub fn after(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// Says nothing more for so long, not even the end.
    pub fn then_silent(mut self, rest: Duration) -> Self {
        self.rest = rest;
        self
    }

    /// Names another length than the body has.
    pub fn length(mut self, length: u64) -> Self {
        self.length = Some(length);
        self
    }

    /// Names no length: the body ends with the connection.
    pub fn without_length(mut self) -> Self {
        self.is_endless = true;
        self
    }

    fn bytes(&self, method: &str) -> Vec<u8> {
        let Self {
            status,
            headers,
            body,
            ..
        } = self;
        let length = self.length.unwrap_or(body.len() as u64);
        let length = if self.is_endless {
            String::new()
        } else {
            format!("Content-Length: {length}\r\n")
        };
        let head = format!("HTTP/1.1 {status} Said\r\n{headers}{length}Connection: close\r\n\r\n");
        let body: &[u8] = if method == "HEAD" { &[] } else { body };
        [head.as_bytes(), body].concat()
    }
}

// === impl Scripted ===

impl Scripted {
    /// A server that answers by a script. A reply of status 0 ends the connection.
    pub async fn start(script: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self::on(listener, None, script)
    }

    /// The same on this listener, by HTTPS where it has a certificate.
    pub fn on(
        listener: TcpListener,
        tls: Option<Arc<ServerConfig>>,
        script: impl Fn(&Asked) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let server = Self {
            address: listener.local_addr().unwrap().to_string(),
            asked: Arc::default(),
            connections: Arc::default(),
        };
        let connections = Arc::clone(&server.connections);
        let (script, asked) = (Arc::new(script), Arc::clone(&server.asked));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                connections.fetch_add(1, Ordering::SeqCst);
                let (script, asked) = (Arc::clone(&script), Arc::clone(&asked));
                let tls = tls.clone();
                tokio::spawn(async move {
                    let Some(config) = tls else {
                        return serve(stream, script, asked).await;
                    };
                    // A client that does not believe the certificate refuses the handshake.
                    if let Ok(stream) = TlsAcceptor::from(config).accept(stream).await {
                        serve(stream, script, asked).await;
                    }
                });
            }
        });
        server
    }

    /// All that was asked until now.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// How often something was asked.
    pub fn count(&self, method: &str, path: &str) -> usize {
        let asked = self.asked();
        asked.iter().filter(|asked| asked.is(method, path)).count()
    }

    /// How often anybody connected, even without asking.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

/// Answers one request on a connection.
async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    script: Arc<impl Fn(&Asked) -> Reply>,
    log: Arc<Mutex<Vec<Asked>>>,
) {
    let mut stream = BufReader::new(stream);
    let mut head = Vec::new();
    let mut line = String::new();
    while stream.read_line(&mut line).await.is_ok_and(|read| read > 2) {
        head.push(std::mem::take(&mut line).trim_end().to_owned());
    }
    let Some((request, headers)) = head.split_first() else {
        return;
    };
    let mut words = request.split(' ').map(ToOwned::to_owned);
    let asked = Asked {
        method: words.next().unwrap(),
        target: words.next().unwrap(),
        headers: headers
            .iter()
            .map(|line| line.to_ascii_lowercase())
            .collect(),
    };
    log.lock().unwrap().push(asked.clone());
    let reply = script(&asked);
    tokio::time::sleep(reply.delay).await;
    if reply.status != 0 {
        // The client may be gone, on purpose.
        let _ = stream.write_all(&reply.bytes(&asked.method)).await;
        let _ = stream.flush().await;
        tokio::time::sleep(reply.rest).await;
        let _ = stream.shutdown().await;
    }
}
