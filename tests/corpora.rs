//! What was once found by fuzzing, and where it began: every input that is kept, without a fuzzer.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test may")]

#[path = "../fuzz/targets.rs"]
mod targets;

use std::path::Path;

/// Runs a target on each file of its folder.
fn replay(name: &str, target: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
    let mut count = 0;
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        // Shown if it fails.
        println!("{}", path.display());
        target(&std::fs::read(path).unwrap());
        count += 1;
    }
    assert!(count > 0, "{} is empty", folder.display());
}

#[test]
fn what_is_kept_of_fuzzing_passes() {
    replay("json", targets::json);
    replay("binary", targets::binary);
    replay("signal", targets::signal);
    replay("websocket", targets::websocket);
    replay("model", targets::model);
}
