//! What the leader asks by itself, beside reviews.

use forestall::registry::Urgency;
use forestall::registry::credentials::PodCredentials;

use super::*;

/// What the background is told of an image.
async fn probe_behind(client: &RegistryClient, image: &str) -> String {
    let (pod, by) = (PodCredentials::default(), Instant::now() + PATIENCE);
    let image = reference(image);
    told(
        client
            .probe_for(&image, &pod, Urgency::Background, by)
            .await,
    )
}

#[tokio::test]
async fn what_the_background_asks_holds_up_no_review() {
    let registry = Scripted::start(|asked| match asked.path() {
        "/v2/team/app/manifests/slow" => Reply::status(200).after(PATIENCE),
        _ => Reply::status(200),
    })
    .await;
    let client = client_of(&registry.url());
    let images: Vec<_> = ["slow".to_owned()]
        .into_iter()
        .chain((0..40).map(|tag| tag.to_string()))
        .map(|tag| format!("registry.test/team/app:{tag}"))
        .collect();
    let scan = futures::future::join_all(images.iter().map(|image| probe_behind(&client, image)));
    let reviews = async {
        while registry.asked().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
        // One in four of the host's places, and it is taken.
        assert_eq!(registry.asked().len(), 1);
        let by = Instant::now() + Duration::from_secs(1);
        // The first three are what the background waits to ask, too.
        let reviews = ["0", "7", "39", "new"].map(|tag| format!("registry.test/team/app:{tag}"));
        for image in reviews {
            let answer = client.probe(&reference(&image), by).await;
            assert_eq!(told(answer), "exists", "{image}");
        }
    };
    let (told_behind, ()) = tokio::join!(scan, reviews);
    for (image, told) in images.iter().zip(&told_behind) {
        let expected = match image.rsplit(':').next().unwrap() {
            "slow" => "did not answer in time",
            // It had to wait, and the review has told it meanwhile.
            "0" | "7" | "39" => "exists",
            _ => "was not asked: too many questions wait",
        };
        assert_eq!(told, expected, "{image}");
    }
    // That it had to wait is nobody else's answer.
    let by = Instant::now() + Duration::from_secs(1);
    let answer = client
        .probe(&reference("registry.test/team/app:20"), by)
        .await;
    assert_eq!(told(answer), "exists");
}

#[tokio::test]
async fn the_background_asks_a_host_five_questions_a_second_after_ten() {
    let registry = Scripted::start(|_| Reply::status(200)).await;
    let client = client_of(&registry.url());
    let ask = async |images: std::ops::Range<usize>| {
        let begun = Instant::now();
        let images: Vec<_> = images
            .map(|tag| format!("registry.test/team/app:{tag}"))
            .collect();
        let asked = images.iter().map(|image| probe_behind(&client, image));
        for told in futures::future::join_all(asked).await {
            assert_eq!(told, "exists");
        }
        begun.elapsed()
    };
    let took = ask(0..15).await;
    assert!(took > Duration::from_millis(900), "{took:?}");
    // It has never more than ten to spend at once.
    let took = ask(15..27).await;
    assert!(took > Duration::from_millis(300), "{took:?}");
}

#[tokio::test]
async fn the_background_asks_four_questions_at_a_time() {
    let mut registries = Vec::new();
    for index in 0..8 {
        let slow = Scripted::start(|_| Reply::status(200).after(PATIENCE)).await;
        registries.push((format!("{index}.test"), slow.url(), slow));
    }
    let entries: Vec<_> = registries
        .iter()
        .map(|(host, server, _)| (host.as_str(), server.as_str()))
        .collect();
    let client = client(&entries);
    let images: Vec<_> = (0..24)
        .map(|index| format!("{}.test/a:{index}", index % 8))
        .collect();
    let scan = futures::future::join_all(images.iter().map(|image| probe_behind(&client, image)));
    let asked = || {
        let asked = registries.iter().map(|(_, _, slow)| slow.asked().len());
        asked.sum::<usize>()
    };
    let watched = async {
        while asked() < 4 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
        asked()
    };
    let (_, at_once) = tokio::join!(scan, watched);
    assert_eq!(at_once, 4);
}

#[tokio::test]
async fn what_the_background_asks_is_counted_without_the_time_that_it_waits() {
    let registry = Scripted::start(|_| Reply::status(200)).await;
    let metrics = Arc::new(Metrics::default());
    let client = client_with(&[("registry.test", &registry.url())], Arc::clone(&metrics));
    let seconds = "forestall_registry_request_duration_seconds_count";
    let asked = "forestall_registry_requests_total{registry=\"registry.test\",outcome=\"found\"}";
    assert_eq!(probe_behind(&client, IMAGE).await, "exists");
    let text = metrics.encode();
    assert!(
        text.contains(&format!("{asked} 1\n")) && !text.contains(seconds),
        "{text}"
    );
    let answer = probe(&client, "registry.test/team/app:v2").await;
    assert_eq!(told(answer), "exists");
    let text = metrics.encode();
    let timed = format!("{seconds}{{registry=\"registry.test\"}} 1\n");
    assert!(
        text.contains(&format!("{asked} 2\n")) && text.contains(&timed),
        "{text}"
    );
}
