//! How long the complete map takes, and how it grows: `cargo bench --bench predict`.
//!
//! Every workload has different labels, so that no two form one class, and two policies: one for
//! ingress, one for egress; with selectors of both kinds, ranges, named ports and address blocks.
//! One thread.

use k8s_openapi::api::networking::v1::NetworkPolicySpec;
use serde_json::{Value, json};
use std::io::Write;
use std::time::Instant;
use watertight::inventory::{
    ContainerPort, Inventory, Labels, Namespace, NetworkPolicy, Pod, Policy, RuleOrigins,
    read_cluster_policy,
};
use watertight::model::{Port, Transport, WorkloadKind, WorkloadRef};
use watertight::policy::Predictor;

const WORKLOADS_IN_A_NAMESPACE: usize = 20;
/// The budget of 1,000 workloads and 2,000 policies.
const BUDGET_SECONDS: f64 = 1.0;
const BUDGET_MEGABYTES: f64 = 200.0;

fn labels(pairs: &[(&str, String)]) -> Labels {
    pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), value.clone()))
        .collect()
}

fn world(workloads: usize) -> Inventory {
    let mut inventory = Inventory::default();
    for number in 0..workloads {
        add_namespace(&mut inventory, number);
        inventory.pods.push(pod(number));

        let peer = format!("w-{}", (number * 7 + 1) % workloads);
        for (direction, spec) in [("in", ingress(number, &peer)), ("out", egress(number))] {
            inventory.policies.push(Policy::Network(NetworkPolicy {
                namespace: namespace(number),
                name: format!("w-{number}-{direction}"),
                spec: serde_json::from_value::<NetworkPolicySpec>(spec).expect("a spec"),
                origin: String::new(),
                rule_origins: RuleOrigins::default(),
            }));
        }
    }
    inventory
}

/// The namespace of a workload.
fn namespace(number: usize) -> String {
    format!("ns-{}", number / WORKLOADS_IN_A_NAMESPACE)
}

fn add_namespace(inventory: &mut Inventory, number: usize) {
    let name = namespace(number);
    let team = format!("t-{}", number / WORKLOADS_IN_A_NAMESPACE % 10);
    inventory
        .namespaces
        .entry(name.clone())
        .or_insert_with(|| Namespace {
            name,
            labels: labels(&[("team", team)]),
        });
}

fn pod(number: usize) -> Pod {
    let name = format!("w-{number}");
    Pod {
        namespace: namespace(number),
        name: format!("{name}-0"),
        uid: String::new(),
        labels: labels(&[
            ("app", name.clone()),
            ("tier", format!("tier-{}", number % 4)),
        ]),
        ports: vec![ContainerPort {
            name: Some("http".into()),
            port: Port::new(8_000 + (number % 100) as u16, Transport::Tcp).expect("a port"),
        }],
        workloads: vec![WorkloadRef {
            kind: WorkloadKind::Deployment,
            name,
        }],
        host_network: false,
        has_proxy: false,
        ready: true,
        node: "node-1".into(),
        addresses: vec![[10, 1, (number / 250) as u8, (number % 250) as u8].into()],
    }
}

/// A policy with a rule by pod labels, one by namespace labels and one by addresses.
fn ingress(number: usize, peer: &str) -> Value {
    let block = format!("198.18.{}.0/24", number % 200);
    let except = format!("198.18.{}.128/25", number % 200);
    json!({
        "podSelector": { "matchLabels": { "app": format!("w-{number}") } },
        "policyTypes": ["Ingress"],
        "ingress": [
            {
                "from": [
                    { "podSelector": { "matchLabels": { "tier": "tier-1" } } },
                    { "namespaceSelector": {}, "podSelector": { "matchLabels": { "app": peer } } },
                ],
                "ports": [{ "port": "http" }, { "port": 9_000 + number % 50, "endPort": 9_100 }],
            },
            {
                "from": [{ "namespaceSelector": { "matchLabels": { "team": format!("t-{}", number % 10) } } }],
                "ports": [{ "port": 443 }, { "protocol": "UDP", "port": 53 }],
            },
            { "from": [{ "ipBlock": { "cidr": block, "except": [except] } }] },
        ],
    })
}

/// A policy with a rule that excludes a team, and one by ports.
fn egress(number: usize) -> Value {
    let other_teams =
        json!({ "key": "team", "operator": "NotIn", "values": [format!("t-{}", number % 10)] });
    json!({
        "podSelector": { "matchLabels": { "app": format!("w-{number}") } },
        "policyTypes": ["Egress"],
        "egress": [
            { "to": [{ "namespaceSelector": { "matchExpressions": [other_teams] } }] },
            {
                "to": [{ "podSelector": {} }],
                "ports": [{ "port": "http" }, { "port": 1, "endPort": 1_000 + number % 30 }],
            },
        ],
    })
}

/// Adds cluster-wide policies, half of each tier: every namespace is their subject, and each rule
/// selects the namespaces of one team.
fn add_cluster_policies(
    inventory: &mut Inventory,
    policies: usize,
    rules: usize,
) -> std::io::Result<()> {
    for number in 0..policies {
        let spec = json!({
            "tier": if number % 2 == 0 { "Admin" } else { "Baseline" }, "priority": number,
            "subject": { "namespaces": {} },
            "ingress": (0..rules).map(|rule| cluster_rule(number, rule, "from")).collect::<Vec<_>>(),
            "egress": (0..rules).map(|rule| cluster_rule(number, rule, "to")).collect::<Vec<_>>(),
        });
        let object = json!({ "kind": "ClusterNetworkPolicy", "metadata": { "name": format!("c-{number}") }, "spec": spec });
        let policy = read_cluster_policy(&object)
            .map_err(|faults| std::io::Error::other(faults.join("; ")))?;
        inventory.policies.push(Policy::Cluster(policy));
    }
    Ok(())
}

/// Rule `rule` of policy `number`, whose peers stand under `key`: `from` or `to`.
fn cluster_rule(number: usize, rule: usize, key: &str) -> Value {
    let action = ["Accept", "Deny", "Pass"][(number + rule) % 3];
    let team = json!({ "namespaces": { "matchLabels": { "team": format!("t-{}", (number + rule) % 10) } } });
    let port = 9_000 + (number * 31 + rule * 7) % 1_000;
    let range = json!({ "start": port, "end": port + 20 });
    let protocols = json!([{ "tcp": { "destinationPort": { "range": range } } }]);
    json!({ "action": action, key: [team], "protocols": protocols })
}

/// The peak memory of this process, in megabytes (`VmHWM`, proc(5)).
fn peak() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .unwrap_or_default();
    line.trim()
        .trim_end_matches(" kB")
        .parse()
        .unwrap_or(f64::NAN)
        / 1_024.0
}

fn main() -> std::io::Result<()> {
    let mut out = std::io::stdout();
    writeln!(
        out,
        "workloads  policies   complete map   per pair   pairs open   peak memory   as a list of links"
    )?;
    let mut ratio = 0.0_f64;
    for workloads in [100, 300, 1_000, 3_000] {
        let inventory = world(workloads);
        let before = peak();
        let started = Instant::now();
        let mut predictor = Predictor::new(&inventory).map_err(std::io::Error::other)?;
        let open = predictor.count_open_pairs();
        let seconds = started.elapsed().as_secs_f64();
        let megabytes = peak();
        assert_eq!(
            predictor.identities(),
            workloads,
            "every workload has different labels"
        );
        let pairs = (workloads * workloads) as f64;
        let links = if workloads <= 1_000 {
            let started = Instant::now();
            let links = predictor.all_links().count();
            format!("{:.2} s for {links}", started.elapsed().as_secs_f64())
        } else {
            "not made".to_owned()
        };
        writeln!(
            out,
            "{workloads:>9}  {:>8}   {seconds:>10.3} s   {:>5.0} ns   {open:>10}   {megabytes:>5.0} MB ({before:.0} before)   {links}",
            inventory.policies.len(),
            seconds * 1e9 / pairs,
        )?;
        if workloads == 1_000 {
            ratio = (seconds / BUDGET_SECONDS).max(megabytes / BUDGET_MEGABYTES);
        }
    }

    for (workloads, isolated) in [(300, true), (1_000, true), (1_000, false)] {
        let mut inventory = world(workloads);
        // Baseline is for pods without NetworkPolicies.
        if !isolated {
            inventory.policies.clear();
        }
        add_cluster_policies(&mut inventory, 40, 20)?;
        let started = Instant::now();
        let open = Predictor::new(&inventory)
            .map_err(std::io::Error::other)?
            .count_open_pairs();
        let seconds = started.elapsed().as_secs_f64();
        writeln!(
            out,
            "{workloads:>9}  {:>8} and 40 cluster-wide with 20 rules a direction: {seconds:.3} s, {open} pairs open",
            inventory.policies.len()
        )?;
        if workloads == 1_000 {
            ratio = ratio.max(seconds / BUDGET_SECONDS);
        }
    }
    writeln!(
        out,
        "\n1,000 workloads: {ratio:.2} of the budget ({BUDGET_SECONDS} s, {BUDGET_MEGABYTES} MB).\n\
         Growth: each pair costs one look-up of the intersection of two sets of ports, so the time grows with the square of\n\
         the identities; reading policies grows with their number, and finding their peers with policies x identities / 64,\n\
         by words of bits. A tier of cluster-wide policies costs its rules x identities, once for all pods with the same labels.\n\
         Memory is four bytes for each pair, direction and family, and the policies."
    )
}
