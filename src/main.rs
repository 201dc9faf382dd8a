//! `kube9-operator`: a small synchronous Kubernetes agent, and the commands that ask it things.
#![forbid(unsafe_code)]

mod agent;
mod api_key;
mod backoff;
mod bounded;
mod cli;
mod cluster;
mod config;
mod json;
mod link;
mod logging;
mod outbox;
mod privacy;
mod publish;
mod server;
mod store;
mod time;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main(std::env::args_os().skip(1))
}
