//! Pipes that bytes pass through inside the kernel, from one socket to another, kept for the next connection.

use std::cell::RefCell;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::io::Errno;
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};

/// How much a pipe holds, if the kernel lets it (fs.pipe-max-size).
const SIZE: usize = 1 << 20;
/// How many empty ones a thread keeps.
const KEPT: usize = 64;

thread_local! {
    static EMPTY: RefCell<Vec<Pipe>> = const { RefCell::new(Vec::new()) };
}

/// How many pipes there are.
static OPEN: AtomicUsize = AtomicUsize::new(0);

/// A pipe, and how many bytes are in it.
#[derive(Debug)]
pub(super) struct Pipe {
    exit: OwnedFd,
    entrance: OwnedFd,
    size: usize,
    held: usize,
}

impl Pipe {
    /// An empty one. `None` if there are `max` already, or the kernel has none to give.
    pub(super) fn take(max: usize) -> Option<Pipe> {
        if let Some(pipe) = EMPTY.with_borrow_mut(Vec::pop) {
            return Some(pipe);
        }
        if OPEN.fetch_add(1, Ordering::Relaxed) < max
            && let Ok((exit, entrance)) = pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC)
        {
            let size = fcntl_setpipe_size(&entrance, SIZE).unwrap_or(1 << 16);
            return Some(Pipe { exit, entrance, size, held: 0 });
        }
        OPEN.fetch_sub(1, Ordering::Relaxed);
        None
    }

    /// Gives it back. One that is not empty is closed.
    pub(super) fn give_back(self) {
        if self.held > 0 {
            return;
        }
        EMPTY.with_borrow_mut(|empty| {
            if empty.len() < KEPT {
                empty.push(self);
            }
        });
    }

    /// Bytes in it.
    pub(super) fn held(&self) -> usize {
        self.held
    }

    /// Moves into the empty pipe what a socket has; 0 is its end.
    pub(super) fn fill(&mut self, socket: impl AsFd) -> Result<usize, Errno> {
        let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
        let moved = splice(socket, None, &self.entrance, None, self.size, flags)?;
        self.held += moved;
        Ok(moved)
    }

    /// Moves into a socket what the pipe has, or a part of it.
    pub(super) fn empty(&mut self, socket: impl AsFd) -> Result<usize, Errno> {
        let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
        let moved = splice(&self.exit, None, socket, None, self.held, flags)?;
        self.held = self.held.saturating_sub(moved);
        Ok(moved)
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        OPEN.fetch_sub(1, Ordering::Relaxed);
    }
}
