//! `watertight help verdicts`: reason codes, tiers and preflight codes, from the tables of which
//! reports take them.

use crate::app::terminal::Terminal;
use crate::backend::kube::PreflightCode;
use crate::event::ExitCode;
use crate::report::wrapped;
use crate::suite::RequiredTier;
use crate::verdict::{Reason, tier_meaning};

/// The width of the text, in columns.
const WIDTH: usize = 96;

const INTRODUCTION: &str = "\
A check is proven, violated or unproven. What is proven has a tier; what is unproven has a reason
code. Preflight reports its codes before anything is created in a cluster.";

/// The codes with their meaning and remedy, as text.
pub(super) fn text() -> String {
    let mut text = format!("{INTRODUCTION}\n\nReason codes of unproven checks\n");
    for reason in Reason::ALL {
        add_code(
            &mut text,
            reason.code(),
            reason.meaning(),
            Some(reason.remedy()),
        );
    }

    text.push_str("\nTiers: D of denied lines, A of allowed lines\n");
    for tier in RequiredTier::ALL {
        add_code(&mut text, tier.name(), tier_meaning(*tier), None);
    }

    text.push_str("\nPreflight codes\n");
    for code in PreflightCode::ALL {
        add_code(&mut text, code.name(), code.meaning(), Some(code.remedy()));
    }
    text
}

fn add_code(text: &mut String, code: &str, meaning: &str, remedy: Option<&str>) {
    text.push_str(&format!("\n  {code}\n"));
    let fix = remedy.map(|remedy| format!("fix: {remedy}"));
    for paragraph in std::iter::once(meaning).chain(fix.as_deref()) {
        for line in wrapped(paragraph, WIDTH - 6) {
            text.push_str(&format!("      {line}\n"));
        }
    }
}

/// Prints the codes.
pub(super) fn verdicts(terminal: &Terminal) -> Result<ExitCode, ExitCode> {
    terminal.data(&text())
}
