//! Who may import whom: the table of `src/lib.rs`, held against every path in every file of the
//! library.
//!
//! Files are read as tokens and not as items, so that a path written in full inside of a macro's
//! arguments counts like a `use`. Tests inside of the library keep to the table too.
#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot read the sources fails"
)]

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};

/// A path that a file names, from the root of the library: `["plan", "Check"]`. `["*"]` is the root
/// as a whole.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Named {
    file: String,
    line: usize,
    /// The module that names it, from the root of the library.
    within: Vec<String>,
    path: Vec<String>,
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}:{} ({}) names {}",
            self.file,
            self.line,
            self.within.join("::"),
            self.path.join("::")
        )
    }
}

/// The agent's crate, of which the library uses the types under the name `wire`.
const AGENT: &str = "watertight_probe";

/// The library's crate, as tests and benchmarks name it.
const LIBRARY: &str = "watertight";

/// Every path of a source text that begins at the library's root, at a module above, or in the
/// agent's crate.
fn named(file: &str, text: &str, within: &[String]) -> Vec<Named> {
    let tokens: TokenStream = text
        .parse()
        .unwrap_or_else(|error| panic!("{file}: {error}"));
    let mut found = Vec::new();
    walk(file, tokens, within, &mut found);
    found
}

fn walk(file: &str, tokens: TokenStream, within: &[String], found: &mut Vec<Named>) {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        match token {
            TokenTree::Ident(word) if word == "mod" => {
                if let (Some(TokenTree::Ident(name)), Some(TokenTree::Group(body))) =
                    (tokens.get(at + 1), tokens.get(at + 2))
                {
                    let inner: Vec<String> =
                        within.iter().cloned().chain([name.to_string()]).collect();
                    walk(file, body.stream(), &inner, found);
                    at += 3;
                    continue;
                }
            }
            TokenTree::Ident(word) if begins_a_path(&tokens, at) => {
                let line = word.span().start().line;
                for path in paths(&tokens[at..], within) {
                    found.push(Named {
                        file: file.to_owned(),
                        line,
                        within: within.to_vec(),
                        path,
                    });
                }
            }
            TokenTree::Group(group) => walk(file, group.stream(), within, found),
            _ => {}
        }
        at += 1;
    }
}

/// Whether the word there is the first of a path that leads out of the module.
fn begins_a_path(tokens: &[TokenTree], at: usize) -> bool {
    let word = tokens[at].to_string();
    let first = at < 2 || !colons(&tokens[at - 2..]) || (word == AGENT && at == 2);
    let leads_on = colons(&tokens[at + 1..]);
    let renamed = matches!(tokens.get(at + 1), Some(TokenTree::Ident(word)) if word == "as");
    match word.as_str() {
        // `pub(crate)` and `pub(super)` are no paths.
        "crate" | "super" | "self" | AGENT => first && (leads_on || (renamed && word != "self")),
        _ => false,
    }
}

fn colons(tokens: &[TokenTree]) -> bool {
    matches!(tokens, [first, second, ..] if is_punct(first, ':') && is_punct(second, ':'))
}

fn is_punct(token: &TokenTree, character: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == character)
}

/// The paths that begin with the first of these tokens: one, or those of a `use` tree.
fn paths(tokens: &[TokenTree], within: &[String]) -> Vec<Vec<String>> {
    let base = match tokens[0].to_string().as_str() {
        "crate" => Vec::new(),
        AGENT => vec!["wire".to_owned()],
        "self" => within.to_vec(),
        _ => within[..within.len().saturating_sub(1)].to_vec(),
    };
    trees(&tokens[1..], base)
}

/// The paths that lead on from `base`; `["*"]` where that is the root as a whole.
fn trees(tokens: &[TokenTree], base: Vec<String>) -> Vec<Vec<String>> {
    let mut trees = Vec::new();
    tree(tokens, base, &mut trees);
    for path in &mut trees {
        if path.is_empty() {
            path.push("*".to_owned());
        }
    }
    trees
}

/// What follows a path's beginning: `::name::{a, b::c}`, `::*`, ` as x`, or nothing.
fn tree(tokens: &[TokenTree], mut base: Vec<String>, found: &mut Vec<Vec<String>>) {
    let mut rest = tokens;
    while colons(rest) {
        match rest.get(2) {
            Some(TokenTree::Ident(word)) if word == "super" => drop(base.pop()),
            Some(TokenTree::Ident(word)) if word == "self" => {}
            Some(TokenTree::Ident(word)) => base.push(word.to_string()),
            Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
                let inner: Vec<TokenTree> = group.stream().into_iter().collect();
                let items = inner.split(|token| is_punct(token, ','));
                for item in items.filter(|item| !item.is_empty()) {
                    match &item[0] {
                        TokenTree::Ident(word) if word == "self" => {
                            tree(&item[1..], base.clone(), found);
                        }
                        first => {
                            let base = base.iter().cloned().chain([first.to_string()]).collect();
                            tree(&item[1..], base, found);
                        }
                    }
                }
                return;
            }
            _ => break,
        }
        rest = &rest[3..];
    }
    found.push(base);
}

/// `src/report/console/page.rs` → `["report", "console", "page"]`.
fn module_of(file: &Path) -> Vec<String> {
    let inside = file.strip_prefix("src").unwrap().with_extension("");
    let mut module: Vec<String> = inside
        .iter()
        .map(|part| part.to_string_lossy().into_owned())
        .collect();
    if module.last().is_some_and(|last| last == "mod") {
        module.pop();
    }
    module
}

/// All files below a folder of the package, relative to it.
fn files(folder: &str) -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders = vec![root.join(folder)];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path.strip_prefix(root).unwrap().to_owned());
            }
        }
    }
    files.sort();
    files
}

fn read(file: &Path) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap()
}

/// Every path of every module; the two roots, `lib.rs` and `main.rs`, belong to none.
fn library() -> Vec<Named> {
    let files = files("src");
    let modules = files
        .iter()
        .filter(|file| file.parent() != Some(Path::new("src")));
    modules
        .flat_map(|file| named(&file.to_string_lossy(), &read(file), &module_of(file)))
        .collect()
}

/// A row of the table: modules, and what they may import.
type Row = (BTreeSet<String>, BTreeSet<String>);

/// The rows of the import table in the library's documentation.
fn rows(text: &str) -> Vec<Row> {
    text.lines()
        .skip_while(|line| *line != "//! | module | may import |")
        .skip(2)
        .map_while(|line| line.strip_prefix("//! |")?.trim_end().strip_suffix('|'))
        .map(|row| {
            let (modules, may) = row.split_once('|').unwrap();
            (names(modules), names(may))
        })
        .collect()
}

/// The names in a cell, which are separated by commas.
fn names(cell: &str) -> BTreeSet<String> {
    cell.split(',')
        .map(|name| name.trim().to_owned())
        .filter(|name| !name.is_empty())
        .collect()
}

/// The names in the root that are no module of a folder.
const ROOT: [&str; 2] = ["wire", "early_main"];

/// Module → what it may import.
fn table() -> BTreeMap<String, BTreeSet<String>> {
    let mut table: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (modules, may) in rows(&read(Path::new("src/lib.rs"))) {
        for module in modules {
            assert!(
                table.insert(module.clone(), may.clone()).is_none(),
                "{module} has two rows in the table"
            );
        }
    }
    table
}

fn is_allowed(named: &Named, table: &BTreeMap<String, BTreeSet<String>>) -> bool {
    let (from, to) = (&named.within[0], &named.path[0]);

    // Tests read suites and manifests as their input.
    let in_tests = named.within.iter().any(|module| module == "tests")
        && matches!(to.as_str(), "source" | "suite");
    from == to || in_tests || table.get(from).is_some_and(|may| may.contains(to))
}

/// The paths that the table does not allow.
fn forbidden(named: &[Named], table: &BTreeMap<String, BTreeSet<String>>) -> Vec<String> {
    named
        .iter()
        .filter(|named| !is_allowed(named, table))
        .map(ToString::to_string)
        .collect()
}

#[test]
fn every_module_imports_only_what_the_table_says() {
    let named = library();
    let wrong = forbidden(&named, &table());
    assert!(
        wrong.is_empty(),
        "forbidden by the table of src/lib.rs:\n{}",
        wrong.join("\n")
    );

    // A scan that sees nothing would hold any table.
    let seen: BTreeSet<(&str, &str)> = named
        .iter()
        .map(|named| (named.within[0].as_str(), named.path[0].as_str()))
        .collect();
    for known in [
        ("engine", "backend"),
        ("report", "event"),
        ("verdict", "plan"),
        ("plan", "wire"),
        ("app", "engine"),
        ("cli", "app"),
        ("harness", "app"),
    ] {
        assert!(
            seen.contains(&known),
            "{known:?} was not seen; seen were {seen:?}"
        );
    }
}

#[test]
fn the_table_and_the_folders_name_the_same_modules() {
    let folders: BTreeSet<String> = files("src")
        .iter()
        .filter_map(|file| {
            let module = module_of(file);
            let root = file.parent() == Some(Path::new("src"))
                && (module == ["lib"] || module == ["main"]);
            (!root).then(|| module[0].clone())
        })
        .collect();
    assert_eq!(table().into_keys().collect::<BTreeSet<_>>(), folders);
    let known: BTreeSet<String> = folders.into_iter().chain(ROOT.map(str::to_owned)).collect();
    for (module, may) in table() {
        let unknown: Vec<_> = may
            .into_iter()
            .filter(|name| !known.contains(name))
            .collect();
        assert!(
            unknown.is_empty(),
            "{module} may import {unknown:?}, which do not exist"
        );
    }
}

#[test]
fn every_row_imports_only_from_rows_above() {
    let rows = rows(&read(Path::new("src/lib.rs")));
    let mut above = BTreeSet::from(ROOT.map(str::to_owned));
    for (modules, may) in rows {
        let below: Vec<_> = may.iter().filter(|name| !above.contains(*name)).collect();
        assert!(
            below.is_empty(),
            "{modules:?} may import {below:?}, which stand in rows below"
        );
        above.extend(modules);
    }
}

/// What no edit of the table may ever allow.
#[test]
fn the_boundaries_that_verdicts_rest_on_hold() {
    let named = library();
    let never = |within: &[&str], path: &[&str]| {
        let wrong: Vec<String> = named
            .iter()
            .filter(|named| starts(&named.within, within) && starts(&named.path, path))
            .map(ToString::to_string)
            .collect();
        assert!(
            wrong.is_empty(),
            "{} must never name {}:\n{}",
            within.join("::"),
            path.join("::"),
            wrong.join("\n")
        );
    };
    never(&["backend"], &["verdict"]);
    never(&["backend"], &["suite"]);
    never(&["backend"], &["event"]);

    // Compiler and predictor are written apart, so that one can be held against the other.
    never(&["backend", "lab"], &["policy"]);
    never(&["policy"], &["backend"]);
    never(&["report"], &["backend"]);
    never(&["report"], &["verdict"]);
    never(&["report"], &["plan"]);
    never(&["verdict"], &["backend"]);
    never(&["verdict"], &["report"]);

    // The engine knows the trait, and no network by name.
    never(&["engine"], &["backend", "lab"]);
    never(&["engine"], &["backend", "kube"]);

    // What a command does is there for tests too, without the command line.
    never(&["app"], &["cli"]);
    never(&["app"], &["harness"]);
    never(&["harness"], &["cli"]);
}

#[test]
fn tests_and_benchmarks_never_name_the_command_line() {
    let files: Vec<PathBuf> = ["ci", "tests"].into_iter().flat_map(files).collect();
    let named: Vec<Vec<String>> = files
        .iter()
        .flat_map(|file| named_of_library(&read(file)))
        .collect();
    assert!(
        named.contains(&vec!["app".to_owned(), "plan_in".to_owned()]),
        "no path of the library was seen: {named:?}"
    );

    for file in files {
        let wrong: Vec<Vec<String>> = named_of_library(&read(&file))
            .into_iter()
            .filter(|path| starts(path, &["cli"]) || starts(path, &["*"]))
            .collect();
        assert!(wrong.is_empty(), "{} names {wrong:?}", file.display());
    }
}

/// Every path of a source text that begins with the library's crate, without the crate's name.
fn named_of_library(text: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    walk_library(text.parse().unwrap(), &mut found);
    found
}

fn walk_library(tokens: TokenStream, found: &mut Vec<Vec<String>>) {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    for (at, token) in tokens.iter().enumerate() {
        match token {
            TokenTree::Ident(word) if word == LIBRARY => {
                let renamed =
                    matches!(tokens.get(at + 1), Some(TokenTree::Ident(word)) if word == "as");
                if renamed || colons(&tokens[at + 1..]) {
                    found.extend(trees(&tokens[at + 1..], Vec::new()));
                }
            }
            TokenTree::Group(group) => walk_library(group.stream(), found),
            _ => {}
        }
    }
}

#[test]
fn a_path_to_the_command_line_is_caught_however_it_is_written() {
    for text in [
        "use watertight::cli::main;",
        "use watertight::cli;",
        "use watertight::{app, cli::main};",
        "use watertight as all;",
        "use watertight::*;",
        "fn f() { ::watertight::cli::main(); }",
        "fn f() { vec![watertight::cli::main()] }",
    ] {
        let named = named_of_library(text);
        assert!(
            named
                .iter()
                .any(|path| starts(path, &["cli"]) || starts(path, &["*"])),
            "{text}: {named:?}"
        );
    }

    let named = named_of_library("use watertight::app::plan_in; fn f() { watertight([\"cli\"]) }");
    assert_eq!(named, [["app", "plan_in"]]);
}

fn starts(path: &[String], with: &[&str]) -> bool {
    path.len() >= with.len() && path.iter().zip(with).all(|(part, with)| part == with)
}

/// Every word of a source text, literals and comments left out.
fn words(tokens: TokenStream, found: &mut Vec<(usize, String)>) {
    for token in tokens {
        match token {
            TokenTree::Group(group) => words(group.stream(), found),
            TokenTree::Ident(word) => found.push((word.span().start().line, word.to_string())),
            TokenTree::Punct(_) | TokenTree::Literal(_) => {}
        }
    }
}

fn words_of(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    words(text.parse().unwrap(), &mut found);
    found
}

/// Words that give a module a clock, IO or a runtime.
const EFFECTS: [&str; 16] = [
    "Instant",
    "SystemTime",
    "tokio",
    "jiff",
    "chrono",
    "async",
    "await",
    "fs",
    "io",
    "env",
    "process",
    "thread",
    "spawn",
    "TcpStream",
    "UdpSocket",
    "clock_gettime",
];

fn effects(text: &str) -> Vec<(usize, String)> {
    words_of(text)
        .into_iter()
        .filter(|(_, word)| EFFECTS.contains(&word.as_str()))
        .collect()
}

#[test]
fn verdicts_have_no_clock_and_no_effects() {
    let files: Vec<_> = files("src")
        .into_iter()
        .filter(|file| file.starts_with("src/verdict"))
        .collect();
    assert!(!files.is_empty());
    for file in files {
        let found = effects(&read(&file));
        assert!(found.is_empty(), "{}: {found:?}", file.display());
    }
}

/// What policies say may be shown and may choose what is tried; a verdict rests on packets alone.
#[test]
fn a_prediction_never_enters_a_verdict() {
    let of_verdicts =
        |file: &PathBuf| file.starts_with("src/verdict") && !file.starts_with("src/verdict/tests");
    let files: Vec<_> = files("src").into_iter().filter(of_verdicts).collect();
    assert!(!files.is_empty());
    for file in files {
        let predictions = words_of(&read(&file))
            .into_iter()
            .filter(|(_, word)| word.to_lowercase().contains("predict"));
        assert_eq!(predictions.collect::<Vec<_>>(), [], "{}", file.display());
    }
}

#[test]
fn the_wire_has_no_word_for_what_is_expected() {
    let files: Vec<_> = files("probe-image/src")
        .into_iter()
        .filter(|file| file.to_string_lossy().contains("src/wire"))
        .collect();
    assert!(!files.is_empty(), "the wire's types have moved");
    for file in files {
        let telling: Vec<_> = words_of(&read(&file))
            .into_iter()
            .filter(|(_, word)| {
                let word = word.to_lowercase();
                ["allow", "denied", "deny", "expect", "verdict", "proven"]
                    .iter()
                    .any(|telling| word.contains(telling))
            })
            // `#[expect(lint)]` speaks to the compiler.
            .filter(|(_, word)| word != "expect")
            .collect();
        assert!(telling.is_empty(), "{}: {telling:?}", file.display());
    }
}

#[test]
fn a_forbidden_import_is_caught_however_it_is_written() {
    let written = [
        "use crate::backend::Arrival;",
        "use crate::backend;",
        "use crate::{event::RunEvent, backend::{self, Backend}};",
        "use crate::{model, backend as network};",
        "fn f() -> crate::backend::Arrival { todo!() }",
        "fn f() { println!(\"{}\", vec![crate::backend::name()][0]); }",
        "use super::backend::Arrival;",
        "mod tests { use super::super::backend::Arrival; }",
        "mod tests { mod deep { fn f() { super::super::super::backend::f() } } }",
        "use self::super::backend::Arrival;",
        "pub(in crate::backend) fn f() {}",
        "macro_rules! m { () => { $crate::backend::f() } }",
    ];

    for text in written {
        let found = forbidden(&named("x.rs", text, &["report".to_owned()]), &table());
        assert!(
            found
                .iter()
                .any(|found| found.ends_with("backend") || found.contains("names backend")),
            "{text}: {found:?}"
        );
    }

    // The root as a whole would let everything through.
    for text in [
        "use crate as all;",
        "use crate::*;",
        "use super::*;",
        "use crate::{self as all};",
        "use super as all;",
    ] {
        assert!(
            !forbidden(&named("x.rs", text, &["report".to_owned()]), &table()).is_empty(),
            "{text}"
        );
    }

    for text in [
        format!("use {AGENT}::plan_digest;"),
        format!("fn f() {{ ::{AGENT}::plan_digest() }}"),
    ] {
        assert!(
            !forbidden(&named("x.rs", &text, &["report".to_owned()]), &table()).is_empty(),
            "{text}"
        );
    }
}

#[test]
fn what_is_no_import_is_not_taken_for_one() {
    let text = "
        //! [`crate::backend::Arrival`]
        pub(crate) struct A; pub(super) struct B;
        use crate::event::RunEvent; use self::console::Console; use super::report::Spec;
        mod tests { use super::*; use super::super::event; }
        fn f(&self) -> &str { \"crate::backend::f()\" }
    ";
    assert_eq!(
        forbidden(&named("x.rs", text, &["report".to_owned()]), &table()),
        Vec::<String>::new()
    );
}

#[test]
fn a_clock_is_caught_in_a_verdict() {
    assert_eq!(
        effects("/// An Instant.\nfn f() { std::time::Instant::now(); }"),
        [(2, "Instant".to_owned())]
    );
    assert_eq!(
        effects("fn f() { assert!(SystemTime::now() > t) }").len(),
        1
    );
    assert_eq!(effects("use tokio::time; async fn f() {}").len(), 2);
}
