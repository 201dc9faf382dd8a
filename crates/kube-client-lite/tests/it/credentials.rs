//! Tokens that rotate, and files they come from.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use kube_client_lite::config::{Auth, Ca};
use kube_client_lite::{Client, Config, RetryPolicy};
use kube_sim::{Fault, FaultAction, Sim};

use crate::common::*;

/// What a pod has mounted, for a simulator.
fn service_account(sim: &Sim, dir: &Path) -> Config {
    fs::write(dir.join("token"), sim.token()).unwrap();
    fs::write(dir.join("ca.crt"), sim.ca_pem()).unwrap();
    fs::write(dir.join("namespace"), "kube9-system").unwrap();
    let port = sim.addr().port().to_string();
    Config::in_cluster_from(dir, |name| match name {
        "KUBERNETES_SERVICE_HOST" => Some("127.0.0.1".to_owned()),
        "KUBERNETES_SERVICE_PORT" => Some(port.clone()),
        _ => None,
    })
    .unwrap()
}

fn statuses(sim: &Sim) -> Vec<u16> {
    let log = sim.requests();
    log.iter().map(|request| request.status).collect()
}

#[test]
fn a_pod_follows_its_token_and_its_ca() {
    let sim = empty();
    let dir = tempfile::tempdir().unwrap();
    let config = service_account(&sim, dir.path());
    assert_eq!(config.namespace.as_deref(), Some("kube9-system"));
    let client = Client::new(config).unwrap().with_retry(RetryPolicy::NEVER);
    client.api(PODS).count().unwrap();

    sim.set_token("another-and-longer-one");
    fs::write(dir.path().join("token"), sim.token()).unwrap();
    client.api(PODS).count().unwrap();
    assert_eq!(statuses(&sim), [200, 200], "the new token was read in time");

    // Connections that are open stay; a new one needs the new CA.
    sim.rotate_ca().unwrap();
    client.api(PODS).count().unwrap();
    assert_eq!(sim.connections(), 1);
    fs::write(dir.path().join("ca.crt"), "").unwrap();
    client
        .api(PODS)
        .count()
        .expect("files half written change nothing");
    fs::write(dir.path().join("ca.crt"), sim.ca_pem()).unwrap();
    client.api(PODS).count().unwrap();
    assert_eq!(sim.connections(), 2);
}

#[test]
fn a_refused_token_file_is_read_again_once() {
    let sim = empty();
    let dir = tempfile::tempdir().unwrap();
    let client = Client::new(service_account(&sim, dir.path())).unwrap();
    client.api(PODS).count().unwrap();

    // A file that looks the same as before.
    let path = dir.path().join("token");
    let modified = fs::metadata(&path).unwrap().modified().unwrap();
    let token = sim.token().to_uppercase();
    sim.set_token(&token);
    fs::write(&path, &token).unwrap();
    let file = fs::File::options().write(true).open(&path).unwrap();
    file.set_modified(modified).unwrap();
    sim.clear_requests();
    client.api(PODS).count().unwrap();
    assert_eq!(statuses(&sim), [401, 200]);

    sim.expire_token();
    sim.clear_requests();
    assert!(client.api(PODS).count().unwrap_err().is_unauthorized());
    assert_eq!(statuses(&sim), [401, 401]);
}

#[test]
fn threads_share_a_client_while_its_token_rotates() {
    let sim = empty();
    let dir = tempfile::tempdir().unwrap();
    let client = Client::new(service_account(&sim, dir.path())).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..25 {
                    client.api(PODS).count().unwrap();
                }
            });
        }
        for number in 0..10 {
            // The old token is good until the new one is there, as a real one is.
            let token = format!("token-{number}");
            sim.add_user("another", &token, kube_sim::Rbac::AllowAll);
            let new = dir.path().join("new");
            fs::write(&new, &token).unwrap();
            fs::rename(&new, dir.path().join("token")).unwrap();
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    });
    assert_eq!(sim.requests().len(), 100);
}

#[test]
fn a_token_that_cannot_change_is_not_tried_again() {
    let sim = empty();
    sim.expire_token();
    let error = client(&sim).api(PODS).count().unwrap_err();
    assert!(error.is_unauthorized());
    assert_eq!(statuses(&sim), [401]);
}

#[test]
fn a_retry_after_does_not_make_a_401_worth_a_retry() {
    let sim = empty();
    sim.script(Fault::new(FaultAction::Status {
        code: 401,
        headers: vec![("Retry-After".to_owned(), "0".to_owned())],
        body: String::new(),
        content_type: "text/plain".to_owned(),
    }));
    assert!(client(&sim).version().unwrap_err().is_unauthorized());
    assert_eq!(sim.requests().len(), 1);
}

#[test]
fn a_plugin_runs_again_when_its_token_is_refused() {
    let sim = empty();
    let dir = tempfile::tempdir().unwrap();
    let (script, token) = (dir.path().join("plugin"), dir.path().join("token"));
    fs::write(
        &script,
        format!(
            "#!/bin/sh\necho x >> {0}/runs\nprintf '{{\"apiVersion\": \"client.authentication.k8s.io/v1\", \
             \"kind\": \"ExecCredential\", \"status\": {{\"token\": \"%s\"}}}}' \"$(cat {0}/token)\"\n",
            dir.path().display()
        ),
    )
    .unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(&token, sim.token()).unwrap();
    let kubeconfig = sim.kubeconfig().replace(
        &format!("token: {}", sim.token()),
        "exec: {apiVersion: client.authentication.k8s.io/v1, command: ./plugin, interactiveMode: Never}",
    );
    let client = Client::new(load_kubeconfig(dir.path(), &kubeconfig)).unwrap();
    client.version().unwrap();
    client.version().unwrap();
    sim.set_token("rotated");
    fs::write(&token, "rotated").unwrap();
    client.version().unwrap();
    assert_eq!(statuses(&sim), [200, 200, 401, 200]);
    let runs = fs::read_to_string(dir.path().join("runs")).unwrap();
    assert_eq!(runs.lines().count(), 2);
}

#[test]
fn a_kubeconfig_from_end_to_end() {
    let sim = recorded();
    let dir = tempfile::tempdir().unwrap();
    let config = load_kubeconfig(dir.path(), &sim.kubeconfig());
    assert_eq!(config.namespace.as_deref(), Some("kube9-system"));
    assert!(matches!(&config.tls.ca, Ca::Pem(_)));
    assert!(matches!(&config.auth, Auth::Token(_)));
    let client = Client::new(config).unwrap();
    assert!(client.api(PODS).count().unwrap() > 0);
    let agent = &sim.requests()[0].user_agent;
    assert!(agent.starts_with("kube-client-lite/"), "{agent}");
}

#[test]
fn nothing_printed_holds_a_secret() {
    let sim = empty();
    sim.set_token("s3cret-token");
    let mut config = config(&sim);
    config.proxy = Some("http://user:s3cret-proxy@127.0.0.1:1".to_owned());
    let client = Client::new(config).unwrap().with_retry(RetryPolicy::NEVER);
    let api = client.api(PODS);
    let error = api.count().unwrap_err();
    let watch = api.watch(kube_client_lite::WatchParams::default()).unwrap();
    let printed = format!(
        "{:?} {client:?} {api:?} {error} {error:?} {watch:?} {:?}",
        client.config(),
        client.shutdown_handle()
    );
    assert!(!printed.contains("s3cret"), "{printed}");
}
