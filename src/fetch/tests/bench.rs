//! A toy package, and a place to fetch it into.

use std::cell::RefCell;
use std::io::Write;

use tempfile::TempDir;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use super::super::*;
use super::server::{Serve, Server};
pub use crate::checksum::sha256;

pub const WHEEL: &str = "toy-1.0-py3-none-any.whl";

/// A wheel of two files.
pub struct Toy {
    pub wheel: Vec<u8>,
    pub model: Vec<u8>,
}

pub fn toy() -> Toy {
    toy_of(24 << 10)
}

/// The model is noise, so the wheel is as large as it.
pub fn toy_of(size: usize) -> Toy {
    let mut random = fastrand::Rng::with_seed(7);
    let model: Vec<u8> = (0..size).map(|_| random.u8(..)).collect();
    let mut writer = ZipWriter::new(io::Cursor::new(Vec::new()));
    for (name, content) in [("toy/model.onnx", &model[..]), ("toy/notes.txt", b"notes")] {
        writer.start_file(name, SimpleFileOptions::default()).unwrap();
        writer.write_all(content).unwrap();
    }
    Toy { wheel: writer.finish().unwrap().into_inner(), model }
}

impl Toy {
    pub fn lock(&self) -> String {
        format!(
            r#"[[package]]
name = "toy"
version = "1.0"
file = "{WHEEL}"
size = {}
sha256 = "{}"
licence = "MIT"
[[package.member]]
path = "toy/model.onnx"
to = "models/toy/1/model.onnx"
size = {}
sha256 = "{}"
[[package.member]]
path = "toy/notes.txt"
to = "models/toy/notes.txt"
size = 5
sha256 = "{}"
"#,
            self.wheel.len(),
            sha256(&self.wheel),
            self.model.len(),
            sha256(&self.model),
            sha256(b"notes"),
        )
    }
}

/// In place of pip: one address, and a count of how often it was asked for.
pub struct Address {
    pub url: String,
    pub asked: RefCell<usize>,
}

impl Resolve for Address {
    fn resolve(&self, _: &Package) -> Result<String, ResolveError> {
        *self.asked.borrow_mut() += 1;
        Ok(self.url.clone())
    }
}

/// A root folder, a server with a script, and what a run against them says.
pub struct Bench {
    pub root: TempDir,
    pub lock: String,
    pub server: Server,
    pub address: Address,
    pub pauses: RefCell<Vec<Duration>>,
}

impl Bench {
    pub fn new(toy: &Toy, script: Vec<Serve>) -> Self {
        let server = Server::start(toy.wheel.clone(), script);
        let address = Address { url: server.url(), asked: RefCell::default() };
        let root = tempfile::tempdir().unwrap();
        Self { root, lock: toy.lock(), server, address, pauses: RefCell::default() }
    }

    pub fn run(&self) -> Result<Summary, FetchError> {
        self.run_with(&Choice::Plain, &mut Silent)
    }

    pub fn run_with(&self, choice: &Choice, progress: &mut dyn Progress) -> Result<Summary, FetchError> {
        let fetcher = Fetcher {
            root: self.root.path(),
            folder: &self.root.path().join(DOWNLOADS),
            platform: "plan9-mips",
            resolver: &self.address,
            sources: &Sources::direct(),
            pause: &|pause| {
                self.pauses.borrow_mut().push(pause);
                assert!(self.pauses.borrow().len() < 50, "it never gives up");
            },
        };
        fetcher.run(&Lock::parse(&self.lock).unwrap(), choice, progress)
    }

    pub fn path(&self, path: &str) -> PathBuf {
        self.root.path().join(path)
    }

    /// Every file below the root, but for the two that stay in the downloads' folder.
    pub fn files(&self) -> Vec<String> {
        let mut files = Vec::new();
        let mut folders = vec![self.root.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    files.push(path.strip_prefix(self.root.path()).unwrap().display().to_string());
                }
            }
        }
        files.retain(|file| !file.ends_with("/lock") && !file.ends_with("/verified"));
        files.sort();
        files
    }

    /// The error of a run, free of what differs from run to run and from one deflate to another.
    pub fn error(&self) -> String {
        let text = self.run().unwrap_err().to_string();
        let address = self.server.url();
        let lock = Lock::parse(&self.lock).unwrap();
        let mut text = text
            .replace(&self.root.path().display().to_string(), "ROOT")
            .replace(source::host(&address), "HOST")
            .replace(&lock.packages[0].size.to_string(), "SIZE");
        let hex = |text: &str| text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let sums: Vec<_> = text.split([' ', '.', ',']).filter(|word| hex(word)).map(str::to_owned).collect();
        for sum in sums {
            text = text.replace(&sum, if sum == lock.packages[0].sha256 { "WHEEL" } else { "OTHER" });
        }
        text
    }
}
