//! Everything the agent says to a server, as it stands on the wire: all six calls, through the real
//! client, to a listener that keeps every byte.

use std::io::{Read, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use super::cluster::{MARKER, Random, World};
use super::search::Marker;
use super::{Verdict, allowed, clusters, each, store};
use crate::api_key::ApiKey;
use crate::link::{Called, Link};
use crate::outbox::{self, Sent};
use crate::privacy::Detail;
use crate::privacy::id::{ClusterId, ClusterIdentifier, Kind, Uuid};
use crate::server::{Call, InsightState, Registration, ServerSettings, ServerUrl};
use crate::store::{self, Admission, NewAnalysis, Store, Target};
use crate::time::Time;

const KEY: &str = "kdy_1a2b3c";

/// A request takes longer than a body: this many times fewer clusters do.
const FEWER: usize = 20;

/// A server that keeps what it is sent.
struct Recorder {
    settings: ServerSettings,
    requests: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Recorder {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&requests);
        thread::spawn(move || {
            for stream in listener.incoming() {
                serve(stream.unwrap(), &kept);
            }
        });
        let settings = ServerSettings {
            url: ServerUrl::parse(&url).unwrap(),
            ..ServerSettings::default()
        };
        Self { settings, requests }
    }

    fn take(&self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.requests.lock().unwrap())
    }
}

/// Answers the requests of a connection, each with what every call understands. Whatever comes is
/// kept before it is answered.
fn serve(mut stream: TcpStream, kept: &Mutex<Vec<Vec<u8>>>) {
    let mut request = Vec::new();
    let mut piece = [0; 4096];
    while let Ok(length @ 1..) = stream.read(&mut piece) {
        request.extend_from_slice(&piece[..length]);
        let Some(length) = length_of(&request) else {
            continue;
        };
        assert!(request.len() <= length, "more than one request at once");
        if request.len() < length {
            continue;
        }
        kept.lock().unwrap().push(std::mem::take(&mut request));
        let body = concat!(
            r#"{"clusterId":"cls_0123456789abcdef","limit":24,"used":1,"remaining":23,"#,
            r#""insights":[{"id":"ins_1","severity":"warning","category":"security","#,
            r#""title":"deployment_001, job_001, statefulset_001 and namespace_001 run as root","#,
            r#""affectedResources":["namespace_001"],"createdAt":"2999-01-01T00:00:00Z"}]}"#,
        );
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
        stream.write_all((head + body).as_bytes()).unwrap();
    }
}

/// How long a request is, once its head is there.
fn length_of(request: &[u8]) -> Option<usize> {
    let text = String::from_utf8_lossy(request);
    let (head, _) = text.split_once("\r\n\r\n")?;
    let mut lines = head.lines();
    let length = lines.find_map(|line| line.strip_prefix("content-length: "));
    Some(head.len() + 4 + length.map_or(0, |length| length.parse::<usize>().unwrap()))
}

/// Says everything there is to say about a cluster.
fn say_everything(world: &mut World, store: &mut Store, server: &Recorder, random: &mut Random) {
    let now = Time::now();
    let inventory = world.inventory();
    store.save_inventory(&inventory, now).unwrap();
    let link = Link::new(&server.settings, ApiKey::parse(KEY).unwrap(), store)
        .unwrap()
        .unwrap();
    let numbers = store.cluster_numbers().unwrap().unwrap();
    let registration = Registration {
        operator_version: env!("CARGO_PKG_VERSION"),
        cluster_identifier: ClusterIdentifier::new(&format!("uid-{MARKER}")),
        kubernetes_version: numbers.kubernetes_version(),
        approximate_node_count: numbers.nodes(),
    };
    let registered = link.call(store, Call::Register, |server| {
        server.register(&registration)
    });
    let Called::Answered(registered) = registered.unwrap() else {
        panic!("not registered");
    };
    let cluster_id = ClusterId::Given(registered.cluster_id);
    if random.once_in(2) {
        // Otherwise it is a server that registers nobody.
        store
            .set_registration(Some(&store::Registration {
                cluster_id: cluster_id.clone(),
                key: link.key,
                registered_at: now,
                next_at: now,
            }))
            .unwrap();
    }
    let detail = random.pick(&[Detail::Workloads, Detail::Namespaces]);
    let mut payload = store.payload(detail).unwrap().unwrap();
    let length = payload.length().unwrap();
    let pushed = link.call(store, Call::Push, |server| {
        server.push(&mut payload, length)
    });
    assert!(matches!(pushed.unwrap(), Called::Answered(())));
    drop(payload);
    let since = store.since(now).unwrap();
    let page = link.call(store, Call::Insights, |server| server.insights(since));
    let Called::Answered(page) = page.unwrap() else {
        panic!("no insights");
    };
    store.save_insights(&page, now).unwrap();
    let verdict = random.pick(&[InsightState::Acknowledged, InsightState::Dismissed]);
    store.set_insight_state("ins_1", verdict, now).unwrap();
    for waiting in store.unsent_acknowledgements(now, 10).unwrap() {
        let sent = outbox::send_acknowledgement(store, &link, &cluster_id, &waiting);
        assert_eq!(sent.unwrap(), Sent::Done);
    }
    for target in targets(world, random) {
        let new = NewAnalysis {
            request_id: Uuid::random().unwrap(),
            target,
        };
        let admitted = store.request_analysis(&new, true, now).unwrap();
        let Admission::Submit(analysis) = admitted else {
            panic!("{admitted:?}");
        };
        let sent = outbox::send_analysis(store, &link, &cluster_id, &analysis);
        assert_eq!(sent.unwrap(), Sent::Done);
    }
    let quota = link.call(store, Call::Quota, crate::server::Server::quota);
    assert!(matches!(quota.unwrap(), Called::Answered(_)));
}

/// Something the last collection had, and something that is newer.
fn targets(world: &World, random: &mut Random) -> Vec<Target> {
    let labels = world.labels();
    let known: Vec<_> = labels.keys().collect();
    let (kind, namespace, name) = known[random.below(known.len())].clone();
    let new = format!("{name}-{MARKER}-new");
    let target = |namespace: &str, name: &str| Target {
        kind: Kind::parse(kind).unwrap(),
        namespace: namespace.to_owned(),
        name: name.to_owned(),
    };
    vec![target(&namespace, &name), target(&namespace, &new)]
}

fn speak(seed: u64, marker: &Marker, server: &Recorder) -> Verdict {
    let mut random = Random::new(seed);
    let mut store = store();
    for _ in 0..4 {
        let mut world = World::new(random.next(), random.next());
        say_everything(&mut world, &mut store, server, &mut random);
    }
    let requests = server.take();
    for request in &requests {
        allowed::request(request, KEY)
            .map_err(|wrong| format!("{wrong} in {}", request.escape_ascii()))?;
    }
    // At once, should a name be in pieces.
    let everything = requests.concat();
    if let Some(found) = marker.find(&everything) {
        return Err(found.to_string());
    }
    for call in [
        "register",
        "metrics",
        "insights",
        "acknowledge",
        "analyze",
        "quota",
    ] {
        let path = format!(" /api/v1/{call}");
        if !String::from_utf8_lossy(&everything).contains(&path) {
            return Err(format!("nobody called {call}"));
        }
    }
    // It was about names: they come back to whoever reads what the server said.
    let insight = store.insight("ins_1").unwrap().unwrap();
    if !insight.resources.iter().all(|resource| resource.resolved) {
        return Err(format!("no name in {insight:?}"));
    }
    Ok(4)
}

#[test]
fn no_text_of_a_cluster_is_in_a_request() {
    let marker = Marker::new(MARKER);
    let server = Recorder::start();
    each(clusters() / FEWER, |seed| speak(seed, &marker, &server));
}
