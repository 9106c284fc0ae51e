//! The recipes and kustomizations of `ci/`, and the name under which kubectl starts the binary.

use crate::support::{Files, Ran};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

fn files_below(folder: &str) -> Vec<PathBuf> {
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path)
            } else {
                files.push(path)
            }
        }
    }
    files.sort();
    files
}

fn documents(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    serde_saphyr::from_multiple(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn started_by_kubectl_the_usage_names_kubectl() {
    let files = Files::new();
    let link = files.path("kubectl-watertight");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_watertight"), &link).unwrap();
    let by_link = |arguments: &[&str]| -> Ran {
        Command::new(&link).args(arguments).output().unwrap().into()
    };
    let help = by_link(&["run", "--help"]);
    assert!(
        help.ends(0).out.contains("Usage: kubectl watertight run"),
        "{}",
        help.out
    );
    by_link(&["run", "--no-such-flag"])
        .ends(2)
        .complains("Usage: kubectl watertight run");
    let plain: Ran = Command::new(env!("CARGO_BIN_EXE_watertight"))
        .args(["run", "--help"])
        .output()
        .unwrap()
        .into();
    assert!(
        plain.ends(0).out.contains("Usage: watertight run")
            && !plain.out.contains("kubectl watertight")
    );
}

#[test]
fn every_recipe_publishes_the_junit_file_that_it_writes() {
    let recipes = files_below("ci/recipes");
    assert_eq!(recipes.len(), 3);
    for recipe in recipes {
        documents(&recipe);
        let text = std::fs::read_to_string(&recipe).unwrap();
        assert!(
            text.contains("--report junit=cluster.xml"),
            "{}",
            recipe.display()
        );
        let published = [
            "junit: cluster.xml",
            "testResultsFiles: cluster.xml",
            "report_paths: \"*.xml\"",
        ];
        assert_eq!(
            published.iter().filter(|line| text.contains(*line)).count(),
            1,
            "{}",
            recipe.display()
        );
    }
}

/// Every file below `ci/kustomize` is named by a kustomization, and every name is a file or a
/// folder.
#[test]
fn kustomizations_name_every_file() {
    let files = files_below("ci/kustomize");
    let mut named = BTreeSet::new();
    for path in files
        .iter()
        .filter(|path| path.ends_with("kustomization.yaml"))
    {
        let folder = path.parent().unwrap();
        let [kustomization] = documents(path).try_into().unwrap();
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        let mut listed = list(&kustomization["resources"]);
        for generator in list(&kustomization["configMapGenerator"]) {
            listed.extend(list(&generator["files"]));
        }
        for name in listed {
            let path = folder.join(name.as_str().unwrap()).canonicalize().unwrap();
            named.insert(path);
        }
    }
    for path in files
        .iter()
        .filter(|path| !path.ends_with("kustomization.yaml"))
    {
        assert!(
            named.contains(&path.canonicalize().unwrap()),
            "{} is in no kustomization",
            path.display()
        );
    }
}

/// Job and CronJob end by watertight's exit codes: a code that a retry cannot change fails the Job
/// at once, the others are retried.
#[test]
fn jobs_fail_at_once_on_codes_that_a_retry_cannot_change() {
    let job = |path: &str, pointer: &str| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
        documents(&path)
            .remove(0)
            .pointer(pointer)
            .cloned()
            .unwrap()
    };
    let (once, nightly) = (
        job("ci/kustomize/job/job.yaml", "/spec"),
        job(
            "ci/kustomize/cronjob/cronjob.yaml",
            "/spec/jobTemplate/spec",
        ),
    );
    for spec in [&once, &nightly] {
        let rule = &spec["podFailurePolicy"]["rules"][0];
        assert_eq!(rule["action"], "FailJob");
        assert_eq!(
            rule["onExitCodes"]["values"],
            serde_json::json!([2, 3, 4, 70])
        );
        assert_eq!(
            spec["template"]["spec"]["restartPolicy"], "Never",
            "podFailurePolicy requires it"
        );
    }
    assert_eq!(
        once["template"], nightly["template"],
        "both start the same pod"
    );
    let cron = job("ci/kustomize/cronjob/cronjob.yaml", "/spec");
    assert_eq!(cron["concurrencyPolicy"], "Forbid");
    let image = once.pointer("/template/spec/containers/0/image").unwrap();
    assert_eq!(
        image,
        concat!("localhost/watertight:", env!("CARGO_PKG_VERSION"))
    );
}
