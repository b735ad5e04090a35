//! Random schedules against the batcher, with every decision judged by the rules written out once more, naively.
//!
//! A seed replays its schedule: `THALWEG_SEED=7 cargo test --test batcher_schedules`.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::ops::AddAssign;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;

use fastrand::Rng;
use thalweg::batcher::{Batcher, Bisect, Dropped, Entry, Next, Policy, Want};
use thalweg::clock::Time;
use thalweg::tensor::GroupKey;

const SEEDS: u64 = 400;

#[test]
fn every_schedule_keeps_the_rules() {
    #[allow(clippy::disallowed_methods, reason = "the seed to replay")]
    let chosen = std::env::var("THALWEG_SEED").ok();
    if let Some(seed) = chosen {
        run(seed.parse().expect("THALWEG_SEED is a number"));
        return;
    }
    let mut total = Counts::default();
    for seed in 0..SEEDS {
        match catch_unwind(AssertUnwindSafe(|| run(seed))) {
            Ok((counts, _)) => total += counts,
            Err(_) => panic!("seed {seed}; replay: THALWEG_SEED={seed} cargo test --test batcher_schedules"),
        }
    }
    // A schedule in which nothing happens keeps all rules.
    let Counts { results, errors, expired, gone, drained, full, preferred, due, mixed, contended, ahead } =
        total;
    for count in [results, errors, expired, gone, drained, full, preferred, due, mixed, contended, ahead] {
        assert!(count > 100, "the schedules are dull: {total:?}");
    }
}

#[test]
fn a_seed_replays() {
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
}

/// What has happened, so that the test can tell that it tests anything.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
struct Counts {
    results: usize,
    errors: usize,
    expired: usize,
    gone: usize,
    drained: usize,
    /// Batches that were full, of a preferred size, or run because the time had come.
    full: usize,
    preferred: usize,
    due: usize,
    /// Batches of several levels.
    mixed: usize,
    /// Batches that started while other groups were waiting.
    contended: usize,
    /// Batches put behind another that was under way.
    ahead: usize,
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.results += other.results;
        self.errors += other.errors;
        self.expired += other.expired;
        self.gone += other.gone;
        self.drained += other.drained;
        self.full += other.full;
        self.preferred += other.preferred;
        self.due += other.due;
        self.ahead += other.ahead;
        self.mixed += other.mixed;
        self.contended += other.contended;
    }
}

/// Why a batch runs, as the counter of its kind.
type Reason = fn(&mut Counts) -> &mut usize;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Answer {
    Result,
    Error,
    Dropped(Dropped),
    Drained,
}

/// A request; its place in the order of arrival is its `id`.
#[derive(Debug, Clone)]
struct Request {
    id: usize,
    key: GroupKey,
    rows: usize,
    priority: usize,
    enqueued: u64,
    deadline: Option<u64>,
    leaves: Option<u64>,
    poisonous: bool,
    clock: Rc<Cell<u64>>,
}

impl Entry for Request {
    fn key(&self) -> &GroupKey {
        &self.key
    }
    fn rows(&self) -> usize {
        self.rows
    }
    fn priority(&self) -> usize {
        self.priority
    }
    fn enqueued(&self) -> Time {
        Time::from_nanos(self.enqueued)
    }
    fn deadline(&self) -> Option<Time> {
        self.deadline.map(Time::from_nanos)
    }
    fn is_gone(&self) -> bool {
        self.leaves.is_some_and(|time| time <= self.clock.get())
    }
}

impl Request {
    fn is_expired(&self, now: u64) -> bool {
        self.deadline.is_some_and(|deadline| deadline <= now)
    }
}

/// The lanes, each idle until a time (if it has set itself one) or busy with a batch.
enum Lane {
    Idle { wake: Option<u64> },
    Busy { until: u64, batch: Vec<Request> },
}

struct World {
    policy: Policy,
    delay: u64,
    batcher: Batcher<Request>,
    lanes: Vec<Lane>,
    clock: Rc<Cell<u64>>,
    /// By id, hence in order of arrival: what the batcher must hold.
    waiting: BTreeMap<usize, Request>,
    answers: Vec<Option<Answer>>,
    /// The last moment up to which some lane was idle.
    idle_until: u64,
    counts: Counts,
    log: Vec<(u64, Vec<usize>)>,
}

/// Runs a schedule; returns what happened, and when which requests started together.
fn run(seed: u64) -> (Counts, Vec<(u64, Vec<usize>)>) {
    let mut rng = Rng::with_seed(seed);
    let max_batch_size = rng.usize(1..=16);
    let delay = [0, 5, 40, 300][rng.usize(0..4)];
    let policy = Policy {
        max_batch_size,
        preferred_batch_size: (0..rng.usize(0..3)).map(|_| rng.usize(1..=18)).collect(),
        max_queue_delay: Duration::from_nanos(delay),
        priority_levels: rng.usize(1..=3),
    };
    let clock = Rc::new(Cell::new(0));
    let mut arrivals = arrivals(&mut rng, max_batch_size, &clock);
    let answers = vec![None; arrivals.len()];
    let end_of_service = rng.u8(0..4) == 0;
    let cut = if end_of_service { arrivals[arrivals.len() / 2].enqueued } else { u64::MAX };
    arrivals.retain(|request| request.enqueued <= cut);
    let expected = arrivals.len();

    let lanes = (0..rng.usize(1..=4)).map(|_| Lane::Idle { wake: None }).collect();
    let mut world = World {
        batcher: Batcher::new(policy.clone()),
        policy,
        delay,
        lanes,
        clock,
        waiting: BTreeMap::new(),
        answers,
        idle_until: 0,
        counts: Counts::default(),
        log: Vec::new(),
    };
    let longest_run = [1, 20, 200][rng.usize(0..3)];
    let mut arrivals = arrivals.into_iter().peekable();
    while let Some(now) = world.next_event(arrivals.peek().map(|request| request.enqueued)) {
        world.advance(now);
        let mut arrived = false;
        while let Some(request) = arrivals.next_if(|request| request.enqueued == now) {
            world.waiting.insert(request.id, request.clone());
            world.batcher.push(request);
            arrived = true;
        }
        if now == cut {
            world.drain();
        }
        for lane in 0..world.lanes.len() {
            world.step(lane, arrived, longest_run, &mut rng);
        }
    }
    assert!(world.batcher.is_empty() && world.waiting.is_empty(), "somebody is left: {:?}", world.waiting);
    assert_eq!(world.answers.iter().flatten().count(), expected, "everybody is answered");
    (world.counts, world.log)
}

fn arrivals(rng: &mut Rng, max_rows: usize, clock: &Rc<Cell<u64>>) -> Vec<Request> {
    let keys = rng.usize(1..=4);
    let gap = [1, 4, 30][rng.usize(0..3)];
    let largest = rng.usize(1..=max_rows);
    let [deadlines, leavers, poison] = [(); 3].map(|()| rng.u32(0..3) * rng.u32(0..10));
    let mut now = 0;
    let request = |id| {
        now += rng.u64(0..=gap) * u64::from(rng.bool());
        let mut later = |percent| (rng.u32(0..100) < percent).then(|| now + rng.u64(0..200));
        Request {
            id,
            deadline: later(deadlines),
            leaves: later(leavers),
            key: GroupKey([rng.usize(0..keys)].into_iter().collect()),
            rows: rng.usize(1..=largest),
            priority: rng.usize(0..4),
            enqueued: now,
            poisonous: rng.u32(0..100) < poison,
            clock: clock.clone(),
        }
    };
    (0..300).map(request).collect()
}

impl World {
    fn next_event(&self, arrival: Option<u64>) -> Option<u64> {
        let lanes = self.lanes.iter().filter_map(|lane| match lane {
            Lane::Idle { wake } => *wake,
            Lane::Busy { until, .. } => Some(*until),
        });
        lanes.chain(arrival).min()
    }

    fn advance(&mut self, now: u64) {
        if self.lanes.iter().any(|lane| matches!(lane, Lane::Idle { .. })) {
            self.idle_until = now;
        }
        self.clock.set(now);
    }

    fn now(&self) -> u64 {
        self.clock.get()
    }

    fn answer(&mut self, id: usize, answer: Answer) {
        let before = self.answers[id].replace(answer);
        assert_eq!(before, None, "request {id} is answered again with {answer:?}");
        *match answer {
            Answer::Result => &mut self.counts.results,
            Answer::Error => &mut self.counts.errors,
            Answer::Dropped(Dropped::Expired) => &mut self.counts.expired,
            Answer::Dropped(Dropped::Gone) => &mut self.counts.gone,
            Answer::Drained => &mut self.counts.drained,
        } += 1;
    }

    fn drain(&mut self) {
        for request in self.batcher.drain() {
            assert!(self.waiting.remove(&request.id).is_some());
            self.answer(request.id, Answer::Drained);
        }
        assert!(self.waiting.is_empty(), "drained, and yet there are {:?}", self.waiting);
    }

    /// A lane asks only when it has reason to: it has become free, its time has come, or something has arrived.
    fn step(&mut self, lane: usize, arrived: bool, longest_run: u64, rng: &mut Rng) {
        let now = self.now();
        let mut want = Want::Any;
        let mut under_way = None;
        match &mut self.lanes[lane] {
            Lane::Busy { until, batch } if *until == now => {
                let batch = std::mem::take(batch);
                self.finish(batch);
            }
            // A lane that has a batch under way may look for one to put behind it.
            Lane::Busy { until, batch } if arrived && rng.bool() => {
                under_way = Some((*until, std::mem::take(batch)));
                want = Want::Full;
            }
            Lane::Idle { wake } if arrived || wake.is_some_and(|wake| wake <= now) => {}
            _ => return,
        }
        let mut dropped = Vec::new();
        let told = &mut |request, why| dropped.push((request, why));
        let next = self.batcher.next(Time::from_nanos(now), want, told);
        for (request, why) in dropped {
            assert!(self.waiting.remove(&request.id).is_some());
            match why {
                Dropped::Expired => assert!(request.is_expired(now), "too early: {request:?}"),
                Dropped::Gone => assert!(request.is_gone(), "still there: {request:?}"),
            }
            self.answer(request.id, Answer::Dropped(why));
        }
        for request in self.waiting.values() {
            assert!(!request.is_expired(now), "at {now}, not told: {request:?}");
        }
        let (run, wake) = match next {
            Next::Run(batch) => {
                self.check_batch(&batch, want);
                (Some(batch), None)
            }
            Next::Wait(wake) => {
                let wake = wake.map(Time::as_nanos);
                self.check_wait(wake, want);
                (None, wake)
            }
        };
        self.lanes[lane] = match (under_way, run, wake) {
            (Some((until, mut batch)), run, _) => {
                batch.extend(run.into_iter().flatten());
                Lane::Busy { until, batch }
            }
            (None, Some(batch), _) => Lane::Busy { until: now + rng.u64(1..=longest_run), batch },
            (None, None, wake) => Lane::Idle { wake },
        };
        assert_eq!(self.batcher.len(), self.waiting.len());
    }

    fn finish(&mut self, batch: Vec<Request>) {
        let mut parts = Bisect::new(batch);
        while let Some(part) = parts.next() {
            if part.iter().any(|request| request.poisonous) {
                if let Some(request) = parts.failed(part) {
                    assert!(request.poisonous, "fails for others: {request:?}");
                    self.answer(request.id, Answer::Error);
                }
            } else {
                part.iter().for_each(|request| self.answer(request.id, Answer::Result));
            }
        }
    }

    fn level(&self, request: &Request) -> usize {
        request.priority.min(self.policy.priority_levels - 1)
    }

    /// The waiting requests of each key, in the order in which they are to run.
    fn groups(&self) -> BTreeMap<&GroupKey, Vec<&Request>> {
        let mut groups: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for request in self.waiting.values() {
            groups.entry(&request.key).or_default().push(request);
        }
        for group in groups.values_mut() {
            group.sort_by_key(|request| self.level(request));
        }
        groups
    }

    /// How many requests of this group are to run now, and why; none if it is to wait.
    fn verdict(&self, group: &[&Request], want: Want) -> Option<(usize, Reason)> {
        let max = self.policy.max_batch_size;
        let rows = |n: usize| group[..n].iter().map(|request| request.rows).sum::<usize>();
        let fitting = (1..=group.len()).take_while(|&n| rows(n) <= max).count();
        let due = |request: &&Request| request.enqueued + self.delay <= self.now();
        if want == Want::Any && group.iter().any(due) {
            return Some((fitting, |counts| &mut counts.due));
        }
        let sizes = &self.policy.preferred_batch_size;
        let sizes = if sizes.iter().any(|&size| size <= max) { &sizes[..] } else { &[] };
        let preferred = |n: &usize| sizes.contains(&rows(*n)) || !sizes.is_empty() && rows(*n) == max;
        if let Some(n) = (1..=fitting).rev().find(preferred) {
            return Some((n, |counts| &mut counts.preferred));
        }
        let full = rows(fitting) == max || fitting < group.len();
        full.then_some((fitting, |counts| &mut counts.full))
    }

    fn check_batch(&mut self, batch: &[Request], want: Want) {
        let now = self.now();
        let ids: Vec<usize> = batch.iter().map(|request| request.id).collect();
        assert!(!batch.is_empty(), "an empty batch");
        assert!(batch.iter().all(|request| request.key == batch[0].key), "keys are mixed: {batch:?}");
        let rows: usize = batch.iter().map(|request| request.rows).sum();
        assert!(rows <= self.policy.max_batch_size, "{rows} rows: {batch:?}");
        for request in batch {
            assert!(self.waiting.contains_key(&request.id), "taken twice: {request:?}");
            assert!(!request.is_expired(now) && !request.is_gone(), "at {now}, not worth it: {request:?}");
            // No lane ever idles while a request is past its delay: what it waits longer, all lanes were busy.
            let due = request.enqueued + self.delay;
            assert!(self.idle_until <= due, "a lane idled until {}: {request:?}", self.idle_until);
        }

        let groups = self.groups();
        let own = &groups[&batch[0].key];
        let verdict = self.verdict(own, want);
        let size = verdict.map_or(0, |(size, _)| size);
        let right: Vec<usize> = own[..size].iter().map(|request| request.id).collect();
        assert_eq!(ids, right, "at {now}, not what is to run of {own:?}");
        let rank = |group: &[&Request]| (self.level(group[0]), group[0].enqueued);
        for (key, group) in &groups {
            let overtaken = rank(group) < rank(own) && self.verdict(group, want).is_some();
            assert!(!overtaken, "at {now}, {key:?} should have gone first: {group:?} before {batch:?}");
        }

        let mixed = self.level(&batch[0]) != self.level(&batch[batch.len() - 1]);
        let contended = groups.len() > 1;
        if let Some((_, reason)) = verdict {
            *reason(&mut self.counts) += 1;
        }
        self.counts.ahead += usize::from(want == Want::Full);
        self.counts.mixed += usize::from(mixed);
        self.counts.contended += usize::from(contended);
        self.waiting.retain(|id, _| !ids.contains(id));
        self.log.push((now, ids));
    }

    fn check_wait(&self, wake: Option<u64>, want: Want) {
        let now = self.now();
        for group in self.groups().values() {
            assert!(self.verdict(group, want).is_none(), "at {now}, a lane idles in spite of {group:?}");
        }
        let due = self.waiting.values().filter(|_| want == Want::Any);
        let due = due.map(|request| request.enqueued + self.delay);
        let deadlines = self.waiting.values().filter_map(|request| request.deadline);
        let latest = due.chain(deadlines).min();
        // A deadline whose request has run may still wake a lane.
        let needless = wake.is_some() && latest.is_none() && !self.waiting.is_empty() && want == Want::Full;
        assert_eq!(wake.is_some(), latest.is_some() || needless, "wakes at {wake:?} for {latest:?}");
        assert!(wake <= latest || needless, "at {now}, wakes at {wake:?}, too late for {latest:?}");
        assert!(wake.is_none_or(|wake| wake > now), "at {now}, wakes at once");
    }
}
