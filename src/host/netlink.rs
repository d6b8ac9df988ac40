//! Netlink sockets: one request, its acknowledgement or its reply in many parts. Knows no message by name.

use std::io;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkDeserializable, NetlinkHeader,
    NetlinkMessage, NetlinkPayload, NetlinkSerializable, NlaBuffer, NlasIterator,
};
use netlink_sys::{Socket, SocketAddr};

/// As much as the kernel puts into one datagram of a dump, with room to spare.
const BUFFER: usize = 1 << 16;
/// How often a dump is started anew when the kernel says that the list changed meanwhile.
const DUMP_TRIES: usize = 10;

/// A message with its header taken off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) kind: u16,
    pub(super) body: Vec<u8>,
}

/// A netlink socket of the calling thread's network namespace.
#[derive(Debug)]
pub(super) struct Netlink {
    socket: Socket,
    sequence: u32,
}

impl Netlink {
    /// Opens a socket of a protocol (`netlink_sys::protocols`).
    pub(super) fn open(protocol: isize) -> io::Result<Netlink> {
        let mut socket = Socket::new(protocol)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Netlink { socket, sequence: 0 })
    }

    /// Asks for a change and waits until the kernel has done or refused it.
    pub(super) fn change(&mut self, message: Message, flags: u16) -> io::Result<()> {
        self.send(message, NLM_F_REQUEST | NLM_F_ACK | flags)?;
        self.receive().map(|_| ())
    }

    /// Asks for a list. Starts again when it changed while it was read.
    pub(super) fn dump(&mut self, message: &Message) -> io::Result<Vec<Message>> {
        for _ in 0..DUMP_TRIES {
            self.send(message.clone(), NLM_F_REQUEST | NLM_F_DUMP)?;
            let (messages, interrupted) = self.receive()?;
            if !interrupted {
                return Ok(messages);
            }
        }
        Err(io::Error::other("the list keeps changing while it is read"))
    }

    fn send(&mut self, message: Message, flags: u16) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = flags;
        header.sequence_number = self.sequence;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(message));
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        self.socket.send(&bytes, 0).map(|_| ())
    }

    /// Reads datagrams up to the acknowledgement, error or end of the dump; tells whether the dump was interrupted.
    fn receive(&mut self) -> io::Result<(Vec<Message>, bool)> {
        let mut messages = Vec::new();
        let mut interrupted = false;
        loop {
            let mut datagram: Vec<u8> = Vec::with_capacity(BUFFER);
            self.socket.recv_from(&mut datagram, 0)?;
            let mut rest = datagram.as_slice();
            while !rest.is_empty() {
                let message = NetlinkMessage::<Message>::deserialize(rest).map_err(io::Error::other)?;
                let length = usize::try_from(message.header.length).unwrap_or(usize::MAX).next_multiple_of(4);
                rest = rest.get(length..).unwrap_or_default();
                if message.header.sequence_number != self.sequence {
                    continue;
                }
                interrupted |= message.header.flags & NLM_F_DUMP_INTR != 0;
                match message.payload {
                    NetlinkPayload::InnerMessage(message) => messages.push(message),
                    NetlinkPayload::Error(error) if error.code.is_some() => return Err(error.to_io()),
                    NetlinkPayload::Error(_) => return Ok((messages, interrupted)),
                    NetlinkPayload::Done(done) if done.code < 0 => {
                        return Err(io::Error::from_raw_os_error(-done.code));
                    }
                    NetlinkPayload::Done(_) => return Ok((messages, interrupted)),
                    NetlinkPayload::Overrun(_) => {
                        return Err(io::Error::other("the kernel lost a part of its reply"));
                    }
                    NetlinkPayload::Noop | _ => {}
                }
            }
        }
    }
}

/// The attributes of a body, after a fixed header of `skip` bytes. Ends at the first that is malformed.
pub(super) fn attributes(body: &[u8], skip: usize) -> impl Iterator<Item = NlaBuffer<&[u8]>> {
    NlasIterator::new(body.get(skip..).unwrap_or_default()).map_while(Result::ok)
}

/// Appends an attribute, padded to four bytes.
pub(super) fn push_attribute(body: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
    body.extend_from_slice(&length.to_ne_bytes());
    body.extend_from_slice(&kind.to_ne_bytes());
    body.extend_from_slice(value);
    body.resize(body.len().next_multiple_of(4), 0);
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
