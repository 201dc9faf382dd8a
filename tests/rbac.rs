//! The chart grants what the agent asks for: nothing is missing, nothing is unused.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::path::PathBuf;
use std::process::Command;

use kube_sim::{Metrics, Options, PolicyRule, Rbac};
use support::{Home, NAMESPACE, side_by_side, wait_for};

/// Helm, where the tests of the chart have put it, or on the PATH.
fn helm() -> Option<PathBuf> {
    let variable = |name| std::env::var_os(name).map(PathBuf::from);
    let cache = variable("XDG_CACHE_HOME").or_else(|| Some(variable("HOME")?.join(".cache")));
    let tools = variable("KUBE9_TOOLS").or_else(|| Some(cache?.join("kube9-tools")));
    let installed = tools
        .and_then(|tools| tools.read_dir().ok())
        .into_iter()
        .flatten()
        .flatten();
    let installed = installed.map(|entry| entry.path().join("helm"));
    let path = variable("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path)
        .map(|directory| directory.join("helm"))
        .collect::<Vec<_>>();
    variable("KUBE9_HELM")
        .into_iter()
        .chain(installed)
        .chain(on_path)
        .find(|path| path.is_file())
}

/// A template as Helm renders it with no values; without Helm as it stands, which for the rules is the same.
fn rendered(template: &str) -> String {
    let chart = concat!(env!("CARGO_MANIFEST_DIR"), "/charts/kube9-operator");
    let as_it_stands = std::fs::read_to_string(format!("{chart}/templates/{template}")).unwrap();
    let Some(helm) = helm() else {
        eprintln!("no helm: reading {template} as it stands");
        return as_it_stands;
    };
    let directory = tempfile::tempdir().unwrap();
    let output = Command::new(helm)
        .args([
            "template",
            "kube9-operator",
            chart,
            "--namespace",
            NAMESPACE,
        ])
        .args(["--show-only", &format!("templates/{template}")])
        .env("HOME", directory.path())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(rules(&text), rules(&as_it_stands));
    text
}

/// The rules of a role. They are written plainly: `key: [a, b]`, or a list of lines. Anything else stops the test.
fn rules(role: &str) -> Vec<PolicyRule> {
    let lines = role.lines().skip_while(|line| *line != "rules:").skip(1);
    let mut rules: Vec<PolicyRule> = Vec::new();
    let mut key = String::new();
    for line in lines.take_while(|line| line.starts_with(' ')) {
        if line.trim_start().starts_with('#') {
            continue;
        }
        let item = line.strip_prefix("      - ");
        if let Some(item) = item {
            add(rules.last_mut().unwrap(), &key, item);
            continue;
        }
        if line.starts_with("  - ") {
            rules.push(PolicyRule::default());
        }
        let (name, list) = line.trim_start_matches([' ', '-']).split_once(':').unwrap();
        name.clone_into(&mut key);
        let list = list.trim();
        if !list.is_empty() {
            let items = list
                .strip_prefix('[')
                .and_then(|list| list.strip_suffix(']'));
            for item in items.unwrap_or_else(|| panic!("{line}")).split(", ") {
                add(rules.last_mut().unwrap(), &key, item);
            }
        }
    }
    assert!(!rules.is_empty());
    rules
}

fn add(rule: &mut PolicyRule, key: &str, item: &str) {
    let list = match key {
        "apiGroups" => &mut rule.api_groups,
        "resources" => &mut rule.resources,
        "resourceNames" => &mut rule.resource_names,
        "verbs" => &mut rule.verbs,
        other => panic!("{other}: not known to this test"),
    };
    list.push(item.trim_matches('"').to_owned());
}

/// What the chart grants.
fn granted() -> Vec<PolicyRule> {
    let mut granted = rules(&rendered("clusterrole.yaml"));
    granted.extend(
        rules(&rendered("role.yaml"))
            .into_iter()
            .map(|rule| rule.in_namespace(NAMESPACE)),
    );
    granted
}

/// The same, a rule for each resource and verb.
fn one_by_one(rules: &[PolicyRule]) -> Vec<PolicyRule> {
    let mut single = Vec::new();
    for rule in rules {
        for resource in &rule.resources {
            for verb in &rule.verbs {
                assert_eq!(rule.api_groups.len(), 1);
                single.push(PolicyRule {
                    resources: vec![resource.clone()],
                    verbs: vec![verb.clone()],
                    ..rule.clone()
                });
            }
        }
    }
    single
}

fn home(rules: Vec<PolicyRule>) -> Home {
    Home::with(Options {
        rbac: Rbac::Rules(rules),
        metrics: Metrics::Present,
        ..Options::default()
    })
}

fn refused(home: &Home) -> Option<String> {
    let requests = home.sim.requests();
    let refused = requests.iter().find(|request| request.status == 403);
    refused.map(|request| format!("{} {}", request.method, request.url()))
}

/// One of everything that can be analysed, in the recorded cluster: each is looked up by its name, and a pod's owners, too.
const ANALYSED: [(&str, &str); 8] = [
    ("ns/api", ""),
    ("deploy/api", "api"),
    ("sts/cache", "production"),
    ("ds/kube-proxy", "kube-system"),
    ("job/load-test", "staging"),
    ("cj/heartbeat", "monitoring"),
    ("po/api-5c68d76c57-t649v", "api"),
    ("po/heartbeat-29922851-cnpsj", "monitoring"),
];

/// What commands ask the API server; a key makes them Pro, though there is no server.
fn ask_for_all(home: &Home) {
    home.run(&["check"]);
    std::fs::write(home.path("apiKey"), "kdy_1").unwrap();
    for (resource, namespace) in ANALYSED {
        home.run(&["query", "analyze", resource, "-n", namespace]);
    }
}

#[test]
fn what_the_chart_grants_is_enough() {
    let home = home(granted());
    let mut agent = home.start_and_collect(&[]);
    // Identity, for the schedule, comes after the collection.
    wait_for("the identity of the cluster", || {
        let requests = home.sim.requests();
        requests
            .iter()
            .any(|request| request.path == "/api/v1/namespaces/kube-system")
            .then_some(())
    });
    home.wait_for_health("healthy");
    assert!(!home.dashboard().unwrap()["usage"].is_null());
    let output = home.run(&["check"]);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    ask_for_all(&home);
    let queued = home.run(&["query", "analyses", "list"]);
    let queued: serde_json::Value = serde_json::from_slice(&queued.stdout).unwrap();
    assert_eq!(queued["pagination"]["total"], ANALYSED.len(), "{queued}");
    assert_eq!(agent.stop().0.code(), Some(0));
    assert_eq!(refused(&home), None, "{}", agent.log());
}

#[test]
fn nothing_the_chart_grants_is_unused() {
    let granted = one_by_one(&granted());
    assert!(granted.len() >= 15, "{granted:?}");
    let cases: Vec<(String, Vec<PolicyRule>)> = (0..granted.len())
        .map(|left_out| {
            let mut rest = granted.clone();
            let rule = rest.remove(left_out);
            (format!("{} {}", rule.verbs[0], rule.resources[0]), rest)
        })
        .collect();
    let cases: Vec<(&str, &Vec<PolicyRule>)> = cases
        .iter()
        .map(|(name, rest)| (name.as_str(), rest))
        .collect();
    side_by_side(&cases, |rest| {
        let home = home((*rest).clone());
        let _agent = home.start(&[]);
        let mut asked = false;
        wait_for("a refusal", || {
            let refusal = refused(&home);
            let collected = || home.run(&["query", "dashboard"]).status.success();
            if refusal.is_none() && !asked && collected() {
                ask_for_all(&home);
                asked = true;
            }
            refusal
        });
    });
}
