//! What lines say of the packets between two instances, whichever pods are sampled.

use super::super::{Source, TargetKey};
use crate::source::Place;
use crate::suite::Expected;
use crate::wire::{Request, Transport};
use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

/// A port of a transport.
pub(super) type WirePort = (u16, Transport);

/// What two lines about the same packets have in common. What is expected of the answer is no part
/// of it: the same request cannot be allowed and denied.
#[derive(Debug, PartialEq, Eq, Hash)]
struct RequestKey {
    source: u32,
    address: IpAddr,
    name: Option<String>,
    port: WirePort,
    request: Request,
}

/// What lines expect, by request, and of which ports they speak.
#[derive(Debug, Default)]
pub(super) struct Expectations {
    sources: HashMap<Source, u32>,
    by_request: HashMap<RequestKey, (Expected, Place)>,
    /// The ports of which any line speaks, with any request.
    ports: HashMap<(u32, IpAddr), BTreeSet<WirePort>>,
}

impl Expectations {
    /// Records what a line expects of a source's packets to a target. Returns the place of another
    /// line that expects the opposite of the same request.
    pub(super) fn record(
        &mut self,
        source: &Source,
        key: &TargetKey,
        expected: Expected,
        place: &Place,
    ) -> Option<Place> {
        let source = self.number(source);
        let port = (key.port, key.transport);
        self.ports
            .entry((source, key.address))
            .or_default()
            .insert(port);

        let request = RequestKey {
            source,
            address: key.address,
            name: key.name.clone(),
            port,
            request: key.without_answer_rule().request,
        };
        match self.by_request.entry(request) {
            Entry::Vacant(vacant) => {
                vacant.insert((expected, place.clone()));
                None
            }
            Entry::Occupied(known) => {
                let (before, other) = known.get();
                (*before != expected).then(|| other.clone())
            }
        }
    }

    fn number(&mut self, source: &Source) -> u32 {
        if let Some(number) = self.sources.get(source) {
            return *number;
        }
        let number = self.sources.len() as u32;
        self.sources.insert(source.clone(), number);
        number
    }

    /// The ports of an address of which lines speak for a source.
    pub(super) fn ports(&self, source: &Source, address: IpAddr) -> Option<&BTreeSet<WirePort>> {
        let source = self.sources.get(source)?;
        self.ports.get(&(*source, address))
    }

    /// Whether a line speaks of a source's packets to an address and port, with any request.
    pub(super) fn speaks_of(&self, source: &Source, key: &TargetKey) -> bool {
        self.ports(source, key.address)
            .is_some_and(|ports| ports.contains(&(key.port, key.transport)))
    }
}
