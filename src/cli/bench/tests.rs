//! What flags come to.

use clap::Parser;
use expect_test::{Expect, expect};

use super::Bench;
use crate::bench::{Address, Load};

#[derive(Parser)]
struct Command {
    #[command(flatten)]
    bench: Bench,
}

/// What flags come to: the address, the target and the loads, or why not.
fn check(flags: &str, expect: Expect) {
    let flags = ["bench"].into_iter().chain(flags.split_whitespace());
    let told = match Command::try_parse_from(flags).map(|command| command.bench.plan()) {
        Ok(Ok(plan)) => {
            let loads: Vec<_> = plan.loads.iter().map(Load::label).collect();
            let Address { host, port, trust, .. } = plan.address;
            format!("{host} {port} {trust:?}, {}: {}", plan.target, loads.join("; "))
        }
        Ok(Err(failure)) => failure.to_string(),
        Err(error) => error.to_string().lines().next().unwrap_or_default().to_owned(),
    };
    expect.assert_eq(&told);
}

#[test]
fn flags_become_steps() {
    check("-m m", expect!["127.0.0.1 8080 None, infer binary: 64 × 1"]);
    check(
        "-m m -c 1,8 -d 1,16 --form text",
        expect!["127.0.0.1 8080 None, infer text: 1 × 1; 1 × 16; 8 × 1; 8 × 16"],
    );
    check(
        "wss://[::1]:1 -m m --rate 100,200 --poisson --insecure",
        expect!["::1 1 Some(Anyone), infer binary: 100/s Poisson over 64; 200/s Poisson over 64"],
    );
    check(
        "https://h -m m --target http --ca f.pem",
        expect![[r#"h 8080 Some(File("f.pem")), http binary: 64 × 1"#]],
    );
    check("ws://h/ -m m --target stream -c 100 --rate 5 -d 3", expect!["h 8080 None, stream: 5/s over 100"]);
}

#[test]
fn wrong_flags_are_refused() {
    check("", expect!["error: the following required arguments were not provided:"]);
    check("ftp://h -m m", expect!["'ftp://h' is not of the form ws://HOST:PORT (or wss, http, https)"]);
    check("ws://h/path -m m", expect!["'ws://h/path' has a path; --model and --target say what is asked"]);
    check(
        "ws://h:port -m m",
        expect!["'ws://h:port' is not of the form ws://HOST:PORT (or wss, http, https)"],
    );
    check(
        "-m m --target http --depth 2",
        expect!["--depth: a connection of HTTP has one request at a time; use more connections"],
    );
    check("-m m -c 0", expect!["--connections and --depth are at least 1"]);
    check("-m m --rate 0", expect!["--rate is more than 0"]);
    check("-m m --search rate --below 10ms", expect!["--search rate needs a --rate to begin with"]);
    check("-m m --search rate", expect!["error: the following required arguments were not provided:"]);
    check(
        "-m m -t 5x",
        expect![
            "error: invalid value '5x' for '--duration <TIME>': '5x' is no time such as 10s, 500ms or 2m"
        ],
    );
    check(
        "-m m --shape x",
        expect!["error: invalid value 'x' for '--shape <NAME=SIZES>': 'x' is not of the form NAME=1,16"],
    );
}
