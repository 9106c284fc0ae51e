//! Names of a suite: its endpoints and groups, built-in endpoints, and endpoints written inline.

use super::item::EndpointRef;
use super::{Endpoint, EndpointId, Locator, PortItem, PortRef, Subject, suggest};
use crate::model::{ObjectRef, Transport};
use crate::source::{Diagnostic, Place, Span};
use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr};

/// The most endpoints that the lines of a suite may name through groups. It bounds the memory for a
/// generated suite.
const MAX_GROUP_MEMBERS: usize = 1_000_000;

/// The most unknown names that get a suggestion: each of them is compared with every known name.
const MAX_SUGGESTIONS: usize = 100;

/// Built-in endpoints, which a suite cannot define.
pub(super) const BUILT_IN: [&str; 2] = ["runner", "nodes"];

/// Targets that every cluster, or every cluster of one provider, has under the same address: name
/// and ports. A suite may define an endpoint with such a name; its definition then takes
/// precedence.
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

/// The locator and the ports of a preset.
fn preset(word: &str) -> Option<(Locator, Vec<PortItem>)> {
    let (name, ports) = PRESETS.iter().find(|(name, _)| *name == word)?;
    let locator = match *name {
        "apiserver" => Locator::Service {
            service: ObjectRef {
                namespace: "default".to_owned(),
                kind: "Service".to_owned(),
                name: "kubernetes".to_owned(),
            },
        },
        "kubelet" => Locator::Nodes,
        "instance-metadata" => Locator::Address(INSTANCE_METADATA),
        _ => Locator::Address(WIRE_SERVER),
    };

    let ports = ports
        .iter()
        .map(|number| PortItem {
            port: PortRef::Number(*number),
            transport: Transport::Tcp,
        })
        .collect();
    Some((locator, ports))
}

/// Where the lines that use the names are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Input {
    SuiteFile,
    /// One line as an argument of the command; it cannot use definitions.
    CommandLine,
}

/// The definition of a name.
#[derive(Debug, Clone)]
enum Definition {
    Endpoint(EndpointId),
    Group(Vec<EndpointId>),
    /// The definition has an error, which was reported. Lines that use the name get no further
    /// error from it.
    Invalid,
}

/// The names that lines can use.
#[derive(Debug)]
pub(super) struct Names {
    input: Input,
    endpoints: Vec<Endpoint>,
    /// The position of each endpoint's name, for warnings.
    spans: Vec<Span>,
    definitions: BTreeMap<String, (Definition, Span)>,
    /// Inline and built-in endpoints, by their normalized spelling.
    inline: HashMap<String, EndpointId>,
    group_members: usize,
    suggestions: usize,
}

impl Names {
    pub(super) fn new(input: Input) -> Self {
        Self {
            input,
            endpoints: Vec::new(),
            spans: Vec::new(),
            definitions: BTreeMap::new(),
            inline: HashMap::new(),
            group_members: 0,
            suggestions: 0,
        }
    }

    /// The endpoints, in order of definition or first use.
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

    /// Defines an endpoint; `None` marks an invalid definition.
    ///
    /// # Errors
    /// The name is already in use.
    pub(super) fn define_endpoint(
        &mut self,
        name: &str,
        span: Span,
        endpoint: Option<Endpoint>,
    ) -> Result<(), Diagnostic> {
        let definition = match endpoint {
            Some(endpoint) => Definition::Endpoint(self.add(endpoint, span)),
            None => Definition::Invalid,
        };
        self.define(name, span, definition)
    }

    /// Defines a group; `None` marks an invalid definition.
    pub(super) fn define_group(
        &mut self,
        name: &str,
        span: Span,
        members: Option<Vec<EndpointId>>,
    ) {
        // A name that is already in use was reported by `check_free`.
        let _already_reported = self.define(
            name,
            span,
            members.map_or(Definition::Invalid, Definition::Group),
        );
    }

    fn define(&mut self, name: &str, span: Span, definition: Definition) -> Result<(), Diagnostic> {
        self.check_free(name, span)?;
        self.definitions.insert(name.to_owned(), (definition, span));
        Ok(())
    }

    /// Checks that a name can be defined.
    ///
    /// # Errors
    /// The name is built in, or another endpoint or group has it.
    pub(super) fn check_free(&self, name: &str, span: Span) -> Result<(), Diagnostic> {
        if BUILT_IN.contains(&name) {
            return Err(Diagnostic::error(
                span,
                format!("{name} is built in and cannot be defined"),
            )
            .with_help("choose another name"));
        }
        match self.definitions.get(name) {
            Some((_, first)) => Err(Diagnostic::error(
                span,
                format!("{name} is already the name of an endpoint"),
            )
            .with_secondary(*first, "defined here")
            .with_help("endpoints and groups share one set of names: rename one of them")),
            None => Ok(()),
        }
    }

    fn add(&mut self, endpoint: Endpoint, span: Span) -> EndpointId {
        self.endpoints.push(endpoint);
        self.spans.push(span);
        EndpointId(self.endpoints.len() - 1)
    }

    /// The subject of a reference; `None` if its definition is invalid.
    ///
    /// # Errors
    /// The name is unknown, or the reference cannot be used here.
    pub(super) fn resolve(
        &mut self,
        endpoint: &EndpointRef,
        span: Span,
        place: &Place,
    ) -> Result<Option<Subject>, Diagnostic> {
        match endpoint {
            EndpointRef::All if self.input == Input::CommandLine => Err(Diagnostic::error(
                span,
                "* means every endpoint of a suite, and a single line has no suite",
            )
            .with_help("name the endpoints, or write a suite")),
            EndpointRef::All => Ok(Some(Subject::All)),
            EndpointRef::Inline(locator, text) => Ok(Some(Subject::Endpoint(
                self.inline(locator, text, span, place),
            ))),
            EndpointRef::Name(name) => self.resolve_name(name, span, place),
        }
    }

    fn resolve_name(
        &mut self,
        name: &str,
        span: Span,
        place: &Place,
    ) -> Result<Option<Subject>, Diagnostic> {
        let built_in = match name {
            "runner" => Some(Locator::Runner),
            "nodes" => Some(Locator::Nodes),
            _ => None,
        };
        if let Some(locator) = built_in {
            let id = self.inline(&locator, name, span, place);
            return Ok(Some(Subject::Endpoint(id)));
        }

        match self.definitions.get(name) {
            Some((Definition::Endpoint(id), _)) => Ok(Some(Subject::Endpoint(*id))),
            Some((Definition::Group(members), _)) => {
                self.group_members += members.len();
                if self.group_members > MAX_GROUP_MEMBERS {
                    let message = format!(
                        "the suite names more than {MAX_GROUP_MEMBERS} endpoints through groups"
                    );
                    return Err(Diagnostic::error(span, message).with_help("split the suite"));
                }
                Ok(Some(Subject::Group(members.clone())))
            }
            Some((Definition::Invalid, _)) => Ok(None),
            None => match preset(name) {
                Some((locator, ports)) => {
                    let key = name.to_owned();
                    let id = self.get_or_create(key, &locator, Some(ports), name, span, place);
                    Ok(Some(Subject::Endpoint(id)))
                }
                None => Err(self.unknown(name, span)),
            },
        }
    }

    fn inline(&mut self, locator: &Locator, text: &str, span: Span, place: &Place) -> EndpointId {
        // Two spellings of one host give one endpoint; its label is the first spelling.
        let key = match locator {
            Locator::Host(host) => host.to_string(),
            Locator::Address(address) => address.to_string(),
            Locator::Workload { .. }
            | Locator::Pods { .. }
            | Locator::Service { .. }
            | Locator::Runner
            | Locator::Nodes => text.to_owned(),
        };
        self.get_or_create(key, locator, None, text, span, place)
    }

    /// The endpoint with a key, which is created at its first use.
    fn get_or_create(
        &mut self,
        key: String,
        locator: &Locator,
        ports: Option<Vec<PortItem>>,
        text: &str,
        span: Span,
        place: &Place,
    ) -> EndpointId {
        if let Some(id) = self.inline.get(&key) {
            return *id;
        }
        let endpoint = Endpoint {
            label: text.to_owned(),
            locator: locator.clone(),
            addresses: Vec::new(),
            service: None,
            ports,
            source_mode: None,
            place: place.clone(),
            used: false,
        };
        let id = self.add(endpoint, span);
        self.inline.insert(key, id);
        id
    }

    fn unknown(&mut self, word: &str, span: Span) -> Diagnostic {
        let diagnostic =
            Diagnostic::error(span, format!("no endpoint or group is called {word:?}"));
        match self.input {
            Input::CommandLine => diagnostic.with_help("a single line has no definitions: write NAMESPACE/KIND/NAME, for example shop/Deployment/web, a host name with a dot, an address, runner or nodes"),
            Input::SuiteFile if self.suggestions >= MAX_SUGGESTIONS => diagnostic,
            Input::SuiteFile => {
                self.suggestions += 1;
                let mut known: Vec<&str> = self.definitions.keys().map(String::as_str).collect();
                known.extend(BUILT_IN.into_iter().chain(PRESETS.map(|(name, _)| name)));
                diagnostic.with_help(suggest::help(word, &known, "", "known are"))
            }
        }
    }
}

/// Whether an endpoint can be a source; hosts and addresses can only be targets.
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

/// Whether an endpoint consists of pods; `*` as a source is all such endpoints.
pub(super) fn has_pods(locator: &Locator) -> bool {
    match locator {
        Locator::Workload { .. } | Locator::Pods { .. } | Locator::Service { .. } => true,
        Locator::Runner | Locator::Nodes | Locator::Host(_) | Locator::Address(_) => false,
    }
}
