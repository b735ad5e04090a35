//! Thalweg: a streaming inference engine.
//!
//! Many WebSocket connections hand tensors to a dynamic batcher that feeds ONNX Runtime, and each result returns
//! to the socket that asked. The modules, in the order of a request's path:
//!
//! - [`cli`]: the command line; what `main` calls.
//! - [`config`]: settings, each declared once.
//! - [`net`]: sockets, HTTP and WebSocket; what a connection does with a message and an answer.
//! - [`protocol`]: Open Inference Protocol messages to requests, and answers to bytes, without I/O.
//! - [`registry`]: the models of a folder, loaded, and looked up by connections.
//! - [`queue`]: admission, and the hand-over from connections to lanes.
//! - [`batcher`]: when to run what, as a policy without clock or threads.
//! - [`lane`]: the thread of a model instance, which gathers, runs and answers batches.
//! - [`device`]: requests' rows into batch tensors.
//! - [`engine`]: a loaded model and its running halves; ONNX Runtime.
//! - [`streams`]: which stream owns which row of a lane's state.
//! - [`signal`]: a live signal's bytes to a model's windows, and its probabilities to events.
//! - [`reply`]: exactly one answer for each request, back in order, one wake for a batch.
//!
//! The vocabulary that all of them share: [`tensor`], [`error`], [`clock`], [`metrics`] and [`checksum`]. Beside the
//! path, [`fetch`] brings ONNX Runtime and the bundled models, [`remote`] repositories from elsewhere, [`specialise`] makes models simpler whose inputs are
//! partly fixed, [`check`] tries a device, [`bench`] puts load on a server, and [`tune`] finds how a model had best
//! be run.
//!
//! `docs/ARCHITECTURE.md` follows one request through all of it, and lists what always holds.

pub mod batcher;
pub mod bench;
pub mod check;
pub mod checksum;
pub mod cli;
pub mod clock;
pub mod config;
pub mod device;
pub mod engine;
pub mod error;
pub mod fetch;
pub mod lane;
pub mod metrics;
pub mod net;
pub mod protocol;
pub mod queue;
pub mod registry;
pub mod remote;
pub mod reply;
pub mod signal;
pub mod specialise;
pub mod streams;
pub mod tensor;
pub mod trace;
pub mod tune;
