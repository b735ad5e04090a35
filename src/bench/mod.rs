//! A load tester for users: it counts from the time at which a request was due, and forgets no answer.
//!
//! [`run`] carries out a [`Plan`] and returns a [`Report`]. What decides and counts (`schedule`, `exchange`, `tally`)
//! knows neither sockets nor clocks; `connection` moves the bytes, `worker` is a thread of it and `step` all threads.

mod audio;
mod connection;
mod cpu;
mod exchange;
mod frame;
mod http;
mod judge;
mod meter;
mod pacer;
mod page;
mod plan;
mod plot;
mod prepare;
mod progress;
mod reference;
mod report;
mod request;
mod schedule;
mod script;
mod search;
mod socket;
mod step;
mod steps;
mod table;
mod talk;
mod tally;
#[cfg(test)]
mod tests;
mod tls;
mod worker;

use std::sync::Arc;

pub use page::page;
pub use plan::{
    Address, Check, Form, Goal, Load, Metering, Pace, Payload, Plan, Reference, Sought, Target, Times, Trust,
};
pub use progress::Progress;
pub use report::{Report, Step, read as read_report};
pub use table::{head, line, notes, summary};
pub use tls::config as client_config;

use crate::clock::Clock;
use meter::Meter;
use steps::Steps;

/// Why nothing could be measured, in a sentence.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Why a connection cannot go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the server sent {0}")]
pub struct Broken(String);

impl Broken {
    pub fn new(what: &str) -> Self {
        Self(what.to_owned())
    }
}

/// Measures all that a plan asks for, one step after the other.
pub async fn run(
    plan: &Plan,
    clock: Clock,
    mut progress: impl FnMut(Progress<'_>),
    mut done: impl FnMut(&Step),
) -> Result<Report, Failure> {
    let prepared = Arc::new(prepare::prepare(plan).await?);
    let meter = Arc::new(Meter::new(plan, clock).await?);
    let mut report = Report::new(plan, clock);
    let mut steps = Steps::new(plan, &prepared.script)?;
    while let Some(load) = steps.next() {
        let outcome = step::run(plan, &prepared, load, &meter, clock, &mut progress).await?;
        let step = Step::new(&outcome, plan.search.as_ref());
        steps.tell(&step);
        done(&step);
        report.steps.push(step);
    }
    report.search = steps.found();
    Ok(report)
}
