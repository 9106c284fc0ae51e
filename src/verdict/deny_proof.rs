//! The proof of a deny.
//!
//! A [`DenyProof`] holds a [`ControlProof`], and that has one constructor, which requires a target
//! control that got through before, during and after the window.

use super::reading::Block;
use super::target_control::ControlProof;
use super::tiers::DenyTier;
use super::window::Window;
use crate::model::EnforcerCount;
use crate::plan::FlowId;
use std::time::Duration;

/// The source opened something else all through a window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceProof {
    pub(super) flow: FlowId,
    pub(super) reached: bool,
}

impl SourceProof {
    /// The flow that opened.
    pub fn flow(&self) -> FlowId {
        self.flow
    }

    /// Whether its node reached the source, since nothing is allowed to it.
    pub fn by_being_reached(&self) -> bool {
        self.reached
    }
}

/// A flow got through between the two nodes all through a window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathProof {
    pub(super) flow: FlowId,
}

impl PathProof {
    /// The flow that got through.
    pub fn flow(&self) -> FlowId {
        self.flow
    }
}

/// Why one flow's deny is proven. It cannot exist without a target control.
#[derive(Debug, Clone, PartialEq)]
pub struct DenyProof {
    pub(super) window: Window,
    pub(super) control: ControlProof,
    pub(super) source: Option<SourceProof>,
    pub(super) paths: Option<Vec<PathProof>>,
    pub(super) same_node_control: Option<FlowId>,
    pub(super) counter: Option<EnforcerCount>,
    pub(super) block: Box<Block>,
    pub(super) restarts: u32,
    pub(super) startup_leak: Option<Duration>,
    pub(super) weaker: Box<WeakerProof>,
}

/// Why a proof rests on weaker controls: the policies admit no stronger ones. `None` where the
/// control is the strongest.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WeakerProof {
    /// Of the target control (condition 2).
    pub target: Option<String>,
    /// Of the source control (condition 3).
    pub source: Option<String>,
    /// Of a path control (condition 4).
    pub path: Option<String>,
}

impl DenyProof {
    /// The window of the blocked attempts.
    pub fn window(&self) -> Window {
        self.window
    }

    /// The target control (condition 2).
    pub fn control(&self) -> &ControlProof {
        &self.control
    }

    /// The source control (condition 3); `None` at D1.
    pub fn source(&self) -> Option<&SourceProof> {
        self.source.as_ref()
    }

    /// The path controls (condition 4); `None` at D1.
    pub fn paths(&self) -> Option<&[PathProof]> {
        self.paths.as_deref()
    }

    /// The flow of another pod on the source's node that got through.
    pub fn same_node_control(&self) -> Option<FlowId> {
        self.same_node_control
    }

    /// The enforcer's own count.
    pub fn counter(&self) -> Option<&EnforcerCount> {
        self.counter.as_ref()
    }

    /// How the attempts were blocked, the last time.
    pub fn block(&self) -> &Block {
        &self.block
    }

    /// The longest possible length of the start-up leak, if there was one.
    pub fn startup_leak(&self) -> Option<Duration> {
        self.startup_leak
    }

    /// Number of restarts before the window, because something relevant had changed.
    pub fn restarts(&self) -> u32 {
        self.restarts
    }

    /// Why it rests on weaker controls.
    pub fn weaker(&self) -> &WeakerProof {
        &self.weaker
    }

    /// The tier that it reaches.
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
