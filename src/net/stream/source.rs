//! What a client of a signal sends, as it says in the query.

use std::borrow::Cow;

use crate::error::{Code, Error, Result};
use crate::registry::SignalStream;
use crate::signal::{Encoding, Framer, Rates};

/// What a client sends: one of the encodings that the model takes, at a rate that can be brought to its own.
#[derive(Debug, Clone, Copy)]
pub struct Source {
    encoding: Encoding,
    sample_rate: u32,
}

impl Source {
    /// Reads the query's `encoding` and `sample_rate`.
    pub fn choose(
        stream: &SignalStream,
        encoding: Option<Cow<'_, str>>,
        sample_rate: Option<Cow<'_, str>>,
    ) -> Result<Self> {
        let unsupported = |message: String| Err(Error::new(Code::UnsupportedParameter, message));
        let names =
            || stream.encodings.iter().map(|encoding| encoding.as_str()).collect::<Vec<_>>().join(", ");
        let encoding = match (encoding, stream.encodings.first()) {
            (Some(name), _) => Encoding::parse(&name).filter(|encoding| stream.encodings.contains(encoding)),
            (None, first) => first.copied(),
        };
        let Some(encoding) = encoding else {
            return unsupported(format!("the model takes the encodings {}", names()));
        };
        let rate = match sample_rate {
            Some(rate) => rate.parse().ok(),
            None => Some(stream.sample_rate),
        };
        match rate {
            Some(rate) if rate == stream.sample_rate || stream.resample => {
                Ok(Self { encoding, sample_rate: rate })
            }
            _ => unsupported(format!("the model takes sample_rate={}", stream.sample_rate)),
        }
    }

    pub fn encoding(self) -> Encoding {
        self.encoding
    }

    pub fn sample_rate(self) -> u32 {
        self.sample_rate
    }

    pub fn framer(self, stream: &SignalStream) -> Result<Framer> {
        if self.sample_rate == stream.sample_rate {
            return Ok(Framer::new(self.encoding, stream.frames));
        }
        let rates = Rates::new(self.sample_rate, stream.sample_rate)?;
        Framer::resampling(self.encoding, stream.frames, rates)
    }

    /// How windows of the framer are encoded: what is resampled comes out as floats.
    pub fn window_encoding(self, stream: &SignalStream) -> Encoding {
        if self.sample_rate == stream.sample_rate { self.encoding } else { Encoding::F32le }
    }
}
