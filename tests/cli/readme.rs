//! The suites that README.md shows: each is run in the lab of the example that it speaks of.

use crate::support::*;

/// The manifests of the shop, of which README.md speaks.
const SHOP: &str = "suites/shop/manifests";

/// The YAML blocks of README.md that are suites.
fn suites() -> Vec<String> {
    let readme = std::fs::read_to_string("README.md").unwrap();
    let blocks = readme.split("```").skip(1).step_by(2);
    blocks
        .filter_map(|block| block.strip_prefix("yaml\n"))
        .filter(|block| block.contains("kind: Suite"))
        .map(str::to_owned)
        .collect()
}

#[test]
fn every_suite_of_the_readme_is_proven_in_the_shop() {
    let _alone = alone();
    let files = Files::new();
    let suites = suites();
    assert!(!suites.is_empty(), "README.md shows the language");

    for (number, suite) in suites.iter().enumerate() {
        let file = files.with(&format!("suite-{number}.yaml"), suite);
        ran_again_if_unproven(&["run", &file, "--lab", SHOP]).ends(0);
    }
}
