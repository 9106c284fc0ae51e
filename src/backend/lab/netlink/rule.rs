//! Rules of nftables: expressions that load a field into a register, compare it, look it up, or end
//! the rule with a verdict.

use super::message::Attributes;
use super::route::octets;
use super::uapi::{
    IP_CT_DIR_ORIGINAL, NF_ACCEPT, NF_DROP, NF_NAT_RANGE_MAP_IPS, NF_NAT_RANGE_PROTO_SPECIFIED,
    NFPROTO_IPV4, NFPROTO_IPV6, NFT_BITWISE_MASK_XOR, NFT_CMP_EQ, NFT_CMP_GT, NFT_CMP_LTE,
    NFT_CMP_NEQ, NFT_CT_DIRECTION, NFT_CT_DST_IP, NFT_CT_DST_IP6, NFT_CT_PROTO_DST, NFT_CT_STATE,
    NFT_CT_STATUS, NFT_GOTO, NFT_JUMP, NFT_META_IIFNAME, NFT_META_L4PROTO, NFT_META_MARK,
    NFT_META_NFPROTO, NFT_META_OIFNAME, NFT_NAT_DNAT, NFT_NAT_SNAT, NFT_NG_INCREMENTAL,
    NFT_NG_RANDOM, NFT_OBJECT_COUNTER, NFT_PAYLOAD_CSUM_INET, NFT_PAYLOAD_CSUM_NONE,
    NFT_PAYLOAD_NETWORK_HEADER, NFT_PAYLOAD_TRANSPORT_HEADER, NFT_RANGE_EQ, NFT_REG_1, NFT_REG_2,
    NFT_REG_VERDICT, NFT_REG32_00, NFT_REJECT_ICMPX_ADMIN_PROHIBITED,
    NFT_REJECT_ICMPX_PORT_UNREACH, NFT_REJECT_ICMPX_UNREACH, NFT_REJECT_TCP_RST, NFT_RETURN,
    NFTA_BITWISE_DREG, NFTA_BITWISE_LEN, NFTA_BITWISE_MASK, NFTA_BITWISE_OP, NFTA_BITWISE_SREG,
    NFTA_BITWISE_XOR, NFTA_CMP_DATA, NFTA_CMP_OP, NFTA_CMP_SREG, NFTA_CT_DIRECTION, NFTA_CT_DREG,
    NFTA_CT_KEY, NFTA_DATA_VALUE, NFTA_DATA_VERDICT, NFTA_EXPR_DATA, NFTA_EXPR_NAME,
    NFTA_IMMEDIATE_DATA, NFTA_IMMEDIATE_DREG, NFTA_LIST_ELEM, NFTA_LOOKUP_DREG, NFTA_LOOKUP_FLAGS,
    NFTA_LOOKUP_SET, NFTA_LOOKUP_SREG, NFTA_META_DREG, NFTA_META_KEY, NFTA_META_SREG,
    NFTA_NAT_FAMILY, NFTA_NAT_FLAGS, NFTA_NAT_REG_ADDR_MAX, NFTA_NAT_REG_ADDR_MIN,
    NFTA_NAT_REG_PROTO_MAX, NFTA_NAT_REG_PROTO_MIN, NFTA_NAT_TYPE, NFTA_NG_DREG, NFTA_NG_MODULUS,
    NFTA_NG_OFFSET, NFTA_NG_TYPE, NFTA_OBJREF_IMM_NAME, NFTA_OBJREF_IMM_TYPE, NFTA_PAYLOAD_BASE,
    NFTA_PAYLOAD_CSUM_FLAGS, NFTA_PAYLOAD_CSUM_OFFSET, NFTA_PAYLOAD_CSUM_TYPE, NFTA_PAYLOAD_DREG,
    NFTA_PAYLOAD_LEN, NFTA_PAYLOAD_OFFSET, NFTA_PAYLOAD_SREG, NFTA_RANGE_FROM_DATA, NFTA_RANGE_OP,
    NFTA_RANGE_SREG, NFTA_RANGE_TO_DATA, NFTA_REJECT_ICMP_CODE, NFTA_REJECT_TYPE,
    NFTA_VERDICT_CHAIN, NFTA_VERDICT_CODE,
};
use crate::model::Family;
use std::net::{IpAddr, SocketAddr};

/// What a rule loads from a packet, or about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Load {
    /// The source address of a packet of this family.
    Source(Family),
    Destination(Family),
    /// TTL or hop limit.
    HopsLeft(Family),
    /// The protocol above IP, by IANA's number.
    Protocol,
    /// The destination port, of TCP, UDP or SCTP.
    DestinationPort,
    /// The type of an ICMP or `ICMPv6` message.
    IcmpType,
    /// The names of the links, padded with zeros to 16 bytes.
    InputName,
    OutputName,
    /// The packet's mark, in host byte order.
    Mark,
    /// The direction within its connection: 0 from who opened it, 1 back.
    Direction,
    /// The destination that the connection was opened to, before any translation.
    OpenedDestination(Family),
    OpenedPort,
    /// A number below `modulus`, in host byte order.
    Number {
        kind: NumberKind,
        modulus: u32,
    },
}

/// How numbers are generated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum NumberKind {
    Random,
    /// 0, 1, 2, ... and 0 again, each rule for itself.
    Incremental,
}

/// What is compared with what was loaded, which is on the left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Comparison {
    Equal,
    AtMost,
    Above,
}

/// What becomes of a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) enum Verdict {
    Accept,
    Drop,
    /// Back to the chain that jumped here.
    Return,
    Jump(String),
    Goto(String),
}

/// How a packet is rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Reject {
    TcpReset,
    /// ICMP of the packet's family: port unreachable.
    PortUnreachable,
    /// ICMP of the packet's family: administratively prohibited.
    AdminProhibited,
}

/// The expressions of one rule, carried out in order until one does not match.
///
/// Of IP and ICMP headers a rule reads what the methods' names say, so a method that reads a header
/// of one family or protocol needs [`Rule::family`] or [`Rule::protocol`] before it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in super::super) struct Rule {
    expressions: Attributes,
    /// What the expressions have matched so far, so that it is matched once.
    family: Option<Family>,
    protocol: Option<u8>,
}

impl Load {
    /// Registers that the value fills, of four bytes each.
    fn registers(self) -> u32 {
        match self {
            Self::Source(Family::V6)
            | Self::Destination(Family::V6)
            | Self::OpenedDestination(Family::V6)
            | Self::InputName
            | Self::OutputName => 4,
            Self::Source(Family::V4)
            | Self::Destination(Family::V4)
            | Self::OpenedDestination(Family::V4)
            | Self::HopsLeft(_)
            | Self::Protocol
            | Self::DestinationPort
            | Self::IcmpType
            | Self::Mark
            | Self::Direction
            | Self::OpenedPort
            | Self::Number { .. } => 1,
        }
    }

    /// The expression that loads the value into a register. Offsets are those of RFC 791, RFC 8200,
    /// RFC 792 and RFC 9293.
    fn into_register(self, register: u32) -> Attributes {
        match self {
            Self::Source(Family::V4) => network(register, 12, 4),
            Self::Source(Family::V6) => network(register, 8, 16),
            Self::Destination(Family::V4) => network(register, 16, 4),
            Self::Destination(Family::V6) => network(register, 24, 16),
            Self::HopsLeft(family) => network(register, hops_offset(family), 1),
            Self::DestinationPort => transport(register, 2, 2),
            Self::IcmpType => transport(register, 0, 1),
            Self::Protocol => meta(register, NFT_META_L4PROTO),
            Self::InputName => meta(register, NFT_META_IIFNAME),
            Self::OutputName => meta(register, NFT_META_OIFNAME),
            Self::Mark => meta(register, NFT_META_MARK),
            Self::Direction => expression("ct", &connection(register, NFT_CT_DIRECTION)),
            Self::OpenedDestination(Family::V4) => opened(register, NFT_CT_DST_IP),
            Self::OpenedDestination(Family::V6) => opened(register, NFT_CT_DST_IP6),
            Self::OpenedPort => opened(register, NFT_CT_PROTO_DST),
            Self::Number { kind, modulus } => {
                let kind = match kind {
                    NumberKind::Random => NFT_NG_RANDOM,
                    NumberKind::Incremental => NFT_NG_INCREMENTAL,
                };
                let data = Attributes::new()
                    .network32(NFTA_NG_DREG, register)
                    .network32(NFTA_NG_MODULUS, modulus)
                    .network32(NFTA_NG_TYPE, kind)
                    .network32(NFTA_NG_OFFSET, 0);
                expression("numgen", &data)
            }
        }
    }
}

impl Comparison {
    fn number(self) -> u32 {
        match self {
            Self::Equal => NFT_CMP_EQ,
            Self::AtMost => NFT_CMP_LTE,
            Self::Above => NFT_CMP_GT,
        }
    }
}

impl Verdict {
    /// The attribute `NFTA_DATA_VERDICT`.
    pub(super) fn data(&self) -> Attributes {
        let (code, chain) = match self {
            Self::Accept => (NF_ACCEPT, None),
            Self::Drop => (NF_DROP, None),
            Self::Return => (NFT_RETURN.cast_unsigned(), None),
            Self::Jump(chain) => (NFT_JUMP.cast_unsigned(), Some(chain)),
            Self::Goto(chain) => (NFT_GOTO.cast_unsigned(), Some(chain)),
        };
        let mut verdict = Attributes::new().network32(NFTA_VERDICT_CODE, code);
        if let Some(chain) = chain {
            verdict = verdict.text(NFTA_VERDICT_CHAIN, chain);
        }
        Attributes::new().nest(NFTA_DATA_VERDICT, &verdict)
    }
}

impl Rule {
    pub(in super::super) fn new() -> Self {
        Self::default()
    }

    pub(super) fn expressions(&self) -> &Attributes {
        &self.expressions
    }

    fn with(mut self, expression: &Attributes) -> Self {
        self.expressions.append(expression);
        self
    }

    /// Matches packets of a family.
    pub(in super::super) fn family(mut self, family: Family) -> Self {
        if self.family == Some(family) {
            return self;
        }
        self.family = Some(family);
        let number = [family_number(family)];
        self.with(&meta(NFT_REG_1, NFT_META_NFPROTO))
            .with(&compare(NFT_CMP_EQ, &number))
    }

    /// Matches packets of a protocol above IP, by IANA's number.
    pub(in super::super) fn protocol(mut self, number: u8) -> Self {
        if self.protocol == Some(number) {
            return self;
        }
        self.protocol = Some(number);
        self.equal(Load::Protocol, &[number])
    }

    /// Matches packets whose field has this value, in network byte order except where [`Load`] says
    /// otherwise.
    pub(in super::super) fn equal(self, load: Load, value: &[u8]) -> Self {
        self.compare(load, Comparison::Equal, value)
    }

    /// Matches packets whose field compares so with this value.
    pub(in super::super) fn compare(self, load: Load, with: Comparison, value: &[u8]) -> Self {
        self.with(&load.into_register(NFT_REG_1))
            .with(&compare(with.number(), value))
    }

    /// Matches packets whose field is in a range, both ends included.
    pub(in super::super) fn within(self, load: Load, first: &[u8], last: &[u8]) -> Self {
        let range = Attributes::new()
            .network32(NFTA_RANGE_SREG, NFT_REG_1)
            .network32(NFTA_RANGE_OP, NFT_RANGE_EQ)
            .nest(NFTA_RANGE_FROM_DATA, &value(first))
            .nest(NFTA_RANGE_TO_DATA, &value(last));
        self.with(&load.into_register(NFT_REG_1))
            .with(&expression("range", &range))
    }

    /// Matches packets whose connection is in one of these states, by bits (`NF_CT_STATE_BIT`).
    pub(in super::super) fn connection_state(self, states: u32) -> Self {
        self.any_bit(NFT_CT_STATE, states)
    }

    /// Matches packets whose connection has one of these properties, by bits (`IPS_*`,
    /// `linux/netfilter/nf_conntrack_common.h`).
    pub(in super::super) fn connection_status(self, status: u32) -> Self {
        self.any_bit(NFT_CT_STATUS, status)
    }

    fn any_bit(self, key: u32, bits: u32) -> Self {
        self.with(&expression("ct", &connection(NFT_REG_1, key)))
            .with(&mask_and_set(&bits.to_ne_bytes(), &[0; 4]))
            .with(&compare(NFT_CMP_NEQ, &[0; 4]))
    }

    /// Matches packets whose fields, one after the other, are a key of a set.
    pub(in super::super) fn in_set(self, fields: &[Load], set: &str) -> Self {
        let lookup = Attributes::new()
            .text(NFTA_LOOKUP_SET, set)
            .network32(NFTA_LOOKUP_SREG, NFT_REG_1)
            .network32(NFTA_LOOKUP_FLAGS, 0);
        self.load_all(fields).with(&expression("lookup", &lookup))
    }

    /// Ends with the verdict that a map has for the packet's fields; goes on where it has none.
    pub(in super::super) fn verdict_of(self, fields: &[Load], map: &str) -> Self {
        let lookup = Attributes::new()
            .text(NFTA_LOOKUP_SET, map)
            .network32(NFTA_LOOKUP_SREG, NFT_REG_1)
            .network32(NFTA_LOOKUP_DREG, NFT_REG_VERDICT)
            .network32(NFTA_LOOKUP_FLAGS, 0);
        self.load_all(fields).with(&expression("lookup", &lookup))
    }

    /// Loads fields side by side. `NFT_REG_1` begins where `NFT_REG32_00` does.
    fn load_all(mut self, fields: &[Load]) -> Self {
        let mut used = 0;
        for field in fields {
            let register = match used {
                0 => NFT_REG_1,
                used if used % 4 == 0 => NFT_REG_1 + used / 4,
                used => NFT_REG32_00 + used,
            };
            self = self.with(&field.into_register(register));
            used += field.registers();
        }
        self
    }

    /// Counts packets in a named counter of the table.
    pub(in super::super) fn count(self, counter: &str) -> Self {
        let reference = Attributes::new()
            .network32(NFTA_OBJREF_IMM_TYPE, NFT_OBJECT_COUNTER)
            .text(NFTA_OBJREF_IMM_NAME, counter);
        self.with(&expression("objref", &reference))
    }

    /// Sets the packet's mark.
    pub(in super::super) fn set_mark(self, mark: u32) -> Self {
        let set = Attributes::new()
            .network32(NFTA_META_KEY, NFT_META_MARK)
            .network32(NFTA_META_SREG, NFT_REG_1);
        self.with(&immediate(NFT_REG_1, &value(&mark.to_ne_bytes())))
            .with(&expression("meta", &set))
    }

    /// Writes the TTL or hop limit of packets of a family.
    pub(in super::super) fn set_hops(self, family: Family, hops: u8) -> Self {
        match family {
            // The header's checksum is over words of two bytes: TTL and protocol are one.
            Family::V4 => self
                .with(&network(NFT_REG_1, hops_offset(family), 2))
                .with(&mask_and_set(&[0, 0xff], &[hops, 0]))
                .with(&write_network(
                    hops_offset(family),
                    2,
                    NFT_PAYLOAD_CSUM_INET,
                    IPV4_CHECKSUM,
                )),
            Family::V6 => self
                .with(&immediate(NFT_REG_1, &value(&[hops])))
                .with(&write_network(
                    hops_offset(family),
                    1,
                    NFT_PAYLOAD_CSUM_NONE,
                    0,
                )),
        }
    }

    /// Sends the connection to another address and port.
    pub(in super::super) fn translate_destination(self, to: SocketAddr) -> Self {
        let nat = Attributes::new()
            .network32(NFTA_NAT_TYPE, NFT_NAT_DNAT)
            .network32(NFTA_NAT_FAMILY, nat_family(to.ip()))
            .network32(NFTA_NAT_REG_ADDR_MIN, NFT_REG_1)
            .network32(NFTA_NAT_REG_ADDR_MAX, NFT_REG_1)
            .network32(NFTA_NAT_REG_PROTO_MIN, NFT_REG_2)
            .network32(NFTA_NAT_REG_PROTO_MAX, NFT_REG_2)
            .network32(
                NFTA_NAT_FLAGS,
                NF_NAT_RANGE_MAP_IPS | NF_NAT_RANGE_PROTO_SPECIFIED,
            );
        self.with(&immediate(NFT_REG_1, &value(&octets(to.ip()))))
            .with(&immediate(NFT_REG_2, &value(&to.port().to_be_bytes())))
            .with(&expression("nat", &nat))
    }

    /// Lets the connection come from another address.
    pub(in super::super) fn translate_source(self, to: IpAddr) -> Self {
        let nat = Attributes::new()
            .network32(NFTA_NAT_TYPE, NFT_NAT_SNAT)
            .network32(NFTA_NAT_FAMILY, nat_family(to))
            .network32(NFTA_NAT_REG_ADDR_MIN, NFT_REG_1)
            .network32(NFTA_NAT_REG_ADDR_MAX, NFT_REG_1)
            .network32(NFTA_NAT_FLAGS, NF_NAT_RANGE_MAP_IPS);
        self.with(&immediate(NFT_REG_1, &value(&octets(to))))
            .with(&expression("nat", &nat))
    }

    /// Rejects packets.
    pub(in super::super) fn reject(self, reject: Reject) -> Self {
        let icmpx = Attributes::new().network32(NFTA_REJECT_TYPE, NFT_REJECT_ICMPX_UNREACH);
        let data = match reject {
            Reject::TcpReset => Attributes::new().network32(NFTA_REJECT_TYPE, NFT_REJECT_TCP_RST),
            Reject::PortUnreachable => {
                icmpx.bytes(NFTA_REJECT_ICMP_CODE, &[NFT_REJECT_ICMPX_PORT_UNREACH])
            }
            Reject::AdminProhibited => {
                icmpx.bytes(NFTA_REJECT_ICMP_CODE, &[NFT_REJECT_ICMPX_ADMIN_PROHIBITED])
            }
        };
        self.with(&expression("reject", &data))
    }

    /// Ends with a verdict.
    pub(in super::super) fn verdict(self, verdict: &Verdict) -> Self {
        self.with(&immediate(NFT_REG_VERDICT, &verdict.data()))
    }

    pub(in super::super) fn accept(self) -> Self {
        self.verdict(&Verdict::Accept)
    }

    pub(in super::super) fn drop(self) -> Self {
        self.verdict(&Verdict::Drop)
    }

    pub(in super::super) fn jump(self, chain: &str) -> Self {
        self.verdict(&Verdict::Jump(chain.to_owned()))
    }

    pub(in super::super) fn goto(self, chain: &str) -> Self {
        self.verdict(&Verdict::Goto(chain.to_owned()))
    }
}

/// Where an IPv4 header has its checksum (RFC 791 §3.1).
const IPV4_CHECKSUM: u32 = 10;

/// Where a header has its TTL (RFC 791 §3.1) or hop limit (RFC 8200 §3).
fn hops_offset(family: Family) -> u32 {
    match family {
        Family::V4 => 8,
        Family::V6 => 7,
    }
}

fn family_number(family: Family) -> u8 {
    match family {
        Family::V4 => NFPROTO_IPV4,
        Family::V6 => NFPROTO_IPV6,
    }
}

fn nat_family(address: IpAddr) -> u32 {
    family_number(Family::of(address)).into()
}

/// An expression as an element of a list.
fn expression(name: &str, data: &Attributes) -> Attributes {
    let expression = Attributes::new()
        .text(NFTA_EXPR_NAME, name)
        .nest(NFTA_EXPR_DATA, data);
    Attributes::new().nest(NFTA_LIST_ELEM, &expression)
}

/// The attribute `NFTA_DATA_VALUE`.
pub(super) fn value(bytes: &[u8]) -> Attributes {
    Attributes::new().bytes(NFTA_DATA_VALUE, bytes)
}

fn immediate(register: u32, data: &Attributes) -> Attributes {
    let data = Attributes::new()
        .network32(NFTA_IMMEDIATE_DREG, register)
        .nest(NFTA_IMMEDIATE_DATA, data);
    expression("immediate", &data)
}

fn compare(operator: u32, with: &[u8]) -> Attributes {
    let data = Attributes::new()
        .network32(NFTA_CMP_SREG, NFT_REG_1)
        .network32(NFTA_CMP_OP, operator)
        .nest(NFTA_CMP_DATA, &value(with));
    expression("cmp", &data)
}

/// The first register's bits that are in `mask`, with those in `set` flipped.
fn mask_and_set(mask: &[u8], set: &[u8]) -> Attributes {
    let data = Attributes::new()
        .network32(NFTA_BITWISE_SREG, NFT_REG_1)
        .network32(NFTA_BITWISE_DREG, NFT_REG_1)
        .network32(NFTA_BITWISE_LEN, mask.len() as u32)
        .network32(NFTA_BITWISE_OP, NFT_BITWISE_MASK_XOR)
        .nest(NFTA_BITWISE_MASK, &value(mask))
        .nest(NFTA_BITWISE_XOR, &value(set));
    expression("bitwise", &data)
}

fn meta(register: u32, key: u32) -> Attributes {
    let data = Attributes::new()
        .network32(NFTA_META_DREG, register)
        .network32(NFTA_META_KEY, key);
    expression("meta", &data)
}

/// The content of an expression that loads what connection tracking knows.
fn connection(register: u32, key: u32) -> Attributes {
    Attributes::new()
        .network32(NFTA_CT_DREG, register)
        .network32(NFTA_CT_KEY, key)
}

/// Loads what the packet that opened the connection had.
fn opened(register: u32, key: u32) -> Attributes {
    let data = connection(register, key).bytes(NFTA_CT_DIRECTION, &[IP_CT_DIR_ORIGINAL]);
    expression("ct", &data)
}

fn network(register: u32, offset: u32, length: u32) -> Attributes {
    payload(register, NFT_PAYLOAD_NETWORK_HEADER, offset, length)
}

fn transport(register: u32, offset: u32, length: u32) -> Attributes {
    payload(register, NFT_PAYLOAD_TRANSPORT_HEADER, offset, length)
}

fn payload(register: u32, base: u32, offset: u32, length: u32) -> Attributes {
    let data = Attributes::new()
        .network32(NFTA_PAYLOAD_DREG, register)
        .network32(NFTA_PAYLOAD_BASE, base)
        .network32(NFTA_PAYLOAD_OFFSET, offset)
        .network32(NFTA_PAYLOAD_LEN, length);
    expression("payload", &data)
}

/// Writes the first register into the IP header.
fn write_network(offset: u32, length: u32, checksum: u32, checksum_offset: u32) -> Attributes {
    let data = Attributes::new()
        .network32(NFTA_PAYLOAD_SREG, NFT_REG_1)
        .network32(NFTA_PAYLOAD_BASE, NFT_PAYLOAD_NETWORK_HEADER)
        .network32(NFTA_PAYLOAD_OFFSET, offset)
        .network32(NFTA_PAYLOAD_LEN, length)
        .network32(NFTA_PAYLOAD_CSUM_TYPE, checksum)
        .network32(NFTA_PAYLOAD_CSUM_OFFSET, checksum_offset)
        .network32(NFTA_PAYLOAD_CSUM_FLAGS, 0);
    expression("payload", &data)
}
