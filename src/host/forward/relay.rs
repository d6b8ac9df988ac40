//! Carries bytes between two connections, both ways, each at the pace of its receiver. The end of one direction is passed
//! on as such; the other goes on.
//!
//! Small pieces are copied: that costs least, and a connection that waits holds no buffer. A direction that fills the
//! buffer is spliced from then on: its bytes go through a pipe and never come up from the kernel.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustix::net::{SendFlags, Shutdown, send};
use tokio::io::{AsyncRead, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};

use super::counters::{Counting, Way};
use super::pipe::Pipe;

/// How much is copied at once; a read that fills it makes a direction worth a pipe.
const BUFFER: usize = 32 * 1024;
/// Spliced pieces smaller than this are better copied.
const SMALL: usize = 8 * 1024;
/// How many small ones in a row it takes to go back to copying.
const SMALL_IN_A_ROW: u8 = 4;
/// Into how many parts an idle limit is divided: it is kept up to one of them.
const IDLE_PARTS: u32 = 4;

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; BUFFER]);
}

/// How long nothing may come from either side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct IdleLimits {
    /// While both directions are open.
    pub(super) open: Duration,
    /// Once one has ended.
    pub(super) half_closed: Duration,
}

/// How it went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Both directions came to their end.
    Ended,
    /// One side broke off.
    Broken,
    /// Nothing came for too long.
    Idle,
}

/// What the two directions tell each other.
#[derive(Debug, Default)]
struct Shared {
    is_active: AtomicBool,
    n_ended: AtomicUsize,
}

/// Carries bytes until both directions have ended, first what was read from the client already. On a break both sides are
/// reset, so that neither takes half an answer for a whole one.
pub(super) async fn relay(
    (mut client, read_already): (TcpStream, Vec<u8>),
    mut endpoint: TcpStream,
    counting: &Counting,
    limits: IdleLimits,
    max_pipes: usize,
) -> Outcome {
    let shared = Shared::default();
    let outcome = {
        let (from_client, to_client) = client.split();
        let (from_endpoint, to_endpoint) = endpoint.split();
        let direction = |from, to, way, rest| Direction {
            from,
            to,
            way,
            counting,
            shared: &shared,
            max_pipes,
            rest,
            is_read_to_end: false,
            n_small: 0,
        };
        let mut there = direction(from_client, to_endpoint, Way::ToEndpoint, read_already);
        let mut back = direction(from_endpoint, to_client, Way::ToClient, Vec::new());
        tokio::select! {
            biased;
            done = async { tokio::try_join!(there.run(), back.run()) } => match done {
                Ok(_) => Outcome::Ended,
                Err(_) => Outcome::Broken,
            },
            () = idle(&shared, limits) => Outcome::Idle,
        }
    };
    if outcome != Outcome::Ended {
        reset(&client);
        reset(&endpoint);
    }
    outcome
}

/// Makes the kernel send a reset when the connection is dropped.
pub(super) fn reset(stream: &TcpStream) {
    // A connection that is gone already needs none.
    let _ = rustix::net::sockopt::set_socket_linger(stream, Some(Duration::ZERO));
}

/// Ends when nothing has happened for long enough.
async fn idle(shared: &Shared, limits: IdleLimits) {
    let mut quiet = Duration::ZERO;
    loop {
        let half_closed = shared.n_ended.load(Ordering::Relaxed) > 0;
        let limit = if half_closed { limits.half_closed } else { limits.open };
        if quiet >= limit {
            return;
        }
        let part = limit / IDLE_PARTS;
        tokio::time::sleep(part).await;
        quiet = if shared.is_active.swap(false, Ordering::Relaxed) { Duration::ZERO } else { quiet + part };
    }
}

/// One direction.
struct Direction<'a> {
    from: ReadHalf<'a>,
    to: WriteHalf<'a>,
    way: Way,
    counting: &'a Counting,
    shared: &'a Shared,
    max_pipes: usize,
    /// What was read and could not be written yet.
    rest: Vec<u8>,
    /// Nothing comes after that.
    is_read_to_end: bool,
    n_small: u8,
}

/// What copying comes to.
enum Copied {
    End,
    /// There is so much that a pipe is worth it.
    Much,
}

impl Direction<'_> {
    async fn run(&mut self) -> io::Result<()> {
        loop {
            match std::future::poll_fn(|cx| self.poll_copy(cx)).await? {
                Copied::End => break,
                Copied::Much => {
                    if self.splice().await? {
                        break;
                    }
                }
            }
        }
        // The second to end leaves it to the closing of both.
        if self.shared.n_ended.fetch_add(1, Ordering::Relaxed) == 0 {
            let stream: &TcpStream = self.to.as_ref();
            match rustix::net::shutdown(stream, Shutdown::Write) {
                Ok(()) | Err(rustix::io::Errno::NOTCONN) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn moved(&self, n: usize) {
        self.counting.bytes(self.way, n);
        self.shared.is_active.store(true, Ordering::Relaxed);
    }

    fn poll_copy(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Copied>> {
        loop {
            while !self.rest.is_empty() {
                let written = ready!(self.poll_send(cx, &self.rest))?;
                self.rest.drain(..written);
            }
            self.rest.shrink_to(0);
            if self.is_read_to_end {
                return Poll::Ready(Ok(Copied::End));
            }
            let n_read = SCRATCH.with_borrow_mut(|scratch| {
                let n_read = ready!(self.poll_receive(cx, scratch))?;
                let bytes = &scratch[..n_read];
                // What the receiver does not take now waits, and nothing more is read until it has.
                let written = match self.poll_send(cx, bytes) {
                    Poll::Ready(written) => written?,
                    Poll::Pending => 0,
                };
                self.rest.extend_from_slice(&bytes[written..]);
                Poll::Ready(io::Result::Ok(n_read))
            });
            let n_read = ready!(n_read)?;
            if n_read > 0 {
                self.moved(n_read);
            }
            if n_read == BUFFER && self.rest.is_empty() {
                return Poll::Ready(Ok(Copied::Much));
            }
        }
    }

    /// Reads what there is, up to the end if that is there, too.
    fn poll_receive(&mut self, cx: &mut Context<'_>, scratch: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut buffer = ReadBuf::new(scratch);
        ready!(Pin::new(&mut self.from).poll_read(cx, &mut buffer))?;
        let mut n_read = buffer.filled().len();
        self.is_read_to_end = n_read == 0;
        // After less than was asked for, only a socket whose end has come is still ready: others are not asked again.
        while !self.is_read_to_end && n_read < scratch.len() {
            match self.from.try_read(&mut scratch[n_read..]) {
                Ok(0) => self.is_read_to_end = true,
                Ok(n) => n_read += n,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(n_read))
    }

    /// Writes some of it. The last bytes are kept by the kernel for the end that follows, to go out in one packet with it.
    fn poll_send(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let stream: &TcpStream = self.to.as_ref();
        let more = if self.is_read_to_end { SendFlags::MORE } else { SendFlags::empty() };
        loop {
            ready!(stream.poll_write_ready(cx))?;
            match stream.try_io(Interest::WRITABLE, || Ok(send(stream, bytes, SendFlags::NOSIGNAL | more)?)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                sent => return Poll::Ready(sent),
            }
        }
    }

    /// Splices for as long as it is worth it; whether the direction has ended.
    async fn splice(&mut self) -> io::Result<bool> {
        self.n_small = 0;
        while self.n_small < SMALL_IN_A_ROW {
            let from: &TcpStream = self.from.as_ref();
            // No pipe is held while there is nothing to move.
            from.readable().await?;
            let Some(mut pipe) = Pipe::take(self.max_pipes) else { return Ok(false) };
            let filled = from.try_io(Interest::READABLE, || Ok(pipe.fill(from)?));
            match filled {
                Ok(0) => {
                    pipe.give_back();
                    return Ok(true);
                }
                Ok(n) => {
                    self.moved(n);
                    self.n_small = if n < SMALL { self.n_small + 1 } else { 0 };
                    let to: &TcpStream = self.to.as_ref();
                    while pipe.held() > 0 {
                        match to.try_io(Interest::WRITABLE, || Ok(pipe.empty(to)?)) {
                            Ok(_) => {}
                            Err(error) if error.kind() == io::ErrorKind::WouldBlock => to.writable().await?,
                            Err(error) => return Err(error),
                        }
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
            pipe.give_back();
            // Others have their turn, even if there is always more.
            tokio::task::consume_budget().await;
        }
        Ok(false)
    }
}
