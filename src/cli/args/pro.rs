//! The queries of the Pro tier.

use std::time::Duration;

use argh::FromArgs;

use super::flags;
use crate::cli::output::Format;
use crate::config::{self, Flags};
use crate::server::InsightState;
use crate::store::AnalysisState;
use crate::time::Time;

/// More rows at once nobody reads.
const MAX_LIMIT: u32 = 1000;

/// What kube9-server found out about this cluster. Needs an API key.
#[derive(FromArgs)]
#[argh(subcommand, name = "insights", help_triggers("-h", "--help", "help"))]
pub(crate) struct Insights {
    #[argh(subcommand)]
    pub(crate) what: InsightMatter,
}

#[derive(FromArgs)]
#[argh(subcommand)]
pub(crate) enum InsightMatter {
    Ack(Ack),
    Dismiss(Dismiss),
    Get(GetInsight),
    List(ListInsights),
}

/// List insights, the most severe first and then the newest.
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "list",
    help_triggers("-h", "--help", "help"),
    example = "{command_name}\n{command_name} --severity critical,error --state open --format table\n\
               {command_name} --namespace production --since 7d"
)]
pub(crate) struct ListInsights {
    /// file with the API key (KUBE9_API_KEY_FILE, /etc/kube9/api-key/apiKey)
    #[argh(option, arg_name = "file")]
    api_key_file: Option<String>,
    /// only this category, such as security, reliability or cost
    #[argh(option, from_str_fn(parse_word))]
    pub(crate) category: Option<String>,
    /// the agent's database (KUBE9_DB, /data/kube9.db)
    #[argh(option, arg_name = "file")]
    db: Option<String>,
    /// json, yaml or table (json)
    #[argh(option, default = "Format::default()")]
    pub(crate) format: Format,
    /// at most so many, 1 to 1000 (50)
    #[argh(option, default = "50", from_str_fn(parse_limit))]
    pub(crate) limit: u32,
    /// only what affects this namespace or something in it
    #[argh(option)]
    pub(crate) namespace: Option<String>,
    /// leave out so many from the beginning (0)
    #[argh(option, default = "0")]
    pub(crate) offset: u32,
    /// only these severities, separated by commas: critical, error, high, warning, medium, info, low
    #[argh(option, arg_name = "words", from_str_fn(parse_words))]
    pub(crate) severity: Option<Words>,
    /// only those made since: 2026-11-23T14:00:00Z, or so long ago: 90s, 15m, 24h, 7d
    #[argh(option, arg_name = "time", from_str_fn(parse_time))]
    pub(crate) since: Option<Time>,
    /// open, acknowledged, dismissed or all (all)
    #[argh(option, default = "StateFilter(None)", from_str_fn(parse_state))]
    pub(crate) state: StateFilter,
}

/// Show one insight.
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "get",
    help_triggers("-h", "--help", "help"),
    example = "{command_name} ins_7b9 --format table"
)]
pub(crate) struct GetInsight {
    /// file with the API key (KUBE9_API_KEY_FILE, /etc/kube9/api-key/apiKey)
    #[argh(option, arg_name = "file")]
    api_key_file: Option<String>,
    /// the agent's database (KUBE9_DB, /data/kube9.db)
    #[argh(option, arg_name = "file")]
    db: Option<String>,
    /// json, yaml or table (json)
    #[argh(option, default = "Format::default()")]
    pub(crate) format: Format,
    /// the insight's id, as in `query insights list`
    #[argh(positional)]
    pub(crate) id: String,
}

/// Acknowledge an insight: it has been seen, and is being taken care of.
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "ack",
    help_triggers("-h", "--help", "help"),
    example = "{command_name} ins_7b9",
    note = "kube9-server is told, now or as soon as it can be reached. Doing it twice is fine."
)]
pub(crate) struct Ack {
    /// file with the API key (KUBE9_API_KEY_FILE, /etc/kube9/api-key/apiKey)
    #[argh(option, arg_name = "file")]
    api_key_file: Option<String>,
    /// the agent's database (KUBE9_DB, /data/kube9.db)
    #[argh(option, arg_name = "file")]
    db: Option<String>,
    /// json, yaml or table (json)
    #[argh(option, default = "Format::default()")]
    format: Format,
    /// the insight's id, as in `query insights list`
    #[argh(positional)]
    id: String,
    /// certificates to trust kube9-server by, instead of the public ones (KUBE9_SERVER_CA_FILE)
    #[argh(option, arg_name = "file")]
    server_ca_file: Option<String>,
    /// kube9-server (KUBE9_SERVER_URL, https://api.kube9.io)
    #[argh(option, arg_name = "url")]
    server_url: Option<String>,
}

/// Dismiss an insight: it is not wanted.
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "dismiss",
    help_triggers("-h", "--help", "help"),
    example = "{command_name} ins_7b9",
    note = "kube9-server is told, now or as soon as it can be reached. Doing it twice is fine."
)]
pub(crate) struct Dismiss {
    /// file with the API key (KUBE9_API_KEY_FILE, /etc/kube9/api-key/apiKey)
    #[argh(option, arg_name = "file")]
    api_key_file: Option<String>,
    /// the agent's database (KUBE9_DB, /data/kube9.db)
    #[argh(option, arg_name = "file")]
    db: Option<String>,
    /// json, yaml or table (json)
    #[argh(option, default = "Format::default()")]
    format: Format,
    /// the insight's id, as in `query insights list`
    #[argh(positional)]
    id: String,
    /// certificates to trust kube9-server by, instead of the public ones (KUBE9_SERVER_CA_FILE)
    #[argh(option, arg_name = "file")]
    server_ca_file: Option<String>,
    /// kube9-server (KUBE9_SERVER_URL, https://api.kube9.io)
    #[argh(option, arg_name = "url")]
    server_url: Option<String>,
}

/// Ask kube9-server to analyse one namespace or workload. Needs an API key.
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "analyze",
    help_triggers("-h", "--help", "help"),
    example = "{command_name} deploy/web -n production\n{command_name} ns/production\n\
               {command_name} --kind statefulset --name db --namespace production --no-queue",
    note = "A pod is taken to the workload it belongs to, a job to its cronjob. Over the daily quota, or while \
            kube9-server\ncannot be reached, the request is queued and sent by the agent."
)]
pub(crate) struct Analyze {
    /// file with the API key (KUBE9_API_KEY_FILE, /etc/kube9/api-key/apiKey)
    #[argh(option, arg_name = "file")]
    api_key_file: Option<String>,
    /// context of the kubeconfig (its current one)
    #[argh(option, arg_name = "name")]
    context: Option<String>,
    /// the agent's database (KUBE9_DB, /data/kube9.db)
    #[argh(option, arg_name = "file")]
    db: Option<String>,
    /// namespaces that are left out entirely, separated by commas (KUBE9_EXCLUDE_NAMESPACES, none)
    #[argh(option, arg_name = "names")]
    exclude_namespaces: Option<String>,
    /// json, yaml or table (json)
    #[argh(option, default = "Format::default()")]
    pub(crate) format: Format,
    /// namespace, deployment, statefulset, daemonset, job, cronjob or pod; in place of KIND/NAME, with --name
    #[argh(option)]
    pub(crate) kind: Option<String>,
    /// kubeconfig (KUBECONFIG; in a pod: its service account; ~/.kube/config)
    #[argh(option, arg_name = "file")]
    kubeconfig: Option<String>,
    /// the resource's name; in place of KIND/NAME, with --kind
    #[argh(option)]
    pub(crate) name: Option<String>,
    /// the resource's namespace
    #[argh(option, short = 'n')]
    pub(crate) namespace: Option<String>,
    /// now or never: fail, with exit code 5 when the quota is used up, instead of queueing
    #[argh(switch)]
    pub(crate) no_queue: bool,
    /// kind and name as kubectl takes them: deploy/web, sts/db, ds/agent, job/x, cj/x, po/x, ns/x
    #[argh(positional)]
    pub(crate) resource: Vec<String>,
    /// certificates to trust kube9-server by, instead of the public ones (KUBE9_SERVER_CA_FILE)
    #[argh(option, arg_name = "file")]
    server_ca_file: Option<String>,
    /// kube9-server (KUBE9_SERVER_URL, https://api.kube9.io)
    #[argh(option, arg_name = "url")]
    server_url: Option<String>,
}

/// What became of the analyses that were asked for. Needs an API key.
#[derive(FromArgs)]
#[argh(subcommand, name = "analyses", help_triggers("-h", "--help", "help"))]
pub(crate) struct Analyses {
    #[argh(subcommand)]
    pub(crate) what: AnalysisMatter,
}

#[derive(FromArgs)]
#[argh(subcommand)]
pub(crate) enum AnalysisMatter {
    List(ListAnalyses),
}

/// List analyses, the newest first.
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "list",
    help_triggers("-h", "--help", "help"),
    example = "{command_name} --state queued --format table"
)]
pub(crate) struct ListAnalyses {
    /// file with the API key (KUBE9_API_KEY_FILE, /etc/kube9/api-key/apiKey)
    #[argh(option, arg_name = "file")]
    api_key_file: Option<String>,
    /// the agent's database (KUBE9_DB, /data/kube9.db)
    #[argh(option, arg_name = "file")]
    db: Option<String>,
    /// json, yaml or table (json)
    #[argh(option, default = "Format::default()")]
    pub(crate) format: Format,
    /// at most so many, 1 to 1000 (50)
    #[argh(option, default = "50", from_str_fn(parse_limit))]
    pub(crate) limit: u32,
    /// leave out so many from the beginning (0)
    #[argh(option, default = "0")]
    pub(crate) offset: u32,
    /// only submitted, queued, completed or failed
    #[argh(option, from_str_fn(parse_analysis_state))]
    pub(crate) state: Option<AnalysisState>,
}

/// How many analyses may still be asked for today. Needs an API key.
#[derive(FromArgs)]
#[argh(subcommand, name = "quota", help_triggers("-h", "--help", "help"))]
pub(crate) struct Quota {
    /// file with the API key (KUBE9_API_KEY_FILE, /etc/kube9/api-key/apiKey)
    #[argh(option, arg_name = "file")]
    api_key_file: Option<String>,
    /// the agent's database (KUBE9_DB, /data/kube9.db)
    #[argh(option, arg_name = "file")]
    db: Option<String>,
    /// json, yaml or table (json)
    #[argh(option, default = "Format::default()")]
    pub(crate) format: Format,
}

/// In lower case, at least one.
pub(crate) struct Words(pub(crate) Vec<String>);

/// `None` is all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StateFilter(pub(crate) Option<InsightState>);

/// One insight, and what is to become of it.
pub(crate) struct Verdict<'a> {
    pub(crate) id: &'a str,
    pub(crate) state: InsightState,
    pub(crate) format: Format,
    pub(crate) flags: Flags,
}

impl InsightMatter {
    pub(super) const fn format(&self) -> Format {
        match self {
            Self::Ack(ack) => ack.format,
            Self::Dismiss(dismiss) => dismiss.format,
            Self::Get(get) => get.format,
            Self::List(list) => list.format,
        }
    }
}

impl Ack {
    pub(crate) fn verdict(&self) -> Verdict<'_> {
        Verdict {
            id: &self.id,
            state: InsightState::Acknowledged,
            format: self.format,
            flags: flags!(self, api_key_file db server_ca_file server_url),
        }
    }
}

impl Dismiss {
    pub(crate) fn verdict(&self) -> Verdict<'_> {
        Verdict {
            id: &self.id,
            state: InsightState::Dismissed,
            format: self.format,
            flags: flags!(self, api_key_file db server_ca_file server_url),
        }
    }
}

impl ListInsights {
    pub(crate) fn flags(&self) -> Flags {
        flags!(self, api_key_file db)
    }
}

impl GetInsight {
    pub(crate) fn flags(&self) -> Flags {
        flags!(self, api_key_file db)
    }
}

impl Analyze {
    /// Without its namespace, which is the resource's and not the agent's.
    pub(crate) fn flags(&self) -> Flags {
        flags!(self, api_key_file context db exclude_namespaces kubeconfig
            server_ca_file server_url)
    }
}

impl ListAnalyses {
    pub(crate) fn flags(&self) -> Flags {
        flags!(self, api_key_file db)
    }
}

impl Quota {
    pub(crate) fn flags(&self) -> Flags {
        flags!(self, api_key_file db)
    }
}

fn parse_limit(text: &str) -> Result<u32, String> {
    text.parse()
        .ok()
        .filter(|limit| (1..=MAX_LIMIT).contains(limit))
        .ok_or_else(|| format!("{text:?} is not a number from 1 to {MAX_LIMIT}"))
}

fn parse_word(text: &str) -> Result<String, String> {
    let word = text.trim().to_lowercase();
    if word.is_empty() || word.contains(',') {
        return Err(format!("{text:?} is not a word"));
    }
    Ok(word)
}

fn parse_words(text: &str) -> Result<Words, String> {
    text.split(',')
        .map(parse_word)
        .collect::<Result<_, _>>()
        .map(Words)
        .map_err(|_| format!("{text:?} is not a list of words separated by commas"))
}

fn parse_state(text: &str) -> Result<StateFilter, String> {
    match InsightState::parse(text) {
        None if text != "all" => Err(format!(
            "{text:?} is not one of open, acknowledged, dismissed, all"
        )),
        state => Ok(StateFilter(state)),
    }
}

fn parse_analysis_state(text: &str) -> Result<AnalysisState, String> {
    AnalysisState::parse(text)
        .ok_or_else(|| format!("{text:?} is not one of submitted, queued, completed, failed"))
}

fn parse_time(text: &str) -> Result<Time, String> {
    time_at(text, Time::now()).ok_or_else(|| {
        format!("{text:?} is neither a time such as 2026-11-23T14:00:00Z nor a duration such as 90s, 15m, 24h, 7d")
    })
}

/// A time, or how long before now it was; further back than there is time is the beginning.
fn time_at(text: &str, now: Time) -> Option<Time> {
    let back = |duration: Duration| {
        let millis = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        Time::from_millis(now.as_millis().saturating_sub(millis).max(0))
    };
    config::parse_duration(text)
        .map(back)
        .or_else(|| Time::parse(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_points_or_lie_so_far_back() {
        let now = Time::from_millis(1_000_000_000);
        for (text, expected) in [
            ("90s", Some(1_000_000_000 - 90_000)),
            ("1d", Some(1_000_000_000 - 86_400_000)),
            ("0s", Some(1_000_000_000)),
            ("7d", Some(395_200_000)),
            ("99999d", Some(0)),
            ("213503982334601d", Some(0)),
            ("1970-01-01T00:00:01Z", Some(1000)),
            ("1970-01-01T01:00:01.5+01:00", Some(1500)),
            ("1970-01-01", None),
            ("yesterday", None),
            ("-5m", None),
            ("5", None),
            ("", None),
        ] {
            let time = time_at(text, now).map(Time::as_millis);
            assert_eq!(time, expected, "{text:?}");
        }
    }

    #[test]
    fn limits() {
        for (text, limit) in [("1", Some(1)), ("50", Some(50)), ("1000", Some(1000))] {
            assert_eq!(parse_limit(text).ok(), limit);
        }
        for text in ["0", "1001", "-1", "", "ten", "4294967296", "1.5"] {
            assert!(parse_limit(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn words_are_told_in_any_case() {
        let words = |text| parse_words(text).ok().map(|words| words.0);
        assert_eq!(
            words("Critical, high"),
            Some(vec!["critical".to_owned(), "high".to_owned()])
        );
        for text in ["", ",", "a,", ",a", "a,,b"] {
            assert_eq!(words(text), None, "{text:?}");
        }
    }

    #[test]
    fn states() {
        assert_eq!(parse_state("all"), Ok(StateFilter(None)));
        assert_eq!(
            parse_state("open"),
            Ok(StateFilter(Some(InsightState::Open)))
        );
        for text in ["", "Open", "closed"] {
            assert!(parse_state(text).is_err(), "{text:?}");
        }
    }
}
