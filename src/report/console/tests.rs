//! The console, over the events of example runs.

use super::page::MAX_PICTURES;
use super::*;
use crate::event::Summary;
use crate::report::{fixtures, text};

fn shown_with(events: &[RunEvent], capabilities: Capabilities, detail: Detail) -> (String, String) {
    let ((out, written), (err, live)) = (fixtures::pipe(), fixtures::pipe());
    let mut console = Console::new(
        Screen::new(out, capabilities),
        Screen::new(err, capabilities),
        detail,
        Progress::Quiet,
    );
    for event in events {
        console.event(event).unwrap();
    }
    (written.text(), live.text())
}

fn shown(events: &[RunEvent]) -> (String, String) {
    shown_with(events, UNICODE, Detail::Brief)
}

const UNICODE: Capabilities = Capabilities {
    terminal: false,
    width: 100,
    colour: false,
    unicode: true,
};

#[test]
fn page_has_matrix_findings_reach_and_sums_in_this_order() {
    let (results, live) = shown(&fixtures::shop());
    assert_eq!(
        live,
        "watertight 0.1.0: 7 checks of shop (shop.yaml) in the lab\n"
    );
    let head = "
shop

            ┌ api:8080
            │  ┌ api:8443
            │  │  ┌ postgres:5432
            │  │  │  ┌ https://payment/health
            │  │  │  │  ┌ metadata:80
  web-tier  ●  ●  ✗
  api             ●  ●  ?
  payments        ○

  ● allowed   ○ denied   ✗ violated   ? unproven   blank: not in the suite

violated: web-tier -> postgres:5432 denied
";
    let capabilities = Capabilities {
        width: 70,
        ..UNICODE
    };
    let (narrow, _) = shown_with(&fixtures::shop(), capabilities, Detail::Brief);
    assert!(narrow.starts_with(head), "{narrow}");
    let tail = "
reach: 4 of 5 proven checks cover every source node and target pod, 1 only some
       least: payments -> postgres:5432 denied (from 2 of 9 nodes, to 1 of 1 pod)
5 proven, 1 violated, 1 unproven in 4.2s
";
    assert!(results.ends_with(tail), "{results}");
    let (violated, unproven) = (
        results.find("violated: ").unwrap(),
        results.find("unproven: ").unwrap(),
    );
    assert!(violated < unproven);
}

#[test]
fn proven_checks_are_listed_with_reach_in_a_verbose_page_only() {
    let (brief, _) = shown(&fixtures::all_proven());
    assert!(!brief.contains("A2"), "{brief}");
    let (verbose, _) = shown_with(&fixtures::all_proven(), UNICODE, Detail::Verbose);
    let deny = "○ payments -> postgres:5432 denied\n    proven D2+counter, from 2 of 9 nodes, to 1 of 1 pod; 12 attempts, all blocked; \
        a leak in 22 % of attempts would have shown with 95 %; by drop; shop/api-0 (node-2) got through in the same window\n";
    assert!(verbose.contains(deny), "{verbose}");
    let allow = "● web-tier -> api:8080 allowed\n    proven A2, from 2 of 2 nodes, to 1 of 1 pod; 12 of 12 attempts got through; up after 340ms\n";
    assert!(verbose.contains(allow), "{verbose}");
}

#[test]
fn incomplete_run_says_so_first_and_last() {
    let (results, _) = shown(&fixtures::interrupted());
    assert!(
        results.starts_with("\n█ INCOMPLETE: interrupted; 5 of 7 checks not finished\n"),
        "{results}"
    );
    assert!(
        results.contains("\nunproven: api -> postgres:5432 allowed (not-finished)  shop.yaml:15\n"),
        "{results}"
    );
    assert!(
        results.ends_with("2 proven, 0 violated, 5 unproven in 4.2s (INCOMPLETE)\n"),
        "{results}"
    );
}

#[test]
fn run_without_checks_is_incomplete() {
    let (results, live) = shown(&fixtures::empty());
    assert!(live.contains("0 checks"), "{live}");
    assert!(
        results.contains("INCOMPLETE: nothing was selected"),
        "{results}"
    );
}

#[test]
fn stopped_run_shows_violations_so_far() {
    let ((out, written), (err, _)) = (fixtures::pipe(), fixtures::pipe());
    let mut console = Console::new(
        Screen::new(out, UNICODE),
        Screen::new(err, UNICODE),
        Detail::Brief,
        Progress::Quiet,
    );
    for event in &fixtures::shop()[..5] {
        console.event(event).unwrap();
    }
    console
        .stopped("the API server is gone", ExitCode::Violated)
        .unwrap();
    let results = written.text();
    assert!(
        results.starts_with("\n█ INCOMPLETE: the API server is gone\n"),
        "{results}"
    );
    assert!(
        results.contains("violated: web-tier -> postgres:5432 denied\n"),
        "{results}"
    );
    assert!(
        results.ends_with("1 violated, 6 checks not finished\n"),
        "{results}"
    );
}

#[test]
fn check_without_a_result_is_not_finished() {
    let mut events = fixtures::shop();
    if let Some(RunEvent::Finished {
        results,
        summary,
        run,
        ..
    }) = events.last_mut()
    {
        results.pop();
        run.complete = false;
        *summary = Summary::of(results, false);
    }
    let (results, _) = shown(&events);
    assert!(results.contains("1 of 7 checks not finished"), "{results}");
    assert!(results.contains("(not-finished)"), "{results}");
}

#[test]
fn hostile_text_is_escaped_on_the_terminal() {
    for unicode in [true, false] {
        let capabilities = Capabilities { unicode, ..UNICODE };
        let (results, live) = shown_with(&fixtures::hostile(), capabilities, Detail::Verbose);
        for text in [&results, &live] {
            assert!(
                !text.chars().any(|c| c != '\n' && text::is_active(c)),
                "{text}"
            );
            assert!(!text.lines().any(|line| line.starts_with("::")), "{text}");
            assert!(unicode || text.is_ascii(), "{text}");
        }
    }
}

#[test]
fn text_is_the_same_with_and_without_colour() {
    let colours = Capabilities {
        colour: true,
        ..UNICODE
    };
    for events in [
        fixtures::shop(),
        fixtures::interrupted(),
        fixtures::hostile(),
    ] {
        let (coloured, live) = shown_with(&events, colours, Detail::Verbose);
        assert!(coloured.contains('\u{1b}'));
        let (plain, plain_live) = shown_with(&events, UNICODE, Detail::Verbose);
        assert_eq!(anstream::adapter::strip_str(&coloured).to_string(), plain);
        assert_eq!(anstream::adapter::strip_str(&live).to_string(), plain_live);
    }
}

#[test]
fn page_of_ten_thousand_checks_names_every_violation_and_stays_short() {
    let (results, _) = shown(&fixtures::many(10_000));
    assert_eq!(results.matches("= seen").count(), MAX_PICTURES);
    assert_eq!(
        results
            .lines()
            .filter(|line| line.starts_with("violated: "))
            .count(),
        100,
        "every violation is named"
    );
    assert!(
        results.lines().count() < 1_000,
        "{}",
        results.lines().count()
    );
    assert!(results.ends_with("9900 proven, 100 violated, 0 unproven in 4.2s\n"));
}

#[test]
fn coverage_is_a_line_and_names_the_untouched_in_a_verbose_page_only() {
    let line = "coverage: the checks touch 1 of 2 policies, 2 of 2 rules, 5 of 6 pairs of endpoints, 4 of 4 pods, 1 of 2 nodes\n";
    let (brief, _) = shown(&fixtures::covered());
    assert!(brief.contains(line), "{brief}");
    assert!(!brief.contains("api -> web-tier"), "{brief}");
    let (verbose, _) = shown_with(&fixtures::covered(), UNICODE, Detail::Verbose);
    for left in [
        "NetworkPolicy data/backup for Ingress",
        "api -> web-tier",
        "node-2",
    ] {
        assert!(verbose.contains(left), "{left} is not in:\n{verbose}");
    }
    let (unknown, _) = shown(&fixtures::all_proven());
    assert!(!unknown.contains("coverage"), "{unknown}");
}
