//! Who may talk to whom, on one page: sources down, targets across, a sign for each check.

use super::screen::{Ink, Pen};
use crate::event::{CheckResult, Expected, Outcome};
use crate::report::text::{counted, cut, say, width};
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

/// Columns between two cells.
const GAP: usize = 2;
/// The widest label of a source or target before it is cut.
const LABEL: usize = 32;
/// The least that must remain readable of a target's name where headers stand as a stair.
const LEAST_HEADER: usize = 14;
/// With more cells than this, rows and columns in which everything is proven are left out.
const PAGE: usize = 900;

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

    fn holds(self) -> bool {
        match self {
            Self::Allowed | Self::Denied => true,
            Self::Violated | Self::Unproven => false,
        }
    }
}

/// What the signs mean.
pub(super) fn legend(pen: Pen) -> String {
    let entries = [
        (Mark::Allowed, "allowed"),
        (Mark::Denied, "denied"),
        (Mark::Violated, "violated"),
        (Mark::Unproven, "unproven"),
    ];
    let shown: Vec<String> = entries
        .iter()
        .map(|(mark, meaning)| format!("{} {meaning}", mark.inked(pen)))
        .collect();
    format!(
        "  {}   {}\n",
        shown.join("   "),
        pen.inked(Ink::Faint, "blank: not in the suite")
    )
}

/// The results of one suite as a table.
pub(super) struct Matrix {
    sources: Vec<String>,
    targets: Vec<String>,
    cells: BTreeMap<(usize, usize), Vec<Mark>>,
    left_out: Option<String>,
}

impl Matrix {
    /// Sources and targets in order of their first check.
    pub(super) fn of<'a>(
        results: impl Iterator<Item = &'a CheckResult>,
        pen: Pen,
        verbose: bool,
    ) -> Self {
        let (mut rows, mut columns) = (HashMap::new(), HashMap::new());
        let (mut sources, mut targets) = (Vec::new(), Vec::new());
        let mut cells: BTreeMap<_, Vec<Mark>> = BTreeMap::new();
        for result in results {
            let row = place(&mut rows, &mut sources, &result.check.source, pen);
            let column = place(&mut columns, &mut targets, &result.check.target, pen);
            cells
                .entry((row, column))
                .or_default()
                .push(Mark::of(result));
        }
        let this = Self {
            sources,
            targets,
            cells,
            left_out: None,
        };
        if verbose || this.sources.len() * this.targets.len() <= PAGE {
            this
        } else {
            this.without_proven()
        }
    }

    /// Only the rows and columns in which something does not hold.
    fn without_proven(self) -> Self {
        let telling: Vec<(usize, usize)> = self
            .cells
            .iter()
            .filter(|(_, marks)| !marks.iter().all(|mark| mark.holds()))
            .map(|(place, _)| *place)
            .collect();
        let kept = |of: fn(&(usize, usize)) -> usize| {
            let mut kept: Vec<usize> = telling.iter().map(of).collect();
            kept.sort_unstable();
            kept.dedup();
            kept
        };
        let (rows, columns) = (kept(|place| place.0), kept(|place| place.1));
        let renumbered = |old: &[usize], index: usize| old.binary_search(&index).ok();
        let cells = self
            .cells
            .into_iter()
            .filter_map(|((row, column), marks)| {
                Some((
                    (renumbered(&rows, row)?, renumbered(&columns, column)?),
                    marks,
                ))
            })
            .collect();
        let left_out = format!(
            "left out, as everything there is as expected: {} and {} (-v shows them)",
            counted(self.sources.len() - rows.len(), "source"),
            counted(self.targets.len() - columns.len(), "target"),
        );
        let pick = |from: &[String], kept: &[usize]| {
            kept.iter().map(|index| from[*index].clone()).collect()
        };
        Self {
            sources: pick(&self.sources, &rows),
            targets: pick(&self.targets, &columns),
            cells,
            left_out: Some(left_out),
        }
    }

    /// The table, as wide as the screen allows: names over their columns, else as a stair, else as
    /// lists.
    pub(super) fn draw(&self, pen: Pen) -> String {
        let label = self
            .sources
            .iter()
            .map(|source| width(source))
            .max()
            .unwrap_or(0);
        let left = 2 + label + GAP;
        let cell = self.cells.values().map(Vec::len).max().unwrap_or(1);
        let mut out = String::new();
        let columns: Vec<usize> = self
            .targets
            .iter()
            .map(|target| width(target).max(cell))
            .collect();
        let all: Vec<usize> = (0..self.targets.len()).collect();
        if left + columns.iter().map(|column| column + GAP).sum::<usize>() <= pen.width + GAP {
            self.level(pen, left, &columns, &mut out);
        } else {
            let step = (cell + GAP).max(3);
            let room = pen.width.saturating_sub(left + GAP + LEAST_HEADER);
            let most = room / step + 1;
            if room < step * 2 {
                self.lists(pen, &mut out);
            } else {
                for (number, block) in all.chunks(most).enumerate() {
                    if number > 0 {
                        out.push('\n');
                    }
                    self.stair(pen, left, step, block, &mut out);
                }
            }
        }
        if let Some(left_out) = &self.left_out {
            say!(out, "  {}", pen.inked(Ink::Faint, left_out));
        }
        out
    }

    /// Names over their columns, signs under their middle.
    fn level(&self, pen: Pen, left: usize, columns: &[usize], out: &mut String) {
        let mut line = Line::new();
        let (mut x, mut places) = (left, Vec::new());
        for (target, column) in self.targets.iter().zip(columns) {
            line.put(x, target, &pen.inked(Ink::Faint, target));
            places.push(x + column.saturating_sub(1) / 2);
            x += column + GAP;
        }
        line.end(out);
        let all: Vec<usize> = (0..self.targets.len()).collect();
        self.rows(pen, &all, &places, out);
    }

    /// One name a line, each with a line down to its column.
    fn stair(&self, pen: Pen, left: usize, step: usize, block: &[usize], out: &mut String) {
        let places: Vec<usize> = (0..block.len())
            .map(|number| left + number * step)
            .collect();
        let (corner, post) = (pen.sign("┌ ", ", "), pen.sign("│", "|"));
        for (number, target) in block.iter().enumerate() {
            let mut line = Line::new();
            for place in &places[..number] {
                line.put(*place, post, &pen.inked(Ink::Faint, post));
            }
            let room = pen.width.saturating_sub(places[number] + 2);
            let name = cut(&self.targets[*target], room, pen.unicode);
            let header = format!("{corner}{name}");
            line.put(places[number], &header, &pen.inked(Ink::Faint, &header));
            line.end(out);
        }
        self.rows(pen, block, &places, out);
    }

    fn rows(&self, pen: Pen, block: &[usize], places: &[usize], out: &mut String) {
        for (row, source) in self.sources.iter().enumerate() {
            let mut line = Line::new();
            line.put(2, source, source);
            for (column, place) in block.iter().zip(places) {
                if let Some(marks) = self.cells.get(&(row, *column)) {
                    let plain: String = marks.iter().map(|mark| mark.sign(pen)).collect();
                    let inked: String = marks.iter().map(|mark| mark.inked(pen)).collect();
                    line.put(*place, &plain, &inked);
                }
            }
            line.end(out);
        }
    }

    /// For a narrow screen: each source, and under it what it reaches.
    fn lists(&self, pen: Pen, out: &mut String) {
        for (row, source) in self.sources.iter().enumerate() {
            say!(out, "  {}", pen.inked(Ink::Strong, source));
            for ((_, column), marks) in self.cells.range((row, 0)..(row + 1, 0)) {
                let inked: String = marks.iter().map(|mark| mark.inked(pen)).collect();
                say!(out, "    {inked} {}", self.targets[*column]);
            }
        }
    }
}

fn place<'a>(
    known: &mut HashMap<&'a str, usize>,
    names: &mut Vec<String>,
    name: &'a str,
    pen: Pen,
) -> usize {
    *known.entry(name).or_insert_with(|| {
        let shown = pen.text(name);
        names.push(match cut(&shown, LABEL, pen.unicode) {
            Cow::Borrowed(_) => shown,
            Cow::Owned(short) => short,
        });
        names.len() - 1
    })
}

/// A line into which things are put from left to right.
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

    /// Puts something at a column; `plain` is what of it takes room.
    fn put(&mut self, at: usize, plain: &str, inked: &str) {
        let gap = at.saturating_sub(self.columns);
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
        let of = |(number, (source, target, mark)): (usize, &(&str, &str, Mark))| {
            let check = |expected| fixtures::check(number, "s", 1, source, target, expected);
            match mark {
                Mark::Allowed => fixtures::proven(&check(Expected::Allowed)),
                Mark::Denied => fixtures::proven(&check(Expected::Denied)),
                Mark::Violated => fixtures::violated(&check(Expected::Denied)),
                Mark::Unproven => fixtures::unproven(&check(Expected::Denied)),
            }
        };
        cells.iter().enumerate().map(of).collect()
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
    fn names_stand_over_their_columns() {
        let expected = "            \
            api:8080  postgres:5432  https://payment/health  metadata:80\n\
            \u{20} web-tier     ●            ✗                                     ○\n\
            \u{20} api                       ●                  ●                  ?\n";
        assert_eq!(drawn(&shop(), WIDE), expected);
    }

    #[test]
    fn a_narrower_screen_gets_a_stair() {
        let expected = "            ┌ api:8080\n\
            \u{20}           │  ┌ postgres:5432\n\
            \u{20}           │  │  ┌ https://payment/health\n\
            \u{20}           │  │  │  ┌ metadata:80\n\
            \u{20} web-tier  ●  ✗     ○\n\
            \u{20} api          ●  ●  ?\n";
        assert_eq!(drawn(&shop(), Pen { width: 60, ..WIDE }), expected);
    }

    #[test]
    fn a_stair_too_long_for_the_screen_is_broken_into_blocks() {
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
    fn a_narrow_screen_gets_lists() {
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
    fn checks_of_one_cell_stand_side_by_side() {
        let results = results(&[
            ("a", "b:1", Mark::Allowed),
            ("a", "b:1", Mark::Violated),
            ("c", "b:1", Mark::Denied),
        ]);
        assert_eq!(drawn(&results, WIDE), "     b:1\n  a   ●✗\n  c   ○\n");
    }

    #[test]
    fn a_large_matrix_shows_what_does_not_hold() {
        let events = fixtures::many(10_000);
        let Some(crate::event::RunEvent::Finished { results, .. }) = events.last() else {
            panic!()
        };
        let drawn = drawn(results, WIDE);
        assert_eq!(
            drawn.lines().count(),
            102,
            "a header, a row for each source, a word on the rest"
        );
        assert!(
            drawn.ends_with("left out, as everything there is as expected: 0 sources and 99 targets (-v shows them)\n")
        );
        let whole = Matrix::of(results.iter(), WIDE, true).draw(WIDE);
        assert!(whole.contains("target-99:443"));
    }

    #[test]
    fn signs_are_told_apart_without_colour() {
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
