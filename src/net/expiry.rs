//! Until when a certificate is good. Of X.509 (RFC 5280) no more is read than stands before that.

use toml::value::Datetime;

use super::access::seconds;

const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
/// `[0]`, in which the version stands.
const VERSION: u8 = 0xa0;

/// In seconds since 1970; `None` if the certificate is not understood.
pub fn not_after(certificate: &[u8]) -> Option<u64> {
    let (_, certificate, _) = element(certificate, SEQUENCE)?;
    let (_, mut rest, _) = element(certificate, SEQUENCE)?;
    if let Some((_, _, behind)) = element(rest, VERSION) {
        rest = behind;
    }
    // The serial number, the signature's algorithm, the issuer.
    for tag in [INTEGER, SEQUENCE, SEQUENCE] {
        (_, _, rest) = element(rest, tag)?;
    }
    let (_, validity, _) = element(rest, SEQUENCE)?;
    let (_, _, behind) = time(validity)?;
    let (tag, digits, _) = time(behind)?;
    let digits = std::str::from_utf8(digits).ok()?.strip_suffix('Z')?;
    let digits = match tag {
        // Two digits of the year: 1950 to 2049.
        UTC_TIME if digits.get(..2)? < "50" => format!("20{digits}"),
        UTC_TIME => format!("19{digits}"),
        _ => digits.to_owned(),
    };
    let part = |at: usize, length: usize| digits.get(at..at + length);
    let (year, month, day) = (part(0, 4)?, part(4, 2)?, part(6, 2)?);
    let (hour, minute, second) = (part(8, 2)?, part(10, 2)?, part(12, 2)?);
    let date: Datetime = format!("{year}-{month}-{day}T{hour}:{minute}:{second}Z").parse().ok()?;
    seconds(&date)
}

fn time(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    element(der, UTC_TIME).or_else(|| element(der, GENERALIZED_TIME))
}

/// An element of DER with this tag: the tag, what it holds, and what is behind it.
fn element(der: &[u8], tag: u8) -> Option<(u8, &[u8], &[u8])> {
    let (&first, rest) = der.split_first().filter(|(first, _)| **first == tag)?;
    let (&length, rest) = rest.split_first()?;
    let (length, rest) = match length {
        0..=0x7f => (usize::from(length), rest),
        // So many bytes of a length; no certificate needs more than three.
        0x81..=0x83 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(length - 0x80))?;
            (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    let (held, behind) = rest.split_at_checked(length)?;
    Some((first, held, behind))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate(year: i32) -> Vec<u8> {
        let mut params = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(year, 2, 28);
        params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn certificates_tell_their_end() {
        // The second is beyond 2049, where the other form of a time begins.
        assert_eq!(not_after(&certificate(2031)), Some(1_930_003_200));
        assert_eq!(not_after(&certificate(2061)), Some(2_876_774_400));
    }

    #[test]
    fn what_is_cut_short_or_damaged_tells_nothing_or_a_date() {
        let whole = certificate(2031);
        for at in 0..whole.len() {
            assert_eq!(not_after(&whole[..at]), None, "{at}");
            let mut damaged = whole.clone();
            damaged[at] ^= 0xff;
            let _ = not_after(&damaged);
        }
    }
}
