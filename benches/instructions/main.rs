//! How many instructions each stage of a request's path takes, counted by Valgrind and compared with `baseline.toml`.
//!
//! Times on a busy machine say little, and counts do not change with its load. `make instructions` compares;
//! `make instructions ARGS=--record` writes what it counts into the baseline.

#![allow(clippy::expect_used, reason = "a bench ends where something is not as it should be")]
#![allow(clippy::print_stdout, reason = "it is a program for a terminal")]

mod baseline;
mod callgrind;
mod stages;

#[path = "../stages/entries.rs"]
mod entries;
#[path = "../stages/messages.rs"]
mod messages;
#[path = "../stages/policy.rs"]
mod policy;
#[path = "../stages/rows.rs"]
mod rows;
#[path = "../stages/sound.rs"]
mod sound;

use std::error::Error;
use std::path::Path;
use std::process::ExitCode;

use baseline::{Baseline, Tools};

const BASELINE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/instructions/baseline.toml");

fn main() -> ExitCode {
    let told = run();
    if let Err(error) = &told {
        println!("{error}");
    }
    ExitCode::from(u8::from(told.is_err()))
}

fn run() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [word, name] = &arguments[..]
        && word == callgrind::STAGE
    {
        let stage = stages::ALL.iter().find(|stage| stage.0 == name).ok_or("there is no such stage")?;
        (stage.1)();
        return Ok(());
    }
    let tools = Tools::find()?;
    let counted = stages::ALL
        .iter()
        .map(|(name, _)| Ok((String::from(*name), callgrind::count(name)?)))
        .collect::<Result<_, Box<dyn Error>>>()?;
    let measured = Baseline { tools, instructions: counted };
    let file = Path::new(BASELINE);
    if arguments.iter().any(|argument| argument == "--record") {
        return measured.write(file);
    }
    let recorded = Baseline::read(file)?;
    println!("{}", recorded.table(&measured));
    recorded.compare(&measured).map(|told| println!("{told}")).map_err(Into::into)
}
