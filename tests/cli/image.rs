//! `watertight image`: the archive, its summary, and programs and names that are refused.

use crate::support::{Files, ran, watertight};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;

/// A static program of a few bytes with the mark of this version's agent.
fn agent(machine: u16) -> Vec<u8> {
    let mut bytes = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    bytes.extend(2_u16.to_le_bytes());
    bytes.extend(machine.to_le_bytes());
    bytes.extend(1_u32.to_le_bytes());
    for word in [0x40_1000_u64, 64, 0] {
        bytes.extend(word.to_le_bytes());
    }
    bytes.extend(0_u32.to_le_bytes());
    for half in [64_u16, 56, 0, 64, 0, 0] {
        bytes.extend(half.to_le_bytes());
    }
    bytes.extend(watertight_probe::BUILD.as_bytes());
    bytes
}

const AMD64: u16 = 62;
const ARM64: u16 = 183;

#[test]
fn two_runs_write_the_same_bytes() {
    let files = Files::new();
    let (amd64, arm64) = (
        files.with("amd64", agent(AMD64)),
        files.with("arm64", agent(ARM64)),
    );
    let archives = ["a.tar", "b.tar"].map(|name| files.name(name));
    for archive in &archives {
        let arguments = ["image", "-o", archive, "--agent", &amd64, "--agent", &arm64];
        let out = ran(&mut watertight(arguments)).ends(0).out.clone();
        for word in [
            "localhost/watertight-probe:",
            "sha256:",
            "linux/amd64, linux/arm64",
            "kind load",
            "skopeo copy",
        ] {
            assert!(out.contains(word), "{word} is not in:\n{out}");
        }
    }

    let [a, b] = archives.map(|archive| std::fs::read(archive).unwrap());
    assert!(a == b, "two runs differ");
    assert_eq!(
        std::fs::metadata(files.path("a.tar"))
            .unwrap()
            .permissions()
            .mode()
            & 0o777,
        0o644
    );
}

#[test]
fn standard_output_holds_only_the_archive() {
    let files = Files::new();
    let amd64 = files.with("amd64", agent(AMD64));
    let output = watertight([
        "image",
        "-o",
        "-",
        "--program",
        &amd64,
        "--tag",
        "registry.example/probe:7",
    ]);

    let output = { output }.output().unwrap();
    assert!(output.status.success());
    let mut names = Vec::new();
    let mut index = String::new();
    for entry in tar::Archive::new(output.stdout.as_slice())
        .entries()
        .unwrap()
    {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().to_string_lossy().into_owned();
        if name == "index.json" {
            entry.read_to_string(&mut index).unwrap();
        }
        names.push(name);
    }

    assert!(
        names.contains(&"manifest.json".to_owned()) && names.contains(&"oci-layout".to_owned()),
        "{names:?}"
    );
    assert!(index.contains("registry.example/probe:7"), "{index}");
    assert!(
        String::from_utf8(output.stderr)
            .unwrap()
            .contains("registry.example/probe:7")
    );
}

#[test]
fn other_programs_are_refused_with_the_command_that_builds_the_agent() {
    let files = Files::new();
    let out = files.name("probe.tar");
    let script = files.with("script", "#!/bin/sh\n");
    let dynamic = env!("CARGO_BIN_EXE_watertight").to_owned();
    let sparc = files.with("sparc", agent(2));
    let mut other = agent(AMD64);
    other.truncate(other.len() - 3);
    let other = files.with("other", other);
    for (program, why) in [
        (&script, "it is not an ELF program"),
        (&dynamic, "it is linked dynamically"),
        (&sparc, "it is built for ELF machine 2"),
        (&other, "it is not a build of"),
        (&files.name("missing"), "cannot read"),
    ] {
        let ran = ran(&mut watertight(["image", "-o", &out, "--program", program]));
        ran.ends(2)
            .complains(why)
            .complains("--profile probe -p watertight-probe --target x86_64-unknown-linux-musl");
    }

    assert!(!files.path("probe.tar").exists(), "nothing is written");
}

#[test]
fn invalid_names_and_missing_folders_are_errors() {
    let files = Files::new();
    let amd64 = files.with("amd64", agent(AMD64));
    let archive = files.name("x.tar");
    let tag = ["--tag", "Not A Name"];
    ran(watertight(["image", "-o", &archive, "--agent", &amd64]).args(tag))
        .ends(2)
        .complains("as an image's name");

    let nowhere = files.name("missing/probe.tar");
    ran(&mut watertight([
        "image", "-o", &nowhere, "--agent", &amd64,
    ]))
    .ends(5)
    .complains("failed to write");
    let twice = [
        "image",
        "-o",
        &files.name("x.tar"),
        "--agent",
        &amd64,
        "--agent",
        &amd64,
    ]
    .map(str::to_owned);
    ran(&mut watertight(twice))
        .ends(2)
        .complains("two programs for amd64");
}
