//! A server inside the test's process, and clients that may break the rules.
#![allow(dead_code, unused_imports, reason = "no test needs all of it")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may")]

mod client;
mod fake;
mod models;
mod server;
mod tls;

pub use client::{Client, OpCode, Reply, frame};
pub use fake::{Engine, Fake, Gate};
pub use models::repository;
pub use server::TestServer;
pub use tls::{Certificate, shake_hands, tunnel};

/// A request to a model that doubles.
pub const GOOD: &str =
    r#"{"id":"good","inputs":[{"name":"x","shape":[1,4],"datatype":"FP32","data":[1,2,3,4]}]}"#;

/// The answer to [`GOOD`] of a model that doubles.
pub fn is_good(answer: &serde_json::Value) -> bool {
    answer["id"] == "good" && answer["outputs"][0]["data"] == serde_json::json!([2.0, 4.0, 6.0, 8.0])
}
