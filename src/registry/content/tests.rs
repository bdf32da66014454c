use super::*;

const DIGEST: &str = "sha256:6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b";

fn of(os: &str, architecture: &str) -> String {
    let platform = format!(r#"{{"os":"{os}","architecture":"{architecture}"}}"#);
    format!(r#"{{"digest":"{DIGEST}","platform":{platform}}}"#)
}

fn read(entries: &str) -> Result<Manifest, ProbeError> {
    read_index(format!("{{\"manifests\":[{entries}]}}").as_bytes())
}

#[test]
fn registry_case_104_an_index_names_the_platforms_that_pull_it() {
    let read = |entries: &str| {
        read(entries).map(|manifest| match manifest.platforms {
            ImagePlatforms::Any => "any".to_owned(),
            ImagePlatforms::Only(platforms) => {
                let words: Vec<_> = platforms.iter().map(ToString::to_string).collect();
                words.join(" ")
            }
        })
    };
    let both = [
        of("linux", "arm64"),
        of("linux", "amd64"),
        of("linux", "arm64"),
    ]
    .join(",");
    assert_eq!(read(&both).unwrap(), "linux/amd64 linux/arm64");
    let attested = [of("linux", "amd64"), of("unknown", "unknown")].join(",");
    assert_eq!(read(&attested).unwrap(), "linux/amd64");
    for any in ["", ",\"platform\":null"] {
        let any = format!("{{\"digest\":\"{DIGEST}\"{any}}}");
        assert_eq!(read(&format!("{both},{any}")).unwrap(), "any");
    }
    for odd in [
        "5",
        "{\"digest\":\"latest\"}",
        &of("linux", "<evil>"),
        &of("", "amd64"),
        &format!("{{\"digest\":\"{DIGEST}\",\"platform\":{{}}}}"),
    ] {
        assert!(read(odd).is_err(), "{odd}");
    }
}

#[test]
fn of_an_index_the_usual_platform_is_looked_at_else_the_first() {
    let next = |entries: &[(&str, &str, char)]| {
        let entry = |&(os, architecture, digit): &(&str, &str, char)| {
            let digest = format!("sha256:{}", digit.to_string().repeat(64));
            of(os, architecture).replace(DIGEST, &digest)
        };
        let entries: Vec<_> = entries.iter().map(entry).collect();
        match read(&entries.join(",")).unwrap().leads_to {
            Some(Next::Manifest(digest)) => digest.chars().last().unwrap(),
            next => panic!("{next:?}"),
        }
    };
    let attested = ("unknown", "unknown", 'a');
    let (arm, intel) = (("linux", "arm64", 'b'), ("linux", "amd64", 'c'));
    assert_eq!(next(&[attested, arm, intel, attested]), 'c');
    assert_eq!(next(&[attested, arm, ("windows", "amd64", 'd')]), 'b');
}

#[test]
fn content_is_believed_if_it_has_the_digest() {
    assert!(has_digest(b"1", DIGEST));
    assert!(!has_digest(b"2", DIGEST));
    for other in [
        "md5:c4ca4238a0b923820dcc509a6f75849b",
        "sha256:",
        "sha256",
        "",
    ] {
        assert!(!has_digest(b"1", other), "{other}");
    }
    let sha_512 = "sha512:4dff4ea340f0a823f15d3f4f01ab62eae0e5da579ccb851f8db9dfe84c58b2b3\
                   7b89903a740e1ee172da793a6e79d560e5f7f9bd058a12a280433ed6fa46510a";
    assert!(has_digest(b"1", sha_512));
}

#[test]
fn what_is_null_or_left_out_of_a_configuration_is_empty() {
    let read = |text: &str| read_config(text.as_bytes());
    let all = r#"{"config": {"Env": ["A=1"], "Entrypoint": ["/a"], "Cmd": ["-b"],
                  "Labels": {"c": "d"}, "User": "65532"}, "history": []}"#;
    let expected = ImageConfig {
        env: vec!["A=1".to_owned()],
        entrypoint: vec!["/a".to_owned()],
        cmd: vec!["-b".to_owned()],
        labels: BTreeMap::from([("c".to_owned(), "d".to_owned())]),
    };
    assert_eq!(read(all), Ok(expected));
    for empty in [
        "{}",
        r#"{"config": null}"#,
        r#"{"config": {"Env": null, "Labels": null}}"#,
    ] {
        assert_eq!(read(empty), Ok(ImageConfig::default()), "{empty}");
    }
    for odd in ["", "[]", r#"{"config": {"Env": "A=1"}}"#] {
        assert!(read(odd).is_err(), "{odd}");
    }
}
