//! Arguments that several commands share, and what they become.

use super::settings::{SettingArgs, SourceModeArgs};
use crate::app::options::{LabOptions, RunOptions, SelectOptions, WorldOptions};
use crate::app::terminal::Terminal;
use crate::backend::lab::Deny;
use crate::event::ExitCode;
use crate::model::{Families, ObjectRef, WorkloadKind};
use crate::plan::Selection;
use crate::report::{Detail, Output, ReportSpec};
use crate::suite::HostAddresses;
use clap::{Args, ValueEnum};
use std::path::PathBuf;

/// The lab: its manifests, and how it denies.
#[derive(Debug, Clone, Args)]
pub(super) struct LabArgs {
    /// Test in the lab instead of a cluster, in the world of these manifests: files, folders, or -
    /// for standard input
    #[arg(long, value_name = "MANIFESTS", num_args = 1..)]
    lab: Vec<String>,
    /// The addresses of a host outside, in place of its `ip:` (repeatable); a cluster resolves the
    /// name itself
    #[arg(long, value_name = RESOLVE, value_parser = HostAddresses::parse, requires = "lab")]
    resolve: Vec<HostAddresses>,
    #[command(flatten)]
    families: FamilyArgs,
    #[command(flatten)]
    deny: DenyArgs,
}

impl LabArgs {
    /// The lab of the command; `None` for a command in a cluster.
    pub(super) fn options(&self) -> Option<LabOptions> {
        if self.lab.is_empty() {
            return None;
        }
        Some(LabOptions {
            world: WorldOptions {
                manifests: self.lab.clone(),
                resolve: self.resolve.clone(),
                families: self.families.families(),
            },
            deny: self.deny.deny(),
        })
    }
}

/// What `--resolve` takes.
const RESOLVE: &str = "NAME=IP[,IP]";

/// The address families of the lab.
#[derive(Debug, Clone, Args)]
pub(super) struct FamilyArgs {
    /// The address families of the lab's pods, nodes and Services: ipv4, ipv6 or ipv4,ipv6; before
    /// the suite's labFamilies and what the manifests show. ipv4 where nothing shows any
    #[arg(
        long,
        value_name = "FAMILIES",
        env = "WATERTIGHT_LAB_FAMILIES",
        value_parser = parse_families
    )]
    lab_families: Option<Families>,
}

impl FamilyArgs {
    pub(super) fn families(&self) -> Option<Families> {
        self.lab_families
    }
}

fn parse_families(text: &str) -> Result<Families, String> {
    Families::parse(text.split(','))
}

/// Where predictions place hosts outside, and in which families they predict.
#[derive(Debug, Clone, Args)]
pub(super) struct ResolveArgs {
    /// The addresses of a host outside, in place of its `ip:` (repeatable)
    #[arg(long, value_name = RESOLVE, value_parser = HostAddresses::parse)]
    resolve: Vec<HostAddresses>,
    #[command(flatten)]
    families: FamilyArgs,
}

impl ResolveArgs {
    /// The world of manifests.
    pub(super) fn world(&self, manifests: &[String]) -> WorldOptions {
        WorldOptions {
            manifests: manifests.to_vec(),
            resolve: self.resolve.clone(),
            families: self.families.families(),
        }
    }

    /// Whether no address is given.
    pub(super) fn is_empty(&self) -> bool {
        self.resolve.is_empty()
    }
}

/// How the lab denies.
#[derive(Debug, Clone, Copy, Args)]
pub(super) struct DenyArgs {
    /// What happens to a denied packet in the lab
    #[arg(
        long,
        value_enum,
        default_value_t,
        value_name = "HOW",
        env = "WATERTIGHT_LAB_DENY"
    )]
    lab_deny: DenyArg,
}

impl DenyArgs {
    pub(super) fn deny(self) -> Deny {
        match self.lab_deny {
            DenyArg::Drop => Deny::Drop,
            DenyArg::Reset => Deny::Reset,
            DenyArg::Icmp => Deny::Icmp,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum DenyArg {
    /// It is dropped without an answer.
    #[default]
    Drop,
    /// TCP is reset, other protocols are answered by ICMP.
    Reset,
    /// It is answered by ICMP.
    Icmp,
}

/// Which checks of a suite's lines.
#[derive(Debug, Clone, Args)]
pub(super) struct FilterArgs {
    /// Only checks whose SUITE / NAME matches
    #[arg(long, value_name = "REGEX")]
    only: Option<regex::Regex>,
    /// Only checks with this tag (repeatable)
    #[arg(long, value_name = "TAG")]
    tag: Vec<String>,
    /// Not checks with this tag (repeatable)
    #[arg(long, value_name = "TAG")]
    skip_tag: Vec<String>,
}

impl FilterArgs {
    /// The checks, without a sweep.
    pub(super) fn selection(&self) -> Selection {
        Selection {
            only: self.only.clone(),
            tags: self.tag.clone(),
            skip_tags: self.skip_tag.clone(),
            sweep: Vec::new(),
        }
    }

    /// Whether any is left out.
    pub(super) fn is_empty(&self) -> bool {
        self.only.is_none() && self.tag.is_empty() && self.skip_tag.is_empty()
    }
}

/// Which checks.
#[derive(Debug, Clone, Args)]
pub(super) struct SelectArgs {
    #[command(flatten)]
    filter: FilterArgs,
    /// Also try everything that this workload could reach and no line names: other pods, Services,
    /// nodes, kubelets, metadata addresses, outside hosts of the suite (NAMESPACE/KIND/NAME,
    /// repeatable)
    #[arg(long, value_name = "WORKLOAD", value_parser = parse_workload, conflicts_with_all = ["only", "tag", "skip_tag"])]
    sweep: Vec<ObjectRef>,
    /// Warnings are errors
    #[arg(long)]
    strict: bool,
    /// Also show what is proven with its evidence, or planned with its controls
    #[arg(short, long)]
    pub(super) verbose: bool,
    #[command(flatten)]
    settings: SettingArgs,
    #[command(flatten)]
    source_mode: SourceModeArgs,
}

impl SelectArgs {
    pub(super) fn options(&self) -> SelectOptions {
        SelectOptions {
            selection: Selection {
                sweep: self.sweep.clone(),
                ..self.filter.selection()
            },
            settings: self.settings.overrides(),
            source_mode: self.source_mode.source_mode(),
            strict: self.strict,
        }
    }
}

/// Parses `NAMESPACE/KIND/NAME`.
fn parse_workload(text: &str) -> Result<ObjectRef, String> {
    match text.split('/').collect::<Vec<_>>().as_slice() {
        [namespace, kind, name]
            if WorkloadKind::parse(kind).is_some() && !namespace.is_empty() && !name.is_empty() =>
        {
            Ok(ObjectRef {
                namespace: (*namespace).into(),
                kind: (*kind).into(),
                name: (*name).into(),
            })
        }
        [_, kind, _] => {
            let kinds = WorkloadKind::ALL.map(WorkloadKind::as_str).join(", ");
            Err(format!(
                "{kind:?} is not a kind that has pods; the kinds are {kinds}"
            ))
        }
        _ => Err("write NAMESPACE/KIND/NAME, for example shop/Deployment/web".to_owned()),
    }
}

/// What the commands that test have in common: which checks, and where the results go.
#[derive(Debug, Clone, Args)]
pub(super) struct TestArgs {
    #[command(flatten)]
    select: SelectArgs,
    /// Also write a report (repeatable): junit=PATH, json, jsonl, markdown, tap, ctrf, openmetrics,
    /// evidence
    #[arg(long, value_name = "FORMAT=PATH")]
    report: Vec<String>,
    /// What goes to standard output
    #[arg(short = 'o', long = "output", value_name = "FORMAT", default_value = "text", value_parser = clap::value_parser!(Output))]
    output: Output,
}

impl TestArgs {
    /// The options of a run.
    ///
    /// # Errors
    /// [`ExitCode::Usage`] for a report that cannot be asked for like this, which has been shown.
    pub(super) fn options(&self, terminal: &Terminal) -> Result<RunOptions, ExitCode> {
        let (reports, evidence) = self.reports().map_err(|message| {
            terminal.error(&message);
            ExitCode::Usage
        })?;
        let detail = if self.select.verbose {
            Detail::Verbose
        } else {
            Detail::Brief
        };
        Ok(RunOptions {
            select: self.select.options(),
            reports,
            evidence,
            output: self.output,
            detail,
        })
    }

    /// The reports, and the file of the raw evidence: the last where several are given.
    fn reports(&self) -> Result<(Vec<ReportSpec>, Option<PathBuf>), String> {
        let mut reports = Vec::new();
        let mut evidence = None;
        for text in &self.report {
            match text.strip_prefix("evidence=") {
                Some("") => return Err(format!("{text:?} names no file")),
                Some(path) => evidence = Some(PathBuf::from(path)),
                None => reports.push(ReportSpec::parse(text).map_err(|error| error.to_string())?),
            }
        }
        Ok((reports, evidence))
    }
}
