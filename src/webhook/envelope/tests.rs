use super::*;

/// With the fields in the order in which an API server writes them.
fn body(group: &str, kind: &str, operation: &str, object: &str, previous: &str) -> String {
    format!(
        r#"{{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{{"uid":"u",
        "kind":{{"group":"{group}","version":"v1","kind":"{kind}"}},"name":"","namespace":"shop",
        "operation":"{operation}","userInfo":{{"username":"alice"}},"object":{object},
        "oldObject":{previous},"dryRun":true,"options":null}}}}"#
    )
}

fn parse(body: &Arc<String>) -> Envelope<'_> {
    Envelope::parse(body, Bound::of(body.as_bytes())).unwrap()
}

const OBJECT: &str = r#"{"metadata":{"generateName":"web-","managedFields":[{"a":{}}]},
    "spec":{"a":"\u003c\ud83d\ude00","a":[1,-1,0.5,1e3,null,true]},"status":{"b":2}}"#;

#[test]
fn an_object_that_is_read_on_the_way_gives_the_same_review() {
    let deep = format!("{{\"spec\":{}{}}}", "[".repeat(127), "]".repeat(127));
    let objects = [
        OBJECT,
        "null",
        "{}",
        "[]",
        "1",
        "\"a\"",
        &deep,
        "{\"a\":1e999}",
        "{\"a\":\"\\ud800\"}",
    ];
    let kinds = [("apps", "Deployment"), ("argoproj.io", "Application")];
    let operations = ["CREATE", "UPDATE", "DELETE", "CONNECT", "PATCH"];
    for (object, previous) in objects.iter().flat_map(|a| objects.map(|b| (*a, b))) {
        for ((group, kind), operation) in kinds
            .iter()
            .flat_map(|kind| operations.map(|operation| (*kind, operation)))
        {
            let body = body(group, kind, operation, object, previous);
            let body = Arc::new(body);
            let mut on_the_way = parse(&body);
            let mut after = Envelope::parse_raw(&body).unwrap();
            assert_eq!(on_the_way.head, after.head, "{body}");
            let is_create = operation == "CREATE";
            let operation = [Operation::Update, Operation::Create][usize::from(is_create)];
            assert_eq!(
                format!("{:?}", on_the_way.review(operation)),
                format!("{:?}", after.review(operation)),
                "{body}"
            );
        }
    }
}

#[test]
fn an_object_is_read_on_the_way_where_it_can_be_judged() {
    let is_read = |operation, object| {
        let body = body("apps", "Deployment", operation, object, "null");
        let body = Arc::new(body);
        matches!(parse(&body).object, Some(Object::Read(_)))
    };
    assert!(is_read("CREATE", OBJECT) && is_read("UPDATE", OBJECT));
    assert!(!is_read("DELETE", OBJECT) && !is_read("CREATE", "{\"a\":1e999}"));
}
