//! What can be typed. argh knows neither `--flag=value` nor our exit codes; both are added here.

// The docs of the types are the text of --help.
#![allow(clippy::doc_markdown, rustdoc::bare_urls)]

mod pro;

use std::ffi::OsString;

use argh::{EarlyExit, FromArgs};

use super::output::Format;
use crate::config::Flags;
use crate::privacy::id::Kind;

pub(crate) use pro::{
    Analyses, AnalysisMatter, Analyze, GetInsight, InsightMatter, Insights, ListAnalyses,
    ListInsights, Quota, Verdict,
};

/// The flags that a command has, as typed.
macro_rules! flags {
    ($command:expr, $($flag:ident)*) => {
        $crate::config::Flags {
            $($flag: $command.$flag.clone(),)*
            ..$crate::config::Flags::default()
        }
    };
}
use flags;

const NAME: &str = "kube9-operator";

/// A small Kubernetes agent, and the commands that ask it things.
#[derive(FromArgs)]
#[argh(help_triggers("-h", "--help", "help"))]
struct TopLevel {
    #[argh(subcommand)]
    command: Command,
}

#[derive(FromArgs)]
#[argh(subcommand)]
pub(crate) enum Command {
    Check(Check),
    Health(Health),
    Query(Query),
    Run(Run),
}

/// Run the agent until SIGTERM.
#[derive(FromArgs)]
#[argh(subcommand, name = "run", help_triggers("-h", "--help", "help"))]
pub(crate) struct Run {
    /// file with the API key; missing or empty: free tier (KUBE9_API_KEY_FILE, /etc/kube9/api-key/apiKey)
    #[argh(option, arg_name = "file")]
    api_key_file: Option<String>,
    /// context of the kubeconfig (its current one)
    #[argh(option, arg_name = "name")]
    context: Option<String>,
    /// the agent's database (KUBE9_DB, /data/kube9.db)
    #[argh(option, arg_name = "file")]
    db: Option<String>,
    /// namespaces to leave out entirely, separated by commas (KUBE9_EXCLUDE_NAMESPACES, none)
    #[argh(option, arg_name = "names")]
    exclude_namespaces: Option<String>,
    /// kubeconfig (KUBECONFIG; in a pod: its service account; ~/.kube/config)
    #[argh(option, arg_name = "file")]
    kubeconfig: Option<String>,
    /// off, error, warn, info or debug (KUBE9_LOG, info); KUBE9_LOG_FORMAT=json for JSON lines
    #[argh(option, arg_name = "level")]
    log_level: Option<String>,
    /// the agent's own namespace (POD_NAMESPACE, the service account's, kube9-system)
    #[argh(option, arg_name = "name")]
    namespace: Option<String>,
    /// workloads, or namespaces to send less to kube9-server (KUBE9_PRIVACY_DETAIL, workloads)
    #[argh(option, arg_name = "detail")]
    privacy_detail: Option<String>,
    /// certificates to trust kube9-server by, instead of the public ones (KUBE9_SERVER_CA_FILE)
    #[argh(option, arg_name = "file")]
    server_ca_file: Option<String>,
    /// kube9-server, for what needs an API key (KUBE9_SERVER_URL, https://api.kube9.io)
    #[argh(option, arg_name = "url")]
    server_url: Option<String>,
    /// how often to write the status, 10s to 240s (KUBE9_STATUS_INTERVAL, 60s)
    #[argh(option, arg_name = "time")]
    status_interval: Option<String>,
    /// how often to collect the cluster, 5m to 24h (KUBE9_SYNC_INTERVAL, 60m)
    #[argh(option, arg_name = "time")]
    sync_interval: Option<String>,
}

/// Exit 0 while the agent is alive: its heartbeat is younger than 180 s.
#[derive(FromArgs)]
#[argh(subcommand, name = "health", help_triggers("-h", "--help", "help"))]
pub(crate) struct Health {
    /// the agent's database (KUBE9_DB, /data/kube9.db)
    #[argh(option, arg_name = "file")]
    pub(crate) db: Option<String>,
    /// exit 0 only once the first status was written, too
    #[argh(switch)]
    pub(crate) ready: bool,
}

/// Check from inside the cluster that the agent publishes a fresh status.
#[derive(FromArgs)]
#[argh(subcommand, name = "check", help_triggers("-h", "--help", "help"))]
pub(crate) struct Check {
    /// context of the kubeconfig (its current one)
    #[argh(option, arg_name = "name")]
    context: Option<String>,
    /// kubeconfig (KUBECONFIG; in a pod: its service account; ~/.kube/config)
    #[argh(option, arg_name = "file")]
    kubeconfig: Option<String>,
    /// the agent's namespace (POD_NAMESPACE, the service account's, kube9-system)
    #[argh(option, arg_name = "name")]
    namespace: Option<String>,
}

/// Ask what the agent knows.
#[derive(FromArgs)]
#[argh(subcommand, name = "query", help_triggers("-h", "--help", "help"))]
pub(crate) struct Query {
    #[argh(subcommand)]
    pub(crate) what: Question,
}

#[derive(FromArgs)]
#[argh(subcommand)]
pub(crate) enum Question {
    Analyses(Analyses),
    Analyze(Analyze),
    Dashboard(Dashboard),
    Insights(Insights),
    Privacy(Privacy),
    Quota(Quota),
    Status(Status),
}

/// The cluster at a glance, as of the last few minutes.
#[derive(FromArgs)]
#[argh(subcommand, name = "dashboard", help_triggers("-h", "--help", "help"))]
pub(crate) struct Dashboard {
    /// the agent's database (KUBE9_DB, /data/kube9.db)
    #[argh(option, arg_name = "file")]
    db: Option<String>,
    /// json, yaml or table (json)
    #[argh(option, default = "Format::default()")]
    pub(crate) format: Format,
}

/// What leaves the cluster once there is an API key, and under which names.
#[derive(FromArgs)]
#[argh(subcommand, name = "privacy", help_triggers("-h", "--help", "help"))]
pub(crate) struct Privacy {
    #[argh(subcommand)]
    pub(crate) what: Matter,
}

#[derive(FromArgs)]
#[argh(subcommand)]
pub(crate) enum Matter {
    Names(Names),
    Preview(Preview),
}

/// The map of names to opaque ids. It stays in the cluster.
#[derive(FromArgs)]
#[argh(subcommand, name = "names", help_triggers("-h", "--help", "help"))]
pub(crate) struct Names {
    /// the agent's database (KUBE9_DB, /data/kube9.db)
    #[argh(option, arg_name = "file")]
    db: Option<String>,
    /// json, yaml or table (json)
    #[argh(option, default = "Format::default()")]
    pub(crate) format: Format,
    /// only namespace, deployment, statefulset, daemonset, job or cronjob
    #[argh(option, from_str_fn(parse_kind))]
    pub(crate) kind: Option<Kind>,
}

/// The exact JSON body of the next metrics push, as of the last collection.
#[derive(FromArgs)]
#[argh(subcommand, name = "preview", help_triggers("-h", "--help", "help"))]
pub(crate) struct Preview {
    /// the agent's database (KUBE9_DB, /data/kube9.db)
    #[argh(option, arg_name = "file")]
    db: Option<String>,
    /// workloads, or namespaces for less (KUBE9_PRIVACY_DETAIL, workloads)
    #[argh(option, arg_name = "detail")]
    privacy_detail: Option<String>,
}

fn parse_kind(text: &str) -> Result<Kind, String> {
    Kind::parse(text).ok_or_else(|| {
        format!(
            "{text:?} is not one of namespace, deployment, statefulset, daemonset, job, cronjob"
        )
    })
}

/// How the agent is doing.
#[derive(FromArgs)]
#[argh(subcommand, name = "status", help_triggers("-h", "--help", "help"))]
pub(crate) struct Status {
    /// file with the API key (KUBE9_API_KEY_FILE, /etc/kube9/api-key/apiKey)
    #[argh(option, arg_name = "file")]
    api_key_file: Option<String>,
    /// the agent's database (KUBE9_DB, /data/kube9.db)
    #[argh(option, arg_name = "file")]
    db: Option<String>,
    /// json, yaml or table (json)
    #[argh(option, default = "Format::default()")]
    pub(crate) format: Format,
    /// the agent's own namespace (POD_NAMESPACE, the service account's, kube9-system)
    #[argh(option, arg_name = "name")]
    namespace: Option<String>,
}

/// What the arguments turned out to be.
pub(crate) enum Parsed {
    Command(Box<Command>),
    Help(String),
    Wrong { message: String, format: Format },
}

/// Parses the arguments behind the program's name.
pub(crate) fn parse(arguments: impl Iterator<Item = OsString>) -> Parsed {
    let mut words = Vec::new();
    for argument in arguments {
        match argument.into_string() {
            Ok(word) => split_flag(word, &mut words),
            Err(word) => return wrong(format!("{} is not UTF-8", word.display()), &words),
        }
    }
    if words.iter().any(|word| word == "--version" || word == "-V") {
        return Parsed::Help(format!("{NAME} {}", env!("CARGO_PKG_VERSION")));
    }
    let typed: Vec<&str> = words.iter().map(String::as_str).collect();
    match TopLevel::from_args(&[NAME], &typed) {
        Ok(TopLevel { command }) => Parsed::Command(Box::new(command)),
        Err(EarlyExit {
            output,
            status: Ok(()),
        }) => Parsed::Help(output),
        Err(EarlyExit { output, .. }) => {
            let message = format!("{}\n\n{}", output.trim_end(), usage(&typed));
            wrong(message, &words)
        }
    }
}

/// Queries are asked by programs, too: unless another format was asked for, their errors are JSON,
/// and the usage behind the first line is left to people.
fn wrong(message: String, words: &[String]) -> Parsed {
    let mut words = words.iter();
    if words.next().map(String::as_str) != Some("query") {
        let format = Format::Table;
        return Parsed::Wrong { message, format };
    }
    words.find(|word| *word == "--format");
    let format: Option<Format> = words.next().and_then(|word| word.parse().ok());
    match format.unwrap_or_default() {
        Format::Json => Parsed::Wrong {
            message: message.lines().next().unwrap_or_default().to_owned(),
            format: Format::Json,
        },
        format => Parsed::Wrong { message, format },
    }
}

/// The help of the innermost command that was meant.
fn usage(words: &[&str]) -> String {
    let commands = words
        .iter()
        .take_while(|word| !word.starts_with('-'))
        .count();
    for meant in (0..=commands).rev() {
        let mut question: Vec<&str> = words.iter().take(meant).copied().collect();
        question.push("--help");
        if let Err(EarlyExit {
            output,
            status: Ok(()),
        }) = TopLevel::from_args(&[NAME], &question)
        {
            return output;
        }
    }
    String::new()
}

/// `--flag=value` is `--flag value`, and `-f=value` likewise. What follows `--` is not looked into.
fn split_flag(word: String, words: &mut Vec<String>) {
    let literal = words.iter().any(|before| before == "--");
    match word.split_once('=') {
        Some((flag, value)) if flag.starts_with('-') && !literal => {
            words.extend([flag.to_owned(), value.to_owned()]);
        }
        _ => words.push(word),
    }
}

impl Command {
    /// How failures are told: JSON to programs, a sentence to everyone else.
    pub(crate) fn format(&self) -> Format {
        match self {
            Self::Query(query) => query.what.format(),
            Self::Check(_) | Self::Health(_) | Self::Run(_) => Format::Table,
        }
    }
}

impl Question {
    fn format(&self) -> Format {
        match self {
            Self::Analyses(analyses) => {
                let AnalysisMatter::List(list) = &analyses.what;
                list.format
            }
            Self::Analyze(analyze) => analyze.format,
            Self::Dashboard(dashboard) => dashboard.format,
            Self::Insights(insights) => insights.what.format(),
            Self::Privacy(privacy) => match &privacy.what {
                Matter::Names(names) => names.format,
                // The body is JSON whoever asks.
                Matter::Preview(_) => Format::Json,
            },
            Self::Quota(quota) => quota.format,
            Self::Status(status) => status.format,
        }
    }
}

impl Run {
    #[allow(clippy::needless_update)] // it has them all
    pub(crate) fn flags(&self) -> Flags {
        flags!(self, api_key_file context db exclude_namespaces kubeconfig log_level namespace
            privacy_detail server_ca_file server_url status_interval sync_interval)
    }
}

impl Health {
    pub(crate) fn flags(&self) -> Flags {
        flags!(self, db)
    }
}

impl Check {
    pub(crate) fn flags(&self) -> Flags {
        flags!(self, context kubeconfig namespace)
    }
}

impl Dashboard {
    pub(crate) fn flags(&self) -> Flags {
        flags!(self, db)
    }
}

impl Names {
    pub(crate) fn flags(&self) -> Flags {
        flags!(self, db)
    }
}

impl Preview {
    pub(crate) fn flags(&self) -> Flags {
        flags!(self, db privacy_detail)
    }
}

impl Status {
    pub(crate) fn flags(&self) -> Flags {
        flags!(self, api_key_file db namespace)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &[&str]) -> Parsed {
        parse(words.iter().map(OsString::from))
    }

    #[test]
    fn both_forms_of_a_flag() {
        for words in [
            ["query", "status", "--format", "yaml"].as_slice(),
            &["query", "status", "--format=yaml"],
        ] {
            let Parsed::Command(command) = parsed(words) else {
                unreachable!("{words:?} is a command")
            };
            assert_eq!(command.format(), Format::Yaml);
        }
    }

    #[test]
    fn help_and_version_work_everywhere() {
        for words in [
            ["--help"].as_slice(),
            &["-h"],
            &["run", "-h"],
            &["query", "--help"],
            &["query", "status", "--help"],
            &["--version"],
            &["query", "status", "--version"],
        ] {
            assert!(matches!(parsed(words), Parsed::Help(_)), "{words:?}");
        }
    }

    #[test]
    fn typos_are_no_commands() {
        for words in [
            [].as_slice(),
            &["rnu"],
            &["run", "--nosuch", "x"],
            &["run", "extra"],
            &["query"],
            &["query", "nothing"],
            &["query", "status", "--format=xml"],
            &["health", "--ready=yes"],
        ] {
            assert!(matches!(parsed(words), Parsed::Wrong { .. }), "{words:?}");
        }
    }
}
