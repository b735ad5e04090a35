//! Two lanes with their queues and batchers, and a thousand streams that each keep their own state.

use std::sync::Arc;
use std::task::{Context, Wake, Waker};
use std::thread::{JoinHandle, Thread};
use std::time::Duration;

use smallvec::smallvec;

use super::model::{Model, same, tensor};
use super::random::Random;
use super::{Target, Verdict, Wrong};
use crate::batcher::Policy;
use crate::clock::Clock;
use crate::error::{Code, Error};
use crate::lane::{Feed, Supervisor, WarmUp};
use crate::metrics::Metrics;
use crate::queue::{self, Draft, Memory, Places, Producer};
use crate::reply::{Answer, Mailbox};
use crate::streams::{Seat, Slot, Streams};
use crate::tensor::{DataType, GroupKey, Payload};

const LANES: usize = 2;
const STREAMS: usize = 1000;
const ROUNDS: usize = 6;
const WIDTH: usize = 24;
const LIMIT: usize = 64;

/// Nothing here takes long: who waits for this has found a lost wake or a lost answer.
const STUCK: Duration = Duration::from_secs(60);

struct Stream {
    seat: Seat,
    last: Vec<u8>,
    /// A step has been answered since it opened or was reset.
    begun: bool,
}

/// What the connection of a lane's streams remembers of a step: whose it is, and what its answer has to be.
struct Step {
    stream: usize,
    expected: Result<Vec<u8>, Code>,
}

pub(super) fn streams(target: &Target, random: &mut Random) -> Verdict {
    let clock = Clock::start();
    let initial = random.bytes(WIDTH);
    let input = tensor("x", DataType::Uint8, &[], &[WIDTH]);
    let model = Model::delay(&input, vec![initial.clone()], LIMIT, STREAMS);
    let lanes: Vec<_> = (0..LANES).map(|_| start(target, &model, clock)).collect::<Result<_, _>>()?;
    let (producers, threads): (Vec<_>, Vec<_>) = lanes.into_iter().unzip();
    let mailboxes: Vec<_> = (0..LANES).map(|_| Mailbox::<Step>::new(STREAMS)).collect();

    let seats = Streams::new(LANES, STREAMS);
    let open = || seats.open().map(|seat| Stream { seat, last: initial.clone(), begun: false });
    let mut streams: Vec<_> =
        std::iter::repeat_with(open).take(STREAMS).collect::<Option<_>>().ok_or("no seat")?;
    for _ in 0..ROUNDS {
        for (index, stream) in streams.iter_mut().enumerate() {
            if random.percent(5) {
                stream.seat.reset();
                stream.last.clone_from(&initial);
                stream.begun = false;
            }
            let misfit = random.percent(1);
            let x = random.bytes(if misfit { WIDTH - 1 } else { WIDTH });
            let expected =
                if misfit { Err(Code::Internal) } else { Ok(std::mem::replace(&mut stream.last, x.clone())) };
            let draft = Draft {
                payloads: smallvec![Payload::Rows(x.into())],
                rows: 1,
                key: GroupKey::default(),
                slot: Some(Slot { begun: stream.begun, ..stream.seat.slot() }),
                priority: 0,
                enqueued: clock.now(),
                deadline: None,
            };
            stream.begun |= !misfit;
            let lane = stream.seat.lane();
            let ticket = mailboxes[lane].issue(Step { stream: index, expected });
            producers[lane].submit(draft, ticket);
        }
        // One step of a stream is in flight: the next round comes when all are answered.
        let asked: Vec<_> =
            (0..LANES).map(|lane| streams.iter().filter(|s| s.seat.lane() == lane).count()).collect();
        for (mailbox, asked) in mailboxes.iter().zip(asked) {
            answers(mailbox, asked, clock)?;
        }
    }
    drop(producers);
    threads.into_iter().try_for_each(|thread| thread.join()).map_err(|_| "a lane died".into())
}

/// A lane with a queue of its own.
fn start(target: &Target, model: &Model, clock: Clock) -> Result<(Producer, JoinHandle<()>), Wrong> {
    let metrics = Metrics::new()?.model("check", "1");
    let (producer, requests) = queue::channel(Places::new(STREAMS), Memory::new(1 << 24));
    let policy = Policy {
        max_batch_size: LIMIT,
        preferred_batch_size: Vec::new(),
        max_queue_delay: Duration::ZERO,
        priority_levels: 1,
    };
    let feed = Feed::new(requests, policy, clock, Arc::clone(&metrics));
    let mut only = Some(model.on(target)?);
    let signature = model.signature.clone();
    let make = move || {
        let mut pipeline = only.take().ok_or_else(|| Error::new(Code::Internal, "a lane has failed"))?;
        WarmUp::new(&signature, pipeline.rehearsal()).run(&mut *pipeline)?;
        Ok(pipeline)
    };
    let (name, make) = ("lane-check".into(), Box::new(make));
    // A lane that fails stays away, and its streams are refused.
    Ok((producer, Supervisor { name, feed, make, clock, metrics }.start()?))
}

/// Wakes the thread that waits for answers.
struct Bell(Thread);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Waits for so many answers, and compares each.
fn answers(mailbox: &Mailbox<Step>, asked: usize, clock: Clock) -> Verdict {
    let waker = Waker::from(Arc::new(Bell(std::thread::current())));
    let end = clock.now() + STUCK;
    let mut count = 0;
    while count < asked {
        let mut ready: Vec<(Step, Answer)> = Vec::new();
        if mailbox.poll_answers(&mut Context::from_waker(&waker), &mut ready).is_pending() {
            if clock.now() >= end {
                return Err(format!("{count} of {asked} steps were answered").into());
            }
            std::thread::park_timeout(end - clock.now());
        }
        count += ready.len();
        for (Step { stream, expected }, answer) in ready {
            let found = answer.map(|rows| {
                let slice = rows.column(0);
                slice.map_or(Vec::new(), |slice| slice.chunks().flatten().copied().collect::<Vec<u8>>())
            });
            match (found, expected) {
                (Ok(found), Ok(expected)) => {
                    same(&found, &expected).map_err(|why| format!("stream {stream}: {why}"))?;
                }
                (Err(error), Err(code)) if error.code == code => {}
                (Err(error), _) => return Err(format!("stream {stream}: {error}").into()),
                (Ok(_), Err(_)) => return Err(format!("stream {stream}: a misfit was answered").into()),
            }
        }
    }
    Ok(())
}
