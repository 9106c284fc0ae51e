//! What was asked for: `--report FORMAT=PATH` and `-o FORMAT`.

use std::path::{Path, PathBuf};
use std::str::FromStr;

/// How a report is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Format {
    /// `junit`: one XML file that CI systems read.
    Junit,
    /// `json`: the report of `watertight.dev/report.v1`.
    Json,
    /// `jsonl`: every event as it happens, one a line.
    Jsonl,
    /// `markdown`: the page for people, for a merge request.
    Markdown,
    /// `tap`: TAP version 14.
    Tap,
    /// `ctrf`: the Common Test Report Format.
    Ctrf,
    /// `openmetrics`: gauges for a textfile collector.
    Openmetrics,
}

impl Format {
    /// All formats.
    pub const ALL: [Self; 7] = [
        Self::Junit,
        Self::Json,
        Self::Jsonl,
        Self::Markdown,
        Self::Tap,
        Self::Ctrf,
        Self::Openmetrics,
    ];

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Junit => "junit",
            Self::Json => "json",
            Self::Jsonl => "jsonl",
            Self::Markdown => "markdown",
            Self::Tap => "tap",
            Self::Ctrf => "ctrf",
            Self::Openmetrics => "openmetrics",
        }
    }

    /// How its files usually end.
    fn ending(self) -> &'static str {
        match self {
            Self::Junit => "xml",
            Self::Json | Self::Ctrf => "json",
            Self::Jsonl => "jsonl",
            Self::Markdown => "md",
            Self::Tap => "tap",
            Self::Openmetrics => "prom",
        }
    }
}

impl std::fmt::Display for Format {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Format {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<Self, SpecError> {
        Self::ALL
            .into_iter()
            .find(|format| format.name() == text)
            .ok_or_else(|| SpecError::Format {
                written: text.to_owned(),
                near: nearest(text),
            })
    }
}

/// What goes to standard output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Output {
    /// `text`: for people.
    #[default]
    Text,
    /// The same as a file of that format would hold.
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

/// `FORMAT=PATH`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportSpec {
    format: Format,
    path: PathBuf,
}

impl ReportSpec {
    /// Parses `FORMAT=PATH`; the path may hold `=`.
    ///
    /// # Errors
    /// [`SpecError`], which names what is wrong and what may stand there.
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

    /// How it is written.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Where it goes.
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

/// Why a report cannot be asked for like this.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// No `=` in it.
    #[error("{0:?} is not FORMAT=PATH; write for example junit=report.xml")]
    Form(String),
    /// An unknown format.
    #[error("{written:?} is no report format; there are {}{}", all_names(), did_you_mean(*.near))]
    Format {
        /// What was written.
        written: String,
        /// What was probably meant.
        near: Option<Format>,
    },
    /// Nothing after the `=`.
    #[error("{0}= names no file; write for example {0}=report.{ending}", ending = .0.ending())]
    NoPath(Format),
    /// `-`, which is `-o`'s business.
    #[error("{0}=- would mix with what stands on standard output; write -o {0}")]
    Stdout(Format),
}

fn all_names() -> String {
    Format::ALL.map(Format::name).join(", ")
}

fn did_you_mean(near: Option<Format>) -> String {
    near.map_or(String::new(), |format| format!("; did you mean {format}?"))
}

fn nearest(text: &str) -> Option<Format> {
    let text = text.to_lowercase();
    let distance = |format: &Format| strsim::damerau_levenshtein(&text, format.name());
    match text.as_str() {
        "xml" => Some(Format::Junit),
        "ndjson" | "json-lines" => Some(Format::Jsonl),
        "md" => Some(Format::Markdown),
        "prometheus" | "prom" | "metrics" => Some(Format::Openmetrics),
        _ => Format::ALL
            .into_iter()
            .min_by_key(distance)
            .filter(|format| distance(format) <= 2),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_specification_is_a_format_and_a_path() {
        let spec = ReportSpec::parse("junit=out/a=b.xml").unwrap();
        assert_eq!(
            (spec.format(), spec.path()),
            (Format::Junit, Path::new("out/a=b.xml"))
        );
        assert_eq!(spec.to_string(), "junit=out/a=b.xml");
    }

    #[test]
    fn mistakes_name_the_way_out() {
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
                "json=- would mix with what stands on standard output; write -o json",
            ),
        ];
        for (text, message) in cases {
            assert_eq!(ReportSpec::parse(text).unwrap_err().to_string(), message);
        }
    }

    #[test]
    fn standard_output_takes_text_or_data() {
        assert_eq!("text".parse(), Ok(Output::Text));
        assert_eq!("junit".parse(), Ok(Output::Data(Format::Junit)));
        assert_eq!(Output::default(), Output::Text);
        assert!("wide".parse::<Output>().is_err());
    }
}
