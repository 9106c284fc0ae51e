//! Netlink messages as bytes (netlink(7), `linux/netlink.h`): headers and attributes, in host byte
//! order and aligned to four bytes.

use super::uapi::{NLA_F_NESTED, NLA_TYPE_MASK, NLM_F_REQUEST};

/// Bytes of `struct nlmsghdr`: length, type, flags, sequence number, port.
const HEADER: usize = 16;

/// Bytes of `struct nlattr`: length, type.
const ATTRIBUTE_HEADER: usize = 4;

/// `NLMSG_ALIGN` and `NLA_ALIGN`.
const fn aligned(length: usize) -> usize {
    length.next_multiple_of(4)
}

/// Attributes that are being written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in super::super) struct Attributes {
    bytes: Vec<u8>,
    /// Whether an attribute did not fit its length field.
    too_long: bool,
}

impl Attributes {
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// Adds an attribute with this value.
    pub(super) fn bytes(mut self, kind: u16, value: &[u8]) -> Self {
        let length = u16::try_from(ATTRIBUTE_HEADER + value.len()).unwrap_or_else(|_| {
            self.too_long = true;
            u16::MAX
        });

        self.bytes.extend(length.to_ne_bytes());
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend(value);
        self.bytes.resize(aligned(self.bytes.len()), 0);
        self
    }

    /// Adds a string, which the kernel reads up to a zero byte.
    pub(super) fn text(self, kind: u16, value: &str) -> Self {
        self.bytes(kind, &[value.as_bytes(), &[0]].concat())
    }

    /// Adds a number in host byte order, as rtnetlink has them.
    pub(super) fn host32(self, kind: u16, value: u32) -> Self {
        self.bytes(kind, &value.to_ne_bytes())
    }

    /// Adds a number in network byte order, as nftables has them.
    pub(super) fn network32(self, kind: u16, value: u32) -> Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    /// Adds an attribute that consists of attributes.
    pub(super) fn nest(mut self, kind: u16, inner: &Self) -> Self {
        self.too_long |= inner.too_long;
        self.nested_bytes(kind, &inner.bytes)
    }

    /// Adds an attribute that contains attributes after a fixed part.
    pub(super) fn nested_bytes(self, kind: u16, inner: &[u8]) -> Self {
        self.bytes(kind | NLA_F_NESTED, inner)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Adds attributes that are already written.
    pub(super) fn append(&mut self, more: &Self) {
        self.too_long |= more.too_long;
        self.bytes.extend(&more.bytes);
    }
}

/// A request to the kernel, without its sequence number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Message {
    kind: u16,
    flags: u16,
    /// The subsystem's fixed part, then the attributes.
    body: Vec<u8>,
    too_long: bool,
}

impl Message {
    /// A message of a type, with flags besides `NLM_F_REQUEST`.
    pub(super) fn new(kind: u16, flags: u16, fixed: &[u8], attributes: &Attributes) -> Self {
        Self {
            kind,
            flags: flags | NLM_F_REQUEST,
            body: [fixed, &attributes.bytes].concat(),
            too_long: attributes.too_long,
        }
    }

    pub(super) fn kind(&self) -> u16 {
        self.kind
    }

    /// Bytes on the socket.
    pub(in super::super) fn length(&self) -> usize {
        aligned(HEADER + self.body.len())
    }

    /// Whether an attribute did not fit its length field, so that the message must not be sent.
    pub(super) fn is_too_long(&self) -> bool {
        self.too_long
    }

    /// Appends the message to what will be sent.
    pub(super) fn write(&self, sequence: u32, more_flags: u16, to: &mut Vec<u8>) {
        let length = (HEADER + self.body.len()) as u32;
        to.extend(length.to_ne_bytes());
        to.extend(self.kind.to_ne_bytes());
        to.extend((self.flags | more_flags).to_ne_bytes());
        to.extend(sequence.to_ne_bytes());
        // The sender's port: the kernel knows it from the socket.
        to.extend(0_u32.to_ne_bytes());
        to.extend(&self.body);
        to.resize(aligned(to.len()), 0);
    }
}

/// A message from the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Received<'a> {
    pub(super) kind: u16,
    pub(super) flags: u16,
    pub(super) sequence: u32,
    /// The subsystem's fixed part, then the attributes.
    pub(super) body: &'a [u8],
}

/// The messages of one datagram; what is malformed ends them.
pub(super) fn messages(mut datagram: &[u8]) -> impl Iterator<Item = Received<'_>> {
    std::iter::from_fn(move || {
        let length = host32(datagram)? as usize;
        let header = datagram.get(..HEADER)?;
        let body = datagram.get(HEADER..length)?;
        datagram = datagram.get(aligned(length)..).unwrap_or_default();

        Some(Received {
            kind: host16(&header[4..])?,
            flags: host16(&header[6..])?,
            sequence: host32(&header[8..])?,
            body,
        })
    })
}

/// Attributes by type, without the flags of the type; what is malformed ends them.
pub(super) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(host16(bytes)?);
        let kind = host16(bytes.get(2..)?)?;
        let value = bytes.get(ATTRIBUTE_HEADER..length)?;
        bytes = bytes.get(aligned(length)..).unwrap_or_default();
        Some((kind & NLA_TYPE_MASK, value))
    })
}

/// The value of the first attribute of a type.
pub(super) fn attribute(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes).find_map(|(other, value)| (other == kind).then_some(value))
}

/// A string up to its zero byte.
pub(super) fn text(value: &[u8]) -> String {
    let end = value.iter().position(|byte| *byte == 0);
    String::from_utf8_lossy(&value[..end.unwrap_or(value.len())]).into_owned()
}

fn host16(bytes: &[u8]) -> Option<u16> {
    bytes.first_chunk().copied().map(u16::from_ne_bytes)
}

pub(super) fn host32(bytes: &[u8]) -> Option<u32> {
    bytes.first_chunk().copied().map(u32::from_ne_bytes)
}

/// Bytes by their hexadecimal digits, for tests.
#[cfg(test)]
pub(super) fn hex(digits: &str) -> Vec<u8> {
    let digits: String = digits.split_whitespace().collect();
    (0..digits.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap())
        .collect()
}

/// What follows a message's header, for tests.
#[cfg(test)]
pub(super) fn body(message: &Message) -> &[u8] {
    &message.body
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_padded_and_their_lengths_are_not() {
        let inner = Attributes::new().text(1, "veth");
        let written = Attributes::new()
            .bytes(2, &[0xaa])
            .nest(18, &inner)
            .network32(3, 1);
        let expected = hex("05000200 aa000000 10001280 09000100 7665746800000000 0800030000000001");
        assert_eq!(written.as_bytes(), expected);
    }

    #[test]
    fn attributes_are_read_as_written() {
        let inner = Attributes::new().text(1, "veth").bytes(2, &[7; 5]);
        let written = Attributes::new().host32(4, 9).nest(18, &inner);

        let read: Vec<_> = attributes(written.as_bytes()).collect();
        assert_eq!(
            read,
            [(4, &9_u32.to_ne_bytes()[..]), (18, inner.as_bytes())]
        );
        assert_eq!(attribute(inner.as_bytes(), 2), Some(&[7; 5][..]));
        assert_eq!(attribute(inner.as_bytes(), 3), None);
        assert_eq!(text(b"veth\0\0"), "veth");
    }

    #[test]
    fn messages_are_read_as_written() {
        let message = Message::new(24, 0x600, &[2, 32], &Attributes::new());
        let mut datagram = Vec::new();
        message.write(5, 4, &mut datagram);
        message.write(6, 0, &mut datagram);
        assert_eq!(datagram.len(), 2 * message.length());

        let read: Vec<_> = messages(&datagram).collect();
        assert_eq!(
            (read[0].kind, read[0].flags, read[0].sequence),
            (24, 0x605, 5)
        );
        assert_eq!((read[1].flags, read[1].body), (0x601, &[2, 32][..]));
        assert_eq!(read.len(), 2);
    }

    #[test]
    fn malformed_lengths_end_the_reading() {
        assert_eq!(
            messages(&hex("ff000000 1000 0000 01000000 00000000")).count(),
            0
        );
        assert_eq!(
            messages(&hex("00000000 1000 0000 01000000 00000000")).count(),
            0
        );
        assert_eq!(attributes(&hex("0000 0100 00000000")).count(), 0);
        assert_eq!(attributes(&hex("0900 0100 00000000")).count(), 0);
        assert_eq!(attributes(&hex("0500 01")).count(), 0);
    }

    #[test]
    fn attribute_past_its_length_field_is_noticed_through_every_nest() {
        let longest = Attributes::new().bytes(1, &vec![0; 65_531]);
        assert!(!longest.too_long);

        let nested = Attributes::new().nest(2, &longest);
        let outer = Attributes::new().nest(3, &nested);
        assert!(Message::new(1, 0, &[], &outer).is_too_long());
    }
}
