//! Credentials that a suite writes down: in a cluster they would stand in the specifications of
//! pods.

use super::PlanDiagnostic;
use crate::suite::{RequestText, Settings, Suite};
use std::collections::BTreeSet;

/// The mistakes of a suite that writes the value of a header that holds credentials, one for each
/// line that sends it.
pub(super) fn in_the_clear(suite: &Suite) -> Vec<PlanDiagnostic> {
    let mut diagnostics = Vec::new();
    for line in &suite.lines {
        let settings = line.settings.over(&suite.settings);
        let names = literal_credentials(&settings).into_iter();
        diagnostics.extend(names.map(|name| PlanDiagnostic {
            message: format!(
                "the header {name} would stand in the specification of a pod; take it from the environment: headers: {{ {name}: {{ fromEnv: NAME }} }}"
            ),
            place: line.place.clone(),
            other: None,
        }));
    }
    diagnostics
}

/// The names of the headers with credentials that the settings write down.
fn literal_credentials(settings: &Settings) -> BTreeSet<&str> {
    let headers = settings.headers.iter();
    headers
        .filter(|(name, value)| match value {
            RequestText::Literal(_) => holds_credentials(name),
            RequestText::FromEnv { .. } => false,
        })
        .map(|(name, _)| name.as_str())
        .collect()
}

/// Whether a header holds credentials, by its name.
fn holds_credentials(name: &str) -> bool {
    const WHOLE: [&str; 4] = ["authorization", "proxy-authorization", "cookie", "token"];
    const ENDS: [&str; 3] = ["-token", "-authorization", "-auth"];
    const PARTS: [&str; 6] = [
        "api-key",
        "apikey",
        "access-key",
        "secret",
        "password",
        "credential",
    ];
    let name = name.to_ascii_lowercase();
    WHOLE.contains(&name.as_str())
        || ENDS.iter().any(|end| name.ends_with(end))
        || PARTS.iter().any(|part| name.contains(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_with_credentials_are_known_by_their_names() {
        for name in [
            "Authorization",
            "Cookie",
            "X-Api-Key",
            "X-Vault-Token",
            "X-Amz-Security-Token",
            "Client-Secret",
        ] {
            assert!(holds_credentials(name), "{name}");
        }
        for name in ["Accept", "X-Request-Id", "Content-Type", "Authority"] {
            assert!(!holds_credentials(name), "{name}");
        }
    }
}
