//! Checks that a file is a program that runs in an empty image.

use super::Kind;
use object::LittleEndian;
use object::elf::{DT_NEEDED, EM_AARCH64, EM_X86_64, ET_DYN, ET_EXEC, FileHeader64, PT_INTERP};
use object::read::elf::{Dyn, FileHeader, ProgramHeader};
use std::fmt;

/// A CPU architecture for which images are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Architecture {
    /// x86-64.
    Amd64,
    /// `AArch64`.
    Arm64,
}

impl Architecture {
    /// All architectures, in the order of an image index.
    pub const ALL: [Self; 2] = [Self::Amd64, Self::Arm64];

    /// The Rust target whose C library links statically.
    pub fn target(self) -> &'static str {
        match self {
            Self::Amd64 => "x86_64-unknown-linux-musl",
            Self::Arm64 => "aarch64-unknown-linux-musl",
        }
    }

    /// A C compiler for the few C files of `ring`; it needs no C library of the target.
    pub(super) fn c_compiler(self) -> &'static str {
        match self {
            Self::Amd64 => "gcc",
            Self::Arm64 => "aarch64-linux-gnu-gcc",
        }
    }

    /// The Rust targets whose builds can be static.
    pub(super) fn targets(self) -> [&'static str; 2] {
        match self {
            Self::Amd64 => ["x86_64-unknown-linux-musl", "x86_64-unknown-linux-gnu"],
            Self::Arm64 => ["aarch64-unknown-linux-musl", "aarch64-unknown-linux-gnu"],
        }
    }

    /// The name in the OCI image specification, which is that of Go.
    pub fn name(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        }
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A static program of this version.
#[derive(Clone)]
pub struct Program {
    kind: Kind,
    architecture: Architecture,
    bytes: Vec<u8>,
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Program({:?}, {}, {} bytes)",
            self.kind,
            self.architecture,
            self.bytes.len()
        )
    }
}

/// Why a file is not a program for an image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProgramError {
    /// The file is not ELF, or it is damaged.
    #[error("it is not an ELF program: {0}")]
    NotElf(String),
    /// The file is a library, an object file or a core dump.
    #[error("it is an ELF file of type {0}, not a program")]
    NotExecutable(u16),
    /// The program is built for another architecture.
    #[error("it is built for ELF machine {0}; images are made for amd64 and arm64")]
    Machine(u16),
    /// The program needs a dynamic linker or libraries.
    #[error("it is linked dynamically, and an empty image has no libraries")]
    Dynamic,
    /// Another program, or another version of it.
    #[error("it is not a build of {expected:?}")]
    WrongBuild {
        /// The text that a build of this version contains.
        expected: &'static str,
    },
    /// The program is too large to be pulled on every node.
    #[error(
        "it has {bytes} bytes, more than {limit}: build it with the profile that the build command names"
    )]
    TooLarge { bytes: usize, limit: usize },
}

impl Program {
    /// Checks the bytes of a file.
    ///
    /// # Errors
    /// [`ProgramError`], for a program that would not start in its image.
    pub fn new(kind: Kind, bytes: Vec<u8>) -> Result<Self, ProgramError> {
        let architecture = static_architecture(&bytes)?;
        let marker = kind.build_marker();
        if !bytes
            .windows(marker.len())
            .any(|window| window == marker.as_bytes())
        {
            return Err(ProgramError::WrongBuild { expected: marker });
        }
        let limit = kind.limit();
        if bytes.len() > limit {
            return Err(ProgramError::TooLarge {
                bytes: bytes.len(),
                limit,
            });
        }
        Ok(Self {
            kind,
            architecture,
            bytes,
        })
    }

    /// Probe or runner.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The processor architecture that it is built for.
    pub fn architecture(&self) -> Architecture {
        self.architecture
    }

    /// The bytes of the file.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// The architecture of a static program.
///
/// A position-independent static program has a dynamic section too, but that section names neither
/// an interpreter nor a library (System V ABI, chapter 5).
fn static_architecture(bytes: &[u8]) -> Result<Architecture, ProgramError> {
    let header = FileHeader64::<LittleEndian>::parse(bytes).map_err(not_elf)?;
    let endian = header.endian().map_err(not_elf)?;
    let kind = header.e_type(endian);
    if kind != ET_EXEC && kind != ET_DYN {
        return Err(ProgramError::NotExecutable(kind));
    }
    let architecture = match header.e_machine(endian) {
        EM_X86_64 => Architecture::Amd64,
        EM_AARCH64 => Architecture::Arm64,
        other => return Err(ProgramError::Machine(other)),
    };
    for segment in header.program_headers(endian, bytes).map_err(not_elf)? {
        if segment.p_type(endian) == PT_INTERP {
            return Err(ProgramError::Dynamic);
        }
        let entries = segment
            .dynamic(endian, bytes)
            .map_err(not_elf)?
            .unwrap_or_default();
        if entries
            .iter()
            .any(|entry| entry.tag32(endian).map(i64::from) == Some(DT_NEEDED))
        {
            return Err(ProgramError::Dynamic);
        }
    }
    Ok(architecture)
}

fn not_elf(error: object::Error) -> ProgramError {
    ProgramError::NotElf(error.to_string())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A static ELF program of a few bytes: a header, one loadable segment, and the mark of a
    /// build.
    pub(in crate::image) fn elf(kind: Kind, machine: u16, segment: u32) -> Vec<u8> {
        let mut bytes = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        bytes.extend(ET_EXEC.to_le_bytes());
        bytes.extend(machine.to_le_bytes());
        bytes.extend(1_u32.to_le_bytes());
        bytes.extend(0x40_1000_u64.to_le_bytes()); // entry
        bytes.extend(64_u64.to_le_bytes()); // program headers follow the header
        bytes.extend(0_u64.to_le_bytes()); // no sections
        bytes.extend(0_u32.to_le_bytes());
        for word in [64_u16, 56, 1, 64, 0, 0] {
            bytes.extend(word.to_le_bytes());
        }
        bytes.extend(segment.to_le_bytes());
        bytes.extend(5_u32.to_le_bytes());
        for word in [0_u64, 0x40_0000, 0x40_0000, 120, 120, 4096] {
            bytes.extend(word.to_le_bytes());
        }
        bytes.extend(kind.build_marker().as_bytes());
        bytes
    }

    const LOAD: u32 = object::elf::PT_LOAD;

    #[test]
    fn a_static_program_of_this_version_is_accepted_with_its_architecture() {
        for (machine, architecture) in [
            (EM_X86_64, Architecture::Amd64),
            (EM_AARCH64, Architecture::Arm64),
        ] {
            let program = Program::new(Kind::Probe, elf(Kind::Probe, machine, LOAD)).unwrap();
            assert_eq!(program.architecture(), architecture);
        }
    }

    #[test]
    fn a_program_that_cannot_run_in_an_empty_image_is_rejected() {
        let refused = |bytes: Vec<u8>| Program::new(Kind::Probe, bytes).unwrap_err();
        assert_eq!(
            refused(elf(Kind::Probe, EM_X86_64, PT_INTERP)),
            ProgramError::Dynamic
        );
        assert_eq!(
            refused(elf(Kind::Probe, object::elf::EM_386, LOAD)),
            ProgramError::Machine(object::elf::EM_386)
        );
        assert!(matches!(
            refused(b"#!/bin/sh\nexit 0\n".to_vec()),
            ProgramError::NotElf(_)
        ));
        assert!(matches!(refused(Vec::new()), ProgramError::NotElf(_)));
        let mut library = elf(Kind::Probe, EM_X86_64, LOAD);
        library[16] = 1;
        assert_eq!(refused(library), ProgramError::NotExecutable(1));
        let mut cut = elf(Kind::Probe, EM_X86_64, LOAD);
        cut.truncate(100);
        assert!(matches!(refused(cut), ProgramError::NotElf(_)));
    }

    #[test]
    fn a_program_of_another_name_or_version_is_rejected() {
        let mark = Kind::Probe.build_marker();
        assert_eq!(
            Program::new(Kind::Probe, elf(Kind::Runner, EM_X86_64, LOAD)).unwrap_err(),
            ProgramError::WrongBuild { expected: mark }
        );
        let mut other = elf(Kind::Probe, EM_X86_64, LOAD);
        let last = other.len() - 1;
        other[last] ^= 1;
        assert_eq!(
            Program::new(Kind::Probe, other).unwrap_err(),
            ProgramError::WrongBuild { expected: mark }
        );
    }

    #[test]
    fn a_probe_larger_than_its_limit_is_rejected() {
        let mut large = elf(Kind::Probe, EM_X86_64, LOAD);
        large.resize(Kind::Probe.limit() + 1, 0);
        assert!(matches!(
            Program::new(Kind::Probe, large).unwrap_err(),
            ProgramError::TooLarge { .. }
        ));
    }

    #[test]
    fn a_dynamically_linked_program_is_rejected() {
        let own = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        assert_eq!(
            static_architecture(&own).unwrap_err(),
            ProgramError::Dynamic
        );
    }
}
