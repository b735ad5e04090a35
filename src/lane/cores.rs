//! Whether models compute on every core there is, and threads of sockets had better wait.
//!
//! Messages come one by one, and a thread that wakes for each of them interrupts a lane where there is no core without
//! one. What it takes in for that lane could not run any sooner than with the next batch, and gathers in the sockets as
//! well. So it waits for the end of a run, on whatever device: then there are answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

/// How long threads of sockets wait, at the most: somebody may ask for what no lane has to do with.
const LONGEST: Duration = Duration::from_millis(3);

pub struct Cores {
    count: usize,
    longest: Duration,
    /// Threads that compute.
    computing: AtomicUsize,
    /// Threads of sockets that wait.
    waiting: Mutex<usize>,
    ended: Condvar,
}

/// Some threads compute, until this is dropped.
pub struct Computing {
    cores: Arc<Cores>,
    threads: usize,
}

impl Cores {
    /// Those that this process may run on.
    pub fn of_this_machine() -> Arc<Self> {
        Self::new(std::thread::available_parallelism().map_or(usize::MAX, usize::from), LONGEST)
    }

    fn new(count: usize, longest: Duration) -> Arc<Self> {
        let (computing, waiting) = (AtomicUsize::new(0), Mutex::new(0));
        Arc::new(Self { count, longest, computing, waiting, ended: Condvar::new() })
    }

    pub fn count(&self) -> usize {
        self.count
    }

    /// Threads that compute.
    pub fn computing(&self) -> usize {
        self.computing.load(Ordering::Acquire)
    }

    /// So many threads compute from now on; none where a run takes another device.
    pub fn compute(self: &Arc<Self>, threads: usize) -> Computing {
        self.computing.fetch_add(threads, Ordering::AcqRel);
        Computing { cores: Arc::clone(self), threads }
    }

    /// Waits for the end of a run, if models compute on all cores.
    pub fn give_way(&self) {
        if self.computing() < self.count {
            return;
        }
        let mut waiting = self.waiting.lock();
        // Once more, as the run that ends now looks for who waits.
        if self.computing() >= self.count {
            *waiting += 1;
            self.ended.wait_for(&mut waiting, self.longest);
            *waiting -= 1;
        }
    }
}

impl Drop for Computing {
    fn drop(&mut self) {
        self.cores.computing.fetch_sub(self.threads, Ordering::AcqRel);
        if *self.cores.waiting.lock() > 0 {
            self.cores.ended.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Has two threads give way, does something once both wait, and returns when they have gone on.
    fn wait_for(cores: &Cores, something: impl FnOnce()) {
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| cores.give_way());
            }
            while *cores.waiting.lock() < 2 {
                std::thread::yield_now();
            }
            something();
        });
    }

    #[test]
    fn threads_give_way_until_a_run_ends_if_no_core_is_free() {
        let cores = Cores::new(3, Duration::MAX);
        cores.give_way();
        let first = cores.compute(2);
        // A core is free.
        cores.give_way();
        let second = cores.compute(1);
        let elsewhere = cores.compute(0);
        wait_for(&cores, || drop(second));
        let second = cores.compute(1);
        // It has answers, too.
        wait_for(&cores, || drop(elsewhere));
        drop((first, second));
        assert_eq!(cores.computing(), 0);
    }

    #[test]
    fn they_wait_no_longer_than_they_may() {
        let cores = Cores::new(1, Duration::from_millis(1));
        let _endless = cores.compute(1);
        cores.give_way();
    }
}
