//! The plan as environment variables: JSON, deflated (zlib), base64, in chunks.
//!
//! The environment reaches a container without a volume, a config map or an exec, and is visible
//! only to those who may read the pod's specification anyway.

use crate::text::hex;
use crate::wire::{Plan, VERSION};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::read::ZlibDecoder;
use flate2::write::ZlibEncoder;
use sha2::{Digest, Sha256};
use std::io::{Read, Write};

/// Prefix of the variables `WATERTIGHT_PLAN_0`, `WATERTIGHT_PLAN_1`, ...
const PREFIX: &str = "WATERTIGHT_PLAN_";

/// Maximum bytes of one variable's value. Linux refuses a string of 131,072 bytes, name included
/// (`MAX_ARG_STRLEN`, execve(2)).
const MAX_CHUNK: usize = 96 * 1024;

/// Maximum bytes of all values; arguments and environment share a quarter of the stack limit
/// (execve(2)).
const MAX_TOTAL: usize = 512 * 1024;

/// Maximum bytes of JSON text: limits what a damaged variable can inflate to.
const MAX_JSON: u64 = 32 * 1024 * 1024;

/// A plan that does not fit into the environment of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlanTooLarge {
    /// Size of the plan, bytes of base64.
    pub bytes: usize,
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

/// Encodes the plan as environment variables, by name and value.
///
/// # Errors
///
/// [`PlanTooLarge`] beyond 512 KiB in all.
pub fn encode_plan(plan: &Plan) -> Result<Vec<(String, String)>, PlanTooLarge> {
    let json = json(plan);
    let mut text = encode(&json, Compression::fast());
    if text.len() > MAX_TOTAL {
        // Ten times slower, which would delay a run with hundreds of probes.
        text = encode(&json, Compression::best());
    }
    if text.len() > MAX_TOTAL {
        return Err(PlanTooLarge {
            bytes: text.len(),
            limit: MAX_TOTAL,
        });
    }

    let chunks = text.as_bytes().chunks(MAX_CHUNK).enumerate();
    Ok(chunks
        .map(|(n, chunk)| {
            // Base64 is ASCII, so every chunk is valid UTF-8 and nothing is replaced.
            let value = String::from_utf8_lossy(chunk).into_owned();
            (format!("{PREFIX}{n}"), value)
        })
        .collect())
}

/// SHA-256 of the plan's JSON text, hexadecimal, as the probe returns it in hello.
pub fn plan_digest(plan: &Plan) -> String {
    digest(&json(plan))
}

/// The plan as read from the environment.
pub(crate) struct Received {
    /// SHA-256 of the JSON text; empty without a text.
    pub(crate) digest: String,
    /// Id of the run; empty where the text has none.
    pub(crate) run: String,
    /// The plan, or what is wrong with it.
    pub(crate) plan: Result<Plan, String>,
}

/// Reads the plan; `variable` returns the value of an environment variable.
pub(crate) fn receive(variable: impl Fn(&str) -> Option<String>) -> Received {
    let text = match read_text(variable) {
        Ok(text) => text,
        Err(error) => {
            return Received {
                digest: String::new(),
                run: String::new(),
                plan: Err(error),
            };
        }
    };

    // The run is reported even for a plan that this probe cannot carry out.
    let header: Header = serde_json::from_str(&text).unwrap_or_default();
    let plan = match header.v {
        Some(v) if v != u64::from(VERSION) => Err(format!(
            "the plan is of version {v}, this probe of version {VERSION}"
        )),
        _ => serde_json::from_str(&text).map_err(|e| format!("the plan's text: {e}")),
    };
    Received {
        digest: digest(&text),
        run: header.run.unwrap_or_default(),
        plan,
    }
}

/// The fields that plans of every version have.
#[derive(Default, serde::Deserialize)]
struct Header {
    v: Option<u64>,
    run: Option<String>,
}

/// Reads the plan's JSON text.
fn read_text(variable: impl Fn(&str) -> Option<String>) -> Result<String, String> {
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

/// Base64 of the deflated text.
fn encode(text: &str, level: Compression) -> String {
    let mut encoder = ZlibEncoder::new(Vec::new(), level);
    // Writing to memory does not fail; if it did, the digest in hello would be another.
    drop(encoder.write_all(text.as_bytes()));
    STANDARD.encode(encoder.finish().unwrap_or_default())
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
        Plan {
            v: VERSION,
            run: "r1".into(),
            seed: u64::MAX,
            ttl_ms: 1,
            heartbeat_ms: 1000,
            trust: vec![],
            resolver: None,
            listen: None,
            idle_timeout: None,
            flows: (0..flows).map(flow).collect(),
        }
    }

    /// A flow with a payload that does not compress.
    fn flow(id: u32) -> Flow {
        Flow {
            id,
            target: Target::Address([127, 0, 0, 1].into()),
            port: 1,
            transport: Transport::Udp,
            request: Request::Payload {
                hex: hex(&Sha256::digest(id.to_le_bytes())),
            },
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
            small_segments: false,
        }
    }

    /// The error for a plan in one variable.
    fn error_of(value: &str) -> String {
        let received = receive(|name| (name == "WATERTIGHT_PLAN_0").then(|| value.to_owned()));
        received.plan.unwrap_err()
    }

    #[test]
    fn plan_in_several_variables_is_read_with_its_digest() {
        let plan = plan(2_000);
        let variables: BTreeMap<_, _> = encode_plan(&plan).unwrap().into_iter().collect();
        assert!(
            variables.len() > 1,
            "the plan must need more than one variable"
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
    fn plan_too_large_for_the_environment_is_refused() {
        let error = encode_plan(&plan(20_000)).unwrap_err();
        assert!(error.bytes > error.limit);
    }

    #[test]
    fn error_of_a_damaged_plan_names_what_is_wrong() {
        let missing = receive(|_| None).plan.unwrap_err();
        assert!(missing.contains("WATERTIGHT_PLAN_0"));
        assert!(error_of("@@@").contains("base64"));
        assert!(error_of("AAAA").contains("deflated"));

        let empty = encode("{}", Compression::fast());
        assert!(error_of(&empty).contains("missing field"));
        let newer = encode(r#"{"v":99,"run":"x","new":1}"#, Compression::fast());
        assert!(error_of(&newer).contains("version 99"));
    }
}
