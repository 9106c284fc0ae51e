//! `watertight suite --from MANIFESTS...|cluster`: drafts a suite from what policies say, of all
//! workloads or of those that `-n` and `-l` select.

use super::args::FamilyArgs;
use super::cluster_args::ClusterArgs;
use crate::app::draft;
use crate::app::terminal::Terminal;
use crate::event::ExitCode;
use crate::model::EndpointName;
use crate::plan::{DraftOptions, DraftSelection};
use clap::Args;
use kube_core::{Expression, Selector};
use std::collections::BTreeSet;

/// The value of `--from` that names the cluster of the kubeconfig instead of manifests.
const CLUSTER: &str = "cluster";

#[derive(Debug, Args)]
pub(super) struct SuiteArgs {
    /// Manifests (files, folders, or - for standard input), or the word cluster for that of the
    /// kubeconfig
    #[arg(long, value_name = "MANIFESTS|cluster", num_args = 1.., required = true)]
    from: Vec<String>,
    /// Only workloads with pods that these labels select, as kubectl has it: app=web,tier!=cache
    #[arg(short = 'l', long, value_name = "LABELS", value_parser = parse_selector, default_value = "", hide_default_value = true)]
    selector: Selector,
    /// What the suite is called
    #[arg(long, value_name = "NAME", default_value = "drafted", value_parser = parse_name)]
    name: String,
    /// Warnings are errors
    #[arg(long)]
    strict: bool,
    #[command(flatten)]
    families: FamilyArgs,
    #[command(flatten)]
    cluster: ClusterArgs,
}

/// Parses a suite's name that needs no quotes in YAML.
fn parse_name(text: &str) -> Result<String, String> {
    EndpointName::parse(text)
        .map(|name| name.as_str().to_owned())
        .map_err(|error| error.to_string())
}

pub(super) fn suite(args: &SuiteArgs, terminal: &Terminal) -> Result<ExitCode, ExitCode> {
    let options = DraftOptions {
        name: args.name.clone(),
        selection: DraftSelection {
            namespaces: args.cluster.namespaces(),
            labels: args.selector.clone(),
        },
        lab_families: args.families.families(),
    };
    let text = match args.from.as_slice() {
        [only] if only == CLUSTER => {
            let mut cluster = args.cluster.options();
            // Here it selects workloads, maybe of several namespaces; nothing is created.
            cluster.access.namespace = None;
            draft::from_cluster(&cluster, &options, terminal)?
        }
        manifests => draft::from_manifests(manifests, &options, args.strict, terminal)?,
    };
    terminal.data(&text)
}

/// Parses a label selector as kubectl takes it: `app=web,tier!=cache,team in (a, b),!legacy`.
fn parse_selector(text: &str) -> Result<Selector, String> {
    let requirements = split_outside_brackets(text);
    let expressions: Vec<Expression> = requirements
        .into_iter()
        .map(str::trim)
        .filter(|requirement| !requirement.is_empty())
        .map(parse_requirement)
        .collect::<Result<_, _>>()?;
    Ok(expressions.into_iter().collect())
}

/// Splits at commas that are in no brackets.
fn split_outside_brackets(text: &str) -> Vec<&str> {
    let mut depth = 0_i32;
    text.split(|c| {
        depth += i32::from(c == '(') - i32::from(c == ')');
        c == ',' && depth == 0
    })
    .collect()
}

fn parse_requirement(text: &str) -> Result<Expression, String> {
    let wrong = || {
        format!(
            "{text:?} selects no labels: write KEY=VALUE, KEY!=VALUE, KEY, !KEY, KEY in (A, B) or \
             KEY notin (A, B)"
        )
    };
    let key = |text: &str| {
        let text = text.trim();
        let is_key = !text.is_empty()
            && text
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "-_./".contains(c));
        is_key.then(|| text.to_owned()).ok_or_else(wrong)
    };

    if let Some((name, value)) = text.split_once("!=") {
        return Ok(Expression::NotEqual(key(name)?, value.trim().to_owned()));
    }
    if let Some((name, value)) = text.split_once("==").or_else(|| text.split_once('=')) {
        return Ok(Expression::Equal(key(name)?, value.trim().to_owned()));
    }
    if let Some((before, values)) = text.split_once('(') {
        let values = values.trim_end().strip_suffix(')').ok_or_else(wrong)?;
        let values: BTreeSet<String> = values.split(',').map(|v| v.trim().to_owned()).collect();
        return match before.split_whitespace().collect::<Vec<_>>().as_slice() {
            [name, "in"] => Ok(Expression::In(key(name)?, values)),
            [name, "notin"] => Ok(Expression::NotIn(key(name)?, values)),
            _ => Err(wrong()),
        };
    }
    match text.strip_prefix('!') {
        Some(name) => Ok(Expression::DoesNotExist(key(name)?)),
        None => Ok(Expression::Exists(key(text)?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube_core::SelectorExt;
    use std::collections::BTreeMap;

    #[test]
    fn selectors_match_as_those_of_kubectl() {
        let labels: BTreeMap<String, String> = [("app", "web"), ("tier", "front")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into();
        for (text, matches) in [
            ("", true),
            ("app=web", true),
            ("app==web, tier!=back", true),
            ("app=api", false),
            ("app in (web, api),tier", true),
            ("app notin (web)", false),
            ("!team", true),
            ("!app", false),
            ("team", false),
        ] {
            let selector = parse_selector(text).expect(text);
            assert_eq!(selector.matches(&labels), matches, "{text}");
        }
        for wrong in [
            "a b",
            "app in web)",
            "app within (web)",
            "=web",
            "app in (web",
        ] {
            assert!(parse_selector(wrong).is_err(), "{wrong}");
        }
    }
}
