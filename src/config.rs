//! Settings: what the user typed and what the environment says, checked once, before anything
//! starts. A flag wins over its variable; an empty value is no value, as Helm writes them.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use log::LevelFilter;

use crate::bounded;
use crate::privacy::Detail;
use crate::server::{ProxyUrl, ServerSettings, ServerUrl};

/// Where Kubernetes puts a pod's own namespace.
const SERVICE_ACCOUNT_NAMESPACE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";

/// Where the environment is read; tests bring their own.
pub(crate) type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The flags as typed. Commands fill in those they have.
#[derive(Clone, Debug, Default)]
pub(crate) struct Flags {
    pub(crate) api_key_file: Option<String>,
    pub(crate) context: Option<String>,
    pub(crate) db: Option<String>,
    pub(crate) exclude_namespaces: Option<String>,
    pub(crate) kubeconfig: Option<String>,
    pub(crate) log_level: Option<String>,
    pub(crate) namespace: Option<String>,
    pub(crate) privacy_detail: Option<String>,
    pub(crate) server_ca_file: Option<String>,
    pub(crate) server_url: Option<String>,
    pub(crate) status_interval: Option<String>,
    pub(crate) sync_interval: Option<String>,
}

/// The settings, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Config {
    pub(crate) api_key_file: PathBuf,
    pub(crate) context: Option<String>,
    pub(crate) db: PathBuf,
    pub(crate) exclude_namespaces: BTreeSet<String>,
    pub(crate) kubeconfig: Option<PathBuf>,
    pub(crate) log_format: LogFormat,
    pub(crate) log_level: LevelFilter,
    pub(crate) namespace: String,
    pub(crate) privacy_detail: Detail,
    pub(crate) server: ServerSettings,
    pub(crate) status_interval: Duration,
    pub(crate) sync_interval: Duration,
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogFormat {
    Json,
    Text,
}

/// A setting whose value cannot be used.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ConfigError {
    /// The flag or the variable, whichever was used.
    setting: &'static str,
    /// Not of a URL that may have a password in it.
    value: Option<String>,
    allowed: &'static str,
}

struct Setting {
    /// Empty where there is only a variable.
    flag: &'static str,
    variable: &'static str,
    allowed: &'static str,
}

const API_KEY_FILE: Setting = Setting {
    flag: "--api-key-file",
    variable: "KUBE9_API_KEY_FILE",
    allowed: "the path of a file",
};
const DB: Setting = Setting {
    flag: "--db",
    variable: "KUBE9_DB",
    allowed: "the path of a file",
};
const EXCLUDE_NAMESPACES: Setting = Setting {
    flag: "--exclude-namespaces",
    variable: "KUBE9_EXCLUDE_NAMESPACES",
    allowed: "namespace names separated by commas",
};
const LOG_FORMAT: Setting = Setting {
    flag: "",
    variable: "KUBE9_LOG_FORMAT",
    allowed: "text or json",
};
const LOG_LEVEL: Setting = Setting {
    flag: "--log-level",
    variable: "KUBE9_LOG",
    allowed: "off, error, warn, info, debug or trace",
};
const NAMESPACE: Setting = Setting {
    flag: "--namespace",
    variable: "POD_NAMESPACE",
    allowed: "a namespace name: 1 to 63 of a-z, 0-9 and -",
};
const PRIVACY_DETAIL: Setting = Setting {
    flag: "--privacy-detail",
    variable: "KUBE9_PRIVACY_DETAIL",
    allowed: "workloads or namespaces",
};
const SERVER_CA_FILE: Setting = Setting {
    flag: "--server-ca-file",
    variable: "KUBE9_SERVER_CA_FILE",
    allowed: "the path of a file",
};
const SERVER_URL: Setting = Setting {
    flag: "--server-url",
    variable: "KUBE9_SERVER_URL",
    allowed: "https://HOST[:PORT][/PREFIX], or http:// with localhost or a loopback address",
};
const STATUS_INTERVAL: Setting = Setting {
    flag: "--status-interval",
    variable: "KUBE9_STATUS_INTERVAL",
    allowed: "a duration from 10s to 240s",
};
const SYNC_INTERVAL: Setting = Setting {
    flag: "--sync-interval",
    variable: "KUBE9_SYNC_INTERVAL",
    allowed: "a duration from 5m to 24h",
};

impl Config {
    /// Checks flags and environment.
    pub(crate) fn new(flags: &Flags, env: Env<'_>) -> Result<Self, ConfigError> {
        let path = |text: &str| Some(PathBuf::from(text));
        Ok(Self {
            api_key_file: API_KEY_FILE
                .read(flags.api_key_file.as_deref(), env, path)?
                .unwrap_or_else(|| PathBuf::from("/etc/kube9/api-key/apiKey")),
            context: flags.context.clone().filter(|context| !context.is_empty()),
            db: DB
                .read(flags.db.as_deref(), env, path)?
                .unwrap_or_else(|| PathBuf::from("/data/kube9.db")),
            exclude_namespaces: EXCLUDE_NAMESPACES
                .read(flags.exclude_namespaces.as_deref(), env, parse_namespaces)?
                .unwrap_or_default(),
            kubeconfig: flags
                .kubeconfig
                .as_ref()
                .filter(|path| !path.is_empty())
                .map(PathBuf::from),
            log_format: LOG_FORMAT
                .read(None, env, |text| match text {
                    "json" => Some(LogFormat::Json),
                    "text" => Some(LogFormat::Text),
                    _ => None,
                })?
                .unwrap_or(LogFormat::Text),
            log_level: LOG_LEVEL
                .read(flags.log_level.as_deref(), env, |text| text.parse().ok())?
                .unwrap_or(LevelFilter::Info),
            namespace: NAMESPACE
                .read(flags.namespace.as_deref(), env, parse_namespace)?
                .or_else(|| service_account_namespace(Path::new(SERVICE_ACCOUNT_NAMESPACE)))
                .unwrap_or_else(|| "kube9-system".to_owned()),
            privacy_detail: PRIVACY_DETAIL
                .read(flags.privacy_detail.as_deref(), env, |text| match text {
                    "namespaces" => Some(Detail::Namespaces),
                    "workloads" => Some(Detail::Workloads),
                    _ => None,
                })?
                .unwrap_or_default(),
            server: server(flags, env)?,
            status_interval: STATUS_INTERVAL
                .read(flags.status_interval.as_deref(), env, |text| {
                    parse_duration_within(text, 10, 240)
                })?
                .unwrap_or(Duration::from_secs(60)),
            sync_interval: SYNC_INTERVAL
                .read(flags.sync_interval.as_deref(), env, |text| {
                    parse_duration_within(text, 5 * 60, 24 * 60 * 60)
                })?
                .unwrap_or(Duration::from_secs(60 * 60)),
        })
    }
}

impl Setting {
    /// The flag's value, else the variable's, else nothing.
    fn read<T>(
        &self,
        flag: Option<&str>,
        env: Env<'_>,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<Option<T>, ConfigError> {
        let given = |text: &&str| !text.is_empty();
        let variable = env(self.variable);
        let (setting, value) = match (flag.filter(given), variable.as_deref().filter(given)) {
            (Some(value), _) => (self.flag, value),
            (None, Some(value)) => (self.variable, value),
            (None, None) => return Ok(None),
        };
        match parse(value).filter(|_| !value.contains(char::REPLACEMENT_CHARACTER)) {
            Some(parsed) => Ok(Some(parsed)),
            None => Err(ConfigError {
                setting,
                value: printable(value),
                allowed: self.allowed,
            }),
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            Some(value) => write!(f, "{} cannot be {value:?}", self.setting),
            None => write!(f, "{} cannot be what it is", self.setting),
        }?;
        write!(f, ": allowed is {}", self.allowed)
    }
}

impl std::error::Error for ConfigError {}

/// The value as it may be shown.
fn printable(value: &str) -> Option<String> {
    let secret = value.contains("://") && value.contains('@');
    (!secret).then(|| value.chars().take(100).collect())
}

fn server(flags: &Flags, env: Env<'_>) -> Result<ServerSettings, ConfigError> {
    let url = SERVER_URL
        .read(flags.server_url.as_deref(), env, ServerUrl::parse)?
        .unwrap_or_default();
    let ca_file = SERVER_CA_FILE.read(flags.server_ca_file.as_deref(), env, |text| {
        Some(PathBuf::from(text))
    })?;
    let proxy = proxy(&url, env)?;
    Ok(ServerSettings {
        url,
        ca_file,
        proxy,
    })
}

/// The proxy of the environment, where it is meant for this server.
fn proxy(url: &ServerUrl, env: Env<'_>) -> Result<Option<ProxyUrl>, ConfigError> {
    let first = |names: [&'static str; 2]| {
        let set = |name| Some((name, env(name).filter(|value| !value.trim().is_empty())?));
        names.into_iter().find_map(set)
    };
    let Some((setting, proxy)) = first(["HTTPS_PROXY", "https_proxy"]) else {
        return Ok(None);
    };
    let no_proxy = first(["NO_PROXY", "no_proxy"]);
    let no_proxy = no_proxy.as_ref().map(|(_, list)| list.as_str());
    ProxyUrl::choose(&proxy, no_proxy, url).map_err(|()| ConfigError {
        setting,
        value: None,
        allowed: "[http[s]://[USER:PASSWORD@]]HOST[:PORT] of an HTTP proxy",
    })
}

/// A whole number and a unit, `s`, `m`, `h` or `d`: `90s`, `15m`, `24h`, `7d`. Nothing else, so
/// that `60abc` is an error and not 60.
pub(crate) fn parse_duration(text: &str) -> Option<Duration> {
    let unit = text.chars().next_back()?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 60 * 60,
        'd' => 24 * 60 * 60,
        _ => return None,
    };
    let number = text.strip_suffix(unit)?;
    if !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number: u64 = number.parse().ok()?;
    number.checked_mul(seconds).map(Duration::from_secs)
}

fn parse_duration_within(text: &str, least: u64, most: u64) -> Option<Duration> {
    parse_duration(text).filter(|duration| (least..=most).contains(&duration.as_secs()))
}

/// An RFC 1123 label, which is what namespaces are called.
fn parse_namespace(text: &str) -> Option<String> {
    let label = (1..=63).contains(&text.len())
        && text
            .bytes()
            .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'))
        && !text.starts_with('-')
        && !text.ends_with('-');
    label.then(|| text.to_owned())
}

fn parse_namespaces(text: &str) -> Option<BTreeSet<String>> {
    text.split(',')
        .map(str::trim)
        .filter(|name| !name.is_empty())
        .map(parse_namespace)
        .collect()
}

fn service_account_namespace(path: &Path) -> Option<String> {
    let text = bounded::read_file(path, 1024).ok()?;
    parse_namespace(String::from_utf8(text).ok()?.trim())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn config(flags: &Flags, variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
        Config::new(flags, &|name| {
            variables
                .iter()
                .find(|(variable, _)| *variable == name)
                .map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn defaults() {
        let config = config(&Flags::default(), &[]).unwrap();
        assert_eq!(config.db, Path::new("/data/kube9.db"));
        assert_eq!(config.api_key_file, Path::new("/etc/kube9/api-key/apiKey"));
        assert_eq!(config.namespace, "kube9-system");
        assert_eq!(config.status_interval.as_secs(), 60);
        assert_eq!(config.sync_interval.as_secs(), 3600);
        assert_eq!(config.log_level, LevelFilter::Info);
    }

    #[test]
    fn flags_win_and_empty_is_unset() {
        let flags = Flags {
            sync_interval: Some("5m".to_owned()),
            namespace: Some(String::new()),
            ..Flags::default()
        };
        let variables = [
            ("KUBE9_SYNC_INTERVAL", "6m"),
            ("POD_NAMESPACE", "ops"),
            ("KUBE9_LOG", ""),
            ("KUBE9_LOG_FORMAT", "json"),
            ("KUBE9_EXCLUDE_NAMESPACES", "a, b,,"),
        ];
        let config = config(&flags, &variables).unwrap();
        assert_eq!(config.sync_interval.as_secs(), 300);
        assert_eq!(config.namespace, "ops");
        assert_eq!(config.log_format, LogFormat::Json);
        assert_eq!(config.exclude_namespaces.len(), 2);
    }

    #[test]
    fn what_does_not_parse_names_setting_value_and_what_is_allowed() {
        for (variable, value) in [
            ("KUBE9_STATUS_INTERVAL", "60abc"),
            ("KUBE9_STATUS_INTERVAL", "60"),
            ("KUBE9_STATUS_INTERVAL", "9s"),
            ("KUBE9_STATUS_INTERVAL", "241s"),
            ("KUBE9_STATUS_INTERVAL", "+60s"),
            ("KUBE9_SYNC_INTERVAL", "25h"),
            ("KUBE9_SYNC_INTERVAL", "99999999999999999999h"),
            ("KUBE9_SYNC_INTERVAL", "18446744073709551615d"),
            ("KUBE9_LOG", "loud"),
            ("KUBE9_LOG_FORMAT", "xml"),
            ("POD_NAMESPACE", "Not A Namespace"),
            ("KUBE9_EXCLUDE_NAMESPACES", "a,-b"),
            ("KUBE9_DB", "/data/\u{fffd}.db"),
            ("KUBE9_SERVER_URL", "http://api.kube9.io"),
            ("KUBE9_SERVER_URL", "api.kube9.io"),
        ] {
            let message = config(&Flags::default(), &[(variable, value)])
                .unwrap_err()
                .to_string();
            assert!(message.starts_with(variable), "{message}");
            assert!(
                message.contains(value) && message.contains("allowed is"),
                "{message}"
            );
        }
        let flags = Flags {
            status_interval: Some("1h".to_owned()),
            ..Flags::default()
        };
        let message = config(&flags, &[]).unwrap_err().to_string();
        assert_eq!(
            message,
            "--status-interval cannot be \"1h\": allowed is a duration from 10s to 240s"
        );
    }

    #[test]
    fn the_server_and_the_way_to_it() {
        let server = config(&Flags::default(), &[]).unwrap().server;
        assert_eq!(server, ServerSettings::default());
        assert_eq!(server.url.to_string(), "https://api.kube9.io");

        let flags = Flags {
            server_url: Some("http://localhost:8080/".to_owned()),
            ..Flags::default()
        };
        let variables = [
            ("KUBE9_SERVER_URL", "https://other"),
            ("KUBE9_SERVER_CA_FILE", "/etc/kube9/ca.crt"),
            ("HTTPS_PROXY", "http://proxy:3128"),
        ];
        let server = config(&flags, &variables).unwrap().server;
        assert_eq!(server.url.to_string(), "http://localhost:8080");
        assert_eq!(server.ca_file, Some(PathBuf::from("/etc/kube9/ca.crt")));
        assert_eq!(server.proxy, None, "not for this very machine");
    }

    #[test]
    fn a_proxy_of_the_environment() {
        for (variables, expected) in [
            (vec![("HTTPS_PROXY", "http://a:1")], Some("ProxyUrl(\"a\")")),
            (vec![("https_proxy", "b:1")], Some("ProxyUrl(\"b\")")),
            (
                vec![("HTTPS_PROXY", "a"), ("https_proxy", "b")],
                Some("ProxyUrl(\"a\")"),
            ),
            (
                vec![("HTTPS_PROXY", " "), ("https_proxy", "b")],
                Some("ProxyUrl(\"b\")"),
            ),
            (vec![("HTTP_PROXY", "a"), ("ALL_PROXY", "a")], None),
            (
                vec![("HTTPS_PROXY", "a"), ("NO_PROXY", "x, .kube9.io")],
                None,
            ),
            (vec![("HTTPS_PROXY", "a"), ("no_proxy", "*")], None),
            (
                vec![("HTTPS_PROXY", "a"), ("NO_PROXY", "x"), ("no_proxy", "*")],
                Some("ProxyUrl(\"a\")"),
            ),
            (vec![("HTTPS_PROXY", "socks5://a"), ("NO_PROXY", "*")], None),
        ] {
            let proxy = config(&Flags::default(), &variables).unwrap().server.proxy;
            let proxy = proxy.map(|proxy| format!("{proxy:?}"));
            assert_eq!(proxy.as_deref(), expected, "{variables:?}");
        }
    }

    #[test]
    fn no_password_of_a_url_is_shown() {
        for (variable, value) in [
            ("HTTPS_PROXY", "http://user:secret"),
            ("https_proxy", "socks5://user:secret@proxy"),
            ("KUBE9_SERVER_URL", "https://user:secret@api.kube9.io"),
        ] {
            let error = config(&Flags::default(), &[(variable, value)]).unwrap_err();
            let message = error.to_string();
            assert!(message.starts_with(variable), "{message}");
            assert!(message.contains("allowed is"), "{message}");
            assert!(
                !format!("{message} {error:?}").contains("secret"),
                "{message}"
            );
        }
        let variables = [("HTTPS_PROXY", "http://user:secret@proxy:3128")];
        let config = config(&Flags::default(), &variables).unwrap();
        assert!(config.server.proxy.is_some());
        assert!(!format!("{config:?}").contains("secret"));
    }

    #[test]
    fn durations() {
        assert_eq!(parse_duration("7d"), Some(Duration::from_secs(604_800)));
        for bad in ["", "s", "-1s", "1.5h", "1 h", "1w", "٣s", "1é"] {
            assert_eq!(parse_duration(bad), None, "{bad}");
        }
    }
}
