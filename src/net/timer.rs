//! The clocks, and a timer that wakes a task at an instant.

use std::future::Future as _;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_timer::Delay;

use crate::dht::Deadline;
use crate::time::{Duration, FAR, Instant, Now, SystemTime};

/// Reads the monotonic clock.
#[expect(clippy::disallowed_methods, reason = "the one place that reads the clocks")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Reads both clocks.
#[expect(clippy::disallowed_methods, reason = "the one place that reads the clocks")]
pub(super) fn both() -> Now {
    Now::new(Instant::now(), SystemTime::now())
}

/// A wait that ends though the swarm is not polled.
pub(crate) type Sleep = Delay;

/// Waits for a time; one that the clock cannot represent does not end.
pub(crate) fn sleep(time: Duration) -> Sleep {
    Delay::new(time.min(FAR))
}

/// Wakes its task when a deadline has come.
///
/// The system's timer is touched only when the deadline moves forward, or when it has rung: a deadline that is put off
/// again and again costs a comparison. Each time it is set, `trace` tells what for.
#[derive(Debug, Default)]
pub(super) struct Timer {
    delay: Option<Delay>,
    rings_at: Option<Instant>,
}

impl Timer {
    /// Returns ready if `deadline` has come at `now`; otherwise sees to it that the task is woken then.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        now: Instant,
        deadline: Option<Deadline>,
    ) -> Poll<()> {
        let Some(Deadline { at: deadline, reason }) = deadline else {
            return Poll::Pending;
        };
        loop {
            if deadline <= now {
                return Poll::Ready(());
            }
            if self.rings_at.is_none_or(|at| at > deadline) {
                let wait = deadline.saturating_duration_since(now);
                tracing::trace!(reason, ?wait, "the timer is set");
                match &mut self.delay {
                    Some(delay) => delay.reset(wait),
                    None => self.delay = Some(Delay::new(wait)),
                }
                self.rings_at = Some(deadline);
            }
            let Some(delay) = &mut self.delay else {
                return Poll::Pending;
            };
            if Pin::new(delay).poll(cx).is_pending() {
                return Poll::Pending;
            }
            // It rang for a deadline that has been put off since.
            self.rings_at = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::{Arc, Mutex};

    use tracing::field::{Field, Visit};
    use tracing::span::{Attributes, Id, Record};
    use tracing::{Event, Metadata, Subscriber};

    use super::*;

    #[test]
    fn it_rings_at_the_deadline_and_not_for_one_that_was_put_off() {
        let mut timer = Timer::default();
        let start = now();
        let soon = start + Duration::from_millis(20);
        let later = start + Duration::from_millis(60);
        let [soon, later] = [soon, later].map(|at| Deadline { at, reason: "test" });
        futures::executor::block_on(poll_fn(|cx| {
            assert_eq!(timer.poll(cx, start, None), Poll::Pending);
            assert_eq!(timer.poll(cx, start, Some(soon)), Poll::Pending);
            Poll::Ready(())
        }));
        futures::executor::block_on(poll_fn(|cx| timer.poll(cx, now(), Some(later))));
        assert!(now() >= later.at);
        futures::executor::block_on(poll_fn(|cx| timer.poll(cx, later.at, Some(soon))));
    }

    /// Keeps the reasons that are traced.
    struct Reasons(Mutex<Vec<String>>);

    impl Visit for &Reasons {
        fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
            if field.name() == "reason" {
                self.0.lock().unwrap().push(format!("{value:?}"));
            }
        }
    }

    impl Subscriber for Reasons {
        fn enabled(&self, _: &Metadata<'_>) -> bool {
            true
        }

        fn new_span(&self, _: &Attributes<'_>) -> Id {
            Id::from_u64(1)
        }

        fn record(&self, _: &Id, _: &Record<'_>) {}

        fn record_follows_from(&self, _: &Id, _: &Id) {}

        fn event(&self, event: &Event<'_>) {
            event.record(&mut { self });
        }

        fn enter(&self, _: &Id) {}

        fn exit(&self, _: &Id) {}
    }

    #[test]
    fn the_reason_of_a_deadline_is_traced_when_the_timer_is_set_and_not_when_the_deadline_is_put_off() {
        let reasons = Arc::new(Reasons(Mutex::default()));
        let _guard = tracing::subscriber::set_default(Arc::clone(&reasons));
        let (mut timer, start) = (Timer::default(), now());
        let mut cx = Context::from_waker(std::task::Waker::noop());
        for (seconds, reason) in [(100, "refresh"), (50, "dial"), (200, "probe")] {
            let at = start + Duration::from_secs(seconds);
            assert!(timer.poll(&mut cx, start, Some(Deadline { at, reason })).is_pending());
        }
        assert_eq!(*reasons.0.lock().unwrap(), ["\"refresh\"", "\"dial\""]);
    }

    #[test]
    fn a_wait_may_be_longer_than_the_clock_goes() {
        use futures::FutureExt as _;
        assert!(sleep(Duration::MAX).now_or_never().is_none());
    }
}
