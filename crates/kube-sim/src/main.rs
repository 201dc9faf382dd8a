//! `kube-sim serve`: the simulator as a process, for the demo and the benchmarks.

#![forbid(unsafe_code)]
// Arguments come from whoever starts it.
#![allow(clippy::indexing_slicing)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

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
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some("--help" | "-h" | "help") => {
            print!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Some("serve") => {}
        _ => {
            eprint!("{USAGE}");
            return ExitCode::from(2);
        }
    }
    if arguments
        .iter()
        .any(|argument| argument == "--help" || argument == "-h")
    {
        print!("{USAGE}");
        return ExitCode::SUCCESS;
    }
    let (options, directory) = match parse(&arguments[1..]) {
        Ok(parsed) => parsed,
        Err(message) => {
            eprintln!("kube-sim: {message}");
            return ExitCode::from(2);
        }
    };
    match serve(options, directory.as_deref()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("kube-sim: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(options: Options, directory: Option<&Path>) -> std::io::Result<()> {
    if let Some(directory) = directory {
        fs::create_dir_all(directory)?;
    }
    let sim = Sim::start(options)?;
    if let Some(directory) = directory {
        fs::write(directory.join("kubeconfig"), sim.kubeconfig())?;
        fs::write(directory.join("ca.crt"), sim.ca_pem())?;
        fs::write(directory.join("token"), sim.token())?;
        // The last one: who waits for it finds the others complete.
        fs::write(directory.join("url.new"), format!("{}\n", sim.url()))?;
        fs::rename(directory.join("url.new"), directory.join("url"))?;
    }
    println!("{}", sim.url());
    loop {
        std::thread::park();
    }
}

fn parse(arguments: &[String]) -> Result<(Options, Option<PathBuf>), String> {
    let mut options = Options::default();
    let mut generate = Generate {
        workloads: 0,
        ..Generate::default()
    };
    let mut directory = None;
    let mut generated = false;
    let split = arguments
        .iter()
        .flat_map(|argument| match argument.split_once('=') {
            Some((name, value)) if name.starts_with("--") => {
                vec![name.to_owned(), value.to_owned()]
            }
            _ => vec![argument.clone()],
        });
    let mut arguments = split;
    while let Some(name) = arguments.next() {
        let mut value = || {
            arguments
                .next()
                .ok_or_else(|| format!("{name} needs a value"))
        };
        match name.as_str() {
            "--addr" => options.addr = number(&name, &value()?)?,
            "--recorded" => options.cluster = Cluster::Recorded,
            "--empty" => options.cluster = Cluster::Empty,
            "--pods" => {
                generate.pods = number(&name, &value()?)?;
                generated = true;
            }
            "--workloads" => generate.workloads = number(&name, &value()?)?,
            "--namespaces" => generate.namespaces = number(&name, &value()?)?,
            "--pod-bytes" => generate.pod_bytes = number(&name, &value()?)?,
            "--seed" => generate.seed = number(&name, &value()?)?,
            "--metrics" => {
                options.metrics = match value()?.as_str() {
                    "absent" => Metrics::Absent,
                    "present" => Metrics::Present,
                    "broken" => Metrics::Broken,
                    other => return Err(format!("--metrics {other}: absent, present or broken")),
                }
            }
            "--rbac" => options.rbac = rules(&value()?)?,
            "--token" => options.token = value()?,
            "--chunk-bytes" => options.chunk_bytes = number(&name, &value()?)?,
            "--dir" => directory = Some(PathBuf::from(value()?)),
            "--log" => options.log = Some(PathBuf::from(value()?)),
            other => return Err(format!("{other}: not known; see kube-sim --help")),
        }
    }
    if generated {
        if generate.workloads == 0 {
            generate.workloads = (generate.pods / 100).max(1);
        }
        options.cluster = Cluster::Generated(generate);
    }
    options.directory.clone_from(&directory);
    Ok((options, directory))
}

fn number<T: std::str::FromStr>(name: &str, value: &str) -> Result<T, String> {
    value
        .parse()
        .map_err(|_| format!("{name} {value}: not a value for it"))
}

fn rules(path: &str) -> Result<Rbac, String> {
    let text = fs::read(path).map_err(|error| format!("{path}: {error}"))?;
    let json = serde_json::from_slice(&text).map_err(|error| format!("{path}: {error}"))?;
    PolicyRule::parse(&json)
        .map(Rbac::Rules)
        .map_err(|error| format!("{path}: {error}"))
}
