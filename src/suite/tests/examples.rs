//! Whole suites as people write them.

use super::*;
use crate::model::Transport;
use crate::suite::{
    EndpointId, Expected, Locator, Mechanism, PortItem, PortRef, RequestText, RequiredTier, Spread,
    Subject, TargetWhat,
};
use std::time::Duration;

/// The example of the language's own description.
pub(super) const SHOP: &str = r#"apiVersion: watertight.dev/v1
kind: Suite
metadata: { name: shop }
spec:
  endpoints:
    web-tier: { namespace: shop, workload: Deployment/web }
    api:      { namespace: shop, pods: { app: api }, service: api }
    postgres: { namespace: data, workload: StatefulSet/postgres, ports: [5432] }
    payment:  { host: payments.example }
    metadata: { ip: 169.254.169.254, ports: [80] }
  groups:
    tiers: [web-tier, api]
  settings: { hold: 3s }
  expect:
    - web-tier -> api:8080 allowed
    - web-tier -> postgres denied                  # every port postgres declares
    - api -> postgres:5432 allowed
    - api -> https://payment/health allowed
    - "* -> metadata denied"                       # quoted: YAML takes a bare * for an alias
    - check: tiers -> 203.0.113.66:443 denied
      id: exfiltration
      because: nothing may call out except to the payment provider
      tags: [pci]
  everythingElse: denied
"#;

/// Every key of the format once.
pub(super) const EVERYTHING: &str = r#"# The payment zone, as the auditors want it.
---
apiVersion: watertight.dev/v1
kind: Suite
metadata:
  name: pci-zone
spec:
  endpoints:
    checkout: { namespace: shop, workload: Deployment/checkout, service: checkout, ports: [8443, metrics, 53/udp] }
    vault:
      namespace: vault
      pods:
        app.kubernetes.io/name: vault
        tier: no
        version: 1.10
        empty: ""
    dns: { namespace: kube-system, service: kube-dns, ports: [53/udp, 53] }
    bank: { host: bank.example, ports: [443] }
    old-bank: { ip: "2001:db8::66", ports: [443] }
    batch: { namespace: shop, workload: CronJob/nightly }
  groups:
    cards: [checkout, vault]
    all-in: [cards, batch, nodes, runner]
  settings:
    settle: 500ms
    hold: 15s
    timeout: 2m
    attempts: 12
    attemptTimeout: 1.5s
    tier: D2+same-node
    startup: isolated
    mechanism: drop
    control: runner
    method: HEAD
    headers: { X-Probe: yes, Accept: "text/html" }
    status: 204
    body: 1.10
    serverName: bank.example
    alpn: [h2, http/1.1]
    record: AAAA
    send: 0x0a 0B
    repeat: true
    spread: replicas
  expect:
    - cards → bank:443, old-bank allowed
    - batch -> cards:*, dns:53/udp denied
    - checkout -> dns://dns/bank.example allowed
    - {check: "checkout -> POST https://bank/pay allowed", id: pay, repeat: false, status: "200", tier: A2}
    - check: >-
        batch, runner ->
        checkout:admin,
        checkout:9000-9100
        denied
      because: |
        Metrics are scraped
        by no one here.
      tags: [pci, "4.2", no]
      mechanism: reset
  everythingElse: denied
"#;

/// Only what must be there.
pub(super) const SMALL: &str = "apiVersion: watertight.dev/v1\nkind: Suite\nmetadata: {name: small}\nspec:\n  expect:\n  - shop/Deployment/web -> 10.0.0.1:443 denied\n";

#[test]
fn the_shop_is_read_as_its_description_says() {
    let suite = good(SHOP);
    assert_eq!(suite.name, "shop");
    assert_eq!(
        labels(&suite),
        [
            "web-tier",
            "api",
            "postgres",
            "payment",
            "metadata",
            "203.0.113.66"
        ]
    );
    assert_eq!(suite.settings.hold, Some(Duration::from_secs(3)));
    assert_eq!(
        suite.endpoints[2].ports,
        Some(vec![PortItem {
            port: PortRef::Number(5432),
            transport: Transport::Tcp
        }])
    );
    assert_eq!(suite.endpoints[1].service.as_deref(), Some("api"));
    assert_eq!(
        suite.everything_else.as_ref().map(|place| place.line),
        Some(24)
    );
    let texts: Vec<_> = suite.lines.iter().map(|line| line.text.as_str()).collect();
    assert_eq!(
        texts,
        [
            "web-tier -> api:8080 allowed",
            "web-tier -> postgres denied",
            "api -> postgres:5432 allowed",
            "api -> https://payment/health allowed",
            "* -> metadata denied",
            "tiers -> 203.0.113.66:443 denied"
        ]
    );
    let last = line(&suite, 5);
    assert_eq!(last.id.as_deref(), Some("exfiltration"));
    assert_eq!(
        last.because.as_deref(),
        Some("nothing may call out except to the payment provider")
    );
    assert_eq!(last.tags, ["pci"]);
    assert_eq!((last.place.line, last.place.column), (20, 7));
    assert_eq!(line(&suite, 4).sources, [Subject::All]);
    assert!(suite.endpoints.iter().all(|endpoint| endpoint.used));
    assert!(suite.sha256.chars().all(|c| c.is_ascii_hexdigit()) && suite.sha256.len() == 64);
}

#[test]
fn every_key_is_read() {
    let suite = good(EVERYTHING);
    let settings = &suite.settings;
    assert_eq!(settings.settle, Some(Duration::from_millis(500)));
    assert_eq!(settings.timeout, Some(Duration::from_mins(2)));
    assert_eq!(settings.attempts, Some(12));
    assert_eq!(settings.attempt_timeout, Some(Duration::from_millis(1500)));
    assert_eq!(settings.required_tier, Some(RequiredTier::D2SameNode));
    assert_eq!(settings.startup_isolated, Some(true));
    assert_eq!(settings.mechanism, Some(Mechanism::Drop));
    let control = settings.control.expect("a control");
    assert_eq!(suite.endpoints[control.0].locator, Locator::Runner);
    assert_eq!(
        settings.headers,
        [("X-Probe", "yes"), ("Accept", "text/html")]
            .map(|(name, value)| (name.to_owned(), RequestText::Literal(value.to_owned())))
    );
    assert_eq!(settings.status, [204]);
    assert_eq!(settings.body, Some(RequestText::Literal("1.10".into())));
    assert_eq!(settings.server_name.as_deref(), Some("bank.example"));
    assert_eq!(settings.alpn, ["h2", "http/1.1"]);
    assert_eq!(settings.record.as_deref(), Some("AAAA"));
    assert_eq!(settings.send, Some(vec![0x0a, 0x0b]));
    assert_eq!(settings.repeat, Some(true));
    assert_eq!(settings.spread, Some(Spread::Replicas));
    let Locator::Pods { labels, .. } = &suite.endpoints[1].locator else {
        panic!("pods")
    };
    assert_eq!(
        labels
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect::<Vec<_>>(),
        [
            "app.kubernetes.io/name=vault",
            "empty=",
            "tier=no",
            "version=1.10"
        ]
    );
    let pay = line(&suite, 3);
    assert_eq!(
        (
            pay.settings.status.as_slice(),
            pay.settings.repeat,
            pay.settings.required_tier
        ),
        (&[200][..], Some(false), Some(RequiredTier::A2))
    );
    let scrape = line(&suite, 4);
    assert_eq!(
        scrape.text,
        "batch, runner -> checkout:admin, checkout:9000-9100 denied"
    );
    assert_eq!(
        scrape.because.as_deref(),
        Some("Metrics are scraped\nby no one here.\n")
    );
    assert_eq!(scrape.tags, ["pci", "4.2", "no"]);
    assert_eq!(scrape.expected, Expected::Denied);
    assert_eq!(
        scrape.targets[1].what,
        TargetWhat::Range {
            from: 9000,
            to: 9100,
            transport: Transport::Tcp
        }
    );
    assert_eq!(scrape.targets[1].subject, Subject::Endpoint(EndpointId(0)));
}

#[test]
fn a_file_may_hold_several_suites() {
    let both = format!("{SHOP}---\n# nothing here\n---\n{EVERYTHING}...\n");
    let (suites, diagnostics, sources) = load_texts(&[&both, SMALL]);
    assert!(
        diagnostics.is_empty(),
        "{}",
        diagnostics.render(&sources, false)
    );
    assert_eq!(
        suites
            .iter()
            .map(|suite| suite.name.as_str())
            .collect::<Vec<_>>(),
        ["shop", "pci-zone", "small"]
    );
    assert_eq!(suites[0].sha256, suites[1].sha256);
    assert_eq!(suites[1].lines[0].place.line, 72);
}

#[test]
fn scalars_are_the_text_as_written() {
    let yaml = "apiVersion: watertight.dev/v1\nkind: Suite\nmetadata: {name: no}\nspec:\n  endpoints:\n    on: {namespace: 0o17, pods: {app: 1.10, no: 0x1F, y: 08}}\n    off: {namespace: null, workload: Deployment/007}\n  groups: {yes: [on, off]}\n  expect:\n  - {check: yes -> on:80 denied, id: 1.10, because: no, tags: [0o17, ~]}\n";
    let suite = good(yaml);
    assert_eq!(suite.name, "no");
    let Locator::Pods { namespace, labels } = &suite.endpoints[0].locator else {
        panic!("pods")
    };
    assert_eq!(namespace, "0o17");
    assert_eq!(labels.values().collect::<Vec<_>>(), ["1.10", "0x1F", "08"]);
    let line = line(&suite, 0);
    assert_eq!(
        (line.id.as_deref(), line.because.as_deref()),
        (Some("1.10"), Some("no"))
    );
    assert_eq!(line.tags, ["0o17", "~"]);
}
