//! Words that may not come back, and documentation that every public item has.
//!
//! The glossary of `src/lib.rs` gives one word to each concept. The lists here are the words that
//! meant the same thing before, or that make a reader guess. They are looked for in everything that
//! is committed: code, comments, messages, suites, settings of CI, and documentation.
#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot read the sources fails"
)]

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use std::path::{Path, PathBuf};

/// Words, and what to write in their place. An identifier is split into its words, so that
/// `vantage_of` and `VantageOf` count as `vantage`.
const BANNED_WORDS: [(&str, &str); 31] = [
    ("alike", "in the same way, equal"),
    ("blame", "the cause"),
    ("cure", "fix"),
    ("everybody", "every source, every probe"),
    ("farewell", "teardown, stop"),
    ("foresee", "preview"),
    ("foreseen", "preview"),
    ("hopeless", "unrecoverable"),
    ("landmark", "control endpoint"),
    ("landmarks", "control endpoints"),
    ("meanwhile", "in the same window, during the run"),
    ("nobody", "no source, no control, no pod"),
    ("parties", "target kinds, endpoints"),
    ("party", "target kind, endpoint"),
    ("patience", "timeout"),
    ("somebody", "a source, a control, another pod"),
    ("told", "reported, sent"),
    ("twin", "same-node control"),
    ("twins", "same-node controls"),
    ("vantage", "source"),
    ("vantages", "sources"),
    ("vouch", "be a control for"),
    ("voucher", "control"),
    ("vouchers", "controls"),
    ("vouched", "shown by a control"),
    ("vouches", "is a control for"),
    ("vouching", "being a control for"),
    ("wary", "conservative"),
    ("whoever", "the source that"),
    ("witness", "reference pod"),
    ("witnesses", "reference pods"),
];

/// Phrases, in lower case, and what to write in their place.
const BANNED_PHRASES: [(&str, &str); 25] = [
    ("began anew", "sampling restarted"),
    ("begin anew", "sampling restarts"),
    ("begins anew", "sampling restarts"),
    ("budget-noted", "disruption-budget"),
    ("changed-under-us", "changed-during-run"),
    ("could-not-send", "send-failed"),
    ("d2+record", "D2+counter"),
    ("d2+twin", "D2+same-node"),
    ("deadline-too-short", "attempt-timeout-too-short"),
    ("demand-not-met", "tier-not-met"),
    ("everyone-refused", "all-controls-refused"),
    ("for all else to hang on", "the owner Job"),
    ("is looked at", "is read, is checked"),
    ("life sign", "heartbeat"),
    ("not-sampled", "not-attempted"),
    ("nothing speaks against it", "ok"),
    ("nothing-crossed", "path-not-verified"),
    ("reached-target", "target-unreachable"),
    ("of its own accord", "by itself"),
    ("source-not-able", "source-not-verified"),
    ("stands in for", "is a clone of, replaces"),
    ("too-few-samples", "too-few-attempts"),
    ("way out:", "fix:"),
    ("way_out", "remedy"),
    ("what is meant", "say what"),
];

/// Documents that are not in the repository, and so may not be cited in it.
const OUTSIDE_DOCUMENTS: [&str; 8] = [
    "DESIGN.md",
    "VERDICTS",
    "(FACTS",
    "FACTS T",
    "WIRE.md",
    "LANGUAGE.md",
    "NAMES.md",
    "STYLE.md",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All files of the repository that people read, relative to its root; this file is not among them.
fn files() -> Vec<PathBuf> {
    let mut pending: Vec<PathBuf> = ["src", "probe-image", "suites", "tests", "ci", ".ci"]
        .map(|folder| root().join(folder))
        .into();
    let mut files: Vec<PathBuf> = ["README.md", "CHANGELOG.md", "Cargo.toml"]
        .map(PathBuf::from)
        .into();

    while let Some(folder) = pending.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                pending.push(path);
            } else {
                files.push(path.strip_prefix(root()).unwrap().to_owned());
            }
        }
    }

    files.retain(|file| file != Path::new("tests/words.rs"));
    files.sort();
    files
}

/// The text of a file; empty for what is no text.
fn read(file: &Path) -> String {
    String::from_utf8(std::fs::read(root().join(file)).unwrap()).unwrap_or_default()
}

/// The words of a line in lower case, identifiers split: `vantage_of`, `VantageOf` → `vantage`,
/// `of`.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut last_was_lower = false;

    for character in line.chars() {
        let starts_new = character.is_uppercase() && last_was_lower;
        if (!character.is_alphabetic() || starts_new) && !word.is_empty() {
            words.push(std::mem::take(&mut word));
        }
        if character.is_alphabetic() {
            word.extend(character.to_lowercase());
        }
        last_was_lower = character.is_lowercase();
    }

    if !word.is_empty() {
        words.push(word);
    }
    words
}

/// What of a line may not stand there, with what to write in its place.
fn banned(line: &str) -> Vec<String> {
    let found = words(line);
    let lower = line.to_lowercase();

    let of_words = BANNED_WORDS
        .iter()
        .filter(|(word, _)| found.iter().any(|one| one == word));
    let of_phrases = BANNED_PHRASES
        .iter()
        .filter(|(phrase, _)| lower.contains(phrase));
    of_words
        .chain(of_phrases)
        .map(|(word, instead)| format!("{word:?} (write: {instead})"))
        .collect()
}

#[test]
fn no_file_has_a_banned_word() {
    let files = files();
    assert!(files.len() > 300, "only {} files were read", files.len());

    let mut wrong = Vec::new();
    for file in &files {
        for (index, line) in read(file).lines().enumerate() {
            for what in banned(line) {
                wrong.push(format!("{}:{}: {what}", file.display(), index + 1));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{} banned words:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

#[test]
fn no_file_cites_a_document_that_is_not_here() {
    let mut wrong = Vec::new();
    for file in files() {
        for (index, line) in read(&file).lines().enumerate() {
            let cited = OUTSIDE_DOCUMENTS
                .iter()
                .filter(|name| line.contains(**name));
            wrong.extend(cited.map(|name| format!("{}:{}: {name}", file.display(), index + 1)));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_banned_word_is_found_within_an_identifier() {
    for line in [
        "fn vantage_of()",
        "struct VantageOf;",
        "the vantage.",
        "const VANTAGE: u8",
    ] {
        assert_eq!(banned(line), ["\"vantage\" (write: source)"], "{line}");
    }
    for line in ["fn advantage()", "a third-partying word", "wirelike"] {
        assert_eq!(banned(line), Vec::<String>::new(), "{line}");
    }
    assert_eq!(banned("It Began anew twice").len(), 1);
}

/// Public items of a Rust file that have no doc comment: line and name.
fn undocumented(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let tokens: TokenStream = text.parse().unwrap();
    scan(&tokens.into_iter().collect::<Vec<_>>(), &mut found);
    found
}

const ITEMS: [&str; 8] = [
    "fn", "struct", "enum", "trait", "type", "const", "static", "union",
];

/// Words that may stand between `pub` and the item's keyword.
const QUALIFIERS: [&str; 4] = ["async", "unsafe", "extern", "const"];

fn scan(tokens: &[TokenTree], found: &mut Vec<(usize, String)>) {
    let mut documented = false;
    let mut at = 0;

    while let Some(token) = tokens.get(at) {
        match token {
            TokenTree::Punct(punct) if punct.as_char() == '#' => {
                if let Some(TokenTree::Group(group)) = tokens.get(at + 1) {
                    documented |= is_documentation(&group.stream());
                    at += 1;
                }
            }
            TokenTree::Ident(word) if word == "pub" => {
                if let Some((line, name)) = public_item(&tokens[at + 1..])
                    && !documented
                {
                    found.push((line, name));
                }
                documented = false;
            }
            TokenTree::Group(group) => {
                if group.delimiter() == Delimiter::Brace {
                    scan(&group.stream().into_iter().collect::<Vec<_>>(), found);
                }
                documented = false;
            }
            TokenTree::Punct(punct) if matches!(punct.as_char(), ';' | ',') => documented = false,
            TokenTree::Ident(_) | TokenTree::Punct(_) | TokenTree::Literal(_) => {}
        }
        at += 1;
    }
}

/// Whether an attribute is a doc comment, or takes the item out of the documentation.
fn is_documentation(attribute: &TokenStream) -> bool {
    matches!(attribute.clone().into_iter().next(), Some(TokenTree::Ident(word)) if word == "doc")
}

/// The item that follows `pub`, unless it is a field, a `use`, a module, or not public outside the
/// crate.
fn public_item(tokens: &[TokenTree]) -> Option<(usize, String)> {
    let mut words = tokens.iter().map_while(|token| match token {
        TokenTree::Ident(word) => Some(word.clone()),
        TokenTree::Group(_) | TokenTree::Punct(_) | TokenTree::Literal(_) => None,
    });
    let mut keyword = words.next()?;
    let mut name = words.next();

    while QUALIFIERS.contains(&keyword.to_string().as_str())
        && name.as_ref().is_some_and(|word| {
            let word = word.to_string();
            ITEMS.contains(&word.as_str()) || QUALIFIERS.contains(&word.as_str())
        })
    {
        keyword = name?;
        name = words.next();
    }

    let is_item = ITEMS.contains(&keyword.to_string().as_str());
    let line = keyword.span().start().line;
    is_item.then_some(())?;
    Some((line, format!("{keyword} {}", name?)))
}

#[test]
fn every_file_and_every_public_item_is_documented() {
    let mut wrong = Vec::new();
    let files = files()
        .into_iter()
        .filter(|file| file.extension().is_some_and(|of| of == "rs"));
    for file in files {
        let text = read(&file);
        if !text.starts_with("//!") {
            wrong.push(format!(
                "{}:1: the file does not say what it is for",
                file.display()
            ));
        }
        for (line, name) in undocumented(&text) {
            wrong.push(format!("{}:{line}: {name}", file.display()));
        }
    }
    assert!(
        wrong.is_empty(),
        "without a doc comment:\n{}",
        wrong.join("\n")
    );
}

#[test]
fn an_undocumented_item_is_found() {
    let text = "
        /// Documented.
        #[derive(Debug)]
        pub struct A { pub field: u8 }
        pub(crate) struct B;
        pub use a::b;
        impl A {
            pub const fn bare() {}
            /// Documented.
            pub async fn with() {}
        }
        mod inner { pub enum Bare { One } }
        pub const LIMIT: u8 = 1;
    ";
    let names: Vec<String> = undocumented(text)
        .into_iter()
        .map(|(_, name)| name)
        .collect();
    assert_eq!(names, ["fn bare", "enum Bare", "const LIMIT"]);
}
