//! Memory is taken when a lane starts, and not for batches.

use super::model::{Model, Request, land, launch, tensor};
use super::random::Random;
use super::{Target, Verdict};
use crate::tensor::{DataType, Payload};

const WIDTH: usize = 100;

/// Many batches of all sizes take nothing; what was taken before comes back, as the suite sees behind each check.
pub(super) fn flat(target: &Target, random: &mut Random) -> Verdict {
    let before = target.taken();
    let limit = 64;
    let model = Model::echo(vec![tensor("x", DataType::Fp32, &[], &[WIDTH])], limit);
    let mut pipeline = model.on(target)?;
    let taken = target.taken();
    if matches!(target, Target::Gpu(_)) && (taken.0 <= before.0 || taken.1 <= before.1) {
        return Err(format!("a lane took nothing: {before:?} before, {taken:?} with it").into());
    }
    for _ in 0..200 {
        let rows = random.within(1, limit);
        let bytes = random.bytes(rows * WIDTH * 4);
        let expected = vec![bytes.chunks(WIDTH * 4).map(<[u8]>::to_vec).collect()];
        let payloads = vec![Payload::Rows(bytes.into())];
        let batch = [Request { rows, payloads, slot: None, expected }];
        launch(&mut *pipeline, &batch)?;
        land(&mut *pipeline, &model, &batch)?;
        if target.taken() != taken {
            return Err(format!("a batch of {rows} took memory: {taken:?}, now {:?}", target.taken()).into());
        }
    }
    Ok(())
}
