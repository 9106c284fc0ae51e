//! The sums of a run and its exit code: documented and stable, since pipelines and Jobs branch on
//! the code.

use super::{CheckResult, Outcome};
use serde::Serialize;

/// How many checks have which outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// All checks.
    pub checks: usize,
    pub proven: usize,
    pub violated: usize,
    pub unproven: usize,
    /// Whether every planned check was judged with all its evidence.
    pub complete: bool,
    /// The exit code that follows.
    pub exit_code: u8,
}

impl Summary {
    /// The sums over the results of a run. `complete`: every planned check was judged with all its
    /// evidence.
    pub fn of(results: &[CheckResult], complete: bool) -> Self {
        let mut summary = Self::default();
        for result in results {
            summary.add(result);
        }
        summary.close(complete)
    }

    /// Counts one more result.
    pub fn add(&mut self, result: &CheckResult) {
        self.checks += 1;
        match result.verdict {
            Outcome::Proven => self.proven += 1,
            Outcome::Violated => self.violated += 1,
            Outcome::Unproven => self.unproven += 1,
        }
    }

    /// The sums once all results are counted, with the exit code that follows.
    #[must_use]
    pub fn close(mut self, complete: bool) -> Self {
        self.complete = complete;
        self.exit_code = ExitCode::of(&self).number();
        self
    }
}

/// How the process ends. Where several apply, the first in the order 70, 2, 3, 5, 4, 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitCode {
    /// 0: all proven.
    Proven,
    /// 2: the command line, a suite or a manifest must be changed.
    Usage,
    /// 3: something is violated, also when the run was interrupted after that.
    Violated,
    /// 4: something is unproven.
    Unproven,
    /// 5: testing could not begin or finish, or nothing was selected.
    Impossible,
    /// 70: a defect in watertight, also a report that could not be written.
    Defect,
}

impl ExitCode {
    /// The exit code of a run that finished.
    pub fn of(summary: &Summary) -> Self {
        if summary.violated > 0 {
            Self::Violated
        } else if !summary.complete || summary.checks == 0 {
            Self::Impossible
        } else if summary.unproven > 0 || summary.proven != summary.checks {
            Self::Unproven
        } else {
            Self::Proven
        }
    }

    /// The number that the process exits with.
    pub fn number(self) -> u8 {
        match self {
            Self::Proven => 0,
            Self::Usage => 2,
            Self::Violated => 3,
            Self::Unproven => 4,
            Self::Impossible => 5,
            Self::Defect => 70,
        }
    }
}

impl From<ExitCode> for std::process::ExitCode {
    fn from(code: ExitCode) -> Self {
        Self::from(code.number())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(proven: usize, violated: usize, unproven: usize, complete: bool) -> Summary {
        Summary {
            checks: proven + violated + unproven,
            proven,
            violated,
            unproven,
            complete,
            exit_code: 0,
        }
    }

    #[test]
    fn first_exit_code_that_applies_is_used() {
        let cases = [
            (summary(2, 0, 0, true), 0),
            (summary(2, 0, 1, true), 4),
            (summary(2, 1, 1, true), 3),
            (summary(2, 0, 0, false), 5),
            (summary(0, 1, 3, false), 3),
            (summary(0, 0, 3, false), 5),
            (summary(0, 0, 0, true), 5),
        ];
        for (summary, code) in cases {
            assert_eq!(ExitCode::of(&summary).number(), code, "{summary:?}");
        }
    }
}
