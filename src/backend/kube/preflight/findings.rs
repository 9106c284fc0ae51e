//! The findings of preflight, and whether they stop the run. Pure.

use super::{Risk, Severity};
use std::collections::BTreeMap;

/// The findings of preflight.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Findings {
    /// All risks, refusals first.
    pub risks: Vec<Risk>,
    /// The Role that grants the missing rights, as YAML.
    pub role: Option<String>,
    /// The pods (`namespace/name`) that must not be created, or not get an ephemeral container,
    /// each with the reason and a remedy.
    pub refused: BTreeMap<String, String>,
    /// Whether all probes that checks need are refused.
    all_needed_refused: bool,
}

impl Findings {
    /// Summarizes risks. `pods` are all pods that would get a probe, each with whether a check
    /// needs it; a refused probe that none needs is only a control, and the run goes on without it.
    pub(super) fn new(
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
                risk.remedy = "nothing to do: no check needs this probe".into();
            }
        }

        risks.sort_by_key(|risk| risk.severity);
        let mut needed = pods.iter().filter(|(_, needed)| **needed).peekable();
        let all_needed_refused =
            needed.peek().is_some() && needed.all(|(pod, _)| refused.contains_key(pod));
        Self {
            risks,
            role,
            refused,
            all_needed_refused,
        }
    }

    /// Whether the run must not start; if not, it goes on without the refused sources.
    pub fn stop_the_run(&self) -> bool {
        let mut refusals = self
            .risks
            .iter()
            .filter(|risk| risk.severity == Severity::Refuse);
        self.all_needed_refused
            || refusals.any(|risk| risk.code.stops_the_run() || risk.pod.is_none())
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

    fn findings(risks: Vec<Risk>) -> Findings {
        let pods = [("a", true), ("b", true), ("control", false)];
        Findings::new(
            risks,
            &pods
                .into_iter()
                .map(|(pod, needed)| (pod.to_owned(), needed))
                .collect(),
            None,
        )
    }

    #[test]
    fn a_run_stops_only_if_all_needed_sources_are_refused() {
        let one = findings(vec![refusal(Code::Adoption, Some("a"))]);
        assert_eq!(
            (one.stop_the_run(), one.refused.len(), one.risks[0].severity),
            (false, 1, Severity::Refuse)
        );
        assert!(
            findings(vec![
                refusal(Code::Adoption, Some("a")),
                refusal(Code::Adoption, Some("b"))
            ])
            .stop_the_run()
        );
        assert!(!findings(vec![]).stop_the_run());
    }

    #[test]
    fn a_refused_control_is_a_warning_and_is_not_created() {
        let findings = findings(vec![refusal(Code::Adoption, Some("control"))]);
        assert_eq!(findings.risks[0].severity, Severity::Warn);
        assert!(findings.refused.contains_key("control") && !findings.stop_the_run());
    }

    #[test]
    fn refusals_for_permissions_quotas_and_the_whole_run_stop_it() {
        for risk in [
            refusal(Code::PermissionMissing, None),
            refusal(Code::QuotaExceeded, Some("a")),
            refusal(Code::Adoption, None),
        ] {
            assert!(findings(vec![risk.clone()]).stop_the_run(), "{risk:?}");
        }
    }
}
