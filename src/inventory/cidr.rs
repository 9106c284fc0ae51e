//! Address blocks: `10.0.0.0/8`, `2001:db8::/32`.

use crate::model::Family;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Why a text is not an address block.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseCidrError {
    /// Not `ADDRESS/LENGTH`.
    #[error("{0:?} is not an address block; write 192.0.2.0/24 or 2001:db8::/64")]
    Form(String),
    /// One address without a length.
    #[error("{0:?} is an address, not a block; write {0}/{1} for this one address")]
    NoLength(String, u8),
    /// IPv4 addresses spelt as IPv6. What such a block matches differs between readers (KEP-4858).
    #[error("{0:?} spells IPv4 addresses as IPv6; write them as IPv4")]
    Mapped(String),
}

/// An address block, its host bits cleared.
///
/// The API accepts blocks whose host bits are set (`10.0.0.1/8`) and so does this; they mean the
/// whole block. Leading zeros (`010.0.0.0/8`), which the API still tolerates, are refused: readers
/// disagree on whether they are octal (KEP-4858).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cidr {
    first: IpAddr,
    length: u8,
}

impl Cidr {
    /// Parses a block.
    ///
    /// # Errors
    /// [`ParseCidrError`], with the text.
    pub fn parse(text: &str) -> Result<Self, ParseCidrError> {
        let form = || ParseCidrError::Form(text.to_owned());
        let Some((address, length)) = text.split_once('/') else {
            return Err(match text.parse::<IpAddr>() {
                Ok(address) => ParseCidrError::NoLength(text.to_owned(), bits(Family::of(address))),
                Err(_) => form(),
            });
        };
        let address: IpAddr = address.parse().map_err(|_| form())?;
        let canonical = length == "0"
            || (!length.starts_with('0') && length.chars().all(|c| c.is_ascii_digit()));
        let length: u8 = if canonical {
            length.parse().map_err(|_| form())?
        } else {
            return Err(form());
        };
        if length > bits(Family::of(address)) {
            return Err(form());
        }
        match address {
            IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => {
                Err(ParseCidrError::Mapped(text.to_owned()))
            }
            _ => Ok(Self {
                first: from_number(
                    Family::of(address),
                    number(address) & !host_mask(address, length),
                ),
                length,
            }),
        }
    }

    /// Its family.
    pub fn family(self) -> Family {
        Family::of(self.first)
    }

    /// The length of its prefix: 0 to 32, or 0 to 128.
    pub fn length(self) -> u8 {
        self.length
    }

    /// Its first address.
    pub fn first(self) -> IpAddr {
        self.first
    }

    /// Its last address.
    pub fn last(self) -> IpAddr {
        from_number(
            self.family(),
            number(self.first) | host_mask(self.first, self.length),
        )
    }

    /// Whether an address lies in it; never for the other family.
    pub fn contains(self, address: IpAddr) -> bool {
        Family::of(address) == self.family() && (self.first..=self.last()).contains(&address)
    }
}

impl std::fmt::Display for Cidr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.first, self.length)
    }
}

fn bits(family: Family) -> u8 {
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

/// The address of a number that came from [`number`], so that it fits.
fn from_number(family: Family, number: u128) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::from_bits(number as u32).into(),
        Family::V6 => Ipv6Addr::from_bits(number).into(),
    }
}

/// Ones where a block of that length leaves the address open.
fn host_mask(address: IpAddr, length: u8) -> u128 {
    let open = u32::from(bits(Family::of(address)) - length);
    1_u128.checked_shl(open).map_or(u128::MAX, |bit| bit - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_know_their_ends() {
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
    fn anything_else_is_refused() {
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
