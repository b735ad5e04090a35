//! A model without ONNX Runtime, which doubles its input, and waits or fails when a test says so.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};
use thalweg::batcher::Policy;
use thalweg::device::{Cpu, TensorView};
use thalweg::engine::Running;
use thalweg::error::{Code, Error};
use thalweg::lane::{Feed, Host, Pipeline, Supervisor};
use thalweg::net::State;
use thalweg::queue::{self, Places};
use thalweg::registry::file::{BytesFile, ModelFile, StreamFile};
use thalweg::registry::{Served, Stream};
use thalweg::tensor::{BatchOutput, Column, DataType, Dim, Signature, Storage, TensorSpec};

/// How a fake model runs.
#[derive(Clone)]
pub enum Engine {
    Doubles,
    /// Each run says that it has begun and waits until it may end, or the gate is gone.
    Gated(Sender<()>, Receiver<()>),
    /// Ends its lane, as a fault in native code's wrapper might.
    Panics,
}

/// The test's side of a gated engine; runs go on by themselves once it is dropped.
pub struct Gate {
    begun: Receiver<()>,
    _hold: Sender<()>,
}

impl Engine {
    pub fn gated() -> (Self, Gate) {
        let (begin, begun) = crossbeam_channel::unbounded();
        let (hold, held) = crossbeam_channel::bounded(0);
        (Self::Gated(begin, held), Gate { begun, _hold: hold })
    }
}

impl Gate {
    /// Does something on a thread of its own, once a run has begun.
    pub fn at_run(&self, then: impl FnOnce() + Send + 'static) -> JoinHandle<()> {
        let begun = self.begun.clone();
        std::thread::spawn(move || {
            begun.recv_timeout(Duration::from_secs(60)).expect("the lane takes the request");
            then();
        })
    }

    /// Waits until a run has begun.
    pub fn wait_for_run(&self) {
        self.begun.recv_timeout(Duration::from_secs(60)).expect("the lane takes the request");
    }
}

impl Running for Engine {
    fn run(&mut self, inputs: &[TensorView<'_>]) -> thalweg::error::Result<BatchOutput> {
        match self {
            Self::Doubles => {}
            Self::Gated(begin, held) => {
                let _ = begin.send(());
                let _ = held.recv();
            }
            // Unwinds like a panic, without its lines on the screen.
            Self::Panics => std::panic::resume_unwind(Box::new("the engine panics")),
        }
        let [x] = inputs else { panic!("one input") };
        let values = x.data.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes));
        let bytes: Vec<u8> = values.flat_map(|value| (value * 2.0).to_le_bytes()).collect();
        let y = Column::new(DataType::Fp32, x.shape.clone(), Some(0), Storage::Fixed(Box::new(bytes)));
        Ok(BatchOutput::new(vec![y.expect("the output has the input's shape")]))
    }
}

/// A model from `x` to `y`, FP32 `[-1, 4]`, that also takes a stream's bytes, two from either end.
pub struct Fake {
    pub served: Served,
    pub lane: JoinHandle<()>,
}

impl Fake {
    pub fn start(state: &State, name: &str, max_queue_size: usize, engine: Engine) -> Self {
        let spec = |name: &str| TensorSpec {
            name: name.to_owned(),
            datatype: DataType::Fp32,
            dims: vec![Dim::Dynamic, Dim::Fixed(4)],
            batch_axis: Some(0),
        };
        let signature = Signature {
            inputs: vec![spec("x")],
            outputs: vec![spec("y")],
            states: vec![],
            max_batch_size: 64,
        };
        let stream = StreamFile::Bytes(BytesFile {
            head: 2,
            tail: 2,
            block: None,
            strip: false,
            pad: 0,
            min_length: 0,
        });
        let stream = Stream::new(&stream, &signature).unwrap();
        let policy = Policy {
            max_batch_size: signature.max_batch_size,
            preferred_batch_size: Vec::new(),
            max_queue_delay: Duration::ZERO,
            priority_levels: 1,
        };
        let metrics = state.metrics.model(name, "1");
        let (producer, requests) = queue::channel(Places::new(max_queue_size), state.memory.clone());
        let feed = Feed::new(requests, policy, state.clock, Arc::clone(&metrics));
        let feeds = vec![Arc::downgrade(&feed)];
        let (of_lane, conversion) = (signature.clone(), stream.conversion());
        let mut made = false;
        let make = move || {
            // What panics once will do so again.
            if made && matches!(engine, Engine::Panics) {
                return Err(Error::new(Code::Internal, "there is no other"));
            }
            made = true;
            let device = Cpu::new(&of_lane, std::slice::from_ref(&conversion), &[]);
            Ok(Box::new(Host::new(device, Box::new(engine.clone()))) as Box<dyn Pipeline>)
        };
        let (name_of_lane, make) = (format!("lane-0-{name}"), Box::new(make));
        let metrics_of_lane = Arc::clone(&metrics);
        let supervisor =
            Supervisor { name: name_of_lane, feed, make, clock: state.clock, metrics: metrics_of_lane };
        let lane = supervisor.start().unwrap();
        let served = Served {
            name: name.to_owned(),
            version: 1,
            version_text: "1".to_owned(),
            signature: Arc::new(signature),
            stream: Some(stream),
            output: None,
            file: ModelFile::default(),
            producers: vec![producer],
            feeds,
            streams: None,
            sequences: None,
            metrics,
            profile: None,
        };
        Self { served, lane }
    }
}
