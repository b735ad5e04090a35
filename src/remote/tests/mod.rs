//! What would take too long with real pauses, or needs a server that is gone: giving up, and what is left then.

mod server;

use std::cell::RefCell;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use ruzstd::encoding::{CompressionLevel, compress_to_vec};
use tempfile::TempDir;

use self::server::{Answer, Server};
use super::*;
use crate::checksum::sha256;

fn options(cache: &TempDir) -> Options {
    let cache = cache.path().to_owned();
    Options { cache, limit: 1 << 20, silence: Duration::from_secs(10), s3: S3::default() }
}

/// Brings an archive; tells where it is, or why not, and the pauses in half seconds.
fn bring(url: &str, cache: &TempDir) -> (Result<PathBuf, String>, Vec<u128>) {
    let options = options(cache);
    let client = Client::new(None, options.silence);
    let pauses = RefCell::new(Vec::new());
    let pause = |pause: Duration| pauses.borrow_mut().push(pause.as_millis() / 500);
    let address = Address::parse(Path::new(url)).unwrap();
    let brought = bring_with(&address, &options, &client, &pause);
    let folder = brought.map(|brought| brought.unwrap().folder).map_err(|error| error.to_string());
    (folder, pauses.into_inner())
}

/// An archive of a file named `name`, and what is in it.
fn archive(content: &[u8]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_size(content.len() as u64);
    archive.append_data(&mut header, "name", content).unwrap();
    archive.into_inner().unwrap()
}

fn served(folder: Result<PathBuf, String>) -> String {
    fs::read_to_string(folder.unwrap().join("name")).unwrap()
}

#[test]
fn it_is_given_up_after_a_minute_of_nothing() {
    let (cache, server) = (TempDir::new().unwrap(), Server::start(archive(b"x"), vec![Answer::Status(500)]));
    let (folder, pauses) = bring(&server.url(), &cache);
    assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 40], "each pause is longer than the last, up to twenty seconds");
    let why = folder.unwrap_err();
    let url = server.url();
    assert_eq!(
        why,
        format!(
            "{url} could not be fetched, at last because of: the server answers 500. What has arrived is kept: the next \
             start goes on from there"
        )
    );
}

#[test]
fn what_brings_something_each_time_is_not_given_up() {
    let content = "0123456789".repeat(80_000);
    let file = archive(content.as_bytes());
    let script = (0..10).map(|_| Answer::Cut(70_000)).chain([Answer::Well]).collect();
    let (cache, server) = (TempDir::new().unwrap(), Server::start(file, script));
    let (folder, pauses) = bring(&server.url(), &cache);
    assert_eq!((served(folder), pauses), (content, vec![1; 10]));
    assert_eq!(server.seen()[..3], ["all", "bytes=70000- if v1", "bytes=140000- if v1"]);
}

#[test]
fn without_a_validator_nothing_is_gone_on_with() {
    let script = vec![Answer::Nameless(Some(600)), Answer::Nameless(None)];
    let (cache, server) = (TempDir::new().unwrap(), Server::start(archive(b"x"), script));
    let (folder, _) = bring(&server.url(), &cache);
    assert_eq!((served(folder), server.seen()), ("x".to_owned(), vec!["all".to_owned(), "all".to_owned()]));
}

#[test]
fn what_was_fetched_is_served_while_its_source_is_away_and_not_when_it_is_pinned_otherwise() {
    let (cache, file) = (TempDir::new().unwrap(), archive(b"x"));
    let server = Server::start(file, vec![Answer::Well, Answer::Status(503)]);
    assert_eq!(served(bring(&server.url(), &cache).0), "x");
    let (folder, pauses) = bring(&server.url(), &cache);
    assert_eq!((served(folder), pauses.len()), ("x".to_owned(), 7));
    let other = sha256(b"other");
    let (folder, _) = bring(&format!("{}#sha256={other}", server.url()), &cache);
    assert!(folder.unwrap_err().contains("the server answers 503"));
}

#[test]
fn what_came_whole_before_a_crash_is_not_fetched_again() {
    let (cache, file) = (TempDir::new().unwrap(), archive(b"x"));
    let server = Server::start(file.clone(), vec![Answer::Well]);
    let home = Home::open(cache.path(), &server.url()).unwrap();
    fs::write(home.path(home::PART), &file).unwrap();
    fs::write(home.path(home::PART_OF), format!("{}\n\n\nv1\n\n", server.url())).unwrap();
    drop(home);
    assert_eq!(served(bring(&server.url(), &cache).0), "x");
    assert_eq!(server.seen(), [format!("bytes={}- if v1", file.len())]);
    // What was a part of something else is nothing to go on with.
    let home = Home::open(cache.path(), &server.url()).unwrap();
    home.tidy(&[]).unwrap();
    fs::write(home.path(home::PART), &file).unwrap();
    fs::write(home.path(home::PART_OF), "http://other/\n\n\nv1\n\n").unwrap();
    drop(home);
    assert_eq!(served(bring(&server.url(), &cache).0), "x");
    assert_eq!(server.seen()[1..], ["all"]);
}

#[test]
fn a_cache_that_cannot_be_written_is_told() {
    let (cache, server) = (TempDir::new().unwrap(), Server::start(Vec::new(), Vec::new()));
    let file = cache.path().join("file");
    fs::File::create(&file).unwrap().write_all(b"x").unwrap();
    let options = Options { cache: file.join("below"), ..options(&cache) };
    let address = Address::parse(Path::new(&server.url())).unwrap();
    let error = bring_with(&address, &options, &Client::new(None, options.silence), &|_| ()).unwrap_err();
    assert!(matches!(error, RemoteError::Disk { .. }), "{error}");
}

#[test]
fn zstandard_is_understood_and_its_bombs_are() {
    let small = compress_to_vec(&archive(b"x")[..], CompressionLevel::Fastest);
    let bomb = compress_to_vec(&archive(&vec![0; 2 << 20])[..], CompressionLevel::Fastest);
    let cache = TempDir::new().unwrap();
    assert_eq!(served(bring(&Server::start(small, vec![Answer::Well]).url(), &cache).0), "x");
    let (folder, _) = bring(&Server::start(bomb, vec![Answer::Well]).url(), &cache);
    assert!(folder.unwrap_err().contains("is beyond 1048576 bytes"));
}
