//! ONNX Runtime itself, with the models of `tests/models/make_models.py` and those that the server brings.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail as tests do"
)]

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use expect_test::{Expect, expect};
use thalweg::device::TensorView;
use thalweg::engine::onnx::{LoadError, ModelError, OnnxModel, OnnxRuntime, SessionOptions};
use thalweg::engine::{Engine, Running};
use thalweg::error::{Code, Error};
use thalweg::registry::{Derived, derive, open_original, read_model};
use thalweg::tensor::{BatchOutput, DataType, Dim, Rows, TensorSpec};

const ONE_THREAD: SessionOptions = SessionOptions { intra_op_threads: 1, inter_op_threads: 1 };

fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// A process can load one.
fn runtime() -> &'static OnnxRuntime {
    static RUNTIME: OnceLock<OnnxRuntime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        let library = project("runtime/libonnxruntime.so.1.32.0");
        OnnxRuntime::load(&library).unwrap_or_else(|error| panic!("{error}; `make models` fetches it"))
    })
}

/// A model of the tests or of the server, and what is served of it.
fn load(name: &str) -> (OnnxModel, Derived) {
    let folders = [project("tests/models/repository").join(name), project("models").join(name)];
    let folder = folders.iter().find(|folder| folder.join("1/model.onnx").is_file());
    let folder = folder.unwrap_or_else(|| panic!("there is no model {name}: run `make test-models models`"));
    let (file, versions) = read_model(folder).unwrap();
    let model = open_original(runtime(), folder, versions[0], &file).unwrap();
    let derived = derive(model.graph(), &file).unwrap();
    (model, derived)
}

fn start(name: &str) -> Box<dyn Running> {
    let (model, Derived { model: signature, constants, .. }) = load(name);
    model.start(&signature, &constants).unwrap()
}

/// Memory that is aligned for every datatype.
fn aligned(bytes: &[u8]) -> Vec<u64> {
    let mut words = vec![0u64; bytes.len().div_ceil(8)];
    bytemuck::cast_slice_mut(&mut words)[..bytes.len()].copy_from_slice(bytes);
    words
}

/// Runs a model on `(datatype, shape, bytes)`.
fn run(model: &mut dyn Running, inputs: &[(DataType, &[usize], &[u8])]) -> Result<BatchOutput, Error> {
    let memory: Vec<_> = inputs.iter().map(|(_, _, bytes)| aligned(bytes)).collect();
    let views: Vec<_> = inputs
        .iter()
        .zip(&memory)
        .map(|(&(datatype, shape, bytes), words)| TensorView {
            datatype,
            shape: shape.into(),
            data: &bytemuck::cast_slice(words)[..bytes.len()],
        })
        .collect();
    model.run(&views)
}

/// All of an output: its shape and bytes.
fn whole(output: BatchOutput, rows: usize, index: usize) -> (DataType, Vec<usize>, Vec<u8>) {
    let rows = Rows { output: output.into(), start: 0, count: rows };
    let slice = rows.column(index).unwrap();
    (slice.datatype(), slice.shape().to_vec(), slice.chunks().flatten().copied().collect())
}

fn floats(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn wire(strings: &[&[u8]]) -> Vec<u8> {
    let one = |text: &&[u8]| [&u32::try_from(text.len()).unwrap().to_le_bytes(), *text].concat();
    strings.iter().flat_map(one).collect()
}

/// Elements of a datatype, the extreme ones among them.
fn elements(datatype: DataType, count: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(7);
    match (datatype, datatype.size()) {
        (DataType::Bool, _) => (0..count).map(|_| random.u8(..2)).collect(),
        (_, None) => {
            let odd: [&[u8]; 5] = [b"", b"a\0b", b"\xff\xfe\x80", "é😀".as_bytes(), &[b'x'; 300]];
            (0..count).flat_map(|index| wire(&[odd[index % odd.len()]])).collect()
        }
        // Any bits: not a number and infinity too.
        (_, Some(size)) => {
            let extremes = [vec![0xff; size], vec![0; size], vec![0x80; size]].concat();
            let more = (0..count * size).map(|_| random.u8(..));
            extremes.into_iter().chain(more).take(count * size).collect()
        }
    }
}

#[test]
fn every_datatype_passes_through_unchanged() {
    for &datatype in DataType::ALL {
        let mut model = start(&format!("identity_{}", datatype.as_str().to_lowercase()));
        // A dimension of size 0 is a tensor too.
        for shape in [[1, 1], [3, 5], [64, 33], [1, 0], [7, 0]] {
            let bytes = elements(datatype, shape[0] * shape[1]);
            let output = run(&mut *model, &[(datatype, &shape, &bytes)]).unwrap();
            assert_eq!(whole(output, shape[0], 0), (datatype, shape.to_vec(), bytes), "{datatype} {shape:?}");
        }
    }
}

#[test]
fn outputs_come_in_the_order_of_the_signature() {
    let mut model = start("identity_all");
    let offered: Vec<_> = DataType::ALL
        .iter()
        .enumerate()
        .map(|(index, &datatype)| (datatype, [2, index], elements(datatype, 2 * index)))
        .collect();
    let inputs: Vec<_> =
        offered.iter().map(|(datatype, shape, bytes)| (*datatype, &shape[..], &bytes[..])).collect();
    for (index, (datatype, shape, bytes)) in offered.iter().enumerate() {
        let output = run(&mut *model, &inputs).unwrap();
        assert_eq!(whole(output, 2, index), (*datatype, shape.to_vec(), bytes.clone()));
    }
}

#[test]
fn rows_are_cut_along_the_second_axis() {
    let mut model = start("accumulator_axis1");
    let (x, state) = (floats(&[1.0; 12]), floats(&(0..24u8).map(f32::from).collect::<Vec<_>>()));
    let inputs: [(_, &[usize], &[u8]); 2] =
        [(DataType::Fp32, &[3, 4], &x), (DataType::Fp32, &[2, 3, 4], &state)];
    let output = run(&mut *model, &inputs).unwrap();
    let rows = Rows { output: output.into(), start: 1, count: 1 };
    let slice = rows.column(1).unwrap();
    assert_eq!(slice.shape()[..], [2, 1, 4]);
    let bytes: Vec<u8> = slice.chunks().flatten().copied().collect();
    assert_eq!(bytes, floats(&[5.0, 6.0, 7.0, 8.0, 17.0, 18.0, 19.0, 20.0]));
}

#[test]
fn a_constant_input_is_there_without_a_client() {
    let mut model = start("silero_vad");
    let (audio, state) = (floats(&[0.0; 2 * 576]), floats(&[0.0; 2 * 2 * 128]));
    let inputs: [(_, &[usize], &[u8]); 2] =
        [(DataType::Fp32, &[2, 576], &audio), (DataType::Fp32, &[2, 2, 128], &state)];
    let output = run(&mut *model, &inputs).unwrap();
    let (_, shape, bytes) = whole(output, 2, 0);
    assert_eq!(shape, [2, 1]);
    let speech: Vec<f32> = bytemuck::pod_collect_to_vec(&bytes);
    assert!(speech.iter().all(|&probability| probability < 0.1), "silence is no speech: {speech:?}");
    assert_eq!(speech[0], speech[1]);
}

#[test]
fn a_run_that_fails_says_why_in_a_line_and_the_next_one_works() {
    let mut model = start("poison");
    let error = run(&mut *model, &[(DataType::Fp32, &[1, 4], &floats(&[1.0, 2.0, 666.0, 3.0]))]).unwrap_err();
    assert_eq!(error.code, Code::InferenceFailed);
    assert!(
        !error.message.contains('\n') && error.message.contains("indices element out of data bounds"),
        "{error}"
    );
    let output = run(&mut *model, &[(DataType::Fp32, &[1, 4], &floats(&[1.0, 2.0, 5.0, 3.0]))]).unwrap();
    assert_eq!(whole(output, 1, 0).2, floats(&[2.0, 4.0, 10.0, 6.0]));
}

#[test]
fn a_run_ends_when_it_is_asked_to() {
    let mut model = start("endless");
    let output = run(&mut *model, &[(DataType::Fp32, &[1, 4], &floats(&[1.0, 2.0, 3.0, 4.0]))]).unwrap();
    assert_eq!(whole(output, 1, 0).2, floats(&[2.0, 4.0, 6.0, 8.0]));
    let halt = model.halt().expect("there is a way to end a run");
    std::thread::scope(|scope| {
        let running = scope.spawn(|| {
            let error = run(&mut *model, &[(DataType::Fp32, &[1, 4], &floats(&[1e15; 4]))]).unwrap_err();
            assert_eq!(error.code, Code::InferenceFailed);
            assert!(error.message.contains("terminate flag"), "{error}");
        });
        // Most likely the run is in its loop when this one has ended.
        run(&mut *start("endless"), &[(DataType::Fp32, &[1, 4], &floats(&[20_000.0; 4]))]).unwrap();
        halt();
        running.join().unwrap();
    });
    let again = run(&mut *model, &[(DataType::Fp32, &[1, 4], &floats(&[1.0; 4]))]);
    assert!(again.is_err(), "what was ended stays ended, so that a lane has to be made anew");
}

#[test]
fn bytes_that_are_not_the_tensor_are_an_error() {
    let check = |name: &str, datatype, shape: &[usize], bytes: &[u8], expect: Expect| {
        let error = run(&mut *start(name), &[(datatype, shape, bytes)]).unwrap_err();
        expect.assert_eq(&format!("{}: {error}", error.code.as_str()));
    };
    check(
        "identity_fp32",
        DataType::Fp32,
        &[1, 2],
        &[0; 4],
        expect![
            "internal: Cannot create a tensor from raw data; shape [1, 2] (2 elements) is different from the length of the data provided (1 elements)"
        ],
    );
    check(
        "identity_bool",
        DataType::Bool,
        &[1, 1],
        &[2],
        expect!["internal: a tensor is malformed: InvalidBitPattern"],
    );
    check(
        "identity_bytes",
        DataType::Bytes,
        &[1, 1],
        b"\x02\0\0\0a",
        expect!["internal: a batch of strings is malformed"],
    );
    check(
        "identity_bytes",
        DataType::Bytes,
        &[1, 1],
        b"\0\0\0\0more",
        expect!["internal: a batch of strings is malformed"],
    );
}

#[test]
fn two_lanes_run_a_model_at_once() {
    let (model, Derived { signature, constants, .. }) = load("add_fp32");
    let mut lanes: Vec<_> = (0..2).map(|_| model.start(&signature, &constants).unwrap()).collect();
    std::thread::scope(|scope| {
        for lane in &mut lanes {
            scope.spawn(move || {
                let (a, b) = (floats(&[1.5; 32]), floats(&[2.0; 32]));
                for _ in 0..50 {
                    let inputs: [(_, &[usize], &[u8]); 2] =
                        [(DataType::Fp32, &[2, 16], &a), (DataType::Fp32, &[2, 16], &b)];
                    let output = run(&mut **lane, &inputs).unwrap();
                    assert_eq!(whole(output, 2, 0).2, floats(&[3.5; 32]));
                }
            });
        }
    });
}

#[test]
fn a_file_that_is_no_model_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.onnx");
    assert!(
        matches!(runtime().open(&path, ONE_THREAD), Err(ModelError::Missing(missing)) if missing == path)
    );
    let model = std::fs::read(project("tests/models/repository/add_fp32/1/model.onnx"));
    let model = model.expect("run `make test-models`");
    for content in [&b"not a model"[..], b"", &model[..model.len() / 2]] {
        std::fs::write(&path, content).unwrap();
        let error = runtime().open(&path, ONE_THREAD).err().expect("it is no model");
        let text = error.to_string();
        assert!(matches!(error, ModelError::Broken { .. }), "{text}");
        assert!(text.contains(path.to_str().unwrap()) && !text.contains('\n'), "{text}");
    }
}

#[test]
fn a_library_that_is_not_there_is_named_with_what_to_do() {
    let path = project("runtime/none.so");
    let error = OnnxRuntime::load(&path).err().expect("there is none");
    assert!(matches!(error, LoadError::Missing(_)));
    assert!(error.to_string().contains("thalweg models fetch"), "{error}");
}

#[test]
fn signatures_are_derived_from_real_graphs() {
    let repository = std::fs::read_dir(project("tests/models/repository")).expect("run `make test-models`");
    let mut names: Vec<_> = repository
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| !name.starts_with('.'))
        .collect();
    names.sort();
    names.extend(["magika", "silero_vad"].map(String::from));
    let mut text = String::new();
    for name in names {
        let (_, Derived { signature, constants, .. }) = load(&name);
        let show = |specs: &[TensorSpec]| specs.iter().map(show).collect::<Vec<_>>().join(" ");
        let (inputs, outputs) = (show(&signature.inputs), show(&signature.outputs));
        write!(text, "{name}, {}: {inputs} -> {outputs}", signature.max_batch_size).unwrap();
        for constant in constants {
            write!(text, ", {} = {:?}", constant.name, constant.data).unwrap();
        }
        text.push('\n');
    }
    expect![[r#"
        accumulator, 64: x:FP32[@,4] state:FP32[@,4] -> y:FP32[@,4] state_out:FP32[@,4]
        accumulator_axis1, 64: x:FP32[@,4] state:FP32[2,@,4] -> y:FP32[2,@,4] state_out:FP32[2,@,4]
        add_fp32, 64: A:FP32[@,16] B:FP32[@,16] -> SUM:FP32[@,16]
        add_int64, 64: A:INT64[@,16] B:INT64[@,16] -> SUM:INT64[@,16]
        choosy, 64: x:FP32[@,4] -> y:FP32[@,4], mode = [2, 0, 0, 0, 0, 0, 0, 0]
        converted_bf16, 64: INPUT0:BF16[@,?] -> OUTPUT0:FP32[@,?]
        converted_fp16, 64: INPUT0:FP16[@,?] -> OUTPUT0:FP32[@,?]
        converted_int16, 64: INPUT0:INT16[@,?] -> OUTPUT0:FP32[@,?]
        converted_uint8, 64: INPUT0:UINT8[@,?] -> OUTPUT0:FP32[@,?]
        dynamic_text, 64: text:BYTES[@,1] -> same:BYTES[@,1]
        endless, 64: x:FP32[@,4] -> y:FP32[@,4]
        fixed_batch, 0: x:FP32[3,4] -> y:FP32[3,4]
        identity_all, 64: IN_BOOL:BOOL[@,?] IN_UINT8:UINT8[@,?] IN_UINT16:UINT16[@,?] IN_UINT32:UINT32[@,?] IN_UINT64:UINT64[@,?] IN_INT8:INT8[@,?] IN_INT16:INT16[@,?] IN_INT32:INT32[@,?] IN_INT64:INT64[@,?] IN_FP16:FP16[@,?] IN_FP32:FP32[@,?] IN_FP64:FP64[@,?] IN_BF16:BF16[@,?] IN_BYTES:BYTES[@,?] -> OUT_BOOL:BOOL[@,?] OUT_UINT8:UINT8[@,?] OUT_UINT16:UINT16[@,?] OUT_UINT32:UINT32[@,?] OUT_UINT64:UINT64[@,?] OUT_INT8:INT8[@,?] OUT_INT16:INT16[@,?] OUT_INT32:INT32[@,?] OUT_INT64:INT64[@,?] OUT_FP16:FP16[@,?] OUT_FP32:FP32[@,?] OUT_FP64:FP64[@,?] OUT_BF16:BF16[@,?] OUT_BYTES:BYTES[@,?]
        identity_bf16, 64: INPUT0:BF16[@,?] -> OUTPUT0:BF16[@,?]
        identity_bool, 64: INPUT0:BOOL[@,?] -> OUTPUT0:BOOL[@,?]
        identity_bytes, 64: INPUT0:BYTES[@,?] -> OUTPUT0:BYTES[@,?]
        identity_fp16, 64: INPUT0:FP16[@,?] -> OUTPUT0:FP16[@,?]
        identity_fp32, 64: INPUT0:FP32[@,?] -> OUTPUT0:FP32[@,?]
        identity_fp64, 64: INPUT0:FP64[@,?] -> OUTPUT0:FP64[@,?]
        identity_int16, 64: INPUT0:INT16[@,?] -> OUTPUT0:INT16[@,?]
        identity_int32, 64: INPUT0:INT32[@,?] -> OUTPUT0:INT32[@,?]
        identity_int64, 64: INPUT0:INT64[@,?] -> OUTPUT0:INT64[@,?]
        identity_int8, 64: INPUT0:INT8[@,?] -> OUTPUT0:INT8[@,?]
        identity_uint16, 64: INPUT0:UINT16[@,?] -> OUTPUT0:UINT16[@,?]
        identity_uint32, 64: INPUT0:UINT32[@,?] -> OUTPUT0:UINT32[@,?]
        identity_uint64, 64: INPUT0:UINT64[@,?] -> OUTPUT0:UINT64[@,?]
        identity_uint8, 64: INPUT0:UINT8[@,?] -> OUTPUT0:UINT8[@,?]
        image, 16: pixels:UINT8[@,?,?,3] -> logits:FP32[@,3] logits_index:INT32[@,3]
        mlp1024, 64: x:FP32[@,1024] -> y:FP32[@,1024]
        mlp64, 64: x:FP32[@,64] -> y:FP32[@,64]
        moody, 64: x:FP32[@,4] -> y:FP32[@,4], mode = [2, 0, 0, 0, 0, 0, 0, 0]
        nan, 64: x:FP32[@,4] -> y:FP32[@,4]
        poison, 64: x:FP32[@,4] -> y:FP32[@,4]
        reduced, 64: x:FP32[@,2,7] -> softmax:FP32[@,2,7] top_k:FP32[@,2,3] top_k_index:INT32[@,2,3] best:FP32[@,2,2] best_index:INT32[@,2,2] argmax:INT32[@,2] l2_norm:FP32[@,2,7] threshold:BOOL[@,2,7] half:FP32[@,2,7] brain:INT32[@,2] plain:FP32[@,2,7]
        sequence_length, 64: x:FP32[@,?] -> sum:FP32[@,1]
        slow, 1: x:FP32[@,4] -> y:FP32[@,4]
        magika, 16: bytes:INT32[@,2048] -> target_label:FP32[@,214]
        silero_vad, 64: input:FP32[@,576] -> output:FP32[@,1], sr = [128, 62, 0, 0, 0, 0, 0, 0]
    "#]].assert_eq(&text);
}

/// `x:FP32[@,4]`: the batch axis is `@`, other dimensions of any size are `?`.
fn show(spec: &TensorSpec) -> String {
    let dim = |(axis, dim): (usize, &Dim)| match dim {
        _ if spec.batch_axis == Some(axis) => "@".to_owned(),
        Dim::Fixed(size) => size.to_string(),
        Dim::Dynamic => "?".to_owned(),
    };
    let dims: Vec<_> = spec.dims.iter().enumerate().map(dim).collect();
    format!("{}:{}[{}]", spec.name, spec.datatype, dims.join(","))
}
