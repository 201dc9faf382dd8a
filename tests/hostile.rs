//! A server that is hostile: what it can put into its answers, and that none of it does any harm. The agent lives and
//! stays small, what it had is still there, users can ask for everything in every format, and a good insight that comes
//! afterwards arrives.
//!
//! `KUBE9_BINARY=PATH` runs the same against another build, the one that is shipped, and holds it to its memory.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use std::process::Command;

use kube9_sim::{Call, misbehave};
use serde_json::{Value, json};
use support::{Agent, KEY, Pro, RECOMMENDATIONS, wait_for};

/// What the shipped binary may use at most, whatever it is sent: 4 MiB of it are an answer, and as much what was in it.
const PEAK_KIB: u64 = 13 << 10;

/// What is to become of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// So many of its insights are kept.
    Kept(usize),
    /// Nothing of it is.
    Refused,
}

use Fate::{Kept, Refused};

/// An agent and its hostile server.
struct Siege {
    pro: Pro,
    agent: Agent,
    /// How many good insights the server has sent.
    good: usize,
    cycles: usize,
}

impl Siege {
    fn new() -> Self {
        let pro = Pro::new();
        let agent = Agent::start(with_binary(pro.command(&[
            "run",
            "--status-interval",
            "10s",
        ])));
        pro.wait_for_health("healthy");
        pro.wait_for_sync(None);
        let mut siege = Self {
            pro,
            agent,
            good: 0,
            cycles: 0,
        };
        siege.send_a_good_one();
        siege
    }

    /// Has the agent go through a cycle, which another key begins.
    fn cycle(&mut self) {
        self.cycles += 1;
        let key = format!("{KEY}-{}", self.cycles);
        self.pro
            .server
            .change(|options| options.keys = vec![key.clone()]);
        let pulls = || {
            let pulls = self.pro.requests(Call::Insights);
            let of_now = pulls
                .iter()
                .filter(|pull| pull.header("authorization") == Some(format!("Bearer {key}")));
            of_now.count()
        };
        self.pro.set_key(&key);
        wait_for("the cycle", || {
            let status = self.pro.ask(&["status"]);
            let over = pulls() > 0 && status["registered"] == true && status["health"] == "healthy";
            (over && status["sync"]["nextAttempt"] != Value::Null && self.is_synced(&status))
                .then_some(())
        });
    }

    fn is_synced(&self, status: &Value) -> bool {
        let quota = self.pro.requests(Call::Quota);
        let key = Some(format!("Bearer {KEY}-{}", self.cycles));
        let asked = quota
            .iter()
            .any(|request| request.header("authorization") == key && request.status == 200);
        asked && status["sync"]["consecutiveFailures"] == 0
    }

    /// A good insight arrives, and those before it are there still.
    fn send_a_good_one(&mut self) {
        self.good += 1;
        self.pro.server.add_insight(json!({
            "id": format!("good_{}", self.good), "severity": "critical", "category": "security",
            "title": "deployment_001 in namespace_001", "description": "", "recommendation": "",
            "affectedResources": ["deployment_001"],
        }));
        self.cycle();
        let list = self.pro.ask(&[
            "insights",
            "list",
            "--severity=critical",
            "--category=security",
            "--limit=200",
        ]);
        let list = list["insights"].as_array().unwrap();
        for number in 1..=self.good {
            let id = format!("good_{number}");
            let found = list.iter().find(|insight| insight["id"] == id.as_str());
            let found = found.unwrap_or_else(|| unreachable!("{id} is lost"));
            assert_eq!(found["resources"][0]["resolved"], true, "{found}");
            assert!(
                !found["title"].as_str().unwrap().contains("_001"),
                "{found}"
            );
        }
    }

    /// The ids of the insights that are no good ones.
    fn bad_ones(&self) -> Vec<Value> {
        let mut found = Vec::new();
        loop {
            let offset = format!("--offset={}", found.len());
            let page = self
                .pro
                .ask(&["insights", "list", "--state=all", "--limit=500", &offset]);
            let page = page["insights"].as_array().unwrap();
            found.extend(page.iter().cloned());
            if page.is_empty() {
                break;
            }
        }
        found.retain(|insight| !insight["id"].as_str().unwrap().starts_with("good_"));
        found
    }

    /// The server answers so once, then as usual.
    fn send(&mut self, page: &str) {
        let page = page.replace("{KEY}", &format!("{KEY}-{}", self.cycles + 1));
        let fault = misbehave::raw(200, &[], "application/json", &page);
        self.pro.server.script(Call::Insights.fault(fault).once());
        self.cycle();
    }

    /// All that users can ask for is answered, and nothing in it steers a terminal.
    fn assert_readable(&self, ids: &[&str]) {
        let mut questions = vec![vec!["insights", "list", "--limit=500"]];
        questions.extend(ids.iter().map(|id| vec!["insights", "get", id]));
        for question in questions {
            for format in ["json", "yaml", "table"] {
                let arguments = [&["query"], &question[..], &["--format", format]].concat();
                let output = with_binary(self.pro.command(&arguments)).output().unwrap();
                assert!(output.status.success(), "{question:?}: {output:?}");
                let text = String::from_utf8(output.stdout).unwrap();
                let steers = text
                    .chars()
                    .find(|c| (c.is_control() && *c != '\n') || is_format(*c));
                assert_eq!(steers, None, "{question:?} as {format}: {text}");
                if format == "json" {
                    assert!(text.is_ascii());
                    serde_json::from_str::<Value>(&text).unwrap();
                }
            }
        }
    }

    /// From when on the agent asked for insights last: never from a time that is still to come.
    fn since(&self) -> jiff::Timestamp {
        let pull = self.pro.requests(Call::Insights).pop().unwrap();
        let since = pull
            .query
            .strip_prefix("since=")
            .unwrap()
            .replace("%3A", ":");
        let since: jiff::Timestamp = since.parse().unwrap();
        assert!(since <= jiff::Timestamp::now(), "{since}");
        since
    }

    fn end(mut self) {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.agent.id())).unwrap();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let peak: u64 = peak
            .unwrap()
            .trim()
            .trim_end_matches(" kB")
            .parse()
            .unwrap();
        println!(
            "after {} cycles the agent has used {peak} KiB at most",
            self.cycles
        );
        if std::env::var_os("KUBE9_BINARY").is_some() {
            assert!(peak <= PEAK_KIB, "{peak} KiB");
        }
        assert!(self.agent.is_running());
        self.pro.assert_well_behaved(&self.agent);
        let log = self.agent.log();
        let lines = log.lines().filter(|line| !line.starts_with("20"));
        assert_eq!(lines.count(), 0, "a line nobody began: {log}");
        let (status, _) = self.agent.stop();
        assert!(status.success());
    }
}

/// The same command with the binary that is to be tested.
fn with_binary(command: Command) -> Command {
    let Some(binary) = std::env::var_os("KUBE9_BINARY") else {
        return command;
    };
    let mut other = Command::new(binary);
    other.args(command.get_args()).env_clear();
    for (name, value) in command.get_envs() {
        other.envs(value.map(|value| (name, value)));
    }
    other.current_dir(command.get_current_dir().unwrap());
    other
}

/// Turns the direction of a text, joins or hides.
fn is_format(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// A whole page with these insights.
fn page(insights: &Value) -> String {
    json!({"insights": insights, "quotaRemaining": 18, "quotaLimit": 24}).to_string()
}

/// A page with one insight, all of whose texts are this.
fn all(id: &str, text: &str) -> String {
    page(&json!([{
        "id": id, "severity": text, "category": text, "title": text, "description": text, "recommendation": text,
        "affectedResources": [text, text], "createdAt": "2026-06-01T00:00:00Z",
    }]))
}

/// A page of insights that are all right but for one field.
fn each(field: &str, values: &[Value]) -> String {
    let insights = values.iter().enumerate().map(|(number, value)| {
        let mut insight = json!({
            "id": format!("each_{field}_{number}"), "severity": "info", "category": "cost", "title": "t",
            "description": "d", "recommendation": "r", "affectedResources": [], "createdAt": "2026-06-01T00:00:00Z",
        });
        insight[field] = value.clone();
        insight
    });
    page(&insights.collect())
}

#[test]
fn nothing_in_an_insight_does_harm() {
    let mut siege = Siege::new();
    let long = "x".repeat(1 << 20);
    let nested = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let cases = [
        ("control characters", all("controls", "a\u{0}\u{7}\u{8}\r\u{1b}c\u{7f}\u{85}\u{9b}31mb\nc\td"), Kept(1)),
        ("ANSI escapes", all("ansi", "\u{1b}[2J\u{1b}[31mred\u{1b}]0;title\u{7}\u{1b}]8;;http://x\u{1b}\\link"), Kept(1)),
        ("HTML", all("html", "<script>alert('1')</script><img src=x onerror=\"alert(1)\">&amp;"), Kept(1)),
        ("turned around", all("bidi", "\u{202e}evil\u{2066}\u{200b}\u{200f}\u{feff}\u{e0041}"), Kept(1)),
        ("formats and statements", all("format", "{} {0} %s %n $(id) `id` '; DROP TABLE insight; --"), Kept(1)),
        ("the key itself", all("key", "Bearer {KEY} {KEY}"), Kept(1)),
        ("long texts", page(&json!([{"id": "long", "title": long, "description": long, "recommendation": long}])), Kept(1)),
        ("many resources", page(&json!([{"id": "many", "affectedResources": vec!["deployment_001"; 100_000]}])), Kept(1)),
        ("severities nobody knows", each("severity", &[json!("apocalyptic"), json!(""), json!(null), json!("CRITICAL\n"), json!(long)]), Kept(5)),
        ("times", each("createdAt", &[
            json!("9999-12-31T23:59:59.999Z"), json!("+010000-01-01T00:00:00Z"), json!("-000001-01-01T00:00:00Z"),
            json!("1969-12-31T23:59:59Z"), json!("2026-02-30T00:00:00Z"), json!("2026-06-01T25:00:00Z"), json!("yesterday"),
            json!(""), json!(null), json!("2026-06-01"), json!("99999999999999999999"),
        ]), Kept(11)),
        ("ids", each("id", &[
            json!(null), json!(""), json!(" "), json!("a b"), json!("line\nbreak"), json!("\u{1b}[31m"), json!("\u{202e}x"),
            json!("é"), json!(long), json!("x".repeat(129)), json!("x".repeat(128)), json!("../../etc/passwd"), json!("x'--"),
            json!("%00"), json!("<b>"), json!("notice-no-findings"),
        ]), Kept(6)),
        ("nulls", r#"{"insights":[{"id":"null","severity":null,"category":null,"title":null,"description":null,
            "recommendation":null,"affectedResources":null,"createdAt":null}],"quotaRemaining":null,"quotaLimit":null}"#.to_owned(), Kept(1)),
        ("nothing but an id", r#"{"insights":[{"id":"bare"}]}"#.to_owned(), Kept(1)),
        ("unknown fields", format!(r#"{{"x":{},"insights":[{{"id":"more","deep":{}}}]}}"#, "[".repeat(100) + &"]".repeat(100), r#"{"a":[1e400,{"b":null}]}"#), Kept(1)),
        ("no list", r#"{"insights":null}"#.to_owned(), Kept(0)),
        ("the same id twice", page(&json!([{"id": "twice", "title": "first"}, {"id": "twice", "title": "second"}])), Kept(1)),
        ("no insight at all", r#"{"insights":[null]}"#.to_owned(), Refused),
        ("a list in place of an object", "[]".to_owned(), Refused),
        ("a number as a text", r#"{"insights":[{"id":"refused"}],"quotaRemaining":"18"}"#.to_owned(), Refused),
        ("less than nothing", r#"{"insights":[{"id":"refused"}],"quotaRemaining":-1}"#.to_owned(), Refused),
        ("a text as a number", page(&json!([{"id": "refused"}, {"id": "refused_2", "title": 7}])), Refused),
        ("an id as a number", page(&json!([{"id": 7}])), Refused),
        ("resources in a text", page(&json!([{"id": "refused", "affectedResources": "deployment_001"}])), Refused),
        ("the same field twice", r#"{"insights":[{"id":"refused","id":"refused_2"}]}"#.to_owned(), Refused),
        ("half a surrogate", r#"{"insights":[{"id":"refused","title":"\ud800"}]}"#.to_owned(), Refused),
        ("deep nesting", format!(r#"{{"insights":{nested}}}"#), Refused),
        ("deep nesting in an insight", format!(r#"{{"insights":[{{"id":"refused","title":{nested}}}]}}"#), Refused),
        ("a byte order mark", format!("\u{feff}{}", page(&json!([{"id": "refused"}]))), Refused),
        ("two answers in one", format!("{0}{0}", page(&json!([{"id": "refused"}]))), Refused),
        ("more than 4 MiB", page(&json!([{"id": "refused", "title": "x".repeat(4 << 20)}])), Refused),
    ];
    let mut kept = Vec::new();
    for (name, body, fate) in &cases {
        eprintln!("--- {name}");
        siege.send(body);
        let bad = siege.bad_ones();
        let ids: Vec<&str> = bad
            .iter()
            .map(|insight| insight["id"].as_str().unwrap())
            .collect();
        let new: Vec<&str> = ids
            .iter()
            .copied()
            .filter(|id| !kept.contains(&(*id).to_owned()))
            .collect();
        let expected = if let Kept(number) = fate { *number } else { 0 };
        assert_eq!(new.len(), expected, "{name}: {new:?}");
        siege.since();
        siege.assert_readable(&new);
        kept.extend(new.into_iter().map(str::to_owned));
    }
    siege.send_a_good_one();
    let bad = siege.bad_ones();
    let one = |id: &str| bad.iter().find(|insight| insight["id"] == id).unwrap();
    assert_eq!(one("twice")["title"], "second");
    assert_eq!(
        one("html")["title"],
        "<script>alert('1')</script><img src=x onerror=\"alert(1)\">&amp;"
    );
    assert_eq!(one("many")["resources"].as_array().unwrap().len(), 100);
    assert!(one("long")["title"].as_str().unwrap().ends_with("..."));
    assert_eq!(one("long")["title"].as_str().unwrap().len(), 300);
    assert_eq!(
        one("controls")["description"]
            .as_str()
            .unwrap()
            .lines()
            .count(),
        2
    );
    assert_eq!(one("key")["title"], "Bearer *** ***");
    assert_eq!(one("each_severity_3")["severity"], "critical");
    assert_eq!(
        one("each_severity_4")["severity"].as_str().unwrap().len(),
        32
    );
    for number in 1..11 {
        let created = &one(&format!("each_createdAt_{number}"))["createdAt"];
        assert!(created.is_null(), "{number}: {created}");
    }
    siege.end();
}

/// Names are put in for whole words that stand for something here, and for nothing else.
#[test]
fn ids_are_only_what_they_are() {
    let mut siege = Siege::new();
    let names = siege.pro.ask(&["privacy", "names", "--kind", "deployment"]);
    let known = &names["names"][0];
    let id = known["id"].as_str().unwrap();
    let name = known["name"].as_str().unwrap();
    let others = [
        "deployment_999",
        "deployment_9999999999999999999999",
        "deployment_000",
        "deployment_1",
        "deployment_0001",
        "DEPLOYMENT_001",
        "pod_001",
        "secret_001",
        "deployment_001x",
        "xdeployment_001",
        "é_deployment_001",
        "_deployment_001",
        "deployment_001_",
        "namespace_999",
        "",
        "*",
        "production/deployment/api",
    ];
    let text = format!("{id}, ({id}) {id}-x/{id}. {}", others.join(" "));
    let affected = [&[id], &others[..]].concat();
    let now = jiff::Timestamp::now().to_string();
    siege.send(&page(&json!([
        {"id": "now", "description": text, "affectedResources": affected, "createdAt": now},
        {"id": "of_an_older_map", "title": id, "affectedResources": [id], "createdAt": "2001-01-01T00:00:00Z"},
        {"id": "of_no_time", "title": id, "affectedResources": [id]},
    ])));
    let insight = siege.pro.ask(&["insights", "get", "now"]);
    let expected = format!("{name}, ({name}) {name}-x/{name}. {}", others.join(" "));
    assert_eq!(insight["description"], expected);
    let resources = insight["resources"].as_array().unwrap();
    assert_eq!(
        (&resources[0]["resolved"], &resources[0]["name"]),
        (&true.into(), &name.into())
    );
    assert_eq!(resources.len(), others.len() + 1);
    for (resource, other) in resources[1..].iter().zip(others) {
        assert_eq!(
            (&resource["resolved"], &resource["id"]),
            (&false.into(), &other.into())
        );
        assert!(
            resource["name"].is_null() && resource["namespace"].is_null(),
            "{resource}"
        );
    }
    for id_of_insight in ["of_an_older_map", "of_no_time"] {
        let insight = siege.pro.ask(&["insights", "get", id_of_insight]);
        assert_eq!(
            (&insight["title"], &insight["resources"][0]["resolved"]),
            (&id.into(), &false.into())
        );
    }
    siege.end();
}

#[test]
fn what_changes_from_page_to_page_keeps_what_a_user_made_of_it() {
    let mut siege = Siege::new();
    siege.send(&page(&json!([{"id": "it", "severity": "low", "title": "before", "createdAt": "2026-06-01T00:00:00Z"}])));
    // That id is not the server's; the verdict goes nowhere, but it is kept.
    let verdict = siege.pro.run(&["query", "insights", "dismiss", "it"]);
    assert!(verdict.status.code().is_some(), "{verdict:?}");
    let received = siege.pro.ask(&["insights", "get", "it"])["receivedAt"].clone();
    siege.send(&page(&json!([{"id": "it", "severity": "high", "title": "after", "createdAt": "9999-06-01T00:00:00Z"}])));
    let it = siege.pro.ask(&["insights", "get", "it"]);
    assert_eq!(
        (&it["title"], &it["severity"], &it["state"]),
        (&"after".into(), &"high".into(), &"dismissed".into())
    );
    assert_eq!(it["receivedAt"], received);
    siege.send_a_good_one();
    siege.end();
}

#[test]
fn a_flood_is_refused_or_runs_off() {
    let mut siege = Siege::new();
    let flood = |number: usize, created: &str| {
        let insights =
            (0..number).map(|number| json!({"id": format!("f{number}"), "createdAt": created}));
        json!({"insights": insights.collect::<Vec<_>>()}).to_string()
    };
    let refused = flood(70_000, "2026");
    assert!(refused.len() < 4 << 20);
    siege.send(&refused);
    assert_eq!(siege.bad_ones().len(), 0, "more than anybody reads");
    siege.send_a_good_one();
    // As many as are taken, all older than what is there: that stays, and the newest of them.
    siege.send(&flood(5000, "2001-01-01T00:00:00Z"));
    assert_eq!(siege.bad_ones().len() + siege.good, 2000);
    siege.send_a_good_one();
    siege.assert_readable(&["good_1"]);
    siege.pro.wait_for_health("healthy");
    siege.end();
}

/// Pages just below 4 MiB, in all the ways to fill them.
#[test]
fn the_largest_pages_do_not_make_the_agent_large() {
    let mut siege = Siege::new();
    let most = 4 << 20;
    siege.send(&page(
        &json!([{"id": "one", "title": "x".repeat(most - 200)}]),
    ));
    let text = "\u{1b}x".repeat(most / 8);
    siege.send(&page(&json!([{"id": "two", "description": text}])));
    siege.send(&page(
        &json!([{"id": "three", "affectedResources": vec!["x"; most / 5]}]),
    ));
    let insights = (0..5000).map(|number| {
        let (id, text) = (format!("all_{number}"), "x".repeat(360));
        json!({"id": id, "description": text, "recommendation": text, "createdAt": "2001-01-01T00:00:00Z"})
    });
    let full = page(&insights.collect());
    assert!(
        (most * 9 / 10..most).contains(&full.len()),
        "{}",
        full.len()
    );
    siege.send(&full);
    assert_eq!(siege.bad_ones().len() + siege.good, 2000);
    siege.send_a_good_one();
    siege.end();
}

#[test]
fn what_a_panel_shows_as_html_has_none_in_it() {
    let mut siege = Siege::new();
    siege.send(&all(
        "html",
        "<script>alert('1')</script><img src=x onerror=\"alert(1)\">&",
    ));
    let document = wait_for("the recommendation", || {
        let map = siege.pro.config_map(RECOMMENDATIONS)?;
        let text = map["data"]["recommendations"].as_str()?.to_owned();
        text.contains("alert").then_some(text)
    });
    assert!(document.is_ascii());
    let document: Value = serde_json::from_str(&document).unwrap();
    let texts = document["items"].as_array().unwrap().iter();
    let mut texts =
        texts.flat_map(|item| ["title", "description"].map(|field| item[field].as_str().unwrap()));
    let html = texts.find(|text| text.contains(['<', '>', '"', '\'']));
    assert_eq!(html, None);
    siege.send_a_good_one();
    siege.end();
}

/// The other answers have little in them, but that is shown as well.
#[test]
fn nothing_in_the_other_answers_does_harm() {
    let pro = Pro::new();
    let evil = format!(
        "\u{1b}[31mred\u{7}\n2026-01-01T00:00:00.000Z INFO  forged {KEY} \u{202e}{}",
        "x".repeat(60_000)
    );
    let refusal = misbehave::answer(400, &json!({"message": evil}));
    pro.server.script(Call::Push.fault(refusal).once());
    let agent = pro.start(&[]);
    let status = pro.wait_for_status("tells of it", |status| {
        status["error"]
            .as_str()
            .is_some_and(|error| error.contains("answered 400"))
    });
    let error = status["error"].as_str().unwrap();
    assert!(
        error.chars().count() <= 500 && error.ends_with("..."),
        "{error}"
    );
    assert!(error.starts_with("kube9-server does not accept push: answered 400: [31mred 2026-01-01T00:00:00.000Z INFO  forged ***"), "{error}");
    assert_eq!(
        error.chars().find(|c| c.is_control() || is_format(*c)),
        None
    );
    assert!(
        !agent
            .log()
            .lines()
            .any(|line| line.starts_with("2026-01-01")),
        "{}",
        agent.log()
    );
    pro.assert_well_behaved(&agent);

    for id in [
        json!(""),
        json!("x".repeat(1 << 20)),
        json!("a b"),
        json!("\u{1b}[31m"),
        json!(KEY),
        json!(["x"]),
    ] {
        let pro = Pro::new();
        let answer = misbehave::answer(
            200,
            &json!({"clusterId": id, "configuration": {"reregistrationIntervalHours": 1e308}}),
        );
        pro.server.script(Call::Register.fault(answer).once());
        let agent = pro.start(&[]);
        pro.wait_for_health("healthy");
        let errors = pro.statuses();
        let mut errors = errors
            .iter()
            .filter_map(|(_, status)| status["error"].as_str());
        assert!(
            errors.any(|error| error.starts_with("kube9-server unreachable: ")),
            "{id} is no name"
        );
        pro.assert_well_behaved(&agent);
    }
    for quota in [
        json!({"limit": u64::MAX, "used": u64::MAX, "remaining": u64::MAX, "resetsAt": "9999-12-31T23:59:59Z"}),
        json!({"limit": 0, "used": 7, "remaining": null, "resetsAt": "1970-01-01T00:00:00Z"}),
        json!({"limit": 3, "used": u64::MAX}),
        json!({}),
    ] {
        let pro = Pro::new();
        pro.server
            .script(Call::Quota.fault(misbehave::answer(200, &quota)));
        let agent = pro.start_and_sync(&[]);
        let seen = pro.ask(&["quota"]);
        println!("{quota} is shown as {seen}");
        // Whatever it means, asking is answered in one of the ways there are.
        let output = pro.run(&["query", "analyze", "deploy/api", "-n", "production"]);
        assert!(output.status.success(), "{quota}: {output:?}");
        pro.assert_well_behaved(&agent);
    }
}
