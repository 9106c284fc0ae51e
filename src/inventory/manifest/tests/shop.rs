//! Tests of a shop whose manifests are in several files.

use super::{chain, names, read};

pub(super) const FILES: [(&str, &str); 3] = [
    ("shop/namespaces.yaml", NAMESPACES),
    ("shop/web.yaml", WEB),
    ("shop/data.json", DATA),
];

const NAMESPACES: &str = "\
apiVersion: v1
kind: Namespace
metadata:
  name: shop
  labels: { tier: front }
---
apiVersion: v1
kind: Namespace
metadata: { name: data, labels: { tier: back } }
";

const WEB: &str = "\
# The web tier and the API.
---
apiVersion: apps/v1
kind: Deployment
metadata: { name: web, namespace: shop }
spec:
  replicas: 2
  selector:
    matchLabels: { app: web }
  template:
    metadata:
      labels: { app: web, version: \"1\" }
    spec:
      containers:
      - name: nginx
        image: nginx:1.27
        ports:
        - { name: http, containerPort: 8080 }
        readinessProbe: { httpGet: { path: /, port: http } }
---
apiVersion: apps/v1
kind: Deployment
metadata: { name: api, namespace: shop }
spec:
  selector:
    matchExpressions: [{ key: app, operator: In, values: [api] }]
  template:
    metadata: { labels: { app: api } }
    spec:
      initContainers:
      - { name: migrate, image: api, ports: [{ containerPort: 1 }] }
      - { name: proxy, image: proxy, restartPolicy: Always, ports: [{ containerPort: 9000 }] }
      containers:
      - { name: api, image: api, ports: [{ containerPort: 8443 }] }
---
apiVersion: v1
kind: Service
metadata: { name: api, namespace: shop }
spec:
  selector: { app: api }
  ports:
  - { port: 443, targetPort: 8443 }
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: { name: api, namespace: shop }
spec:
  podSelector: { matchLabels: { app: api } }
  ingress:
  - from: [{ podSelector: { matchLabels: { app: web } } }]
    ports: [{ port: 8443 }]
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: { name: web, namespace: shop }
spec: { rules: [] }
---
";

const DATA: &str = r#"{
  "apiVersion": "v1", "kind": "List", "items": [
    { "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": { "name": "postgres", "namespace": "data" },
      "spec": { "replicas": 2, "serviceName": "postgres", "selector": { "matchLabels": { "app": "postgres" } },
        "template": { "metadata": { "labels": { "app": "postgres" } },
          "spec": { "containers": [{ "name": "db", "image": "postgres:17", "ports": [{ "name": "sql", "containerPort": 5432 }] }] } } } },
    { "apiVersion": "v1", "kind": "Service", "metadata": { "name": "postgres", "namespace": "data" },
      "spec": { "clusterIP": "None", "selector": { "app": "postgres" }, "ports": [{ "port": 5432, "targetPort": "sql" }] } },
    { "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": { "name": "postgres", "namespace": "data" },
      "spec": { "podSelector": { "matchLabels": { "app": "postgres" } }, "policyTypes": ["Ingress"],
        "ingress": [{ "from": [{ "namespaceSelector": { "matchLabels": { "tier": "front" } }, "podSelector": { "matchLabels": { "app": "api" } } }],
          "ports": [{ "protocol": "TCP", "port": "sql" }] }] } },
    { "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "s", "namespace": "vault" }, "stringData": { "a": "b" } }
  ]
}
"#;

#[test]
fn objects_of_several_files_are_read_together() {
    let (manifests, faults) = read(&FILES);
    assert_eq!(faults, Vec::<String>::new());
    assert_eq!(
        manifests.namespaces.keys().collect::<Vec<_>>(),
        ["data", "shop", "vault"]
    );
    assert_eq!(manifests.namespaces["shop"].labels["tier"], "front");
    assert_eq!(
        names(&manifests),
        [
            "shop/web-0",
            "shop/web-1",
            "shop/api-0",
            "data/postgres-0",
            "data/postgres-1"
        ]
    );
    assert_eq!(
        chain(&manifests.pods[4]),
        "StatefulSet/postgres < Pod/postgres-1"
    );
    let ports = |number: usize| {
        manifests.pods[number]
            .ports
            .iter()
            .map(|declared| declared.port.number())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        (ports(0), ports(2), ports(3)),
        (vec![8080], vec![8443, 9000], vec![5432])
    );
    assert_eq!(manifests.services.len(), 2);
    let origins: Vec<&str> = manifests
        .policies
        .iter()
        .map(crate::inventory::policy::Policy::origin)
        .collect();
    assert_eq!(origins, ["shop/web.yaml:44", "shop/data.json:9"]);
    assert_eq!(
        manifests
            .ignored
            .iter()
            .map(|(kind, count)| (kind.as_str(), *count))
            .collect::<Vec<_>>(),
        [("Ingress", 1), ("Secret", 1)]
    );
}
