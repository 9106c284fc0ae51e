//! Suites from files on disk, as the command line gives them.

use std::fs;
use watertight::source::{Diagnostics, Severity, Sources};
use watertight::suite::{Suite, load};

const SUITE: &str = "apiVersion: watertight.dev/v1
kind: Suite
metadata: { name: NAME }
spec:
  endpoints:
    web: { namespace: shop, workload: Deployment/web }
    old: { namespace: shop, workload: Deployment/old }
  expect:
    - web -> 203.0.113.66:443 denied
";

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path = self.0.path().join(name);
        fs::write(&path, content).expect("written");
        path.to_str().expect("UTF-8").to_owned()
    }

    fn load(&self, files: &[String]) -> (Vec<Suite>, Diagnostics, String) {
        let mut sources = Sources::new();
        let (suites, diagnostics) = load(files, &mut sources);
        let folder = format!("{}/", self.0.path().display());
        let text = diagnostics.render_compact(&sources).replace(&folder, "");
        (suites, diagnostics, text)
    }
}

#[test]
fn suites_come_in_the_order_of_files_and_documents() {
    let folder = Folder::new();
    let named = |name: &str| SUITE.replace("NAME", name).replace("old:", "z-old:");
    let files = [
        folder.write("b.yaml", named("b")),
        folder.write("a.yaml", format!("{}---\n{}", named("z"), named("y"))),
    ];
    let (suites, diagnostics, text) = folder.load(&files);

    assert_eq!(
        suites
            .iter()
            .map(|suite| suite.name.as_str())
            .collect::<Vec<_>>(),
        ["b", "z", "y"]
    );
    assert_eq!(suites[0].file, files[0]);
    assert_eq!(suites[2].lines[0].place.line, 19);
    assert_eq!(diagnostics.count(Severity::Warning), 3, "{text}");
    assert!(!diagnostics.has_errors());
    assert!(diagnostics.strict().has_errors());
}

#[test]
fn with_one_error_no_suite_comes_back() {
    let folder = Folder::new();
    let good = folder.write("good.yaml", SUITE.replace("NAME", "good"));
    let bad = folder.write("bad.yaml", SUITE);
    let (suites, _, text) = folder.load(&[good, bad]);
    assert!(suites.is_empty());
    assert!(
        text.contains("bad.yaml:3:19: error: name: \"NAME\" is not a name"),
        "{text}"
    );
}

#[test]
fn what_cannot_be_read_is_said_for_every_file() {
    let folder = Folder::new();
    let latin = folder.write("latin.yaml", b"a: \xe9\n");
    let good = folder.write("good.yaml", SUITE.replace("NAME", "good"));
    let missing = format!("{good}x");
    let place = folder.0.path().to_str().expect("UTF-8").to_owned();
    let (_, diagnostics, text) = folder.load(&[missing, latin, good.clone(), place, good]);

    assert_eq!(diagnostics.count(Severity::Error), 4, "{text}");
    for expected in [
        "good.yamlx: error: cannot read good.yamlx: it does not exist",
        "latin.yaml:1:4: error: latin.yaml is not UTF-8: byte 0xe9 at offset 3",
        "it is a folder",
        "good.yaml: error: good.yaml is given twice",
    ] {
        assert!(text.contains(expected), "{expected}\n{text}");
    }
}
