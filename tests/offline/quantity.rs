//! Our reading of quantities against the Go library that the API server uses.

use forestall::quantity::Quantity;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, TestRunner};
use serde::Deserialize;

/// How many generated quantities are compared.
const GENERATED: usize = 20_000;

/// The table of the units that people get wrong, and the corners of the grammar.
#[rustfmt::skip]
const TABLE: &[&str] = &[
    "512m", "0.5", "0.1", "1000m", "512", "128974848000m", "512M", "2G", "1.5G", "0.5Gi", "1e9",
    "1E9", "+1Gi", "512K", "512mi", "512MI", "512MB", "512MiB", "1g", "1 Gi", " 1Gi", "1Gi ",
    "1_000", "", " ", "1E", "1Ei", "7Ei", "8Ei", "16Ei", "-8Ei", "-16Ei", "1.1Ei", "0", "00", "-0",
    "+0", "0.0", "0Ei", "0Pi", "+", "-", ".", "-.", ".Mi", "Mi", "Ei", "Pi", "Ti", "m", "n", "e",
    "E", "e5", "E5", "e-9", "e-10", ".e-10", "k", "K", "ki", "kI", "1k", "1Ki", "1.", "1.Gi",
    ".5Gi", ".5", "..5", "1..5", "1.5.2", "--1", "+-1", "-1", "-1.5", "-0.5", "-1.5Gi", "-1m",
    "-1n", "1n", "1u", "1500000u", "2000000001n", "3G", "3T", "3P", "1.0000000001", "0.0000000001", "1e-10", "999999999n", "1000000001n", "1e",
    "1e+", "1e-", "1e+3", "1e-3", "1E+3", "1E-3", "1e3Mi", "1Mi3", "1Mi+3", "1Mie3", "1ee3", "1Ee3",
    "1eE3", "1i", "1iM", "1MM", "1Mm", "1 ", "1\n", "1\u{a0}", "½", "١", "0x10", "1e18", "1e19",
    "9e18", "1e30", "1e38", "1.5e38", "2e38", "9223372036854775807", "9223372036854775808",
    "-9223372036854775808", "18446744073709551616", "9223372036854775807Ki",
    "123456789012345678901234567890Mi", "0.000000000000000000000000000001Ei",
    "1.0000000000000000000000000000000000000000001Gi", "1e4294967296", "1e4294967299",
    "1e9223372036854775808", "1e0000000000000000000003", "1.2345678901234567890123456789Ei",
    "000000000000000000000000000000000001Gi", "340282366920938463463374607431768211456", "1T", "1P",
    "1Ti", "1Pi", "1.5Ti", "1.5Pi",
];

#[derive(Debug, Deserialize)]
struct Answer {
    #[serde(default)]
    error: String,
    value: i64,
    exact: String,
}

fn compare(quantities: &[String]) {
    let theirs: Vec<Answer> = super::go::answers("quantity", quantities);
    assert_eq!(theirs.len(), quantities.len());
    for (text, theirs) in quantities.iter().zip(theirs) {
        let ours = Quantity::parse(text).map(|quantity| quantity.bytes());
        if !theirs.error.is_empty() {
            assert!(
                ours.is_err(),
                "{text:?} is {ours:?}, but {:?} in Go",
                theirs.error
            );
            continue;
        }
        let ours = ours.unwrap_or_else(|error| panic!("{error}, but {theirs:?} in Go"));
        // Only what is beyond an i128 is not even parsed here.
        let exact = theirs.exact.parse().unwrap_or(i128::MAX * ours.signum());
        assert_eq!(
            ours, exact,
            "left: Forestall, right: the Go library, for {text:?}"
        );
        // Value() cuts what does not fit, and rounds some negative fractions towards zero.
        if (0..=i128::from(i64::MAX)).contains(&ours) {
            assert_eq!(ours, i128::from(theirs.value), "Value() of {text:?}");
        }
    }
}

#[test]
fn hand_written_quantities_are_read_as_by_the_go_library() {
    let quantities: Vec<String> = TABLE.iter().map(ToString::to_string).collect();
    compare(&quantities);
}

/// Pieces that make a quantity now and then, and arbitrary text in between.
fn quantity() -> impl Strategy<Value = String> {
    let suffix = prop::sample::select(vec![
        "", "n", "u", "m", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei", "e3",
        "E6", "e-3", "E+2", "e-10", "e40", "K", "mi", "MB", "e", "i",
    ]);
    let shaped = ("[+-]?", "[0-9]{0,21}(\\.[0-9]{0,24})?", suffix)
        .prop_map(|(sign, number, suffix)| format!("{sign}{number}{suffix}"));
    prop_oneof![
        6 => shaped,
        2 => "[+-]?[0-9.]{0,6}[eEinumkKMGTP]{0,2}[+-]?[0-9]{0,2}",
        1 => "\\PC{0,6}",
    ]
}

#[test]
fn generated_quantities_are_read_as_by_the_go_library() {
    let mut runner = TestRunner::new(Config {
        failure_persistence: None,
        ..Config::default()
    });
    let strategy = quantity();
    let quantities: Vec<String> = (0..GENERATED)
        .map(|_| strategy.new_tree(&mut runner).unwrap().current())
        .collect();
    let valid = quantities
        .iter()
        .filter(|text| Quantity::parse(text).is_ok())
        .count();
    assert!(
        (GENERATED / 3..GENERATED - GENERATED / 10).contains(&valid),
        "{valid} of {GENERATED} are quantities: the comparison shows little"
    );
    compare(&quantities);
}
