//! The files of a run, and positions in them.

use super::{Diagnostic, Place};
use sha2::{Digest, Sha256};
use std::fmt::Write as _;
use std::io::{self, Read};
use std::path::Path;

/// The largest file that is read: 16 MiB.
///
/// Suites have a few kilobytes and the manifests of a large cluster a few megabytes. The limit also
/// ends the reading of a device or an endless pipe.
pub const MAX_FILE_BYTES: u64 = 16 * 1024 * 1024;

/// Bytes between two stored counts of characters.
const BLOCK: usize = 1_024;

/// A file in [`Sources`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId(u32);

/// A byte range of a file: from `start` up to, not including, `end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    file: FileId,
    start: u32,
    end: u32,
}

impl Span {
    /// Creates a span; an `end` before `start` counts as `start`.
    pub fn new(file: FileId, start: usize, end: usize) -> Self {
        Self {
            file,
            start: saturating_offset(start),
            end: saturating_offset(end.max(start)),
        }
    }

    /// The file that it is in.
    pub fn file(self) -> FileId {
        self.file
    }

    /// Offset of the first byte.
    pub fn start(self) -> usize {
        self.start as usize
    }

    /// Offset after the last byte.
    pub fn end(self) -> usize {
        self.end as usize
    }

    /// The part of this span from `start` to `end`, counted from the start of this span.
    #[must_use]
    pub fn inside(self, start: usize, end: usize) -> Self {
        let limit = self.end();
        Self::new(
            self.file,
            (self.start() + start).min(limit),
            (self.start() + end).min(limit),
        )
    }
}

/// Files that were read, and files that could not be read, so that a diagnostic can name either by
/// its id.
#[derive(Debug, Default)]
pub struct Sources {
    files: Vec<SourceFile>,
}

#[derive(Debug)]
struct SourceFile {
    name: String,
    text: String,
    sha256: String,
    /// Byte offsets at which lines start.
    lines: Vec<u32>,
    /// Number of characters before each block of [`BLOCK`] bytes. They make it cheap to find a
    /// column in a line of megabytes.
    characters: Vec<u32>,
}

impl Sources {
    /// No files.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads a file, or standard input for `-`.
    ///
    /// # Errors
    /// A diagnostic: the file does not exist, is a folder, is too large, or is not UTF-8 (with the
    /// offset of the first invalid byte).
    pub fn read(&mut self, name: &str) -> Result<FileId, Diagnostic> {
        if name == "-" {
            if self.find(name).is_some() {
                // A second read would give an empty text: a suite without lines, or a cluster
                // without pods.
                return Err(self
                    .unreadable(name, "was read already")
                    .with_help("standard input can be the suite or the manifests, not both: write one to a file"));
            }
            return self.read_from(name, io::stdin().lock());
        }
        let path = Path::new(name);
        if path.is_dir() {
            return Err(self
                .unreadable(name, "is a folder")
                .with_help("name the files in it, for example with a glob: suites/*.yaml"));
        }
        match std::fs::File::open(path) {
            Ok(file) => self.read_from(name, file),
            Err(error) => {
                let diagnostic = self.unreadable(name, &describe(&error));
                Err(if error.kind() == io::ErrorKind::NotFound {
                    diagnostic.with_help("check the path; it is relative to the current folder")
                } else {
                    diagnostic
                })
            }
        }
    }

    /// Reads all bytes of `reader` as a file with this name.
    ///
    /// # Errors
    /// As [`Sources::read`].
    pub fn read_from(&mut self, name: &str, reader: impl Read) -> Result<FileId, Diagnostic> {
        let mut bytes = Vec::new();
        if let Err(error) = reader.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes) {
            return Err(self.unreadable(name, &describe(&error)));
        }
        if bytes.len() as u64 > MAX_FILE_BYTES {
            return Err(self.unreadable(
                name,
                &format!("is larger than {} MiB", MAX_FILE_BYTES / (1024 * 1024)),
            ));
        }
        self.add_bytes(name, bytes)
    }

    /// Adds bytes as a file with this name.
    ///
    /// # Errors
    /// A diagnostic at the first byte that is not UTF-8.
    pub fn add_bytes(&mut self, name: &str, bytes: Vec<u8>) -> Result<FileId, Diagnostic> {
        let sha256 = hex_digest(&bytes);
        match String::from_utf8(bytes) {
            Ok(text) => Ok(self.register(name, text, sha256)),
            Err(error) => {
                let at = error.utf8_error().valid_up_to();
                let byte = error.as_bytes().get(at).copied().unwrap_or_default();
                // The lossy text equals the bytes up to the first invalid one, so the offset is
                // valid in both.
                let file = self.register(
                    name,
                    String::from_utf8_lossy(error.as_bytes()).into_owned(),
                    sha256,
                );
                let help = if error.as_bytes().starts_with(&[0xff, 0xfe])
                    || error.as_bytes().starts_with(&[0xfe, 0xff])
                {
                    "the file looks like UTF-16: save it as UTF-8"
                } else {
                    "save the file as UTF-8"
                };
                Err(Diagnostic::error(
                    Span::new(file, at, at + 3),
                    format!("{name} is not UTF-8: byte 0x{byte:02x} at offset {at}"),
                )
                .with_help(help))
            }
        }
    }

    /// Adds a text as a file with this name, such as a line from the command line.
    pub fn add(&mut self, name: &str, text: impl Into<String>) -> FileId {
        let text = text.into();
        let sha256 = hex_digest(text.as_bytes());
        self.register(name, text, sha256)
    }

    /// The file with a name, as it was given.
    pub fn find(&self, name: &str) -> Option<FileId> {
        self.files
            .iter()
            .position(|file| file.name == name)
            .map(|index| FileId(index as u32))
    }

    /// The file's name as it was given.
    pub fn name(&self, file: FileId) -> &str {
        &self.file(file).name
    }

    /// The whole text; empty for a file that could not be read.
    pub fn text(&self, file: FileId) -> &str {
        &self.file(file).text
    }

    /// SHA-256 of the file's bytes, hexadecimal.
    pub fn sha256(&self, file: FileId) -> &str {
        &self.file(file).sha256
    }

    /// The text of a span.
    pub fn slice(&self, span: Span) -> &str {
        self.text(span.file)
            .get(span.start()..span.end())
            .unwrap_or_default()
    }

    /// The line and column at which a span starts.
    pub fn place(&self, span: Span) -> Place {
        let file = self.file(span.file);
        let line = self.line_index(span.file, span.start());
        let line_start = file.lines[line] as usize;
        // Editors do not count a byte order mark as a column.
        let byte_order_mark =
            usize::from(line == 0 && span.start() > 0 && file.text.starts_with('\u{feff}'));
        let column = file.characters_before(span.start())
            - file.characters_before(line_start)
            - byte_order_mark;
        Place {
            file: file.name.clone(),
            line: line as u32 + 1,
            column: column as u32 + 1,
        }
    }

    /// The span from a place to the end of its line; `None` for a file or line that is not there.
    pub fn rest_of_line(&self, place: &Place) -> Option<Span> {
        let file = self.find(&place.file)?;
        let line = (place.line as usize).checked_sub(1)?;
        if line >= self.line_count(file) {
            return None;
        }

        let range = self.line_range(file, line);
        let text = self.text(file)[range.clone()].trim_end();
        let column = text
            .char_indices()
            .nth((place.column as usize).saturating_sub(1))
            .map_or(text.len(), |(at, _)| at);
        Some(Span::new(
            file,
            range.start + column,
            range.start + text.len(),
        ))
    }

    /// The index of the line, from 0, that contains a byte.
    pub(super) fn line_index(&self, file: FileId, offset: usize) -> usize {
        self.file(file)
            .lines
            .partition_point(|start| *start as usize <= offset)
            .saturating_sub(1)
    }

    /// The bytes of a line, from 0, without its line break.
    pub(super) fn line_range(&self, file: FileId, line: usize) -> std::ops::Range<usize> {
        let source = self.file(file);
        let start = source.lines[line] as usize;
        let end = source
            .lines
            .get(line + 1)
            .map_or(source.text.len(), |next| *next as usize);
        let content = source.text[start..end].trim_end_matches(LINE_BREAKS);
        start..start + content.len()
    }

    /// The number of lines of a file, at least one.
    pub(super) fn line_count(&self, file: FileId) -> usize {
        self.file(file).lines.len()
    }

    fn file(&self, file: FileId) -> &SourceFile {
        // Only `register` creates ids, and files are never removed.
        &self.files[file.0 as usize]
    }

    fn unreadable(&mut self, name: &str, reason: &str) -> Diagnostic {
        let file = self.add(name, "");
        let shown = if name == "-" { "standard input" } else { name };
        Diagnostic::error(
            Span::new(file, 0, 0),
            format!("cannot read {shown}: it {reason}"),
        )
    }

    fn register(&mut self, name: &str, text: String, sha256: String) -> FileId {
        let id = FileId(self.files.len() as u32);
        let mut line_starts = vec![0];
        let mut offset = 0;
        for line in lines(&text) {
            offset += line.len();
            if line.ends_with(LINE_BREAKS) {
                line_starts.push(offset as u32);
            }
        }
        let mut count = 0;
        let mut characters = Vec::with_capacity(text.len() / BLOCK + 2);
        for block in text.as_bytes().chunks(BLOCK) {
            characters.push(count);
            count += count_characters(block) as u32;
        }

        // The offset of the text's end may belong to a block after the last.
        characters.push(count);
        self.files.push(SourceFile {
            name: name.to_owned(),
            text,
            sha256,
            lines: line_starts,
            characters,
        });
        id
    }
}

impl SourceFile {
    fn characters_before(&self, offset: usize) -> usize {
        let offset = offset.min(self.text.len());
        let before = self.characters[offset / BLOCK];
        before as usize + count_characters(&self.text.as_bytes()[offset / BLOCK * BLOCK..offset])
    }
}

/// The characters that end a line.
pub(super) const LINE_BREAKS: [char; 2] = ['\n', '\r'];

/// The lines of a text, each with what ends it: a line feed, a carriage return, or the two together
/// (YAML 1.2.2, rule 28, b-break).
pub(super) fn lines(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let bytes = rest.as_bytes();
        let length = match bytes.iter().position(|byte| matches!(byte, b'\n' | b'\r')) {
            Some(at) if rest[at..].starts_with("\r\n") => at + 2,
            Some(at) => at + 1,
            None => rest.len(),
        };
        let (line, after) = rest.split_at(length);
        rest = after;
        (!line.is_empty()).then_some(line)
    })
}

fn saturating_offset(offset: usize) -> u32 {
    // MAX_FILE_BYTES is far below 4 GiB, so no offset in a file saturates.
    u32::try_from(offset).unwrap_or(u32::MAX)
}

/// The number of characters that start in these bytes of UTF-8.
fn count_characters(bytes: &[u8]) -> usize {
    bytes
        .iter()
        .filter(|byte| **byte & 0b1100_0000 != 0b1000_0000)
        .count()
}

/// The end of the message "cannot read x: it ..." for an IO error.
fn describe(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "does not exist".to_owned(),
        io::ErrorKind::PermissionDenied => "cannot be read by this user".to_owned(),
        io::ErrorKind::IsADirectory => "is a folder".to_owned(),
        _ => format!("failed to be read ({error})"),
    }
}

fn hex_digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .fold(String::new(), |mut hex, byte| {
            let _infallible = write!(hex, "{byte:02x}");
            hex
        })
}
