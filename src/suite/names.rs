//! Names of a suite: endpoints, groups, what is built in, and what is written in place.

use super::item::Who;
use super::{Endpoint, EndpointId, Locator, PortItem, PortRef, Subject, suggest};
use crate::model::{ObjectRef, Transport};
use crate::source::{Diagnostic, Place, Span};
use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr};

/// How many endpoints the lines of a suite may name through groups. A suite this large is
/// generated, and the memory for it must not be.
const MAX_GROUP_MEMBERS: usize = 1_000_000;

/// How many unknown names get a guess: each is compared with every known name, and
/// more would not be read.
const MAX_GUESSES: usize = 100;

/// What is built in.
pub(super) const BUILT_IN: [&str; 2] = ["runner", "nodes"];

/// Targets that every cluster, or every cluster of one provider, has under the same address, by
/// name and with their ports. A suite that gives such a name to something else means that.
const PRESETS: [(&str, &[u16]); 4] = [
    // The Service by which pods reach the API server (Kubernetes, "Accessing the API from a Pod").
    ("apiserver", &[443]),
    // On every node (Kubernetes, "Ports and Protocols").
    ("kubelet", &[10_250]),
    // Link-local, the same with AWS, Azure and Google.
    ("instance-metadata", &[80]),
    // Azure's platform channel ("What is IP address 168.63.129.16?"): the wire server, and the
    // host's plugin.
    ("azure-wire-server", &[80, 32_526]),
];

/// The address of every instance's metadata service.
pub const INSTANCE_METADATA: IpAddr = IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254));

/// The address of Azure's wire server.
pub const WIRE_SERVER: IpAddr = IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16));

/// What a preset stands for, and its ports.
fn preset(word: &str) -> Option<(Locator, Vec<PortItem>)> {
    let (name, ports) = PRESETS.iter().find(|(name, _)| *name == word)?;
    let locator = match *name {
        "apiserver" => {
            let (namespace, kind, name) = (
                "default".to_owned(),
                "Service".to_owned(),
                "kubernetes".to_owned(),
            );
            Locator::Service {
                service: ObjectRef {
                    namespace,
                    kind,
                    name,
                },
            }
        }
        "kubelet" => Locator::Nodes,
        "instance-metadata" => Locator::Address(INSTANCE_METADATA),
        _ => Locator::Address(WIRE_SERVER),
    };
    let port = |number: &u16| PortItem {
        port: PortRef::Number(*number),
        transport: Transport::Tcp,
    };
    Some((locator, ports.iter().map(port).collect()))
}

/// Where the names come from, for help about one that is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// A suite's file.
    File,
    /// A line on the command line, which defines nothing.
    CommandLine,
}

/// What a name stands for.
#[derive(Debug, Clone)]
enum Named {
    Endpoint(EndpointId),
    Group(Vec<EndpointId>),
    /// Its definition is wrong and was reported: lines that use it are not wrong because of that.
    Broken,
}

/// The names that lines can use.
#[derive(Debug)]
pub(super) struct Names {
    origin: Origin,
    endpoints: Vec<Endpoint>,
    /// Where each endpoint's name stands, for warnings.
    spans: Vec<Span>,
    named: BTreeMap<String, (Named, Span)>,
    /// Endpoints written in place, and those built in, by their normal spelling.
    in_place: HashMap<String, EndpointId>,
    through_groups: usize,
    guesses: usize,
}

impl Names {
    pub(super) fn new(origin: Origin) -> Self {
        Self {
            origin,
            endpoints: Vec::new(),
            spans: Vec::new(),
            named: BTreeMap::new(),
            in_place: HashMap::new(),
            through_groups: 0,
            guesses: 0,
        }
    }

    /// The endpoints, as a suite holds them.
    pub(super) fn into_endpoints(self) -> Vec<Endpoint> {
        self.endpoints
    }

    pub(super) fn endpoints(&self) -> &[Endpoint] {
        &self.endpoints
    }

    pub(super) fn endpoint(&self, id: EndpointId) -> &Endpoint {
        &self.endpoints[id.0]
    }

    pub(super) fn span(&self, id: EndpointId) -> Span {
        self.spans[id.0]
    }

    pub(super) fn mark_used(&mut self, id: EndpointId) {
        self.endpoints[id.0].used = true;
    }

    /// Defines an endpoint; `None` for one that is wrong.
    pub(super) fn define_endpoint(
        &mut self,
        name: &str,
        span: Span,
        endpoint: Option<Endpoint>,
    ) -> Result<(), Diagnostic> {
        let named = match endpoint {
            Some(endpoint) => Named::Endpoint(self.add(endpoint, span)),
            None => Named::Broken,
        };
        self.define(name, span, named)
    }

    /// Defines a group; `None` for one that is wrong.
    pub(super) fn define_group(
        &mut self,
        name: &str,
        span: Span,
        members: Option<Vec<EndpointId>>,
    ) {
        // Clashes with endpoints were reported before members were looked up.
        let _clash = self.define(name, span, members.map_or(Named::Broken, Named::Group));
    }

    fn define(&mut self, name: &str, span: Span, named: Named) -> Result<(), Diagnostic> {
        self.check_free(name, span)?;
        self.named.insert(name.to_owned(), (named, span));
        Ok(())
    }

    /// Whether a name can be defined.
    pub(super) fn check_free(&self, name: &str, span: Span) -> Result<(), Diagnostic> {
        if BUILT_IN.contains(&name) {
            return Err(Diagnostic::error(
                span,
                format!("{name} is built in and cannot be defined"),
            )
            .with_help("choose another name"));
        }
        match self.named.get(name) {
            Some((_, first)) => Err(Diagnostic::error(
                span,
                format!("{name} is already the name of an endpoint"),
            )
            .with_secondary(*first, "defined here")
            .with_help("endpoints and groups share their names: rename one of them")),
            None => Ok(()),
        }
    }

    fn add(&mut self, endpoint: Endpoint, span: Span) -> EndpointId {
        self.endpoints.push(endpoint);
        self.spans.push(span);
        EndpointId(self.endpoints.len() - 1)
    }

    /// The subject that an item names; `None` for one whose definition is wrong.
    pub(super) fn look_up(
        &mut self,
        who: &Who,
        span: Span,
        place: &Place,
    ) -> Result<Option<Subject>, Diagnostic> {
        match who {
            Who::All if self.origin == Origin::CommandLine => Err(Diagnostic::error(
                span,
                "* means every endpoint of a suite, and a line alone has none",
            )
            .with_help("name the endpoints, or write a suite")),
            Who::All => Ok(Some(Subject::All)),
            Who::InPlace(locator, text) => Ok(Some(Subject::Endpoint(
                self.in_place(locator, text, span, place),
            ))),
            Who::Word(word) if word == "runner" => Ok(Some(Subject::Endpoint(self.in_place(
                &Locator::Runner,
                word,
                span,
                place,
            )))),
            Who::Word(word) if word == "nodes" => Ok(Some(Subject::Endpoint(self.in_place(
                &Locator::Nodes,
                word,
                span,
                place,
            )))),
            Who::Word(word) => match self.named.get(word) {
                Some((Named::Endpoint(id), _)) => Ok(Some(Subject::Endpoint(*id))),
                Some((Named::Group(members), _)) => {
                    self.through_groups += members.len();
                    if self.through_groups > MAX_GROUP_MEMBERS {
                        let message = format!(
                            "the suite names more than {MAX_GROUP_MEMBERS} endpoints through groups"
                        );
                        return Err(Diagnostic::error(span, message).with_help("split the suite"));
                    }
                    Ok(Some(Subject::Group(members.clone())))
                }
                Some((Named::Broken, _)) => Ok(None),
                None => match preset(word) {
                    Some((locator, ports)) => {
                        let id =
                            self.built_in(word.clone(), &locator, Some(ports), word, span, place);
                        Ok(Some(Subject::Endpoint(id)))
                    }
                    None => Err(self.unknown(word, span)),
                },
            },
        }
    }

    fn in_place(&mut self, locator: &Locator, text: &str, span: Span, place: &Place) -> EndpointId {
        // One host in two spellings is one endpoint; the first spelling is its label.
        let key = match locator {
            Locator::Host(host) => host.to_string(),
            Locator::Address(address) => address.to_string(),
            Locator::Workload { .. }
            | Locator::Pods { .. }
            | Locator::Service { .. }
            | Locator::Runner
            | Locator::Nodes => text.to_owned(),
        };
        self.built_in(key, locator, None, text, span, place)
    }

    /// The endpoint of a key; made when it is first named.
    fn built_in(
        &mut self,
        key: String,
        locator: &Locator,
        ports: Option<Vec<PortItem>>,
        text: &str,
        span: Span,
        place: &Place,
    ) -> EndpointId {
        if let Some(id) = self.in_place.get(&key) {
            return *id;
        }
        let endpoint = Endpoint {
            label: text.to_owned(),
            locator: locator.clone(),
            service: None,
            ports,
            source_mode: None,
            place: place.clone(),
            used: false,
        };
        let id = self.add(endpoint, span);
        self.in_place.insert(key, id);
        id
    }

    fn unknown(&mut self, word: &str, span: Span) -> Diagnostic {
        let diagnostic =
            Diagnostic::error(span, format!("no endpoint or group is called {word:?}"));
        match self.origin {
            Origin::CommandLine => diagnostic.with_help("in a line alone an endpoint is written in place: shop/Deployment/web; a host has a dot; runner and nodes are built in"),
            Origin::File if self.guesses >= MAX_GUESSES => diagnostic,
            Origin::File => {
                self.guesses += 1;
                let mut known: Vec<&str> = self.named.keys().map(String::as_str).collect();
                known.extend(BUILT_IN.into_iter().chain(PRESETS.map(|(name, _)| name)));
                diagnostic.with_help(suggest::help(word, &known, "", "known are"))
            }
        }
    }
}

/// Whether an endpoint can send: hosts and addresses are targets only.
pub(super) fn can_send(locator: &Locator) -> bool {
    match locator {
        Locator::Workload { .. }
        | Locator::Pods { .. }
        | Locator::Service { .. }
        | Locator::Runner
        | Locator::Nodes => true,
        Locator::Host(_) | Locator::Address(_) => false,
    }
}

/// Whether an endpoint is made of pods, and so part of `*` as a source.
pub(super) fn has_pods(locator: &Locator) -> bool {
    match locator {
        Locator::Workload { .. } | Locator::Pods { .. } | Locator::Service { .. } => true,
        Locator::Runner | Locator::Nodes | Locator::Host(_) | Locator::Address(_) => false,
    }
}
