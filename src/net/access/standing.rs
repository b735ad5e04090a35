//! How a key stands: what it may do, and what it has done. Pure policy, stepped with the time.

use super::bucket::Bucket;
use crate::clock::Time;
use crate::error::{Code, Error};

/// What a key may do.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// In seconds since 1970.
    pub expires: Option<u64>,
    pub max_connections: Option<usize>,
    pub requests_per_second: Option<u32>,
}

/// Why a key may not do something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denied {
    Revoked,
    Expired,
    TooFast(u32),
    TooMany(usize),
}

#[derive(Debug, Default)]
pub struct Standing {
    /// None: the key is no longer in the file.
    terms: Option<Terms>,
    bucket: Bucket,
    open: usize,
}

impl Standing {
    pub fn set(&mut self, terms: Option<Terms>) {
        self.terms = terms;
    }

    /// One more request, over HTTP or on a WebSocket.
    pub fn request(&mut self, now: Time, date: u64) -> Result<(), Denied> {
        let terms = self.terms.ok_or(Denied::Revoked)?;
        if terms.expires.is_some_and(|end| date >= end) {
            return Err(Denied::Expired);
        }
        match terms.requests_per_second {
            Some(rate) if !self.bucket.take(now, rate) => Err(Denied::TooFast(rate)),
            _ => Ok(()),
        }
    }

    /// One more WebSocket; returns how many there are.
    pub fn open(&mut self) -> Result<usize, Denied> {
        match self.terms.ok_or(Denied::Revoked)?.max_connections {
            Some(most) if self.open >= most => Err(Denied::TooMany(most)),
            _ => {
                self.open += 1;
                Ok(self.open)
            }
        }
    }

    pub fn close(&mut self) -> usize {
        self.open = self.open.saturating_sub(1);
        self.open
    }
}

impl Denied {
    /// As metrics count it.
    pub fn outcome(self) -> &'static str {
        match self {
            Self::Revoked => "revoked",
            Self::Expired => "expired",
            Self::TooFast(_) => "too_fast",
            Self::TooMany(_) => "too_many_connections",
        }
    }
}

impl From<Denied> for Error {
    /// Clients are not told that a key was good once: whoever tries keys learns nothing.
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::Revoked | Denied::Expired => super::not_valid(),
            Denied::TooFast(rate) => {
                let message = format!("this key may make {rate} requests a second; try again a moment later");
                Self::new(Code::RateLimited, message)
            }
            Denied::TooMany(most) => {
                let message = format!("this key may have {most} WebSockets open, and has them");
                Self::new(Code::RateLimited, message)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_key_may_do_what_its_terms_say() {
        let mut standing = Standing::default();
        let (now, date) = (Time::from_nanos(0), 1000);
        assert_eq!(standing.request(now, date), Err(Denied::Revoked));
        assert_eq!(standing.open(), Err(Denied::Revoked));

        standing.set(Some(Terms::default()));
        assert!((0..10_000).all(|_| standing.request(now, date) == Ok(()) && standing.open().is_ok()));
        (0..10_000).for_each(|_| assert!(standing.close() < 10_000));
        assert_eq!(standing.close(), 0);

        standing.set(Some(Terms { expires: Some(1001), ..Terms::default() }));
        assert_eq!(standing.request(now, 1000), Ok(()));
        assert_eq!(standing.request(now, 1001), Err(Denied::Expired));

        standing.set(Some(Terms { requests_per_second: Some(2), ..Terms::default() }));
        let outcomes = [0, 0, 0, 500, 500].map(|ms| standing.request(now + Duration::from_millis(ms), date));
        assert_eq!(outcomes, [Ok(()), Ok(()), Err(Denied::TooFast(2)), Ok(()), Err(Denied::TooFast(2))]);

        standing.set(Some(Terms { max_connections: Some(2), ..Terms::default() }));
        assert_eq!([(); 3].map(|()| standing.open()), [Ok(1), Ok(2), Err(Denied::TooMany(2))]);
        standing.close();
        assert_eq!(standing.open(), Ok(2));
        // Those that are open may stay when there may be fewer; no new one comes in.
        standing.set(Some(Terms { max_connections: Some(1), ..Terms::default() }));
        standing.close();
        assert_eq!(standing.open(), Err(Denied::TooMany(1)));
    }
}
