//! The emulated driver itself, as far as tests of its users lean on it: nothing but streams and events orders work,
//! mistakes are refused as by a real one, and the environment says what there is.

use std::ffi::{c_char, c_int, c_uint, c_void};
use std::io::Write;
use std::process::Command;
use std::ptr::{null, null_mut};
use std::sync::mpsc;

use expect_test::{Expect, expect};

use crate::emulator::library;

type Handle = *mut c_void;

const NOT_READY: c_int = 600;
const INVALID_VALUE: c_int = 1;
const NON_BLOCKING: c_uint = 1;

/// Calls a function of the driver API, with arguments of exactly the types that it declares; gives its result.
macro_rules! cuda {
    ($name:ident($($value:expr => $type:ty),* $(,)?)) => {
        // SAFETY: the types beside the values are those of the driver API; addresses outlive what uses them.
        unsafe {
            let function = library().get::<unsafe extern "C" fn($($type),*) -> c_int>(stringify!($name)).unwrap();
            function($($value),*)
        }
    };
}

/// Calls it and takes no error.
macro_rules! done {
    ($name:ident($($tokens:tt)*)) => {
        assert_eq!(cuda!($name($($tokens)*)), 0, stringify!($name))
    };
}

/// Makes the first device's context current in this thread.
fn enter() {
    let mut context: Handle = null_mut();
    done!(cuInit(0 => c_uint));
    done!(cuDevicePrimaryCtxRetain(&raw mut context => *mut Handle, 0 => c_int));
    done!(cuCtxSetCurrent(context => Handle));
}

fn new_stream() -> Handle {
    let mut stream = null_mut();
    done!(cuStreamCreate(&raw mut stream => *mut Handle, NON_BLOCKING => c_uint));
    stream
}

fn synchronize(stream: Handle) {
    done!(cuStreamSynchronize(stream => Handle));
}

fn allocate(size: usize) -> u64 {
    let mut pointer = 0;
    done!(cuMemAlloc_v2(&raw mut pointer => *mut u64, size => usize));
    pointer
}

fn pinned(bytes: &[u8]) -> *mut u8 {
    let mut memory: Handle = null_mut();
    done!(cuMemHostAlloc(&raw mut memory => *mut Handle, bytes.len() => usize, 0 => c_uint));
    // SAFETY: it is as long as that.
    unsafe { memory.cast::<u8>().copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
    memory.cast()
}

fn read(from: u64, size: usize) -> Vec<u8> {
    let mut bytes = vec![0; size];
    done!(cuMemcpyDtoH_v2(bytes.as_mut_ptr().cast() => Handle, from => u64, size => usize));
    bytes
}

fn upload(to: u64, from: *const u8, size: usize, stream: Handle) -> c_int {
    cuda!(cuMemcpyHtoDAsync_v2(to => u64, from.cast() => *const c_void, size => usize, stream => Handle))
}

/// Holds a stream up until something is sent.
fn hold_up(stream: Handle) -> mpsc::Sender<()> {
    extern "C" fn wait(receiver: *mut c_void) {
        // SAFETY: made below from a box, for this one call.
        let receiver = unsafe { Box::from_raw(receiver.cast::<mpsc::Receiver<()>>()) };
        let _ = receiver.recv();
    }
    let (sender, receiver) = mpsc::channel::<()>();
    let receiver = Box::into_raw(Box::new(receiver));
    done!(cuLaunchHostFunc(
        stream => Handle, wait => extern "C" fn(*mut c_void), receiver.cast() => *mut c_void,
    ));
    sender
}

/// A copy reads its pinned source when the stream comes to it, and any other source at once.
#[test]
fn nothing_but_the_stream_orders_copies() {
    enter();
    let stream = new_stream();
    let (one, other) = (allocate(2), allocate(2));
    let held = hold_up(stream);
    let source = pinned(&[1, 2]);
    #[allow(clippy::useless_vec, reason = "the driver reads it behind the compiler's back")]
    let mut pageable = vec![1, 2];
    assert_eq!((upload(one, source, 2, stream), upload(other, pageable.as_ptr(), 2, stream)), (0, 0));
    assert_eq!(cuda!(cuStreamQuery(stream => Handle)), NOT_READY);
    assert_eq!(read(one, 2), [0xa5; 2], "fresh memory holds anything");
    // SAFETY: two bytes, which only the stream reads, once it goes on.
    unsafe { source.write(7) };
    std::hint::black_box(&mut pageable)[0] = 7;
    held.send(()).unwrap();
    synchronize(stream);
    assert_eq!((read(one, 2), read(other, 2)), (vec![7, 2], vec![1, 2]));
    done!(cuStreamQuery(stream => Handle));
}

#[test]
fn an_event_holds_another_stream_up() {
    enter();
    let (first, second, target) = (new_stream(), new_stream(), allocate(1));
    let mut event = null_mut();
    done!(cuEventCreate(&raw mut event => *mut Handle, 0 => c_uint));
    let held = hold_up(first);
    done!(cuEventRecord(event => Handle, first => Handle));
    done!(cuStreamWaitEvent(second => Handle, event => Handle, 0 => c_uint));
    done!(cuMemsetD8Async(target => u64, 3 => u8, 1 => usize, second => Handle));
    assert_eq!(cuda!(cuEventQuery(event => Handle)), NOT_READY);
    assert_eq!(cuda!(cuStreamQuery(second => Handle)), NOT_READY);
    assert_eq!(read(target, 1), [0xa5]);
    held.send(()).unwrap();
    synchronize(second);
    assert_eq!(read(target, 1), [3]);
    let mut milliseconds = -1.0;
    done!(cuEventElapsedTime_v2(&raw mut milliseconds => *mut f32, event => Handle, event => Handle));
    assert_eq!(milliseconds, 0.0);
}

fn function(name: &std::ffi::CStr) -> (c_int, Handle) {
    let (mut module, mut function) = (null_mut(), null_mut());
    done!(cuModuleLoadData(&raw mut module => *mut Handle, c"anything".as_ptr().cast() => *const c_void));
    let result = cuda!(cuModuleGetFunction(
        &raw mut function => *mut Handle, module => Handle, name.as_ptr() => *const c_char,
    ));
    (result, function)
}

/// Marks which of some floats reach 1.
fn mark(function: Handle, blocks: c_uint, input: u64, output: u64, count: u32, stream: Handle) -> c_int {
    let (mut input, mut output, mut count, mut rows, mut at) = (input, output, count, 1_u32, 1.0_f32);
    let mut parameters: [Handle; 5] = [
        (&raw mut input).cast(),
        (&raw mut output).cast(),
        (&raw mut rows).cast(),
        (&raw mut count).cast(),
        (&raw mut at).cast(),
    ];
    // What stood there is gone when this returns.
    cuda!(cuLaunchKernel(
        function => Handle, blocks => c_uint, 1 => c_uint, 1 => c_uint, 32 => c_uint, 1 => c_uint, 1 => c_uint,
        0 => c_uint, stream => Handle, parameters.as_mut_ptr() => *mut Handle, null_mut() => *mut Handle,
    ))
}

#[test]
fn what_was_captured_is_done_again() {
    enter();
    let (stream, input, output) = (new_stream(), allocate(12), allocate(3));
    let (_, kernel) = function(c"threshold_f32");
    let source = pinned(bytemuck::cast_slice(&[0.0_f32, 1.0, 2.0]));
    let (mut graph, mut executable) = (null_mut(), null_mut());
    done!(cuStreamBeginCapture_v2(stream => Handle, 0 => c_uint));
    assert_eq!(upload(input, source, 12, stream), 0);
    assert_eq!(mark(kernel, 1, input, output, 3, stream), 0);
    assert_eq!(cuda!(cuStreamSynchronize(stream => Handle)), 900, "there is nothing to wait for");
    done!(cuStreamEndCapture(stream => Handle, &raw mut graph => *mut Handle));
    done!(cuGraphInstantiateWithFlags(&raw mut executable => *mut Handle, graph => Handle, 0 => u64));
    assert_eq!(read(output, 3), [0xa5; 3]);
    for (values, marks) in [([0.0_f32, 1.0, 2.0], [0, 1, 1]), ([1.0, 0.5, 0.0], [1, 0, 0])] {
        // SAFETY: it is as long as that, and nothing runs.
        unsafe { source.cast::<[f32; 3]>().write(values) };
        done!(cuGraphLaunch(executable => Handle, stream => Handle));
        synchronize(stream);
        assert_eq!(read(output, 3), marks);
    }
}

#[test]
fn mistakes_are_refused() {
    enter();
    let (stream, memory) = (new_stream(), allocate(16));
    assert_eq!(function(c"no_such_kernel").0, 500);
    let (_, kernel) = function(c"threshold_f32");
    assert_eq!(mark(kernel, 0, memory, memory, 1, stream), INVALID_VALUE, "no blocks");
    assert_eq!(upload(memory + 1, [0; 16].as_ptr(), 16, stream), INVALID_VALUE, "beyond the end");
    assert_eq!(upload(memory, null(), 0, 0x77 as Handle), 400, "no stream");
    let mut pointer = 0;
    assert_eq!(cuda!(cuMemAlloc_v2(&raw mut pointer => *mut u64, 0 => usize)), INVALID_VALUE);
    assert_eq!(cuda!(cuMemAlloc_v2(&raw mut pointer => *mut u64, usize::MAX / 2 => usize)), 2);
    done!(cuMemFree_v2(memory => u64));
    assert_eq!(cuda!(cuMemFree_v2(memory => u64)), INVALID_VALUE, "twice");
    std::thread::spawn(|| {
        let mut pointer = 0;
        assert_eq!(cuda!(cuMemAlloc_v2(&raw mut pointer => *mut u64, 1 => usize)), 201, "no context");
    })
    .join()
    .unwrap();
}

/// Tells in one line what there is; `the_environment_says_what_there_is` runs it in processes of its own.
#[test]
fn describe() {
    let (mut count, mut version, mut major, mut minor, mut total) = (-1, -1, -1, -1, 0_usize);
    let result = cuda!(cuInit(0 => c_uint));
    cuda!(cuDeviceGetCount(&raw mut count => *mut c_int));
    cuda!(cuDriverGetVersion(&raw mut version => *mut c_int));
    cuda!(cuDeviceGetAttribute(&raw mut major => *mut c_int, 75 => c_int, 0 => c_int));
    cuda!(cuDeviceGetAttribute(&raw mut minor => *mut c_int, 76 => c_int, 0 => c_int));
    cuda!(cuDeviceTotalMem_v2(&raw mut total => *mut usize, 0 => c_int));
    let line = format!("\ngpu: {result}, {count} of {major}.{minor} with {total}, driver {version}\n");
    std::io::stdout().write_all(line.as_bytes()).unwrap();
}

#[test]
fn the_environment_says_what_there_is() {
    let check = |environment: &[(&str, &str)], expect: Expect| {
        let mut program = Command::new(std::env::current_exe().unwrap());
        program.args(["--exact", "driver::describe", "--nocapture"]).envs(environment.iter().copied());
        let told = String::from_utf8(program.output().unwrap().stdout).unwrap();
        expect.assert_eq(told.lines().find(|line| line.starts_with("gpu: ")).unwrap_or(&told));
    };
    check(&[], expect!["gpu: 0, 1 of 9.0 with 4294967296, driver 13000"]);
    check(
        &[
            ("EMULATED_GPU_COUNT", "2"),
            ("EMULATED_GPU_CAPABILITY", "75"),
            ("EMULATED_GPU_DRIVER", "12040"),
            ("EMULATED_GPU_MEMORY", "1000"),
        ],
        expect!["gpu: 0, 2 of 7.5 with 1000, driver 12040"],
    );
    check(&[("EMULATED_GPU_COUNT", "0")], expect!["gpu: 100, -1 of -1.-1 with 0, driver 13000"]);
}
