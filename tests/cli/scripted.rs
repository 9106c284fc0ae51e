//! Every reason, tier and kind of violation, from a suite to all reports and the exit code: by the
//! scripted backend.
//!
//! What a script says the network does is no evidence that a network does it; the sabotage tests
//! bring the same about with real packets.

use crate::one_model::{agreed, validates};
use crate::support::*;
use serde_json::Value;
use std::collections::BTreeSet;
use watertight::verdict::Reason;

/// A world of three: web-0 on one node, api-0 on the other, db-0 beside web-0. Who is where is
/// asserted below.
const ENDPOINTS: &str = "  endpoints:
    web: { namespace: shop, workload: Deployment/web }
    api: { namespace: shop, workload: Deployment/api }
    db:  { namespace: shop, workload: Deployment/db }
    bank: { host: bank.example }
    nobody: { namespace: shop, workload: Deployment/nobody }
";

fn suite(settings: &str, expect: &[&str]) -> String {
    let lines: String = expect
        .iter()
        .map(|line| format!("    - {line}\n"))
        .collect();
    format!(
        "apiVersion: watertight.dev/v1\nkind: Suite\nmetadata: {{ name: scripted }}\nspec:\n{ENDPOINTS}  settings: {{ {settings} }}\n  expect:\n{lines}"
    )
}

/// One run: its suite's settings and lines, what the network does, and what must be said of the
/// first line.
struct Evaluation {
    name: &'static str,
    settings: &'static str,
    expect: &'static [&'static str],
    script: &'static str,
    says: Says,
}

#[derive(Debug, Clone, Copy)]
enum Says {
    Proven(&'static str),
    /// And a word of what was seen.
    Violated(&'static str),
    Unproven(Reason),
}

const ALLOWED: &str = "web -> api:8080 allowed";
const DENIED: &str = "api -> web:8080 denied";
/// The denied flow is silent, as it should be.
const SHUT: &str =
    "  - { from: 'shop/api*', to: 'shop/web-0:8080', observes: [{ outcome: silence }] }\n";

fn run(case: &Evaluation) -> (Ran, Value) {
    let files = Files::new();
    let suite = files.with("suite.yaml", suite(case.settings, case.expect));
    let script = files.with("script.yaml", case.script.replace("SHUT\n", SHUT));
    agreed(&["run", &suite, "--lab", WORLD, "--scripted", &script])
}

fn holds(case: &Evaluation) {
    let (ran, report) = run(case);
    let check = &report["checks"][0];
    let name = case.name;
    match case.says {
        Says::Proven(tier) => {
            assert_eq!(
                (&check["verdict"], &check["tier"]),
                (&"proven".into(), &tier.into()),
                "{name}: {check:#}"
            );
        }
        Says::Violated(word) => {
            assert_eq!(check["verdict"], "violated", "{name}: {check:#}");
            assert!(
                check["seen"].as_str().unwrap().contains(word),
                "{name}: {check:#}"
            );
            assert!(ran.out.contains("= next"), "{name}: {}", ran.out);
        }
        Says::Unproven(reason) => {
            assert_eq!(check["verdict"], "unproven", "{name}: {check:#}");
            assert_eq!(check["reason"]["code"], reason.code(), "{name}: {check:#}");
            assert!(
                !check["reason"]["text"].as_str().unwrap().is_empty(),
                "{name}"
            );
            assert_eq!(check["nextStep"], reason.next_step(), "{name}");
            // What would settle it stands on the screen too, however it is broken into lines.
            let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(
                words(&ran.out).contains(&words(reason.next_step())),
                "{name}: {}",
                ran.out
            );
            assert!(
                ran.out.contains(&format!("({})", reason.code())),
                "{name}: {}",
                ran.out
            );
        }
    }
}

const CASES: &[Evaluation] = &[
    Evaluation {
        name: "an allow by our nonce",
        settings: "",
        expect: &[ALLOWED],
        script: "{}",
        says: Says::Proven("A2"),
    },
    Evaluation {
        name: "an allow by another responder's bytes",
        settings: "tier: A1",
        expect: &[ALLOWED],
        script: "flows:\n  - { to: 'shop/api-0:8080', observes: [{ outcome: unknownResponder }] }\n",
        says: Says::Proven("A1"),
    },
    Evaluation {
        name: "an allow by a handshake",
        settings: "tier: A0",
        expect: &[ALLOWED],
        script: "flows:\n  - { to: 'shop/api-0:8080', observes: [{ outcome: silence, stage: first_bytes }] }\n",
        says: Says::Proven("A0"),
    },
    Evaluation {
        name: "an allow that comes up late",
        settings: "",
        expect: &[ALLOWED],
        script: "flows:\n  - { from: 'shop/web*', to: 'shop/api-0:8080', observes: [{ outcome: silence, until: 3s }] }\n",
        says: Says::Proven("A2"),
    },
    Evaluation {
        name: "a deny without a source control",
        settings: "tier: D1",
        expect: &[DENIED],
        script: "flows:\nSHUT\n",
        says: Says::Proven("D1"),
    },
    Evaluation {
        name: "a deny",
        settings: "",
        expect: &[DENIED],
        script: "flows:\nSHUT\n",
        says: Says::Proven("D2"),
    },
    Evaluation {
        name: "a deny by reset",
        settings: "mechanism: reset",
        expect: &[DENIED],
        script: "flows:\n  - { from: 'shop/api*', to: 'shop/web-0:8080', observes: [{ outcome: reset }] }\n",
        says: Says::Proven("D2"),
    },
    Evaluation {
        name: "a deny by ICMP",
        settings: "mechanism: icmp",
        expect: &[DENIED],
        script: "flows:
  - { from: 'shop/api*', to: 'shop/web-0:8080', family: 4, observes: [{ outcome: { icmp: { ty: 3, code: 13, from: 10.0.0.1 } } }] }
  - { from: 'shop/api*', to: 'shop/web-0:8080', family: 6, observes: [{ outcome: { icmp: { ty: 1, code: 1, from: 'fd00::1' } } }] }\n",
        says: Says::Proven("D2"),
    },
    Evaluation {
        name: "a deny with the enforcer's count",
        settings: "tier: D2+counter",
        expect: &[DENIED],
        script: "flows:\nSHUT\ncounters: [{ from: 'shop/api*', to: 'shop/web-0:8080', packets: 99, rule: shop/web }]\n",
        says: Says::Proven("D2+counter"),
    },
    Evaluation {
        name: "a deny with a same-node control",
        settings: "tier: D2+same-node",
        expect: &["web -> api:8080 denied", "db -> api:8080 allowed"],
        script: "flows:\n  - { from: 'shop/web*', to: 'shop/api-0:8080', observes: [{ outcome: silence }] }\n",
        says: Says::Proven("D2+same-node"),
    },
    Evaluation {
        name: "a leak",
        settings: "",
        expect: &[DENIED],
        script: "{}",
        says: Says::Violated("attempts opened"),
    },
    Evaluation {
        name: "a leak in one of seven attempts",
        settings: "attempts: 12",
        expect: &[DENIED],
        script: "flows:\n  - { from: 'shop/api*', to: 'shop/web-0:8080', observes: [{ outcome: open, every: 7 }, { outcome: silence }] }\n",
        says: Says::Violated("1 of "),
    },
    Evaluation {
        name: "a leak that its probe saw before it died",
        settings: "",
        expect: &[DENIED],
        script: "probes: [{ from: 'shop/api*', exits: { at: 1s, because: killed } }]\n",
        says: Says::Violated("attempts opened"),
    },
    Evaluation {
        name: "an allow that stays shut",
        settings: "timeout: 4s",
        expect: &[ALLOWED],
        script: "flows:\n  - { from: 'shop/web*', to: 'shop/api-0:8080', observes: [{ outcome: silence }] }\n",
        says: Says::Violated("never got through"),
    },
    Evaluation {
        name: "an allow refused by a layer that names itself",
        settings: "timeout: 4s",
        expect: &["api -> http://web:8080/ allowed"],
        script: "flows:\n  - { from: 'shop/api*', to: 'shop/web-0:8080', observes: [{ outcome: { status: { code: 403, body: 'RBAC: access denied' } } }] }\n",
        says: Says::Violated("Istio"),
    },
    Evaluation {
        name: "an allow that flaps",
        settings: "hold: 8s",
        expect: &[ALLOWED, DENIED],
        script: "flows:\n  - from: 'shop/web*'\n    to: 'shop/api-0:8080'\n    observes:\n      - { outcome: open, until: 2s }\n      \
                 - { outcome: silence, until: 5s }\nSHUT\n",
        says: Says::Violated("unstable"),
    },
    Evaluation {
        name: "a mesh identity that is not observed",
        settings: "",
        expect: &["{ check: 'web -> api:8080 allowed', tier: A3 }", DENIED],
        script: "flows:\nSHUT\n",
        says: Says::Unproven(Reason::Unprovable),
    },
    Evaluation {
        name: "a source that matches nothing",
        settings: "",
        expect: &["nobody -> api:8080 denied", ALLOWED],
        script: "{}",
        says: Says::Unproven(Reason::MatchesNothing),
    },
    Evaluation {
        name: "a probe that comes too late",
        settings: "timeout: 3s",
        expect: &[DENIED],
        script: "flows:\nSHUT\nprobes: [{ from: 'shop/api*', startsAt: 60s }]\n",
        says: Says::Unproven(Reason::NotAttempted),
    },
    Evaluation {
        name: "a probe that dies",
        settings: "",
        expect: &[DENIED],
        script: "flows:\nSHUT\nprobes: [{ from: 'shop/api*', exits: { at: 1s, because: 'signal: 9 (SIGKILL)' } }]\n",
        says: Says::Unproven(Reason::ProbeFault),
    },
    Evaluation {
        name: "a probe that never starts",
        settings: "",
        expect: &[DENIED],
        script: "flows:\nSHUT\nprobes: [{ from: 'shop/api*', failsToStart: no such image }]\n",
        says: Says::Unproven(Reason::ProbeFault),
    },
    Evaluation {
        name: "lines that are lost",
        settings: "",
        expect: &[DENIED],
        script: "flows:\nSHUT\nprobes: [{ from: 'shop/api*', lostLines: [4] }]\n",
        says: Says::Unproven(Reason::ProbeFault),
    },
    Evaluation {
        name: "a probe that was given another plan",
        settings: "",
        expect: &[DENIED],
        script: "flows:\nSHUT\nprobes: [{ from: 'shop/api*', wrongPlan: true }]\n",
        says: Says::Unproven(Reason::ProbeFault),
    },
    Evaluation {
        name: "a probe of another version",
        settings: "",
        expect: &[DENIED],
        script: "flows:\nSHUT\nprobes: [{ from: 'shop/api*', protocolVersion: 9 }]\n",
        says: Says::Unproven(Reason::ProbeFault),
    },
    Evaluation {
        name: "a probe that reports its own fault",
        settings: "",
        expect: &[DENIED],
        script: "flows:\nSHUT\nprobes: [{ from: 'shop/api*', reportsFault: { at: 1s, because: no descriptors } }]\n",
        says: Says::Unproven(Reason::ProbeFault),
    },
    Evaluation {
        name: "attempts without processor time",
        settings: "",
        expect: &[DENIED],
        script: "flows:\n  - { from: 'shop/api*', to: 'shop/web-0:8080', observes: [{ outcome: { fault: starved } }] }\n",
        says: Says::Unproven(Reason::ProbeCpuStarved),
    },
    Evaluation {
        name: "a wall clock far ahead on another machine",
        settings: "",
        expect: &[DENIED],
        script: "flows:\nSHUT\nprobes: [{ from: 'shop/api*', boot: other, wallClockOffsetMs: 5000 }]\n",
        says: Says::Unproven(Reason::ClockSkew),
    },
    Evaluation {
        name: "attempts that never left",
        settings: "",
        expect: &[DENIED],
        script: "flows:\n  - { from: 'shop/api*', to: 'shop/web-0:8080', observes: [{ outcome: { notSent: { errno: 101 } } }] }\n",
        says: Says::Unproven(Reason::SendFailed),
    },
    Evaluation {
        name: "a source that opens nothing and is not reached",
        settings: "",
        expect: &[DENIED],
        script: "flows:\n  - { from: 'shop/api*', observes: [{ outcome: silence }] }\n  - { to: 'shop/api-0:*', observes: [{ outcome: silence }] }\n",
        says: Says::Unproven(Reason::SourceNotVerified),
    },
    Evaluation {
        name: "a dead target",
        settings: "",
        expect: &[DENIED],
        script: "flows:\n  - { to: 'shop/web-0:8080', observes: [{ outcome: silence }] }\n",
        says: Says::Unproven(Reason::NoControlAnswered),
    },
    Evaluation {
        name: "an allowed target that no control reaches",
        settings: "timeout: 4s",
        expect: &[ALLOWED],
        script: "flows:\n  - { to: 'shop/api-0:8080', observes: [{ outcome: silence }] }\n",
        says: Says::Unproven(Reason::TargetUnreachable),
    },
    Evaluation {
        name: "a refusal of everyone",
        settings: "",
        expect: &["api -> http://web:8080/ denied"],
        script: "flows:\n  - { to: 'shop/web-0:8080', observes: [{ outcome: { status: { code: 403, body: 'RBAC: access denied' } } }] }\n",
        says: Says::Unproven(Reason::AllControlsRefused),
    },
    Evaluation {
        name: "a path between the nodes that nothing crosses",
        settings: "",
        expect: &[DENIED],
        script: "flows:\nSHUT
  - { from: 'node node-2', to: 'shop/api-0:*', observes: [{ outcome: open }] }
  - { from: 'node node-2', observes: [{ outcome: silence }] }\n",
        says: Says::Unproven(Reason::PathNotVerified),
    },
    Evaluation {
        name: "a name that does not resolve",
        settings: "",
        expect: &["api -> bank:443 denied"],
        script: "flows:\n  - { to: 'bank.example:443', observes: [{ outcome: { rcode: { code: 3 } } }] }\n",
        says: Says::Unproven(Reason::NameDidNotResolve),
    },
    Evaluation {
        name: "a policy that changes once",
        settings: "",
        expect: &[DENIED],
        script: "flows:\nSHUT\nchanges: [{ at: 1500ms, kind: NetworkPolicy, namespace: shop, name: web }]\n",
        says: Says::Proven("D2"),
    },
    Evaluation {
        name: "a policy that changes again and again",
        settings: "hold: 6s",
        expect: &[DENIED],
        script: "flows:\nSHUT\nchanges:
  - { at: 1s, kind: NetworkPolicy, namespace: shop, name: web }
  - { at: 5s, kind: NetworkPolicy, namespace: shop, name: web }
  - { at: 9s, kind: NetworkPolicy, namespace: shop, name: web }
  - { at: 13s, kind: NetworkPolicy, namespace: shop, name: web }\n",
        says: Says::Unproven(Reason::ChangedDuringRun),
    },
    Evaluation {
        name: "more attempts than fit the run",
        settings: "attempts: 200, hold: 1s",
        expect: &[DENIED],
        script: "flows:\nSHUT\n",
        says: Says::Unproven(Reason::TooFewAttempts),
    },
    Evaluation {
        name: "a control that is slow, so that the denied flow is tried again with more time",
        settings: "",
        expect: &[DENIED],
        script: "flows:\nSHUT\n  - { to: 'shop/web-0:8080', observes: [{ outcome: open, stage: connect, latency: 300ms }] }\n",
        says: Says::Proven("D2"),
    },
    Evaluation {
        name: "a name server that is slow",
        settings: "",
        expect: &["api -> bank:443 denied"],
        script: "flows:
  - { from: 'shop/api*', to: 'bank.example:443', observes: [{ outcome: silence, stage: resolve }] }
  - { to: 'bank.example:443', observes: [{ outcome: open, stage: resolve, latency: 300ms }] }\n",
        says: Says::Unproven(Reason::AttemptTimeoutTooShort),
    },
    Evaluation {
        name: "no count of the enforcer where the tier requires one",
        settings: "tier: D2+counter",
        expect: &[DENIED],
        script: "flows:\nSHUT\n",
        says: Says::Unproven(Reason::TierNotMet),
    },
];

#[test]
fn every_case_says_the_same_in_every_report() {
    let failed: Vec<String> = CASES
        .iter()
        .filter_map(|case| {
            let failed = std::panic::catch_unwind(|| holds(case)).err()?;
            let why = failed.downcast_ref::<String>().cloned().unwrap_or_default();
            Some(format!("{}: {why}", case.name))
        })
        .collect();
    assert!(failed.is_empty(), "{}", failed.join("\n\n"));
}

#[test]
fn every_reason_is_shown_by_a_case() {
    let shown: BTreeSet<Reason> = CASES
        .iter()
        .filter_map(|case| match case.says {
            Says::Unproven(reason) => Some(reason),
            Says::Proven(_) | Says::Violated(_) => None,
        })
        // A run that is interrupted is no run to its end: it has a test of its own.
        .chain([Reason::NotFinished])
        .collect();
    let missing: Vec<&Reason> = Reason::ALL
        .iter()
        .filter(|reason| !shown.contains(reason))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
}

/// Two machines whose clocks differ, drift, and whose lines arrive late: the verdicts are those of
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
        for (flows, verdict) in [("flows:\nSHUT\n", "proven"), ("flows: []\n", "violated")] {
            let files = Files::new();
            let suite = files.with(
                "suite.yaml",
                suite("hold: 4s, timeout: 20s", &[DENIED, ALLOWED]),
            );
            let script = format!("{flows}probes: [{clock}]\n").replace("SHUT\n", SHUT);
            let script = files.with("script.yaml", script);
            let (_, report) = agreed(&["run", &suite, "--lab", WORLD, "--scripted", &script]);
            let said: Vec<&Value> = report["checks"]
                .as_array()
                .unwrap()
                .iter()
                .map(|check| &check["verdict"])
                .collect();
            assert_eq!(said, [verdict, "proven"], "{clock}: {:#}", report["checks"]);
        }
    }
}

#[test]
fn an_interrupted_run_says_what_is_not_finished() {
    let files = Files::new();
    let suite = files.with("suite.yaml", suite("", &[DENIED, ALLOWED]));
    let text = format!("flows:\n{SHUT}interrupted: {{ at: 1s, because: interrupted (SIGINT) }}\n");
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

/// No check is decided while changes are not watched: a success that ended may belong to a policy
/// that existed only for a while.
#[test]
fn checks_are_decided_only_after_a_watch_gap() {
    let files = Files::new();
    let suite = files.with("suite.yaml", suite("", &[DENIED, ALLOWED]));
    let run = |unseen: &str| {
        let script = files.with(
            "script.yaml",
            format!("flows:\n{SHUT}watchGap: {{ {unseen}, because: no answer }}\n"),
        );
        let ran = ran(&mut watertight([
            "run",
            &suite,
            "--lab",
            WORLD,
            "--scripted",
            &script,
            "-o",
            "json",
        ]));
        let report: Value = serde_json::from_str(&ran.out).unwrap();
        validates(&report);
        (ran, report)
    };
    let (ran, report) = run("from: 100ms");
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
    let (ran, report) = run("from: 100ms, to: 30s");
    ran.ends(0);
    assert_eq!(report["run"]["complete"], true);
}

#[test]
fn launch_errors_and_leftovers_are_reported() {
    let files = Files::new();
    let suite = files.with("suite.yaml", suite("", &[ALLOWED]));
    let run = |text: &str| {
        let script = files.with("script.yaml", text);
        let mut command = watertight([
            "run",
            &suite,
            "--lab",
            WORLD,
            "--scripted",
            &script,
            "-o",
            "json",
        ]);
        let ran = ran(&mut command);
        let report: Value = serde_json::from_str(&ran.out).unwrap();
        validates(&report);
        (ran, report)
    };
    let (ran, report) = run("launchError: no quota left");
    ran.ends(5).complains("no quota left");
    assert_eq!(report["run"]["exitCode"], 5);
    assert!(
        report["run"]["incompleteBecause"]
            .as_str()
            .unwrap()
            .contains("no quota left"),
        "{report:#}"
    );

    let (ran, report) = run("leftovers: [pod shop/probe-0 is stuck]");
    ran.ends(0).complains("pod shop/probe-0 is stuck");
    assert_eq!(
        report["leftovers"],
        serde_json::json!(["failed to pod shop/probe-0 is stuck"])
    );
}

#[test]
fn evidence_says_what_its_numbers_stand_for() {
    let files = Files::new();
    let suite = files.with("suite.yaml", suite("", &[DENIED]));
    let script = files.with(
        "script.yaml",
        format!(
            "flows:\n{SHUT}changes: [{{ at: 100ms, kind: Pod, namespace: shop, name: db-0 }}]\n\
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

    let of = |head: &str, key: &str, number: &Value| {
        let found = lines
            .iter()
            .find(|line| line["head"] == head && line[key] == *number);
        found
            .unwrap_or_else(|| panic!("no {head} {number}"))
            .clone()
    };
    // The report's numbers lead to the raw lines of the flow and of its control.
    let report = json(&files.path("r.json"));
    let check = &report["checks"][0];
    for flow in [&check["flows"][0], &check["controls"][0]] {
        let head = of("flow", "flow", &flow["flow"]);
        assert_eq!(
            (&head["target"], &head["probe"]),
            (&flow["target"], &flow["probe"])
        );
        of("probe", "probe", &head["probe"]);
        let sampled = lines
            .iter()
            .any(|line| line["line"]["k"] == "sample" && line["line"]["flow"] == flow["flow"]);
        assert!(sampled, "{flow}");
    }
    let named = lines
        .iter()
        .find(|line| line["head"] == "check" && line["id"] == check["id"])
        .unwrap();
    assert!(
        named["flows"]
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
        "how each probe ended is in it"
    );
}
