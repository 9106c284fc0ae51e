//! The manifest files that the paths of a command line name, and what is passed over in folders.

use super::kustomize;
use crate::source::{self, Diagnostic, Diagnostics, Sources, Span};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Extensions of manifests in a folder; a file that the command line names may have any.
const EXTENSIONS: [&str; 3] = ["yaml", "yml", "json"];

/// The depth at which nested folders are taken for a loop of links.
const MAX_DEPTH: usize = 32;

/// Files of a Helm chart that hold no object.
const CHART_FILES: [&str; 4] = [
    "Chart.yaml",
    "values.yaml",
    "values.yml",
    "values.schema.json",
];

/// Where manifests come from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Input {
    /// A file that the command line names, or standard input (`-`).
    Named(PathBuf),
    /// A file of a folder: passed over if it holds no object.
    InFolder(PathBuf),
    /// A folder with a kustomization.
    Kustomization(PathBuf),
}

/// What the paths of a command line name.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// In the order of the paths, and sorted within each folder.
    pub(super) inputs: Vec<Input>,
    /// What is passed over in folders, with the reason.
    pub(super) passed_over: BTreeMap<String, &'static str>,
}

/// Finds the files and folders of the paths. What is reached twice is read once.
pub(super) fn find(
    paths: &[String],
    sources: &mut Sources,
    diagnostics: &mut Diagnostics,
) -> Found {
    let mut found = Found::default();
    let mut known = BTreeSet::new();
    for path in paths {
        let mut walk = Walk::default();
        if path != "-" && Path::new(path).is_dir() {
            if let Err(message) = walk.enter(Path::new(path), 0) {
                diagnostics.push(error_about(path, message, sources));
            } else if walk.inputs.is_empty() && walk.passed_over.is_empty() {
                let message = format!(
                    "no manifest in this folder: no file ends with .{}",
                    EXTENSIONS.join(", .")
                );
                diagnostics.push(error_about(path, message, sources));
            }
            walk.leave_out_what_others_build();
            walk.inputs.sort_by(|a, b| a.path().cmp(b.path()));
        } else if kustomize::is_kustomization(Path::new(path)) {
            let folder = Path::new(path).parent().unwrap_or(Path::new(""));
            walk.inputs.push(Input::Kustomization(folder.to_owned()));
        } else {
            walk.inputs.push(Input::Named(PathBuf::from(path)));
        }

        for input in walk.inputs {
            // A missing file has no canonical form; the error comes from reading it.
            let path = input.path();
            let canonical = path.canonicalize().unwrap_or_else(|_| path.to_owned());
            if known.insert(canonical) {
                found.inputs.push(input);
            }
        }
        found.passed_over.extend(walk.passed_over);
    }
    found
}

/// A diagnostic about a path that is not a file.
pub(super) fn error_about(path: &str, message: String, sources: &mut Sources) -> Diagnostic {
    let file = sources.add(path, "");
    Diagnostic::error(Span::new(file, 0, 0), message)
}

impl Input {
    pub(super) fn path(&self) -> &Path {
        match self {
            Self::Named(path) | Self::InFolder(path) | Self::Kustomization(path) => path,
        }
    }
}

/// The files of one folder and of the folders in it.
#[derive(Default)]
struct Walk {
    inputs: Vec<Input>,
    passed_over: BTreeMap<String, &'static str>,
}

impl Walk {
    /// Adds the manifests of a folder and of the folders in it. Hidden ones are skipped; a
    /// kustomization stands for its folder.
    fn enter(&mut self, folder: &Path, depth: usize) -> Result<(), String> {
        if depth > MAX_DEPTH {
            return Err(format!(
                "folders are nested more than {MAX_DEPTH} deep at {}",
                folder.display()
            ));
        }
        if kustomize::file_in(folder).is_some() {
            self.inputs.push(Input::Kustomization(folder.to_owned()));
            return Ok(());
        }

        let entries = std::fs::read_dir(folder).map_err(|error| read_error(folder, &error))?;
        for entry in entries {
            let path = entry.map_err(|error| read_error(folder, &error))?.path();
            if is_hidden(&path) {
                continue;
            }
            if path.is_dir() {
                self.enter(&path, depth + 1)?;
            } else if is_chart_file(&path) {
                self.pass_over(&path, "of a Helm chart");
            } else if has_extension(&path) {
                self.inputs.push(Input::InFolder(path));
            }
        }
        Ok(())
    }

    fn pass_over(&mut self, path: &Path, why: &'static str) {
        self.passed_over.insert(path.display().to_string(), why);
    }

    /// Leaves out the kustomizations that others of this folder build on, and Components, which no
    /// tool builds alone.
    fn leave_out_what_others_build(&mut self) {
        let mut summaries = BTreeMap::new();
        for input in &self.inputs {
            if let Input::Kustomization(folder) = input {
                summaries.insert(folder.clone(), kustomize::summarize(folder));
            }
        }
        let built_on: BTreeSet<PathBuf> = summaries
            .values()
            .flat_map(|summary| summary.builds_on.clone())
            .collect();

        for (folder, summary) in &summaries {
            let is_built_on = folder
                .canonicalize()
                .is_ok_and(|folder| built_on.contains(&folder));
            if is_built_on {
                self.pass_over(folder, "built with the kustomization that names it");
            } else if summary.is_component {
                self.pass_over(folder, "a Component, which only a kustomization uses");
            } else {
                continue;
            }
            let left_out = Input::Kustomization(folder.clone());
            self.inputs.retain(|input| *input != left_out);
        }
    }
}

fn read_error(folder: &Path, error: &std::io::Error) -> String {
    format!("cannot read folder {}: {error}", folder.display())
}

fn is_hidden(path: &Path) -> bool {
    path.file_name()
        .is_some_and(|name| name.to_string_lossy().starts_with('.'))
}

fn is_chart_file(path: &Path) -> bool {
    path.file_name()
        .is_some_and(|name| CHART_FILES.iter().any(|known| name == *known))
}

fn has_extension(path: &Path) -> bool {
    path.extension()
        .is_some_and(|extension| EXTENSIONS.iter().any(|known| extension == *known))
}

/// Whether a file is a patch by its name or its folder's: `patch-web.yaml`, `patches/web.yaml`.
pub(super) fn is_called_patch(path: &Path) -> bool {
    let names = [
        path.file_stem(),
        path.parent().and_then(|folder| folder.file_name()),
    ];
    names.into_iter().flatten().any(|name| {
        let name = name.to_string_lossy().to_ascii_lowercase();
        name.split(['-', '_', '.'])
            .any(|word| matches!(word, "patch" | "patches"))
    })
}

/// Whether a text may hold an object: one of its documents has an `apiVersion` or a `kind`, spelt in
/// any case. A dashboard, values or a list of patches have neither.
pub(super) fn may_hold_object(text: &str) -> bool {
    let is_field = |key: &str| ["apiversion", "kind"].contains(&key.to_ascii_lowercase().as_str());
    let begins_with_field = |line: &str| line.split_once(':').is_some_and(|(key, _)| is_field(key));
    if text.lines().any(begins_with_field) {
        return true;
    }
    let lower = text.to_ascii_lowercase();
    if !(lower.contains("apiversion") || lower.contains("kind")) {
        return text.trim().is_empty();
    }

    let mut sources = Sources::new();
    let file = sources.add("", text);
    let mut diagnostics = Diagnostics::new();
    let documents = source::parse(&sources, file, &mut diagnostics);
    diagnostics.has_errors()
        || documents.iter().any(|document| {
            let entries = document.root.as_mapping().unwrap_or_default();
            entries.iter().any(|entry| is_field(&entry.key.text))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder with empty files of these names.
    fn folder_with(names: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        for name in names {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            std::fs::write(path, "").expect("written");
        }
        folder
    }

    /// What is found in these paths of the folder, relative to it: the inputs, and what is passed
    /// over.
    fn found(folder: &tempfile::TempDir, paths: &[&str]) -> (Vec<String>, Vec<String>) {
        let (mut sources, mut diagnostics) = (Sources::new(), Diagnostics::new());
        let whole: Vec<String> = paths
            .iter()
            .map(|path| match *path {
                "-" => path.to_string(),
                _ => folder.path().join(path).display().to_string(),
            })
            .collect();
        let found = find(&whole, &mut sources, &mut diagnostics);
        assert!(diagnostics.is_empty());
        let relative = |path: &str| {
            let root = folder.path().display().to_string();
            path.trim_start_matches(&root)
                .trim_start_matches('/')
                .to_owned()
        };
        (
            found
                .inputs
                .iter()
                .map(|input| relative(&input.path().display().to_string()))
                .collect(),
            found
                .passed_over
                .keys()
                .map(|path| relative(path))
                .collect(),
        )
    }

    #[test]
    fn files_of_nested_folders_are_sorted_and_listed_once() {
        let folder = folder_with(&["z.yml", "b/c/a.yaml", "b/x.json", "b/notes.txt", "a.yaml"]);
        let paths = ["z.yml", "", "b/notes.txt", "-", "missing.yaml"];
        let expected = [
            "z.yml",
            "a.yaml",
            "b/c/a.yaml",
            "b/x.json",
            "b/notes.txt",
            "-",
            "missing.yaml",
        ];
        assert_eq!(found(&folder, &paths).0, expected);
    }

    #[test]
    fn hidden_files_and_folders_are_skipped_unless_they_are_named() {
        let folder = folder_with(&[".github/workflows/ci.yml", ".hidden.yaml", "a.yaml"]);
        assert_eq!(found(&folder, &[""]).0, ["a.yaml"]);
        assert_eq!(found(&folder, &[".hidden.yaml"]).0, [".hidden.yaml"]);
        assert_eq!(found(&folder, &[".github"]).0, [".github/workflows/ci.yml"]);
    }

    #[test]
    fn files_of_a_chart_are_passed_over_and_its_templates_are_not() {
        let folder = folder_with(&["Chart.yaml", "values.yaml", "templates/web.yaml"]);
        let (inputs, passed_over) = found(&folder, &[""]);
        assert_eq!(inputs, ["templates/web.yaml"]);
        assert_eq!(passed_over, ["Chart.yaml", "values.yaml"]);
        assert_eq!(found(&folder, &["values.yaml"]).0, ["values.yaml"]);
    }

    #[test]
    fn a_kustomization_stands_for_its_folder_and_for_those_that_it_builds_on() {
        let folder = folder_with(&[
            "base/web.yaml",
            "base/kustomization.yaml",
            "part/kustomization.yml",
            "prod/extra/more.yaml",
            "prod/Kustomization",
            "flux/kustomization.yaml",
            "a.yaml",
        ]);
        let write = |name: &str, text: &str| {
            std::fs::write(folder.path().join(name), text).expect("written");
        };
        write(
            "prod/Kustomization",
            "resources: [../base, https://example.com/x]\n",
        );
        write("part/kustomization.yml", "kind: Component\n");
        write(
            "flux/kustomization.yaml",
            "apiVersion: kustomize.toolkit.fluxcd.io/v1\nkind: Kustomization\n",
        );
        let (inputs, passed_over) = found(&folder, &[""]);
        assert_eq!(inputs, ["a.yaml", "flux/kustomization.yaml", "prod"]);
        assert_eq!(passed_over, ["base", "part"]);
        assert_eq!(found(&folder, &["base"]).0, ["base"]);
        assert_eq!(found(&folder, &["base/kustomization.yaml"]).0, ["base"]);
    }

    #[test]
    fn a_text_without_an_object_is_known_by_its_fields() {
        for text in [
            "apiVersion: v1\n",
            "---\nKind: Pod\n",
            "{ \"kind\": \"Pod\" }",
            "# a\n{ apiVersion: v1 }\n",
            "{{ if kind }}",
            "",
        ] {
            assert!(may_hold_object(text), "{text:?}");
        }
        for text in [
            "replicas: 2\n",
            "[{ op: replace, path: /kind, value: x }]\n",
            "{ \"panels\": [{ \"kind\": \"row\" }] }",
            "nested:\n  kind: x\n",
        ] {
            assert!(!may_hold_object(text), "{text:?}");
        }
    }

    #[test]
    fn patches_are_known_by_a_word_of_their_name_or_folder() {
        for path in [
            "patch.yaml",
            "web-patch.yaml",
            "patch_web.json",
            "patches/web.yaml",
        ] {
            assert!(is_called_patch(Path::new(path)), "{path}");
        }
        for path in ["dispatch.yaml", "patched.yaml", "a/web.yaml"] {
            assert!(!is_called_patch(Path::new(path)), "{path}");
        }
    }

    #[test]
    fn a_folder_without_manifests_is_an_error() {
        let folder = tempfile::tempdir().expect("a folder");
        let (mut sources, mut diagnostics) = (Sources::new(), Diagnostics::new());
        let found = find(
            &[folder.path().to_string_lossy().into_owned()],
            &mut sources,
            &mut diagnostics,
        );
        assert!(found.inputs.is_empty());
        assert!(diagnostics.has_errors());
    }
}
