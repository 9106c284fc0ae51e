//! Why a netlink call failed.

use nix::errno::Errno;

/// Why a netlink call failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel refused an operation.
    #[error("{operation}: {}{}", errno, explanation(message.as_deref()))]
    Refused {
        /// The operation by its number in the uapi headers, such as `NFT_MSG_NEWRULE`, with its
        /// place in a batch.
        operation: String,
        errno: Errno,
        /// The kernel's own explanation (`NLMSGERR_ATTR_MSG`), where it gives one.
        message: Option<String>,
    },
    /// A call of the socket API.
    #[error("{call} a netlink socket: {errno}")]
    Socket { call: &'static str, errno: Errno },
    #[error("the kernel did not answer within {seconds} s")]
    Timeout { seconds: i64 },
    /// Other changes interrupted every attempt to list objects (`NLM_F_DUMP_INTR`).
    #[error("listing objects was interrupted {attempts} times")]
    Interrupted { attempts: usize },
    #[error("the kernel's reply is malformed")]
    Malformed,
    /// An attribute that is longer than the 65,535 bytes that its length field can say.
    #[error("an attribute of a message is longer than 65,535 bytes")]
    TooLong,
}

impl Error {
    /// The errno of a refused operation or of the socket API.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::Refused { errno, .. } | Self::Socket { errno, .. } => Some(*errno),
            Self::Timeout { .. } | Self::Interrupted { .. } | Self::Malformed | Self::TooLong => {
                None
            }
        }
    }
}

fn explanation(message: Option<&str>) -> String {
    message.map_or_else(String::new, |message| format!(" ({message})"))
}
