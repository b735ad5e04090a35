//! Wakes the connections of one thread at their times, to a few tens of microseconds: tokio's own timer counts in
//! milliseconds, which is more than many an answer takes.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use tokio::io::unix::AsyncFd;

use crate::clock::{Clock, Time};

/// One timer of the kernel's for all connections of a thread.
pub struct Pacer {
    clock: Clock,
    timer: AsyncFd<OwnedFd>,
    /// By time and connection.
    waiting: Mutex<BTreeMap<(Time, usize), Waker>>,
}

impl Pacer {
    /// Within a runtime; [`Pacer::run`] has to be polled for anyone to be woken.
    pub fn new(clock: Clock) -> io::Result<Arc<Self>> {
        let timer =
            timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
        #[allow(deprecated, reason = "what is unsound of it does not happen with a descriptor that is owned")]
        let timer = AsyncFd::new(timer)?;
        Ok(Arc::new(Self { clock, timer, waiting: Mutex::default() }))
    }

    /// Wakes for ever.
    pub async fn run(self: Arc<Self>) -> io::Result<()> {
        loop {
            let mut ready = self.timer.readable().await?;
            // What it says is how often it has gone off.
            let _ = rustix::io::read(&self.timer, &mut [0u8; 8]);
            ready.clear_ready();
            let now = self.clock.now();
            let due = {
                let mut waiting = self.waiting.lock();
                let later = waiting.split_off(&(now, usize::MAX));
                let due = std::mem::replace(&mut *waiting, later);
                if let Some((&(next, _), _)) = waiting.first_key_value() {
                    self.set(next, now)?;
                }
                due
            };
            due.into_values().for_each(Waker::wake);
        }
    }

    fn set(&self, time: Time, now: Time) -> io::Result<()> {
        let wait = time.since(now);
        let seconds = wait.as_secs().try_into().unwrap_or(i64::MAX);
        // Zero would be never.
        let it_value = Timespec { tv_sec: seconds, tv_nsec: i64::from(wait.subsec_nanos()).max(1) };
        let it_interval = Timespec { tv_sec: 0, tv_nsec: 0 };
        timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &Itimerspec { it_interval, it_value })?;
        Ok(())
    }
}

/// One connection's entry. It is polled by one task only, so that its waker stays the same.
pub struct Alarm {
    pacer: Arc<Pacer>,
    connection: usize,
    set: Option<Time>,
}

impl Alarm {
    pub fn new(pacer: &Arc<Pacer>, connection: usize) -> Self {
        Self { pacer: Arc::clone(pacer), connection, set: None }
    }

    /// Ready once `time` has come.
    pub fn poll_until(&mut self, time: Time, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let now = self.pacer.clock.now();
        if now >= time {
            self.unset();
            return Poll::Ready(Ok(()));
        }
        if self.set != Some(time) {
            self.unset();
            self.set = Some(time);
            let mut waiting = self.pacer.waiting.lock();
            let first = waiting.first_key_value().is_none_or(|(&(first, _), _)| time < first);
            waiting.insert((time, self.connection), cx.waker().clone());
            if first {
                self.pacer.set(time, now)?;
            }
        }
        Poll::Pending
    }

    fn unset(&mut self) {
        if let Some(time) = self.set.take() {
            self.pacer.waiting.lock().remove(&(time, self.connection));
        }
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        self.unset();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test]
    async fn all_are_woken_and_none_before_its_time() {
        let clock = Clock::start();
        let pacer = Pacer::new(clock).unwrap();
        let running = tokio::spawn(Arc::clone(&pacer).run());
        let sleeper = |index: usize| {
            let mut alarm = Alarm::new(&pacer, index);
            tokio::spawn(async move {
                for step in 0..3 {
                    let time = clock.now() + Duration::from_micros(700 * step + 100 * index as u64);
                    std::future::poll_fn(|cx| alarm.poll_until(time, cx)).await.unwrap();
                    assert!(clock.now() >= time);
                }
            })
        };
        for sleeper in (0..20).map(sleeper).collect::<Vec<_>>() {
            sleeper.await.unwrap();
        }
        assert!(pacer.waiting.lock().is_empty());
        running.abort();
    }
}
