//! `--sweep`: everything that a workload could reach and a suite does not name, tried with packets.

use crate::support::*;

/// The suite names web and api alone.
const SUITE: &str = "\
apiVersion: watertight.dev/v1
kind: Suite
metadata: { name: swept }
spec:
  expect:
    - shop/Deployment/web -> shop/Deployment/api:8080 allowed
";

/// Isolates web for egress except to the api.
const EGRESS_POLICY: &str = "
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: { name: out, namespace: shop }
spec:
  podSelector: { matchLabels: { app: web } }
  policyTypes: [Egress]
  egress:
    - to: [{ podSelector: { matchLabels: { app: api } } }]
";

/// The world with that policy, and with a further rule of it.
fn with_egress_policy(rule: &str) -> String {
    let world = std::fs::read_to_string(WORLD).unwrap();
    format!("{world}{EGRESS_POLICY}{rule}")
}

/// Runs the suite in a world, and sweeps web.
fn sweep_web(suite: &str, world: &str) -> Ran {
    let sweep = ["--sweep", "shop/Deployment/web"];
    ran(watertight(["run", suite, "--lab", world]).args(sweep))
}

#[test]
fn an_open_port_that_no_line_names_is_violated_in_every_report() {
    let _alone = alone();
    let files = Files::new();
    let suite = files.with("suite.yaml", SUITE);
    let (xml, report) = (files.name("junit.xml"), files.name("report.json"));
    let call = [
        "run",
        &suite,
        "--lab",
        WORLD,
        "--lab-families=ipv4,ipv6",
        "--sweep",
        "shop/Deployment/web",
        "--report",
    ];

    let run = ran(watertight(call).args([
        &format!("junit={xml}"),
        "--report",
        &format!("json={report}"),
    ]));
    run.ends(3);

    // No policy isolates web: it reaches the database, cluster DNS and the metadata addresses of
    // all clouds.
    let open = [
        "shop/Deployment/web -> shop/Deployment/db:5432 denied [sweep]",
        "shop/Deployment/web -> kube-system/Service/kube-dns:53 denied [sweep]",
        "shop/Deployment/web -> 169.254.169.254:80 denied [sweep]",
        "shop/Deployment/web -> fd00:ec2::254:80 denied [sweep]",
    ];

    let junit = std::fs::read_to_string(&xml).unwrap();
    let json = json(std::path::Path::new(&report));
    let violated: Vec<&str> = json["checks"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|check| check["verdict"] == "violated")
        .map(|check| check["name"].as_str().unwrap())
        .collect();
    for name in open {
        assert!(
            run.out.contains(&format!("violated: {name}")),
            "{name} is not in:\n{}",
            run.out
        );
        assert!(violated.contains(&name), "{name} is not in {violated:?}");
        assert!(
            junit.contains(&name.replace('>', "&gt;")),
            "{name} is not in:\n{junit}"
        );
    }

    // The suite's own check is not swept again; ports without a listener are silent.
    assert!(!run.out.contains("api:8080 denied"), "{}", run.out);
    assert!(
        run.err.contains("closed or denied, which proves nothing"),
        "{}",
        run.err
    );
    assert_eq!(
        json["coverage"]["pairs"],
        serde_json::json!({ "all": 2, "touched": 1, "left": ["shop/Deployment/api -> shop/Deployment/web"] })
    );
    assert!(
        run.out.contains(
            "coverage: the checks touch 0 of 2 policies, 0 of 0 rules, 1 of 2 pairs of endpoints"
        ),
        "{}",
        run.out
    );
    assert_eq!(
        json["run"]["settings"]["sweep"],
        serde_json::json!(["shop/Deployment/web"]),
        "{json:#}"
    );
}

#[test]
fn a_port_that_policies_close_is_no_violation() {
    let _alone = alone();
    let files = Files::new();
    let suite = files.with("suite.yaml", SUITE);
    let closed = files.with("closed.yaml", with_egress_policy(""));
    sweep_web(&suite, &closed).ends(0);

    // The same with one address open: a violation for it, and no other.
    let rule = "    - to: [{ ipBlock: { cidr: 169.254.169.254/32 } }]\n";
    let leaking = files.with("leaking.yaml", with_egress_policy(rule));
    let leak = sweep_web(&suite, &leaking);
    leak.ends(3);
    let found: Vec<&str> = leak
        .out
        .lines()
        .filter(|line| line.starts_with("violated: "))
        .collect();
    assert_eq!(
        found,
        ["violated: shop/Deployment/web -> 169.254.169.254:80 denied [sweep]"],
        "{}",
        leak.out
    );
    assert!(
        leak.out.contains("rule 2 of NetworkPolicy shop/out"),
        "the rule that admits it is named: {}",
        leak.out
    );
}

#[test]
fn a_sweep_is_planned_and_its_mistakes_are_refused() {
    let files = Files::new();
    let suite = files.with("suite.yaml", SUITE);
    let plan = ran(&mut watertight([
        "plan",
        &suite,
        "--lab",
        WORLD,
        "--sweep",
        "shop/Deployment/web",
        "-v",
    ]));
    plan.ends(0);
    assert!(
        plan.out
            .contains("ports beyond the checks are tried once, and must not open"),
        "{}",
        plan.out
    );
    assert!(
        plan.out
            .contains("shop/Deployment/web -> nodes:10250 denied [sweep]"),
        "{}",
        plan.out
    );

    let cases: [(&[&str], &str); 4] = [
        (
            &["--sweep", "shop/Deployment/wbe"],
            "nothing can be swept: shop/Deployment/wbe matches nothing",
        ),
        (&["--sweep", "web"], "write NAMESPACE/KIND/NAME"),
        (
            &["--sweep", "shop/Service/web"],
            "\"Service\" is not a kind that has pods",
        ),
        (
            &["--sweep", "shop/Deployment/web", "--only", "x"],
            "cannot be used with",
        ),
    ];

    for (arguments, words) in cases {
        let refused = ran(watertight(["run", &suite, "--lab", WORLD]).args(arguments));
        refused.ends(2).complains(words);
        assert_eq!(refused.out, "");
    }
}
