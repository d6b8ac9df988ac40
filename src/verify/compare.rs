//! Sends a packet of every class through both sides.

use std::net::IpAddr;
use std::num::NonZero;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::net::IpFamily;
use crate::packet::Packet;

use super::Options;
use super::affinity::{self, Client};
use super::classes::Classes;
use super::meaning::{Answer, Meaning};
use super::report::{Difference, Differences, Numbered};

/// Two sides that are compared.
#[derive(Clone, Copy)]
pub(super) struct Sides<'a> {
    /// What is wanted.
    pub(super) left: &'a dyn Meaning,
    /// What is found.
    pub(super) right: &'a dyn Meaning,
    /// How many packets are kept for each owner.
    pub(super) n_witnesses: usize,
}

impl Sides<'_> {
    /// Whose a packet is that differs.
    pub(super) fn subject(&self, packet: &Packet) -> Numbered {
        match self.left.neighbour(packet) {
            Some(owner) => Numbered::Owner(owner),
            None => Numbered::Address(packet.destination.addr),
        }
    }
}

/// How many addresses a thread takes at a time. Results do not depend on which thread took them.
const BLOCK: usize = 64;

/// What came of a block of addresses.
#[derive(Default)]
struct Compared {
    differences: Differences,
    clients: Vec<Client>,
}

/// Compares the two sides for every class of packets.
pub(super) fn compare(
    left: &dyn Meaning,
    right: &dyn Meaning,
    family: IpFamily,
    options: &Options<'_>,
) -> Differences {
    let sides = Sides { left, right, n_witnesses: options.n_witnesses };
    let classes = Classes::new(left, right, options.facts, family);
    let addresses = classes.addresses();
    let blocks: Vec<&[IpAddr]> = addresses.chunks(BLOCK).collect();
    let compared = in_parallel(&blocks, |addresses| compare_addresses(&sides, &classes, addresses));
    let (mut differences, mut clients) = (Differences::default(), Vec::new());
    for one in compared {
        differences.extend(one.differences, options.n_witnesses);
        clients.extend(one.clients);
    }
    let groups = affinity::groups(clients);
    let blocks: Vec<&[Vec<Client>]> = groups.chunks(BLOCK).collect();
    for later in in_parallel(&blocks, |groups| affinity::compare(&sides, groups)) {
        differences.extend(later, options.n_witnesses);
    }
    differences
}

/// Does some work block by block in as many threads as there are processors; the results come in the order of the blocks.
fn in_parallel<B: Sync, R: Send>(blocks: &[B], work: impl Fn(&B) -> R + Sync) -> Vec<R> {
    let n_threads = std::thread::available_parallelism().map_or(1, NonZero::get).min(blocks.len());
    let next = AtomicUsize::new(0);
    let take = || {
        let mut done = Vec::new();
        while let Some((index, block)) = {
            let index = next.fetch_add(1, Ordering::Relaxed);
            blocks.get(index).map(|block| (index, block))
        } {
            done.push((index, work(block)));
        }
        done
    };
    let mut done: Vec<(usize, R)> = std::thread::scope(|scope| {
        let others: Vec<_> = (1..n_threads).map(|_| scope.spawn(take)).collect();
        let mut done = take();
        for other in others {
            // A thread that stopped would have stopped the program.
            done.extend(other.join().unwrap_or_default());
        }
        done
    });
    done.sort_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, result)| result).collect()
}

fn compare_addresses(sides: &Sides<'_>, classes: &Classes<'_>, addresses: &[IpAddr]) -> Compared {
    let mut compared = Compared::default();
    for addr in addresses {
        for service in classes.services(*addr) {
            compared.differences.n_destinations += 1;
            let bundle = classes.bundle(*addr, service);
            for packet in bundle.packets {
                let answers = [sides.left, sides.right].map(|side| side.answer(&packet));
                compare_packet(sides, &packet, &answers, &mut compared.differences);
                if answers.iter().any(|answer| !answer.remembered.is_empty()) {
                    let lifetimes = bundle.lifetimes.clone();
                    let owner = sides.left.owner(&packet);
                    compared.clients.push(Client { owner, packet, answers, lifetimes });
                }
            }
        }
    }
    compared
}

fn compare_packet(sides: &Sides<'_>, packet: &Packet, answers: &[Answer; 2], into: &mut Differences) {
    into.n_packets += 1;
    let [wanted, found] = answers;
    if !wanted.fate.is_same(&found.fate) {
        into.add(sides.subject(packet), sides.n_witnesses, || Difference {
            packet: packet.clone(),
            remembered: None,
            wanted: wanted.fate.clone(),
            found: found.fate.clone(),
            path: sides.right.path(packet, None),
        });
    }
}
