//! A model's queue and lanes, with an engine that does what a test tells it.

use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, select, unbounded};
use smallvec::smallvec;
use thalweg::batcher::Policy;
use thalweg::clock::{Clock, Time};
use thalweg::device::{Cpu, TensorView};
use thalweg::engine::{Halt, Running};
use thalweg::error::{Code, Error, Result};
use thalweg::lane::{Cores, Feed, Host, Pipeline, Supervisor};
use thalweg::metrics::{Metrics, ModelMetrics};
use thalweg::queue::{Draft, Memory, Places, Producer, channel};
use thalweg::reply::{Answer, Mailbox};
use thalweg::streams::Slot;
use thalweg::tensor::{
    BatchOutput, Column, DataType, Dim, GroupKey, Payload, Shape, Signature, StateSpec, Storage, TensorSpec,
};

/// A run that sees it fails.
pub const POISON: i64 = 666;
/// A run that sees it panics.
pub const PANIC: i64 = 667;

/// Nothing here takes long: who waits for this has found a lost wake or a lost answer.
pub const STUCK: Duration = Duration::from_secs(60);

/// What the engine does with a run that a test has seen start; until it is told, the run stalls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    Work,
    LoseRow,
    Fail,
    /// As ONNX Runtime says it.
    NoMemory,
    Panic,
}

/// Doubles its one input; one with state gives the sum so far.
struct Fake {
    lane: usize,
    started: Sender<(usize, Vec<i64>)>,
    /// Once nobody sends, it works unguided.
    then: Receiver<Then>,
    /// Ends a run that stalls.
    halt: (Sender<()>, Receiver<()>),
    heeds_halt: bool,
}

impl Running for Fake {
    fn run(&mut self, inputs: &[TensorView<'_>]) -> Result<BatchOutput> {
        let view = &inputs[0];
        let values = bytemuck::cast_slice::<u8, i64>(view.data);
        let _ = self.started.send((self.lane, values.to_vec()));
        // So that others have their turn while a run is under way.
        std::thread::yield_now();
        let fail = |why: &'static str| Err(Error::new(Code::InferenceFailed, why));
        let then = select! {
            recv(self.then) -> then => then.unwrap_or(Then::Work),
            recv(self.halt.1) -> _ => return fail("Exiting due to terminate flag being set to true"),
        };
        assert!(then != Then::Panic && !values.contains(&PANIC), "the engine panics, as told");
        match then {
            Then::Fail => return fail("failed, as told"),
            Then::NoMemory => return fail("Failed to allocate memory for requested buffer of size 4096"),
            _ if values.contains(&POISON) => return fail("poison"),
            _ => {}
        }
        let axis = view.shape.len() - 2;
        let mut shape = view.shape.clone();
        let mut given: Vec<i64> = match inputs.get(1) {
            None => values.iter().map(|value| value * 2).collect(),
            Some(sums) => {
                let sums = bytemuck::cast_slice::<u8, i64>(sums.data);
                sums.iter().zip(values).map(|(sum, value)| sum + value).collect()
            }
        };
        if then == Then::LoseRow {
            shape[axis] -= 1;
            given.truncate(shape.iter().product());
        }
        let column = |_: &TensorView<'_>| column(&given, shape.clone(), axis);
        Ok(BatchOutput::new(inputs.iter().map(column).collect()))
    }

    fn halt(&self) -> Option<Halt> {
        let halt = self.halt.0.clone();
        let halt = move || {
            // The engine may have gone.
            let _ = halt.send(());
        };
        self.heeds_halt.then(|| Arc::new(halt) as Halt)
    }
}

fn column(values: &[i64], shape: Shape, axis: usize) -> Column {
    let storage = Storage::Fixed(Box::new(bytemuck::cast_slice(values).to_vec()));
    Column::new(DataType::Int64, shape, Some(axis), storage).unwrap()
}

/// How a model is set up; its input is `[batch, n]`, or `[2, batch, n]`.
pub struct Setup {
    pub lanes: usize,
    pub batch_axis: usize,
    pub places: usize,
    pub memory: usize,
    pub policy: Policy,
    pub guided: bool,
    /// Whether a lane that has failed has another engine.
    pub again: bool,
    /// Whether there is a row of state, and so a queue for each lane.
    pub state: bool,
    /// Whether a run ends that is asked to.
    pub heeds_halt: bool,
}

impl Default for Setup {
    fn default() -> Self {
        let policy = Policy {
            max_batch_size: 4,
            preferred_batch_size: vec![],
            max_queue_delay: Duration::ZERO,
            priority_levels: 1,
        };
        Self {
            lanes: 1,
            batch_axis: 0,
            places: 64,
            memory: 1 << 20,
            policy,
            guided: true,
            again: false,
            state: false,
            heeds_halt: true,
        }
    }
}

pub struct Model {
    /// Of the first queue, which mostly is the only one; `None` once it is closed.
    pub producer: Option<Producer>,
    pub producers: Vec<Producer>,
    feeds: Vec<Weak<Feed>>,
    pub places: Places,
    pub memory: Memory,
    pub clock: Clock,
    /// What the runs take of them.
    pub cores: Arc<Cores>,
    metrics: Arc<Metrics>,
    model_metrics: Arc<ModelMetrics>,
    started: Receiver<(usize, Vec<i64>)>,
    then: Vec<Option<Sender<Then>>>,
    lanes: Vec<JoinHandle<()>>,
}

impl Setup {
    pub fn start(self) -> Model {
        let clock = Clock::start();
        let metrics = Metrics::new().unwrap();
        let model_metrics = metrics.model("fake", "1");
        let (places, memory) = (Places::new(self.places), Memory::new(self.memory));
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
            states: if self.state { vec![sums()] } else { vec![] },
            max_batch_size: self.policy.max_batch_size,
        };
        let queue = || {
            let (producer, requests) = channel(places.clone(), memory.clone());
            (producer, Feed::new(requests, self.policy.clone(), clock, Arc::clone(&model_metrics)))
        };
        let (producers, feeds): (Vec<_>, Vec<_>) =
            (0..if self.state { self.lanes } else { 1 }).map(|_| queue()).unzip();
        let cores = Cores::of_this_machine();
        let (start, started) = unbounded();
        let (mut then, mut lanes) = (Vec::new(), Vec::new());
        for (lane, feed) in (0..self.lanes).zip(feeds.iter().cycle()) {
            let (sender, receiver) = unbounded();
            then.push(self.guided.then_some(sender));
            let (start, signature, heeds_halt) = (start.clone(), signature.clone(), self.heeds_halt);
            let on = Arc::clone(&cores);
            let make = move || {
                let (started, then) = (start.clone(), receiver.clone());
                let fake = Fake { lane, started, then, halt: unbounded(), heeds_halt };
                Host::new(Cpu::new(&signature, &[], &[]), Box::new(fake)).on(&on, 1)
            };
            let (feed, metrics) = (Arc::clone(feed), Arc::clone(&model_metrics));
            let supervisor = if self.again {
                let make = Box::new(move || Ok(Box::new(make()) as Box<dyn Pipeline>));
                Supervisor { name: format!("lane-{lane}"), feed, make, clock, metrics }
            } else {
                Supervisor::of_one(make(), feed, clock, metrics)
            };
            lanes.push(supervisor.start().unwrap());
        }
        let producer = Some(producers[0].clone());
        let feeds = feeds.iter().map(Arc::downgrade).collect();
        Model {
            producer,
            producers,
            feeds,
            places,
            memory,
            clock,
            cores,
            metrics,
            model_metrics,
            started,
            then,
            lanes,
        }
    }
}

/// A number for each stream, 0 at first.
fn sums() -> StateSpec {
    let spec = |name: &str| TensorSpec {
        name: name.into(),
        datatype: DataType::Int64,
        dims: vec![Dim::Dynamic, Dim::Fixed(1)],
        batch_axis: Some(0),
    };
    StateSpec { input: spec("s"), output: spec("t"), initial: vec![0; 8] }
}

impl Model {
    /// Waits for a run to start; its lane, and the values it sees.
    pub fn started(&self) -> (usize, Vec<i64>) {
        let (lane, values) = self.started.recv_timeout(STUCK).expect("no run starts");
        if self.then[lane].is_some() {
            // It waits to be told what to do.
            assert!(self.cores.computing() > 0);
        }
        (lane, values)
    }

    pub fn go_on(&self, lane: usize, then: Then) {
        self.then[lane].as_ref().unwrap().send(then).unwrap();
    }

    /// Lets a run that has started do its work, and waits for the next to start.
    pub fn step(&self) -> Vec<i64> {
        self.go_on(0, Then::Work);
        self.started().1
    }

    /// From here on the engine is not guided.
    pub fn let_go(&mut self) {
        self.then.iter_mut().for_each(|then| *then = None);
    }

    /// From here on the engine of one lane is not guided.
    pub fn let_go_of(&mut self, lane: usize) {
        self.then[lane] = None;
    }

    /// The watchdog looks as it would in an hour: which lanes it gives up, and how many requests it takes from each.
    pub fn watch(&self) -> Vec<(String, usize)> {
        self.watchdog()()
    }

    /// [`watch`](Self::watch), for another thread.
    pub fn watchdog(&self) -> impl Fn() -> Vec<(String, usize)> + Send + 'static {
        let (feeds, clock) = (self.feeds.clone(), self.clock);
        move || {
            let now = clock.now() + Duration::from_secs(3600);
            let late = feeds.iter().filter_map(Weak::upgrade);
            let late = late.flat_map(|feed| feed.give_up_runs(now, Duration::from_secs(1800)));
            late.map(|late| (late.lane, late.requests)).collect()
        }
    }

    /// Lanes at work, in all queues.
    pub fn up(&self) -> usize {
        self.producers.iter().map(Producer::lanes).sum()
    }

    /// Waits until so many lanes are at work.
    pub fn wait_for_lanes(&self, lanes: usize) {
        let end = self.clock.now() + STUCK;
        while self.up() != lanes {
            assert!(self.clock.now() < end, "the lane does not come back");
            std::thread::yield_now();
        }
    }

    /// No request will come; waits for the lanes to end. How many of them died?
    pub fn close(&mut self) -> usize {
        self.producer = None;
        self.producers.clear();
        self.let_go();
        // Each lane's engine holds a sender: the channel closes with the last of them.
        let last = std::iter::repeat_with(|| self.started.recv_timeout(STUCK)).find_map(Result::err);
        assert_eq!(last, Some(RecvTimeoutError::Disconnected), "a lane does not end");
        self.lanes.drain(..).for_each(|lane| lane.join().unwrap());
        assert_eq!(self.cores.computing(), 0);
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

    /// A row of two numbers, which shares no batch with rows of one.
    pub fn ask_wide(&mut self, model: &Model, values: [i64; 2]) {
        let ask = Ask { rows: 1, values: values.to_vec(), deadline: None, priority: 0 };
        self.ask(model.producer.as_ref().unwrap(), model.clock.now(), 0, ask);
    }

    /// Steps of streams that wait for one lane: the slot, whether its stream has begun, and the number.
    pub fn ask_steps(&mut self, model: &Model, lane: usize, steps: &[(usize, bool, i64)]) {
        for &(index, begun, value) in steps {
            let draft = Draft {
                payloads: smallvec![Payload::Rows(Bytes::copy_from_slice(&value.to_le_bytes()))],
                rows: 1,
                key: GroupKey(smallvec![1]),
                slot: Some(Slot { index, generation: 1, begun }),
                priority: 0,
                enqueued: model.clock.now(),
                deadline: None,
            };
            model.producers[lane].submit(draft, self.mailbox.issue(self.asked));
            self.asked += 1;
        }
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
