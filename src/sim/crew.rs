//! The crew: threads that work on shards, one window at a time.
//!
//! Knows shards as something to be given away and taken back; what is done with one it does not decide.

use std::any::Any;
use std::fmt;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use super::network::Network;
use super::shard::{Shard, Turn, making};
use crate::store::MemoryStoreConfig;
use crate::time::Instant;

/// What is done with a shard.
#[derive(Clone, Debug)]
pub(super) enum Job {
    /// Everything happens that happens before then.
    Run(Instant),
    /// The nodes of these numbers start, with such stores, and get their ideal tables.
    FillTables(MemoryStoreConfig, Range<usize>),
    /// They hear of those that have dialled them, which are these.
    Settle(Arc<Vec<Vec<u32>>>, Range<usize>),
}

/// A shard that is worked on.
struct Work {
    shard: Shard,
    job: Job,
    /// Given back first: when nobody else has it the network can be changed.
    network: Option<Arc<Network>>,
    panic: Option<Box<dyn Any + Send>>,
}

/// Where one worker finds its work and leaves it.
#[derive(Default)]
struct Seat {
    /// A [`SeatState`].
    state: AtomicU8,
    work: Mutex<Option<Work>>,
}

/// How it stands with the work of a seat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum SeatState {
    /// There is nothing to do.
    Idle,
    /// There is.
    Given,
    /// It is done.
    Done,
    /// There will be nothing more.
    Ended,
}

/// So often it is looked whether the other has come to an end before the core is given to others, and so often after that
/// before a worker sleeps. Chosen, not measured: some microseconds, and some more than a thousand windows are apart.
const SPINS: u32 = 2_000;
const YIELDS: u32 = 200;

impl Seat {
    fn set(&self, state: SeatState) {
        self.state.store(state as u8, Ordering::Release);
    }

    /// Waits until the state is one of these, and returns which; a worker may sleep meanwhile.
    fn wait<const N: usize>(&self, one_of: [SeatState; N], may_sleep: bool) -> SeatState {
        let mut looks = 0;
        loop {
            let state = self.state.load(Ordering::Acquire);
            if let Some(state) = one_of.into_iter().find(|one| *one as u8 == state) {
                return state;
            }
            looks += 1;
            if looks < SPINS {
                std::hint::spin_loop();
            } else if !may_sleep || looks < SPINS + YIELDS {
                thread::yield_now();
            } else {
                thread::park();
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Work>> {
        // Whoever panics has not held it.
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The life of a worker.
    fn serve(&self) {
        while self.wait([SeatState::Given, SeatState::Ended], true) == SeatState::Given {
            if let Some(work) = self.lock().as_mut() {
                work.perform();
            }
            // Unless it has ended meanwhile.
            let (given, done) = (SeatState::Given as u8, SeatState::Done as u8);
            let _ = self.state.compare_exchange(given, done, Ordering::AcqRel, Ordering::Acquire);
        }
    }
}

impl Work {
    fn perform(&mut self) {
        let Some(network) = self.network.take() else {
            return;
        };
        self.panic = attempt(&network, &mut self.shard, &self.job);
    }
}

/// Does the job, and returns with what it has panicked if it has.
fn attempt(network: &Network, shard: &mut Shard, job: &Job) -> Option<Box<dyn Any + Send>> {
    catch_unwind(AssertUnwindSafe(|| perform(network, shard, job))).err()
}

fn perform(network: &Network, shard: &mut Shard, job: &Job) {
    let mut turn = Turn { network, shard };
    match job {
        Job::Run(until) => turn.run(*until),
        Job::FillTables(stores, numbers) => making::fill_tables(&mut turn, stores, numbers.clone()),
        Job::Settle(dialled_by, numbers) => making::settle_tables(&mut turn, dialled_by, numbers.clone()),
    }
}

/// A worker and its thread.
struct Worker {
    seat: Arc<Seat>,
    thread: Option<JoinHandle<()>>,
}

/// The workers beside the thread of the world, one for each shard but the first.
#[derive(Default)]
pub(super) struct Crew(Vec<Worker>);

impl fmt::Debug for Crew {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Crew").field(&self.0.len()).finish()
    }
}

impl Crew {
    /// Hires so many workers.
    pub(super) fn new(workers: usize) -> Self {
        let worker = |_| {
            let seat = Arc::new(Seat::default());
            let own = Arc::clone(&seat);
            // Without a thread the work is done where it is given.
            let thread = thread::Builder::new().name("shard".into()).spawn(move || own.serve()).ok();
            Worker { seat, thread }
        };
        Self((0..workers).map(worker).collect())
    }

    /// Does a job with all shards, and returns when all have been worked on: those for which that `is_worth` it each on a thread
    /// of its own, the first of them and all others on this one.
    ///
    /// # Panics
    /// As the work does.
    pub(super) fn work(
        &self,
        network: &Arc<Network>,
        shards: &mut Vec<Shard>,
        job: &Job,
        is_worth: impl Fn(&Shard) -> bool,
    ) {
        let mut given = Vec::new();
        let worth = shards.iter().enumerate().filter(|(_, shard)| is_worth(shard)).skip(1);
        for ((at, _), worker) in worth.zip(&self.0) {
            if let Some(thread) = &worker.thread {
                given.push((at, worker, thread));
            }
        }
        // From the last one, so that the places of those before it stay.
        for (at, worker, thread) in given.iter().rev() {
            let (shard, network) = (shards.remove(*at), Some(Arc::clone(network)));
            *worker.seat.lock() = Some(Work { shard, job: job.clone(), network, panic: None });
            worker.seat.set(SeatState::Given);
            thread.thread().unpark();
        }
        let mut panicked = None;
        for shard in shards.iter_mut() {
            panicked = panicked.or(attempt(network, shard, job));
        }
        for (at, worker, _) in given {
            worker.seat.wait([SeatState::Done], false);
            worker.seat.set(SeatState::Idle);
            if let Some(work) = worker.seat.lock().take() {
                shards.insert(at, work.shard);
                panicked = panicked.or(work.panic);
            }
        }
        if let Some(panic) = panicked {
            resume_unwind(panic);
        }
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        for worker in &mut self.0 {
            worker.seat.set(SeatState::Ended);
            if let Some(thread) = worker.thread.take() {
                thread.thread().unpark();
                // What it has panicked with was told.
                drop(thread.join());
            }
        }
    }
}
