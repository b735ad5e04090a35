//! One connection's part: counts, order, and what a stalled server is charged.

use std::sync::Arc;

use expect_test::{Expect, expect};

use crate::bench::exchange::{Answer, Exchange};
use crate::bench::judge::Naming;
use crate::bench::reference::{Recorded, References};
use crate::bench::schedule::{Arrivals, Schedule};
use crate::bench::script::{Answering, Message, Script, Windows};
use crate::bench::tally::{Span, Tally};
use crate::clock::Time;

fn ms(ms: u64) -> Time {
    Time::from_nanos(ms * 1_000_000)
}

fn script(naming: Naming, answering: Answering) -> Script {
    let messages = vec![Message { bytes: b"00000000".to_vec(), id_at: Some(0) }];
    Script { messages, naming, answering, references: None }
}

fn requests() -> Script {
    script(Naming::Id, Answering::Each)
}

/// A connection and what it counts, and the ids that it has sent.
struct Stage {
    exchange: Exchange,
    tally: Tally,
    sent: Vec<u64>,
}

impl Stage {
    fn new(script: Script, schedule: Schedule, depth: usize) -> Self {
        let tally = Tally::new(Span { from: ms(0), until: ms(1000) }).unwrap();
        Self { exchange: Exchange::new(Arc::new(script), schedule, depth, 0), tally, sent: vec![] }
    }

    fn closed(depth: usize) -> Self {
        Self::new(requests(), Schedule::Closed { until: ms(1000) }, depth)
    }

    /// One each millisecond, and to the end.
    fn open(depth: usize) -> Self {
        Self::new(requests(), Schedule::Open(Arrivals::even(ms(0), ms(1000), 1000.0)), depth)
    }

    fn send(&mut self, now: u64) -> &mut Self {
        let mut out = Vec::new();
        self.exchange.send_due(ms(now), &mut out, &mut self.tally);
        let ids = out.as_chunks::<8>().0.iter();
        self.sent.extend(ids.map(|id| String::from_utf8_lossy(id).parse::<u64>().unwrap()));
        self
    }

    fn say(&mut self, now: u64, json: &str) -> &mut Self {
        let answer = Answer { json: json.as_bytes(), data: &[], status: None };
        self.exchange.answer(ms(now), &answer, &mut self.tally);
        self
    }

    fn answer(&mut self, now: u64, id: u64) -> &mut Self {
        self.say(now, &format!(r#"{{"id":"{id:08}","outputs":[]}}"#))
    }

    fn finish(&mut self, now: u64) -> &mut Self {
        self.exchange.finish(ms(now), &mut self.tally);
        self
    }

    fn check(&self, expect: Expect) {
        let Tally { requests, succeeded, failed, lost, unsent, .. } = &self.tally;
        let Tally { out_of_order, wrong_values, strange, latency, .. } = &self.tally;
        let quantile = |quantile| latency.value_at_quantile(quantile) / 1000;
        expect.assert_eq(&format!(
            "{requests} requests: {succeeded} right, {failed:?}, {lost} lost ({unsent} unsent); {out_of_order} out of \
             order, {wrong_values} wrong, {strange} strange; p50 {} ms, p99 {} ms",
            quantile(0.5),
            quantile(0.99)
        ));
        assert_eq!(*requests, succeeded + lost + failed.values().sum::<u64>(), "each has one end");
    }
}

#[test]
fn a_closed_loop_keeps_its_depth() {
    let mut stage = Stage::closed(3);
    stage.send(0).send(1);
    assert_eq!(stage.sent, [0, 1, 2]);
    stage.answer(5, 0).answer(5, 1).send(5);
    assert_eq!(stage.sent, [0, 1, 2, 3, 4]);
    for id in 2..5 {
        stage.answer(10, id);
    }
    stage.send(1000);
    assert!(stage.exchange.is_done(ms(1000)));
    stage.finish(2000).check(expect![
        "5 requests: 5 right, {}, 0 lost (0 unsent); 0 out of order, 0 wrong, 0 strange; p50 5 ms, p99 10 ms"
    ]);
}

/// The server answers nothing from 100 to 600 ms, and then everything: with all requests of that time on their
/// way, and with one at a time, when most of them wait in the client.
#[test]
fn a_stalled_server_is_charged_from_the_schedule() {
    for depth in [10_000, 1] {
        let mut stage = Stage::open(depth);
        let mut answered = 0;
        let mut answer = |stage: &mut Stage, now| {
            while let Some(&id) = stage.sent.get(answered) {
                stage.answer(now, id).send(now);
                answered += 1;
            }
        };
        for now in 0..1000 {
            stage.send(now);
            if !(100..600).contains(&now) {
                answer(&mut stage, now);
            }
        }
        assert!(stage.exchange.is_done(ms(1000)));
        // Half of the requests were due in the stall; they waited for a quarter of a second on average.
        stage.check(expect![
            "1000 requests: 1000 right, {}, 0 lost (0 unsent); 0 out of order, 0 wrong, 0 strange; p50 0 ms, p99 490 ms"
        ]);
        let mean = stage.tally.latency.mean();
        assert!((124_000.0..127_000.0).contains(&mean), "{mean}");
        assert_eq!(stage.tally.lateness.max(), 1, "the client was never late");
    }
}

#[test]
fn the_client_is_charged_with_its_own_lateness_as_well() {
    let mut stage = Stage::open(2);
    // Nobody asked until now, with two places.
    stage.send(30).answer(40, 0).send(45);
    let lateness: Vec<_> =
        stage.tally.lateness.iter_recorded().map(|at| at.value_iterated_to() / 1000).collect();
    // The third was due at 2 ms, had its place at 40 ms, and was sent at 45 ms.
    assert_eq!(lateness, [0, 29, 30]);
}

#[test]
fn what_is_not_answered_or_not_sent_is_lost() {
    let mut stage = Stage::open(2);
    stage.send(500).answer(500, 0).finish(3000).check(expect![
        "1000 requests: 1 right, {}, 999 lost (998 unsent); 0 out of order, 0 wrong, 0 strange; p50 2500 ms, p99 2990 ms"
    ]);
}

/// A socket that takes nothing holds the client back, and time alone changes nothing about that.
#[test]
fn what_a_socket_does_not_take_is_not_made() {
    let mut stage = Stage::open(usize::MAX);
    let mut out = vec![0; 1 << 20];
    stage.exchange.send_due(ms(500), &mut out, &mut stage.tally);
    assert_eq!((out.len(), stage.exchange.in_flight(), stage.exchange.wake()), (1 << 20, 0, None));
    assert!(stage.exchange.is_held_back() && stage.exchange.has_room(0));
    // Once it does, all of it is due, and the client was not late.
    stage.send(600);
    assert_eq!((stage.sent.len(), stage.exchange.wake()), (601, Some(ms(601))));
    assert_eq!(stage.tally.lateness.max(), 1);
}

#[test]
fn what_looks_like_no_answer_takes_the_place_of_one() {
    let mut stage = Stage::closed(2);
    stage.send(0).say(1, "hello").answer(1, 1).finish(2000).check(expect![[
        r#"2 requests: 1 right, {"unreadable": 1}, 0 lost (0 unsent); 0 out of order, 0 wrong, 1 strange; p50 1 ms, p99 1 ms"#
    ]]);
}

#[test]
fn answers_that_change_places_are_seen() {
    let mut stage = Stage::closed(4);
    stage.send(0).answer(1, 0).answer(1, 2).answer(1, 1).answer(1, 3).finish(2000).check(expect![
        "4 requests: 4 right, {}, 0 lost (0 unsent); 1 out of order, 0 wrong, 0 strange; p50 1 ms, p99 1 ms"
    ]);
}

#[test]
fn an_answer_that_is_left_out_is_lost_and_no_other() {
    let mut stage = Stage::closed(4);
    stage.send(0).answer(1, 0).answer(1, 2).answer(1, 3).finish(2000).check(expect![
        "4 requests: 3 right, {}, 1 lost (0 unsent); 0 out of order, 0 wrong, 0 strange; p50 1 ms, p99 2000 ms"
    ]);
}

#[test]
fn answers_that_nobody_asked_for_are_seen() {
    let mut stage = Stage::closed(1);
    stage.send(0).answer(1, 0).answer(1, 0).answer(1, 7).say(1, "hello").finish(2000).check(expect![
        "1 requests: 1 right, {}, 0 lost (0 unsent); 0 out of order, 0 wrong, 3 strange; p50 1 ms, p99 1 ms"
    ]);
}

#[test]
fn errors_are_no_successes_and_have_no_latency() {
    let mut stage = Stage::closed(3);
    stage.send(0).say(700, r#"{"error":"full","code":"queue_full","id":"00000000"}"#);
    stage.say(700, r#"{"error":"fast","code":"rate_limited"}"#).answer(900, 2).finish(2000).check(expect![[
        r#"3 requests: 1 right, {"queue_full": 1, "rate_limited": 1}, 0 lost (0 unsent); 0 out of order, 0 wrong, 0 strange; p50 900 ms, p99 900 ms"#
    ]]);
}

#[test]
fn http_failures_are_told_by_their_code_or_status() {
    let mut stage = Stage::closed(2);
    stage.send(0);
    for json in [&br#"{"error":"full","code":"queue_full","id":"00000000"}"#[..], b"<html>"] {
        let answer = Answer { json, data: &[], status: Some(503) };
        stage.exchange.answer(ms(1), &answer, &mut stage.tally);
    }
    stage.check(expect![[
        r#"2 requests: 0 right, {"http_503": 1, "queue_full": 1}, 0 lost (0 unsent); 0 out of order, 0 wrong, 0 strange; p50 0 ms, p99 0 ms"#
    ]]);
}

#[test]
fn a_wrong_value_is_seen() {
    let recorded = Recorded::of(br#"{"id":"00000009","outputs":[]}"#, &[], Some(7..15));
    let script = Script { references: Some(References::new(&[recorded], 0.0)), ..requests() };
    let mut stage = Stage::new(script, Schedule::Closed { until: ms(1000) }, 2);
    stage.send(0).answer(1, 0).say(1, r#"{"id":"00000001","outputs":[1]}"#).finish(2000).check(expect![[
        r#"2 requests: 1 right, {"wrong_value": 1}, 0 lost (0 unsent); 0 out of order, 1 wrong, 0 strange; p50 1 ms, p99 1 ms"#
    ]]);
}

#[test]
fn a_stream_owes_a_result_for_each_window_from_when_its_last_sample_was_due() {
    let windows = Windows { window: 4, hop: 4, model_rate: 1000, rate: 1000, piece: 2 };
    let schedule = Schedule::Open(Arrivals::even(ms(0), ms(12), 500.0));
    let mut stage = Stage::new(script(Naming::Seq, Answering::Windows(windows)), schedule, usize::MAX);
    stage.say(0, r#"{"type":"session.created"}"#);
    (0..12).for_each(|now| {
        stage.send(now);
    });
    // Of pieces at 0, 2, ... 10 ms, every second one completes a window.
    for (seq, now) in [(0, 3), (1, 9)] {
        stage.say(now, &format!(r#"{{"type":"result","seq":{seq},"start_ms":0.0}}"#));
    }
    stage.say(20, r#"{"type":"error","error":"lost","code":"state_lost"}"#).check(expect![[
        r#"3 requests: 2 right, {"state_lost": 1}, 0 lost (0 unsent); 0 out of order, 0 wrong, 0 strange; p50 1 ms, p99 3 ms"#
    ]]);
}
