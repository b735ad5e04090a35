//! From the bytes of a live signal, cut anywhere, to the windows that a model takes, and from its probabilities
//! to events.
//!
//! A leaf without I/O, clock or tasks: time is counted in samples at the model's rate, so that the same bytes
//! give the same windows and events however they arrive.

mod encoding;
mod events;
mod framing;
mod resample;
#[cfg(test)]
mod tests;

pub use encoding::Encoding;
pub use events::{Event, Events, Hysteresis, Segment, Segments};
pub use framing::{Framer, Frames, Window};
pub use resample::Rates;
