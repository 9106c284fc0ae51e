//! Mistakes in files are shown with file and line, and nothing is run.

use crate::support::*;
use std::fmt::Write;
use std::time::{Duration, Instant};

/// Asserts that a file is refused as a suite by `validate`, `plan` and `run`, and as a manifest,
/// with these words and within 20 s.
#[track_caller]
fn assert_refused(file: &str, words: &[&str]) {
    for call in [
        &["validate", file][..],
        &["plan", file, "--lab", WORLD],
        &["run", file, "--lab", WORLD],
        &["run", SMALL, "--lab", file],
    ] {
        let started = Instant::now();
        let ran = ran(&mut watertight(call));
        ran.ends(2);
        for words in words {
            ran.complains(words);
        }
        assert_eq!(ran.out, "", "nothing was run");
        assert!(
            started.elapsed() < Duration::from_secs(20),
            "{call:?} took {:?}",
            started.elapsed()
        );
        assert!(
            ran.err.len() < 64 * 1024,
            "{} bytes of diagnostics",
            ran.err.len()
        );
    }
}

/// The first three lines of a suite.
const HEAD: &str = "\
apiVersion: watertight.dev/v1
kind: Suite
metadata: { name: x }
";

#[test]
fn a_file_that_is_not_utf8_is_refused() {
    let files = Files::new();
    assert_refused(
        &files.with("a.yaml", b"kind: Suite\n# caf\xe9\n"),
        &["a.yaml", "is not UTF-8", "0xe9"],
    );
    assert_refused(
        &files.with("b.yaml", b"\xff\xfea\0:\0 \0b\0"),
        &["b.yaml", "UTF-16"],
    );
}

#[test]
fn tabs_and_duplicate_keys_are_shown_at_their_place() {
    let files = Files::new();
    assert_refused(
        &files.with("tab.yaml", "kind: Suite\nmetadata:\n\tname: x\n"),
        &["a tab cannot indent YAML", "tab.yaml:3:1"],
    );
    let twice = format!("{HEAD}kind: Suite\n");
    assert_refused(
        &files.with("twice.yaml", twice),
        &["the key \"kind\" appears twice", "twice.yaml:4:1"],
    );
}

#[test]
fn ten_megabytes_of_nesting_are_refused_quickly() {
    let files = Files::new();
    let open = format!("{HEAD}spec: {}", "[".repeat(10_000_000));
    assert_refused(
        &files.with("open.yaml", open),
        &["nests too deep", "open.yaml:4:"],
    );
    let whole = format!(
        "{HEAD}spec: {}{}\n",
        "[".repeat(5_000_000),
        "]".repeat(5_000_000)
    );
    assert_refused(
        &files.with("whole.yaml", whole),
        &["nests too deep", "whole.yaml:4:"],
    );
    let maps = format!("{HEAD}spec: {}", "{a: ".repeat(2_500_000));
    assert_refused(
        &files.with("maps.yaml", maps),
        &["nests deeper than", "maps.yaml:4:"],
    );
    let mut block = String::new();
    for depth in 0..2_000 {
        block.push_str(&" ".repeat(depth));
        block.push_str("a:\n");
    }
    assert_refused(
        &files.with("block.yaml", format!("{HEAD}spec:\n{block}")),
        &["block.yaml:"],
    );
}

#[test]
fn exponential_aliases_are_refused_quickly() {
    let files = Files::new();
    let mut bomb = format!("{HEAD}a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..20 {
        let aliases = vec![format!("*a{}", level - 1); 10].join(", ");
        writeln!(bomb, "a{level}: &a{level} [{aliases}]").unwrap();
    }
    bomb.push_str("spec: { expect: *a19 }\n");
    assert_refused(&files.with("bomb.yaml", bomb), &["aliases", "bomb.yaml:"]);
}

#[test]
fn missing_files_and_folders_are_refused() {
    let files = Files::new();
    assert_refused(
        &files.name("missing.yaml"),
        &["missing.yaml", "does not exist"],
    );
    let folder = files.name(".");
    ran(&mut watertight(["run", &folder, "--lab", WORLD]))
        .ends(2)
        .complains("it is a folder");
    ran(&mut watertight(["run", SMALL, "--lab", &folder]))
        .ends(2)
        .complains("no manifest in this folder");
}

#[test]
fn all_mistakes_of_all_files_are_shown_at_once() {
    let files = Files::new();
    let policy = files.with("policy.yaml", BROKEN_POLICY);
    let ran = ran(&mut watertight([
        "run",
        "tests/cli/mistake.yaml",
        "--lab",
        WORLD,
        &policy,
    ]));
    ran.ends(2)
        .complains("tests/cli/mistake.yaml:8:")
        .complains("policy.yaml:");
}

const BROKEN_POLICY: &str = "\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: { name: p, namespace: shop }
spec:
  podSelector: {}
  ingress:
    - from: [{ ipBlock: { cidr: 10.0.0.0/99 } }]
";

#[test]
fn a_broken_policy_is_refused() {
    let files = Files::new();
    let cases = [
        (BROKEN_POLICY.to_owned(), "10.0.0.0/99"),
        (
            BROKEN_POLICY.replace("{ ipBlock: { cidr: 10.0.0.0/99 } }", "nonsense"),
            "policy.yaml:7",
        ),
        (
            BROKEN_POLICY.replace(
                "ipBlock: { cidr: 10.0.0.0/99 }",
                "ipBlock: { cidr: 10.0.0.0/8, except: [11.0.0.0/8] }",
            ),
            "11.0.0.0/8",
        ),
        (
            BROKEN_POLICY.replace(
                "podSelector: {}",
                "podSelector: { matchExpressions: [{ key: a, operator: Inn }] }",
            ),
            "Inn",
        ),
        (
            BROKEN_POLICY.replace("spec:\n  podSelector: {}", "spec:\n  podselector: {}"),
            "podselector",
        ),
    ];

    for (text, words) in cases {
        let policy = files.with("policy.yaml", text);
        let ran = ran(&mut watertight(["run", SMALL, "--lab", WORLD, &policy]));
        ran.ends(2).complains("policy.yaml:").complains(words);
        assert_eq!(ran.out, "");
    }
}

#[test]
fn two_suites_of_one_name_are_refused() {
    let files = Files::new();
    let copy = files.with("copy.yaml", std::fs::read(SMALL).unwrap());
    let ran_copy = ran(&mut watertight(["run", SMALL, &copy, "--lab", WORLD]));
    ran_copy
        .ends(2)
        .complains("two suites are called small")
        .complains("copy.yaml:3:")
        .complains("tests/cli/small.yaml:3:");
    ran(&mut watertight(["run", SMALL, SMALL, "--lab", WORLD]))
        .ends(2)
        .complains("is given twice");
}

/// Two endpoints that are the same pods, one by its workload and one by its labels.
const CONTRADICTION_BY_LABELS: &str = "\
spec:
  endpoints:
    web: { namespace: shop, workload: Deployment/web }
    api: { namespace: shop, workload: Deployment/api }
    same: { namespace: shop, pods: { app: api } }
  expect:
    - web -> api:8080 allowed
    - web -> same:8080 denied
";

#[test]
fn a_contradiction_of_resolved_names_is_refused_with_both_lines() {
    let files = Files::new();
    let suite = files.with("late.yaml", format!("{HEAD}{CONTRADICTION_BY_LABELS}"));
    ran(&mut watertight(["validate", &suite])).ends(0);
    for command in ["run", "plan"] {
        let ran = ran(&mut watertight([command, &suite, "--lab", WORLD]));
        ran.ends(2)
            .complains("late.yaml:11:7")
            .complains("10 |     - web -> api:8080 allowed")
            .complains("the other line");
        assert_eq!(ran.out, "");
    }
}

#[test]
fn warnings_are_errors_only_with_strict() {
    let files = Files::new();
    let text = std::fs::read_to_string(SMALL).unwrap();
    let unused = text.replace(
        "  expect:",
        "    spare: { namespace: shop, workload: Deployment/db }\n  expect:",
    );
    let suite = files.with("unused.yaml", unused);
    ran(&mut watertight(["validate", &suite]))
        .ends(0)
        .complains("spare");
    ran(&mut watertight(["validate", "--strict", &suite]))
        .ends(2)
        .complains("spare");
    ran(&mut watertight(["run", "--strict", &suite, "--lab", WORLD]))
        .ends(2)
        .complains("spare");
}
