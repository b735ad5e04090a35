//! One step: its threads, the moment at which all of them begin, and what they have seen together.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};

use super::meter::{Meter, Reading};
use super::plan::{Load, Plan};
use super::prepare::Prepared;
use super::tally::{Span, Tally};
use super::worker::Job;
use super::{Failure, Progress};
use crate::clock::{Clock, Time};

/// Between the last handshake and the first request.
const AHEAD: Duration = Duration::from_millis(20);

/// What a step has brought.
pub struct Outcome {
    pub load: Load,
    pub tally: Tally,
    pub opened: usize,
    /// Connections that did not open, by code, and the sentence of one of them.
    pub refused: BTreeMap<String, u64>,
    pub why: Option<String>,
    /// How busy each thread was in the span, of 1.
    pub busy: Vec<f64>,
    /// The server's counters, from the beginning to the end of the span.
    pub readings: Vec<Reading>,
}

type Worker = JoinHandle<Result<f64, String>>;

/// Runs a step, and tells of it each second.
pub async fn run(
    plan: &Plan,
    prepared: &Arc<Prepared>,
    load: Load,
    meter: &Arc<Meter>,
    clock: Clock,
    progress: &mut impl FnMut(Progress<'_>),
) -> Result<Outcome, Failure> {
    let nowhere = Span { from: Time::default(), until: Time::default() };
    let threads = plan.threads.clamp(1, load.connections.max(1));
    let (begin, start) = watch::channel(None);
    let (opened, mut openings) = mpsc::unbounded_channel();
    let mut workers: Vec<Worker> = Vec::new();
    let mut tallies = Vec::new();
    for thread in 0..threads {
        let tally = Arc::new(Mutex::new(Tally::new(nowhere)?));
        tallies.push(Arc::clone(&tally));
        let job = Job {
            prepared: Arc::clone(prepared),
            load,
            times: plan.times,
            seed: plan.seed,
            clock,
            start: start.clone(),
            opened: opened.clone(),
        };
        let mine: Vec<usize> = (thread..load.connections).step_by(threads).collect();
        let work = move || job.run(&mine, &tally).map_err(|failure| failure.to_string());
        workers.push(std::thread::Builder::new().name(format!("bench-{thread}")).spawn(work)?);
    }
    drop(opened);

    let (mut open, mut refused, mut why) = (0, BTreeMap::<String, u64>::new(), None);
    while open + refused.values().sum::<u64>() < load.connections as u64 {
        // A thread that ends early has failed, which it tells when it is joined.
        match openings.recv().await {
            Some(Ok(())) => open += 1,
            Some(Err(refusal)) => {
                *refused.entry(refusal.code).or_default() += 1;
                why.get_or_insert(refusal.why);
            }
            None => break,
        }
    }
    let start = clock.now() + AHEAD;
    let span = plan.times.span(start);
    tallies.iter().for_each(|tally| tally.lock().span = span);
    let _ = begin.send(Some(start));
    let readings = Arc::new(Mutex::new(Vec::new()));
    let metering = tokio::spawn(Arc::clone(meter).watch(span, Arc::clone(&readings)));

    let end = span.until + plan.times.drain + Duration::from_secs(2);
    let mut second = 0;
    while clock.now() < end && !workers.iter().all(JoinHandle::is_finished) {
        let next = (start + Duration::from_secs(second + 1)).min(end);
        while clock.now() < next && !workers.iter().all(JoinHandle::is_finished) {
            let soon = next.min(clock.now() + Duration::from_millis(50));
            tokio::time::sleep_until(clock.instant(soon).into()).await;
        }
        second += 1;
        if let Some(merged) = merge(&tallies) {
            progress(Progress { load: &load, now: clock.now(), span, tally: &merged });
        }
    }
    // The last reading is due at the end of the span; where all connections broke long before, it is not waited for.
    if span.until - clock.now() > Duration::from_secs(2) {
        metering.abort();
    }
    let _ = metering.await;
    let readings = std::mem::take(&mut *readings.lock());
    let mut busy = Vec::new();
    for worker in workers {
        match worker.join() {
            Ok(used) => busy.push(used?),
            Err(_) => return Err("a thread of the client has failed".into()),
        }
    }
    let tally = merge(&tallies).ok_or("there is no thread")?;
    let opened = usize::try_from(open)?;
    Ok(Outcome { load, tally, opened, refused, why, busy, readings })
}

fn merge(tallies: &[Arc<Mutex<Tally>>]) -> Option<Tally> {
    let (first, others) = tallies.split_first()?;
    let mut merged = first.lock().clone();
    others.iter().for_each(|other| merged.merge(&other.lock()));
    Some(merged)
}
