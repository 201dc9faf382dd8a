//! `kube-sim serve`: the simulator as a process, for the demo and the benchmarks.

#![forbid(unsafe_code)]

use std::fs;
use std::process::ExitCode;

use kube_sim::wire::{Arguments, Failure, announce, run};
use kube_sim::{Cluster, Generate, Metrics, Options, PolicyRule, Rbac, Sim};

const USAGE: &str = "\
Usage: kube-sim serve [OPTION]...

Serves the API of a Kubernetes cluster that is not there. Ends on SIGTERM or SIGINT.

  --addr ADDRESS       listen here (127.0.0.1:0: a free port)
  --recorded           a small cluster as a real server answered it (the default)
  --empty              a cluster with nothing but its namespaces
  --pods N             a generated cluster of N Pods ...
  --workloads N        ... of so many workloads (a hundredth of the Pods, at least 1)
  --namespaces N       ... in so many namespaces (10)
  --pod-bytes N        ... of about so many bytes each (17408)
  --seed N             ... other names and numbers (1)
  --metrics WHICH      absent, present or broken: the metrics server (absent)
  --rbac FILE          what the user may do: JSON, a list of rules, ClusterRoles and Roles (everything)
  --token TOKEN        the bearer token (kube-sim-token)
  --chunk-bytes N      size of the chunks of a long answer (2048)
  --dir DIR            keep the CA in DIR, and write kubeconfig, ca.crt, token and url there once it listens
  --log FILE           append a JSON line for each request to FILE
  --help               this text
";

fn main() -> ExitCode {
    run(USAGE, std::env::args().skip(1), serve)
}

fn serve(arguments: Arguments) -> Result<(), Failure> {
    let options = parse(arguments)?;
    let directory = options.directory.clone();
    let sim = Sim::start(options)?;
    let files = [
        ("kubeconfig", sim.kubeconfig()),
        ("ca.crt", sim.ca_pem()),
        ("token", sim.token()),
    ];
    Ok(announce(&sim.url(), directory.as_deref(), &files)?)
}

fn parse(mut arguments: Arguments) -> Result<Options, Failure> {
    let mut options = Options::default();
    let mut generate = Generate {
        workloads: 0,
        ..Generate::default()
    };
    let mut generated = false;
    while let Some(name) = arguments.option() {
        match name.as_str() {
            "--addr" => options.addr = arguments.parsed(&name)?,
            "--recorded" => options.cluster = Cluster::Recorded,
            "--empty" => options.cluster = Cluster::Empty,
            "--pods" => {
                generate.pods = arguments.parsed(&name)?;
                generated = true;
            }
            "--workloads" => generate.workloads = arguments.parsed(&name)?,
            "--namespaces" => generate.namespaces = arguments.parsed(&name)?,
            "--pod-bytes" => generate.pod_bytes = arguments.parsed(&name)?,
            "--seed" => generate.seed = arguments.parsed(&name)?,
            "--metrics" => {
                options.metrics = match arguments.value(&name)?.as_str() {
                    "absent" => Metrics::Absent,
                    "present" => Metrics::Present,
                    "broken" => Metrics::Broken,
                    other => {
                        let message = format!("--metrics {other}: absent, present or broken");
                        return Err(Failure::Usage(message));
                    }
                }
            }
            "--rbac" => {
                options.rbac = rules(&arguments.value(&name)?).map_err(Failure::Usage)?;
            }
            "--token" => options.token = arguments.value(&name)?,
            "--chunk-bytes" => options.chunk_bytes = arguments.parsed(&name)?,
            "--dir" => options.directory = Some(arguments.parsed(&name)?),
            "--log" => options.log = Some(arguments.parsed(&name)?),
            other => return Err(Failure::Usage(format!("{other}: not known"))),
        }
    }
    if generated {
        if generate.workloads == 0 {
            generate.workloads = (generate.pods / 100).max(1);
        }
        options.cluster = Cluster::Generated(generate);
    }
    Ok(options)
}

fn rules(path: &str) -> Result<Rbac, String> {
    let text = fs::read(path).map_err(|error| format!("{path}: {error}"))?;
    let json = serde_json::from_slice(&text).map_err(|error| format!("{path}: {error}"))?;
    PolicyRule::parse(&json)
        .map(Rbac::Rules)
        .map_err(|error| format!("{path}: {error}"))
}
