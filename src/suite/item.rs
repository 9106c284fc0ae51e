//! One item of a line: who, and which port or request of it.

use super::forms::{
    Misfit, is_dns_label, is_method, is_object_name, parse_kind, parse_port_ref, split_transport,
};
use super::grammar::{Fault, Piece, is_port_alone};
use super::{Locator, PortItem, PortRef, Scheme, TargetWhat, Url};
use crate::model::{HostName, ObjectRef, Port, Transport, WorkloadRef};
use std::net::{IpAddr, Ipv6Addr};
use std::ops::Range;

/// Whom an item names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Who {
    /// A word: an endpoint, a group, or something built in.
    Word(String),
    /// Found without a definition, with its text.
    InPlace(Locator, String),
    /// `*`.
    All,
}

/// A source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ParsedSource {
    /// Who.
    pub(super) who: Who,
    /// Where it stands in the line.
    pub(super) range: Range<usize>,
}

/// A target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ParsedTarget {
    /// Who.
    pub(super) who: Who,
    /// Where the name stands in the line.
    pub(super) who_range: Range<usize>,
    /// What of it.
    pub(super) what: TargetWhat,
    /// The method before a URL, if one was written.
    pub(super) method: Option<String>,
    /// Where the whole item stands.
    pub(super) range: Range<usize>,
}

/// Parses a source.
pub(super) fn parse_source(item: Piece<'_>) -> Result<ParsedSource, Fault> {
    if item.text.is_empty() {
        return Err(empty(item, "source"));
    }
    if item.text.contains("://") {
        return Err(Fault::new(
            item.range(),
            "a URL cannot be a source",
            "name who sends: an endpoint, a group, runner, nodes or *",
        ));
    }
    one_word(item)?;
    let (who, port) = split_port(item)?;
    if let Some(port) = port {
        return Err(Fault::new(
            port.range(),
            "a source has no port",
            format!("write {}; the port belongs to the target", who.text),
        ));
    }
    Ok(ParsedSource {
        who: parse_who(who)?,
        range: item.range(),
    })
}

/// Parses a target; `named` is the item before it that has a name, for help.
pub(super) fn parse_target(
    item: Piece<'_>,
    named: Option<Piece<'_>>,
) -> Result<ParsedTarget, Fault> {
    if item.text.is_empty() {
        return Err(empty(item, "target"));
    }
    if item.text.contains("://") {
        return parse_url_item(item);
    }
    if is_port_alone(item.text) {
        return Err(port_alone(item, named));
    }
    one_word(item)?;
    let (who, port) = split_port(item)?;
    let what = match port {
        None => TargetWhat::KnownPorts(None),
        Some(port) => parse_what(port)?,
    };
    Ok(ParsedTarget {
        who: parse_who(who)?,
        who_range: who.range(),
        what,
        method: None,
        range: item.range(),
    })
}

fn empty(item: Piece<'_>, what: &str) -> Fault {
    Fault::new(
        item.range(),
        format!("a {what} is missing"),
        "write SOURCES -> TARGETS allowed|denied, with a name on both sides of every comma",
    )
}

fn one_word(item: Piece<'_>) -> Result<(), Fault> {
    let words: Vec<&str> = item.text.split_whitespace().collect();
    if words.len() < 2 {
        return Ok(());
    }
    Err(Fault::new(
        item.range(),
        format!("{:?} is more than one name", item.text),
        format!("put a comma between names: {}", words.join(", ")),
    ))
}

/// "write api:8080, api:8443"
fn port_alone(item: Piece<'_>, named: Option<Piece<'_>>) -> Fault {
    let port = item.text.strip_prefix(':').unwrap_or(item.text);
    let help = match named {
        Some(before) => {
            let name = split_port(before).map_or(before.text, |(who, _)| who.text);
            format!(
                "every target is named: write {}, {name}:{port}",
                before.text
            )
        }
        None => format!("name the target: api:{port}"),
    };
    Fault::new(
        item.range(),
        format!("{:?} is a port without a name", item.text),
        help,
    )
}

/// Splits NAME:PORT; the colons of an address in brackets are its own.
fn split_port(item: Piece<'_>) -> Result<(Piece<'_>, Option<Piece<'_>>), Fault> {
    if item.text.starts_with('[') {
        let Some(end) = item.text.find(']') else {
            return Err(Fault::new(
                item.range(),
                "the bracket is never closed",
                "write [2001:db8::1]:443",
            ));
        };
        let rest = item.slice(end + 1..item.text.len());
        let who = item.slice(0..end + 1);
        return match rest.text.strip_prefix(':') {
            _ if rest.text.is_empty() => Ok((who, None)),
            Some(_) => Ok((who, Some(rest.slice(1..rest.text.len())))),
            None => Err(Fault::new(
                rest.range(),
                format!("{:?} cannot follow an address", rest.text),
                "write [2001:db8::1]:443",
            )),
        };
    }
    let Some((who, port)) = item.split_once(':') else {
        return Ok((item, None));
    };
    if port.text.contains(':') {
        let bare = item.text.parse::<Ipv6Addr>().is_ok();
        let help = if bare {
            format!("write an IPv6 address in brackets: [{}]", item.text)
        } else {
            "write NAME:PORT, and an IPv6 address in brackets".to_owned()
        };
        return Err(Fault::new(
            item.range(),
            format!("{:?} has more than one colon", item.text),
            help,
        ));
    }
    Ok((who, Some(port)))
}

fn parse_who(who: Piece<'_>) -> Result<Who, Fault> {
    let text = who.text;
    if text == "*" {
        return Ok(Who::All);
    }
    let in_place = |locator| Ok(Who::InPlace(locator, text.to_owned()));
    if let Some(address) = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
    {
        return match address.parse::<Ipv6Addr>() {
            Ok(address) => in_place(Locator::Address(IpAddr::V6(address))),
            Err(_) => Err(Fault::new(
                who.range(),
                format!("{address:?} is not an IPv6 address"),
                "brackets are for IPv6 addresses alone: [2001:db8::1]",
            )),
        };
    }
    if text.contains('/') {
        return parse_object(who).and_then(in_place);
    }
    if text.contains('.') {
        if let Ok(address) = text.parse::<IpAddr>() {
            return in_place(Locator::Address(address));
        }
        if text.chars().all(|c| c.is_ascii_digit() || c == '.') {
            return Err(Fault::new(
                who.range(),
                format!("{text:?} is not an IPv4 address"),
                "four numbers from 0 to 255: 203.0.113.66",
            ));
        }
        return match HostName::parse(text) {
            Ok(host) => in_place(Locator::Host(host)),
            Err(error) => Err(Fault::of(
                who.range(),
                Misfit {
                    message: error.to_string(),
                    help: None,
                },
            )),
        };
    }
    if text.is_empty() {
        return Err(Fault::new(
            who.range(),
            "a name is missing",
            "write NAME:PORT",
        ));
    }
    Ok(Who::Word(text.to_owned()))
}

/// `shop/Deployment/web`, `shop/Service/api`.
fn parse_object(who: Piece<'_>) -> Result<Locator, Fault> {
    let fault = |message: String, help: &str| Err(Fault::new(who.range(), message, help));
    let parts: Vec<&str> = who.text.split('/').collect();
    let [namespace, kind, name] = parts.as_slice() else {
        return match parts.as_slice() {
            [address, _] if address.parse::<IpAddr>().is_ok() => fault(
                format!("{:?} is a range of addresses", who.text),
                "a range cannot be tested: name one address of it",
            ),
            [name, "tcp" | "udp"] => fault(
                format!("{:?} names a transport without a port", who.text),
                &format!("write {name}:*/udp or {name}:*/tcp for all its known ports"),
            ),
            _ => fault(
                format!("{:?} is not NAMESPACE/KIND/NAME", who.text),
                "write for example shop/Deployment/web",
            ),
        };
    };
    if !is_dns_label(namespace) {
        return fault(
            format!("{namespace:?} cannot be a namespace"),
            "write NAMESPACE/KIND/NAME, for example shop/Deployment/web",
        );
    }
    if !is_object_name(name) {
        return fault(
            format!("{name:?} cannot be the name of an object"),
            "write NAMESPACE/KIND/NAME, for example shop/Deployment/web",
        );
    }
    let (namespace, name) = ((*namespace).to_owned(), (*name).to_owned());
    if *kind == "Service" {
        return Ok(Locator::Service {
            service: ObjectRef {
                namespace,
                kind: "Service".to_owned(),
                name,
            },
        });
    }
    let kind = parse_kind(kind).map_err(|misfit| Fault::of(who.range(), misfit))?;
    Ok(Locator::Workload {
        namespace,
        workload: WorkloadRef { kind, name },
    })
}

/// What follows the colon: a number, a range, a name or `*`, and a transport.
fn parse_what(port: Piece<'_>) -> Result<TargetWhat, Fault> {
    let fault = |misfit| Fault::of(port.range(), misfit);
    if port.text.is_empty() {
        return Err(Fault::new(
            port.start.saturating_sub(1)..port.start,
            "nothing follows the colon",
            "write a port, or leave the colon out for every known port",
        ));
    }
    let (port_text, transport) = split_transport(port.text).map_err(fault)?;
    if port_text == "*" {
        return Ok(TargetWhat::KnownPorts(transport));
    }
    let transport = transport.unwrap_or(Transport::Tcp);
    let digits = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_digit());
    if let Some((from, to)) = port_text
        .split_once('-')
        .filter(|(from, to)| digits(from) && digits(to))
    {
        let number = |text: &str| {
            Port::parse_number(text).map_err(|error| {
                fault(Misfit {
                    message: error.to_string(),
                    help: Some("write a range like 8080-8090".to_owned()),
                })
            })
        };
        let (from, to) = (number(from)?, number(to)?);
        return match from.cmp(&to) {
            std::cmp::Ordering::Less => Ok(TargetWhat::Range {
                from,
                to,
                transport,
            }),
            std::cmp::Ordering::Equal => Ok(TargetWhat::Port(PortItem {
                port: PortRef::Number(from),
                transport,
            })),
            std::cmp::Ordering::Greater => Err(Fault::new(
                port.range(),
                format!("the range {from}-{to} is empty"),
                format!("write {to}-{from}"),
            )),
        };
    }
    let port = parse_port_ref(port_text).map_err(fault)?;
    Ok(TargetWhat::Port(PortItem { port, transport }))
}

/// `https://payment/health`, `POST http://api:8080/x`.
fn parse_url_item(item: Piece<'_>) -> Result<ParsedTarget, Fault> {
    let (method, url) = match item.text.split_once(char::is_whitespace) {
        None => (None, item),
        Some((method, rest)) => {
            let rest = item
                .slice(item.text.len() - rest.len()..item.text.len())
                .trim();
            let method_piece = item.slice(0..method.len());
            if rest.text.contains(char::is_whitespace) || !rest.text.contains("://") {
                return Err(Fault::new(
                    item.range(),
                    format!("{:?} is more than one URL", item.text),
                    "put a comma between targets, and write a blank in a URL as %20",
                ));
            }
            if !is_method(method) {
                return Err(Fault::new(
                    method_piece.range(),
                    format!("{method:?} is not an HTTP method"),
                    "write the method in capitals before the URL: POST https://api/x",
                ));
            }
            (Some(method.to_owned()), rest)
        }
    };
    let Some((scheme_text, _)) = url.text.split_once("://") else {
        return Err(Fault::new(
            url.range(),
            "the URL has no scheme",
            "write https://NAME/PATH",
        ));
    };
    let scheme_piece = url.slice(0..scheme_text.len());
    let scheme = parse_scheme(scheme_piece)?;
    if let Some(method) = &method
        && !scheme.is_http()
    {
        return Err(Fault::new(
            item.range(),
            format!("{scheme_text} has no method"),
            format!("remove {method}"),
        ));
    }
    let rest = url.slice(scheme_text.len() + 3..url.text.len());
    let authority_end = rest.text.find(['/', '?', '#']).unwrap_or(rest.text.len());
    let authority = rest.slice(0..authority_end);
    let path = rest.slice(authority_end..rest.text.len());
    check_path(scheme, path)?;
    if authority.text.contains('@') {
        return Err(Fault::new(
            authority.range(),
            "a URL here has no user",
            "send credentials as a header, in the long form",
        ));
    }
    let (who, port) = split_port(authority)?;
    if who.text.is_empty() {
        return Err(Fault::new(
            url.range(),
            "the URL names no target",
            format!("write {scheme_text}://NAME/PATH"),
        ));
    }
    let port = match port {
        None => None,
        Some(port) => {
            Some(parse_port_ref(port.text).map_err(|misfit| Fault::of(port.range(), misfit))?)
        }
    };
    let parsed = parse_who(who)?;
    if parsed == Who::All {
        return Err(Fault::new(
            who.range(),
            "a URL needs one name, not *",
            "name an endpoint, a group, a host or an address",
        ));
    }
    let shown = method.as_deref().filter(|method| *method != "GET");
    let text = shown.map_or_else(
        || url.text.to_owned(),
        |method| format!("{method} {}", url.text),
    );
    let what = TargetWhat::Url(Url {
        scheme,
        method: method.clone().unwrap_or_else(|| "GET".to_owned()),
        port,
        path: path.text.to_owned(),
        text,
    });
    Ok(ParsedTarget {
        who: parsed,
        who_range: who.range(),
        what,
        method,
        range: item.range(),
    })
}

fn parse_scheme(scheme: Piece<'_>) -> Result<Scheme, Fault> {
    const ALL: &str = "the schemes are http, https, tls and dns";
    if let Some(known) = Scheme::parse(scheme.text) {
        return Ok(known);
    }
    match scheme.text {
        "grpc" => Err(Fault::new(
            scheme.range(),
            "grpc cannot be tested yet",
            "test its port: NAME:PORT",
        )),
        transport @ ("tcp" | "udp") => Err(Fault::new(
            scheme.range(),
            format!("{transport} is no scheme"),
            format!("write NAME:PORT/{transport}"),
        )),
        other => Err(Fault::new(
            scheme.range(),
            format!("{other:?} is not a scheme"),
            ALL,
        )),
    }
}

fn check_path(scheme: Scheme, path: Piece<'_>) -> Result<(), Fault> {
    let fault = |message: &str, help: &str| Err(Fault::new(path.range(), message, help));
    if path.text.contains('#') {
        return fault(
            "a URL's fragment is never sent",
            "remove # and what follows it",
        );
    }
    if !path.text.chars().all(|c| c.is_ascii_graphic()) {
        return fault(
            "the path holds characters that a URL cannot have",
            "write them percent-encoded: ö is %C3%B6",
        );
    }
    match scheme {
        Scheme::Http | Scheme::Https => Ok(()),
        Scheme::Tls if path.text.trim_end_matches('/').is_empty() => Ok(()),
        Scheme::Tls => fault(
            "a TLS handshake has no path",
            "remove the path, or write https://",
        ),
        Scheme::Dns => match path.text.strip_prefix('/') {
            None | Some("") => Err(Fault::new(
                path.start.saturating_sub(1)..path.start,
                "a DNS query needs a name",
                "write dns://SERVER/NAME, for example dns://10.96.0.10/payments.example",
            )),
            Some(name) if name.contains(['/', '?']) => fault(
                "a DNS query asks for one name",
                "write dns://SERVER/NAME; the record type is set by record: in the long form",
            ),
            Some(_) => Ok(()),
        },
    }
}
