//! What a fetch reports while it runs, and the lines that show it to a person or a log.

use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::time::Duration;

use super::lock::Package;

/// One thing that happened.
#[derive(Debug, Clone, Copy)]
pub enum Event<'a> {
    /// Another fetch works in the same folder; this one goes on after it.
    Waiting,
    /// pip is asked where the package is.
    Resolving(&'a Package),
    /// A download begins, with `from` bytes here already.
    Downloading { package: &'a Package, from: u64 },
    /// So much of it is here now.
    Advanced { package: &'a Package, done: u64 },
    /// The connection broke; it is tried again after `pause`.
    Retrying { package: &'a Package, why: &'a str, pause: Duration },
    /// A verified file has taken its place.
    Placed { path: &'a Path, size: u64 },
}

pub trait Progress {
    fn event(&mut self, event: Event<'_>);
}

/// For tests and quiet runs.
#[derive(Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn event(&mut self, _: Event<'_>) {}
}

/// Lines for people: on a terminal one that changes in place, else one every tenth of a download.
#[derive(Debug)]
pub struct Lines<W> {
    out: W,
    terminal: bool,
    /// The percentage that was last shown, so that none is shown twice.
    shown: u64,
}

impl Lines<io::Stderr> {
    pub fn stderr() -> Self {
        let out = io::stderr();
        let terminal = out.is_terminal();
        Self::new(out, terminal)
    }
}

impl<W: Write> Lines<W> {
    pub fn new(out: W, terminal: bool) -> Self {
        Self { out, terminal, shown: 0 }
    }

    fn advanced(&mut self, package: &Package, done: u64) -> io::Result<()> {
        let step = if self.terminal { 1 } else { 10 };
        let percent = (done * 100).checked_div(package.size).unwrap_or(100) / step * step;
        if percent == self.shown {
            return Ok(());
        }
        self.shown = percent;
        let (so_far, of) = (amount(done), amount(package.size));
        if self.terminal {
            // Back to the first column, and away with what stands there.
            write!(self.out, "\r\x1b[K{} {percent:3} % of {of}", package.name)?;
            if percent == 100 { writeln!(self.out) } else { self.out.flush() }
        } else {
            writeln!(self.out, "{} {percent} %, {so_far} of {of}", package.name)
        }
    }

    fn line(&mut self, event: Event<'_>) -> io::Result<()> {
        match event {
            Event::Waiting => writeln!(self.out, "waiting for another fetch to end"),
            Event::Resolving(package) => {
                writeln!(self.out, "{} {}: asking pip where it is", package.name, package.version)
            }
            Event::Downloading { package, from } => {
                self.shown = 0;
                if from > 0 {
                    writeln!(self.out, "{}: going on after {}", package.name, amount(from))?;
                }
                Ok(())
            }
            Event::Advanced { package, done } => self.advanced(package, done),
            Event::Retrying { package, why, pause } => {
                let newline = if self.terminal { "\r\x1b[K" } else { "" };
                writeln!(self.out, "{newline}{}: {why}; trying again in {pause:?}", package.name)
            }
            Event::Placed { path, size } => writeln!(self.out, "{} ({})", path.display(), amount(size)),
        }
    }
}

impl<W: Write> Progress for Lines<W> {
    fn event(&mut self, event: Event<'_>) {
        // A closed stderr is no reason to stop fetching.
        let _ = self.line(event);
    }
}

/// Rounded up, so that nothing but nothing is 0.
fn amount(bytes: u64) -> String {
    if bytes < 1 << 20 {
        return format!("{} KiB", bytes.div_ceil(1 << 10));
    }
    let tenths = (bytes * 10).div_ceil(1 << 20);
    format!("{}.{} MiB", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn check(terminal: bool, expect: Expect) {
        let lock = super::super::Lock::parse(super::super::BUILT_IN).unwrap();
        let package = lock.find("magika", "any").unwrap();
        let mut out = Vec::new();
        let mut lines = Lines::new(&mut out, terminal);
        lines.event(Event::Waiting);
        lines.event(Event::Resolving(package));
        lines.event(Event::Downloading { package, from: 0 });
        for done in [1000, 10_000, 350_000, 360_000, 1_500_000] {
            lines.event(Event::Advanced { package, done });
        }
        let pause = Duration::from_millis(500);
        lines.event(Event::Retrying { package, why: "the connection ended early", pause });
        lines.event(Event::Downloading { package, from: 1_500_000 });
        lines.event(Event::Advanced { package, done: package.size });
        lines.event(Event::Placed { path: Path::new("models/magika/config.min.json"), size: 2141 });
        expect.assert_eq(&String::from_utf8(out).unwrap().replace("\r\x1b[K", "~"));
    }

    #[test]
    fn a_log_gets_a_line_every_tenth_and_a_terminal_one_that_changes() {
        check(
            false,
            expect![[r#"
            waiting for another fetch to end
            magika 1.0.3: asking pip where it is
            magika 10 %, 342 KiB of 2.9 MiB
            magika 50 %, 1.5 MiB of 2.9 MiB
            magika: the connection ended early; trying again in 500ms
            magika: going on after 1.5 MiB
            magika 100 %, 2.9 MiB of 2.9 MiB
            models/magika/config.min.json (3 KiB)
        "#]],
        );
        check(
            true,
            expect![[r#"
            waiting for another fetch to end
            magika 1.0.3: asking pip where it is
            ~magika  11 % of 2.9 MiB~magika  12 % of 2.9 MiB~magika  50 % of 2.9 MiB~magika: the connection ended early; trying again in 500ms
            magika: going on after 1.5 MiB
            ~magika 100 % of 2.9 MiB
            models/magika/config.min.json (3 KiB)
        "#]],
        );
    }
}
