//! Address families.

use serde::Serialize;
use std::net::IpAddr;

/// An address family. A flow is tested in each family that both of its ends have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    V4,
    V6,
}

impl Family {
    /// Both families, in the order of tests and reports.
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// The family of an address.
    pub fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }
}

/// The address families of a lab: at least one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Families {
    V4,
    V6,
    Both,
}

impl Families {
    /// What suites and the command line call a family.
    pub const NAMES: &'static [&'static str] = &["ipv4", "ipv6"];

    /// The families among these; `None` if there is none.
    pub fn of(families: impl IntoIterator<Item = Family>) -> Option<Self> {
        families.into_iter().map(Self::from).reduce(Self::and)
    }

    /// The families that addresses and statements show; IPv4 alone, as in most clusters, where there
    /// is none of them.
    pub fn shown_by<'a>(
        addresses: impl IntoIterator<Item = &'a IpAddr>,
        stated: impl IntoIterator<Item = &'a Family>,
    ) -> Self {
        let of_these = addresses.into_iter().map(|address| Family::of(*address));
        Self::of(of_these.chain(stated.into_iter().copied())).unwrap_or(Self::V4)
    }

    /// Parses names, such as `["ipv4", "ipv6"]`, in any order.
    ///
    /// # Errors
    /// The first name that is no family's, or nothing where there is no name.
    pub fn parse<'n>(names: impl IntoIterator<Item = &'n str>) -> Result<Self, String> {
        let families = names.into_iter().map(|name| match name {
            "ipv4" => Ok(Family::V4),
            "ipv6" => Ok(Family::V6),
            other => Err(format!("{other:?} is not ipv4 or ipv6")),
        });
        let families: Vec<Family> = families.collect::<Result<_, _>>()?;
        Self::of(families).ok_or_else(|| "name ipv4, ipv6 or both".to_owned())
    }

    /// Whether a family is among these.
    pub fn contains(self, family: Family) -> bool {
        self == Self::Both || self == Self::from(family)
    }

    /// These, in the order of [`Family::ALL`].
    pub fn list(self) -> Vec<Family> {
        Family::ALL
            .into_iter()
            .filter(|family| self.contains(*family))
            .collect()
    }

    /// Their names, separated by commas, as [`Self::parse`] takes them.
    pub fn names(self) -> String {
        let names = Family::ALL.into_iter().zip(Self::NAMES);
        let names: Vec<&str> = names
            .filter(|(family, _)| self.contains(*family))
            .map(|(_, name)| *name)
            .collect();
        names.join(",")
    }

    /// The addresses of these families.
    pub fn keep(self, addresses: impl IntoIterator<Item = IpAddr>) -> Vec<IpAddr> {
        addresses
            .into_iter()
            .filter(|address| self.contains(Family::of(*address)))
            .collect()
    }

    /// These and others.
    fn and(self, other: Self) -> Self {
        if self == other { self } else { Self::Both }
    }
}

impl From<Family> for Families {
    fn from(family: Family) -> Self {
        match family {
            Family::V4 => Self::V4,
            Family::V6 => Self::V6,
        }
    }
}

impl std::fmt::Display for Families {
    /// `IPv4`, or `IPv4 and IPv6`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<String> = self.list().iter().map(ToString::to_string).collect();
        f.write_str(&names.join(" and "))
    }
}

impl std::fmt::Display for Family {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}
