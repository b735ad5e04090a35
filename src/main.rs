//! The binary: the library's command line.

fn main() -> std::process::ExitCode {
    // Since 1.32 ONNX Runtime tells its makers of every process that loads it, and keeps files in the user's home for it,
    // before its API can forbid it. This variable it asks first.
    // SAFETY: nothing has started a thread yet, so that no one else reads or writes the environment.
    unsafe { std::env::set_var("ORT_DISABLE_TELEMETRY", "1") };
    thalweg::cli::main()
}
