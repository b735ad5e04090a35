//! Time as policy sees it: a number handed in, never read.

use std::fmt;
use std::ops::{Add, Sub};
use std::time::Duration;

/// A moment, as nanoseconds since the clock's own start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Time(u64);

impl Time {
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// The time passed since `earlier`, or zero if that lies ahead.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// The moment so long before this one, or the clock's start.
    pub fn before(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl Add<Duration> for Time {
    type Output = Self;

    /// Saturates: a time-out of centuries is as good as none.
    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl Sub for Time {
    type Output = Duration;

    fn sub(self, earlier: Self) -> Duration {
        self.since(earlier)
    }
}

/// The source of [`Time`].
#[derive(Clone, Copy)]
pub struct Clock {
    origin: std::time::Instant,
}

impl Clock {
    #[allow(clippy::disallowed_methods, reason = "the one place that reads the clock")]
    pub fn start() -> Self {
        Self { origin: std::time::Instant::now() }
    }

    #[allow(clippy::disallowed_methods, reason = "the one place that reads the clock")]
    pub fn now(&self) -> Time {
        Time(u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    /// Seconds since 1970, for what is agreed on in dates. It may jump, as [`Clock::now`] does not.
    #[allow(clippy::disallowed_methods, reason = "the one place that reads the clock")]
    pub fn date(&self) -> u64 {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        since.map_or(0, |since| since.as_secs())
    }

    /// The moment as a date, as the world's clock stands now.
    #[allow(clippy::disallowed_methods, reason = "the one place that reads the clock")]
    pub fn world(&self, time: Time) -> std::time::SystemTime {
        std::time::SystemTime::now() - (self.now() - time)
    }

    /// CPU time that all threads of this process have taken together.
    pub fn cpu(&self) -> Duration {
        let taken = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
        Duration::try_from(taken).unwrap_or_default()
    }

    /// The moment as the standard library's waiting functions want it.
    pub fn instant(&self, time: Time) -> std::time::Instant {
        let far = Duration::from_secs(86_400 * 365);
        self.origin + Duration::from_nanos(time.0).min(self.now().since(Time(0)) + far)
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Clock({:?})", self.now())
    }
}
