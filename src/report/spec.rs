//! The arguments `--report FORMAT=PATH` and `-o FORMAT`.

use super::Format;
use std::path::{Path, PathBuf};
use std::str::FromStr;

impl FromStr for Format {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<Self, SpecError> {
        Self::named(text).ok_or_else(|| SpecError::Format {
            written: text.to_owned(),
            nearest: Self::nearest(text),
        })
    }
}

/// The report on standard output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Output {
    /// `text`: for people.
    #[default]
    Text,
    /// The same text as in a file of that format.
    Data(Format),
}

impl FromStr for Output {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<Self, SpecError> {
        match text {
            "text" => Ok(Self::Text),
            _ => text.parse().map(Self::Data),
        }
    }
}

/// A report file: `FORMAT=PATH`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportSpec {
    format: Format,
    path: PathBuf,
}

impl ReportSpec {
    /// Parses `FORMAT=PATH`; the path may hold `=`.
    ///
    /// # Errors
    /// [`SpecError`], which names the mistake and the correct form.
    pub fn parse(text: &str) -> Result<Self, SpecError> {
        let (format, path) = text
            .split_once('=')
            .ok_or_else(|| SpecError::Form(text.to_owned()))?;
        let format = format.parse()?;
        match path {
            "" => Err(SpecError::NoPath(format)),
            "-" => Err(SpecError::Stdout(format)),
            path => Ok(Self {
                format,
                path: path.into(),
            }),
        }
    }

    /// The format of the report.
    pub fn format(&self) -> Format {
        self.format
    }

    /// The file that the report is written to.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl FromStr for ReportSpec {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<Self, SpecError> {
        Self::parse(text)
    }
}

impl std::fmt::Display for ReportSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}={}", self.format, self.path.display())
    }
}

/// A mistake in the argument of `--report` or `-o`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// There is no `=` in it.
    #[error("{0:?} is not FORMAT=PATH; write for example junit=report.xml")]
    Form(String),
    /// The format is unknown.
    #[error("{written:?} is no report format; there are {}{}", all_names(), did_you_mean(*.nearest))]
    Format {
        written: String,
        /// The format that was probably meant.
        nearest: Option<Format>,
    },
    /// The path after the `=` is empty.
    #[error("{0}= names no file; write for example {0}=report.{extension}", extension = .0.extension())]
    NoPath(Format),
    /// The path is `-`: standard output is for `-o`.
    #[error("{0}=- would mix with the text on standard output; write -o {0}")]
    Stdout(Format),
}

fn all_names() -> String {
    let names: Vec<&str> = Format::all().map(Format::name).collect();
    names.join(", ")
}

fn did_you_mean(nearest: Option<Format>) -> String {
    nearest.map_or(String::new(), |format| format!("; did you mean {format}?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn format(name: &str) -> Format {
        Format::named(name).unwrap()
    }

    #[test]
    fn specification_is_split_at_the_first_equals_sign() {
        let spec = ReportSpec::parse("junit=out/a=b.xml").unwrap();
        assert_eq!(
            (spec.format(), spec.path()),
            (format("junit"), Path::new("out/a=b.xml"))
        );
        assert_eq!(spec.to_string(), "junit=out/a=b.xml");
    }

    #[test]
    fn message_of_a_mistake_names_the_correct_form() {
        let cases = [
            (
                "report.xml",
                r#""report.xml" is not FORMAT=PATH; write for example junit=report.xml"#,
            ),
            (
                "xml=a",
                r#""xml" is no report format; there are junit, json, jsonl, markdown, tap, ctrf, openmetrics; did you mean junit?"#,
            ),
            (
                "JSON=a",
                r#""JSON" is no report format; there are junit, json, jsonl, markdown, tap, ctrf, openmetrics; did you mean json?"#,
            ),
            (
                "yaml=a",
                r#""yaml" is no report format; there are junit, json, jsonl, markdown, tap, ctrf, openmetrics"#,
            ),
            (
                "json=",
                "json= names no file; write for example json=report.json",
            ),
            (
                "json=-",
                "json=- would mix with the text on standard output; write -o json",
            ),
        ];
        for (text, message) in cases {
            assert_eq!(ReportSpec::parse(text).unwrap_err().to_string(), message);
        }
    }

    #[test]
    fn output_is_text_or_a_format() {
        assert_eq!("text".parse(), Ok(Output::Text));
        assert_eq!("junit".parse(), Ok(Output::Data(format("junit"))));
        assert_eq!(Output::default(), Output::Text);
        assert!("wide".parse::<Output>().is_err());
    }
}
