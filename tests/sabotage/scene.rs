//! Writing a suite and its manifests.

use crate::features::{Direction, Feature};
use crate::runner::{Evaluation, Turns};
use std::fmt::Write as _;
use std::path::Path;
use watertight::event::Expected;

/// A world in the making.
#[derive(Debug, Default)]
pub(crate) struct Scene {
    manifests: String,
    endpoints: String,
    lines: String,
}

impl Scene {
    /// Adds an object, as YAML.
    pub(crate) fn object(&mut self, yaml: &str) {
        let _ = write!(self.manifests, "---\n{yaml}\n");
    }

    /// Adds a namespace with labels.
    pub(crate) fn namespace(&mut self, name: &str, labels: &str) {
        self.object(&format!(
            "{{apiVersion: v1, kind: Namespace, metadata: {{name: {name}, labels: {{{labels}}}}}}}"
        ));
    }

    /// Adds a pod: `NAMESPACE/NAME`, labels, ports, and what else its spec and status say.
    pub(crate) fn pod(&mut self, full: &str, labels: &str, ports: &str, spec: &str, status: &str) {
        let (namespace, name) = full.split_once('/').expect("namespace/name");
        let container = format!("{{name: main, image: main, ports: [{}]}}", declared(ports));
        self.object(&format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: {namespace}, labels: {{{labels}}}}}\n\
             spec: {{containers: [{container}]{spec}}}\nstatus: {{{status}}}"
        ));
    }

    /// Adds a pod of namespace `s` that has its name as its label `app`.
    pub(crate) fn app(&mut self, name: &str, ports: &str, node: &str) {
        let labels = format!("app: {name}");
        let spec = format!(", nodeName: {node}");
        self.pod(&format!("s/{name}"), &labels, ports, &spec, "");
    }

    /// Adds a policy.
    pub(crate) fn policy(&mut self, full: &str, spec: &str) {
        let (namespace, name) = full.split_once('/').expect("namespace/name");
        self.object(&format!(
            "{{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {{name: {name}, namespace: {namespace}}}, \
             spec: {{{spec}}}}}"
        ));
    }

    /// Adds an endpoint by name, where a URL needs one.
    pub(crate) fn endpoint(&mut self, name: &str, found: &str) {
        let _ = writeln!(self.endpoints, "    {name}: {{ {found} }}");
    }

    /// Adds a line that shows a feature.
    pub(crate) fn shows(
        &mut self,
        feature: Feature,
        direction: Direction,
        line: &str,
        expected: Expected,
    ) {
        let tags = format!("{}, {}", feature.code(), direction.tag());
        self.line(&format!("{line} {expected}"), &format!("tags: [{tags}]"));
    }

    /// Adds a line with settings, if any.
    pub(crate) fn line(&mut self, line: &str, settings: &str) {
        let comma = if settings.is_empty() { "" } else { ", " };
        let _ = writeln!(self.lines, "    - {{ check: '{line}'{comma}{settings} }}");
    }

    /// Writes it all down, where people can run it by hand, and reads it.
    pub(crate) fn case(self, name: &str) -> Evaluation {
        let suite = format!(
            "apiVersion: watertight.dev/v1\nkind: Suite\nmetadata: {{ name: {name} }}\nspec:\n  \
             settings: {{ hold: 2s, timeout: 4s }}\n  endpoints:\n{}  expect:\n{}",
            if self.endpoints.is_empty() {
                "    {}\n"
            } else {
                &self.endpoints
            },
            self.lines
        );
        self.case_of(name, &suite)
    }

    /// The same with a suite as it is written, in place of the scene's endpoints and lines.
    pub(crate) fn case_of(self, name: &str, suite: &str) -> Evaluation {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"))
            .join("sabotage")
            .join(name);
        let manifests = folder.join("manifests");
        std::fs::create_dir_all(&manifests).expect("a folder for the world");
        std::fs::write(manifests.join("world.yaml"), self.manifests)
            .expect("the manifests are written");
        std::fs::write(folder.join("suite.yaml"), suite).expect("the suite is written");
        Evaluation::load(name, &folder, Turns::Halves)
    }
}

/// `web=80 90/udp` as container ports.
fn declared(ports: &str) -> String {
    let ports = ports.split_whitespace().map(|port| {
        let (name, port) = port
            .split_once('=')
            .map_or((String::new(), port), |(name, port)| {
                (format!("name: {name}, "), port)
            });
        let (number, protocol) = port.split_once('/').unwrap_or((port, "tcp"));
        format!(
            "{{{name}containerPort: {number}, protocol: {}}}",
            protocol.to_uppercase()
        )
    });
    ports.collect::<Vec<_>>().join(", ")
}
