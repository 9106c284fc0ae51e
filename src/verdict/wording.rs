//! Observations in words.

use crate::wire::How;

/// Describes how a stage ended that was not passed.
pub fn describe_how(how: &How) -> String {
    match how {
        How::Silence => "no answer".into(),
        How::Unfinished => "no answer when the probe ended".into(),
        How::Error {
            icmp: Some(icmp), ..
        } => {
            let protocol = if icmp.v6 { "ICMPv6" } else { "ICMP" };
            let from = icmp
                .offender
                .map_or(String::new(), |offender| format!(" from {offender}"));
            format!("{protocol} {}/{}{from}", icmp.ty, icmp.code)
        }
        How::Error {
            errno: 111,
            icmp: None,
        } => "refused (RST)".into(),
        How::Error {
            errno: 104,
            icmp: None,
        } => "reset (RST)".into(),
        How::Error { errno, icmp: None } => format!("error {errno}"),
        How::Closed => "closed by the other side".into(),
        How::Alert { code } => format!("TLS alert {code}"),
        How::Rcode { code } => format!("DNS response code {code}"),
        How::Garbled { what } => format!("not the expected protocol: {what}"),
    }
}
