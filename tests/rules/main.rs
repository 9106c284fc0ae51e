//! Rules that hold across modules: what plans are made of, and what a run proves from the lines of probes whose clocks are
//! not the runner's. No network is made.

mod plans;
mod timelines;
