//! Each verb once, and what its answer means.

use kube_client_lite::{
    ApplyMeta, ApplyParams, ListParams, ObjectMeta, PartialObjectMetadata, Patch,
    ResourceAttributes,
};
use kube_sim::{Metrics, Options, PolicyRule, Rbac};
use serde_json::{Value, json};

use crate::common::*;

#[test]
fn an_object_from_creation_to_deletion() {
    let sim = empty();
    let maps = client(&sim).api(CONFIG_MAPS).namespace("default");
    let made: ConfigMap = maps
        .create("test", &config_map("a", &json!({"k": "1"})))
        .unwrap();
    assert_eq!(made.data["k"], "1");
    assert!(!made.metadata.uid.is_empty());

    let error = maps
        .create::<Value>("test", &config_map("a", &json!({})))
        .unwrap_err();
    assert!(error.is_conflict());
    assert_eq!(error.api().unwrap().status.reason, "AlreadyExists");

    let got: ConfigMap = maps.get("a").unwrap();
    assert_eq!(
        got.metadata.resource_version,
        made.metadata.resource_version
    );

    let merged: ConfigMap = maps
        .patch(
            "a",
            "test",
            &Patch::Merge(&json!({"data": {"k": null, "m": "2"}})),
        )
        .unwrap();
    assert_eq!(format!("{:?}", merged.data), r#"{"m": "2"}"#);
    let operations = json!([{"op": "add", "path": "/data/j", "value": "3"}]);
    let patched: ConfigMap = maps.patch("a", "test", &Patch::Json(&operations)).unwrap();
    assert_eq!(patched.data["j"], "3");
    let strategic = json!({"metadata": {"labels": {"x": "y"}}});
    let patched: ConfigMap = maps
        .patch("a", "test", &Patch::StrategicMerge(&strategic))
        .unwrap();
    assert_eq!(patched.metadata.labels["x"], "y");

    maps.delete("a").unwrap();
    assert!(maps.get::<Value>("a").unwrap_err().is_not_found());
    assert!(maps.delete("a").unwrap_err().is_not_found());
}

#[test]
fn applying_twice_changes_nothing_and_conflicts_are_named() {
    let sim = empty();
    let maps = client(&sim).api(CONFIG_MAPS).namespace("default");
    let object = |value| {
        json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": ApplyMeta { name: "a", ..ApplyMeta::default() },
            "data": {"k": value},
        })
    };
    let mine = ApplyParams::new("mine");
    let first: ConfigMap = maps.apply("a", &mine, &object("1")).unwrap();
    let second: ConfigMap = maps.apply("a", &mine, &object("1")).unwrap();
    assert_eq!(
        first.metadata.resource_version,
        second.metadata.resource_version
    );

    let theirs = ApplyParams::new("theirs");
    let error = maps.apply::<Value>("a", &theirs, &object("2")).unwrap_err();
    assert!(error.is_conflict());
    let causes = &error.api().unwrap().status.details.causes;
    assert_eq!(causes[0].reason, "FieldManagerConflict");
    assert_eq!(causes[0].field, ".data.k");
    let forced: ConfigMap = maps.apply("a", &theirs.force(), &object("2")).unwrap();
    assert_eq!(forced.data["k"], "2");
}

#[test]
fn applying_a_large_object_brings_back_its_metadata_alone() {
    let sim = empty();
    let maps = client(&sim).api(CONFIG_MAPS).namespace("default");
    let value = "x".repeat(100_000);
    let object = json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": ApplyMeta { name: "a", ..ApplyMeta::default() },
        "data": {"k": value},
    });
    let applied = maps
        .apply_for_metadata("a", &ApplyParams::new("mine"), &object)
        .unwrap();
    let got: ConfigMap = maps.get("a").unwrap();
    assert_eq!(applied.metadata.uid, got.metadata.uid);
    assert_eq!(got.data["k"], value);
    let answer = &sim.requests()[0];
    assert_eq!((answer.method.as_str(), answer.status), ("PATCH", 201));
    assert!(answer.response_bytes < 10_000, "{}", answer.response_bytes);
}

#[test]
fn selectors_and_field_managers_are_encoded() {
    let sim = recorded();
    let client = client(&sim);
    let all: Vec<Value> = client.api(PODS).list_all(&ListParams::default()).unwrap();
    let running: Vec<Value> = client
        .api(PODS)
        .list_all(&ListParams::default().fields("status.phase=Running"))
        .unwrap();
    assert!(!running.is_empty() && running.len() < all.len());
    let none: Vec<Value> = client
        .api(PODS)
        .list_all(&ListParams::default().labels("no-such-label in (a,b)"))
        .unwrap();
    assert!(none.is_empty());

    let raw = Raw::answers(vec![answer("200 OK", r#"{"items": []}"#)]);
    let evil = "a=b&limit=0#x HTTP/1.1\r\nEvil: 1\r\n\r\n%";
    let _: Vec<Value> = raw
        .client()
        .api(PODS)
        .list_all(&ListParams::default().labels(evil))
        .unwrap();
    let _ = raw
        .client()
        .api(PODS)
        .namespace("n")
        .create::<Value>(evil, &json!({}));
    let heads = raw.heads();
    let encoded = "a%3Db%26limit%3D0%23x%20HTTP%2F1.1%0D%0AEvil%3A%201%0D%0A%0D%0A%25";
    assert!(heads[0].starts_with(&format!(
        "GET /api/v1/pods?limit=64&labelSelector={encoded} HTTP/1.1\r\n"
    )));
    assert!(heads[1].starts_with(&format!(
        "POST /api/v1/namespaces/n/pods?fieldManager={encoded} HTTP/1.1\r\n"
    )));
    assert!(!heads.concat().to_lowercase().contains("\nevil"));
}

#[test]
fn a_user_agent_that_would_break_the_header_is_refused() {
    let mut config = plain("http://127.0.0.1:1");
    config.user_agent = "a\r\nAuthorization: Bearer x".to_owned();
    assert_eq!(
        kube_client_lite::Client::new(config)
            .unwrap_err()
            .to_string(),
        "test: user agent has a character that no header may have"
    );
}

#[test]
fn only_what_is_needed_is_sent() {
    let raw = Raw::answers(vec![answer("200 OK", r#"{"gitVersion": "v1"}"#)]);
    raw.client().version().unwrap();
    let mut lines: Vec<_> = raw.heads()[0]
        .trim()
        .lines()
        .map(|line| line.to_lowercase().replace(&raw.url()[7..], "HOST"))
        .collect();
    lines.sort_unstable();
    assert_eq!(
        lines,
        [
            "accept: application/json",
            "get /version http/1.1",
            "host: HOST",
            "user-agent: kube-client-lite-test"
        ]
    );
}

#[test]
fn counts_take_one_object() {
    let sim = recorded();
    let client = client(&sim);
    let all: Vec<PartialObjectMetadata> = client
        .api(PODS)
        .list_all(&ListParams::default().metadata_only())
        .unwrap();
    assert!(all.len() > 1);
    sim.clear_requests();
    assert_eq!(client.api(PODS).count().unwrap(), all.len() as u64);
    let log = sim.requests();
    assert_eq!(log.len(), 1);
    assert_eq!(log[0].query, "limit=1");
    assert_eq!(client.api(PODS).namespace("nowhere").count().unwrap(), 0);
}

#[test]
fn a_server_that_does_not_say_how_many_remain_is_walked() {
    let page = |token: &str, items: &str| {
        let body = format!(r#"{{"metadata": {{"continue": "{token}"}}, "items": [{items}]}}"#);
        answer("200 OK", &body)
    };
    let raw = Raw::answers(vec![
        page("a", "{}"),
        page("b", "{}, {}"),
        page("c", ""),
        page("", "{}"),
    ]);
    assert_eq!(raw.client().api(PODS).count().unwrap(), 3);
    let heads = raw.heads();
    assert!(heads[1].contains("limit=64 ") && heads[3].contains("continue=c "));
}

#[test]
fn what_is_no_list_does_not_count_as_an_empty_one() {
    let raw = Raw::answers(vec![answer("200 OK", r#"{"login": "please"}"#)]);
    let error = raw.client().api(PODS).count().unwrap_err();
    assert!(
        error.to_string().contains("missing field `items`"),
        "{error}"
    );
}

#[test]
fn metadata_alone_has_no_spec() {
    let sim = recorded();
    let pods: Vec<Value> = client(&sim)
        .api(PODS)
        .list_all(&ListParams::default().metadata_only())
        .unwrap();
    assert!(pods.iter().all(|pod| pod.get("spec").is_none()));
    assert!(pods.iter().all(|pod| pod["metadata"]["name"].is_string()));
}

#[test]
fn version_and_discovery() {
    let sim = start(Options {
        metrics: Metrics::Broken,
        ..Options::default()
    });
    let client = client(&sim).with_retry(kube_client_lite::RetryPolicy::NEVER);
    assert_eq!(client.version().unwrap().git_version, "v1.36.2");
    let core = client.discover("", "v1").unwrap().unwrap();
    let pods = core
        .resources
        .iter()
        .find(|resource| resource.name == "pods");
    assert!(pods.is_some_and(|pods| pods.namespaced && pods.verbs.iter().any(|v| v == "watch")));
    let apps = client.discover("apps", "v1").unwrap().unwrap();
    assert_eq!(apps.group_version, "apps/v1");
    assert!(client.discover("nothing.example", "v1").unwrap().is_none());
    let broken = client.discover("metrics.k8s.io", "v1beta1").unwrap_err();
    assert_eq!(broken.status_code(), Some(503));
    assert!(broken.is_transient());
}

#[test]
fn discovery_does_not_leave_its_path() {
    let sim = recorded();
    let client = client(&sim);
    for (group, version) in [
        ("..", "v1"),
        ("apps", "v1/../../version"),
        ("apps", ""),
        ("a/b", "v1"),
    ] {
        let error = client.discover(group, version).unwrap_err();
        assert!(error.to_string().contains("is not a usable"), "{error}");
    }
    assert!(client.discover("apps?x=", "v1").unwrap().is_none());
    assert_eq!(sim.requests().len(), 1);
    assert_eq!(sim.requests()[0].path, "/apis/apps?x=/v1");
}

#[test]
fn what_one_may_do() {
    let rules = vec![PolicyRule::new("", &["configmaps"], &["get", "list"])];
    let sim = start(Options {
        rbac: Rbac::Rules(rules),
        ..Options::default()
    });
    let client = client(&sim);
    let ask = |verb| {
        let attributes = ResourceAttributes {
            namespace: "default",
            verb,
            resource: "configmaps",
            ..ResourceAttributes::default()
        };
        client.access_review(&attributes).unwrap().allowed
    };
    assert!(ask("list"));
    assert!(!ask("delete"));
    let maps = client.api(CONFIG_MAPS).namespace("default");
    let error = maps.delete("a").unwrap_err();
    assert!(error.is_forbidden() && !error.is_transient());
    assert!(
        error
            .to_string()
            .starts_with("delete /api/v1/namespaces/default/configmaps/a: 403 Forbidden: "),
        "{error}"
    );
}

#[test]
fn an_answer_to_a_deletion_may_be_empty() {
    for (answer, what) in [
        ("HTTP/1.1 204 No Content\r\n\r\n", "204"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "empty"),
        (
            "HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\n{}",
            "202",
        ),
    ] {
        let raw = Raw::answers(vec![answer]);
        let maps = raw.client().api(CONFIG_MAPS).namespace("n");
        assert!(maps.delete("a").is_ok(), "{what}");
    }
}

#[test]
fn a_namespace_is_an_object_too() {
    let sim = recorded();
    let namespaces = client(&sim).api(kube_client_lite::Resource::new("", "v1", "namespaces"));
    let meta: PartialObjectMetadata = namespaces.get("default").unwrap();
    assert_eq!(meta.metadata.name, "default");
    assert_ne!(meta.metadata, ObjectMeta::default());
}
