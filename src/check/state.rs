//! Each stream finds its own state, and nobody else's.

use std::collections::VecDeque;

use super::model::{Model, Request, land, launch, tensor};
use super::random::Random;
use super::{Target, Verdict};
use crate::streams::Slot;
use crate::tensor::{DataType, Payload};

pub(super) fn streams(target: &Target, random: &mut Random) -> Verdict {
    for before in [&[][..], &[2], &[3, 1]] {
        for states in 1..=3 {
            let datatype = random.one_of(&[DataType::Uint8, DataType::Fp32, DataType::Int64]);
            let size = random.one_of(&[1, 5, 16, 33]);
            schedule(target, random, (datatype, before, size), states)?;
        }
    }
    Ok(())
}

/// What a slot holds, as the rules say: a new generation begins anew, and an older one has no say any more.
struct Row {
    generation: u64,
    /// A step of this generation has run.
    kept: bool,
    /// The latest first.
    states: Vec<Vec<u8>>,
}

/// Streams that come, go on and end at random, in a model that delays by so many steps.
fn schedule(
    target: &Target,
    random: &mut Random,
    (datatype, before, size): (DataType, &[usize], usize),
    states: usize,
) -> Verdict {
    let width = before.iter().product::<usize>() * size * datatype.size().unwrap_or(1);
    let (limit, capacity) = (random.within(1, 8), random.within(8, 20));
    let initial: Vec<_> = (0..states).map(|_| random.bytes(width)).collect();
    let input = tensor("x", datatype, before, &[size]);
    let mut model = Model::delay(input, initial.clone(), limit, capacity);
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
            let x = random.bytes(width);
            let last = found.last().cloned().unwrap_or_default();
            let kept = std::iter::once(x.clone()).chain(found).take(states).collect();
            next.push((slot, kept));
            let payloads = vec![Payload::Rows(x.into())];
            batch.push(Request { rows: 1, payloads, slot: Some(slot), expected: vec![vec![last]] });
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
