//! What a proven deny rests on. None of it can be made up: a [`DenyProof`] holds a
//! [`ControlProof`], and that has one constructor, which demands an opening before, after and all
//! through the window.

use super::classify::Block;
use super::control::ControlProof;
use super::moment::Moment;
use crate::model::EnforcerCount;
use crate::plan::FlowId;
use crate::suite::RequiredTier;
use std::time::Duration;

/// The stretch of blocked samples that a proof rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Start of the first sample, run's clock.
    pub from: Moment,
    /// Start of the last sample.
    pub to: Moment,
    /// How many samples, all blocked.
    pub attempts: u32,
}

impl Window {
    /// From the first start to the last, at the least.
    pub fn length(self) -> Duration {
        Duration::from_micros(u64::try_from(self.to.earliest - self.from.latest).unwrap_or(0))
    }

    /// The least share of attempts, in percent, at which a leak would have shown with 95 %
    /// probability.
    pub fn power_percent(self) -> u32 {
        let missed = 0.05_f64.powf(1.0 / f64::from(self.attempts.max(1)));
        ((1.0 - missed) * 100.0).ceil() as u32
    }
}

/// The source opened something else before and after a window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceProof {
    pub(super) before: FlowId,
    pub(super) after: FlowId,
    pub(super) reached: bool,
}

impl SourceProof {
    /// What opened before the window, and what after.
    pub fn flows(&self) -> (FlowId, FlowId) {
        (self.before, self.after)
    }

    /// Whether it is the node that reached the source, since nothing is allowed to it.
    pub fn by_being_reached(&self) -> bool {
        self.reached
    }
}

/// A flow crossed between the two nodes within a window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathProof {
    pub(super) flow: FlowId,
}

impl PathProof {
    /// The flow that crossed.
    pub fn flow(&self) -> FlowId {
        self.flow
    }
}

/// How much stands behind a proven deny.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DenyTier {
    /// Whether all five conditions hold (D2), or only 1, 2 and 5 (D1).
    pub all_five: bool,
    /// Whether a pod on the same node with other labels got through.
    pub same_node_control: bool,
    /// Whether the enforcer's own count shows these packets.
    pub counter: bool,
}

impl DenyTier {
    /// Whether it is at least what is demanded.
    pub fn meets(self, required_tier: RequiredTier) -> bool {
        match required_tier {
            RequiredTier::D1 => true,
            RequiredTier::D2 => self.all_five,
            RequiredTier::D2SameNode => self.all_five && self.same_node_control,
            RequiredTier::D2Counter => self.all_five && self.counter,
            // An allow's tier says nothing about a deny; the suite's reader refuses it.
            RequiredTier::A0 | RequiredTier::A1 | RequiredTier::A2 | RequiredTier::A3 => false,
        }
    }

    /// What two flows of one check have in common.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            all_five: self.all_five && other.all_five,
            same_node_control: self.same_node_control && other.same_node_control,
            counter: self.counter && other.counter,
        }
    }
}

impl std::fmt::Display for DenyTier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.all_five { "D2" } else { "D1" })?;
        f.write_str(if self.same_node_control {
            "+same-node"
        } else {
            ""
        })?;
        f.write_str(if self.counter { "+counter" } else { "" })
    }
}

/// Why one flow's deny is proven. It cannot exist without a control.
#[derive(Debug, Clone, PartialEq)]
pub struct DenyProof {
    pub(super) window: Window,
    pub(super) control: ControlProof,
    pub(super) source: Option<SourceProof>,
    pub(super) paths: Option<Vec<PathProof>>,
    pub(super) same_node_control: Option<FlowId>,
    pub(super) counter: Option<EnforcerCount>,
    pub(super) block: Block,
    pub(super) restarts: u32,
    pub(super) startup_leak: Option<Duration>,
}

impl DenyProof {
    /// The samples.
    pub fn window(&self) -> Window {
        self.window
    }

    /// Who got through.
    pub fn control(&self) -> &ControlProof {
        &self.control
    }

    /// What the source opened.
    pub fn source(&self) -> Option<&SourceProof> {
        self.source.as_ref()
    }

    /// What crossed.
    pub fn paths(&self) -> Option<&[PathProof]> {
        self.paths.as_deref()
    }

    /// Who got through from the same node.
    pub fn same_node_control(&self) -> Option<FlowId> {
        self.same_node_control
    }

    /// The enforcer's own count.
    pub fn counter(&self) -> Option<&EnforcerCount> {
        self.counter.as_ref()
    }

    /// How the samples were blocked, the last time.
    pub fn block(&self) -> &Block {
        &self.block
    }

    /// For how long at the most the source, which is new, reached the target before it was stopped
    /// for good.
    pub fn startup_leak(&self) -> Option<Duration> {
        self.startup_leak
    }

    /// How often the flow began anew before the window, because something relevant had changed.
    pub fn restarts(&self) -> u32 {
        self.restarts
    }

    /// Its tier.
    pub fn tier(&self) -> DenyTier {
        DenyTier {
            all_five: self.source.is_some() && self.paths.is_some(),
            same_node_control: self.same_node_control.is_some(),
            counter: self
                .counter
                .as_ref()
                .is_some_and(|counter| counter.packets >= u64::from(self.window.attempts)),
        }
    }
}
