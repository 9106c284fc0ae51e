//! What was exercised, and what had to be.

use crate::features::{Direction, Feature};
use crate::runner::Ran;
use std::collections::BTreeSet;
use watertight::event::{Expected, FlowOutcome, Outcome};
use watertight::model::Family;
use watertight::verdict::Reason;
use watertight::wire::Stage;

/// Reasons that this test cannot bring about in the lab, and why not.
const UNREACHABLE_REASONS: [(Reason, &str); 1] = [(
    Reason::ClockSkew,
    "all processes of a lab share one boot and so one clock; `verdict` and `engine` test it with others",
)];

/// Stages at which no flow of the lab opens, and why not.
const UNREACHABLE_STAGES: [(Stage, &str); 1] = [(
    Stage::Resolve,
    "it is passed on the way to another stage, and no flow is open by a name alone",
)];

/// All stages, in their order.
const STAGES: [Stage; 5] = [
    Stage::Resolve,
    Stage::Connect,
    Stage::FirstBytes,
    Stage::Tls,
    Stage::Request,
];

/// Tiers, and what comes on top of one.
const TIERS: [&str; 7] = ["D1", "D2", "same-node", "counter", "A0", "A1", "A2"];

/// How a denial shows.
const MECHANISMS: [&str; 3] = [
    "drop",
    "reset",
    "a packet filter (ICMP administratively prohibited)",
];

/// A feature of the policies, seen from one direction, with what was proven of it.
type Shown = (Feature, Direction, Expected);

/// What runs have exercised.
#[derive(Debug, Default)]
pub(crate) struct Exercised {
    reasons: BTreeSet<&'static str>,
    tiers: BTreeSet<String>,
    mechanisms: BTreeSet<String>,
    /// At which stages proven denials were watched and proven allowances opened.
    stages: BTreeSet<(Expected, Stage)>,
    families: BTreeSet<(Expected, Family)>,
    features: BTreeSet<Shown>,
    feature_families: BTreeSet<(Feature, Direction, Family)>,
}

/// Those that were not seen.
fn missing(all: &[&str], seen: &BTreeSet<String>) -> Vec<String> {
    all.iter()
        .filter(|one| !seen.contains(**one))
        .map(ToString::to_string)
        .collect()
}

impl Exercised {
    /// What one run has exercised.
    pub(crate) fn by(ran: &Ran) -> Self {
        let mut this = Self::default();
        for (check, result) in ran.plan.checks().iter().zip(&ran.results) {
            this.reasons
                .extend(result.reason.as_ref().map(|reason| reason.code.code()));
            if result.verdict != Outcome::Proven {
                continue;
            }
            this.tiers.extend(
                result
                    .tier
                    .iter()
                    .flat_map(|tier| tier.split('+'))
                    .map(str::to_owned),
            );
            this.mechanisms.extend(result.mechanism.clone());
            let shown = Feature::of(&check.line.tags);
            this.features
                .extend(shown.map(|(feature, direction)| (feature, direction, check.expected)));
            for (flow, report) in check.flows.iter().zip(&result.flows) {
                if report.verdict != FlowOutcome::Proven {
                    continue;
                }
                let flow = ran.plan.flow(*flow);
                this.stages.insert((check.expected, flow.opens_at));
                this.families.insert((check.expected, flow.family()));
                this.feature_families
                    .extend(shown.map(|(feature, direction)| (feature, direction, flow.family())));
            }
        }
        this
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.reasons.extend(other.reasons);
        self.tiers.extend(other.tiers);
        self.mechanisms.extend(other.mechanisms);
        self.stages.extend(other.stages);
        self.families.extend(other.families);
        self.features.extend(other.features);
        self.feature_families.extend(other.feature_families);
    }

    /// Everything that was never exercised, and every excuse that is none any more.
    pub(crate) fn gaps(&self) -> Vec<String> {
        let mut gaps = Vec::new();
        for reason in Reason::ALL {
            let excused = UNREACHABLE_REASONS
                .iter()
                .find(|(excused, _)| *excused == reason);
            match (self.reasons.contains(reason.code()), excused) {
                (false, None) => gaps.push(format!("reason {reason}: nothing came back with it")),
                (true, Some((_, why))) => {
                    gaps.push(format!("reason {reason} is reached, and excused: {why}"));
                }
                (true, None) | (false, Some(_)) => {}
            }
        }

        for expected in [Expected::Allowed, Expected::Denied] {
            for stage in STAGES {
                let excused = UNREACHABLE_STAGES
                    .iter()
                    .find(|(excused, _)| *excused == stage);
                match (self.stages.contains(&(expected, stage)), excused) {
                    (false, None) => gaps.push(format!(
                        "stage {stage:?}: nothing {expected} was proven at it"
                    )),
                    (true, Some((_, why))) => {
                        gaps.push(format!("stage {stage:?} is reached, and excused: {why}"));
                    }
                    (true, None) | (false, Some(_)) => {}
                }
            }
            let families = Family::ALL
                .into_iter()
                .filter(|family| !self.families.contains(&(expected, *family)));
            gaps.extend(
                families.map(|family| format!("{family}: nothing {expected} was proven over it")),
            );
        }
        gaps.extend(
            missing(&TIERS, &self.tiers)
                .into_iter()
                .map(|tier| format!("tier {tier}: nothing was proven at it")),
        );
        let mechanisms = missing(&MECHANISMS, &self.mechanisms).into_iter();
        gaps.extend(
            mechanisms
                .map(|mechanism| format!("mechanism {mechanism}: no denial was proven by it")),
        );

        for &feature in Feature::ALL {
            for (direction, expected) in feature.shows() {
                if !self.features.contains(&(feature, *direction, *expected)) {
                    gaps.push(format!(
                        "feature {}: nothing {expected} was proven for {direction:?}",
                        feature.code()
                    ));
                }
                for family in Family::ALL {
                    if !self
                        .feature_families
                        .contains(&(feature, *direction, family))
                    {
                        gaps.push(format!(
                            "feature {}: nothing was proven for {direction:?} over {family}",
                            feature.code()
                        ));
                    }
                }
            }
        }
        gaps
    }
}
