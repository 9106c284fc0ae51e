//! Tiers: how strong a proof is.

use crate::suite::RequiredTier;

/// How much a success shows: that something answered, that the target did, that it is the right
/// one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
pub enum AllowTier {
    /// A handshake.
    A0,
    /// Bytes or a certificate of the target.
    A1,
    /// Our nonce came back, or the expected certificate.
    A2,
}

impl AllowTier {
    /// The lowest tier of a success that meets a required tier; `None` for the tiers of denies.
    pub(super) fn meeting(required_tier: RequiredTier) -> Option<Self> {
        match required_tier {
            RequiredTier::A0 => Some(Self::A0),
            RequiredTier::A1 => Some(Self::A1),
            // A mesh identity is not observed; planning calls such a line unprovable.
            RequiredTier::A2 | RequiredTier::A3 => Some(Self::A2),
            RequiredTier::D1
            | RequiredTier::D2
            | RequiredTier::D2SameNode
            | RequiredTier::D2Counter => None,
        }
    }
}

/// How strong the proof of a deny is.
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
    /// Whether it is at least the required tier.
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

    /// The tier that two flows of one check have in common.
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

/// What a tier means, in one sentence.
pub fn tier_meaning(tier: RequiredTier) -> &'static str {
    match tier {
        RequiredTier::D1 => {
            "every attempt was blocked, a target control got through before, between and after them, and nothing relevant changed"
        }
        RequiredTier::D2 => {
            "as D1, and a source control and a path control got through in the same window"
        }
        RequiredTier::D2SameNode => {
            "as D2, and a pod with other labels on the source's node got through to the same target in the same window"
        }
        RequiredTier::D2Counter => {
            "as D2, and the enforcer's own counter shows at least as many blocked packets as there were attempts"
        }
        RequiredTier::A0 => "a handshake with the address and port was completed",
        RequiredTier::A1 => "the target sent bytes or a certificate",
        RequiredTier::A2 => {
            "the target returned the run's nonce or showed the expected certificate"
        }
        RequiredTier::A3 => {
            "the mesh identity of the target was shown; watertight does not observe it, so a line that requires it is unprovable"
        }
    }
}
