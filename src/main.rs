//! The binary: the library's command line.

fn main() -> std::process::ExitCode {
    thalweg::cli::main()
}
