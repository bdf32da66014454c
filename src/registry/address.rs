//! Which addresses may be dialled. The host of an image is chosen by whoever may make a Pod, so
//! without this Forestall would carry requests to places that only it can reach.

use std::collections::BTreeSet;
use std::error::Error;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use thiserror::Error;
use tokio::sync::Semaphore;

use super::probe_error::Refusal;

/// Names that are resolved at one time. A lookup cannot be cancelled, so a slow name server would
/// else fill the threads for blocking work.
const MOST_LOOKUPS: usize = 64;

/// Addresses at which clouds answer with credentials, outside of the link-local range:
/// Alibaba Cloud and Oracle (instance metadata), Azure (host agent), AWS and Google by IPv6.
const METADATA: &[IpAddr] = &[
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)),
];

/// IPv4 networks that are not the public Internet, as address and bits (IANA, "IPv4 Special-Purpose
/// Address Registry").
const SPECIAL_V4: &[(Ipv4Addr, u32)] = &[
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 0, 0, 0), 24),
    (Ipv4Addr::new(192, 0, 2, 0), 24),
    (Ipv4Addr::new(192, 88, 99, 0), 24),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(198, 18, 0, 0), 15),
    (Ipv4Addr::new(198, 51, 100, 0), 24),
    (Ipv4Addr::new(203, 0, 113, 0), 24),
];

/// IPv6 networks inside `2000::/3` that are not the public Internet (IANA, "IPv6 Special-Purpose
/// Address Registry"): protocol assignments with Teredo, and documentation.
const SPECIAL_V6: &[(Ipv6Addr, u32)] = &[
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20),
];

/// Resolves names to addresses that may be dialled, and to no others.
///
/// The client dials exactly what this gives, so a name that changes its address between check and
/// use gains nothing. It is not asked for hosts that are addresses already.
#[derive(Debug)]
pub(super) struct Resolver {
    /// Names that the operator configured: these may lie inside.
    configured: BTreeSet<String>,
    lookups: Arc<Semaphore>,
}

/// Why a name gave no address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(super) enum ResolveError {
    #[error("the name cannot be resolved")]
    NoAddress,
    #[error(transparent)]
    Refused(Refusal),
}

// === the classes of addresses ===

/// Whether this address may be dialled although nobody configured it.
pub(super) fn check_public(address: IpAddr) -> Result<(), Refusal> {
    check_configured(address)?;
    match plain(address) {
        address if address.is_loopback() => Err(Refusal::Loopback),
        IpAddr::V4(address) if is_special_v4(address) => Err(Refusal::Internal),
        IpAddr::V6(address) if is_special_v6(address) => Err(Refusal::Internal),
        _ => Ok(()),
    }
}

/// Whether this address may be dialled where an operator configured it.
pub(super) fn check_configured(address: IpAddr) -> Result<(), Refusal> {
    let address = plain(address);
    let never = METADATA.contains(&address)
        || address.is_unspecified()
        || address.is_multicast()
        || match address {
            // 0.0.0.0/8 is "this network", 240.0.0.0/4 is reserved and holds the broadcast address.
            IpAddr::V4(address) => {
                address.is_link_local() || address.octets()[0] == 0 || address.octets()[0] >= 240
            }
            IpAddr::V6(address) => address.is_unicast_link_local(),
        };
    if never { Err(Refusal::Never) } else { Ok(()) }
}

fn is_special_v4(address: Ipv4Addr) -> bool {
    SPECIAL_V4
        .iter()
        .any(|&(network, bits)| (address.to_bits() ^ network.to_bits()).leading_zeros() >= bits)
}

fn is_special_v6(address: Ipv6Addr) -> bool {
    let is_global = address.segments()[0] & 0xe000 == 0x2000;
    !is_global
        || SPECIAL_V6
            .iter()
            .any(|&(network, bits)| (address.to_bits() ^ network.to_bits()).leading_zeros() >= bits)
}

/// The IPv4 address inside an IPv6 address, in all the forms that a system or a gateway takes for
/// one: mapped, compatible, translated (RFC 2765), NAT64 (RFC 6052) and 6to4 (RFC 3056).
fn plain(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else {
        return address;
    };
    let [high, low] = match v6.segments() {
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low]
        | [0, 0, 0, 0, 0xffff, 0, high, low]
        | [0x64, 0xff9b, 0, 0, 0, 0, high, low]
        | [0x2002, high, low, ..]
            if !v6.is_loopback() && !v6.is_unspecified() =>
        {
            [high, low]
        }
        _ => return address,
    };
    IpAddr::V4(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)))
}

// === impl Resolver ===

impl Resolver {
    pub(super) fn new(configured: BTreeSet<String>) -> Self {
        let lookups = Arc::new(Semaphore::new(MOST_LOOKUPS));
        Self {
            configured,
            lookups,
        }
    }

    async fn addresses(
        asked: String,
        is_configured: bool,
        lookups: Arc<Semaphore>,
    ) -> Result<Vec<SocketAddr>, Box<dyn Error + Send + Sync>> {
        let permit = lookups.acquire_owned().await?;
        let lookup = move || {
            let _until_it_ends = permit;
            (asked.as_str(), 0).to_socket_addrs()
        };
        let found = tokio::task::spawn_blocking(lookup)
            .await?
            .map_err(|_| ResolveError::NoAddress)?;
        Ok(allowed(found, is_configured)?)
    }
}

fn allowed(
    found: impl Iterator<Item = SocketAddr>,
    is_configured: bool,
) -> Result<Vec<SocketAddr>, ResolveError> {
    let check = if is_configured {
        check_configured
    } else {
        check_public
    };
    let mut refused = None;
    let allowed: Vec<_> = found
        .filter(|address| match check(address.ip()) {
            Ok(()) => true,
            Err(refusal) => {
                refused = Some(refusal);
                false
            }
        })
        .collect();
    match refused {
        _ if !allowed.is_empty() => Ok(allowed),
        Some(refusal) => Err(ResolveError::Refused(refusal)),
        None => Err(ResolveError::NoAddress),
    }
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let name = name.as_str().to_ascii_lowercase();
        let is_configured = self.configured.contains(&name);
        // The last dot keeps a cluster's search domains out: else `kubernetes.default` would find
        // the API server.
        let asked = if is_configured || name.ends_with('.') {
            name
        } else {
            name + "."
        };
        let lookups = Arc::clone(&self.lookups);
        Box::pin(async move {
            let found = Self::addresses(asked, is_configured, lookups).await?;
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn public(text: &str) -> Result<(), Refusal> {
        check_public(text.parse().unwrap())
    }

    #[test]
    fn only_addresses_of_the_public_internet_are_dialled_unasked() {
        for address in ["1.1.1.1", "100.63.255.255", "172.32.0.1", "2606:4700::1111"] {
            assert_eq!(public(address), Ok(()), "{address}");
        }
        for address in [
            "10.96.0.1",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "100.64.0.1",
            "198.19.0.1",
            "fd12::1",
            "fc00::1",
            "2001:db8::1",
            "2001::1",
            "100::1",
            "64:ff9b::10.0.0.1",
            "64:ff9b:1::1",
            "::ffff:10.0.0.1",
            "::ffff:0:10.0.0.1",
            "2002:0a00:0001::1",
        ] {
            assert_eq!(public(address), Err(Refusal::Internal), "{address}");
        }
        for address in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
            assert_eq!(public(address), Err(Refusal::Loopback), "{address}");
        }
    }

    #[test]
    fn metadata_services_are_never_dialled_even_if_configured() {
        for address in [
            "169.254.169.254",
            "169.254.170.23",
            "::ffff:169.254.169.254",
            "64:ff9b::169.254.169.254",
            "::169.254.169.254",
            "2002:a9fe:a9fe::",
            "100.100.100.200",
            "168.63.129.16",
            "192.0.0.192",
            "fd00:ec2::254",
            "fd20:ce::254",
            "fe80::1",
            "0.0.0.0",
            "0.1.2.3",
            "::",
            "224.0.0.1",
            "ff02::1",
            "255.255.255.255",
        ] {
            let parsed: IpAddr = address.parse().unwrap();
            assert_eq!(check_configured(parsed), Err(Refusal::Never), "{address}");
            assert_eq!(public(address), Err(Refusal::Never), "{address}");
        }
        for address in ["10.0.0.1", "127.0.0.1", "::1", "fd12::1"] {
            let parsed: IpAddr = address.parse().unwrap();
            assert_eq!(check_configured(parsed), Ok(()), "{address}");
        }
    }

    #[test]
    fn registry_case_80_of_several_addresses_only_the_public_ones_are_dialled() {
        let found = |texts: &[&str]| -> Vec<SocketAddr> {
            texts
                .iter()
                .map(|text| SocketAddr::new(text.parse().unwrap(), 0))
                .collect()
        };
        let mixed = found(&["169.254.169.254", "1.1.1.1", "10.0.0.1"]);
        assert_eq!(allowed(mixed.into_iter(), false), Ok(found(&["1.1.1.1"])));
        let mixed = found(&["169.254.169.254", "10.0.0.1"]);
        assert_eq!(
            allowed(mixed.clone().into_iter(), false),
            Err(ResolveError::Refused(Refusal::Internal))
        );
        assert_eq!(allowed(mixed.into_iter(), true), Ok(found(&["10.0.0.1"])));
        assert_eq!(
            allowed(std::iter::empty(), true),
            Err(ResolveError::NoAddress)
        );
    }

    #[tokio::test]
    async fn registry_case_79_a_name_that_leads_inside_is_refused_by_the_resolver() {
        let localhost = || "localhost".to_owned();
        let lookups = || Arc::new(Semaphore::new(1));
        let error = Resolver::addresses(localhost(), false, lookups())
            .await
            .unwrap_err();
        assert_eq!(
            error.downcast_ref(),
            Some(&ResolveError::Refused(Refusal::Loopback))
        );
        let resolver = Resolver::new(BTreeSet::from([localhost()]));
        let mut addresses = resolver
            .resolve(localhost().parse().unwrap())
            .await
            .unwrap();
        assert!(addresses.all(|address| address.ip().is_loopback()));
    }
}
