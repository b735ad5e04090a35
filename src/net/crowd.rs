//! How many WebSockets may be open, in all and from one address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::error::{Code, Error, Result};

pub struct Crowd {
    most: usize,
    /// Zero: as many as there may be in all.
    most_of_one: usize,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    all: usize,
    /// Empty if no address is counted; an address that has none is not in it.
    of: HashMap<IpAddr, usize>,
}

/// A WebSocket's place, which is free again once this is dropped.
pub struct Place {
    crowd: Arc<Crowd>,
    address: IpAddr,
}

impl Crowd {
    pub fn new(most: usize, most_of_one: usize) -> Arc<Self> {
        Arc::new(Self { most, most_of_one, open: Mutex::default() })
    }

    pub fn enter(self: &Arc<Self>, address: IpAddr) -> Result<Place> {
        // A socket that takes both families shows IPv4 as a part of IPv6.
        let address = address.to_canonical();
        let mut open = self.open.lock();
        if open.all >= self.most {
            let message = format!("the server has its {} WebSockets", self.most);
            return Err(Error::new(Code::ConnectionsFull, message));
        }
        if self.most_of_one != 0 {
            let count = open.of.get(&address).copied().unwrap_or_default();
            if count >= self.most_of_one {
                let message = format!("your address has its {} WebSockets", self.most_of_one);
                return Err(Error::new(Code::TooManyConnections, message));
            }
            open.of.insert(address, count + 1);
        }
        open.all += 1;
        Ok(Place { crowd: Arc::clone(self), address })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.crowd.open.lock();
        open.all -= 1;
        if let Some(count) = open.of.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                open.of.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// WebSockets, and addresses that are remembered.
    fn counts(crowd: &Crowd) -> (usize, usize) {
        let open = crowd.open.lock();
        (open.all, open.of.len())
    }

    #[test]
    fn places_are_counted_and_given_back() {
        let crowd = Crowd::new(3, 2);
        let [a, b]: [IpAddr; 2] = ["10.0.0.1", "10.0.0.2"].map(|text| text.parse().unwrap());
        let mapped: IpAddr = "::ffff:10.0.0.1".parse().unwrap();
        let code = |address| crowd.enter(address).map_err(|error| error.code).map(drop);
        let first = crowd.enter(a).unwrap();
        let second = crowd.enter(mapped).unwrap();
        assert_eq!(code(a), Err(Code::TooManyConnections));
        let third = crowd.enter(b).unwrap();
        assert_eq!((code(a), code(b)), (Err(Code::ConnectionsFull), Err(Code::ConnectionsFull)));
        drop((first, second));
        assert_eq!((code(a), counts(&crowd)), (Ok(()), (1, 1)));
        drop(third);
        assert_eq!(counts(&crowd), (0, 0));
    }

    #[test]
    fn without_a_limit_of_its_own_an_address_is_not_remembered() {
        let crowd = Crowd::new(2, 0);
        let address: IpAddr = "::1".parse().unwrap();
        let _both = [crowd.enter(address).unwrap(), crowd.enter(address).unwrap()];
        assert_eq!(counts(&crowd), (2, 0));
        assert!(crowd.enter(address).is_err());
    }
}
