//! Lanes whose pipeline computes by itself: several batches under way, landing when a test says so.

use std::collections::VecDeque;
use std::sync::Arc;
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, unbounded};
use smallvec::smallvec;
use thalweg::batcher::Policy;
use thalweg::clock::Clock;
use thalweg::error::{Code, Error, Result};
use thalweg::lane::{Feed, Landed, Lane, Pipeline, WarmUp};
use thalweg::metrics::Metrics;
use thalweg::queue::{Memory, Places, Producer, channel};
use thalweg::streams::Slot;
use thalweg::tensor::{BatchOutput, Column, DataType, GroupKey, Payload, Storage};

use super::fixture::{Ask, Client, POISON, STUCK};

/// A batch that sees it is lost on the device.
const LOST: i64 = 668;

/// Doubles values of one row each; a batch with [`POISON`] is not launched, one with [`LOST`] fails as it lands.
struct Remote {
    depth: usize,
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

    fn begin(&mut self, _rows: usize, _key: &GroupKey) -> Result<()> {
        assert!(self.flying.len() < self.depth, "there is no room for another batch");
        self.values.clear();
        Ok(())
    }

    fn holds(&self, _slot: Slot) -> bool {
        true
    }

    fn put(&mut self, _rows: usize, payloads: &[Payload], _slot: Option<Slot>) -> Result<()> {
        let [Payload::Rows(bytes)] = payloads else { panic!("one input") };
        self.values.extend(bytemuck::pod_collect_to_vec::<u8, i64>(bytes));
        Ok(())
    }

    fn launch(&mut self) -> Result<()> {
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
        Ok(Landed { output: BatchOutput { columns: vec![column] }, times: None })
    }
}

struct Device {
    producer: Option<Producer>,
    clock: Clock,
    launched: Receiver<Vec<i64>>,
    land: Sender<()>,
    lane: JoinHandle<()>,
    memory: Memory,
    client: Client,
}

impl Device {
    fn start(depth: usize) -> Self {
        let clock = Clock::start();
        let memory = Memory::new(1 << 20);
        let (producer, requests) = channel(Places::new(64), memory.clone());
        let policy = Policy {
            max_batch_size: 4,
            preferred_batch_size: vec![],
            max_queue_delay: std::time::Duration::ZERO,
            priority_levels: 1,
        };
        let metrics = Metrics::new().unwrap().model("remote", "1");
        let feed = Feed::new(requests, policy, clock, Arc::clone(&metrics));
        let ((launch, launched), (land, landings)) = (unbounded(), unbounded());
        let remote = Remote { depth, values: vec![], flying: VecDeque::new(), launched: launch, landings };
        let lane = Lane::new(feed, Box::new(remote), clock, metrics);
        let lane = lane.spawn("remote".into(), WarmUp::default()).unwrap();
        let client = Client::new(64);
        Self { producer: Some(producer), clock, launched, land, lane, memory, client }
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
