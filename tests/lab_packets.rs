//! The lab with real packets: which flows get through, which are denied, and what the enforcer
//! counts.
//!
//! A program of its own instead of a test harness: the process enters a user namespace before it
//! has a second thread, and the lab starts this program again as probes and as the responder.

#[path = "lab/measure.rs"]
mod measure;
#[path = "lab/support.rs"]
mod support;
#[path = "common/worlds.rs"]
#[expect(dead_code, reason = "these tests plan no suite")]
mod worlds;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;
use support::{Check, Lab, Seen, node, pod, runner};
use watertight::backend::Backend;
use watertight::backend::lab::{CONTROL_PORT, Deny, KUBELET_PORT, Leak, Listener, ruleset::Counts};
use watertight::model::Family;
use watertight::wire::Transport::{Tcp, Udp};

fn main() -> ExitCode {
    support::main(
        &[measure::CHECK],
        &[
            check!(pods_reach_each_other_within_a_node_and_between_nodes),
            check!(every_declared_port_answers_with_its_pods_name),
            check!(a_service_leads_to_its_pods_in_both_families),
            check!(a_service_without_pods_refuses),
            check!(a_pod_reaches_itself_through_its_service),
            check!(outside_hosts_see_the_pod_itself),
            check!(a_denied_packet_disappears),
            check!(a_denied_packet_is_reset),
            check!(a_denied_packet_is_answered_by_icmp),
            check!(egress_is_denied_towards_pods_outside_hosts_and_the_own_node),
            check!(the_control_port_answers_the_own_node_only),
            check!(nodes_reach_each_other),
            check!(counters_count_each_flow_separately),
            check!(counters_carry_the_policys_name),
            check!(a_cut_path_stops_both_directions_until_it_is_restored),
            check!(policies_are_swapped_while_the_lab_runs),
            check!(a_stopped_listener_refuses_and_comes_back),
            check!(a_replaced_pod_keeps_only_its_address),
            check!(a_leak_shows_in_one_of_three),
            check!(names_resolve_through_cluster_dns),
            check!(probes_end_by_term_by_kill_and_with_their_stdin),
        ],
    )
}

async fn up() -> Lab {
    Lab::up(Deny::Drop).await
}

async fn pods_reach_each_other_within_a_node_and_between_nodes() {
    let mut lab = up().await;
    for family in Family::ALL {
        let api = lab.at("shop/api", family, 8080);
        let seen = lab
            .observe(&[
                (pod("shop/near"), Tcp, api),
                (pod("shop/far"), Tcp, api),
                (runner(), Tcp, api),
            ])
            .await;
        seen.iter().for_each(Seen::opened);
    }
    lab.down().await;
}

async fn every_declared_port_answers_with_its_pods_name() {
    let mut lab = up().await;
    for family in Family::ALL {
        let flows = [
            (pod("shop/far"), Tcp, lab.at("shop/api", family, 8080)),
            (pod("shop/far"), Udp, lab.at("shop/api", family, 8125)),
            (pod("shop/far"), Tcp, lab.at("shop/api", family, 8081)),
        ];
        let seen = lab.observe(&flows).await;
        seen[0].said("shop/api lab-");
        seen[1].said("shop/api lab-");
        seen[2].refused();
    }
    lab.down().await;
}

async fn a_service_leads_to_its_pods_in_both_families() {
    let mut lab = up().await;
    for family in Family::ALL {
        let service = lab.service("shop/web", family, 80);
        let flows = vec![(pod("shop/near"), Tcp, service); 20];
        let mut answered: BTreeMap<String, usize> = BTreeMap::new();
        for seen in lab.observe(&flows).await {
            *answered.entry(seen.who()).or_default() += 1;
        }
        assert_eq!(
            answered.len(),
            2,
            "20 connections reach both pods: {answered:?}"
        );
        let udp = lab.service("shop/api", family, 8125);
        let node_port = lab.node_at("node-2", family, 30_080);
        let seen = lab
            .observe(&[
                (node("node-2"), Tcp, service),
                (runner(), Tcp, node_port),
                (pod("shop/far"), Udp, udp),
            ])
            .await;
        seen[0].said("shop/web-");
        seen[1].said("shop/web-");
        seen[2].said("shop/api ");
    }
    lab.down().await;
}

async fn a_service_without_pods_refuses() {
    let mut lab = up().await;
    for family in Family::ALL {
        let service = lab.service("shop/empty", family, 80);
        let seen = lab
            .observe(&[
                (pod("shop/near"), Tcp, service),
                (node("node-1"), Tcp, service),
            ])
            .await;
        seen[0].icmp(if family == Family::V4 { (3, 3) } else { (1, 4) });
        seen[1].refused();
    }
    lab.down().await;
}

async fn a_pod_reaches_itself_through_its_service() {
    let mut lab = up().await;
    for family in Family::ALL {
        let service = lab.service("shop/api", family, 80);
        lab.observe(&[(pod("shop/api"), Tcp, service)]).await[0].said("shop/api ");
    }
    lab.down().await;
}

async fn outside_hosts_see_the_pod_itself() {
    let mut lab = up().await;
    for family in Family::ALL {
        let host = lab.host("pay.example", family, 443);
        let seen = lab
            .observe(&[
                (pod("shop/near"), Tcp, host),
                (runner(), Tcp, host),
                (node("node-2"), Tcp, host),
            ])
            .await;
        for seen in seen {
            seen.said("pay.example");
        }
    }
    let given = SocketAddr::new([203, 0, 113, 66].into(), 8443);
    lab.observe(&[(pod("shop/far"), Tcp, given)]).await[0].said("203.0.113.66");
    // What a server outside sees as its client.
    let listener = lab
        .sabotage()
        .within(runner(), || {
            std::net::TcpListener::bind("192.0.2.2:7000").expect("bind")
        })
        .await
        .expect("runner");
    let client = lab
        .sabotage()
        .within(pod("shop/far"), || {
            std::net::TcpStream::connect("192.0.2.2:7000").map(|_| ())
        })
        .await;
    client.expect("pod").expect("connect");
    let (_, peer) = listener.accept().expect("accept");

    assert_eq!(peer.ip(), lab.at("shop/far", Family::V4, 1).ip());
    lab.down().await;
}

/// Pods that are admitted and pods that are not, to one that policies isolate; from both nodes.
async fn denied(deny: Deny, check: impl Fn(&Seen, Family)) {
    let mut lab = Lab::up(deny).await;
    for family in Family::ALL {
        let db = lab.at("data/db-0", family, 5432);
        let other_port = lab.at("data/db-0", family, 9187);
        let seen = lab
            .observe(&[
                (pod("shop/near"), Tcp, db),
                (pod("shop/far"), Tcp, db),
                (pod("shop/api"), Tcp, db),
                (pod("shop/web-1"), Tcp, db),
                (pod("shop/near"), Tcp, other_port),
                (runner(), Tcp, db),
            ])
            .await;
        seen[0].opened();
        seen[1].opened();
        seen[2..].iter().for_each(|seen| check(seen, family));
        // The node that a pod runs on always reaches it.
        let own_node = lab.node_of("data/db-0");
        lab.observe(&[(node(&own_node), Tcp, db)]).await[0].opened();
    }
    lab.down().await;
}

async fn a_denied_packet_disappears() {
    denied(Deny::Drop, |seen, _| seen.silent()).await;
}

async fn a_denied_packet_is_reset() {
    denied(Deny::Reset, |seen, _| seen.reset()).await;
}

async fn a_denied_packet_is_answered_by_icmp() {
    denied(Deny::Icmp, |seen, family| {
        seen.icmp(if family == Family::V4 {
            (3, 13)
        } else {
            (1, 1)
        });
    })
    .await;
}

async fn egress_is_denied_towards_pods_outside_hosts_and_the_own_node() {
    let mut lab = up().await;
    for family in Family::ALL {
        let flows = [
            (pod("shop/locked"), Tcp, lab.at("shop/api", family, 8080)),
            (pod("shop/locked"), Udp, lab.at("shop/api", family, 8125)),
            (
                pod("shop/locked"),
                Tcp,
                lab.host("pay.example", family, 443),
            ),
            (
                pod("shop/locked"),
                Tcp,
                lab.node_at("node-1", family, KUBELET_PORT),
            ),
            (pod("shop/locked"), Tcp, lab.service("shop/api", family, 80)),
            (pod("shop/near"), Tcp, lab.at("shop/locked", family, 8080)),
        ];
        let seen = lab.observe(&flows).await;
        seen[..5].iter().for_each(Seen::silent);
        // Only its egress is isolated; replies pass.
        seen[5].opened();
    }
    lab.down().await;
}

async fn the_control_port_answers_the_own_node_only() {
    let mut lab = up().await;
    let (own, other) = (lab.node_of("shop/locked"), lab.other_node("shop/locked"));
    for family in Family::ALL {
        let at = lab.at("shop/locked", family, CONTROL_PORT);
        let seen = lab
            .observe(&[
                (node(&own), Tcp, at),
                (node(&own), Udp, at),
                (node(&other), Tcp, at),
                (pod("shop/near"), Tcp, at),
                (pod("shop/far"), Udp, at),
                (runner(), Tcp, at),
            ])
            .await;
        seen[..2].iter().for_each(|seen| seen.said("shop/locked "));
        seen[2..].iter().for_each(Seen::refused);
    }
    lab.down().await;
}

async fn nodes_reach_each_other() {
    let mut lab = up().await;
    for family in Family::ALL {
        let (one, two) = (
            lab.node_at("node-1", family, KUBELET_PORT),
            lab.node_at("node-2", family, KUBELET_PORT),
        );
        let seen = lab
            .observe(&[
                (node("node-1"), Tcp, two),
                (node("node-2"), Udp, one),
                (pod("shop/near"), Tcp, two),
            ])
            .await;
        seen[0].said("node node-2");
        seen[1].said("node node-1");
        seen[2].said("node node-2");
    }
    lab.down().await;
}

async fn counters_count_each_flow_separately() {
    let mut lab = up().await;
    let db = lab.at("data/db-0", Family::V4, 5432);
    let service = lab.service("data/primary", Family::V4, 5432);
    let flows = [
        (pod("shop/api"), Tcp, db),
        (pod("shop/api"), Tcp, service),
        (pod("shop/near"), Tcp, db),
        (
            pod("shop/locked"),
            Tcp,
            lab.host("pay.example", Family::V4, 443),
        ),
        (pod("shop/web-0"), Tcp, db),
        (pod("shop/web-0"), Tcp, db),
    ];
    let seen = lab.observe(&flows).await;

    let counters = lab.backend.counters().await.expect("counters");
    let counts: Vec<_> = seen.iter().map(|seen| counters.get(&seen.flow)).collect();
    // One SYN in the 400 ms that an attempt is given, for the second comes after a second (RFC
    // 6298).
    for n in [0, 1] {
        let count = counts[n].expect("a denied flow has a counter");
        assert_eq!(
            (count.packets, count.rule.as_str()),
            (1, "data/NetworkPolicy/db ingress")
        );
    }

    assert_eq!(counts[2], None, "nothing of an allowed flow is denied");
    assert_eq!(
        counts[3].expect("denied").rule,
        "shop/NetworkPolicy/locked egress"
    );
    assert_eq!(
        (counts[4], counts[5]),
        (None, None),
        "two flows between the same addresses and ports have no counter"
    );

    // A swap keeps the counts.
    let policies = lab.backend.inventory().await.expect("inventory").policies;
    lab.sabotage().set_policies(policies).await.expect("swap");

    assert_eq!(lab.backend.counters().await.expect("counters"), counters);
    lab.down().await;
}

async fn counters_carry_the_policys_name() {
    let mut lab = up().await;
    let db = lab.at("data/db-0", Family::V6, 5432);
    lab.observe(&[(pod("shop/near"), Tcp, db), (pod("shop/api"), Tcp, db)])
        .await;
    let counts = lab.sabotage().counts().await.expect("counters");
    let here = lab.node_of("data/db-0");
    let of = |wanted: &dyn Fn(&Counts) -> bool| {
        counts
            .iter()
            .filter(|count| count.node == here && wanted(&count.counts))
            .map(|count| count.packets)
            .sum::<u64>()
    };
    let allowed = of(
        &|counts| matches!(counts, Counts::Allowed { policy, rule: 0 } if policy == "data/NetworkPolicy/db ingress"),
    );
    let denied = of(
        &|counts| matches!(counts, Counts::Denied { policies } if policies == "data/NetworkPolicy/db ingress"),
    );

    assert_eq!((allowed, denied), (1, 1), "{counts:?}");
    lab.down().await;
}

async fn a_cut_path_stops_both_directions_until_it_is_restored() {
    let mut lab = up().await;
    for family in Family::ALL {
        let across = [
            (pod("shop/far"), Tcp, lab.at("shop/api", family, 8080)),
            (
                node("node-1"),
                Tcp,
                lab.node_at("node-2", family, KUBELET_PORT),
            ),
        ];
        let within = [(pod("shop/near"), Tcp, lab.at("shop/api", family, 8080))];
        lab.observe(&across).await.iter().for_each(Seen::opened);
        lab.sabotage().cut("node-1", "node-2").await.expect("cut");
        lab.observe(&across).await.iter().for_each(Seen::silent);
        lab.observe(&within).await.iter().for_each(Seen::opened);
        lab.sabotage().heal("node-2", "node-1").await.expect("heal");
        lab.observe(&across).await.iter().for_each(Seen::opened);
    }
    lab.down().await;
}

async fn policies_are_swapped_while_the_lab_runs() {
    let mut lab = up().await;
    let mut changes = lab.backend.changes();
    let all = lab.backend.inventory().await.expect("inventory").policies;
    let db = [(pod("shop/api"), Tcp, lab.at("data/db-0", Family::V4, 5432))];
    lab.observe(&db).await[0].silent();
    let without = all
        .iter()
        .filter(|policy| policy.name() != "db")
        .cloned()
        .collect();
    lab.sabotage().set_policies(without).await.expect("swap");
    lab.observe(&db).await[0].opened();
    lab.sabotage().set_policies(all).await.expect("swap");
    lab.observe(&db).await[0].silent();

    for _ in 0..2 {
        let change = changes.try_recv().expect("a change for each swap");
        assert_eq!(
            change.object,
            watertight::model::ClusterChange::Policy(watertight::model::PolicyRef::network(
                "data", "db"
            ))
        );
    }

    assert!(changes.try_recv().is_err());
    lab.down().await;
}

async fn a_stopped_listener_refuses_and_comes_back() {
    let mut lab = up().await;
    let api = Listener::Pod {
        namespace: "shop".into(),
        name: "api".into(),
    };
    let flows = [
        (pod("shop/far"), Tcp, lab.at("shop/api", Family::V6, 8080)),
        (pod("shop/far"), Udp, lab.at("shop/api", Family::V4, 8125)),
    ];
    lab.sabotage()
        .stop_listener(api.clone(), Some((Tcp, 8080)))
        .await
        .expect("stop");
    let seen = lab.observe(&flows).await;
    seen[0].refused();
    seen[1].opened();
    lab.sabotage()
        .start_listener(api.clone(), Some((Tcp, 8080)))
        .await
        .expect("start");
    lab.observe(&flows).await.iter().for_each(Seen::opened);
    lab.sabotage()
        .stop_listener(Listener::Host("pay.example".into()), None)
        .await
        .expect("stop");
    let host = lab.host("pay.example", Family::V4, 443);
    lab.observe(&[(pod("shop/far"), Tcp, host)]).await[0].refused();
    lab.down().await;
}

async fn a_replaced_pod_keeps_only_its_address() {
    let mut lab = up().await;
    let mut changes = lab.backend.changes();
    let before = lab
        .observe(&[(pod("shop/far"), Tcp, lab.at("shop/api", Family::V4, 8080))])
        .await[0]
        .who();
    let labels = BTreeMap::from([("app".to_owned(), "db".to_owned())]);
    lab.sabotage()
        .replace_pod("shop", "api", "usurper", labels)
        .await
        .expect("replace");
    lab.refresh().await;

    for family in Family::ALL {
        let at = lab.at("shop/usurper", family, 8080);
        let seen = lab
            .observe(&[(pod("shop/far"), Tcp, at), (pod("shop/near"), Tcp, at)])
            .await;
        for seen in seen {
            seen.said("shop/usurper ");
        }
        let own = lab.at("shop/near", family, 8080);
        lab.observe(&[(pod("shop/usurper"), Tcp, own)]).await[0].opened();
        // Its old Service has no pod any more.
        let service = lab.service("shop/api", family, 80);
        lab.observe(&[(pod("shop/far"), Tcp, service)]).await[0].refused();
    }

    assert!(
        before.starts_with("shop/api ") && before.ends_with("-1"),
        "{before}"
    );
    let announced: Vec<_> = std::iter::from_fn(|| changes.try_recv().ok())
        .map(|change| change.object)
        .collect();
    let pod = |name: &str| watertight::model::ClusterChange::Pod("shop".into(), name.into());

    assert_eq!(announced, [pod("api"), pod("usurper")]);
    lab.down().await;
}

async fn a_leak_shows_in_one_of_three() {
    let mut lab = up().await;
    // Within a node and between nodes, denied on the way in; and denied on the way out.
    let cases = [
        ("shop/api", "data/db-0", 5432),
        ("shop/web-1", "data/db-0", 5432),
        ("shop/locked", "shop/far", 8080),
    ];

    for family in Family::ALL {
        for (from, to, port) in cases {
            let (source, target) = (lab.at(from, family, 1).ip(), lab.at(to, family, port));
            let leak = Leak {
                from: source,
                to: target.ip(),
                port,
                transport: Tcp,
                one_in: 3,
            };
            lab.sabotage().leak(vec![leak]).await.expect("leak");
            let mut open = Vec::new();
            for _ in 0..4 {
                open.push(lab.observe(&[(pod(from), Tcp, target)]).await[0].is_open());
            }
            assert_eq!(
                open,
                [false, false, true, false],
                "{from} to {to} by {family}"
            );
        }
    }
    lab.sabotage().leak(Vec::new()).await.expect("mend");
    let db = lab.at("data/db-0", Family::V4, 5432);
    lab.observe(&[(pod("shop/api"), Tcp, db)]).await[0].silent();
    lab.down().await;
}

async fn names_resolve_through_cluster_dns() {
    let lab = up().await;
    let web: Vec<IpAddr> = vec![lab.service("shop/web", Family::V4, 80).ip()];
    let db: Vec<IpAddr> = ["data/db-0", "data/db-1"]
        .iter()
        .map(|pod| lab.at(pod, Family::V6, 1).ip())
        .collect();
    let one: Vec<IpAddr> = vec![lab.at("data/db-1", Family::V4, 1).ip()];
    let host: Vec<IpAddr> = vec![lab.host("pay.example", Family::V4, 1).ip()];
    let cases = [
        ("web.shop.svc.cluster.local", Family::V4, web),
        ("db.data.svc.cluster.local", Family::V6, db),
        ("db-1.db.data.svc.cluster.local", Family::V4, one),
        ("pay.shop.svc.cluster.local", Family::V4, host.clone()),
        ("pay.example", Family::V4, host),
    ];

    for (name, family, mut addresses) in cases {
        addresses.sort();
        for from in [pod("shop/near"), pod("shop/far"), node("node-1"), runner()] {
            let server = SocketAddr::new(lab.world.resolver(&from).servers[0], 53);
            let mut answered = lab
                .ask(from.clone(), server, name, family)
                .await
                .unwrap_or_else(|| panic!("{from:?} got no answer for {name}"));
            answered.sort();
            assert_eq!(answered, addresses, "{name} from {from:?}");
        }
    }
    let server = SocketAddr::new(lab.world.resolver(&pod("shop/near")).servers[0], 53);
    lab.sabotage().stop_dns().await.expect("stop");

    assert_eq!(
        lab.ask(pod("shop/near"), server, "pay.example", Family::V4)
            .await,
        None
    );
    lab.sabotage().start_dns().await.expect("start");

    assert!(
        lab.ask(pod("shop/near"), server, "pay.example", Family::V4)
            .await
            .is_some()
    );
    lab.down().await;
}

async fn probes_end_by_term_by_kill_and_with_their_stdin() {
    let mut lab = up().await;
    let api = lab.at("shop/api", Family::V4, 8080);
    let (ids, mut lines) = lab
        .launch_endless(&[(pod("shop/far"), Tcp, api), (pod("shop/near"), Tcp, api)])
        .await;
    support::until_sampled(&mut lines, 2).await;
    lab.sabotage()
        .signal(ids[0], nix::sys::signal::Signal::SIGKILL)
        .expect("signal");
    let stopped = lab.backend.stop();
    let ((), ends) = tokio::join!(stopped, support::until_ended(&mut lines, 2));

    assert!(ends[&ids[0]].contains("signal: 9"), "{ends:?}");
    assert!(ends[&ids[1]].contains("exit status: 0"), "{ends:?}");
    lab.down().await;
    assert_eq!(
        support::children(),
        Vec::<String>::new(),
        "no process is left"
    );
}
