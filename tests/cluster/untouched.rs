//! What a run must leave alone, looked at before, all the time and afterwards: ready endpoints,
//! replicas and their pods, disruption budgets, autoscalers, and what happened to workloads.

use super::run::{Said, plan, suite};
use super::world::{IMAGE, apply, kubectl, put_namespace, until};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The namespace.
pub(crate) const NAMESPACE: &str = "wt-test-calm";

/// `web` and `set` are sources; the two others own whatever has their pods' labels, so they are
/// none. `early` publishes addresses of pods before they are ready.
const SUITE: &str = "
apiVersion: watertight.dev/v1
kind: Suite
metadata: { name: calm }
spec:
  endpoints:
    web: { namespace: wt-test-calm, workload: Deployment/web, service: web }
    set: { namespace: wt-test-calm, workload: StatefulSet/set }
    each: { namespace: wt-test-calm, workload: DaemonSet/each, service: early }
    bare: { namespace: wt-test-calm, workload: ReplicaSet/bare }
  expect:
    - web -> bare allowed
    - set -> bare denied
    - web, set -> each allowed
    - set -> web allowed
";

fn template(app: &str) -> String {
    format!(
        "selector: {{ matchLabels: {{ app: {app} }} }}
  template:
    metadata: {{ labels: {{ app: {app} }} }}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
        - {{ name: c, image: {IMAGE}, imagePullPolicy: Never, args: [netexec, --http-port=8080, --udp-port=-1], ports: [{{ name: http, containerPort: 8080 }}], resources: {{ requests: {{ cpu: 5m }} }} }}
"
    )
}

/// The beginning of a workload, up to the first key of its spec.
fn head(kind: &str, name: &str) -> String {
    format!(
        "---\napiVersion: apps/v1\nkind: {kind}\nmetadata: {{ name: {name}, namespace: {NAMESPACE} }}\nspec:\n  "
    )
}

fn service(name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{ name: {name}, namespace: {NAMESPACE} }}\nspec: {{ {spec}, ports: [{{ port: 80, targetPort: 8080 }}] }}\n"
    )
}

/// A disruption budget of the pods of one workload.
fn budget(name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: policy/v1\nkind: PodDisruptionBudget\nmetadata: {{ name: {name}, namespace: {NAMESPACE} }}\nspec: {{ {spec}, selector: {{ matchLabels: {{ app: {name} }} }} }}\n"
    )
}

fn world() -> String {
    [
        head("Deployment", "web") + "replicas: 2\n  " + &template("web"),
        head("StatefulSet", "set") + "serviceName: set\n  replicas: 2\n  podManagementPolicy: Parallel\n  " + &template("set"),
        head("DaemonSet", "each") + &template("each"),
        head("ReplicaSet", "bare") + "replicas: 2\n  " + &template("bare"),
        service("web", "selector: { app: web }"),
        service("set", "clusterIP: None, selector: { app: set }"),
        service("early", "selector: { app: each }, publishNotReadyAddresses: true"),
        budget("web", "minAvailable: 1"),
        budget("set", "maxUnavailable: 1"),
        budget("each", "minAvailable: 1"),
        budget("bare", "minAvailable: 50%"),
        format!(
            "---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {{ name: web, namespace: {NAMESPACE} }}
spec:
  scaleTargetRef: {{ apiVersion: apps/v1, kind: Deployment, name: web }}
  minReplicas: 2
  maxReplicas: 4
  metrics: [{{ type: Resource, resource: {{ name: cpu, target: {{ type: Utilization, averageUtilization: 80 }} }} }}]
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {{ name: bare, namespace: {NAMESPACE} }}
spec: {{ podSelector: {{ matchLabels: {{ app: bare }} }}, ingress: [{{ from: [{{ podSelector: {{ matchLabels: {{ app: web }} }} }}] }}] }}
"
        ),
    ]
    .concat()
}

/// The output of kubectl for objects by a template, one line for each, in order.
fn lines(what: &str, template: &str) -> String {
    let path = format!("jsonpath={{range .items[*]}}{template}{{\"\\n\"}}{{end}}");
    let text = kubectl(&["-n", NAMESPACE, "get", what, "-o", &path]);
    let mut lines: Vec<&str> = text
        .lines()
        .filter(|line| !line.trim().is_empty())
        .collect();
    lines.sort_unstable();
    lines.join("\n")
}

/// The state of every object that a run did not create.
fn state() -> BTreeMap<&'static str, String> {
    let ready = "{.metadata.name}: {range .endpoints[?(@.conditions.ready==true)]}{.targetRef.name} {.addresses} {end}";
    let pods = lines(
        "pods",
        "{.metadata.ownerReferences[?(@.controller==true)].name}/{.metadata.name} {.metadata.uid} {.status.phase} {.status.containerStatuses[*].restartCount}",
    );
    // Ours have no controller.
    let pods: Vec<&str> = pods.lines().filter(|line| !line.starts_with('/')).collect();
    // Controllers count repetitions themselves; only events of another kind matter.
    let events = lines(
        "events",
        "{.involvedObject.kind}/{.involvedObject.name} {.type} {.reason}",
    );
    // A disruption budget warns that no controller manages the probes; preflight warns of that
    // before.
    let of_workloads = |line: &&str| {
        !line.starts_with("Pod/")
            && !line.starts_with("Job/")
            && !line.ends_with("Warning UnmanagedPods")
    };
    let mut events: Vec<&str> = events.lines().filter(of_workloads).collect();
    events.dedup();
    BTreeMap::from([
        (
            "endpoints",
            lines(
                "endpoints",
                "{.metadata.name}: {.subsets[*].addresses[*].targetRef.name}",
            ),
        ),
        ("endpoint slices", lines("endpointslices", ready)),
        ("pods", pods.join("\n")),
        (
            "workloads",
            lines(
                "deployments,replicasets,statefulsets,daemonsets",
                "{.kind}/{.metadata.name} {.metadata.generation} {.spec.replicas} {.status.replicas} {.status.readyReplicas} {.status.numberReady} {.status.desiredNumberScheduled} {.status.conditions[*].status}",
            ),
        ),
        (
            "disruption budgets",
            lines(
                "poddisruptionbudgets",
                // Not `expectedPods`: where a number of pods is asked for it counts all pods with
                // these labels, probes too, and nothing follows from it (pkg/controller/disruption,
                // `getExpectedPodCount`).
                "{.metadata.name} {.status.currentHealthy} {.status.desiredHealthy} {.status.disruptionsAllowed} {.status.conditions[*].reason}",
            ),
        ),
        (
            "autoscalers",
            lines(
                "horizontalpodautoscalers",
                "{.metadata.name} {.status.currentReplicas} {.status.desiredReplicas} {.status.conditions[*].type} {.status.conditions[*].status} {.status.conditions[*].reason}",
            ),
        ),
        ("events", events.join("\n")),
    ])
}

/// How two states differ, one entry for each kind of object.
fn differences(
    before: &BTreeMap<&'static str, String>,
    now: &BTreeMap<&'static str, String>,
) -> Vec<String> {
    let differs = |(kind, state): &(&&str, &String)| before[**kind] != **state;
    now.iter()
        .filter(differs)
        .map(|(kind, state)| format!("{kind}:\n{}\nwas\n{}", state, before[kind]))
        .collect()
}

fn run(arguments: &[&str]) -> Said {
    suite(SUITE, &[&["--timeout", "25s"], arguments].concat())
}

/// Whether all controllers have updated the status of their objects.
///
/// Nothing measures CPU time here, so the autoscaler reports that it cannot scale, from its second
/// reading on.
fn settled() -> bool {
    let now = state();
    now["autoscalers"].contains("FailedGetResourceMetric")
        && now["disruption budgets"]
            .lines()
            .all(|line| line.ends_with("SufficientPods"))
}

pub(crate) fn all_the_time() {
    put_namespace(NAMESPACE);
    apply(&world());

    for workload in ["deployment/web", "statefulset/set", "daemonset/each"] {
        kubectl(&[
            "-n",
            NAMESPACE,
            "rollout",
            "status",
            workload,
            "--timeout=120s",
        ]);
    }

    until(
        "all controllers have updated their objects' status",
        Duration::from_secs(90),
        settled,
    );

    let refused = run(&["--only", "web -> bare"]);
    assert!(
        matches!(refused.code, 4 | 5) && refused.text.contains("--allow-hpa"),
        "{}",
        refused.text
    );

    let planned = plan(SUITE);
    for message in [
        "an event would name the clone as a pod without a controller",
        "the clone in expectedPods",
    ] {
        assert!(planned.contains(message), "{planned}");
    }

    let before = state();
    let over = Arc::new(AtomicBool::new(false));
    let watcher = {
        let (over, before) = (Arc::clone(&over), before.clone());
        std::thread::spawn(move || {
            let (mut readings, mut seen) = (0, Vec::new());
            while !over.load(Ordering::Relaxed) {
                seen.extend(differences(&before, &state()));
                readings += 1;
            }
            (readings, seen)
        })
    };
    let said = run(&["--allow-hpa"]);
    over.store(true, Ordering::Relaxed);
    let (readings, seen) = watcher.join().unwrap();

    assert!(readings >= 5, "read only {readings} times");
    assert_eq!(seen, Vec::<String>::new(), "while it ran\n{}", said.text);
    assert_eq!(
        differences(&before, &state()),
        Vec::<String>::new(),
        "afterwards\n{}",
        said.text
    );
    assert_eq!(
        said.of("set -> bare:8080 denied").0,
        "proven",
        "{}",
        said.text
    );
    assert_eq!(
        said.of("web -> bare:8080 allowed").0,
        "proven",
        "{}",
        said.text
    );
    assert!(matches!(said.code, 0 | 4), "{}", said.text);
}
