//! Runs that take too long are given up, from outside the lanes: one that hangs can say nothing.

use std::sync::Arc;
use std::time::Duration;

use super::Feed;
use super::flights::{Flights, Late};
use crate::clock::Time;

impl Feed {
    /// Gives up the runs that have taken so long; their requests are answered, and so is what no lane is left for.
    pub fn give_up_runs(&self, now: Time, after: Duration) -> Vec<Late> {
        let lanes = self.lanes.lock().clone();
        let late = |lane: &Arc<Flights>| {
            let late = lane.give_up(now, after, || self.metrics.run_given_up())?;
            self.left();
            Some(late)
        };
        lanes.iter().filter_map(late).collect()
    }

    /// The place of a lane that is about to be started.
    pub(super) fn enlist(&self, name: &str) -> Arc<Flights> {
        let flights = Arc::new(Flights::new(name.to_owned()));
        self.lanes.lock().push(Arc::clone(&flights));
        flights
    }
}
