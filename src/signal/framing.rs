//! Cuts a signal that arrives in any pieces into the windows of a model.

use bytes::Bytes;

use super::Encoding;
use super::resample::{Rates, Resampler};
use crate::error::{Code, Error, Result};

/// How windows lie on the signal, in samples.
///
/// Each is `window` samples long and begins `hop` after the one before it: they overlap, meet, or leave gaps.
/// In front of a window stand the `context` samples that precede it in the signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frames {
    window: usize,
    hop: usize,
    context: usize,
}

/// What a stream buffers is as long as a row, so there is an end to it: four minutes at 16 kHz.
const LONGEST: usize = 1 << 22;

impl Frames {
    pub fn new(window: usize, hop: usize, context: usize) -> Result<Self> {
        for (name, samples, least) in [("window", window, 1), ("hop", hop, 1), ("context", context, 0)] {
            if !(least..=LONGEST).contains(&samples) {
                let message = format!("{name} must be {least} to {LONGEST} samples, not {samples}");
                return Err(Error::new(Code::UnsupportedParameter, message));
            }
        }
        Ok(Self { window, hop, context })
    }

    pub const fn window(&self) -> usize {
        self.window
    }

    pub const fn hop(&self) -> usize {
        self.hop
    }

    /// What the model takes at once: the context and the window.
    pub const fn row(&self) -> usize {
        self.context + self.window
    }
}

/// A window of the signal, with its context in front.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// [`Frames::row`] samples in the framer's encoding.
    pub row: Bytes,
    /// Where the window begins, context not counted, in samples from the start of the stream.
    pub start: u64,
    /// Where it ends; in the last window, where the signal ends and silence fills the rest.
    pub end: u64,
}

/// Takes chunks and gives windows.
///
/// It holds one chunk and less than one row. Whoever pushes takes the windows before the next
/// [`push`](Self::push) or [`flush`](Self::flush), now or once there is room for them: until then, a client that
/// sends faster than it is served need only be read no further.
///
/// ```
/// # use thalweg::signal::{Encoding, Framer, Frames};
/// let mut framer = Framer::new(Encoding::Mulaw, Frames::new(4, 4, 1)?);
/// framer.push("speech".into())?;
/// let windows: Vec<_> = framer.by_ref().map(|window| window.row).collect();
/// assert_eq!(windows, [&b"\xffspee"[..]]);
///
/// framer.flush()?;
/// let last = framer.next().ok_or("a rest")?;
/// assert_eq!((&last.row[..], last.start, last.end), (&b"ech\xff\xff"[..], 4, 6));
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
pub struct Framer {
    encoding: Encoding,
    /// Between the chunks and the row, if the signal is of another rate than the model.
    resampler: Option<Box<Resampler>>,
    frames: Frames,
    /// Whole samples that are in no row yet.
    chunk: Bytes,
    /// The beginning of a sample whose end has not come.
    partial: Vec<u8>,
    /// The next window and its context, as far as they have come.
    row: Vec<u8>,
    /// Samples to pass over before the row goes on.
    gap: usize,
    /// Where the next window begins.
    start: u64,
    /// Where the last one ended, silence included.
    given: u64,
    flushing: bool,
}

impl Framer {
    /// For a signal that has the model's rate.
    pub fn new(encoding: Encoding, frames: Frames) -> Self {
        Self::over(encoding, frames, None)
    }

    /// For a signal of any rate; rows are [`Encoding::F32le`] if it is another than the model's.
    pub fn resampling(encoding: Encoding, frames: Frames, rates: Rates) -> Result<Self> {
        Ok(Self::over(encoding, frames, Resampler::new(rates)?.map(Box::new)))
    }

    fn over(encoding: Encoding, frames: Frames, resampler: Option<Box<Resampler>>) -> Self {
        let mut framer = Self {
            encoding,
            resampler,
            frames,
            chunk: Bytes::new(),
            partial: Vec::new(),
            row: Vec::new(),
            gap: 0,
            start: 0,
            given: 0,
            flushing: false,
        };
        framer.row.reserve_exact(framer.row_bytes());
        framer.reset();
        framer
    }

    /// The encoding of the rows.
    pub const fn encoding(&self) -> Encoding {
        if self.resampler.is_some() { Encoding::F32le } else { self.encoding }
    }

    /// Takes the next bytes of the signal, which may end within a sample.
    ///
    /// Fails if windows of what came before are still to be taken.
    pub fn push(&mut self, mut chunk: Bytes) -> Result<()> {
        self.emptied()?;
        if !self.partial.is_empty() {
            chunk = [&self.partial, &chunk[..]].concat().into();
        }
        let partial = chunk.split_off(chunk.len() - chunk.len() % self.encoding.width());
        self.partial.clear();
        self.partial.extend_from_slice(&partial);
        self.chunk = chunk;
        Ok(())
    }

    /// Fills the window that has begun with silence, as though the client had sent it; the stream can go on
    /// after it. A window that would hold nothing new is not given.
    ///
    /// Returns how many bytes were dropped, being less than a sample. Fails as `push` does.
    pub fn flush(&mut self) -> Result<usize> {
        self.emptied()?;
        self.flushing = true;
        let dropped = self.partial.len();
        self.partial.clear();
        Ok(dropped)
    }

    /// Forgets the signal so far: the next byte is the first of a new one, at position 0.
    pub fn reset(&mut self) {
        self.chunk = Bytes::new();
        self.partial.clear();
        self.row.clear();
        self.row.resize(self.frames.context * self.encoding().width(), self.encoding().silence());
        if let Some(resampler) = &mut self.resampler {
            resampler.reset();
        }
        (self.gap, self.start, self.given, self.flushing) = (0, 0, 0, false);
    }

    /// Bytes held of the signal; a resampler has a block of it besides.
    pub fn buffered(&self) -> usize {
        self.chunk.len() + self.partial.len() + self.row.len()
    }

    fn emptied(&self) -> Result<()> {
        if self.flushing || !self.chunk.is_empty() {
            let message = "a stream was given more of its signal before the windows so far were taken";
            return Err(Error::new(Code::Internal, message));
        }
        Ok(())
    }

    fn row_bytes(&self) -> usize {
        self.frames.row() * self.encoding().width()
    }

    /// Moves what the row lacks, and there is, into it.
    fn fill(&mut self) {
        let width = self.encoding().width();
        loop {
            let most = self.gap + self.frames.row() - self.row.len() / width;
            let came = match &mut self.resampler {
                None => &self.chunk.split_to(self.chunk.len().min(most * width)),
                Some(resampler) => {
                    bytemuck::cast_slice(resampler.take(self.encoding, &mut self.chunk, self.flushing, most))
                }
            };
            if came.is_empty() {
                return;
            }
            let passed = self.gap.min(came.len() / width);
            self.gap -= passed;
            self.row.extend_from_slice(&came[passed * width..]);
        }
    }

    /// Samples of the next window that have come.
    fn come(&self) -> usize {
        (self.row.len() / self.encoding().width()).saturating_sub(self.frames.context)
    }

    /// The row as a window that ends at `end`, and the beginning of the next one.
    fn give(&mut self, end: u64) -> Window {
        let window = Window { row: Bytes::copy_from_slice(&self.row), start: self.start, end };
        let width = self.encoding().width();
        self.gap = self.frames.hop.saturating_sub(self.frames.row());
        self.row.drain(..self.row.len().min(self.frames.hop * width));
        self.given = self.start + self.frames.window as u64;
        self.start += self.frames.hop as u64;
        window
    }
}

impl Iterator for Framer {
    type Item = Window;

    /// The next window, if all of it has come; after a flush, the rest too.
    fn next(&mut self) -> Option<Window> {
        self.fill();
        let end = self.start + self.come() as u64;
        if self.row.len() == self.row_bytes() {
            return Some(self.give(end));
        }
        if std::mem::take(&mut self.flushing) {
            if let Some(resampler) = &mut self.resampler {
                resampler.reset();
            }
            if end > self.given.max(self.start) {
                self.row.resize(self.row_bytes(), self.encoding().silence());
                return Some(self.give(end));
            }
        }
        None
    }
}
