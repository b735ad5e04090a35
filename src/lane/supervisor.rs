//! A lane that fails is started again.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::bounded;

use super::flights::{Flights, GivenUp};
use super::{Feed, Lane, Pipeline, scheduling};
use crate::clock::{Clock, Time};
use crate::error::{Code, Error, Result};
use crate::metrics::ModelMetrics;

/// Makes a lane's pipeline, warm, on the lane's own thread: what a device captures may belong to it. Called again when
/// the lane has failed.
pub type Make = Box<dyn FnMut() -> Result<Box<dyn Pipeline>> + Send>;

/// A lane, and what it takes to have it again.
pub struct Supervisor {
    pub name: String,
    pub feed: Arc<Feed>,
    pub make: Make,
    pub clock: Clock,
    pub metrics: Arc<ModelMetrics>,
}

impl Supervisor {
    /// Of a lane that has one pipeline, and stays away once it has failed.
    pub fn of_one(
        pipeline: impl Pipeline + 'static,
        feed: Arc<Feed>,
        clock: Clock,
        metrics: Arc<ModelMetrics>,
    ) -> Self {
        let mut only = Some(Box::new(pipeline) as Box<dyn Pipeline>);
        let make = move || only.take().ok_or_else(|| Error::new(Code::Internal, "there is no other"));
        Self { name: "lane".into(), feed, make: Box::new(make), clock, metrics }
    }

    /// Starts the lane's thread and waits until it is warm. It ends when its queue has no producer left and is empty, or
    /// when it fails too often.
    pub fn start(self) -> Result<JoinHandle<()>> {
        let (ready, warm) = bounded(1);
        let cannot =
            |why: &str| Error::new(Code::Internal, format!("the lane's thread cannot be started: {why}"));
        let thread = thread::Builder::new().name(self.name.clone()).spawn(move || {
            scheduling::yield_to_others();
            let mut supervisor = self;
            match (supervisor.make)() {
                Ok(pipeline) => {
                    // Before anyone can ask whether it is.
                    let post = Post::take(&supervisor);
                    post.begin(&*pipeline);
                    if ready.send(Ok(())).is_ok() {
                        supervisor.watch(pipeline, &post);
                    }
                }
                // Nobody is there to hear it only if the one who starts has gone.
                Err(error) => drop(ready.send(Err(error))),
            }
        });
        let thread = thread.map_err(|error| cannot(&error.to_string()))?;
        warm.recv().map_err(|_| cannot("it ended while it was warming up"))??;
        Ok(thread)
    }

    fn watch(mut self, mut pipeline: Box<dyn Pipeline>, post: &Post) {
        let mut restarts = Restarts::default();
        loop {
            let (feed, flights) = (Arc::clone(&self.feed), Arc::clone(&post.flights));
            let lane = Lane::new(feed, flights, pipeline, self.clock, Arc::clone(&self.metrics));
            // What the lane owned goes with it.
            match catch_unwind(AssertUnwindSafe(|| lane.work())) {
                Ok(Ok(())) => return,
                Ok(Err(GivenUp)) => {
                    tracing::warn!(lane = self.name, "is back from a run that was given up");
                    // It may have taken requests out of the queue meanwhile.
                    self.feed.left();
                }
                Err(_) => {
                    if let Some(requests) = post.flights.lost() {
                        self.metrics.lane_failed();
                        // Which answers them.
                        drop(requests);
                        self.feed.left();
                    }
                }
            }
            if !restarts.allow(self.clock.now()) {
                tracing::error!(lane = self.name, "has failed too often, and stays away");
                return;
            }
            match (self.make)() {
                Ok(made) => pipeline = made,
                Err(error) => {
                    tracing::error!(lane = self.name, %error, "has failed, and cannot be started again");
                    return;
                }
            }
            post.begin(&*pipeline);
            tracing::warn!(lane = self.name, "has failed, and was started again");
        }
    }
}

/// A lane's place among those of its model, as long as it has a thread.
struct Post {
    feed: Arc<Feed>,
    flights: Arc<Flights>,
}

impl Post {
    fn take(supervisor: &Supervisor) -> Self {
        let feed = Arc::clone(&supervisor.feed);
        Self { flights: feed.enlist(&supervisor.name), feed }
    }

    fn begin(&self, pipeline: &dyn Pipeline) {
        self.flights.begin(self.feed.up(), pipeline.halt());
    }
}

impl Drop for Post {
    fn drop(&mut self) {
        self.flights.end();
    }
}

/// How often a lane may be started again: a model that fails at everything should not keep the machine busy.
#[derive(Debug, Default)]
struct Restarts(VecDeque<Time>);

impl Restarts {
    const MOST: usize = 10;
    const WITHIN: Duration = Duration::from_secs(60);

    fn allow(&mut self, now: Time) -> bool {
        self.0.retain(|&time| now - time < Self::WITHIN);
        self.0.push_back(now);
        self.0.len() <= Self::MOST
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lane_is_started_again_ten_times_a_minute() {
        let at = |seconds: u64| Time::from_nanos(seconds * 1_000_000_000);
        let mut restarts = Restarts::default();
        assert!((0..10).all(|second| restarts.allow(at(second))));
        assert!(!restarts.allow(at(59)));
        let mut restarts = Restarts::default();
        assert!((0..100).all(|n| restarts.allow(at(7 * n))), "now and then is no reason to give up");
    }
}
