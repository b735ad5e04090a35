//! `thalweg` on the command line: flags to settings, errors to sentences and exit codes.
//!
//! Exit codes: 0 success, 1 a failure that the sentence on standard error names, 2 wrong usage.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line prints")]

mod bench;
mod ceiling;
mod descriptors;
mod device_check;
mod health;
mod keys;
mod log;
mod models;
mod repositories;
mod runtime;
mod serve;
mod specialise;
mod tune;
mod unverified;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(
    version,
    about = "A streaming inference engine: WebSockets in, batches to ONNX Runtime, answers out"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve the models of a folder
    Serve(serve::Serve),
    /// Fetch, list and inspect models
    #[command(subcommand)]
    Models(models::Models),
    /// Try a device: the checks that it must pass, how fast it copies, and how fast it runs the models
    DeviceCheck(device_check::DeviceCheck),
    Bench(Box<bench::Bench>),
    /// Make keys for the access file
    #[command(subcommand)]
    Keys(keys::Keys),
    /// Ask a running server whether it is ready; exit 0 if so (for container health checks)
    Health(health::Health),
}

/// An error's sentence; what it was made from is in it.
type Failure = Box<dyn std::error::Error>;

pub fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Serve(serve) => serve.run(),
        Command::Models(models) => models.run(),
        Command::DeviceCheck(check) => check.run(),
        Command::Bench(bench) => bench.run(),
        Command::Keys(keys) => keys.run(),
        Command::Health(health) => health.run(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("thalweg: {failure}");
            ExitCode::FAILURE
        }
    }
}
