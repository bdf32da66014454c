//! Time, bytes, numbers, and what is remembered.

use super::*;

#[tokio::test]
async fn registry_case_66_a_registry_that_does_not_answer_costs_the_review_its_time_only() {
    let registry = Scripted::start(|_| Reply::status(200).after(PATIENCE)).await;
    let client = client_of(&registry.url());
    let begun = Instant::now();
    let answer = client
        .probe(&reference(IMAGE), begun + Duration::from_millis(200))
        .await;
    assert_eq!(told(answer), "did not answer in time");
    assert!(
        begun.elapsed() < Duration::from_secs(2),
        "{:?}",
        begun.elapsed()
    );
    // Even those who would wait longer get no more than the time of one question.
    assert_eq!(told(probe(&client, IMAGE).await), "did not answer in time");
    assert!(
        begun.elapsed() < Duration::from_secs(10),
        "{:?}",
        begun.elapsed()
    );
    assert_eq!(registry.asked().len(), 1);
}

#[tokio::test]
async fn registries_that_cannot_be_reached_or_break_off_are_unknown() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let answer = probe(&client_of(&format!("http://{address}")), IMAGE).await;
    assert!(!answered_before(&answer));
    assert_eq!(told(answer), "cannot be reached");

    let broken = "broke off before the end of its answer";
    assert_eq!(answer_with_404(Reply::status(0)).await, broken);
    let short = Reply::error(404, "MANIFEST_UNKNOWN").length(5000);
    assert_eq!(answer_with_404(short).await, broken);
    let zipped = Reply::status(404)
        .header("Content-Encoding", "gzip")
        .header("Content-Type", "application/json")
        .body([0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3]);
    assert_eq!(
        answer_with_404(zipped).await,
        "answered 404, but not in the words of a registry"
    );
    let long = Reply::status(404).body("x".repeat(100_000));
    assert_eq!(
        answer_with_404(long).await,
        "gave a longer answer than a registry gives"
    );
}

/// The answer where HEAD says 404 and GET says this.
async fn answer_with_404(get: Reply) -> String {
    answer(move |asked| match asked.method.as_str() {
        "HEAD" => Reply::status(404),
        _ => get.clone(),
    })
    .await
}

#[tokio::test]
async fn registry_case_72_a_hundred_who_ask_at_once_are_one_question() {
    let registry = Scripted::start(|_| Reply::status(200).after(Duration::from_millis(100))).await;
    let client = client_of(&registry.url());
    let asked = (0..100).map(|_| probe(&client, IMAGE));
    for answer in futures::future::join_all(asked).await {
        assert_eq!(answer, Ok(ImageState::Exists));
    }
    assert_eq!(registry.asked().len(), 1);
}

#[tokio::test]
async fn a_question_that_nobody_waits_for_any_more_still_fills_the_cache() {
    let registry = Scripted::start(|_| Reply::status(200).after(Duration::from_millis(300))).await;
    let client = Arc::new(client_of(&registry.url()));
    let review = tokio::spawn({
        let client = Arc::clone(&client);
        async move { probe(&client, IMAGE).await }
    });
    while registry.asked().is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    review.abort();
    assert!(review.await.unwrap_err().is_cancelled());
    assert_eq!(probe(&client, IMAGE).await, Ok(ImageState::Exists));
    assert_eq!(registry.asked().len(), 1);
}

#[tokio::test]
async fn registry_case_63_a_registry_that_wants_rest_gets_it() {
    let registry = Scripted::start(|_| Reply::status(429).header("Retry-After", "1")).await;
    let client = client_of(&registry.url());
    for _ in 0..3 {
        let answer = probe(&client, IMAGE).await;
        assert_eq!(told(answer), "answered 429: too many requests");
    }
    assert_eq!(registry.asked().len(), 1);
    // The answer that takes the place of the first one has a time of its own.
    for asked in [2, 3] {
        while registry.asked().len() < asked {
            tokio::time::sleep(Duration::from_millis(50)).await;
            told(probe(&client, IMAGE).await);
        }
        told(probe(&client, IMAGE).await);
        assert_eq!(registry.asked().len(), asked);
    }
}

#[tokio::test]
async fn registry_case_63_and_64_the_rest_is_for_every_image_of_the_host() {
    let registry = Scripted::start(|asked| match asked.method.as_str() {
        "HEAD" => Reply::status(404),
        _ => Reply::error(429, "TOOMANYREQUESTS").header("Retry-After", "120"),
    })
    .await;
    let metrics = Arc::new(Metrics::default());
    let client = client_with(&[("registry.test", &registry.url())], Arc::clone(&metrics));
    for tag in ["v1", "v2", "v3"] {
        let answer = probe(&client, &format!("registry.test/team/app:{tag}")).await;
        assert_eq!(told(answer), "answered 429: too many requests");
    }
    assert_eq!(registry.asked().len(), 2);
    let text = metrics.encode();
    let line = format!(
        "forestall_registry_left_alone{{registry=\"{}\"}} 1",
        registry.address
    );
    assert!(text.contains(&line), "{text}");
}

#[tokio::test]
async fn registry_case_65_a_registry_that_fails_five_times_is_left_alone() {
    let registry = Scripted::start(|_| Reply::status(503)).await;
    let healthy = Scripted::start(|_| Reply::status(200)).await;
    let client = client(&[
        ("registry.test", &registry.url()),
        ("healthy.test", &healthy.url()),
    ]);
    for tag in 1..=5 {
        let answer = probe(&client, &format!("registry.test/team/app:v{tag}")).await;
        assert_eq!(told(answer), "answered 503");
    }
    let answer = probe(&client, "registry.test/team/app:v6").await;
    assert_eq!(told(answer), "was not asked: it failed the last times");
    assert_eq!(registry.asked().len(), 5);
    // Another one is asked all the same.
    assert_eq!(told(probe(&client, "healthy.test/a:v1").await), "exists");
}

#[tokio::test]
async fn registry_case_71_of_twenty_images_the_one_that_hangs_holds_up_no_other() {
    let registry = Scripted::start(|asked| match asked.path() {
        "/v2/team/app/manifests/7" => Reply::status(200).after(PATIENCE),
        _ => Reply::status(200),
    })
    .await;
    let client = client_of(&registry.url());
    let images: Vec<_> = (0..20)
        .map(|tag| format!("registry.test/team/app:{tag}"))
        .collect();
    let by = Instant::now() + Duration::from_secs(2);
    let asked = images.iter().map(async |image| {
        let answer = client.probe(&reference(image), by).await;
        told(answer)
    });
    let answers = futures::future::join_all(asked).await;
    for (index, answer) in answers.iter().enumerate() {
        let expected = match index {
            7 => "did not answer in time",
            _ => "exists",
        };
        assert_eq!(answer, expected, "{index}");
    }
}

#[tokio::test]
async fn one_host_is_asked_four_questions_at_a_time() {
    let registry = Scripted::start(|_| Reply::status(200).after(PATIENCE)).await;
    let client = client_of(&registry.url());
    let images: Vec<_> = (0..12)
        .map(|tag| format!("registry.test/team/app:{tag}"))
        .collect();
    let asked = futures::future::join_all(images.iter().map(|image| probe(&client, image)));
    let watched = async {
        while registry.asked().len() < 4 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
        registry.asked().len()
    };
    let (answers, at_once) = tokio::join!(asked, watched);
    assert_eq!(at_once, 4);
    let (late, waiting): (Vec<_>, Vec<_>) = answers
        .into_iter()
        .map(told)
        .partition(|told| told == "did not answer in time");
    assert_eq!(late.len(), 4);
    assert!(
        waiting
            .iter()
            .all(|told| told == "was not asked: too many questions wait")
    );
}

#[tokio::test]
async fn a_slow_registry_holds_up_no_other() {
    let slow = Scripted::start(|_| Reply::status(200).after(PATIENCE)).await;
    let quick = Scripted::start(|_| Reply::status(200)).await;
    let client = client(&[("slow.test", &slow.url()), ("quick.test", &quick.url())]);
    let images: Vec<_> = (0..100)
        .map(|tag| format!("slow.test/team/app:{tag}"))
        .collect();
    let slowly = futures::future::join_all(images.iter().map(|image| probe(&client, image)));
    let quickly = async {
        while slow.asked().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let by = Instant::now() + Duration::from_secs(2);
        client.probe(&reference("quick.test/team/app:v1"), by).await
    };
    tokio::select! {
        _ = slowly => panic!("a hundred slow answers came before a quick one"),
        answer = quickly => assert_eq!(answer, Ok(ImageState::Exists)),
    }
}

#[tokio::test]
async fn names_of_nowhere_hold_up_no_registry_that_has_answered() {
    let known = Scripted::start(|_| Reply::status(200)).await;
    let mut servers = vec![("known.test".to_owned(), known.url())];
    let mut nowhere = Vec::new();
    for index in 0..12 {
        let slow = Scripted::start(|_| Reply::status(200).after(PATIENCE)).await;
        servers.push((format!("{index}.test"), slow.url()));
        nowhere.push(slow);
    }
    let entries: Vec<_> = servers
        .iter()
        .map(|(host, server)| (host.as_str(), server.as_str()))
        .collect();
    let client = client(&entries);
    let answer = probe(&client, "known.test/a:1").await;
    assert_eq!(answer, Ok(ImageState::Exists));

    let images: Vec<_> = (0..48)
        .map(|index| format!("{}.test/a:{index}", index % 12))
        .collect();
    let slowly = futures::future::join_all(images.iter().map(|image| probe(&client, image)));
    let quickly = async {
        let asked = || nowhere.iter().map(|slow| slow.asked().len()).sum::<usize>();
        while asked() < 16 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let by = Instant::now() + Duration::from_secs(2);
        let answer = client.probe(&reference("known.test/a:2"), by).await;
        (answer, asked())
    };
    tokio::select! {
        _ = slowly => panic!("slow answers came before a quick one"),
        (answer, at_once) = quickly => {
            assert_eq!((answer, at_once), (Ok(ImageState::Exists), 16));
        }
    }
}

#[tokio::test]
async fn registry_case_85_a_list_of_tags_without_end_is_five_pages() {
    for next in ["?last=v2", "?n=1000"] {
        let registry = Scripted::start(move |asked| match asked.path() {
            TAGS => Reply::tags(&["v2"]).header("Link", &format!("<{TAGS}{next}>; rel=\"next\"")),
            _ => Reply::error(404, "MANIFEST_UNKNOWN"),
        })
        .await;
        let answer = probe(&client_of(&registry.url()), IMAGE).await;
        assert_eq!(told(answer), "missing Tag [v2]");
        assert!(registry.count("GET", TAGS) <= 2, "the same page twice");
    }
    let registry = Scripted::start(|asked| match asked.path() {
        TAGS => {
            let next = format!("<{}1>; rel=\"next\"", asked.target);
            Reply::tags(&["v2"]).header("Link", &next)
        }
        _ => Reply::error(404, "MANIFEST_UNKNOWN"),
    })
    .await;
    let answer = probe(&client_of(&registry.url()), IMAGE).await;
    assert_eq!(told(answer), "missing Tag [v2]");
    assert_eq!(registry.count("GET", TAGS), 5);
}

#[tokio::test]
async fn registry_case_86_a_page_of_tags_that_is_too_long_or_broken_is_left_out() {
    let long = format!("{{\"tags\":[{}\"v2\"]}}", "\"v2\",".repeat(500_000));
    for body in [
        long,
        "evil".to_owned(),
        "{\"tags\":{}}".to_owned(),
        "[".repeat(10_000),
    ] {
        let script = move |asked: &Asked| match asked.path() {
            TAGS => Reply::status(200).body(body.clone()),
            _ => Reply::error(404, "MANIFEST_UNKNOWN"),
        };
        assert_eq!(answer(script).await, "missing Tag []");
    }
}

#[tokio::test]
async fn a_slow_list_of_tags_does_not_undo_the_proof() {
    let script = |asked: &Asked| match asked.path() {
        TAGS => Reply::tags(&["v2"]).after(PATIENCE),
        _ => Reply::error(404, "MANIFEST_UNKNOWN"),
    };
    assert_eq!(answer(script).await, "missing Tag []");
}

#[tokio::test]
async fn what_a_registry_still_gives_is_shown() {
    let registry = Scripted::start(|asked| {
        let remaining = match (asked.header("authorization"), asked.path()) {
            (_, "/token") => return Reply::status(200).json(&serde_json::json!({"token": "t"})),
            (None, _) => {
                let realm = format!(
                    "Bearer realm=\"http://{}/token\"",
                    asked.header("host").unwrap()
                );
                return Reply::error(401, "UNAUTHORIZED").header("WWW-Authenticate", &realm);
            }
            (_, MANIFEST) => "100;w=21600",
            _ => "76;w=21600",
        };
        Reply::status(200).header("ratelimit-remaining", remaining)
    })
    .await;
    let silent = Scripted::start(|_| Reply::status(200)).await;
    let metrics = Arc::new(Metrics::default());
    let servers = [
        ("registry.test", &*registry.url()),
        ("silent.test", &silent.url()),
    ];
    let client = client_with(&servers, Arc::clone(&metrics));
    let name = "forestall_registry_ratelimit_remaining{registry";
    for (image, remaining) in [(IMAGE, 100), ("registry.test/team/app:v2", 76)] {
        assert_eq!(told(probe(&client, image).await), "exists");
        let line = format!("{name}=\"{}\"}} {remaining}\n", registry.address);
        let text = metrics.encode();
        assert!(text.contains(&line), "{line} is not in\n{text}");
    }
    assert_eq!(told(probe(&client, "silent.test/a:1").await), "exists");
    let shown = metrics.encode();
    assert_eq!(shown.matches(name).count(), 1, "{shown}");
}

#[tokio::test]
async fn what_registries_answer_is_counted() {
    let registry = Scripted::start(|asked| match asked.path() {
        MANIFEST => Reply::status(200),
        "/v2/team/app/manifests/v2" => Reply::status(500),
        _ => absent(asked),
    })
    .await;
    let metrics = Arc::new(Metrics::default());
    let client = client_with(&[("registry.test", &registry.url())], Arc::clone(&metrics));
    for image in [
        IMAGE,
        IMAGE,
        "registry.test/team/app:v2",
        "registry.test/team/app:v9",
        "10.0.0.1/a",
    ] {
        let _ = probe(&client, image).await;
    }
    let text = metrics.encode();
    for line in [
        "forestall_registry_requests_total{registry=\"registry.test\",outcome=\"found\"} 1",
        "forestall_registry_requests_total{registry=\"registry.test\",outcome=\"unreachable\"} 1",
        "forestall_registry_requests_total{registry=\"registry.test\",outcome=\"absent\"} 1",
        "forestall_registry_requests_total{registry=\"10.0.0.1\",outcome=\"blocked\"} 1",
        "forestall_registry_request_duration_seconds_count{registry=\"registry.test\"} 3",
        "forestall_registry_cache_hits_total 1",
        "forestall_registry_cache_misses_total 4",
        "forestall_registry_readable{registry=\"registry.test\"} 1",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
}
