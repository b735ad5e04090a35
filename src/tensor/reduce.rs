//! Reductions of an output row to what a client wants of it: what the kernels of a GPU are held against.

use std::cmp::Ordering;

/// The indices and values of the `k` largest, largest first; equal values keep their order, NaN comes last.
pub fn top_k(values: &[f32], k: usize) -> Vec<(usize, f32)> {
    let mut best: Vec<(usize, f32)> = values.iter().copied().enumerate().collect();
    // A client chooses `k`, so that the cost must not be a product of `k` and the values.
    if k < best.len() {
        best.select_nth_unstable_by(k, larger_first);
        best.truncate(k);
    }
    best.sort_unstable_by(larger_first);
    best
}

fn larger_first(a: &(usize, f32), b: &(usize, f32)) -> Ordering {
    let by_value = || b.1.partial_cmp(&a.1).unwrap_or(Ordering::Equal);
    a.1.is_nan().cmp(&b.1.is_nan()).then_with(by_value).then(a.0.cmp(&b.0))
}

/// The index of the largest: the first of equal ones, NaN only where there is nothing else. `None` of no values.
pub fn argmax(values: &[f32]) -> Option<usize> {
    values.iter().copied().enumerate().min_by(larger_first).map(|(index, _)| index)
}

/// The row with length 1, in place; zeros stay zeros.
pub fn l2_normalize(values: &mut [f32]) {
    let squares = values.iter().map(|&value| f64::from(value).powi(2));
    #[allow(clippy::cast_possible_truncation, reason = "rounding to FP32 is what is meant")]
    let length = squares.sum::<f64>().sqrt() as f32;
    if length != 0.0 {
        values.iter_mut().for_each(|value| *value /= length);
    }
}

/// Probabilities from logits, in place.
pub fn softmax(values: &mut [f32]) {
    let max = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut sum = 0.0;
    for value in values.iter_mut() {
        *value = (*value - max).exp();
        sum += *value;
    }
    for value in values {
        *value /= sum;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn top_k_is_stable_and_puts_nan_last() {
        assert_eq!(top_k(&[0.1, 0.5, 0.5, 0.2], 3), [(1, 0.5), (2, 0.5), (3, 0.2)]);
        assert_eq!(top_k(&[f32::NAN, 0.5], 1), [(1, 0.5)]);
        assert_eq!(top_k(&[1.0], 5), [(0, 1.0)]);
        assert_eq!(top_k(&[], 5), []);
        assert_eq!(top_k(&[1.0], 0), []);
    }

    #[test]
    fn argmax_is_the_first_of_top_k() {
        for (values, expected) in [
            (&[0.1, 0.5, 0.5][..], Some(1)),
            (&[-0.0, 0.0], Some(0)),
            (&[f32::NAN, f32::NEG_INFINITY], Some(1)),
            (&[f32::NAN, f32::NAN], Some(0)),
            (&[], None),
        ] {
            assert_eq!(argmax(values), expected);
            assert_eq!(top_k(values, 1).first().map(|best| best.0), expected);
        }
    }

    #[test]
    fn rows_become_of_length_one() {
        for (mut values, expected) in [
            ([3.0, -4.0], [0.6, -0.8]),
            ([0.0, -0.0], [0.0, -0.0]),
            ([1e30, 0.0], [1.0, 0.0]),
            ([f32::INFINITY, 1.0], [f32::NAN, 0.0]),
        ] {
            l2_normalize(&mut values);
            assert_eq!(format!("{values:?}"), format!("{expected:?}"));
        }
    }

    #[test]
    fn softmax_sums_to_one_even_for_large_logits() {
        let mut values = [1000.0, 1000.0, 0.0];
        softmax(&mut values);
        assert_eq!(values, [0.5, 0.5, 0.0]);
    }
}
