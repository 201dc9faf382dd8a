//! Long lists, expiring lists, broken objects in lists.

use std::collections::BTreeSet;

use kube_client_lite::{ListParams, PartialObjectMetadata, Resource, Visitor};
use kube_sim::{Fault, FaultAction, Metrics, Options, Sim};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::common::*;

#[derive(Deserialize)]
struct Named {
    metadata: Meta,
}

#[derive(Deserialize)]
struct Meta {
    name: String,
}

/// Notes names, and does something whenever an object comes.
struct Names<F> {
    taken: Vec<String>,
    restarts: u32,
    malformed: u32,
    at: F,
}

impl<F: FnMut(usize, u32)> Names<F> {
    fn new(at: F) -> Self {
        Self {
            taken: Vec::new(),
            restarts: 0,
            malformed: 0,
            at,
        }
    }
}

impl<F: FnMut(usize, u32)> Visitor for Names<F> {
    type Item<'de> = Named;
    fn item(&mut self, item: Named) {
        self.taken.push(item.metadata.name);
        (self.at)(self.taken.len(), self.restarts);
    }
    fn restart(&mut self) {
        self.taken.clear();
        self.restarts += 1;
    }
    fn malformed(&mut self, _: &serde_json::Error) {
        self.malformed += 1;
    }
}

/// Takes whole objects.
struct Values(Vec<Value>, usize);

impl Visitor for Values {
    type Item<'de> = Value;
    fn item(&mut self, item: Value) {
        self.0.push(item);
    }
    fn restart(&mut self) {}
    fn malformed(&mut self, _: &serde_json::Error) {
        self.1 += 1;
    }
}

fn fill(sim: &Sim, count: usize, bytes: usize) {
    for number in 0..count {
        let map = config_map(&format!("m{number:05}"), &json!({"k": "x".repeat(bytes)}));
        sim.insert(MAPS_PATH, map);
    }
}

fn limits(sim: &Sim) -> Vec<u32> {
    let limit = |query: &str| {
        let (_, rest) = query.split_once("limit=")?;
        rest.split('&').next()?.parse().ok()
    };
    requests(sim, MAPS_PATH)
        .iter()
        .filter_map(|request| limit(&request.query))
        .collect()
}

#[test]
fn pages_are_about_a_mebibyte_whatever_the_objects() {
    for (count, bytes, expected) in [(260, 20_000, 48..=53), (700, 100, 400..=500)] {
        let sim = empty();
        fill(&sim, count, bytes);
        let mut names = Names::new(|_, _| ());
        let maps = client(&sim).api(CONFIG_MAPS).namespace("default");
        let meta = maps.list(&ListParams::default(), &mut names).unwrap();
        assert!(!meta.resource_version.is_empty());
        assert_eq!(names.taken.len(), count);
        assert_eq!(names.taken.iter().collect::<BTreeSet<_>>().len(), count);
        let limits = limits(&sim);
        assert_eq!(limits[0], 64);
        assert!(expected.contains(limits.last().unwrap()), "{limits:?}");
        assert_eq!(sim.connections(), 1, "pages share a connection");
    }
}

#[test]
fn a_page_that_is_too_large_is_asked_for_in_halves() {
    let sim = empty();
    fill(&sim, 70, 100_000);
    let mut names = Names::new(|_, _| ());
    let maps = client(&sim).api(CONFIG_MAPS).namespace("default");
    maps.list(&ListParams::default(), &mut names).unwrap();
    assert_eq!(names.taken.len(), 70);
    let limits = limits(&sim);
    assert_eq!(limits[..2], [64, 32]);
    assert!((9..=11).contains(&limits[2]), "{limits:?}");
}

#[test]
fn an_answer_without_end_ends() {
    let sim = empty();
    sim.script(Fault::new(FaultAction::EndlessBody));
    let error = client(&sim)
        .api(CONFIG_MAPS)
        .namespace("default")
        .list(&ListParams::default(), &mut Names::new(|_, _| ()))
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("list {MAPS_PATH}: the answer is larger than 4194304 bytes")
    );
    assert_eq!(limits(&sim), [64, 32, 16, 8, 4, 2, 1]);
}

#[test]
fn an_expired_list_starts_over_from_the_newer_state() {
    let sim = empty();
    fill(&sim, 130, 10);
    let maps = client(&sim).api(CONFIG_MAPS).namespace("default");
    let mut names = Names::new(|count, restarts| {
        if count == 64 && restarts < 2 {
            sim.remove(&format!("{MAPS_PATH}/m0000{restarts}"));
            let new = format!("n{restarts}");
            sim.insert(MAPS_PATH, config_map(&new, &json!({})));
            sim.expire_continue_tokens();
        }
    });
    let meta = maps.list(&ListParams::default(), &mut names).unwrap();
    assert_eq!(names.restarts, 2);
    assert_eq!(meta.resource_version, sim.resource_version().to_string());
    let mut expected: Vec<_> = (2..130).map(|number| format!("m{number:05}")).collect();
    expected.extend(["n0".to_owned(), "n1".to_owned()]);
    assert_eq!(names.taken, expected);
}

#[test]
fn a_list_that_always_expires_is_given_up() {
    let sim = empty();
    fill(&sim, 700, 10);
    let maps = client(&sim).api(CONFIG_MAPS).namespace("default");
    let mut names = Names::new(|count, _| {
        if count == 64 {
            sim.expire_continue_tokens();
        }
    });
    let error = maps.list(&ListParams::default(), &mut names).unwrap_err();
    assert!(error.is_gone());
    assert!(error.api().unwrap().continue_token.is_some());
    assert_eq!(names.restarts, 3);
    assert_eq!(limits(&sim).len(), 8);
}

#[test]
fn a_continue_token_that_does_not_change_is_no_endless_list() {
    let page = r#"{"items": [], "metadata": {"continue": "same"}}"#;
    let raw = Raw::answers(vec![answer("200 OK", page)]);
    let error = raw
        .client()
        .api(PODS)
        .list_all::<Value>(&ListParams::default())
        .unwrap_err();
    assert!(error.to_string().contains("does not change"), "{error}");
    assert_eq!(raw.heads().len(), 2);
}

#[test]
fn objects_that_do_not_parse_are_passed_over() {
    let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
    let page = format!(
        r#"{{"items": [{{"metadata": {{"name": "a"}}}}, {{"metadata": {{"name": 5}}}}, {{"metadata": {{"name": {deep}}}}},
            {{"metadata": {{"name": "b"}}}}, null, {{"metadata": {{"name": "c"}}}}], "metadata": {{}}}}"#
    );
    let raw = Raw::answers(vec![answer("200 OK", &page)]);
    let mut names = Names::new(|_, _| ());
    let api = raw.client().api(PODS);
    api.list(&ListParams::default(), &mut names).unwrap();
    assert_eq!(names.taken, ["a", "b", "c"]);
    assert_eq!(names.malformed, 3);
    let error = api.list_all::<Named>(&ListParams::default()).err().unwrap();
    assert!(
        error.to_string().contains("not the expected JSON"),
        "{error}"
    );
}

#[test]
fn an_object_nested_too_deeply_spoils_no_other() {
    let deep = format!("{}{}", "[".repeat(500), "]".repeat(500));
    let page = format!(r#"{{"items": [{{"a": 1}}, {{"a": {deep}}}, {{"a": 2}}]}}"#);
    let raw = Raw::answers(vec![answer("200 OK", &page)]);
    let mut values = Values(Vec::new(), 0);
    let api = raw.client().api(PODS);
    api.list(&ListParams::default(), &mut values).unwrap();
    assert_eq!(values.0, [json!({"a": 1}), json!({"a": 2})]);
    assert_eq!(values.1, 1);
}

#[test]
fn a_streamed_list_is_the_same_list() {
    let sim = start(Options {
        metrics: Metrics::Present,
        ..Options::default()
    });
    let client = client(&sim);
    let streaming = ListParams::default().streaming();
    let names = |params: &ListParams, resource| -> Vec<String> {
        let all: Vec<PartialObjectMetadata> = client.api(resource).list_all(params).unwrap();
        all.into_iter().map(|item| item.metadata.name).collect()
    };
    let paged = names(&ListParams::default(), PODS);
    assert!(!paged.is_empty());
    assert_eq!(names(&streaming, PODS), paged);
    let metrics = Resource::new("metrics.k8s.io", "v1beta1", "nodes");
    assert!(!names(&streaming, metrics).is_empty());

    sim.script(Fault::new(FaultAction::Cut {
        after_bytes: 100_000,
    }));
    let mut names = Names::new(|_, _| ());
    let error = client.api(PODS).list(&streaming, &mut names).unwrap_err();
    assert!(error.to_string().contains("broken answer"), "{error}");
    assert!(!names.taken.is_empty());
}
