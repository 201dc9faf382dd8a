//! What opaque ids promise, over random histories: things appear, vanish and come back, are left
//! out, run once and are forgotten, the agent loses its database, the clock jumps.

use std::collections::{BTreeMap, BTreeSet};

use kube_client_lite::Visitor as _;
use serde_json::Value;

use super::cluster::{MARKER, Random};
use super::{Verdict, clusters, each, store};
use crate::cluster::way::{CronJobs, Fold, Jobs, Listing, Namespaces, Workloads};
use crate::cluster::{Inventory, WorkloadKind};
use crate::privacy::Detail;
use crate::privacy::id::Kind;
use crate::publish::state;
use crate::store::Store;
use crate::time::Time;

/// Kind, namespace and name.
type Thing = (&'static str, String, String);

const HOUR: i64 = 60 * 60 * 1000;
const WEEK: i64 = 7 * 24 * HOUR;

/// What somebody knows who saw the map at every moment of its life.
#[derive(Default)]
struct Witness {
    /// Under which numbers things are known.
    known: BTreeMap<Thing, u32>,
    /// When each was seen first, under its present number.
    since: BTreeMap<Thing, i64>,
    /// Every id there ever was.
    ever: BTreeMap<(&'static str, u32), Thing>,
}

impl Witness {
    /// Looks at the map again. `there` is what the last collection had.
    fn look(&mut self, store: &Store, there: &BTreeSet<Thing>, now: i64) -> Verdict {
        let mut map = BTreeMap::new();
        let mut ids = BTreeSet::new();
        let mut given = BTreeMap::new();
        let mut wrong = Vec::new();
        store
            .each_name(None, |known| {
                let kind = known.id.kind.as_str();
                let thing = (kind, known.namespace, known.name);
                let id = (kind, known.id.number);
                if map.insert(thing.clone(), known.id.number).is_some() || !ids.insert(id) {
                    wrong.push(format!("{thing:?} and {id:?} are no pair"));
                }
                match self.ever.get(&id) {
                    Some(before) if *before != thing => {
                        wrong.push(format!("{id:?} was {before:?}, now it is {thing:?}"));
                    }
                    Some(_) => {}
                    None => {
                        given
                            .entry(kind)
                            .or_insert_with(Vec::new)
                            .push(known.id.number);
                        self.ever.insert(id, thing.clone());
                        self.since.insert(thing, now);
                    }
                }
            })
            .unwrap();
        for (thing, number) in &self.known {
            let (kind, since) = (thing.0, self.since[thing]);
            match map.get(thing) {
                Some(same) if same == number => {}
                // The one reason to forget a name.
                None if kind == "job" && !there.contains(thing) && since < now - WEEK => {}
                other => wrong.push(format!("{thing:?} had {number}, now {other:?}")),
            }
        }
        // New numbers go on where the last ended, in every kind for itself.
        for (kind, mut numbers) in given {
            numbers.sort_unstable();
            let before = self.ever.range((kind, 0)..=(kind, u32::MAX));
            let count = u32::try_from(before.count()).unwrap();
            let first = count - u32::try_from(numbers.len()).unwrap() + 1;
            if !numbers.iter().copied().eq(first..=count) {
                wrong.push(format!("{numbers:?} after {} of {kind}", first - 1));
            }
        }
        for thing in there {
            let (kind, namespace, name) = thing;
            let id = store
                .id_of(Kind::parse(kind).unwrap(), namespace, name)
                .unwrap();
            let back = id.and_then(|id| store.name_of(id).unwrap());
            let same = back.is_some_and(|back| (&back.namespace, &back.name) == (namespace, name));
            if !same {
                wrong.push(format!("{thing:?} is {id:?} and not back again"));
            }
        }
        self.known = map;
        wrong
            .is_empty()
            .then_some(1)
            .ok_or_else(|| wrong.join("\n"))
    }
}

/// Names that are part of one another, look like ids, or are there under several kinds.
const NAMES: &[&str] = &[
    "a",
    "api",
    "api-1",
    "deployment_001",
    "job_002",
    "namespace_001",
];
const KINDS: &[WorkloadKind] = &[
    WorkloadKind::Deployment,
    WorkloadKind::StatefulSet,
    WorkloadKind::DaemonSet,
    WorkloadKind::CronJob,
    WorkloadKind::Job,
    WorkloadKind::Job,
];

/// Some of all that may be; mostly what is there already.
fn some(random: &mut Random, there: &BTreeSet<Thing>) -> BTreeSet<Thing> {
    let goes = random.pick(&[1, 4, 8]);
    let mut things = there.clone();
    things.retain(|_| !random.once_in(goes));
    for _ in 0..random.below(5) {
        let namespace = random.pick(NAMES);
        things.insert(("namespace", String::new(), namespace.to_owned()));
        for _ in 0..random.below(4) {
            let name = random.pick(NAMES).to_owned();
            // The names of most Jobs never come again.
            let name = if random.once_in(4) {
                format!("{name}x{}", random.below(50))
            } else {
                name
            };
            things.insert((random.pick(KINDS).as_str(), namespace.to_owned(), name));
        }
    }
    // Nothing is in a namespace that is not there.
    let homes: Vec<Thing> = things
        .iter()
        .filter(|(kind, ..)| *kind != "namespace")
        .map(|(_, namespace, _)| ("namespace", String::new(), namespace.clone()))
        .collect();
    things.extend(homes);
    things
}

fn inventory(things: &BTreeSet<Thing>, excluded: &BTreeSet<String>) -> Inventory {
    let mut fold = Fold::new(excluded.clone());
    for (kind, namespace, name) in things {
        let json = serde_json::json!({"metadata": {
            "name": name, "namespace": namespace, "uid": MARKER,
        }});
        let json = json.to_string();
        macro_rules! add {
            ($kind:expr) => {{
                let mut listing = Listing::new($kind, &mut fold);
                listing.item(serde_json::from_str(&json).unwrap());
                listing.finish();
            }};
        }
        match WorkloadKind::parse(kind) {
            None => add!(Namespaces),
            Some(WorkloadKind::CronJob) => add!(CronJobs),
            Some(WorkloadKind::Job) => add!(Jobs),
            Some(kind) => add!(Workloads(kind)),
        }
    }
    fold.finish(None)
}

/// What a body is about, and nothing else, by the ids in it.
fn told(store: &Store) -> Option<BTreeSet<Thing>> {
    let mut body = Vec::new();
    if !store.write_payload(Detail::Workloads, &mut body).unwrap() {
        return None;
    }
    let body: Value = serde_json::from_slice(&body).unwrap();
    let thing = |id: &str| {
        let known = store.name_of(crate::privacy::id::OpaqueId::parse(id).unwrap());
        let known = known.unwrap().unwrap();
        (known.id.kind.as_str(), known.namespace, known.name)
    };
    let mut things = BTreeSet::new();
    for (id, namespace) in body["resources"].as_object().unwrap() {
        things.insert(thing(id));
        let workloads = namespace["workloads"].as_object();
        things.extend(
            workloads
                .into_iter()
                .flat_map(|it| it.keys())
                .map(|id| thing(id)),
        );
    }
    Some(things)
}

fn live(seed: u64) -> Verdict {
    let mut random = Random::new(seed);
    let mut store = store();
    let mut witness = Witness::default();
    let mut now = 0;
    let mut there = BTreeSet::new();
    let mut left_out = BTreeSet::new();
    let rounds = 12;
    for _ in 0..rounds {
        now += match random.below(8) {
            0 => 2 * WEEK,
            1 => 3 * 24 * HOUR,
            _ => HOUR,
        };
        match random.below(6) {
            // The database is lost, and what was kept of it is not.
            0 => {
                let kept = state::of(&store, Some(MARKER)).unwrap();
                store = super::store();
                if let Some(kept) = kept {
                    let kept = state::decode(&kept).unwrap();
                    assert!(store.import_state(&kept.state).unwrap());
                }
                there.clear();
            }
            // Somebody asks for an analysis of what is newer than the last collection.
            1 => {
                let name = random.pick(NAMES);
                let kind = Kind::Workload(random.pick(KINDS));
                let at = Time::from_millis(now);
                if store.assign_id(kind, "api", name, at).unwrap().is_some() {
                    let asked = [(kind.as_str(), "api", name), ("namespace", "", "api")];
                    let asked = asked.map(|(kind, a, b)| (kind, a.to_owned(), b.to_owned()));
                    witness.look(&store, &BTreeSet::from(asked), now)?;
                }
            }
            _ => {
                let things = some(&mut random, &there);
                if random.once_in(4) {
                    left_out = BTreeSet::from([random.pick(NAMES).to_owned()]);
                }
                // The clock may be wrong; what was seen first stays first.
                let clock = if random.once_in(8) {
                    now - 4 * HOUR
                } else {
                    now
                };
                let inventory = inventory(&things, &left_out);
                store
                    .save_inventory(&inventory, Time::from_millis(clock))
                    .unwrap();
                let is_left_out = |(_, namespace, name): &Thing| {
                    left_out.contains(if namespace.is_empty() {
                        name
                    } else {
                        namespace
                    })
                };
                there = things
                    .into_iter()
                    .filter(|thing| !is_left_out(thing))
                    .collect();
                if told(&store).as_ref() != Some(&there) {
                    return Err(format!("{:?} is told, {there:?} is there", told(&store)));
                }
                // What was never seen but left out has no id.
                let known = witness.known.clone();
                witness.look(&store, &there, now)?;
                let new = witness
                    .known
                    .keys()
                    .filter(|thing| !known.contains_key(*thing));
                let mut new_left_out = new.filter(|thing| is_left_out(thing));
                if let Some(thing) = new_left_out.next() {
                    return Err(format!("{thing:?} is left out, and has an id"));
                }
            }
        }
        witness.look(&store, &there, now)?;
    }
    Ok(rounds)
}

#[test]
fn an_id_stands_for_one_thing_for_ever() {
    each(clusters() / 4, live);
}
