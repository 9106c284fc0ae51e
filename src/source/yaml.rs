//! From the parser's events to a tree, within budgets.

use super::{
    Diagnostic, Diagnostics, Entry, FileId, Key, Node, Scalar, Span, Style, Value, yaml_error,
};
use serde_saphyr::granit_parser::{self, Event, Parser, ScalarStyle, Tag};
use std::collections::HashMap;
use std::ops::Range;

/// How deep a document may nest. Deeper input is no suite and no manifest, and everything that
/// walks a tree may use recursion because of this limit.
const MAX_DEPTH: usize = 100;

/// How many nodes aliases and merges may copy in a document: a "billion laughs" ends here, at once.
const MAX_COPIED_NODES: usize = 20_000;

/// How many nodes a document may have: memory for a file of the largest size stays in the hundreds
/// of megabytes.
const MAX_NODES: usize = 2_000_000;

/// Parses the document in `range` of a file's text; `None` if it holds nothing or is broken.
pub(super) fn parse_document(
    text: &str,
    range: Range<usize>,
    file: FileId,
    diagnostics: &mut Diagnostics,
) -> Option<Node> {
    let chunk = &text[range.clone()];
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
        broken: false,
    };
    for event in Parser::new_from_str_with_options(chunk, options) {
        let done = match event {
            Ok((event, span)) => builder.event(event, &span),
            Err(error) => Err(yaml_error::diagnose(&error, text, &range, file)),
        };
        if let Err(diagnostic) = done {
            builder.diagnostics.push(diagnostic);
            return None;
        }
    }
    let built = builder.root.filter(|_| !builder.broken)?;
    let empty = built
        .node
        .as_scalar()
        .is_some_and(|scalar| scalar.text.is_empty() && scalar.style == Style::Plain);
    (!empty).then_some(built.node)
}

/// A finished node with its measure.
struct Built {
    node: Node,
    /// Levels below and including it.
    depth: usize,
    /// Nodes below and including it.
    count: usize,
}

struct Anchor {
    name: String,
    /// `None` while the anchored node is still open: an alias there would contain itself.
    built: Option<Built>,
}

enum Content {
    Sequence(Vec<Node>),
    Mapping {
        entries: Vec<Entry>,
        keys: HashMap<String, Span>,
        key: Option<Key>,
        merges: Vec<Node>,
    },
}

/// A collection that is still open.
struct Frame {
    start: usize,
    anchor: usize,
    depth: usize,
    count: usize,
    content: Content,
}

struct Builder<'a> {
    file: FileId,
    /// Offset of the document in its file.
    base: usize,
    diagnostics: &'a mut Diagnostics,
    frames: Vec<Frame>,
    root: Option<Built>,
    anchors: HashMap<usize, Anchor>,
    nodes: usize,
    copied: usize,
    /// Something was reported that leaves no tree, but lets the rest be checked.
    broken: bool,
}

impl Builder<'_> {
    fn event(&mut self, event: Event<'_>, at: &granit_parser::Span) -> Result<(), Diagnostic> {
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
                self.tag(tag.as_deref(), at, span);
                // The parser gives a value that was left out the text "~".
                let left_out = style == Style::Plain && span.start() == span.end();
                let scalar = Scalar {
                    text: if left_out {
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
                    Built {
                        node,
                        depth: 1,
                        count: 1,
                    },
                    anchor,
                )
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.tag(tag.as_deref(), at, span);
                self.open(span, anchor, Content::Sequence(Vec::new()))
            }
            Event::MappingStart(_, anchor, tag) => {
                self.tag(tag.as_deref(), at, span);
                let content = Content::Mapping {
                    entries: Vec::new(),
                    keys: HashMap::new(),
                    key: None,
                    merges: Vec::new(),
                };
                self.open(span, anchor, content)
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(span),
            Event::Anchor(id, name) => {
                // For a scalar the anchored node is finished already, for a collection it has just
                // been opened.
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

    /// Reports a tag that means nothing here; YAML's own are fine.
    fn tag(&mut self, tag: Option<&Tag>, at: &granit_parser::Span, node: Span) {
        let Some(tag) = tag else { return };
        let known = matches!(
            tag.core_suffix(),
            Some("str" | "int" | "float" | "bool" | "null" | "seq" | "map")
        );
        let non_specific = tag.handle().is_empty() && tag.suffix() == "!";
        if !(known || non_specific) {
            let span = at.tag_span().map_or(node, |tag_span| self.span(&tag_span));
            let message = format!("the tag {} has no meaning here", tag.original());
            self.diagnostics.push(
                Diagnostic::error(span, message)
                    .with_help("remove it, or put the text in quotes if it starts with '!'"),
            );
            self.broken = true;
        }
    }

    fn open(&mut self, span: Span, anchor: usize, content: Content) -> Result<(), Diagnostic> {
        if self.frames.len() >= MAX_DEPTH {
            return Err(yaml_error::too_deep(span, MAX_DEPTH));
        }
        self.frames.push(Frame {
            start: span.start(),
            anchor,
            depth: 0,
            count: 0,
            content,
        });
        Ok(())
    }

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
        // A flow collection ends with its bracket; a block ends with its last child, since the
        // parser only notices its end at the next token, lines below.
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
            Built {
                node,
                depth: frame.depth + 1,
                count: frame.count + 1,
            },
            frame.anchor,
        )
    }

    /// Adds what `<<` brings: the mapping's own keys win, then the earlier of the merged.
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
                    let message = "'<<' merges a mapping or a list of mappings";
                    self.diagnostics.push(
                        Diagnostic::error(span, message).with_help(
                            "write <<: *anchor, or quote the key if it is meant as a text",
                        ),
                    );
                    self.broken = true;
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
        let copy = Built {
            node: Node {
                alias: Some(span),
                ..built.node.clone()
            },
            depth: built.depth,
            count: built.count,
        };
        self.finish(copy, 0)
    }

    /// Puts a finished node where it belongs.
    fn finish(&mut self, built: Built, anchor: usize) -> Result<(), Diagnostic> {
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
            let copy = Built {
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
            self.root = Some(built);
            return Ok(());
        };
        frame.depth = frame.depth.max(built.depth);
        frame.count += built.count;
        let Built { node, .. } = built;
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
                        return Err(yaml_error::key_is_no_text(site));
                    };
                    let text = scalar.text.clone();
                    if let Some(first) = keys.get(&text) {
                        self.diagnostics
                            .push(yaml_error::duplicate_key(&text, site, *first));
                        self.broken = true;
                    } else {
                        keys.insert(text.clone(), site);
                    }
                    *key = Some(Key { text, span: site });
                }
            },
        }
        Ok(())
    }
}
