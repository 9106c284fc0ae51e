//! Rules that hold across modules: what plans are made of, and what a run proves from the lines of
//! probes whose clocks are not the runner's. No network is made.

mod composite;
mod coverage;
mod drafts;
#[path = "../predicted/generate.rs"]
#[expect(
    dead_code,
    reason = "what sends packets to these worlds places them with a host of its own"
)]
mod generate;
mod hosts;
mod nothing_dropped;
mod plans;
mod timelines;
#[path = "../common/worlds.rs"]
mod worlds;
