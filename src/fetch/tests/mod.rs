//! Fetching from a server on this machine: what is kept, what is refused, what is asked for.

mod bench;
mod choice;
mod server;

use expect_test::{Expect, expect};

use self::bench::{Bench, WHEEL, sha256, toy, toy_of};
use self::server::Serve;
use super::*;

const PLACED: [&str; 2] = ["models/toy/1/model.onnx", "models/toy/notes.txt"];

#[test]
fn a_run_puts_files_in_place_and_the_next_does_nothing() {
    let toy = toy();
    let bench = Bench::new(&toy, vec![Serve::Well]);
    let summary = bench.run().unwrap();
    assert_eq!(summary.placed, PLACED.map(PathBuf::from));
    assert_eq!(summary.received, toy.wheel.len() as u64);
    assert_eq!(bench.files(), PLACED);
    assert_eq!(fs::read(bench.path(PLACED[0])).unwrap(), toy.model);
    let again = bench.run().unwrap();
    assert_eq!(again, Summary { present: 2, ..Summary::default() });
    assert_eq!((bench.server.seen().len(), *bench.address.asked.borrow()), (1, 1));
}

#[test]
fn only_a_file_that_differs_is_fetched_again() {
    let toy = toy();
    let bench = Bench::new(&toy, vec![Serve::Well, Serve::Well]);
    bench.run().unwrap();
    // Without its record a file is read, found to be right, and recorded anew.
    fs::remove_file(bench.path("models/.downloads/verified")).unwrap();
    assert_eq!(bench.run().unwrap().present, 2);
    assert!(bench.path("models/.downloads/verified").exists());
    assert_eq!(bench.server.seen().len(), 1);
    // The size alone is not enough: the record no longer fits this one.
    fs::write(bench.path(PLACED[1]), "NOTES").unwrap();
    let changed = File::options().write(true).open(bench.path(PLACED[1])).unwrap();
    changed.set_modified(std::time::UNIX_EPOCH + Duration::from_secs(1)).unwrap();
    let summary = bench.run().unwrap();
    assert_eq!((summary.placed, summary.present), (vec![PathBuf::from(PLACED[1])], 1));
    assert_eq!(fs::read(bench.path(PLACED[1])).unwrap(), b"notes");
}

#[test]
fn a_file_that_fits_its_record_is_not_read() {
    let bench = Bench::new(&toy(), vec![Serve::Well]);
    bench.run().unwrap();
    // What the record cannot see, as its module says: other bytes of the same size and time.
    let path = bench.path(PLACED[1]);
    let modified = fs::metadata(&path).unwrap().modified().unwrap();
    fs::write(&path, "NOTES").unwrap();
    File::options().write(true).open(&path).unwrap().set_modified(modified).unwrap();
    assert_eq!(bench.run().unwrap().present, 2);
}

#[test]
fn a_broken_download_goes_on_where_it_stopped() {
    let toy = toy();
    let script = vec![Serve::Break(1000), Serve::Status(503), Serve::Break(500), Serve::Well];
    let bench = Bench::new(&toy, script);
    assert_eq!(bench.run().unwrap().received, toy.wheel.len() as u64);
    assert_eq!(bench.server.seen(), ["all", "bytes=1000-", "bytes=1000-", "bytes=1500-"]);
    assert_eq!(*bench.pauses.borrow(), [500, 1000, 2000].map(Duration::from_millis));
}

#[test]
fn a_later_run_goes_on_too() {
    let toy = toy();
    let bench = Bench::new(&toy, vec![Serve::Well]);
    fs::create_dir_all(bench.path(DOWNLOADS)).unwrap();
    fs::write(bench.path(&format!("{DOWNLOADS}/{WHEEL}.part")), &toy.wheel[..2000]).unwrap();
    assert_eq!(bench.run().unwrap().received, toy.wheel.len() as u64 - 2000);
    assert_eq!(bench.server.seen(), ["bytes=2000-"]);
}

#[test]
fn a_server_without_ranges_is_taken_from_the_start() {
    let toy = toy();
    let bench = Bench::new(&toy, vec![Serve::NoRange(Some(1000)), Serve::NoRange(None)]);
    bench.run().unwrap();
    assert_eq!(bench.server.seen(), ["all", "bytes=1000-"]);
    assert_eq!(bench.files(), PLACED);
}

#[test]
fn attempts_are_bounded_unless_they_bring_something() {
    // Each attempt gets as far as the one before: the first counts as progress, four more do not.
    let bench = Bench::new(&toy_of(640 << 10), vec![Serve::NoRange(Some(100 << 10)); 9]);
    expect!["the download of toy-1.0-py3-none-any.whl from HOST broke off again and again, at last because of: Peer disconnected. What has arrived is kept: run this again when the network is better, and it goes on from there"]
        .assert_eq(&bench.error());
    assert_eq!(bench.server.seen().len(), 5);
    // More breaks than that are no matter as long as each attempt gets on.
    let script = [vec![Serve::Break(64 << 10); 7], vec![Serve::Well]].concat();
    let bench = Bench::new(&toy_of(640 << 10), script);
    bench.run().unwrap();
    assert_eq!(bench.server.seen().len(), 8);
}

fn refused(serve: Serve, expect: Expect) {
    let bench = Bench::new(&toy(), vec![serve; 5]);
    expect.assert_eq(&format!(
        "{}\n{} asked, left: {:?}",
        bench.error(),
        bench.server.seen().len(),
        bench.files()
    ));
}

#[test]
fn what_is_not_the_pinned_file_is_never_extracted() {
    let mut lie = toy().wheel;
    lie[10 << 10] ^= 1;
    refused(
        Serve::Other { body: lie, length: true },
        expect![[r#"
            ROOT/models/.downloads/toy-1.0-py3-none-any.whl was damaged or is not the file that was pinned, and has been removed: expected SHA-256 WHEEL, found OTHER. Run this again to download it anew
            1 asked, left: []"#]],
    );
    refused(
        Serve::Other { body: b"<html>sign in".to_vec(), length: true },
        expect![[r#"
            HOST sends 13 bytes for toy-1.0-py3-none-any.whl, which has SIZE: it is not that file. Is a proxy or a sign-in page in between?
            1 asked, left: ["models/.downloads/toy-1.0-py3-none-any.whl.part"]"#]],
    );
    refused(
        Serve::Other { body: vec![0; 32 << 10], length: false },
        expect![[r#"
            HOST sends more than SIZE bytes for toy-1.0-py3-none-any.whl, which has SIZE: it is not that file. Is a proxy or a sign-in page in between?
            1 asked, left: []"#]],
    );
}

#[test]
fn refusals_are_told_apart() {
    refused(
        Serve::Status(404),
        expect![[r#"
            HOST answers 404 for toy-1.0-py3-none-any.whl: the mirror's index names a file that it does not have. Or put that file into ROOT/models/.downloads yourself, and run this again
            1 asked, left: ["models/.downloads/toy-1.0-py3-none-any.whl.part"]"#]],
    );
    refused(
        Serve::Status(403),
        expect![[r#"
            HOST answers 403 for toy-1.0-py3-none-any.whl: it wants to know who asks, which pip can tell it and this program cannot. Or put that file into ROOT/models/.downloads yourself, and run this again
            1 asked, left: ["models/.downloads/toy-1.0-py3-none-any.whl.part"]"#]],
    );
    refused(
        Serve::Status(500),
        expect![[r#"
            HOST answers 500 for toy-1.0-py3-none-any.whl; it may do better later. Or put that file into ROOT/models/.downloads yourself, and run this again
            5 asked, left: ["models/.downloads/toy-1.0-py3-none-any.whl.part"]"#]],
    );
}

#[test]
fn a_part_that_is_too_long_for_the_server_or_the_lock_is_started_anew() {
    let toy = toy();
    let bench = Bench::new(&toy, vec![Serve::Status(416), Serve::Well]);
    fs::create_dir_all(bench.path(DOWNLOADS)).unwrap();
    let part = bench.path(&format!("{DOWNLOADS}/{WHEEL}.part"));
    fs::write(&part, [0; 2000]).unwrap();
    bench.run().unwrap();
    assert_eq!(bench.server.seen(), ["bytes=2000-", "all"]);

    let bench = Bench::new(&toy, vec![Serve::Well]);
    fs::create_dir_all(bench.path(DOWNLOADS)).unwrap();
    fs::write(bench.path(&format!("{DOWNLOADS}/{WHEEL}.part")), vec![0; toy.wheel.len() + 1]).unwrap();
    bench.run().unwrap();
    assert_eq!(bench.server.seen(), ["all"]);
}

#[test]
fn a_wheel_put_there_by_hand_is_used_if_it_is_right() {
    let toy = toy();
    let bench = Bench::new(&toy, vec![]);
    fs::create_dir_all(bench.path(DOWNLOADS)).unwrap();
    fs::write(bench.path(&format!("{DOWNLOADS}/{WHEEL}")), &toy.wheel).unwrap();
    bench.run().unwrap();
    assert_eq!((bench.files(), *bench.address.asked.borrow()), (PLACED.map(str::to_owned).to_vec(), 0));

    let bench = Bench::new(&toy, vec![]);
    fs::create_dir_all(bench.path(DOWNLOADS)).unwrap();
    fs::write(bench.path(&format!("{DOWNLOADS}/{WHEEL}")), "another").unwrap();
    assert!(matches!(bench.run(), Err(FetchError::Checksum { .. })));
    assert_eq!(bench.files(), [""; 0]);
}

#[test]
fn a_file_address_is_copied() {
    let toy = toy();
    let mut bench = Bench::new(&toy, vec![]);
    let mirror = tempfile::tempdir().unwrap();
    fs::write(mirror.path().join("a wheel"), &toy.wheel).unwrap();
    bench.address.url = format!("file://{}/a%20wheel", mirror.path().display());
    bench.run().unwrap();
    assert_eq!(bench.files(), PLACED);
}

fn member(change: impl Fn(String) -> String, expect: Expect) {
    let mut bench = Bench::new(&toy(), vec![Serve::Well]);
    let changed = change(bench.lock.clone());
    assert_ne!(changed, bench.lock);
    bench.lock = changed;
    let error = bench.error();
    assert!(!bench.files().iter().any(|file| PLACED.contains(&file.as_str())));
    expect.assert_eq(&error);
}

#[test]
fn a_member_must_be_what_the_lock_says() {
    let model = sha256(&toy().model);
    member(
        |lock| lock.replace(&model, &"0".repeat(64)),
        expect![
            "toy/model.onnx in ROOT/models/.downloads/toy-1.0-py3-none-any.whl is not what the lock file says: expected SHA-256 OTHER, found OTHER. The wheel is the pinned one, so correct the lock file"
        ],
    );
    member(
        |lock| lock.replace("size = 24576", "size = 24575"),
        expect![
            "toy/model.onnx in ROOT/models/.downloads/toy-1.0-py3-none-any.whl is not what the lock file says: it is larger than 24575 bytes. The wheel is the pinned one, so correct the lock file"
        ],
    );
    member(
        |lock| lock.replace("size = 24576", "size = 24577"),
        expect![
            "toy/model.onnx in ROOT/models/.downloads/toy-1.0-py3-none-any.whl is not what the lock file says: it is smaller than 24577 bytes. The wheel is the pinned one, so correct the lock file"
        ],
    );
    member(
        |lock| lock.replace("toy/model.onnx\"\nto", "toy/other.onnx\"\nto"),
        expect![
            "toy/other.onnx in ROOT/models/.downloads/toy-1.0-py3-none-any.whl is not what the lock file says: specified file not found in archive. The wheel is the pinned one, so correct the lock file"
        ],
    );
}

fn faulty(from: &str, to: &str, expect: Expect) {
    let text = toy().lock();
    assert!(text.contains(from), "{from} is not in the lock file");
    expect.assert_eq(&Lock::parse(&text.replacen(from, to, 1)).unwrap_err());
}

#[test]
fn a_lock_file_cannot_reach_outside_its_root() {
    for place in
        ["../model.onnx", "/etc/passwd", "models/../../x", "./", "", "a\\\\b", "a b", "C:x", "models/"]
    {
        let text = toy().lock().replacen("models/toy/1/model.onnx", place, 1);
        let why = Lock::parse(&text).unwrap_err();
        assert!(why.contains("leaves the folder"), "{place:?}: {why}");
    }
    faulty(
        "models/toy/notes.txt",
        "models/toy/1/model.onnx",
        expect![[r#"two files go to "models/toy/1/model.onnx""#]],
    );
    faulty(
        WHEEL,
        "../toy-1.0-py3-none-any.whl",
        expect![[r#"package "toy": "../toy-1.0-py3-none-any.whl" has a character that names do not have"#]],
    );
    faulty(
        WHEEL,
        "toy-2.0-py3-none-any.whl",
        expect![[r#"package "toy": "toy-2.0-py3-none-any.whl" is not the name of a wheel of version 1.0"#]],
    );
    faulty(
        "name = \"toy\"",
        "name = \"--index-url=x\"",
        expect![[r#"package "--index-url=x": "--index-url=x" has a character that names do not have"#]],
    );
    faulty(
        "size = 5",
        "size = 5000000000",
        expect![[r#"package "toy": "toy/notes.txt" is larger than 2147483648 bytes"#]],
    );
    faulty(
        "size = 5\n",
        "size = 5\nsurprise = 1\n",
        expect![[r#"
        TOML parse error at line 17, column 1
           |
        17 | surprise = 1
           | ^^^^^^^^
        unknown field `surprise`, expected one of `path`, `to`, `size`, `sha256`"#]],
    );
}

#[test]
fn the_built_in_lock_file_serves_where_there_is_none() {
    let root = tempfile::tempdir().unwrap();
    let mut options = Options::new(root.path());
    let lock = read_lock(&options).unwrap();
    assert_eq!(lock, Lock::parse(BUILT_IN).unwrap());
    // A file that was asked for by name is another matter.
    options.lock = root.path().join("other.lock");
    assert!(matches!(read_lock(&options), Err(FetchError::Lock { .. })));
}

#[test]
fn a_platform_without_a_package_still_gets_the_others() {
    let toy = toy();
    let mut bench = Bench::new(&toy, vec![Serve::Well]);
    let (package, _) = BUILT_IN.split_once("# The same for").unwrap();
    bench.lock = format!("{package}\n{}", bench.lock);
    let summary = bench.run().unwrap();
    assert_eq!(bench.files(), PLACED);
    expect!["there is no onnxruntime to fetch for plan9-mips: get its shared library for this platform from elsewhere, and give its path with --onnxruntime"]
        .assert_eq(&summary.unsupported[0].to_string());
    let only = |name: &str| bench.run_with(&Choice::Only(vec![name.to_owned()]), &mut Silent);
    assert!(matches!(only("onnxruntime"), Err(FetchError::Unsupported(_))));
    assert_eq!(only("toy").unwrap().present, 2);
    expect![[r#"the lock file has no package "tow"; it has onnxruntime, toy"#]]
        .assert_eq(&only("tow").unwrap_err().to_string());
}

/// Everything, with the pip, the network and the lock file of this checkout.
#[test]
#[ignore = "downloads 42 MB"]
fn the_real_thing() {
    let root = tempfile::tempdir().unwrap();
    let options = Options::new(root.path());
    assert_eq!(run(&options, &mut Lines::stderr()).unwrap().placed.len(), 8);
    assert_eq!(run(&options, &mut Silent).unwrap().present, 8);
}
