//! Lanes with all the work that they can take, from memory: what they get out of a model, without a socket.

use std::sync::Arc;
use std::task::{Context, Wake, Waker};
use std::thread::Thread;
use std::time::Duration;

use super::Wrong;
use super::batch::Batch;
use crate::batcher::Policy;
use crate::clock::{Clock, Time};
use crate::lane::{Feed, Flown, Supervisor, Trace, Traced};
use crate::metrics::Metrics;
use crate::queue::{self, Draft, Memory, Places, Producer};
use crate::registry::{Blueprint, Home};
use crate::reply::Mailbox;
use crate::streams::Slot;
use crate::tensor::{GroupKey, Payload};

/// Different requests.
const REQUESTS: usize = 64;
/// Batches that are written down of a timeline.
const TRACED: usize = 200;
/// Of the time, before anything counts.
const WARM_UP: u32 = 4;
/// Who waits for this has found a lost wake or a lost answer.
const STUCK: Duration = Duration::from_secs(60);

/// What lanes are to be fed, and for how long.
#[derive(Debug, Clone, Copy)]
pub struct Feeding {
    pub instances: usize,
    /// Of a full batch.
    pub rows: usize,
    /// Batches that one instance may have under way.
    pub in_flight: usize,
    pub time: Duration,
    pub seed: u64,
}

/// What the lanes did.
#[derive(Debug, Clone)]
pub struct Fed {
    /// Whether all of them replay CUDA graphs.
    pub graphs: bool,
    pub rows_per_second: f64,
    pub mean_batch: f64,
    /// CPU time of a row, on all threads, also of the one that feeds.
    pub cpu: Duration,
    /// What the lanes had taken, by the word of who knows the device.
    pub taken: (usize, usize),
    /// The first batches behind the warm-up.
    pub flown: Vec<Flown>,
}

/// What one queue has had answered, from the first landing that counts to the last.
struct Count {
    rows: usize,
    batches: f64,
    first: Option<Time>,
    last: Time,
}

/// Starts lanes as a server does, and keeps more requests of one row in their queues than they can have under way.
pub fn feed(
    blueprint: &Arc<Blueprint>,
    home: &Home,
    feeding: &Feeding,
    clock: Clock,
    taken: impl Fn() -> (usize, usize),
) -> Result<Fed, String> {
    go(blueprint, home, feeding, clock, &taken).map_err(|Wrong(why)| why)
}

fn go(
    blueprint: &Arc<Blueprint>,
    home: &Home,
    feeding: &Feeding,
    clock: Clock,
    taken: &dyn Fn() -> (usize, usize),
) -> Result<Fed, Wrong> {
    let signature = &blueprint.derived.signature;
    let keeps_state = !signature.states.is_empty();
    // As in a server: lanes with state have queues of their own.
    let queues = if keeps_state { feeding.instances } else { 1 };
    let lanes = feeding.instances / queues;
    let places = (feeding.in_flight * lanes + 2) * feeding.rows;
    let metrics = Metrics::new()?.model("fed", "1");
    let trace = Trace::new(clock);
    let (mut producers, mut threads, mut graphs) = (Vec::new(), Vec::new(), true);
    for queue in 0..queues {
        let (producer, requests) = queue::channel(Places::new(places), Memory::new(usize::MAX));
        let policy = Policy {
            max_batch_size: feeding.rows,
            preferred_batch_size: Vec::new(),
            max_queue_delay: Duration::ZERO,
            priority_levels: 1,
        };
        let feed = Feed::new(requests, policy, clock, Arc::clone(&metrics));
        for lane in 0..lanes {
            let index = queue * lanes + lane;
            let (blueprint, home, trace) = (Arc::clone(blueprint), home.clone(), Arc::clone(&trace));
            let captured = Arc::new(parking_lot::Mutex::new(false));
            let told = Arc::clone(&captured);
            let make = move || {
                let (pipeline, graphs) = blueprint.make(&home)?;
                *told.lock() = graphs;
                Ok(Box::new(Traced::new(pipeline, Arc::clone(&trace), index)) as Box<_>)
            };
            let (feed, metrics) = (Arc::clone(&feed), Arc::clone(&metrics));
            let name = format!("lane-{index}");
            threads.push(Supervisor { name, feed, make: Box::new(make), clock, metrics }.start()?);
            graphs &= *captured.lock();
        }
        producers.push(producer);
    }
    let requests: Vec<_> = (0..REQUESTS as u64)
        .map(|index| Batch::seeded(signature, 1, feeding.seed.wrapping_add(index)))
        .collect();
    let requests: Vec<_> = requests.iter().map(Batch::request).collect();

    let taken = taken();
    let from = clock.now() + feeding.time / WARM_UP;
    let end = from + feeding.time;
    let cpu = clock.cpu();
    let counts = std::thread::scope(|scope| {
        let requests = &requests;
        let feeder = |producer: Producer| {
            let feeder = Feeder { producer, requests, places, keeps_state, clock };
            scope.spawn(move || feeder.run(from, end).map_err(|Wrong(why)| why))
        };
        let feeders: Vec<_> = producers.into_iter().map(feeder).collect();
        while clock.now() < from {
            std::thread::park_timeout(from - clock.now());
        }
        trace.begin(TRACED);
        let join = |feeder: std::thread::ScopedJoinHandle<'_, Result<Count, String>>| {
            feeder.join().unwrap_or_else(|_| Err("a thread that feeds has panicked".to_owned()))
        };
        feeders.into_iter().map(join).collect::<Result<Vec<_>, String>>()
    })?;
    let cpu = clock.cpu().saturating_sub(cpu);
    threads.into_iter().try_for_each(|thread| thread.join()).map_err(|_| "a lane died")?;

    let all: usize = counts.iter().map(|count| count.rows).sum();
    let batches: f64 = counts.iter().map(|count| count.batches).sum();
    if all == 0 {
        return Err("fewer than two batches landed in that time: measure for longer".into());
    }
    let answered = u32::try_from(all).unwrap_or(u32::MAX).max(1);
    #[allow(clippy::cast_precision_loss, reason = "rates are rounded")]
    Ok(Fed {
        graphs,
        rows_per_second: counts.iter().map(Count::rate).sum(),
        mean_batch: all as f64 / batches.max(1.0),
        // Of the warm-up too, which took its share.
        cpu: cpu * WARM_UP / (WARM_UP + 1) / answered,
        taken,
        flown: trace.flown(),
    })
}

impl Count {
    #[allow(clippy::cast_precision_loss, reason = "a rate is rounded")]
    fn rate(&self) -> f64 {
        let time = self.first.map_or(Duration::ZERO, |first| self.last - first);
        self.rows as f64 / time.max(Duration::from_nanos(1)).as_secs_f64()
    }
}

/// Wakes the thread that waits for answers.
struct Bell(Thread);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

struct Feeder<'a> {
    producer: Producer,
    requests: &'a [(&'a GroupKey, &'a [Payload])],
    places: usize,
    keeps_state: bool,
    clock: Clock,
}

impl Feeder<'_> {
    fn run(self, from: Time, end: Time) -> Result<Count, Wrong> {
        let waker = Waker::from(Arc::new(Bell(std::thread::current())));
        let mailbox = Mailbox::<usize>::new(self.places);
        (0..self.places).for_each(|place| self.ask(place, &mailbox, false));
        let mut count = Count { rows: 0, batches: 0.0, first: None, last: from };
        let mut unanswered = self.places;
        let mut ready = Vec::new();
        while unanswered > 0 {
            let stuck = self.clock.now() + STUCK;
            while mailbox.poll_answers(&mut Context::from_waker(&waker), &mut ready).is_pending() {
                let now = self.clock.now();
                if now >= stuck {
                    return Err(format!("{unanswered} requests were never answered").into());
                }
                std::thread::park_timeout(stuck - now);
            }
            let again = self.clock.now() < end;
            for (place, answer) in ready.drain(..) {
                let rows = answer?;
                if let Some(stages) = rows.output.stages {
                    count.add(stages.landed, stages.rows, from, end);
                }
                if again {
                    self.ask(place, &mailbox, true);
                } else {
                    unanswered -= 1;
                }
            }
        }
        Ok(count)
    }

    fn ask(&self, place: usize, mailbox: &Arc<Mailbox<usize>>, begun: bool) {
        let Some((key, payloads)) = self.requests.get(place % self.requests.len().max(1)) else { return };
        let slot = Slot { index: place, generation: 1, begun };
        let draft = Draft {
            payloads: payloads.iter().cloned().collect(),
            rows: 1,
            key: (*key).clone(),
            slot: self.keeps_state.then_some(slot),
            priority: 0,
            enqueued: self.clock.now(),
            deadline: None,
        };
        self.producer.submit(draft, mailbox.issue(place));
    }
}

impl Count {
    /// A row of a batch of so many has landed. What the first batch brings began before, and does not count.
    #[allow(clippy::cast_precision_loss, reason = "a batch is small")]
    fn add(&mut self, landed: Time, of: usize, from: Time, end: Time) {
        if landed < from || landed >= end {
            return;
        }
        let first = *self.first.get_or_insert(landed);
        if landed > first {
            self.rows += 1;
            self.batches += 1.0 / of.max(1) as f64;
            self.last = self.last.max(landed);
        }
    }
}
