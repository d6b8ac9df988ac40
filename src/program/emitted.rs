//! A text for a tool, and what each of its lines was made for.

use crate::program::Tag;

/// Which line of an emitted text was made for what.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LineTags {
    tagged: Vec<(u32, Tag)>,
}

impl LineTags {
    /// The tag of the rule on a line, counted from 1.
    pub fn tag_at(&self, line: u32) -> Option<Tag> {
        let at = self.tagged.binary_search_by_key(&line, |(line, _)| *line).ok()?;
        Some(self.tagged[at].1)
    }

    /// Lines come in their order.
    pub(super) fn note(&mut self, line: u32, tag: Option<Tag>) {
        if let Some(tag) = tag {
            self.tagged.push((line, tag));
        }
    }
}

/// A text for iptables-restore, nft, ipset or ipvsadm, and what its lines were made for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Emitted {
    /// The text.
    pub text: Vec<u8>,
    /// What its lines were made for.
    pub lines: LineTags,
}
