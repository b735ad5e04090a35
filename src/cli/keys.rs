//! `thalweg keys`: keys for the access file, and their checksums.

use std::io::Read;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clap::Subcommand;

use super::Failure;
use crate::checksum::sha256;
use crate::net::is_key_name;

/// A plain checksum keeps only a key secret that nobody can guess.
const SHORTEST: usize = 20;

#[derive(Subcommand)]
pub enum Keys {
    /// Make a key: its entry for the access file on standard output, the key itself on standard error
    New {
        /// Its name in the file, in the log and in metrics
        name: String,
    },
    /// Read a key from standard input, and tell its sha256
    Hash,
}

impl Keys {
    pub fn run(self) -> Result<(), Failure> {
        match self {
            Self::New { name } => {
                if !is_key_name(&name) {
                    return Err("a name is 1 to 64 letters, digits, '.', '_' and '-'".into());
                }
                let mut random = [0; 32];
                getrandom::fill(&mut random).map_err(|error| format!("there is no randomness: {error}"))?;
                let key = URL_SAFE_NO_PAD.encode(random);
                eprintln!("the key, which is kept nowhere: {key}");
                println!("[[key]]\nname = \"{name}\"\nsha256 = \"{}\"", sha256(key.as_bytes()));
            }
            Self::Hash => {
                let mut key = String::new();
                std::io::stdin().take(64 << 10).read_to_string(&mut key)?;
                let key = key.trim();
                if key.len() < SHORTEST {
                    return Err(
                        format!("a key has at least {SHORTEST} characters, or it can be guessed").into()
                    );
                }
                println!("{}", sha256(key.as_bytes()));
            }
        }
        Ok(())
    }
}
