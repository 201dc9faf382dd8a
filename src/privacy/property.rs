//! The promise that a server never sees a name, put to the test.
//!
//! Random clusters go the whole way: JSON as an API server sends it, the views, the fold, the
//! database, the body, the client, a socket. Of what comes out three things are asked, and each of
//! them has tests that it fails when it should:
//!
//! - [`search`]: every text that goes in has a marker in it; none comes out, in any disguise.
//! - [`allowed`]: what comes out is, place by place, what README.md says, so that a name which is also
//!   a word of the body (`pods`, `running`) has nowhere to stand.
//! - [`the_same_but_for_texts`]: a cluster in which everything is called something else is told of in
//!   the same numbers and words, but for what is drawn with a map and which name has which id. Not
//!   even a hash of a name passes that.
//!
//! `KUBE9_PRIVACY_CASES` says how many clusters (10,000), `KUBE9_PRIVACY_SEED` which (any).
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod allowed;
mod cluster;
mod ids;
mod search;
mod wire;

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;
use std::time::Instant;

use super::Detail;
use super::id::OpaqueId;
use crate::store::Store;
use crate::time::Time;
use cluster::{MARKER, Random, World};
use search::Marker;

/// One collection to the next.
const HOUR: i64 = 60 * 60 * 1000;

/// What the things of a world are called by somebody who knows them all.
type Labels = BTreeMap<(&'static str, String, String), String>;

/// How many clusters were looked at, or what is wrong.
type Verdict = Result<usize, String>;

/// What may be done to a body on its way, to see that it is noticed.
type Leak<'a> = &'a dyn Fn(&Labels, &mut String);

/// Worlds that follow one another in the same database, as if somebody replaced the whole cluster:
/// making a database takes longer than all the rest.
const WORLDS: usize = 8;

/// The body of the next push, read as a socket may read it, which is in pieces of any size.
fn body(store: &Store, detail: Detail, random: &mut Random) -> Vec<u8> {
    let mut payload = store.payload(detail).unwrap().unwrap();
    let length = payload.length().unwrap();
    let mut body = Vec::new();
    let mut piece = vec![0; 1 + random.below(5000)];
    while let read @ 1.. = payload.read(&mut piece).unwrap() {
        body.extend_from_slice(&piece[..read]);
    }
    assert_eq!(
        length,
        body.len() as u64,
        "the length that the header tells"
    );
    body
}

/// Follows some worlds through some collections, each in two dresses.
fn live(seed: u64, marker: &Marker, leak: Leak<'_>) -> Verdict {
    let mut random = Random::new(seed);
    let mut stores = [(); 2].map(|()| store());
    let mut now = 0;
    let mut clusters = 0;
    for _ in 0..WORLDS {
        let logic = random.next();
        let mut worlds = [(); 2].map(|()| World::new(logic, random.next()));
        for _ in 0..=usize::from(random.once_in(3)) {
            now += HOUR;
            let detail = random.pick(&[Detail::Workloads, Detail::Workloads, Detail::Namespaces]);
            let mut told = Vec::new();
            for (world, store) in worlds.iter_mut().zip(&mut stores) {
                let inventory = world.inventory();
                store
                    .save_inventory(&inventory, Time::from_millis(now))
                    .unwrap();
                let labels = world.labels();
                let body = body(store, detail, &mut random);
                let mut body = String::from_utf8(body).map_err(|error| error.to_string())?;
                leak(&labels, &mut body);
                if let Some(found) = marker.find(body.as_bytes()) {
                    return Err(found.to_string());
                }
                told.push(the_same_but_for_texts(store, &labels, &body)?);
                world.change();
                clusters += 1;
            }
            if told[0] != told[1] {
                let differ = |(one, other): &(&str, &str)| one != other;
                let pairs = told[0].split(' ').zip(told[1].split(' ')).find(differ);
                return Err(format!("texts make a difference: {pairs:?}"));
            }
        }
    }
    Ok(clusters)
}

/// What is allowed in a body, with the things it is about in the place of their ids, and without
/// what was drawn at random with a map. Two clusters that differ in texts only do not differ here.
fn the_same_but_for_texts(store: &Store, labels: &Labels, body: &str) -> Result<String, String> {
    let json = allowed::metrics(body)?;
    let identity = store.identity().unwrap().unwrap();
    let mut others = BTreeMap::from([
        (identity.cluster_id.to_string(), "(cluster)".to_owned()),
        (identity.epoch.to_string(), "(epoch)".to_owned()),
    ]);
    store
        .each_name(None, |known| {
            let key = (known.id.kind.as_str(), known.namespace, known.name);
            if let Some(label) = labels.get(&key) {
                others.insert(known.id.to_string(), label.clone());
            }
        })
        .unwrap();
    let text = json.with(&others);
    // Whatever is left of an id is that of something else.
    let strange = text
        .split([':', ' ', '{', '}'])
        .find(|word| OpaqueId::parse(word).is_some());
    let drawn = text.contains("(cluster)") && text.contains("(epoch)");
    match strange {
        Some(id) => Err(format!("there is nothing that goes by {id}")),
        None if drawn => Ok(text),
        None => Err(format!("the map is another: {text}")),
    }
}

fn store() -> Store {
    Store::open(Path::new("/nonexistent/x.db")).unwrap().0
}

fn clusters() -> usize {
    number("KUBE9_PRIVACY_CASES").map_or(10_000, |cases| usize::try_from(cases).unwrap())
}

/// Another one every time, unless it is set.
fn seed() -> u64 {
    number("KUBE9_PRIVACY_SEED").unwrap_or_else(|| {
        let drawn = super::id::Uuid::random().unwrap().0;
        drawn
            .iter()
            .fold(0, |seed, byte| seed << 8 | u64::from(*byte))
    })
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{variable}={text} is no number")),
    )
}

/// Runs until so many clusters were looked at, and says how to do again what failed.
fn each(clusters: usize, mut run: impl FnMut(u64) -> Verdict) {
    let (first, since) = (seed(), Instant::now());
    let mut seed = first;
    let mut done = 0;
    while done < clusters {
        done += run(seed).unwrap_or_else(|wrong| {
            panic!("KUBE9_PRIVACY_CASES=1 KUBE9_PRIVACY_SEED={seed}: {wrong}");
        });
        seed = seed.wrapping_add(1);
    }
    println!(
        "{done} clusters from seed {first} in {:.1?}",
        since.elapsed()
    );
}

#[test]
fn no_text_of_a_cluster_is_in_a_body() {
    let marker = Marker::new(MARKER);
    each(clusters(), |seed| live(seed, &marker, &|_, _| {}));
}

/// Leaks, and by which of the questions they are noticed.
#[test]
fn leaks_are_noticed() {
    fn first(labels: &Labels, is_it: impl Fn(&str) -> bool) -> Option<&str> {
        let mut names = labels.keys().map(|(_, _, name)| name.as_str());
        names.find(|name| is_it(name))
    }
    fn marked(labels: &Labels) -> Option<&str> {
        first(labels, |name| name.contains(MARKER))
    }
    fn put(body: &mut String, from: &str, to: Option<String>) {
        if let Some(to) = to {
            *body = body.replacen(from, &to, 1);
        }
    }
    const SERVICES: &str = "\"services\":0";

    // A name as it is; the search alone would find it in any other form, too.
    noticed("read as text there is", &|labels, body| {
        let name = marked(labels).map(|name| serde_json::to_string(name).unwrap());
        put(
            body,
            SERVICES,
            name.map(|name| format!("\"services\":{name}")),
        );
    });
    // One that passes for the id of a cluster.
    noticed("read as hexadecimal digits there is", &|labels, body| {
        let hex: Vec<String> = MARKER.bytes().map(|byte| format!("{byte:02x}")).collect();
        let hex = hex.concat();
        let at = body.find("\"clusterId\":\"").unwrap() + 13;
        if marked(labels).is_some() {
            body.replace_range(at..at + 36, &format!("cls_{hex}"));
        }
    });
    // Without a marker: words of the body in a place that is not theirs.
    noticed("/resources/namespace_", &|labels, body| {
        let name = first(labels, |name| matches!(name, "api" | "running" | "pods"));
        put(
            body,
            SERVICES,
            name.map(|name| format!("\"services\":0,\"{name}\":0")),
        );
    });
    noticed("/resources/namespace_", &|labels, body| {
        let name = first(labels, |name| {
            matches!(name, "api" | "running" | "replicas")
        });
        put(
            body,
            "\"signals\":{",
            name.map(|name| format!("\"signals\":{{\"{name}\":1,")),
        );
    });
    // Even in the place that is theirs.
    noticed("texts make a difference", &|labels, body| {
        let name = first(labels, |name| name == "privileged");
        let free = !body.contains("\"privileged\"");
        let name = name.filter(|_| free);
        put(
            body,
            "\"signals\":{\"",
            name.map(|name| format!("\"signals\":{{\"{name}\":1,\"")),
        );
    });
    // Numbers and ids that are made of names.
    noticed("texts make a difference", &|labels, body| {
        let length = marked(labels).map_or(0, str::len);
        put(body, SERVICES, Some(format!("\"services\":{length}")));
    });
    noticed("the map is another", &|labels, body| {
        let mut hash = std::hash::DefaultHasher::new();
        std::hash::Hash::hash(labels, &mut hash);
        let hash = std::hash::Hasher::finish(&hash);
        let at = body.find("\"mapEpoch\":\"").unwrap() + 12;
        body.replace_range(at..at + 32, &format!("{hash:032x}"));
    });
    // The name of a namespace that looks like an id, in the place of its id.
    noticed("", &|labels, body| {
        let name = first(labels, |name| name.starts_with("namespace_"));
        put(
            body,
            "\"namespace_003\":",
            name.map(|name| format!("\"{name}\":")),
        );
    });
}

/// With the leak some of many bodies must be refused, for that reason.
fn noticed(reason: &str, leak: Leak<'_>) {
    let marker = Marker::new(MARKER);
    let first = (0..100).find_map(|seed| live(seed, &marker, leak).err());
    let first = first.unwrap_or_else(|| panic!("{reason:?}: not noticed"));
    assert!(first.contains(reason), "{reason:?}: noticed as {first}");
}
