//! Until when a certificate is good.

use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

/// In seconds since 1970; `None` if the certificate is not understood.
pub fn not_after(certificate: &[u8]) -> Option<u64> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    u64::try_from(certificate.validity().not_after.timestamp()).ok()
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
        assert_eq!(not_after(b"no certificate"), None);
    }
}
