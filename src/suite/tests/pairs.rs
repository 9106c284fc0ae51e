//! Lines that cannot stand together, or need not.

use super::*;

/// Problems of two lines, with `payment` used so that nothing else is reported.
fn of_lines(lines: &[&str]) -> Vec<String> {
    let list: Vec<String> = lines
        .iter()
        .map(|line| format!("    - {line}"))
        .chain(["    - web -> payment:7 denied".to_owned()])
        .collect();
    problems(&[&with_lines(&list.join("\n"))])
}

#[test]
fn contradictions_between_names_groups_ranges_and_wildcards_are_errors() {
    let cases = [
        (
            "web -> api:1 denied",
            "web -> api:1 allowed",
            "web -> api:1",
        ),
        ("web -> api denied", "web -> api:* allowed", "web -> api"),
        (
            "web -> api:*/udp denied",
            "web -> api:*/udp allowed",
            "web -> api:*/udp",
        ),
        (
            "web, api -> api:1, db:1 denied",
            "runner, web -> db:1 allowed",
            "web -> db:1",
        ),
        ("tiers -> db:1 denied", "api -> db:1 allowed", "api -> db:1"),
        ("\"* -> db:1 denied\"", "api -> db:1 allowed", "api -> db:1"),
        ("web -> db:1 allowed", "\"* -> *:1 denied\"", "web -> db:1"),
        (
            "web -> db denied",
            "web -> db:5432 allowed",
            "web -> db:5432",
        ),
        (
            "web -> db:*/udp denied",
            "web -> db:53/udp allowed",
            "web -> db:53/udp",
        ),
        (
            "web -> api:1-9 denied",
            "web -> api:5 allowed",
            "web -> api:5",
        ),
        (
            "web -> api:1-9 denied",
            "web -> api:9-12 allowed",
            "web -> api:9-12",
        ),
        (
            "web -> api:http denied",
            "web -> api:http allowed",
            "web -> api:http",
        ),
        (
            "web -> https://api/x denied",
            "web -> https://api/x allowed",
            "web -> https://api/x",
        ),
        (
            "web -> payment denied",
            "web -> payment:9 allowed",
            "web -> payment:9",
        ),
        (
            "shop/Deployment/web -> api:1 denied",
            "web -> api:1 allowed",
            "web -> api:1",
        ),
        (
            "api -> api:1 denied",
            "api -> api:1 allowed",
            "api -> api:1",
        ),
        (
            "{check: web -> api:1 denied, id: a, hold: 1s}",
            "web -> api:1 allowed",
            "web -> api:1",
        ),
    ];
    for (first, second, flow) in cases {
        let found = of_lines(&[first, second]);
        assert_eq!(found.len(), 1, "{first} / {second}: {found:#?}");
        let expected = format!("error: {flow} is both allowed and denied; ");
        assert!(
            found[0].starts_with(&format!("a.yaml:{}:", FIRST_LINE + 1))
                && found[0].contains(&expected),
            "{found:#?}"
        );
        assert!(
            found[0].contains(&format!("here (a.yaml:{FIRST_LINE}:")),
            "{found:#?}"
        );
    }
}

#[test]
fn lines_that_differ_in_what_they_send_are_no_contradiction() {
    let cases = [
        ["web -> api:1 denied", "api -> db:1 allowed"],
        ["web -> api:1 denied", "web -> api:1/udp allowed"],
        ["web -> api:1 denied", "web -> api:2 allowed"],
        ["web -> api:1-9 denied", "web -> api:10-12 allowed"],
        [
            "web -> https://api/x denied",
            "web -> https://api/y allowed",
        ],
        [
            "web -> https://api/x denied",
            "web -> POST https://api/x allowed",
        ],
        [
            "web -> https://api/x denied",
            "{check: web -> https://api/x allowed, headers: {Authorization: secret}}",
        ],
        ["tiers -> tiers:1 denied", "api -> api:1 allowed"],
        ["\"* -> api:1 denied\"", "api -> api:1 allowed"],
        ["\"* -> api:1 denied\"", "runner, nodes -> api:1 allowed"],
        ["\"web -> *:1 denied\"", "web -> payment:1 allowed"],
    ];
    for lines in cases {
        let found = of_lines(&lines);
        // `*:1` takes the host in, since a line names a port of it.
        let expected = usize::from(lines[0].contains("*:1"));
        assert_eq!(found.len(), expected, "{lines:?}: {found:#?}");
    }
}

#[test]
fn every_contradiction_is_shown() {
    let found = of_lines(&[
        "web -> api:1 denied",
        "web -> db:1 allowed",
        "web -> api:1 allowed",
        "web -> db:1 denied",
    ]);
    assert_eq!(found.len(), 2, "{found:#?}");
}

#[test]
fn a_repeated_line_is_a_warning() {
    let cases = [
        ["web -> api:1 denied", "web → api:1/tcp denied"],
        [
            "web, api -> db:1, api:2 denied",
            "api, web -> api:2, db:1 denied",
        ],
        ["web -> api denied", "web -> api:* denied"],
        [
            "{check: web -> api:1 denied, hold: 1s, because: this}",
            "{check: web -> api:1 denied, hold: 1000ms, tags: [that]}",
        ],
    ];
    for lines in cases {
        let found = of_lines(&lines);
        assert_eq!(found.len(), 1, "{lines:?}: {found:#?}");
        assert!(
            found[0].contains("warning: this line repeats another; first here (a.yaml:14:"),
            "{found:#?}"
        );
    }
}

#[test]
fn a_name_twice_in_one_line_is_a_warning() {
    let found = of_lines(&["web, web -> api:1, db:1, api:1/tcp denied"]);
    assert_eq!(
        found,
        [
            "a.yaml:14:12: warning: this item appears twice in the line; help: remove one of them",
            "a.yaml:14:32: warning: this item appears twice in the line; help: remove one of them"
        ]
    );
}

#[test]
fn one_check_with_two_settings_needs_an_id() {
    let found = of_lines(&[
        "web -> api:1 denied",
        "{check: tiers -> api:1 denied, hold: 9s}",
    ]);
    assert_eq!(
        found,
        [
            "a.yaml:15:15: error: two lines make the check \"web -> api:1 denied\" with different settings; first here (a.yaml:14:7); help: give one of them an id: it becomes part of the check's name"
        ]
    );
    assert!(
        of_lines(&[
            "web -> api:1 denied",
            "{check: web -> api:1 denied, hold: 9s, id: long}"
        ])
        .is_empty()
    );
    assert!(
        of_lines(&[
            "\"* -> api:1 denied\"",
            "{check: web -> api:1 denied, hold: 9s}"
        ])
        .is_empty()
    );
}

#[test]
fn a_repeated_id_is_an_error() {
    let found = of_lines(&[
        "{check: web -> api:1 denied, id: x}",
        "{check: web -> api:2 denied, id: \"x\"}",
    ]);
    assert_eq!(
        found,
        [
            "a.yaml:15:40: error: the id \"x\" is used twice; first here (a.yaml:14:40); help: an id belongs to one line: change one of them"
        ]
    );
}

#[test]
fn an_unused_endpoint_is_a_warning_unless_a_wildcard_includes_it() {
    let yaml = |extra: &str, lines: &str| {
        format!(
            "apiVersion: watertight.dev/v1\nkind: Suite\nmetadata: {{name: a}}\nspec:\n  endpoints:\n    web: {{namespace: a, workload: Deployment/web}}\n    old: {{namespace: a, workload: Deployment/old}}\n    host: {{host: a.b}}\n  groups: {{unused: [old]}}\n  expect: [{lines}]\n{extra}"
        )
    };
    let warning = |line: usize, name: &str| {
        format!(
            "a.yaml:{line}:5: warning: no line names {name}; help: remove it, or write what is expected of it"
        )
    };
    assert_eq!(
        problems(&[&yaml("", "web -> host:1 denied")]),
        [warning(7, "old")]
    );
    assert_eq!(
        problems(&[&yaml("", "old -> web denied")]),
        [warning(8, "host")]
    );
    assert_eq!(
        problems(&[&yaml("", "\"* -> host:1 denied\"")]),
        Vec::<String>::new()
    );
    assert_eq!(
        problems(&[&yaml("", "\"web -> *:1 denied\"")]),
        [warning(8, "host")]
    );
    assert_eq!(
        problems(&[&yaml("  everythingElse: denied\n", "web -> host:1 denied")]),
        Vec::<String>::new()
    );
    assert_eq!(
        problems(&[&yaml("", "{check: web -> host:1 denied, control: old}")]),
        Vec::<String>::new()
    );
}

#[test]
fn two_suites_of_one_name_show_both() {
    let found = problems(&[examples::SMALL, examples::SHOP, examples::SMALL]);
    assert_eq!(
        found,
        [
            "c.yaml:3:18: error: two suites are called small; first here (a.yaml:3:18); help: reports identify a check by the names of its suite and itself: rename one of the suites"
        ]
    );
}
