//! The shop of `suites/shop/` in a real cluster, as it is and broken.
//!
//! Needs the cluster that `KUBECONFIG` names, with the probe's image on its nodes
//! (`WATERTIGHT_PROBE_IMAGE`) and a `kubectl` (`KUBECTL`), and for some cases a program that stops
//! and starts its components (`WATERTIGHT_CLUSTER_CONTROL`); without `WATERTIGHT_CLUSTER_TESTS=1`
//! every test is reported as skipped, with that reason. The cluster is to have the test image that
//! `cluster::world` names, two nodes, both families, and an outside host `payments.example`.
#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot talk to its cluster fails"
)]

mod cluster {
    pub(crate) mod account;
    pub(crate) mod broken;
    pub(crate) mod cases;
    pub(crate) mod changes;
    pub(crate) mod closed;
    pub(crate) mod established;
    pub(crate) mod hung;
    pub(crate) mod killed;
    pub(crate) mod ours;
    pub(crate) mod outages;
    pub(crate) mod predicted;
    pub(crate) mod refused;
    pub(crate) mod run;
    pub(crate) mod secrets;
    pub(crate) mod sweeps;
    pub(crate) mod untouched;
    pub(crate) mod within;
    pub(crate) mod world;
}

use cluster::{cases, world};
use libtest_mimic::{Arguments, Failed, Trial};
use std::io::Write;
use std::process::ExitCode;

/// Set where there is a cluster to test on.
const SWITCH: &str = "WATERTIGHT_CLUSTER_TESTS";

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // They break one and the same world, one after the other.
    arguments.test_threads = Some(1);
    let wanted = std::env::var(SWITCH).is_ok_and(|value| value == "1");
    if !wanted && !arguments.list {
        let _closed = writeln!(
            std::io::stderr(),
            "skipped: {SWITCH} is not 1, so there is no cluster to test on"
        );
    }
    let trial = |case: cases::Evaluation| {
        let run = move || {
            (case.test)();
            Ok::<(), Failed>(())
        };
        let possible = !case.needs_control || world::has_control();
        if wanted && !possible {
            let why = format!(
                "skipped: {}: nothing says how components of this cluster are stopped\n",
                case.name
            );
            let _closed = std::io::stderr().write_all(why.as_bytes());
        }
        Trial::test(case.name, run).with_ignored_flag(!wanted || !possible)
    };
    let conclusion = libtest_mimic::run(&arguments, cases::all().into_iter().map(trial).collect());
    if wanted {
        world::remove();
    }
    conclusion.exit_code()
}
