//! Rows of what clients send as the FP32 that the model takes, in one pass on the CPU.
//!
//! Bit for bit what `kernels/gather_f32.cu` and `kernels/gather_image.cu` make of them.

use half::{bf16, f16};

use crate::tensor::{Conversion, Narrow};

/// A conversion, made ready.
#[derive(Debug)]
pub(super) enum Converter {
    /// What each byte becomes: no arithmetic is as fast.
    Bytes(Table),
    Int16(Scale),
    Fp16(Scale),
    Bf16(Scale),
    /// What each byte becomes in each channel.
    Planes(Vec<Table>),
}

type Table = Box<[f32; 256]>;

#[derive(Debug, Clone, Copy)]
pub(super) struct Scale {
    factor: f32,
    offset: f32,
}

impl Converter {
    /// `None` where rows are as the model takes them.
    pub(super) fn new(conversion: &Conversion) -> Option<Self> {
        match conversion {
            Conversion::Window(_) => None,
            Conversion::Scale { from, scale, offset } => {
                let scale = Scale { factor: *scale, offset: *offset };
                Some(match from {
                    Narrow::Uint8 => Self::Bytes(table(|value| scale.of(value))),
                    Narrow::Int16 => Self::Int16(scale),
                    Narrow::Fp16 => Self::Fp16(scale),
                    Narrow::Bf16 => Self::Bf16(scale),
                })
            }
            Conversion::Planes { mean, deviation } => {
                let channels = mean.iter().zip(deviation);
                let channel = |(mean, deviation): (&f32, &f32)| table(|x| (x / 255.0 - mean) / deviation);
                Some(Self::Planes(channels.map(channel).collect()))
            }
        }
    }

    /// Bytes of an element as clients send it.
    pub(super) fn size(&self) -> usize {
        match self {
            Self::Bytes(_) | Self::Planes(_) => 1,
            Self::Int16(_) | Self::Fp16(_) | Self::Bf16(_) => 2,
        }
    }

    /// Converts rows of so many elements each; both sides hold the same number of elements.
    pub(super) fn convert(&self, row: usize, from: &[u8], to: &mut [f32]) {
        match self {
            Self::Bytes(table) => look_up(table, from.iter(), to),
            Self::Int16(scale) => scale.each(from, to, |bytes| f32::from(i16::from_le_bytes(bytes))),
            Self::Fp16(scale) => scale.each(from, to, |bytes| f16::from_le_bytes(bytes).to_f32()),
            Self::Bf16(scale) => scale.each(from, to, |bytes| bf16::from_le_bytes(bytes).to_f32()),
            Self::Planes(tables) => {
                let (row, pixels) = (row.max(1), (row / tables.len().max(1)).max(1));
                for (from, to) in from.chunks_exact(row).zip(to.chunks_exact_mut(row)) {
                    for (channel, (table, plane)) in
                        tables.iter().zip(to.chunks_exact_mut(pixels)).enumerate()
                    {
                        look_up(table, from.iter().skip(channel).step_by(tables.len()), plane);
                    }
                }
            }
        }
    }
}

impl Scale {
    fn of(self, value: f32) -> f32 {
        if self.changes_nothing() { value } else { value.mul_add(self.factor, self.offset) }
    }

    fn changes_nothing(self) -> bool {
        self.factor == 1.0 && self.offset == 0.0
    }

    /// Asked once, so that the compiler can vectorise either loop.
    fn each(self, from: &[u8], to: &mut [f32], number: impl Fn([u8; 2]) -> f32) {
        let numbers = to.iter_mut().zip(from.as_chunks().0);
        if self.changes_nothing() {
            numbers.for_each(|(to, from)| *to = number(*from));
        } else {
            numbers.for_each(|(to, from)| *to = number(*from).mul_add(self.factor, self.offset));
        }
    }
}

fn table(number: impl Fn(f32) -> f32) -> Table {
    let mut table = Box::new([0.0; 256]);
    for (byte, entry) in (0..=u8::MAX).zip(&mut *table) {
        *entry = number(f32::from(byte));
    }
    table
}

fn look_up<'a>(table: &Table, from: impl Iterator<Item = &'a u8>, to: &mut [f32]) {
    for (to, &byte) in to.iter_mut().zip(from) {
        *to = table[usize::from(byte)];
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn check(conversion: Conversion, row: usize, from: &[u8], expect: Expect) {
        let converter = Converter::new(&conversion).unwrap();
        let mut to = vec![f32::NAN; from.len() / converter.size()];
        converter.convert(row, from, &mut to);
        expect.assert_eq(&format!("{to:?}"));
    }

    fn scale(from: Narrow, scale: f32, offset: f32) -> Conversion {
        Conversion::Scale { from, scale, offset }
    }

    #[test]
    fn numbers_are_scaled() {
        let bytes = &[0, 1, 255];
        check(scale(Narrow::Uint8, 1.0, 0.0), 3, bytes, expect!["[0.0, 1.0, 255.0]"]);
        check(scale(Narrow::Uint8, 1.0 / 127.5, -1.0), 3, bytes, expect!["[-1.0, -0.99215686, 1.0000001]"]);
        let shorts: Vec<u8> = [0i16, -1, i16::MAX, i16::MIN].into_iter().flat_map(i16::to_le_bytes).collect();
        check(scale(Narrow::Int16, 1.0, 0.0), 2, &shorts, expect!["[0.0, -1.0, 32767.0, -32768.0]"]);
        check(
            scale(Narrow::Int16, 1.0 / 32768.0, 0.5),
            4,
            &shorts,
            expect![[r#"[0.5, 0.49996948, 1.4999695, -0.5]"#]],
        );
        let halves: Vec<u8> =
            [1.5f32, -2.0, 65504.0].map(f16::from_f32).into_iter().flat_map(f16::to_le_bytes).collect();
        check(scale(Narrow::Fp16, 2.0, 1.0), 3, &halves, expect!["[4.0, -3.0, 131009.0]"]);
        let brains: Vec<u8> =
            [1.5f32, -2.0, 1e38].map(bf16::from_f32).into_iter().flat_map(bf16::to_le_bytes).collect();
        check(scale(Narrow::Bf16, 1.0, 0.0), 3, &brains, expect!["[1.5, -2.0, 9.96921e37]"]);
    }

    /// 3 · (1 + 2⁻²³) − 3 is 3 · 2⁻²³; rounded after the product as well, it would be a third more.
    #[test]
    fn there_is_one_rounding() {
        let three = f16::from_f32(3.0).to_le_bytes();
        check(scale(Narrow::Fp16, 1.0 + f32::EPSILON, -3.0), 1, &three, expect!["[3.5762787e-7]"]);
        check(scale(Narrow::Uint8, 1.0 + f32::EPSILON, -3.0), 1, &[3], expect!["[3.5762787e-7]"]);
    }

    #[test]
    fn pixels_become_planes() {
        let conversion = || Conversion::Planes { mean: vec![0.0, 0.5, 1.0], deviation: vec![1.0, 0.5, 2.0] };
        // Two images of two pixels.
        let pixels = [0, 0, 0, 255, 255, 255, 51, 51, 51, 102, 102, 102];
        check(
            conversion(),
            6,
            &pixels,
            expect!["[0.0, 1.0, -1.0, 1.0, -0.5, 0.0, 0.2, 0.4, -0.6, -0.19999999, -0.4, -0.3]"],
        );
        check(conversion(), 0, &[], expect!["[]"]);
    }
}
