//! One thread of the client: a runtime of its own, and its share of the connections.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;

use super::connection::{Dialect, Inbox, Line, Outbox};
use super::exchange::Exchange;
use super::frame::Fragments;
use super::pacer::{Alarm, Pacer};
use super::plan::{Load, Pace, Times};
use super::prepare::Prepared;
use super::schedule::{Arrivals, Schedule};
use super::script::Answering;
use super::socket::Refusal;
use super::tally::{Span, Tally};
use super::{Failure, cpu};
use crate::clock::{Clock, Time};

/// Handshakes of a thread that are under way at the same time.
const OPENING: usize = 64;
/// A server that does not say goodbye by then is left.
const FAREWELL: Duration = Duration::from_secs(1);
/// A signal that is resampled goes on for so long behind the end: its filters look ahead.
const LOOK_AHEAD: Duration = Duration::from_millis(250);

/// What all threads of a step do.
pub struct Job {
    pub prepared: Arc<Prepared>,
    pub load: Load,
    pub times: Times,
    pub seed: u64,
    pub clock: Clock,
    /// When it begins, once all connections are open.
    pub start: watch::Receiver<Option<Time>>,
    /// Told of each connection, open or refused.
    pub opened: mpsc::UnboundedSender<Result<(), Refusal>>,
}

impl Times {
    /// What is measured of a step that begins at `start`.
    pub fn span(&self, start: Time) -> Span {
        let from = start + self.warm_up;
        Span { from, until: from + self.duration }
    }
}

impl Job {
    /// Does the part of these connections; returns the share of the span for which the thread was busy.
    pub fn run(&self, connections: &[usize], tally: &Arc<Mutex<Tally>>) -> Result<f64, Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let pacer = Pacer::new(self.clock)?;
            let pacing = tokio::spawn(Arc::clone(&pacer).run());
            let opening = Arc::new(Semaphore::new(OPENING));
            let mut tasks = JoinSet::new();
            for &index in connections {
                let part = Part {
                    prepared: Arc::clone(&self.prepared),
                    load: self.load,
                    times: self.times,
                    seed: self.seed,
                    clock: self.clock,
                    start: self.start.clone(),
                    index,
                    alarm: Alarm::new(&pacer, index),
                    tally: Arc::clone(tally),
                };
                tasks.spawn(part.run(Arc::clone(&opening), self.opened.clone()));
            }
            let busy = self.busy().await;
            while tasks.join_next().await.is_some() {}
            pacing.abort();
            Ok(busy)
        })
    }

    async fn busy(&self) -> f64 {
        let mut start = self.start.clone();
        let Ok(start) = start.wait_for(Option::is_some).await.map(|start| start.unwrap_or_default()) else {
            return 0.0;
        };
        let span = self.times.span(start);
        let mut times = [(); 2].map(|()| None);
        for (slot, time) in times.iter_mut().zip([span.from, span.until]) {
            tokio::time::sleep_until(self.clock.instant(time).into()).await;
            *slot = cpu::of_this_thread().map(|cpu| (cpu, self.clock.now()));
        }
        match times {
            [Some((before, from)), Some((after, until))] => {
                after.saturating_sub(before).as_secs_f64() / (until - from).as_secs_f64().max(1e-9)
            }
            _ => 0.0,
        }
    }
}

/// One connection's part of a job.
struct Part {
    prepared: Arc<Prepared>,
    load: Load,
    times: Times,
    seed: u64,
    clock: Clock,
    start: watch::Receiver<Option<Time>>,
    index: usize,
    alarm: Alarm,
    tally: Arc<Mutex<Tally>>,
}

impl Part {
    async fn run(mut self, opening: Arc<Semaphore>, opened: mpsc::UnboundedSender<Result<(), Refusal>>) {
        let Prepared { dialer, path, .. } = &*self.prepared;
        let permit = opening.acquire().await;
        let socket = match path {
            Some(path) => dialer.open(path).await,
            None => dialer.connect().await.map(|socket| (socket, Vec::new())),
        };
        drop(permit);
        let _ = opened.send(socket.as_ref().map(|_| ()).map_err(Clone::clone));
        drop(opened);
        let Ok(start) = self.start.wait_for(Option::is_some).await.map(|start| start.unwrap_or_default())
        else {
            return;
        };
        // Not before, or a closed loop would begin with what belongs to no span.
        let _ = std::future::poll_fn(|cx| self.alarm.poll_until(start, cx)).await;
        let span = self.times.span(start);
        let end = span.until + self.times.drain;
        let (schedule, depth) = self.schedule(start, span);
        let first = match self.prepared.script.answering {
            Answering::Each => self.index as u64,
            Answering::Windows(_) => 0,
        };
        let mut exchange = Exchange::new(Arc::clone(&self.prepared.script), schedule, depth, first);
        if let Ok((socket, rest)) = socket {
            let dialect = match self.prepared.path {
                Some(_) => Dialect::WebSocket(Fragments::default()),
                None => Dialect::Http,
            };
            let mut line = Line {
                socket,
                dialect,
                clock: self.clock,
                alarm: self.alarm,
                tally: &self.tally,
                inbox: Inbox::with(rest),
                out: Outbox::default(),
            };
            match line.run(&mut exchange, end).await {
                Ok(()) => {
                    let _ = tokio::time::timeout(FAREWELL, line.close()).await;
                }
                Err(failure) => self.tally.lock().broke(&failure.to_string()),
            }
        }
        // Of a connection that was refused or ended early, all that it was to send later is lost as well.
        exchange.finish(end, &mut self.tally.lock());
    }

    /// When this connection sends, and how much may be unanswered.
    fn schedule(&self, start: Time, span: Span) -> (Schedule, usize) {
        let Load { connections, pace } = self.load;
        let (index, count) = (self.index as f64, connections.max(1) as f64);
        let until = span.until;
        match pace {
            Pace::Closed { depth } => (Schedule::Closed { until }, depth),
            Pace::Open { rate, poisson: true, depth } => {
                let seed =
                    self.seed.wrapping_add((self.index as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
                (Schedule::Open(Arrivals::poisson(start, until, rate / count, seed)), depth)
            }
            Pace::Open { rate, poisson: false, depth } => {
                let first = start + Duration::from_secs_f64(index / rate);
                (Schedule::Open(Arrivals::even(first, until, rate / count)), depth)
            }
            Pace::RealTime { at_once } => {
                let Answering::Windows(windows) = self.prepared.script.answering else {
                    return (Schedule::Closed { until: start }, 1);
                };
                let rate = windows.rate as f64 / windows.piece.max(1) as f64;
                let turn = if at_once { 0.0 } else { index / count / rate };
                let more = if windows.rate == windows.model_rate { Duration::ZERO } else { LOOK_AHEAD };
                let first = start + Duration::from_secs_f64(turn);
                (Schedule::Open(Arrivals::even(first, until + more, rate)), usize::MAX)
            }
        }
    }
}
