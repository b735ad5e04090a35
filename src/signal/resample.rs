//! Brings a signal to the model's rate.

use std::ops::Range;

use bytes::{Buf, Bytes};
use rubato::audioadapter_buffers::direct::InterleavedSlice;
use rubato::{Fft, FixedSync, Resampler as _, WindowFunction};

use super::Encoding;
use crate::error::{Code, Error, Result};

/// A signal's rate and the model's, in Hz, that one can be brought to the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rates {
    from: u32,
    to: u32,
}

const LOWEST: u32 = 1_000;
const HIGHEST: u32 = 768_000;
const STEEPEST: u32 = 64;
/// A block lasts a whole number of periods of the rates' greatest common divisor. Rates with little in common
/// need long blocks, whose plan a stream pays for in memory and when it opens; no rates in use come near this
/// many samples (44,100 to 16,000: 882).
const LONGEST_BLOCK: usize = 1 << 14;
/// Samples of the lower rate that a block has at least: the more, the closer the pass band comes to half that
/// rate (128: to nine tenths of it), and the later the result.
const BLOCK: u32 = 128;

/// Louder samples are cut: sums of them would be infinite, and the transform panics at what is no number.
const LOUDEST: f32 = 1e18;

impl Rates {
    pub fn new(from: u32, to: u32) -> Result<Self> {
        let refuse = |why: String| Err(Error::new(Code::UnsupportedParameter, why));
        if let Some(rate) = [from, to].into_iter().find(|rate| !(LOWEST..=HIGHEST).contains(rate)) {
            return refuse(format!("sample rates are {LOWEST} to {HIGHEST} Hz, not {rate}"));
        }
        if from.max(to) > STEEPEST * from.min(to) {
            return refuse(format!(
                "a signal of {from} Hz cannot be resampled to {to} Hz: one is over {STEEPEST} times the other"
            ));
        }
        let rates = Self { from, to };
        let (takes, gives) = rates.blocks();
        if takes.max(gives) > LONGEST_BLOCK {
            return refuse(format!(
                "a signal of {from} Hz cannot be resampled to {to} Hz: the rates have too little in common"
            ));
        }
        Ok(rates)
    }

    fn lowest_terms(self) -> (u32, u32) {
        let common = common(self.from, self.to);
        (self.from / common, self.to / common)
    }

    /// Samples that a block takes and gives; both are even, so that half of it, the delay, is whole.
    fn blocks(self) -> (usize, usize) {
        let (from, to) = self.lowest_terms();
        let times = BLOCK.div_ceil(from.min(to)).next_multiple_of(2);
        ((from * times) as usize, (to * times) as usize)
    }
}

/// The greatest common divisor.
const fn common(mut a: u32, mut b: u32) -> u32 {
    while b > 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// Resamples block by block, no sooner than the next window asks for it.
///
/// It does the work on spectra, with a filter of one block: what comes out is a block late at most, plus half of
/// one, and begins where the signal does, since that half is cut off in front.
pub(super) struct Resampler {
    rates: Rates,
    fft: Fft<f32>,
    /// The block to come, up to `filled`.
    input: Vec<f32>,
    filled: usize,
    /// The last block, of which `ready` is still to be taken.
    output: Vec<f32>,
    ready: Range<usize>,
    /// Samples from the first on that came in and went out.
    received: u64,
    given: u64,
}

impl Resampler {
    /// Nothing, if the rates are equal.
    pub(super) fn new(rates: Rates) -> Result<Option<Self>> {
        if rates.from == rates.to {
            return Ok(None);
        }
        let (block, resampled) = rates.blocks();
        let window = WindowFunction::BlackmanHarris2;
        let (from, to) = (rates.from as usize, rates.to as usize);
        let fft = Fft::new_custom(from, to, block, 1, 1, window, FixedSync::Both).map_err(|error| {
            Error::new(Code::Internal, format!("no resampler from {from} to {to} Hz: {error}"))
        })?;
        let mut resampler = Self {
            rates,
            fft,
            input: vec![0.0; block],
            filled: 0,
            output: vec![0.0; resampled],
            ready: 0..0,
            received: 0,
            given: 0,
        };
        resampler.reset();
        Ok(Some(resampler))
    }

    pub(super) fn reset(&mut self) {
        self.fft.reset();
        (self.filled, self.ready, self.received, self.given) = (0, 0..0, 0, 0);
    }

    /// At most `most` samples at the new rate, or none until there is more in `chunk`.
    ///
    /// At the `end` of the signal, silence drives out what is still inside, and as long as the signal was is
    /// what comes out.
    pub(super) fn take(&mut self, encoding: Encoding, chunk: &mut Bytes, end: bool, most: usize) -> &[f32] {
        while self.ready.is_empty() && most > 0 {
            let width = encoding.width();
            let came = (chunk.len() / width).min(self.input.len() - self.filled);
            let (_, room) = self.input.split_at_mut(self.filled);
            encoding.decode(chunk, &mut room[..came]);
            room[..came].iter_mut().for_each(|sample| *sample = sample.clamp(-LOUDEST, LOUDEST));
            chunk.advance(came * width);
            self.filled += came;
            self.received += came as u64;
            if self.filled < self.input.len() {
                if !end || self.given >= self.due() {
                    return &[];
                }
                self.input[self.filled..].fill(0.0);
            }
            self.convert();
        }
        let due =
            if end { usize::try_from(self.due() - self.given).unwrap_or(usize::MAX) } else { usize::MAX };
        let taken = self.ready.start..self.ready.end.min(self.ready.start + most.min(due));
        self.ready.start = taken.end;
        self.given += taken.len() as u64;
        &self.output[taken]
    }

    /// Samples that the signal so far is long at the new rate.
    fn due(&self) -> u64 {
        let (from, to) = self.rates.lowest_terms();
        (self.received * u64::from(to)).div_ceil(u64::from(from))
    }

    fn convert(&mut self) {
        let delay = if self.given == 0 { self.fft.output_delay() } else { 0 };
        let (block, resampled) = (self.input.len(), self.output.len());
        let converted = InterleavedSlice::new(&self.input, 1, block).is_ok_and(|input| {
            InterleavedSlice::new_mut(&mut self.output, 1, resampled)
                .is_ok_and(|mut output| self.fft.process_into_buffer(&input, &mut output, None).is_ok())
        });
        debug_assert!(converted, "the buffers are as long as the resampler says");
        self.filled = 0;
        self.ready = delay..resampled;
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use fastrand::Rng;

    use super::*;
    use crate::signal::{Framer, Frames, Window};

    /// Every sample of a signal at its new rate, by windows of one sample.
    fn resampled(rates: (u32, u32), chunks: &[&[u8]]) -> Vec<f32> {
        let rates = Rates::new(rates.0, rates.1).unwrap();
        let mut framer = Framer::resampling(Encoding::F32le, Frames::new(1, 1, 0).unwrap(), rates).unwrap();
        let mut windows: Vec<Window> = Vec::new();
        for chunk in chunks {
            framer.push(Bytes::copy_from_slice(chunk)).unwrap();
            windows.extend(framer.by_ref());
        }
        framer.flush().unwrap();
        windows.extend(framer.by_ref());
        assert!(windows.iter().map(|window| window.start).eq(0..windows.len() as u64));
        windows.iter().map(|window| bytemuck::pod_read_unaligned(&window.row)).collect()
    }

    /// `length` samples of a tone, as they are at `rate`.
    fn tone(hertz: f64, rate: u32, length: usize) -> Vec<f32> {
        let radians = hertz * std::f64::consts::TAU / f64::from(rate);
        (0..length).map(|at| (at as f64 * radians).sin() as f32).collect()
    }

    #[test]
    fn a_tone_stays_where_it_is() {
        for (from, to) in [
            (8_000, 16_000),
            (48_000, 16_000),
            (44_100, 16_000),
            (11_025, 8_000),
            (22_050, 48_000),
            (768_000, 16_000),
            (16_000, 16_000),
        ] {
            let length = from as usize / 2;
            let got = resampled((from, to), &[bytemuck::cast_slice(&tone(1_000.0, from, length))]);
            let want = tone(1_000.0, to, (length * to as usize).div_ceil(from as usize));
            assert_eq!(got.len(), want.len(), "{from} to {to}");
            // The tone begins and ends at once, which a filter rounds off.
            let pairs = got.iter().zip(&want).skip(400).take(want.len() - 800);
            let off = pairs.map(|(got, want)| (got - want).abs()).fold(0.0, f32::max);
            assert!(off < 1e-5, "{from} to {to}: off by {off}");
        }
    }

    #[test]
    fn what_the_lower_rate_cannot_hold_is_filtered_out() {
        let got = resampled((48_000, 16_000), &[bytemuck::cast_slice(&tone(12_000.0, 48_000, 48_000))]);
        assert!(got[400..15_600].iter().all(|value| value.abs() < 1e-4));
    }

    #[test]
    fn any_cut_resamples_the_same() {
        for seed in 0..40 {
            let mut rng = Rng::with_seed(seed);
            let rates = rng.choice([(8_000, 16_000), (16_000, 8_000), (44_100, 16_000)]).unwrap();
            let signal: Vec<f32> = (0..rng.usize(..3_000)).map(|_| rng.f32() - 0.5).collect();
            let bytes: &[u8] = bytemuck::cast_slice(&signal);
            let (mut chunks, mut rest) = (Vec::new(), bytes);
            while !rest.is_empty() {
                let (chunk, after) = rest.split_at(rng.usize(..=rest.len().min(2_000)));
                chunks.push(chunk);
                rest = after;
            }
            let whole = resampled(rates, &[bytes]);
            assert_eq!(resampled(rates, &chunks), whole, "seed {seed}");
            // What drives out the end is silence.
            let longer = resampled(rates, &[bytes, &[0; 8_000]]);
            assert_eq!(longer[..whole.len()], whole, "seed {seed}");
        }
    }

    #[test]
    fn a_reset_and_a_flush_start_anew() {
        let rates = Rates::new(8_000, 16_000).unwrap();
        let mut framer =
            Framer::resampling(Encoding::Mulaw, Frames::new(512, 512, 64).unwrap(), rates).unwrap();
        let run = |framer: &mut Framer| -> Vec<Window> {
            framer.push((0..1_000).map(|at| at as u8).collect()).unwrap();
            let mut windows: Vec<_> = framer.by_ref().collect();
            framer.flush().unwrap();
            windows.extend(framer);
            windows
        };
        let first = run(&mut framer);
        assert_eq!((first.len(), first[3].start, first[3].end), (4, 1_536, 2_000));
        framer.push(vec![9; 500].into()).unwrap();
        assert_eq!(framer.by_ref().count(), 1);
        framer.reset();
        assert_eq!(run(&mut framer), first);
        let after = run(&mut framer);
        assert_eq!(after[1].row, first[1].row);
        assert_eq!((after[0].start, after[3].end), (2_048, 4_048));
    }

    #[test]
    fn the_loudest_signal_there_can_be_stays_finite() {
        for rates in [(48_000, 16_000), (8_000, 16_000)] {
            for loud in [[f32::MAX; 2], [f32::MAX, f32::MIN], [f32::INFINITY, f32::NAN]] {
                let got = resampled(rates, &[bytemuck::cast_slice(&loud.repeat(2_000))]);
                assert!(got.iter().all(|value| value.is_finite()), "{rates:?} {loud:?}");
            }
        }
    }

    #[test]
    fn rates_are_checked() {
        for (from, to, expect) in [
            (0, 16_000, expect!["sample rates are 1000 to 768000 Hz, not 0"]),
            (16_000, 768_001, expect!["sample rates are 1000 to 768000 Hz, not 768001"]),
            (
                768_000,
                11_025,
                expect![
                    "a signal of 768000 Hz cannot be resampled to 11025 Hz: one is over 64 times the other"
                ],
            ),
            (
                44_099,
                16_000,
                expect![
                    "a signal of 44099 Hz cannot be resampled to 16000 Hz: the rates have too little in common"
                ],
            ),
        ] {
            expect.assert_eq(&Rates::new(from, to).unwrap_err().message);
        }
        for rate in [8_000, 11_025, 12_000, 22_050, 24_000, 32_000, 44_100, 48_000, 88_200, 96_000, 192_000] {
            for to in [8_000, 16_000, 22_050, 24_000, 44_100, 48_000] {
                assert!(Rates::new(rate, to).is_ok(), "{rate} to {to}");
            }
        }
    }
}
