//! The runner's account of `ci/kustomize`: what a run needs it may do, and what a thief of its token
//! would do is refused by `ci/kustomize/admission`, even where the account has every right of the
//! namespace.

use super::run::calm_suite;
use super::world::{
    IMAGE, apply, control_output, deployment, kubectl, put_namespace, try_kubectl, until,
};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The tested namespace.
pub(crate) const NAMESPACE: &str = "wt-test-account";

/// The namespace of the runner, as the kustomizations name it.
pub(crate) const RUNNER: &str = "watertight";

/// The probe's image, as it is loaded onto the nodes.
const PROBE: &str = "localhost/watertight-probe:0.1.0";

const SUITE: &str = "
apiVersion: watertight.dev/v1
kind: Suite
metadata: { name: account }
spec:
  endpoints:
    server: { namespace: wt-test-account, workload: Deployment/server }
    client: { namespace: wt-test-account, workload: Deployment/client }
    friend: { namespace: wt-test-account, workload: Deployment/friend }
  expect:
    - client -> server:8080 denied
    - friend -> server:8080 allowed
    - client -> friend:8080 allowed
";

fn world() -> String {
    ["server", "client", "friend"]
        .map(|name| deployment(NAMESPACE, name))
        .concat()
        + "apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: { name: server, namespace: wt-test-account }
spec: { podSelector: { matchLabels: { app: server } }, ingress: [{ from: [{ podSelector: { matchLabels: { app: friend } } }] }] }
---
apiVersion: v1
kind: ServiceAccount
metadata: { name: rich, namespace: wt-test-account }
---
apiVersion: v1
kind: Secret
metadata: { name: treasure, namespace: wt-test-account }
stringData: { key: gold }
"
}

/// Every right of the tested namespace, for the account of the runner.
const EVERY_RIGHT: &str = "
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: { name: everything, namespace: wt-test-account }
rules: [{ apiGroups: ['*'], resources: ['*'], verbs: ['*'] }]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: { name: everything, namespace: wt-test-account }
roleRef: { apiGroup: rbac.authorization.k8s.io, kind: Role, name: everything }
subjects: [{ kind: ServiceAccount, namespace: watertight, name: watertight }]
";

/// The probe's image by its digest, which each node knows under that name from now on.
fn image_by_digest() -> String {
    let mut name = String::new();
    for node in ["node-1", "node-2"] {
        let listed = control_output(&["ctr", node, "images", "ls"]);
        let digest = listed
            .lines()
            .find(|line| line.starts_with(&format!("{PROBE} ")))
            .and_then(|line| line.split_whitespace().nth(2))
            .unwrap();
        let (repository, _) = PROBE.rsplit_once(':').unwrap();
        name = format!("{repository}@{digest}");
        if !listed.contains(&name) {
            control_output(&["ctr", node, "images", "tag", PROBE, &name]);
        }
    }
    name
}

/// Writes an overlay as `ci/kustomize` describes it, and applies it.
fn apply_overlay(folder: &Path, image: &str, components: &[&str]) {
    // Kustomize takes no absolute paths.
    let up = "../".repeat(folder.canonicalize().unwrap().components().count() - 1);
    let base = format!("{up}{}/ci/kustomize", &env!("CARGO_MANIFEST_DIR")[1..]);
    let components: String = components
        .iter()
        .map(|name| format!("  - {base}/admission/{name}\n"))
        .collect();
    let components = if components.is_empty() {
        String::new()
    } else {
        format!("components:\n{components}")
    };
    let overlay = format!(
        "apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
resources:
  - {base}/base
  - {base}/rbac/default
  - {base}/admission
  - tested
{components}patches:
  - target: {{ kind: ValidatingAdmissionPolicy, name: watertight-(pods|ephemeral-containers) }}
    patch: |
      - op: replace
        path: /spec/variables/0/expression
        value: \"'{image}'\"
"
    );
    let tested = format!(
        "apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
namespace: {NAMESPACE}
resources: [../{base}/rbac/namespaced]
"
    );
    std::fs::create_dir_all(folder.join("tested")).unwrap();
    std::fs::write(folder.join("kustomization.yaml"), overlay).unwrap();
    std::fs::write(folder.join("tested/kustomization.yaml"), tested).unwrap();
    kubectl(&["apply", "-k", folder.to_str().unwrap()]);
}

/// A kubeconfig with a token of the runner's account.
fn kubeconfig(folder: &Path) -> PathBuf {
    let token = kubectl(&["-n", RUNNER, "create", "token", "watertight"]);
    let admin = kubectl(&["config", "view", "--raw", "--minify", "-o", "json"]);
    let admin: Value = serde_json::from_str(&admin).unwrap();
    let cluster = &admin["clusters"][0];
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "runner", "clusters": [cluster],
        "contexts": [{ "name": "runner", "context": { "cluster": cluster["name"], "user": "runner", "namespace": RUNNER } }],
        "users": [{ "name": "runner", "user": { "token": token.trim() } }],
    });
    let path = folder.join("kubeconfig");
    std::fs::write(&path, config.to_string()).unwrap();
    path
}

/// What may be tried with the runner's token.
struct Account {
    kubeconfig: String,
}

impl Account {
    /// Whether it succeeds, and what kubectl says.
    fn tries(&self, arguments: &[&str], input: &str) -> (bool, String) {
        let all = [
            &["--kubeconfig", &self.kubeconfig, "-n", NAMESPACE],
            arguments,
        ]
        .concat();
        try_kubectl(&all, input)
    }

    /// The answer to the creation of an object, by a dry run of the API server.
    fn creates(&self, object: &Value) -> (bool, String) {
        let arguments = ["create", "--dry-run=server", "-f", "-"];
        self.tries(&arguments, &object.to_string())
    }

    /// The creation of an object is refused by admission.
    fn may_not_create(&self, object: &Value, what: &str) {
        let (done, said) = self.creates(object);
        assert!(!done && said.contains("watertight: "), "{what}: {said}");
    }
}

const RUN: &str = "0123456789abcdef";

/// A probe pod as a run makes it.
fn probe_pod(image: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": format!("watertight-00112233aa-p0x{RUN}"), "namespace": NAMESPACE, "labels": { "app": "client" },
            "annotations": { "watertight.dev/run": RUN, "watertight.dev/source": "a source" },
            "ownerReferences": [{
                "apiVersion": "batch/v1", "kind": "Job", "name": format!("watertight-{RUN}"),
                "uid": "00000000-0000-0000-0000-000000000000", "controller": false,
            }],
        },
        "spec": {
            "activeDeadlineSeconds": 90, "automountServiceAccountToken": false, "restartPolicy": "Never",
            "readinessGates": [{ "conditionType": "watertight.dev/never-ready" }],
            "serviceAccountName": "rich",
            "securityContext": {
                "runAsNonRoot": true, "runAsUser": 65532, "runAsGroup": 65532, "seccompProfile": { "type": "RuntimeDefault" },
            },
            "containers": [{
                "name": "probe", "image": image, "args": ["__probe"],
                "env": [
                    { "name": "WATERTIGHT_PLAN_0", "value": "x" },
                    { "name": "TOKEN", "valueFrom": { "secretKeyRef": { "name": format!("watertight-{RUN}-headers"), "key": "TOKEN" } } },
                ],
                "securityContext": {
                    "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] }, "readOnlyRootFilesystem": true,
                    "runAsNonRoot": true, "runAsUser": 65532, "seccompProfile": { "type": "RuntimeDefault" },
                },
            }],
        },
    })
}

/// A copy of an object with other values at JSON pointers.
fn with(object: &Value, changes: &[(&str, Value)]) -> Value {
    let mut object = object.clone();
    for (pointer, value) in changes {
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        object.pointer_mut(parent).unwrap()[key.replace("~1", "/")] = value.clone();
    }
    object
}

fn stolen_pods(image: &str) -> Vec<(&'static str, Value)> {
    let pod = probe_pod(image);
    let one = |what, pointer: &str, value: Value| (what, with(&pod, &[(pointer, value)]));
    let container = &pod["spec"]["containers"][0];
    let mount = json!([{ "name": "v", "mountPath": "/v" }]);
    let volume = |what, source: Value| {
        let changes = [
            ("/spec/volumes", json!([source])),
            ("/spec/containers/0/volumeMounts", mount.clone()),
        ];
        (what, with(&pod, &changes))
    };
    let token = json!({ "name": "v", "projected": { "sources": [{ "serviceAccountToken": { "path": "token" } }] } });
    let privileged = json!({ "privileged": true, "allowPrivilegeEscalation": true });
    let run = "/metadata/annotations/watertight.dev~1run";
    let other = |name: &str| with(container, &[("/name", json!(name))]);
    let from = |source: Value| json!([{ "name": "WATERTIGHT_X", "valueFrom": source }]);
    let secret = json!({ "secretKeyRef": { "name": "treasure", "key": "key" } });
    let config = json!({ "configMapKeyRef": { "name": "kube-root-ca.crt", "key": "ca.crt" } });
    vec![
        one("a foreign name", "/metadata/name", json!("web-1")),
        one("no annotation", "/metadata/annotations", json!({})),
        one("another run's annotation", run, json!("fedcba9876543210")),
        one(
            "a foreign annotation",
            "/metadata/annotations/k8s.v1.cni.cncf.io~1networks",
            json!("host"),
        ),
        one("no owner", "/metadata/ownerReferences", json!([])),
        one(
            "another owner",
            "/metadata/ownerReferences/0/name",
            json!("web"),
        ),
        one("another image", "/spec/containers/0/image", json!(IMAGE)),
        one("an image by tag", "/spec/containers/0/image", json!(PROBE)),
        one("a command", "/spec/containers/0/command", json!(["sh"])),
        one(
            "other arguments",
            "/spec/containers/0/args",
            json!(["__responder"]),
        ),
        one(
            "a privileged container",
            "/spec/containers/0/securityContext",
            privileged,
        ),
        one(
            "no security context",
            "/spec/containers/0/securityContext",
            json!({}),
        ),
        one(
            "a capability",
            "/spec/containers/0/securityContext/capabilities/add",
            json!(["NET_RAW"]),
        ),
        one("user 0", "/spec/securityContext/runAsUser", json!(0)),
        one(
            "a port",
            "/spec/containers/0/ports",
            json!([{ "containerPort": 80, "hostPort": 80 }]),
        ),
        one(
            "a hook",
            "/spec/containers/0/lifecycle",
            json!({ "postStart": { "sleep": { "seconds": 1 } } }),
        ),
        one(
            "all of a Secret",
            "/spec/containers/0/envFrom",
            json!([{ "secretRef": { "name": "treasure" } }]),
        ),
        one("another Secret", "/spec/containers/0/env", from(secret)),
        one("a ConfigMap", "/spec/containers/0/env", from(config)),
        volume(
            "a path of the node",
            json!({ "name": "v", "hostPath": { "path": "/" } }),
        ),
        volume(
            "a Secret as a volume",
            json!({ "name": "v", "secret": { "secretName": "treasure" } }),
        ),
        volume("a token as a volume", token),
        one(
            "a token of another account",
            "/spec/automountServiceAccountToken",
            json!(true),
        ),
        one("the host's network", "/spec/hostNetwork", json!(true)),
        one("the host's processes", "/spec/hostPID", json!(true)),
        one("the host's IPC", "/spec/hostIPC", json!(true)),
        one(
            "a second container",
            "/spec/containers",
            json!([container, other("second")]),
        ),
        one(
            "an init container",
            "/spec/initContainers",
            json!([other("first")]),
        ),
        one(
            "a pod that becomes ready",
            "/spec/readinessGates",
            json!([]),
        ),
        one(
            "a pod that stays",
            "/spec/activeDeadlineSeconds",
            Value::Null,
        ),
        one("a chosen node", "/spec/nodeName", json!("node-1")),
        one("a host name", "/spec/hostname", json!("db-0")),
    ]
}

fn owner_job() -> Value {
    json!({
        "apiVersion": "batch/v1", "kind": "Job",
        "metadata": { "name": format!("watertight-{RUN}"), "namespace": NAMESPACE, "annotations": { "watertight.dev/run": RUN } },
        "spec": {
            "completions": 0, "parallelism": 0, "ttlSecondsAfterFinished": 60,
            "template": { "spec": { "restartPolicy": "Never", "containers": [{ "name": "c", "image": "x" }] } },
        },
    })
}

fn secret(name: &str, kind: &str) -> Value {
    let pod = probe_pod("");
    json!({
        "apiVersion": "v1", "kind": "Secret", "type": kind,
        "metadata": {
            "name": name, "namespace": NAMESPACE,
            "annotations": { "watertight.dev/run": RUN, "kubernetes.io/service-account.name": "rich" },
            "ownerReferences": pod["metadata"]["ownerReferences"],
        },
    })
}

fn canary_policy() -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {
            "name": format!("watertight-canary-deny-{RUN}"), "namespace": NAMESPACE,
            "annotations": { "watertight.dev/run": RUN },
        },
        "spec": { "podSelector": { "matchLabels": { "watertight.dev/canary": RUN } } },
    })
}

/// What a thief does with kubectl, and cannot by the rights of `rbac/namespaced` alone.
fn is_refused_by_rights(account: &Account) {
    for arguments in [
        &["get", "secrets"][..],
        &["get", "secret", "treasure"],
        &["exec", "deployment/server", "--", "true"],
        &["create", "token", "rich"],
        &["create", "configmap", "x"],
        &["label", "pod", "-l", "app=server", "x=y"],
        &["create", "deployment", "x", "--image=x"],
        &["create", "-f", "-"],
        &["-n", "kube-system", "delete", "pods", "--all"],
    ] {
        let (done, said) = account.tries(arguments, &secret("x", "Opaque").to_string());
        assert!(!done, "{arguments:?}: {said}");
    }
}

/// What admission refuses even where the account has every right of the namespace.
fn is_refused_by_admission(account: &Account, image: &str) {
    let (done, said) = account.creates(&probe_pod(image));
    assert!(done, "a probe pod is allowed: {said}");
    let (done, said) = account.creates(&owner_job());
    assert!(done, "an owner Job is allowed: {said}");
    for (what, pod) in stolen_pods(image) {
        account.may_not_create(&pod, what);
    }
    let job = owner_job();
    for (what, pointer, value) in [
        ("a Job that runs pods", "/spec/parallelism", json!(1)),
        ("a foreign Job", "/metadata/name", json!("backup")),
    ] {
        account.may_not_create(&with(&job, &[(pointer, value)]), what);
    }
    for name in ["treasure-2", "watertight-0123456789abcdef"] {
        account.may_not_create(&secret(name, "Opaque"), name);
    }

    let server = kubectl(&[
        "-n",
        NAMESPACE,
        "get",
        "pods",
        "-l",
        "app=server",
        "-o",
        "name",
    ]);
    let server = server.lines().next().unwrap();
    for arguments in [
        &["exec", server, "--", "true"][..],
        &["delete", server],
        &["delete", "pods", "--all"],
        &["label", server, "x=y"],
        &[
            "debug",
            server,
            "--image=localhost/busybox:1",
            "-c",
            "x",
            "--",
            "true",
        ],
        &["create", "token", "rich"],
        &["create", "configmap", "x"],
        &["create", "deployment", "x", "--image=x"],
        &["delete", "deployment", "server"],
        &["delete", "networkpolicy", "server"],
    ] {
        let (done, said) = account.tries(arguments, "");
        assert!(
            !done && said.contains("watertight: "),
            "{arguments:?}: {said}"
        );
    }
}

/// What the components of `admission` allow, and no more than that.
fn components_allow_one_thing_each(account: &Account, image: &str) {
    let node_pod = with(
        &probe_pod(image),
        &[
            ("/spec/hostNetwork", json!(true)),
            ("/metadata/labels", json!({})),
        ],
    );
    let run_secret = format!("watertight-{RUN}-headers");
    for (what, object) in [
        ("a probe of a node", &node_pod),
        ("the Secret of a run", &secret(&run_secret, "Opaque")),
    ] {
        let (done, said) = account.creates(object);
        assert!(done, "{what}: {said}");
    }
    let workload = json!({ "app": "server" });
    let on_host = with(&node_pod, &[("/metadata/labels", workload)]);
    account.may_not_create(&on_host, "a workload's labels on the host's network");
    let token = secret(&run_secret, "kubernetes.io/service-account-token");
    account.may_not_create(&token, "a token of another account");
    account.may_not_create(&secret("treasure-2", "Opaque"), "a foreign Secret");

    let policy = canary_policy();
    let (done, said) = account.creates(&policy);
    assert!(done, "a policy of canaries: {said}");
    for (what, pointer, value) in [
        ("a foreign policy", "/metadata/name", json!("open")),
        ("a policy of every pod", "/spec/podSelector", json!({})),
    ] {
        account.may_not_create(&with(&policy, &[(pointer, value)]), what);
    }

    let arguments = [
        "debug",
        "deployment/server",
        "--image",
        image,
        "-c",
        "x",
        "--",
        "sh",
    ];
    let (done, said) = account.tries(&arguments, "");
    assert!(!done, "a foreign ephemeral container: {said}");
    let arguments = [
        "--kubeconfig",
        &account.kubeconfig,
        "--probe-image",
        image,
        "--source",
        "ephemeral",
        "--only",
        "client -> friend",
    ];
    let said = calm_suite(SUITE, &arguments);
    assert_eq!(
        said.of("client -> friend:8080 allowed"),
        ("proven", None),
        "{}",
        said.text
    );
    assert!(
        said.sent_as.iter().all(|sent_as| sent_as == "ephemeral"),
        "{:?}",
        said.sent_as
    );
}

/// An ordinary run passes with the rights of `rbac` under `admission`; a thief of the token gets no
/// further than probe pods.
pub(super) fn held_to_probe_pods() {
    put_namespace(NAMESPACE);
    apply(&world());
    for name in ["server", "client", "friend"] {
        let deployment = format!("deployment/{name}");
        kubectl(&[
            "-n",
            NAMESPACE,
            "rollout",
            "status",
            &deployment,
            "--timeout=120s",
        ]);
    }
    let image = image_by_digest();
    let folder = tempfile::tempdir().unwrap();
    apply_overlay(folder.path(), &image, &[]);
    let kubeconfig = kubeconfig(folder.path());
    let account = Account {
        kubeconfig: kubeconfig.to_str().unwrap().to_owned(),
    };
    // Policies take effect some time after they were created.
    until("the policies are in force", Duration::from_secs(30), || {
        account
            .creates(&probe_pod(IMAGE))
            .1
            .contains("watertight: ")
    });

    let arguments = ["--kubeconfig", &account.kubeconfig, "--probe-image", &image];
    let said = calm_suite(SUITE, &arguments);
    for check in [
        "client -> server:8080 denied",
        "friend -> server:8080 allowed",
    ] {
        assert_eq!(said.of(check), ("proven", None), "{}", said.text);
    }
    assert_eq!((said.code, said.leftovers.len()), (0, 0), "{}", said.text);

    is_refused_by_rights(&account);
    apply(EVERY_RIGHT);
    is_refused_by_admission(&account, &image);

    let components = ["node-probes", "secrets", "canary", "ephemeral"];
    apply_overlay(folder.path(), &image, &components);
    until(
        "the components are in force",
        Duration::from_secs(30),
        || {
            let run_secret = format!("watertight-{RUN}");
            account.creates(&secret(&run_secret, "Opaque")).0
        },
    );
    components_allow_one_thing_each(&account, &image);
    kubectl(&[
        "delete",
        "-k",
        folder.path().to_str().unwrap(),
        "--timeout=120s",
    ]);
    kubectl(&["delete", "namespace", NAMESPACE, "--timeout=120s"]);
}
