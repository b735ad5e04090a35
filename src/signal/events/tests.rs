//! Against Silero's own logic, which `tests/data/make_vad_events.py` has run, and by hand.

use std::ops::Range;

use expect_test::{Expect, expect};
use serde::Deserialize;

use super::{Event, Events, Hysteresis, Segments};
use crate::error::Code;

#[derive(Deserialize)]
struct Case {
    rate: u32,
    window: u64,
    length: u64,
    thousandths: Vec<u16>,
    events: Vec<(String, u64)>,
    segments: Vec<(u64, u64)>,
    threshold: f64,
    min_speech_ms: u32,
    min_silence_ms: u32,
    speech_pad_ms: u32,
}

impl Case {
    fn hysteresis(&self) -> Hysteresis {
        let Self { threshold, min_speech_ms, min_silence_ms, speech_pad_ms, .. } = *self;
        Hysteresis { threshold, lower_threshold: None, min_speech_ms, min_silence_ms, speech_pad_ms }
    }

    fn windows(&self) -> impl Iterator<Item = (f32, Range<u64>)> {
        (0..).zip(&self.thousandths).map(move |(place, &value)| {
            let start = place * self.window;
            (f32::from(value) / 1000.0, start..self.length.min(start + self.window))
        })
    }
}

fn cases() -> Vec<Case> {
    let text = include_str!("../../../tests/data/vad_events.jsonl");
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn events_are_those_of_silero() {
    // Its iterator knows two rates.
    for case in cases().into_iter().filter(|case| matches!(case.rate, 8_000 | 16_000)) {
        // It has no shortest speech, and no floor to the lower threshold.
        let lower_threshold = Some(case.threshold - 0.15);
        let hysteresis = Hysteresis { lower_threshold, min_speech_ms: 0, ..case.hysteresis() };
        let mut events = Events::new(&hysteresis, case.rate).unwrap();
        let told: Vec<_> = case.windows().flat_map(|(value, window)| events.step(value, window)).collect();
        let expect = |(kind, at): &(String, u64)| match &**kind {
            "start" => Event::Start { at: *at },
            _ => Event::End { at: *at },
        };
        assert_eq!(told, case.events.iter().map(expect).collect::<Vec<_>>());
        // What it has no word for: the signal ends within speech.
        let open = matches!(told.last(), Some(Event::Start { .. }));
        assert_eq!(events.finish().to_vec(), Vec::from_iter(open.then_some(Event::End { at: case.length })));
    }
}

#[test]
fn segments_are_those_of_silero() {
    for case in cases() {
        let mut segments = Segments::new(&case.hysteresis(), case.rate).unwrap();
        let mut told: Vec<_> =
            case.windows().filter_map(|(value, window)| segments.step(value, window)).collect();
        told.extend(segments.finish());
        assert_eq!(told, case.segments.iter().map(|&(start, end)| start..end).collect::<Vec<_>>());
    }
}

/// Events with a shortest speech are of the segments, but for how short silences are divided.
#[test]
fn what_starts_is_long_enough() {
    for case in cases() {
        let hysteresis = Hysteresis { speech_pad_ms: 0, ..case.hysteresis() };
        let mut events = Events::new(&hysteresis, case.rate).unwrap();
        let mut segments = Segments::new(&hysteresis, case.rate).unwrap();
        let (mut told, mut whole) = (Vec::new(), Vec::new());
        for (value, window) in case.windows() {
            told.extend(events.step(value, window.clone()));
            whole.extend(segments.step(value, window));
        }
        told.extend(events.finish());
        whole.extend(segments.finish());
        let edges = whole
            .iter()
            .flat_map(|segment| [Event::Start { at: segment.start }, Event::End { at: segment.end }]);
        assert!(edges.eq(told));
    }
}

/// Windows of 10 samples at 1 kHz, by their probabilities in tenths; `|` finishes.
fn check(hysteresis: Hysteresis, tenths: &str, expect: Expect) {
    let mut events = Events::new(&hysteresis, 1_000).unwrap();
    let mut segments = Segments::new(&hysteresis, 1_000).unwrap();
    let mut lines = String::new();
    let mut start = 0;
    for tenth in tenths.chars() {
        let (told, whole) = match tenth {
            '|' => (events.finish(), segments.finish()),
            _ => {
                let value = tenth.to_digit(10).map_or(f32::NAN, |digit| digit as f32 / 10.0);
                start += 10;
                let window = start - 10..start;
                (events.step(value, window.clone()), segments.step(value, window).into_iter().collect())
            }
        };
        for event in told {
            lines += &format!("{start}: {event:?}\n");
        }
        for segment in whole {
            lines += &format!("{start}: {segment:?}\n");
        }
    }
    expect.assert_eq(&lines);
}

#[test]
fn what_is_known_when() {
    let base = Hysteresis { min_speech_ms: 0, min_silence_ms: 20, speech_pad_ms: 5, ..Hysteresis::SILERO };
    // 0.4 neither begins nor ends, nor does what is not a number.
    check(
        base,
        "44994n41149|",
        expect![[r#"
        30: Start { at: 15 }
        110: End { at: 110 }
        110: 15..110
    "#]],
    );
    check(
        Hysteresis { min_speech_ms: 20, ..base },
        "199111999911199|",
        expect![[r#"
        90: Start { at: 55 }
        130: End { at: 105 }
        130: 55..105
    "#]],
    );
    check(
        Hysteresis { speech_pad_ms: 40, ..base },
        "11111991111991119111111111111",
        expect![[r#"
        60: Start { at: 10 }
        100: End { at: 110 }
        120: Start { at: 70 }
        120: 10..90
        160: End { at: 170 }
        170: Start { at: 120 }
        170: 90..145
        200: End { at: 210 }
        260: 145..210
    "#]],
    );
    check(
        Hysteresis { lower_threshold: Some(0.1), ..base },
        "9111100011",
        expect![[r#"
        10: Start { at: 0 }
        80: End { at: 55 }
        80: 0..55
    "#]],
    );
}

#[test]
fn a_finish_and_a_reset_start_anew() {
    check(
        Hysteresis { min_speech_ms: 0, min_silence_ms: 20, ..Hysteresis::SILERO },
        "|99999|9|11111",
        expect![[r#"
            10: Start { at: 0 }
            50: End { at: 50 }
            50: 0..50
            60: Start { at: 50 }
            60: End { at: 60 }
            60: 50..60
        "#]],
    );
}

#[test]
fn a_reset_forgets() {
    let hysteresis = Hysteresis { min_silence_ms: 0, ..Hysteresis::SILERO };
    // While something is there, and while its end is not padded yet.
    for probabilities in [&[0.9][..], &[0.9, 0.1]] {
        let run = |reset: bool| {
            let mut segments = Segments::new(&hysteresis, 1_000).unwrap();
            for (&value, start) in probabilities.iter().zip((0..).step_by(300)) {
                assert_eq!(segments.step(value, start..start + 300), None);
            }
            if reset {
                segments.reset();
            }
            segments.finish().to_vec()
        };
        assert_eq!(run(false).len(), 1);
        assert_eq!(run(true), []);
    }
}

#[test]
fn thresholds_are_checked() {
    for (threshold, lower_threshold) in
        [(f64::NAN, None), (1.5, None), (-0.1, None), (0.0, None), (0.5, Some(0.6)), (0.5, Some(f64::NAN))]
    {
        let hysteresis = Hysteresis { threshold, lower_threshold, ..Hysteresis::SILERO };
        let error = Events::new(&hysteresis, 16_000).err().unwrap();
        assert_eq!(error.code, Code::UnsupportedParameter, "{threshold}, {lower_threshold:?}");
    }
}
