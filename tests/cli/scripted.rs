//! Every reason, tier and kind of violation, from a suite to all reports and the exit code: on the
//! scripted backend.
//!
//! What a script says the network does is no evidence that a network does it; the sabotage tests
//! cause the same with real packets.

use crate::one_model::{agreed, validates};
use crate::support::*;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeSet;
use watertight::verdict::Reason;

/// A world of three: web-0 on one node, api-0 on the other, db-0 on the node of web-0.
const ENDPOINTS: &str = "  endpoints:
    web: { namespace: shop, workload: Deployment/web }
    api: { namespace: shop, workload: Deployment/api }
    db:  { namespace: shop, workload: Deployment/db }
    bank: { host: bank.example }
    missing: { namespace: shop, workload: Deployment/missing }
";

/// A policy that tells addresses outside apart.
const ADDRESSES: &str = "tests/cli/addresses.yaml";

const ALLOWED: &str = "web -> api:8080 allowed";
const DENIED: &str = "api -> web:8080 denied";

/// The flow of [`DENIED`], blocked.
const BLOCKED: &str =
    "  - { from: 'shop/api*', to: 'shop/web-0:8080', observes: [{ outcome: silence }] }\n";

/// A case of `scripted.yaml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    #[serde(default)]
    settings: serde_json::Map<String, Value>,
    expect: Vec<Value>,
    script: Value,
    verdict: Expectation,
}

/// The verdict of the first line.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Expectation {
    /// With this tier.
    Proven(String),
    /// With this text in the evidence.
    Violated(String),
    /// With this reason code.
    Unproven(String),
}

fn cases() -> Vec<Case> {
    let text = std::fs::read_to_string("tests/cli/scripted.yaml").unwrap();
    let mut document: Value = serde_saphyr::from_str(&text).unwrap();
    serde_json::from_value(document["cases"].take()).unwrap()
}

/// A suite of these settings and lines, each a YAML value.
fn suite(settings: &str, expect: &[impl std::fmt::Display]) -> String {
    let lines: String = expect
        .iter()
        .map(|line| format!("    - {line}\n"))
        .collect();
    format!(
        "apiVersion: watertight.dev/v1\nkind: Suite\nmetadata: {{ name: scripted }}\nspec:\n{ENDPOINTS}  settings: {settings}\n  expect:\n{lines}"
    )
}

fn run(case: &Case) -> (Ran, Value) {
    let files = Files::new();

    // JSON is YAML.
    let settings = Value::from(case.settings.clone()).to_string();
    let suite = files.with("suite.yaml", suite(&settings, &case.expect));
    let script = files.with("script.yaml", case.script.to_string());
    agreed(&[
        "run",
        &suite,
        "--lab",
        WORLD,
        ADDRESSES,
        "--scripted",
        &script,
    ])
}

fn assert_verdict(case: &Case) {
    let (ran, report) = run(case);
    let check = &report["checks"][0];
    let name = &case.name;
    match &case.verdict {
        Expectation::Proven(tier) => {
            assert_eq!(
                (&check["verdict"], &check["tier"]),
                (&"proven".into(), &tier.as_str().into()),
                "{name}: {check:#}"
            );
        }
        Expectation::Violated(evidence) => {
            assert_eq!(check["verdict"], "violated", "{name}: {check:#}");
            assert!(
                check["seen"].as_str().unwrap().contains(evidence),
                "{name}: {check:#}"
            );
            assert!(ran.out.contains("= next"), "{name}: {}", ran.out);
        }
        Expectation::Unproven(code) => assert_unproven(name, check, reason(code), &ran.out),
    }
}

fn assert_unproven(name: &str, check: &Value, reason: Reason, console: &str) {
    assert_eq!(check["verdict"], "unproven", "{name}: {check:#}");
    assert_eq!(check["reason"]["code"], reason.code(), "{name}: {check:#}");
    assert!(
        !check["reason"]["text"].as_str().unwrap().is_empty(),
        "{name}"
    );
    assert_eq!(check["nextStep"], reason.remedy(), "{name}");

    // The console shows the next step too, however it is broken into lines.
    assert!(
        one_line(console).contains(&one_line(reason.remedy())),
        "{name}: {console}"
    );
    assert!(
        console.contains(&format!("({})", reason.code())),
        "{name}: {console}"
    );
}

/// A text with every break and indentation as one space.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn reason(code: &str) -> Reason {
    let reason = Reason::ALL.iter().find(|reason| reason.code() == code);
    *reason.unwrap_or_else(|| panic!("{code} is no reason code"))
}

#[test]
fn every_case_has_its_verdict_in_every_report() {
    let failures: Vec<String> = cases()
        .iter()
        .filter_map(|case| {
            let failure = std::panic::catch_unwind(|| assert_verdict(case)).err()?;
            let why = failure
                .downcast_ref::<String>()
                .cloned()
                .unwrap_or_default();
            Some(format!("{}: {why}", case.name))
        })
        .collect();
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

#[test]
fn every_reason_has_a_case() {
    let mut covered: BTreeSet<Reason> = cases()
        .iter()
        .filter_map(|case| match &case.verdict {
            Expectation::Unproven(code) => Some(reason(code)),
            Expectation::Proven(_) | Expectation::Violated(_) => None,
        })
        .collect();
    // `agreed` runs to the end; an interrupted run has its own test.
    covered.insert(Reason::NotFinished);
    // Planning finds these, whatever is observed: tests/rules and tests/sabotage have them.
    covered.extend([Reason::IncompleteReach, Reason::PoliciesAdmitMore]);

    let missing: Vec<&Reason> = Reason::ALL
        .iter()
        .filter(|reason| !covered.contains(reason))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
}

/// Two machines whose clocks differ and drift, and whose lines arrive late, give the verdicts of
/// one machine.
#[test]
fn clocks_of_other_machines_change_no_verdict() {
    const CLOCKS: [&str; 4] = [
        "{ boot: other }",
        "{ from: 'shop/*', boot: other, wallClockOffsetMs: 300, lineDelay: 80ms }",
        "{ from: 'node*', boot: other, wallClockOffsetMs: -400, lineDelay: 20ms }",
        "{ from: 'shop/*', boot: other, clockRate: 1.0005, lineDelay: 200ms }",
    ];

    for clock in CLOCKS {
        let blocked = format!("flows:\n{BLOCKED}");
        for (flows, verdict) in [(blocked.as_str(), "proven"), ("flows: []\n", "violated")] {
            let files = Files::new();
            let suite = files.with(
                "suite.yaml",
                suite("{ hold: 4s, timeout: 20s }", &[DENIED, ALLOWED]),
            );
            let script = files.with("script.yaml", format!("{flows}probes: [{clock}]\n"));
            let (_, report) = agreed(&["run", &suite, "--lab", WORLD, "--scripted", &script]);
            let verdicts: Vec<&Value> = report["checks"]
                .as_array()
                .unwrap()
                .iter()
                .map(|check| &check["verdict"])
                .collect();
            assert_eq!(
                verdicts,
                [verdict, "proven"],
                "{clock}: {:#}",
                report["checks"]
            );
        }
    }
}

#[test]
fn an_interrupted_run_names_the_unfinished_checks() {
    let files = Files::new();
    let suite = files.with("suite.yaml", suite("{}", &[DENIED, ALLOWED]));
    let text =
        format!("flows:\n{BLOCKED}interrupted: {{ at: 1500ms, because: interrupted (SIGINT) }}\n");
    let script = files.with("script.yaml", text);
    let mut command = watertight(["run", &suite, "--lab", WORLD, "--scripted", &script]);
    let ran = ran(command
        .arg("--report")
        .arg(format!("json={}", files.name("r.json"))));
    ran.ends(5);
    assert!(
        ran.out
            .contains("INCOMPLETE: interrupted (SIGINT); 1 of 2 checks not finished"),
        "{}",
        ran.out
    );

    let report = json(&files.path("r.json"));
    validates(&report);
    assert_eq!(
        (&report["run"]["complete"], &report["run"]["exitCode"]),
        (&false.into(), &5.into())
    );
    assert_eq!(report["checks"][0]["reason"]["code"], "not-finished");
    assert_eq!(report["checks"][1]["verdict"], "proven");
}

/// Runs a suite against a script; gives the JSON report, which is valid.
fn run_script(files: &Files, suite: &str, script: &str) -> (Ran, Value) {
    let script = files.with("script.yaml", script);
    let call = [
        "run",
        suite,
        "--lab",
        WORLD,
        "--scripted",
        &script,
        "-o",
        "json",
    ];

    let ran = ran(&mut watertight(call));
    let report: Value = serde_json::from_str(&ran.out).unwrap();
    validates(&report);
    (ran, report)
}

/// While the watch has a gap nothing is settled: a success that ended may have been the effect of a
/// policy that was created and deleted unseen.
#[test]
fn nothing_is_settled_during_a_watch_gap_but_after_it() {
    let files = Files::new();
    let suite = files.with("suite.yaml", suite("{}", &[DENIED, ALLOWED]));

    let (ran, report) = run_script(&files, &suite, &script_with_gap("from: 100ms"));
    ran.ends(5);
    let reason = "changes of pods could no longer be seen: no answer";
    assert_eq!(report["run"]["incompleteBecause"], reason);
    for check in report["checks"].as_array().unwrap() {
        assert_eq!(check["reason"]["code"], "not-finished", "{check:#}");
        assert!(
            check["reason"]["text"].as_str().unwrap().contains(reason),
            "{check:#}"
        );
    }

    let (ran, report) = run_script(&files, &suite, &script_with_gap("from: 100ms, to: 30s"));
    ran.ends(0);
    assert_eq!(report["run"]["complete"], true);
}

fn script_with_gap(period: &str) -> String {
    format!("flows:\n{BLOCKED}watchGap: {{ {period}, because: no answer }}\n")
}

#[test]
fn refusals_and_leftovers_of_the_backend_are_reported() {
    let files = Files::new();
    let suite = files.with("suite.yaml", suite("{}", &[ALLOWED]));
    let (ran, report) = run_script(&files, &suite, "launchError: no quota left");
    ran.ends(5).complains("no quota left");
    assert_eq!(report["run"]["exitCode"], 5);
    assert!(
        report["run"]["incompleteBecause"]
            .as_str()
            .unwrap()
            .contains("no quota left"),
        "{report:#}"
    );

    let (ran, report) = run_script(&files, &suite, "leftovers: [pod shop/probe-0 is stuck]");
    ran.ends(0).complains("pod shop/probe-0 is stuck");
    assert_eq!(
        report["leftovers"],
        serde_json::json!(["failed to pod shop/probe-0 is stuck"])
    );
}

#[test]
fn evidence_explains_its_numbers() {
    let files = Files::new();
    let suite = files.with("suite.yaml", suite("{}", &[DENIED]));
    let script = files.with(
        "script.yaml",
        format!(
            "flows:\n{BLOCKED}changes: [{{ at: 100ms, kind: Pod, namespace: shop, name: db-0 }}]\n\
             counters: [{{ from: 'shop/api*', to: 'shop/web-0:8080', packets: 12, rule: shop/web }}]\n"
        ),
    );

    let mut command = watertight(["run", &suite, "--lab", WORLD, "--scripted", &script]);
    command
        .arg("--report")
        .arg(format!("evidence={}", files.name("e.jsonl")));
    command
        .arg("--report")
        .arg(format!("json={}", files.name("r.json")));
    ran(&mut command).ends(0);
    let evidence = std::fs::read_to_string(files.path("e.jsonl")).unwrap();
    let lines: Vec<Value> = evidence
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines[0]["format"], "watertight.dev/evidence.v1");

    // The report's numbers lead to the raw lines of the flow and of its control.
    let report = json(&files.path("r.json"));
    let check = &report["checks"][0];
    for flow in [&check["flows"][0], &check["controls"][0]] {
        let head = head_of(&lines, "flow", &flow["flow"]);
        assert_eq!(
            (&head["target"], &head["probe"]),
            (&flow["target"], &flow["probe"])
        );
        head_of(&lines, "probe", &head["probe"]);
        let sampled = lines
            .iter()
            .any(|line| line["line"]["k"] == "sample" && line["line"]["flow"] == flow["flow"]);
        assert!(sampled, "{flow}");
    }

    let check_head = lines
        .iter()
        .find(|line| line["head"] == "check" && line["id"] == check["id"])
        .unwrap();
    assert!(
        check_head["flows"]
            .as_array()
            .unwrap()
            .contains(&check["flows"][0]["flow"])
    );

    for (key, value) in [
        ("what", Value::from("pod shop/db-0")),
        ("rule", "shop/web".into()),
    ] {
        assert!(lines.iter().any(|line| line[key] == value), "{key}");
    }

    assert!(
        lines.iter().any(|line| line["fault"].is_string()),
        "the end of each probe is in it"
    );
}

/// The line that heads the flow or probe of this number.
fn head_of<'l>(lines: &'l [Value], kind: &str, number: &Value) -> &'l Value {
    lines
        .iter()
        .find(|line| line["head"] == kind && line[kind] == *number)
        .unwrap_or_else(|| panic!("no {kind} {number}"))
}
