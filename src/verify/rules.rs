//! The side of rules: what they tell apart, and what they do.

use std::net::IpAddr;

use crate::packet::{Fate, Packet};
use crate::program::eval::{Evaluator, Memory};
use crate::program::question::{Destination, Destinations, Questions};

use super::meaning::{Answer, Earlier, Meaning};

/// What rules mean for the packets of one family.
pub(super) struct Rules<'a> {
    rules: &'a Evaluator<'a>,
}

impl<'a> Rules<'a> {
    /// Of an evaluator.
    pub(super) fn new(rules: &'a Evaluator<'a>) -> Rules<'a> {
        Rules { rules }
    }
}

/// What the rules remember of the sender of an earlier packet.
fn memory(earlier: &Earlier<'_>) -> Memory {
    let lists = earlier.answer.remembered.get(&earlier.endpoint).into_iter().flatten();
    let remembered = lists.map(|list| (list.clone(), earlier.packet.source.addr)).collect();
    Memory { remembered, age: earlier.age }
}

impl Meaning for Rules<'_> {
    fn destinations(&self, found: &mut Destinations) {
        self.rules.destinations(found);
    }

    fn questions(&self, destination: &Destination, found: &mut Questions) {
        self.rules.questions(destination, found);
    }

    fn answer(&self, packet: &Packet) -> Answer {
        let evaluation = self.rules.eval(packet, &Memory::default());
        Answer { fate: evaluation.fate, remembered: evaluation.remembered }
    }

    fn fate_after(&self, packet: &Packet, earlier: &Earlier<'_>) -> Fate {
        self.rules.eval(packet, &memory(earlier)).fate
    }

    fn owner(&self, _: &Packet) -> Option<usize> {
        None
    }

    fn neighbour(&self, _: &Packet) -> Option<usize> {
        None
    }

    fn is_local(&self, addr: IpAddr) -> bool {
        self.rules.is_local(addr)
    }

    fn is_from_pod(&self, _: &Packet) -> bool {
        false
    }

    fn path(&self, packet: &Packet, earlier: Option<&Earlier<'_>>) -> Vec<String> {
        let memory = earlier.map(memory).unwrap_or_default();
        self.rules.eval_with_path(packet, &memory).path
    }
}
