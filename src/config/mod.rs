//! Settings of the server: raw values from flags, environment and file become validated settings.
//!
//! The only module that reads the environment. Each setting is declared once, in [`settings`], with its flag,
//! its variable, its key, its default and its meaning.

mod address;
mod aws;
mod bytes;
mod settings;

pub use address::OptionalAddress;
pub use aws::AwsVariables;
pub use bytes::ByteSize;
pub use settings::{Addressing, DeviceKind, LogFormat, RawSettings, Settings};

/// A setting that cannot be used, and what would be right.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("{path}: cannot be read: {source}")]
    Unreadable { path: std::path::PathBuf, source: std::io::Error },
    #[error("{path}: {why}")]
    Malformed { path: std::path::PathBuf, why: String },
    #[error("{setting}: {found} was given, {wanted}")]
    Invalid { setting: &'static str, found: String, wanted: &'static str },
    #[error("{0} is no setting of Thalweg; `thalweg serve --help` lists them")]
    UnknownVariable(String),
}
