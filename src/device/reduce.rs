//! A run's outputs reduced to what clients get, on the CPU.

use bytemuck::NoUninit;
use half::{bf16, f16};
use smallvec::{SmallVec, smallvec};

use crate::error::{Code, Error, Result};
use crate::tensor::{Column, DataType, Reduction, Shape, Slice, Storage, reduce};

/// The columns that clients get in place of one that the model gave.
pub(super) fn reduce(column: &Column, reduction: Reduction) -> Result<SmallVec<[Column; 2]>> {
    let misfit =
        || Error::new(Code::InferenceFailed, format!("the model gave {column:?}, which cannot be reduced"));
    let slice = column.slice(0, column.rows().unwrap_or(0));
    let mut values = numbers(&slice).ok_or_else(misfit)?;
    let mut shape = slice.shape();
    let width = shape.pop().filter(|width| *width > 0).ok_or_else(misfit)?;
    let along = |width: usize| {
        let mut shape = shape.clone();
        shape.push(width);
        shape
    };
    let axis = column.batch_axis();
    let rows = values.chunks_exact_mut(width);
    let columns = match reduction {
        Reduction::Softmax => {
            rows.for_each(reduce::softmax);
            smallvec![new(DataType::Fp32, along(width), axis, values)]
        }
        Reduction::L2Norm => {
            rows.for_each(reduce::l2_normalize);
            smallvec![new(DataType::Fp32, along(width), axis, values)]
        }
        Reduction::Threshold(at) => {
            let reached: Vec<u8> = values.iter().map(|&value| u8::from(value >= at)).collect();
            smallvec![new(DataType::Bool, along(width), axis, reached)]
        }
        Reduction::Argmax => {
            let indices: Vec<i32> = rows.map(|row| index(reduce::argmax(row).unwrap_or(0))).collect();
            smallvec![new(DataType::Int32, shape, axis, indices)]
        }
        Reduction::TopK { k, softmax } => {
            let k = k.min(width);
            let (mut best, mut indices) = (Vec::new(), Vec::new());
            for row in rows {
                if softmax {
                    reduce::softmax(row);
                }
                for (place, value) in reduce::top_k(row, k) {
                    best.push(value);
                    indices.push(index(place));
                }
            }
            smallvec![
                new(DataType::Fp32, along(k), axis, best),
                new(DataType::Int32, along(k), axis, indices)
            ]
        }
    };
    let columns: SmallVec<[Option<Column>; 2]> = columns;
    columns.into_iter().collect::<Option<_>>().ok_or_else(misfit)
}

/// The elements as FP32, where that has all of them.
fn numbers(slice: &Slice<'_>) -> Option<Vec<f32>> {
    fn widen<const N: usize>(slice: &Slice<'_>, number: fn([u8; N]) -> f32) -> Vec<f32> {
        // Whatever the batch axis, a piece holds whole rows of the last one.
        slice.chunks().flat_map(|chunk| chunk.as_chunks().0).map(|bytes| number(*bytes)).collect()
    }
    match slice.datatype() {
        DataType::Fp32 => Some(widen(slice, f32::from_le_bytes)),
        DataType::Fp16 => Some(widen(slice, |bytes| f16::from_le_bytes(bytes).to_f32())),
        DataType::Bf16 => Some(widen(slice, |bytes| bf16::from_le_bytes(bytes).to_f32())),
        _ => None,
    }
}

fn index(place: usize) -> i32 {
    // No row has more elements.
    i32::try_from(place).unwrap_or(i32::MAX)
}

fn new<T>(datatype: DataType, shape: Shape, axis: Option<usize>, elements: Vec<T>) -> Option<Column>
where
    T: NoUninit + Send + Sync,
{
    Column::new(datatype, shape, axis, Storage::Fixed(Box::new(Elements(elements))))
}

/// Numbers, whose bytes are the column's.
struct Elements<T>(Vec<T>);

impl<T: NoUninit> AsRef<[u8]> for Elements<T> {
    fn as_ref(&self) -> &[u8] {
        bytemuck::cast_slice(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn given<T: NoUninit>(datatype: DataType, shape: &[usize], axis: usize, values: &[T]) -> Column {
        let bytes = bytemuck::cast_slice(values).to_vec();
        Column::new(datatype, shape.into(), Some(axis), Storage::Fixed(Box::new(bytes))).unwrap()
    }

    fn check(column: &Column, reduction: Reduction, expect: Expect) {
        let show = |column: &Column| {
            let bytes: Vec<u8> =
                column.slice(0, column.rows().unwrap_or(0)).chunks().flatten().copied().collect();
            let values = match column.datatype {
                DataType::Fp32 => format!("{:?}", bytemuck::pod_collect_to_vec::<u8, f32>(&bytes)),
                DataType::Int32 => format!("{:?}", bytemuck::pod_collect_to_vec::<u8, i32>(&bytes)),
                _ => format!("{bytes:?}"),
            };
            format!("{column:?}: {values}")
        };
        let text = match reduce(column, reduction) {
            Ok(columns) => columns.iter().map(show).collect::<Vec<_>>().join("\n"),
            Err(error) => format!("{}: {error}", error.code.as_str()),
        };
        expect.assert_eq(&text);
    }

    #[test]
    fn rows_are_reduced_along_the_last_axis() {
        let column = given(DataType::Fp32, &[2, 3], 0, &[3.0f32, 4.0, 0.0, 0.0, f32::NAN, -1.0]);
        check(&column, Reduction::Argmax, expect!["INT32 [2] (batch axis Some(0)): [1, 0]"]);
        check(
            &column,
            Reduction::TopK { k: 2, softmax: false },
            expect![[r#"
                FP32 [2, 2] (batch axis Some(0)): [4.0, 3.0, 0.0, -1.0]
                INT32 [2, 2] (batch axis Some(0)): [1, 0, 0, 2]"#]],
        );
        check(
            &column,
            Reduction::L2Norm,
            expect!["FP32 [2, 3] (batch axis Some(0)): [0.6, 0.8, 0.0, NaN, NaN, NaN]"],
        );
        check(
            &column,
            Reduction::Threshold(3.0),
            expect!["BOOL [2, 3] (batch axis Some(0)): [1, 1, 0, 0, 0, 0]"],
        );
        let halves = [0.0f32, 0.0, f32::NEG_INFINITY, 1.0, 1.0, 1.0].map(f16::from_f32);
        let halves = given(DataType::Fp16, &[2, 1, 3], 1, &halves);
        check(
            &halves,
            Reduction::Softmax,
            expect![
                "FP32 [2, 1, 3] (batch axis Some(1)): [0.5, 0.5, 0.0, 0.33333334, 0.33333334, 0.33333334]"
            ],
        );
        check(
            &halves,
            Reduction::TopK { k: 9, softmax: true },
            expect![[r#"
                FP32 [2, 1, 3] (batch axis Some(1)): [0.5, 0.5, 0.0, 0.33333334, 0.33333334, 0.33333334]
                INT32 [2, 1, 3] (batch axis Some(1)): [0, 1, 2, 0, 1, 2]"#]],
        );
        let brains = given(DataType::Bf16, &[1, 2], 0, &[1.0f32, 2.0].map(bf16::from_f32));
        check(&brains, Reduction::Argmax, expect!["INT32 [1] (batch axis Some(0)): [1]"]);
    }

    #[test]
    fn what_has_no_rows_of_numbers_is_refused() {
        let whole = given(DataType::Int64, &[1, 2], 0, &[1i64, 2]);
        check(
            &whole,
            Reduction::Softmax,
            expect![
                "inference_failed: the model gave INT64 [1, 2] (batch axis Some(0)), which cannot be reduced"
            ],
        );
        let empty = given::<f32>(DataType::Fp32, &[2, 0], 0, &[]);
        check(
            &empty,
            Reduction::Argmax,
            expect![
                "inference_failed: the model gave FP32 [2, 0] (batch axis Some(0)), which cannot be reduced"
            ],
        );
    }
}
