//! Requests with binary tensors, on sockets and over HTTP.
#![no_main]

#[path = "../targets.rs"]
mod targets;

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::binary(data));
