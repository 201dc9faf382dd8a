//! Log lines on stderr: time, level, module, message.

use std::io::Write as _;

use env_logger::Builder;
use log::LevelFilter;
use serde::Serialize;

use crate::config::{Config, LogFormat};
use crate::time::Time;

#[derive(Serialize)]
struct Line<'a> {
    time: Time,
    level: &'a str,
    target: &'a str,
    message: String,
}

/// Starts logging. Libraries never say more than warnings: what they would tell at `trace`
/// includes the headers of requests, and so the cluster's token.
pub(crate) fn start(config: &Config) {
    let format = config.log_format;
    let result = Builder::new()
        .filter_level(config.log_level.min(LevelFilter::Warn))
        .filter_module("kube9_operator", config.log_level)
        .filter_module("kube_client_lite", config.log_level)
        .format(move |out, record| match format {
            LogFormat::Json => {
                let line = Line {
                    time: Time::now(),
                    level: record.level().as_str(),
                    target: record.target(),
                    message: record.args().to_string(),
                };
                serde_json::to_writer(&mut *out, &line)?;
                writeln!(out)
            }
            LogFormat::Text => {
                let message = record.args().to_string();
                // A message may quote the cluster; it must not be able to fake another line.
                let message = message
                    .escape_debug()
                    .to_string()
                    .replace("\\\"", "\"")
                    .replace("\\'", "'");
                writeln!(
                    out,
                    "{} {:5} {}: {message}",
                    Time::now(),
                    record.level(),
                    record.target()
                )
            }
        })
        .try_init();
    if result.is_err() {
        log::debug!("logging was started before");
    }
}
