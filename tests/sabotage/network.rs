//! Faults of the network and not of the policies: no policy denies anything, or the policy is as it
//! should be, and something between the pods is broken.
//!
//! What nodes can do must not be taken for what pods can do: a pod's packets have another source
//! address, another way back, and are forwarded by their own node.

use crate::Job;
use crate::runner::{Hand, How, Wanted, When};
use crate::scene::Scene;
use crate::scenes::listener;
use std::net::IpAddr;
use std::time::Duration;
use watertight::backend::lab::{self, RouteHolder};
use watertight::verdict::Reason;
use watertight::wire::Transport::Tcp;
use watertight_probe::responder::control::Behaviour;

/// The range of the first node's pods, in halves: its routes cover the whole.
const PODS_OF_NODE_1: [(&str, u8); 4] = [
    ("10.244.16.0", 21),
    ("10.244.24.0", 21),
    ("fd00:10:244:1::", 65),
    ("fd00:10:244:1:8000::", 65),
];

/// As [`PODS_OF_NODE_1`], of the second node.
const PODS_OF_NODE_2: [(&str, u8); 4] = [
    ("10.244.32.0", 21),
    ("10.244.40.0", 21),
    ("fd00:10:244:2::", 65),
    ("fd00:10:244:2:8000::", 65),
];

const INSIDE: &str = "s/Pod/web -> s/Pod/api:80 denied";
const SAME_NODE: &str = "s/Pod/web -> s/Pod/near:80 denied";
const OUTSIDE: &str = "s/Pod/web -> 203.0.113.66:443 denied";
const OUTSIDE_FROM_ELSEWHERE: &str = "s/Pod/far -> 203.0.113.66:443 allowed";
const SENT_ONCE: &str = "s/Pod/web -> POST http://api:80/orders denied";
const ALLOWED: &str = "s/Pod/web -> s/Pod/api:80 allowed";
const ALSO_ALLOWED: &str = "s/Pod/near -> s/Pod/api:80 allowed";
const DENIED: &str = "s/Pod/stranger -> s/Pod/api:80 denied";

/// Every scene.
pub(crate) fn all() -> Vec<Job> {
    vec![
        scene(
            "no route back to the pods of the source's node",
            &[(INSIDE, unproven())],
            without_policies(),
            How::BEFORE,
            async |hand| lose(&hand, &node("node-2"), &PODS_OF_NODE_1).await,
        ),
        scene(
            "no route back over the one family that is admitted",
            &[(INSIDE, unproven())],
            with_policy_of_one_family(),
            How::BEFORE,
            async |hand| lose(&hand, &node("node-2"), &PODS_OF_NODE_1[2..]).await,
        ),
        scene(
            "no route to the pods of the target's node",
            &[(INSIDE, unproven())],
            without_policies(),
            How::BEFORE,
            async |hand| lose(&hand, &node("node-1"), &PODS_OF_NODE_2).await,
        ),
        scene(
            "the source's node forwards nothing",
            &[
                (INSIDE, unproven()),
                (SAME_NODE, unproven()),
                (OUTSIDE, unproven()),
            ],
            without_policies(),
            How::BEFORE,
            async |hand| hand.sabotage.stop_forwarding("node-1").await,
        ),
        scene(
            "the target's node forwards nothing",
            &[(INSIDE, unproven())],
            without_policies(),
            How::BEFORE,
            async |hand| hand.sabotage.stop_forwarding("node-2").await,
        ),
        scene(
            "no way back from outside to the pods",
            &[(OUTSIDE, unproven())],
            without_policies(),
            How::BEFORE,
            async |hand| lose(&hand, &RouteHolder::Router, &PODS_OF_NODE_1).await,
        ),
        scene(
            "no way back to the pods of one node",
            &[
                (OUTSIDE, Wanted::NotProven),
                (OUTSIDE_FROM_ELSEWHERE, Wanted::Proven),
            ],
            without_policies(),
            How::BEFORE,
            async |hand| lose(&hand, &RouteHolder::Router, &PODS_OF_NODE_1).await,
        ),
        scene(
            "a request that is sent once to a target that hangs up",
            &[(SENT_ONCE, Wanted::Unproven(vec![Reason::SentOnce]))],
            without_policies(),
            How::BEFORE,
            close_what_reaches_api,
        ),
        scene(
            "a request that is sent once and that nothing denies",
            &[(SENT_ONCE, Wanted::Violated)],
            without_policies(),
            How::BEFORE,
            async |_| Ok(()),
        ),
        scene(
            "a pod that only its own node reaches",
            &[(INSIDE, unproven())],
            without_policies(),
            How::BEFORE,
            lose_the_way_to_api,
        ),
        scene(
            "a lost packet of every control",
            &[(ALLOWED, Wanted::Proven), (DENIED, Wanted::Proven)],
            with_policy(),
            How::DURING,
            async |hand| {
                hand.sabotage.cut("node-1", "node-2").await?;
                tokio::time::sleep(Duration::from_millis(400)).await;
                hand.sabotage.heal("node-1", "node-2").await
            },
        ),
        scene(
            "a target that is gone for every source and comes back",
            &[
                (ALLOWED, Wanted::NotViolated),
                (ALSO_ALLOWED, Wanted::NotViolated),
                (DENIED, Wanted::NotViolated),
            ],
            with_policy(),
            How {
                when: When::After(Duration::from_millis(1_200)),
                ..How::BEFORE
            },
            stop_the_target_for_a_while,
        ),
    ]
}

/// A scene's name as that of a folder and a suite.
fn folder(name: &str) -> String {
    name.replace(' ', "-").replace('\'', "")
}

/// The check is unproven since no pod got through, or the source opened nothing.
fn unproven() -> Wanted {
    Wanted::Unproven(vec![
        Reason::NoPodGotThrough,
        Reason::SourceNotVerified,
        Reason::NoControlAnswered,
        Reason::PathNotVerified,
    ])
}

fn node(name: &str) -> RouteHolder {
    RouteHolder::Node(name.to_owned())
}

async fn lose(hand: &Hand, holder: &RouteHolder, ranges: &[(&str, u8)]) -> Result<(), lab::Error> {
    for (range, prefix) in ranges {
        let range = range.parse().expect("an address");
        hand.sabotage
            .lose_route(holder.clone(), range, *prefix)
            .await?;
    }
    Ok(())
}

async fn lose_the_way_to_api(hand: Hand) -> Result<(), lab::Error> {
    let inventory = hand.sabotage.inventory().await?;
    let api = inventory.pods.iter().find(|pod| pod.name == "api");
    for address in &api.expect("the pod api").addresses {
        let prefix = match address {
            IpAddr::V4(_) => 32,
            IpAddr::V6(_) => 128,
        };
        hand.sabotage
            .lose_route(RouteHolder::Router, *address, prefix)
            .await?;
    }
    Ok(())
}

async fn stop_the_target_for_a_while(hand: Hand) -> Result<(), lab::Error> {
    let listener = listener("api");
    let port = Some((Tcp, 80));
    hand.sabotage.stop_listener(listener.clone(), port).await?;
    tokio::time::sleep(Duration::from_millis(1_600)).await;
    hand.sabotage.start_listener(listener, port).await
}

async fn close_what_reaches_api(hand: Hand) -> Result<(), lab::Error> {
    hand.sabotage
        .behave(listener("api"), (Tcp, 80), Behaviour::HangUp)
        .await
}

/// `web`, `near` and `stranger` on one node, `api` and `far` on the other, and no policy.
fn without_policies() -> Scene {
    let mut scene = Scene::default();
    scene.namespace("s", "team: s");
    for (pod, node) in [
        ("web", "node-1"),
        ("near", "node-1"),
        ("stranger", "node-1"),
        ("api", "node-2"),
        ("far", "node-2"),
    ] {
        scene.app(pod, "80", node);
    }
    scene
}

/// The same, and `api` admits `web` and `near`.
fn with_policy() -> Scene {
    let mut scene = without_policies();
    scene.policy(
        "s/api",
        "podSelector: {matchLabels: {app: api}}, policyTypes: [Ingress], ingress: [{from: [{podSelector: \
         {matchExpressions: [{key: app, operator: In, values: [web, near]}]}}]}]",
    );
    scene
}

/// The same, and `api` admits everything over IPv6 alone.
fn with_policy_of_one_family() -> Scene {
    let mut scene = without_policies();
    scene.policy(
        "s/api",
        "podSelector: {matchLabels: {app: api}}, policyTypes: [Ingress], ingress: [{from: [{ipBlock: {cidr: \"::/0\"}}]}]",
    );
    scene
}

fn scene(
    name: &'static str,
    lines: &[(&'static str, Wanted)],
    mut world: Scene,
    how: How,
    act: impl AsyncFn(Hand) -> Result<(), lab::Error> + Send + 'static,
) -> Job {
    if lines.iter().any(|(line, _)| *line == SENT_ONCE) {
        world.endpoint("api", "namespace: s, workload: Pod/api");
    }
    for (line, _) in lines {
        world.line(line, "hold: 3s");
    }
    Job::of_checks(
        format!("network / {name}"),
        how,
        lines.iter().map(|(_, wanted)| wanted.clone()).collect(),
        move || world.case(&format!("network-{}", folder(name))),
        act,
    )
}
