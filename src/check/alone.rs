//! ONNX Runtime alone: what a model takes by itself, with its inputs where it wants them. Nothing that is put around a
//! model can be faster.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::batch::Batch;
use super::real;
use super::timing::{Effort, Samples, Times, sample};
use super::{Target, Wrong};
use crate::clock::Clock;
use crate::device::cuda::Compute;
use crate::device::{Buckets, TensorView};
use crate::engine::onnx::OnnxModel;
use crate::engine::{Bound, Running};
use crate::error::Result;
use crate::registry::Derived;
use crate::tensor::BatchOutput;

/// Runs one behind another, before they are waited for, are at least so long together,
const TRAIN: Duration = Duration::from_millis(20);
/// but no more than so many.
const LONGEST: usize = 256;

/// What a batch of a size takes the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Alone {
    pub rows: usize,
    /// Whether runs were replays of CUDA graphs.
    pub graphs: bool,
    /// Of a run that is waited for before the next is launched.
    pub single: Times,
    /// Of a run behind another: what the device could do if it were never idle.
    pub behind: Duration,
}

/// Measures a model's next run, if it is told to.
#[derive(Clone)]
pub(super) struct Meter {
    effort: Effort,
    clock: Clock,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
enum State {
    #[default]
    Off,
    On,
    Found(Times, Duration),
}

/// A model with a meter, and what to wait for until its runs are done.
pub(super) struct Metered<M: ?Sized, D> {
    pub(super) device: D,
    pub(super) meter: Meter,
    pub(super) model: Box<M>,
}

impl Meter {
    fn measure(&self, mut launch: impl FnMut() -> Result<()>, wait: Option<&Compute>) -> Result<()> {
        if !matches!(*self.state.lock(), State::On) {
            return Ok(());
        }
        let waited = || wait.map_or(Ok(()), Compute::wait);
        let single = sample(&self.effort, &self.clock, || launch().and_then(|()| waited()))?;
        let single = Samples::times(&[single]);
        let (mut count, mut behind) = (1, single.median);
        if wait.is_some() {
            let short =
                |count: &usize| single.median.saturating_mul(u32::try_from(*count).unwrap_or(1)) < TRAIN;
            let longer = std::iter::successors(Some(2), |count| Some(count * 2));
            count = longer.take_while(|count| *count <= LONGEST && short(&(count / 2))).last().unwrap_or(2);
            let train = sample(&self.effort, &self.clock, || {
                (0..count).try_for_each(|_| launch())?;
                waited()
            })?;
            behind = Samples::times(&[train]).median;
        }
        let each = behind / u32::try_from(count).unwrap_or(1);
        *self.state.lock() = State::Found(single, each);
        Ok(())
    }
}

impl Running for Metered<dyn Running, ()> {
    fn run(&mut self, inputs: &[TensorView<'_>]) -> Result<BatchOutput> {
        let Self { model, meter, .. } = self;
        meter.measure(|| model.run(inputs).map(drop), None)?;
        model.run(inputs)
    }
}

impl Bound for Metered<dyn Bound, Compute> {
    fn launch(&mut self, bucket: usize) -> Result<()> {
        let Self { model, meter, device } = self;
        // The inputs are on their way.
        device.wait()?;
        meter.measure(|| model.launch(bucket), Some(device))?;
        model.launch(bucket)
    }

    fn replays_graphs(&self) -> bool {
        self.model.replays_graphs()
    }
}

/// Measures batches of these sizes.
#[allow(clippy::too_many_arguments, reason = "each is one word of what is asked")]
pub fn alone(
    target: &Target,
    model: &OnnxModel,
    derived: &Derived,
    batch_sizes: &[usize],
    graphs: bool,
    effort: Effort,
    seed: u64,
    clock: Clock,
) -> std::result::Result<Vec<Alone>, String> {
    let meter = Meter { effort, clock, state: Arc::default() };
    let buckets = Buckets::new(batch_sizes.iter().copied().max().unwrap_or(1), batch_sizes);
    let pipeline = real::metered(target, model, derived, &buckets, graphs, Some(&meter));
    let mut pipeline = pipeline.map_err(|Wrong(why)| why)?;
    let graphs = graphs && matches!(target, Target::Gpu(_));
    let mut found = Vec::new();
    for &rows in buckets.sizes() {
        let batch = Batch::seeded(&derived.model, rows, seed);
        *meter.state.lock() = State::On;
        batch.run(&mut *pipeline)?;
        let State::Found(single, behind) = std::mem::take(&mut *meter.state.lock()) else {
            return Err(format!("a batch of {rows} rows never reached the model"));
        };
        found.push(Alone { rows, graphs, single, behind });
    }
    Ok(found)
}
