//! Calls to servers that behave in every way there is, over real sockets.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use kube_sim::wire::{Authority, Leaf};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::*;
use crate::cluster::WorkloadKind;
use crate::privacy::id::{ClusterId, ClusterIdentifier, Kind, OpaqueId, Uuid};

const KEY: &str = "kdy_marker_9c41";

/// Long enough for a server that answers, on any machine.
const AMPLE: Duration = Duration::from_secs(30);

/// What a test waits for in vain.
const SHORT: Duration = Duration::from_millis(300);

trait Stream: Read + Write + Send {}

impl<T: Read + Write + Send> Stream for T {}

/// A server on a port of this machine. It hands on what it reads, and does with each request what
/// its test says.
struct Speaker {
    port: u16,
    requests: mpsc::Receiver<String>,
}

/// What becomes of a connection.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Then {
    Close,
    Keep,
}

impl Speaker {
    /// Answers every request with these bytes.
    fn saying(answer: impl Into<Vec<u8>>) -> Self {
        let answer = answer.into();
        Self::playing(None, move |stream| {
            stream.write_all(&answer)?;
            Ok(Then::Close)
        })
    }

    fn playing(
        tls: Option<Arc<ServerConfig>>,
        mut play: impl FnMut(&mut dyn Stream) -> io::Result<Then> + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (to_test, requests) = mpsc::channel();
        thread::spawn(move || {
            for tcp in listener.incoming() {
                // A client that goes is what many tests are about.
                drop(serve(tcp.unwrap(), tls.as_ref(), &to_test, &mut play));
            }
        });
        Self { port, requests }
    }

    fn server(&self) -> Server {
        server(&format!("http://127.0.0.1:{}", self.port))
    }

    fn request(&self) -> String {
        self.requests.recv_timeout(AMPLE).unwrap()
    }
}

fn serve(
    tcp: TcpStream,
    tls: Option<&Arc<ServerConfig>>,
    requests: &mpsc::Sender<String>,
    play: &mut dyn FnMut(&mut dyn Stream) -> io::Result<Then>,
) -> io::Result<()> {
    let mut stream = encrypt(tcp, tls);
    while let Some(request) = read_request(&mut stream)? {
        drop(requests.send(request));
        if play(&mut stream)? == Then::Close {
            break;
        }
    }
    stream.flush()
}

fn encrypt(tcp: TcpStream, tls: Option<&Arc<ServerConfig>>) -> Box<dyn Stream> {
    match tls {
        None => Box::new(tcp),
        Some(config) => {
            let session = ServerConnection::new(Arc::clone(config)).unwrap();
            Box::new(StreamOwned::new(session, tcp))
        }
    }
}

/// The header and, where it has a length, the body.
fn read_request(stream: &mut dyn Stream) -> io::Result<Option<String>> {
    let mut request = Vec::new();
    let mut byte = [0];
    while !request.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte)? == 0 {
            return Ok(None);
        }
        request.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&request).to_lowercase();
    if head.contains("expect: 100-continue") {
        return Ok(Some(head));
    }
    let length = head.split("content-length: ").nth(1);
    let length = length.map_or(0, |rest| rest.lines().next().unwrap().parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    request.extend(body);
    Ok(Some(String::from_utf8_lossy(&request).into_owned()))
}

/// Reads until the other side gives up.
fn wait(stream: &mut dyn Stream) -> io::Result<Then> {
    io::copy(stream, &mut io::sink())?;
    Ok(Then::Close)
}

/// Writes byte after byte until the other side gives up.
fn drip(stream: &mut dyn Stream, byte: u8) -> io::Result<Then> {
    loop {
        stream.write_all(&[byte])?;
        stream.flush()?;
        thread::sleep(Duration::from_millis(20));
    }
}

fn answer(status: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n{headers}\r\n{body}"
    )
}

fn settings(url: &str) -> ServerSettings {
    ServerSettings {
        url: ServerUrl::parse(url).unwrap(),
        ..ServerSettings::default()
    }
}

fn server(url: &str) -> Server {
    Server::new(&settings(url), key()).with_limits(AMPLE, AMPLE)
}

fn key() -> ApiKey {
    ApiKey::parse(KEY).unwrap()
}

fn analyze() -> Analyze {
    let deployment = Kind::Workload(WorkloadKind::Deployment);
    let id = |kind, number| OpaqueId { kind, number };
    Analyze {
        request_id: Uuid([7; 16]),
        cluster_id: ClusterId::Own(Uuid([1; 16])),
        resource_type: deployment,
        resource_id: id(deployment, 2),
        namespace_id: id(Kind::Namespace, 1),
    }
}

/// Makes any of the six calls.
fn make(server: &Server, call: Call) -> Result<(), CallError> {
    match call {
        Call::Register => server
            .register(&Registration {
                operator_version: "0.1.0",
                cluster_identifier: ClusterIdentifier::new("uid"),
                kubernetes_version: None,
                approximate_node_count: 1,
            })
            .map(drop),
        Call::Push => server.push(&mut b"{\"a\":1}".as_slice(), 7),
        Call::Insights => server.insights(Time::from_millis(0)).map(drop),
        Call::Analyze => server.analyze(&analyze()),
        Call::Acknowledge => server.acknowledge(&Acknowledge {
            insight_id: "ins_1".to_owned(),
            cluster_id: ClusterId::Own(Uuid([1; 16])),
            state: InsightState::Acknowledged,
            at: Time::from_millis(0),
        }),
        Call::Quota => server.quota().map(drop),
    }
}

/// The error of a call that must fail, and within these limits.
fn failing(server: Server, call: Call) -> CallError {
    let server = server.with_limits(SHORT, SHORT);
    let since = Instant::now();
    let error = make(&server, call).unwrap_err();
    assert!(since.elapsed() < AMPLE, "took {:?}", since.elapsed());
    error
}

#[track_caller]
fn assert_unreachable(error: &CallError, detail: &str) {
    assert_eq!(error.meaning, Meaning::Unreachable, "{error}");
    let message = error.to_string();
    assert!(
        message.starts_with("kube9-server unreachable: ") && message.contains(detail),
        "{message}"
    );
}

#[test]
fn every_status_of_every_call() {
    let seconds = |seconds| Meaning::Limited {
        wait: Some(Duration::from_secs(seconds)),
    };
    for (status, headers, expected, words) in [
        ("300 X", "", Meaning::Final { code: 300 }, "does not accept"),
        (
            "301 X",
            "location: http://127.0.0.1:1/\r\n",
            Meaning::Final { code: 301 },
            "301",
        ),
        ("304 X", "", Meaning::Final { code: 304 }, "does not accept"),
        (
            "307 X",
            "location: /\r\n",
            Meaning::Final { code: 307 },
            "does not accept",
        ),
        (
            "400 X",
            "",
            Meaning::Final { code: 400 },
            "answered 400: so it is",
        ),
        ("401 X", "", Meaning::Unauthorized, "API key invalid: "),
        ("403 X", "", Meaning::Refused, "kube9-server refused "),
        ("404 X", "", Meaning::Final { code: 404 }, "does not accept"),
        ("407 X", "", Meaning::Final { code: 407 }, "does not accept"),
        (
            "408 X",
            "",
            Meaning::Unreachable,
            "kube9-server unreachable: ",
        ),
        ("409 X", "", Meaning::Final { code: 409 }, "does not accept"),
        ("413 X", "", Meaning::TooLarge, "too large"),
        ("422 X", "", Meaning::Final { code: 422 }, "does not accept"),
        ("429 X", "", Meaning::Limited { wait: None }, "patience"),
        ("429 X", "retry-after: 7\r\n", seconds(7), "patience"),
        (
            "429 X",
            "retry-after: 99999999\r\n",
            seconds(86_400),
            "patience",
        ),
        (
            "429 X",
            "retry-after: -7\r\n",
            Meaning::Limited { wait: None },
            "patience",
        ),
        ("499 X", "", Meaning::Final { code: 499 }, "does not accept"),
        ("500 X", "", Meaning::Unreachable, "answered 500: so it is"),
        (
            "503 X",
            "retry-after: 7\r\n",
            Meaning::Unreachable,
            "answered 503",
        ),
        ("999 X", "", Meaning::Unreachable, "answered 999"),
    ] {
        let speaker = Speaker::saying(answer(status, headers, "{\"message\":\"so it is\"}"));
        for call in Call::ALL {
            let error = make(&speaker.server(), call).unwrap_err();
            assert_eq!(error.call, call);
            assert_eq!(error.meaning, expected, "{status} {headers}");
            let message = error.to_string();
            assert!(message.contains(words), "{message}");
        }
    }
}

#[test]
fn what_is_sent() {
    let speaker = Speaker::saying(answer("200 OK", "", "{\"clusterId\":\"cls_1\"}"));
    let server = speaker.server();
    for (call, first_line) in [
        (Call::Register, "POST /api/v1/register HTTP/1.1"),
        (Call::Push, "POST /api/v1/metrics HTTP/1.1"),
        (Call::Analyze, "POST /api/v1/analyze HTTP/1.1"),
        (Call::Acknowledge, "POST /api/v1/acknowledge HTTP/1.1"),
        (Call::Quota, "GET /api/v1/quota HTTP/1.1"),
    ] {
        make(&server, call).unwrap();
        let request = speaker.request();
        let (head, body) = request.split_once("\r\n\r\n").unwrap();
        let mut lines = head.lines();
        assert_eq!(lines.next(), Some(first_line));
        let mut headers: Vec<_> = lines.map(str::to_lowercase).collect();
        headers.sort_unstable();
        let mut expected = vec![
            "accept: application/json".to_owned(),
            format!("authorization: bearer {KEY}"),
            format!("host: 127.0.0.1:{}", speaker.port),
            concat!("user-agent: kube9-operator/", env!("CARGO_PKG_VERSION")).to_owned(),
        ];
        if call == Call::Quota {
            assert_eq!(body, "");
        } else {
            assert!(body.starts_with('{') && body.ends_with('}'), "{body}");
            expected.push(format!("content-length: {}", body.len()));
            expected.push("content-type: application/json".to_owned());
        }
        if call == Call::Analyze {
            let id = analyze().request_id;
            expected.push(format!("idempotency-key: {id}"));
            assert!(body.contains(&format!("\"requestId\":\"{id}\"")), "{body}");
        }
        expected.sort_unstable();
        assert_eq!(headers, expected);
    }
    make(&server, Call::Insights).unwrap_err();
    let request = speaker.request();
    let expected = "GET /api/v1/insights?since=1970-01-01T00:00:00.000Z HTTP/1.1\r\n";
    assert!(request.starts_with(expected), "{request}");
}

#[test]
fn a_prefix_comes_before_the_path() {
    let speaker = Speaker::saying(answer("200 OK", "", "{}"));
    let url = format!("http://localhost:{}/eu/", speaker.port);
    server(&url).quota().unwrap();
    let request = speaker.request();
    assert!(request.starts_with("GET /eu/api/v1/quota "), "{request}");
}

#[test]
fn what_needs_no_answer_is_done_with_the_status() {
    for answer in [
        answer("200 OK", "", "neither JSON \u{1} nor {"),
        answer("202 Accepted", "", ""),
        "HTTP/1.1 204 No Content\r\n\r\n".to_owned(),
        "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\ncut".to_owned(),
        "HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n".to_owned(),
    ] {
        let speaker = Speaker::saying(answer.clone());
        for call in [Call::Push, Call::Analyze, Call::Acknowledge] {
            assert_eq!(make(&speaker.server(), call), Ok(()), "{answer}");
        }
        for call in [Call::Register, Call::Insights, Call::Quota] {
            let error = make(&speaker.server(), call).unwrap_err();
            assert_unreachable(&error, "");
        }
    }
    let hanging = Speaker::playing(None, |stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n")?;
        wait(stream)
    });
    let since = Instant::now();
    assert_eq!(make(&hanging.server(), Call::Push), Ok(()));
    assert!(since.elapsed() < AMPLE / 2, "{:?}", since.elapsed());
}

#[test]
fn bodies_that_are_not_as_agreed() {
    let endless = format!("{{\"insights\":[{}", "null,".repeat(1000));
    for (body, detail) in [
        ("", "EOF"),
        ("\u{1}garbage", "not the expected JSON"),
        ("<html>a gateway</html>", "not the expected JSON"),
        ("[]", "not the expected JSON"),
        ("null", "not the expected JSON"),
        (
            "{\"limit\":\"many\",\"clusterId\":7,\"insights\":{}}",
            "invalid type",
        ),
        ("{\"limit\":1,\"clusterId\":\"a b\",\"insights\":7}", ""),
        (&endless, "EOF"),
    ] {
        let speaker = Speaker::saying(answer("200 OK", "", body));
        for call in [Call::Register, Call::Insights, Call::Quota] {
            match make(&speaker.server(), call) {
                // A quota may be of anything else, too.
                Ok(()) => assert!(call == Call::Quota && body.contains("\"limit\":1")),
                Err(error) => assert_unreachable(&error, detail),
            }
        }
    }
}

#[test]
fn an_answer_that_is_too_large() {
    let told = format!(
        "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{{",
        MAX_ANSWER + 1
    );
    let untold = Speaker::playing(None, |stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")?;
        let chunk = format!("1000\r\n{}\r\n", " ".repeat(4096));
        loop {
            stream.write_all(chunk.as_bytes())?;
        }
    });
    for speaker in [Speaker::saying(told), untold] {
        for call in [Call::Register, Call::Insights, Call::Quota] {
            let error = make(&speaker.server(), call).unwrap_err();
            assert_unreachable(&error, "larger than 4194304 bytes");
        }
    }
    let mut largest = "{\"limit\":3}".to_owned();
    largest.push_str(&" ".repeat(usize::try_from(MAX_ANSWER).unwrap() - largest.len()));
    let speaker = Speaker::saying(answer("200 OK", "", &largest));
    assert_eq!(speaker.server().quota().unwrap().limit, Some(3));
}

#[test]
fn an_error_in_an_endless_body_is_that_error() {
    let speaker = Speaker::playing(None, |stream| {
        stream.write_all(b"HTTP/1.1 401 X\r\ntransfer-encoding: chunked\r\n\r\n")?;
        let chunk = format!("1000\r\n{}\r\n", "a".repeat(4096));
        loop {
            stream.write_all(chunk.as_bytes())?;
        }
    });
    let error = make(&speaker.server(), Call::Push).unwrap_err();
    assert_eq!(error.meaning, Meaning::Unauthorized);
    assert_eq!(error.detail.chars().count(), 300, "{error}");
    let speaker = Speaker::playing(None, |stream| {
        stream.write_all(b"HTTP/1.1 403 X\r\ncontent-length: 30\r\n\r\n{\"mess")?;
        wait(stream)
    });
    let error = make(&speaker.server(), Call::Push).unwrap_err();
    assert_eq!(error.meaning, Meaning::Refused);
    assert_eq!(error.detail, "answered 403");
}

#[test]
fn servers_that_never_come_to_the_end() {
    type Play = fn(&mut dyn Stream) -> io::Result<Then>;
    let plays: [(&str, Play); 7] = [
        ("says nothing", wait),
        ("hangs in the header", |stream| {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-le")?;
            wait(stream)
        }),
        ("hangs in the body", |stream| {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n{")?;
            wait(stream)
        }),
        ("drips the status", |stream| {
            stream.write_all(b"HTTP/1.1 200 ")?;
            drip(stream, b'O')
        }),
        ("drips a header", |stream| {
            stream.write_all(b"HTTP/1.1 200 OK\r\nx: ")?;
            drip(stream, b'x')
        }),
        ("drips the body", |stream| {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 9999\r\n\r\n")?;
            drip(stream, b' ')
        }),
        ("goes on and on", |stream| {
            loop {
                stream.write_all(b"HTTP/1.1 103 X\r\n\r\n")?;
                stream.flush()?;
            }
        }),
    ];
    for (name, play) in plays {
        let speaker = Speaker::playing(None, play);
        for call in [Call::Insights, Call::Register] {
            let error = failing(speaker.server(), call);
            assert_eq!(error.meaning, Meaning::Unreachable, "{name}: {error}");
            assert_eq!(error.detail, "no answer within 300ms", "{name}");
        }
    }
}

#[test]
fn what_is_not_http() {
    for (said, detail) in [
        ("", "broken answer"),
        ("SSH-2.0-OpenSSH_9.2\r\n", "broken answer"),
        ("\u{15}\u{3}\u{3}\u{0}\u{2}\u{2}\u{50}", "broken answer"),
        ("HTTP/1.1 OK\r\n\r\n", "broken answer"),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{\"limit",
            "broken answer",
        ),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n{}",
            "broken answer",
        ),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
            "broken answer",
        ),
        ("HTTP/1.1 200 OK\r\n\r\n{\"limit", "not the expected JSON"),
    ] {
        let speaker = Speaker::saying(said);
        let error = make(&speaker.server(), Call::Quota).unwrap_err();
        assert_unreachable(&error, detail);
    }
    let many = format!("HTTP/1.1 200 OK\r\n{}", "x: y\r\n".repeat(10_000));
    let long = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "y".repeat(100_000));
    for said in [many, long] {
        let error = make(&Speaker::saying(said).server(), Call::Quota).unwrap_err();
        assert_unreachable(&error, "broken answer");
    }
}

#[test]
fn servers_that_are_not_there() {
    let port = {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        listener.local_addr().unwrap().port()
    };
    let error = make(&server(&format!("http://127.0.0.1:{port}")), Call::Quota).unwrap_err();
    assert_unreachable(&error, "unreachable: cannot connect to 127.0.0.1: ");
    let error = make(&server("https://nosuch.invalid"), Call::Quota).unwrap_err();
    assert_unreachable(&error, "unreachable: DNS: cannot find host nosuch.invalid");
}

#[test]
fn redirects_are_not_followed() {
    let other = Speaker::saying(answer("200 OK", "", "{}"));
    for status in ["301 X", "302 X", "303 X", "307 X", "308 X"] {
        let location = format!("location: http://127.0.0.1:{}/\r\n", other.port);
        let speaker = Speaker::saying(answer(status, &location, ""));
        for call in Call::ALL {
            let error = make(&speaker.server(), call).unwrap_err();
            assert!(matches!(error.meaning, Meaning::Final { .. }), "{error}");
        }
    }
    assert!(other.requests.try_recv().is_err());
}

#[test]
fn a_body_is_sent_to_the_byte() {
    let speaker = Speaker::saying(answer("200 OK", "", ""));
    let body = "x".repeat(100_000);
    // In pieces, and with more behind it.
    let mut pieces = body.as_bytes().chain(b"more".as_slice());
    speaker.server().push(&mut pieces, 100_000).unwrap();
    let request = speaker.request();
    let (_, sent) = request.split_once("\r\n\r\n").unwrap();
    assert_eq!(sent.len(), body.len());
    speaker.server().push(&mut io::empty(), 0).unwrap();
    assert!(speaker.request().contains("content-length: 0\r\n"));
}

#[test]
fn a_body_that_cannot_be_read_is_not_the_servers_fault() {
    struct Failing;
    impl Read for Failing {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("the database is damaged"))
        }
    }

    let speaker = Speaker::saying(answer("200 OK", "", ""));
    let server = speaker.server();
    let error = server.push(&mut b"{".chain(Failing), 100).unwrap_err();
    assert_eq!(error.meaning, Meaning::Unsendable);
    assert_eq!(error.to_string(), "cannot push: the database is damaged");
    let error = server.push(&mut b"{".as_slice(), 100).unwrap_err();
    assert_eq!(error.meaning, Meaning::Unsendable);
    assert_eq!(make(&server, Call::Push), Ok(()), "on a new connection");
}

#[test]
fn a_large_body_is_announced() {
    let length = LARGE + 1;
    let body = || io::repeat(b'x').take(length);
    let refusing = Speaker::saying(answer("413 X", "", ""));
    let error = refusing.server().push(&mut body(), length).unwrap_err();
    assert_eq!(error.meaning, Meaning::TooLarge);
    let taking = Speaker::playing(None, move |stream| {
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        io::copy(&mut stream.take(length), &mut io::sink())?;
        stream.write_all(answer("200 OK", "", "").as_bytes())?;
        Ok(Then::Close)
    });
    taking.server().push(&mut body(), length).unwrap();
    // One that knows nothing of this waits for the body.
    let silent = Speaker::playing(None, move |stream| {
        io::copy(&mut stream.take(length), &mut io::sink())?;
        stream.write_all(answer("200 OK", "", "").as_bytes())?;
        Ok(Then::Close)
    });
    silent.server().push(&mut body(), length).unwrap();
    let sent = taking.request();
    assert!(
        sent.contains(&format!("content-length: {length}\r\n")),
        "{sent}"
    );
}

#[test]
fn one_connection_until_it_is_given_back() {
    let (connected, connections) = mpsc::channel();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for tcp in listener.incoming() {
            connected.send(()).unwrap();
            let mut play = |stream: &mut dyn Stream| {
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")?;
                Ok(Then::Keep)
            };
            drop(serve(tcp.unwrap(), None, &mpsc::channel().0, &mut play));
        }
    });
    let server = server(&format!("http://127.0.0.1:{port}"));
    for call in [Call::Push, Call::Quota, Call::Analyze] {
        make(&server, call).unwrap();
    }
    assert_eq!(connections.try_iter().count(), 1);
    server.disconnect();
    make(&server, Call::Push).unwrap();
    assert_eq!(connections.try_iter().count(), 1);
}

#[test]
fn a_shutdown_frees_a_call_and_ends_all() {
    let (asked, is_asked) = mpsc::channel();
    let speaker = Speaker::playing(None, move |stream| {
        asked.send(()).unwrap();
        wait(stream)
    });
    let shutdown = Shutdown::default();
    let server = speaker.server().with_shutdown(shutdown.clone());
    let caller = thread::spawn(move || (make(&server, Call::Quota), server));
    is_asked.recv_timeout(AMPLE).unwrap();
    shutdown.shutdown();
    let (result, server) = caller.join().unwrap();
    let error = result.unwrap_err();
    assert_eq!(error.meaning, Meaning::Shutdown, "{error}");
    assert_eq!(error.to_string(), "shutting down");
    for call in Call::ALL {
        let error = make(&server, call).unwrap_err();
        assert_eq!(error.meaning, Meaning::Shutdown, "{error}");
    }
    let anew = speaker.server().with_shutdown(server.shutdown_handle());
    let error = make(&anew, Call::Quota).unwrap_err();
    assert_eq!(error.meaning, Meaning::Shutdown, "{error}");
}

#[test]
fn the_key_is_nowhere_to_be_read() {
    let split = format!("{}\u{200b}{}", &KEY[..7], &KEY[7..]);
    let body = format!(
        "{{\"message\":\"{KEY} and {split} {}{KEY}\",\"limit\":\"{KEY}\",\"clusterId\":\"{KEY}\",\
         \"insights\":[{{\"id\":\"{KEY}\"}},{{\"id\":\"a\",\"severity\":\"{KEY}\",\
         \"category\":\"{KEY}\",\"title\":\"{}{KEY}\",\"description\":\"{split}\",\
         \"recommendation\":\"{KEY}\",\"affectedResources\":[\"{KEY}\"]}}]}}",
        "x".repeat(230),
        "x".repeat(290),
    );
    let mut seen = String::new();
    for status in [
        "200 OK", "400 X", "401 X", "403 X", "413 X", "429 X", "500 X",
    ] {
        for body in [body.as_str(), KEY, &format!("\"{KEY}")] {
            let speaker = Speaker::saying(answer(status, "", body));
            let server = speaker.server();
            for call in Call::ALL {
                if let Err(error) = make(&server, call) {
                    seen += &format!("{error} {error:?} {error:#?}\n");
                }
            }
            let page = server.insights(Time::from_millis(0));
            seen += &format!("{page:?} {server:?} {server:#?} {:?}\n", server.key);
        }
    }
    assert!(seen.contains("***") && seen.contains("title"), "{seen}");
    // Also not the beginning of it, where a text was cut.
    assert!(!seen.contains(&KEY[..5]), "{seen}");
}

fn leaf(name: &str, names: &[&str]) -> Leaf {
    Leaf {
        common_name: name.to_owned(),
        names: names.iter().map(|name| (*name).to_owned()).collect(),
        ..Leaf::default()
    }
}

fn secure(authority: &Authority, leaf: &Leaf) -> Speaker {
    Speaker::playing(Some(authority.issue(leaf).unwrap()), |stream| {
        stream.write_all(answer("200 OK", "", "{\"limit\":24}").as_bytes())?;
        Ok(Then::Close)
    })
}

fn trusting(port: u16, authorities: Option<&Path>) -> Server {
    let settings = ServerSettings {
        ca_file: authorities.map(Path::to_owned),
        ..settings(&format!("https://127.0.0.1:{port}"))
    };
    Server::new(&settings, key()).with_limits(AMPLE, AMPLE)
}

#[test]
fn certificates() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new("one", None).unwrap();
    let file = dir.path().join("ca.crt");
    std::fs::write(&file, authority.pem()).unwrap();
    let file = Some(file.as_path());
    let good = leaf("kube9-server", &["127.0.0.1"]);

    let speaker = secure(&authority, &good);
    let quota = trusting(speaker.port, file).quota().unwrap();
    assert_eq!(quota.limit, Some(24));

    let error = trusting(speaker.port, None).quota().unwrap_err();
    assert_unreachable(&error, "unreachable: TLS: ");
    assert_unreachable(&error, "UnknownIssuer");

    let other = secure(&Authority::new("two", None).unwrap(), &good);
    let error = trusting(other.port, file).quota().unwrap_err();
    assert_unreachable(&error, "UnknownIssuer");

    let speaker = secure(&authority, &leaf("kube9-server", &["api.kube9.io"]));
    let error = trusting(speaker.port, file).quota().unwrap_err();
    assert_unreachable(&error, "for another name");

    let old = Leaf {
        only_tls12: true,
        ..good.clone()
    };
    let speaker = secure(&authority, &old);
    let quota = trusting(speaker.port, file).quota().unwrap();
    assert_eq!(quota.limit, Some(24));

    let expired = Leaf {
        expired: true,
        ..good
    };
    let speaker = secure(&authority, &expired);
    let error = trusting(speaker.port, file).quota().unwrap_err();
    assert_unreachable(&error, "has expired");

    let plain = Speaker::saying(answer("200 OK", "", "{}"));
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let plain_speaker = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let plain_port = plain_speaker.local_addr().unwrap().port();
    thread::spawn(move || {
        let (mut tcp, _) = plain_speaker.accept().unwrap();
        tcp.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
        drop(wait(&mut tcp));
    });
    let error = trusting(plain_port, file).quota().unwrap_err();
    assert_unreachable(&error, "does not speak TLS");
    drop(plain);

    let port = silent.local_addr().unwrap().port();
    let error = trusting(port, file)
        .with_limits(SHORT, AMPLE)
        .quota()
        .unwrap_err();
    assert_unreachable(&error, "no connection to 127.0.0.1 within 300ms");
}

#[test]
fn authorities_are_read_again_when_they_change() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    // As Kubernetes mounts a ConfigMap: file -> ..data/file, and ..data is swapped.
    let turn_to = |name: &str, content: &str| {
        std::fs::create_dir(path(name)).unwrap();
        std::fs::write(path(name).join("ca.crt"), content).unwrap();
        std::os::unix::fs::symlink(name, path("..data_tmp")).unwrap();
        std::fs::rename(path("..data_tmp"), path("..data")).unwrap();
    };
    std::os::unix::fs::symlink("..data/ca.crt", path("ca.crt")).unwrap();
    let file = path("ca.crt");
    let [one, two] = ["one", "two"].map(|name| Authority::new(name, None).unwrap());
    let good = leaf("kube9-server", &["127.0.0.1"]);
    let configs = [one.issue(&good).unwrap(), two.issue(&good).unwrap()];

    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let (to_speaker, chosen) = mpsc::channel::<usize>();
    thread::spawn(move || {
        for tcp in listener.incoming() {
            let config = &configs[chosen.recv().unwrap()];
            let mut play = |stream: &mut dyn Stream| {
                stream.write_all(answer("200 OK", "", "{\"limit\":24}").as_bytes())?;
                Ok(Then::Close)
            };
            let requests = mpsc::channel().0;
            drop(serve(tcp.unwrap(), Some(config), &requests, &mut play));
        }
    });
    let server = trusting(port, Some(&file));
    let quota = |speaker: usize| {
        to_speaker.send(speaker).unwrap();
        server.quota().map(|quota| quota.limit)
    };

    let missing = server.quota().unwrap_err();
    assert_unreachable(&missing, "TLS: ");
    assert_unreachable(&missing, "ca.crt: cannot read the certificate authority");
    turn_to("1", "no certificate");
    let useless = server.quota().unwrap_err();
    assert_unreachable(&useless, "ca.crt: no PEM certificate in it");
    turn_to("2", one.pem());
    assert_eq!(quota(0).unwrap(), Some(24));
    assert_unreachable(&quota(1).unwrap_err(), "UnknownIssuer");
    turn_to("3", two.pem());
    assert_eq!(quota(1).unwrap(), Some(24));
    assert_unreachable(&quota(0).unwrap_err(), "UnknownIssuer");
    // One bad certificate makes a bundle unusable, and what was usable goes on.
    let broken = "-----BEGIN CERTIFICATE-----\nQUJD\n-----END CERTIFICATE-----\n";
    turn_to("4", &format!("{}{broken}", one.pem()));
    assert_eq!(quota(1).unwrap(), Some(24));
    turn_to("5", &format!("{}{}", one.pem(), two.pem()));
    assert_eq!(quota(0).unwrap(), Some(24));
}

/// A socket that is made to drip.
struct Dripping {
    tcp: TcpStream,
    slow: Arc<AtomicBool>,
}

impl Read for Dripping {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.tcp.read(into)
    }
}

impl Write for Dripping {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !self.slow.load(Ordering::Relaxed) {
            return self.tcp.write(bytes);
        }
        thread::sleep(Duration::from_millis(20));
        self.tcp.write(bytes.get(..1).unwrap_or_default())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.tcp.flush()
    }
}

#[test]
fn encryption_that_drips() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new("one", None).unwrap();
    let file = dir.path().join("ca.crt");
    std::fs::write(&file, authority.pem()).unwrap();
    let config = authority.issue(&leaf("x", &["127.0.0.1"])).unwrap();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let (to_speaker, from_the_start) = mpsc::channel();
    thread::spawn(move || {
        for tcp in listener.incoming() {
            let slow = Arc::new(AtomicBool::new(from_the_start.recv().unwrap()));
            let tcp = Dripping {
                tcp: tcp.unwrap(),
                slow: Arc::clone(&slow),
            };
            let session = ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut stream = StreamOwned::new(session, tcp);
            drop(read_request(&mut stream));
            slow.store(true, Ordering::Relaxed);
            // One record: nothing of it can be read before all of it is there.
            let answer = answer("200 OK", "", &" ".repeat(10_000));
            drop(stream.write_all(answer.as_bytes()));
        }
    });
    let call = |from_the_start, connect, whole| {
        to_speaker.send(from_the_start).unwrap();
        let server = trusting(port, Some(&file)).with_limits(connect, whole);
        let since = Instant::now();
        let error = server.quota().unwrap_err();
        assert!(since.elapsed() < AMPLE, "{:?}", since.elapsed());
        error
    };
    let error = call(false, AMPLE, Duration::from_secs(2));
    assert_unreachable(&error, "no answer within 2s");
    let error = call(true, SHORT, AMPLE);
    assert_unreachable(&error, "no connection to 127.0.0.1 within 300ms");
}

fn through(proxy: &str, url: &str, authorities: Option<&Path>) -> Server {
    let url = ServerUrl::parse(url).unwrap();
    let settings = ServerSettings {
        proxy: ProxyUrl::choose(proxy, None, &url).unwrap(),
        ca_file: authorities.map(Path::to_owned),
        url,
    };
    Server::new(&settings, key()).with_limits(AMPLE, AMPLE)
}

#[test]
fn through_a_proxy() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new("one", None).unwrap();
    let file = dir.path().join("ca.crt");
    std::fs::write(&file, authority.pem()).unwrap();
    let config = authority.issue(&leaf("x", &["api.kube9.test"])).unwrap();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let (to_test, requests) = mpsc::channel();
    thread::spawn(move || {
        for tcp in listener.incoming() {
            let mut tcp = tcp.unwrap();
            to_test.send(read_request(&mut tcp).unwrap()).unwrap();
            tcp.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
            let mut play = |stream: &mut dyn Stream| {
                stream.write_all(answer("200 OK", "", "{\"limit\":24}").as_bytes())?;
                Ok(Then::Close)
            };
            drop(serve(tcp, Some(&config), &mpsc::channel().0, &mut play));
        }
    });
    // Nobody but the proxy could find this host.
    let proxy = format!("http://user:pass_marker@127.0.0.1:{port}");
    let server = through(&proxy, "https://api.kube9.test", Some(&file));
    assert_eq!(server.quota().unwrap().limit, Some(24));
    let request = requests.recv_timeout(AMPLE).unwrap().unwrap();
    assert!(
        request.starts_with("CONNECT api.kube9.test:443 HTTP/1.1\r\n"),
        "{request}"
    );
    assert!(!request.contains(KEY), "{request}");
    let credentials = "Proxy-Authorization: Basic dXNlcjpwYXNzX21hcmtlcg==";
    assert!(request.contains(credentials), "{request}");
    assert!(!format!("{server:?} {server:#?}").contains("pass_marker"));
}

#[test]
fn proxies_that_do_not_do_their_part() {
    let proxy = |port| format!("http://user:pass_marker@127.0.0.1:{port}");
    let refusing = Speaker::saying("HTTP/1.1 407 X\r\ncontent-length: 0\r\n\r\n");
    let hanging = Speaker::playing(None, wait);
    let dripping = Speaker::playing(None, |stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\nx: ")?;
        drip(stream, b'x')
    });
    for (speaker, detail) in [
        (&refusing, "cannot connect to 127.0.0.1: "),
        (&hanging, "within 300ms"),
        (&dripping, "within 300ms"),
    ] {
        let server = through(&proxy(speaker.port), "https://api.kube9.test", None);
        let error = failing(server, Call::Quota);
        assert_unreachable(&error, detail);
        assert!(!format!("{error} {error:?}").contains("pass_marker"));
    }
    let lost = through("http://nosuch.invalid:3128", "https://api.kube9.test", None);
    let error = make(&lost, Call::Quota).unwrap_err();
    assert_unreachable(&error, "DNS: cannot find host nosuch.invalid");
}
