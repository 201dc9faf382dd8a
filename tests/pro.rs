//! The life of an agent that has an API key, through the built binary: keys that come, go and change, servers that are
//! away, forget or have enough, users who ask for something meanwhile, and processes that are killed in between.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use kube9_sim::Call;
use support::{Pro, wait_for};

#[test]
fn a_key_that_appears_makes_the_agent_pro_without_a_restart() {
    let pro = Pro::new();
    pro.remove_key();
    let agent = pro.start_and_collect(&[]);
    let status = pro.wait_for_health("healthy");
    assert_eq!(
        (&status["tier"], &status["registered"]),
        (&"free".into(), &false.into())
    );
    assert!(
        pro.server.requests().is_empty(),
        "free agents keep to themselves"
    );
    // As a person writes it.
    pro.set_key(&format!("{}\n", support::KEY));
    let status = pro.wait_for_status("is pro", |status| status["registered"] == true);
    assert_eq!(status["mode"], "enabled");
    pro.wait_for_sync(None);
    wait_for("the quota", || {
        (!pro.requests(Call::Quota).is_empty()).then_some(())
    });
    assert_eq!(pro.server.pushes(), 1);
    pro.assert_well_behaved(&agent);
}
