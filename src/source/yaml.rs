//! Builds the YAML tree from the parser's events, within limits of depth and size.

use super::flow;
use super::{
    Diagnostic, Diagnostics, Entry, FileId, Key, Node, Scalar, Span, Style, Value, yaml_error,
};
use serde_saphyr::granit_parser::{self, Event, Parser, ScalarStyle, StructureStyle, Tag};
use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;

/// The greatest depth of a document. No suite or manifest is deeper, and the limit makes recursion
/// over a tree safe.
const MAX_DEPTH: usize = 100;

/// The most nodes that the aliases and merges of a document may copy. It stops a "billion laughs"
/// expansion.
const MAX_COPIED_NODES: usize = 20_000;

/// The most nodes of a document. It keeps the memory for a file of the largest size at hundreds of
/// megabytes.
const MAX_NODES: usize = 2_000_000;

/// The most flow collections of a document whose lines may begin with a tab. Each makes the document
/// be parsed once more.
const MAX_TABBED_FLOWS: usize = 50;

/// Parses the document in `range` of a file's text; `None` if it is empty or has an error.
pub(super) fn parse_document(
    text: &str,
    range: Range<usize>,
    file: FileId,
    diagnostics: &mut Diagnostics,
) -> Option<Node> {
    let mut document = Cow::Borrowed(&text[range.clone()]);
    let mut tabbed_flows = 0;
    loop {
        let may_retry = tabbed_flows < MAX_TABBED_FLOWS;
        match parse_once(&document, may_retry, text, &range, file, diagnostics) {
            Parsed::Tree(root) => return root,
            Parsed::TabbedFlow(start) => {
                tabbed_flows += 1;
                document = Cow::Owned(flow::with_spaces(&document, start - range.start));
            }
        }
    }
}

/// The end of one parse of a document.
enum Parsed {
    /// The tree; `None` if the document is empty or has an error, which is among the diagnostics.
    Tree(Option<Node>),
    /// A line begins with a tab inside the flow collection that starts at this byte of the file.
    TabbedFlow(usize),
}

/// Parses a document, some tabs of which are spaces here. `may_retry` allows
/// [`Parsed::TabbedFlow`]; otherwise such a tab is an error.
fn parse_once(
    document: &str,
    may_retry: bool,
    text: &str,
    range: &Range<usize>,
    file: FileId,
    diagnostics: &mut Diagnostics,
) -> Parsed {
    let options = granit_parser::options! {
        emit_comments: false,
        emit_anchor_events: true,
        emit_unresolved_aliases: true,
        flow_nesting_limit: MAX_DEPTH,
        block_nesting_limit: MAX_DEPTH,
    };
    let mut builder = Builder {
        file,
        base: range.start,
        diagnostics,
        frames: Vec::new(),
        root: None,
        anchors: HashMap::new(),
        nodes: 0,
        copied: 0,
        has_errors: false,
    };

    for event in Parser::new_from_str_with_options(document, options) {
        let handled = match event {
            Ok((event, span)) => builder.handle_event(event, &span),
            Err(error) => {
                // libyaml, and with it the API server, takes such a tab for a space.
                let is_tab = yaml_error::is_tab(error.kind());
                if let Some(start) = builder.outermost_flow().filter(|_| is_tab && may_retry) {
                    return Parsed::TabbedFlow(start);
                }
                Err(yaml_error::diagnose(&error, text, range, file))
            }
        };
        if let Err(diagnostic) = handled {
            builder.diagnostics.push(diagnostic);
            return Parsed::Tree(None);
        }
    }

    let root = builder.root.filter(|_| !builder.has_errors);
    Parsed::Tree(root.and_then(without_empty))
}

/// The root of a document, unless it is empty.
fn without_empty(built: BuiltNode) -> Option<Node> {
    let is_empty = built
        .node
        .as_scalar()
        .is_some_and(|scalar| scalar.text.is_empty() && scalar.style == Style::Plain);
    (!is_empty).then_some(built.node)
}

/// A complete node with its depth and size.
struct BuiltNode {
    node: Node,
    /// Levels of nodes, including this one.
    depth: usize,
    /// Number of nodes, including this one.
    count: usize,
}

/// An anchor (`&name`) of the document.
struct Anchor {
    name: String,
    /// `None` while the anchored node is incomplete, when an alias of it would contain itself.
    built: Option<BuiltNode>,
}

/// The content of an incomplete collection.
enum Content {
    Sequence(Vec<Node>),
    Mapping {
        entries: Vec<Entry>,
        keys: HashMap<String, Span>,
        key: Option<Key>,
        merges: Vec<Node>,
    },
}

/// An incomplete collection.
struct Frame {
    start: usize,
    is_flow: bool,
    anchor: usize,
    depth: usize,
    count: usize,
    content: Content,
}

struct Builder<'a> {
    file: FileId,
    /// Byte offset of the document in its file.
    base: usize,
    diagnostics: &'a mut Diagnostics,
    frames: Vec<Frame>,
    root: Option<BuiltNode>,
    anchors: HashMap<usize, Anchor>,
    nodes: usize,
    copied: usize,
    /// An error was reported that gives no tree but does not stop the check of the rest.
    has_errors: bool,
}

impl Builder<'_> {
    fn handle_event(
        &mut self,
        event: Event<'_>,
        at: &granit_parser::Span,
    ) -> Result<(), Diagnostic> {
        let span = self.span(at);
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let style = match style {
                    ScalarStyle::Plain
                        if tag.as_deref().and_then(Tag::core_suffix) == Some("str") =>
                    {
                        Style::Quoted
                    }
                    ScalarStyle::Plain => Style::Plain,
                    ScalarStyle::Literal | ScalarStyle::Folded => Style::Block,
                    _ => Style::Quoted,
                };
                self.check_tag(tag.as_deref(), at, span);
                // The parser reports a missing value as the text "~".
                let is_missing = style == Style::Plain && span.start() == span.end();
                let scalar = Scalar {
                    text: if is_missing {
                        String::new()
                    } else {
                        text.into_owned()
                    },
                    style,
                };
                let node = Node {
                    span,
                    alias: None,
                    value: Value::Scalar(scalar),
                };
                self.finish(
                    BuiltNode {
                        node,
                        depth: 1,
                        count: 1,
                    },
                    anchor,
                )
            }
            Event::SequenceStart(style, anchor, tag) => {
                self.check_tag(tag.as_deref(), at, span);
                self.open(span, style, anchor, Content::Sequence(Vec::new()))
            }
            Event::MappingStart(style, anchor, tag) => {
                self.check_tag(tag.as_deref(), at, span);
                let content = Content::Mapping {
                    entries: Vec::new(),
                    keys: HashMap::new(),
                    key: None,
                    merges: Vec::new(),
                };
                self.open(span, style, anchor, content)
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(span),
            Event::Anchor(id, name) => {
                // The anchored node is complete if it is a scalar; a collection has just begun.
                self.anchors
                    .entry(id)
                    .or_insert_with(|| Anchor {
                        name: String::new(),
                        built: None,
                    })
                    .name = name.into_owned();
                Ok(())
            }
            Event::Alias(id) => self.alias(id, span),
            Event::UnresolvedAlias(name) => Err(yaml_error::unknown_alias(&name, span)),
            _ => Ok(()),
        }
    }

    fn span(&self, at: &granit_parser::Span) -> Span {
        let range = at.byte_range().unwrap_or_default();
        Span::new(self.file, self.base + range.start, self.base + range.end)
    }

    /// Reports a tag other than those of YAML's core schema.
    fn check_tag(&mut self, tag: Option<&Tag>, at: &granit_parser::Span, node: Span) {
        let Some(tag) = tag else { return };
        let is_core = matches!(
            tag.core_suffix(),
            Some("str" | "int" | "float" | "bool" | "null" | "seq" | "map")
        );
        let is_non_specific = tag.handle().is_empty() && tag.suffix() == "!";
        if !(is_core || is_non_specific) {
            let span = at.tag_span().map_or(node, |tag_span| self.span(&tag_span));
            let message = format!("the tag {} is not supported", tag.original());
            self.diagnostics.push(
                Diagnostic::error(span, message)
                    .with_help("remove it, or put the text in quotes if it starts with '!'"),
            );
            self.has_errors = true;
        }
    }

    /// The byte of the file at which the outermost flow collection starts that is incomplete.
    fn outermost_flow(&self) -> Option<usize> {
        let flow = self.frames.iter().find(|frame| frame.is_flow)?;
        Some(flow.start)
    }

    /// Begins a collection.
    fn open(
        &mut self,
        span: Span,
        style: StructureStyle,
        anchor: usize,
        content: Content,
    ) -> Result<(), Diagnostic> {
        if self.frames.len() >= MAX_DEPTH {
            return Err(yaml_error::too_deep(span, MAX_DEPTH));
        }
        self.frames.push(Frame {
            start: span.start(),
            is_flow: style == StructureStyle::Flow,
            anchor,
            depth: 0,
            count: 0,
            content,
        });
        Ok(())
    }

    /// Ends the innermost collection.
    fn close(&mut self, end: Span) -> Result<(), Diagnostic> {
        let Some(frame) = self.frames.pop() else {
            return Ok(());
        };
        let (value, last) = match frame.content {
            Content::Sequence(items) => {
                let last = items.last().map(|item| item.site().end());
                (Value::Sequence(items), last)
            }
            Content::Mapping {
                mut entries,
                mut keys,
                merges,
                ..
            } => {
                let last = entries
                    .last()
                    .map(|entry| entry.value.site().end().max(entry.key.span.end()));
                self.merge(&mut entries, &mut keys, merges);
                (Value::Mapping(entries), last)
            }
        };

        // A flow collection ends with its bracket. A block ends with its last child, because the
        // parser reports its end at the next token, which may be lines below.
        let closed_by_bracket = end.end() > end.start();
        let span_end = if closed_by_bracket {
            end.end()
        } else {
            last.unwrap_or(frame.start)
        };
        let span = Span::new(self.file, frame.start, span_end);
        let node = Node {
            span,
            alias: None,
            value,
        };

        self.finish(
            BuiltNode {
                node,
                depth: frame.depth + 1,
                count: frame.count + 1,
            },
            frame.anchor,
        )
    }

    /// Adds the entries that `<<` merges. The mapping's keys take precedence, then those of earlier
    /// merges.
    fn merge(
        &mut self,
        entries: &mut Vec<Entry>,
        keys: &mut HashMap<String, Span>,
        merges: Vec<Node>,
    ) {
        for source in merges {
            let span = source.site();
            let maps = match source.value {
                Value::Mapping(map) => vec![map],
                Value::Sequence(items) if items.iter().all(|item| item.as_mapping().is_some()) => {
                    items
                        .into_iter()
                        .filter_map(|item| {
                            if let Value::Mapping(map) = item.value {
                                Some(map)
                            } else {
                                None
                            }
                        })
                        .collect()
                }
                Value::Scalar(_) | Value::Sequence(_) => {
                    let message = "'<<' needs a mapping or a list of mappings";
                    self.diagnostics.push(
                        Diagnostic::error(span, message).with_help(
                            "write <<: *anchor, or quote the key if it is meant as a text",
                        ),
                    );
                    self.has_errors = true;
                    continue;
                }
            };
            for entry in maps.into_iter().flatten() {
                if keys
                    .insert(entry.key.text.clone(), entry.key.span)
                    .is_none()
                {
                    entries.push(entry);
                }
            }
        }
    }

    /// Adds a copy of the anchored node.
    fn alias(&mut self, id: usize, span: Span) -> Result<(), Diagnostic> {
        let Some(anchor) = self.anchors.get(&id) else {
            return Err(Diagnostic::error(
                span,
                "the alias names an anchor that is not defined before it",
            ));
        };
        let name = &anchor.name;
        let Some(built) = &anchor.built else {
            return Err(Diagnostic::error(
                span,
                format!("the anchor {name:?} contains itself"),
            ));
        };

        self.copied += built.count;
        if self.copied > MAX_COPIED_NODES {
            let message = format!(
                "aliases of the anchor {name:?} and others expand to more than {MAX_COPIED_NODES} nodes"
            );
            return Err(Diagnostic::error(span, message)
                .with_secondary(built.node.span, "the anchored content")
                .with_help("write the content out, or split the file"));
        }

        let copy = BuiltNode {
            node: Node {
                alias: Some(span),
                ..built.node.clone()
            },
            depth: built.depth,
            count: built.count,
        };
        self.finish(copy, 0)
    }

    /// Adds a complete node to the innermost collection, or makes it the root.
    fn finish(&mut self, built: BuiltNode, anchor: usize) -> Result<(), Diagnostic> {
        self.nodes += built.count;
        let site = built.node.site();
        if self.nodes > MAX_NODES {
            return Err(Diagnostic::error(
                site,
                format!("the document has more than {MAX_NODES} values"),
            )
            .with_help("split the file"));
        }
        if self.frames.len() + built.depth > MAX_DEPTH + 1 {
            return Err(yaml_error::too_deep(site, MAX_DEPTH));
        }

        if anchor != 0 {
            let copy = BuiltNode {
                node: built.node.clone(),
                depth: built.depth,
                count: built.count,
            };
            self.nodes += built.count;
            self.anchors
                .entry(anchor)
                .or_insert_with(|| Anchor {
                    name: String::new(),
                    built: None,
                })
                .built = Some(copy);
        }

        let Some(frame) = self.frames.last_mut() else {
            if self.root.is_some() {
                return Err(yaml_error::second_document(site));
            }
            self.root = Some(built);
            return Ok(());
        };
        frame.depth = frame.depth.max(built.depth);
        frame.count += built.count;
        let BuiltNode { node, .. } = built;
        match &mut frame.content {
            Content::Sequence(items) => items.push(node),
            Content::Mapping {
                entries,
                keys,
                key,
                merges,
            } => match key.take() {
                Some(key) if key.text == "<<" => merges.push(node),
                Some(key) => entries.push(Entry { key, value: node }),
                None => {
                    let Some(scalar) = node.as_scalar() else {
                        return Err(yaml_error::key_is_not_text(site));
                    };
                    let text = scalar.text.clone();
                    let json = scalar.to_json_key();
                    if let Some(first) = keys.get(&text) {
                        self.diagnostics
                            .push(yaml_error::duplicate_key(&text, site, *first));
                        self.has_errors = true;
                    } else {
                        keys.insert(text.clone(), site);
                    }
                    *key = Some(Key {
                        text,
                        json,
                        span: site,
                    });
                }
            },
        }
        Ok(())
    }
}
