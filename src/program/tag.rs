//! What a rule was made for, as a number that only its maker understands.

/// A label for a rule: an index into a list that whoever made the program keeps. Two rules that differ in the tag alone
/// are equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tag(pub u32);
