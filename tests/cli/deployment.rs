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
                folders.push(path);
            } else {
                files.push(path);
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

fn run_program(program: &Path, arguments: &[&str]) -> Ran {
    Command::new(program)
        .args(arguments)
        .output()
        .unwrap()
        .into()
}

#[test]
fn started_by_kubectl_the_usage_names_kubectl() {
    let files = Files::new();
    let link = files.path("kubectl-watertight");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_watertight"), &link).unwrap();

    let help = run_program(&link, &["run", "--help"]);
    assert!(
        help.ends(0).out.contains("Usage: kubectl watertight run"),
        "{}",
        help.out
    );
    run_program(&link, &["run", "--no-such-flag"])
        .ends(2)
        .complains("Usage: kubectl watertight run");

    let program = Path::new(env!("CARGO_BIN_EXE_watertight"));
    let plain = run_program(program, &["run", "--help"]);
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

/// A tag can be moved to other code, a commit cannot.
#[test]
fn recipes_name_actions_by_commit() {
    for recipe in files_below("ci/recipes") {
        let text = std::fs::read_to_string(&recipe).unwrap();
        for line in text.lines() {
            let Some((_, action)) = line.split_once("uses: ") else {
                continue;
            };
            let commit = action.split([' ', '@']).nth(1).unwrap_or_default();
            assert!(
                commit.len() == 40 && commit.bytes().all(|byte| byte.is_ascii_hexdigit()),
                "{}: {line}",
                recipe.display()
            );
        }
    }
}

/// The Job and the CronJob come with rights of namespaces only, and the rights of a namespace
/// without probes do not let anything be created.
#[test]
fn jobs_come_without_cluster_roles() {
    for folder in ["job", "cronjob"] {
        let resources = value_at(
            &format!("ci/kustomize/{folder}/kustomization.yaml"),
            "/resources",
        );
        assert!(
            elements(&resources).contains(&"../rbac/default".into()),
            "{resources}"
        );
    }
    for file in files_below("ci/kustomize/rbac/default") {
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(!text.contains("/cluster"), "{}", file.display());
    }
    for folder in ["read", "cluster-reads"] {
        let path = format!("ci/kustomize/rbac/{folder}/role.yaml");
        for rule in elements(&value_at(&path, "/rules")) {
            for verb in elements(&rule["verbs"]) {
                assert!(
                    ["get", "list", "watch"].contains(&verb.as_str().unwrap()),
                    "{path}: {rule}"
                );
            }
        }
    }
}

/// Every policy for the runner's account is bound, refuses when it cannot be evaluated, and speaks
/// of no other account: a mistake in it must not stop a cluster.
#[test]
fn admission_policies_are_bound_and_speak_of_the_runner_only() {
    for path in files_below("ci/kustomize/admission") {
        if path.ends_with("kustomization.yaml") {
            continue;
        }
        let [policy, binding] = documents(&path).try_into().unwrap();
        assert_eq!(policy["kind"], "ValidatingAdmissionPolicy");
        assert_eq!(policy["spec"]["failurePolicy"], "Fail");
        assert_eq!(
            policy["spec"]["matchConditions"][0]["expression"],
            "request.userInfo.username == 'system:serviceaccount:watertight:watertight'"
        );
        // A parameter that is missing would be looked for before the account is.
        assert_eq!(policy["spec"]["paramKind"], Value::Null);
        assert_eq!(binding["spec"]["policyName"], policy["metadata"]["name"]);
        assert_eq!(
            binding["spec"]["validationActions"],
            serde_json::json!(["Deny"])
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
        let mut listed = elements(&kustomization["resources"]);
        for generator in elements(&kustomization["configMapGenerator"]) {
            listed.extend(elements(&generator["files"]));
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

/// The elements of a list; none where there is no list.
fn elements(value: &Value) -> Vec<Value> {
    value.as_array().cloned().unwrap_or_default()
}

/// The value at a JSON pointer in the first document of a file of the package.
fn value_at(path: &str, pointer: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    let document = documents(&path).remove(0);
    document.pointer(pointer).cloned().unwrap()
}

/// Job and CronJob end by watertight's exit codes: a code that a retry cannot change fails the Job
/// at once, the others are retried.
#[test]
fn jobs_fail_at_once_on_codes_that_a_retry_cannot_change() {
    let (once, nightly) = (
        value_at("ci/kustomize/job/job.yaml", "/spec"),
        value_at(
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
    let cron = value_at("ci/kustomize/cronjob/cronjob.yaml", "/spec");
    assert_eq!(cron["concurrencyPolicy"], "Forbid");
    let image = once.pointer("/template/spec/containers/0/image").unwrap();
    assert_eq!(
        image,
        concat!("localhost/watertight:", env!("CARGO_PKG_VERSION"))
    );
}
