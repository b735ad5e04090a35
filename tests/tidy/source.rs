//! A file as the rules see it: its words without comments, strings and tests.

use std::collections::BTreeSet;
use std::path::Path;

/// Folders and files of text that the project wrote.
const ROOTS: &[&str] = &[
    "src",
    "tests",
    "benches",
    "docs",
    "fuzz",
    "kernels",
    "models",
    "deploy",
    "examples",
    "Makefile",
    "Cargo.toml",
    "README.md",
    "CHANGELOG.md",
];
/// Folders of what was made or fetched, and of bytes.
const NOT_WRITTEN: &[&str] = &["repository", "__pycache__", "target", "artifacts", "corpus"];
const ENDINGS: &[&str] =
    &["rs", "toml", "md", "py", "cu", "cuh", "cpp", "h", "in", "lock", "yaml", "yml", "Makefile"];

pub struct Source {
    /// From the project's folder, with `/`.
    pub path: String,
    pub text: String,
}

/// All that the rules apply to.
pub fn all(folder: &Path) -> Vec<Source> {
    let mut sources = Vec::new();
    for root in ROOTS {
        collect(folder, root, &mut sources);
    }
    assert!(sources.iter().any(|source| source.path == "src/lib.rs"), "the sources were not found");
    sources
}

fn collect(folder: &Path, path: &str, sources: &mut Vec<Source>) {
    let full = folder.join(path);
    if full.is_dir() {
        let entries = std::fs::read_dir(&full).unwrap().map(|entry| entry.unwrap().file_name());
        let mut names: Vec<_> = entries.map(|name| name.into_string().unwrap()).collect();
        names.sort();
        names.retain(|name| !name.starts_with('.') && !NOT_WRITTEN.contains(&&**name));
        names.iter().for_each(|name| collect(folder, &format!("{path}/{name}"), sources));
    } else if ENDINGS.iter().any(|ending| path.ends_with(ending)) && full.is_file() {
        sources.push(Source { path: path.into(), text: std::fs::read_to_string(full).unwrap() });
    }
}

impl Source {
    pub fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// The module of the crate that this file is part of, but for the list of modules itself.
    pub fn module(&self) -> Option<&str> {
        let path = self.path.strip_prefix("src/")?;
        let module = path.split('/').next()?;
        let module = module.strip_suffix(".rs").unwrap_or(module);
        (module != "lib").then_some(module)
    }

    /// Files that hold only tests may use whatever they test with.
    fn is_test(&self) -> bool {
        self.path.contains("/tests/") || self.path.ends_with("/tests.rs")
    }

    /// How many `super` lead from here to the crate's root.
    fn depth(&self) -> usize {
        let path = self.path.trim_start_matches("src/").trim_end_matches(".rs").trim_end_matches("/mod");
        path.split('/').count()
    }

    pub fn modules_used(&self) -> BTreeSet<String> {
        if self.is_test() {
            return BTreeSet::new();
        }
        let depth = self.depth();
        let used = paths(&words(&self.text)).into_iter().filter_map(|path| {
            let supers = path.iter().take_while(|segment| *segment == "super").count();
            match path.first()?.as_str() {
                "crate" | "thalweg" => path.get(1).cloned(),
                "super" if supers >= depth => path.get(supers).cloned(),
                _ => None,
            }
        });
        // In lower case: the crate's root has nothing but modules.
        used.filter(|name| name.starts_with(|first: char| first.is_ascii_lowercase())).collect()
    }

    pub fn names_crate(&self, name: &str) -> bool {
        !self.is_test()
            && paths(&words(&self.text)).iter().any(|path| path.first().is_some_and(|root| root == name))
    }

    pub fn ignored_tests(&self) -> Vec<String> {
        if !self.is_rust() {
            return Vec::new();
        }
        let words = all_words(&self.text);
        let ignores = (0..words.len())
            .filter(|&at| words[at..].starts_with(&["#".into(), "[".into(), "ignore".into()]));
        let name = |at: usize| {
            words[at..].iter().skip_while(|word| *word != "fn").nth(1).cloned().unwrap_or_default()
        };
        ignores.map(name).collect()
    }
}

/// The paths of several segments, and the imports of one, with their groups spelt out: `use a::{b, c::d}` is
/// `a::b` and `a::c::d`.
fn paths(words: &[String]) -> Vec<Vec<String>> {
    let mut paths = Vec::new();
    let mut at = 0;
    while at < words.len() {
        let import = words[at] == "use";
        at += usize::from(import);
        let start = at;
        at = path(words, at, &[], import, &mut paths);
        at = at.max(start + 1);
    }
    paths
}

/// Reads one path behind `prefix`; returns where it ends.
fn path(
    words: &[String],
    start: usize,
    prefix: &[String],
    import: bool,
    paths: &mut Vec<Vec<String>>,
) -> usize {
    let mut path = prefix.to_vec();
    let mut at = start;
    loop {
        at += usize::from(words.get(at).is_some_and(|word| word == "::"));
        match words.get(at).map(String::as_str) {
            Some("{") if import || at > start => {
                at += 1;
                while words.get(at).is_some_and(|word| word != "}") {
                    let next = self::path(words, at, &path, true, paths);
                    at = next.max(at + 1);
                }
                return at + 1;
            }
            Some(word) if is_name(word) => {
                path.push(word.into());
                at += 1;
            }
            _ => break,
        }
        if words.get(at).is_none_or(|word| word != "::") {
            break;
        }
    }
    if path.len() > 1 || import && !path.is_empty() {
        paths.push(path);
    }
    at
}

fn is_name(word: &str) -> bool {
    word.starts_with(|first: char| first.is_alphabetic() || first == '_')
}

/// The words of the program without those of its tests.
fn words(text: &str) -> Vec<String> {
    let all = all_words(text);
    let test = ["#", "[", "cfg", "(", "test", ")", "]"];
    let mut words = Vec::with_capacity(all.len());
    let mut at = 0;
    while at < all.len() {
        if !all[at..].iter().take(test.len()).eq(&test) {
            words.push(all[at].clone());
            at += 1;
            continue;
        }
        // The item ends with its semicolon or its outermost brace.
        let mut depth = 0;
        while let Some(word) = all.get(at) {
            at += 1;
            match word.as_str() {
                "{" | "(" | "[" => depth += 1,
                "}" | ")" | "]" => depth -= 1,
                _ => {}
            }
            if depth == 0 && matches!(word.as_str(), ";" | "}") {
                break;
            }
        }
    }
    words
}

/// Names, `::` and single signs; comments, strings, characters, numbers and lifetimes leave nothing.
fn all_words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let taken = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            comment(rest)
        } else if let Some(length) = string(rest) {
            length
        } else if first.is_alphanumeric() || first == '_' {
            let length = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            words.push(rest[..length].to_owned());
            length
        } else {
            let length = if rest.starts_with("::") { 2 } else { first.len_utf8() };
            if !first.is_whitespace() {
                words.push(rest[..length].to_owned());
            }
            length
        };
        rest = &rest[taken..];
    }
    words
}

/// The length of a block comment, which may hold others.
fn comment(text: &str) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < text.len() {
        let rest = &text.as_bytes()[at..];
        match rest {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

/// The length of the string, character or lifetime that the text begins with.
fn string(text: &str) -> Option<usize> {
    let prefix = ["br", "cr", "r", "b", "c", ""].into_iter().find(|prefix| {
        let rest = text.strip_prefix(*prefix);
        rest.is_some_and(|rest| {
            rest.trim_start_matches('#').starts_with('"') && (prefix.ends_with('r') || rest.starts_with('"'))
        })
    });
    if let Some(prefix) = prefix {
        let open = &text[prefix.len()..];
        let hashes = open.len() - open.trim_start_matches('#').len();
        let body = prefix.len() + hashes + 1;
        if prefix.ends_with('r') {
            let close = format!("\"{}", "#".repeat(hashes));
            return Some(body + text[body..].find(&close).map_or(text.len() - body, |at| at + close.len()));
        }
        return Some(body + quoted(&text[body..], '"'));
    }
    let body = text.strip_prefix("b'").or(text.strip_prefix('\''))?;
    let start = text.len() - body.len();
    let mut inside = body.chars();
    let character = inside.next() == Some('\\') || inside.next() == Some('\'');
    Some(start + if character { quoted(body, '\'') } else { 0 })
}

/// The length up to and with the closing quote.
fn quoted(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return at + 1,
            _ => {}
        }
    }
    text.len()
}
