//! What preflight reports to a run: the risks that stop it, and those that leave out a source.

use super::terminal::Terminal;
use crate::backend::kube::LaunchPreview;
use crate::backend::kube::preflight::{Risk, Severity};
use std::collections::{BTreeMap, BTreeSet};

/// Shows each refusal with its fix, and the codes of the warnings in one note. Returns whether a
/// refusal stops the run.
pub(super) fn refuses(preview: &LaunchPreview, terminal: &Terminal) -> bool {
    let stops = preview.findings.stop_the_run();
    let (refusals, warnings): (Vec<_>, Vec<_>) = RiskGroup::all(&preview.findings.risks)
        .into_iter()
        .partition(|group| group.risk.severity == Severity::Refuse);
    note_warnings(&warnings, terminal);

    let consequence = if stops {
        "refused by preflight"
    } else {
        "left out by preflight"
    };
    for group in &refusals {
        terminal.error(&format!(
            "{consequence}: {}\n  fix: {}",
            group.sentence(),
            group.risk.remedy
        ));
    }

    if let Some(role) = &preview.findings.role {
        terminal.error(&format!(
            "rights are missing; this grants them (kubectl apply -f -):\n\n{role}"
        ));
    }
    stops
}

fn note_warnings(warnings: &[RiskGroup<'_>], terminal: &Terminal) {
    if warnings.is_empty() {
        return;
    }
    let codes: BTreeSet<&str> = warnings
        .iter()
        .map(|group| group.risk.code.name())
        .collect();
    let codes: Vec<&str> = codes.into_iter().collect();
    terminal.note(&format!(
        "preflight warns of {}: `watertight plan` says more",
        codes.join(", ")
    ));
}

/// Risks that differ only in the probe pod.
pub(crate) struct RiskGroup<'a> {
    /// The first of them.
    pub(crate) risk: &'a Risk,
    pods: Vec<&'a str>,
}

impl<'a> RiskGroup<'a> {
    /// Groups risks, in the order of the first of each group.
    pub(crate) fn all(risks: &'a [Risk]) -> Vec<Self> {
        let mut groups: Vec<Self> = Vec::new();
        let mut indexes = BTreeMap::new();
        for risk in risks {
            let key = (risk.severity, risk.code, &risk.object, &risk.reason);
            let index = *indexes.entry(key).or_insert_with(|| {
                groups.push(Self {
                    risk,
                    pods: Vec::new(),
                });
                groups.len() - 1
            });
            groups[index].pods.extend(risk.pod.as_deref());
        }
        groups
    }

    /// Code, object, reason and the probe pods that it concerns.
    pub(crate) fn sentence(&self) -> String {
        let Risk {
            code,
            object,
            reason,
            ..
        } = self.risk;
        let pods = match self.pods.as_slice() {
            [] => String::new(),
            [pod] => format!(" (probe {pod})"),
            [first, rest @ ..] => format!(" (probe {first} and {} more)", rest.len()),
        };
        format!("[{code}] {object}: {reason}{pods}")
    }
}
