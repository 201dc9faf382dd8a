//! The command line: from arguments to an exit code.

mod analyses;
mod args;
mod check;
mod exit;
mod health;
mod insights;
mod layout;
mod output;
mod privacy;
mod pro;
mod query;
mod resource;
mod run;

use std::env;
use std::ffi::OsString;
use std::process::ExitCode;

use args::{Command, Parsed};
use exit::Failure;

/// Runs what the arguments ask for.
pub(crate) fn main(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let command = match args::parse(arguments) {
        Parsed::Command(command) => *command,
        Parsed::Help(text) => return output::answer(&text),
        Parsed::Wrong { message, format } => return Failure::usage(message).report(format),
    };
    // What is not UTF-8 is refused where it is read; it must not pass for unset.
    let variables = |name: &str| Some(env::var_os(name)?.to_string_lossy().into_owned());
    let format = command.format();
    let result = match command {
        Command::Check(check) => check::run(&check, &variables),
        Command::Health(health) => health::run(&health, &variables),
        Command::Query(query) => query::run(query, &variables),
        Command::Run(run) => run::run(&run, &variables),
    };
    match result {
        Ok(code) => code,
        Err(failure) => failure.report(format),
    }
}
