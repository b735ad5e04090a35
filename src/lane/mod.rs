//! A model instance at work: one thread that owns a device and a running model.
//!
//! The lanes of a model share its [`Feed`]. Each takes a batch when it is free, gathers it, runs it, and
//! hands every request its rows of the shared output. A batch that fails is run again in halves, so that
//! only the request that makes it fail is answered with the error.

mod feed;
mod scheduling;
mod warmup;

use std::sync::Arc;
use std::thread::{self, JoinHandle};

pub use feed::Feed;

use crate::batcher::Bisect;
use crate::clock::Clock;
use crate::device::Device;
use crate::engine::Running;
use crate::error::{Code, Error, Result};
use crate::metrics::ModelMetrics;
use crate::queue::Request;
use crate::reply::Wakes;
use crate::tensor::{BatchOutput, Rows, Signature};

pub struct Lane {
    pub feed: Arc<Feed>,
    pub device: Box<dyn Device>,
    pub model: Box<dyn Running>,
    pub clock: Clock,
    pub metrics: Arc<ModelMetrics>,
}

impl Lane {
    /// Runs batches of zeros, so that the first clients do not pay for lazy set-up.
    pub fn warm_up(&mut self, signature: &Signature, batch_sizes: &[usize]) -> Result<()> {
        batch_sizes
            .iter()
            .try_for_each(|&rows| warmup::run(&mut *self.device, &mut *self.model, signature, rows))
    }

    /// Starts the lane's thread, which ends when its queue has no producer left and is empty.
    pub fn spawn(self, name: String) -> std::io::Result<JoinHandle<()>> {
        thread::Builder::new().name(name).spawn(move || self.work())
    }

    fn work(mut self) {
        scheduling::yield_to_others();
        while let Some(batch) = self.feed.next() {
            let mut parts = Bisect::new(batch);
            while let Some(part) = parts.next() {
                if let Err((part, error)) = self.run(part) {
                    self.metrics.run_failed();
                    if let Some(culprit) = parts.failed(part) {
                        culprit.ticket.refuse(error);
                    }
                }
            }
        }
    }

    /// Answers all requests of a batch, or gives them back with what went wrong.
    fn run(&mut self, batch: Vec<Request>) -> Result<(), (Vec<Request>, Error)> {
        let rows = batch.iter().map(|request| request.rows).sum();
        let start = self.clock.now();
        if let Err(error) = self.gather(&batch, rows) {
            return Err((batch, error));
        }
        let gathered = self.clock.now();
        let output = self.model.run(&self.device.inputs());
        let output = output.and_then(|output| {
            check(&output, rows)?;
            self.device.keep(&output)?;
            Ok(output)
        });
        let output = match output {
            Ok(output) => Arc::new(output),
            Err(error) => return Err((batch, error)),
        };
        let ran = self.clock.now();
        // Counted before anyone is answered: who has an answer also finds it in the statistics.
        self.metrics.ran(rows, gathered - start, ran - gathered);
        scatter(batch, &output);
        self.metrics.scattered(self.clock.now() - ran);
        Ok(())
    }

    fn gather(&mut self, batch: &[Request], rows: usize) -> Result<()> {
        if let Some(first) = batch.first() {
            self.device.begin(rows, &first.key)?;
        }
        batch.iter().try_for_each(|request| self.device.put(request.rows, &request.payloads, request.slot))
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

/// A model whose output has other rows than its input would mix up its clients.
fn check(output: &BatchOutput, rows: usize) -> Result<()> {
    match output.columns.iter().find_map(|column| column.rows().filter(|&found| found != rows)) {
        Some(found) => {
            let message = format!("the model gave {found} rows for a batch of {rows}");
            Err(Error::new(Code::InferenceFailed, message))
        }
        None => Ok(()),
    }
}
