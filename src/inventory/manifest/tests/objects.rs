//! Tests of documents, workloads, pods and Services.

use super::{chain, faults, good, names, read, workload};
use crate::inventory::{Placement, ServiceKind, TargetPort};
use crate::model::{Family, Transport};

#[test]
fn a_document_without_a_kind_is_a_problem_and_an_empty_one_is_not() {
    assert!(good("---\n# nothing\n---\n\n---\nnull\n").pods.is_empty());
    assert_eq!(
        faults("kind: Pod\n"),
        ["1:1 a Kubernetes object needs apiVersion"]
    );
    assert_eq!(faults("metadata: {}\n").len(), 2);
    assert_eq!(
        faults("apiVersion: v1\nkind: 5\n"),
        ["2:7 kind must be a text"]
    );
    assert!(faults("- a\n")[0].starts_with("1:1 not a Kubernetes object"));
    assert!(faults("resources: [a.yaml]\n")[0].contains("kubectl kustomize"));
}

#[test]
fn items_of_lists_are_read_and_keep_their_positions() {
    let manifests = good(
        "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: NamespaceList\n  items:\n  - metadata: { name: a }\n\
         - { apiVersion: v1, kind: ConfigMap, metadata: { name: c, namespace: b } }\n",
    );
    assert_eq!(manifests.namespaces.keys().collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(manifests.ignored.get("ConfigMap"), Some(&1));
    let found = faults(
        "apiVersion: v1\nkind: PodList\nitems:\n- metadata: { name: a }\n  spec:\n    containers:\n    - name: c\n      ports:\n      - containerPort: x\n",
    );
    assert_eq!(found.len(), 1);
    assert!(
        found[0].starts_with("9:24 invalid type: string \"x\", expected i32"),
        "{found:?}"
    );
    assert_eq!(
        faults("apiVersion: v1\nkind: List\nitems: {a: 1}\n"),
        ["3:9 items must be a list"]
    );
}

#[test]
fn a_wrong_type_is_reported_at_its_node() {
    let found = faults(&workload("Deployment", "web", "replicas: \"3\""));
    assert!(
        found[0].starts_with("6:13 invalid type: string \"3\", expected i32"),
        "{found:?}"
    );
    assert_eq!(found.len(), 1);
}

#[test]
fn replicas_default_to_one_and_may_be_zero() {
    for (extra, expected) in [
        ("", 1),
        ("replicas: null", 1),
        ("replicas: 0", 0),
        ("replicas: 3", 3),
    ] {
        assert_eq!(
            good(&workload("Deployment", "web", extra)).pods.len(),
            expected,
            "{extra}"
        );
    }
    assert!(
        faults(&workload("Deployment", "web", "replicas: -1"))[0]
            .starts_with("6:13 -1 must not be negative")
    );
    assert!(
        faults(&workload("Deployment", "web", "replicas: 2000000000"))[0].contains("at most 10000")
    );
}

#[test]
fn every_kind_of_workload_makes_its_pods() {
    let job = "apiVersion: batch/v1\nkind: Job\nmetadata: { name: j, namespace: 'n' }\nspec:\n  parallelism: 3\n  completions: 2\n  template:\n    spec: { containers: [{ name: c }] }\n";
    let cron = "apiVersion: batch/v1\nkind: CronJob\nmetadata: { name: k, namespace: 'n' }\nspec:\n  schedule: '* * * * *'\n  jobTemplate: { spec: { template: { metadata: { labels: { app: k } }, spec: { containers: [{ name: c }] } } } }\n";
    let text = [
        workload("Deployment", "d", "replicas: 2"),
        workload("StatefulSet", "s", "replicas: 2\n  ordinals: { start: 5 }"),
        workload("DaemonSet", "a", ""),
        workload("ReplicaSet", "r", ""),
        job.to_owned(),
        cron.to_owned(),
    ]
    .join("---\n");
    let manifests = good(&text);
    let chains: Vec<String> = manifests.pods.iter().map(chain).collect();
    assert_eq!(
        chains,
        [
            "Deployment/d < Pod/d-0",
            "Deployment/d < Pod/d-1",
            "StatefulSet/s < Pod/s-5",
            "StatefulSet/s < Pod/s-6",
            "DaemonSet/a < Pod/a",
            "ReplicaSet/r < Pod/r-0",
            "Job/j < Pod/j-0",
            "Job/j < Pod/j-1",
            "CronJob/k < Pod/k-0",
        ]
    );
    let pod = |name: &str| {
        manifests
            .pods
            .iter()
            .find(|pod| pod.name == name)
            .expect(name)
    };
    assert_eq!(pod("a").placement, Placement::EveryNode);
    assert_eq!(pod("d-0").placement, Placement::Anywhere);
    assert_eq!(pod("d-0").namespace, "default");
    assert_eq!(
        pod("s-5").labels["statefulset.kubernetes.io/pod-name"],
        "s-5"
    );
    assert_eq!(pod("j-0").labels["job-name"], "j");
    assert_eq!(pod("k-0").labels.len(), 1);
}

#[test]
fn finished_and_suspended_jobs_make_no_pods() {
    let job = |spec: &str, rest: &str| {
        format!(
            "apiVersion: batch/v1\nkind: Job\nmetadata: {{ name: j }}\nspec: {{ {spec} template: {{ spec: {{ containers: [{{ name: c }}] }} }} }}\n{rest}"
        )
    };
    assert_eq!(good(&job("", "")).pods.len(), 1);
    assert_eq!(good(&job("suspend: true,", "")).pods.len(), 0);
    assert_eq!(
        good(&job(
            "",
            "status: { conditions: [{ type: Complete, status: \"True\" }] }\n"
        ))
        .pods
        .len(),
        0
    );
}

#[test]
fn a_template_without_the_labels_of_its_selector_is_a_problem() {
    let text =
        workload("Deployment", "web", "").replace("labels: { app: web }", "labels: { app: wbe }");
    let found = faults(&text);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0].starts_with(
            "8:27 the template's labels do not match the selector; they are: app=wbe (m:5:"
        ),
        "{found:?}"
    );
    let none = workload("Deployment", "web", "").replace("{ matchLabels: { app: web } }", "{}");
    assert!(faults(&none)[0].contains("a workload needs a selector"));
    assert!(
        faults("apiVersion: apps/v1\nkind: Deployment\nmetadata: { name: a }\n")[0]
            .contains("has no spec")
    );
}

#[test]
fn a_second_object_of_one_kind_and_name_is_a_problem() {
    let (_, found) = read(&[
        ("a.yaml", &workload("Deployment", "web", "")),
        ("b.yaml", &workload("Deployment", "web", "")),
    ]);
    assert_eq!(
        found,
        ["b.yaml:3:19 Deployment default/web is declared a second time (a.yaml:3:19 the first)"]
    );
    assert_eq!(
        names(&good(&format!(
            "{}---\n{}",
            workload("Deployment", "web", ""),
            workload("DaemonSet", "web", "")
        )))
        .len(),
        2
    );
}

#[test]
fn pods_of_two_templates_with_one_name_get_different_names() {
    let text = format!(
        "{}---\n{}",
        workload("Deployment", "web", ""),
        workload("StatefulSet", "web", "")
    );
    assert_eq!(
        names(&good(&text)),
        ["default/web-deployment-0", "default/web-0"]
    );
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: { name: web-0 }\nspec: { containers: [{ name: c }] }\n";
    assert_eq!(
        names(&good(&format!(
            "{}---\n{pod}",
            workload("Deployment", "web", "")
        ))),
        ["default/web-deployment-0", "default/web-0"]
    );
    let taken = faults(&format!("{}---\n{pod}", workload("StatefulSet", "web", "")));
    assert!(
        taken[0].contains("StatefulSet/web would make a Pod web-0, which is listed too"),
        "{taken:?}"
    );
}

#[test]
fn a_pod_has_the_ports_of_its_containers_and_native_sidecars() {
    let manifests = good(
        "apiVersion: v1\nkind: Pod\nmetadata: { name: p, namespace: 'n', labels: { app: p } }\nspec:\n  hostNetwork: true\n  nodeName: node-7\n  \
         containers:\n  - { name: c, ports: [{ name: http, containerPort: 8080 }, { containerPort: 53, protocol: UDP }] }\n  \
         - { name: istio-proxy, ports: [{ containerPort: 15090 }] }\n  initContainers:\n  \
         - { name: once, ports: [{ containerPort: 1 }] }\n  - { name: side, restartPolicy: Always, ports: [{ containerPort: 9090 }] }\n  \
         ephemeralContainers: [{ name: debug, ports: [{ containerPort: 2 }] }]\n",
    );
    let pod = &manifests.pods[0];
    let ports: Vec<String> = pod
        .ports
        .iter()
        .map(|declared| declared.port.to_string())
        .collect();
    assert_eq!(ports, ["8080", "53/udp", "9090"]);
    assert_eq!(pod.ports[0].name.as_deref(), Some("http"));
    assert!(pod.host_network && pod.ready);
    assert_eq!(pod.placement, Placement::Node("node-7".to_owned()));
    let bad = faults(
        "apiVersion: v1\nkind: Pod\nmetadata: { name: p, labels: { -: x } }\nspec: { containers: [{ name: c, ports: [{ containerPort: 0, name: HTTP, protocol: tcp }] }] }\n",
    );
    assert_eq!(bad.len(), 4, "{bad:?}");
}

#[test]
fn services_of_every_type_are_read() {
    let service = |spec: &str| {
        good(&format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{ name: s }}\nspec: {spec}\n"
        ))
        .services
        .remove(0)
    };
    let plain = service(
        "{ selector: { app: a }, ports: [{ port: 80 }], ipFamilies: [IPv6, IPv4], clusterIPs: [\"fd00::1\", 10.0.0.1], clusterIP: \"fd00::1\" }",
    );
    assert_eq!(
        (plain.kind, &plain.ports[0].target),
        (ServiceKind::ClusterIp, &TargetPort::Number(80))
    );
    assert_eq!(plain.families, [Family::V6, Family::V4]);
    assert_eq!(
        plain
            .addresses
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>(),
        ["fd00::1", "10.0.0.1"]
    );
    let named = service(
        "{ type: NodePort, ports: [{ name: a, port: 53, protocol: UDP, targetPort: dns, nodePort: 30053 }, { name: b, port: 53, targetPort: 5353 }] }",
    );
    assert_eq!(named.ports[0].target, TargetPort::Name("dns".to_owned()));
    assert_eq!(
        (named.ports[0].port.transport(), named.ports[0].node_port),
        (Transport::Udp, Some(30053))
    );
    assert_eq!(named.ports[1].target, TargetPort::Number(5353));
    let headless =
        service("{ clusterIP: None, selector: { app: a }, publishNotReadyAddresses: true }");
    assert!(headless.publish_not_ready && headless.addresses.is_empty());
    assert_eq!(headless.kind, ServiceKind::Headless);
    assert_eq!(
        service("{ type: ExternalName, externalName: db.example. }").kind,
        ServiceKind::ExternalName("db.example".to_owned())
    );
    assert_eq!(
        service("{ type: LoadBalancer, ports: [{ port: 443 }] }").kind,
        ServiceKind::ClusterIp
    );
}

#[test]
fn each_problem_of_a_service_is_reported_once() {
    for (spec, message) in [
        ("{}", "needs at least one port"),
        ("{ ports: [{ port: 0 }] }", "0 is not a port"),
        (
            "{ ports: [{ port: 80 }, { port: 81, name: b }] }",
            "needs a name for each",
        ),
        (
            "{ ports: [{ port: 80, name: a }, { port: 81, name: a }] }",
            "the port name \"a\" is used twice",
        ),
        (
            "{ ports: [{ port: 80, name: a }, { port: 80, name: b }] }",
            "port 80 is listed twice",
        ),
        (
            "{ ports: [{ port: 80, targetPort: \"8080\" }] }",
            "written without quotes",
        ),
        (
            "{ ports: [{ port: 80, protocol: HTTP }] }",
            "unknown protocol",
        ),
        ("{ type: Headless, ports: [{ port: 80 }] }", "unknown type"),
        ("{ type: ExternalName }", "externalName \"\" must be"),
        (
            "{ ipFamilies: [IPv5], ports: [{ port: 80 }] }",
            "unknown address family",
        ),
        (
            "{ clusterIP: 10.0.0, ports: [{ port: 80 }] }",
            "is not an IP address",
        ),
        (
            "{ selector: { a: \"-\" }, ports: [{ port: 80 }] }",
            "label value",
        ),
    ] {
        let found = faults(&format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{ name: s }}\nspec: {spec}\n"
        ));
        assert_eq!(found.len(), 1, "{spec}: {found:?}");
        assert!(found[0].contains(message), "{spec}: {found:?}");
    }
}

#[test]
fn names_and_namespaces_are_checked() {
    for (metadata, message) in [
        ("{}", "this Pod has no name"),
        (
            "{ generateName: p- }",
            "write a name instead of generateName",
        ),
        ("{ name: P }", "name \"P\" must be"),
        ("{ name: p, namespace: a.b }", "namespace \"a.b\" must be"),
        ("{ name: 5 }", "expected a string [quote it"),
    ] {
        let found = faults(&format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {metadata}\nspec: {{ containers: [{{ name: c }}] }}\n"
        ));
        assert_eq!(found.len(), 1, "{metadata}: {found:?}");
        assert!(found[0].contains(message), "{metadata}: {found:?}");
    }
    let manifests = good(
        "apiVersion: v1\nkind: Namespace\nmetadata: { name: a, labels: { team: x, kubernetes.io/metadata.name: b } }\n",
    );
    assert_eq!(
        manifests.namespaces["a"].labels["kubernetes.io/metadata.name"],
        "a"
    );
    assert_eq!(manifests.namespaces["a"].labels["team"], "x");
}
