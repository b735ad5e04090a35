//! How the samples of a signal stand in bytes, and how they become numbers.

use serde::{Deserialize, Serialize};

/// One channel of samples, without a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Encoding {
    /// 16-bit integers, little-endian; full scale is 1.
    PcmS16le,
    /// 16-bit integers, big-endian: RTP's L16 and AIFF.
    PcmS16be,
    /// IEEE 754 floats, little-endian, taken as they are.
    F32le,
    /// G.711 µ-law, as in the telephony of North America and Japan.
    Mulaw,
    /// G.711 A-law, as in the telephony of everywhere else.
    Alaw,
}

impl Encoding {
    pub const ALL: &[Self] = &[Self::PcmS16le, Self::PcmS16be, Self::F32le, Self::Mulaw, Self::Alaw];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PcmS16le => "pcm_s16le",
            Self::PcmS16be => "pcm_s16be",
            Self::F32le => "f32le",
            Self::Mulaw => "mulaw",
            Self::Alaw => "alaw",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|encoding| encoding.as_str() == text)
    }

    /// Bytes of one sample.
    pub const fn width(self) -> usize {
        match self {
            Self::Mulaw | Self::Alaw => 1,
            Self::PcmS16le | Self::PcmS16be => 2,
            Self::F32le => 4,
        }
    }

    /// The byte that, repeated, is silence: zero, and in A-law, which has no zero, the smallest positive level.
    pub const fn silence(self) -> u8 {
        match self {
            Self::PcmS16le | Self::PcmS16be | Self::F32le => 0,
            Self::Mulaw => 0xff,
            Self::Alaw => 0xd5,
        }
    }

    /// Turns as many samples into numbers as `bytes` and `out` both hold.
    ///
    /// Integers are divided by 32,768, which is exact. A float that is infinite or not a number becomes silence:
    /// it would stay in a recurrent model's state and spoil every later result of the stream.
    pub fn decode(self, bytes: &[u8], out: &mut [f32]) {
        match self {
            Self::PcmS16le => each(bytes, out, |sample| f32::from(i16::from_le_bytes(sample)) / FULL_SCALE),
            Self::PcmS16be => each(bytes, out, |sample| f32::from(i16::from_be_bytes(sample)) / FULL_SCALE),
            Self::F32le => each(bytes, out, |sample| {
                let value = f32::from_le_bytes(sample);
                if value.is_finite() { value } else { 0.0 }
            }),
            Self::Mulaw => each(bytes, out, |[code]| MULAW[usize::from(code)]),
            Self::Alaw => each(bytes, out, |[code]| ALAW[usize::from(code)]),
        }
    }
}

/// What 1.0 is on the scale of 16-bit samples.
const FULL_SCALE: f32 = 32_768.0;

/// The loop that the compiler vectorises: no lengths are left to check in it.
#[inline]
fn each<const WIDTH: usize>(bytes: &[u8], out: &mut [f32], value: impl Fn([u8; WIDTH]) -> f32) {
    let (samples, _) = bytes.as_chunks::<WIDTH>();
    for (out, sample) in out.iter_mut().zip(samples) {
        *out = value(*sample);
    }
}

/// G.711's codes, sign first: three bits of exponent and four of mantissa, on the scale of 16-bit samples.
static MULAW: [f32; 256] = table(Law::Mu);
static ALAW: [f32; 256] = table(Law::A);

#[derive(Clone, Copy)]
enum Law {
    Mu,
    A,
}

const fn table(law: Law) -> [f32; 256] {
    let mut table = [0.0; 256];
    let mut code = 0;
    while code < 256 {
        table[code] = law.level(code as u8) as f32 / FULL_SCALE;
        code += 1;
    }
    table
}

impl Law {
    const fn level(self, code: u8) -> i16 {
        // On the wire, µ-law inverts every bit and A-law every other one.
        let code = match self {
            Self::Mu => !code,
            Self::A => code ^ 0x55,
        };
        let (exponent, mantissa) = (code as i16 >> 4 & 7, code as i16 & 15);
        let level = match (self, exponent) {
            // The steps double from segment to segment; a bias of 33 quarter steps makes them meet.
            (Self::Mu, _) => (((mantissa << 3) + 0x84) << exponent) - 0x84,
            // The lowest two segments are one straight line, and each code stands for the middle of its step.
            (Self::A, 0) => (mantissa << 4) + 8,
            (Self::A, _) => ((mantissa << 4) + 0x108) << (exponent - 1),
        };
        // The laws write the sign the other way round, but for µ-law's inversion.
        let negative = match self {
            Self::Mu => code & 0x80 != 0,
            Self::A => code & 0x80 == 0,
        };
        if negative { -level } else { level }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn decoded(encoding: Encoding, bytes: &[u8]) -> Vec<f32> {
        let mut out = vec![f32::NAN; bytes.len() / encoding.width()];
        encoding.decode(bytes, &mut out);
        out
    }

    fn check(encoding: Encoding, bytes: &[u8], expect: Expect) {
        expect.assert_eq(&format!("{:?}", decoded(encoding, bytes)));
    }

    #[test]
    fn samples_become_numbers() {
        check(
            Encoding::PcmS16le,
            b"\0\0\x01\0\xff\x7f\0\x80",
            expect!["[0.0, 3.0517578e-5, 0.9999695, -1.0]"],
        );
        check(
            Encoding::PcmS16be,
            b"\0\0\0\x01\x7f\xff\x80\0",
            expect!["[0.0, 3.0517578e-5, 0.9999695, -1.0]"],
        );
        let floats: Vec<u8> = [0.25, -3.0, f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MIN_POSITIVE]
            .iter()
            .flat_map(|value: &f32| value.to_le_bytes())
            .collect();
        check(Encoding::F32le, &floats, expect!["[0.25, -3.0, 0.0, 0.0, 0.0, 1.1754944e-38]"]);
    }

    /// Segment by segment, on the scale of 16-bit samples; the sums are over the standard's whole tables.
    #[test]
    fn companded_samples_are_those_of_the_standard() {
        let segments = [0x80, 0x8f, 0x9f, 0xaf, 0xbf, 0xcf, 0xdf, 0xef, 0xfe, 0xff, 0x00, 0x7f];
        let check = |encoding, inverted: u8, expect: Expect, sum: f64| {
            let levels = |codes: &[u8]| -> Vec<f64> {
                decoded(encoding, codes).iter().map(|value| f64::from(value * FULL_SCALE)).collect()
            };
            expect.assert_eq(&format!("{:?}", levels(&segments.map(|code| code ^ inverted))));
            let all: Vec<u8> = (0..=255).collect();
            assert_eq!(
                (1..).zip(levels(&all)).map(|(place, level)| f64::from(place) * level).sum::<f64>(),
                sum
            );
        };
        let expect = expect![
            "[32124.0, 16764.0, 8316.0, 4092.0, 1980.0, 924.0, 396.0, 132.0, 8.0, 0.0, -32124.0, 0.0]"
        ];
        check(Encoding::Mulaw, 0, expect, 98_107_392.0);
        let expect = expect![
            "[8.0, 248.0, 504.0, 1008.0, 2016.0, 4032.0, 8064.0, 16128.0, 31232.0, 32256.0, -8.0, -32256.0]"
        ];
        check(Encoding::Alaw, 0x55, expect, 100_139_008.0);
    }

    #[test]
    fn silence_is_silent() {
        for &encoding in Encoding::ALL {
            let level = decoded(encoding, &[encoding.silence(); 8])[0] * FULL_SCALE;
            assert_eq!(level, if encoding == Encoding::Alaw { 8.0 } else { 0.0 }, "{}", encoding.as_str());
        }
    }

    #[test]
    fn names_are_read_back() {
        for &encoding in Encoding::ALL {
            assert_eq!(Encoding::parse(encoding.as_str()), Some(encoding));
            let json = format!("\"{}\"", encoding.as_str());
            assert_eq!(serde_json::to_string(&encoding).unwrap(), json);
            assert_eq!(serde_json::from_str::<Encoding>(&json).unwrap(), encoding);
        }
        assert_eq!(Encoding::parse("pcm_s24le"), None);
    }

    #[test]
    fn the_shorter_side_counts() {
        let mut out = [7.0; 2];
        Encoding::PcmS16le.decode(&[0, 64, 1], &mut out);
        assert_eq!(out, [0.5, 7.0]);
        Encoding::PcmS16le.decode(&[0; 9], &mut out);
        assert_eq!(out, [0.0, 0.0]);
    }
}
