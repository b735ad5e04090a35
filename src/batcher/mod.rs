//! When to run what: the policy that joins waiting requests into batches.
//!
//! A state machine without clock, I/O or threads: it is stepped with `now`, so that a seed replays any schedule.
//! The lanes of a model share one [`Batcher`] behind a lock, and each that is free asks it for the
//! [`next`](Batcher::next) batch. What to do when a batch fails is told by [`Bisect`].

mod bisect;
mod group;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

pub use bisect::Bisect;
use group::{Group, Rank};

use crate::clock::Time;
use crate::tensor::GroupKey;

/// What the policy needs to know of a request. Except for [`is_gone`](Entry::is_gone), which may turn true,
/// nothing of it changes while it waits.
pub trait Entry {
    /// Requests share a batch only if their keys are equal.
    fn key(&self) -> &GroupKey;
    /// From 1 to the policy's `max_batch_size`; whoever admits the request has seen to it.
    fn rows(&self) -> usize;
    /// 0 is the most urgent level; the least urgent one takes all beyond it.
    fn priority(&self) -> usize;
    fn enqueued(&self) -> Time;
    /// From this moment on the request is not worth running.
    fn deadline(&self) -> Option<Time>;
    /// Whether nobody waits for the answer any more.
    fn is_gone(&self) -> bool;
}

#[derive(Debug, Clone)]
pub struct Policy {
    /// The rows that no batch exceeds.
    pub max_batch_size: usize,
    /// Sizes worth running at once while there is still time to wait; a full batch always is.
    pub preferred_batch_size: Vec<usize>,
    /// How long a free lane may leave a request waiting for others to join it; zero: not at all.
    pub max_queue_delay: Duration,
    /// A more urgent level goes first whenever it is ready, however long the others have waited.
    pub priority_levels: usize,
}

/// What a lane has use for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Want {
    /// Whatever is worth running.
    Any,
    /// Only a batch that would not grow any more: the lane is busy, and the others may as well wait for company.
    Full,
}

/// What a lane does next.
#[derive(Debug, PartialEq, Eq)]
pub enum Next<T> {
    /// Run these, in this order; never empty.
    Run(Vec<T>),
    /// Ask again when a request has arrived, or at this time if there is one (which may prove too early).
    Wait(Option<Time>),
}

/// Why a request leaves without having run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dropped {
    /// Its deadline has come.
    Expired,
    /// Its caller has left.
    Gone,
}

/// The requests that wait for a lane.
///
/// The requests of one key form a group, ordered by level, then arrival, and a batch is always a run of requests
/// from the front of one group: nobody in it is overtaken, and room that a level leaves goes to the levels behind.
pub struct Batcher<T> {
    policy: Policy,
    /// Only groups in which somebody waits: a client chooses the keys, so an empty one must not stay.
    groups: BTreeMap<GroupKey, Group<T>>,
    len: usize,
    /// No waiting request has a deadline before this; it may be that of a request which has run since.
    earliest_deadline: Option<Time>,
}

impl<T: Entry> Batcher<T> {
    /// Preferred sizes that no batch can have are ignored, and a limit of zero is taken as one.
    pub fn new(mut policy: Policy) -> Self {
        let max = policy.max_batch_size.max(1);
        policy.max_batch_size = max;
        policy.priority_levels = policy.priority_levels.max(1);
        policy.preferred_batch_size.retain(|size| (1..=max).contains(size));
        Self { policy, groups: BTreeMap::new(), len: 0, earliest_deadline: None }
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn push(&mut self, entry: T) {
        debug_assert!((1..=self.policy.max_batch_size).contains(&entry.rows()), "admission checks the rows");
        self.earliest_deadline = earlier(self.earliest_deadline, entry.deadline());
        self.len += 1;
        let level = entry.priority().min(self.policy.priority_levels - 1);
        match self.groups.get_mut(entry.key()) {
            Some(group) => group.push(level, entry),
            None => {
                let key = entry.key().clone();
                self.groups.entry(key).or_default().push(level, entry);
            }
        }
    }

    /// Decides for one lane, and hands every request that is not to run any more to `dropped`.
    ///
    /// The most urgent group that is ready runs: the one whose front has the lowest level, then the greatest age.
    /// A group is ready when it fills a batch, when a preferred size falls between two of its requests, or when
    /// its oldest request has waited for `max_queue_delay`; for a lane that wants full batches, age does not count.
    /// Deadlines are kept to the moment; that a caller has left is seen when its request is about to run.
    ///
    /// Costs the groups plus one batch; preferred sizes add a look into the groups that are still waiting for
    /// more, and a deadline that comes adds one look at everything.
    pub fn next(&mut self, now: Time, want: Want, dropped: &mut impl FnMut(T, Dropped)) -> Next<T> {
        if self.earliest_deadline.is_some_and(|deadline| deadline <= now) {
            self.sweep(now, dropped);
        }
        while let Some((key, limit)) = self.most_urgent(now, want)
            && let Some(group) = self.groups.get_mut(&key)
        {
            // Requests that turn out to be gone may have been what made the group ready, so it is judged again.
            let gone = group.weed(limit, now, dropped);
            let batch = if gone == 0 { group.take(limit) } else { Vec::new() };
            self.len -= gone + batch.len();
            if group.is_empty() {
                self.groups.remove(&key);
            }
            if !batch.is_empty() {
                return Next::Run(batch);
            }
        }
        Next::Wait(self.wake(want))
    }

    /// Nobody will come to join those who wait: from now on they run as soon as a lane is free.
    pub fn close(&mut self) {
        self.policy.max_queue_delay = Duration::ZERO;
    }

    /// Takes out all that waits, group by group.
    pub fn drain(&mut self) -> impl Iterator<Item = T> + use<T> {
        self.len = 0;
        self.earliest_deadline = None;
        std::mem::take(&mut self.groups).into_values().flat_map(Group::into_entries)
    }

    /// The group to run now, and the rows that its batch may have.
    fn most_urgent(&self, now: Time, want: Want) -> Option<(GroupKey, usize)> {
        let mut best: Option<(Rank, &GroupKey, usize)> = None;
        for (key, group) in &self.groups {
            let Some(rank) = group.rank() else { continue };
            if best.is_some_and(|(most_urgent, ..)| most_urgent <= rank) {
                continue;
            }
            if let Some(limit) = self.policy.ready(group, now, want) {
                best = Some((rank, key, limit));
            }
        }
        best.map(|(_, key, limit)| (key.clone(), limit))
    }

    /// When a lane that waits must look again although nothing arrives.
    fn wake(&self, want: Want) -> Option<Time> {
        let oldest = self.groups.values().filter_map(Group::oldest).min()?;
        let due = (want == Want::Any).then(|| oldest + self.policy.max_queue_delay);
        earlier(due, self.earliest_deadline)
    }

    fn sweep(&mut self, now: Time, dropped: &mut impl FnMut(T, Dropped)) {
        self.earliest_deadline = None;
        self.groups.retain(|_, group| {
            self.len -= group.weed(usize::MAX, now, dropped);
            for entry in group.entries() {
                self.earliest_deadline = earlier(self.earliest_deadline, entry.deadline());
            }
            !group.is_empty()
        });
    }
}

impl Policy {
    /// The rows that a batch of this group may have if it runs now; `None` if it had better wait.
    fn ready<T: Entry>(&self, group: &Group<T>, now: Time, want: Want) -> Option<usize> {
        let max = self.max_batch_size;
        let due = |oldest| oldest + self.max_queue_delay <= now;
        if want == Want::Any && group.oldest().is_some_and(due) {
            return Some(max);
        }
        self.preferred(group).or((group.rows() >= max).then_some(max))
    }

    /// The largest preferred size, or full batch, that ends exactly between two requests.
    fn preferred<T: Entry>(&self, group: &Group<T>) -> Option<usize> {
        if self.preferred_batch_size.is_empty() {
            return None;
        }
        let mut best = None;
        let mut rows = 0;
        for entry in group.entries() {
            rows += entry.rows();
            if rows > self.max_batch_size {
                break;
            }
            if rows == self.max_batch_size || self.preferred_batch_size.contains(&rows) {
                best = Some(rows);
            }
        }
        best
    }
}

fn earlier(a: Option<Time>, b: Option<Time>) -> Option<Time> {
    a.into_iter().chain(b).min()
}
