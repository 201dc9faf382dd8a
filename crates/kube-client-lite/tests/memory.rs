//! A list of any length takes the memory of a page. Alone in its process, whose peak is measured.
#![allow(clippy::unwrap_used)]

use std::borrow::Cow;

use kube_client_lite::config::{Auth, Secret, Timeouts, Tls};
use kube_client_lite::{Client, Config, ListParams, Resource, Visitor};
use kube_sim::{Cluster, Generate, Options, Sim};
use serde::Deserialize;

const PODS: u32 = 20_000;

/// The most that may be added to the peak by the list, in KiB: the client's page and the parts
/// of it that the simulator, in the same process, has under way. The list itself has 340 MB.
const MOST: u64 = 12 << 10;

#[derive(Deserialize)]
struct Pod<'a> {
    #[serde(borrow)]
    metadata: Meta<'a>,
}

#[derive(Deserialize)]
struct Meta<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
}

#[derive(Default)]
struct Count(u32, usize);

impl Visitor for Count {
    type Item<'de> = Pod<'de>;
    fn item(&mut self, pod: Pod<'_>) {
        self.0 += 1;
        self.1 += pod.metadata.name.len();
    }
    fn restart(&mut self) {
        *self = Self::default();
    }
    fn malformed(&mut self, _: &serde_json::Error) {}
}

/// The highest resident memory so far, in KiB.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let number = line.unwrap().trim().trim_end_matches("kB").trim_end();
    number.parse().unwrap()
}

#[test]
fn a_long_list_takes_the_memory_of_a_page() {
    // Without TLS and in large chunks: an unoptimised test spends its time elsewhere.
    let sim = Sim::start(Options {
        cluster: Cluster::Generated(Generate {
            pods: PODS,
            ..Generate::default()
        }),
        tls: false,
        chunk_bytes: 64 << 10,
        ..Options::default()
    })
    .unwrap();
    let client = Client::new(Config {
        server: sim.url(),
        tls: Tls::default(),
        auth: Auth::Token(Secret::new(sim.token())),
        proxy: None,
        namespace: None,
        user_agent: "test".to_owned(),
        timeouts: Timeouts::default(),
        source: "test".to_owned(),
    })
    .unwrap();
    let api = client.api(Resource::new("", "v1", "pods"));
    // What every call needs comes first.
    api.count().unwrap();
    client.version().unwrap();
    let before = peak();
    let mut count = Count::default();
    api.list(&ListParams::default(), &mut count).unwrap();
    let grown = peak() - before;
    assert_eq!(count.0, PODS);
    let bytes: u64 = sim
        .requests()
        .iter()
        .map(|request| request.response_bytes)
        .sum();
    assert!(
        bytes > u64::from(PODS) * 14_000,
        "{bytes} bytes is not a long list"
    );
    assert!(grown < MOST, "{grown} KiB for a list of {bytes} bytes");
}
