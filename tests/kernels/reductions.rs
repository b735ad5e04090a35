//! Outputs, reduced to what clients want of them.

use bytemuck::NoUninit;
use fastrand::Rng;
use half::{bf16, f16};
use thalweg::tensor::reduce;

use crate::emulator::{Geometry, Memory};
use crate::{assert_same, launch, with_seeds};

/// Rows in one of the datatypes that a model gives, and the same values as every reference takes them.
struct Rows {
    suffix: &'static str,
    memory: Memory,
    values: Vec<f32>,
    rows: usize,
    width: usize,
    geometry: Geometry,
}

impl Rows {
    fn random(random: &mut Rng, rows: usize, width: usize, value: impl Fn(&mut Rng) -> f32) -> Self {
        fn rows_of<T: NoUninit>(
            suffix: &'static str,
            values: &[T],
            widen: impl Fn(&T) -> f32,
        ) -> (&'static str, Memory, Vec<f32>) {
            (suffix, Memory::of(values), values.iter().map(widen).collect())
        }
        let values: Vec<f32> = (0..rows * width).map(|_| value(random)).collect();
        let all = |narrow: fn(f32) -> u16| -> Vec<u16> { values.iter().copied().map(narrow).collect() };
        let (suffix, memory, values) = match random.u8(0..3) {
            0 => rows_of("f32", &values, |value| *value),
            1 => rows_of("f16", &all(|value| f16::from_f32(value).to_bits()), |bits| {
                f16::from_bits(*bits).to_f32()
            }),
            _ => rows_of("bf16", &all(|value| bf16::from_f32(value).to_bits()), |bits| {
                bf16::from_bits(*bits).to_f32()
            }),
        };
        Self { suffix, memory, values, rows, width, geometry: Geometry::random(random) }
    }

    fn sizes(&self) -> (u32, u32) {
        (u32::try_from(self.rows).unwrap(), u32::try_from(self.width).unwrap())
    }

    fn kernel(&self, name: &str) -> String {
        format!("{name}_{}", self.suffix)
    }

    fn what(&self, name: &str) -> String {
        format!("{} of {} x {}, {:?}", self.kernel(name), self.rows, self.width, self.geometry)
    }
}

/// Values that are often equal, and now and then zeros of both signs, infinite, tiny or no number.
fn awkward(random: &mut Rng) -> f32 {
    let strange =
        [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.0, -0.0, f32::from_bits(1), f32::MIN_POSITIVE];
    if random.u8(..) < 60 { random.choice(strange).unwrap() } else { f32::from(random.i8(-20..20)) / 4.0 }
}

fn ordinary(random: &mut Rng) -> f32 {
    (random.f32() - 0.5) * 20.0
}

fn size(random: &mut Rng) -> usize {
    *random.choice(&[1, 2, 7, 8, 31, 32, 33, 64, 100, 257]).unwrap()
}

/// Equal but for `bound` of what is expected, or for what is too small to be normal.
fn assert_close(found: &[f32], expected: impl Iterator<Item = f64>, bound: f64, what: &str) {
    for (place, (&found, expected)) in found.iter().zip(expected).enumerate() {
        let close =
            (f64::from(found) - expected).abs() <= bound * expected.abs() + f64::from(f32::MIN_POSITIVE);
        assert!(close, "{what}: element {place} is {found:?}, not {expected:?}");
    }
}

#[test]
fn the_largest_are_found_in_their_order() {
    with_seeds(|random| {
        let (rows, width) = (random.usize(0..=5), size(random));
        let given = Rows::random(random, rows, width, awkward);
        let k = if random.bool() { random.usize(1..=width) } else { random.usize(1..=width.min(5)) };
        let (row_count, width) = given.sizes();
        let (mut values, mut indices) = (Memory::garbage(rows * k * 4), Memory::garbage(rows * k * 4));
        let name = given.kernel("top_k");
        let k = u32::try_from(k).unwrap();
        launch!(&name, given.geometry, &given.memory, &mut values, &mut indices, row_count, width, k);
        let expected: Vec<(usize, f32)> =
            given.values.chunks(given.width).flat_map(|row| reduce::top_k(row, k as usize)).collect();
        let what = format!("{} for {k}", given.what("top_k"));
        let expected_indices: Vec<i32> = expected.iter().map(|best| i32::try_from(best.0).unwrap()).collect();
        assert_eq!(indices.get::<i32>(), expected_indices, "{what}");
        assert_same(&values.get::<f32>(), &expected.iter().map(|best| best.1).collect::<Vec<_>>(), &what);

        let mut first = Memory::garbage(rows * 4);
        launch!(&given.kernel("argmax"), given.geometry, &given.memory, &mut first, row_count, width);
        let expected: Vec<i32> = expected_indices.into_iter().step_by(k as usize).collect();
        assert_eq!(first.get::<i32>(), expected, "{}", given.what("argmax"));
    });
}

/// As its reference in `f64`, but for one rounding of the exponential, of some hundred sums and of a division; and
/// as the CPU's, whose sum is in another order.
#[test]
fn logits_become_probabilities() {
    with_seeds(|random| {
        let (rows, width) = (random.usize(0..=5), size(random));
        let given = Rows::random(random, rows, width, ordinary);
        let (row_count, width) = given.sizes();
        let mut out = Memory::garbage(rows * given.width * 4);
        launch!(&given.kernel("softmax"), given.geometry, &given.memory, &mut out, row_count, width);
        let found = out.get::<f32>();
        for (row, found) in given.values.chunks(given.width).zip(found.chunks(given.width)) {
            let most = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let powers: Vec<f64> = row.iter().map(|value| f64::from(value - most).exp()).collect();
            let sum: f64 = powers.iter().sum();
            assert_close(found, powers.iter().map(|power| power / sum), 2e-6, &given.what("softmax"));
            let mut on_cpu = row.to_vec();
            reduce::softmax(&mut on_cpu);
            assert_close(found, on_cpu.into_iter().map(f64::from), 1e-5, &given.what("softmax"));
        }
    });
}

#[test]
fn probabilities_of_strange_logits_are_those_of_the_cpu() {
    for row in [
        [1000.0, 1000.0, 0.0],
        [f32::NEG_INFINITY, 1.0, 1.0],
        [f32::NEG_INFINITY; 3],
        [f32::INFINITY, 0.0, 1.0],
        [f32::NAN, 0.0, 1.0],
    ] {
        let mut out = Memory::garbage(12);
        launch!("softmax_f32", Geometry::USUAL, &Memory::of(&row), &mut out, 1_u32, 3_u32);
        let mut expected = row;
        reduce::softmax(&mut expected);
        assert_same(&out.get::<f32>(), &expected, &format!("{row:?}"));
    }
}

#[test]
fn rows_become_of_length_one() {
    with_seeds(|random| {
        let (rows, width) = (random.usize(0..=5), size(random));
        let zeros = random.u8(..) < 40;
        let value = |random: &mut Rng| if zeros { 0.0 } else { ordinary(random) };
        let given = Rows::random(random, rows, width, value);
        let (row_count, width) = given.sizes();
        let mut out = Memory::garbage(rows * given.width * 4);
        launch!(&given.kernel("l2_normalize"), given.geometry, &given.memory, &mut out, row_count, width);
        let found = out.get::<f32>();
        for (row, found) in given.values.chunks(given.width).zip(found.chunks(given.width)) {
            let length = row.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>().sqrt();
            let expected =
                row.iter().map(|&value| if length == 0.0 { 0.0 } else { f64::from(value) / length });
            assert_close(found, expected, 1e-6, &given.what("l2_normalize"));
        }
    });
}

#[test]
fn values_that_reach_a_threshold_are_marked() {
    with_seeds(|random| {
        let (rows, width) = (random.usize(0..=5), size(random));
        let given = Rows::random(random, rows, width, awkward);
        let at = f32::from(random.i8(-20..20)) / 4.0;
        let (row_count, width) = given.sizes();
        let mut out = Memory::garbage(given.values.len());
        launch!(&given.kernel("threshold"), given.geometry, &given.memory, &mut out, row_count, width, at);
        let expected: Vec<u8> = given.values.iter().map(|&value| u8::from(value >= at)).collect();
        assert_eq!(out.get::<u8>(), expected, "{} at {at}", given.what("threshold"));
    });
}
