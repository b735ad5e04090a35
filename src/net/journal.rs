//! The lines that clients cause in the log, so many of them in a second, and the ids by which requests are found there.

use std::sync::atomic::{AtomicU64, Ordering};

use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use parking_lot::Mutex;

use super::access::Bucket;
use crate::clock::Time;

pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// An id of a client's own may be so long.
const MAX_ID: usize = 128;

/// Errors of the server that are told in a second.
const FAULTS: u32 = 10;

pub struct Journal {
    /// Of a request, or of a connection that has ended.
    pub lines: Limit,
    /// Of an error that is the server's.
    pub faults: Limit,
    /// Tells apart servers, and one that was started again.
    server: u32,
    requests: AtomicU64,
}

impl Journal {
    pub fn new(lines: u32) -> Self {
        let server = getrandom::u32().unwrap_or_default();
        Self { lines: Limit::new(lines), faults: Limit::new(FAULTS), server, requests: AtomicU64::new(0) }
    }

    /// The id that a request came with, or else a new one.
    pub fn id(&self, headers: &HeaderMap) -> HeaderValue {
        let fits = |id: &&HeaderValue| {
            (1..=MAX_ID).contains(&id.len()) && id.as_bytes().iter().all(u8::is_ascii_graphic)
        };
        headers.get(REQUEST_ID).filter(fits).cloned().unwrap_or_else(|| {
            let id = format!("{:08x}-{:x}", self.server, self.requests.fetch_add(1, Ordering::Relaxed));
            HeaderValue::try_from(id).unwrap_or_else(|_| HeaderValue::from_static("-"))
        })
    }
}

/// So many lines in a second; those beyond are counted, and the next line tells how many there were.
pub struct Limit {
    rate: u32,
    bucket: Mutex<Bucket>,
    left_out: AtomicU64,
}

impl Limit {
    fn new(rate: u32) -> Self {
        Self { rate, bucket: Mutex::default(), left_out: AtomicU64::new(0) }
    }

    /// Whether a line may be written, and then how many before it were not.
    pub fn take(&self, now: Time) -> Option<u64> {
        if self.rate == 0 {
            return None;
        }
        if self.bucket.lock().take(now, self.rate) {
            return Some(self.left_out.swap(0, Ordering::Relaxed));
        }
        self.left_out.fetch_add(1, Ordering::Relaxed);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_flood_of_lines_is_cut_off_and_counted() {
        let limit = Limit::new(3);
        let now = Time::from_nanos(7);
        assert_eq!([(); 5].map(|()| limit.take(now)), [Some(0), Some(0), Some(0), None, None]);
        let later = now + Duration::from_secs(1);
        assert_eq!([(); 4].map(|()| limit.take(later)), [Some(2), Some(0), Some(0), None]);
        assert_eq!(Limit::new(0).take(now), None);
    }

    #[test]
    fn an_id_is_the_clients_if_it_can_stand_in_a_log() {
        let journal = Journal::new(1);
        let id = |given: &[u8]| {
            let value = HeaderValue::from_bytes(given).unwrap();
            let headers = HeaderMap::from_iter([(REQUEST_ID, value)]);
            journal.id(&headers).to_str().unwrap().to_owned()
        };
        let made = format!("{:08x}", journal.server);
        assert_eq!(id(b"7f3e:A/1"), "7f3e:A/1");
        assert_eq!(id(&[b'x'; 128]), "x".repeat(128));
        assert_eq!(id(&[b'x'; 129]), format!("{made}-0"));
        assert_eq!(id(b"two words"), format!("{made}-1"));
        assert_eq!(id(b""), format!("{made}-2"));
        assert_eq!(id("é".as_bytes()), format!("{made}-3"));
        assert_eq!(journal.id(&HeaderMap::new()), format!("{made}-4"));
    }
}
