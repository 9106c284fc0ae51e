//! Exit codes: documented and stable, since pipelines and Jobs branch on them.

use super::Summary;

/// How the process ends. The first that applies in the order 70, 2, 3, 5, 4, 0.
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
    /// 5: testing could not begin or finish.
    Impossible,
    /// 70: a defect in watertight, also a report that could not be written.
    Defect,
}

impl ExitCode {
    /// The code of a run that came to an end.
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

    /// The number.
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
    fn the_first_that_applies_is_taken() {
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
