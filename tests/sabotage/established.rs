//! Connections that were open before a policy was applied: the lab lets them pass, as most plugins
//! do, unless the nodes forget them.

use crate::Job;
use crate::runner::{Hand, How, Wanted};
use crate::scene::Scene;
use crate::scenes::listener;
use std::time::Duration;
use watertight::backend::lab::{self, Deny};
use watertight::inventory::{NetworkPolicy, Policy, RuleOrigins};
use watertight::verdict::Reason;
use watertight::wire::Transport::Tcp;
use watertight_probe::responder::control::Behaviour;

/// The suspect's connection.
const KEPT: &str = "s/Pod/suspect -> s/Pod/api:80 denied";

/// What the policy goes on to admit.
const ADMITTED: &str = "s/Pod/web -> s/Pod/api:80 allowed";

/// What shows that the suspect can send.
const ELSEWHERE: &str = "s/Pod/suspect -> s/Pod/near:80 allowed";

/// Every scene.
pub(crate) fn all() -> Vec<Job> {
    vec![
        scene(
            "the connection goes on",
            Wanted::Violated,
            Deny::Drop,
            world(),
            async |hand| quarantine(&hand).await,
        ),
        scene(
            "the nodes forget the connection",
            Wanted::Proven,
            Deny::Drop,
            world(),
            cut_silently,
        ),
        scene(
            "the connection is reset",
            Wanted::Proven,
            Deny::Reset,
            world(),
            cut_silently,
        ),
        scene(
            "nothing is applied",
            Wanted::Unproven(vec![Reason::NothingChanged]),
            Deny::Drop,
            world(),
            async |_| Ok(()),
        ),
        scene(
            "the policy was there",
            Wanted::Unproven(vec![Reason::WasNotOpen]),
            Deny::Drop,
            world_with_policy(),
            async |_| Ok(()),
        ),
        scene(
            "the policy was there and something else changes",
            Wanted::Unproven(vec![Reason::WasNotOpen]),
            Deny::Drop,
            world_with_policy(),
            async |hand| apply(&hand, other_policy()).await,
        ),
        scene(
            "the target closes all connections",
            Wanted::NotProven,
            Deny::Drop,
            world(),
            async |hand| {
                quarantine(&hand).await?;
                hand.sabotage
                    .stop_listener(listener("api"), Some((Tcp, 80)))
                    .await?;
                hand.sabotage
                    .start_listener(listener("api"), Some((Tcp, 80)))
                    .await
            },
        ),
        scene(
            "the path is cut for good",
            Wanted::NotProven,
            Deny::Drop,
            world(),
            async |hand| {
                quarantine(&hand).await?;
                hand.sabotage.cut("node-1", "node-2").await
            },
        ),
        scene(
            "the path is cut for a while",
            Wanted::Violated,
            Deny::Drop,
            world(),
            async |hand| {
                hand.sabotage.cut("node-1", "node-2").await?;
                quarantine(&hand).await?;
                tokio::time::sleep(Duration::from_millis(2_500)).await;
                hand.sabotage.heal("node-1", "node-2").await
            },
        ),
        scene(
            "the target closes it before the policy",
            Wanted::Unproven(vec![Reason::WasNotOpen]),
            Deny::Drop,
            world(),
            async |hand| {
                let port = (Tcp, 80);
                hand.sabotage
                    .behave(listener("api"), port, Behaviour::HangUp)
                    .await?;
                tokio::time::sleep(Duration::from_millis(2_500)).await;
                hand.sabotage
                    .behave(listener("api"), port, Behaviour::Answer)
                    .await?;
                quarantine(&hand).await
            },
        ),
    ]
}

/// Applies the policy, and makes the nodes forget the connections.
async fn cut_silently(hand: Hand) -> Result<(), lab::Error> {
    quarantine(&hand).await?;
    hand.sabotage.forget_connections().await
}

/// `api` admits all but the suspect from now on.
async fn quarantine(hand: &Hand) -> Result<(), lab::Error> {
    apply(
        hand,
        policy(
            "api",
            &serde_json::json!([{ "from": [{ "podSelector": admitted() }] }]),
        ),
    )
    .await
}

/// Adds a policy.
async fn apply(hand: &Hand, policy: Policy) -> Result<(), lab::Error> {
    let mut policies = hand.sabotage.inventory().await?.policies;
    policies.push(policy);
    hand.sabotage.set_policies(policies).await
}

/// The pods that the policy admits.
fn admitted() -> serde_json::Value {
    serde_json::json!({
        "matchExpressions": [{ "key": "app", "operator": "In", "values": ["web", "near"] }]
    })
}

/// A policy of the namespace that admits everything to `near`.
fn other_policy() -> Policy {
    policy("near", &serde_json::json!([{}]))
}

/// A policy about the pods of an app.
fn policy(app: &str, ingress: &serde_json::Value) -> Policy {
    let spec = serde_json::json!({
        "podSelector": { "matchLabels": { "app": app } },
        "policyTypes": ["Ingress"],
        "ingress": ingress,
    });
    Policy::Network(NetworkPolicy {
        namespace: "s".to_owned(),
        name: app.to_owned(),
        spec: serde_json::from_value(spec).expect("a policy"),
        origin: String::new(),
        rule_origins: RuleOrigins::default(),
    })
}

/// The suspect and two others on one node, `api` on the other, and no policy.
fn world() -> Scene {
    let mut scene = Scene::default();
    scene.namespace("s", "team: s");
    for (pod, node) in [
        ("suspect", "node-1"),
        ("web", "node-1"),
        ("near", "node-1"),
        ("api", "node-2"),
    ] {
        scene.app(pod, "80", node);
    }
    scene
}

/// The same with the policy.
fn world_with_policy() -> Scene {
    let mut scene = world();
    scene.policy(
        "s/api",
        &format!(
            "podSelector: {{matchLabels: {{app: api}}}}, policyTypes: [Ingress], ingress: [{{from: [{{podSelector: {}}}]}}]",
            admitted()
        ),
    );
    scene
}

fn scene(
    name: &'static str,
    wanted: Wanted,
    deny: Deny,
    mut world: Scene,
    act: impl AsyncFn(Hand) -> Result<(), lab::Error> + Send + 'static,
) -> Job {
    world.line(KEPT, "established: true");
    world.line(ADMITTED, "");
    world.line(ELSEWHERE, "");
    Job::of_checks(
        format!("established / {name}"),
        How::DURING,
        vec![wanted],
        move || {
            let folder = format!("established-{}", name.replace(' ', "-"));
            world.case(&folder).denying(deny)
        },
        act,
    )
}
