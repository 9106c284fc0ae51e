//! Hosts outside on the command line: `--resolve`, and addresses that nothing gives.

use crate::support::*;

const MANIFESTS: &str = "suites/shop/manifests";

/// A host that the shop's suite does not place, and that a policy of the source may admit.
const FLOW: &str = "shop/Deployment/api -> bank.example:443";

const ADMITTED: &str = "bank.example=203.0.113.10";
const NOT_ADMITTED: &str = "bank.example=203.0.113.77";

fn explained(resolve: &str) -> Ran {
    ran(&mut watertight([
        "explain",
        FLOW,
        "--lab",
        MANIFESTS,
        "--resolve",
        resolve,
    ]))
}

#[test]
fn explain_places_a_host_where_resolve_says() {
    assert!(explained(ADMITTED).ends(0).out.contains("is allowed"));
    assert!(explained(NOT_ADMITTED).ends(0).out.contains("is denied"));
}

#[test]
fn explain_of_a_host_without_address_asks_for_one() {
    let ran = ran(&mut watertight(["explain", FLOW, "--lab", MANIFESTS]));
    ran.ends(2)
        .complains("no address of bank.example is given")
        .complains("--resolve bank.example=ADDRESS");
}

#[test]
fn prediction_of_a_host_without_address_is_unknown() {
    let files = Files::new();
    let text = std::fs::read_to_string("suites/shop/suite.yaml").unwrap();
    let (before, after) = text.split_once(", ip: [203").unwrap();
    let (_, after) = after.split_once(" }").unwrap();
    let suite = files.with("suite.yaml", format!("{before} }}{after}"));

    let predicted = |resolve: &[&str]| {
        let arguments = ["predict", "--suite", &suite, MANIFESTS];
        let ran = ran(&mut watertight(arguments.iter().chain(resolve)));
        let line = ran.out.lines().find(|line| line.contains("api -> payment"));
        line.unwrap_or_default().to_owned()
    };
    assert!(predicted(&[]).starts_with("unknown"));
    assert!(predicted(&["--resolve", "payments.example=203.0.113.10"]).starts_with("allowed"));
}

#[test]
fn resolve_that_is_wrong_is_refused_with_help() {
    explained("bank.example=127.0.0.1")
        .ends(2)
        .complains("127.0.0.1 is a loopback address");
    explained("bnak.example=203.0.113.10")
        .ends(2)
        .complains("did you mean bank.example?");
    explained("bank.example")
        .ends(2)
        .complains("write payments.example=203.0.113.10");

    let without_lab = ["run", "suites/shop/suite.yaml", "--resolve", ADMITTED];
    ran(&mut watertight(without_lab)).ends(2).complains("--lab");
    let without_suite = ["predict", MANIFESTS, "--resolve", ADMITTED];
    ran(&mut watertight(without_suite))
        .ends(2)
        .complains("--resolve goes with --suite");
}
