//! An answer laid out as the last one is encoded as any other.

use bytes::BytesMut;
use fastrand::Rng;

use super::*;

const NAMES: [&str; 2] = ["y", "z\""];
const DATATYPES: [DataType; 3] = [DataType::Fp32, DataType::Uint8, DataType::Bytes];
const IDS: [Option<&str>; 4] = [None, Some(""), Some("a\"b"), Some("12345")];

/// An output of few kinds, so that one is sometimes like another.
struct Output {
    name: &'static str,
    rows: Rows,
    binary: bool,
    classification: usize,
}

impl Output {
    /// One laid out as `rng` says, of other bytes each time.
    fn new(rng: &mut Rng, bytes: &mut Rng) -> Self {
        let rarely = |rng: &mut Rng| rng.u8(..8) == 0;
        let datatype = DATATYPES[if rarely(rng) { rng.usize(1..3) } else { 0 }];
        let axis = [None, Some(0), Some(1)][if rarely(rng) { rng.usize(..2) } else { 1 }];
        let shape = [rng.usize(2..4), rng.usize(2..4)];
        let count = shape.iter().product();
        let bytes = match datatype.size() {
            Some(size) => std::iter::repeat_with(|| bytes.u8(..0x70)).take(count * size).collect(),
            None => (0..count)
                .flat_map(|_| bytes.choice([&b"\x01\0\0\0a"[..], b"\0\0\0\0"]).unwrap().to_vec())
                .collect(),
        };
        let rows = batch(datatype, &shape, axis, bytes);
        let start = rng.usize(..2);
        let name = NAMES[usize::from(rarely(rng))];
        let classification = if rarely(rng) && datatype == DataType::Fp32 { rng.usize(1..3) } else { 0 };
        Self { name, rows: Rows { start, count: 1, ..rows }, binary: !rarely(rng), classification }
    }

    fn view(&self) -> OutputView<'_> {
        let slice = self.rows.column(0).unwrap();
        OutputView { name: self.name, slice, binary: self.binary, classification: self.classification }
    }
}

#[test]
fn a_layout_changes_nothing() {
    let mut rng = random();
    let mut layouts = Layouts::default();
    let (mut known, mut unknown) = (0, 0);
    let mut layout = 0;
    for _ in 0..4000 {
        // Every other answer is laid out as the one before it.
        if rng.bool() {
            layout = rng.u64(..);
        }
        let mut kinds = Rng::with_seed(layout);
        let outputs: Vec<Output> =
            (0..kinds.usize(1..3)).map(|_| Output::new(&mut kinds, &mut rng)).collect();
        let views: Vec<OutputView<'_>> = outputs.iter().map(Output::view).collect();
        let head = ResponseHead { model: "m", version: "1", id: IDS[rng.usize(..IDS.len())] };
        let mut expected = BytesMut::from(&b"before"[..]);
        encode_binary(&mut expected, &head, &views).unwrap();
        let mut out = BytesMut::from(&b"before"[..]);
        layouts.encode(&mut out, &head, &views).unwrap();
        assert_eq!(out, expected);
        *if layouts.hits() { &mut known } else { &mut unknown } += 1;
        if rng.u8(..16) == 0 {
            layouts = Layouts::default();
        }
    }
    assert!(known > 100 && unknown > 100, "{known} known, {unknown} unknown");
}

#[test]
fn answers_that_differ_each_time_are_not_kept() {
    let mut layouts = Layouts::default();
    let mut hits = |size: usize| {
        let rows = batch(DataType::Uint8, &[1, size], Some(0), vec![0; size]);
        let view = OutputView { name: "y", slice: rows.column(0).unwrap(), binary: true, classification: 0 };
        let head = ResponseHead { model: "m", version: "1", id: None };
        layouts.encode(&mut BytesMut::new(), &head, &[view]).unwrap();
        layouts.hits()
    };
    assert_eq!([1, 1, 2, 2].map(&mut hits), [false, true, false, true]);
    assert_eq!([3, 4, 5, 6, 7, 7].map(&mut hits), [false; 6]);
    assert_eq!([6, 7].map(&mut hits), [true, false], "the last one that was kept");
}
