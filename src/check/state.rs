//! Each stream finds its own state, and nobody else's.

use std::collections::VecDeque;

use super::model::{Model, Request, land, launch, sizes, tensor};
use super::random::Random;
use super::{Target, Verdict};
use crate::streams::Slot;
use crate::tensor::{DataType, Payload, TensorSpec};

const DATATYPES: &[DataType] = &[DataType::Uint8, DataType::Fp16, DataType::Fp32, DataType::Int64];

pub(super) fn streams(target: &Target, random: &mut Random) -> Verdict {
    // Dimensions before the batch.
    const BEFORE: &[&[usize]] = &[&[], &[2], &[3, 1]];
    let spec = |name: &str, before: &[usize], random: &mut Random| {
        let (datatype, size) = (random.one_of(DATATYPES), random.one_of(&[1, 5, 16, 33]));
        tensor(name, datatype, before, &[size])
    };
    for before in BEFORE {
        for states in 1..=3 {
            let input = spec("x", before, random);
            schedule(target, random, &Delay::InRow(input, states))?;
        }
    }
    // States of all kinds in one model.
    for _ in 0..3 {
        let input = |(index, before): (usize, &&[usize])| spec(&format!("x{index}"), before, random);
        let inputs = BEFORE.iter().enumerate().map(input).collect();
        schedule(target, random, &Delay::SideBySide(inputs))?;
    }
    Ok(())
}

/// What a model delays.
enum Delay {
    /// One input, by so many steps.
    InRow(TensorSpec, usize),
    /// Each input by one step.
    SideBySide(Vec<TensorSpec>),
}

impl Delay {
    fn inputs(&self) -> &[TensorSpec] {
        match self {
            Self::InRow(input, _) => std::slice::from_ref(input),
            Self::SideBySide(inputs) => inputs,
        }
    }

    /// Each state's spec.
    fn states(&self) -> Vec<&TensorSpec> {
        match self {
            Self::InRow(input, count) => vec![input; *count],
            Self::SideBySide(inputs) => inputs.iter().collect(),
        }
    }

    /// Of the inputs and the states: the outputs, and the states behind the step.
    fn step(&self, x: Vec<Vec<u8>>, states: Vec<Vec<u8>>) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
        match self {
            Self::InRow(_, count) => {
                let output = states.last().cloned();
                (output.into_iter().collect(), x.into_iter().chain(states).take(*count).collect())
            }
            Self::SideBySide(_) => (states, x),
        }
    }
}

fn width(spec: &TensorSpec) -> usize {
    let (outer, inner) = sizes(spec);
    outer * inner
}

/// What a slot holds, as the rules say: a new generation begins anew, and an older one has no say any more.
struct Row {
    generation: u64,
    /// A step of this generation has run.
    kept: bool,
    states: Vec<Vec<u8>>,
}

/// Streams that come, go on and end at random.
fn schedule(target: &Target, random: &mut Random, delay: &Delay) -> Verdict {
    let (limit, capacity) = (random.within(1, 8), random.within(8, 20));
    let initial: Vec<_> = delay.states().into_iter().map(|spec| random.bytes(width(spec))).collect();
    let mut model = match delay {
        Delay::InRow(input, _) => Model::delay(input, initial.clone(), limit, capacity),
        Delay::SideBySide(inputs) => Model::delays(inputs.clone(), initial.clone(), limit, capacity),
    };
    model.buckets = random.one_of(&[vec![], vec![limit]]);
    let mut pipeline = model.on(target)?;
    let fresh = |generation| Row { generation, kept: false, states: initial.clone() };
    let mut rows: Vec<_> = (0..capacity).map(|_| fresh(0)).collect();
    let mut under_way = VecDeque::new();
    for _ in 0..40 {
        let slots = choose(random, &rows, limit);
        for (index, row) in rows.iter().enumerate() {
            let generation = random.within(1, 3) as u64;
            let here = row.kept && row.generation == generation;
            if pipeline.holds(Slot { index, generation, begun: true }) != here {
                return Err(
                    format!("slot {index} of generation {generation}: is its state here? {here}").into()
                );
            }
        }
        // All steps of a batch find their states before any of them is replaced.
        let mut batch = Vec::new();
        let mut next = Vec::new();
        for slot in slots {
            let row = &mut rows[slot.index];
            if slot.generation > row.generation {
                *row = fresh(slot.generation);
            }
            if slot.begun && slot.generation != row.generation {
                // Its successor is in the same batch, before it.
                continue;
            }
            let found = if slot.begun { row.states.clone() } else { initial.clone() };
            let x: Vec<_> = delay.inputs().iter().map(|spec| random.bytes(width(spec))).collect();
            let payloads = x.iter().map(|x| Payload::Rows(x.clone().into())).collect();
            let (outputs, kept) = delay.step(x, found);
            next.push((slot, kept));
            let expected = outputs.into_iter().map(|output| vec![output]).collect();
            batch.push(Request { rows: 1, payloads, slot: Some(slot), expected });
        }
        for (Slot { index, generation, .. }, kept) in next {
            if generation == rows[index].generation && generation != 0 {
                (rows[index].states, rows[index].kept) = (kept, true);
            }
        }
        launch(&mut *pipeline, &batch)?;
        under_way.push_back(batch);
        // Sometimes the next batch is sent before this one has landed.
        while under_way.len() >= pipeline.depth() || random.percent(30) {
            let Some(batch) = under_way.pop_front() else { break };
            land(&mut *pipeline, &model, &batch)?;
        }
    }
    under_way.iter().try_for_each(|batch| land(&mut *pipeline, &model, batch))
}

/// Whose steps the next batch has: each stream's once, but a late step of a slot's former owner may be among them.
fn choose(random: &mut Random, rows: &[Row], limit: usize) -> Vec<Slot> {
    let count = random.within(1, limit);
    let mut slots: Vec<Slot> = Vec::new();
    while slots.len() < count {
        let index = random.below(rows.len());
        let generation = rows[index].generation;
        let generation = match random.below(10) {
            0 => 0,
            1 | 2 => generation + 1,
            3 => generation.saturating_sub(1),
            _ => generation.max(1),
        };
        let begun = generation == rows[index].generation && rows[index].kept;
        let slot = Slot { index, generation, begun };
        if generation == 0 || !slots.contains(&slot) {
            slots.push(slot);
        }
    }
    slots
}
