//! Ports of denied ranges on which nothing is known to listen: each is tried once.

use super::super::addresses::may_come_back;
use super::super::{Provability, Source, TargetKey, TargetKind};
use super::SuiteExpander;
use super::spec::{CheckSpec, unknown_in_range, unresolved_port};
use crate::model::Transport;
use crate::suite::{EndpointId, Line, PortRef, Spread};
use std::collections::BTreeSet;

/// At most so many ports of a range that are not known are swept.
const MAX_SWEPT: usize = 1_024;

impl<'a> SuiteExpander<'a, '_> {
    /// Adds the ports of a denied range that are not known: each is tried once, from one instance
    /// of the source to one address of each pod.
    pub(super) fn sweep_range(
        &mut self,
        line: &'a Line,
        (source, target): (EndpointId, EndpointId),
        range: (u16, u16, Transport),
    ) {
        let Some(unknown) = unknown_in_range(&self.endpoints[target.0], range) else {
            return;
        };
        if unknown.len() > MAX_SWEPT {
            let (from, to, _) = range;
            let message = format!(
                "a range is swept at {MAX_SWEPT} unknown ports at the most; {from}-{to} has {}",
                unknown.len()
            );
            self.report(&line.place, message, None);
            return;
        }

        let sources = self
            .addressing
            .sources(&self.endpoints[source.0], Some(Spread::One));
        let Some(instance) = sources.into_iter().next() else {
            return;
        };

        let (_, _, transport) = range;
        for number in unknown {
            // A survey needs one, which says that a plan would sweep.
            if self.survey.is_some() && !self.builder.swept.is_empty() {
                break;
            }
            if Some(number) == self.reserved_port {
                continue;
            }
            let port = unresolved_port(&PortRef::Number(number), transport).into();
            let spec = self.spec((source, target), port, None, Some(line), &line.place);
            self.add_swept(&spec, &instance);
        }
    }

    fn add_swept(&mut self, spec: &CheckSpec<'_>, source: &Source) {
        if self.unknown_address(spec).is_some() {
            return;
        }
        let mut target_kinds = BTreeSet::new();
        let mut flows = Vec::new();
        for (key, target_kind) in self.targets(spec) {
            if self.may_sweep(source, &key, &target_kind)
                && target_kinds.insert(target_kind.clone())
            {
                flows.push(self.builder.flow(
                    source,
                    TargetKey { once: true, ..key },
                    target_kind,
                    spec.request_spec.opens_at,
                ));
            }
        }

        let provability = Provability::Unprovable("swept once: closed or denied".into());
        let check = self.new_check(spec, flows, provability);
        if self.is_selected(&check) {
            self.builder.swept.push(check);
        }
    }

    /// Whether a packet of a sweep can go from a source to a target, where nothing but policies
    /// decides what becomes of it.
    pub(super) fn may_sweep(
        &self,
        source: &Source,
        key: &TargetKey,
        target_kind: &TargetKind,
    ) -> bool {
        self.addressing.can_connect(source, key, target_kind) && !may_come_back(source, target_kind)
    }
}
