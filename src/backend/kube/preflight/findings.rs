//! What preflight found, and what a run makes of it. Pure.

use super::{Risk, Severity};
use std::collections::BTreeMap;

/// What preflight found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Findings {
    /// Everything that speaks against the run, refusals first.
    pub risks: Vec<Risk>,
    /// The Role to paste where rights are missing.
    pub role: Option<String>,
    /// The pods that must not be created, or entered, `namespace/name`, each with the reason and a
    /// way out.
    pub refused: BTreeMap<String, String>,
    /// Whether those are all that checks need.
    hopeless: bool,
}

impl Findings {
    /// Sums up. `pods` are all that would be created or entered, each with whether a check needs
    /// it; the others only strengthen proofs, and the run does without those that are refused.
    pub(super) fn of(
        mut risks: Vec<Risk>,
        pods: &BTreeMap<String, bool>,
        role: Option<String>,
    ) -> Self {
        let mut refused: BTreeMap<String, String> = BTreeMap::new();
        for risk in risks
            .iter_mut()
            .filter(|risk| risk.severity == Severity::Refuse)
        {
            let Some(pod) = &risk.pod else { continue };
            let why = format!(
                "[{}] {}: {}; fix: {}",
                risk.code, risk.object, risk.reason, risk.remedy
            );
            refused.entry(pod.clone()).or_insert(why);
            if pods.get(pod) == Some(&false) {
                risk.severity = Severity::Warn;
                risk.remedy = "no check needs this probe: the run does without it".into();
            }
        }
        risks.sort_by_key(|risk| risk.severity);
        let mut needed = pods.iter().filter(|(_, needed)| **needed).peekable();
        let hopeless = needed.peek().is_some() && needed.all(|(pod, _)| refused.contains_key(pod));
        Self {
            risks,
            role,
            refused,
            hopeless,
        }
    }

    /// Whether there can be no run. Else it does without the sources that are refused.
    pub fn stop_the_run(&self) -> bool {
        let mut refusals = self
            .risks
            .iter()
            .filter(|risk| risk.severity == Severity::Refuse);
        self.hopeless || refusals.any(|risk| risk.code.is_of_the_run() || risk.pod.is_none())
    }
}

#[cfg(test)]
mod tests {
    use super::super::Code;
    use super::*;

    fn refusal(code: Code, pod: Option<&str>) -> Risk {
        Risk {
            code,
            severity: Severity::Refuse,
            pod: pod.map(str::to_owned),
            object: "o".into(),
            reason: "r".into(),
            remedy: "w".into(),
        }
    }

    fn found(risks: Vec<Risk>) -> Findings {
        let pods = [("a", true), ("b", true), ("control", false)];
        Findings::of(
            risks,
            &pods
                .into_iter()
                .map(|(pod, needed)| (pod.to_owned(), needed))
                .collect(),
            None,
        )
    }

    #[test]
    fn a_run_does_without_a_source_that_is_refused_and_not_without_all() {
        let one = found(vec![refusal(Code::Adoption, Some("a"))]);
        assert_eq!(
            (one.stop_the_run(), one.refused.len(), one.risks[0].severity),
            (false, 1, Severity::Refuse)
        );
        assert!(
            found(vec![
                refusal(Code::Adoption, Some("a")),
                refusal(Code::Adoption, Some("b"))
            ])
            .stop_the_run()
        );
        assert!(!found(vec![]).stop_the_run());
    }

    #[test]
    fn what_only_strengthens_proofs_is_not_created_when_it_is_refused() {
        let findings = found(vec![refusal(Code::Adoption, Some("control"))]);
        assert_eq!(findings.risks[0].severity, Severity::Warn);
        assert!(findings.refused.contains_key("control") && !findings.stop_the_run());
    }

    #[test]
    fn what_is_missing_or_used_up_stops_the_run() {
        for risk in [
            refusal(Code::Permission, None),
            refusal(Code::Quota, Some("a")),
            refusal(Code::Adoption, None),
        ] {
            assert!(found(vec![risk.clone()]).stop_the_run(), "{risk:?}");
        }
    }
}
