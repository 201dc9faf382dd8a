//! Servers that speak HTTP, but not as an API server does.

use std::io::Write;

use kube_client_lite::{Error, ListParams, RetryPolicy, TransportKind};
use serde_json::Value;

use crate::common::*;

const VERSION: &str = r#"{"gitVersion": "v1.36.2"}"#;

fn version(answer: impl AsRef<[u8]> + Send + 'static) -> Result<String, Error> {
    let raw = Raw::answers(vec![answer]);
    let client = raw.client().with_retry(RetryPolicy::NEVER);
    client.version().map(|version| version.git_version)
}

#[test]
fn http_1_0_and_bodies_without_length() {
    for head in [
        "HTTP/1.0 200 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n",
        "HTTP/1.1 200 OK\r\n\r\n",
    ] {
        assert_eq!(version(format!("{head}{VERSION}")).unwrap(), "v1.36.2");
    }
}

#[test]
fn interim_answers_are_passed_over() {
    let interim = "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n";
    let answers = format!("{interim}{}", answer("200 OK", VERSION));
    assert_eq!(version(answers).unwrap(), "v1.36.2");
}

#[test]
fn successes_without_an_object() {
    for answer in [
        "HTTP/1.1 204 No Content\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    ] {
        assert!(matches!(version(answer).unwrap_err(), Error::Decode { .. }));
    }
}

#[test]
fn what_follows_the_object_is_not_passed_over() {
    let error = version(answer("200 OK", &format!("{VERSION} {VERSION}"))).unwrap_err();
    assert!(error.to_string().contains("trailing characters"), "{error}");
    // Beyond the length it belongs to no answer; the connection is not used again.
    let trailing = format!(
        "{}HTTP/1.1 200 OK\r\n\r\nsmuggled",
        answer("200 OK", VERSION)
    );
    let raw = Raw::answers(vec![trailing]);
    let client = raw.client();
    client.version().unwrap();
    client.version().unwrap();
    assert_eq!(raw.heads().len(), 2);
}

#[test]
fn compressed_answers_are_no_json() {
    let gzip = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03";
    let mut answer =
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 10\r\n\r\n".to_vec();
    answer.extend(gzip);
    assert!(matches!(version(answer).unwrap_err(), Error::Decode { .. }));
}

#[test]
fn redirects_are_not_followed() {
    let elsewhere = Raw::answers(vec![answer("200 OK", VERSION)]);
    for code in [301, 302, 307, 308] {
        let redirect = format!(
            "HTTP/1.1 {code} Moved\r\nLocation: {}/version\r\nContent-Length: 0\r\n\r\n",
            elsewhere.url()
        );
        assert_eq!(version(redirect).unwrap_err().status_code(), Some(code));
    }
    assert!(elsewhere.heads().is_empty(), "no token left the server");
}

#[test]
fn not_modified_is_an_error() {
    let error = version("HTTP/1.1 304 Not Modified\r\n\r\n").unwrap_err();
    assert_eq!(error.status_code(), Some(304));
}

#[test]
fn headers_without_end() {
    for size in [40 << 10, 1 << 20] {
        let answer = format!(
            "HTTP/1.1 200 OK\r\nX: {}\r\n\r\n{VERSION}",
            "x".repeat(size)
        );
        let error = version(answer).unwrap_err();
        assert!(
            matches!(
                error,
                Error::Transport {
                    kind: TransportKind::Protocol,
                    ..
                }
            ),
            "{error}"
        );
    }
    let many = format!(
        "HTTP/1.1 200 OK\r\n{}\r\n{VERSION}",
        "X: y\r\n".repeat(5000)
    );
    version(many).unwrap_err();
}

#[test]
fn broken_framing() {
    for body in [
        "Transfer-Encoding: chunked\r\n\r\nzz\r\n{}",
        "Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n{}",
        "Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n",
        "Content-Length: 99999999999999999999\r\n\r\n{}",
        "Content-Length: -1\r\n\r\n{}",
        "Content-Length: 50\r\n\r\n{}",
    ] {
        let error = version(format!("HTTP/1.1 200 OK\r\n{body}")).unwrap_err();
        assert!(
            matches!(
                error,
                Error::Transport {
                    kind: TransportKind::Protocol,
                    ..
                }
            ),
            "{body:?}: {error}"
        );
    }
    let error = version("HTTP/1.1 200 OK\r\nContent-Length: 5000000000\r\n\r\n{}").unwrap_err();
    assert!(matches!(error, Error::BodyTooLarge { .. }), "{error}");
}

#[test]
fn a_cut_list_without_length_is_not_a_short_list() {
    let raw = Raw::answers(vec![
        "HTTP/1.0 200 OK\r\n\r\n{\"items\": [{\"a\": 1}, {\"a\"".to_owned(),
    ]);
    let error = raw
        .client()
        .api(PODS)
        .list_all::<Value>(&ListParams::default())
        .unwrap_err();
    assert!(matches!(error, Error::Decode { .. }), "{error}");
}

#[test]
fn a_shutdown_within_an_answer_without_length_is_a_shutdown() {
    let (ready, served) = std::sync::mpsc::channel();
    let raw = Raw::new(move |mut stream, _| {
        stream
            .write_all(b"HTTP/1.0 200 OK\r\n\r\n{\"gitVer")
            .unwrap();
        ready.send(stream).unwrap();
    });
    let client = raw.client();
    let handle = client.shutdown_handle();
    let call = std::thread::spawn(move || client.version());
    let stream = served.recv().unwrap();
    std::thread::sleep(std::time::Duration::from_millis(100));
    handle.shutdown();
    assert!(matches!(call.join().unwrap().unwrap_err(), Error::Shutdown));
    drop(stream);
}
