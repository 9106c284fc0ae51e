//! The highest resident memory of every probe, as the kernel keeps it.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Reads the probes of this process until it is stopped.
pub(crate) struct Gauge {
    ended: Arc<AtomicBool>,
    thread: JoinHandle<BTreeMap<u32, u64>>,
}

impl Gauge {
    pub(crate) fn start() -> Self {
        let ended = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&ended);
        let thread = std::thread::spawn(move || {
            let mut highest = BTreeMap::new();
            while !seen.load(Ordering::Relaxed) {
                for (probe, bytes) in probes() {
                    let known = highest.entry(probe).or_insert(0);
                    *known = bytes.max(*known);
                }
                std::thread::sleep(Duration::from_millis(200));
            }
            highest
        });
        Self { ended, thread }
    }

    /// The highest of all, in bytes, and how many probes there were.
    pub(crate) fn stop(self) -> (u64, usize) {
        self.ended.store(true, Ordering::Relaxed);
        let highest = self.thread.join().expect("a reader");
        (highest.values().copied().max().unwrap_or(0), highest.len())
    }
}

/// Probes that this process started, with the high-water mark of their resident memory
/// (`proc_pid_status(5)`).
fn probes() -> Vec<(u32, u64)> {
    let own = std::process::id().to_string();
    let processes = fs::read_dir("/proc").expect("/proc").flatten();
    processes
        .filter_map(|process| probe(&own, &process))
        .collect()
}

/// A probe of this parent: its process id and its memory, in bytes.
fn probe(parent: &str, process: &fs::DirEntry) -> Option<(u32, u64)> {
    let number = process.file_name().to_str()?.parse().ok()?;
    let command = fs::read(process.path().join("cmdline")).ok()?;
    if !command
        .split(|byte| *byte == 0)
        .any(|word| word == b"__probe")
    {
        return None;
    }

    let status = fs::read_to_string(process.path().join("status")).ok()?;
    if field(&status, "PPid:")? != parent {
        return None;
    }
    let kib: u64 = field(&status, "VmHWM:")?
        .strip_suffix(" kB")?
        .trim()
        .parse()
        .ok()?;
    Some((number, kib * 1024))
}

/// A field of `/proc/PID/status`.
fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.trim())
}
