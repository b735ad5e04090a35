//! A model instance at work: one thread that owns a [`Pipeline`].
//!
//! The lanes of a model share its [`Feed`]. A lane takes a batch when its pipeline has room, sends it on its way, and
//! when it has landed hands every request its rows of the shared output. A batch that fails is run again in halves, so
//! that only the request that makes it fail is answered with the error.

mod cuda;
mod feed;
mod pacing;
mod pipeline;
mod scheduling;
mod supervisor;
mod warmup;

use std::collections::VecDeque;
use std::sync::Arc;

pub use cuda::Cuda;
pub use feed::Feed;
use feed::Taken;
use pacing::Pacing;
pub use pipeline::{Host, Landed, Pipeline};
pub use supervisor::{Make, Supervisor};
pub use warmup::WarmUp;

use crate::batcher::Bisect;
use crate::clock::{Clock, Time};
use crate::error::{Code, Error, Result};
use crate::metrics::ModelMetrics;
use crate::queue::Request;
use crate::reply::Wakes;
use crate::tensor::{BatchOutput, Rows};

struct Lane {
    feed: Arc<Feed>,
    pipeline: Box<dyn Pipeline>,
    clock: Clock,
    metrics: Arc<ModelMetrics>,
    /// Batches under way, oldest first.
    flights: VecDeque<Flight>,
    pacing: Pacing,
    last_landing: Time,
}

/// A batch under way.
struct Flight {
    batch: Vec<Request>,
    rows: usize,
    taken: Time,
    gathered: Time,
}

impl Lane {
    fn new(feed: Arc<Feed>, pipeline: Box<dyn Pipeline>, clock: Clock, metrics: Arc<ModelMetrics>) -> Self {
        let flights = VecDeque::with_capacity(pipeline.depth());
        Self {
            feed,
            pipeline,
            clock,
            metrics,
            flights,
            pacing: Pacing::default(),
            last_landing: Time::default(),
        }
    }

    /// Works until its queue has no producer left and is empty.
    fn work(mut self) {
        loop {
            if self.pipeline.landings().try_recv().is_ok() {
                self.deliver();
            } else if self.flights.len() >= self.pipeline.depth() {
                self.await_landing();
            } else {
                match self.feed.next(self.patience(), self.pipeline.landings()) {
                    Taken::Batch(batch) => self.launch(batch),
                    Taken::Landing => self.deliver(),
                    Taken::Closed => break,
                }
            }
        }
        while !self.flights.is_empty() {
            self.await_landing();
        }
    }

    /// Until when the next batch may grow, because the device is busy with another.
    fn patience(&self) -> Option<Time> {
        if self.flights.is_empty() { None } else { self.pacing.close_at() }
    }

    fn launch(&mut self, batch: Vec<Request>) {
        let batch = self.with_state(batch);
        if batch.is_empty() {
            return;
        }
        let mut parts = Bisect::new(batch);
        while let Some(part) = parts.next() {
            while self.flights.len() >= self.pipeline.depth() {
                self.await_landing();
            }
            if let Err((part, error)) = self.send(part) {
                self.metrics.run_failed();
                if let Some(culprit) = parts.failed(part) {
                    culprit.ticket.refuse(error);
                }
            }
        }
    }

    /// The requests whose state is here; the others are refused.
    fn with_state(&self, batch: Vec<Request>) -> Vec<Request> {
        let lost = |request: &Request| request.slot.is_some_and(|slot| !self.pipeline.holds(slot));
        if !batch.iter().any(lost) {
            return batch;
        }
        let (lost, batch): (Vec<_>, Vec<_>) = batch.into_iter().partition(lost);
        for request in lost {
            let message =
                "the state is gone, since the model's instance or the first step failed; begin anew";
            request.ticket.refuse(Error::new(Code::StateLost, message));
        }
        batch
    }

    /// Sends a batch on its way, or gives it back with what went wrong.
    fn send(&mut self, batch: Vec<Request>) -> Result<(), (Vec<Request>, Error)> {
        let rows = batch.iter().map(|request| request.rows).sum();
        let taken = self.clock.now();
        if let Err(error) = self.gather(&batch, rows) {
            return Err((batch, error));
        }
        let gathered = self.clock.now();
        if let Err(error) = self.pipeline.launch() {
            return Err((batch, error));
        }
        self.pacing.launched(rows, taken, self.clock.now(), !self.flights.is_empty());
        self.flights.push_back(Flight { batch, rows, taken, gathered });
        Ok(())
    }

    fn gather(&mut self, batch: &[Request], rows: usize) -> Result<()> {
        if let Some(first) = batch.first() {
            self.pipeline.begin(rows, &first.key)?;
        }
        batch.iter().try_for_each(|request| self.pipeline.put(request.rows, &request.payloads, request.slot))
    }

    fn await_landing(&mut self) {
        // The pipeline owns the other end, so that this ends with a landing.
        let _ = self.pipeline.landings().recv();
        self.deliver();
    }

    /// Answers all requests of the oldest batch under way, which has landed.
    fn deliver(&mut self) {
        let Some(Flight { batch, rows, taken, gathered }) = self.flights.pop_front() else { return };
        let result = self.pipeline.land();
        let landed = self.clock.now();
        // Behind another batch it ran only once that had landed.
        let run = landed - gathered.max(self.last_landing);
        self.last_landing = landed;
        self.pacing.landed(rows, gathered, landed);
        match result {
            Ok(Landed { output, times }) => {
                // Counted before anyone is answered: who has an answer also finds it in the statistics.
                self.metrics.ran(rows, gathered - taken, run);
                if let Some((times, graph)) = times {
                    let stages = [times.upload, times.compute, times.download];
                    let bytes = [times.bytes_up, times.bytes_down];
                    self.metrics.on_device().ran(stages, bytes, times.padded_rows, graph);
                }
                scatter(batch, &Arc::new(output));
                self.metrics.scattered(self.clock.now() - landed);
            }
            Err(error) => {
                self.metrics.run_failed();
                batch.into_iter().for_each(|request| request.ticket.refuse(error.clone()));
            }
        }
    }
}

/// Gives every request its rows and wakes each connection once.
fn scatter(batch: Vec<Request>, output: &Arc<BatchOutput>) {
    let mut wakes = Wakes::default();
    let mut start = 0;
    for request in batch {
        let rows = Rows { output: Arc::clone(output), start, count: request.rows };
        start += request.rows;
        request.ticket.answer(Ok(rows), &mut wakes);
    }
}
