//! Many clients at once: whatever they send and whenever they leave, every request gets exactly one answer, in
//! order, with its own rows, and all that was taken comes back. In some runs a watchdog takes batches from the lanes at
//! any moment.
//!
//! `THALWEG_SEED=7 cargo test --test lanes` sends the same requests again. How the threads interleave is not in
//! the seed's hands, so a failure may need several runs to show itself once more.

use std::ops::AddAssign;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Context;
use std::thread;
use std::time::Duration;

use crossbeam_channel::{TryRecvError, bounded};
use fastrand::Rng;
use thalweg::batcher::Policy;
use thalweg::clock::Clock;
use thalweg::error::Code;
use thalweg::queue::Producer;

use super::fixture::{Ask, Client, PANIC, POISON, Setup};

const SEEDS: u64 = 40;
const CLIENTS: usize = 4;
const CONNECTIONS: usize = 12;
/// One lane alone is started again ten times a minute.
const MOST_GIVEN_UP: usize = 8;

#[test]
fn every_request_gets_its_one_answer() {
    #[allow(clippy::disallowed_methods, reason = "the seed to send again")]
    let chosen = std::env::var("THALWEG_SEED").ok();
    if let Some(seed) = chosen {
        run(seed.parse().expect("THALWEG_SEED is a number"));
        return;
    }
    let mut total = Counts::default();
    for seed in 0..SEEDS {
        match catch_unwind(AssertUnwindSafe(|| run(seed))) {
            Ok(counts) => total += counts,
            Err(_) => panic!("seed {seed}; to send it again: THALWEG_SEED={seed} cargo test --test lanes"),
        }
    }
    // Interleavings in which nothing happens keep all rules.
    assert!(total.right > 1000 && total.poisoned > 100 && total.left > 100 && total.taken > 0, "{total:?}");
}

/// How requests ended.
#[derive(Debug, Default, Clone, Copy)]
struct Counts {
    right: usize,
    poisoned: usize,
    refused: usize,
    expired: usize,
    lost: usize,
    /// By the watchdog.
    taken: usize,
    /// Not waited for.
    left: usize,
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.right += other.right;
        self.poisoned += other.poisoned;
        self.refused += other.refused;
        self.expired += other.expired;
        self.lost += other.lost;
        self.taken += other.taken;
        self.left += other.left;
    }
}

fn run(seed: u64) -> Counts {
    let mut random = Rng::with_seed(seed);
    let max_batch_size = random.usize(1..=8);
    // In some runs lanes die, in some they are given up.
    let (panics, watched) = (random.u8(..8) == 0, random.u8(..4) == 0);
    let policy = Policy {
        max_batch_size,
        preferred_batch_size: if random.bool() { vec![random.usize(1..=max_batch_size)] } else { vec![] },
        max_queue_delay: Duration::from_micros(*random.choice(&[0, 0, 50, 500]).unwrap()),
        priority_levels: random.usize(1..=2),
    };
    let setup = Setup {
        lanes: random.usize(1..=3),
        batch_axis: random.usize(0..=1),
        places: random.usize(1..=24),
        memory: *random.choice(&[256, 1 << 20]).unwrap(),
        policy,
        guided: false,
        // Lanes that are given up come back; those that die do not.
        again: watched,
        ..Setup::default()
    };
    let (axis, lanes) = (setup.batch_axis, setup.lanes);
    let panics = panics && !watched;
    let mut model = setup.start();
    let (watchdog, (done, over)) = (model.watchdog(), bounded::<()>(0));
    let watchdog = thread::spawn(move || {
        let mut left = if watched { MOST_GIVEN_UP } else { 0 };
        while left > 0 && over.try_recv() == Err(TryRecvError::Empty) {
            left -= watchdog().len().min(left);
            thread::yield_now();
        }
    });
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let random = random.fork();
            let (producer, clock) = (model.producer.clone().unwrap(), model.clock);
            let talk = Talk { random, producer, clock, axis, max_batch_size, panics, watched };
            thread::spawn(move || talk.run())
        })
        .collect();
    let mut total = Counts::default();
    for client in clients {
        total += client.join().unwrap();
    }
    drop(done);
    watchdog.join().unwrap();
    let dead = model.close();
    assert!(
        dead <= if panics {
            lanes
        } else if watched {
            MOST_GIVEN_UP + lanes
        } else {
            0
        }
    );
    assert_eq!((model.places.used(), model.memory.used()), (0, 0), "what was taken has come back");
    total
}

/// One client after the other on a thread of their own.
struct Talk {
    random: Rng,
    producer: Producer,
    clock: Clock,
    axis: usize,
    max_batch_size: usize,
    panics: bool,
    watched: bool,
}

impl Talk {
    fn run(mut self) -> Counts {
        let mut counts = Counts::default();
        for _ in 0..CONNECTIONS {
            self.connection(&mut counts);
        }
        counts
    }

    fn connection(&mut self, counts: &mut Counts) {
        let mut client = Client::new(self.random.usize(1..=16));
        let (requests, leaves) = (self.random.usize(..60), self.random.u8(..4) == 0);
        let mut asked: Vec<(Vec<i64>, bool)> = Vec::new();
        let mut seen = 0;
        let mut judge = |answers: Vec<(usize, Result<Vec<i64>, Code>)>, asked: &[(Vec<i64>, bool)]| {
            for (request, answer) in answers {
                assert_eq!(request, seen, "answers leave in order, each once");
                let (values, hurried) = &asked[request];
                self::judge(values, *hurried, [self.panics, self.watched], answer, counts);
                seen += 1;
            }
            seen
        };
        for _ in 0..requests {
            while client.mailbox.poll_room(&mut Context::from_waker(std::task::Waker::noop())).is_pending() {
                judge(client.wait(), &asked);
            }
            let ask = ask(&mut self.random, self.axis, self.max_batch_size, self.panics, self.clock);
            asked.push((ask.values.clone(), ask.deadline.is_some()));
            client.ask(&self.producer, self.clock.now(), self.axis, ask);
            if self.random.bool() {
                judge(client.poll(), &asked);
            }
        }
        if leaves {
            let left = client.mailbox.close().collect::<Vec<_>>();
            let seen = judge(Vec::new(), &asked);
            assert_eq!(left, (seen..asked.len()).collect::<Vec<_>>(), "those that were not answered");
            counts.left += left.len();
            return;
        }
        while judge(Vec::new(), &asked) < asked.len() {
            judge(client.wait(), &asked);
        }
        assert!(client.poll().is_empty(), "nothing is answered twice");
    }
}

fn ask(random: &mut Rng, axis: usize, max_batch_size: usize, panics: bool, clock: Clock) -> Ask {
    let rows = random.usize(1..=max_batch_size);
    let width = random.usize(1..=3);
    let mut values: Vec<i64> = (0..rows * width * [1, 2][axis]).map(|_| random.i64(1000..1 << 40)).collect();
    if random.u8(..16) == 0 {
        *random.choice(&mut values).unwrap() = POISON;
    }
    if panics && random.u8(..200) == 0 {
        *random.choice(&mut values).unwrap() = PANIC;
    }
    let deadline = match random.u8(..16) {
        0 => Some(clock.now()),
        1 => Some(clock.now() + Duration::from_micros(200)),
        _ => None,
    };
    Ask { rows, values, deadline, priority: random.usize(..3) }
}

fn judge(
    values: &[i64],
    hurried: bool,
    [panics, watched]: [bool; 2],
    answer: Result<Vec<i64>, Code>,
    counts: &mut Counts,
) {
    let poisoned = values.contains(&POISON);
    match answer {
        Ok(answer) => {
            assert!(!poisoned && !values.contains(&PANIC));
            assert_eq!(answer, values.iter().map(|value| value * 2).collect::<Vec<_>>(), "its own rows");
            counts.right += 1;
        }
        Err(Code::InferenceFailed) if poisoned => counts.poisoned += 1,
        Err(Code::QueueFull | Code::MemoryFull) => counts.refused += 1,
        Err(Code::DeadlineExceeded) if hurried => counts.expired += 1,
        Err(Code::Internal | Code::ModelNotReady) if panics => counts.lost += 1,
        Err(Code::RunTimedOut | Code::ModelNotReady) if watched => counts.taken += 1,
        Err(code) => panic!("{} is no answer to {values:?}", code.as_str()),
    }
}
