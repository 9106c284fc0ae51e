//! The plan as environment variables: JSON, deflated (zlib), base64, in chunks.
//!
//! Environment, because it reaches a container without a volume, a config map or an exec, and
//! because the kubelet shows it to nobody who may not see the pod's specification anyway.

use crate::text::hex;
use crate::wire::{Plan, VERSION};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::read::ZlibDecoder;
use flate2::write::ZlibEncoder;
use sha2::{Digest, Sha256};
use std::io::{Read, Write};

/// `WATERTIGHT_PLAN_0`, `WATERTIGHT_PLAN_1`, ...
const PREFIX: &str = "WATERTIGHT_PLAN_";

/// The most bytes of one variable's value. Linux refuses a string of 131,072 bytes, name included
/// (`MAX_ARG_STRLEN`, execve(2)).
const MAX_CHUNK: usize = 96 * 1024;

/// The most bytes of all values; arguments and environment share a quarter of the stack limit
/// (execve(2)).
const MAX_TOTAL: usize = 512 * 1024;

/// The most bytes of JSON text. Bounds what a damaged variable could inflate to.
const MAX_JSON: u64 = 32 * 1024 * 1024;

/// A plan that does not fit into the environment of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlanTooLarge {
    /// What it takes, bytes of base64.
    pub bytes: usize,
    /// What there is.
    pub limit: usize,
}

impl std::fmt::Display for PlanTooLarge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { bytes, limit } = self;
        write!(
            f,
            "a probe's plan takes {bytes} bytes of its environment, more than {limit}; give it fewer flows"
        )
    }
}

impl std::error::Error for PlanTooLarge {}

/// The plan as environment variables, name and value.
///
/// # Errors
///
/// [`PlanTooLarge`] beyond 512 KiB in all.
pub fn encode_plan(plan: &Plan) -> Result<Vec<(String, String)>, PlanTooLarge> {
    let json = json(plan);
    let encode = |level| STANDARD.encode(deflate(json.as_bytes(), level));
    let mut text = encode(Compression::fast());
    if text.len() > MAX_TOTAL {
        // Ten times slower, which a run with hundreds of probes would notice.
        text = encode(Compression::best());
    }
    if text.len() > MAX_TOTAL {
        return Err(PlanTooLarge {
            bytes: text.len(),
            limit: MAX_TOTAL,
        });
    }
    Ok(text
        .as_bytes()
        .chunks(MAX_CHUNK)
        .enumerate()
        // Base64 is ASCII, so every chunk is valid UTF-8 and nothing is replaced.
        .map(|(n, chunk)| {
            (
                format!("{PREFIX}{n}"),
                String::from_utf8_lossy(chunk).into_owned(),
            )
        })
        .collect())
}

/// SHA-256 of the plan's JSON text, hexadecimal, as it comes back in hello.
pub fn plan_digest(plan: &Plan) -> String {
    digest(&json(plan))
}

/// What came out of the environment.
pub(crate) struct Received {
    /// SHA-256 of the JSON text; empty where there was none.
    pub(crate) digest: String,
    /// The run, where the text could be read at all.
    pub(crate) run: String,
    /// The plan, or what is wrong with it.
    pub(crate) plan: Result<Plan, String>,
}

/// Reads the plan by `variable`, which returns a variable's value.
pub(crate) fn receive(variable: impl Fn(&str) -> Option<String>) -> Received {
    let text = match text_of(variable) {
        Ok(text) => text,
        Err(why) => {
            return Received {
                digest: String::new(),
                run: String::new(),
                plan: Err(why),
            };
        }
    };
    // Of a plan that is not ours to carry out, the run is still told where it can be read.
    let loose: Loose = serde_json::from_str(&text).unwrap_or_default();
    let plan = match loose.v {
        Some(v) if v != u64::from(VERSION) => Err(format!(
            "the plan is of version {v}, this probe of version {VERSION}"
        )),
        _ => serde_json::from_str(&text).map_err(|e| format!("the plan's text: {e}")),
    };
    Received {
        digest: digest(&text),
        run: loose.run.unwrap_or_default(),
        plan,
    }
}

/// What every version of a plan has. All else is passed over without being kept.
#[derive(Default, serde::Deserialize)]
struct Loose {
    v: Option<u64>,
    run: Option<String>,
}

fn text_of(variable: impl Fn(&str) -> Option<String>) -> Result<String, String> {
    let base64: String = (0..)
        .map_while(|n: u32| variable(&format!("{PREFIX}{n}")))
        .collect();
    if base64.is_empty() {
        return Err(format!("no {PREFIX}0 in the environment"));
    }
    let deflated = STANDARD
        .decode(base64)
        .map_err(|e| format!("the plan's base64: {e}"))?;
    let mut text = String::new();
    ZlibDecoder::new(&deflated[..])
        .take(MAX_JSON)
        .read_to_string(&mut text)
        .map_err(|e| format!("the plan's deflated text: {e}"))?;
    Ok(text)
}

#[expect(
    clippy::expect_used,
    reason = "a plan has neither maps with keys that are no strings nor a failing Serialize"
)]
fn json(plan: &Plan) -> String {
    serde_json::to_string(plan).expect("a plan is representable as JSON")
}

fn deflate(text: &[u8], level: Compression) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), level);
    // Writing to memory does not fail; if it ever did, the digest in hello would tell.
    drop(encoder.write_all(text));
    encoder.finish().unwrap_or_default()
}

fn digest(text: &str) -> String {
    hex(&Sha256::digest(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Deadlines, Flow, Pace, Request, Target, Transport};
    use std::collections::BTreeMap;

    fn plan(flows: u32) -> Plan {
        let payload = |id: u32| hex(&Sha256::digest(id.to_le_bytes()));
        Plan {
            v: VERSION,
            run: "r1".into(),
            seed: u64::MAX,
            ttl_ms: 1,
            heartbeat_ms: 1000,
            trust: vec![],
            resolver: None,
            listen: None,
            alone: None,
            flows: (0..flows)
                .map(|id| Flow {
                    id,
                    target: Target::Address([127, 0, 0, 1].into()),
                    port: 1,
                    transport: Transport::Udp,
                    request: Request::Payload { hex: payload(id) },
                    deadlines: Deadlines {
                        resolve_ms: 1,
                        connect_ms: 1,
                        tls_ms: 1,
                        request_ms: 1,
                    },
                    pace: Pace {
                        bursts_ms: vec![0],
                        interval_ms: 1000,
                        attempts: None,
                        single: false,
                        accepted: None,
                    },
                })
                .collect(),
        }
    }

    #[test]
    fn a_plan_in_several_variables_comes_back_with_its_digest() {
        let plan = plan(2_000);
        let variables: BTreeMap<_, _> = encode_plan(&plan).unwrap().into_iter().collect();
        assert!(
            variables.len() > 1,
            "the sample must need more than one variable"
        );
        assert!(
            variables
                .iter()
                .all(|(name, value)| name.len() + value.len() < 131_072)
        );
        let received = receive(|name| variables.get(name).cloned());
        assert_eq!(received.digest, plan_digest(&plan));
        assert_eq!(received.run, "r1");
        assert_eq!(received.plan.unwrap(), plan);
    }

    #[test]
    fn a_plan_beyond_the_environment_is_refused() {
        let error = encode_plan(&plan(20_000)).unwrap_err();
        assert!(error.bytes > error.limit);
    }

    #[test]
    fn a_damaged_plan_names_what_is_wrong() {
        let one = |value: &str| {
            let value = value.to_owned();
            receive(move |name| (name == "WATERTIGHT_PLAN_0").then(|| value.clone()))
                .plan
                .unwrap_err()
        };
        assert!(
            receive(|_| None)
                .plan
                .unwrap_err()
                .contains("WATERTIGHT_PLAN_0")
        );
        assert!(one("@@@").contains("base64"));
        assert!(one("AAAA").contains("deflated"));
        assert!(
            one(&STANDARD.encode(deflate(b"{}", Compression::fast()))).contains("missing field")
        );
        let newer = STANDARD.encode(deflate(
            br#"{"v":99,"run":"x","new":1}"#,
            Compression::fast(),
        ));
        assert!(one(&newer).contains("version 99"));
    }
}
