//! A live signal: a recording or noise, cut into the pieces that a client sends in real time.

use std::path::Path;

use fastrand::Rng;
use serde::Deserialize;

use super::Failure;
use super::script::Windows;
use crate::signal::Encoding;

/// What a stream says of the signal that it takes.
#[derive(Debug, Clone, Deserialize)]
pub struct Input {
    #[serde(default)]
    pub encodings: Vec<String>,
    pub encoding: String,
    #[serde(default)]
    pub sample_rate: u64,
    #[serde(default)]
    pub window: u64,
    #[serde(default)]
    pub hop: u64,
}

/// Samples of one channel.
#[derive(Debug, Clone, PartialEq)]
pub struct Recording {
    pub rate: u64,
    pub samples: Vec<f32>,
}

/// Pieces of noise before they repeat.
const PIECES: u64 = 64;
/// Samples of a recording: a day at 16 kHz.
const LONGEST: u32 = 86_400 * 16_000;

impl Recording {
    pub fn noise(rate: u64, piece: u64, seed: u64) -> Self {
        let mut random = Rng::with_seed(seed);
        let samples = (0..PIECES * piece).map(|_| f32::from(random.i16(-8192..8192)) / 32_768.0).collect();
        Self { rate, samples }
    }

    /// A WAV file; of several channels the first.
    pub fn read(path: &Path) -> Result<Self, Failure> {
        let unreadable = |error: hound::Error| format!("{}: {error}", path.display());
        let mut reader = hound::WavReader::open(path).map_err(unreadable)?;
        let hound::WavSpec { channels, sample_rate, bits_per_sample, sample_format } = reader.spec();
        if reader.duration() > LONGEST {
            return Err(format!("{}: the recording is longer than a day", path.display()).into());
        }
        let step = usize::from(channels.max(1));
        let samples = match sample_format {
            hound::SampleFormat::Float => {
                reader.samples::<f32>().step_by(step).collect::<Result<_, _>>().map_err(unreadable)?
            }
            hound::SampleFormat::Int => {
                let full = (1_i64 << (bits_per_sample.clamp(1, 32) - 1)) as f32;
                let samples = reader.samples::<i32>().step_by(step);
                samples
                    .map(|sample| sample.map(|sample| sample as f32 / full))
                    .collect::<Result<_, _>>()
                    .map_err(unreadable)?
            }
        };
        Ok(Self { rate: u64::from(sample_rate), samples })
    }

    /// Its pieces in bytes; what is left at the end and fills none is dropped.
    pub fn pieces(&self, piece: u64, encoding: Encoding) -> Result<Vec<Vec<u8>>, Failure> {
        let length = usize::try_from(piece)?.max(1);
        let pieces = self.samples.chunks_exact(length).map(|samples| encode(samples, encoding));
        let pieces = pieces.collect::<Result<Vec<_>, _>>()?;
        if pieces.is_empty() {
            return Err(
                format!("the recording has {} samples, and a piece {piece}", self.samples.len()).into()
            );
        }
        Ok(pieces)
    }
}

impl Input {
    /// How a signal of this rate is cut: as far apart as windows are, so that each piece completes one.
    pub fn windows(&self, rate: u64) -> Result<Windows, Failure> {
        let Self { window, hop, sample_rate, .. } = *self;
        if window == 0 || hop == 0 || sample_rate == 0 || rate == 0 {
            return Err("the stream does not say what its windows are".into());
        }
        let piece = (hop * rate).div_ceil(sample_rate);
        Ok(Windows { window, hop, model_rate: sample_rate, rate, piece })
    }

    /// The first of the encodings that this client can write.
    pub fn encoding(&self) -> Result<Encoding, Failure> {
        let known = [Encoding::PcmS16le, Encoding::F32le, Encoding::PcmS16be];
        let offered = self.encodings.iter().filter_map(|name| Encoding::parse(name));
        let chosen = offered.into_iter().find(|encoding| known.contains(encoding));
        chosen
            .ok_or_else(|| format!("the stream takes {:?}, which are not known here", self.encodings).into())
    }
}

#[allow(clippy::cast_possible_truncation, reason = "it is clamped")]
fn encode(samples: &[f32], encoding: Encoding) -> Result<Vec<u8>, Failure> {
    let integer = |sample: &f32| (sample * 32_768.0).round().clamp(-32_768.0, 32_767.0) as i16;
    Ok(match encoding {
        Encoding::PcmS16le => samples.iter().flat_map(|sample| integer(sample).to_le_bytes()).collect(),
        Encoding::PcmS16be => samples.iter().flat_map(|sample| integer(sample).to_be_bytes()).collect(),
        Encoding::F32le => samples.iter().flat_map(|sample| sample.to_le_bytes()).collect(),
        other => return Err(format!("{} cannot be written here", other.as_str()).into()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recording_is_read_and_cut() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.wav");
        for (bits, sample_format) in [(16, hound::SampleFormat::Int), (32, hound::SampleFormat::Float)] {
            let spec =
                hound::WavSpec { channels: 2, sample_rate: 8000, bits_per_sample: bits, sample_format };
            let mut writer = hound::WavWriter::create(&path, spec).unwrap();
            for sample in 0..5_i16 {
                match sample_format {
                    hound::SampleFormat::Int => {
                        writer.write_sample(sample * 4096).unwrap();
                        writer.write_sample(-1_i16).unwrap();
                    }
                    hound::SampleFormat::Float => {
                        writer.write_sample(f32::from(sample) / 8.0).unwrap();
                        writer.write_sample(-1_f32).unwrap();
                    }
                }
            }
            writer.finalize().unwrap();
            let recording = Recording::read(&path).unwrap();
            assert_eq!(recording, Recording { rate: 8000, samples: vec![0.0, 0.125, 0.25, 0.375, 0.5] });
            let pieces = recording.pieces(2, Encoding::PcmS16be).unwrap();
            assert_eq!(pieces, [[0, 0, 16, 0], [32, 0, 48, 0]]);
            assert!(recording.pieces(6, Encoding::F32le).is_err());
        }
        assert!(Recording::read(folder.path()).is_err());
    }

    #[test]
    fn pieces_are_as_long_as_windows_are_apart() {
        let input = Input {
            encodings: ["alaw", "f32le", "pcm_s16le"].map(String::from).to_vec(),
            encoding: "alaw".into(),
            sample_rate: 16_000,
            window: 512,
            hop: 512,
        };
        assert_eq!(
            [16_000, 48_000, 44_100].map(|rate| input.windows(rate).unwrap().piece),
            [512, 1536, 1412]
        );
        assert_eq!(input.encoding().unwrap(), Encoding::F32le);
        assert!(Input { window: 0, ..input }.windows(16_000).is_err());
    }
}
