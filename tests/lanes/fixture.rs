//! A model's queue and lanes, with an engine that does what a test tells it.

use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, unbounded};
use smallvec::smallvec;
use thalweg::batcher::Policy;
use thalweg::clock::{Clock, Time};
use thalweg::device::{Cpu, TensorView};
use thalweg::engine::Running;
use thalweg::error::{Code, Error, Result};
use thalweg::lane::{Feed, Host, Supervisor};
use thalweg::metrics::{Metrics, ModelMetrics};
use thalweg::queue::{Draft, Memory, Places, Producer, channel};
use thalweg::reply::{Answer, Mailbox};
use thalweg::tensor::{
    BatchOutput, Column, DataType, Dim, GroupKey, Payload, Signature, Storage, TensorSpec,
};

/// A run that sees it fails.
pub const POISON: i64 = 666;
/// A run that sees it panics.
pub const PANIC: i64 = 667;

/// Nothing here takes long: who waits for this has found a lost wake or a lost answer.
pub const STUCK: Duration = Duration::from_secs(60);

/// What the engine does with a run that a test has seen start.
#[derive(Debug, Clone, Copy)]
pub enum Then {
    Work,
    LoseRow,
}

/// Doubles its one input.
struct Fake {
    lane: usize,
    started: Sender<(usize, Vec<i64>)>,
    /// Once nobody sends, it works unguided.
    then: Receiver<Then>,
}

impl Running for Fake {
    fn run(&mut self, inputs: &[TensorView<'_>]) -> Result<BatchOutput> {
        let view = &inputs[0];
        let values = bytemuck::cast_slice::<u8, i64>(view.data);
        let _ = self.started.send((self.lane, values.to_vec()));
        let then = self.then.recv().unwrap_or(Then::Work);
        assert!(!values.contains(&PANIC), "the engine panics, as told");
        if values.contains(&POISON) {
            return Err(Error::new(Code::InferenceFailed, "poison"));
        }
        let axis = view.shape.len() - 2;
        let mut shape = view.shape.clone();
        let mut doubled: Vec<i64> = values.iter().map(|value| value * 2).collect();
        if let Then::LoseRow = then {
            shape[axis] -= 1;
            doubled.truncate(shape.iter().product());
        }
        let storage = Storage::Fixed(Box::new(bytemuck::cast_slice(&doubled).to_vec()));
        let column = Column::new(DataType::Int64, shape, Some(axis), storage).unwrap();
        Ok(BatchOutput { columns: vec![column] })
    }
}

/// How a model is set up; its input is `[batch, n]`, or `[2, batch, n]`.
pub struct Setup {
    pub lanes: usize,
    pub batch_axis: usize,
    pub places: usize,
    pub memory: usize,
    pub policy: Policy,
    pub guided: bool,
}

impl Default for Setup {
    fn default() -> Self {
        let policy = Policy {
            max_batch_size: 4,
            preferred_batch_size: vec![],
            max_queue_delay: Duration::ZERO,
            priority_levels: 1,
        };
        Self { lanes: 1, batch_axis: 0, places: 64, memory: 1 << 20, policy, guided: true }
    }
}

pub struct Model {
    /// `None` once it is closed.
    pub producer: Option<Producer>,
    pub places: Places,
    pub memory: Memory,
    pub clock: Clock,
    metrics: Arc<Metrics>,
    model_metrics: Arc<ModelMetrics>,
    started: Receiver<(usize, Vec<i64>)>,
    then: Vec<Sender<Then>>,
    lanes: Vec<JoinHandle<()>>,
}

impl Setup {
    pub fn start(self) -> Model {
        let clock = Clock::start();
        let metrics = Metrics::new().unwrap();
        let model_metrics = metrics.model("fake", "1");
        let (places, memory) = (Places::new(self.places), Memory::new(self.memory));
        let (producer, requests) = channel(places.clone(), memory.clone());
        let mut dims = vec![Dim::Fixed(2); self.batch_axis];
        dims.extend([Dim::Dynamic, Dim::Dynamic]);
        let spec = TensorSpec {
            name: "x".into(),
            datatype: DataType::Int64,
            dims,
            batch_axis: Some(self.batch_axis),
        };
        let signature = Signature {
            inputs: vec![spec.clone()],
            outputs: vec![spec],
            states: vec![],
            max_batch_size: self.policy.max_batch_size,
        };
        let feed = Feed::new(requests, self.policy, clock, Arc::clone(&model_metrics));
        let (start, started) = unbounded();
        let (mut then, mut lanes) = (Vec::new(), Vec::new());
        for lane in 0..self.lanes {
            let (sender, receiver) = unbounded();
            then.extend(self.guided.then_some(sender));
            let fake = Fake { lane, started: start.clone(), then: receiver };
            let pipeline = Host::new(Cpu::new(&signature, &[], &[]), Box::new(fake));
            let lane = Supervisor::of_one(pipeline, Arc::clone(&feed), clock, Arc::clone(&model_metrics));
            lanes.push(lane.start().unwrap());
        }
        let producer = Some(producer);
        Model { producer, places, memory, clock, metrics, model_metrics, started, then, lanes }
    }
}

impl Model {
    /// Waits for a run to start; its lane, and the values it sees.
    pub fn started(&self) -> (usize, Vec<i64>) {
        self.started.recv_timeout(STUCK).expect("no run starts")
    }

    pub fn go_on(&self, lane: usize, then: Then) {
        self.then[lane].send(then).unwrap();
    }

    /// Lets a run that has started do its work, and waits for the next to start.
    pub fn step(&self) -> Vec<i64> {
        self.go_on(0, Then::Work);
        self.started().1
    }

    /// From here on the engine is not guided.
    pub fn let_go(&mut self) {
        self.then.clear();
    }

    /// No request will come; waits for the lanes to end. How many of them died?
    pub fn close(&mut self) -> usize {
        self.producer = None;
        self.let_go();
        // Each lane's engine holds a sender: the channel closes with the last of them.
        let last = std::iter::repeat_with(|| self.started.recv_timeout(STUCK)).find_map(Result::err);
        assert_eq!(last, Some(RecvTimeoutError::Disconnected), "a lane does not end");
        self.lanes.drain(..).for_each(|lane| lane.join().unwrap());
        usize::try_from(self.count("thalweg_lane_failures_total")).unwrap()
    }

    /// A counter's value, 0 if it was never counted.
    pub fn count(&self, name: &str) -> u64 {
        let text = self.metrics.render();
        let line = text.lines().find(|line| line.starts_with(&format!("{name}{{")));
        line.map_or(0, |line| line.rsplit(' ').next().unwrap().parse().unwrap())
    }

    /// How many batches of each size the model ran.
    pub fn batches(&self) -> Vec<(usize, u64)> {
        let batches = self.model_metrics.statistics().batches;
        batches.into_iter().map(|(rows, (count, _))| (rows, count)).collect()
    }
}

/// Sends its wakes to whoever waits for answers.
struct Bell(Sender<()>);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        let _ = self.0.send(());
    }
}

/// A connection; it names its requests 0, 1, 2, ….
pub struct Client {
    pub mailbox: Arc<Mailbox<usize>>,
    pub asked: usize,
    waker: Waker,
    woken: Receiver<()>,
}

pub struct Ask {
    pub rows: usize,
    /// All rows, as the model takes them.
    pub values: Vec<i64>,
    pub deadline: Option<Time>,
    pub priority: usize,
}

impl Client {
    pub fn new(window: usize) -> Self {
        let (sender, woken) = unbounded();
        Self { mailbox: Mailbox::new(window), asked: 0, waker: Arc::new(Bell(sender)).into(), woken }
    }

    pub fn ask(&mut self, producer: &Producer, now: Time, axis: usize, ask: Ask) {
        let outer = [1, 2][axis];
        let draft = Draft {
            payloads: smallvec![Payload::Rows(Bytes::copy_from_slice(bytemuck::cast_slice(&ask.values)))],
            rows: ask.rows,
            key: GroupKey(smallvec![ask.values.len() / ask.rows / outer]),
            slot: None,
            priority: ask.priority,
            enqueued: now,
            deadline: ask.deadline,
        };
        producer.submit(draft, self.mailbox.issue(self.asked));
        self.asked += 1;
    }

    /// One row for each number.
    pub fn ask_rows(&mut self, model: &Model, values: &[i64]) {
        let ask = Ask { rows: values.len(), values: values.to_vec(), deadline: None, priority: 0 };
        self.ask(model.producer.as_ref().unwrap(), model.clock.now(), 0, ask);
    }

    /// The answers that are due, or an empty list.
    pub fn poll(&self) -> Vec<(usize, Result<Vec<i64>, Code>)> {
        let mut ready = Vec::new();
        let _: Poll<bool> = self.mailbox.poll_answers(&mut Context::from_waker(&self.waker), &mut ready);
        ready.into_iter().map(|(request, answer)| (request, plain(answer))).collect()
    }

    /// Waits for answers, at least one.
    pub fn wait(&self) -> Vec<(usize, Result<Vec<i64>, Code>)> {
        loop {
            let answers = self.poll();
            if !answers.is_empty() {
                return answers;
            }
            self.woken.recv_timeout(STUCK).expect("no answer comes");
        }
    }

    /// Waits for so many answers; each as a line.
    pub fn answers(&self, count: usize) -> String {
        let mut answers = Vec::new();
        while answers.len() < count {
            answers.extend(self.wait());
        }
        let line = |(request, answer): &(usize, Result<Vec<i64>, Code>)| match answer {
            Ok(values) => format!("{request}: {values:?}"),
            Err(code) => format!("{request}: {}", code.as_str()),
        };
        answers.iter().map(line).collect::<Vec<_>>().join(", ")
    }
}

fn plain(answer: Answer) -> Result<Vec<i64>, Code> {
    let rows = answer.map_err(|error| error.code)?;
    let bytes: Vec<u8> = rows.column(0).unwrap().chunks().flatten().copied().collect();
    Ok(bytemuck::pod_collect_to_vec(&bytes))
}
