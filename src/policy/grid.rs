//! The ports between two lists of pod classes, row by row: memory follows the classes, not the
//! pairs.

use super::classes::ClassIndex;
use super::ports::SetId;
use super::reachability::{Answer, Reachability, Row, Rows, View};
use super::rules::Direction;
use crate::model::Family;

/// Rows are calculated for so many sources at a time: what the destinations allow is kept for these
/// alone, at four bytes for each source, destination, family and view.
const CHUNK: usize = 256;

/// The answers from every source class to every destination class.
pub(super) struct Grid {
    /// The sources; `None` for one that does not exist, which reaches nothing.
    from: Vec<Option<ClassIndex>>,
    /// The destinations; `None` for one that does not exist.
    to: Vec<Option<ClassIndex>>,
    /// The number of rows so far.
    next: usize,
    chunk: Option<Chunk>,
}

/// What a chunk of sources shares.
struct Chunk {
    /// Rows whose columns are the sources of the chunk.
    sources: Rows,
    /// Rows whose columns are the destinations.
    egress: Rows,
    /// The place of each destination in the rows of `egress`.
    columns: Vec<Option<usize>>,
    /// For each question, what each destination allows from the sources.
    ingress: Vec<Vec<Option<Row>>>,
}

/// A family and a view that are calculated.
type Question = (View, Family);

impl Grid {
    pub(super) fn new(from: Vec<Option<ClassIndex>>, to: Vec<Option<ClassIndex>>) -> Self {
        Self {
            from,
            to,
            next: 0,
            chunk: None,
        }
    }

    /// The answers from the next source to every destination, by family; `None` after the last.
    pub(super) fn next_row(
        &mut self,
        reachability: &mut Reachability<'_>,
    ) -> Option<Vec<[Answer; 2]>> {
        let from = *self.from.get(self.next)?;
        let questions = questions(reachability);
        if self.next.is_multiple_of(CHUNK) {
            self.chunk = None;
        }
        self.next += 1;
        let Some(from) = from else {
            return Some(vec![[Answer::NOTHING; 2]; self.to.len()]);
        };

        let start = (self.next - 1) / CHUNK * CHUNK;
        let end = self.from.len().min(start + CHUNK);
        let sources = &self.from[start..end];
        let chunk = self
            .chunk
            .get_or_insert_with(|| Chunk::new(reachability, sources, &self.to, &questions));
        Some(chunk.row(reachability, from, &questions))
    }
}

/// Every question, the views of one family after each other.
fn questions(reachability: &Reachability<'_>) -> Vec<Question> {
    let views = reachability.views();
    let families = reachability.families().iter();
    families
        .flat_map(|family| views.iter().map(move |view| (*view, *family)))
        .collect()
}

impl Chunk {
    fn new(
        reachability: &mut Reachability<'_>,
        sources: &[Option<ClassIndex>],
        to: &[Option<ClassIndex>],
        questions: &[Question],
    ) -> Self {
        let mut sources = Rows::of(sources.iter().copied().flatten().collect());
        let egress = Rows::of(to.iter().copied().flatten().collect());
        let mut ingress = Vec::new();
        for question in questions {
            let rows = to.iter().map(|to| {
                let to = (*to)?;
                Some(reachability.row(&mut sources, *question, Direction::Ingress, to))
            });
            ingress.push(rows.collect());
        }
        Self {
            columns: to.iter().map(|to| egress.column((*to)?)).collect(),
            sources,
            egress,
            ingress,
        }
    }

    fn row(
        &mut self,
        reachability: &mut Reachability<'_>,
        from: ClassIndex,
        questions: &[Question],
    ) -> Vec<[Answer; 2]> {
        let mut egress = Vec::new();
        for question in questions {
            let row = reachability.row(&mut self.egress, *question, Direction::Egress, from);
            egress.push(row);
        }
        let source = self.sources.column(from);

        let views = reachability.views().len();
        let mut sets: Vec<SetId> = Vec::with_capacity(questions.len());
        let mut answers = Vec::with_capacity(self.columns.len());
        for (to, column) in self.columns.iter().enumerate() {
            sets.clear();
            for (ingress, egress) in self.ingress.iter().zip(&egress) {
                let set = match (&ingress[to], source, column) {
                    (Some(ingress), Some(source), Some(column)) => reachability
                        .sets
                        .intersection(egress[*column], ingress[source]),
                    _ => SetId::NONE,
                };
                sets.push(set);
            }
            answers.push(answers_of(reachability, &sets, views));
        }
        answers
    }
}

/// The answers by family of one pair, whose sets are in the order of the questions.
fn answers_of(reachability: &mut Reachability<'_>, sets: &[SetId], views: usize) -> [Answer; 2] {
    let mut by_family = sets
        .chunks(views)
        .map(|by_view| reachability.answer(by_view));
    let first = by_family.next().unwrap_or(Answer::NOTHING);
    let second = by_family.next().unwrap_or(first);
    [first, second]
}
