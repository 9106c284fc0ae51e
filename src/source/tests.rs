//! Reading, parsing and drawing, from the outside.

use super::*;
use serde_json::json;
use std::fmt::Write as _;
use std::io::Read;
use std::time::{Duration, Instant};

fn read(text: &str) -> (Sources, Vec<Document>, Diagnostics) {
    let mut sources = Sources::new();
    let file = sources.add("a.yaml", text);
    let mut diagnostics = Diagnostics::new();
    let documents = parse(&sources, file, &mut diagnostics);
    (sources, documents, diagnostics)
}

fn only(text: &str) -> (Sources, Node) {
    let (sources, mut documents, diagnostics) = read(text);
    assert!(
        diagnostics.is_empty(),
        "{}",
        diagnostics.render_compact(&sources)
    );
    assert_eq!(documents.len(), 1);
    let root = documents.remove(0).root;
    (sources, root)
}

fn compact(text: &str) -> String {
    let (sources, _, diagnostics) = read(text);
    diagnostics.render_compact(&sources)
}

#[test]
fn every_scalar_keeps_its_text() {
    let text = "a: no\nb: 1.10\nc: 0o17\nd: 08\ne: ~\nf: 'it''s'\ng: \"a\\tb\"\nh: |\n  x: 1\n  y\ni: on # note\nj: 1_000\nk: two\n  lines\n";
    let (_, root) = only(text);
    let expected = [
        ("a", "no"),
        ("b", "1.10"),
        ("c", "0o17"),
        ("d", "08"),
        ("e", "~"),
        ("f", "it's"),
        ("g", "a\tb"),
        ("h", "x: 1\ny\n"),
        ("i", "on"),
        ("j", "1_000"),
        ("k", "two lines"),
    ];
    for (key, value) in expected {
        assert_eq!(
            root.get(key).and_then(Node::as_scalar).expect(key).text,
            value
        );
    }
}

#[test]
fn nodes_have_their_positions() {
    let text = "---\nö: [1, \"zwei\"]\nlist:\n  - a -> b\n  - {c: d}\n...\n---\nlast: x\n";
    let (sources, documents, diagnostics) = read(text);
    assert!(diagnostics.is_empty());
    let place = |node: &Node| {
        (
            sources.slice(node.span).to_owned(),
            sources.place(node.span).to_string(),
        )
    };
    let first = &documents[0].root;
    let at = |path: &[Step<'_>]| place(first.at_path(path.iter().copied()).expect("there"));
    assert_eq!(
        at(&[Step::Key("ö")]),
        ("[1, \"zwei\"]".to_owned(), "a.yaml:2:4".to_owned())
    );
    assert_eq!(
        at(&[Step::Key("ö"), Step::Index(1)]),
        ("\"zwei\"".to_owned(), "a.yaml:2:8".to_owned())
    );
    assert_eq!(
        at(&[Step::Key("list"), Step::Index(0)]),
        ("a -> b".to_owned(), "a.yaml:4:5".to_owned())
    );
    assert_eq!(
        at(&[Step::Key("list"), Step::Index(1), Step::Key("c")]).1,
        "a.yaml:5:9"
    );
    assert_eq!(at(&[Step::Key("list")]).0, "- a -> b\n  - {c: d}");
    assert!(first.at_path([Step::Key("list"), Step::Index(9)]).is_none());
    assert_eq!(
        first
            .nearest([Step::Key("list"), Step::Index(9), Step::Key("x")])
            .span,
        first.get("list").expect("there").span
    );
    assert_eq!(documents[1].index, 1);
    assert_eq!(
        place(documents[1].root.get("last").expect("there")).1,
        "a.yaml:8:7"
    );
}

#[test]
fn columns_are_counted_in_characters_however_long_the_line() {
    for length in [0, 1, 1_022, 1_023, 1_024, 1_025, 5_000] {
        for filler in ["x", "ö", "→", "😀"] {
            let mut sources = Sources::new();
            let before = filler.repeat(length);
            let text = format!("\u{feff}{before}!\n{before}!");
            let file = sources.add("a", text.clone());
            for (line, at) in [(1, 3 + before.len()), (2, text.len() - 1), (2, text.len())] {
                let column = length as u32 + 1 + u32::from(at == text.len());
                let place = sources.place(Span::new(file, at, at));
                assert_eq!(
                    (place.line, place.column),
                    (line, column),
                    "{length} {filler}"
                );
            }
        }
    }
}

#[test]
fn a_wrong_type_in_a_manifest_is_found_by_its_path() {
    #[derive(serde::Deserialize, Debug)]
    struct Port {
        #[expect(dead_code, reason = "only its type matters here")]
        port: u16,
    }
    #[derive(serde::Deserialize, Debug)]
    struct Spec {
        #[expect(dead_code, reason = "only its type matters here")]
        ports: Vec<Port>,
    }
    let (sources, root) = only("ports:\n- port: 80\n- port: eighty\n");
    let error = serde_path_to_error::deserialize::<_, Spec>(root.to_json())
        .expect_err("eighty is no number");
    assert_eq!(
        sources
            .place(root.nearest_to_error(error.path()).span)
            .to_string(),
        "a.yaml:3:9"
    );
}

#[test]
fn the_tree_becomes_json_with_types() {
    let (_, root) =
        only("a: 8080\nb: \"8080\"\nc: !!str 7\nd: [true, ~, x]\n5: {e: \"t\"}\nf: |\n  t\n");
    assert_eq!(
        root.to_json(),
        json!({"a": 8080, "b": "8080", "c": "7", "d": [true, null, "x"], "5": {"e": "t"}, "f": "t\n"})
    );
}

#[test]
fn aliases_and_merges_are_expanded() {
    let (sources, root) = only(
        "base: &b {x: 1, w: 2}\none: {<<: *b, x: 3}\ntwo: *b\nthree: {<<: [{z: 9}, *b], w: 0}\n",
    );
    assert_eq!(
        root.to_json(),
        json!({"base": {"x": 1, "w": 2}, "one": {"x": 3, "w": 2}, "two": {"x": 1, "w": 2}, "three": {"w": 0, "z": 9, "x": 1}})
    );
    let two = root.get("two").expect("there");
    assert_eq!(sources.place(two.span).to_string(), "a.yaml:1:10");
    assert_eq!(sources.place(two.site()).to_string(), "a.yaml:3:6");
}

#[test]
fn an_alias_bomb_is_refused_at_once_and_its_anchor_named() {
    let mut bomb = "l0: &l0 [a, a, a, a, a, a, a, a, a, a]\n".to_owned();
    for level in 1..30 {
        let items = vec![format!("*l{}", level - 1); 10].join(", ");
        writeln!(bomb, "l{level}: &l{level} [{items}]").expect("a String takes all");
    }
    let started = Instant::now();
    let message = compact(&bomb);
    assert!(message.starts_with("a.yaml:5:"), "{message}");
    assert!(
        message.contains("the anchor \"l3\" and others expand to more than 20000"),
        "{message}"
    );
    assert!(started.elapsed() < Duration::from_secs(2));
}

#[test]
fn an_anchor_in_itself_is_refused() {
    assert_eq!(
        compact("a: &x [*x]\n"),
        "a.yaml:1:8: error: the anchor \"x\" contains itself\n"
    );
}

#[test]
fn deep_nesting_is_refused_quickly() {
    let deep_block: String = (0..3_000).map(|depth| " ".repeat(depth) + "a:\n").collect();
    let mut chained = "a0: &a0 x\n".to_owned();
    for depth in 1..90 {
        writeln!(chained, "a{depth}: &a{depth} [[[[*a{}]]]]", depth - 1)
            .expect("a String takes all");
    }
    let inputs = [
        "[".repeat(10_000_000),
        "{a: ".repeat(2_500_000),
        "- ".repeat(5_000_000),
        "? ".repeat(5_000_000),
        deep_block,
        chained,
    ];
    for input in inputs {
        let started = Instant::now();
        let message = compact(&input);
        assert!(message.contains("nests"), "{message}");
        assert!(
            started.elapsed() < Duration::from_secs(10),
            "{:?} {}",
            started.elapsed(),
            &input[..10]
        );
    }
}

#[test]
fn long_hostile_input_ends() {
    let size = 1_000_000;
    let inputs = [
        "\"".repeat(size),
        "'".repeat(size),
        "a: ".repeat(size / 3),
        "&a ".repeat(size / 3),
        "*a ".repeat(size / 3),
        "!!".repeat(size / 2),
        "!a ".repeat(size / 3),
        "# ".repeat(size / 2),
        "|\n".repeat(size / 2),
        "---\n".repeat(size / 4),
        "- *a\n".repeat(size / 5),
        "a: 1\n".repeat(size / 5),
        "-\n".repeat(size / 2),
        "a\n".repeat(size / 2),
        "[a, b],".repeat(size / 7),
        "\t".repeat(size),
        " ".repeat(size),
        "%YAML 1.2\n".repeat(size / 10),
    ];
    for input in inputs {
        let started = Instant::now();
        let (sources, _, diagnostics) = read(&input);
        let drawn = diagnostics.render(&sources, false);
        assert!(drawn.len() < 1_000_000);
        assert!(
            started.elapsed() < Duration::from_secs(20),
            "{:?} {:?}",
            started.elapsed(),
            &input[..10]
        );
    }
}

#[test]
fn duplicate_keys_show_both_places_and_end_their_document_only() {
    let (sources, documents, diagnostics) = read("a: 1\nb:\n  c: 1\n  \"c\": 2\na: 2\n---\nd: 1\n");
    assert_eq!(documents.len(), 1);
    assert_eq!(documents[0].root.to_json(), json!({"d": 1}));
    assert_eq!(
        diagnostics.render_compact(&sources),
        "a.yaml:4:3: error: the key \"c\" appears twice; first here (a.yaml:3:3); help: remove or rename one of them\n\
         a.yaml:5:1: error: the key \"a\" appears twice; first here (a.yaml:1:1); help: remove or rename one of them\n"
    );
}

#[test]
fn a_syntax_error_ends_its_document_only() {
    let (sources, documents, diagnostics) = read("a: 'open\n---\nb: 1\n---\nc: [\n---\nd: 1\n");
    let found: Vec<_> = documents
        .iter()
        .map(|document| (document.index, document.root.to_json()))
        .collect();
    assert_eq!(found, [(1, json!({"b": 1})), (3, json!({"d": 1}))]);
    let text = diagnostics.render_compact(&sources);
    assert_eq!(text.lines().count(), 2, "{text}");
}

#[test]
fn common_mistakes_get_specific_help() {
    let cases = [
        (
            "expect:\n  - * -> metadata denied\n",
            "a.yaml:2:5: error: a text cannot start with * outside quotes; help: YAML takes a bare * for an alias",
        ),
        (
            "expect:\n  - *x -> metadata denied\n",
            "help: YAML takes a bare * for an alias",
        ),
        (
            "a:\n\tb: 1\n",
            "a.yaml:2:1: error: a tab cannot indent YAML; help: replace the tab by spaces",
        ),
        (
            "a:\n  b: 1\n\tc: 2\n",
            "a.yaml:3:1: error: a tab cannot indent YAML",
        ),
        ("a:\n  - b\n \t- c\n", "a tab cannot indent YAML"),
        (
            "a: b: c\n",
            "error: a ':' is not allowed here; help: put a text that contains ': ' in quotes",
        ),
        (
            "a: {{ .Values.x }}\n",
            "error: a key must be a text, and this is a list or a mapping; help: a template ({{ ... }}) must be rendered first",
        ),
        (
            "a: @x\n",
            "a.yaml:1:4: error: a text cannot start with '@' outside quotes; help: put the whole text in quotes",
        ),
        ("a: [1, 2\n", "a.yaml:1:"),
        ("a: \"x\n", "a quote is never closed"),
        (
            "a: 'x' y\n",
            "text follows a closing quote; help: put the quotes around the whole text",
        ),
        (
            "a: !secret x\n",
            "a.yaml:1:4: error: the tag !secret is not supported",
        ),
        (
            "a: 1\n<<: x\n",
            "'<<' needs a mapping or a list of mappings",
        ),
    ];
    for (text, expected) in cases {
        let found = compact(text);
        assert!(found.contains(expected), "{text:?}\n{found}");
        assert_eq!(found.lines().count(), 1, "{text:?}\n{found}");
    }
}

#[test]
fn a_carriage_return_alone_ends_a_line() {
    let (sources, documents, diagnostics) = read("a: 1\rb: 2\r---\rc: [\r---\rd:\r  e: 3");
    assert_eq!(documents.len(), 2);
    assert_eq!(
        documents[0].root.to_json(),
        json!({"a": 1, "b": 2}),
        "the first document is there"
    );
    let last = documents[1].root.get("d").and_then(|d| d.get("e"));
    let place = sources.place(last.expect("there").span);
    assert_eq!(place.to_string(), "a.yaml:7:6");
    assert_eq!(
        sources.rest_of_line(&place).map(|span| sources.slice(span)),
        Some("3")
    );
    let text = diagnostics.render_compact(&sources);
    assert!(text.starts_with("a.yaml:4:"), "{text}");
}

#[test]
fn unreadable_files_say_why() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().to_str().expect("UTF-8").to_owned();
    let mut sources = Sources::new();
    let mut fails = |name: &str| {
        let diagnostic = sources.read(name).expect_err("unreadable");
        diagnostic.render_compact(&sources).replace(&path, "DIR")
    };
    assert_eq!(
        fails(&path),
        "DIR: error: cannot read DIR: it is a folder; help: name the files in it, for example with a glob: suites/*.yaml"
    );
    let missing = format!("{path}/none.yaml");
    assert!(
        fails(&missing)
            .starts_with("DIR/none.yaml: error: cannot read DIR/none.yaml: it does not exist")
    );
    let latin = format!("{path}/latin.yaml");
    std::fs::write(&latin, b"a: 1\nb: caf\xe9\n").expect("written");
    assert_eq!(
        fails(&latin),
        "DIR/latin.yaml:2:7: error: DIR/latin.yaml is not UTF-8: byte 0xe9 at offset 11; help: save the file as UTF-8"
    );
    let utf16 = format!("{path}/utf16.yaml");
    std::fs::write(&utf16, b"\xff\xfea\x00").expect("written");
    assert!(fails(&utf16).contains("looks like UTF-16"));
    assert!(fails("/dev/zero").contains("it is larger than 16 MiB"));
}

#[test]
fn a_reader_that_fails_is_an_error_with_its_name() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            Err(std::io::Error::other("the pipe broke"))
        }
    }
    let mut sources = Sources::new();
    let diagnostic = sources.read_from("-", Broken).expect_err("broken");
    assert_eq!(
        diagnostic.render_compact(&sources),
        "-: error: cannot read standard input: it failed to be read (the pipe broke)"
    );
}

#[test]
fn a_file_is_known_by_its_digest() {
    let mut sources = Sources::new();
    let file = sources.add("a", "abc");
    assert_eq!(
        sources.sha256(file),
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    );
}

#[test]
fn diagnostics_are_drawn_with_their_lines() {
    let mut sources = Sources::new();
    let file = sources.add(
        "shop.yaml",
        "one: 1\ntwo: 2\n3: 3\n4: 4\n5: 5\n6: 6\nseven: ö\t7 x\n",
    );
    let seven = sources.text(file).find("7 x").expect("there");
    let diagnostic = Diagnostic::error(Span::new(file, seven, seven + 3), "seven is wrong")
        .with_label("here")
        .with_secondary(Span::new(file, 0, 3), "because of this")
        .with_help("write 8");
    let expected = "\
error: seven is wrong
 --> shop.yaml:7:10
  |
1 | one: 1
  | --- because of this
...
7 | seven: ö 7 x
  |          ^^^ here
  |
  = help: write 8";
    assert_eq!(diagnostic.render(&sources, false), expected);
    assert!(diagnostic.render(&sources, true).contains("\u{1b}["));
    assert_eq!(
        sources.place(diagnostic.primary).to_string(),
        "shop.yaml:7:10"
    );
}

#[test]
fn two_files_are_drawn_one_after_the_other() {
    let mut sources = Sources::new();
    let first = sources.add("a.yaml", "name: shop\n");
    let second = sources.add("b.yaml", "\u{feff}name: shop\n");
    let diagnostic = Diagnostic::warning(Span::new(second, 9, 13), "twice")
        .with_secondary(Span::new(first, 6, 10), "first here");
    let expected = "\
warning: twice
 --> b.yaml:1:7
  |
1 | name: shop
  |       ^^^^
  |
 ::: a.yaml:1:7
  |
1 | name: shop
  |       ---- first here";
    assert_eq!(diagnostic.render(&sources, false), expected);
}

#[test]
fn nothing_that_acts_on_a_terminal_is_drawn() {
    let hostile = "a: \u{1b}]0;x\u{7}\u{9b}2J\u{202e}\u{200b}\r \u{8}\u{7f}\u{2028}x\n";
    let mut sources = Sources::new();
    let file = sources.add("\u{1b}[31mname", hostile);
    let diagnostic = Diagnostic::error(Span::new(file, 3, 6), hostile)
        .with_label(hostile)
        .with_secondary(Span::new(file, 0, 1), hostile)
        .with_help(hostile);
    for drawn in [
        diagnostic.render(&sources, false),
        diagnostic.render_compact(&sources),
    ] {
        let bad: Vec<char> = drawn
            .chars()
            .filter(|c| {
                (c.is_control() && *c != '\n') || matches!(*c, '\u{202e}' | '\u{200b}' | '\u{2028}')
            })
            .collect();
        assert!(bad.is_empty(), "{bad:?} in {drawn}");
    }
    assert_eq!(diagnostic.render_compact(&sources).lines().count(), 1);
}

#[test]
fn diagnostics_come_in_order_and_once() {
    let mut sources = Sources::new();
    let first = sources.add("z.yaml", "a\nb\nc\n");
    let second = sources.add("a.yaml", "a\n");
    let mut diagnostics = Diagnostics::new();
    diagnostics.push(Diagnostic::error(Span::new(second, 0, 1), "fourth"));
    diagnostics.push(Diagnostic::warning(Span::new(first, 4, 5), "third"));
    diagnostics.push(Diagnostic::error(Span::new(first, 0, 1), "first"));
    diagnostics.push(Diagnostic::error(Span::new(first, 2, 3), "second"));
    diagnostics.push(Diagnostic::error(Span::new(first, 2, 3), "second"));
    let messages: Vec<_> = diagnostics
        .iter()
        .map(|diagnostic| diagnostic.message.as_str())
        .collect();
    assert_eq!(messages, ["first", "second", "third", "fourth"]);
    assert_eq!(
        (
            diagnostics.count(Severity::Error),
            diagnostics.count(Severity::Warning)
        ),
        (3, 1)
    );
    assert_eq!(diagnostics.strict().count(Severity::Warning), 0);
}

proptest::proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(text in "([ \\t\\n:\\-\\[\\]{}*&!|>'\"%@#,?]|[a-c]|---\n|é|\u{1b}){0,80}") {
        let (sources, documents, diagnostics) = read(&text);
        let _drawn = diagnostics.render(&sources, true);
        for document in documents {
            let _json = document.root.to_json();
            let _place = sources.place(document.root.span);
        }
    }
}
