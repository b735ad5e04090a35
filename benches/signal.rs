//! What a signal costs on its way to the model: numbers from bytes, windows from chunks, another rate.

#[path = "stages/sound.rs"]
mod sound;

use std::hint::black_box;

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use thalweg::signal::{Encoding, Events, Framer, Hysteresis};

use sound::{bytes, frames, resampling, step};

const ROW: usize = 576;

fn decode(c: &mut Criterion) {
    let mut group = c.benchmark_group("signal/decode");
    group.throughput(Throughput::Elements(ROW as u64));
    for &encoding in Encoding::ALL {
        let row = bytes(ROW * encoding.width());
        let mut out = vec![0.0; ROW];
        group.bench_function(encoding.as_str(), |b| b.iter(|| encoding.decode(black_box(&row), &mut out)));
    }
    group.finish();
}

fn frame(c: &mut Criterion) {
    let mut group = c.benchmark_group("signal/frame");
    let Ok(frames) = frames() else { return };
    let chunk = Bytes::from(bytes(1_024));
    for (name, first) in [("1024 bytes", 0), ("1024 bytes, between samples", 333)] {
        let mut framer = Framer::new(Encoding::PcmS16le, frames);
        assert!(framer.push(chunk.slice(..first)).is_ok());
        group.bench_function(name, |b| {
            b.iter(|| step(&mut framer, &chunk));
        });
    }
    group.finish();
}

fn resample(c: &mut Criterion) {
    let mut group = c.benchmark_group("signal/resample");
    for (name, encoding, from, samples) in [
        ("32 ms of 8 kHz", Encoding::Mulaw, 8_000, 256),
        ("32 ms of 44.1 kHz", Encoding::PcmS16le, 44_100, 1_411),
        ("32 ms of 48 kHz", Encoding::PcmS16le, 48_000, 1_536),
    ] {
        let Ok(mut framer) = resampling(encoding, from) else { return };
        let chunk = Bytes::from(bytes(samples * encoding.width()));
        group.bench_function(name, |b| {
            b.iter(|| step(&mut framer, &chunk));
        });
        group.bench_function(format!("{name}, opening"), |b| {
            b.iter_batched(|| (), |()| resampling(encoding, from), BatchSize::SmallInput);
        });
    }
    group.finish();
}

fn events(c: &mut Criterion) {
    let Ok(mut events) = Events::new(&Hysteresis::SILERO, 16_000) else { return };
    let (mut start, mut at) = (0, 0_usize);
    c.bench_function("signal/events", |b| {
        b.iter(|| {
            (start, at) = (start + 512, at + 1);
            let probability = if at / 16 % 2 == 0 { 0.9 } else { 0.1 };
            events.step(black_box(probability), start..start + 512)
        });
    });
}

criterion_group!(benches, decode, frame, resample, events);
criterion_main!(benches);
