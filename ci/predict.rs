//! How long predictions take, and how they grow: `cargo bench --bench predict`.
//!
//! First the complete map in this process: every workload has different labels, so that no two form
//! one class, and two policies: one for ingress, one for egress; with selectors of both kinds,
//! ranges, named ports and address blocks. One thread. Then the command itself, from manifests to
//! standard output (alone with `-- command`), each in a process of its own, since peak memory is
//! counted for a process.

use k8s_openapi::api::networking::v1::NetworkPolicySpec;
use nix::sys::resource::{UsageWho, getrusage};
use serde_json::{Value, json};
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
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

/// What the command may take for some manifests.
struct Budget {
    manifests: PathBuf,
    arguments: &'static [&'static str],
    seconds: f64,
    megabytes: f64,
}

/// A pod with labels that no other has.
fn pod_text(number: usize, in_namespace: usize) -> String {
    let namespace = number / in_namespace;
    let port = 8_000 + number % 100;
    format!(
        "---\napiVersion: v1\nkind: Pod\nmetadata:\n  name: p{number}\n  namespace: ns-{namespace}\n  labels:\n    app: p{number}\n    \
         tier: t{tier}\nspec:\n  containers:\n  - name: c\n    image: registry.example/app:{number}\n    ports:\n    - name: http\n      \
         containerPort: {port}\n",
        tier = number % 4
    )
}

/// A policy that selects one pod and admits the next one, and every address but one.
fn policy_text(number: usize, in_namespace: usize) -> String {
    let namespace = number / in_namespace;
    let peer = namespace * in_namespace + (number + 1) % in_namespace;
    format!(
        "---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata:\n  name: p{number}\n  namespace: ns-{namespace}\nspec:\n  \
         podSelector:\n    matchLabels:\n      app: p{number}\n  policyTypes: [Ingress]\n  ingress:\n  - from:\n    - podSelector:\n        \
         matchLabels:\n          app: p{peer}\n    - ipBlock:\n        cidr: 0.0.0.0/0\n        except: [169.254.169.254/32]\n    ports:\n    \
         - port: http\n"
    )
}

fn pods_and_policies(pods: usize, policies: usize, in_namespace: usize) -> String {
    let pods = (0..pods).map(|number| pod_text(number, in_namespace));
    let policies = (0..policies).map(|number| policy_text(number, in_namespace));
    pods.chain(policies).collect()
}

/// An install file of two megabytes, nearly all of it schemas of custom resources.
fn install_file() -> String {
    const BYTES: usize = 2_000_000;
    let mut text = pods_and_policies(10, 10, 10);
    let mut number = 0;
    while text.len() < BYTES {
        text.push_str(&format!(
            "---\napiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata:\n  name: things{number}.example.com\nspec:\n  \
             group: example.com\n  versions:\n  - name: v1\n    schema:\n      openAPIV3Schema:\n        type: object\n        properties:\n"
        ));
        add_schema(&mut text, 10, 3);
        number += 1;
    }
    text
}

/// Five properties with descriptions, and as many below each of them down to a depth.
fn add_schema(text: &mut String, indent: usize, depth: usize) {
    let margin = " ".repeat(indent);
    for number in 0..5 {
        text.push_str(&format!(
            "{margin}field{number}:\n{margin}  description: |-\n{margin}    What this field is for, and how it relates: to others.\n\
             {margin}    More info: https://example.com/docs/api#field\n"
        ));
        if depth > 0 {
            text.push_str(&format!("{margin}  type: object\n{margin}  properties:\n"));
            add_schema(text, indent + 4, depth - 1);
        } else {
            text.push_str(&format!("{margin}  type: string\n"));
        }
    }
}

/// Measures the command, each time in a process of its own; the greatest share of a budget.
fn measure_command(out: &mut impl Write) -> std::io::Result<f64> {
    let folder = tempfile::tempdir()?;
    let file = |name: &str, text: String| -> std::io::Result<PathBuf> {
        let path = folder.path().join(name);
        std::fs::write(&path, text)?;
        Ok(path)
    };
    let bare = file("20,000 pods", pods_and_policies(20_000, 200, 1_000))?;
    let identities = file("5,000 identities", pods_and_policies(5_000, 5_000, 100))?;
    let workloads = file("1,000 workloads", pods_and_policies(1_000, 1_000, 20))?;
    let install = file("a 2 MB install file", install_file())?;
    let budget = |manifests: &PathBuf, arguments, seconds, megabytes| Budget {
        manifests: manifests.clone(),
        arguments,
        seconds,
        megabytes,
    };

    let mut greatest = 0.0_f64;
    for budget in [
        budget(&bare, &["--from", "ns-3/Pod/p3007"], 2.0, 300.0),
        budget(&bare, &["--to", "ns-0/Pod/p7"], 2.0, 300.0),
        budget(&bare, &[], 10.0, 300.0),
        budget(&identities, &["-o", "csv"], 60.0, 500.0),
        budget(&workloads, &["-o", "csv"], 3.0, 200.0),
        budget(&install, &[], 0.5, 200.0),
    ] {
        let (seconds, megabytes) = measure(&budget)?;
        let name = budget.manifests.file_name().unwrap_or_default();
        writeln!(
            out,
            "predict {} of {}: {seconds:.2} s of {}, {megabytes:.0} MB of {}",
            budget.arguments.join(" "),
            name.display(),
            budget.seconds,
            budget.megabytes
        )?;
        greatest = greatest.max(seconds / budget.seconds);
        greatest = greatest.max(megabytes / budget.megabytes);
    }
    Ok(greatest)
}

/// The seconds and the megabytes that the command takes, as a copy of this program measures them.
fn measure(budget: &Budget) -> std::io::Result<(f64, f64)> {
    let output = Command::new(std::env::current_exe()?)
        .env(MEASURED, "1")
        .arg("predict")
        .arg(&budget.manifests)
        .args(budget.arguments)
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let mut numbers = text.split_whitespace().filter_map(|word| word.parse().ok());
    let (seconds, kib): (Option<f64>, Option<f64>) = (numbers.next(), numbers.next());
    let failed = || std::io::Error::other(String::from_utf8_lossy(&output.stderr).into_owned());
    Ok((
        seconds.ok_or_else(failed)?,
        kib.ok_or_else(failed)? / 1_024.0,
    ))
}

/// Set for the copy of this program that runs the command with its arguments.
const MEASURED: &str = "WATERTIGHT_BENCH_COMMAND";

/// Runs the command and prints its seconds and its peak memory in KiB.
fn run_measured() -> std::io::Result<()> {
    let started = Instant::now();
    let status = Command::new(env!("CARGO_BIN_EXE_watertight"))
        .args(std::env::args_os().skip(1))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()?;
    let seconds = started.elapsed().as_secs_f64();
    if !status.success() {
        return Err(std::io::Error::other(format!(
            "the command ended with {status}"
        )));
    }
    let used = getrusage(UsageWho::RUSAGE_CHILDREN).map_err(std::io::Error::other)?;
    writeln!(std::io::stdout(), "{seconds} {}", used.max_rss())
}

fn main() -> std::io::Result<()> {
    if std::env::var_os(MEASURED).is_some() {
        return run_measured();
    }
    let mut out = std::io::stdout();
    if !std::env::args().any(|argument| argument == "command") {
        measure_maps(&mut out)?;
    }
    let ratio = measure_command(&mut out)?;
    writeln!(out, "\nThe command: {ratio:.2} of its budgets.")
}

/// Measures complete maps in this process.
fn measure_maps(out: &mut impl Write) -> std::io::Result<()> {
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
         Memory is four bytes for each identity and 256 others at a time, direction and family, and the policies.\n"
    )
}
