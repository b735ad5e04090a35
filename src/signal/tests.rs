//! Framing against a plain reading of its definition, over signals that are cut at random.

use std::fmt::Write;

use bytes::Bytes;
use expect_test::{Expect, expect};
use fastrand::Rng;

use super::{Encoding, Framer, Frames, Window};
use crate::error::Code;

/// Windows as `row @start..end`.
fn show(windows: impl IntoIterator<Item = Window>, out: &mut String) {
    for Window { row, start, end } in windows {
        writeln!(out, "{} @{start}..{end}", row.escape_ascii()).unwrap();
    }
}

/// Pushes what is said, but `flush` and `reset` do what they say.
fn check(encoding: Encoding, (window, hop, context): (usize, usize, usize), script: &[&str], expect: Expect) {
    let mut framer = Framer::new(encoding, Frames::new(window, hop, context).unwrap());
    let mut out = String::new();
    for step in script {
        match *step {
            "flush" => writeln!(out, "flush, {} dropped", framer.flush().unwrap()).unwrap(),
            "reset" => framer.reset(),
            chunk => framer.push(Bytes::copy_from_slice(chunk.as_bytes())).unwrap(),
        }
        show(framer.by_ref(), &mut out);
    }
    expect.assert_eq(&out);
}

#[test]
fn windows_meet() {
    let expect = expect![[r"
        \xff\xffabcd @0..4
        cdefgh @4..8
        ghijkl @8..12
        flush, 0 dropped
        klm\xff\xff\xff @12..13
    "]];
    check(Encoding::Mulaw, (4, 4, 2), &["abc", "", "defghijk", "lm", "flush"], expect);
}

#[test]
fn windows_overlap() {
    let expect = expect![[r#"
        \xff\xffabcd @0..4
        abcdef @2..6
        flush, 0 dropped
        cdefg\xff @4..7
        flush, 0 dropped
        efg\xffhi @6..10
    "#]];
    check(Encoding::Mulaw, (4, 2, 2), &["abcdef", "g", "flush", "flush", "hi"], expect);
}

#[test]
fn gaps_are_passed_over_but_for_the_context() {
    check(
        Encoding::Mulaw,
        (2, 5, 1),
        &["abcdefghijklmn", "flush", "opqrs"],
        expect![[r#"
        \xffab @0..2
        efg @5..7
        jkl @10..12
        flush, 0 dropped
        opq @15..17
    "#]],
    );
}

#[test]
fn the_rest_is_given_if_it_is_new() {
    // All of it was in the window before.
    check(
        Encoding::Mulaw,
        (4, 2, 0),
        &["abcd", "flush"],
        expect![[r#"
        abcd @0..4
        flush, 0 dropped
    "#]],
    );
    // All of it is in a gap.
    check(
        Encoding::Mulaw,
        (2, 4, 0),
        &["abc", "flush"],
        expect![[r#"
        ab @0..2
        flush, 0 dropped
    "#]],
    );
    // There is none.
    check(
        Encoding::Mulaw,
        (2, 2, 2),
        &["flush", "ab", "flush", "flush"],
        expect![[r#"
        flush, 0 dropped
        \xff\xffab @0..2
        flush, 0 dropped
        flush, 0 dropped
    "#]],
    );
}

#[test]
fn samples_are_cut_anywhere() {
    check(
        Encoding::PcmS16le,
        (2, 2, 0),
        &["a", "bcde", "f", "ghi", "flush", "jk"],
        expect![[r#"
        abcd @0..2
        efgh @2..4
        flush, 1 dropped
    "#]],
    );
    check(
        Encoding::F32le,
        (1, 1, 0),
        &["abc", "flush", "defg", "hij"],
        expect![[r#"
        flush, 3 dropped
        defg @0..1
    "#]],
    );
}

#[test]
fn a_flush_counts_as_silence_that_was_sent() {
    check(
        Encoding::Mulaw,
        (4, 4, 2),
        &["abcde", "flush", "fghi"],
        expect![[r#"
        \xff\xffabcd @0..4
        flush, 0 dropped
        cde\xff\xff\xff @4..5
        \xff\xfffghi @8..12
    "#]],
    );
}

#[test]
fn a_reset_forgets() {
    check(
        Encoding::PcmS16le,
        (2, 3, 1),
        &["abcdefg", "reset", "hijk"],
        expect![[r#"
        \x00\x00abcd @0..2
        \x00\x00hijk @0..2
    "#]],
    );
}

#[test]
fn sizes_are_checked() {
    for (sizes, expect) in [
        ((0, 1, 0), expect!["window must be 1 to 4194304 samples, not 0"]),
        ((1, 0, 0), expect!["hop must be 1 to 4194304 samples, not 0"]),
        ((1, 1, usize::MAX), expect!["context must be 0 to 4194304 samples, not 18446744073709551615"]),
    ] {
        let error = Frames::new(sizes.0, sizes.1, sizes.2).unwrap_err();
        expect.assert_eq(&error.message);
    }
}

#[test]
fn a_framer_takes_one_chunk_at_a_time() {
    let mut framer = Framer::new(Encoding::Mulaw, Frames::new(2, 2, 0).unwrap());
    framer.push(Bytes::from_static(b"abcde")).unwrap();
    assert_eq!(framer.push(Bytes::new()).unwrap_err().code, Code::Internal);
    assert_eq!(framer.flush().unwrap_err().code, Code::Internal);
    assert_eq!(framer.buffered(), 5);
    assert_eq!(framer.by_ref().count(), 2);
    assert_eq!(framer.buffered(), 1);
    framer.flush().unwrap();
    assert_eq!(framer.push(Bytes::new()).unwrap_err().code, Code::Internal);
    framer.reset();
    framer.push(Bytes::from_static(b"a")).unwrap();
}

/// Every window as the definition has it, from the whole signal at once.
fn defined(encoding: Encoding, frames: (usize, usize, usize), signal: &[u8]) -> Vec<Window> {
    let (window, hop, context) = frames;
    let width = encoding.width();
    let length = signal.len() / width;
    let sample = |at: usize| match at.checked_sub(context) {
        Some(at) if at < length => signal[at * width..][..width].to_vec(),
        _ => vec![encoding.silence(); width],
    };
    let mut windows = Vec::new();
    let mut given = 0;
    for start in (0..length).step_by(hop) {
        let end = length.min(start + window);
        if end > given {
            let row = (start..start + context + window).flat_map(sample).collect::<Vec<_>>().into();
            windows.push(Window { row, start: start as u64, end: end as u64 });
            given = end;
        }
    }
    windows
}

/// `THALWEG_SEED=7 cargo test signal::` replays what a failure prints.
fn seeds() -> std::ops::Range<u64> {
    #[allow(clippy::disallowed_methods, reason = "the seed to replay")]
    let chosen = std::env::var("THALWEG_SEED").ok();
    chosen.map_or(0..4_000, |seed| {
        let seed = seed.parse().unwrap();
        seed..seed + 1
    })
}

/// Window, hop and context, shorter and longer than each other.
fn any_frames(rng: &mut Rng) -> (usize, usize, usize) {
    (rng.usize(1..12), rng.usize(1..20), rng.usize(0..9))
}

#[test]
fn any_cut_gives_the_same_windows() {
    for seed in seeds() {
        let mut rng = Rng::with_seed(seed);
        let encoding = *rng.choice(Encoding::ALL).unwrap();
        let frames = any_frames(&mut rng);
        let signal: Vec<u8> = (0..rng.usize(..300)).map(|_| rng.u8(..)).collect();

        let mut framer = Framer::new(encoding, Frames::new(frames.0, frames.1, frames.2).unwrap());
        if rng.bool() {
            framer.push(vec![7; rng.usize(..100)].into()).unwrap();
            framer.reset();
        }
        let (mut given, mut rest) = (Vec::new(), &signal[..]);
        let row = (frames.0 + frames.2) * encoding.width();
        while !rest.is_empty() {
            let (chunk, after) = rest.split_at(rng.usize(..=rest.len().min(40)));
            framer.push(Bytes::copy_from_slice(chunk)).unwrap();
            assert!(framer.buffered() < row + chunk.len() + encoding.width(), "seed {seed}");
            given.extend(framer.by_ref());
            assert!(framer.buffered() < row + encoding.width(), "seed {seed}");
            rest = after;
        }
        assert_eq!(framer.flush(), Ok(signal.len() % encoding.width()), "seed {seed}");
        given.extend(framer.by_ref());
        assert_eq!(given, defined(encoding, frames, &signal), "seed {seed}: {encoding:?}, {frames:?}");
    }
}

#[test]
fn a_flush_is_silence_to_the_windows_end() {
    for seed in seeds() {
        let mut rng = Rng::with_seed(seed);
        let encoding = *rng.choice(Encoding::ALL).unwrap();
        let width = encoding.width();
        let frames = any_frames(&mut rng);
        let mut part = || -> Vec<u8> { (0..rng.usize(..40) * width).map(|_| rng.u8(..)).collect() };
        let (first, second) = (part(), part());

        let mut framer = Framer::new(encoding, Frames::new(frames.0, frames.1, frames.2).unwrap());
        framer.push(first.clone().into()).unwrap();
        let mut given: Vec<_> = framer.by_ref().collect();
        framer.flush().unwrap();
        given.extend(framer.by_ref());
        let length = given.last().map_or(0, |last| last.start as usize + frames.0).max(first.len() / width);
        framer.push(second.clone().into()).unwrap();
        given.extend(framer.by_ref());
        framer.flush().unwrap();
        given.extend(framer);

        let mut signal = first;
        signal.resize(length * width, encoding.silence());
        signal.extend(second);
        let rows = |windows: Vec<Window>| -> Vec<_> {
            windows.into_iter().map(|window| (window.start, window.row)).collect()
        };
        assert_eq!(
            rows(given),
            rows(defined(encoding, frames, &signal)),
            "seed {seed}: {encoding:?}, {frames:?}"
        );
    }
}
