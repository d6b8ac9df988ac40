//! Netlink sockets: many changes at once, questions, and lists in many parts. Knows no message by name.
//!
//! The kernel works on what is sent before `send` returns: all replies but the rest of a list then wait in the socket.

use std::io;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_ACK_TLVS, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkDeserializable,
    NetlinkHeader, NetlinkMessage, NetlinkPayload, NetlinkSerializable,
};
use netlink_sys::{Socket, SocketAddr};
use rustix::io::Errno;
use rustix::net::{RecvFlags, sockopt};

use crate::program::attributes;

/// As much as the kernel puts into one datagram of a dump, with room to spare.
const DATAGRAM: usize = 1 << 16;
/// `struct nlmsghdr`, in bytes.
const HEADER: usize = 16;
/// How often a dump is started anew when the kernel says that the list changed meanwhile.
const DUMP_TRIES: usize = 10;
/// How many changes go to the kernel in one call.
const BATCH: usize = 512;
/// What the socket's buffers are to hold, in bytes: a batch, and a refusal of each of its changes, of 1 KiB with all that
/// the kernel counts.
const SOCKET_BUFFER: usize = 1 << 20;

/// A message with its header taken off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) kind: u16,
    pub(super) body: Vec<u8>,
}

/// A netlink socket of the calling thread's network namespace.
#[derive(Debug)]
pub(super) struct Netlink {
    protocol: isize,
    socket: Socket,
    /// Of the message that was written last.
    sequence: u32,
    datagram: Vec<u8>,
}

/// A message that was refused.
#[derive(Debug)]
pub(super) struct Refused {
    /// Its place among the messages sent.
    pub(super) place: usize,
    /// Where in it the attribute begins that is to blame, if the kernel told.
    pub(super) offset: Option<usize>,
    pub(super) error: io::Error,
    /// Its body as the kernel sends it back; empty if the kernel does not.
    sent_back: Vec<u8>,
}

impl From<io::Error> for Refused {
    /// What is not the matter of one message is that of the first.
    fn from(error: io::Error) -> Refused {
        Refused { place: 0, offset: None, error, sent_back: Vec::new() }
    }
}

/// What came back.
#[derive(Debug, Default)]
struct Replies {
    messages: Vec<Message>,
    /// Refusals in their order.
    refused: Vec<Refused>,
    /// The list changed while it was read.
    is_interrupted: bool,
    /// Replies did not fit into the socket's buffer. Those that came first did.
    is_cut: bool,
}

impl Replies {
    /// What came in answer to a single message.
    fn of_one(self) -> Result<Vec<Message>, Refused> {
        match self.refused.into_iter().next() {
            Some(refused) => Err(refused),
            None if self.is_cut => Err(cut().into()),
            None => Ok(self.messages),
        }
    }
}

impl Netlink {
    /// Opens a socket of a protocol (`netlink_sys::protocols`).
    pub(super) fn open(protocol: isize) -> io::Result<Netlink> {
        let socket = connected(protocol)?;
        Ok(Netlink { protocol, socket, sequence: 0, datagram: Vec::with_capacity(DATAGRAM) })
    }

    /// Asks for something that is no list, a change or a question; what the kernel answers when it has done it.
    pub(super) fn ask(&mut self, message: Message, flags: u16) -> io::Result<Vec<Message>> {
        self.answer(message, flags).map_err(|refusal| refusal.error)
    }

    /// Asks for a change that has parts. The error comes with the body that the kernel sends back, in which some subsystems
    /// write what part was refused; it is empty if the kernel sends none.
    pub(super) fn change(&mut self, message: Message) -> Result<(), (io::Error, Vec<u8>)> {
        let done = self.answer(message, 0);
        done.map(|_| ()).map_err(|refusal| (refusal.error, refusal.sent_back))
    }

    fn answer(&mut self, message: Message, flags: u16) -> Result<Vec<Message>, Refused> {
        let mut bytes = Vec::new();
        self.write(&mut bytes, message, NLM_F_ACK | flags);
        self.exchange(&bytes, 1)?.of_one()
    }

    /// Asks for changes in their order, many in one call. `is_fine` says which refusals do not count. The error is that of
    /// the first other refusal, with the index of its message: those before it are done, those after it may be or not.
    pub(super) fn change_all(
        &mut self,
        messages: impl IntoIterator<Item = Message>,
        flags: u16,
        is_fine: impl Fn(&io::Error) -> bool,
    ) -> Result<(), (usize, io::Error)> {
        let mut messages = messages.into_iter().peekable();
        let mut n_done = 0;
        while messages.peek().is_some() {
            let mut bytes = Vec::new();
            let mut n = 0;
            while n < BATCH
                && let Some(message) = messages.next()
            {
                n += 1;
                // Only the last one is acknowledged: of the others the kernel tells refusals alone.
                let is_last = n == BATCH || messages.peek().is_none();
                self.write(&mut bytes, message, if is_last { NLM_F_ACK | flags } else { flags });
            }
            let replies = self.exchange(&bytes, n).map_err(|error| (n_done, error))?;
            let mut refused = replies.refused.into_iter();
            if let Some(refused) = refused.find(|refused| !is_fine(&refused.error)) {
                return Err((n_done + refused.place, refused.error));
            }
            if replies.is_cut {
                return Err((n_done, cut()));
            }
            n_done += n;
        }
        Ok(())
    }

    /// Asks for a list. Starts again when it changed while it was read.
    pub(super) fn dump(&mut self, message: &Message) -> io::Result<Vec<Message>> {
        for _ in 0..DUMP_TRIES {
            let mut bytes = Vec::new();
            self.write(&mut bytes, message.clone(), NLM_F_DUMP);
            let replies = self.exchange(&bytes, 1)?;
            if replies.is_cut {
                // The rest of the list would come here, too.
                self.socket = connected(self.protocol)?;
            } else if !replies.is_interrupted {
                return replies.of_one().map_err(|refusal| refusal.error);
            }
        }
        Err(io::Error::other("the list keeps changing while it is read"))
    }

    /// Asks for a list, and gives each part of it on as it comes. Whether it stayed the same while it was read: else what
    /// was given is of no use.
    pub(super) fn stream(&mut self, message: Message, take: &mut dyn FnMut(Message)) -> io::Result<bool> {
        let mut bytes = Vec::new();
        self.write(&mut bytes, message, NLM_F_DUMP);
        self.socket.send(&bytes, 0)?;
        let mut replies = Replies::default();
        loop {
            let is_complete = match self.receive(&mut replies, 1, RecvFlags::empty()) {
                Ok(is_complete) => is_complete,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    // The rest of the list would come here, too.
                    self.socket = connected(self.protocol)?;
                    return Err(if is(&error, Errno::NOBUFS) { cut() } else { error });
                }
            };
            replies.messages.drain(..).for_each(&mut *take);
            if is_complete {
                let is_same = !replies.is_interrupted;
                return replies.of_one().map(|_| is_same).map_err(|refused| refused.error);
            }
        }
    }

    /// Sends messages that are taken as a whole or not at all. They have their headers: the `n` that count are numbered from
    /// 0, and the last of them asks for an answer. After a refusal more may come: the socket is of no use then.
    pub(super) fn transact(&mut self, bytes: &[u8], n: usize) -> Result<(), Refused> {
        // Which attribute is to blame. Kernels before 4.12 cannot tell.
        let _ = self.socket.set_ext_ack(true);
        // The kernel takes it in one piece. Without the right to more it is refused.
        let room = bytes.len().saturating_add(SOCKET_BUFFER);
        let _ = sockopt::set_socket_send_buffer_size_force(&self.socket, room)
            .or_else(|_| sockopt::set_socket_send_buffer_size(&self.socket, room));
        self.sequence = u32::try_from(n.saturating_sub(1)).map_err(io::Error::other)?;
        self.socket.send(bytes, 0)?;
        let (mut replies, mut is_answered) = (Replies::default(), false);
        // All that is to come is there. When the whole is refused, the last message has no answer.
        loop {
            match self.receive(&mut replies, n, RecvFlags::DONTWAIT) {
                Ok(is_last) => is_answered |= is_last,
                Err(error) if is(&error, Errno::NOBUFS) => replies.is_cut = true,
                Err(error) if is(&error, Errno::AGAIN) => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        match replies.refused.into_iter().next() {
            Some(refused) => Err(refused),
            None if is_answered && !replies.is_cut => Ok(()),
            None => Err(cut().into()),
        }
    }

    /// Appends a request with the next sequence number.
    fn write(&mut self, bytes: &mut Vec<u8>, message: Message, flags: u16) {
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        header.sequence_number = self.sequence;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(message));
        message.finalize();
        let start = bytes.len().next_multiple_of(4);
        bytes.resize(start + message.buffer_len(), 0);
        message.serialize(&mut bytes[start..]);
    }

    /// Sends the `n` messages that were written last, and reads until the last of them is answered.
    fn exchange(&mut self, bytes: &[u8], n: usize) -> io::Result<Replies> {
        self.socket.send(bytes, 0)?;
        let mut replies = Replies::default();
        loop {
            let flags = if replies.is_cut { RecvFlags::DONTWAIT } else { RecvFlags::empty() };
            match self.receive(&mut replies, n, flags) {
                Ok(true) => return Ok(replies),
                Ok(false) => {}
                Err(error) if is(&error, Errno::NOBUFS) => replies.is_cut = true,
                // What was to be waited for is among what did not fit.
                Err(error) if is(&error, Errno::AGAIN) => return Ok(replies),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Reads one datagram; whether the last of the `n` messages that were written last is answered with it.
    fn receive(&mut self, replies: &mut Replies, n: usize, flags: RecvFlags) -> io::Result<bool> {
        self.datagram.clear();
        self.socket.recv_from(&mut self.datagram, flags.bits().cast_signed())?;
        let mut is_complete = false;
        let mut rest = self.datagram.as_slice();
        while !rest.is_empty() {
            let message = NetlinkMessage::<Message>::deserialize(rest).map_err(io::Error::other)?;
            let length = usize::try_from(message.header.length).unwrap_or(usize::MAX);
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
            // Counted from the last one: what is left of an earlier exchange is further away.
            let before_last = self.sequence.wrapping_sub(message.header.sequence_number);
            let before_last = usize::try_from(before_last).unwrap_or(usize::MAX);
            let Some(place) = (n - 1).checked_sub(before_last) else { continue };
            replies.is_interrupted |= message.header.flags & NLM_F_DUMP_INTR != 0;
            let refusal = match message.payload {
                NetlinkPayload::InnerMessage(message) => {
                    replies.messages.push(message);
                    continue;
                }
                NetlinkPayload::Error(error) => error.code.map(|_| {
                    let has_more = message.header.flags & NLM_F_ACK_TLVS != 0;
                    let offset = has_more.then(|| blamed(&error.header)).flatten();
                    let sent_back = error.header.get(HEADER..).unwrap_or_default().to_vec();
                    Refused { place, offset, error: error.to_io(), sent_back }
                }),
                NetlinkPayload::Done(done) if done.code < 0 => {
                    let error = io::Error::from_raw_os_error(-done.code);
                    Some(Refused { place, offset: None, error, sent_back: Vec::new() })
                }
                NetlinkPayload::Done(_) => None,
                NetlinkPayload::Overrun(_) => {
                    replies.is_cut = true;
                    continue;
                }
                NetlinkPayload::Noop | _ => continue,
            };
            replies.refused.extend(refusal);
            is_complete |= before_last == 0;
        }
        Ok(is_complete)
    }
}

/// linux/netlink.h: NLMSGERR_ATTR_OFFS.
const ATTRIBUTE_OFFSET: u16 = 2;

/// Where in a message the attribute begins that is to blame; its refusal repeats its header.
fn blamed(repeated: &[u8]) -> Option<usize> {
    let (_, offset) = attributes::after(repeated, HEADER).find(|(kind, _)| *kind == ATTRIBUTE_OFFSET)?;
    usize::try_from(u32::from_ne_bytes(offset.try_into().ok()?)).ok()
}

fn connected(protocol: isize) -> io::Result<Socket> {
    let mut socket = Socket::new(protocol)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    // A refusal need not repeat what is refused. Kernels before 4.3 cannot leave it out.
    let _ = socket.set_cap_ack(true);
    // Beyond the limits of the system with the right to, else up to them.
    let _ = sockopt::set_socket_recv_buffer_size_force(&socket, SOCKET_BUFFER)
        .or_else(|_| sockopt::set_socket_recv_buffer_size(&socket, SOCKET_BUFFER));
    let _ = sockopt::set_socket_send_buffer_size_force(&socket, SOCKET_BUFFER)
        .or_else(|_| sockopt::set_socket_send_buffer_size(&socket, SOCKET_BUFFER));
    Ok(socket)
}

fn cut() -> io::Error {
    io::Error::other("the kernel lost a part of its reply")
}

/// Whether an error is that of a system call, and this one.
pub(super) fn is(error: &io::Error, errno: Errno) -> bool {
    error.raw_os_error() == Some(errno.raw_os_error())
}

impl NetlinkSerializable for Message {
    fn message_type(&self) -> u16 {
        self.kind
    }

    fn buffer_len(&self) -> usize {
        self.body.len()
    }

    fn serialize(&self, buffer: &mut [u8]) {
        buffer[..self.body.len()].copy_from_slice(&self.body);
    }
}

impl NetlinkDeserializable for Message {
    type Error = std::convert::Infallible;

    fn deserialize(header: &NetlinkHeader, body: &[u8]) -> Result<Message, Self::Error> {
        Ok(Message { kind: header.message_type, body: body.to_vec() })
    }
}

#[cfg(test)]
mod tests {
    use netlink_packet_core::NLMSG_NOOP;
    use netlink_sys::protocols::NETLINK_ROUTE;

    use super::*;

    /// The kernel takes the first of these from anybody, and does nothing; nobody knows the second.
    const TAKEN: u16 = NLMSG_NOOP;
    const REFUSED: u16 = u16::MAX;

    fn messages(kinds: &[u16]) -> impl Iterator<Item = Message> + '_ {
        kinds.iter().map(|kind| Message { kind: *kind, body: vec![0; 16] })
    }

    fn change(kinds: &[u16], is_fine: bool) -> Result<(), (usize, Option<i32>)> {
        let mut netlink = Netlink::open(NETLINK_ROUTE).unwrap();
        let done = netlink.change_all(messages(kinds), 0, |_| is_fine);
        done.map_err(|(index, error)| (index, error.raw_os_error()))
    }

    #[test]
    fn names_the_change_that_was_refused() {
        let refused = |index| Err((index, Some(Errno::OPNOTSUPP.raw_os_error())));
        assert_eq!(change(&[], false), Ok(()));
        assert_eq!(change(&[TAKEN], false), Ok(()));
        assert_eq!(change(&[REFUSED], false), refused(0));
        assert_eq!(change(&[TAKEN, TAKEN, REFUSED, TAKEN, REFUSED], false), refused(2));
        assert_eq!(change(&[REFUSED, TAKEN, REFUSED], true), Ok(()));
        for at in [511, 512, 1023, 1024, 1199] {
            let mut kinds = [TAKEN; 1200];
            assert_eq!(change(&kinds, false), Ok(()));
            kinds[at] = REFUSED;
            assert_eq!(change(&kinds, false), refused(at));
        }
    }

    #[test]
    fn tells_when_refusals_do_not_fit() {
        let mut netlink = Netlink::open(NETLINK_ROUTE).unwrap();
        sockopt::set_socket_recv_buffer_size(&netlink.socket, 1).unwrap();
        let kinds = [REFUSED; 1200];
        // The first one counts, whatever follows it.
        assert_eq!(netlink.change_all(messages(&kinds), 0, |_| false).unwrap_err().0, 0);
        // That all are fine cannot be known.
        let (index, error) = netlink.change_all(messages(&kinds), 0, |_| true).unwrap_err();
        assert_eq!((index, error.to_string().as_str()), (0, "the kernel lost a part of its reply"));
        // The socket is good for more.
        assert!(netlink.change_all(messages(&[TAKEN; 3]), 0, |_| false).is_ok());
    }
}
