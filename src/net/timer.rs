//! A connection's policies in time: the ticks of its keepalive, and its deadlines.

use std::task::Context;
use std::time::Duration;

use tokio::time::Instant;

use super::alarm::Alarm;
use super::connection::Limits;
use super::control::{Control, End};
use super::keepalive::{Action, Ticks};
use super::parting::Rest;
use super::patience::{Begun, Deadlines, Verdict};
use super::socket::close;
use crate::clock::Time;
use crate::metrics::Metrics;

pub struct Timer {
    interval: Duration,
    /// Ends with the interval, if there is one.
    tick: Option<Alarm>,
    ticks: Ticks,
    origin: Instant,
    deadlines: Deadlines,
    begun: Begun,
    /// Ends at the next deadline.
    alarm: Option<Alarm>,
}

impl Timer {
    #[allow(clippy::disallowed_methods, reason = "in tests this clock jumps, as the runtime's timers do")]
    pub fn new(limits: &Limits) -> Self {
        let keepalive = limits.keepalive;
        let (origin, interval) = (Instant::now(), keepalive.interval);
        let mut timer = Self {
            interval,
            tick: (!interval.is_zero()).then(|| Alarm::new(origin + interval)),
            ticks: Ticks::new(keepalive),
            origin,
            deadlines: Deadlines::new(limits.patience, Time::default()),
            begun: Begun::default(),
            alarm: None,
        };
        timer.set_alarm(Time::default());
        timer
    }

    /// Hands what is to be said to the writer, and returns the end if it has come.
    pub fn poll(&mut self, cx: &mut Context<'_>, control: &Control, metrics: &Metrics) -> Option<End> {
        let give_up = |reason, end| {
            metrics.given_up(reason);
            Some(end)
        };
        while let Some(tick) = &mut self.tick
            && tick.poll(cx).is_ready()
        {
            #[allow(clippy::disallowed_methods, reason = "see `new`")]
            tick.reset(Instant::now() + self.interval);
            match self.ticks.tick(control.seen()) {
                Action::Dead => return give_up("no_pong", End::Gone),
                Action::Idle => return give_up("idle", going_away("no message came for too long")),
                Action::Warn(left) => {
                    control.ask(|asked| (asked.ping, asked.warning) = (true, Some(left)));
                }
                Action::Ping => control.ask(|asked| asked.ping = true),
            }
        }
        // Between a connection's wakes nothing changes, and most find it as the last one left it.
        let begun = control.begun();
        while std::mem::replace(&mut self.begun, begun) != begun || self.alarm_rings(cx) {
            let now = self.now();
            let verdict = self.deadlines.step(now, begun);
            self.set_alarm(now);
            match verdict {
                None => {}
                Some(Verdict::Warn(left)) => control.ask(|asked| asked.warning = Some(left)),
                Some(Verdict::Old) => {
                    return give_up("age", going_away("the connection has reached its age"));
                }
                Some(Verdict::SlowMessage) => {
                    let reason = "the message took too long to come";
                    let end = End::Close { code: close::POLICY, reason, rest: Rest::ItsClose };
                    return give_up("slow_message", end);
                }
                Some(Verdict::SlowReader) => return give_up("slow_reader", End::Gone),
            }
        }
        None
    }

    /// Whether something has begun or ended since the last poll.
    pub fn lags(&self, control: &Control) -> bool {
        self.begun != control.begun()
    }

    #[allow(clippy::disallowed_methods, reason = "see `new`")]
    fn now(&self) -> Time {
        Time::default() + (Instant::now() - self.origin)
    }

    fn set_alarm(&mut self, now: Time) {
        // A timer's resolution is a millisecond; one that is early would have to be set again.
        #[allow(clippy::disallowed_methods, reason = "see `new`")]
        let alarm = |next: Time| Alarm::new(Instant::now() + (next - now) + Duration::from_millis(1));
        self.alarm = self.deadlines.next().map(alarm);
    }

    fn alarm_rings(&mut self, cx: &mut Context<'_>) -> bool {
        self.alarm.as_mut().is_some_and(|alarm| alarm.poll(cx).is_ready())
    }
}

fn going_away(reason: &'static str) -> End {
    End::Close { code: close::GOING_AWAY, reason, rest: Rest::ItsClose }
}
