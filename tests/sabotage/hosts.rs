//! Hosts outside: with given addresses that policies admit or not, and without any.

use crate::runner::{Evaluation, How, Ran, Wanted, run};
use crate::scene::Scene;
use crate::{Done, Job};
use std::net::IpAddr;
use watertight::backend::lab::Leak;
use watertight::verdict::Reason;
use watertight::wire::Transport::Tcp;

/// Where the provider is: one address that a policy admits, one that none does.
const ADMITTED: &str = "203.0.113.10";
const ELSEWHERE: &str = "203.0.113.77";

/// A line with what must come of it.
type Line = (&'static str, Wanted);

/// A world whose suite places the provider at these addresses, if any.
struct Hosts {
    name: &'static str,
    given: Option<&'static str>,
    lines: Vec<Line>,
    /// Pods whose packets to the provider get through whatever policies say.
    leaking: Option<&'static str>,
}

impl Hosts {
    /// `api` may send to the provider's address alone, `locked` to no address outside, and nothing
    /// isolates `free`. All may ask cluster DNS.
    fn case(&self) -> Evaluation {
        let mut scene = Scene::default();
        scene.namespace("h", "team: h");
        for (pod, node) in [("api", "node-1"), ("locked", "node-1"), ("free", "node-2")] {
            let on = format!(", nodeName: {node}");
            scene.pod(&format!("h/{pod}"), &format!("app: {pod}"), "80", &on, "");
        }
        let dns = "{to: [{namespaceSelector: {}}], ports: [{port: 53, protocol: UDP}, {port: 53}]}";
        let provider =
            format!("{{to: [{{ipBlock: {{cidr: {ADMITTED}/32}}}}], ports: [{{port: 443}}]}}");
        for (pod, rules) in [
            ("api", format!("{dns}, {provider}")),
            ("locked", dns.to_owned()),
        ] {
            scene.policy(
                &format!("h/{pod}"),
                &format!("podSelector: {{matchLabels: {{app: {pod}}}}}, policyTypes: [Egress], egress: [{rules}]"),
            );
        }

        let ip = self.given.map_or(String::new(), |ip| format!(", ip: {ip}"));
        scene.endpoint("provider", &format!("host: payments.example{ip}"));
        for (line, _) in &self.lines {
            scene.line(line, "");
        }
        scene.case(&format!("hosts-{}", self.name.replace(' ', "-")))
    }

    fn job(self) -> Job {
        Job::new(format!("hosts / {}", self.name), async move || {
            let leaking = self.leaking;
            let act = async move |hand: crate::runner::Hand| {
                let Some(leaking) = leaking else {
                    return Ok(());
                };
                let inventory = hand.sabotage.inventory().await?;
                let pods = inventory.pods.iter().filter(|pod| pod.name == leaking);
                let from: Vec<IpAddr> = pods.flat_map(|pod| pod.addresses.clone()).collect();
                let to = inventory.hosts["payments.example"].clone();
                let leaks = from
                    .iter()
                    .flat_map(|from| to.iter().map(|to| (*from, *to)))
                    .filter(|(from, to)| from.is_ipv4() == to.is_ipv4())
                    .map(|(from, to)| Leak {
                        from,
                        to,
                        port: 443,
                        transport: Tcp,
                        one_in: 1,
                    });
                hand.sabotage.leak(leaks.collect()).await
            };

            Done::of(run(&self.case(), How::BEFORE, act).await, |ran| {
                self.failures(ran)
            })
        })
    }

    fn failures(&self, ran: &Ran) -> Vec<String> {
        let wanted = |index: usize| {
            let text = &ran.results[index].check.text;
            let line = self.lines.iter().find(|(line, _)| line == text);
            line.map(|(_, wanted)| wanted.clone())
        };
        let mut failures = ran.differing(wanted);
        if ran.results.len() != self.lines.len() {
            failures.push(format!("{} results", ran.results.len()));
        }
        failures
    }
}

/// All scenes.
pub(crate) fn all() -> Vec<Job> {
    let unknown = || Wanted::Unproven(vec![Reason::AddressUnknown]);
    let scenes = [
        Hosts {
            name: "no address is given",
            given: None,
            lines: vec![
                ("h/Pod/api -> provider:443 denied", unknown()),
                ("h/Pod/api -> provider:444 allowed", unknown()),
                ("h/Pod/locked -> provider:443 denied", Wanted::Proven),
                ("h/Pod/free -> provider:443 allowed", Wanted::Proven),
            ],
            leaking: None,
        },
        Hosts {
            name: "no address is given and a pod leaks",
            given: None,
            lines: vec![
                ("h/Pod/api -> provider:443 denied", unknown()),
                ("h/Pod/locked -> provider:443 denied", Wanted::Violated),
            ],
            leaking: Some("locked"),
        },
        Hosts {
            name: "the given address is admitted",
            given: Some(ADMITTED),
            lines: vec![
                ("h/Pod/api -> provider:443 denied", Wanted::Violated),
                ("h/Pod/api -> provider:444 denied", Wanted::Proven),
                ("h/Pod/locked -> provider:443 denied", Wanted::Proven),
                ("h/Pod/free -> provider:443 allowed", Wanted::Proven),
            ],
            leaking: None,
        },
        Hosts {
            name: "the given address is not admitted",
            given: Some(ELSEWHERE),
            lines: vec![("h/Pod/api -> provider:443 denied", Wanted::Proven)],
            leaking: None,
        },
        Hosts {
            name: "the given address is not admitted and a pod leaks",
            given: Some(ELSEWHERE),
            lines: vec![
                ("h/Pod/api -> provider:443 denied", Wanted::Violated),
                ("h/Pod/locked -> provider:443 denied", Wanted::Proven),
            ],
            leaking: Some("api"),
        },
    ];
    scenes.into_iter().map(Hosts::job).collect()
}
