//! The shape of `watertight.dev/report.v1`: a field that is not known is `null`, never absent.

use crate::event::{
    self, CheckRef, CheckResult, ControlReport, EnvironmentInfo, Expected, FlowReport, Outcome,
    PolicyState, Reach, Reason, SettingsReport, SuiteRef,
};
use schemars::JsonSchema;
use serde::Serialize;

/// A report of one run.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(title = "watertight report", deny_unknown_fields)]
pub(super) struct ReportDocument {
    /// The shape of this document.
    #[schemars(extend("const" = "watertight.dev/report.v1"))]
    pub(super) api_version: &'static str,
    /// `Report`.
    #[schemars(extend("const" = "Report"))]
    pub(super) kind: &'static str,
    /// The run.
    pub(super) run: Run,
    /// Where it ran, and under which policies.
    pub(super) environment: Option<BackendKind>,
    /// Its suites, in the order of the command line.
    pub(super) suites: Vec<Suite>,
    /// Its checks, in the order of the suites.
    pub(super) checks: Vec<Check>,
    /// How much of what exists the checks touch; null where the policies cannot be read.
    pub(super) coverage: Option<Coverage>,
    /// What the run could not remove; null until it has tried.
    pub(super) leftovers: Option<Vec<String>>,
}

/// A run.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(deny_unknown_fields)]
pub(super) struct Run {
    /// 16 hexadecimal digits; null: it never started.
    pub(super) id: Option<String>,
    /// RFC 3339, UTC.
    pub(super) started_at: Option<String>,
    /// RFC 3339, UTC; null while it runs, and of a run that was killed.
    pub(super) ended_at: Option<String>,
    /// Whether every planned check was judged with all its evidence.
    pub(super) complete: bool,
    /// Why it is not complete.
    pub(super) incomplete_because: Option<String>,
    /// The exit code; null while it runs, and of a run that was killed.
    pub(super) exit_code: Option<u8>,
    /// What ran.
    pub(super) tool: Tool,
    /// What sampled.
    pub(super) probe: Probe,
    /// `lab`, `cluster` or `scripted`.
    pub(super) backend: Option<String>,
    /// What was asked of this run beside its suites, by flag or environment, null where it was not
    /// given; each check says which settings were in force for it.
    pub(super) settings: Option<serde_json::Map<String, serde_json::Value>>,
}

/// watertight itself.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct Tool {
    /// Its version.
    pub(super) version: String,
    /// SHA-256 of the executable.
    pub(super) digest: Option<String>,
}

/// The agent.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct Probe {
    /// Digest of its image or executable.
    pub(super) digest: Option<String>,
    /// The images that ran, as the cluster names what it ran (`imageID` of the containers' status).
    pub(super) images: Vec<String>,
}

/// What was tested.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(deny_unknown_fields)]
pub(super) struct BackendKind {
    /// The uid of the namespace `kube-system`.
    pub(super) cluster_uid: Option<String>,
    /// The API server's address.
    pub(super) server: Option<String>,
    /// The API server's version.
    pub(super) version: Option<String>,
    /// Who ran it, as the API server knows them.
    pub(super) operator: Option<String>,
    /// The policies in force.
    pub(super) policies: Policies,
}

/// Policies before and after the run.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct Policies {
    /// When it started.
    pub(super) before: Option<Vec<Policy>>,
    /// When its probes had stopped.
    pub(super) after: Option<Vec<Policy>>,
}

/// A policy.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(deny_unknown_fields)]
pub(super) struct Policy {
    /// Its kind.
    pub(super) kind: String,
    /// Its namespace; null where it has none.
    pub(super) namespace: Option<String>,
    /// Its name.
    pub(super) name: String,
    /// Its uid.
    pub(super) uid: Option<String>,
    /// The version that was read.
    pub(super) resource_version: Option<String>,
    /// SHA-256 of its `spec` as JSON.
    pub(super) sha256: String,
}

/// How much of what exists the checks touch.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct Coverage {
    /// Policies by direction: by which some flow of a check is judged.
    pub(super) policies: Part,
    /// Rules of policies: which some flow of a check matches.
    pub(super) rules: Part,
    /// Ordered pairs of the suites' endpoints: between which some check has a flow.
    pub(super) pairs: Part,
    /// Pods with an identity of their own: at an end of a check by their own address.
    pub(super) pods: Part,
    /// Nodes: on which some check has an end.
    pub(super) nodes: Part,
}

/// How many of how many.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct Part {
    /// All.
    pub(super) all: usize,
    /// Those that are.
    pub(super) touched: usize,
    /// Those that are not; the first thousand.
    pub(super) left: Vec<String>,
}

impl From<&event::Coverage> for Coverage {
    fn from(of: &event::Coverage) -> Self {
        let touched = |of: &event::Touched| Part {
            all: of.all,
            touched: of.touched,
            left: of.left.clone(),
        };
        Self {
            policies: touched(&of.policies),
            rules: touched(&of.rules),
            pairs: touched(&of.pairs),
            pods: touched(&of.pods),
            nodes: touched(&of.nodes),
        }
    }
}

/// A suite.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct Suite {
    /// `metadata.name`.
    pub(super) name: String,
    /// The file as it was named.
    pub(super) file: String,
    /// SHA-256 of the file.
    pub(super) sha256: String,
}

/// A check.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(deny_unknown_fields)]
pub(super) struct Check {
    /// First 12 hexadecimal digits of SHA-256 over suite and check name.
    #[schemars(extend("pattern" = "^[0-9a-f]{12}$"))]
    pub(super) id: String,
    /// Its name, unique within its suite.
    pub(super) name: String,
    /// Its suite.
    pub(super) suite: String,
    /// The suite's file.
    pub(super) file: String,
    /// The line in it, from 1.
    pub(super) line: u32,
    /// The column of the line's first character, from 1.
    pub(super) column: u32,
    /// The line as written.
    pub(super) text: String,
    /// Why the line is there.
    pub(super) because: Option<String>,
    /// Its tags.
    pub(super) tags: Vec<String>,
    /// The source as the suite names it.
    pub(super) source: String,
    /// The target as the suite names it.
    pub(super) target: String,
    /// What the suite expects.
    #[schemars(extend("enum" = [Expected::Allowed.to_string(), Expected::Denied.to_string()]))]
    pub(super) expected: String,
    /// How it is judged: the settings in force for it.
    pub(super) settings: CheckSettings,
    /// What the policies say, before any packet; `mixed` where it differs between flows; null where
    /// it is not known.
    #[schemars(extend("enum" = ["allowed", "denied", "mixed", null]))]
    pub(super) predicted: Option<String>,
    /// Why the policies cannot do what the suite expects, and what would change that.
    pub(super) contradiction: Option<String>,
    /// What was observed and not predicted, with the usual causes.
    pub(super) unpredicted: Option<String>,
    /// What is said of it; `unproven` with the reason `not-finished` until it is judged.
    #[schemars(extend("enum" = [Outcome::Proven.to_string(), Outcome::Violated.to_string(), Outcome::Unproven.to_string()]))]
    pub(super) verdict: String,
    /// Of what is proven: how well, `D2+counter`, `A2`, ...
    pub(super) tier: Option<String>,
    /// How far the verdict reaches; null if nothing was sampled.
    pub(super) reach: Option<ReachDocument>,
    /// Of a proven deny: the least share of attempts, in percent, at which a leak would have shown
    /// with 95 %.
    pub(super) power: Option<u32>,
    /// Of what is unproven: why.
    pub(super) reason: Option<ReasonDocument>,
    /// How a deny showed: `drop`, `reset`, `icmp`, ..., or the enforcer's name.
    pub(super) mechanism: Option<String>,
    /// How long an allow took to come up, in milliseconds.
    pub(super) delay: Option<u64>,
    /// How long a new source could reach what it must not, in milliseconds.
    pub(super) startup_leak: Option<u64>,
    /// How long openings took, in milliseconds.
    pub(super) latency: Option<LatencyDocument>,
    /// What was seen.
    pub(super) seen: String,
    /// Who did get through, or did not.
    pub(super) contrast: Option<String>,
    /// Of what is not proven: what to do next.
    pub(super) next_step: Option<String>,
    /// Attempts of all flows.
    pub(super) attempts: u32,
    /// Attempts that opened.
    pub(super) opened: u32,
    /// Flow by flow.
    pub(super) flows: Vec<FlowDocument>,
    /// The flows that vouch for these, each once for each thing that it vouches for; of what is
    /// unproven, those that were there to vouch and were not enough.
    pub(super) controls: Vec<Control>,
}

/// A check's settings in force.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(deny_unknown_fields)]
pub(super) struct CheckSettings {
    /// Milliseconds before the hold.
    pub(super) settle: u64,
    /// Milliseconds that a deny is watched.
    pub(super) hold: u64,
    /// Milliseconds that an allow may take to come up.
    pub(super) timeout: u64,
    /// Milliseconds that a handshake may take.
    pub(super) deadline: u64,
    /// Samples that a deny needs at least.
    pub(super) attempts: u32,
    /// The tier demanded.
    pub(super) tier: &'static str,
    /// The kind that a deny must be.
    pub(super) mechanism: Option<&'static str>,
    /// Whether a start-up leak violates.
    pub(super) startup_isolated: bool,
    /// Source instances: `one`, `nodes` or `replicas`.
    pub(super) spread: &'static str,
    /// The HTTP status that counts as allowed.
    pub(super) status: Option<u16>,
}

/// How far a verdict reaches.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(deny_unknown_fields)]
pub(super) struct ReachDocument {
    /// Nodes that the source's samples came from.
    pub(super) source_nodes: usize,
    /// Nodes on which the source has pods.
    pub(super) of_source_nodes: usize,
    /// Pods of the target that were sampled.
    pub(super) target_pods: usize,
    /// Pods of the target.
    pub(super) of_target_pods: usize,
}

/// Why something is unproven.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct ReasonDocument {
    /// From the documented list.
    #[schemars(extend("enum" = Reason::ALL.map(Reason::code)))]
    pub(super) code: &'static str,
    /// What it was here.
    pub(super) text: String,
}

/// Milliseconds.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct LatencyDocument {
    /// Half of the openings took no longer.
    pub(super) median: f64,
    /// 95 % of them took no longer.
    pub(super) p95: f64,
}

/// One flow of a check.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(deny_unknown_fields)]
pub(super) struct FlowDocument {
    /// Its number in the run, as in the raw evidence.
    pub(super) flow: u32,
    /// Its probe's number in the run, likewise.
    pub(super) probe: u32,
    /// Who sent.
    pub(super) source: String,
    /// As what: a `clone` of that pod, from within the pod itself as an `ephemeral` container, the
    /// `pod` (in the lab), or its `node`, a `reference_pod`, the `runner`.
    #[schemars(extend("enum" = ["clone", "ephemeral", "pod", "node", "witness", "runner"]))]
    pub(super) sent_as: &'static str,
    /// To whom.
    pub(super) target: String,
    /// The address and port dialled.
    pub(super) address: String,
    /// `tcp` or `udp`.
    pub(super) transport: &'static str,
    /// What was said, in words.
    pub(super) request: String,
    /// What the policies say of it: `allowed` or `denied`.
    pub(super) predicted: Option<String>,
    /// `proven`, `violated`, `unproven` or `left-out`.
    pub(super) shows: &'static str,
    /// In words.
    pub(super) text: String,
    /// Attempts.
    pub(super) attempts: u32,
    /// Attempts that opened.
    pub(super) opened: u32,
    /// How often it began anew, because something relevant changed or its probe stood still.
    pub(super) restarts: u32,
    /// The samples that a deny's proof rests on.
    pub(super) window: Option<Window>,
    /// Who got through to the same address and port.
    pub(super) control: Option<String>,
    /// What shows that the source was able to send.
    pub(super) able: Option<String>,
    /// What crossed between the two nodes.
    pub(super) path: Option<String>,
    /// A pod on the source's node that got through.
    pub(super) same_node_control: Option<String>,
    /// The enforcer's own count.
    pub(super) record: Option<String>,
    /// Who answered, by its own word.
    pub(super) answered_by: Vec<String>,
}

/// A flow that vouches for others.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(deny_unknown_fields)]
pub(super) struct Control {
    /// For what: the `target` is alive, the `source` is able, the `path` is open; a
    /// `same_node_control` is a pod on the source's own node that got through.
    #[schemars(extend("enum" = ["target", "source", "path", "twin"]))]
    pub(super) vouches: &'static str,
    /// Whether a proof rests on it; else it was there to vouch, and was not enough.
    pub(super) counts: bool,
    /// Its number in the run, as in the raw evidence.
    pub(super) flow: u32,
    /// Its probe's number in the run, likewise.
    pub(super) probe: u32,
    /// Who sent.
    pub(super) source: String,
    /// To whom.
    pub(super) target: String,
    /// The address and port dialled.
    pub(super) address: String,
    /// `tcp` or `udp`.
    pub(super) transport: &'static str,
    /// Attempts.
    pub(super) attempts: u32,
    /// Attempts that opened.
    pub(super) opened: u32,
}

/// A stretch of samples.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(deny_unknown_fields)]
pub(super) struct Window {
    /// Start of the first, in milliseconds of the run.
    pub(super) from_ms: i64,
    /// Start of the last.
    pub(super) to_ms: i64,
    /// How many.
    pub(super) attempts: u32,
}

impl From<&SuiteRef> for Suite {
    fn from(suite: &SuiteRef) -> Self {
        Self {
            name: suite.name.clone(),
            file: suite.file.clone(),
            sha256: suite.sha256.clone(),
        }
    }
}

impl From<&CheckResult> for Check {
    fn from(result: &CheckResult) -> Self {
        let CheckRef {
            id,
            name,
            suite,
            file,
            line,
            column,
            text,
            because,
            tags,
            source,
            target,
            expected,
            predicted,
            contradiction,
            unprovable: _,
            settings,
        } = result.check.clone();
        Self {
            id,
            name,
            suite,
            file,
            line,
            column,
            text,
            because,
            tags,
            source,
            target,
            expected: expected.to_string(),
            settings: CheckSettings::from(&settings),
            predicted: predicted.map(str::to_owned),
            contradiction,
            unpredicted: result.unpredicted.clone(),
            verdict: result.verdict.to_string(),
            tier: result.tier.clone(),
            reach: (!result.flows.is_empty()).then(|| ReachDocument::from(&result.reach)),
            power: result.power_percent,
            reason: result.reason.as_ref().map(|reason| ReasonDocument {
                code: reason.code,
                text: reason.text.clone(),
            }),
            mechanism: result.mechanism.clone(),
            delay: result.delay_ms,
            startup_leak: result.startup_leak_ms,
            latency: result.latency.map(|latency| LatencyDocument {
                median: latency.median_ms,
                p95: latency.p95_ms,
            }),
            seen: result.seen.clone(),
            contrast: result.contrast.clone(),
            next_step: result.next_step.clone(),
            attempts: result.attempts,
            opened: result.opened,
            flows: result.flows.iter().map(FlowDocument::from).collect(),
            controls: result.controls.iter().map(Control::from).collect(),
        }
    }
}

impl From<&SettingsReport> for CheckSettings {
    fn from(settings: &SettingsReport) -> Self {
        let SettingsReport {
            settle_ms,
            hold_ms,
            timeout_ms,
            attempt_timeout_ms,
            attempts,
            tier,
            mechanism,
            startup_isolated,
            spread,
            status,
        } = *settings;
        Self {
            settle: settle_ms,
            hold: hold_ms,
            timeout: timeout_ms,
            deadline: attempt_timeout_ms,
            attempts,
            tier,
            mechanism,
            startup_isolated,
            spread,
            status,
        }
    }
}

impl From<&ControlReport> for Control {
    fn from(control: &ControlReport) -> Self {
        let ControlReport {
            vouches,
            counts,
            flow,
            probe,
            source,
            target,
            address,
            transport,
            attempts,
            opened,
        } = control.clone();
        Self {
            vouches,
            counts,
            flow,
            probe,
            source,
            target,
            address,
            transport,
            attempts,
            opened,
        }
    }
}

impl From<&EnvironmentInfo> for BackendKind {
    fn from(environment_info: &EnvironmentInfo) -> Self {
        let EnvironmentInfo {
            cluster_uid,
            server,
            version,
            operator,
            policies,
            probe_images: _,
        } = environment_info.clone();
        let before = Some(policies.iter().map(Policy::from).collect());
        Self {
            cluster_uid,
            server,
            version,
            operator,
            policies: Policies {
                before,
                after: None,
            },
        }
    }
}

impl From<&PolicyState> for Policy {
    fn from(policy: &PolicyState) -> Self {
        let PolicyState {
            policy: reference,
            uid,
            resource_version,
            sha256,
        } = policy.clone();
        Self {
            kind: reference.kind.to_string(),
            namespace: reference.namespace,
            name: reference.name,
            uid,
            resource_version,
            sha256,
        }
    }
}

impl From<&Reach> for ReachDocument {
    fn from(reach: &Reach) -> Self {
        Self {
            source_nodes: reach.source_nodes,
            of_source_nodes: reach.of_source_nodes,
            target_pods: reach.target_pods,
            of_target_pods: reach.of_target_pods,
        }
    }
}

impl From<&FlowReport> for FlowDocument {
    fn from(flow: &FlowReport) -> Self {
        let FlowReport {
            flow,
            probe,
            source,
            sent_as,
            target,
            address,
            transport,
            request,
            predicted,
            shows,
            text,
            attempts,
            opened,
            restarts,
            window,
            control,
            able,
            path,
            same_node_control,
            record,
            answered_by,
        } = flow.clone();
        let window = window.map(|window| Window {
            from_ms: window.from_ms,
            to_ms: window.to_ms,
            attempts: window.attempts,
        });
        Self {
            flow,
            probe,
            source,
            sent_as,
            target,
            address,
            transport,
            request,
            predicted: predicted.map(|predicted| predicted.to_string()),
            shows,
            text,
            attempts,
            opened,
            restarts,
            window,
            control,
            able,
            path,
            same_node_control,
            record,
            answered_by,
        }
    }
}
