//! Observations in words.

use crate::wire::StopCause;

/// Describes how a stage ended that was not passed.
pub fn describe_how(how: &StopCause) -> String {
    match how {
        StopCause::Silence => "no answer".into(),
        StopCause::Unfinished => "no answer when the probe ended".into(),
        StopCause::Error {
            icmp: Some(icmp), ..
        } => {
            let protocol = if icmp.v6 { "ICMPv6" } else { "ICMP" };
            let from = icmp
                .offender
                .map_or(String::new(), |offender| format!(" from {offender}"));
            format!("{protocol} {}/{}{from}", icmp.ty, icmp.code)
        }
        StopCause::Error {
            errno: 111,
            icmp: None,
        } => "refused (RST)".into(),
        StopCause::Error {
            errno: 104,
            icmp: None,
        } => "reset (RST)".into(),
        StopCause::Error { errno, icmp: None } => format!("error {errno}"),
        StopCause::Closed => "closed by the other side".into(),
        StopCause::Alert { code } => format!("TLS alert {code}"),
        StopCause::Rcode { code } => format!("DNS response code {code}"),
        StopCause::Garbled { what } => format!("not the expected protocol: {what}"),
    }
}
