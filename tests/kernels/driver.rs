//! The emulated driver itself, as far as other tests lean on it.
