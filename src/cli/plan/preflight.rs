//! What a run in a cluster would create, and what preflight says of it.

use crate::app::preflight::RiskGroup;
use crate::backend::kube::LaunchPreview;
use std::io::{self, Write};

/// Writes the objects that would be created, every risk with its fix, and the missing rights.
pub(super) fn write(preview: &LaunchPreview, out: &mut impl Write) -> io::Result<()> {
    writeln!(
        out,
        "\nwould be created, and removed at the end unless it says otherwise:"
    )?;
    for creation in &preview.creations {
        writeln!(out, "    {creation}")?;
    }

    let groups = RiskGroup::all(&preview.findings.risks);
    if groups.is_empty() {
        writeln!(out, "\npreflight: ok")?;
    } else {
        writeln!(out, "\npreflight:")?;
    }
    for group in groups {
        writeln!(out, "    {}: {}", group.risk.severity, group.sentence())?;
        writeln!(out, "        fix: {}", group.risk.remedy)?;
    }

    if let Some(role) = &preview.findings.role {
        writeln!(out, "\nthe rights that are missing:\n\n{role}")?;
    }
    Ok(())
}
