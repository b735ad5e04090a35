//! Scripts that step the policy, a line for each moment.

use std::cell::Cell;
use std::fmt::Write;

use expect_test::Expect;

use super::super::*;

struct Request<'a> {
    name: &'a str,
    key: GroupKey,
    rows: usize,
    priority: usize,
    enqueued: Time,
    deadline: Option<Time>,
    gone: &'a Cell<String>,
}

impl Entry for Request<'_> {
    fn key(&self) -> &GroupKey {
        &self.key
    }
    fn rows(&self) -> usize {
        self.rows
    }
    fn priority(&self) -> usize {
        self.priority
    }
    fn enqueued(&self) -> Time {
        self.enqueued
    }
    fn deadline(&self) -> Option<Time> {
        self.deadline
    }
    fn is_gone(&self) -> bool {
        let gone = self.gone.take();
        let found = gone.split(' ').any(|name| name == self.name);
        self.gone.set(gone);
        found
    }
}

pub(super) fn policy(max_batch_size: usize, max_queue_delay: u64) -> Policy {
    Policy {
        max_batch_size,
        preferred_batch_size: vec![],
        max_queue_delay: Duration::from_nanos(max_queue_delay),
        priority_levels: 3,
    }
}

/// Every line of the script is a time and one of
/// `push NAME [key=_] [rows=_] [level=_] [deadline=_]`, `gone NAME`, `next`, `full`, `drain`.
pub(super) fn check(policy: Policy, script: &str, expect: Expect) {
    let gone = Cell::new(String::new());
    let mut batcher = Batcher::new(policy);
    let mut log = String::new();
    let names =
        |batch: &mut dyn Iterator<Item = Request>| batch.map(|r| r.name).collect::<Vec<_>>().join(" ");
    for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let now = Time::from_nanos(words[0].parse().unwrap());
        let field = |name: &str| {
            let value = words.iter().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
            value.map(|value| value.parse::<u64>().unwrap())
        };
        match words[1] {
            "push" => batcher.push(Request {
                name: words[2],
                key: GroupKey([field("key").unwrap_or(0) as usize].into_iter().collect()),
                rows: field("rows").unwrap_or(1) as usize,
                priority: field("level").unwrap_or(0) as usize,
                enqueued: now,
                deadline: field("deadline").map(Time::from_nanos),
                gone: &gone,
            }),
            "gone" => gone.set(gone.take() + " " + words[2]),
            "drain" => writeln!(log, "{}: drain {}", words[0], names(&mut batcher.drain())).unwrap(),
            "next" | "full" => {
                let want = if words[1] == "full" { Want::Full } else { Want::Any };
                let mut told = String::new();
                let next =
                    batcher.next(now, want, &mut |r, why| write!(told, "{} is {why:?}, ", r.name).unwrap());
                let next = match next {
                    Next::Run(batch) => format!("run {}", names(&mut batch.into_iter())),
                    Next::Wait(Some(time)) => format!("wait until {}", time.as_nanos()),
                    Next::Wait(None) => "wait".to_owned(),
                };
                writeln!(log, "{}: {told}{next}, {} left", words[0], batcher.len()).unwrap();
            }
            other => panic!("no such step: {other}"),
        }
    }
    assert!(!batcher.is_empty() || batcher.groups.is_empty(), "an empty group has stayed");
    expect.assert_eq(&log);
}
