//! Flags of virtual servers, and names of schedulers.

use std::fmt;

/// Flags of a virtual server (`include/uapi/linux/ip_vs.h`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Flags(u32);

impl Flags {
    /// A client stays with its real server.
    pub const PERSISTENT: Flags = Flags(0x1);
    /// One datagram is one connection: `-o`.
    pub const ONE_PACKET: Flags = Flags(0x4);
    /// First flag of the scheduler: `sh-fallback`, `mh-fallback`.
    pub const SCHEDULER_1: Flags = Flags(0x8);
    /// Second flag of the scheduler: `sh-port`, `mh-port`.
    pub const SCHEDULER_2: Flags = Flags(0x10);
    /// Third flag of the scheduler.
    pub const SCHEDULER_3: Flags = Flags(0x20);
    /// Set by the kernel once the virtual server is in its table.
    const HASHED: u32 = 0x2;

    /// From the kernel's number, without what the kernel keeps for itself.
    pub fn from_bits(bits: u32) -> Flags {
        Flags(bits & !Flags::HASHED)
    }

    /// The kernel's number.
    pub fn bits(self) -> u32 {
        self.0
    }

    /// Whether all of these are set.
    pub fn contains(self, flags: Flags) -> bool {
        self.0 & flags.0 == flags.0
    }

    /// With these as well.
    #[must_use]
    pub fn with(self, flags: Flags) -> Flags {
        Flags(self.0 | flags.0)
    }
}

/// Name of a scheduler or of a persistence engine: 1 to 15 of `a`-`z`, `0`-`9`, `_` and `-`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SchedulerName(Box<str>);

/// What a scheduler cannot be called.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is no name of a scheduler: it has 1 to 15 of a-z, 0-9, `_` and `-`", .0.escape_debug())]
pub struct SchedulerNameError(String);

impl SchedulerName {
    /// The longest that the kernel takes (`IP_VS_SCHEDNAME_MAXLEN` less the final zero).
    const MAX: usize = 15;

    /// Takes a name that a kernel module could have.
    pub fn new(name: &str) -> Result<SchedulerName, SchedulerNameError> {
        let is_allowed =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_' || byte == b'-';
        if name.is_empty() || name.len() > SchedulerName::MAX || !name.bytes().all(is_allowed) {
            return Err(SchedulerNameError(name.to_owned()));
        }
        Ok(SchedulerName(name.into()))
    }

    /// A name that is known when this is compiled.
    pub(super) fn literal(name: &'static str) -> SchedulerName {
        debug_assert!(SchedulerName::new(name).is_ok());
        SchedulerName(name.into())
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SchedulerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
