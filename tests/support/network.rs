//! A network of its own for a test: addresses that mean something elsewhere, such as a cloud's
//! metadata service, are the test's own listeners there. What a broken guard lets through is caught,
//! and no packet leaves.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use super::pki::Pki;

/// Says to the test that it runs inside, and where its certificates are.
const INSIDE: &str = "FORESTALL_TEST_NETWORK";

/// Makes the network, then runs the test; it needs root, as the node does.
const SCRIPT: &str = r#"
set -e
ip link set lo up
for address in $ADDRESSES; do
    case $address in
        *:*) ip -6 address add "$address/128" dev lo nodad ;;
        127.*) ;;
        *) ip address add "$address/32" dev lo ;;
    esac
done
mount --bind "$DIRECTORY/hosts" /etc/hosts
mount --bind "$DIRECTORY/resolv.conf" /etc/resolv.conf
exec "$0" "$@"
"#;

/// What there is in the network.
#[derive(Clone, Copy)]
pub struct Network<'a> {
    /// All addresses of this machine.
    pub addresses: &'a [&'a str],
    /// Names and their addresses; a name may have several.
    pub names: &'a [(&'a str, &'a str)],
    /// The environment of the test.
    pub environment: &'a [(&'a str, &'a str)],
}

impl Network<'_> {
    /// Runs a test of this binary again inside. Gives the certificates of all names and addresses
    /// where this is inside; the system trusts their authority there.
    ///
    /// # Panics
    /// Where the test fails inside, or there can be no such network.
    pub fn enter(self, test: &str) -> Option<Pki> {
        if let Ok(directory) = std::env::var(INSIDE) {
            return Some(Pki::at(Path::new(&directory)));
        }
        let names = self.names.iter().map(|(name, _)| *name);
        let names: Vec<_> = names.chain(self.addresses.iter().copied()).collect();
        let pki = Pki::new(&names);
        let mut hosts = "127.0.0.1 localhost\n".to_owned();
        for (name, address) in self.names {
            // The client asks with the last dot, other programs without.
            writeln!(hosts, "{address} {name}. {name}").unwrap();
        }
        std::fs::write(pki.path("hosts"), hosts).unwrap();
        std::fs::write(pki.path("resolv.conf"), "nameserver 127.0.0.1\n").unwrap();
        let output = Command::new("unshare")
            .args(["--net", "--mount", "sh", "-c", SCRIPT])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", test, "--nocapture"])
            .env("ADDRESSES", self.addresses.join(" "))
            .env("DIRECTORY", pki.path(""))
            .env("SSL_CERT_FILE", pki.path("ca.crt"))
            .env(INSIDE, pki.path(""))
            .envs(self.environment.iter().copied())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        let complaint = String::from_utf8_lossy(&output.stderr);
        // Tables are for people, whether the test passes or not.
        let rows = said.lines().filter(|line| line.starts_with('|'));
        let table: String = rows.flat_map(|row| [row, "\n"]).collect();
        std::io::stdout().write_all(table.as_bytes()).unwrap();
        assert!(
            output.status.success() && said.contains("1 passed"),
            "{test} in a network of its own (which takes root):\n{said}\n{complaint}"
        );
        None
    }
}
