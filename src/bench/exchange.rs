//! One connection's part of the load, without I/O and without a clock: what is due, and whose an answer is.

use std::collections::VecDeque;
use std::sync::Arc;

use super::judge::{IDS, Judge, Said};
use super::schedule::Schedule;
use super::script::{Answering, Script};
use super::tally::{Tally, WRONG_VALUE};
use crate::clock::Time;

/// Bytes that wait for the socket before no more are made.
const MOST_UNSENT: usize = 256 << 10;

/// An answer as it came.
#[derive(Debug, Clone, Copy)]
pub struct Answer<'a> {
    /// The JSON, and what stands behind it.
    pub json: &'a [u8],
    pub data: &'a [u8],
    /// Over HTTP.
    pub status: Option<u16>,
}

impl<'a> Answer<'a> {
    /// A WebSocket's message; a binary one begins with the length of its JSON.
    pub fn of_message(text: bool, payload: &'a [u8]) -> Option<Self> {
        if text {
            return Some(Self { json: payload, data: &[], status: None });
        }
        let (length, rest) = payload.split_first_chunk()?;
        let (json, data) = rest.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)?;
        Some(Self { json, data, status: None })
    }
}

/// An answer that is owed.
#[derive(Debug, Clone, Copy)]
struct Owed {
    number: u64,
    scheduled: Time,
    message: usize,
}

/// What one connection does.
#[derive(Debug)]
pub struct Exchange {
    script: Arc<Script>,
    judge: Judge,
    schedule: Schedule,
    /// Requests that may be unanswered.
    depth: usize,
    /// Messages sent, of those that take turns.
    sent: u64,
    /// The number of the next answer to be owed.
    number: u64,
    owed: VecDeque<Owed>,
    /// Those that a later answer has overtaken.
    overtaken: Vec<Owed>,
    /// Since when there was room to send, and whether there is.
    room_since: Time,
    full: bool,
}

impl Exchange {
    /// Connections begin at different ones of the messages, but for streams, whose signal has a beginning.
    pub fn new(script: Arc<Script>, schedule: Schedule, depth: usize, first: u64) -> Self {
        let judge = script.judge();
        let (sent, room_since) = (first, Time::default());
        let (owed, overtaken) = (VecDeque::new(), Vec::new());
        Self { script, judge, schedule, depth, sent, number: 0, owed, overtaken, room_since, full: false }
    }

    /// Appends what is due to what the socket has not taken yet.
    pub fn send_due(&mut self, now: Time, out: &mut Vec<u8>, tally: &mut Tally) {
        loop {
            let room = self.has_room(out.len());
            if room && self.full {
                self.room_since = now;
            }
            self.full = !room;
            if self.full {
                return;
            }
            let Some(due) = self.schedule.due(now) else { return };
            self.schedule.advance();
            tally.sent(due, now.since(due.max(self.room_since)));
            let before = out.len();
            let message = self.script.append(self.sent, self.number % IDS, out);
            tally.sent_bytes += (out.len() - before) as u64;
            let answers = self.script.answers_of(self.sent);
            self.sent += 1;
            self.owe(due, message, answers, tally);
        }
    }

    fn owe(&mut self, scheduled: Time, message: usize, answers: u64, tally: &mut Tally) {
        for _ in 0..answers {
            self.owed.push_back(Owed { number: self.number, scheduled, message });
            self.number += 1;
            tally.requests += u64::from(tally.span.contains(scheduled));
        }
    }

    pub fn in_flight(&self) -> usize {
        self.owed.len() + self.overtaken.len()
    }

    /// Whether more could be sent, with so many bytes that wait for the socket.
    pub fn has_room(&self, unsent: usize) -> bool {
        self.in_flight() < self.depth && unsent < MOST_UNSENT
    }

    /// Whether something may be due that could not be sent for want of room.
    pub fn is_held_back(&self) -> bool {
        self.full
    }

    /// The next time at which something is due; where there is no room, an answer or the socket has to come first.
    pub fn wake(&self) -> Option<Time> {
        self.schedule.next().filter(|_| !self.full)
    }

    /// Whether all has been sent and answered.
    pub fn is_done(&self, now: Time) -> bool {
        self.schedule.has_ended(now) && self.in_flight() == 0
    }

    pub fn answer(&mut self, now: Time, answer: &Answer<'_>, tally: &mut Tally) {
        let said = match answer.status {
            Some(status @ (0..200 | 300..)) => match self.judge.read(answer.json) {
                Said::Failed(code, number) if code != "error" => Said::Failed(code, number),
                _ => return self.fail(&format!("http_{status}"), None, now, answer, tally),
            },
            _ => self.judge.read(answer.json),
        };
        match said {
            Said::Unasked => {}
            Said::Unreadable => {
                tally.strange += 1;
                tally.show("not an answer", answer.json);
                if let Some(owed) = self.take(None, tally) {
                    tally.failure("unreadable", owed.scheduled, now, answer.json);
                }
            }
            Said::Failed(code, number) => self.fail(code, number, now, answer, tally),
            Said::Result(number) => match self.take(Some(number), tally) {
                None => self.unexpected(answer, tally),
                Some(owed) if self.is_right(&owed, answer) => tally.success(owed.scheduled, now),
                Some(owed) => {
                    tally.wrong_values += 1;
                    tally.show("another value than the reference's", answer.json);
                    tally.failure(WRONG_VALUE, owed.scheduled, now, answer.json);
                }
            },
        }
    }

    fn fail(&mut self, code: &str, number: Option<u64>, now: Time, answer: &Answer<'_>, tally: &mut Tally) {
        match self.take(number, tally) {
            Some(owed) => tally.failure(code, owed.scheduled, now, answer.json),
            None => self.unexpected(answer, tally),
        }
    }

    fn unexpected(&self, answer: &Answer<'_>, tally: &mut Tally) {
        tally.strange += 1;
        tally.show("an answer to nothing that was asked", answer.json);
    }

    fn is_right(&mut self, owed: &Owed, answer: &Answer<'_>) -> bool {
        let Some(references) = &self.script.references else { return true };
        let id = self.judge.find_number(answer.json);
        let index = match self.script.answering {
            Answering::Each => Some(owed.message),
            Answering::Windows(_) => usize::try_from(owed.number).ok(),
        };
        index.is_none_or(|index| references.agree(index, answer.json, answer.data, id))
    }

    /// Finds what is answered. Without a number it is the oldest; one behind that has overtaken those before it.
    fn take(&mut self, number: Option<u64>, tally: &mut Tally) -> Option<Owed> {
        let Some(number) = number else { return self.owed.pop_front() };
        let same = |owed: &Owed| owed.number % IDS == number;
        if let Some(at) = self.owed.iter().position(same) {
            self.overtaken.extend(self.owed.drain(..at));
            return self.owed.pop_front();
        }
        let at = self.overtaken.iter().position(same)?;
        tally.out_of_order += 1;
        tally.show("an answer out of order", format!("number {number}").as_bytes());
        Some(self.overtaken.swap_remove(at))
    }

    /// Counts what has not been answered, and what was scheduled and never sent, as lost at `end`.
    pub fn finish(&mut self, end: Time, tally: &mut Tally) {
        for owed in self.owed.drain(..).chain(self.overtaken.drain(..)) {
            tally.lose(owed.scheduled, end, true);
        }
        while let Some(due) = self.schedule.next() {
            self.schedule.advance();
            let answers = self.script.answers_of(self.sent);
            self.sent += 1;
            for _ in 0..answers {
                tally.requests += u64::from(tally.span.contains(due));
                tally.lose(due, end, false);
            }
        }
    }
}
