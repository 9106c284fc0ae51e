//! Generated edits of suites and manifests: reading, resolving and planning them ends soon, with a
//! plan or an error, and never with a panic.

use proptest::prelude::*;
use proptest::sample::Index;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;
use watertight::app::plan_in;
use watertight::backend::lab::{Layout, Outside, World};
use watertight::event::check_refs;
use watertight::inventory::read_manifests;
use watertight::plan::{self, PlanError, Schedule, Selection};
use watertight::source::Sources;
use watertight::{suite, wire};

const SUITE: &str = include_str!("../suites/shop/suite.yaml");

const WORLD: &str = concat!(
    include_str!("../suites/shop/manifests/shop.yaml"),
    "---\n",
    include_str!("../suites/shop/manifests/data.yaml"),
    "---\n",
    include_str!("../suites/shop/manifests/policies-shop.yaml"),
    "---\n",
    include_str!("../suites/shop/manifests/policies-data.yaml"),
);

/// The last step that a pair of texts reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Reached {
    Diagnostics,
    NoPlace,
    NoPlan,
    Plan,
}

/// The steps of `watertight plan`.
fn chain(suite_text: &str, world_text: &str) -> Reached {
    let mut sources = Sources::new();
    let suite_file = sources.add("suite.yaml", suite_text);
    let world_file = sources.add("world.yaml", world_text);
    let (suites, diagnostics) = suite::read(&[suite_file], &sources);
    let (manifests, problems) = read_manifests(&[world_file], &sources);

    for diagnostics in [&diagnostics, &problems] {
        assert!(diagnostics.is_empty() || !diagnostics.render(&sources, false).is_empty());
    }

    assert!(
        !diagnostics.has_errors() || suites.is_empty(),
        "a suite with an error would run"
    );
    if diagnostics.has_errors() || problems.has_errors() {
        return Reached::Diagnostics;
    }

    let outside = [
        Outside {
            name: Some("payments.example".into()),
            addresses: Vec::new(),
            ports: vec![(443, wire::Transport::Tcp)],
        },
        Outside {
            name: None,
            addresses: vec!["169.254.169.254".parse().expect("address")],
            ports: vec![(80, wire::Transport::Tcp)],
        },
        Outside {
            name: None,
            addresses: vec!["203.0.113.66".parse().expect("address")],
            ports: vec![(443, wire::Transport::Tcp)],
        },
    ];
    let world = match World::place(&manifests, &outside, Layout::dual_stack()) {
        Ok(world) => world,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return Reached::NoPlace;
        }
    };

    match plan_in(&world, &suites, &Selection::default()) {
        Ok(plan) => {
            let schedule = Schedule {
                run: "0".repeat(16),
                seed: 1,
                trust: Vec::new(),
                heartbeat: Duration::from_secs(1),
            };
            let probes = plan::probe_plans(&plan, &schedule, 0..plan.probes().len());
            assert_eq!(probes.len(), plan.probes().len());
            assert_eq!(check_refs(&plan).len(), plan.checks().len());
            assert!(!plan.checks().is_empty() && plan::floor(&plan) > Duration::ZERO);
            Reached::Plan
        }
        Err(PlanError::Invalid(mistakes)) => {
            assert!(
                mistakes.iter().all(|mistake| !mistake.message.is_empty()) && !mistakes.is_empty()
            );
            Reached::NoPlan
        }
        Err(
            error @ (PlanError::NothingSelected
            | PlanError::SuiteWithoutChecks(_)
            | PlanError::NoWorkload(_)
            | PlanError::AllUnprovable(..)),
        ) => {
            assert!(!error.to_string().is_empty());
            Reached::NoPlan
        }
    }
}

/// [`chain`], with a limit far above what any text of this size needs.
fn chain_in_time(suite_text: &str, world_text: &str) -> Reached {
    let (sender, reached) = channel();
    let (suite_owned, world_owned) = (suite_text.to_owned(), world_text.to_owned());
    let worker = std::thread::spawn(move || {
        let _given_up = sender.send(chain(&suite_owned, &world_owned));
    });

    match reached.recv_timeout(Duration::from_secs(30)) {
        Ok(reached) => reached,
        Err(RecvTimeoutError::Timeout) => {
            panic!("no end after 30 s:\n{suite_text}\n---\n{world_text}")
        }
        Err(RecvTimeoutError::Disconnected) => match worker.join() {
            Err(panic) => std::panic::resume_unwind(panic),
            Ok(()) => unreachable!("a worker that ends has sent or panicked"),
        },
    }
}

/// A change that keeps most of a text, so that later steps are reached too.
#[derive(Debug, Clone)]
enum Edit {
    /// One value becomes another of its kind, from either text.
    Word(Index, Index),
    /// One word becomes an unusual value.
    Odd(Index, Index),
    /// A line is repeated.
    Repeat(Index, Index),
    /// A line is removed.
    Remove(Index),
    /// A line moves to another place with its indentation.
    Move(Index, Index),
    /// Some characters are replaced.
    Splice(Index, usize, String),
}

const ODD: [&str; 40] = [
    "*",
    "0",
    "-1",
    "65535",
    "65536",
    "99999999",
    "18446744073709551616",
    "\"\"",
    "null",
    "~",
    "[]",
    "{}",
    "::",
    "::/0",
    "0.0.0.0/0",
    "10.0.0.0/33",
    "169.254.169.254",
    "203.0.113.66",
    "[::1]",
    "127.0.0.1",
    "255.255.255.255",
    "0s",
    "1000000h",
    "runner",
    "nodes",
    "a.b",
    "é",
    "80-90",
    "0-65535",
    "5432-5400",
    "http/udp",
    "443/sctp",
    "tls://payment",
    "dns://api",
    "https://payment:99/%2C",
    "denied",
    "allowed",
    "ExternalName",
    "None",
    "hostNetwork: true",
];

fn edit() -> impl Strategy<Value = Edit> {
    prop_oneof![
        16 => (any::<Index>(), any::<Index>()).prop_map(|(at, to)| Edit::Word(at, to)),
        4 => (any::<Index>(), any::<Index>()).prop_map(|(at, to)| Edit::Odd(at, to)),
        1 => (any::<Index>(), any::<Index>()).prop_map(|(of, at)| Edit::Repeat(of, at)),
        1 => any::<Index>().prop_map(Edit::Remove),
        1 => (any::<Index>(), any::<Index>()).prop_map(|(of, at)| Edit::Move(of, at)),
        1 => (any::<Index>(), 0..20_usize, "[ -~\\n]{0,6}").prop_map(|(at, length, put)| Edit::Splice(at, length, put)),
    ]
}

/// Start and end of each word, as they occur in YAML, lines and addresses.
fn words(text: &str) -> Vec<(usize, usize)> {
    let mut words = Vec::new();
    let mut start = None;
    for (at, c) in text.char_indices().chain([(text.len(), ' ')]) {
        let inside = c.is_alphanumeric() || "./-_".contains(c);
        match (start, inside) {
            (None, true) => start = Some(at),
            (Some(from), false) => {
                words.push((from, at));
                start = None;
            }
            (None, false) | (Some(_), true) => {}
        }
    }
    words
}

/// The part of a position's line that is before it.
fn line_before(text: &str, at: usize) -> &str {
    let start = text[..at].rfind('\n').map_or(0, |end| end + 1);
    &text[start..at]
}

/// Start and end of each word that is neither a key nor in a comment.
fn values(text: &str) -> Vec<(usize, usize)> {
    let mut words = words(text);
    words.retain(|(from, to)| {
        !text[*to..].starts_with(": ") && !line_before(text, *from).contains('#')
    });
    words
}

/// The text with another word in the place of one of its words.
fn with_word(text: &str, at: Index, word: &str) -> String {
    let all = words(text);
    if all.is_empty() {
        return text.to_owned();
    }
    let (from, to) = *at.get(&all);
    format!("{}{word}{}", &text[..from], &text[to..])
}

/// Whether a word is a number or an address, and not a name.
fn is_number(word: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_digit())
}

/// The text after one edit.
fn edited(text: &str, edit: &Edit) -> String {
    let lines: Vec<&str> = text.lines().collect();
    match edit {
        Edit::Word(at, other) => {
            let all = values(text);
            if all.is_empty() {
                return text.to_owned();
            }
            let (from, to) = *at.get(&all);
            let known = [SUITE, WORLD];
            let known = known
                .iter()
                .flat_map(|text| values(text).into_iter().map(|(from, to)| &text[from..to]));
            let kind: Vec<&str> = known
                .filter(|word| is_number(word) == is_number(&text[from..to]))
                .collect();
            format!(
                "{}{}{}",
                &text[..from],
                other.get::<&str>(&kind),
                &text[to..]
            )
        }
        Edit::Odd(at, odd) => with_word(text, *at, odd.get::<&str>(&ODD)),
        Edit::Splice(at, length, put) => {
            let chars: Vec<char> = text.chars().collect();
            let start = at.index(chars.len() + 1);
            let end = (start + length).min(chars.len());
            chars[..start]
                .iter()
                .copied()
                .chain(put.chars())
                .chain(chars[end..].iter().copied())
                .collect()
        }
        Edit::Repeat(..) | Edit::Remove(..) | Edit::Move(..) if lines.is_empty() => text.to_owned(),
        Edit::Repeat(of, at) => {
            let mut lines = lines;
            lines.insert(at.index(lines.len()), lines[of.index(lines.len())]);
            lines.join("\n")
        }
        Edit::Remove(at) => {
            let mut lines = lines;
            lines.remove(at.index(lines.len()));
            lines.join("\n")
        }
        Edit::Move(of, at) => {
            let mut lines = lines;
            let line = lines.remove(of.index(lines.len()));
            lines.insert(at.index(lines.len() + 1), line);
            lines.join("\n")
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, max_shrink_iters: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn planning_of_changed_texts_ends(
        suite_edits in prop::collection::vec(edit(), 0..4),
        world_edits in prop::collection::vec(edit(), 0..4),
    ) {
        let suite_text = suite_edits.iter().fold(SUITE.to_owned(), |text, edit| edited(&text, edit));
        let world_text = world_edits.iter().fold(WORLD.to_owned(), |text, edit| edited(&text, edit));
        chain_in_time(&suite_text, &world_text);
    }
}

/// Edits that break everything at the first step would test the first step only.
#[test]
fn changed_texts_reach_every_step() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    let mut reached = std::collections::BTreeMap::new();

    for _ in 0..300 {
        let edit = edit().new_tree(&mut runner).unwrap().current();
        for (suite, world) in [
            (edited(SUITE, &edit), WORLD.to_owned()),
            (SUITE.to_owned(), edited(WORLD, &edit)),
        ] {
            *reached.entry(chain(&suite, &world)).or_insert(0) += 1;
        }
    }

    for step in [Reached::Diagnostics, Reached::Plan] {
        assert!(
            reached.get(&step).is_some_and(|count| *count >= 100),
            "{step:?}: {reached:?}"
        );
    }
}

#[test]
fn unchanged_texts_are_planned() {
    assert_eq!(chain_in_time(SUITE, WORLD), Reached::Plan);
}

#[test]
fn two_names_of_one_endpoint_end_before_the_plan() {
    let late = SUITE
        .replace(
            "  groups:",
            "    copy: { namespace: shop, pods: { app: web } }\n  groups:",
        )
        .replace(
            "  everythingElse",
            "    - copy -> api:8080 denied\n  everythingElse",
        );
    assert_eq!(chain_in_time(&late, WORLD), Reached::NoPlan);
}

/// Numbers that a manifest may contain and no machine can run.
#[test]
fn worlds_that_are_too_large_are_refused_in_time() {
    for replicas in ["100000", "2147483647"] {
        let world = WORLD.replace("replicas: 2", &format!("replicas: {replicas}"));
        assert!(
            chain_in_time(SUITE, &world) < Reached::NoPlan,
            "{replicas} replicas"
        );
    }
}
