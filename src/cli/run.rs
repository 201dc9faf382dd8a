use std::process::ExitCode;

use super::args::Run;
use super::exit::Failure;
use crate::config::{Config, Env};
use crate::{agent, logging};

pub(crate) fn run(run: &Run, env: Env<'_>) -> Result<ExitCode, Failure> {
    let config = Config::new(&run.flags(), env)?;
    logging::start(&config);
    agent::run(&config).map_err(Failure::failed)?;
    Ok(ExitCode::SUCCESS)
}
