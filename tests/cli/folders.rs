//! Folders of manifests: what is read, built and passed over.

use crate::support::*;
use std::os::unix::fs::PermissionsExt;

fn pod(name: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{ name: {name} }}\nspec: {{ containers: [{{ name: c, image: i }}] }}\n"
    )
}

/// A folder with a file in each of these paths.
fn folder(name: &str, files: &Files, entries: &[(&str, &str)]) -> String {
    for (path, text) in entries {
        let path = files.path(name).join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    files.name(name)
}

/// A program that is called `name` and runs this script.
fn script(files: &Files, name: &str, text: &str) {
    let path = files.path("bin").join(name);
    std::fs::create_dir_all(files.path("bin")).unwrap();
    std::fs::write(&path, format!("#!/bin/sh\n{text}")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn files_of_a_folder_that_hold_no_object_are_passed_over_with_a_word() {
    let files = Files::new();
    let (a, hidden) = (pod("a"), pod("hidden"));
    let patch =
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: { name: a }\nspec: { replicas: 3 }\n";
    let entries = [
        ("a.yaml", a.as_str()),
        (".git/hidden.yaml", hidden.as_str()),
        ("Chart.yaml", "apiVersion: v2\nname: c\n"),
        ("values-prod.yaml", "replicas: 3\n"),
        (
            "dashboards/web.json",
            "{ \"panels\": [{ \"kind\": \"row\" }] }",
        ),
        ("patches/web.yaml", patch),
        ("patches/pod.yaml", &pod("b")),
    ];
    let name = folder("deploy", &files, &entries);

    let ran = ran(&mut watertight(["predict", name.as_str(), "-o", "csv"]));
    ran.ends(0);
    ran.complains("note: passed over: ");
    for passed_over in [
        "Chart.yaml (of a Helm chart)",
        "values-prod.yaml (no Kubernetes object)",
        "dashboards/web.json (no Kubernetes object)",
        "patches/web.yaml (a patch)",
    ] {
        ran.complains(passed_over);
    }
    // What is called a patch and is a whole object is read.
    assert!(
        ran.out.contains("default/Pod/a,default/Pod/b"),
        "{}",
        ran.out
    );
    assert!(!(ran.out.contains("hidden") || ran.err.contains("hidden")));
}

#[test]
fn a_file_that_is_named_is_never_passed_over() {
    let files = Files::new();
    let values = files.with("values.yaml", "replicas: 3\n");
    ran(&mut watertight(["predict", values.as_str()]))
        .ends(2)
        .complains("a Kubernetes object needs kind");
}

#[test]
fn a_kustomization_is_built_by_the_tool_that_is_installed() {
    for (tool, subcommand) in [("kubectl", "kustomize"), ("kustomize", "build")] {
        let files = Files::new();
        let raw = pod("raw");
        let entries = [
            ("web.yaml", raw.as_str()),
            (
                "kustomization.yaml",
                "resources: [web.yaml]\nnamePrefix: x-\n",
            ),
        ];
        let name = folder("prod", &files, &entries);
        let built = files.with("built.yaml", pod("built"));
        script(
            &files,
            tool,
            &format!("[ \"$1 $2\" = \"{subcommand} {name}\" ] && exec /bin/cat {built}\n"),
        );
        let ran =
            ran(watertight(["predict", name.as_str(), "-o", "csv"]).env("PATH", files.path("bin")));
        ran.ends(0);
        assert!(ran.out.contains("default/Pod/built"), "{}", ran.out);
        assert!(!ran.out.contains("raw"), "{}", ran.out);
    }
}

#[test]
fn a_kustomization_that_cannot_be_built_is_refused_with_the_command() {
    let files = Files::new();
    let entries = [("kustomization.yaml", "resources: []\n")];
    let name = folder("prod", &files, &entries);
    std::fs::create_dir_all(files.path("bin")).unwrap();
    let refused = || ran(watertight(["predict", name.as_str()]).env("PATH", files.path("bin")));

    refused()
        .ends(2)
        .complains("neither kubectl nor kustomize is installed")
        .complains(&format!("kubectl kustomize {name} > FILE"));
    script(&files, "kubectl", "echo 'no such resource' >&2; exit 1\n");
    refused().ends(2).complains(&format!(
        "kubectl kustomize {name} failed: no such resource"
    ));
}
