//! Path controls: intervals in which a flow got through between two nodes.

use super::moment::Moment;
use crate::plan::{FlowId, Path};
use std::cell::RefCell;
use std::collections::BTreeMap;

/// An interval in which a flow got through on a path, without a failure and without a long pause.
#[derive(Debug, Clone, Copy)]
pub(super) struct PathControl {
    pub(super) flow: FlowId,
    /// Start of the first success.
    pub(super) first: Moment,
    /// Start of the last success.
    pub(super) last: Moment,
}

impl PathControl {
    /// Whether it got through both before and after a moment.
    pub(super) fn spans(&self, moment: Moment) -> bool {
        self.first.surely_by(moment) && moment.surely_by(self.last)
    }

    /// The shortest possible length, microseconds.
    pub(super) fn length_us(&self) -> i64 {
        self.last.earliest - self.first.latest
    }
}

/// The longest path control of a path, and the longest by another flow than that.
pub(super) type LongestTwo = [Option<PathControl>; 2];

/// The longest path controls of each path looked up so far, valid while the evidence does not
/// change: a run has few paths, and each is looked up for thousands of flows.
#[derive(Debug, Default)]
pub(super) struct PathControls(RefCell<BTreeMap<Path, LongestTwo>>);

impl PathControls {
    /// The longest path control by a flow other than `id`; `find` is called once a path.
    pub(super) fn longest(
        &self,
        path: &Path,
        id: FlowId,
        find: impl FnOnce() -> LongestTwo,
    ) -> Option<PathControl> {
        let mut known = self.0.borrow_mut();
        let two = match known.get(path) {
            Some(two) => *two,
            None => *known.entry(path.clone()).or_insert(find()),
        };
        two.into_iter()
            .flatten()
            .find(|path_control| path_control.flow != id)
    }
}

/// The two longest path controls of different flows; of two that are equally long, the later in
/// order.
pub(super) fn longest_two(path_controls: impl Iterator<Item = PathControl>) -> LongestTwo {
    let [mut best, mut second] = [None, None];
    for next in path_controls {
        if is_at_least_as_long(next, best) {
            (best, second) = (Some(next), best);
        } else if is_at_least_as_long(next, second) {
            second = Some(next);
        }
    }
    [best, second]
}

fn is_at_least_as_long(path_control: PathControl, other: Option<PathControl>) -> bool {
    other.is_none_or(|other| path_control.length_us() >= other.length_us())
}
