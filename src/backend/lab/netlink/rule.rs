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
    /// Octets of an IPv4 packet; of an IPv6 packet without its first header.
    Length(Family),
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
/// A method that reads a header of one family or protocol needs [`Rule::family`] or
/// [`Rule::protocol`] before it: the kernel reads the same offset of any packet.
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
            | Self::Length(_)
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
            Self::Length(Family::V4) => network(register, 2, 2),
            Self::Length(Family::V6) => network(register, 4, 2),
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

/// Expected bytes are recorded from rules that the kernel accepted.
#[cfg(all(test, target_endian = "little"))]
mod tests {
    use super::super::message::hex;
    use super::*;

    #[track_caller]
    fn assert_written(rule: &Rule, expected: &str) {
        assert_eq!(rule.expressions().as_bytes(), hex(expected));
    }

    #[test]
    fn destination_is_translated_with_its_port() {
        let rule = Rule::new().translate_destination("10.244.32.2:8080".parse().unwrap());
        assert_written(
            &rule,
            "2c0001800e000100696d6d6564696174650000001800028008000100000000010c00028008000100
            0af42002
            2c0001800e000100696d6d6564696174650000001800028008000100000000020c00028006000100
            1f900000
            48000180080001006e6174003c000280080001000000000108000200000000020800030000000001
            0800040000000001080005000000000208000600000000020800070000000003",
        );
    }

    #[test]
    fn source_is_translated_for_marked_packets() {
        let rule = Rule::new()
            .equal(Load::Mark, &0x4000_u32.to_ne_bytes())
            .family(Family::V6)
            .translate_source("fd00:30::11".parse().unwrap());
        assert_written(
            &rule,
            "24000180090001006d657461000000001400028008000100000000010800020000000003
            2c00018008000100636d700020000280080001000000000108000200000000000c00038008000100
            00400000
            24000180090001006d65746100000000140002800800010000000001080002000000000f
            2c00018008000100636d700020000280080001000000000108000200000000000c00038005000100
            0a000000
            380001800e000100696d6d6564696174650000002400028008000100000000011800028014000100
            fd000030000000000000000000000011
            38000180080001006e6174002c0002800800010000000000080002000000000a0800030000000001
            08000400000000010800070000000001",
        );
    }

    #[test]
    fn mark_is_set_before_going_to_a_chain() {
        let rule = Rule::new().set_mark(0x4000).goto("port-0");
        assert_written(
            &rule,
            "2c0001800e000100696d6d6564696174650000001800028008000100000000010c00028008000100
            00400000
            24000180090001006d657461000000001400028008000200000000030800030000000001
            3c0001800e000100696d6d6564696174650000002800028008000100000000001c00028018000280
            08000100fffffffc0b000200706f72742d300000",
        );
    }

    #[test]
    fn generated_number_is_compared_in_host_order() {
        let rule = Rule::new()
            .equal(
                Load::Number {
                    kind: NumberKind::Random,
                    modulus: 2,
                },
                &0_u32.to_ne_bytes(),
            )
            .goto("port-0-0");
        assert_written(
            &rule,
            "340001800b0001006e756d67656e0000240002800800010000000001080002000000000208000300
            000000010800040000000000
            2c00018008000100636d700020000280080001000000000108000200000000000c00038008000100
            00000000
            400001800e000100696d6d6564696174650000002c0002800800010000000000200002801c000280
            08000100fffffffc0d000200706f72742d302d3000000000",
        );
    }

    #[test]
    fn fields_are_looked_up_side_by_side() {
        let rule = Rule::new().family(Family::V4).protocol(6).verdict_of(
            &[
                Load::Destination(Family::V4),
                Load::Protocol,
                Load::DestinationPort,
            ],
            "ports4",
        );
        assert_written(
            &rule,
            "24000180090001006d65746100000000140002800800010000000001080002000000000f
            2c00018008000100636d700020000280080001000000000108000200000000000c00038005000100
            02000000
            24000180090001006d657461000000001400028008000100000000010800020000000010
            2c00018008000100636d700020000280080001000000000108000200000000000c00038005000100
            06000000
            340001800c0001007061796c6f616400240002800800010000000001080002000000000108000300
            000000100800040000000004
            24000180090001006d657461000000001400028008000100000000090800020000000010
            340001800c0001007061796c6f61640024000280080001000000000a080002000000000208000300
            000000020800040000000002
            380001800b0001006c6f6f6b75700000280002800b000100706f7274733400000800020000000001
            08000300000000000800050000000000",
        );
    }

    #[test]
    fn opened_destination_is_looked_up_after_the_source() {
        let rule = Rule::new()
            .family(Family::V6)
            .compare(Load::HopsLeft(Family::V6), Comparison::Above, &[32])
            .in_set(
                &[
                    Load::Source(Family::V6),
                    Load::OpenedDestination(Family::V6),
                    Load::Protocol,
                    Load::OpenedPort,
                ],
                "direct6_egress",
            );
        assert_written(
            &rule,
            "24000180090001006d65746100000000140002800800010000000001080002000000000f
            2c00018008000100636d700020000280080001000000000108000200000000000c00038005000100
            0a000000
            340001800c0001007061796c6f616400240002800800010000000001080002000000000108000300
            000000070800040000000001
            2c00018008000100636d700020000280080001000000000108000200000000040c00038005000100
            20000000
            340001800c0001007061796c6f616400240002800800010000000001080002000000000108000300
            000000080800040000000010
            2800018007000100637400001c000280080001000000000208000200000000160500030000000000
            24000180090001006d657461000000001400028008000100000000030800020000000010
            2800018007000100637400001c0002800800010000000011080002000000000c0500030000000000
            380001800b0001006c6f6f6b757000002800028013000100646972656374365f6567726573730000
            08000200000000010800050000000000",
        );
    }

    #[test]
    fn family_and_protocol_are_matched_once() {
        let rule = Rule::new()
            .family(Family::V4)
            .in_set(&[Load::Source(Family::V4)], "a4_10")
            .family(Family::V4)
            .protocol(6)
            .in_set(
                &[Load::Destination(Family::V4), Load::DestinationPort],
                "n4_12",
            )
            .protocol(6)
            .count("allow_ingress_p3_r0")
            .accept();
        assert_written(
            &rule,
            "24000180090001006d65746100000000140002800800010000000001080002000000000f
            2c00018008000100636d700020000280080001000000000108000200000000000c00038005000100
            02000000
            340001800c0001007061796c6f616400240002800800010000000001080002000000000108000300
            0000000c0800040000000004
            300001800b0001006c6f6f6b75700000200002800a00010061345f31300000000800020000000001
            0800050000000000
            24000180090001006d657461000000001400028008000100000000010800020000000010
            2c00018008000100636d700020000280080001000000000108000200000000000c00038005000100
            06000000
            340001800c0001007061796c6f616400240002800800010000000001080002000000000108000300
            000000100800040000000004
            340001800c0001007061796c6f616400240002800800010000000009080002000000000208000300
            000000020800040000000002
            300001800b0001006c6f6f6b75700000200002800a0001006e345f31320000000800020000000001
            0800050000000000
            340001800b0001006f626a726566000024000280080001000000000118000200616c6c6f775f696e
            67726573735f70335f723000
            300001800e000100696d6d6564696174650000001c0002800800010000000000100002800c000280
            0800010000000001",
        );
    }

    #[test]
    fn length_is_that_of_the_packet_or_of_what_follows_the_first_header() {
        let loads = [(Family::V4, "02"), (Family::V6, "0a")];
        for ((family, protocol), offset) in loads.into_iter().zip(["02", "04"]) {
            let rule = Rule::new().family(family).compare(
                Load::Length(family),
                Comparison::Above,
                &1_000_u16.to_be_bytes(),
            );
            assert_written(
                &rule,
                &format!(
                    "24000180090001006d65746100000000140002800800010000000001080002000000000f
                    2c00018008000100636d700020000280080001000000000108000200000000000c00038005000100
                    {protocol}000000
                    340001800c0001007061796c6f616400240002800800010000000001080002000000000108000300
                    000000{offset}0800040000000002
                    2c00018008000100636d700020000280080001000000000108000200000000040c00038006000100
                    03e80000"
                ),
            );
        }
    }

    #[test]
    fn hops_of_translated_connections_are_written_with_the_checksum() {
        let rule = Rule::new()
            .family(Family::V4)
            .compare(Load::HopsLeft(Family::V4), Comparison::AtMost, &[200])
            .connection_status(1 << 5)
            .equal(Load::Direction, &[0])
            .set_hops(Family::V4, 32);
        assert_written(
            &rule,
            "24000180090001006d65746100000000140002800800010000000001080002000000000f
            2c00018008000100636d700020000280080001000000000108000200000000000c00038005000100
            02000000
            340001800c0001007061796c6f616400240002800800010000000001080002000000000108000300
            000000080800040000000001
            2c00018008000100636d700020000280080001000000000108000200000000030c00038005000100
            c8000000
            2000018007000100637400001400028008000100000000010800020000000002
            4c0001800c00010062697477697365003c0002800800010000000001080002000000000108000300
            0000000408000600000000000c00048008000100200000000c0005800800010000000000
            2c00018008000100636d700020000280080001000000000108000200000000010c00038008000100
            00000000
            2000018007000100637400001400028008000100000000010800020000000001
            2c00018008000100636d700020000280080001000000000108000200000000000c00038005000100
            00000000
            340001800c0001007061796c6f616400240002800800010000000001080002000000000108000300
            000000080800040000000002
            4c0001800c00010062697477697365003c0002800800010000000001080002000000000108000300
            0000000208000600000000000c0004800600010000ff00000c0005800600010020000000
            4c0001800c0001007061796c6f6164003c0002800800050000000001080002000000000108000300
            0000000808000400000000020800060000000001080007000000000a0800080000000000",
        );
    }

    #[test]
    fn hop_limit_is_written() {
        let rule = Rule::new()
            .family(Family::V6)
            .compare(Load::HopsLeft(Family::V6), Comparison::AtMost, &[200])
            .connection_status(1 << 5)
            .equal(Load::Direction, &[0])
            .set_hops(Family::V6, 32);
        assert_written(
            &rule,
            "24000180090001006d65746100000000140002800800010000000001080002000000000f
            2c00018008000100636d700020000280080001000000000108000200000000000c00038005000100
            0a000000
            340001800c0001007061796c6f616400240002800800010000000001080002000000000108000300
            000000070800040000000001
            2c00018008000100636d700020000280080001000000000108000200000000030c00038005000100
            c8000000
            2000018007000100637400001400028008000100000000010800020000000002
            4c0001800c00010062697477697365003c0002800800010000000001080002000000000108000300
            0000000408000600000000000c00048008000100200000000c0005800800010000000000
            2c00018008000100636d700020000280080001000000000108000200000000010c00038008000100
            00000000
            2000018007000100637400001400028008000100000000010800020000000001
            2c00018008000100636d700020000280080001000000000108000200000000000c00038005000100
            00000000
            2c0001800e000100696d6d6564696174650000001800028008000100000000010c00028005000100
            20000000
            4c0001800c0001007061796c6f6164003c0002800800050000000001080002000000000108000300
            000000070800040000000001080006000000000008000700000000000800080000000000",
        );
    }

    #[test]
    fn established_connections_are_accepted() {
        let rule = Rule::new().connection_state(0b110).accept();
        assert_written(
            &rule,
            "2000018007000100637400001400028008000100000000010800020000000000
            4c0001800c00010062697477697365003c0002800800010000000001080002000000000108000300
            0000000408000600000000000c00048008000100060000000c0005800800010000000000
            2c00018008000100636d700020000280080001000000000108000200000000010c00038008000100
            00000000
            300001800e000100696d6d6564696174650000001c0002800800010000000000100002800c000280
            0800010000000001",
        );
    }

    #[test]
    fn range_includes_both_ends() {
        let rule = Rule::new()
            .protocol(58)
            .within(Load::IcmpType, &[133], &[137])
            .accept();
        assert_written(
            &rule,
            "24000180090001006d657461000000001400028008000100000000010800020000000010
            2c00018008000100636d700020000280080001000000000108000200000000000c00038005000100
            3a000000
            340001800c0001007061796c6f616400240002800800010000000001080002000000000208000300
            000000000800040000000001
            3c0001800a00010072616e67650000002c000280080001000000000108000200000000000c000380
            05000100850000000c0004800500010089000000
            300001800e000100696d6d6564696174650000001c0002800800010000000000100002800c000280
            0800010000000001",
        );
    }

    #[test]
    fn tcp_is_reset() {
        let rule = Rule::new()
            .protocol(6)
            .equal(Load::DestinationPort, &65_533_u16.to_be_bytes())
            .reject(Reject::TcpReset);
        assert_written(
            &rule,
            "24000180090001006d657461000000001400028008000100000000010800020000000010
            2c00018008000100636d700020000280080001000000000108000200000000000c00038005000100
            06000000
            340001800c0001007061796c6f616400240002800800010000000001080002000000000208000300
            000000020800040000000002
            2c00018008000100636d700020000280080001000000000108000200000000000c00038006000100
            fffd0000
            1c0001800b00010072656a65637400000c0002800800010000000001",
        );
    }

    #[test]
    fn packets_are_rejected_by_icmp() {
        let rule = Rule::new().reject(Reject::AdminProhibited);
        assert_written(
            &rule,
            "240001800b00010072656a65637400001400028008000100000000020500020003000000",
        );
    }

    #[test]
    fn links_are_matched_by_their_padded_names() {
        let rule = Rule::new()
            .equal(Load::InputName, b"node0\0\0\0\0\0\0\0\0\0\0\0")
            .equal(Load::OutputName, b"node1\0\0\0\0\0\0\0\0\0\0\0")
            .drop();
        assert_written(
            &rule,
            "24000180090001006d657461000000001400028008000100000000010800020000000006
            3800018008000100636d70002c000280080001000000000108000200000000001800038014000100
            6e6f6465300000000000000000000000
            24000180090001006d657461000000001400028008000100000000010800020000000007
            3800018008000100636d70002c000280080001000000000108000200000000001800038014000100
            6e6f6465310000000000000000000000
            300001800e000100696d6d6564696174650000001c0002800800010000000000100002800c000280
            0800010000000000",
        );
    }

    #[test]
    fn chain_is_jumped_to() {
        let rule = Rule::new().jump("record_egress");
        assert_written(
            &rule,
            "440001800e000100696d6d6564696174650000003000028008000100000000002400028020000280
            08000100fffffffd120002007265636f72645f656772657373000000",
        );
    }
}
