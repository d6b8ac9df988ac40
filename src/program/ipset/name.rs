//! Names of sets.

use std::fmt;

/// Name of a set: 1 to 31 bytes that ipset and iptables-restore take without quotes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SetName(Box<str>);

/// What a set cannot be called.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is no name of a set: it has 1 to 31 letters, digits and signs without spaces", .0.escape_debug())]
pub struct SetNameError(String);

impl SetName {
    /// The longest that the kernel takes (`IPSET_MAXNAMELEN` less the final zero).
    pub const MAX: usize = 31;

    /// Takes a name.
    pub fn new(name: &str) -> Result<SetName, SetNameError> {
        let is_allowed = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\'' | b'\\' | b'#');
        if name.is_empty()
            || name.len() > SetName::MAX
            || name.starts_with(['-', '!'])
            || !name.bytes().all(is_allowed)
        {
            return Err(SetNameError(name.to_owned()));
        }
        Ok(SetName(name.into()))
    }

    /// A name that is known to be one: a literal of ours.
    pub fn literal(name: &'static str) -> SetName {
        debug_assert!(SetName::new(name).is_ok(), "{name}");
        SetName(name.into())
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name under which a set's successor is filled before the two are swapped. Two sets with long names may have the
    /// same one: it serves one at a time.
    pub fn spare(&self) -> SetName {
        let sign = if self.0.ends_with('~') { '+' } else { '~' };
        let stem = self.0.get(..SetName::MAX - 1).unwrap_or(&self.0);
        SetName(format!("{stem}{sign}").into())
    }
}

impl fmt::Display for SetName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
