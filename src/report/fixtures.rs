//! Runs as events, for tests of all reports.

use crate::event::{
    CheckRef, CheckResult, ControlReport, ControlRole, Coverage, EnvironmentInfo, Expected,
    FlowOutcome, FlowReport, Latency, NEW_CONNECTIONS_ONLY, Outcome, PolicyState, Reach, Reason,
    ReasonText, RequiredTier, RunEvent, RunInfo, SentAs, SettingsReport, Spread, SuiteRef, Summary,
    Touched, Transport, WindowReport,
};
use crate::model::{Family, PolicyRef};
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

/// A text by which a target could try to falsify a report.
pub(super) const HOSTILE: &str = "pwned\x1b[2J\x1b]0;title\x07\x1b[32m proven\0\u{9b}1A\u{202e}nevorp\u{2066}]]></failure><testcase name=\"x\"/>&amp;\r\n::error::x\u{fffe}";

/// A writer, and a handle to the text that is written to it.
pub(super) fn pipe() -> (Pipe, Pipe) {
    let pipe = Pipe::default();
    (pipe.clone(), pipe)
}

#[derive(Clone, Default)]
pub(super) struct Pipe(Arc<Mutex<Vec<u8>>>);

impl Pipe {
    pub(super) fn text(&self) -> String {
        String::from_utf8(
            self.0
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone(),
        )
        .unwrap()
    }
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A device without free space.
pub(super) struct Full;

impl Write for Full {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::Error::from(io::ErrorKind::StorageFull))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn run(ended: bool, complete: bool) -> RunInfo {
    RunInfo {
        id: "0123456789abcdef".into(),
        started_at: "2026-11-22T10:00:00Z".parse().unwrap(),
        ended_at: if ended {
            Some("2026-11-22T10:00:04.2Z".parse().unwrap())
        } else {
            None
        },
        complete,
        incomplete_because: if ended && !complete {
            Some("interrupted".into())
        } else {
            None
        },
        backend: "lab".into(),
        version: "0.1.0".into(),
        digest: Some("01".repeat(32)),
        probe_digest: Some("23".repeat(32)),
        probe_images: Vec::new(),
        settings: [
            ("hold".to_owned(), 5_000.into()),
            ("only".to_owned(), serde_json::Value::Null),
        ]
        .into_iter()
        .collect(),
        limits: vec![NEW_CONNECTIONS_ONLY.to_owned()],
    }
}

fn suite(name: &str) -> SuiteRef {
    SuiteRef {
        name: name.into(),
        file: format!("{name}.yaml"),
        sha256: "ab".repeat(32),
    }
}

pub(super) fn check(
    number: usize,
    suite: &str,
    line: u32,
    source: &str,
    target: &str,
    expected: Expected,
) -> CheckRef {
    CheckRef {
        id: format!("{number:012x}"),
        name: format!("{source} -> {target} {expected}"),
        suite: suite.into(),
        file: format!("{suite}.yaml"),
        line,
        column: 7,
        text: format!("{source} -> {target} {expected}"),
        because: None,
        tags: Vec::new(),
        source: source.into(),
        target: target.into(),
        expected,
        predicted: None,
        contradiction: None,
        unprovable: None,
        settings: SettingsReport {
            settle_ms: 0,
            hold_ms: 2_000,
            timeout_ms: 10_000,
            attempt_timeout_ms: 1_300,
            attempts: 6,
            tier: match expected {
                Expected::Allowed => RequiredTier::A2,
                Expected::Denied => RequiredTier::D2,
            },
            mechanism: None,
            startup_isolated: false,
            established: false,
            spread: Spread::Nodes,
            status: Vec::new(),
        },
    }
}

fn flow(
    source: &str,
    target: &str,
    address: &str,
    verdict: FlowOutcome,
    text: &str,
    opened: u32,
) -> FlowReport {
    FlowReport {
        flow: 7,
        probe: 2,
        source: source.into(),
        sent_as: SentAs::Pod,
        target: target.into(),
        family: Family::V4,
        address: address.into(),
        transport: Transport::Tcp,
        request: "a nonce".into(),
        predicted: None,
        verdict,
        text: text.into(),
        attempts: 12,
        opened,
        restarts: 0,
        window: None,
        target_control: None,
        source_control: None,
        path_control: None,
        same_node_control: None,
        weaker: Vec::new(),
        counter: None,
        answered_by: Vec::new(),
    }
}

/// A proven result of a check.
pub(super) fn proven(check: &CheckRef) -> CheckResult {
    let reach = Reach {
        source_nodes: 2,
        of_source_nodes: 2,
        target_pods: 1,
        of_target_pods: 1,
        ..Reach::default()
    };
    let mut result = CheckResult {
        check: check.clone(),
        verdict: Outcome::Proven,
        tier: Some("A2".into()),
        reach: Some(reach),
        power_percent: None,
        reason: None,
        seen: "12 of 12 attempts got through".into(),
        unpredicted: None,
        contrast: None,
        next_step: None,
        mechanism: None,
        delay_ms: Some(340),
        latency: Some(Latency {
            median_ms: 0.4,
            p95_ms: 1.25,
        }),
        startup_leak_ms: None,
        attempts: 12,
        opened: 12,
        flows: vec![flow(
            "shop/web-6d4f-x2 (node-1)",
            "shop/api-0 on node-2",
            "10.0.2.4:8080",
            FlowOutcome::Proven,
            "12 of 12 attempts got through, up after 340ms",
            12,
        )],
        controls: Vec::new(),
    };
    match check.expected {
        Expected::Allowed => {}
        Expected::Denied => {
            result.tier = Some("D2+counter".into());
            result.power_percent = Some(22);
            result.seen = "12 attempts, all blocked".into();
            result.contrast = Some("shop/api-0 (node-2) got through in the same window".into());
            result.mechanism = Some("drop".into());
            result.delay_ms = None;
            result.opened = 0;
            let mut blocked = flow(
                "shop/payments-0 (node-1)",
                "data/postgres-0 on node-2",
                "10.0.2.7:5432",
                FlowOutcome::Proven,
                "12 attempts blocked: silence",
                0,
            );
            blocked.window = Some(WindowReport {
                from_ms: 400,
                to_ms: 3500,
                attempts: 12,
            });
            blocked.target_control =
                Some("shop/api-0 (node-2) got through, 9 times in a row".into());
            blocked.counter = Some("24 packets counted by data/postgres".into());
            result.flows = vec![blocked];
            result.controls = vec![ControlReport {
                role: ControlRole::Target,
                used: true,
                flow: 9,
                probe: 3,
                source: "shop/api-0 (node-2)".into(),
                target: "data/postgres-0 on node-2".into(),
                address: "10.0.2.7:5432".into(),
                transport: Transport::Tcp,
                attempts: 9,
                opened: 9,
            }];
        }
    }
    result
}

/// A violated result of a check.
pub(super) fn violated(check: &CheckRef) -> CheckResult {
    let mut result = proven(check);
    result.verdict = Outcome::Violated;
    result.tier = None;
    result.power_percent = None;
    result.mechanism = None;
    result.seen = "shop/web-6d4f-x2 (node-1) reached data/postgres-0:5432 (node-2): 12 of 12 attempts opened, answered by postgres-0".into();
    result.contrast =
        Some("shop/payments-0 (node-1) was stopped at the same address and port".into());
    result.next_step = Some("find the policy that should stop this flow: it does not select the target (or the source), or another one admits it".into());
    result.opened = 12;
    result.flows = vec![
        leak("shop/web-6d4f-x2 (node-1)"),
        leak("shop/web-6d4f-b7 (node-2)"),
    ];
    result
}

fn leak(pod: &str) -> FlowReport {
    let mut leak = flow(
        pod,
        "data/postgres-0 on node-2",
        "10.0.2.7:5432",
        FlowOutcome::Violated,
        "12 of 12 attempts opened",
        12,
    );
    leak.answered_by = vec!["postgres-0".into()];
    leak
}

/// An unproven result of a check.
pub(super) fn unproven(check: &CheckRef) -> CheckResult {
    let mut result = proven(check);
    result.verdict = Outcome::Unproven;
    result.tier = None;
    result.power_percent = None;
    result.mechanism = None;
    result.contrast = None;
    result.reason = Some(ReasonText {
        code: Reason::NoControlAnswered,
        text: "no control got an answer from 169.254.169.254:80".into(),
    });
    result.seen = "shop/api-0 (node-2) -> metadata:80: 12 of 12 attempts blocked, 0 opened".into();
    result.next_step =
        Some("check that the target listens on that port: no control got an answer from it".into());
    result.flows = vec![flow(
        "shop/api-0 (node-2)",
        "metadata",
        "169.254.169.254:80",
        FlowOutcome::Unproven,
        "no-control-answered: no control got an answer from 169.254.169.254:80",
        0,
    )];
    result
}

/// A policy with this name.
pub(super) fn policy(name: &str) -> PolicyState {
    PolicyState {
        policy: PolicyRef::network("data", name),
        uid: None,
        resource_version: None,
        sha256: "cd".repeat(32),
    }
}

/// The events of a run with these results.
pub(super) fn events(
    suites: Vec<SuiteRef>,
    results: Vec<CheckResult>,
    complete: bool,
) -> Vec<RunEvent> {
    let checks: Vec<CheckRef> = results.iter().map(|result| result.check.clone()).collect();
    let policies = vec![policy("postgres")];
    let environment = Some(EnvironmentInfo {
        policies: policies.clone(),
        ..EnvironmentInfo::default()
    });
    let mut events = vec![RunEvent::Started {
        run: run(false, false),
        environment,
        suites,
        checks,
        coverage: None,
    }];
    events.extend(results.iter().map(|result| RunEvent::Settled {
        result: Box::new(result.clone()),
    }));
    events.push(RunEvent::Progress {
        settled: results.len(),
        total: results.len(),
        elapsed_ms: 4_000,
        floor_ms: 3_000,
    });
    let summary = Summary::of(&results, complete);
    events.push(RunEvent::Finished {
        run: run(true, complete),
        results,
        summary,
        policies_after: Some(policies),
    });
    events
}

fn shop_check(
    number: usize,
    line: u32,
    source: &str,
    target: &str,
    expected: Expected,
) -> CheckRef {
    check(number, "shop", line, source, target, expected)
}

fn shop_results() -> Vec<CheckResult> {
    use Expected::{Allowed, Denied};
    let mut leaking = shop_check(3, 16, "web-tier", "postgres:5432", Denied);
    leaking.text = "- check: web-tier -> postgres denied".into();
    leaking.because = Some("only the API may touch the data".into());
    leaking.tags = vec!["pci".into()];
    let mut narrow = proven(&shop_check(4, 17, "payments", "postgres:5432", Denied));
    narrow.reach = Some(Reach {
        source_nodes: 2,
        of_source_nodes: 9,
        target_pods: 1,
        of_target_pods: 1,
        ..Reach::default()
    });
    let mut outside = proven(&shop_check(5, 18, "api", "https://payment/health", Allowed));
    outside.reach = Some(Reach {
        source_nodes: 1,
        of_source_nodes: 1,
        target_pods: 0,
        of_target_pods: 0,
        ..Reach::default()
    });
    vec![
        proven(&shop_check(0, 14, "web-tier", "api:8080", Allowed)),
        proven(&shop_check(1, 14, "web-tier", "api:8443", Allowed)),
        proven(&shop_check(2, 15, "api", "postgres:5432", Allowed)),
        violated(&leaking),
        narrow,
        outside,
        unproven(&shop_check(6, 19, "api", "metadata:80", Denied)),
    ]
}

/// A run with all three outcomes.
pub(super) fn shop() -> Vec<RunEvent> {
    events(vec![suite("shop")], shop_results(), true)
}

/// The same run, with only its proven checks.
pub(super) fn all_proven() -> Vec<RunEvent> {
    let results = shop_results()
        .into_iter()
        .filter(|result| result.verdict == Outcome::Proven)
        .collect();
    events(vec![suite("shop")], results, true)
}

/// The same run, interrupted after its first two checks: the others have no result.
pub(super) fn interrupted() -> Vec<RunEvent> {
    let mut results = shop_results();
    for result in results.iter_mut().skip(2) {
        *result = super::wording::unfinished(&result.check);
    }
    events(vec![suite("shop")], results, false)
}

/// A run with a port that was swept because a range names it, and found open: a violation of no
/// check of the plan.
pub(super) fn swept() -> Vec<RunEvent> {
    let mut events = all_proven();
    let found = violated(&check(
        99,
        "shop",
        20,
        "web-tier",
        "postgres:6000",
        Expected::Denied,
    ));
    if let Some(RunEvent::Finished {
        results, summary, ..
    }) = events.last_mut()
    {
        results.push(found);
        *summary = Summary::of(results, true);
    }
    events
}

/// A run of a suite that leaves policies, pairs and nodes untouched.
pub(super) fn covered() -> Vec<RunEvent> {
    let mut events = all_proven();
    if let Some(RunEvent::Started { coverage, .. }) = events.first_mut() {
        *coverage = Some(Box::new(Coverage {
            policies: touched(1, &["NetworkPolicy data/backup for Ingress"]),
            rules: touched(2, &[]),
            pairs: touched(5, &["api -> web-tier"]),
            pods: touched(4, &[]),
            nodes: touched(1, &["node-2"]),
        }));
    }
    events
}

fn touched(touched: usize, left: &[&str]) -> Touched {
    Touched {
        all: touched + left.len(),
        touched,
        left: left.iter().map(|&name| name.to_owned()).collect(),
    }
}

/// A run for which nothing was selected.
pub(super) fn empty() -> Vec<RunEvent> {
    events(vec![suite("shop")], Vec::new(), true)
}

/// A run in which every text that could come from a network or a file is hostile.
pub(super) fn hostile() -> Vec<RunEvent> {
    let mut results = vec![
        violated(&check(0, "shop", 14, "a", "b:1", Expected::Denied)),
        unproven(&check(1, "shop", 15, "a", "c:1", Expected::Denied)),
    ];
    results.iter_mut().for_each(make_hostile);
    if let Some(reason) = &mut results[1].reason {
        reason.text = HOSTILE.into();
    }
    let mut events = events(vec![suite("shop")], results, true);
    events.insert(
        1,
        RunEvent::Note {
            text: HOSTILE.into(),
        },
    );
    events
}

fn make_hostile(result: &mut CheckResult) {
    let check = &mut result.check;
    for text in [
        &mut check.name,
        &mut check.text,
        &mut check.file,
        &mut check.source,
        &mut check.target,
        &mut result.seen,
    ] {
        *text = HOSTILE.into();
    }
    check.name.push_str(&check.id);
    check.because = Some(HOSTILE.into());
    check.tags = vec![HOSTILE.into()];
    result.contrast = Some(HOSTILE.into());
    result.next_step = Some(HOSTILE.into());
    for control in &mut result.controls {
        control.source = HOSTILE.into();
        control.target = HOSTILE.into();
    }
    for flow in &mut result.flows {
        for text in [&mut flow.source, &mut flow.target, &mut flow.text] {
            *text = HOSTILE.into();
        }
        flow.target_control = Some(HOSTILE.into());
        flow.answered_by = vec![HOSTILE.into()];
    }
}

/// A run with `n` checks, a hundred of each source; every hundredth is violated.
pub(super) fn many(n: usize) -> Vec<RunEvent> {
    let results = (0..n).map(numbered_result).collect();
    events(vec![suite("many")], results, true)
}

fn numbered_result(number: usize) -> CheckResult {
    let check = check(
        number,
        "many",
        number as u32 + 1,
        &format!("source-{}", number / 100),
        &format!("target-{}:443", number % 100),
        Expected::Denied,
    );
    if number % 100 == 7 {
        violated(&check)
    } else {
        proven(&check)
    }
}
