//! Lanes whose pipeline computes by itself: several batches under way, landing when a test says so, or never.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, unbounded};
use smallvec::smallvec;
use thalweg::batcher::Policy;
use thalweg::clock::Clock;
use thalweg::error::{Code, Error, Result};
use thalweg::lane::{Feed, Landed, Pipeline, Supervisor};
use thalweg::metrics::Metrics;
use thalweg::queue::{Memory, Places, Producer, channel};
use thalweg::streams::Slot;
use thalweg::tensor::{BatchOutput, Column, DataType, GroupKey, Payload, Storage};

use super::fixture::{Ask, Client, POISON, STUCK};

/// A batch that sees it is lost on the device.
const LOST: i64 = 668;
/// A row that the device cannot take.
const MISFIT: i64 = 669;

/// Doubles values of one row each; a batch with [`POISON`] is not launched, one with [`LOST`] fails as it lands.
struct Remote {
    depth: usize,
    /// Rows for which the device has memory.
    room: usize,
    values: Vec<i64>,
    flying: VecDeque<Vec<i64>>,
    launched: Sender<Vec<i64>>,
    landings: Receiver<()>,
}

impl Pipeline for Remote {
    fn depth(&self) -> usize {
        self.depth
    }

    fn rehearsal(&self) -> Vec<usize> {
        Vec::new()
    }

    fn begin(&mut self, rows: usize, _key: &GroupKey) -> Result<()> {
        assert!(self.flying.len() < self.depth, "there is no room for another batch");
        if rows > self.room {
            return Err(Error::new(Code::Internal, "CUDA_ERROR_OUT_OF_MEMORY: out of memory"));
        }
        self.values.clear();
        Ok(())
    }

    fn holds(&self, _slot: Slot) -> bool {
        true
    }

    fn put(&mut self, _rows: usize, payloads: &[Payload], _slot: Option<Slot>) -> Result<()> {
        let [Payload::Rows(bytes)] = payloads else { panic!("one input") };
        self.values.extend(bytemuck::pod_collect_to_vec::<u8, i64>(bytes));
        if self.values.ends_with(&[MISFIT]) {
            return Err(Error::new(Code::Internal, "it does not fit"));
        }
        Ok(())
    }

    fn launch(&mut self) -> Result<()> {
        assert!(!self.values.contains(&PANIC), "the launch panics, as told");
        if self.values.contains(&POISON) {
            return Err(Error::new(Code::InferenceFailed, "poison"));
        }
        self.flying.push_back(self.values.clone());
        self.launched.send(self.values.clone()).unwrap();
        Ok(())
    }

    fn landings(&self) -> &Receiver<()> {
        &self.landings
    }

    fn land(&mut self) -> Result<Landed> {
        let values = self.flying.pop_front().expect("a batch is under way");
        if values.contains(&LOST) {
            return Err(Error::new(Code::InferenceFailed, "the device failed"));
        }
        let doubled: Vec<i64> = values.iter().map(|value| value * 2).collect();
        let storage = Storage::Fixed(Box::new(bytemuck::cast_slice::<i64, u8>(&doubled).to_vec()));
        let column = Column::new(DataType::Int64, smallvec![doubled.len(), 1], Some(0), storage).unwrap();
        Ok(Landed { output: BatchOutput::new(vec![column]), times: None })
    }
}

/// A run that sees it panics.
const PANIC: i64 = 667;

struct Device {
    producer: Option<Producer>,
    clock: Clock,
    launched: Receiver<Vec<i64>>,
    land: Sender<()>,
    lane: JoinHandle<()>,
    memory: Memory,
    client: Client,
    metrics: Arc<Metrics>,
    feed: Weak<Feed>,
}

impl Device {
    fn start(depth: usize) -> Self {
        Self::with_room(depth, 4)
    }

    fn with_room(depth: usize, room: usize) -> Self {
        let clock = Clock::start();
        let memory = Memory::new(1 << 20);
        let (producer, requests) = channel(Places::new(64), memory.clone());
        let policy = Policy {
            max_batch_size: 4,
            preferred_batch_size: vec![],
            max_queue_delay: Duration::ZERO,
            priority_levels: 1,
        };
        let all_metrics = Metrics::new().unwrap();
        let metrics = all_metrics.model("remote", "1");
        let feed = Feed::new(requests, policy, clock, Arc::clone(&metrics));
        let ((launch, launched), (land, landings)) = (unbounded(), unbounded());
        let make = move || -> Result<Box<dyn Pipeline>> {
            let (launched, landings) = (launch.clone(), landings.clone());
            let (values, flying) = (vec![], VecDeque::new());
            Ok(Box::new(Remote { depth, room, values, flying, launched, landings }))
        };
        let watched = Arc::downgrade(&feed);
        let supervisor =
            Supervisor { name: "remote".into(), feed, make: Box::new(make), clock, metrics: metrics.clone() };
        let lane = supervisor.start().unwrap();
        let client = Client::new(64);
        let (producer, metrics, feed) = (Some(producer), all_metrics, watched);
        Self { producer, clock, launched, land, lane, memory, client, metrics, feed }
    }

    fn ask(&mut self, values: &[i64]) {
        for &value in values {
            let ask = Ask { rows: 1, values: vec![value], deadline: None, priority: 0 };
            self.client.ask(self.producer.as_ref().unwrap(), self.clock.now(), 0, ask);
        }
    }

    fn launched(&self) -> Vec<i64> {
        self.launched.recv_timeout(STUCK).expect("no batch is launched")
    }

    fn land(&self) {
        self.land.send(()).unwrap();
    }

    /// The watchdog looks as it would in an hour: how many requests it takes.
    fn watch(&self) -> Vec<usize> {
        let now = self.clock.now() + Duration::from_secs(3600);
        let late = self.feed.upgrade().unwrap().give_up_runs(now, Duration::from_secs(1800));
        late.iter().map(|late| late.requests).collect()
    }

    /// No request will come, and what is under way lands.
    fn end(mut self) -> usize {
        self.producer = None;
        for _ in 0..self.client.asked {
            // The lane may have ended.
            let _ = self.land.send(());
        }
        self.lane.join().expect("the lane ends by itself");
        self.memory.used()
    }
}

#[test]
fn a_batch_is_launched_behind_another_and_no_more_than_may_be_under_way() {
    for depth in 1..=3 {
        let mut device = Device::start(depth);
        let mut launched = Vec::new();
        for value in 0..4 {
            device.ask(&[value]);
            if launched.len() < depth {
                launched.push(device.launched());
            }
        }
        let one_each: Vec<_> = (0..depth as i64).map(|value| vec![value]).collect();
        assert_eq!(launched, one_each, "nothing is known of the device yet, so nothing waits to grow");
        assert!(device.launched.is_empty());
        device.land();
        let rest: Vec<_> = (depth as i64..4).collect();
        assert_eq!(device.launched(), rest, "with room, what waited goes together");
        assert_eq!(device.client.answers(1), "0: [0]");
        for _ in 0..depth {
            device.land();
        }
        let answers: Vec<_> = (1..4).map(|n| format!("{n}: [{}]", 2 * n)).collect();
        assert_eq!(device.client.answers(3), answers.join(", "));
        assert_eq!(device.end(), 0);
    }
}

#[test]
fn what_is_lost_on_the_device_is_lost_for_its_batch_alone() {
    let mut device = Device::start(2);
    device.ask(&[1]);
    device.launched();
    device.ask(&[2]);
    device.launched();
    device.ask(&[3, LOST]);
    device.land();
    assert_eq!(device.launched(), [3, LOST]);
    device.ask(&[4]);
    device.land();
    assert_eq!(device.launched(), [4]);
    device.land();
    device.land();
    let answers = "0: [2], 1: [4], 2: inference_failed, 3: inference_failed, 4: [8]";
    assert_eq!(device.client.answers(5), answers);
    assert_eq!(device.end(), 0);
}

#[test]
fn a_poisonous_request_fails_alone_while_others_are_under_way() {
    let mut device = Device::start(2);
    device.ask(&[1]);
    device.launched();
    device.ask(&[2]);
    device.launched();
    device.ask(&[3, 4, POISON, 5]);
    device.land();
    assert_eq!(device.launched(), [3, 4], "the halves of the batch go as there is room");
    device.land();
    assert_eq!(device.launched(), [5]);
    for _ in 0..2 {
        device.land();
    }
    let answers = "0: [2], 1: [4], 2: [6], 3: [8], 4: inference_failed, 5: [10]";
    assert_eq!(device.client.answers(6), answers);
    assert_eq!(device.end(), 0);
}

#[test]
fn a_lane_that_panics_is_started_again_and_serves_what_waits() {
    let mut device = Device::start(2);
    assert_eq!(device.producer.as_ref().unwrap().lanes(), 1);
    device.ask(&[1]);
    device.launched();
    device.ask(&[2]);
    device.launched();
    device.ask(&[PANIC]);
    device.land();
    // The batch that was under way is lost with the lane, and so is the one that made it panic.
    assert_eq!(device.client.answers(3), "0: [2], 1: internal, 2: internal");
    device.ask(&[3]);
    assert_eq!(device.launched(), [3]);
    assert_eq!(device.producer.as_ref().unwrap().lanes(), 1);
    device.land();
    assert_eq!(device.client.answers(1), "3: [6]");
    let told = device.metrics.render();
    assert!(told.contains("thalweg_lane_failures_total{model=\"remote\",version=\"1\"} 1"), "{told}");
    assert_eq!(device.end(), 0);
}

#[test]
fn a_lane_that_always_panics_stays_away_in_the_end() {
    let mut device = Device::start(1);
    device.ask(&[PANIC; 64]);
    let mut codes = Vec::new();
    while codes.len() < 64 {
        codes.extend(device.client.wait().into_iter().map(|(_, answer)| answer.unwrap_err()));
    }
    let (panicked, refused) = codes.split_at(codes.partition_point(|&code| code == Code::Internal));
    assert!(panicked.len() >= 11 && refused.iter().all(|&code| code == Code::ModelNotReady), "{codes:?}");
    assert_eq!(device.producer.as_ref().unwrap().lanes(), 0);
    device.lane.join().unwrap();
}

#[test]
fn all_that_is_under_way_lands_before_the_lane_ends() {
    let mut device = Device::start(3);
    device.ask(&[1]);
    device.launched();
    device.ask(&[2]);
    device.launched();
    device.producer = None;
    device.land();
    device.land();
    assert_eq!(device.client.answers(2), "0: [2], 1: [4]");
    assert_eq!(device.end(), 0);
}

#[test]
fn what_a_device_cannot_take_fails_alone_and_what_it_has_no_memory_for_goes_in_parts() {
    for (room, asked, runs, answers) in [
        (4, [1, 2, 3, 4], &[&[1, 2, 3, 4][..]][..], "0: [2], 1: [4], 2: [6], 3: [8]"),
        (2, [1, 2, 3, 4], &[&[1, 2], &[3, 4]], "0: [2], 1: [4], 2: [6], 3: [8]"),
        (1, [1, 2, 3, 4], &[&[1], &[2], &[3], &[4]], "0: [2], 1: [4], 2: [6], 3: [8]"),
        (0, [1, 2, 3, 4], &[], "0: internal, 1: internal, 2: internal, 3: internal"),
        (4, [1, 2, MISFIT, 4], &[&[1, 2], &[4]], "0: [2], 1: [4], 2: internal, 3: [8]"),
        (
            4,
            [1, 2, LOST, 4],
            &[&[1, 2, LOST, 4]],
            &["0", "1", "2", "3"].map(|n| format!("{n}: inference_failed")).join(", "),
        ),
    ] {
        let mut device = Device::with_room(1, room);
        // So that all four are there when the lane looks.
        let first = if room > 0 { vec![0] } else { vec![] };
        device.ask(&first);
        first.iter().for_each(|_| assert_eq!(device.launched(), [0]));
        device.ask(&asked);
        first.iter().for_each(|_| device.land());
        for &run in runs {
            assert_eq!(device.launched(), run);
            device.land();
        }
        let skip = first.len();
        let told = device.client.answers(skip + 4);
        let numbered = answers.split(", ").enumerate().map(|(n, answer)| {
            let (_, answer) = answer.split_once(": ").unwrap();
            format!("{}: {answer}", n + skip)
        });
        let expected: Vec<_> = first.iter().map(|_| "0: [0]".to_owned()).chain(numbered).collect();
        assert_eq!(told, expected.join(", "));
        assert_eq!(device.end(), 0);
    }
}

#[test]
fn all_that_is_under_way_is_given_up_and_the_lane_called_from_its_waiting() {
    // With so many under way it waits for a landing, or for more to launch.
    for (depth, under_way) in [(1, 1), (2, 1), (2, 2), (3, 2)] {
        let mut device = Device::start(depth);
        for value in 0..under_way {
            device.ask(&[value]);
            assert_eq!(device.launched(), [value]);
        }
        assert_eq!(device.watch(), [under_way as usize]);
        let told: Vec<_> = (0..under_way).map(|n| format!("{n}: run_timed_out")).collect();
        assert_eq!(device.client.answers(told.len()), told.join(", "));
        // It is back by itself, since it was not in the model's code.
        let end = device.clock.now() + STUCK;
        while device.producer.as_ref().unwrap().lanes() == 0 {
            assert!(device.clock.now() < end, "the lane does not come back");
            std::thread::yield_now();
        }
        assert!(device.watch().is_empty());
        device.ask(&[7]);
        assert_eq!(device.launched(), [7]);
        device.land();
        assert_eq!(device.client.answers(1), format!("{under_way}: [14]"));
        assert_eq!(device.end(), 0);
    }
}

#[test]
fn a_part_that_waits_for_room_is_given_up_with_what_it_waits_for() {
    let mut device = Device::start(1);
    device.ask(&[1]);
    device.launched();
    device.ask(&[2, POISON, 4, 5]);
    device.land();
    assert_eq!(device.launched(), [2]);
    assert_eq!(device.watch(), [4], "that one, and the others of its batch, which are not launched yet");
    let answers = "0: [2], 1: run_timed_out, 2: run_timed_out, 3: run_timed_out, 4: run_timed_out";
    assert_eq!(device.client.answers(5), answers);
    assert_eq!(device.end(), 0);
}
