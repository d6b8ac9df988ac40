//! Tables of nftables by netlink (nfnetlink, subsystem 10): one transaction sent as a whole, one table read as it was at one
//! moment. What the messages say is `program::nft::wire`'s business.

use std::{io, thread};

use netlink_sys::protocols::NETLINK_NETFILTER;
use rustix::io::Errno;

use super::error::{HostError, HostErrorKind, RestoreError};
use super::netlink::{self, Message, Netlink, Refused};
use super::nft::{FIRST_PAUSE, IN_USE, again, nowhere};
use crate::net::IpFamily;
use crate::program::nft::wire::{self, Batch, Question, Reading};
use crate::program::nft::{Family, Name, Table};

/// linux/errno.h: ERESTART, which the kernel says when it should do all of it again.
const ERESTART: i32 = 85;

/// From how many sets on a table is read by two threads.
const MANY_SETS: usize = 1000;

/// Takes a transaction, or nothing of it. The socket is kept for the next one: when it is closed the kernel waits until what
/// the transaction deleted is gone, which takes many times as long as a small change.
pub(super) fn change(kept: &mut Option<Netlink>, batch: &Batch) -> Result<(), RestoreError> {
    again(FIRST_PAUSE, || {
        let mut transact = || {
            let mut netlink = kept.take().map_or_else(|| Netlink::open(NETLINK_NETFILTER), Ok)?;
            netlink.transact(batch.bytes(), batch.n_messages())?;
            *kept = Some(netlink);
            Ok(())
        };
        transact().map_err(|refused: Refused| explained(batch, &refused))
    })
}

fn explained(batch: &Batch, refused: &Refused) -> RestoreError {
    let mut error = failed("change nftables".to_owned(), &refused.error);
    if netlink::is(&refused.error, Errno::BUSY) {
        // For ever: what it is used by is in no other transaction.
        error.detail.push_str(IN_USE);
    }
    // Without rights the whole is refused, not the message that happens to be named.
    let is_whole =
        matches!(error.kind, HostErrorKind::Permission | HostErrorKind::Unsupported) && refused.place == 0;
    let line = if is_whole { None } else { batch.line(refused.place, refused.offset) };
    RestoreError { line, error }
}

/// Family and name of every table. `Unsupported` if the kernel has no nf_tables.
pub(super) fn tables() -> Result<Vec<(String, String)>, HostError> {
    let action = "list the tables of nf_tables";
    let wire::Request { kind, body } = wire::tables_request();
    let answers =
        Netlink::open(NETLINK_NETFILTER).and_then(|mut netlink| netlink.dump(&Message { kind, body }));
    let answers = answers.map_err(|error| match without_module(error) {
        error if netlink::is(&error, Errno::OPNOTSUPP) => {
            let words = "this kernel has no nf_tables (module `nf_tables`)";
            HostError::new(action, HostErrorKind::Unsupported, words)
        }
        error => HostError::io(action, &error),
    })?;
    let tables = answers.iter().filter_map(|answer| wire::table_of(answer.kind, &answer.body));
    Ok(tables.map(|(family, name)| (family.to_string(), name.to_owned())).collect())
}

/// The same error, but that of a kernel without nf_tables says so: nfnetlink answers EINVAL when no module serves the
/// subsystem.
fn without_module(error: io::Error) -> io::Error {
    if netlink::is(&error, Errno::INVAL) { Errno::OPNOTSUPP.into() } else { error }
}

/// A table as it was at one moment; `None` if there is none.
pub(super) fn read(family: IpFamily, table: &str) -> Result<Option<Table>, HostError> {
    let action = format!("read table `{} {table}` of nftables", Family::from(family));
    let name = Name::new(table)
        .map_err(|error| HostError::new(action.clone(), HostErrorKind::Other, error.to_string()))?;
    let read = again(FIRST_PAUSE, || {
        let refused = |error: io::Error| nowhere(failed(action.clone(), &error));
        attempt(family, &name).map_err(refused)?.ok_or_else(|| {
            let detail = "it keeps changing while it is read";
            nowhere(HostError::new(action.clone(), HostErrorKind::Busy, detail))
        })
    });
    read.map_err(|refused| refused.error)
}

/// How many rules a chain of a table has; 0 if there is no such chain.
pub(super) fn n_rules(family: IpFamily, table: &Name, chain: &Name) -> Result<usize, HostError> {
    let reading = Reading::new(family, table.clone());
    let request = message(&reading, Question::RulesOf(chain.as_str()));
    match Netlink::open(NETLINK_NETFILTER).and_then(|mut netlink| netlink.dump(&request)) {
        Ok(answers) => Ok(answers.len()),
        Err(error) if netlink::is(&error, Errno::NOENT) => Ok(0),
        Err(error) => Err(failed(format!("count the rules of chain `{}`", chain.as_str()), &error)),
    }
}

/// The generation of the ruleset.
pub(super) fn generation() -> Result<u32, HostError> {
    let action = || "ask for the generation of nf_tables".to_owned();
    let found = Netlink::open(NETLINK_NETFILTER).and_then(|mut netlink| generation_of(&mut netlink));
    let found = found.map_err(|error| failed(action(), &without_module(error)))?;
    found.ok_or_else(|| HostError::new(action(), HostErrorKind::Other, "the kernel does not tell"))
}

/// One reading; `None` if something changed meanwhile.
fn attempt(family: IpFamily, name: &Name) -> io::Result<Option<Option<Table>>> {
    let mut netlink = Netlink::open(NETLINK_NETFILTER)?;
    let mut reading = Reading::new(family, name.clone());
    let before = generation_of(&mut netlink).map_err(without_module)?;
    match netlink.ask(message(&reading, Question::Table), 0) {
        Ok(answers) => answers.iter().for_each(|answer| reading.take(answer.kind, &answer.body)),
        Err(error) if netlink::is(&error, Errno::NOENT) => return Ok(Some(None)),
        Err(error) => return Err(error),
    }
    let lists = [Question::Chains, Question::Sets];
    let mut is_same = lists.into_iter().try_fold(true, |is_same, question| {
        list(&mut netlink, &mut reading, question).map(|one| one && is_same)
    })?;
    if !is_same {
        return Ok(None);
    }
    let names = reading.set_names();
    // The kernel looks for a set from the first one on each time: of many, two threads look.
    let (some, others) = names.split_at(if names.len() < MANY_SETS { names.len() } else { names.len() / 2 });
    let others = thread::scope(|scope| {
        let others = (!others.is_empty())
            .then(|| scope.spawn(|| elements(&Reading::new(family, name.clone()), others)));
        for set in some {
            is_same = is_same && list(&mut netlink, &mut reading, Question::Elements(set))?;
        }
        others.map_or(Ok(Some(Vec::new())), |others| {
            others.join().unwrap_or_else(|_| Err(io::Error::other("a thread has stopped")))
        })
    })?;
    let Some(others) = others.filter(|_| is_same) else { return Ok(None) };
    others.iter().for_each(|answer| reading.take(answer.kind, &answer.body));
    for question in [Question::Rules, Question::Objects, Question::Flowtables] {
        is_same &= list(&mut netlink, &mut reading, question)?;
    }
    let is_same = is_same && before == generation_of(&mut netlink)?;
    Ok(is_same.then(|| reading.finish()))
}

/// The elements of some sets, asked for as `reading` would; `None` if something changed meanwhile.
fn elements(reading: &Reading, names: &[Box<str>]) -> io::Result<Option<Vec<Message>>> {
    let mut netlink = Netlink::open(NETLINK_NETFILTER)?;
    let mut found = Vec::new();
    for name in names {
        let request = message(reading, Question::Elements(name));
        if !stream(&mut netlink, request, &mut |answer| found.push(answer))? {
            return Ok(None);
        }
    }
    Ok(Some(found))
}

fn list(netlink: &mut Netlink, reading: &mut Reading, question: Question<'_>) -> io::Result<bool> {
    let request = message(reading, question);
    stream(netlink, request, &mut |answer| reading.take(answer.kind, &answer.body))
}

/// Whether the list stayed the same while it was read. One that is gone by now did not.
fn stream(netlink: &mut Netlink, request: Message, take: &mut dyn FnMut(Message)) -> io::Result<bool> {
    match netlink.stream(request, take) {
        Err(error) if netlink::is(&error, Errno::NOENT) => Ok(false),
        other => other,
    }
}

fn message(reading: &Reading, question: Question<'_>) -> Message {
    let request = reading.request(question);
    Message { kind: request.kind, body: request.body }
}

fn generation_of(netlink: &mut Netlink) -> io::Result<Option<u32>> {
    let wire::Request { kind, body } = wire::generation_request();
    let answers = netlink.ask(Message { kind, body }, 0)?;
    Ok(answers.iter().find_map(|answer| wire::generation(answer.kind, &answer.body)))
}

fn failed(action: String, error: &io::Error) -> HostError {
    let mut failed = HostError::io(action, error);
    let is_interrupted = [Errno::INTR, Errno::AGAIN].iter().any(|errno| netlink::is(error, *errno))
        || error.raw_os_error() == Some(ERESTART);
    if is_interrupted {
        failed.kind = HostErrorKind::Busy;
    }
    failed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_tried_again_is_told_from_what_is_not() {
        let kind = |code| failed(String::new(), &io::Error::from_raw_os_error(code)).kind;
        assert_eq!(kind(ERESTART), HostErrorKind::Busy);
        assert_eq!(kind(Errno::INTR.raw_os_error()), HostErrorKind::Busy);
        assert_eq!(kind(Errno::NOENT.raw_os_error()), HostErrorKind::NotFound);
        assert_eq!(kind(Errno::PERM.raw_os_error()), HostErrorKind::Permission);
        let missing = without_module(Errno::INVAL.into());
        assert_eq!(failed(String::new(), &missing).kind, HostErrorKind::Unsupported);
    }
}
