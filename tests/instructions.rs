//! What is said of instruction counts that differ from the recorded ones.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

#[path = "../benches/instructions/baseline.rs"]
#[allow(dead_code, reason = "the bench counts, and reads and writes the file")]
mod baseline;

use baseline::Baseline;
use expect_test::{Expect, expect};

fn counts(rustc: &str, instructions: &str) -> Baseline {
    let tools = format!("rustc = '{rustc}'\nlibc = 'glibc'\nvalgrind = 'valgrind'\ncpu = 'cpu'");
    toml::from_str(&format!("[tools]\n{tools}\n[instructions]\n{instructions}")).unwrap()
}

fn check(recorded: &str, measured: &str, expect: Expect) {
    let compared = counts("rustc 1", recorded).compare(&counts("rustc 1", measured));
    expect.assert_eq(&match compared {
        Ok(told) => told,
        Err(wrong) => format!("wrong: {wrong}"),
    });
}

#[test]
fn what_is_within_the_tolerance_passes() {
    check("a = 10000\nb = 100", "a = 10300\nb = 120", expect!["as recorded"]);
    check("a = 10000\nb = 100", "a = 9700\nb = 80", expect!["as recorded"]);
    check(
        "a = 10000",
        "a = 9699",
        expect!["some stage takes fewer than recorded: make instructions ARGS=--record keeps that"],
    );
}

#[test]
fn what_is_beyond_it_does_not() {
    check(
        "a = 10000\nb = 100\nc = 5",
        "a = 10301\nb = 121\nc = 5",
        expect![[r"
            wrong: a takes more: 10000 instructions recorded, 10301 measured, +3.0 %
            b takes more: 100 instructions recorded, 121 measured, +21.0 %"]],
    );
}

#[test]
fn a_stage_is_recorded_and_measured_or_neither() {
    check(
        "a = 1\nb = 1",
        "b = 1\nc = 1",
        expect![[r"
            wrong: c is not recorded: make instructions ARGS=--record
            a is recorded and no longer measured: make instructions ARGS=--record"]],
    );
}

#[test]
fn other_tools_count_otherwise() {
    let compared = counts("rustc 1", "a = 1").compare(&counts("rustc 2", "a = 1000"));
    expect![[
        "not compared: recorded with rustc 1, glibc, valgrind, cpu, measured with rustc 2, glibc, valgrind, cpu; take the recorded tools, or record again (make instructions ARGS=--record) on a commit that is known to be good"
    ]]
    .assert_eq(&compared.unwrap());
}
