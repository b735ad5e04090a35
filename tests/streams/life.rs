//! One stream, and beside it what each of its answers must be.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::ops::AddAssign;
use std::sync::atomic::{AtomicUsize, Ordering};

use fastrand::Rng;
use serde_json::{Value, json};

use super::ask;
use super::support::{Client, OpCode, frame};

/// Bytes of a window: four numbers.
const WINDOW: usize = 16;

/// A client that takes no answers sends no more than this, so that two full sockets never wait for each other.
const OWED: usize = 400;

/// An accumulator that is served.
pub struct Model {
    pub name: &'static str,
    /// How many times its output holds the sums.
    copies: usize,
    capacity: usize,
    /// Streams that clients hold; the server may not have noticed the end of some others.
    held: AtomicUsize,
}

impl Model {
    pub fn new(name: &'static str, copies: usize, capacity: usize) -> Self {
        Self { name, copies, capacity, held: AtomicUsize::new(0) }
    }
}

#[derive(Debug, Default, Clone, Copy)]
pub struct Counts {
    pub opened: usize,
    /// Upgrades that found no slot.
    pub refused: usize,
    pub answers: usize,
    pub resets: usize,
    /// Answers that their client did not live to take.
    pub owed_to_the_dead: usize,
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.opened += other.opened;
        self.refused += other.refused;
        self.answers += other.answers;
        self.resets += other.resets;
        self.owed_to_the_dead += other.owed_to_the_dead;
    }
}

/// An open stream.
pub struct Life<'a> {
    model: &'a Model,
    /// Goes before the socket, which gives the slot back.
    held: Held<'a>,
    client: Client,
    /// What it has sent beyond its last whole window.
    rest: Vec<u8>,
    sums: [f32; 4],
    steps: u64,
    owed: VecDeque<Value>,
}

/// Counts a stream from when its client knows that it is open to when its client may end it.
struct Held<'a>(Option<&'a Model>);

impl<'a> Held<'a> {
    fn by(model: &'a Model) -> Self {
        let held = Self(Some(model));
        let count = model.held.fetch_add(1, Ordering::SeqCst) + 1;
        assert!(count <= model.capacity, "{count} streams of {} are open", model.name);
        held
    }

    fn end(&mut self) {
        if let Some(model) = self.0.take() {
            model.held.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.end();
    }
}

impl<'a> Life<'a> {
    /// `None` if all slots are taken; nothing else keeps a stream from opening.
    pub fn open(address: SocketAddr, model: &'a Model, counts: &mut Counts) -> Option<Self> {
        let (client, reply) = ask(address, &format!("/v2/models/{}/stream?greeting=false", model.name));
        if reply.status != 101 {
            assert_eq!((reply.status, &reply.json()["code"]), (503, &json!("streams_full")), "{reply:?}");
            assert!(reply.header("retry-after").is_some(), "{reply:?}");
            counts.refused += 1;
            return None;
        }
        counts.opened += 1;
        let held = Held::by(model);
        Some(Self { model, client, rest: Vec::new(), sums: [0.0; 4], steps: 0, owed: VecDeque::new(), held })
    }

    pub fn live(&mut self, random: &mut Rng, counts: &mut Counts) {
        // What is left of a message's numbers begins the next message.
        let mut unsent = Vec::new();
        for _ in 0..random.usize(..8) {
            match random.u8(..16) {
                0..7 => self.send(random, &mut unsent, 1..3 * WINDOW),
                7 => self.send(random, &mut unsent, 20 * WINDOW..60 * WINDOW),
                8..10 => {
                    self.reset();
                    unsent.clear();
                    counts.resets += 1;
                }
                10 => {
                    self.flush("flush");
                    unsent.clear();
                }
                11..15 => (0..random.usize(..=self.owed.len())).for_each(|_| self.take()),
                _ => self.take_all(),
            }
            while self.owed.len() > OWED {
                self.take();
            }
        }
        self.die(random, counts);
    }

    /// Sends small numbers, cut somewhere.
    fn send(&mut self, random: &mut Rng, unsent: &mut Vec<u8>, bytes: std::ops::Range<usize>) {
        let length = random.usize(bytes);
        while unsent.len() < length {
            unsent.extend(f32::from(random.i8(-64..64)).to_le_bytes());
        }
        let message: Vec<u8> = unsent.drain(..length).collect();
        self.push(&message);
    }

    pub fn step(&mut self, numbers: &[f32]) {
        let message: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        self.push(&message);
    }

    fn push(&mut self, message: &[u8]) {
        self.client.message(OpCode::Binary, message);
        self.rest.extend(message);
        while self.rest.len() >= WINDOW {
            let window = self.rest.drain(..WINDOW).collect::<Vec<_>>();
            self.owe(&window);
        }
    }

    /// A window's result is the sum so far, in each copy.
    fn owe(&mut self, window: &[u8]) {
        for (sum, number) in self.sums.iter_mut().zip(window.as_chunks().0) {
            *sum += f32::from_le_bytes(*number);
        }
        self.owed.push_back(json!([self.steps, self.sums.repeat(self.model.copies)]));
        self.steps += 1;
    }

    fn reset(&mut self) {
        self.client.message(OpCode::Text, r#"{"type":"reset"}"#);
        self.rest.clear();
        self.sums = [0.0; 4];
        self.owed.push_back(json!("reset"));
    }

    /// Silence fills the window that has begun; a number that was cut is lost.
    fn flush(&mut self, control: &str) {
        self.client.message(OpCode::Text, json!({ "type": control }).to_string());
        let mut window = std::mem::take(&mut self.rest);
        window.truncate(window.len() / 4 * 4);
        if !window.is_empty() {
            window.resize(WINDOW, 0);
            self.owe(&window);
        }
        self.owed.push_back(json!("flushed"));
    }

    /// Takes an answer, which is the one whose turn it is.
    fn take(&mut self) {
        let answer = self.client.receive().json();
        let found = match answer["type"].as_str() {
            Some("result") => json!([answer["seq"], answer["outputs"][0]["data"]]),
            _ => answer["type"].clone(),
        };
        assert_eq!(Some(found), self.owed.pop_front(), "{} {answer}", self.model.name);
    }

    pub fn take_all(&mut self) {
        while !self.owed.is_empty() {
            self.take();
        }
    }

    fn die(&mut self, random: &mut Rng, counts: &mut Counts) {
        let answers = |life: &Self| usize::try_from(life.steps).unwrap() - life.owed_steps();
        self.held.end();
        match random.u8(..8) {
            0 => {
                self.flush("close");
                self.take_all();
                assert_eq!(self.client.close_code(), 1000);
                // The server waits for the client's part of the closing handshake.
                self.client.message(OpCode::Close, 1000_u16.to_be_bytes());
                assert!(self.client.has_ended());
            }
            1 => {
                self.client.message(OpCode::Close, 1000_u16.to_be_bytes());
                self.take_all();
                assert_eq!(self.client.close_code(), 1000);
                assert!(self.client.has_ended());
            }
            // In the middle of a message, or of its header.
            2 => {
                let frame = frame(OpCode::Binary, &[0; 200]);
                self.client.send(&frame[..random.usize(1..frame.len())]);
            }
            3..6 => self.client.reset_on_drop(),
            _ => {}
        }
        counts.answers += answers(self);
        counts.owed_to_the_dead += self.owed_steps();
    }

    fn owed_steps(&self) -> usize {
        self.owed.iter().filter(|answer| answer.is_array()).count()
    }
}
