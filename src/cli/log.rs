//! Log lines, for people or for machines.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use super::Failure;
use crate::config::{LogFormat, Settings};

pub fn start(settings: &Settings) -> Result<(), Failure> {
    let filter = EnvFilter::builder()
        .parse(&settings.log)
        .map_err(|error| format!("log: '{}' was given, it is no filter: {error}", settings.log))?;
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    match settings.log_format {
        LogFormat::Text => lines.init(),
        LogFormat::Json => lines.json().init(),
    }
    Ok(())
}
