//! Flows whose handshakes a mesh's proxy answers.
//!
//! A sidecar, or a node's proxy in ambient mode, accepts a connection before it knows whether the
//! target may be reached, and closes it, or stays silent, where it may not. So a handshake through
//! a proxy shows nothing: bytes of the target do.

use super::{Flow, Source, TargetKind};
use crate::inventory::Inventory;
use crate::wire::{Stage, Transport};
use std::collections::BTreeSet;

/// Makes bytes of the target, in place of a handshake, the stage at which flows from and to meshed
/// pods are open. Returns a note that says so.
pub(super) fn require_bytes(
    inventory: &Inventory,
    probes: &[Source],
    flows: &mut [Flow],
) -> Option<String> {
    let meshed: BTreeSet<String> = inventory
        .pods
        .iter()
        .filter(|pod| inventory.is_meshed(pod))
        .map(crate::inventory::Pod::full_name)
        .collect();
    if meshed.is_empty() {
        return None;
    }
    let mut changed = 0_usize;
    for flow in flows {
        let source = &probes[flow.probe.0 as usize];
        if flow.to.transport == Transport::Tcp
            && flow.opens_at == Stage::Connect
            && (sends_from(&meshed, source) || goes_to(&meshed, &flow.target_kind))
        {
            flow.opens_at = Stage::FirstBytes;
            changed += 1;
        }
    }
    (changed > 0).then(|| {
        format!(
            "{changed} flows pass a mesh, whose proxies answer handshakes themselves: they count as open only by bytes of the \
             target, which few servers send unasked; lines that ask for a page (`-> http://...`) can be decided"
        )
    })
}

/// Whether a source is one of some pods, by `namespace/name`.
fn sends_from(pods: &BTreeSet<String>, source: &Source) -> bool {
    match source {
        Source::Pod {
            namespace, name, ..
        } => pods.contains(&format!("{namespace}/{name}")),
        Source::Node { .. } | Source::ReferencePod { .. } | Source::Runner => false,
    }
}

/// Whether a target is one of some pods, or a Service that leads to one.
fn goes_to(pods: &BTreeSet<String>, target_kind: &TargetKind) -> bool {
    match target_kind {
        TargetKind::Pod {
            namespace, name, ..
        } => pods.contains(&format!("{namespace}/{name}")),
        TargetKind::Service { pods: members, .. } => {
            members.iter().any(|member| pods.contains(member))
        }
        TargetKind::Node { .. } | TargetKind::ReferencePod { .. } | TargetKind::Outside { .. } => {
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::{Labels, Namespace, Pod};
    use crate::plan::{AnswerRule, ProbeId, TargetKey, Waits};
    use crate::wire::Request;
    use std::sync::Arc;

    fn pod(namespace: &str, name: &str, has_proxy: bool) -> Pod {
        Pod {
            namespace: namespace.into(),
            name: name.into(),
            uid: "1".into(),
            labels: Labels::new(),
            ports: vec![],
            workloads: vec![],
            host_network: false,
            has_proxy,
            ready: true,
            node: "n".into(),
            addresses: vec![],
        }
    }

    fn flow(probe: u32, to: &str, transport: Transport, request: Request) -> Flow {
        let key = TargetKey {
            address: [10, 0, 0, 1].into(),
            name: None,
            port: 80,
            transport,
            request,
            answer_rule: AnswerRule::Any,
            once: false,
        };
        let (namespace, name) = to.split_once('/').unwrap();
        let target_kind = TargetKind::Pod {
            namespace: namespace.into(),
            name: name.into(),
            node: "n".into(),
            ready: true,
            host_network: false,
        };
        Flow {
            probe: ProbeId(probe),
            to: Arc::new(key),
            target_kind: Arc::new(target_kind),
            opens_at: Stage::Connect,
            waits: Waits::default(),
        }
    }

    #[test]
    fn flows_from_and_to_meshed_pods_open_by_bytes() {
        let mut inventory = Inventory::default();
        let ambient = Labels::from([(
            crate::inventory::DATAPLANE_MODE.to_owned(),
            "ambient".to_owned(),
        )]);
        inventory.namespaces.insert(
            "ambient".into(),
            Namespace {
                name: "ambient".into(),
                labels: ambient,
            },
        );
        inventory.pods = vec![
            pod("a", "plain", false),
            pod("a", "sidecar", true),
            pod("ambient", "in", false),
        ];
        let out = Labels::from([(
            crate::inventory::DATAPLANE_MODE.to_owned(),
            "none".to_owned(),
        )]);
        inventory.pods.push(Pod {
            labels: out,
            ..pod("ambient", "out", false)
        });
        let source = |name: &str| Source::Pod {
            namespace: "a".into(),
            name: name.into(),
            node: "n".into(),
        };
        let probes = [source("plain"), source("sidecar")];
        let connect = || Request::Connect { linger_ms: 250 };
        let mut flows = [
            flow(0, "a/plain", Transport::Tcp, connect()),
            flow(0, "a/sidecar", Transport::Tcp, connect()),
            flow(0, "ambient/in", Transport::Tcp, connect()),
            flow(0, "ambient/out", Transport::Tcp, connect()),
            flow(1, "a/plain", Transport::Tcp, connect()),
            flow(1, "a/plain", Transport::Udp, Request::Nonce),
        ];
        let note = require_bytes(&inventory, &probes, &mut flows).expect("a note");
        assert!(note.starts_with("3 flows pass a mesh"), "{note}");
        let stages = flows.map(|flow| flow.opens_at == Stage::FirstBytes);
        assert_eq!(stages, [false, true, true, false, true, false]);
        inventory.pods.truncate(1);
        assert_eq!(require_bytes(&inventory, &probes, &mut []), None);
    }
}
