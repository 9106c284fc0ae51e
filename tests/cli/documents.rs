//! Generated documents, plans and validation; and closed streams.

use crate::support::*;
use std::process::Stdio;

#[test]
fn schema_completion_and_manual_name_every_command() {
    let schema = ran(&mut watertight(["schema"]));
    schema.ends(0);
    let schema: serde_json::Value = serde_json::from_str(&schema.out).unwrap();
    assert_eq!(schema["properties"]["kind"]["const"], "Suite", "{schema}");
    let report = ran(&mut watertight(["schema", "report"]));
    report.ends(0);
    serde_json::from_str::<serde_json::Value>(&report.out).unwrap();
    let completion = ran(&mut watertight(["completion", "bash"]));
    completion.ends(0);
    let man = ran(&mut watertight(["man"]));
    man.ends(0);
    let help = ran(&mut watertight(["--help"]));
    help.ends(0);
    for command in [
        "demo",
        "run",
        "check",
        "plan",
        "validate",
        "schema",
        "completion",
        "man",
    ] {
        for (of, text) in [
            ("completion", &completion.out),
            ("man", &man.out),
            ("help", &help.out),
        ] {
            assert!(text.contains(command), "{command} is not in {of}");
        }
    }

    for code in ["70", "2", "3", "5", "4", "0"] {
        assert!(
            help.out
                .lines()
                .any(|line| line.trim_start().starts_with(&format!("{code}  "))),
            "{code}:\n{}",
            help.out
        );
    }
}

#[test]
fn bash_accepts_the_completion() {
    let completion = ran(&mut watertight(["completion", "bash"]));
    let checked = fed(
        std::process::Command::new("bash").arg("-n"),
        completion.out.as_bytes(),
    );
    assert_eq!((checked.code, checked.err.as_str()), (Some(0), ""));
}

#[test]
fn closed_streams_cause_no_panic() {
    let _alone = alone();
    let shop = ["suites/shop/suite.yaml", "--lab", "suites/shop/manifests"];
    let calls: [&[&str]; 8] = [
        &["schema"],
        &["completion", "zsh"],
        &["man"],
        &["--help"],
        &["validate", SMALL],
        &["plan", shop[0], shop[1], shop[2], "--verbose"],
        &["run", SMALL, "--lab", WORLD, "--only", "allowed"],
        &[
            "check",
            "shop/Deployment/web -> shop/Deployment/api:8080 allowed",
            "--lab",
            WORLD,
        ],
    ];

    for call in calls {
        // A pipe without a reader, as after `| head -1`.
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let ran: Ran = watertight(call)
            .stdout(writer)
            .stderr(Stdio::piped())
            .output()
            .unwrap()
            .into();
        ran.ends(0);
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let silent: Ran = watertight(call)
            .stderr(writer)
            .stdout(Stdio::piped())
            .output()
            .unwrap()
            .into();
        assert_eq!(silent.code, Some(0), "{call:?}");
        assert!(!silent.out.is_empty(), "{call:?}");
    }
}

#[test]
fn data_on_a_closed_pipe_is_a_report_that_could_not_be_written() {
    let _alone = alone();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let call = [
        "run", SMALL, "--lab", WORLD, "--only", "allowed", "-o", "jsonl",
    ];
    let ran: Ran = watertight(call)
        .stdout(writer)
        .stderr(Stdio::piped())
        .output()
        .unwrap()
        .into();
    ran.ends(70)
        .complains("failed to write the report -o jsonl");
}

#[test]
fn plan_shows_a_run_and_starts_nothing() {
    // Also where no lab can be made.
    let plan = without_namespaces(&watertight(["plan", SMALL, UNPROVEN, "--lab", WORLD]));
    plan.ends(0);
    for words in [
        "3 checks, ",
        "small / web -> api:8080 allowed   (tests/cli/small.yaml:9:7)",
        "attempts, controls included: ",
        "shop/api-0 on node-",
        ":8080/tcp: ",
    ] {
        assert!(
            plan.out.contains(words),
            "{words:?} is not in:\n{}",
            plan.out
        );
    }
    ran(&mut watertight([
        "plan",
        SMALL,
        "--lab",
        WORLD,
        "--only",
        "no such check",
    ]))
    .ends(5);
}

#[test]
fn validate_counts_endpoints_and_lines_offline() {
    let valid = ran(&mut watertight(["validate", SMALL, LEAKY]));
    valid.ends(0);
    assert_eq!(
        valid.out,
        "tests/cli/small.yaml: suite small is valid: 2 endpoints, 2 lines\n\
         tests/cli/leaky.yaml: suite leaky is valid: 3 endpoints, 2 lines\n"
    );
    ran(&mut watertight([
        "validate",
        SMALL,
        "tests/cli/mistake.yaml",
    ]))
    .ends(2)
    .complains("did you mean web?");
}

#[test]
fn suites_and_manifests_are_read_from_standard_input() {
    let world = std::fs::read(WORLD).unwrap();
    let plan = fed(&mut watertight(["plan", SMALL, "--lab", "-"]), &world);
    plan.ends(0);
    assert!(plan.out.contains("2 checks, "), "{}", plan.out);
    let suite = std::fs::read(SMALL).unwrap();
    fed(&mut watertight(["validate", "-"]), &suite).ends(0);
    fed(
        &mut watertight(["plan", SMALL, "--lab", "-"]),
        b"kind: Pod\n\tx: 1\n",
    )
    .ends(2)
    .complains(":2:");

    // One stream cannot be both.
    fed(&mut watertight(["plan", "-", "--lab", "-"]), &suite)
        .ends(2)
        .complains("cannot read standard input: it was read already");
}

#[test]
fn one_line_is_checked_without_a_file() {
    let _alone = alone();
    let line = "shop/Deployment/web -> shop/Deployment/api:8080 allowed";
    let ran_line = ran(&mut watertight(["check", line, "--lab", WORLD]));
    ran_line.ends(0);
    for (line, words) in [
        ("web -> api:8080 allowed", "command line:1"),
        (
            "shop/Deployment/web -> shop/Deployment/api:8080",
            "must end with allowed or denied",
        ),
        ("", "the line is empty"),
        (
            "shop/Deployment/web -> shop/Deployment/api:99999 denied",
            "command line:1",
        ),
    ] {
        ran(&mut watertight(["check", line, "--lab", WORLD]))
            .ends(2)
            .complains(words);
    }
}

#[test]
fn help_on_verdicts_lists_every_code_with_meaning_and_remedy() {
    let help = ran(&mut watertight(["help", "verdicts"]));
    help.ends(0);
    let printed = ran(&mut watertight(["verdicts"]));
    printed.ends(0);

    let one_line = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    for text in [one_line(&help.out), one_line(&printed.out)] {
        for reason in watertight::verdict::Reason::ALL {
            let entry = format!(
                "{} {} fix: {}",
                reason.code(),
                reason.meaning(),
                reason.remedy()
            );
            assert!(text.contains(&entry), "{entry}");
        }
        for code in watertight::backend::kube::PreflightCode::ALL {
            let entry = format!("{} {} fix: {}", code.name(), code.meaning(), code.remedy());
            assert!(text.contains(&entry), "{entry}");
        }
        for tier in watertight::suite::RequiredTier::NAMES {
            assert!(text.contains(&format!(" {tier} ")), "{tier}");
        }
    }
}
