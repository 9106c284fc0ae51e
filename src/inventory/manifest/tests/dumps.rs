//! Tests of dumps (`kubectl get -o yaml`), which contain the same pods several times.

use super::{chain, good, names, workload};

const POD: &str = "apiVersion: v1
kind: Pod
metadata:
  name: web-7d4b9-x2x4z
  labels: { app: web, pod-template-hash: 7d4b9 }
  ownerReferences: [{ apiVersion: apps/v1, kind: ReplicaSet, name: web-7d4b9, uid: u, controller: true }]
spec: { nodeName: node-2, containers: [{ name: c, ports: [{ containerPort: 80 }] }] }
status:
  phase: Running
  conditions: [{ type: PodScheduled, status: \"True\" }, { type: Ready, status: \"True\" }]
  podIP: 10.1.2.3
  podIPs: [{ ip: 10.1.2.3 }, { ip: \"fd00::3\" }]
";

fn replica_set(replicas: u32) -> String {
    workload("ReplicaSet", "web", &format!("replicas: {replicas}")).replace(
        "metadata: { name: web }",
        "metadata: { name: web-7d4b9, ownerReferences: [{ apiVersion: apps/v1, kind: Deployment, name: web, uid: d, controller: true }] }",
    )
}

#[test]
fn listed_pods_replace_the_template_of_their_deployment() {
    let text = [
        workload("Deployment", "web", "replicas: 3"),
        replica_set(3),
        POD.to_owned(),
    ]
    .join("---\n");
    let manifests = good(&text);
    assert_eq!(manifests.pods.len(), 1);
    let pod = &manifests.pods[0];
    assert_eq!(
        chain(pod),
        "ReplicaSet/web-7d4b9 < Deployment/web < Pod/web-7d4b9-x2x4z"
    );
    assert_eq!(
        pod.addresses
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>(),
        ["10.1.2.3", "fd00::3"]
    );
    assert!(pod.ready);
}

#[test]
fn a_pod_has_its_deployment_as_workload_without_its_replica_set() {
    let text = [workload("Deployment", "web", "replicas: 3"), POD.to_owned()].join("---\n");
    let manifests = good(&text);
    assert_eq!(names(&manifests), ["default/web-7d4b9-x2x4z"]);
    assert_eq!(
        chain(&manifests.pods[0]),
        "ReplicaSet/web-7d4b9 < Deployment/web < Pod/web-7d4b9-x2x4z"
    );
}

#[test]
fn a_replica_set_whose_deployment_is_listed_makes_no_pods() {
    let text = [workload("Deployment", "web", "replicas: 2"), replica_set(2)].join("---\n");
    assert_eq!(names(&good(&text)), ["default/web-0", "default/web-1"]);
    let alone = good(&replica_set(2));
    assert_eq!(
        chain(&alone.pods[1]),
        "ReplicaSet/web-7d4b9 < Deployment/web < Pod/web-7d4b9-1"
    );
}

#[test]
fn finished_pods_are_left_out_and_their_workload_makes_none() {
    for phase in ["Succeeded", "Failed"] {
        let ended = POD.replace("phase: Running", &format!("phase: {phase}"));
        assert!(good(&ended).pods.is_empty());
        assert!(
            good(&[workload("Deployment", "web", ""), ended].join("---\n"))
                .pods
                .is_empty()
        );
    }
}

#[test]
fn readiness_follows_from_the_status() {
    let ready = |from: &str, to: &str| good(&POD.replace(from, to)).pods[0].ready;
    assert!(ready("phase: Running", "phase: Running"));
    assert!(!ready(
        "type: Ready, status: \"True\"",
        "type: Ready, status: \"False\""
    ));
    assert!(!ready("type: Ready,", "type: Other,"));
    assert!(!ready(
        "  name: web",
        "  deletionTimestamp: \"2024-01-01T00:00:00Z\"\n  name: web"
    ));
    let bare =
        "apiVersion: v1\nkind: Pod\nmetadata: { name: p }\nspec: { containers: [{ name: c }] }\n";
    assert!(good(bare).pods[0].ready);
    assert!(!good(&format!("{bare}status: {{ phase: Pending }}\n")).pods[0].ready);
}

#[test]
fn owners_of_other_groups_are_ignored_and_circles_of_owners_end() {
    let rollout = POD.replace(
        "apiVersion: apps/v1, kind: ReplicaSet",
        "apiVersion: argoproj.io/v1alpha1, kind: ReplicaSet",
    );
    assert_eq!(chain(&good(&rollout).pods[0]), "Pod/web-7d4b9-x2x4z");
    let circle = workload("ReplicaSet", "web", "").replace(
        "metadata: { name: web }",
        "metadata: { name: web, ownerReferences: [{ apiVersion: apps/v1, kind: ReplicaSet, name: web, uid: d, controller: true }] }",
    );
    assert!(good(&circle).pods.is_empty());
}

#[test]
fn fields_that_are_not_needed_are_ignored() {
    let manifests = good(
        "apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
  uid: 6f0c
  resourceVersion: \"1\"
  generation: 1
  creationTimestamp: \"2024-01-01T00:00:00Z\"
  annotations: { deployment.kubernetes.io/revision: \"1\" }
  managedFields:
  - { manager: kubectl, operation: Update, apiVersion: apps/v1, time: \"2024-01-01T00:00:00Z\", fieldsType: FieldsV1, fieldsV1: { \"f:spec\": { \".\": {} } } }
spec:
  selector: { matchLabels: { app: web } }
  strategy: { type: RollingUpdate, rollingUpdate: { maxSurge: 25%, maxUnavailable: 1 } }
  template:
    metadata: { creationTimestamp: null, labels: { app: web } }
    spec:
      tolerations: [{ operator: Exists }]
      topologySpreadConstraints: []
      volumes:
      - { name: a, emptyDir: { sizeLimit: 1Gi } }
      - { name: b, configMap: { name: c, defaultMode: 0644 } }
      containers:
      - name: c
        image: i
        env: [{ name: A, valueFrom: { fieldRef: { fieldPath: status.podIP } } }]
        resources: { requests: { cpu: 1, memory: 64Mi }, limits: { cpu: 0.5 } }
        livenessProbe: { httpGet: { path: /, port: 8080 }, periodSeconds: 5 }
        readinessProbe: { grpc: { port: 9 } }
        ports: [{ containerPort: 8080, protocol: TCP }]
        someFieldOfTomorrow: { a: 1 }
status: { replicas: 1, conditions: [{ type: Available, status: \"True\", lastUpdateTime: \"2024-01-01T00:00:00Z\" }] }
",
    );
    assert_eq!(names(&manifests), ["default/web-0"]);
}
