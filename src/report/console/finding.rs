//! A check that is not proven, shown as compilers show errors: its line, what was observed, and
//! what to do.

use super::screen::{Ink, Pen};
use crate::event::{CheckResult, Outcome};
use crate::report::text::{add_line, counted, truncated, width, wrapped};
use crate::report::wording;

/// At most so many flows are shown of one check.
const MAX_FLOWS: usize = 3;
/// The greatest width of prose, in columns: longer lines are hard to read.
const MAX_PROSE_WIDTH: usize = 110;

/// The picture of one finding.
pub(super) fn picture(result: &CheckResult, pen: Pen) -> String {
    let check = &result.check;
    let ink = ink(result.verdict);
    let mut picture = Picture {
        pen,
        margin: check.line.to_string().len() + 1,
        out: String::new(),
    };

    add_line!(
        picture.out,
        "{} {}",
        pen.inked(ink, &format!("{}:", result.verdict)),
        pen.inked(Ink::Strong, &pen.text(&check.name))
    );
    let location = format!("{}:{}:{}", check.file, check.line, check.column);
    picture.source(
        check.line,
        &pen.text(&location),
        &pen.text(&check.text),
        ink,
    );

    for (label, text) in wording::explanation(result) {
        picture.note(label, &pen.text(&text));
    }

    let (flows, others) = wording::relevant_flows(result, MAX_FLOWS);
    for flow in &flows {
        picture.note("flow", &pen.text(&wording::flow(flow)));
    }
    if others > 0 {
        picture.note("flow", &format!("and {}", counted(others, "other flow")));
    }
    picture.out
}

/// A finding in one line, where there are too many to show each in full.
pub(super) fn line(result: &CheckResult, pen: Pen) -> String {
    let code = result
        .reason
        .as_ref()
        .map_or(String::new(), |reason| format!(" ({})", reason.code));
    let verdict = pen.inked(ink(result.verdict), &format!("{}:", result.verdict));
    format!(
        "{verdict} {}{code}  {}:{}\n",
        pen.text(&result.check.name),
        pen.text(&result.check.file),
        result.check.line
    )
}

fn ink(verdict: Outcome) -> Ink {
    match verdict {
        Outcome::Proven => Ink::Proven,
        Outcome::Violated => Ink::Violated,
        Outcome::Unproven => Ink::Unproven,
    }
}

/// The picture of one finding, as far as it is drawn.
struct Picture {
    pen: Pen,
    /// Columns left of the bar.
    margin: usize,
    out: String,
}

impl Picture {
    /// Adds the line of the suite, underlined.
    fn source(&mut self, number: u32, location: &str, text: &str, ink: Ink) {
        let Self { pen, margin, .. } = *self;
        let bar = pen.inked(Ink::Faint, pen.sign("│", "|"));
        let text = truncated(
            text.trim(),
            pen.width.max(40).saturating_sub(margin + 3),
            pen.unicode,
        );

        let underline = pen.sign("━", "^").repeat(width(&text));
        let arrow = pen.inked(Ink::Faint, pen.sign("╭─", "-->"));

        add_line!(self.out, "{:margin$}{arrow} {location}", "");
        add_line!(
            self.out,
            "{}{bar} {text}",
            pen.inked(Ink::Faint, &format!("{number:<margin$}"))
        );
        add_line!(
            self.out,
            "{:margin$}{bar} {}",
            "",
            pen.inked(ink, &underline)
        );
    }

    /// Adds a text with its label, wrapped and indented.
    fn note(&mut self, label: &str, text: &str) {
        let Self { pen, margin, .. } = *self;
        let indent = margin + 2 + 10;

        let lines = wrapped(text, pen.width.clamp(indent + 24, MAX_PROSE_WIDTH) - indent);
        for (number, line) in lines.iter().enumerate() {
            if number == 0 {
                let sign = pen.inked(Ink::Faint, "=");
                add_line!(
                    self.out,
                    "{:margin$}{sign} {}{line}",
                    "",
                    pen.inked(Ink::Strong, &format!("{label:<10}"))
                );
            } else {
                add_line!(self.out, "{:indent$}{line}", "");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::RunEvent;
    use crate::report::{fixtures, text};

    const PEN: Pen = Pen {
        width: 100,
        colour: false,
        unicode: true,
    };

    fn picture_of(events: &[RunEvent], index: usize, pen: Pen) -> String {
        let Some(RunEvent::Finished { results, .. }) = events.last() else {
            panic!()
        };
        picture(&results[index], pen)
    }

    #[test]
    fn violation_is_shown_at_its_line() {
        let expected = "\
violated: web-tier -> postgres:5432 denied
   ╭─ shop.yaml:16:7
16 │ - check: web-tier -> postgres denied
   │ ━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━
   = seen      shop/web-6d4f-x2 (node-1) reached data/postgres-0:5432 (node-2): 12 of 12 attempts
               opened, answered by postgres-0
   = contrast  shop/payments-0 (node-1) was stopped at the same address and port
   = because   only the API may touch the data
   = next      find the policy that should stop this flow: it does not select the target (or the
               source), or another one admits it
   = flow      shop/web-6d4f-x2 (node-1) -> data/postgres-0 on node-2 (10.0.2.7:5432/tcp): 12 of 12
               attempts opened; answered by postgres-0
   = flow      shop/web-6d4f-b7 (node-2) -> data/postgres-0 on node-2 (10.0.2.7:5432/tcp): 12 of 12
               attempts opened; answered by postgres-0
";
        assert_eq!(picture_of(&fixtures::shop(), 3, PEN), expected);
    }

    #[test]
    fn unproven_check_shows_reason_and_next_step() {
        let expected = "\
unproven: api -> metadata:80 denied
   --> shop.yaml:19:7
19 | api -> metadata:80 denied
   | ^^^^^^^^^^^^^^^^^^^^^^^^^
   = reason    no control got an answer from 169.254.169.254:80 (no-control-answered)
   = seen      shop/api-0 (node-2) -> metadata:80: 12 of 12 attempts blocked, 0 opened
   = next      check that the target listens on that port: no control got an answer from it
   = flow      shop/api-0 (node-2) -> metadata (169.254.169.254:80/tcp): no-control-answered: no
               control got an answer from 169.254.169.254:80
";
        assert_eq!(
            picture_of(
                &fixtures::shop(),
                6,
                Pen {
                    unicode: false,
                    ..PEN
                }
            ),
            expected
        );
    }

    #[test]
    fn further_flows_are_counted() {
        let events = fixtures::shop();
        let Some(RunEvent::Finished { results, .. }) = events.last() else {
            panic!()
        };
        let mut result = results[3].clone();
        let flow = result.flows[0].clone();
        result.flows = vec![flow; 9];
        let picture = picture(&result, PEN);
        assert_eq!(picture.matches("= flow ").count(), MAX_FLOWS + 1);
        assert!(
            picture.ends_with("= flow      and 6 other flows\n"),
            "{picture}"
        );
    }

    #[test]
    fn hostile_text_is_escaped() {
        for pen in [
            PEN,
            Pen {
                unicode: false,
                ..PEN
            },
        ] {
            for index in 0..2 {
                let picture = picture_of(&fixtures::hostile(), index, pen);
                assert!(
                    !picture.chars().any(|c| c != '\n' && text::is_active(c)),
                    "{picture}"
                );
                assert!(
                    picture
                        .lines()
                        .skip(1)
                        .all(|line| line.starts_with(' ') || line.starts_with('1')),
                    "{picture}"
                );
                assert!(pen.unicode || picture.is_ascii(), "{picture}");
            }
        }
    }
}
