//! A real registry on loopback: distribution, in memory, filled with images that it makes.
#![allow(dead_code, reason = "every test binary uses a part of it")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};

/// A registry that runs until this is dropped, or the test process ends however it ends.
pub struct Registry {
    /// Where it listens, such as `127.0.0.1:41234`.
    pub address: String,
    /// The digests of its images, by the reference given.
    pub digests: BTreeMap<String, String>,
    process: Child,
    /// The program ends when this closes.
    _input: ChildStdin,
}

impl Registry {
    /// A registry with these images, such as `prom/prometheus:v2.55.1`.
    pub fn start<Image: AsRef<str>>(images: &[Image]) -> Self {
        Self::with_pages_of(1000, images)
    }

    /// The same; it gives so many tags at a time.
    pub fn with_pages_of<Image: AsRef<str>>(tags: usize, images: &[Image]) -> Self {
        Self::with(&["--page", &tags.to_string()], images)
    }

    /// The same with more arguments of the program, such as `--proxy`.
    pub fn with<Image: AsRef<str>>(arguments: &[&str], images: &[Image]) -> Self {
        let mut process = Command::new(super::go::go_program("registry"))
            .args(["--until-eof", "--image", "-"])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = process.stdin.take().unwrap();
        let lines: String = images
            .iter()
            .flat_map(|image| [image.as_ref(), "\n"])
            .collect();
        input.write_all((lines + "\n").as_bytes()).unwrap();
        let output = BufReader::new(process.stdout.take().unwrap());
        let mut lines = output.lines().map(Result::unwrap);
        let address = lines.next().expect("the registry prints its address");
        let digests = lines
            .take(images.len())
            .map(|line| {
                let (image, digest) = line.split_once(' ').unwrap();
                (image.to_owned(), digest.to_owned())
            })
            .collect();
        Self {
            address,
            digests,
            process,
            _input: input,
        }
    }

    /// What the configuration says to ask this registry, as the `server` of another.
    pub fn server(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        // It may have ended by itself; nothing is lost then.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
