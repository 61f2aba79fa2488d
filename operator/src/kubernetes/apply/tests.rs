#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
};

use http::{Request, Response};
use http_body_util::BodyExt;
use k8s_openapi::api::{apps::v1::Deployment, core::v1::Secret};
use kube::{Client, client::Body};
use tokio::time::Instant;

use super::*;
use crate::kubernetes::{leadership::NotLeader, observer::Counts};

/// Requests to the API server: method, path and query, body.
type Asked = Arc<Mutex<Vec<(String, String, Value)>>>;

/// An API server that answers every request alike; `None` never answers.
fn server(answer: Option<(u16, Value)>) -> (Client, Asked) {
    let asked = Asked::default();
    let log = Arc::clone(&asked);
    let service = tower::service_fn(move |request: Request<Body>| {
        let (log, answer) = (Arc::clone(&log), answer.clone());
        async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
            log.lock()
                .unwrap()
                .push((head.method.to_string(), head.uri.to_string(), body));
            let Some((code, body)) = answer else {
                return std::future::pending().await;
            };
            let answer = Response::builder()
                .status(code)
                .body(Body::from(serde_json::to_vec(&body).unwrap()));
            Ok::<_, Infallible>(answer.unwrap())
        }
    });
    (Client::new(service, "default"), asked)
}

fn secret() -> Value {
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "web-tls", "namespace": "app"}})
}

fn refusal(code: u16, reason: &str, message: &str, details: &Value) -> (u16, Value) {
    let status = json!({
        "apiVersion": "v1", "kind": "Status", "status": "Failure",
        "code": code, "reason": reason, "message": message, "details": details,
    });
    (code, status)
}

fn writer() -> (Writer, Arc<Counts>) {
    let counts = Arc::new(Counts::default());
    (Writer::new(Leadership::always(), counts.clone()), counts)
}

#[tokio::test(start_paused = true)]
async fn a_closed_writer_has_waited_for_what_was_under_way_and_lets_nothing_begin() {
    let (hanging, asked) = server(None);
    let (writer, _) = writer();
    let api = Api::<Secret>::namespaced(hanging, "app");
    let slow = tokio::spawn({
        let (writer, api) = (writer.clone(), api.clone());
        async move { writer.delete(&api, Target::named("slow")).await }
    });
    tokio::task::yield_now().await;
    let began = Instant::now();
    writer.close().await;
    assert_eq!(began.elapsed(), WRITE_TIMEOUT, "the write under way was waited for");
    assert!(slow.is_finished());
    let refused = writer.delete(&api, Target::named("late")).await;
    assert!(matches!(refused, Err(WriteError::NotLeader(_))), "{refused:?}");
    assert!(writer.check().is_err());
    assert_eq!(asked.lock().unwrap().len(), 1, "the API server received one");
}

#[tokio::test]
async fn an_apply_names_manager_type_and_preconditions() {
    let (client, asked) = server(Some((200, secret())));
    let (writer, counts) = writer();
    let api = Api::<Secret>::namespaced(client, "app");
    let target = Target {
        name: "web-tls",
        resource_version: Some("41"),
        uid: Some("u-1"),
    };
    let body = json!({"metadata": {"labels": {"gatehouse.dev/managed": "true"}}, "type": "kubernetes.io/tls"});
    writer.apply(&api, target, body, Conflicts::Take).await.unwrap();
    let sent = json!({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": "web-tls", "resourceVersion": "41", "uid": "u-1", "labels": {"gatehouse.dev/managed": "true"}},
        "type": "kubernetes.io/tls",
    });
    let path = "/api/v1/namespaces/app/secrets/web-tls?&force=true&fieldManager=gatehouse";
    assert_eq!(*asked.lock().unwrap(), [("PATCH".to_owned(), path.to_owned(), sent)]);
    assert_eq!(counts.writes("apply", "Secret", "Ok"), 1);
}

#[tokio::test]
async fn without_force_a_field_of_another_manager_is_left_to_it() {
    let (client, asked) = server(Some((200, secret())));
    let api = Api::<Secret>::namespaced(client, "app");
    writer()
        .0
        .apply(&api, Target::named("web-tls"), json!({}), Conflicts::Refuse)
        .await
        .unwrap();
    assert_eq!(
        asked.lock().unwrap()[0].1,
        "/api/v1/namespaces/app/secrets/web-tls?&fieldManager=gatehouse"
    );
}

#[tokio::test]
async fn a_status_is_applied_to_the_subresource_of_the_very_object() {
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "app", "uid": "u-2", "resourceVersion": "7"},
    });
    let (client, asked) = server(Some((200, deployment.clone())));
    let api = Api::<Deployment>::namespaced(client, "app");
    let object: Deployment = serde_json::from_value(deployment).unwrap();
    writer()
        .0
        .apply_status(&api, Target::same(&object), json!({"replicas": 1}))
        .await
        .unwrap();
    let sent = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "uid": "u-2"}, "status": {"replicas": 1},
    });
    let path = "/apis/apps/v1/namespaces/app/deployments/web/status?&force=true&fieldManager=gatehouse";
    assert_eq!(*asked.lock().unwrap(), [("PATCH".to_owned(), path.to_owned(), sent)]);
    assert_eq!(Target::unchanged(&object).resource_version, Some("7"));
}

#[tokio::test]
async fn a_delete_holds_to_its_preconditions_and_an_object_that_is_gone_is_no_error() {
    let (client, asked) = server(Some(refusal(
        404,
        "NotFound",
        "secrets \"web-tls\" not found",
        &Value::Null,
    )));
    let api = Api::<Secret>::namespaced(client, "app");
    let target = Target {
        name: "web-tls",
        resource_version: None,
        uid: Some("u-1"),
    };
    writer().0.delete(&api, target).await.unwrap();
    let (method, path, body) = asked.lock().unwrap()[0].clone();
    assert_eq!(
        (method.as_str(), path.as_str()),
        ("DELETE", "/api/v1/namespaces/app/secrets/web-tls?")
    );
    assert_eq!(body["preconditions"], json!({"uid": "u-1"}));
}

#[tokio::test]
async fn nothing_is_sent_by_a_process_that_does_not_lead() {
    let (client, asked) = server(Some((200, secret())));
    let counts = Arc::new(Counts::default());
    let writer = Writer::new(Leadership::candidate(), counts.clone());
    let api = Api::<Secret>::namespaced(client, "app");
    let error = writer
        .apply(&api, Target::named("web-tls"), json!({}), Conflicts::Take)
        .await
        .unwrap_err();
    assert!(matches!(error, WriteError::NotLeader(NotLeader)));
    assert!(asked.lock().unwrap().is_empty());
    assert_eq!(counts.writes("apply", "Secret", "NotLeader"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_write_without_answer_is_given_up_and_never_outlives_the_lease() {
    let (client, _) = server(None);
    let api = Api::<Secret>::namespaced(client, "app");
    let started = Instant::now();
    let error = writer()
        .0
        .apply(&api, Target::named("web-tls"), json!({}), Conflicts::Take)
        .await
        .unwrap_err();
    assert_eq!((error.reason(), started.elapsed()), ("Timeout", WRITE_TIMEOUT));
    assert_eq!(
        error.to_string(),
        "Secret web-tls: no answer from the API server within 10s"
    );

    let leadership = Leadership::candidate();
    leadership.extend(Instant::now() + Duration::from_secs(1));
    let started = Instant::now();
    let writer = Writer::new(leadership, Arc::new(Counts::default()));
    let error = writer
        .apply(&api, Target::named("web-tls"), json!({}), Conflicts::Take)
        .await
        .unwrap_err();
    assert_eq!((error.reason(), started.elapsed()), ("Timeout", Duration::from_secs(6)));
}

#[tokio::test]
async fn a_refusal_has_the_reason_that_tells_where_to_mend_it() {
    let terminating =
        json!({"causes": [{"reason": "NamespaceTerminating", "message": "x", "field": "metadata.namespace"}]});
    let uid = json!({"causes": [{"reason": "FieldValueInvalid", "message": "immutable", "field": "metadata.uid"}]});
    let table = [
        (
            refusal(422, "Invalid", "metadata.uid: field is immutable", &uid),
            "Conflict",
        ),
        (
            refusal(409, "Conflict", "Apply failed with 1 conflict", &Value::Null),
            "Conflict",
        ),
        (refusal(409, "AlreadyExists", "exists", &Value::Null), "AlreadyExists"),
        (
            refusal(404, "NotFound", "namespaces \"app\" not found", &Value::Null),
            "NotFound",
        ),
        (
            refusal(403, "Forbidden", "cannot patch resource \"secrets\"", &Value::Null),
            "Forbidden",
        ),
        (
            refusal(403, "Forbidden", "exceeded quota: q, used: secrets=1", &Value::Null),
            "QuotaExceeded",
        ),
        (
            refusal(403, "Forbidden", "is being terminated", &terminating),
            "NamespaceTerminating",
        ),
        (refusal(422, "Invalid", "wrong", &Value::Null), "Invalid"),
        // Policies choose the code: 400 is the API server's choice for a webhook that chose none.
        (
            refusal(
                400,
                "",
                "admission webhook \"validate.example\" denied the request: no",
                &Value::Null,
            ),
            "Forbidden",
        ),
        (
            refusal(
                422,
                "Invalid",
                "secrets \"web-tls\" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: no",
                &Value::Null,
            ),
            "Forbidden",
        ),
        (
            refusal(
                400,
                "BadRequest",
                "admission webhook \"w\" does not support dry run",
                &Value::Null,
            ),
            "Invalid",
        ),
        (refusal(401, "Unauthorized", "who?", &Value::Null), "Unauthorized"),
        (refusal(500, "InternalError", "etcd", &Value::Null), "ServerError"),
    ];
    for ((code, body), reason) in table {
        let (client, _) = server(Some((code, body)));
        let (writer, counts) = writer();
        let api = Api::<Secret>::namespaced(client, "app");
        let error = writer
            .apply(&api, Target::named("web-tls"), json!({}), Conflicts::Take)
            .await
            .unwrap_err();
        assert_eq!(error.reason(), reason, "{error}");
        assert_eq!(counts.writes("apply", "Secret", reason), 1);
    }
}

#[tokio::test]
async fn what_the_api_server_quotes_of_a_secret_never_comes_out() {
    let causes = json!({"causes": [{"reason": "FieldValueInvalid", "message": "Invalid value: \"hunter2\"", "field": "data[tls.key]"}]});
    let (client, _) = server(Some(refusal(
        422,
        "Invalid",
        "data[tls.key]: Invalid value: \"hunter2\"",
        &causes,
    )));
    let api = Api::<Secret>::namespaced(client, "app");
    let error = writer()
        .0
        .apply(&api, Target::named("web-tls"), json!({}), Conflicts::Take)
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "Secret web-tls: the API server answered 422 Invalid (data[tls.key]: FieldValueInvalid)"
    );
    assert!(!format!("{error:?}").contains("hunter2"));

    let mut unreadable = secret();
    unreadable["data"] = json!("hunter2");
    let (client, _) = server(Some((200, unreadable)));
    let api = Api::<Secret>::namespaced(client, "app");
    let error = writer()
        .0
        .apply(&api, Target::named("web-tls"), json!({}), Conflicts::Take)
        .await
        .unwrap_err();
    assert_eq!(error.reason(), "Unreachable");
    assert!(!format!("{error:?} {error}").contains("hunter2"), "{error:?}");
}

#[tokio::test]
async fn a_policy_that_denies_a_secret_is_named_with_its_words_and_without_data() {
    let data = "A".repeat(100);
    let message =
        format!("admission webhook \"validate.example\" denied the request: label team is missing (tls.key={data})");
    let (code, body) = refusal(400, "", &message, &Value::Null);
    let (client, _) = server(Some((code, body)));
    let (writer, _) = writer();
    let api = Api::<Secret>::namespaced(client, "app");
    let error = writer
        .dry_run(&api, Target::named("web-tls"), json!({}), Conflicts::Take)
        .await
        .unwrap_err();
    let words = error.to_string();
    assert!(
        words.contains("validate.example") && words.contains("label team is missing"),
        "{words}"
    );
    assert!(!words.contains(&data), "{words}");
}
