//! Nodes that manifests declare: their labels, and their addresses where the lab can have them.

use super::addresses::{Addresses, in_cluster, usable_outside};
use crate::inventory::Node;
use crate::model::Family;
use std::collections::BTreeMap;

/// Gives the nodes the labels and addresses of their declarations.
///
/// An address is taken in the place of the invented one of its family, unless the lab needs it
/// itself, another object has it, or it is in a range of the lab's own cluster.
pub(super) fn apply_declared(
    nodes: &mut [Node],
    declared: &BTreeMap<String, Node>,
    addresses: &mut Addresses,
) {
    for node in nodes {
        let Some(declared) = declared.get(&node.name) else {
            continue;
        };
        node.labels.extend(declared.labels.clone());
        for address in &declared.addresses {
            let invented = node
                .addresses
                .iter_mut()
                .find(|invented| Family::of(**invented) == Family::of(*address));
            if let Some(invented) = invented
                && !in_cluster(*address)
                && usable_outside(*address)
                && addresses.claim(*address)
            {
                *invented = *address;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::backend::lab::{Layout, Outside, World};
    use crate::inventory::read_manifests;
    use crate::source::Sources;
    use std::net::IpAddr;

    fn node(name: &str, address: &str) -> String {
        format!(
            "{{apiVersion: v1, kind: Node, metadata: {{name: {name}, labels: {{zone: a}}}}, \
             status: {{addresses: [{{type: ExternalIP, address: 198.51.100.1}}, {{type: InternalIP, address: {address}}}]}}}}\n---\n"
        )
    }

    fn placed(text: &str, outside: &[Outside]) -> World {
        let mut sources = Sources::new();
        let file = sources.add("m.yaml", text);
        let (manifests, diagnostics) = read_manifests(&[file], &sources);
        assert!(diagnostics.is_empty());
        World::place(&manifests, outside, Layout::default()).expect("placed")
    }

    fn first_address(world: &World, name: &str) -> String {
        let mut nodes = world.inventory().nodes.iter();
        let node = nodes.find(|node| node.name == name).expect("there");
        node.addresses[0].to_string()
    }

    #[test]
    fn declared_nodes_have_their_labels_and_addresses() {
        let text = node("b", "198.51.100.7") + &node("a", "192.0.2.11");
        let world = placed(&text, &[]);
        let nodes = &world.inventory().nodes;
        assert_eq!(nodes.len(), 2);
        assert_eq!(first_address(&world, "a"), "192.0.2.11");
        assert_eq!(first_address(&world, "b"), "198.51.100.7");
        assert_eq!(nodes[0].labels["zone"], "a");
        assert_eq!(nodes[0].labels["kubernetes.io/hostname"], "a");
    }

    #[test]
    fn an_address_that_the_lab_needs_or_another_node_has_is_not_taken() {
        let text = node("a", "192.0.2.2") + &node("b", "198.51.100.7") + &node("c", "198.51.100.7");
        let world = placed(&text, &[]);
        assert_eq!(first_address(&world, "a"), "172.30.0.11");
        assert_eq!(first_address(&world, "b"), "198.51.100.7");
        assert_eq!(first_address(&world, "c"), "172.30.0.13");
    }

    #[test]
    fn the_address_of_a_node_is_no_host_outside() {
        let at = |address: &str| Outside {
            addresses: vec![address.parse().expect("an address")],
            ..Outside::default()
        };
        let named = Outside {
            name: Some("api.example".into()),
            ..at("192.0.2.11")
        };
        let world = placed(
            &node("a", "192.0.2.11"),
            &[at("192.0.2.11"), at("192.0.2.12"), named],
        );
        assert_eq!(first_address(&world, "a"), "192.0.2.11");
        let addresses: Vec<_> = world
            .hosts
            .iter()
            .flat_map(|host| &host.addresses)
            .collect();
        assert_eq!(
            addresses,
            [&"192.0.2.12".parse::<IpAddr>().expect("an address")]
        );
        // A name that leads to a node still has its address.
        let known = &world.inventory().hosts["api.example"];
        assert_eq!(
            known,
            &["192.0.2.11".parse::<IpAddr>().expect("an address")]
        );
    }
}
