//! Parsing of probes' lines, for all backends.

use super::ProbeFault;
use crate::wire;

/// Parses one line of a probe's output.
pub(super) fn parse(line: &[u8]) -> Result<wire::Line, ProbeFault> {
    serde_json::from_slice(line).map_err(|error| {
        let start: String = String::from_utf8_lossy(line)
            .chars()
            .filter(|c| !c.is_control())
            .take(80)
            .collect();
        ProbeFault::Unreadable(format!("{error}: {start}"))
    })
}

/// The fault for a line that is longer than a line may be.
pub(super) fn without_end(length: usize) -> ProbeFault {
    ProbeFault::Unreadable(format!("a line is longer than {length} bytes"))
}
