//! Every call to kube9-server, and every answer it can get: what a client sees in the ConfigMap meanwhile, that the
//! status stays fresh, that the agent is as before once the fault is gone, that nothing a user asked for is lost or done
//! twice, and that the API key is in no output.
//!
//! The table below is what the contract asks for, written down from the contract and not from the code. The test prints
//! it as it was seen: a row an answer, a column a call, and what became of the analysis that was asked for.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use jiff::Timestamp;
use kube_sim::Options;
use kube9_sim::Call::{Acknowledge, Analyze, Insights, Push, Quota, Register};
use kube9_sim::{Call, Fault, FaultAction, Tls, misbehave};
use serde_json::{Value, json};
use support::{Agent, KEY, Pro, wait_for};

const CALLS: [Call; 6] = [Register, Push, Insights, Quota, Acknowledge, Analyze];

/// Analyses in a day that the server takes again so long after the start, where a cell needs it.
const QUOTA_DAY: Duration = Duration::from_secs(45);

/// A date in an answer is so far ahead when the fault begins.
const DATE: Duration = Duration::from_secs(8);

/// So many cells at a time besides those that hang; all of them mostly wait.
const WORKERS: usize = 32;

/// A status that is further from the next is not fresh; one is due every ten seconds.
const FRESH: Duration = Duration::from_secs(25);

/// There is no such host, and never will be.
const NOWHERE: &str = "https://nowhere.invalid";

/// What is wrong.
enum Wrong {
    /// No request gets through at all.
    Connection(Connection),
    /// The call is answered so.
    Answer(fn() -> FaultAction),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Connection {
    Refused,
    NoSuchHost,
    Tls(Tls),
    HangsInTls,
}

/// How the agent comes out of it, once the fault is gone.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    ByItself,
    WithAnotherKey,
    /// With the next cycle, for which the test does not wait: a new agent begins one.
    NextCycle,
}

use Way::{ByItself, NextCycle, WithAnotherKey};

struct Row {
    name: &'static str,
    wrong: Wrong,
    way: Way,
    /// What a client sees with each of [`CALLS`], and last what becomes of the analysis.
    expected: [&'static str; 7],
}

const fn row(name: &'static str, wrong: Wrong, way: Way, expected: [&'static str; 7]) -> Row {
    Row {
        name,
        wrong,
        way,
        expected,
    }
}

/// Unreachable: told at once by an agent that never registered, after three attempts by one that did.
const AWAY: [&str; 7] = [
    "unregistered/unreachable",
    "degraded/unreachable",
    "degraded/unreachable",
    "degraded/unreachable",
    "degraded/unreachable",
    "degraded/unreachable",
    "queued/server_unreachable",
];

/// The header says 2xx, and that is all there is to know about a push, an acknowledgement or an analysis; of the other
/// calls the answer is unusable.
const UNREADABLE: [&str; 7] = [
    "unregistered/unreachable",
    "ok",
    "degraded/unreachable",
    "degraded/unreachable",
    "ok",
    "ok",
    "submitted",
];

/// The server will not have it: not again before the next cycle. A cluster that is not registered for that is told why.
/// What a user asked for has failed then, but the agent has not.
const FINAL: [&str; 7] = [
    "unregistered/and why not",
    "degraded/not accepted",
    "degraded/not accepted",
    "degraded/not accepted",
    "ok",
    "ok",
    "failed/rejected",
];

const INVALID: [&str; 7] = [
    "free/API key invalid",
    "free/API key invalid",
    "free/API key invalid",
    "free/API key invalid",
    "free/API key invalid",
    "free/API key invalid",
    "queued/server_unreachable",
];

const REFUSED: [&str; 7] = [
    "unregistered/refused",
    "degraded/refused",
    "degraded/refused",
    "degraded/refused",
    "degraded/refused",
    "degraded/refused",
    "queued/server_unreachable",
];

/// That call waits, and the rest go on.
const PATIENCE: [&str; 7] = [
    "unregistered/not yet",
    "ok",
    "ok",
    "ok",
    "ok",
    "ok",
    "queued/quota_exceeded",
];

const fn with(
    mut expected: [&'static str; 7],
    at: usize,
    other: &'static str,
) -> [&'static str; 7] {
    expected[at] = other;
    expected
}

#[expect(clippy::too_many_lines, reason = "it is a table")]
fn rows() -> Vec<Row> {
    use Wrong::{Answer, Connection as Connecting};
    vec![
        row(
            "hang before the header",
            Answer(|| FaultAction::HangBeforeHeader(Duration::from_secs(600))),
            ByItself,
            AWAY,
        ),
        row(
            "hang in TLS",
            Connecting(Connection::HangsInTls),
            ByItself,
            AWAY,
        ),
        row(
            "hang in the body",
            Answer(|| FaultAction::HangInBody { after_bytes: 5 }),
            ByItself,
            UNREADABLE,
        ),
        row(
            "drip from the header on",
            Answer(|| FaultAction::Drip {
                bytes_per_second: 1,
            }),
            ByItself,
            AWAY,
        ),
        row(
            "refused connection",
            Connecting(Connection::Refused),
            ByItself,
            AWAY,
        ),
        row(
            "no such host",
            Connecting(Connection::NoSuchHost),
            ByItself,
            AWAY,
        ),
        row(
            "TLS: wrong name",
            Connecting(Connection::Tls(Tls::WrongName)),
            ByItself,
            AWAY,
        ),
        row(
            "TLS: expired",
            Connecting(Connection::Tls(Tls::Expired)),
            ByItself,
            AWAY,
        ),
        row(
            "TLS: unknown CA",
            Connecting(Connection::Tls(Tls::UnknownCa)),
            ByItself,
            AWAY,
        ),
        row(
            "plain HTTP",
            Connecting(Connection::Tls(Tls::PlainHttp)),
            ByItself,
            AWAY,
        ),
        row(
            "closed without answer",
            Answer(|| FaultAction::Refuse),
            ByItself,
            AWAY,
        ),
        row(
            "answer lost",
            Answer(|| FaultAction::LoseAnswer),
            ByItself,
            AWAY,
        ),
        row("not HTTP", Answer(|| FaultAction::Garbage), ByItself, AWAY),
        row(
            "cut body",
            Answer(|| FaultAction::Cut { after_bytes: 5 }),
            ByItself,
            UNREADABLE,
        ),
        row(
            "endless body",
            Answer(|| FaultAction::EndlessBody),
            ByItself,
            UNREADABLE,
        ),
        row(
            "more than 4 MiB",
            Answer(misbehave::oversized),
            ByItself,
            UNREADABLE,
        ),
        row(
            "garbage",
            Answer(|| FaultAction::GarbageBody),
            ByItself,
            UNREADABLE,
        ),
        row("wrong shape", Answer(wrong_shape), ByItself, UNREADABLE),
        row(
            "empty body",
            Answer(|| misbehave::raw(200, &[], "application/json", "")),
            ByItself,
            UNREADABLE,
        ),
        // Neither yes nor no: what a user asked for stays queued.
        row(
            "301",
            Answer(|| misbehave::redirect("https://elsewhere.example/")),
            NextCycle,
            with(FINAL, 6, "queued/server_unreachable"),
        ),
        row(
            "400",
            Answer(|| misbehave::echo(400, KEY)),
            NextCycle,
            FINAL,
        ),
        row(
            "401",
            Answer(|| misbehave::echo(401, KEY)),
            WithAnotherKey,
            INVALID,
        ),
        row(
            "403",
            Answer(|| misbehave::echo(403, KEY)),
            WithAnotherKey,
            REFUSED,
        ),
        // A server without registration: that it tells the quota is enough.
        row(
            "404",
            Answer(|| misbehave::echo(404, KEY)),
            NextCycle,
            with(FINAL, 0, "ok"),
        ),
        row("408", Answer(|| misbehave::echo(408, KEY)), ByItself, AWAY),
        row(
            "409",
            Answer(|| misbehave::echo(409, KEY)),
            NextCycle,
            FINAL,
        ),
        row(
            "413",
            Answer(|| misbehave::echo(413, KEY)),
            NextCycle,
            FINAL,
        ),
        row(
            "422",
            Answer(|| misbehave::echo(422, KEY)),
            NextCycle,
            FINAL,
        ),
        row(
            "429 for 2 s",
            Answer(|| misbehave::limited(Some("2"))),
            ByItself,
            PATIENCE,
        ),
        row(
            "429 until a date",
            Answer(limited_by_date),
            ByItself,
            PATIENCE,
        ),
        row(
            "429",
            Answer(|| misbehave::limited(None)),
            ByItself,
            PATIENCE,
        ),
        row(
            "429 absurd",
            Answer(|| misbehave::limited(Some("-1e99 fortnights"))),
            ByItself,
            PATIENCE,
        ),
        row(
            "429 for a century",
            Answer(|| misbehave::limited(Some("3153600000"))),
            WithAnotherKey,
            PATIENCE,
        ),
        row("500", Answer(|| misbehave::echo(500, KEY)), ByItself, AWAY),
        row("502", Answer(|| misbehave::proxy_page(502)), ByItself, AWAY),
        row("503", Answer(|| misbehave::echo(503, KEY)), ByItself, AWAY),
        row("504", Answer(|| misbehave::proxy_page(504)), ByItself, AWAY),
    ]
}

fn wrong_shape() -> FaultAction {
    let body = json!({
        "clusterId": 7, "status": ["registered"], "insights": {"id": 1}, "limit": "many", "used": {}, "resetsAt": [],
    });
    misbehave::answer(200, &body)
}

fn limited_by_date() -> FaultAction {
    let at = Timestamp::now() + DATE;
    let date = at.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
    misbehave::limited(Some(&date))
}

/// An agent, its server and what is wrong between them.
struct Cell<'a> {
    row: &'a Row,
    call: Call,
    pro: Pro,
    agent: Agent,
    /// When the fault began.
    begun: SystemTime,
    /// What was said before the present agent.
    said: RefCell<Vec<String>>,
}

/// What was seen.
struct Seen {
    state: String,
    /// What became of the analysis, where that is the call.
    analysis: Option<String>,
    problem: Option<String>,
}

impl<'a> Cell<'a> {
    /// Goes on until the call has met its fault.
    fn new(row: &'a Row, call: Call) -> Self {
        let quota_ends = call == Analyze && row.expected[6].ends_with("quota_exceeded");
        let resets_at = (Timestamp::now() + QUOTA_DAY).to_string();
        let server = kube9_sim::Options {
            registration: !(row.name == "404" && call == Register),
            quota_resets_at: quota_ends.then_some(resets_at),
            ..kube9_sim::Options::default()
        };
        let pro = Pro::with(Options::default(), server);
        pro.server
            .change(|options| options.keys.push(format!("{KEY}-2")));
        pro.server.add_insight(json!({
            "id": "ins_1", "severity": "warning", "category": "security", "title": "deployment_001 runs as root",
            "description": "", "recommendation": "", "affectedResources": ["deployment_001"],
        }));
        if matches!(call, Acknowledge | Analyze) {
            Self::of_a_command(row, call, pro)
        } else {
            Self::of_a_sync(row, call, pro)
        }
    }

    fn of_a_sync(row: &'a Row, call: Call, pro: Pro) -> Self {
        let begun = SystemTime::now();
        match &row.wrong {
            Wrong::Answer(action) => pro.server.script(call.fault(action())),
            // What is wrong with the connection begins behind the calls that come before.
            Wrong::Connection(_) => pro.server.script(call.fault(FaultAction::Refuse)),
        }
        if let Wrong::Connection(Connection::NoSuchHost) = row.wrong {
            if call == Register {
                pro.set("KUBE9_SERVER_URL", NOWHERE);
                let agent = pro.start(&[]);
                return Self {
                    row,
                    call,
                    pro,
                    agent,
                    begun,
                    said: RefCell::default(),
                };
            }
            // A new agent begins with the first call that may be made.
            let before = if call == Quota {
                [Push, Insights].as_slice()
            } else {
                &[Push]
            };
            for before in before.iter().filter(|before| **before != call) {
                pro.server
                    .script(before.fault(misbehave::limited(Some("3600"))));
            }
        }
        let agent = pro.start(&[]);
        wait_for("the call", || {
            (!pro.requests(call).is_empty()).then_some(())
        });
        let mut new = Self {
            row,
            call,
            pro,
            agent,
            begun,
            said: RefCell::default(),
        };
        new.break_connection();
        if let Wrong::Connection(Connection::NoSuchHost) = row.wrong {
            new.stop();
            new.start();
        }
        new
    }

    fn of_a_command(row: &'a Row, call: Call, pro: Pro) -> Self {
        let agent = pro.start_and_sync(&[]);
        let begun = SystemTime::now();
        let mut new = Self {
            row,
            call,
            pro,
            agent,
            begun,
            said: RefCell::default(),
        };
        if let Wrong::Answer(action) = &row.wrong {
            new.pro.server.script(call.fault(action()));
        }
        new.break_connection();
        let other_host = matches!(row.wrong, Wrong::Connection(Connection::NoSuchHost));
        if other_host {
            new.stop();
        }
        if call == Acknowledge {
            new.acknowledge();
        } else {
            new.analyze();
        }
        if other_host {
            new.start();
        }
        new
    }

    fn break_connection(&mut self) {
        let Wrong::Connection(connection) = self.row.wrong else {
            return;
        };
        match connection {
            Connection::Refused => self.pro.server.shutdown_listener(),
            Connection::NoSuchHost => self.pro.set("KUBE9_SERVER_URL", NOWHERE),
            Connection::Tls(tls) => self.pro.server.change(|options| options.tls = tls),
            Connection::HangsInTls => {
                let hang = FaultAction::SlowTls(Duration::from_secs(600));
                self.pro.server.script(Fault::new(hang));
            }
        }
    }

    /// What a client sees, and goes on seeing.
    fn state(&self) -> String {
        let expected = self.row.expected[CALLS.iter().position(|call| *call == self.call).unwrap()];
        let since = Instant::now();
        loop {
            let seen = label(&self.pro.status().unwrap_or_default());
            if seen != expected {
                if since.elapsed() > Duration::from_secs(60) {
                    return seen;
                }
                thread::sleep(Duration::from_millis(50));
                continue;
            }
            let next = label(&self.pro.wait_for_beat());
            if next == expected {
                return seen;
            }
        }
    }

    /// What becomes of the analysis.
    fn analysis(&self, expected: &str) -> String {
        // Without Pro no analyses are shown; that this one was not lost is seen later.
        if self.row.way == WithAnotherKey && self.row.name == "401" {
            return expected.to_owned();
        }
        let since = Instant::now();
        loop {
            let list = self.pro.ask(&["analyses", "list"]);
            let analysis = &list["analyses"][0];
            let words = [&analysis["state"], &analysis["reason"]]
                .map(|word| word.as_str().unwrap_or_default());
            let seen = words.join("/").trim_end_matches('/').to_owned();
            if seen == expected || since.elapsed() > Duration::from_secs(60) {
                return seen;
            }
            thread::sleep(Duration::from_millis(50));
        }
    }

    fn run(&mut self) -> Seen {
        let state = self.state();
        let at = CALLS.iter().position(|call| *call == self.call).unwrap();
        let expected = self.row.expected[at];
        let analysis = (self.call == Analyze).then(|| self.analysis(self.row.expected[6]));
        let mut problem = None;
        if state != expected {
            problem = Some(format!("a client sees {state}, not {expected}"));
        } else if let Some(analysis) = &analysis
            && analysis != self.row.expected[6]
        {
            problem = Some(format!("the analysis is {analysis}"));
        }
        if problem.is_none() {
            let outcome = catch_unwind(AssertUnwindSafe(|| self.come_out()));
            problem = outcome.err().map(|panic| text_of(&*panic));
        }
        if let Some(problem) = &problem {
            eprintln!(
                "--- {}, {}: {problem}\n{}",
                self.row.name,
                self.call.as_str(),
                self.agent.log()
            );
        }
        Seen {
            state,
            analysis,
            problem,
        }
    }

    /// Takes the fault away, and looks whether everything is as it should be then.
    fn come_out(&mut self) {
        let lied = self.lies();
        // In every other cell something is asked for while the fault lasts.
        if !matches!(self.call, Analyze | Acknowledge) {
            self.analyze();
        }
        let mut accepted = self.is_asked_for();
        self.assert_patient();
        self.take_fault_away();
        self.pro.wait_for_health("healthy");
        self.pro.wait_for_sync(None);
        // An insight that was told only now.
        wait_for("the insight", || {
            let list = self.pro.ask(&["insights", "list", "--state=all"]);
            (list["pagination"]["total"] == 1).then_some(())
        });
        let server = &self.pro.server;
        if self.call == Analyze && lied {
            // The server said that it has it, and has it not.
            accepted = false;
        }
        if !accepted {
            assert_eq!(server.analyses(), []);
            self.analyze();
        }
        let analyses = wait_for("the analysis", || {
            Some(server.analyses()).filter(|them| !them.is_empty())
        });
        assert_eq!(analyses.len(), 1, "{analyses:?}");
        if self.call == Acknowledge && (lied || self.is_final()) {
            assert_eq!(server.acknowledgements(), []);
        } else {
            // Twice is as good as once.
            self.acknowledge();
            let told = wait_for("the acknowledgement", || {
                Some(server.acknowledgements()).filter(|them| !them.is_empty())
            });
            assert_eq!(told.len(), 1, "{told:?}");
        }
        self.assert_pushes(lied);
        self.assert_fresh();
        self.pro.assert_well_behaved(&self.agent);
        let (status, _) = self.agent.stop();
        assert!(status.success(), "{status}");
        self.said.borrow_mut().push(self.agent.stdout());
        for said in &*self.said.borrow() {
            assert!(!said.contains(KEY), "the key is in {said}");
        }
    }

    /// Whether the server says yes to what it did not do.
    fn lies(&self) -> bool {
        let lie = [
            "endless body",
            "more than 4 MiB",
            "garbage",
            "wrong shape",
            "empty body",
        ];
        lie.contains(&self.row.name)
    }

    fn is_final(&self) -> bool {
        self.row.way == NextCycle && self.row.name != "301"
    }

    fn take_fault_away(&mut self) {
        self.pro.server.clear_faults();
        self.pro.server.change(|options| options.tls = Tls::On);
        if let Wrong::Connection(connection) = self.row.wrong {
            match connection {
                Connection::Refused => self.pro.server.restart().unwrap(),
                Connection::NoSuchHost => {
                    self.pro.set("KUBE9_SERVER_URL", &self.pro.server.url());
                    self.stop();
                    // For the calls that were put off to get there.
                    self.pro.set_key(&format!("{KEY}-2"));
                    self.start();
                }
                Connection::Tls(_) | Connection::HangsInTls => {}
            }
        }
        let rejected = self.is_final() && matches!(self.call, Acknowledge | Analyze);
        match self.row.way {
            WithAnotherKey => self.pro.set_key(&format!("{KEY}-2")),
            NextCycle if !rejected && label(&self.pro.status().unwrap()) != "ok" => {
                self.stop();
                self.start();
            }
            NextCycle if !rejected => self.let_an_hour_go_by(),
            _ => {}
        }
    }

    /// What is not to be tried again was not, and the rest not too soon.
    fn assert_patient(&self) {
        let asked = self.pro.requests(self.call);
        if self.row.way != ByItself {
            // Too large a push is tried once more with less in it.
            let most = 1 + usize::from(self.row.name == "413" && self.call == Push);
            assert_eq!(asked.len(), most, "how often it was tried");
        }
        let [first, second, ..] = asked.as_slice() else {
            return;
        };
        let not_before = match self.row.name {
            "429 for 2 s" => first.at + Duration::from_secs(2),
            // The date has no fractions; and it may have been over before anybody was told.
            "429 until a date" if first.at < self.begun + DATE => {
                self.begun + DATE - Duration::from_secs(1)
            }
            _ => return,
        };
        assert!(
            second.at >= not_before,
            "{:?} too soon",
            not_before.duration_since(second.at)
        );
    }

    /// What was put off to the next cycle is due.
    fn let_an_hour_go_by(&self) {
        let database = rusqlite::Connection::open(self.pro.db()).unwrap();
        database.busy_timeout(Duration::from_secs(30)).unwrap();
        for table in ["acknowledgement", "analysis"] {
            let update = format!("UPDATE {table} SET not_before = not_before - 3600000");
            database.execute(&update, []).unwrap();
        }
    }

    /// One push a cycle. Only where the server took one and did not say so is it pushed again.
    fn assert_pushes(&self, lied: bool) {
        if self.call == Push && ["answer lost", "drip from the header on"].contains(&self.row.name)
        {
            return;
        }
        let behind_push = !matches!(self.call, Register | Push);
        let new_cycle = match self.row.way {
            WithAnotherKey => true,
            NextCycle => matches!(self.call, Insights | Quota),
            ByItself => false,
        } || self.row.name == "no such host"
            && matches!(self.call, Acknowledge | Analyze);
        let expected = if self.call == Push && lied {
            0
        } else if self.row.name == "no such host" && matches!(self.call, Insights | Quota) {
            1
        } else {
            1 + u64::from(behind_push && new_cycle)
        };
        assert_eq!(self.pro.server.pushes(), expected, "pushes");
    }

    fn assert_fresh(&self) {
        let statuses = self.pro.statuses();
        let mut next = SystemTime::now();
        for (at, _) in statuses.iter().rev() {
            let age = next.duration_since(*at).unwrap_or_default();
            assert!(age < FRESH, "a status was {age:?} old");
            next = *at;
        }
    }

    /// Whether there is an analysis that was not refused.
    fn is_asked_for(&self) -> bool {
        let output = self.pro.run(&["query", "analyses", "list"]);
        if output.status.code() == Some(4) {
            return self.call == Analyze;
        }
        let list: Value = serde_json::from_slice(&output.stdout).unwrap();
        let analysis = &list["analyses"][0];
        !analysis.is_null() && analysis["state"] != "failed"
    }

    fn acknowledge(&self) {
        self.command(&["query", "insights", "ack", "ins_1"]);
    }

    fn analyze(&self) {
        self.command(&["query", "analyze", "deployment/api", "-n", "api"]);
    }

    /// Runs a command as users do; it may fail, but not show the key.
    fn command(&self, arguments: &[&str]) {
        let output = self.pro.run(arguments);
        for stream in [&output.stdout, &output.stderr] {
            self.said
                .borrow_mut()
                .push(String::from_utf8(stream.clone()).unwrap());
        }
        assert!(
            output.status.code().is_some_and(|code| code < 5),
            "{output:?}"
        );
    }

    fn stop(&mut self) {
        let (status, _) = self.agent.stop();
        assert!(status.success(), "{status}");
        self.said.borrow_mut().push(self.agent.log());
        self.said.borrow_mut().push(self.agent.stdout());
    }

    fn start(&mut self) {
        self.agent = self.pro.start(&[]);
    }
}

/// The state of the contract's table that a status is in; the whole status when it is in none.
fn label(status: &Value) -> String {
    let error = status["error"].as_str();
    let seen = (
        status["mode"].as_str().unwrap_or_default(),
        status["tier"].as_str().unwrap_or_default(),
        status["registered"] == true,
        status["health"].as_str().unwrap_or_default(),
    );
    let begins = |begin: &str| error.is_some_and(|error| error.starts_with(begin));
    let told = [
        ("kube9-server unreachable: ", "unreachable"),
        ("kube9-server refused ", "refused"),
        ("kube9-server does not accept ", "not accepted"),
        ("too large for kube9-server: ", "not accepted"),
        ("not registered with kube9-server yet", "not yet"),
        ("API key invalid", "API key invalid"),
    ];
    let told = told
        .into_iter()
        .find(|(begin, _)| begins(begin))
        .map(|(_, name)| name);
    let why_not = [
        "not registered with kube9-server yet; kube9-server does not accept register: answered ",
        "not registered with kube9-server yet; too large for kube9-server: register: answered ",
    ];
    let told = if why_not.into_iter().any(begins) {
        Some("and why not")
    } else {
        told
    };
    match (seen, told) {
        (("enabled", "pro", true, "healthy"), None) if error.is_none() => "ok".to_owned(),
        (("enabled", "pro", true, "degraded"), Some(told)) => format!("degraded/{told}"),
        (("enabled", "pro", false, "degraded"), Some(told)) => format!("unregistered/{told}"),
        (("operated", "free", false, "degraded"), Some(told)) => format!("free/{told}"),
        _ => format!("{seen:?} {error:?}"),
    }
}

fn text_of(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
        .unwrap_or_default()
}

fn see(row: &Row, call: Call) -> Seen {
    let seen = catch_unwind(|| Cell::new(row, call).run());
    seen.unwrap_or_else(|panic| Seen {
        state: "-".to_owned(),
        analysis: None,
        problem: Some(text_of(&*panic)),
    })
}

#[test]
fn every_answer_to_every_call() {
    let since = Instant::now();
    let rows = rows();
    // `KUBE9_ANSWERS=drip,429/push` is for looking at some of the cells.
    let wanted = std::env::var("KUBE9_ANSWERS").unwrap_or_default();
    let is_wanted = |name: &str, call: Call| {
        let cell = format!("{name}/{}", call.as_str());
        wanted.split(',').any(|part| cell.contains(part))
    };
    let cells = rows
        .iter()
        .enumerate()
        .flat_map(|(at, row)| CALLS.map(|call| (at, row, call)));
    let cells: VecDeque<_> = cells
        .filter(|(_, row, call)| is_wanted(row.name, *call))
        .collect();
    let (left, seen) = (Mutex::new(cells), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                loop {
                    let next = left.lock().unwrap().pop_front();
                    let Some((at, row, call)) = next else { break };
                    let outcome = see(row, call);
                    seen.lock().unwrap().push((at, call, outcome));
                }
            });
        }
    });
    let seen = seen.into_inner().unwrap();
    assert!(!seen.is_empty(), "no cell is called {wanted}");
    let mut problems = Vec::new();
    let head = CALLS.map(|call| format!("{:<25}", call.as_str())).concat();
    println!("{:<24}{head}the analysis", "");
    for (at, row) in rows.iter().enumerate() {
        if !seen.iter().any(|(row, _, _)| *row == at) {
            continue;
        }
        print!("{:<24}", row.name);
        let mut analysis = String::new();
        for call in CALLS {
            let cell = seen.iter().find(|(row, of, _)| *row == at && *of == call);
            let Some((_, _, cell)) = cell else {
                print!("{:<25}", "");
                continue;
            };
            print!("{:<25}", cell.state);
            analysis.extend(cell.analysis.clone());
            if let Some(problem) = &cell.problem {
                problems.push(format!("{}, {}: {problem}", row.name, call.as_str()));
            }
        }
        println!("{analysis}");
    }
    println!("{} cells in {:?}", seen.len(), since.elapsed());
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}
