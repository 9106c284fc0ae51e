//! Settings that are one of a few words.

use super::{Mechanism, RequiredTier, SourceMode, Spread};

/// Gives each word of a setting its name, and finds it by that name.
macro_rules! named {
    ($type:ident { $($variant:ident = $name:literal),+ $(,)? }) => {
        impl $type {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// Their words.
            pub const WORDS: &[&str] = &[$($name),+];

            /// The word in a suite.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name),+
                }
            }

            /// What a word in a suite stands for.
            pub fn named(word: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|one| one.name() == word)
            }
        }
    };
}

named!(RequiredTier {
    D1 = "D1",
    D2 = "D2",
    D2SameNode = "D2+same-node",
    D2Counter = "D2+counter",
    A0 = "A0",
    A1 = "A1",
    A2 = "A2",
    A3 = "A3",
});

named!(Mechanism { Drop = "drop", Reset = "reset", Icmp = "icmp", Signature = "signature" });

named!(SourceMode { Clone = "clone", Ephemeral = "ephemeral", Node = "node", Runner = "runner" });

named!(Spread { One = "one", Nodes = "nodes", Replicas = "replicas" });
