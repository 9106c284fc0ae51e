//! Addresses that cannot be a target.

use std::net::{IpAddr, Ipv4Addr};

/// Why an address cannot be a target: what is sent there never leaves its sender, or goes to more
/// than one host, or an address of the other family is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RefusedAddress {
    /// 127.0.0.0/8 and `::1`.
    #[error("is a loopback address, which every source has for itself")]
    Loopback,
    /// 0.0.0.0/8 and `::` (RFC 1122 section 3.2.1.3).
    #[error("is no host's address: it means \"this host\"")]
    Unspecified,
    /// 224.0.0.0/4 and `ff00::/8`.
    #[error("is a multicast address, which no connection goes to")]
    Multicast,
    /// 255.255.255.255.
    #[error("is the broadcast address, which no connection goes to")]
    Broadcast,
    /// `fe80::/10`: the same on every link, and reached only with a link's name.
    #[error("is a link-local IPv6 address, which means another host on every link")]
    LinkLocal,
    /// `::ffff:0:0/96` (RFC 4291 section 2.5.5.2): the kernel sends IPv4 packets there.
    #[error("spells the IPv4 address {0} as IPv6")]
    Mapped(Ipv4Addr),
}

impl RefusedAddress {
    /// Why an address cannot be a target; `None` for one that can, 169.254.169.254 included.
    pub fn of(address: IpAddr) -> Option<Self> {
        match address {
            IpAddr::V4(v4) if v4.octets()[0] == 0 => Some(Self::Unspecified),
            IpAddr::V4(v4) if v4.is_broadcast() => Some(Self::Broadcast),
            IpAddr::V6(v6) if v6.is_unicast_link_local() => Some(Self::LinkLocal),
            IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => {
                v6.to_ipv4_mapped().map(Self::Mapped)
            }
            _ if address.is_loopback() => Some(Self::Loopback),
            _ if address.is_unspecified() => Some(Self::Unspecified),
            _ if address.is_multicast() => Some(Self::Multicast),
            IpAddr::V4(_) | IpAddr::V6(_) => None,
        }
    }

    /// What to write instead.
    pub fn help(self) -> String {
        match self {
            Self::Loopback => {
                "name the workload itself, or the address that others reach it by".to_owned()
            }
            Self::Mapped(v4) => format!("write {v4}"),
            Self::Unspecified | Self::Multicast | Self::Broadcast | Self::LinkLocal => {
                "name the address of one host, such as 203.0.113.66".to_owned()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_no_single_host_elsewhere_are_refused() {
        let refused = [
            "127.0.0.1",
            "127.9.9.9",
            "::1",
            "0.0.0.0",
            "0.1.2.3",
            "::",
            "224.0.0.1",
            "239.255.255.255",
            "ff02::1",
            "255.255.255.255",
            "fe80::1",
            "febf::1",
            "::ffff:1.2.3.4",
        ];
        for text in refused {
            let address: IpAddr = text.parse().unwrap();
            let why = RefusedAddress::of(address).expect(text);
            assert!(!why.help().is_empty());
        }
    }

    #[test]
    fn addresses_of_hosts_are_not_refused() {
        let usable = [
            "169.254.169.254",
            "10.0.0.1",
            "203.0.113.66",
            "240.0.0.1",
            "198.18.0.1",
            "2001:db8::1",
            "fd00:ec2::254",
            "64:ff9b::1.2.3.4",
        ];
        for text in usable {
            assert_eq!(RefusedAddress::of(text.parse().unwrap()), None, "{text}");
        }
    }
}
