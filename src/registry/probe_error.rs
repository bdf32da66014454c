//! Why a registry's answer proves nothing. Every word is ours: what a registry wrote is never shown.

use std::time::Duration;

use thiserror::Error;

/// Between two questions about an image whose registry gave no usable answer.
const AFTER_FAILURE: Duration = Duration::from_secs(5);
/// The same where it refused: credentials do not change by the second.
const AFTER_DENIAL: Duration = Duration::from_mins(1);

/// Why it is not known whether an image is there; reads after the name of the registry.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(super) enum ProbeError {
    /// It must not be asked.
    #[error("{0}")]
    Blocked(Refusal),
    /// It wants credentials, or more of them. Registries answer so for what exists, too.
    #[error("answered {0}: it does not say whether the image is there")]
    Denied(u16),
    /// It wants to be left alone for a while.
    #[error("answered 429: too many requests")]
    RateLimited {
        /// For so long.
        rest: Duration,
    },
    /// It answered with a status that says nothing of the image.
    #[error("answered {0}")]
    Status(u16),
    /// The time for one image was up.
    #[error("did not answer in time")]
    TimedOut,
    /// Too many other questions were before this one.
    #[error("was not asked: too many questions wait")]
    Busy,
    /// It failed the last times, so it is left alone.
    #[error("was not asked: it failed the last times")]
    Down,
    /// Its name has no address.
    #[error("has no address: the name cannot be resolved")]
    NoAddress,
    /// Nothing listens there, or no packet comes through.
    #[error("cannot be reached")]
    Unreachable,
    /// Its certificate does not show that it is the one asked.
    #[error("has a certificate that is not trusted")]
    Untrusted,
    /// It does not speak TLS as we do.
    #[error("does not speak TLS: the handshake failed")]
    NoTls,
    /// It ended the connection before the answer.
    #[error("broke off before the end of its answer")]
    Broken,
    /// It is no registry, or a broken one.
    #[error("{0}")]
    Malformed(&'static str),
    /// It says both that the image is there and that it is not.
    #[error("contradicts itself: {0}")]
    Contradiction(&'static str),
    /// It answers as if there were nothing, and may do so only because we are strangers.
    #[error("shows nothing of that repository without credentials, so it may hide it")]
    Hidden,
    /// All hosts that were asked fetch images on demand, and say the same where they cannot.
    #[error("is asked through a cache, which does not say whether there is such an image")]
    ProxyOnly,
    /// None of its hosts may be asked what a tag means.
    #[error("has no host with the capability to resolve a tag")]
    NoHost,
    /// It counts pulls, and enough of them were for configurations.
    #[error(
        "was not asked for the configuration of the image: {0} were fetched in 6 hours, and it counts pulls"
    )]
    Spent(usize),
    /// It is being asked, and nobody waits for it.
    #[error("is being asked for the configuration of the image")]
    BeingFetched,
    /// What the image is rewritten to is no reference.
    #[error("has an image that imageRewrites make no reference of")]
    Rewritten,
    /// The same of a host that has its images.
    #[error("has a mirror, {0}, that {1}")]
    Mirror(String, Box<ProbeError>),
    /// Its credentials would go to somebody else.
    #[error(
        "belongs to somebody else, so it gets no credentials; name it in tokenHosts of the registry \
         if it may have them"
    )]
    Stranger,
    /// A user name or password that HTTP cannot carry.
    #[error("was not asked: its user name or password cannot be sent")]
    Unsendable,
    /// Why credentials for it are not at hand.
    #[error("was not asked: {0}")]
    NoCredentials(String),
    /// Too many credentials are for it.
    #[error("was not asked with all credentials: more than {0} match")]
    TooManyCredentials(usize),
    /// The question itself failed.
    #[error("was not asked: the question failed; please report it")]
    Panicked,
    /// The same of the server that gives out its tokens.
    #[error("sends its clients for a token to a server that {0}")]
    TokenServer(Box<ProbeError>),
    /// The same of the host that it redirects to.
    #[error("redirects to a host that {0}")]
    Redirect(Box<ProbeError>),
}

/// Why a host must not be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(super) enum Refusal {
    /// The name of the machine itself: on a node it means the node, here it would mean this pod.
    #[error("means the machine that pulls, so it is not asked from here")]
    Loopback,
    /// An address or a name of the inside.
    #[error("is inside a private network and has no entry in registries, so it is not asked")]
    Internal,
    /// An address at which clouds keep credentials, or that cannot be a registry's.
    #[error("is a link-local, metadata or multicast address, which is never asked")]
    Never,
    /// Plain HTTP, where nobody configured it.
    #[error("is not reached by https, so it is not asked")]
    Plain,
    /// An address with a user name, an unknown scheme or no host.
    #[error("has no usable address")]
    NoHost,
}

// === impl ProbeError ===

impl ProbeError {
    /// What a status means that is none of the good ones.
    pub(super) fn of_status(status: u16, rest: Duration) -> Self {
        match status {
            401 | 403 => Self::Denied(status),
            429 => Self::RateLimited { rest },
            _ => Self::Status(status),
        }
    }

    /// How long to leave the registry alone about this image.
    pub(super) fn lifetime(&self) -> Duration {
        match self {
            Self::Denied(_) | Self::Hidden | Self::Spent(_) => AFTER_DENIAL,
            Self::RateLimited { rest } => *rest,
            Self::TokenServer(of) | Self::Redirect(of) | Self::Mirror(_, of) => of.lifetime(),
            _ => AFTER_FAILURE,
        }
    }

    /// Whether it wants credentials, or more of them.
    pub(super) fn is_denial(&self) -> bool {
        match self {
            Self::Denied(_) => true,
            Self::TokenServer(of) => of.is_denial(),
            _ => false,
        }
    }

    /// The outcome that is counted; the set of [`crate::report::metrics::RegistryLabels`].
    pub(super) fn outcome(&self) -> &'static str {
        match self {
            Self::Blocked(_) => "blocked",
            Self::Denied(_)
            | Self::Hidden
            | Self::Stranger
            | Self::Unsendable
            | Self::NoCredentials(_)
            | Self::TooManyCredentials(_) => "unauthorized",
            Self::RateLimited { .. } | Self::Spent(_) => "rate_limited",
            Self::Status(408 | 500..)
            | Self::TimedOut
            | Self::Busy
            | Self::BeingFetched
            | Self::Down
            | Self::NoAddress
            | Self::Unreachable
            | Self::Untrusted
            | Self::NoTls
            | Self::Broken
            | Self::Panicked => "unreachable",
            Self::Status(_)
            | Self::Malformed(_)
            | Self::Contradiction(_)
            | Self::ProxyOnly
            | Self::NoHost
            | Self::Rewritten => "malformed",
            Self::TokenServer(of) | Self::Redirect(of) | Self::Mirror(_, of) => of.outcome(),
        }
    }

    /// How long the host wants to be left alone, where it said so.
    pub(super) fn wanted_rest(&self) -> Option<Duration> {
        match self {
            Self::RateLimited { rest } => Some(*rest),
            Self::TokenServer(of) => of.wanted_rest(),
            _ => None,
        }
    }

    /// Whether the host, or the server that gives out its tokens, did not work.
    pub(super) fn is_failure(&self) -> bool {
        match self {
            Self::Status(status) => matches!(status, 408 | 500..),
            Self::TimedOut
            | Self::NoAddress
            | Self::Unreachable
            | Self::Untrusted
            | Self::NoTls
            | Self::Broken => true,
            Self::TokenServer(of) => of.is_failure(),
            _ => false,
        }
    }

    /// Whether nobody was asked, because others were before this.
    pub(super) fn is_wait(&self) -> bool {
        match self {
            Self::Busy => true,
            Self::Mirror(_, of) => of.is_wait(),
            _ => false,
        }
    }

    /// Whether it has nothing to do with the image: who knew a moment ago that it exists may go on
    /// believing it.
    pub(super) fn is_outage(&self) -> bool {
        match self {
            Self::RateLimited { .. } | Self::Busy | Self::Down => true,
            Self::Redirect(of) | Self::Mirror(_, of) => of.is_outage(),
            other => other.is_failure(),
        }
    }
}

impl From<Refusal> for ProbeError {
    fn from(refusal: Refusal) -> Self {
        Self::Blocked(refusal)
    }
}
