//! The matrix of a suite: sources down, targets across, a sign for each check.

use super::screen::{Ink, Pen};
use crate::event::{CheckResult, Expected, Outcome};
use crate::report::text::{add_line, counted, truncated, width};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Columns between two cells.
const GAP: usize = 2;
/// The greatest width of a source's or target's name, in columns: a longer one is truncated.
const MAX_NAME: usize = 32;
/// The least width of a target's name in a staircase of headers, in columns.
const MIN_HEADER: usize = 14;
/// With more cells than this, rows and columns in which everything is proven are left out.
const MAX_CELLS: usize = 900;

/// The sign of one check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Mark {
    Violated,
    Unproven,
    Allowed,
    Denied,
}

impl Mark {
    pub(super) fn of(result: &CheckResult) -> Self {
        match (result.verdict, result.check.expected) {
            (Outcome::Violated, Expected::Allowed | Expected::Denied) => Self::Violated,
            (Outcome::Unproven, Expected::Allowed | Expected::Denied) => Self::Unproven,
            (Outcome::Proven, Expected::Allowed) => Self::Allowed,
            (Outcome::Proven, Expected::Denied) => Self::Denied,
        }
    }

    pub(super) fn sign(self, pen: Pen) -> &'static str {
        match self {
            Self::Violated => pen.sign("✗", "X"),
            Self::Unproven => "?",
            Self::Allowed => pen.sign("●", "+"),
            Self::Denied => pen.sign("○", "-"),
        }
    }

    pub(super) fn inked(self, pen: Pen) -> String {
        let ink = match self {
            Self::Violated => Ink::Violated,
            Self::Unproven => Ink::Unproven,
            Self::Allowed | Self::Denied => Ink::Proven,
        };
        pen.inked(ink, self.sign(pen))
    }

    fn is_proven(self) -> bool {
        match self {
            Self::Allowed | Self::Denied => true,
            Self::Violated | Self::Unproven => false,
        }
    }
}

/// The meaning of the signs.
pub(super) fn legend(pen: Pen) -> String {
    let entries = [
        (Mark::Allowed, "allowed"),
        (Mark::Denied, "denied"),
        (Mark::Violated, "violated"),
        (Mark::Unproven, "unproven"),
    ];
    let meanings: Vec<String> = entries
        .iter()
        .map(|(mark, meaning)| format!("{} {meaning}", mark.inked(pen)))
        .collect();
    format!(
        "  {}   {}\n",
        meanings.join("   "),
        pen.inked(Ink::Faint, "blank: not in the suite")
    )
}

/// The results of one suite as a table.
pub(super) struct Matrix {
    sources: Vec<String>,
    targets: Vec<String>,
    /// The marks of the checks between a source and a target, by row and column.
    cells: BTreeMap<(usize, usize), Vec<Mark>>,
    /// Says which rows and columns are left out, if any are.
    left_out: Option<String>,
}

impl Matrix {
    /// The matrix of these results, with sources and targets in the order of their first check.
    pub(super) fn of<'a>(
        results: impl Iterator<Item = &'a CheckResult>,
        pen: Pen,
        verbose: bool,
    ) -> Self {
        let mut sources = Names::default();
        let mut targets = Names::default();
        let mut cells: BTreeMap<_, Vec<Mark>> = BTreeMap::new();
        for result in results {
            let row = sources.index(&result.check.source, pen);
            let column = targets.index(&result.check.target, pen);
            cells
                .entry((row, column))
                .or_default()
                .push(Mark::of(result));
        }

        let matrix = Self {
            sources: sources.shown,
            targets: targets.shown,
            cells,
            left_out: None,
        };
        if verbose || matrix.sources.len() * matrix.targets.len() <= MAX_CELLS {
            matrix
        } else {
            matrix.without_proven()
        }
    }

    /// The matrix without the rows and columns in which everything is proven.
    fn without_proven(self) -> Self {
        let (mut rows, mut columns) = (BTreeSet::new(), BTreeSet::new());
        for ((row, column), marks) in &self.cells {
            if !marks.iter().all(|mark| mark.is_proven()) {
                rows.insert(*row);
                columns.insert(*column);
            }
        }

        let new_row = renumbered(&rows);
        let new_column = renumbered(&columns);
        let cells = self
            .cells
            .into_iter()
            .filter_map(|((row, column), marks)| {
                Some(((*new_row.get(&row)?, *new_column.get(&column)?), marks))
            })
            .collect();

        let left_out = format!(
            "left out, as everything there is as expected: {} and {} (-v shows them)",
            counted(self.sources.len() - rows.len(), "source"),
            counted(self.targets.len() - columns.len(), "target"),
        );
        Self {
            sources: selected(&self.sources, &rows),
            targets: selected(&self.targets, &columns),
            cells,
            left_out: Some(left_out),
        }
    }

    /// The table in the width of the screen: names above their columns, or as a staircase, or as
    /// lists.
    pub(super) fn draw(&self, pen: Pen) -> String {
        let longest_source = self.sources.iter().map(|source| width(source)).max();
        let left = 2 + longest_source.unwrap_or(0) + GAP;
        let cell = self.cells.values().map(Vec::len).max().unwrap_or(1);
        let columns: Vec<usize> = self
            .targets
            .iter()
            .map(|target| width(target).max(cell))
            .collect();
        let level_width = left + columns.iter().map(|column| column + GAP).sum::<usize>();
        let step = (cell + GAP).max(3);
        let stair_room = pen.width.saturating_sub(left + GAP + MIN_HEADER);

        let mut out = String::new();
        if level_width <= pen.width + GAP {
            self.draw_level(pen, left, &columns, &mut out);
        } else if stair_room < step * 2 {
            self.draw_lists(pen, &mut out);
        } else {
            self.draw_stairs(pen, left, step, stair_room / step + 1, &mut out);
        }
        if let Some(left_out) = &self.left_out {
            add_line!(out, "  {}", pen.inked(Ink::Faint, left_out));
        }
        out
    }

    /// Draws names above their columns, signs below the middle of a name.
    fn draw_level(&self, pen: Pen, left: usize, widths: &[usize], out: &mut String) {
        let mut line = Line::new();
        let (mut start, mut positions) = (left, Vec::new());
        for (target, width) in self.targets.iter().zip(widths) {
            line.put(start, target, &pen.inked(Ink::Faint, target));
            positions.push(start + width.saturating_sub(1) / 2);
            start += width + GAP;
        }
        line.end(out);

        let all: Vec<usize> = (0..self.targets.len()).collect();
        self.draw_rows(pen, &all, &positions, out);
    }

    /// Draws the targets in blocks of at most `max_columns`, each under a staircase of names.
    fn draw_stairs(
        &self,
        pen: Pen,
        left: usize,
        step: usize,
        max_columns: usize,
        out: &mut String,
    ) {
        let all: Vec<usize> = (0..self.targets.len()).collect();
        for (number, block) in all.chunks(max_columns).enumerate() {
            if number > 0 {
                out.push('\n');
            }
            self.draw_stair(pen, left, step, block, out);
        }
    }

    /// Draws one name a line, each with a line down to its column.
    fn draw_stair(&self, pen: Pen, left: usize, step: usize, block: &[usize], out: &mut String) {
        let positions: Vec<usize> = (0..block.len())
            .map(|number| left + number * step)
            .collect();
        let (corner, post) = (pen.sign("┌ ", ", "), pen.sign("│", "|"));
        for (number, target) in block.iter().enumerate() {
            let mut line = Line::new();
            for position in &positions[..number] {
                line.put(*position, post, &pen.inked(Ink::Faint, post));
            }

            let room = pen.width.saturating_sub(positions[number] + 2);
            let name = truncated(&self.targets[*target], room, pen.unicode);
            let header = format!("{corner}{name}");
            line.put(positions[number], &header, &pen.inked(Ink::Faint, &header));
            line.end(out);
        }
        self.draw_rows(pen, block, &positions, out);
    }

    /// Draws each source with its signs at the positions of these columns.
    fn draw_rows(&self, pen: Pen, columns: &[usize], positions: &[usize], out: &mut String) {
        for (row, source) in self.sources.iter().enumerate() {
            let mut line = Line::new();
            line.put(2, source, source);
            for (column, position) in columns.iter().zip(positions) {
                if let Some(marks) = self.cells.get(&(row, *column)) {
                    let plain: String = marks.iter().map(|mark| mark.sign(pen)).collect();
                    let inked: String = marks.iter().map(|mark| mark.inked(pen)).collect();
                    line.put(*position, &plain, &inked);
                }
            }
            line.end(out);
        }
    }

    /// Draws each source, and below it the targets of its checks: for a narrow screen.
    fn draw_lists(&self, pen: Pen, out: &mut String) {
        for (row, source) in self.sources.iter().enumerate() {
            add_line!(out, "  {}", pen.inked(Ink::Strong, source));
            for ((_, column), marks) in self.cells.range((row, 0)..(row + 1, 0)) {
                let inked: String = marks.iter().map(|mark| mark.inked(pen)).collect();
                add_line!(out, "    {inked} {}", self.targets[*column]);
            }
        }
    }
}

/// New indexes, from 0, of the indexes that are kept.
fn renumbered(kept: &BTreeSet<usize>) -> HashMap<usize, usize> {
    kept.iter()
        .enumerate()
        .map(|(new, old)| (*old, new))
        .collect()
}

fn selected(names: &[String], kept: &BTreeSet<usize>) -> Vec<String> {
    kept.iter().map(|index| names[*index].clone()).collect()
}

/// Names of rows or columns, in the order of their first use.
#[derive(Default)]
struct Names<'a> {
    indexes: HashMap<&'a str, usize>,
    /// The names as the screen shows them.
    shown: Vec<String>,
}

impl<'a> Names<'a> {
    /// The index of a name, which is added where it is new.
    fn index(&mut self, name: &'a str, pen: Pen) -> usize {
        if let Some(index) = self.indexes.get(name) {
            return *index;
        }
        let index = self.shown.len();
        let escaped = pen.text(name);
        self.shown
            .push(truncated(&escaped, MAX_NAME, pen.unicode).into_owned());
        self.indexes.insert(name, index);
        index
    }
}

/// A line that is filled from left to right.
struct Line {
    text: String,
    columns: usize,
}

impl Line {
    fn new() -> Self {
        Self {
            text: String::new(),
            columns: 0,
        }
    }

    /// Adds text at a column; `plain` is the same text without colour.
    fn put(&mut self, column: usize, plain: &str, inked: &str) {
        let gap = column.saturating_sub(self.columns);
        self.text.extend(std::iter::repeat_n(' ', gap));
        self.text.push_str(inked);
        self.columns += gap + width(plain);
    }

    fn end(self, out: &mut String) {
        out.push_str(self.text.trim_end());
        out.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixtures;

    const WIDE: Pen = Pen {
        width: 100,
        colour: false,
        unicode: true,
    };

    fn drawn(results: &[CheckResult], pen: Pen) -> String {
        Matrix::of(results.iter(), pen, false).draw(pen)
    }

    fn results(cells: &[(&str, &str, Mark)]) -> Vec<CheckResult> {
        cells
            .iter()
            .enumerate()
            .map(|(number, (source, target, mark))| result(number, source, target, *mark))
            .collect()
    }

    fn result(number: usize, source: &str, target: &str, mark: Mark) -> CheckResult {
        let expected = match mark {
            Mark::Allowed => Expected::Allowed,
            Mark::Denied | Mark::Violated | Mark::Unproven => Expected::Denied,
        };
        let check = fixtures::check(number, "s", 1, source, target, expected);
        match mark {
            Mark::Allowed | Mark::Denied => fixtures::proven(&check),
            Mark::Violated => fixtures::violated(&check),
            Mark::Unproven => fixtures::unproven(&check),
        }
    }

    fn shop() -> Vec<CheckResult> {
        results(&[
            ("web-tier", "api:8080", Mark::Allowed),
            ("web-tier", "postgres:5432", Mark::Violated),
            ("api", "postgres:5432", Mark::Allowed),
            ("api", "https://payment/health", Mark::Allowed),
            ("api", "metadata:80", Mark::Unproven),
            ("web-tier", "metadata:80", Mark::Denied),
        ])
    }

    #[test]
    fn names_are_above_their_columns() {
        let expected = "            \
            api:8080  postgres:5432  https://payment/health  metadata:80\n\
            \u{20} web-tier     ●            ✗                                     ○\n\
            \u{20} api                       ●                  ●                  ?\n";
        assert_eq!(drawn(&shop(), WIDE), expected);
    }

    #[test]
    fn narrower_screen_gets_a_staircase() {
        let expected = "            ┌ api:8080\n\
            \u{20}           │  ┌ postgres:5432\n\
            \u{20}           │  │  ┌ https://payment/health\n\
            \u{20}           │  │  │  ┌ metadata:80\n\
            \u{20} web-tier  ●  ✗     ○\n\
            \u{20} api          ●  ●  ?\n";
        assert_eq!(drawn(&shop(), Pen { width: 60, ..WIDE }), expected);
    }

    #[test]
    fn staircase_too_long_for_the_screen_is_split_into_blocks() {
        let drawn = drawn(
            &shop(),
            Pen {
                width: 36,
                unicode: false,
                ..WIDE
            },
        );
        let expected = "            , api:8080\n\
            \u{20}           |  , postgres:5432\n\
            \u{20}           |  |  , https://payme...\n\
            \u{20} web-tier  +  X\n\
            \u{20} api          +  +\n\
            \n\
            \u{20}           , metadata:80\n\
            \u{20} web-tier  -\n\
            \u{20} api       ?\n";
        assert_eq!(drawn, expected);
        assert!(drawn.lines().all(|line| width(line) <= 36));
    }

    #[test]
    fn narrow_screen_gets_lists() {
        let expected = "  web-tier\n    + api:8080\n    X postgres:5432\n    - metadata:80\n  api\n    + postgres:5432\n    + https://payment/health\n    ? metadata:80\n";
        assert_eq!(
            drawn(
                &shop(),
                Pen {
                    width: 24,
                    unicode: false,
                    ..WIDE
                }
            ),
            expected
        );
    }

    #[test]
    fn checks_of_one_cell_are_side_by_side() {
        let results = results(&[
            ("a", "b:1", Mark::Allowed),
            ("a", "b:1", Mark::Violated),
            ("c", "b:1", Mark::Denied),
        ]);
        assert_eq!(drawn(&results, WIDE), "     b:1\n  a   ●✗\n  c   ○\n");
    }

    #[test]
    fn large_matrix_shows_only_what_is_not_proven() {
        let events = fixtures::many(10_000);
        let Some(crate::event::RunEvent::Finished { results, .. }) = events.last() else {
            panic!()
        };
        let drawn = drawn(results, WIDE);
        assert_eq!(
            drawn.lines().count(),
            102,
            "a header, a row for each source, a line on what is left out"
        );
        assert!(
            drawn.ends_with("left out, as everything there is as expected: 0 sources and 99 targets (-v shows them)\n")
        );
        let verbose = Matrix::of(results.iter(), WIDE, true).draw(WIDE);
        assert!(verbose.contains("target-99:443"));
    }

    #[test]
    fn signs_differ_without_colour() {
        for unicode in [true, false] {
            let pen = Pen { unicode, ..WIDE };
            let mut signs = [Mark::Allowed, Mark::Denied, Mark::Violated, Mark::Unproven]
                .map(|mark| mark.sign(pen))
                .to_vec();
            signs.sort_unstable();
            signs.dedup();
            assert_eq!(signs.len(), 4);
        }
        assert_eq!(
            legend(Pen {
                unicode: false,
                ..WIDE
            }),
            "  + allowed   - denied   X violated   ? unproven   blank: not in the suite\n"
        );
    }
}
