//! A model instance at work: one thread that owns a [`Pipeline`].
//!
//! The lanes of a model share its [`Feed`]. A lane takes a batch when its pipeline has room, sends it on its way, and
//! when it has landed hands every request its rows of the shared output. A batch that fails is run again in halves, so
//! that only the request that makes it fail is answered with the error. What is under way lies in [`flights`], where a
//! watchdog takes it from a lane whose run takes too long.

mod cores;
mod cuda;
mod feed;
mod flights;
mod pacing;
mod pipeline;
mod scheduling;
mod supervisor;
mod traced;
mod warmup;
mod watchdog;

use std::sync::Arc;

pub use cores::{Computing, Cores};
pub use cuda::Cuda;
pub use feed::Feed;
use feed::Taken;
pub use flights::Late;
use flights::{Flight, Flights, GivenUp};
use pacing::Pacing;
pub use pipeline::{Host, Landed, Pipeline};
pub use supervisor::{Make, Supervisor};
pub use traced::{Flown, Trace, Traced};
pub use warmup::WarmUp;

use crossbeam_channel::{never, select};

use crate::clock::{Clock, Time};
use crate::error::{Code, Error, Result};
use crate::metrics::ModelMetrics;
use crate::queue::Request;
use crate::reply::Wakes;
use crate::tensor::{BatchOutput, Rows, Stages};

struct Lane {
    feed: Arc<Feed>,
    pipeline: Box<dyn Pipeline>,
    clock: Clock,
    metrics: Arc<ModelMetrics>,
    /// Batches under way, and their number.
    flights: Arc<Flights>,
    under_way: usize,
    pacing: Pacing,
}

impl Lane {
    fn new(
        feed: Arc<Feed>,
        flights: Arc<Flights>,
        pipeline: Box<dyn Pipeline>,
        clock: Clock,
        metrics: Arc<ModelMetrics>,
    ) -> Self {
        Self { feed, pipeline, clock, metrics, flights, under_way: 0, pacing: Pacing::default() }
    }

    /// Works until its queue has no producer left and is empty, or the lane is given up.
    fn work(mut self) -> Result<(), GivenUp> {
        loop {
            if self.pipeline.landings().try_recv().is_ok() {
                self.deliver()?;
            } else if self.under_way >= self.pipeline.depth() {
                self.await_landing()?;
            } else {
                // Only a run can be given up.
                let call = if self.under_way == 0 { &never() } else { self.flights.call() };
                match self.feed.next(self.patience(), self.pipeline.landings(), call) {
                    Taken::Batch(batch) => self.launch(batch)?,
                    Taken::Landing => self.deliver()?,
                    Taken::Call => return Err(GivenUp),
                    Taken::Closed => break,
                }
            }
        }
        while self.under_way > 0 {
            self.await_landing()?;
        }
        Ok(())
    }

    /// Until when the next batch may grow, because the device is busy with another.
    fn patience(&self) -> Option<Time> {
        if self.under_way == 0 { None } else { self.pacing.close_at() }
    }

    /// Launches a batch for which there is room; if it fails, its halves, as there is room for each.
    fn launch(&mut self, batch: Vec<Request>) -> Result<(), GivenUp> {
        let mut part = self.with_state(batch);
        if part.is_empty() {
            return Ok(());
        }
        while self.send(part)? {
            while self.under_way >= self.pipeline.depth() {
                self.await_landing()?;
            }
            part = self.flights.part()?;
        }
        Ok(())
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
            request.refuse(Error::new(Code::StateLost, message));
        }
        batch
    }

    /// Sends a batch on its way. Whether there is more to send of the one that it is a part of, or was until it failed.
    fn send(&mut self, batch: Vec<Request>) -> Result<bool, GivenUp> {
        let rows = batch.iter().map(|request| request.rows).sum();
        let taken = self.clock.now();
        if let Err(error) = self.gather(&batch, rows) {
            return self.failed(batch, error);
        }
        let gathered = self.clock.now();
        // Before it runs: it may never come back.
        let computing = self.pipeline.compute();
        let more =
            self.flights.depart(Flight { batch, rows, taken, gathered, begun: gathered, computing })?;
        if let Err(error) = self.pipeline.launch() {
            return self.failed(self.flights.recall()?, error);
        }
        self.pacing.launched(rows, taken, self.clock.now(), self.under_way > 0);
        self.under_way += 1;
        Ok(more)
    }

    fn failed(&self, batch: Vec<Request>, error: Error) -> Result<bool, GivenUp> {
        self.metrics.run_failed();
        let (culprit, more) = self.flights.failed(batch)?;
        if let Some(culprit) = culprit {
            culprit.refuse(error);
        }
        Ok(more)
    }

    fn gather(&mut self, batch: &[Request], rows: usize) -> Result<()> {
        if let Some(first) = batch.first() {
            self.pipeline.begin(rows, &first.key)?;
        }
        batch.iter().try_for_each(|request| self.pipeline.put(request.rows, &request.payloads, request.slot))
    }

    fn await_landing(&mut self) -> Result<(), GivenUp> {
        // The pipeline owns the other end, so that this ends with a landing.
        select! {
            recv(self.pipeline.landings()) -> _ => self.deliver(),
            recv(self.flights.call()) -> _ => Err(GivenUp),
        }
    }

    /// Answers all requests of the oldest batch under way, which has landed.
    fn deliver(&mut self) -> Result<(), GivenUp> {
        if self.under_way == 0 {
            return Ok(());
        }
        let result = self.pipeline.land();
        let landed = self.clock.now();
        // Of a lane that was given up, what has landed is too late for everybody.
        let Flight { batch, rows, taken, gathered, begun, computing } = self.flights.landed(landed)?;
        self.under_way -= 1;
        let run = landed - begun;
        self.pacing.landed(rows, gathered, landed);
        match result {
            Ok(Landed { mut output, times }) => {
                output.stages = Some(Stages { taken, gathered, begun, landed, rows });
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
                batch.into_iter().for_each(|request| request.refuse(error.clone()));
            }
        }
        // Whoever waits for the end of a run finds its answers then.
        drop(computing);
        Ok(())
    }
}

/// Gives every request its rows and wakes each connection once.
fn scatter(batch: Vec<Request>, output: &Arc<BatchOutput>) {
    let mut wakes = Wakes::default();
    let mut start = 0;
    for request in batch {
        let rows = Rows { output: Arc::clone(output), start, count: request.rows };
        start += request.rows;
        request.answer(Ok(rows), &mut wakes);
    }
}
