//! One version of a model, as connections see it.

use std::sync::{Arc, Weak};
use std::time::Duration;

use super::file::ModelFile;
use super::output::Telling;
use super::profile::Profile;
use super::stream::Stream;
use crate::clock::Time;
use crate::error::{Code, Error};
use crate::lane::Feed;
use crate::metrics::ModelMetrics;
use crate::queue::{Draft, Producer};
use crate::reply::Ticket;
use crate::streams::{Seat, Sequences, Streams};
use crate::tensor::Signature;

pub struct Served {
    pub name: String,
    pub version: u64,
    /// The version as the wire writes it.
    pub version_text: String,
    pub signature: Arc<Signature>,
    pub stream: Option<Stream>,
    pub output: Option<Telling>,
    pub file: ModelFile,
    /// One for each lane, where the model keeps state; else one for all of them.
    pub producers: Vec<Producer>,
    /// The same queues, as long as they have lanes.
    pub feeds: Vec<Weak<Feed>>,
    /// Who owns which row of the lanes' state.
    pub streams: Option<Arc<Streams>>,
    /// The sequences that requests name, where the model keeps state.
    pub sequences: Option<Sequences<(Draft, Ticket)>>,
    pub metrics: Arc<ModelMetrics>,
    /// What its runs were measured to take on this machine, if they were.
    pub profile: Option<Profile>,
}

impl Served {
    /// Hands a request to a lane; without state, lane 0 stands for all of them.
    pub fn submit(&self, lane: usize, draft: Draft, ticket: Ticket) {
        match self.producers.get(lane) {
            Some(producer) => producer.submit(draft, ticket),
            None => ticket.refuse(Error::new(Code::Internal, "the stream's lane does not exist")),
        }
    }

    /// Seats a stream, if need be in the place of a sequence that nobody has used for long.
    pub fn open_stream(&self, now: Time) -> Option<Seat> {
        let streams = self.streams.as_ref()?;
        streams.open().or_else(|| {
            self.sequences.as_ref()?.sweep(now);
            streams.open()
        })
    }

    /// Whether every lane's queue is open.
    pub fn is_open(&self) -> bool {
        self.producers.iter().all(Producer::is_open)
    }

    /// Whether every queue has a lane at work.
    pub fn is_ready(&self) -> bool {
        self.producers.iter().all(|producer| producer.is_open() && producer.lanes() > 0)
    }

    /// Gives up the runs that have taken so long, and answers their requests.
    pub fn give_up_runs(&self, now: Time, after: Duration) {
        for late in self.feeds.iter().filter_map(Weak::upgrade).flat_map(|feed| feed.give_up_runs(now, after))
        {
            let seconds = late.time.as_secs();
            tracing::error!(
                model = self.name,
                version = self.version,
                lane = late.lane,
                seconds,
                requests = late.requests,
                "a run takes too long: its requests are answered without it, and its instance is away until it ends"
            );
        }
    }

    /// Lanes at work.
    pub fn lanes(&self) -> usize {
        self.producers.iter().map(Producer::lanes).sum()
    }

    /// Requests that wait.
    pub fn depth(&self) -> usize {
        self.producers.iter().map(Producer::depth).sum()
    }

    /// Requests that may wait.
    pub fn places(&self) -> usize {
        self.producers.iter().map(Producer::places).sum()
    }

    /// What batches are expected to take, by their size, in the instances that there are.
    pub fn expected(&self) -> impl Iterator<Item = (usize, Duration)> {
        let instances = self.file.instances();
        let threads = self.file.parameters.intra_op_thread_count;
        self.profile.iter().flat_map(move |profile| profile.expected(instances, threads))
    }

    /// The time-out of requests that name none.
    pub fn default_timeout(&self) -> Option<Duration> {
        let micros = self.file.dynamic_batching.default_timeout_microseconds;
        (micros > 0).then(|| Duration::from_micros(micros))
    }

    /// The queue's level for a request's `priority` (1 the most urgent, 0 the default); `None` if the model
    /// has no such level.
    pub fn level(&self, priority: u64) -> Option<usize> {
        let batching = &self.file.dynamic_batching;
        let levels = batching.priority_levels;
        let default = match batching.default_priority_level {
            0 => levels.div_ceil(2),
            level => level,
        };
        match usize::try_from(priority).ok()? {
            0 => Some(default.saturating_sub(1)),
            level => (level <= levels).then(|| level - 1),
        }
    }
}
