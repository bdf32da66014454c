//! A registry that answers everything as it is told: what a real one cannot be made to do.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Listens on loopback until the process ends.
pub struct Faulty {
    /// What a configuration says to ask it, as the `server` of another registry.
    pub server: String,
    answer: Arc<Mutex<Answer>>,
}

/// What it answers.
#[derive(Clone, Copy)]
pub enum Answer {
    /// This status, these headers, and this body.
    Http(&'static str, &'static str, &'static str),
    /// Nothing, for longer than anybody waits.
    Silence,
    /// An end of the connection.
    HangUp,
}

/// A manifest that exists.
pub const EXISTS: Answer = Answer::Http(
    "200 OK",
    "Content-Type: application/vnd.oci.image.manifest.v1+json\r\nDocker-Distribution-Api-Version: registry/2.0",
    "{}",
);

impl Faulty {
    pub fn start(answer: Answer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = format!("http://{}", listener.local_addr().unwrap());
        let answer = Arc::new(Mutex::new(answer));
        let told = Arc::clone(&answer);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let told = Arc::clone(&told);
                std::thread::spawn(move || converse(&stream, &told));
            }
        });
        Self { server, answer }
    }

    /// Answers so from now on.
    pub fn answer(&self, answer: Answer) {
        *self.answer.lock().unwrap() = answer;
    }
}

fn converse(stream: &TcpStream, told: &Mutex<Answer>) {
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    while let Some(request) = lines.next() {
        while lines.next().is_some_and(|header| !header.is_empty()) {}
        let answer = *told.lock().unwrap();
        match answer {
            Answer::Http(status, headers, body) => {
                let length = body.len();
                let body = if request.starts_with("HEAD") {
                    ""
                } else {
                    body
                };
                let text = format!(
                    "HTTP/1.1 {status}\r\n{headers}\r\nContent-Length: {length}\r\n\r\n{body}"
                );
                let mut stream = stream;
                if stream.write_all(text.as_bytes()).is_err() {
                    return;
                }
            }
            Answer::Silence => std::thread::sleep(Duration::from_mins(1)),
            Answer::HangUp => return,
        }
    }
}
