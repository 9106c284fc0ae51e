//! `established: true`: of denied lines over TCP, never of a whole suite.

use super::*;

/// Problems of a line in the long form.
fn of_line(line: &str) -> Vec<String> {
    problems(&[&with_lines(&format!(
        "    - {{ check: {line}, established: true }}\n    - web -> payment:7 denied"
    ))])
}

#[test]
fn established_of_a_denied_line_over_tcp_is_accepted() {
    for line in [
        "web -> api:1 denied",
        "web -> http://api/x denied",
        "web -> api denied",
    ] {
        assert_eq!(of_line(line), Vec::<String>::new(), "{line}");
    }
}

#[test]
fn established_without_effect_is_an_error() {
    let cases = [
        (
            "web -> api:1 allowed",
            "it needs a line that ends with denied",
        ),
        ("web -> api:53/udp denied", "it needs TCP targets"),
        ("'web -> api:1, api:53/udp denied'", "it needs TCP targets"),
        ("web -> dns://api/x.example denied", "it needs TCP targets"),
    ];
    for (line, help) in cases {
        let found = of_line(line);
        assert!(
            found.iter().any(|problem| problem.contains(&format!(
                "error: established has no effect on this line; help: {help}"
            ))),
            "{line}\n{found:#?}"
        );
    }
}

#[test]
fn established_of_a_suite_is_an_error() {
    let suite = with_lines("    - web -> payment:7 denied");
    let suite = suite.replacen("spec:\n", "spec:\n  settings: { established: true }\n", 1);
    let found = problems(&[&suite]);
    assert!(
        found.iter().any(
            |problem| problem.contains("settings has no key \"established\"")
                || problem.contains("have no key \"established\"")
        ),
        "{found:#?}"
    );
}
