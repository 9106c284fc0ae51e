//! Parts of the cluster itself that go away in the middle of a run: verdicts are as they would be,
//! or unproven.

use super::cases::{Stopped, TIERS, ours};
use super::run::{Said, TRIES, disturbed};
use super::world::{put, suite, until_gone};
use std::thread::sleep;
use std::time::Duration;

/// A run that takes long enough for something to happen in the middle of it.
const LONG: [&str; 4] = [
    "--only",
    "tier-isolation|api -> postgres|web-tier -> api|exfiltration",
    "--hold",
    "12s",
];

fn long(timeout: &str, disturb: impl FnOnce() + Send + 'static) -> Said {
    put();
    disturbed(
        &suite(),
        &[&LONG[..], &["--timeout", timeout]].concat(),
        disturb,
    )
}

/// All checks are proven, but for what a busy machine could not measure.
fn proven_as_ever(said: &Said) {
    assert!(
        said.verdicts.len() == 5 && matches!(said.code, 0 | 4),
        "{}",
        said.text
    );

    for (check, (verdict, reason)) in &said.verdicts {
        assert!(
            verdict == "proven" || Said::is_of_a_busy_machine(reason.as_deref()),
            "{check}: {verdict}\n{}",
            said.text
        );
    }
}

fn nothing_left() {
    until_gone("what the run made", Duration::from_secs(60), ours);
}

/// Watches and logs are taken up again, and everything is removed at the end.
pub(crate) fn api_server() {
    let said = long("40s", || {
        let _stopped = Stopped::component("apiserver");
        sleep(Duration::from_secs(10));
    });
    proven_as_ever(&said);
    nothing_left();
}

/// Logs break where the kubelet goes away; containers outlive containerd.
pub(crate) fn kubelet_and_containerd() {
    for attempt in 1.. {
        let said = long("70s", || {
            let kubelet = Stopped::component("node-2/kubelet");
            sleep(Duration::from_secs(10));
            drop(kubelet);
            drop(Stopped::component("node-2/containerd"));
        });
        nothing_left();
        // How long a kubelet takes to come back is the machine's affair; until then its node's
        // probes prove nothing.
        let came_late = said.text.contains("nothing was read of the last");
        assert!(
            said.verdicts
                .values()
                .all(|(verdict, _)| verdict != "violated"),
            "{}",
            said.text
        );
        if !came_late || attempt == TRIES {
            proven_as_ever(&said);
            return;
        }
    }
}

/// A node that cannot be asked from the middle of a run to its end: what its probes saw is not
/// known.
pub(crate) fn kubelet_for_good() {
    let (stopped, give) = std::sync::mpsc::channel();
    let said = long("10s", move || {
        stopped.send(Stopped::component("node-2/kubelet")).unwrap();
    });
    let stopped = give.recv().unwrap();

    assert_eq!(
        (said.of(TIERS), said.code),
        (("unproven", Some("probe-fault")), 4),
        "{}",
        said.text
    );
    assert!(
        said.text.contains("nothing was read of the last"),
        "{}",
        said.text
    );
    assert!(
        said.text
            .contains("not everything was removed: failed to confirm the end of Pod"),
        "{}",
        said.text
    );
    drop(stopped);
    nothing_left();
}
