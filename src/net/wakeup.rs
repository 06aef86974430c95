//! How one task waits for what others do.
//!
//! Knows tasks only.

use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Context;

use futures::task::AtomicWaker;

/// The wakeup of a task by what others do.
#[derive(Debug, Default)]
pub(super) struct Wakeup {
    is_awaited: AtomicBool,
    waker: AtomicWaker,
}

impl Wakeup {
    /// The task is woken by what is done from now on, and now looks itself for what was done just before. Returns whether it was
    /// to be woken already: then nothing was done since it asked last.
    pub(super) fn wait(&self, cx: &Context<'_>) -> bool {
        self.waker.register(cx.waker());
        // Others do something before they look whether that is awaited: with an exchange on either side, they find that it is, or
        // the task finds what they did.
        self.is_awaited.swap(true, Ordering::AcqRel)
    }

    /// The task need not be woken: it looks again by itself.
    pub(super) fn end(&self) {
        self.is_awaited.store(false, Ordering::Release);
    }

    /// Wakes the task, if it waits.
    pub(super) fn wake(&self) {
        if self.is_awaited.swap(false, Ordering::AcqRel) {
            self.waker.wake();
        }
    }
}
