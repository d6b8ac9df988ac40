//! Elements of sets and maps, as messages carry them.

use crate::program::nft::{Data, Element, Key, ScalarType, Set, Verdict};

use super::attribute::Buffer;
use super::datatype;
use super::uapi::{element, rule, verdict};
use super::userdata;

/// How the kernel keeps the keys of a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    /// Single keys.
    Single,
    /// Intervals of one value: where each begins, and where it has ended.
    Ends,
    /// Intervals of values side by side: first and last key.
    Ranges,
}

impl Layout {
    pub(super) fn of(set: &Set) -> Layout {
        match (set.flags.interval, set.key.len()) {
            (false, _) => Layout::Single,
            (true, 1) => Layout::Ends,
            (true, _) => Layout::Ranges,
        }
    }

    /// Whether keys of these types can be written.
    pub(super) fn takes(self, types: &[ScalarType]) -> bool {
        self != Layout::Ends || types.iter().all(datatype::is_ordered)
    }
}

/// How many elements of the kernel a key makes.
pub(super) fn count(layout: Layout, key: &Key) -> usize {
    match layout {
        Layout::Single | Layout::Ranges => 1,
        Layout::Ends => 1 + usize::from(end(key).is_some()),
    }
}

/// The first key after an interval, unless it goes on to the very last.
fn end(key: &Key) -> Option<Vec<u8>> {
    let mut last = Vec::new();
    datatype::push_all(&mut last, key.last());
    datatype::successor(&last)
}

/// Writes an element, or to delete it only its key. `None` if its key cannot be one of the set's.
pub(super) fn push(buffer: &mut Buffer, layout: Layout, key: &Key, content: Option<&Element>) -> Option<()> {
    let (mut first, mut last) = (Vec::new(), Vec::new());
    datatype::push_all(&mut first, key.first());
    match layout {
        Layout::Single if !datatype::is_single(key) => return None,
        Layout::Single | Layout::Ends => {}
        Layout::Ranges => {
            let is_ordered = |(low, high): (&crate::program::nft::Scalar, _)| {
                low == high || datatype::is_ordered(&low.scalar_type())
            };
            if !key.first().iter().zip(key.last()).all(is_ordered) {
                return None;
            }
            datatype::push_all(&mut last, key.last());
        }
    }
    buffer.nest(rule::LIST_ELEMENT, |buffer| {
        if let Some(seconds) = content.and_then(|content| content.timeout) {
            buffer.put_u64(element::TIMEOUT, u64::from(seconds) * 1000);
        }
        buffer.nest(element::KEY, |buffer| buffer.put(element::VALUE, &first));
        if layout == Layout::Ranges {
            buffer.nest(element::KEY_END, |buffer| buffer.put(element::VALUE, &last));
        }
        if let Some(data) = content.and_then(|content| content.data.as_ref()) {
            buffer.nest(element::DATA, |buffer| push_data(buffer, data));
        }
        if let Some(comment) = content.and_then(|content| content.comment.as_ref()) {
            buffer.put(element::USERDATA, &userdata::comment(userdata::COMMENT, comment));
        }
    });
    if layout == Layout::Ends
        && let Some(end) = end(key)
    {
        push_end(buffer, &end);
    }
    Some(())
}

/// Writes where an interval has ended. Before the first interval of an anonymous set nft has one at 0.
pub(super) fn push_end(buffer: &mut Buffer, key: &[u8]) {
    buffer.nest(rule::LIST_ELEMENT, |buffer| {
        buffer.put_u32(element::FLAGS, element::INTERVAL_END);
        buffer.nest(element::KEY, |buffer| buffer.put(element::VALUE, key));
    });
}

/// Writes what a map gives, or what is put into a register.
pub(super) fn push_data(buffer: &mut Buffer, data: &Data) {
    match data {
        Data::Verdict(verdict) => push_verdict(buffer, verdict),
        Data::Values(values) => {
            let mut bytes = Vec::new();
            datatype::push_all(&mut bytes, values);
            buffer.put(element::VALUE, &bytes);
        }
    }
}

/// Writes a verdict as data.
pub(super) fn push_verdict(buffer: &mut Buffer, said: &Verdict) {
    let code = match said {
        Verdict::Accept => verdict::ACCEPT,
        Verdict::Drop => verdict::DROP,
        Verdict::Continue => verdict::CONTINUE,
        Verdict::Return => verdict::RETURN,
        Verdict::Jump(_) => verdict::JUMP,
        Verdict::Goto(_) => verdict::GOTO,
    };
    buffer.nest(element::VERDICT, |buffer| {
        buffer.put(element::VERDICT_CODE, &code.to_be_bytes());
        if let Some(chain) = said.chain() {
            buffer.put_text(element::VERDICT_CHAIN, chain.as_str());
        }
    });
}
