//! One item of a line: a reference to an endpoint, and the port or request of a target.

use super::forms::{
    FormatError, is_dns_label, is_method, is_object_name, parse_kind, parse_port_ref,
    split_transport,
};
use super::grammar::{Fragment, LineError, is_port_alone};
use super::{Locator, PortItem, PortRef, Scheme, TargetWhat, Url};
use crate::model::{HostName, ObjectRef, Port, RefusedAddress, Transport, WorkloadRef};
use std::net::{IpAddr, Ipv6Addr};
use std::ops::Range;

/// A reference to endpoints, as an item writes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum EndpointRef {
    /// The name of an endpoint, a group or a built-in endpoint.
    Name(String),
    /// An endpoint written inline, without a definition, with its text.
    Inline(Locator, String),
    /// `*`.
    All,
}

/// A parsed source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ParsedSource {
    pub(super) endpoint: EndpointRef,
    /// Byte range in the line.
    pub(super) range: Range<usize>,
}

/// A parsed target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ParsedTarget {
    pub(super) endpoint: EndpointRef,
    /// Byte range of the reference in the line.
    pub(super) endpoint_range: Range<usize>,
    pub(super) what: TargetWhat,
    /// The method before a URL, if one was written.
    pub(super) method: Option<String>,
    /// Byte range of the whole item in the line.
    pub(super) range: Range<usize>,
}

/// Parses a source.
pub(super) fn parse_source(item: Fragment<'_>) -> Result<ParsedSource, LineError> {
    if item.text.is_empty() {
        return Err(missing(item, "source"));
    }
    if item.text.contains("://") {
        return Err(LineError::new(
            item.range(),
            "a URL cannot be a source",
            "name who sends: an endpoint, a group, runner, nodes or *",
        ));
    }
    check_single_name(item)?;
    let (endpoint, port) = split_port(item)?;
    if let Some(port) = port {
        return Err(LineError::new(
            port.range(),
            "a source has no port",
            format!("write {}; the port belongs to the target", endpoint.text),
        ));
    }
    Ok(ParsedSource {
        endpoint: parse_endpoint_ref(endpoint)?,
        range: item.range(),
    })
}

/// Parses a target; `previous` is the nearest item before it that has a name, for help.
pub(super) fn parse_target(
    item: Fragment<'_>,
    previous: Option<Fragment<'_>>,
) -> Result<ParsedTarget, LineError> {
    if item.text.is_empty() {
        return Err(missing(item, "target"));
    }
    if item.text.contains("://") {
        return parse_url_item(item);
    }
    if is_port_alone(item.text) {
        return Err(port_alone(item, previous));
    }
    check_single_name(item)?;
    let (endpoint, port) = split_port(item)?;
    let what = match port {
        None => TargetWhat::KnownPorts(None),
        Some(port) => parse_ports(port)?,
    };
    Ok(ParsedTarget {
        endpoint: parse_endpoint_ref(endpoint)?,
        endpoint_range: endpoint.range(),
        what,
        method: None,
        range: item.range(),
    })
}

/// The error of a fragment, as the result of a parser.
fn error_at<T>(
    fragment: Fragment<'_>,
    message: impl Into<String>,
    help: &str,
) -> Result<T, LineError> {
    Err(LineError::new(fragment.range(), message, help))
}

fn missing(item: Fragment<'_>, role: &str) -> LineError {
    LineError::new(
        item.range(),
        format!("a {role} is missing"),
        "write SOURCES -> TARGETS allowed|denied, with a name on both sides of every comma",
    )
}

/// Checks that an item has no whitespace.
fn check_single_name(item: Fragment<'_>) -> Result<(), LineError> {
    let words: Vec<&str> = item.text.split_whitespace().collect();
    if words.len() < 2 {
        return Ok(());
    }
    Err(LineError::new(
        item.range(),
        format!("{:?} is more than one name", item.text),
        format!("put a comma between names: {}", words.join(", ")),
    ))
}

/// The error of a port without a name, with help such as "write api:8080, api:8443".
fn port_alone(item: Fragment<'_>, previous: Option<Fragment<'_>>) -> LineError {
    let port = item.text.strip_prefix(':').unwrap_or(item.text);
    let help = match previous {
        Some(previous) => {
            let name = split_port(previous).map_or(previous.text, |(endpoint, _)| endpoint.text);
            format!(
                "every target is named: write {}, {name}:{port}",
                previous.text
            )
        }
        None => format!("name the target: api:{port}"),
    };
    LineError::new(
        item.range(),
        format!("{:?} is a port without a name", item.text),
        help,
    )
}

/// Splits `NAME:PORT`; an IPv6 address in brackets counts as a name.
fn split_port(item: Fragment<'_>) -> Result<(Fragment<'_>, Option<Fragment<'_>>), LineError> {
    if item.text.starts_with('[') {
        let Some(end) = item.text.find(']') else {
            return Err(LineError::new(
                item.range(),
                "the bracket is never closed",
                "write [2001:db8::1]:443",
            ));
        };
        let rest = item.slice(end + 1..item.text.len());
        let endpoint = item.slice(0..end + 1);
        return match rest.text.strip_prefix(':') {
            _ if rest.text.is_empty() => Ok((endpoint, None)),
            Some(_) => Ok((endpoint, Some(rest.slice(1..rest.text.len())))),
            None => Err(LineError::new(
                rest.range(),
                format!("{:?} cannot follow an address", rest.text),
                "write [2001:db8::1]:443",
            )),
        };
    }
    let Some((endpoint, port)) = item.split_once(':') else {
        return Ok((item, None));
    };
    if port.text.contains(':') {
        let is_address = item.text.parse::<Ipv6Addr>().is_ok();
        let help = if is_address {
            format!("write an IPv6 address in brackets: [{}]", item.text)
        } else {
            "write NAME:PORT, and an IPv6 address in brackets".to_owned()
        };
        return Err(LineError::new(
            item.range(),
            format!("{:?} has more than one colon", item.text),
            help,
        ));
    }
    Ok((endpoint, Some(port)))
}

/// Parses a name, an inline endpoint or `*`.
fn parse_endpoint_ref(endpoint: Fragment<'_>) -> Result<EndpointRef, LineError> {
    let text = endpoint.text;
    if text == "*" {
        return Ok(EndpointRef::All);
    }
    if let Some(locator) = parse_inline(endpoint)? {
        return Ok(EndpointRef::Inline(locator, text.to_owned()));
    }

    if text.is_empty() {
        return Err(LineError::new(
            endpoint.range(),
            "a name is missing",
            "write NAME:PORT",
        ));
    }
    Ok(EndpointRef::Name(text.to_owned()))
}

/// Parses an address, a host name or `NAMESPACE/KIND/NAME`; `None` for a text that can only be a
/// name, because it has neither a bracket, a slash nor a dot.
fn parse_inline(endpoint: Fragment<'_>) -> Result<Option<Locator>, LineError> {
    let text = endpoint.text;
    if let Some(address) = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
    {
        return match address.parse::<Ipv6Addr>() {
            Ok(address) => target_address(endpoint, IpAddr::V6(address)).map(Some),
            Err(_) => Err(LineError::new(
                endpoint.range(),
                format!("{address:?} is not an IPv6 address"),
                "brackets are for IPv6 addresses alone: [2001:db8::1]",
            )),
        };
    }
    if text.contains('/') {
        return parse_object(endpoint).map(Some);
    }
    if text.contains('.') {
        if let Ok(address) = text.parse::<IpAddr>() {
            return target_address(endpoint, address).map(Some);
        }
        if text.chars().all(|c| c.is_ascii_digit() || c == '.') {
            return Err(LineError::new(
                endpoint.range(),
                format!("{text:?} is not an IPv4 address"),
                "four numbers from 0 to 255: 203.0.113.66",
            ));
        }
        return match HostName::parse(text) {
            Ok(host) => Ok(Some(Locator::Host(host))),
            Err(error) => Err(LineError::from_format(
                endpoint.range(),
                FormatError {
                    message: error.to_string(),
                    help: None,
                },
            )),
        };
    }
    Ok(None)
}

/// The locator of an address that can be a target.
fn target_address(endpoint: Fragment<'_>, address: IpAddr) -> Result<Locator, LineError> {
    match RefusedAddress::of(address) {
        None => Ok(Locator::Address(address)),
        Some(why) => Err(LineError::new(
            endpoint.range(),
            format!("{address} {why}"),
            why.help(),
        )),
    }
}

/// Parses `NAMESPACE/KIND/NAME`: `shop/Deployment/web`, `shop/Service/api`.
fn parse_object(endpoint: Fragment<'_>) -> Result<Locator, LineError> {
    let parts: Vec<&str> = endpoint.text.split('/').collect();
    let [namespace, kind, name] = parts.as_slice() else {
        return match parts.as_slice() {
            [address, _] if address.parse::<IpAddr>().is_ok() => error_at(
                endpoint,
                format!("{:?} is a range of addresses", endpoint.text),
                "a range cannot be tested: name one address of it",
            ),
            [name, "tcp" | "udp"] => error_at(
                endpoint,
                format!("{:?} names a transport without a port", endpoint.text),
                &format!("write {name}:*/udp or {name}:*/tcp for all its known ports"),
            ),
            _ => error_at(
                endpoint,
                format!("{:?} is not NAMESPACE/KIND/NAME", endpoint.text),
                "write for example shop/Deployment/web",
            ),
        };
    };
    if !is_dns_label(namespace) {
        return error_at(
            endpoint,
            format!("{namespace:?} cannot be a namespace"),
            "write NAMESPACE/KIND/NAME, for example shop/Deployment/web",
        );
    }
    if !is_object_name(name) {
        return error_at(
            endpoint,
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
    let kind = parse_kind(kind).map_err(|error| LineError::from_format(endpoint.range(), error))?;
    Ok(Locator::Workload {
        namespace,
        workload: WorkloadRef { kind, name },
    })
}

/// Parses the text after the colon: a number, a range, a name or `*`, and a transport.
fn parse_ports(port: Fragment<'_>) -> Result<TargetWhat, LineError> {
    if port.text.is_empty() {
        return Err(LineError::new(
            port.start.saturating_sub(1)..port.start,
            "nothing follows the colon",
            "write a port, or leave the colon out for every known port",
        ));
    }
    let (port_text, transport) =
        split_transport(port.text).map_err(|error| LineError::from_format(port.range(), error))?;
    if port_text == "*" {
        return Ok(TargetWhat::KnownPorts(transport));
    }
    let transport = transport.unwrap_or(Transport::Tcp);
    if let Some((from, to)) = port_text
        .split_once('-')
        .filter(|(from, to)| is_number(from) && is_number(to))
    {
        let from = parse_range_end(port, from)?;
        let to = parse_range_end(port, to)?;

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
            std::cmp::Ordering::Greater => Err(LineError::new(
                port.range(),
                format!("the range {from}-{to} is empty"),
                format!("write {to}-{from}"),
            )),
        };
    }

    let port =
        parse_port_ref(port_text).map_err(|error| LineError::from_format(port.range(), error))?;
    Ok(TargetWhat::Port(PortItem { port, transport }))
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_digit())
}

/// Parses the first or the last number of a range; `port` is the whole range, for the error.
fn parse_range_end(port: Fragment<'_>, number: &str) -> Result<u16, LineError> {
    Port::parse_number(number).map_err(|error| {
        LineError::new(
            port.range(),
            error.to_string(),
            "write a range like 8080-8090",
        )
    })
}

/// Splits a URL item into its method, if one is written, and the URL.
fn split_method(item: Fragment<'_>) -> Result<(Option<String>, Fragment<'_>), LineError> {
    match item.text.split_once(char::is_whitespace) {
        None => Ok((None, item)),
        Some((method, rest)) => {
            let rest = item
                .slice(item.text.len() - rest.len()..item.text.len())
                .trim();
            if rest.text.contains(char::is_whitespace) || !rest.text.contains("://") {
                return Err(LineError::new(
                    item.range(),
                    format!("{:?} is more than one URL", item.text),
                    "put a comma between targets, and write a blank in a URL as %20",
                ));
            }
            if !is_method(method) {
                return Err(LineError::new(
                    item.slice(0..method.len()).range(),
                    format!("{method:?} is not an HTTP method"),
                    "write the method in capitals before the URL: POST https://api/x",
                ));
            }
            Ok((Some(method.to_owned()), rest))
        }
    }
}

/// Parses a URL item: `https://payment/health`, `POST http://api:8080/x`.
fn parse_url_item(item: Fragment<'_>) -> Result<ParsedTarget, LineError> {
    let (method, url) = split_method(item)?;
    let Some((scheme_text, _)) = url.text.split_once("://") else {
        return Err(LineError::new(
            url.range(),
            "the URL has no scheme",
            "write https://NAME/PATH",
        ));
    };
    let scheme = parse_scheme(url.slice(0..scheme_text.len()))?;
    if let Some(method) = &method
        && !scheme.is_http()
    {
        return Err(LineError::new(
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
        return Err(LineError::new(
            authority.range(),
            "a URL cannot contain a user",
            "send credentials as a header, in the long form",
        ));
    }
    let (endpoint, port) = split_port(authority)?;
    if endpoint.text.is_empty() {
        return Err(LineError::new(
            url.range(),
            "the URL names no target",
            format!("write {scheme_text}://NAME/PATH"),
        ));
    }
    let port = match port {
        None => None,
        Some(port) => Some(
            parse_port_ref(port.text)
                .map_err(|error| LineError::from_format(port.range(), error))?,
        ),
    };

    let reference = parse_endpoint_ref(endpoint)?;
    if reference == EndpointRef::All {
        return Err(LineError::new(
            endpoint.range(),
            "a URL needs one name, not *",
            "name an endpoint, a group, a host or an address",
        ));
    }

    let shown_method = method.as_deref().filter(|method| *method != "GET");
    let text = shown_method.map_or_else(
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
        endpoint: reference,
        endpoint_range: endpoint.range(),
        what,
        method,
        range: item.range(),
    })
}

fn parse_scheme(scheme: Fragment<'_>) -> Result<Scheme, LineError> {
    if let Some(known) = Scheme::parse(scheme.text) {
        return Ok(known);
    }
    match scheme.text {
        "grpc" => Err(LineError::new(
            scheme.range(),
            "grpc cannot be tested yet",
            "test its port: NAME:PORT",
        )),
        transport @ ("tcp" | "udp") => Err(LineError::new(
            scheme.range(),
            format!("{transport} is not a scheme"),
            format!("write NAME:PORT/{transport}"),
        )),
        other => Err(LineError::new(
            scheme.range(),
            format!("{other:?} is not a scheme"),
            "the schemes are http, https, tls and dns",
        )),
    }
}

fn check_path(scheme: Scheme, path: Fragment<'_>) -> Result<(), LineError> {
    if path.text.contains('#') {
        return error_at(
            path,
            "a URL's fragment is never sent",
            "remove # and what follows it",
        );
    }
    if !path.text.chars().all(|c| c.is_ascii_graphic()) {
        return error_at(
            path,
            "the path holds characters that a URL cannot have",
            "write them percent-encoded: ö is %C3%B6",
        );
    }
    match scheme {
        Scheme::Http | Scheme::Https => Ok(()),
        Scheme::Tls if path.text.trim_end_matches('/').is_empty() => Ok(()),
        Scheme::Tls => error_at(
            path,
            "a TLS handshake has no path",
            "remove the path, or write https://",
        ),
        Scheme::Dns => match path.text.strip_prefix('/') {
            None | Some("") => Err(LineError::new(
                path.start.saturating_sub(1)..path.start,
                "a DNS query needs a name",
                "write dns://SERVER/NAME, for example dns://10.96.0.10/payments.example",
            )),
            Some(name) if name.contains(['/', '?']) => error_at(
                path,
                "a DNS query asks for one name",
                "write dns://SERVER/NAME; the record type is set by record: in the long form",
            ),
            Some(_) => Ok(()),
        },
    }
}
