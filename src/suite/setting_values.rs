//! Names of the settings whose value is one of a fixed set of words.

use super::{Mechanism, RequiredTier, SourceMode, Spread};

/// Gives each variant of an enum the word by which a suite writes it.
macro_rules! setting_values {
    ($type:ident { $($variant:ident = $name:literal),+ $(,)? }) => {
        impl $type {
            /// All values, in the order of [`Self::NAMES`].
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The words that a suite can write.
            pub const NAMES: &[&str] = &[$($name),+];

            /// The word in a suite.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name),+
                }
            }

            /// The value with exactly this name.
            pub fn parse(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|value| value.name() == name)
            }
        }
    };
}

setting_values!(RequiredTier {
    D1 = "D1",
    D2 = "D2",
    D2SameNode = "D2+same-node",
    D2Counter = "D2+counter",
    A0 = "A0",
    A1 = "A1",
    A2 = "A2",
    A3 = "A3",
});

setting_values!(Mechanism { Drop = "drop", Reset = "reset", Icmp = "icmp", Signature = "signature" });

setting_values!(SourceMode { Clone = "clone", Ephemeral = "ephemeral", Node = "node", Runner = "runner" });

setting_values!(Spread { One = "one", Nodes = "nodes", Replicas = "replicas" });
