use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;

use super::*;

const SETTLE: Duration = Duration::from_secs(10);
const LONG: Duration = Duration::from_mins(1);
const DAY: i64 = 24 * 60 * 60;

fn at(day: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + day * DAY).unwrap()
}

fn names() -> Vec<String> {
    [
        "webhook",
        "webhook.ns",
        "webhook.ns.svc",
        "webhook.ns.svc.cluster.local",
    ]
    .map(str::to_owned)
    .to_vec()
}

fn next(kept: &SecretState, day: i64) -> Step {
    kept.next(true, LONG, &names(), &Times::default(), at(day))
}

/// An authority of that day with a leaf of that day.
fn settled(day: i64) -> SecretState {
    with_leaf(&with_authority(&SecretState::default(), day), day)
}

fn with_authority(kept: &SecretState, day: i64) -> SecretState {
    kept.with_new_authority(&[], &Times::default(), at(day))
        .unwrap()
}

fn with_leaf(kept: &SecretState, day: i64) -> SecretState {
    kept.with_new_leaf(&names(), &Times::default(), at(day))
        .unwrap()
}

fn leaf(step: Step) -> String {
    match step {
        Step::Leaf(why) => why,
        step => panic!("{step:?}"),
    }
}

fn authority(step: Step) -> String {
    match step {
        Step::Authority(why) => why,
        step => panic!("{step:?}"),
    }
}

#[test]
fn what_was_just_made_is_left_alone() {
    assert_eq!(next(&settled(0), 0), Step::Rest);
    assert_eq!(next(&settled(0), 59), Step::Rest);
}

#[test]
fn a_leaf_is_for_a_server_of_these_names_and_begins_an_hour_before() {
    let kept = settled(0);
    let chain = certificates(&kept);
    let (_, leaf) = x509_parser::parse_x509_certificate(&chain[0]).unwrap();
    let alternatives = leaf.subject_alternative_name().unwrap().unwrap();
    let found: Vec<String> = alternatives
        .value
        .general_names
        .iter()
        .map(|name| match name {
            x509_parser::extensions::GeneralName::DNSName(name) => (*name).to_owned(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(found, names());
    let usage = leaf.extended_key_usage().unwrap().unwrap();
    assert!(usage.value.server_auth && !usage.value.client_auth && !usage.value.any);
    let (begins, ends) = validity(&chain[0]).unwrap();
    assert_eq!(begins, at(0) - SignedDuration::from_hours(1));
    assert_eq!(ends, at(90));
    let (_, ends) = validity(&kept.signs().unwrap()).unwrap();
    assert_eq!(ends, at(5 * 365));
}

#[test]
fn two_thirds_through_its_life_a_leaf_is_renewed_and_then_an_authority() {
    let kept = settled(0);
    assert!(leaf(next(&kept, 60)).contains("two thirds"));
    let unable = kept.next(false, Duration::ZERO, &names(), &Times::default(), at(60));
    assert!(
        leaf(unable).contains("two thirds"),
        "though nobody may write the caBundle"
    );
    let kept = with_leaf(&kept, 1200);
    assert_eq!(next(&kept, 1216), Step::Rest);
    assert!(authority(next(&kept, 1217)).contains("two thirds"));
    // Not again while it is under way.
    let kept = with_authority(&kept, 1217);
    assert_eq!(leaf(next(&kept, 1217)), "there is a new authority");
}

#[test]
fn a_new_authority_is_trusted_for_a_while_before_anything_is_signed_by_it() {
    let kept = with_authority(&settled(0), 1);
    let next =
        |configured, steady| kept.next(configured, steady, &names(), &Times::default(), at(1));
    assert_eq!(next(false, LONG), Step::Configure);
    let second = Duration::from_secs(1);
    assert_eq!(
        next(true, second),
        Step::Settle(SETTLE.saturating_sub(second))
    );
    assert_eq!(leaf(next(true, SETTLE)), "there is a new authority");
}

#[test]
fn old_authorities_go_when_every_replica_was_asked() {
    let kept = with_leaf(&with_authority(&settled(0), 1), 1);
    let next =
        |kept: &SecretState, steady| kept.next(true, steady, &names(), &Times::default(), at(1));
    assert_eq!(next(&kept, Duration::ZERO), Step::Settle(SETTLE));
    assert_eq!(next(&kept, SETTLE), Step::Ask);
    assert_eq!(authorities(kept.bundle().as_bytes()).0.len(), 2);
    let kept = kept.without_old();
    assert_eq!(authorities(kept.bundle().as_bytes()).0.len(), 1);
    assert_eq!(next(&kept, SETTLE), Step::Rest);
}

#[test]
fn at_the_first_start_nobody_is_waited_for() {
    let step = |kept: &SecretState, configured| {
        kept.next(
            configured,
            Duration::ZERO,
            &names(),
            &Times::default(),
            at(0),
        )
    };
    assert_eq!(
        authority(step(&SecretState::default(), true)),
        "there is none yet"
    );
    let kept = with_authority(&SecretState::default(), 0);
    assert_eq!(step(&kept, false), Step::Configure);
    assert_eq!(leaf(step(&kept, true)), "there is none yet");
    assert_eq!(step(&with_leaf(&kept, 0), true), Step::Rest);
}

#[test]
fn what_replicas_would_refuse_is_made_anew_and_says_why() {
    let (kept, other) = (settled(0), settled(0));
    let pair = |certificate: &[u8], key: &[u8]| SecretState {
        leaf: Some(Content {
            certificate: certificate.to_vec(),
            key: key.to_vec(),
        }),
        ..kept.clone()
    };
    let (good, foreign) = (kept.leaf.clone().unwrap(), other.leaf.clone().unwrap());
    let half = &good.certificate[..good.certificate.len() / 2];
    let long = vec![b'-'; MOST_PEM + 1];
    for (kept, why) in [
        (pair(half, &good.key), "ends in the middle of a block"),
        (pair(b"", &good.key), "it holds none"),
        (pair(&good.certificate, b""), "tls.key: it holds none"),
        (pair(&good.certificate, &foreign.key), "is not the key of"),
        (
            pair(&foreign.certificate, &foreign.key),
            "by no authority in ca.crt",
        ),
        (pair(&long, &good.key), "more than the 65536 bytes"),
        (pair(&good.certificate, &long), "more than the 65536 bytes"),
    ] {
        let said = leaf(next(&kept, 0));
        assert!(said.contains(why), "{said}");
    }
    assert!(leaf(next(&kept, 91)).contains("it expired at"));
    assert!(leaf(next(&with_leaf(&kept, 30), 1)).contains("it holds only from"));
    let renamed = [names(), vec!["other.ns.svc".to_owned()]].concat();
    let step = kept.next(true, LONG, &renamed, &Times::default(), at(0));
    assert!(leaf(step).contains("other.ns.svc"));
}

#[test]
fn an_authority_that_cannot_sign_is_replaced_and_those_before_it_stay_trusted() {
    let (kept, other) = (settled(0), settled(0));
    let change = |authorities: &[u8], key: &[u8]| SecretState {
        authorities: authorities.to_vec(),
        signing_key: key.to_vec(),
        ..kept.clone()
    };
    let leaf = &kept.leaf.as_ref().unwrap().certificate;
    let half = &kept.authorities[..kept.authorities.len() / 2];
    let long = vec![b'-'; MOST_PEM + 1];
    let bundles = [kept.bundle().into_bytes()];
    for (broken, why) in [
        (change(b"", &kept.signing_key), "there is none yet"),
        (
            change(half, &kept.signing_key),
            "ends in the middle of a block",
        ),
        (change(leaf, &kept.signing_key), "no authority"),
        (
            change(&long, &kept.signing_key),
            "more than the 65536 bytes",
        ),
        (change(&kept.authorities, b""), "ca.key is gone"),
        (
            change(&kept.authorities, &long),
            "ca.key holds no private key",
        ),
        (
            change(&kept.authorities, &other.signing_key),
            "ca.key is not the key of",
        ),
    ] {
        let said = authority(next(&broken, 0));
        assert!(said.contains(why), "{said}");
        let made = broken
            .with_new_authority(&bundles, &Times::default(), at(0))
            .unwrap();
        let trusted = authorities(made.bundle().as_bytes()).0;
        assert_eq!(trusted.len(), 2);
        assert_eq!(trusted.last(), kept.signs().as_ref());
    }
    assert!(authority(next(&kept, 5 * 365 + 1)).contains("expired"));
    assert!(authority(next(&kept, -1)).contains("holds only from"));
}

#[test]
fn a_secret_that_is_lost_again_and_again_does_not_grow_without_end() {
    let mut kept = settled(0);
    for day in 0..20 {
        kept = with_authority(&kept, day);
    }
    assert_eq!(
        authorities(kept.bundle().as_bytes()).0.len(),
        MOST_AUTHORITIES
    );
}

#[test]
fn no_key_is_shown_by_debug() {
    assert_eq!(format!("{:?}", settled(0)), "SecretState { .. }");
}

fn certificates(kept: &SecretState) -> Vec<CertificateDer<'static>> {
    crate::tls::pair::certificates(&kept.leaf.as_ref().unwrap().certificate).unwrap()
}

/// What may happen, in any order.
#[derive(Clone, Debug)]
enum Happens {
    /// The leader makes a step.
    Lead,
    /// Another replica leads, and knows only what it reads.
    Failover,
    /// Seconds pass.
    Wait(u8),
    /// Days pass, with nobody leading.
    Sleep(u16),
    /// The leader's clock is wrong by so many days.
    Leap(i16),
    /// A replica hears of the Secret.
    Follow(usize),
    /// A replica is replaced by a new one.
    Restart(usize),
    /// An API server hears of a webhook configuration.
    Hear(usize),
    /// The Secret is deleted.
    Delete,
    /// Half of one of its keys is lost.
    Halve(usize),
}

/// Three replicas and two API servers, each of which hears of things in its own time.
struct World {
    seconds: i64,
    leap: i64,
    kept: SecretState,
    /// Of the last change of the Secret or of the trust.
    changed: i64,
    /// What the leader has seen without a change since then.
    steady_since: Option<i64>,
    configured: String,
    configured_at: i64,
    trust: [String; 2],
    served: [Option<Content>; 3],
}

// === impl World ===

impl World {
    fn new() -> Self {
        let kept = settled(0);
        let bundle = kept.bundle();
        Self {
            seconds: 0,
            leap: 0,
            changed: 0,
            steady_since: None,
            configured: bundle.clone(),
            configured_at: 0,
            trust: [bundle.clone(), bundle],
            served: [kept.leaf.clone(), kept.leaf.clone(), kept.leaf.clone()],
            kept,
        }
    }

    fn now(&self) -> Timestamp {
        at(0) + SignedDuration::from_secs(self.seconds)
    }

    fn happens(&mut self, what: &Happens) {
        match what {
            Happens::Lead => {
                self.lead();
            }
            Happens::Failover => self.steady_since = None,
            Happens::Wait(seconds) => {
                for _ in 0..*seconds {
                    self.pass(1);
                }
            }
            Happens::Sleep(days) => self.pass(i64::from(*days) * DAY),
            Happens::Leap(days) => self.leap = i64::from(*days) * DAY,
            Happens::Follow(replica) => self.follow(*replica),
            Happens::Restart(replica) => {
                self.served[*replica] = None;
                self.follow(*replica);
            }
            Happens::Hear(server) => self.trust[*server].clone_from(&self.configured),
            Happens::Delete => self.write(SecretState::default()),
            Happens::Halve(key) => {
                let mut data =
                    BTreeMap::from(self.kept.data().map(|(key, value)| (key.to_owned(), value)));
                let value = data.values_mut().nth(*key).unwrap();
                // In the middle of a block, where two authorities are as long as each other.
                value.0.truncate((value.0.len() / 2).saturating_sub(40));
                self.write(SecretState::of_secret(&data));
            }
        }
    }

    /// API servers hear within the time that they are given.
    fn pass(&mut self, seconds: i64) {
        self.seconds += seconds;
        if self.seconds - self.configured_at >= SETTLE.as_secs().cast_signed() {
            self.trust.fill(self.configured.clone());
        }
    }

    fn lead(&mut self) -> Step {
        let is_configured = self.configured == self.kept.bundle();
        let since = match self.steady_since {
            Some(since) if is_configured && since >= self.changed => since,
            _ => self.seconds,
        };
        self.steady_since = is_configured.then_some(since);
        let steady = Duration::from_secs((self.seconds - since).unsigned_abs());
        let (now, times) = (
            self.now() + SignedDuration::from_secs(self.leap),
            Times::default(),
        );
        let step = self.kept.next(is_configured, steady, &names(), &times, now);
        match &step {
            Step::Authority(_) => {
                let bundles = [self.configured.clone().into_bytes()];
                self.write(self.kept.with_new_authority(&bundles, &times, now).unwrap());
            }
            Step::Configure => {
                self.configured = self.kept.bundle();
                self.configured_at = self.seconds;
                self.changed = self.seconds;
            }
            Step::Leaf(_) => self.write(self.kept.with_new_leaf(&names(), &times, now).unwrap()),
            Step::Ask => {
                let signs = self.kept.signs().unwrap();
                let all = self.served.iter().all(|served| {
                    let chain = served.as_ref().map(|content| chain(content));
                    chain.is_some_and(|chain| is_signed_by(&chain, &signs, "webhook.ns.svc", now))
                });
                if all {
                    self.write(self.kept.without_old());
                }
            }
            Step::Settle(_) | Step::Rest => {}
        }
        step
    }

    fn write(&mut self, kept: SecretState) {
        self.kept = kept;
        self.changed = self.seconds;
        self.steady_since = None;
    }

    fn follow(&mut self, replica: usize) {
        let places = Places {
            certificate: String::new(),
            key: String::new(),
        };
        if let Some(content) = &self.kept.leaf
            && content.check(&places, self.now()).is_ok()
        {
            self.served[replica] = Some(content.clone());
        }
    }

    /// Every API server trusts what any replica serves.
    fn is_trusted(&self) -> TestCaseResult {
        for served in self.served.iter().flatten() {
            let chain = chain(served);
            // At a time at which the leaf holds: whether it is out of date is not the question.
            let (_, ends) = validity(&chain[0]).unwrap();
            for trust in &self.trust {
                let is_trusted = authorities(trust.as_bytes())
                    .0
                    .iter()
                    .any(|authority| is_signed_by(&chain, authority, "webhook.ns.svc", ends));
                prop_assert!(is_trusted, "at {} s", self.seconds);
            }
        }
        Ok(())
    }
}

fn chain(content: &Content) -> Vec<CertificateDer<'static>> {
    crate::tls::pair::certificates(&content.certificate).unwrap()
}

fn anything() -> impl Strategy<Value = Happens> {
    prop_oneof![
        20 => Just(Happens::Lead),
        2 => Just(Happens::Failover),
        6 => (1..15_u8).prop_map(Happens::Wait),
        1 => (1..400_u16).prop_map(Happens::Sleep),
        1 => (-100..2000_i16).prop_map(Happens::Leap),
        6 => (0..3_usize).prop_map(Happens::Follow),
        2 => (0..3_usize).prop_map(Happens::Restart),
        4 => (0..2_usize).prop_map(Happens::Hear),
        1 => Just(Happens::Delete),
        1 => (0..4_usize).prop_map(Happens::Halve),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_every_api_server_trusts_what_any_replica_serves(
        all in prop::collection::vec(anything(), 1..100)
    ) {
        let mut world = World::new();
        for what in &all {
            world.happens(what);
            world.is_trusted()?;
            if authorities(&world.kept.authorities).0.len() == MOST_AUTHORITIES {
                // Beyond so many the oldest are given up.
                return Ok(());
            }
        }
        // And in the end it settles, when the clock is right.
        world.leap = 0;
        for _ in 0..40 {
            world.lead();
            (0..3).for_each(|replica| world.follow(replica));
            world.pass(3);
            world.is_trusted()?;
        }
        prop_assert_eq!(world.lead(), Step::Rest);
        prop_assert_eq!(authorities(world.configured.as_bytes()).0.len(), 1);
    }
}
