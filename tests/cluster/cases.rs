//! Verdicts of the shop in a cluster, as it is and broken in each way that a cluster can be broken.

use super::run::{Said, TRIES, clean, running_probes, shop, started};
use super::world::{apply, control, kubectl, put, until, until_gone};
use super::{
    account, broken, changes, closed, established, hung, killed, ours as annotated, outages,
    predicted, refused, secrets, sweeps, untouched, within,
};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// A case that needs nothing but the cluster's API.
const fn case(name: &'static str, test: fn()) -> Evaluation {
    Evaluation {
        name,
        test,
        needs_control: false,
    }
}

/// A case that stops components of the cluster.
const fn with_control(name: &'static str, test: fn()) -> Evaluation {
    Evaluation {
        name,
        test,
        needs_control: true,
    }
}

/// All cases, in the order in which they are run.
pub(crate) fn all() -> Vec<Evaluation> {
    vec![
        // First: the last case but one checks that their objects are removed.
        case(
            "killed_runners_report_nothing_wrong",
            killed::tells_nothing_wrong,
        ),
        case(
            "the_shop_is_proven_on_both_nodes_and_in_both_families",
            as_it_is,
        ),
        case("a_deleted_policy_is_a_leak", deleted_policy),
        case("a_second_and_wider_policy_is_a_leak", wider_policy),
        case(
            "a_target_without_allowed_sources_is_proven_only_where_it_answers",
            closed::services,
        ),
        case(
            "a_target_without_its_policy_is_a_leak",
            closed::without_the_policy,
        ),
        case(
            "a_replica_with_another_label_is_a_leak",
            closed::replica_with_another_label,
        ),
        case(
            "checks_sent_from_ephemeral_containers_are_proven_and_leftovers_reported",
            within::the_shop,
        ),
        case(
            "credentials_reach_the_probe_and_no_object",
            secrets::reach_the_probe_and_no_object,
        ),
        case(
            "a_source_that_no_clone_can_stand_for_is_left_out",
            refused::daemon_sets_pods,
        ),
        case(
            "objects_of_others_with_our_annotation_are_tested_and_left_alone",
            annotated::tested_and_left_alone,
        ),
        case(
            "a_sweep_finds_what_is_open_and_nothing_else",
            sweeps::finds_what_is_open,
        ),
        case(
            "generated_policies_are_enforced_as_predicted",
            predicted::enforced_as_predicted,
        ),
        case(
            "without_name_servers_no_name_is_denied",
            without_name_servers,
        ),
        case(
            "an_interrupted_run_ends_as_such_and_leaves_nothing",
            interrupted,
        ),
        case("a_target_without_pods_is_unproven", scaled_to_nothing),
        case("a_dead_listener_is_no_deny", dead_listener),
        case(
            "an_image_that_no_node_has_ends_the_run_before_it_begins",
            image_missing,
        ),
        case("a_probe_that_is_killed_proves_nothing_more", probe_killed),
        case("what_a_killed_run_left_is_removed", killed_run),
        case(
            "a_policy_that_is_widened_in_the_middle_is_a_leak",
            changes::policy_widened,
        ),
        case(
            "a_watch_that_hangs_in_the_middle_hides_no_change",
            hung::hides_nothing,
        ),
        case(
            "a_connection_that_is_open_when_a_policy_is_applied_is_cut_or_violates",
            established::connection_outlives_its_policy_or_not,
        ),
        case(
            "a_connection_that_is_open_while_nothing_is_applied_proves_nothing",
            established::nothing_is_applied,
        ),
        case(
            "a_source_that_is_relabelled_in_the_middle_is_not_proven_by_what_it_was",
            changes::source_relabelled,
        ),
        case(
            "a_probe_that_is_evicted_proves_nothing_more",
            changes::probe_evicted,
        ),
        case(
            "of_a_namespace_that_is_deleted_in_the_middle_nothing_is_proven",
            changes::namespaces_deleted,
        ),
        case(
            "a_source_without_any_egress_is_proven_though_its_start_leaks",
            changes::source_without_egress,
        ),
        case(
            "workloads_budgets_and_autoscalers_are_as_they_were_all_the_time",
            untouched::all_the_time,
        ),
        with_control(
            "a_node_that_enforces_nothing_is_a_leak",
            enforcement_stopped,
        ),
        with_control(
            "a_node_that_does_not_forward_is_no_deny",
            broken::node_does_not_forward,
        ),
        case(
            "a_request_that_is_sent_once_and_that_nothing_denies_is_a_leak",
            broken::sent_once,
        ),
        with_control(
            "the_runners_account_is_held_to_probe_pods",
            account::held_to_probe_pods,
        ),
        with_control(
            "kubelet_and_containerd_that_restart_change_no_verdict",
            outages::kubelet_and_containerd,
        ),
        with_control(
            "a_node_that_cannot_be_asked_any_more_proves_nothing",
            outages::kubelet_for_good,
        ),
        case(
            "objects_of_killed_runners_are_gone_after_the_deadline",
            killed::is_gone_after_the_deadline,
        ),
        // Last: the scheduler needs half a minute to find an API server that was stopped.
        with_control(
            "an_api_server_that_restarts_changes_no_verdict",
            outages::api_server,
        ),
    ]
}

/// One case.
#[derive(Clone, Copy)]
pub(crate) struct Evaluation {
    /// Its name.
    pub(crate) name: &'static str,
    /// What it does.
    pub(crate) test: fn(),
    /// Whether it stops components of the cluster itself.
    pub(crate) needs_control: bool,
}

/// Namespaces of the shop.
pub(super) const NAMESPACES: [&str; 2] = ["wt-test-shop", "wt-test-data"];

/// Checks of the shop that cannot be proven here: the metadata address of this cluster does not
/// answer.
const UNANSWERED: [&str; 3] = [
    "web-tier -> metadata:80 denied",
    "api -> metadata:80 denied",
    "postgres -> metadata:80 denied",
];

/// The one that every sabotage of the database's policy must show in.
pub(crate) const TIERS: &str = "web-tier -> postgres:5432 denied [tier-isolation]";

/// What of the cluster's own state a run must not touch: ready endpoints, replicas and the pods of
/// each workload.
fn state() -> BTreeMap<&'static str, String> {
    let mut state = BTreeMap::new();
    for namespace in NAMESPACES {
        let slices = kubectl(&[
            "-n",
            namespace,
            "get",
            "endpointslices",
            "-o",
            "jsonpath={range .items[*].endpoints[?(@.conditions.ready==true)]}{.addresses}{.targetRef.name}{\"\\n\"}{end}",
        ]);
        let mut slices: Vec<&str> = slices.lines().collect();
        slices.sort_unstable();
        let workloads = kubectl(&[
            "-n",
            namespace,
            "get",
            "replicasets,statefulsets,deployments",
            "-o",
            "jsonpath={range .items[*]}{.kind}/{.metadata.name} {.metadata.generation} {.status.replicas} {.status.readyReplicas}{\"\\n\"}{end}",
        ]);
        state.insert(namespace, format!("{slices:?}\n{workloads}"));
    }
    state
}

/// Everything that runs have made and that is still there, a line each that begins with its
/// namespace.
pub(crate) fn made() -> Vec<String> {
    let columns = "custom-columns=S:.metadata.namespace,A:.metadata.annotations,N:.metadata.name";
    let all = kubectl(&["get", "pods,jobs", "-A", "--no-headers", "-o", columns]);
    all.lines()
        .filter(|line| line.contains("watertight.dev/run"))
        .map(str::to_owned)
        .collect()
}

/// The same without what killed runners left, which is looked for by a case of its own.
pub(crate) fn ours() -> Vec<String> {
    made()
        .into_iter()
        .filter(|line| !line.starts_with(killed::NAMESPACE))
        .collect()
}

fn as_it_is() {
    put();
    let before = state();
    for attempt in 1.. {
        let said = shop(&[]);
        if said.is_busy() && attempt < TRIES {
            continue;
        }
        for (check, (verdict, reason)) in &said.verdicts {
            let expected = if UNANSWERED.contains(&check.as_str()) {
                ("unproven", Some("no-control-answered"))
            } else {
                ("proven", None)
            };
            assert_eq!(
                (verdict.as_str(), reason.as_deref()),
                expected,
                "{check}\n{}",
                said.text
            );
        }
        assert_eq!((said.verdicts.len(), said.code), (18, 4), "{}", said.text);
        assert!(
            said.sent_as.iter().all(|sent_as| sent_as == "clone"),
            "{:?}",
            said.sent_as
        );
        assert!(
            matches!(said.images.as_slice(), [one] if one.contains("sha256:")),
            "{:?}",
            said.images
        );
        break;
    }

    assert_eq!(state(), before, "the workloads are as they were");
    until_gone("what the run made", Duration::from_secs(20), ours);
}

fn only_tiers() -> Said {
    shop(&["--only", "tier-isolation"])
}

fn deleted_policy() {
    put();
    kubectl(&["-n", "wt-test-data", "delete", "networkpolicy", "postgres"]);
    let said = only_tiers();
    assert_eq!(
        (said.of(TIERS).0, said.code),
        ("violated", 3),
        "{}",
        said.text
    );
}

fn wider_policy() {
    put();
    apply(
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: { name: wider, namespace: wt-test-data }\n\
         spec:\n  podSelector: {}\n  ingress: [{ from: [{ namespaceSelector: { matchLabels: { tier: frontend } } }] }]\n",
    );
    let said = only_tiers();
    kubectl(&["-n", "wt-test-data", "delete", "networkpolicy", "wider"]);

    assert_eq!(
        (said.of(TIERS).0, said.code),
        ("violated", 3),
        "{}",
        said.text
    );
}

fn scaled_to_nothing() {
    put();
    kubectl(&[
        "-n",
        "wt-test-data",
        "scale",
        "statefulset/postgres",
        "--replicas=0",
    ]);
    until("the database is gone", Duration::from_secs(60), || {
        kubectl(&[
            "-n",
            "wt-test-data",
            "get",
            "pods",
            "--no-headers",
            "-o",
            "name",
        ])
        .is_empty()
    });
    let said = shop(&["--only", "tier-isolation|api -> postgres"]);

    assert!(
        said.verdicts
            .values()
            .all(|(verdict, _)| verdict == "unproven"),
        "{}",
        said.text
    );
    assert!(
        !said.verdicts.is_empty() && matches!(said.code, 4 | 5),
        "{}",
        said.text
    );
}

/// A Deployment whose pods are ready but do not listen on the port that they declare.
fn dead_listener() {
    put();
    let patch = r#"[{"op":"replace","path":"/spec/template/spec/containers/0/args/1","value":"--http-port=5433"}]"#;
    kubectl(&[
        "-n",
        "wt-test-data",
        "patch",
        "statefulset/postgres",
        "--type=json",
        "-p",
        patch,
    ]);
    kubectl(&[
        "-n",
        "wt-test-data",
        "rollout",
        "status",
        "statefulset/postgres",
        "--timeout=120s",
    ]);
    let said = only_tiers();

    assert_eq!(said.of(TIERS).0, "unproven", "{}", said.text);
}

/// A run with an image that is nowhere: it says which, where, and what the node answered. One that
/// may be pulled is in no registry; one that may not is on no node.
fn image_missing() {
    put();
    for (policy, answer) in [
        ("Never", "ErrImageNeverPull"),
        ("IfNotPresent", "ErrImagePull"),
    ] {
        let image = "registry.invalid/no-such-image:0";
        let began = Instant::now();
        let said = shop(&[
            "--only",
            "tier-isolation",
            "--probe-image",
            image,
            "--image-pull-policy",
            policy,
        ]);

        assert_eq!(
            (said.of(TIERS), said.code),
            (("unproven", Some("probe-fault")), 5),
            "{}",
            said.text
        );
        assert!(
            began.elapsed() < Duration::from_secs(45),
            "it waits for {:?}",
            began.elapsed()
        );
        for word in [image, answer, "node-1: ", "node-2: ", "--probe-image"] {
            assert!(said.text.contains(word), "{word}\n{}", said.text);
        }
    }
}

/// The name of a running probe of the web tier.
fn web_probe() -> Option<String> {
    let probes = running_probes();
    let name = probes
        .lines()
        .find_map(|line| line.strip_prefix("wt-test-shop"))?;
    Some(name.trim().to_owned())
}

fn probe_killed() {
    put();
    let killer = std::thread::spawn(|| {
        until("a probe runs", Duration::from_secs(60), || {
            web_probe().is_some()
        });
        kubectl(&[
            "-n",
            "wt-test-shop",
            "delete",
            "pod",
            &web_probe().unwrap(),
            "--grace-period=1",
            "--wait=false",
        ]);
    });
    let said = only_tiers();
    killer.join().unwrap();

    assert_eq!(said.of(TIERS).0, "unproven", "{}", said.text);
}

fn killed_run() {
    put();
    let folder = tempfile::tempdir().unwrap();
    let mut child = started(folder.path());
    until(
        "the run has created something",
        Duration::from_secs(60),
        || ours().len() > 3,
    );
    child.kill().unwrap();
    child.wait().unwrap();
    let (code, said) = clean(&[]);

    assert_eq!(code, 0, "{said}");
    assert!(
        said.contains("may be going on") && !said.contains("removed"),
        "a young run is spared: {said}"
    );
    let (code, said) = clean(&["--all-runs"]);

    assert_eq!(code, 0, "{said}");
    assert!(
        said.contains("removed Job") && said.contains("removed Pod"),
        "{said}"
    );
    until_gone("what the run made", Duration::from_secs(30), ours);
}

/// The cluster has no name server while this exists.
struct Nameless;

impl Nameless {
    const SCALE: [&str; 4] = ["-n", "kube-system", "scale", "deployment/coredns"];

    fn now() -> Self {
        kubectl(&[&Self::SCALE[..], &["--replicas=0"]].concat());
        Self
    }
}

impl Drop for Nameless {
    fn drop(&mut self) {
        kubectl(&[&Self::SCALE[..], &["--replicas=1"]].concat());
        kubectl(&[
            "-n",
            "kube-system",
            "rollout",
            "status",
            "deployment/coredns",
            "--timeout=60s",
        ]);
    }
}

/// What is said of outside names is unproven; what needs no name server is as it was.
fn without_name_servers() {
    put();
    let _nameless = Nameless::now();
    until("no name server is left", Duration::from_secs(30), || {
        kubectl(&[
            "-n",
            "kube-system",
            "get",
            "pods",
            "-l",
            "k8s-app=kube-dns",
            "-o",
            "name",
        ])
        .is_empty()
    });
    let said = shop(&["--only", "payment|tier-isolation", "--timeout", "12s"]);
    let named = said
        .verdicts
        .iter()
        .filter(|(check, _)| check.contains("payment"));
    let verdicts: Vec<_> = named
        .map(|(check, (verdict, _))| (check.as_str(), verdict.as_str()))
        .collect();

    assert!(!verdicts.is_empty(), "{}", said.text);
    for (check, verdict) in verdicts {
        // Without an address no deny can be proven; an allow may also be violated, as it is
        // blocked.
        let denied = check.ends_with(" denied");
        assert!(
            verdict == "unproven" || (!denied && verdict == "violated"),
            "{check}: {verdict}\n{}",
            said.text
        );
    }

    assert_ne!(said.of(TIERS).0, "violated", "{}", said.text);
}

fn interrupted() {
    put();
    let folder = tempfile::tempdir().unwrap();
    let mut child = started(folder.path());
    until("its probes run", Duration::from_secs(60), || {
        running_probes().lines().count() > 3
    });
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(child.id().cast_signed()),
        nix::sys::signal::Signal::SIGINT,
    )
    .unwrap();
    let begun = std::time::Instant::now();
    let status = child.wait().unwrap();

    assert_eq!(
        status.code(),
        Some(5),
        "nothing was violated, and not everything was tested"
    );
    assert!(
        begun.elapsed() < Duration::from_secs(30),
        "{:?}",
        begun.elapsed()
    );
    until_gone("what the run made", Duration::from_secs(20), ours);
}

/// Components of this cluster stand still while this exists.
pub(crate) struct Stopped(&'static str);

impl Stopped {
    pub(crate) fn component(name: &'static str) -> Self {
        control(&["stop", name]);
        Self(name)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        control(&["start", self.0]);
    }
}

/// Only flows to or from node-2 leak: the enforcer there is stopped and lets everything through.
fn enforcement_stopped() {
    put();
    let _stopped = Stopped::component("node-2/netpol");
    let said = shop(&["--only", "tier-isolation|api -> web-tier"]);
    assert_eq!(
        (said.of(TIERS).0, said.code),
        ("violated", 3),
        "{}",
        said.text
    );
    assert!(said.text.contains("node-2"), "{}", said.text);
}
