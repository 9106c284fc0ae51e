//! What can stand in the way of a lab, and the one command that removes it.

use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit};
use std::fs;
use std::sync::OnceLock;

/// Why there can be no lab on this machine as it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Obstacle {
    /// `user.max_user_namespaces` is used up, or 0.
    #[error("the kernel gives out no user namespace (user.max_user_namespaces is {})", shown(*limit))]
    UserNamespaceLimit {
        /// The limit, where it could be read.
        limit: Option<u64>,
    },
    /// `user.max_net_namespaces` is used up, or 0.
    #[error("the kernel gives out no further network namespace (user.max_net_namespaces is {})", shown(*limit))]
    NetNamespaceLimit {
        /// The limit, where it could be read.
        limit: Option<u64>,
    },
    /// Ubuntu's switch: the namespace is given, its capabilities are not.
    #[error(
        "AppArmor takes all rights from user namespaces (kernel.apparmor_restrict_unprivileged_userns is 1)"
    )]
    AppArmor,
    /// Debian's older switch.
    #[error("user namespaces are for root only (kernel.unprivileged_userns_clone is 0)")]
    UnprivilegedSwitch,
    /// A seccomp filter, as container engines set it.
    #[error("a seccomp filter, usually the container engine's, forbids namespaces")]
    Seccomp,
    /// The kernel was built without user namespaces.
    #[error("this kernel has no user namespaces")]
    NoUserNamespaces,
    /// The process is in a chroot, which user namespaces are refused to, or its ids are not mapped.
    #[error(
        "the kernel refuses a user namespace to this process (a chroot, or a user that its own namespace does not map)"
    )]
    Refused,
    /// No `nf_tables`.
    #[error("this kernel has no nftables, or may not load it from here")]
    NoNftables,
    /// No `veth`.
    #[error("this kernel has no veth links, or may not load them from here")]
    NoVeth,
    /// No IPv6.
    #[error("this kernel has no IPv6")]
    NoIpv6,
    /// The hard limit of open files is too low for the world.
    #[error("this lab needs {needed} open files and the hard limit is {hard}")]
    FileLimit {
        /// What the world needs.
        needed: u64,
        /// What there is.
        hard: u64,
    },
    /// None of those known.
    #[error("the kernel refused to {operation} ({errno})")]
    Unknown {
        /// What was being done.
        operation: Operation,
        /// Why.
        errno: Errno,
    },
}

fn shown(limit: Option<u64>) -> String {
    limit.map_or_else(|| "not readable".to_owned(), |limit| limit.to_string())
}

impl Obstacle {
    /// The one command, or the one thing, that removes it.
    pub fn fix(&self) -> String {
        match self {
            Self::UserNamespaceLimit { .. } => {
                "sudo sysctl -w user.max_user_namespaces=15000".to_owned()
            }
            Self::NetNamespaceLimit { .. } => {
                "sudo sysctl -w user.max_net_namespaces=15000".to_owned()
            }
            Self::AppArmor => {
                "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0".to_owned()
            }
            Self::UnprivilegedSwitch => {
                "sudo sysctl -w kernel.unprivileged_userns_clone=1".to_owned()
            }
            Self::Seccomp => "docker run --security-opt seccomp=unconfined ...".to_owned(),
            Self::NoUserNamespaces | Self::Refused => "sudo watertight ...".to_owned(),
            Self::NoNftables => {
                "sudo modprobe -a nf_tables nft_ct nft_nat nft_reject_inet nft_numgen".to_owned()
            }
            Self::NoVeth => "sudo modprobe veth".to_owned(),
            Self::NoIpv6 => "boot without ipv6.disable=1".to_owned(),
            Self::FileLimit { needed, .. } => {
                format!("sudo prlimit --pid $$ --nofile={needed}:{needed}")
            }
            Self::Unknown { .. } => "docker run --privileged ...".to_owned(),
        }
    }
}

/// What was being done when the kernel refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// `unshare(CLONE_NEWUSER | CLONE_NEWNET)`.
    UserNamespace,
    /// Writing `setgroups`, `uid_map` and `gid_map`.
    MapUser,
    /// `unshare(CLONE_NEWNET)`.
    NetworkNamespace,
    /// A veth pair.
    Veth,
    /// A transaction of nftables.
    Nftables,
    /// Opening a file or a socket.
    Open,
}

impl std::fmt::Display for Operation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::UserNamespace => "make a user namespace",
            Self::MapUser => "map the user into its namespace",
            Self::NetworkNamespace => "make a network namespace",
            Self::Veth => "make a veth link",
            Self::Nftables => "load rules into nftables",
            Self::Open => "open a socket",
        })
    }
}

/// What the machine says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a switch of the machine, and all combinations occur"
)]
pub struct Facts {
    /// `user.max_user_namespaces`.
    pub max_user_namespaces: Option<u64>,
    /// `user.max_net_namespaces`.
    pub max_net_namespaces: Option<u64>,
    /// `kernel.apparmor_restrict_unprivileged_userns` is 1.
    pub apparmor_restricts: bool,
    /// `kernel.unprivileged_userns_clone` is 0.
    pub unprivileged_switched_off: bool,
    /// A seccomp filter is on this process.
    pub seccomp: bool,
    /// This process has `CAP_SYS_ADMIN`.
    pub sys_admin: bool,
    /// The hard limit of open files.
    pub files: u64,
}

impl Facts {
    /// Those of the machine, as they were before the process entered a user namespace: inside, the
    /// limits that count are out of sight.
    pub fn of_machine() -> &'static Self {
        static FACTS: OnceLock<Facts> = OnceLock::new();
        FACTS.get_or_init(Self::read)
    }

    /// Reads them from `/proc`. What cannot be read counts as absent.
    pub fn read() -> Self {
        let number = |path: &str| {
            fs::read_to_string(path)
                .ok()
                .and_then(|text| text.trim().parse::<u64>().ok())
        };
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let field = |name: &str| {
            status.lines().find_map(|line| {
                line.strip_prefix(name)?
                    .strip_prefix(':')
                    .map(|value| value.trim().to_owned())
            })
        };
        let capabilities = field("CapEff")
            .and_then(|text| u64::from_str_radix(&text, 16).ok())
            .unwrap_or(0);
        Self {
            max_user_namespaces: number("/proc/sys/user/max_user_namespaces"),
            max_net_namespaces: number("/proc/sys/user/max_net_namespaces"),
            apparmor_restricts: number("/proc/sys/kernel/apparmor_restrict_unprivileged_userns")
                == Some(1),
            unprivileged_switched_off: number("/proc/sys/kernel/unprivileged_userns_clone")
                == Some(0),
            seccomp: field("Seccomp").is_some_and(|mode| mode == "2"),
            // CAP_SYS_ADMIN is bit 21 (linux/capability.h).
            sys_admin: capabilities & (1 << 21) != 0,
            files: getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(_, hard)| hard),
        }
    }
}

/// What stands in the way, from what was tried, how the kernel refused, and what the machine says
/// of itself.
pub fn diagnose(operation: Operation, errno: Errno, facts: &Facts) -> Obstacle {
    match (operation, errno) {
        // Since Linux 4.9 a limit gives ENOSPC; EUSERS before, and still for too deep a nesting.
        (Operation::UserNamespace, Errno::ENOSPC | Errno::EUSERS)
            if facts.max_net_namespaces == Some(0) =>
        {
            Obstacle::NetNamespaceLimit {
                limit: facts.max_net_namespaces,
            }
        }
        (Operation::UserNamespace, Errno::ENOSPC | Errno::EUSERS) => Obstacle::UserNamespaceLimit {
            limit: facts.max_user_namespaces,
        },
        (Operation::NetworkNamespace, Errno::ENOSPC | Errno::EUSERS) => {
            Obstacle::NetNamespaceLimit {
                limit: facts.max_net_namespaces,
            }
        }
        (Operation::UserNamespace | Operation::NetworkNamespace, Errno::EINVAL | Errno::ENOSYS) => {
            Obstacle::NoUserNamespaces
        }
        (
            Operation::UserNamespace | Operation::MapUser | Operation::NetworkNamespace,
            Errno::EPERM | Errno::EACCES,
        ) => {
            if facts.unprivileged_switched_off {
                Obstacle::UnprivilegedSwitch
            } else if facts.apparmor_restricts && !facts.sys_admin {
                Obstacle::AppArmor
            } else if facts.seccomp {
                Obstacle::Seccomp
            } else {
                Obstacle::Refused
            }
        }
        // AppArmor's switch lets the namespace be made and refuses what is done in it.
        (Operation::Veth | Operation::Nftables, Errno::EPERM | Errno::EACCES)
            if facts.apparmor_restricts =>
        {
            Obstacle::AppArmor
        }
        (Operation::Veth, Errno::EOPNOTSUPP | Errno::ENODEV | Errno::EPROTONOSUPPORT) => {
            Obstacle::NoVeth
        }
        (
            Operation::Nftables,
            Errno::EOPNOTSUPP | Errno::EPROTONOSUPPORT | Errno::ENOENT | Errno::EINVAL,
        ) => Obstacle::NoNftables,
        (_, Errno::EAFNOSUPPORT) => Obstacle::NoIpv6,
        (_, Errno::EMFILE) => Obstacle::FileLimit {
            needed: facts.files.saturating_mul(4).max(65_536),
            hard: facts.files,
        },
        (operation, errno) => Obstacle::Unknown { operation, errno },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_is_named_by_its_cause() {
        let plain = Facts {
            max_user_namespaces: Some(100),
            max_net_namespaces: Some(100),
            files: 4096,
            ..Facts::default()
        };
        let apparmor = Facts {
            apparmor_restricts: true,
            ..plain.clone()
        };
        let debian = Facts {
            unprivileged_switched_off: true,
            ..plain.clone()
        };
        let container = Facts {
            seccomp: true,
            ..plain.clone()
        };
        let no_net = Facts {
            max_net_namespaces: Some(0),
            ..plain.clone()
        };
        let no_user = Facts {
            max_user_namespaces: Some(0),
            ..plain.clone()
        };
        let cases = [
            (
                Operation::UserNamespace,
                Errno::ENOSPC,
                &no_user,
                Obstacle::UserNamespaceLimit { limit: Some(0) },
            ),
            (
                Operation::UserNamespace,
                Errno::EUSERS,
                &plain,
                Obstacle::UserNamespaceLimit { limit: Some(100) },
            ),
            (
                Operation::UserNamespace,
                Errno::ENOSPC,
                &no_net,
                Obstacle::NetNamespaceLimit { limit: Some(0) },
            ),
            (
                Operation::NetworkNamespace,
                Errno::ENOSPC,
                &plain,
                Obstacle::NetNamespaceLimit { limit: Some(100) },
            ),
            (
                Operation::UserNamespace,
                Errno::EPERM,
                &apparmor,
                Obstacle::AppArmor,
            ),
            (
                Operation::MapUser,
                Errno::EPERM,
                &apparmor,
                Obstacle::AppArmor,
            ),
            (
                Operation::MapUser,
                Errno::EACCES,
                &apparmor,
                Obstacle::AppArmor,
            ),
            (Operation::Veth, Errno::EPERM, &apparmor, Obstacle::AppArmor),
            (
                Operation::UserNamespace,
                Errno::EPERM,
                &debian,
                Obstacle::UnprivilegedSwitch,
            ),
            (
                Operation::UserNamespace,
                Errno::EPERM,
                &container,
                Obstacle::Seccomp,
            ),
            (
                Operation::NetworkNamespace,
                Errno::EPERM,
                &container,
                Obstacle::Seccomp,
            ),
            (
                Operation::UserNamespace,
                Errno::EPERM,
                &plain,
                Obstacle::Refused,
            ),
            (
                Operation::UserNamespace,
                Errno::EINVAL,
                &plain,
                Obstacle::NoUserNamespaces,
            ),
            (Operation::Veth, Errno::EOPNOTSUPP, &plain, Obstacle::NoVeth),
            (
                Operation::Nftables,
                Errno::EPROTONOSUPPORT,
                &plain,
                Obstacle::NoNftables,
            ),
            (
                Operation::Nftables,
                Errno::EOPNOTSUPP,
                &plain,
                Obstacle::NoNftables,
            ),
            (
                Operation::Open,
                Errno::EAFNOSUPPORT,
                &plain,
                Obstacle::NoIpv6,
            ),
            (
                Operation::Open,
                Errno::EMFILE,
                &plain,
                Obstacle::FileLimit {
                    needed: 65_536,
                    hard: 4096,
                },
            ),
            (
                Operation::Veth,
                Errno::ENOMEM,
                &plain,
                Obstacle::Unknown {
                    operation: Operation::Veth,
                    errno: Errno::ENOMEM,
                },
            ),
        ];
        for (operation, errno, facts, expected) in cases {
            assert_eq!(
                diagnose(operation, errno, facts),
                expected,
                "{operation} {errno}"
            );
            assert!(!expected.fix().is_empty() && !expected.to_string().contains('\n'));
        }
    }
}
