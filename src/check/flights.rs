//! Batches that are under way at the same time, and batches that fail.

use std::sync::atomic::Ordering::Relaxed;

use super::model::{Model, Request, land, launch, tensor};
use super::random::Random;
use super::{Target, Verdict, Wrong};
use crate::lane::Pipeline;
use crate::streams::Slot;
use crate::tensor::{DataType, Payload};

const WIDTH: usize = 8 * 1024;
const STREAMS: usize = 12;

/// Streams that each get their last message back.
struct Echoes {
    model: Model,
    pipeline: Box<dyn Pipeline>,
    last: Vec<Vec<u8>>,
    /// Which streams have had a step.
    begun: Vec<bool>,
}

impl Echoes {
    fn new(target: &Target, random: &mut Random) -> Result<Self, Wrong> {
        let initial = random.bytes(WIDTH);
        let input = tensor("x", DataType::Uint8, &[], &[WIDTH]);
        let model = Model::delay(&input, vec![initial.clone()], STREAMS, STREAMS);
        let pipeline = model.on(target)?;
        Ok(Self { model, pipeline, last: vec![initial; STREAMS], begun: vec![false; STREAMS] })
    }

    /// A step of each of some streams.
    fn batch(&self, random: &mut Random) -> Vec<Request> {
        let first = random.below(STREAMS);
        let step = |index: usize| {
            let payloads = vec![Payload::Rows(random.bytes(WIDTH).into())];
            let slot = Some(Slot { index, generation: 1, begun: self.begun[index] });
            Request { rows: 1, payloads, slot, expected: vec![vec![self.last[index].clone()]] }
        };
        (first..STREAMS).map(step).collect()
    }

    fn land(&mut self, batch: &[Request]) -> Verdict {
        land(&mut *self.pipeline, &self.model, batch)
    }

    /// Sends a batch on its way, and remembers what its streams have said.
    fn launch(&mut self, batch: &[Request]) -> Verdict {
        launch(&mut *self.pipeline, batch)?;
        for request in batch {
            if let (Some(slot), [Payload::Rows(bytes)]) = (request.slot, &request.payloads[..]) {
                self.last[slot.index] = bytes.to_vec();
                self.begun[slot.index] = true;
            }
        }
        Ok(())
    }
}

/// As many batches under way as there may be, again and again; they land in their order.
pub(super) fn several(target: &Target, random: &mut Random) -> Verdict {
    let mut echoes = Echoes::new(target, random)?;
    for _ in 0..10 {
        let mut under_way = Vec::new();
        for _ in 0..echoes.pipeline.depth() {
            let batch = echoes.batch(random);
            echoes.launch(&batch)?;
            under_way.push(batch);
        }
        under_way.iter().try_for_each(|batch| echoes.land(batch))?;
    }
    Ok(())
}

/// Between batches that are right, some have a payload that does not fit, and for some the model fails.
pub(super) fn failures(target: &Target, random: &mut Random) -> Verdict {
    let mut echoes = Echoes::new(target, random)?;
    for round in 0..10 {
        let before = echoes.batch(random);
        let others_land = round % 2 == 0 || echoes.pipeline.depth() == 1;
        echoes.launch(&before)?;
        if others_land {
            echoes.land(&before)?;
        }
        let mut failing = echoes.batch(random);
        let by_model = random.percent(50);
        if by_model {
            echoes.model.broken.store(true, Relaxed);
        } else if let Some(last) = failing.last_mut() {
            last.payloads = vec![Payload::Rows(random.bytes(WIDTH + 1).into())];
        }
        let launched = launch(&mut *echoes.pipeline, &failing);
        echoes.model.broken.store(false, Relaxed);
        if launched.is_ok() {
            return Err("a batch that cannot run was launched".into());
        }
        if !others_land {
            echoes.land(&before)?;
        }
        // The state is what it was before.
        let after = echoes.batch(random);
        echoes.launch(&after)?;
        echoes.land(&after)?;
    }
    Ok(())
}
