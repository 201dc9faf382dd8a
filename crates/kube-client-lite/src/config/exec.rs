use std::io::{self, IsTerminal, Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use super::tls::ClientIdentity;
use super::{ConfigError, Secret};

/// How long a plugin may take, and how long when a person may have to answer it.
const TIME_LIMIT: Duration = Duration::from_secs(60);
const TIME_LIMIT_INTERACTIVE: Duration = Duration::from_secs(300);
/// How much a plugin may print, in bytes.
const OUTPUT_LIMIT: usize = 1 << 20;
/// How much of what it says on standard error is quoted, in characters.
const QUOTE_LIMIT: usize = 200;

/// A program that prints credentials: `users[].user.exec` of a kubeconfig.
///
/// It is run as described in [client-go credential plugins], for 60 s at the most, or 5 minutes
/// if it may ask the user. Its standard error goes to that of this process.
///
/// [client-go credential plugins]: https://kubernetes.io/docs/reference/access-authn-authz/authentication/#client-go-credential-plugins
#[derive(Clone, Debug)]
pub struct ExecPlugin {
    /// `client.authentication.k8s.io/v1` or `client.authentication.k8s.io/v1beta1`.
    pub api_version: String,
    /// The program: a path, or a name looked up in `PATH`.
    pub command: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
    /// Environment variables set besides the inherited ones.
    pub env: Vec<(String, Secret)>,
    /// What `KUBERNETES_EXEC_INFO` tells the program about the cluster (`spec.cluster`); `None`
    /// where `provideClusterInfo` is false.
    pub cluster_info: Option<Value>,
    /// Whether it may ask the user on the terminal.
    pub interactive: Interactive,
    /// What to tell a user who does not have the program.
    pub install_hint: Option<String>,
}

/// Whether a credential plugin may ask the user on the terminal (`interactiveMode`).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Interactive {
    /// It must: without a terminal on standard input it is an error.
    Always,
    /// It may, if standard input is a terminal.
    #[default]
    IfAvailable,
    /// It must not: it is given no standard input.
    Never,
}

/// What a plugin gave.
pub(super) struct Credential {
    pub(super) token: Option<Secret>,
    pub(super) client: Option<ClientIdentity>,
    pub(super) expires: Option<Timestamp>,
}

impl ExecPlugin {
    pub(super) fn run(&self) -> Result<Credential, ConfigError> {
        let terminal = io::stdin().is_terminal();
        let interactive = match self.interactive {
            Interactive::Always if !terminal => {
                return Err(self.failed("must ask the user, but standard input is not a terminal"));
            }
            Interactive::Always => true,
            Interactive::IfAvailable => terminal,
            Interactive::Never => false,
        };
        let limit = if interactive {
            TIME_LIMIT_INTERACTIVE
        } else {
            TIME_LIMIT
        };
        self.credential(&self.output(interactive, limit)?)
    }

    fn output(&self, interactive: bool, limit: Duration) -> Result<Vec<u8>, ConfigError> {
        let deadline = Instant::now() + limit;
        let mut child = Command::new(&self.command)
            .args(&self.args)
            .envs(self.env.iter().map(|(name, value)| (name, value.expose())))
            .env("KUBERNETES_EXEC_INFO", self.info(interactive).to_string())
            .stdin(if interactive {
                Stdio::inherit()
            } else {
                Stdio::null()
            })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| ConfigError::ExecCommand {
                command: self.command.clone(),
                error,
                hint: self.install_hint.clone(),
            })?;
        let result = watch(&mut child, deadline);
        // Both do nothing to a child that has ended.
        let _ = child.kill();
        let _ = child.wait();
        let (outcome, stderr) =
            result.map_err(|error| self.failed(format!("cannot be run: {error}")))?;
        let reason = match outcome {
            Outcome::Ended(status, output) if status.success() => return Ok(output),
            Outcome::Ended(status, _) => format!("failed ({status})"),
            Outcome::TooLarge => format!("printed more than {OUTPUT_LIMIT} bytes"),
            Outcome::TooLate => format!("was not done after {} s and was stopped", limit.as_secs()),
        };
        // The line comes from another thread, which may be a moment behind, and more on a busy machine.
        let stderr = stderr
            .recv_timeout(Duration::from_secs(2))
            .unwrap_or_default();
        Err(ConfigError::ExecFailed {
            command: self.command.clone(),
            reason,
            stderr,
        })
    }

    fn info(&self, interactive: bool) -> Value {
        let mut spec = json!({ "interactive": interactive });
        if let (Some(cluster), Some(spec)) = (&self.cluster_info, spec.as_object_mut()) {
            spec.insert("cluster".to_owned(), cluster.clone());
        }
        json!({ "apiVersion": self.api_version, "kind": "ExecCredential", "spec": spec })
    }

    fn credential(&self, output: &[u8]) -> Result<Credential, ConfigError> {
        let answer: ExecCredential = serde_json::from_slice(output).map_err(|error| {
            // The error's own text may quote the token.
            let (line, column) = (error.line(), error.column());
            self.failed(format!(
                "did not print an ExecCredential in JSON (line {line}, column {column})"
            ))
        })?;
        if answer.kind != "ExecCredential" || answer.api_version != self.api_version {
            return Err(self.failed(format!(
                "printed apiVersion {:?}, kind {:?} instead of {:?}, \"ExecCredential\"",
                answer.api_version, answer.kind, self.api_version
            )));
        }
        let Some(status) = answer.status else {
            return Err(self.failed("printed no status"));
        };
        let token = status
            .token
            .filter(|token| !token.is_empty())
            .map(Secret::new);
        let origin = |field| format!("credential plugin {}: {field}", self.command.display());
        let client = match (status.client_certificate_data, status.client_key_data) {
            (Some(cert), Some(key)) => Some(ClientIdentity::parse(
                (cert.as_bytes(), &origin("clientCertificateData")),
                (key.as_bytes(), &origin("clientKeyData")),
            )?),
            (None, None) => None,
            _ => {
                return Err(
                    self.failed("printed only one of clientCertificateData and clientKeyData")
                );
            }
        };
        if token.is_none() && client.is_none() {
            return Err(self.failed("printed neither a token nor a client certificate"));
        }
        let expires = status
            .expiration_timestamp
            .map(|time| {
                time.parse()
                    .map_err(|_| self.failed("printed an expirationTimestamp that is not RFC 3339"))
            })
            .transpose()?;
        Ok(Credential {
            token,
            client,
            expires,
        })
    }

    fn failed(&self, reason: impl Into<String>) -> ConfigError {
        ConfigError::ExecFailed {
            command: self.command.clone(),
            reason: reason.into(),
            stderr: String::new(),
        }
    }
}

enum Outcome {
    Ended(ExitStatus, Vec<u8>),
    TooLarge,
    TooLate,
}

/// Waits for the end of the output and of the child. The pipes are read by threads, because a
/// process the plugin left behind may hold them open for ever; such a thread is left alone.
fn watch(child: &mut Child, deadline: Instant) -> io::Result<(Outcome, Receiver<String>)> {
    let (output_sender, output) = mpsc::sync_channel(1);
    let (line_sender, line) = mpsc::sync_channel(1);
    if let Some(stdout) = child.stdout.take() {
        thread::Builder::new().spawn(move || {
            let mut content = Vec::new();
            let read = stdout
                .take(OUTPUT_LIMIT as u64 + 1)
                .read_to_end(&mut content);
            // Nobody waits any more when this is too late.
            let _ = output_sender.send(read.map(|_| content));
        })?;
    }
    if let Some(stderr) = child.stderr.take() {
        thread::Builder::new().spawn(move || pass_on(stderr, &line_sender))?;
    }
    let left = deadline.saturating_duration_since(Instant::now());
    let Ok(content) = output.recv_timeout(left) else {
        return Ok((Outcome::TooLate, line));
    };
    let content = content?;
    if content.len() > OUTPUT_LIMIT {
        return Ok((Outcome::TooLarge, line));
    }
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok((Outcome::Ended(status, content), line));
        }
        if Instant::now() >= deadline {
            return Ok((Outcome::TooLate, line));
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// Copies a plugin's standard error to ours as it comes, since it may be a question, and sends
/// its first line.
fn pass_on(mut stderr: impl Read, line: &SyncSender<String>) {
    let mut first = Some(Vec::new());
    let mut buffer = [0; 4096];
    while let Ok(count) = stderr.read(&mut buffer) {
        let chunk = buffer.get(..count).unwrap_or_default();
        let _ = io::stderr().write_all(chunk);
        if let Some(mut start) = first.take() {
            start.extend_from_slice(chunk);
            let text = start.trim_ascii_start();
            if count == 0 || text.contains(&b'\n') || text.len() > QUOTE_LIMIT {
                let _ = line.send(quote(text));
            } else {
                first = Some(start);
            }
        }
        if count == 0 {
            return;
        }
    }
}

fn quote(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let line = text.lines().next().unwrap_or_default();
    line.chars()
        .take(QUOTE_LIMIT)
        .map(|char| if char.is_control() { ' ' } else { char })
        .collect()
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ExecCredential {
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    kind: String,
    status: Option<Status>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    expiration_timestamp: Option<String>,
    token: Option<String>,
    client_certificate_data: Option<String>,
    client_key_data: Option<String>,
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn plugin(script: &str) -> ExecPlugin {
        ExecPlugin {
            api_version: "client.authentication.k8s.io/v1".to_owned(),
            command: "/bin/sh".into(),
            args: vec!["-c".to_owned(), script.to_owned()],
            env: vec![("PLUGIN_REGION".to_owned(), Secret::new("eu"))],
            cluster_info: None,
            interactive: Interactive::Never,
            install_hint: None,
        }
    }

    fn error(script: &str, limit: Duration) -> String {
        let plugin = plugin(script);
        match plugin
            .output(false, limit)
            .and_then(|output| plugin.credential(&output))
        {
            Ok(_) => "no error".to_owned(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn environment() {
        let mut plugin = plugin(r#"printf '%s %s' "$PLUGIN_REGION" "$KUBERNETES_EXEC_INFO"; cat"#);
        plugin.cluster_info = Some(json!({"server": "https://h"}));
        let output = plugin.output(false, TIME_LIMIT).unwrap();
        assert_eq!(
            String::from_utf8(output).unwrap(),
            "eu {\"apiVersion\":\"client.authentication.k8s.io/v1\",\"kind\":\"ExecCredential\",\
             \"spec\":{\"cluster\":{\"server\":\"https://h\"},\"interactive\":false}}"
        );
    }

    #[test]
    fn answers() {
        let v1 = r#""apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential""#;
        for (answer, expected) in [
            (
                "hello".to_owned(),
                "did not print an ExecCredential in JSON (line 1, column 1)",
            ),
            (
                String::new(),
                "did not print an ExecCredential in JSON (line 1, column 0)",
            ),
            (
                format!(r#"{{{v1},"status":"s3cret"}}"#),
                "did not print an ExecCredential in JSON (line 1, column 89)",
            ),
            (
                r#"{"apiVersion":"v2","kind":"X"}"#.to_owned(),
                "printed apiVersion \"v2\", kind \"X\" instead of \"client.authentication.k8s.io/v1\", \"ExecCredential\"",
            ),
            (format!("{{{v1}}}"), "printed no status"),
            (
                format!(r#"{{{v1},"status":{{"token":""}}}}"#),
                "printed neither a token nor a client certificate",
            ),
            (
                format!(r#"{{{v1},"status":{{"clientKeyData":"s3cret"}}}}"#),
                "printed only one of clientCertificateData and clientKeyData",
            ),
        ] {
            let error = error(&format!("printf '%s' '{answer}'"), TIME_LIMIT);
            assert_eq!(error, format!("credential plugin /bin/sh {expected}"));
        }
    }

    #[test]
    fn failures() {
        let second = Duration::from_secs(1);
        // For a shell to start in and say something.
        let a_while = Duration::from_secs(5);
        for (script, limit, expected) in [
            (
                "printf 'no\\033[1m login\\nmore' >&2; exit 3",
                TIME_LIMIT,
                "failed (exit status: 3): no [1m login",
            ),
            ("exit 1", TIME_LIMIT, "failed (exit status: 1)"),
            (
                "echo wait >&2; exec sleep 60",
                a_while,
                "was not done after 5 s and was stopped: wait",
            ),
            // The pipe stays open after the shell itself was killed.
            (
                "sleep 4; sleep 4",
                second,
                "was not done after 1 s and was stopped",
            ),
            (
                "exec >&-; exec sleep 30",
                second,
                "was not done after 1 s and was stopped",
            ),
            (
                "exec cat /dev/zero",
                TIME_LIMIT,
                "printed more than 1048576 bytes",
            ),
        ] {
            assert_eq!(
                error(script, limit),
                format!("credential plugin /bin/sh {expected}"),
                "{script}"
            );
        }
    }

    #[test]
    fn missing_command() {
        let mut plugin = plugin("");
        plugin.command = "kube-login-that-nobody-has".into();
        let text = "credential plugin kube-login-that-nobody-has cannot be started: No such file or directory (os error 2); ";
        let error = |plugin: &ExecPlugin| plugin.run().map(drop).unwrap_err().to_string();
        assert_eq!(
            error(&plugin),
            format!("{text}install it, or correct exec.command in the kubeconfig")
        );
        plugin.install_hint = Some("brew install kube-login".to_owned());
        assert_eq!(error(&plugin), format!("{text}brew install kube-login"));
    }

    #[test]
    fn long_first_line_is_cut() {
        assert_eq!(quote(&[b'x'; 500]).len(), QUOTE_LIMIT);
    }
}
