//! Transports and ports.

use serde::Serialize;
use std::num::NonZeroU16;

/// Why a text is not a port.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParsePortError {
    #[error("{0:?} is not a port: a number from 1 to 65535")]
    Number(String),
}

/// A transport protocol that a Kubernetes port can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// TCP, the default of Kubernetes and of suites.
    Tcp,
    Udp,
    /// SCTP, which manifests and policies can contain but probes cannot test.
    Sctp,
}

impl Transport {
    /// The lower-case name that suites and reports use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }
}

impl std::fmt::Display for Transport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A port number with its transport: `8080/tcp`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Port {
    number: NonZeroU16,
    transport: Transport,
}

impl Port {
    /// Creates a port; `None` for number 0.
    pub fn new(number: u16, transport: Transport) -> Option<Self> {
        NonZeroU16::new(number).map(|number| Self { number, transport })
    }

    /// Parses the number alone: decimal digits, no sign, no leading zero.
    ///
    /// # Errors
    /// [`ParsePortError::Number`] for anything but 1 to 65535.
    pub fn parse_number(text: &str) -> Result<u16, ParsePortError> {
        if text.starts_with('0') || !text.chars().all(|c| c.is_ascii_digit()) {
            return Err(ParsePortError::Number(text.to_owned()));
        }
        text.parse()
            .map_err(|_| ParsePortError::Number(text.to_owned()))
    }

    /// The number, 1 to 65535.
    pub fn number(self) -> u16 {
        self.number.get()
    }

    /// The transport.
    pub fn transport(self) -> Transport {
        self.transport
    }
}

impl std::fmt::Display for Port {
    /// Writes the port as suites do: `8080` for TCP, otherwise `53/udp`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.transport {
            Transport::Tcp => write!(f, "{}", self.number),
            Transport::Udp | Transport::Sctp => write!(f, "{}/{}", self.number, self.transport),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn port_numbers_are_decimal_and_in_range() {
        assert_eq!(Port::parse_number("8080"), Ok(8080));
        assert_eq!(Port::parse_number("65535"), Ok(65535));
        for bad in ["", "0", "080", "65536", "+80", "-1", "0x50", "8o80"] {
            assert!(Port::parse_number(bad).is_err(), "{bad}");
        }
    }
}
