//! Every documented exit code, from real runs.

use crate::support::*;

fn run(suite: &str, more: &[&str]) -> Ran {
    ran(watertight(["run", suite, "--lab", WORLD]).args(more))
}

#[test]
fn all_proven_is_0() {
    let _alone = alone();
    let ran = run(SMALL, &[]);
    ran.ends(0);
    assert!(
        ran.out.contains("2 proven, 0 violated, 0 unproven"),
        "{}",
        ran.out
    );

    // *Proven* always carries its reach.
    assert!(
        ran.out.contains("reach: every proven check covers"),
        "{}",
        ran.out
    );
}

#[test]
fn denies_by_reset_and_icmp_are_proven() {
    let _alone = alone();
    for how in ["reset", "icmp"] {
        run(SMALL, &["--lab-deny", how, "--only", "denied"]).ends(0);
    }
}

#[test]
fn a_mistake_is_2() {
    run("tests/cli/mistake.yaml", &[])
        .ends(2)
        .complains("tests/cli/mistake.yaml:8:");
    run(SMALL, &["--frobnicate"])
        .ends(2)
        .complains("--frobnicate");
    ran(&mut watertight(["walk"])).ends(2).complains("walk");
    run(SMALL, &["--only", "("]).ends(2).complains("--only");
    run(SMALL, &["--report", "xml=a"])
        .ends(2)
        .complains("did you mean junit?");
}

#[test]
fn a_violation_is_3() {
    let _alone = alone();
    let ran = run(LEAKY, &[]);
    ran.ends(3);
    assert!(
        ran.out.contains("violated: web -> db:5432 denied [leak]"),
        "{}",
        ran.out
    );
    assert!(
        ran.out
            .contains("shop/web-0 (node-1) reached shop/db-0:5432"),
        "{}",
        ran.out
    );
}

#[test]
fn an_unproven_check_is_4() {
    let _alone = alone();
    let ran = run(UNPROVEN, &[]);
    ran.ends(4);
    assert!(
        ran.out.contains("unproven: web -> silent:9999 denied"),
        "{}",
        ran.out
    );
    assert!(ran.out.contains("(no-control-answered)"), "{}", ran.out);
}

#[test]
fn a_source_or_target_without_matches_is_4() {
    let _alone = alone();
    let line = "shop/Deployment/web -> shop/Deployment/missing:80 denied";
    let ran = ran(&mut watertight(["check", line, "--lab", WORLD]));
    ran.ends(4);
    let text: String = ran.out.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        text.contains(
            "there are pods of Deployment/api, Deployment/db, Deployment/web) (matches-nothing)"
        ),
        "{text}"
    );
}

#[test]
fn nothing_selected_is_5_and_no_report_of_an_earlier_run_survives() {
    let files = Files::new();
    let (xml, report) = (
        files.with("r.xml", "<testsuites/>"),
        files.with("r.json", "{}"),
    );
    let ran = run(
        SMALL,
        &[
            "--only",
            "no such check",
            "--report",
            &format!("junit={xml}"),
            "--report",
            &format!("json={report}"),
        ],
    );
    ran.ends(5).complains("no check is selected");
    assert_eq!(json(&files.path("r.json"))["run"]["exitCode"], 5);
    assert_eq!(
        junit(&files.path("r.xml")).errors,
        1,
        "a file without an error looks like success"
    );
}

#[test]
fn an_impossible_lab_is_5_and_names_the_fix() {
    let files = Files::new();
    let xml = format!("junit={}", files.name("r.xml"));
    let ran = without_namespaces(watertight(["run", SMALL, "--lab", WORLD, "--report"]).arg(&xml));
    ran.ends(5)
        .complains("the lab is not possible here: ")
        .complains("user.max_net_namespaces")
        .complains("fix: ");
    assert!(junit(&files.path("r.xml")).errors > 0);
}

#[test]
fn a_report_that_cannot_be_written_is_70_though_all_is_proven() {
    let _alone = alone();
    let ran = run(SMALL, &["--only", "allowed", "--report", "json=/dev/full"]);
    ran.ends(70)
        .complains("failed to write the report json=/dev/full");
    assert!(
        ran.out.contains("1 proven"),
        "the other reports are written: {}",
        ran.out
    );
}

#[test]
fn a_report_in_a_missing_folder_is_2_before_anything_runs() {
    let files = Files::new();
    let (missing, good) = (
        format!("junit={}", files.name("no/such/r.xml")),
        format!("jsonl={}", files.name("r.jsonl")),
    );
    let ran = run(SMALL, &["--report", &missing, "--report", &good]);
    ran.ends(2).complains("no/such does not exist");
    assert_eq!(ran.out, "", "nothing was run");
    let events = std::fs::read_to_string(files.path("r.jsonl")).unwrap_or_default();
    assert_eq!(events, "", "no run was started");
}

#[test]
fn two_reports_in_one_file_are_2() {
    let files = Files::new();
    let (one, two) = (
        format!("junit={}", files.name("r")),
        format!("json={}", files.name("./r")),
    );
    run(SMALL, &["--report", &one, "--report", &two])
        .ends(2)
        .complains("two reports to one file");
}
