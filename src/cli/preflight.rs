//! What preflight found, in words.

use super::terminal::Terminal;
use crate::backend::kube::LaunchPreview;
use crate::backend::kube::preflight::{Risk, Severity};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};

/// Says in a run what stops it or is left out of it, and in one line what does neither. Gives
/// whether anything stops it.
pub(super) fn stops(preview: &LaunchPreview, terminal: &Terminal) -> bool {
    let stops = preview.findings.stop_the_run();
    let (refusals, warnings): (Vec<_>, Vec<_>) = grouped(&preview.findings.risks)
        .into_iter()
        .partition(|group| group.first.severity == Severity::Refuse);
    if !warnings.is_empty() {
        let codes: BTreeSet<&str> = warnings
            .iter()
            .map(|group| group.first.code.name())
            .collect();
        let codes: Vec<&str> = codes.into_iter().collect();
        terminal.note(&format!(
            "preflight warns of {}: `watertight plan` says more",
            codes.join(", ")
        ));
    }
    for group in &refusals {
        let what = if stops {
            "refused by preflight"
        } else {
            "left out by preflight"
        };
        terminal.error(&format!(
            "{what}: {}\n  fix: {}",
            group.sentence(),
            group.first.remedy
        ));
    }
    if let Some(role) = &preview.findings.role {
        terminal.error(&format!(
            "rights are missing; this grants them (kubectl apply -f -):\n\n{role}"
        ));
    }
    stops
}

/// Writes what would be created, and everything that speaks against it.
pub(super) fn write(preview: &LaunchPreview, out: &mut impl Write) -> io::Result<()> {
    writeln!(
        out,
        "\nwould be created, and removed at the end unless it says otherwise:"
    )?;
    for creation in &preview.creations {
        writeln!(out, "    {creation}")?;
    }
    let groups = grouped(&preview.findings.risks);
    if groups.is_empty() {
        writeln!(out, "\npreflight: ok")?;
    } else {
        writeln!(out, "\npreflight:")?;
    }
    for group in groups {
        writeln!(out, "    {}: {}", group.first.severity, group.sentence())?;
        writeln!(out, "        fix: {}", group.first.remedy)?;
    }
    if let Some(role) = &preview.findings.role {
        writeln!(out, "\nthe rights that are missing:\n\n{role}")?;
    }
    Ok(())
}

/// Risks that differ only in the probe.
struct Group<'a> {
    first: &'a Risk,
    pods: Vec<&'a str>,
}

impl Group<'_> {
    fn sentence(&self) -> String {
        let Risk {
            code,
            object,
            reason,
            ..
        } = self.first;
        let pods = match self.pods.as_slice() {
            [] => String::new(),
            [pod] => format!(" (probe {pod})"),
            [first, rest @ ..] => format!(" (probe {first} and {} more)", rest.len()),
        };
        format!("[{code}] {object}: {reason}{pods}")
    }
}

fn grouped(risks: &[Risk]) -> Vec<Group<'_>> {
    let mut groups: Vec<Group<'_>> = Vec::new();
    let mut places = BTreeMap::new();
    for risk in risks {
        let key = (risk.severity, risk.code, &risk.object, &risk.reason);
        let place = *places.entry(key).or_insert_with(|| {
            groups.push(Group {
                first: risk,
                pods: Vec::new(),
            });
            groups.len() - 1
        });
        groups[place].pods.extend(risk.pod.as_deref());
    }
    groups
}
