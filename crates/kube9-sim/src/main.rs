//! `kube9-sim serve`: the server as a process, for the demo and the benchmarks.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use kube_sim::wire::{Arguments, Failure, announce, run};
use kube9_sim::{Call, Fault, Options, Server, Tls, misbehave};

const USAGE: &str = "\
Usage: kube9-sim serve [OPTION]...

Serves the API of a kube9-server that is not there, and checks what it is sent. Ends on SIGTERM or SIGINT; SIGSTOP and
SIGCONT make an outage.

  --addr ADDRESS       listen here (127.0.0.1:0: a free port)
  --http               plain HTTP
  --key KEY            an API key that is accepted; may be given again (kube9-sim-key)
  --quota N            analyses in a day (24)
  --no-registration    registering is answered 404
  --analyses           an analysis makes an insight about its resource
  --insights N         the first push makes up to so many insights (0)
  --body-limit N       a longer body is answered 413 (16777216)
  --fault CALL=CODE    answer this call so, always; CALL is register, push, insights, analyze, acknowledge or quota,
                       CODE is a status, 503x2 is the first two times only; may be given again
  --dir DIR            keep the CA in DIR, and write ca.crt, key and url there once it listens
  --log FILE           append a JSON line for each request to FILE: what it was, its body, what is wrong with it
  --help               this text
";

fn main() -> ExitCode {
    run(USAGE, std::env::args().skip(1), serve)
}

fn serve(arguments: Arguments) -> Result<(), Failure> {
    let (options, faults) = parse(arguments)?;
    let directory = options.directory.clone();
    let server = Server::start(options)?;
    for fault in faults {
        server.script(fault);
    }
    let files = [("ca.crt", server.ca_pem()), ("key", server.key())];
    Ok(announce(&server.url(), directory.as_deref(), &files)?)
}

fn parse(mut arguments: Arguments) -> Result<(Options, Vec<Fault>), Failure> {
    let mut options = Options::default();
    let mut keys = Vec::new();
    let mut faults = Vec::new();
    while let Some(name) = arguments.option() {
        match name.as_str() {
            "--addr" => options.addr = arguments.parsed(&name)?,
            "--http" => options.tls = Tls::Off,
            "--key" => keys.push(arguments.value(&name)?),
            "--quota" => options.quota_limit = arguments.parsed(&name)?,
            "--no-registration" => options.registration = false,
            "--analyses" => options.insight_when_analysed = true,
            "--insights" => options.insights_of_a_push = arguments.parsed(&name)?,
            "--body-limit" => options.body_limit = arguments.parsed(&name)?,
            "--fault" => {
                let value = arguments.value(&name)?;
                let fault = fault(&value).ok_or_else(|| {
                    Failure::Usage(format!("--fault {value}: not CALL=CODE or CALL=CODExTIMES"))
                })?;
                faults.push(fault);
            }
            "--dir" => options.directory = Some(arguments.parsed(&name)?),
            "--log" => options.log = Some(arguments.parsed(&name)?),
            other => return Err(Failure::Usage(format!("{other}: not known"))),
        }
    }
    if !keys.is_empty() {
        options.keys = keys;
    }
    Ok((options, faults))
}

fn fault(text: &str) -> Option<Fault> {
    let (call, answer) = text.split_once('=')?;
    let call = Call::ALL.into_iter().find(|known| known.as_str() == call)?;
    let (code, times) = match answer.split_once('x') {
        Some((code, times)) => (code, Some(times.parse().ok()?)),
        None => (answer, None),
    };
    let fault = call.fault(misbehave::status(code.parse().ok()?, "as it was told"));
    Some(match times {
        Some(times) => fault.times(times),
        None => fault,
    })
}
