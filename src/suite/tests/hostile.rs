//! Hostile input: nothing may panic, hang, or come back as a suite that was not written.

use super::*;
use proptest::prelude::*;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

/// A change to a text.
#[derive(Debug, Clone)]
enum Change {
    Remove(usize, usize),
    Insert(usize, String),
    Swap(usize, usize),
    Indent(usize, usize),
    Repeat(usize),
    Join(usize),
}

fn change() -> impl Strategy<Value = Change> {
    let at = 0..10_000_usize;
    let piece = prop_oneof![
        "[ -~\u{e9}\u{1b}\u{202e}\t\n]{1,4}",
        Just("*".to_owned()),
        Just(": ".to_owned()),
        Just(" -> ".to_owned()),
        Just("\n---\n".to_owned()),
        Just("\n...\n".to_owned()),
        Just("&a ".to_owned()),
        Just("*a".to_owned()),
        Just("<<: *a\n".to_owned()),
        Just("[{".to_owned()),
        Just("://".to_owned()),
        Just("/sctp".to_owned()),
        Just("\r\n".to_owned()),
        Just("\u{feff}".to_owned()),
        Just("| \n".to_owned()),
    ];
    prop_oneof![
        (at.clone(), 1..20_usize).prop_map(|(from, length)| Change::Remove(from, length)),
        (at.clone(), piece).prop_map(|(at, text)| Change::Insert(at, text)),
        (at.clone(), at.clone()).prop_map(|(a, b)| Change::Swap(a, b)),
        (at.clone(), 0..6_usize).prop_map(|(line, spaces)| Change::Indent(line, spaces)),
        at.clone().prop_map(Change::Repeat),
        at.prop_map(Change::Join),
    ]
}

fn apply(text: &mut String, change: &Change) {
    let boundary = |text: &str, at: usize| {
        let mut at = at % (text.len() + 1);
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        at
    };
    let lines = |text: &str| {
        text.split_inclusive('\n')
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    match change {
        Change::Remove(from, length) => {
            let from = boundary(text, *from);
            let to = boundary(text, (from + length).min(text.len())).max(from);
            text.replace_range(from..to, "");
        }
        Change::Insert(at, piece) => {
            let at = boundary(text, *at);
            text.insert_str(at, piece);
        }
        Change::Swap(a, b) => {
            let mut all = lines(text);
            if !all.is_empty() {
                let (a, b) = (a % all.len(), b % all.len());
                all.swap(a, b);
            }
            *text = all.concat();
        }
        Change::Indent(at, spaces) => {
            let mut all = lines(text);
            let count = all.len().max(1);
            if let Some(line) = all.get_mut(at % count) {
                *line = " ".repeat(*spaces) + line.trim_start_matches(' ');
            }
            *text = all.concat();
        }
        Change::Repeat(at) => {
            let mut all = lines(text);
            if !all.is_empty() {
                let at = at % all.len();
                all.insert(at, all[at].clone());
            }
            *text = all.concat();
        }
        Change::Join(at) => {
            let breaks: Vec<usize> = text.match_indices('\n').map(|(at, _)| at).collect();
            if !breaks.is_empty() {
                text.remove(breaks[at % breaks.len()]);
            }
        }
    }
}

/// What must hold for every text: it ends, it can be drawn, and there is either a suite or an
/// error.
fn survive(text: &str) {
    let (suites, diagnostics, sources) = load_texts(&[text]);
    for drawn in [
        diagnostics.render(&sources, false),
        diagnostics.render_compact(&sources),
    ] {
        assert!(
            !drawn.contains(|c: char| c.is_control() && c != '\n'),
            "{drawn:?}"
        );
    }
    assert!(!suites.is_empty() || diagnostics.has_errors(), "{text:?}");
    for suite in &suites {
        let everyone = suite.lines.iter().flat_map(|line| &line.sources).chain(
            suite
                .lines
                .iter()
                .flat_map(|line| line.targets.iter().map(|target| &target.subject)),
        );
        for id in everyone.flat_map(crate::suite::Subject::members) {
            assert!(suite.endpoints[id.0].used);
        }
        assert!(!suite.lines.is_empty() || suite.everything_else.is_some());
        assert!(
            suite
                .lines
                .iter()
                .all(|line| !line.sources.is_empty() && !line.targets.is_empty())
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_500, ..ProptestConfig::default() })]

    #[test]
    fn no_change_to_a_suite_makes_the_loader_panic(which in 0..3_usize, changes in prop::collection::vec(change(), 1..8)) {
        let mut text = [examples::SHOP, examples::EVERYTHING, examples::SMALL][which].to_owned();
        for change in &changes {
            apply(&mut text, change);
        }
        survive(&text);
    }

    #[test]
    fn no_line_makes_the_loader_panic(text in "([a-z]{1,4}|\\*|tiers|web|api|shop/Deployment/x| |,|:|/|-|->|→|\\[|\\]|::|\\.|[0-9]{1,5}|https://|dns://|POST |#|\\?|%2C|é|allowed|denied| denied){0,24}") {
        survive(&with_lines(&format!("    - '{text}'")));
        survive(&with_lines(&format!("    - {text}")));
        let mut sources = Sources::new();
        if let Err(diagnostics) = load_line(&text, &mut sources) {
            let _drawn = diagnostics.render(&sources, true);
        }
    }
}

#[test]
fn bytes_that_are_no_text_are_an_error() {
    for at in (0..examples::SHOP.len()).step_by(7) {
        let mut bytes = examples::SHOP.as_bytes().to_vec();
        bytes[at] = 0xff;
        let mut sources = Sources::new();
        let diagnostic = sources.add_bytes("a.yaml", bytes).expect_err("not UTF-8");
        assert!(diagnostic.render(&sources, false).contains("byte 0xff"));
    }
}

/// Suites of megabytes whose every part multiplies with another.
#[test]
fn large_suites_end() {
    let head = "apiVersion: watertight.dev/v1\nkind: Suite\nmetadata: {name: a}\nspec:\n";
    let count = 5_000;
    let mut endpoints = "  endpoints:\n".to_owned();
    let mut one_group = "  groups:\n    all: [".to_owned();
    for number in 0..count {
        writeln!(
            endpoints,
            "    e{number}: {{namespace: a, workload: Deployment/w{number}}}"
        )
        .expect("a String takes all");
        write!(one_group, "e{number}, ").expect("a String takes all");
    }
    one_group += "]\n";
    let chain: String = (0..count).fold("  groups:\n".to_owned(), |mut text, number| {
        writeln!(
            text,
            "    g{number}: [g{}, e{number}]",
            (number + 1) % count
        )
        .expect("a String takes all");
        text
    });
    let straight = chain.replace(&format!("[g0, e{}]", count - 1), "[e0]");
    let lines = |line: &dyn Fn(usize) -> String| {
        (0..count).fold("  expect:\n".to_owned(), |text, number| {
            text + "  - " + &line(number) + "\n"
        })
    };
    let items =
        |item: &dyn Fn(usize) -> String| (0..count).map(item).collect::<Vec<_>>().join(", ");
    let suites = [
        endpoints.clone() + &lines(&|number| format!("\"* -> *:{} denied\"", number + 1)),
        endpoints.clone()
            + &one_group
            + &lines(&|number| format!("all -> all:{} denied", number + 1)),
        endpoints.clone()
            + &lines(&|number| {
                format!(
                    "e0 -> e1:{} {}",
                    number + 1,
                    if number % 2 == 0 { "allowed" } else { "denied" }
                )
            }),
        endpoints.clone() + &lines(&|number| format!("x{number} -> y{number} denied")),
        endpoints.clone() + &chain + "  expect: [g0 -> e0 denied]\n",
        endpoints.clone() + &straight + "  expect: [g0 -> e0 denied]\n",
        endpoints.clone()
            + &format!(
                "  expect: ['{} -> {} denied']\n",
                items(&|number| format!("e{number}")),
                items(&|number| format!("e{number}:1"))
            ),
        lines(&|number| format!("runner -> a.example:{} denied", number + 1))
            + "  - runner -> a.example denied\n  - runner -> a.example allowed\n",
        lines(&|_| "runner -> a.example:1 denied".to_owned()),
        lines(&|number| {
            format!("{{check: runner -> a.example:1 denied, because: x{number}, hold: {number}ms}}")
        }),
        lines(&|_| "a:".to_owned()),
        lines(&|_| "{unknown: 1, unknwon: 2}".to_owned()),
    ];
    for (number, suite) in suites.iter().enumerate() {
        let started = Instant::now();
        let (_, diagnostics, sources) = load_texts(&[&format!("{head}{suite}")]);
        let drawn = diagnostics.render(&sources, false);
        assert!(
            started.elapsed() < Duration::from_secs(30),
            "suite {number}: {:?}",
            started.elapsed()
        );
        assert!(drawn.len() < 1_000_000, "suite {number}");
    }
}
