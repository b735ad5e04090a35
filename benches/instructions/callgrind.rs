//! A stage in a process of its own, under Callgrind, which collects only while [`measured`] runs.

use std::error::Error;
use std::hint::black_box;
use std::process::Command;

/// Tells the process that it is to run a stage.
pub const STAGE: &str = "--stage";

/// Leaves libc one way to copy and compare bytes, whichever the CPU prefers.
const TUNABLES: (&str, &str) = ("GLIBC_TUNABLES", "glibc.cpu.hwcaps=-AVX2,-AVX512F,-AVX512VL,-ERMS,-FSRM");

/// Rounds before the one that is counted: what is allocated and looked up once is then there.
const WARM: usize = 3;

/// Runs `work` on what `prepare` gives. Neither that nor dropping the result is counted.
pub fn run<T, U>(mut prepare: impl FnMut() -> T, mut work: impl FnMut(T) -> U) {
    for _ in 0..WARM {
        let given = prepare();
        drop(black_box(work(black_box(given))));
    }
    let given = prepare();
    drop(measured(&mut work, given));
}

#[inline(never)]
fn measured<T, U>(work: &mut impl FnMut(T) -> U, given: T) -> U {
    black_box(work(black_box(given)))
}

/// The instructions of a stage.
///
/// How bytes are copied depends on how they are aligned, on the stack too, below which lie the environment and the
/// program's name. So both are always as long, wherever the project lies; the folder is in them as `PWD`.
pub fn count(stage: &str) -> Result<u64, Box<dyn Error>> {
    let folder = tempfile::tempdir_in("/tmp")?;
    std::fs::copy(std::env::current_exe()?, folder.path().join("stages"))?;
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--toggle-collect=*instructions::callgrind::measured*"])
        .args(["--callgrind-out-file=counts", "./stages", STAGE, stage])
        .current_dir(&folder)
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env(TUNABLES.0, TUNABLES.1)
        .output()?;
    if !output.status.success() {
        return Err(format!("{stage}: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    let counts = std::fs::read_to_string(folder.path().join("counts"))?;
    let total =
        counts.lines().find_map(|line| line.strip_prefix("totals:")).and_then(|n| n.trim().parse().ok());
    match total {
        Some(count @ 1..) => Ok(count),
        _ => Err(format!("{stage}: Callgrind counted nothing").into()),
    }
}
