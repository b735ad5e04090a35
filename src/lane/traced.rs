//! A pipeline that has written down when each of its batches was where.

use std::collections::VecDeque;
use std::sync::Arc;

use crossbeam_channel::Receiver;
use parking_lot::Mutex;

use super::{Landed, Pipeline};
use crate::clock::{Clock, Time};
use crate::device::StageTimes;
use crate::engine::Halt;
use crate::error::Result;
use crate::streams::Slot;
use crate::tensor::{GroupKey, Payload};

/// A batch that went all the way, by the clock of the process, and by the device's own if it has one.
#[derive(Debug, Clone, Copy)]
pub struct Flown {
    pub lane: usize,
    pub rows: usize,
    /// From here to `packed` its rows were put.
    pub begun: Time,
    pub packed: Time,
    /// Launching took until then; where the lane runs the model itself, so did the run.
    pub launched: Time,
    pub landed: Time,
    pub device: Option<StageTimes>,
}

/// Where batches are written down.
pub struct Trace {
    clock: Clock,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    wanted: usize,
    flown: Vec<Flown>,
}

/// The pipeline of one of the lanes that are traced.
pub struct Traced {
    pipeline: Box<dyn Pipeline>,
    trace: Arc<Trace>,
    begun: Flown,
    under_way: VecDeque<Flown>,
}

impl Trace {
    pub fn new(clock: Clock) -> Arc<Self> {
        Arc::new(Self { clock, state: Mutex::default() })
    }

    /// The next so many batches that land are written down.
    pub fn begin(&self, batches: usize) {
        *self.state.lock() = State { wanted: batches, flown: Vec::new() };
    }

    pub fn flown(&self) -> Vec<Flown> {
        self.state.lock().flown.clone()
    }
}

impl Traced {
    pub fn new(pipeline: Box<dyn Pipeline>, trace: Arc<Trace>, lane: usize) -> Self {
        let zero = Time::default();
        let begun =
            Flown { lane, rows: 0, begun: zero, packed: zero, launched: zero, landed: zero, device: None };
        Self { pipeline, trace, begun, under_way: VecDeque::new() }
    }
}

impl Pipeline for Traced {
    fn depth(&self) -> usize {
        self.pipeline.depth()
    }

    fn rehearsal(&self) -> Vec<usize> {
        self.pipeline.rehearsal()
    }

    fn begin(&mut self, rows: usize, key: &GroupKey) -> Result<()> {
        (self.begun.rows, self.begun.begun) = (rows, self.trace.clock.now());
        self.pipeline.begin(rows, key)
    }

    fn holds(&self, slot: Slot) -> bool {
        self.pipeline.holds(slot)
    }

    fn put(&mut self, rows: usize, payloads: &[Payload], slot: Option<Slot>) -> Result<()> {
        self.pipeline.put(rows, payloads, slot)
    }

    fn launch(&mut self) -> Result<()> {
        let packed = self.trace.clock.now();
        self.pipeline.launch()?;
        self.under_way.push_back(Flown { packed, launched: self.trace.clock.now(), ..self.begun });
        Ok(())
    }

    fn landings(&self) -> &Receiver<()> {
        self.pipeline.landings()
    }

    fn land(&mut self) -> Result<Landed> {
        let landed = self.pipeline.land();
        let flown = self.under_way.pop_front();
        if let (Ok(of), Some(flown)) = (&landed, flown) {
            let mut state = self.trace.state.lock();
            if state.flown.len() < state.wanted {
                let device = of.times.map(|(times, _)| times);
                state.flown.push(Flown { landed: self.trace.clock.now(), device, ..flown });
            }
        }
        landed
    }

    fn halt(&self) -> Option<Halt> {
        self.pipeline.halt()
    }
}
