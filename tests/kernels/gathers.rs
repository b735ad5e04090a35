//! Uploads: rows, samples, windows and images into batch tensors.

use bytemuck::{NoUninit, Pod};
use bytes::Bytes;
use fastrand::Rng;
use half::{bf16, f16};
use thalweg::device::Cpu;
use thalweg::signal::Encoding;
use thalweg::tensor::{ByteWindow, Conversion, DataType, Dim, GroupKey, Payload, Signature, TensorSpec};

use crate::emulator::{Geometry, Memory};
use crate::{assert_same, launch, random_bytes, with_seeds};

/// `Row` of kernels/common.cuh.
#[derive(Debug, Clone, Copy, NoUninit)]
#[repr(C)]
struct Row {
    offset: u32,
    encoding: u32,
    stride: u64,
}

/// `Window` of kernels/common.cuh.
#[derive(Debug, Clone, Copy, Default, NoUninit)]
#[repr(C)]
struct Window {
    head_offset: u32,
    head_length: u32,
    tail_offset: u32,
    tail_length: u32,
    raw: u32,
    unused: u32,
}

/// `Encoding` of kernels/common.cuh.
mod code {
    pub const RAW: u32 = 0;
    pub const F32LE: u32 = 1;
    pub const PCM_S16LE: u32 = 2;
    pub const PCM_S16BE: u32 = 3;
    pub const UINT8: u32 = 4;
    pub const MULAW: u32 = 5;
    pub const ALAW: u32 = 6;
    pub const F16: u32 = 7;
    pub const BF16: u32 = 8;
    pub const ALL: std::ops::RangeInclusive<u32> = RAW..=BF16;
}

/// The upload of a batch. It ends with its last row.
#[derive(Default)]
struct Packed(Vec<u8>);

impl Packed {
    /// Adds bytes behind as many that are nobody's, and tells where they stand.
    fn add(&mut self, gap: usize, bytes: &[u8]) -> u32 {
        self.0.extend(std::iter::repeat_n(0xee, gap));
        let offset = self.0.len();
        self.0.extend_from_slice(bytes);
        u32::try_from(offset).unwrap()
    }

    /// As the host does, which aligns rows.
    fn add_aligned(&mut self, bytes: &[u8]) -> u32 {
        self.add(self.0.len().next_multiple_of(16) - self.0.len(), bytes)
    }

    fn add_somewhere(&mut self, random: &mut Rng, bytes: &[u8]) -> u32 {
        if random.bool() { self.add_aligned(bytes) } else { self.add(random.usize(0..=5), bytes) }
    }

    fn memory(&self) -> Memory {
        Memory::of(&self.0)
    }
}

fn u32_of(number: usize) -> u32 {
    u32::try_from(number).unwrap()
}

fn bytes_of<T: NoUninit>(values: &[T]) -> Vec<u8> {
    bytemuck::cast_slice(values).to_vec()
}

fn cpu(spec: TensorSpec, window: Option<ByteWindow>) -> Cpu {
    let signature = Signature { inputs: vec![spec], outputs: vec![], states: vec![], max_batch_size: 64 };
    Cpu::new(&signature, &[window.map(Conversion::Window)], &[])
}

/// A batch of the CPU's, followed along its batch axis by rows of zeros.
fn padded(batch: &[u8], outer: usize, live: usize, bucket: usize, inner: usize) -> Vec<u8> {
    (0..outer)
        .flat_map(|o| {
            let rows = batch[o * live * inner..(o + 1) * live * inner].iter().copied();
            rows.chain(std::iter::repeat_n(0, (bucket - live) * inner))
        })
        .collect()
}

fn check_rows(random: &mut Rng, geometry: Geometry) {
    let datatypes = [DataType::Uint8, DataType::Fp16, DataType::Int32, DataType::Fp32, DataType::Int64];
    let datatype = random.choice(datatypes).unwrap();
    let axis = random.usize(0..=2);
    let mut dims: Vec<usize> = (0..3).map(|_| random.usize(1..=9)).collect();
    dims[axis] = 0;
    let outer: usize = dims[..axis].iter().product();
    let inner = dims[axis + 1..].iter().product::<usize>() * datatype.size().unwrap();

    let spec = TensorSpec {
        name: "x".into(),
        datatype,
        dims: (0..3).map(|at| if at == axis { Dim::Dynamic } else { Dim::Fixed(dims[at]) }).collect(),
        batch_axis: Some(axis),
    };
    // Requests of a few rows each: a row's blocks are as far apart as its request's.
    let requests: Vec<usize> = (0..random.usize(0..=4)).map(|_| random.usize(1..=3)).collect();
    let live: usize = requests.iter().sum();
    let bucket = live + random.usize(0..=3);
    let mut device = cpu(spec, None);
    device.begin(live, &GroupKey::default()).unwrap();
    let (mut packed, mut rows) = (Packed::default(), Vec::new());
    for request in requests {
        let bytes = random_bytes(random, outer * request * inner);
        let offset = packed.add_somewhere(random, &bytes);
        let stride = (request * inner) as u64;
        rows.extend((0..request).map(|row| Row {
            offset: offset + u32_of(row * inner),
            encoding: 0,
            stride,
        }));
        device.put(request, &[Payload::Rows(Bytes::from(bytes))], None).unwrap();
    }
    let expected = padded(device.inputs()[0].data, outer, live, bucket, inner);

    let mut batch = Memory::garbage(expected.len());
    let (packed, rows) = (packed.memory(), Memory::of(&rows));
    let (outer, bucket) = (u32_of(outer), u32_of(bucket));
    launch!("gather_rows", geometry, &packed, &rows, u32_of(live), &mut batch, outer, bucket, inner as u64);
    assert_eq!(batch.get::<u8>(), expected, "axis {axis} of {dims:?}, {live} of {bucket} rows, {geometry:?}");
}

#[test]
fn rows_are_gathered_as_on_the_cpu() {
    with_seeds(|random| check_rows(random, Geometry::USUAL));
    with_seeds(|random| {
        let geometry = Geometry::random(random);
        check_rows(random, geometry);
    });
}

/// Bytes of an encoding's sample.
fn width(encoding: u32) -> usize {
    match encoding {
        code::RAW | code::F32LE => 4,
        code::UINT8 | code::MULAW | code::ALAW => 1,
        _ => 2,
    }
}

/// What the references make of a row.
fn decoded(encoding: u32, bytes: &[u8], scale: f32, offset: f32) -> Vec<f32> {
    let mut numbers = vec![0.0; bytes.len() / width(encoding)];
    let pairs = || bytes.as_chunks::<2>().0.iter().map(|pair| u16::from_le_bytes(*pair));
    match encoding {
        code::RAW => return bytemuck::pod_collect_to_vec(bytes),
        code::F32LE => Encoding::F32le.decode(bytes, &mut numbers),
        code::PCM_S16LE => Encoding::PcmS16le.decode(bytes, &mut numbers),
        code::PCM_S16BE => Encoding::PcmS16be.decode(bytes, &mut numbers),
        code::MULAW => Encoding::Mulaw.decode(bytes, &mut numbers),
        code::ALAW => Encoding::Alaw.decode(bytes, &mut numbers),
        code::UINT8 => numbers = bytes.iter().map(|&byte| byte.into()).collect(),
        code::F16 => numbers = pairs().map(|bits| f16::from_bits(bits).to_f32()).collect(),
        code::BF16 => numbers = pairs().map(|bits| bf16::from_bits(bits).to_f32()).collect(),
        _ => panic!("there is no encoding {encoding}"),
    }
    if scale != 1.0 || offset != 0.0 {
        numbers.iter_mut().for_each(|number| *number = number.mul_add(scale, offset));
    }
    numbers
}

/// Gathers rows of samples, `[outer][inner]` each, and compares them.
fn check_samples(
    geometry: Geometry,
    rows: &[(u32, usize, Vec<u8>)],
    outer: usize,
    inner: usize,
    padding: usize,
    scale: (f32, f32),
) {
    let (mut packed, mut table) = (Packed::default(), Vec::new());
    let bucket = rows.len() + padding;
    let mut expected = vec![0.0; outer * bucket * inner];
    for (at, (encoding, gap, bytes)) in rows.iter().enumerate() {
        let offset = packed.add(*gap, bytes);
        table.push(Row { offset, encoding: *encoding, stride: (inner * width(*encoding)) as u64 });
        let numbers = decoded(*encoding, bytes, scale.0, scale.1);
        for o in 0..outer {
            let place = (o * bucket + at) * inner;
            expected[place..place + inner].copy_from_slice(&numbers[o * inner..(o + 1) * inner]);
        }
    }
    let mut batch = Memory::garbage(expected.len() * 4);
    let (packed, table, live) = (packed.memory(), Memory::of(&table), u32_of(rows.len()));
    launch!(
        "gather_f32",
        geometry,
        &packed,
        &table,
        live,
        &mut batch,
        u32_of(outer),
        u32_of(bucket),
        inner as u64,
        scale.0,
        scale.1
    );
    let encodings: Vec<u32> = rows.iter().map(|row| row.0).collect();
    assert_same(
        &batch.get::<f32>(),
        &expected,
        &format!("{encodings:?} x {inner}, scale {scale:?}, {geometry:?}"),
    );
}

/// Every value of up to two bytes, at every distance from alignment.
#[test]
fn every_sample_is_decoded_as_on_the_cpu() {
    let all: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
    for encoding in code::ALL {
        for gap in 0..4 {
            for scale in [(1.0, 0.0), (2.0, 0.0), (1.0, -0.5), (1.0 / 255.0, -0.3)] {
                let inner = all.len() / width(encoding);
                check_samples(Geometry::USUAL, &[(encoding, gap, all.clone())], 1, inner, 0, scale);
            }
        }
    }
}

#[test]
fn floats_that_are_no_numbers_become_silence() {
    let floats = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -0.0, f32::MAX, f32::from_bits(1), 0.25];
    let rows = [code::F32LE, code::RAW].map(|encoding| (encoding, 0, bytes_of(&floats)));
    check_samples(Geometry::USUAL, &rows, 1, floats.len(), 1, (1.0, 0.0));
    // What is taken as it is keeps even the bits of what is no number.
    let strange = [0x7f80_0001_u32, 0xffc0_1234, 0x8000_0000];
    let (packed, row) =
        (Memory::of(&strange), Memory::of(&[Row { offset: 0, encoding: code::RAW, stride: 0 }]));
    let mut batch = Memory::garbage(12);
    launch!("gather_f32", Geometry::USUAL, &packed, &row, 1_u32, &mut batch, 1_u32, 1_u32, 3_u64, 5.0, 5.0);
    assert_eq!(batch.get::<u32>(), strange);
}

#[test]
fn rows_of_many_encodings_share_a_batch() {
    with_seeds(|random| {
        let (outer, inner) = (random.usize(1..=3), random.usize(0..=70));
        let rows: Vec<_> = (0..random.usize(0..=9))
            .map(|_| {
                let encoding = random.u32(code::ALL);
                (encoding, random.usize(0..=5), random_bytes(random, outer * inner * width(encoding)))
            })
            .collect();
        let scale = *random.choice(&[(1.0, 0.0), (0.017, 0.0), (3.0, -1.5)]).unwrap();
        let padding = random.usize(0..=3);
        check_samples(Geometry::random(random), &rows, outer, inner, padding, scale);
    });
}

/// One message's row as the kernel of this datatype writes it.
trait Element: Pod + PartialEq + std::fmt::Debug {
    const KERNEL: &str;
    fn of(value: i64) -> Self;
}

impl Element for i32 {
    const KERNEL: &str = "gather_windows_i32";
    fn of(value: i64) -> Self {
        value as Self
    }
}

impl Element for i64 {
    const KERNEL: &str = "gather_windows_i64";
    fn of(value: i64) -> Self {
        value
    }
}

impl Element for f32 {
    const KERNEL: &str = "gather_windows_f32";
    fn of(value: i64) -> Self {
        value as Self
    }
}

fn check_windows<T: Element>(random: &mut Rng) {
    let head = random.usize(0..=20);
    let window = ByteWindow {
        head,
        tail: random.usize(usize::from(head == 0)..=20),
        block: random.usize(1..=30),
        strip: random.bool(),
        pad: *random.choice(&[0, 256, -1, 40_000_000_001]).unwrap(),
    };
    let (mut packed, mut table, mut expected) = (Packed::default(), Vec::new(), Vec::new());
    let live = random.usize(0..=6);
    let bucket = live + random.usize(0..=2);
    for _ in 0..live {
        if random.u8(..) < 64 {
            let row: Vec<T> = (0..window.width()).map(|_| T::of(random.i64(-9..9))).collect();
            let head_offset = packed.add_somewhere(random, &bytes_of(&row));
            table.push(Window { head_offset, raw: 1, ..Window::default() });
            expected.extend(row);
            continue;
        }
        let length = random.usize(0..=60);
        let mut message = random_bytes(random, length);
        message.iter_mut().for_each(|byte| *byte = if *byte < 128 { b' ' } else { *byte });
        let (head, tail) = (window.head_of(&message), window.tail_of(&message));
        table.push(Window {
            head_offset: packed.add_somewhere(random, head),
            head_length: u32_of(head.len()),
            tail_offset: packed.add_somewhere(random, tail),
            tail_length: u32_of(tail.len()),
            raw: 0,
            unused: 0,
        });
        expected.extend(window.row(&message).map(T::of));
    }
    expected.resize(bucket * window.width(), T::of(window.pad));

    let mut batch = Memory::garbage(expected.len() * size_of::<T>());
    let (packed, table, geometry) = (packed.memory(), Memory::of(&table), Geometry::random(random));
    let (head, tail) = (u32_of(window.head), u32_of(window.tail));
    launch!(
        T::KERNEL,
        geometry,
        &packed,
        &table,
        u32_of(live),
        &mut batch,
        u32_of(bucket),
        head,
        tail,
        window.pad
    );
    assert_eq!(batch.get::<T>(), expected, "{} {window:?}, {geometry:?}", T::KERNEL);
}

#[test]
fn messages_become_windows() {
    with_seeds(check_windows::<i32>);
    with_seeds(check_windows::<i64>);
    with_seeds(check_windows::<f32>);
}

#[test]
fn images_become_planes() {
    with_seeds(|random| {
        let (channels, pixels) = (random.usize(1..=4), random.usize(1..=40));
        let mean: Vec<f32> = (0..channels).map(|_| random.f32()).collect();
        let deviation: Vec<f32> = (0..channels).map(|_| random.f32() + 0.1).collect();
        let live = random.usize(0..=4);
        let bucket = live + random.usize(0..=2);
        let (mut packed, mut table, mut expected) = (Packed::default(), Vec::new(), Vec::<f32>::new());
        for _ in 0..live {
            if random.bool() {
                let row: Vec<f32> = (0..channels * pixels).map(|_| random.f32()).collect();
                let offset = packed.add_somewhere(random, &bytes_of(&row));
                table.push(Row { offset, encoding: code::RAW, stride: 0 });
                expected.extend(row);
            } else {
                let bytes = random_bytes(random, channels * pixels);
                let offset = packed.add_somewhere(random, &bytes);
                table.push(Row { offset, encoding: code::UINT8, stride: 0 });
                expected.extend((0..channels).flat_map(|c| {
                    let plane = bytes.iter().skip(c).step_by(channels);
                    let (mean, deviation) = (mean[c], deviation[c]);
                    plane.map(move |&byte| (f32::from(byte) / 255.0 - mean) / deviation)
                }));
            }
        }
        expected.resize(bucket * channels * pixels, 0.0);
        let mut batch = Memory::garbage(expected.len() * 4);
        let (packed, table, geometry) = (packed.memory(), Memory::of(&table), Geometry::random(random));
        let (mean, deviation) = (Memory::of(&mean), Memory::of(&deviation));
        launch!(
            "gather_image",
            geometry,
            &packed,
            &table,
            u32_of(live),
            &mut batch,
            u32_of(bucket),
            u32_of(channels),
            u32_of(pixels),
            &mean,
            &deviation
        );
        assert_same(&batch.get::<f32>(), &expected, &format!("{channels} x {pixels}, {geometry:?}"));
    });
}
