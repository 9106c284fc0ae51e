//! Address blocks: `10.0.0.0/8`, `2001:db8::/32`.

use crate::model::Family;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An error of a text that should be an address block.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseCidrError {
    /// It is not `ADDRESS/LENGTH`.
    #[error("{0:?} is not an address block; write 192.0.2.0/24 or 2001:db8::/64")]
    Form(String),
    /// It is an address without a length. The second value is the length for this one address.
    #[error("{0:?} is an address, not a block; write {0}/{1} for this one address")]
    NoLength(String, u8),
    /// It is IPv4 addresses in IPv6 notation, which programs read differently (KEP-4858).
    #[error("{0:?} spells IPv4 addresses as IPv6; write them as IPv4")]
    Mapped(String),
}

/// An address block, its host bits cleared.
///
/// Blocks whose host bits are set (`10.0.0.1/8`) are accepted, as by the API, and mean the whole
/// block. Leading zeros (`010.0.0.0/8`), which the API still accepts, are refused: some programs
/// read them as octal (KEP-4858).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cidr {
    first: IpAddr,
    length: u8,
}

impl Cidr {
    /// Parses a block.
    ///
    /// # Errors
    /// [`ParseCidrError`], which contains the text.
    pub fn parse(text: &str) -> Result<Self, ParseCidrError> {
        let Some((address, length)) = text.split_once('/') else {
            return Err(match text.parse::<IpAddr>() {
                Ok(address) => {
                    ParseCidrError::NoLength(text.to_owned(), address_length(Family::of(address)))
                }
                Err(_) => ParseCidrError::Form(text.to_owned()),
            });
        };
        let address = address.parse::<IpAddr>().ok();
        let length = parse_length(length);
        let (Some(address), Some(length)) = (address, length) else {
            return Err(ParseCidrError::Form(text.to_owned()));
        };

        let family = Family::of(address);
        if length > address_length(family) {
            return Err(ParseCidrError::Form(text.to_owned()));
        }
        if let IpAddr::V6(v6) = address
            && v6.to_ipv4_mapped().is_some()
        {
            return Err(ParseCidrError::Mapped(text.to_owned()));
        }
        let first = number(address) & !host_mask(family, length);
        Ok(Self {
            first: from_number(family, first),
            length,
        })
    }

    /// Its family.
    pub fn family(self) -> Family {
        Family::of(self.first)
    }

    /// The length of its prefix in bits: 0 to 32 for IPv4, 0 to 128 for IPv6.
    pub fn length(self) -> u8 {
        self.length
    }

    /// Its first address.
    pub fn first(self) -> IpAddr {
        self.first
    }

    /// Its last address.
    pub fn last(self) -> IpAddr {
        let last = number(self.first) | host_mask(self.family(), self.length);
        from_number(self.family(), last)
    }

    /// Whether it contains an address; false for an address of the other family.
    pub fn contains(self, address: IpAddr) -> bool {
        Family::of(address) == self.family() && (self.first..=self.last()).contains(&address)
    }
}

impl std::fmt::Display for Cidr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.first, self.length)
    }
}

/// A prefix length without sign and leading zeros.
fn parse_length(text: &str) -> Option<u8> {
    let is_canonical =
        text == "0" || (!text.starts_with('0') && text.chars().all(|c| c.is_ascii_digit()));
    if is_canonical {
        text.parse().ok()
    } else {
        None
    }
}

/// The length of an address in bits.
fn address_length(family: Family) -> u8 {
    match family {
        Family::V4 => 32,
        Family::V6 => 128,
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

/// The address with a number, which must be one of [`number`]'s for the family.
fn from_number(family: Family, number: u128) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::from_bits(number as u32).into(),
        Family::V6 => Ipv6Addr::from_bits(number).into(),
    }
}

/// The host bits of a block with a prefix of that length.
fn host_mask(family: Family, length: u8) -> u128 {
    let host_bits = u32::from(address_length(family) - length);
    1_u128
        .checked_shl(host_bits)
        .map_or(u128::MAX, |bit| bit - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_goes_from_its_first_to_its_last_address() {
        let cases = [
            ("10.0.0.0/8", "10.0.0.0", "10.255.255.255"),
            ("10.1.2.3/8", "10.0.0.0", "10.255.255.255"),
            ("0.0.0.0/0", "0.0.0.0", "255.255.255.255"),
            ("192.0.2.7/32", "192.0.2.7", "192.0.2.7"),
            ("::/0", "::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
            (
                "2001:db8::1/64",
                "2001:db8::",
                "2001:db8::ffff:ffff:ffff:ffff",
            ),
            ("2001:db8::1/128", "2001:db8::1", "2001:db8::1"),
        ];
        for (text, first, last) in cases {
            let block = Cidr::parse(text).expect(text);
            assert_eq!(
                (block.first().to_string(), block.last().to_string()),
                (first.to_owned(), last.to_owned())
            );
        }
        let block = Cidr::parse("192.0.2.0/25").expect("good");
        assert!(block.contains("192.0.2.127".parse().expect("good")));
        assert!(!block.contains("192.0.2.128".parse().expect("good")));
        assert!(
            !Cidr::parse("::/0")
                .expect("good")
                .contains("192.0.2.1".parse().expect("good"))
        );
    }

    #[test]
    fn texts_that_are_not_blocks_are_refused() {
        for text in [
            "",
            "/",
            "10.0.0.0/",
            "/8",
            "10.0.0.0/33",
            "::/129",
            "10.0.0/8",
            "010.0.0.0/8",
            "10.0.0.0/08",
            "10.0.0.0/+8",
            "a/8",
            "10.0.0.0/8/8",
        ] {
            assert!(
                matches!(Cidr::parse(text), Err(ParseCidrError::Form(_))),
                "{text}"
            );
        }
        assert_eq!(
            Cidr::parse("10.0.0.1"),
            Err(ParseCidrError::NoLength("10.0.0.1".to_owned(), 32))
        );
        assert!(matches!(
            Cidr::parse("::ffff:10.0.0.0/104"),
            Err(ParseCidrError::Mapped(_))
        ));
    }
}
