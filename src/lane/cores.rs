//! Whether models compute on every core there is, and threads of sockets had better wait.
//!
//! Messages come one by one, and a thread that wakes for each of them interrupts a lane where there is no core without
//! one. What it takes in then could not run any sooner: it gathers in the sockets as well, until a run has ended.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

/// How long threads of sockets wait, at the most: somebody may ask for what no lane has to do with.
const LONGEST: Duration = Duration::from_millis(3);

pub struct Cores {
    count: usize,
    longest: Duration,
    use_now: Mutex<Use>,
    ended: Condvar,
}

#[derive(Default)]
struct Use {
    /// Threads that compute.
    computing: usize,
    waiting: usize,
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
        Arc::new(Self { count, longest, use_now: Mutex::default(), ended: Condvar::new() })
    }

    /// So many threads compute from now on.
    pub fn compute(self: &Arc<Self>, threads: usize) -> Computing {
        self.use_now.lock().computing += threads;
        Computing { cores: Arc::clone(self), threads }
    }

    /// Waits for the end of a run, if models compute on all cores.
    pub fn give_way(&self) {
        let mut use_now = self.use_now.lock();
        if use_now.computing >= self.count {
            use_now.waiting += 1;
            self.ended.wait_for(&mut use_now, self.longest);
            use_now.waiting -= 1;
        }
    }
}

impl Drop for Computing {
    fn drop(&mut self) {
        let mut use_now = self.cores.use_now.lock();
        use_now.computing -= self.threads;
        if use_now.waiting > 0 {
            self.cores.ended.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_give_way_until_a_run_ends_if_no_core_is_free() {
        let cores = Cores::new(3, Duration::MAX);
        cores.give_way();
        let first = cores.compute(2);
        // A core is free.
        cores.give_way();
        let second = cores.compute(1);
        std::thread::scope(|scope| {
            let waiting = [(); 2].map(|()| scope.spawn(|| cores.give_way()));
            while cores.use_now.lock().waiting < waiting.len() {
                std::thread::yield_now();
            }
            drop(second);
        });
        drop(first);
        assert_eq!(cores.use_now.lock().computing, 0);
    }

    #[test]
    fn they_wait_no_longer_than_they_may() {
        let cores = Cores::new(1, Duration::from_millis(1));
        let _endless = cores.compute(1);
        cores.give_way();
    }
}
