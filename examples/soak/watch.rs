//! What is measured: how long calls wait, what became of lookups, processor time and memory.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How many classes there are to a doubling.
const FINE: f64 = 8.0;

/// How long something takes, without keeping each time: what keeps them would grow.
#[derive(Default)]
pub(crate) struct Times {
    classes: Mutex<Vec<u64>>,
    worst: AtomicU64,
}

impl Times {
    pub(crate) fn add(&self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.worst.fetch_max(micros, Ordering::Relaxed);
        let mut classes = self.classes.lock().unwrap_or_else(PoisonError::into_inner);
        classes.resize(256, 0);
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a class among 256, which need not be exact"
        )]
        let class = (((micros + 1) as f64).log2() * FINE) as usize;
        if let Some(class) = classes.get_mut(class.min(255)) {
            *class += 1;
        }
    }

    pub(crate) fn count(&self) -> u64 {
        self.classes.lock().unwrap_or_else(PoisonError::into_inner).iter().sum()
    }

    pub(crate) fn worst(&self) -> Duration {
        Duration::from_micros(self.worst.load(Ordering::Relaxed))
    }

    /// The upper end of the class in which so many percent lie.
    pub(crate) fn percentile(&self, percent: u64) -> Duration {
        let classes = self.classes.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted = classes.iter().sum::<u64>() * percent / 100;
        let mut seen = 0;
        for (class, count) in classes.iter().enumerate() {
            seen += count;
            if seen > wanted {
                let class = u32::try_from(class + 1).unwrap_or_default();
                return Duration::from_secs_f64((f64::from(class) / FINE).exp2() / 1e6).min(self.worst());
            }
        }
        self.worst()
    }
}

/// What became of operations of one kind.
#[derive(Default)]
pub(crate) struct Tally {
    pub(crate) times: Times,
    failed: AtomicU32,
    /// The first few reasons.
    reasons: Mutex<Vec<String>>,
}

impl Tally {
    pub(crate) fn add(&self, time: Duration, result: Result<(), String>) {
        self.times.add(time);
        if let Err(reason) = result {
            self.failed.fetch_add(1, Ordering::Relaxed);
            let mut reasons = self.reasons.lock().unwrap_or_else(PoisonError::into_inner);
            if reasons.len() < 5 {
                reasons.push(reason);
            }
        }
    }

    pub(crate) fn failed(&self) -> u32 {
        self.failed.load(Ordering::Relaxed)
    }

    pub(crate) fn reasons(&self) -> Vec<String> {
        self.reasons.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// How late this machine wakes a thread that does nothing else: what no node is to blame for.
pub(crate) struct Machine {
    late: Arc<Times>,
    ends: Arc<AtomicBool>,
}

impl Machine {
    pub(crate) fn watched() -> Self {
        const PAUSE: Duration = Duration::from_millis(20);
        let (late, ends) = (Arc::<Times>::default(), Arc::<AtomicBool>::default());
        let (times, is_over) = (late.clone(), ends.clone());
        std::thread::spawn(move || {
            while !is_over.load(Ordering::Relaxed) {
                let began = Instant::now();
                std::thread::sleep(PAUSE);
                times.add(began.elapsed().saturating_sub(PAUSE));
            }
        });
        Self { late, ends }
    }

    pub(crate) fn late(&self) -> &Times {
        &self.late
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
    }
}

/// The memory that this process holds, in KiB; nothing where the system does not say so in Linux's way.
pub(crate) fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}
