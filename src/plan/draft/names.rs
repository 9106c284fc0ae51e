//! Names for endpoints and groups, each once.

use crate::model::EndpointName;
use std::collections::BTreeSet;

/// How long a name may be before a number is put behind it.
const LONGEST: usize = 56;

/// Names that are given out.
#[derive(Debug, Default)]
pub(super) struct Names {
    taken: BTreeSet<String>,
}

impl Names {
    /// The first of some wishes that is free, or the last one with a number behind it.
    pub(super) fn give(&mut self, wishes: &[String]) -> String {
        let wishes: Vec<String> = wishes.iter().map(|wish| spelt(wish)).collect();
        let last = wishes
            .last()
            .cloned()
            .unwrap_or_else(|| "endpoint".to_owned());
        let numbered = (2_u32..).map(|number| format!("{last}-{number}"));
        let free = wishes
            .into_iter()
            .chain(numbered)
            .find(|name| self.is_free(name))
            .unwrap_or(last);
        self.taken.insert(free.clone());
        free
    }

    fn is_free(&self, name: &str) -> bool {
        // The last two are built in.
        EndpointName::parse(name).is_ok()
            && !self.taken.contains(name)
            && !["runner", "nodes"].contains(&name)
    }
}

/// The nearest that is a name.
pub(super) fn spelt(wish: &str) -> String {
    let plain = |c: char| {
        if c.is_ascii_lowercase() || c.is_ascii_digit() {
            c
        } else {
            '-'
        }
    };
    let mut name: String = wish
        .to_ascii_lowercase()
        .chars()
        .map(plain)
        .take(LONGEST)
        .collect();
    if !name.starts_with(|c: char| c.is_ascii_lowercase()) {
        name = format!("e-{}", name.trim_start_matches('-'));
    }
    name.trim_end_matches('-').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_wish_becomes_a_name_of_its_own() {
        let mut names = Names::default();
        let mut give = |wishes: &[&str]| {
            names.give(
                &wishes
                    .iter()
                    .map(|&wish| wish.to_owned())
                    .collect::<Vec<_>>(),
            )
        };
        assert_eq!(give(&["web"]), "web");
        assert_eq!(give(&["web", "shop-web"]), "shop-web");
        assert_eq!(give(&["web", "shop-web"]), "shop-web-2");
        assert_eq!(give(&["runner", "shop-runner"]), "shop-runner");
        assert_eq!(give(&["denied"]), "denied-2");
        assert_eq!(give(&["9.front_End."]), "e-9-front-end");
        assert_eq!(give(&["2001:db8::"]), "e-2001-db8");
        assert_eq!(give(&[&"a".repeat(80)]), "a".repeat(56));
        assert_eq!(give(&[&"a".repeat(80)]), format!("{}-2", "a".repeat(56)));
        assert_eq!(give(&[""]), "e");
    }
}
