//! Mistakes in endpoints and groups.

use super::*;
use crate::suite::{Locator, PortRef, SourceMode};

/// An endpoint's or group's definition, and what is said about it.
#[test]
fn mistakes_in_definitions() {
    let cases = [
        (
            "x: {}",
            "6:5: error: x does not say how to find it; help: give it namespace, for all of its pods, or also workload, pods or service; or host; or ip",
        ),
        (
            "x: { ports: [1] }",
            "6:5: error: x does not say how to find it",
        ),
        (
            "x: { workload: Deployment/a }",
            "6:5: error: x has a workload and no namespace; help: add namespace",
        ),
        (
            "x: { service: a }",
            "6:5: error: x has a service and no namespace",
        ),
        (
            "x: { namespace: a, workload: Deployment/a, pods: {a: b} }",
            "6:5: error: x has both workload and pods; help: define two endpoints, or remove one of the keys",
        ),
        (
            "x: { host: a.b, ip: 1.2.3.4, namespace: c }",
            "6:5: error: x has both host and namespace",
        ),
        (
            "x: { host: a.b, ip: 1.2.3.4, source: node }",
            "6:5: error: x has both host and source",
        ),
        (
            "x: { host: a.b, ip: [] }",
            "6:25: error: ip is an empty list",
        ),
        (
            "x: { host: a.b, ip: [1.2.3.4, 1.2.3.4] }",
            "6:35: error: the address is listed twice",
        ),
        (
            "x: { ip: [1.2.3.4, 1.2.3.5], ports: [1] }",
            "6:5: error: x has several addresses and no host",
        ),
        (
            "x: { host: a.b, ip: [127.0.0.1] }",
            "6:26: error: ip: 127.0.0.1 is a loopback address",
        ),
        (
            "x: { ip: '::ffff:1.2.3.4' }",
            "6:14: error: ip: ::ffff:1.2.3.4 spells the IPv4 address 1.2.3.4 as IPv6; help: write 1.2.3.4",
        ),
        (
            "x: { ip: 'fe80::1' }",
            "6:14: error: ip: fe80::1 is a link-local",
        ),
        (
            "x: { ip: 224.0.0.1 }",
            "6:14: error: ip: 224.0.0.1 is a multicast",
        ),
        (
            "x: { host: a.b, namespace: c }",
            "6:5: error: x has both host and namespace; help: host names a target outside the cluster: remove namespace, or define two endpoints",
        ),
        (
            "x: { ip: 1.2.3.4, service: c }",
            "6:5: error: x has both ip and service",
        ),
        (
            "x: { ip: 1.2.3.4, source: node }",
            "6:5: error: x has both ip and source; help: ip names a target outside",
        ),
        (
            "x: { namespace: a, workload: Deployment/a, source: pod }",
            "6:56: error: source: \"pod\" is not one of clone, ephemeral, node, runner; help: write one of clone, ephemeral, node, runner",
        ),
        (
            "x: { namespace: a, workload: web }",
            "6:34: error: workload: \"web\" names no kind; help: write KIND/NAME, for example Deployment/web",
        ),
        (
            "x: { namespace: a, workload: Deploymnt/web }",
            "6:34: error: workload: \"Deploymnt\" is not a kind that has pods; help: did you mean Deployment?",
        ),
        (
            "x: { namespace: a, workload: Deployment/Web }",
            "6:34: error: workload: \"Web\" cannot be the name of a Deployment",
        ),
        (
            "x: { namespace: A, service: b }",
            "6:21: error: namespace: \"A\" cannot be the name of a namespace or Service",
        ),
        (
            "x: { namespace: a, pods: app=web }",
            "6:30: error: pods must be a mapping, not a text; help: for example pods: { app: api }",
        ),
        (
            "x: { namespace: a, pods: { a b: c } }",
            "6:32: error: pods: \"a b\" cannot be the key of a label",
        ),
        (
            "x: { namespace: a, pods: { app: } }",
            "6:32: error: app must be a text, not nothing",
        ),
        (
            "x: { host: payments }",
            "6:16: error: host: \"payments\" is not a host name",
        ),
        (
            "x: { host: 1.2.3.4 }",
            "6:16: error: host: \"1.2.3.4\" is an address; help: write ip: 1.2.3.4",
        ),
        (
            "x: { host: https://a.b }",
            "6:16: error: host: \"https://a.b\" is not a host name",
        ),
        (
            "x: { ip: a.b }",
            "6:14: error: ip: \"a.b\" is not an IP address; help: write host: a.b",
        ),
        (
            "x: { ip: 10.0.0.0/8 }",
            "6:14: error: ip: \"10.0.0.0/8\" is not an IP address; help: a range cannot be tested: name one address of it",
        ),
        (
            "x: { host: a.b, ports: 80 }",
            "6:28: error: ports must be a list, not a text; help: write a list: ports: [80]",
        ),
        (
            "x: { host: a.b, ports: [0] }",
            "6:29: error: ports: \"0\" is not a port: a number from 1 to 65535",
        ),
        (
            "x: { host: a.b, ports: [80, 80/tcp] }",
            "6:33: error: the port is listed twice; first here (a.yaml:6:29); help: remove one of them",
        ),
        ("x: { host: a.b, ports: [1-9] }", "6:29: error: ports:"),
        (
            "x: { host: a.b, ports: ['*'] }",
            "6:29: error: ports: '*' cannot be used here: a port is expected",
        ),
        (
            "x: { hosts: a.b }",
            "6:10: error: an endpoint has no key \"hosts\"; help: did you mean host? the keys of an endpoint are namespace, workload, pods, service, ports, source, host, ip",
        ),
        ("x: a.b", "6:8: error: x must be a mapping, not a text"),
        ("x:", "6:5: error: x must be a mapping, not nothing"),
        (
            "X: { host: a.b }",
            "6:5: error: endpoints: \"X\" is not a name: 1 to 63 of a-z, 0-9 and '-'",
        ),
        (
            "denied: { host: a.b }",
            "6:5: error: endpoints: \"denied\" is the last word of a line and cannot be a name",
        ),
        (
            "runner: { host: a.b }",
            "6:5: error: runner is built in and cannot be defined; help: choose another name",
        ),
        (
            "tiers: { host: a.b }",
            "error: tiers is already the name of an endpoint; defined here (a.yaml:6:5); help: endpoints and groups share one set of names: rename one of them",
        ),
        (
            "web: { host: a.b }",
            "7:5: error: the key \"web\" appears twice; first here (a.yaml:6:5); help: remove or rename one of them",
        ),
    ];
    for (definition, expected) in cases {
        let yaml = with_lines("    - web, api -> payment:1 denied").replace(
            "  endpoints:\n",
            &format!("  endpoints:\n    {definition}\n"),
        );
        let found = problems(&[&yaml]);
        assert!(
            found.iter().any(|line| line.contains(expected)),
            "{definition}\n{found:#?}"
        );
        assert_eq!(
            found.len(),
            if definition.contains("hosts:") { 2 } else { 1 },
            "{definition}\n{found:#?}"
        );
    }
}

#[test]
fn mistakes_in_groups() {
    let cases = [
        (
            "g: [wbe]",
            "no endpoint or group is called \"wbe\"; help: did you mean web?",
        ),
        (
            "g: web",
            "g must be a list, not a text; help: write a list: g: [web]",
        ),
        ("g: []", "g is an empty list"),
        ("g: [web:80]", "a source has no port"),
        (
            "g: ['*']",
            "a group cannot contain *; help: write * in the line itself",
        ),
        (
            "g: [g]",
            "the group g contains itself: g -> g; the group (a.yaml:11:5); help: remove one of these names",
        ),
        (
            "g: [web, h]\n    h: [i]\n    i: [api, g]",
            "the group g contains itself: g -> h -> i -> g; the group (a.yaml:11:5)",
        ),
        ("nodes: [web]", "nodes is built in and cannot be defined"),
        ("G: [web]", "groups: \"G\" is not a name"),
    ];
    for (group, expected) in cases {
        let yaml = with_lines("    - g, h -> payment:1 denied")
            .replace("  groups:\n", &format!("  groups:\n    {group}\n"));
        let yaml = if group.contains("h:") {
            yaml
        } else {
            yaml.replace("g, h ->", "web ->")
        };
        let found = problems(&[&yaml]);
        assert_eq!(found.len(), 1, "{group}\n{found:#?}");
        assert!(found[0].contains(expected), "{group}\n{found:#?}");
    }
    let outside = with_lines("    - partners -> web:1 denied")
        .replace("    tiers:", "    partners: [web, payment]\n    tiers:");
    assert_eq!(
        problems(&[&outside]),
        [
            "a.yaml:15:7: error: the group holds payment, which is outside the cluster and cannot be a source; help: hosts and addresses are targets only; write runner for connections from outside"
        ]
    );
}

#[test]
fn presets_have_their_addresses_and_ports_and_give_way_to_definitions() {
    let suite = good(&with_lines(
        "    - web -> payment:1, apiserver, kubelet, instance-metadata, azure-wire-server denied",
    ));
    let of = |label: &str| {
        let endpoint = suite
            .endpoints
            .iter()
            .find(|endpoint| endpoint.label == label)
            .unwrap();
        let ports = endpoint
            .ports
            .iter()
            .flatten()
            .map(|item| item.port.clone())
            .collect::<Vec<_>>();
        (endpoint.locator.clone(), ports)
    };
    let address = |text: &str| Locator::Address(text.parse().unwrap());
    let ports = |numbers: &[u16]| {
        numbers
            .iter()
            .copied()
            .map(PortRef::Number)
            .collect::<Vec<_>>()
    };
    assert_eq!(
        of("instance-metadata"),
        (address("169.254.169.254"), ports(&[80]))
    );
    assert_eq!(
        of("azure-wire-server"),
        (address("168.63.129.16"), ports(&[80, 32_526]))
    );
    assert_eq!(of("kubelet"), (Locator::Nodes, ports(&[10_250])));
    let (Locator::Service { service }, api_ports) = of("apiserver") else {
        panic!("{:?}", of("apiserver"))
    };
    assert_eq!(
        (service.to_string().as_str(), api_ports),
        ("default/Service/kubernetes", ports(&[443]))
    );
    let own = with_lines("    - web -> payment:1, kubelet denied").replace(
        "payment: {",
        "kubelet: { ip: 192.0.2.7, ports: [1] }\n    payment: {",
    );
    let suite = good(&own);
    let kubelet = suite
        .endpoints
        .iter()
        .find(|endpoint| endpoint.label == "kubelet")
        .unwrap();
    assert_eq!(kubelet.locator, address("192.0.2.7"));
}

#[test]
fn an_endpoint_says_from_where_it_sends() {
    let text = with_lines("    - web -> payment:1 denied").replace(
        "workload: Deployment/web",
        "workload: Deployment/web, source: node",
    );
    let source_modes: Vec<_> = good(&text)
        .endpoints
        .iter()
        .take(2)
        .map(|endpoint| endpoint.source_mode)
        .collect();
    assert_eq!(source_modes, [Some(SourceMode::Node), None]);
}

#[test]
fn a_namespace_alone_is_all_of_its_pods() {
    let suite = good(
        "apiVersion: watertight.dev/v1\nkind: Suite\nmetadata: { name: s }\nspec:\n  endpoints:\n    \
         a: { namespace: backend }\n    b: { namespace: backend, pods: {}, ports: [80] }\n  \
         expect: [a -> b allowed]\n",
    );
    let all = Locator::Pods {
        namespace: "backend".to_owned(),
        labels: std::collections::BTreeMap::new(),
    };
    let locators = suite.endpoints.iter().map(|endpoint| &endpoint.locator);
    assert_eq!(locators.collect::<Vec<_>>(), [&all, &all]);
}

#[test]
fn a_host_may_have_addresses_of_both_families() {
    let text = with_lines("    - web -> payment:1 denied").replace(
        "payment: { host: payments.example",
        "payment: { host: payments.example, ip: [203.0.113.10, '2001:db8::1']",
    );
    let suite = good(&text);
    let payment = suite
        .endpoints
        .iter()
        .find(|endpoint| endpoint.label == "payment")
        .unwrap();
    assert_eq!(payment.locator.host(), Some("payments.example"));
    assert_eq!(payment.addresses.len(), 2);
}

#[test]
fn one_host_with_different_addresses_is_an_error() {
    let definition = |second: &str| {
        with_lines("    - web -> payment:1, again:1 denied").replace(
            "payment: {",
            &format!(
                "again: {{ host: payments.example, ip: 203.0.113.10 }}\n    \
                 third: {{ host: Payments.example., ip: {second} }}\n    payment: {{"
            ),
        )
    };
    let found = problems(&[&definition("203.0.113.11")]);
    assert!(
        found
            .iter()
            .any(|text| text.contains("payments.example has other addresses here")),
        "{found:?}"
    );
    let found = problems(&[&definition("203.0.113.10")]);
    assert!(
        !found.iter().any(|text| text.contains("error")),
        "{found:?}"
    );
}
