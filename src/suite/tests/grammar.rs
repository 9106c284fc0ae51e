//! What each form of a line means.

use super::*;
use crate::model::{HostName, Transport};
use crate::suite::{
    EndpointId, Expected, Locator, PortItem, PortRef, Scheme, Subject, TargetWhat, Url,
};
use std::net::IpAddr;

fn parsed(text: &str) -> (Suite, Line) {
    let suite = good(&with_lines(&format!(
        "    - '{text}'\n    - web -> payment:1 denied"
    )));
    let first = line(&suite, 0).clone();
    (suite, first)
}

fn port(port: PortRef, transport: Transport) -> TargetWhat {
    TargetWhat::Port(PortItem { port, transport })
}

#[test]
fn ports_have_these_forms() {
    let (tcp, udp) = (Transport::Tcp, Transport::Udp);
    let cases = [
        ("api", TargetWhat::KnownPorts(None)),
        ("api:*", TargetWhat::KnownPorts(None)),
        ("api:*/udp", TargetWhat::KnownPorts(Some(udp))),
        ("api:*/tcp", TargetWhat::KnownPorts(Some(tcp))),
        ("api:8080", port(PortRef::Number(8080), tcp)),
        ("api:8080/tcp", port(PortRef::Number(8080), tcp)),
        ("api:53/udp", port(PortRef::Number(53), udp)),
        ("api:http", port(PortRef::Name("http".to_owned()), tcp)),
        (
            "api:dns-1/udp",
            port(PortRef::Name("dns-1".to_owned()), udp),
        ),
        (
            "api:8080-8090",
            TargetWhat::Range {
                from: 8080,
                to: 8090,
                transport: tcp,
            },
        ),
        (
            "api:1-2/udp",
            TargetWhat::Range {
                from: 1,
                to: 2,
                transport: udp,
            },
        ),
        ("api:80-80", port(PortRef::Number(80), tcp)),
        ("api:80-a", port(PortRef::Name("80-a".to_owned()), tcp)),
    ];
    for (target, what) in cases {
        let (_, line) = parsed(&format!("web -> {target} denied"));
        assert_eq!(line.targets.len(), 1, "{target}");
        assert_eq!(line.targets[0].what, what, "{target}");
        assert_eq!(
            line.targets[0].subject,
            Subject::Endpoint(EndpointId(1)),
            "{target}"
        );
    }
}

#[test]
fn targets_are_names_or_inline_endpoints() {
    let address = |text: &str| Locator::Address(text.parse::<IpAddr>().expect("an address"));
    let host = |text: &str| Locator::Host(HostName::parse(text).expect("a host"));
    let cases = [
        ("203.0.113.66:1-9", "203.0.113.66", address("203.0.113.66")),
        ("203.0.113.66:443", "203.0.113.66", address("203.0.113.66")),
        (
            "[2001:db8::1]:http",
            "[2001:db8::1]",
            address("2001:db8::1"),
        ),
        (
            "[2001:db8::1]:443/udp",
            "[2001:db8::1]",
            address("2001:db8::1"),
        ),
        (
            "Payments.Example:1",
            "Payments.Example",
            host("payments.example"),
        ),
        ("a.example:80", "a.example", host("a.example")),
        ("runner:1", "runner", Locator::Runner),
        ("nodes:22", "nodes", Locator::Nodes),
        (
            "https://[2001:db8::1]:8443/x",
            "[2001:db8::1]",
            address("2001:db8::1"),
        ),
        ("https://a.example/x", "a.example", host("a.example")),
    ];
    for (target, label, locator) in cases {
        let (suite, line) = parsed(&format!("web -> {target} denied"));
        let Subject::Endpoint(id) = line.targets[0].subject else {
            panic!("{target}")
        };
        assert_eq!(suite.endpoints[id.0].label, label);
        assert_eq!(suite.endpoints[id.0].locator, locator, "{target}");
        assert!(suite.endpoints[id.0].used);
    }
}

#[test]
fn inline_objects_are_accepted_wherever_a_name_is() {
    let (suite, line) = parsed(
        "shop/Deployment/web, data/Pod/db-0 -> shop/Service/api.v1:80, shop/Deployment/web denied",
    );
    assert_eq!(
        labels(&suite)[4..],
        [
            "shop/Deployment/web",
            "data/Pod/db-0",
            "shop/Service/api.v1"
        ]
    );
    assert_eq!(
        line.sources,
        [
            Subject::Endpoint(EndpointId(4)),
            Subject::Endpoint(EndpointId(5))
        ]
    );
    assert_eq!(line.targets[1].subject, Subject::Endpoint(EndpointId(4)));
    assert!(
        matches!(&suite.endpoints[6].locator, Locator::Service { service } if service.to_string() == "shop/Service/api.v1")
    );
    assert!(
        matches!(&suite.endpoints[4].locator, Locator::Workload { workload, .. } if workload.to_string() == "Deployment/web")
    );
    assert_eq!(suite.endpoints[4].place.line as usize, FIRST_LINE);
}

#[test]
fn one_host_in_two_spellings_is_one_endpoint() {
    let (suite, line) =
        parsed("web -> a.example:1, A.Example.:2, [2001:db8::1]:1, [2001:DB8:0::1]:2 denied");
    assert_eq!(labels(&suite)[4..], ["a.example", "[2001:db8::1]"]);
    let ids: Vec<_> = line.targets.iter().map(|target| &target.subject).collect();
    assert_eq!(ids[0], ids[1]);
    assert_eq!(ids[2], ids[3]);
}

#[test]
fn urls_have_a_scheme_a_method_and_a_path() {
    let url = |scheme, method: &str, port, path: &str, text: &str| Url {
        scheme,
        method: method.to_owned(),
        port,
        path: path.to_owned(),
        text: text.to_owned(),
    };
    let cases = [
        (
            "https://api/health",
            url(Scheme::Https, "GET", None, "/health", "https://api/health"),
        ),
        (
            "GET https://api/health",
            url(Scheme::Https, "GET", None, "/health", "https://api/health"),
        ),
        (
            "POST http://api:8080/x?y=1%2C2",
            url(
                Scheme::Http,
                "POST",
                Some(PortRef::Number(8080)),
                "/x?y=1%2C2",
                "POST http://api:8080/x?y=1%2C2",
            ),
        ),
        (
            "HEAD  https://api:web",
            url(
                Scheme::Https,
                "HEAD",
                Some(PortRef::Name("web".to_owned())),
                "",
                "HEAD https://api:web",
            ),
        ),
        (
            "http://api?a=b:c@d",
            url(Scheme::Http, "GET", None, "?a=b:c@d", "http://api?a=b:c@d"),
        ),
        (
            "https://api/a->b",
            url(Scheme::Https, "GET", None, "/a->b", "https://api/a->b"),
        ),
        ("tls://api", url(Scheme::Tls, "GET", None, "", "tls://api")),
        (
            "tls://api:8443/",
            url(
                Scheme::Tls,
                "GET",
                Some(PortRef::Number(8443)),
                "/",
                "tls://api:8443/",
            ),
        ),
        (
            "dns://api/payments.example",
            url(
                Scheme::Dns,
                "GET",
                None,
                "/payments.example",
                "dns://api/payments.example",
            ),
        ),
    ];
    for (text, expected) in cases {
        let (_, line) = parsed(&format!("web -> {text} denied"));
        assert_eq!(line.targets[0].what, TargetWhat::Url(expected), "{text}");
        assert_eq!(
            line.targets[0].subject,
            Subject::Endpoint(EndpointId(1)),
            "{text}"
        );
    }
}

#[test]
fn blanks_and_both_arrows_are_the_same() {
    for text in [
        "web,api->db:1,api:2 denied",
        "  web , api  ->  db:1 ,  api:2   denied ",
        "web, api → db:1, api:2 denied",
        "web, api→db:1, api:2\tdenied",
    ] {
        let (_, line) = parsed(text);
        assert_eq!(
            (line.sources.len(), line.targets.len(), line.expected),
            (2, 2, Expected::Denied),
            "{text}"
        );
        assert_eq!(line.text, text.trim().replace('\t', " "));
    }
}

#[test]
fn stars_and_groups_are_kept_as_such() {
    let (_, line) = parsed("*, runner -> *:8080, tiers:1 denied");
    assert_eq!(line.sources[0], Subject::All);
    assert_eq!(line.targets[0].subject, Subject::All);
    assert_eq!(
        line.targets[1].subject,
        Subject::Group(vec![EndpointId(0), EndpointId(1)])
    );
}

#[test]
fn groups_are_flattened_in_order_and_may_name_later_ones() {
    let yaml = with_lines("    - all -> payment:1 denied").replace(
        "    tiers: [web, api]\n",
        "    all: [tiers, web, back, shop/Deployment/x]\n    tiers: [web, api]\n    back: [db, tiers]\n",
    );
    let suite = good(&yaml);
    let Subject::Group(members) = &line(&suite, 0).sources[0] else {
        panic!("a group")
    };
    let names: Vec<_> = members
        .iter()
        .map(|id| suite.endpoints[id.0].label.as_str())
        .collect();
    assert_eq!(names, ["web", "api", "db", "shop/Deployment/x"]);
}

#[test]
fn a_line_folded_over_lines_is_one_line() {
    let suite = good(&with_lines(
        "    - >-\n      web,\n      api -> db:1\n      denied\n    - web -> payment:1\n      denied",
    ));
    assert_eq!(line(&suite, 0).text, "web, api -> db:1 denied");
    assert_eq!(line(&suite, 1).text, "web -> payment:1 denied");
}

#[test]
fn a_methods_setting_becomes_part_of_the_url() {
    let yaml = with_lines("    - { check: web -> https://payment/x denied, method: PUT }\n    - web -> https://payment/y, HEAD https://payment/z denied")
        .replace("  groups:", "  settings: { method: POST }\n  groups:");
    let suite = good(&yaml);
    let texts: Vec<_> = suite
        .lines
        .iter()
        .flat_map(|line| &line.targets)
        .map(|target| {
            if let TargetWhat::Url(url) = &target.what {
                format!("{}|{}", url.method, url.text)
            } else {
                String::new()
            }
        })
        .collect();
    assert_eq!(
        texts,
        [
            "PUT|PUT https://payment/x",
            "POST|POST https://payment/y",
            "HEAD|HEAD https://payment/z"
        ]
    );
}

#[test]
fn a_single_line_is_a_suite() {
    let mut sources = Sources::new();
    let suite = load_line(
        "shop/Deployment/web, runner -> data/StatefulSet/postgres:5432, nodes:22, a.example:443 denied",
        &mut sources,
    )
    .expect("a good line");
    assert_eq!(
        (suite.name.as_str(), suite.file.as_str()),
        ("check", "command line")
    );
    assert_eq!(
        labels(&suite),
        [
            "shop/Deployment/web",
            "runner",
            "data/StatefulSet/postgres",
            "nodes",
            "a.example"
        ]
    );
    assert_eq!(line(&suite, 0).place.to_string(), "command line:1:1");
    assert_eq!(suite.sha256.len(), 64);
}

#[test]
fn a_single_line_cannot_use_definitions() {
    let cases = [
        (
            "web -> a.example:1 denied",
            "command line:1:1: error: no endpoint or group is called \"web\"; help: a single line has no definitions: write NAMESPACE/KIND/NAME, for example shop/Deployment/web, a host name with a dot",
        ),
        (
            "* -> a.example:1 denied",
            "command line:1:1: error: * means every endpoint of a suite, and a single line has no suite",
        ),
        (
            "runner -> a.example:1",
            "command line:1:11: error: the line must end with allowed or denied",
        ),
        (" ", "command line:1:1: error: the line is empty"),
        ("\"", "command line:1:1: error: the line has no arrow"),
    ];
    for (text, expected) in cases {
        let mut sources = Sources::new();
        let diagnostics = load_line(text, &mut sources).expect_err("a wrong line");
        let found = diagnostics.render_compact(&sources);
        assert!(found.starts_with(expected), "{found}");
    }
}
