//! The waiting requests of one key, in the order in which they run: by level, then by arrival.

use std::collections::{BTreeMap, VecDeque};

use super::{Dropped, Entry};
use crate::clock::Time;

/// Level and arrival of the request at the front: the smaller, the more urgent.
pub(super) type Rank = (usize, Time);

pub(super) struct Group<T> {
    /// The requests of each level in order of arrival; no queue is empty.
    levels: BTreeMap<usize, VecDeque<T>>,
    rows: usize,
}

impl<T> Default for Group<T> {
    fn default() -> Self {
        Self { levels: BTreeMap::new(), rows: 0 }
    }
}

impl<T: Entry> Group<T> {
    pub fn push(&mut self, level: usize, entry: T) {
        self.rows += entry.rows();
        self.levels.entry(level).or_default().push_back(entry);
    }

    pub fn is_empty(&self) -> bool {
        self.levels.is_empty()
    }

    pub fn rows(&self) -> usize {
        self.rows
    }

    pub fn entries(&self) -> impl Iterator<Item = &T> {
        self.levels.values().flatten()
    }

    pub fn into_entries(self) -> impl Iterator<Item = T> {
        self.levels.into_values().flatten()
    }

    pub fn rank(&self) -> Option<Rank> {
        let (&level, queue) = self.levels.first_key_value()?;
        Some((level, queue.front()?.enqueued()))
    }

    /// When the request that has waited longest came, whatever its level.
    pub fn oldest(&self) -> Option<Time> {
        self.levels.values().filter_map(|queue| Some(queue.front()?.enqueued())).min()
    }

    /// Removes the requests that are not to run any more, as far back as a batch of `reach` rows could take from;
    /// returns how many.
    pub fn weed(&mut self, reach: usize, now: Time, dropped: &mut impl FnMut(T, Dropped)) -> usize {
        let expired = |entry: &T| entry.deadline().is_some_and(|deadline| deadline <= now);
        let mut live_rows = 0;
        let mut removed = 0;
        self.levels.retain(|_, queue| {
            // Those that stay move up in their order; the others gather behind them in any.
            let (mut stay, mut seen) = (0, 0);
            while live_rows < reach
                && let Some(entry) = queue.get(seen)
            {
                if !expired(entry) && !entry.is_gone() {
                    live_rows += entry.rows();
                    queue.swap(stay, seen);
                    stay += 1;
                }
                seen += 1;
            }
            for entry in queue.drain(stay..seen) {
                removed += 1;
                self.rows -= entry.rows();
                let why = if expired(&entry) { Dropped::Expired } else { Dropped::Gone };
                dropped(entry, why);
            }
            !queue.is_empty()
        });
        removed
    }

    /// Removes a batch from the front: all that fits into `limit` rows before the first that does not.
    pub fn take(&mut self, limit: usize) -> Vec<T> {
        let mut batch = Vec::with_capacity(self.rows.min(limit));
        let mut room = limit;
        while let Some(mut level) = self.levels.first_entry() {
            let queue = level.get_mut();
            // The first is taken in any case, so that every batch is a step forward.
            while let Some(entry) = queue.pop_front_if(|entry| entry.rows() <= room || batch.is_empty()) {
                room = room.saturating_sub(entry.rows());
                batch.push(entry);
            }
            if !queue.is_empty() {
                break;
            }
            level.remove();
        }
        self.rows -= batch.iter().map(Entry::rows).sum::<usize>();
        batch
    }
}
