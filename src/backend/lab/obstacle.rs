//! Causes that make a lab impossible on a machine, and the command that fixes each.

use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit};
use std::fs;
use std::sync::OnceLock;

/// The cause that makes a lab impossible on this machine.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Obstacle {
    /// The limit `user.max_user_namespaces` is 0 or reached.
    #[error("the kernel creates no user namespace (user.max_user_namespaces is {})", limit_text(*limit))]
    UserNamespaceLimit {
        /// The limit; `None` if it cannot be read.
        limit: Option<u64>,
    },
    /// The limit `user.max_net_namespaces` is 0 or reached.
    #[error("the kernel creates no further network namespace (user.max_net_namespaces is {})", limit_text(*limit))]
    NetNamespaceLimit {
        /// The limit; `None` if it cannot be read.
        limit: Option<u64>,
    },
    /// Ubuntu's AppArmor restriction: the kernel creates the namespace without its capabilities.
    #[error(
        "AppArmor removes all capabilities in user namespaces (kernel.apparmor_restrict_unprivileged_userns is 1)"
    )]
    AppArmor,
    /// Debian's older sysctl, which permits user namespaces to root only.
    #[error("user namespaces are for root only (kernel.unprivileged_userns_clone is 0)")]
    UnprivilegedSwitch,
    /// A seccomp filter, as container engines install it.
    #[error("a seccomp filter, usually the container engine's, forbids namespaces")]
    Seccomp,
    /// The kernel was built without user namespaces.
    #[error("this kernel has no user namespaces")]
    NoUserNamespaces,
    /// The process is in a chroot, in which the kernel creates no user namespace, or its ids are
    /// not mapped.
    #[error(
        "the kernel refuses a user namespace to this process (it is in a chroot, or its user is not mapped)"
    )]
    Refused,
    /// The kernel module `nf_tables` is missing.
    #[error("this kernel has no nftables, or this process cannot load the module")]
    NoNftables,
    /// The kernel module `veth` is missing.
    #[error("this kernel has no veth links, or this process cannot load the module")]
    NoVeth,
    /// IPv6 is disabled or not built in.
    #[error("this kernel has no IPv6")]
    NoIpv6,
    /// The hard limit of open files is too low for this world.
    #[error("this lab needs {needed} open files and the hard limit is {hard}")]
    FileLimit {
        /// Open files that the world needs.
        needed: u64,
        hard: u64,
    },
    /// An error with no cause in this list.
    #[error("the kernel refused to {operation} ({errno})")]
    Unknown { operation: Operation, errno: Errno },
}

fn limit_text(limit: Option<u64>) -> String {
    limit.map_or_else(|| "not readable".to_owned(), |limit| limit.to_string())
}

impl Obstacle {
    /// The command or setting that removes the cause.
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

/// The operation that the kernel refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// `unshare(CLONE_NEWUSER | CLONE_NEWNET)`.
    UserNamespace,
    /// Writing `setgroups`, `uid_map` and `gid_map`.
    MapUser,
    /// `unshare(CLONE_NEWNET)`.
    NetworkNamespace,
    /// Creating a veth pair.
    Veth,
    /// Committing a transaction of nftables.
    Nftables,
    /// Opening a file or a socket.
    Open,
}

impl std::fmt::Display for Operation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::UserNamespace => "create a user namespace",
            Self::MapUser => "map the user into its user namespace",
            Self::NetworkNamespace => "create a network namespace",
            Self::Veth => "create a veth link",
            Self::Nftables => "load rules into nftables",
            Self::Open => "open a socket",
        })
    }
}

/// Settings and limits of this machine that explain a refusal.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a setting of the machine, and all combinations occur"
)]
pub struct Facts {
    /// `user.max_user_namespaces`.
    pub max_user_namespaces: Option<u64>,
    /// `user.max_net_namespaces`.
    pub max_net_namespaces: Option<u64>,
    /// `kernel.apparmor_restrict_unprivileged_userns` is 1.
    pub apparmor_restricts: bool,
    /// `kernel.unprivileged_userns_clone` is 0.
    pub unprivileged_disabled: bool,
    /// A seccomp filter applies to this process.
    pub seccomp: bool,
    /// This process has `CAP_SYS_ADMIN`.
    pub sys_admin: bool,
    /// The hard limit of open files.
    pub open_files: u64,
}

impl Facts {
    /// The facts from before the process entered a user namespace: inside it, `/proc` shows the
    /// limits of the new namespace instead of the machine's.
    pub fn of_machine() -> &'static Self {
        static MACHINE: OnceLock<Facts> = OnceLock::new();
        MACHINE.get_or_init(Self::read)
    }

    /// Reads the facts from `/proc`; a value that cannot be read counts as absent.
    pub fn read() -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let capabilities = status_field(&status, "CapEff")
            .and_then(|text| u64::from_str_radix(text, 16).ok())
            .unwrap_or(0);

        Self {
            max_user_namespaces: read_number("/proc/sys/user/max_user_namespaces"),
            max_net_namespaces: read_number("/proc/sys/user/max_net_namespaces"),
            apparmor_restricts: read_number(
                "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
            ) == Some(1),
            unprivileged_disabled: read_number("/proc/sys/kernel/unprivileged_userns_clone")
                == Some(0),
            seccomp: status_field(&status, "Seccomp") == Some("2"),
            // CAP_SYS_ADMIN is bit 21 (linux/capability.h).
            sys_admin: capabilities & (1 << 21) != 0,
            open_files: getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(_, hard)| hard),
        }
    }
}

/// Reads a file that holds one number; `None` if it is missing or holds no number.
fn read_number(path: &str) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// A field of `/proc/self/status` (`proc_pid_status(5)`).
fn status_field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status.lines().find_map(|line| {
        let value = line.strip_prefix(name)?.strip_prefix(':')?;
        Some(value.trim())
    })
}

/// The cause of a refusal, from the operation, the error and the facts about the machine.
pub fn diagnose(operation: Operation, errno: Errno, facts: &Facts) -> Obstacle {
    match (operation, errno) {
        // A limit gives ENOSPC since Linux 4.9 and EUSERS before; too deep a nesting gives EUSERS.
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
            if facts.unprivileged_disabled {
                Obstacle::UnprivilegedSwitch
            } else if facts.apparmor_restricts && !facts.sys_admin {
                Obstacle::AppArmor
            } else if facts.seccomp {
                Obstacle::Seccomp
            } else {
                Obstacle::Refused
            }
        }
        // With AppArmor's restriction the namespace can be created, but not configured.
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
            needed: facts.open_files.saturating_mul(4).max(65_536),
            hard: facts.open_files,
        },
        (operation, errno) => Obstacle::Unknown { operation, errno },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_operation_is_diagnosed_by_errno_and_machine() {
        let plain = Facts {
            max_user_namespaces: Some(100),
            max_net_namespaces: Some(100),
            open_files: 4096,
            ..Facts::default()
        };
        let apparmor = Facts {
            apparmor_restricts: true,
            ..plain.clone()
        };
        let debian = Facts {
            unprivileged_disabled: true,
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
