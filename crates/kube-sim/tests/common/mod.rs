//! A client small enough to see every byte: one connection, one request at a time.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use kube_sim::Sim;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::Value;

/// A connection.
pub(crate) struct Client {
    stream: StreamOwned<ClientConnection, TcpStream>,
    buffer: Vec<u8>,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// The sizes of the chunks, when it was chunked.
    pub chunks: Vec<usize>,
}

impl Client {
    /// Connects and shakes hands.
    pub(crate) fn new(sim: &Sim) -> io::Result<Self> {
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(sim.ca_pem().as_bytes()).unwrap())
            .unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from("127.0.0.1").unwrap();
        let connection = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
        let tcp = TcpStream::connect(sim.addr())?;
        tcp.set_read_timeout(Some(Duration::from_secs(60)))?;
        let mut stream = StreamOwned::new(connection, tcp);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        Ok(Self {
            stream,
            buffer: Vec::new(),
        })
    }

    /// Waits at most so long for a byte from now on.
    pub(crate) fn patience(&mut self, time: Duration) {
        self.stream.sock.set_read_timeout(Some(time)).unwrap();
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)?;
        self.stream.flush()
    }

    /// A request as the user of the simulator.
    pub(crate) fn request(
        &mut self,
        sim: &Sim,
        method: &str,
        url: &str,
        headers: &str,
        body: &str,
    ) -> io::Result<Answer> {
        let token = sim.token();
        let length = if body.is_empty() {
            String::new()
        } else {
            format!("Content-Length: {}\r\n", body.len())
        };
        let head = format!(
            "{method} {url} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nUser-Agent: test/1\r\n{headers}{length}\r\n"
        );
        self.send(head.as_bytes())?;
        self.send(body.as_bytes())?;
        self.answer(method == "HEAD")
    }

    pub(crate) fn get(&mut self, sim: &Sim, url: &str) -> Answer {
        self.request(sim, "GET", url, "", "").unwrap()
    }

    /// Reads an answer, past a `100 Continue`.
    pub(crate) fn answer(&mut self, without_body: bool) -> io::Result<Answer> {
        let mut answer = self.head()?;
        if answer.status == 100 {
            answer = self.head()?;
        }
        if without_body || answer.status == 304 {
            return Ok(answer);
        }
        if answer.header("transfer-encoding") == Some("chunked") {
            while let Some(chunk) = self.chunk()? {
                answer.chunks.push(chunk.len());
                answer.body.extend(chunk);
            }
        } else {
            let length = answer
                .header("content-length")
                .and_then(|value| value.parse().ok())
                .unwrap_or(0);
            answer.body = self.take(length)?;
        }
        Ok(answer)
    }

    /// Reads a head only.
    pub(crate) fn head(&mut self) -> io::Result<Answer> {
        let line = self.line()?;
        let status = line.split(' ').nth(1).and_then(|word| word.parse().ok());
        let status =
            status.ok_or_else(|| io::Error::other(format!("not a status line: {line:?}")))?;
        let mut headers = Vec::new();
        loop {
            let line = self.line()?;
            let Some((name, value)) = line.split_once(": ") else {
                break;
            };
            headers.push((name.to_owned(), value.to_owned()));
        }
        Ok(Answer {
            status,
            headers,
            body: Vec::new(),
            chunks: Vec::new(),
        })
    }

    /// Reads a chunk; `None` is the last one.
    pub(crate) fn chunk(&mut self) -> io::Result<Option<Vec<u8>>> {
        let line = self.line()?;
        let size = usize::from_str_radix(&line, 16).map_err(io::Error::other)?;
        let chunk = self.take(size)?;
        self.line()?;
        Ok((size > 0).then_some(chunk))
    }

    /// Whether nothing more comes: closed in order (`Ok`), or broken off.
    pub(crate) fn end(&mut self) -> io::Result<()> {
        self.fill().and_then(|count| {
            if count == 0 {
                Ok(())
            } else {
                Err(io::Error::other("more came"))
            }
        })
    }

    fn line(&mut self) -> io::Result<String> {
        loop {
            if let Some(at) = self.buffer.windows(2).position(|window| window == b"\r\n") {
                let line = String::from_utf8_lossy(&self.buffer[..at]).into_owned();
                self.buffer.drain(..at + 2);
                return Ok(line);
            }
            if self.fill()? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    fn take(&mut self, count: usize) -> io::Result<Vec<u8>> {
        while self.buffer.len() < count {
            if self.fill()? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(self.buffer.drain(..count).collect())
    }

    fn fill(&mut self) -> io::Result<usize> {
        let mut bytes = [0; 16 << 10];
        let count = self.stream.read(&mut bytes)?;
        self.buffer.extend_from_slice(&bytes[..count]);
        Ok(count)
    }
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// One request on a connection of its own.
pub(crate) fn get(sim: &Sim, url: &str) -> Answer {
    Client::new(sim).unwrap().get(sim, url)
}

/// Applies a ConfigMap in `kube9-system`.
pub(crate) fn apply(sim: &Sim, name: &str, manager: &str, data: &Value) -> Answer {
    let body = serde_json::json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data});
    let url = format!("/api/v1/namespaces/kube9-system/configmaps/{name}?fieldManager={manager}");
    let content = "Content-Type: application/apply-patch+yaml\r\n";
    Client::new(sim)
        .unwrap()
        .request(sim, "PATCH", &url, content, &body.to_string())
        .unwrap()
}
