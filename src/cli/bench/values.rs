//! Values of flags: an address, a time, a shape.

use std::time::Duration;

use crate::cli::Failure;

/// Where a URL leads.
#[derive(Debug, PartialEq, Eq)]
pub struct Location {
    pub tls: bool,
    pub host: String,
    pub port: u16,
    /// With its `/`, or empty.
    pub path: String,
}

pub fn location(url: &str) -> Result<Location, Failure> {
    let wrong = || format!("'{url}' is not of the form ws://HOST:PORT (or wss, http, https)");
    let (scheme, rest) = url.split_once("://").ok_or_else(wrong)?;
    let tls = match scheme {
        "ws" | "http" => false,
        "wss" | "https" => true,
        _ => return Err(wrong().into()),
    };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().map_err(|_| wrong())?),
        _ => (authority, 8080),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    if host.is_empty() || host.contains(['?', '@']) || path.contains(char::is_whitespace) {
        return Err(wrong().into());
    }
    Ok(Location { tls, host: host.to_owned(), port, path: path.to_owned() })
}

/// `10`, `10s`, `1.5m` or `500ms`.
pub fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("'{text}' is no time such as 10s, 500ms or 2m");
    let split = text.find(|letter: char| letter.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let number: f64 = number.trim().parse().map_err(|_| wrong())?;
    let unit = match unit {
        "ms" => 1e-3,
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(wrong()),
    };
    Duration::try_from_secs_f64(number * unit).ok().filter(|time| time.as_secs() <= 86_400).ok_or_else(wrong)
}

pub fn shape(text: &str) -> Result<(String, Vec<usize>), String> {
    let wrong = || format!("'{text}' is not of the form NAME=1,16");
    let (name, sizes) = text.split_once('=').ok_or_else(wrong)?;
    let sizes = sizes.split(',').map(|size| size.trim().parse().map_err(|_| wrong()));
    Ok((name.to_owned(), sizes.collect::<Result<_, _>>()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        let times = ["10", "10s", "1.5m", "500ms"].map(|text| duration(text).unwrap().as_millis());
        assert_eq!(times, [10_000, 10_000, 90_000, 500]);
        assert!(["", "s", "-1s", "1d", "1e9h"].iter().all(|text| duration(text).is_err()));
    }
}
