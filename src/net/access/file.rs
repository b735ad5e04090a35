//! The file that says who may use the server.

use serde::Deserialize;
use toml::value::{Datetime, Offset};

use super::standing::Terms;

/// A digest is compared with each of them.
const MOST_KEYS: usize = 1024;
const MOST_RATE: u32 = 1_000_000;

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    #[serde(default)]
    anonymous: bool,
    #[serde(default)]
    key: Vec<RawKey>,
    #[serde(default)]
    browser: Browser,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawKey {
    name: String,
    sha256: String,
    expires: Option<Datetime>,
    max_connections: Option<usize>,
    requests_per_second: Option<u32>,
}

/// What is asked of browsers, whose scripts come from anywhere.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Browser {
    /// `None`: any.
    pub allowed_origins: Option<Vec<String>>,
    /// Whether a key may stand in the query string, where logs of others keep it.
    #[serde(default)]
    pub allow_query: bool,
}

/// A key as the file has it.
#[derive(Debug, PartialEq, Eq)]
pub struct Entry {
    pub name: String,
    pub sha256: String,
    pub terms: Terms,
}

/// All that the file says, and that it makes sense.
#[derive(Debug, PartialEq, Eq)]
pub struct AccessFile {
    /// Whether who has no key may come in as well.
    pub anonymous: bool,
    pub keys: Vec<Entry>,
    pub browser: Browser,
}

impl AccessFile {
    /// What is wrong is told without the text of the file: someone may have put a key where its checksum belongs.
    pub fn parse(text: &str) -> Result<Self, String> {
        let raw: Raw = toml::from_str(text).map_err(|error| {
            let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
            format!("line {}: {}", before.matches('\n').count() + 1, error.message())
        })?;
        let mut keys: Vec<Entry> = Vec::with_capacity(raw.key.len());
        for key in raw.key {
            let entry = entry(key)?;
            if let Some(same) =
                keys.iter().find(|other| other.name == entry.name || other.sha256 == entry.sha256)
            {
                return Err(format!(
                    "the keys '{}' and '{}' have the same name or sha256",
                    same.name, entry.name
                ));
            }
            keys.push(entry);
        }
        if keys.len() > MOST_KEYS {
            return Err(format!("there are {} keys, {MOST_KEYS} are the most", keys.len()));
        }
        if keys.is_empty() && !raw.anonymous {
            let why = "there is no [[key]], so nobody could come in; `anonymous = true` lets in who has none";
            return Err(why.to_owned());
        }
        for origin in raw.browser.allowed_origins.iter().flatten() {
            check_origin(origin)?;
        }
        Ok(Self { anonymous: raw.anonymous, keys, browser: raw.browser })
    }
}

fn entry(raw: RawKey) -> Result<Entry, String> {
    let RawKey { name, sha256, expires, max_connections, requests_per_second } = raw;
    if !is_name(&name) {
        return Err("the name of a key is 1 to 64 letters, digits, '.', '_' and '-'".to_owned());
    }
    let digits = sha256.len() == 64 && sha256.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !digits {
        return Err(format!("key '{name}': sha256 is 64 hexadecimal digits; `thalweg keys hash` tells them"));
    }
    let expires = match expires {
        Some(date) => Some(seconds(&date).ok_or_else(|| {
            format!("key '{name}': expires is a date, a time and an offset, such as 2030-01-31T12:00:00Z")
        })?),
        None => None,
    };
    if max_connections == Some(0) {
        return Err(format!("key '{name}': max_connections is at least 1"));
    }
    if requests_per_second.is_some_and(|rate| !(1..=MOST_RATE).contains(&rate)) {
        return Err(format!("key '{name}': requests_per_second is between 1 and {MOST_RATE}"));
    }
    let terms = Terms { expires, max_connections, requests_per_second };
    Ok(Entry { name, sha256: sha256.to_ascii_lowercase(), terms })
}

/// Names are labels of metrics and words of the log.
pub fn is_name(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=64).contains(&name.len()) && name.bytes().all(fits)
}

/// An origin as browsers write it (RFC 6454, section 6.2).
fn check_origin(origin: &str) -> Result<(), String> {
    let host = origin.split_once("://").map(|(_, host)| host);
    let whole = host.is_some_and(|host| !host.is_empty() && !host.contains(['/', '*', ' ', '?', '#']));
    match origin == "null" || whole {
        true => Ok(()),
        false => {
            Err(format!("'{origin}' is no origin; write a scheme and a host, such as https://app.example"))
        }
    }
}

/// Seconds since 1970, of a date that is complete and not before.
fn seconds(date: &Datetime) -> Option<u64> {
    let (day, time) = (date.date?, date.time?);
    let offset = match date.offset? {
        Offset::Z => 0,
        Offset::Custom { minutes } => i64::from(minutes),
    };
    let [year, month, day_of_month] = [i64::from(day.year), i64::from(day.month), i64::from(day.day)];
    // Years that begin in March end with the day that may be missing.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leaps = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    // From the 1st of March in the year 0; the months from March on have 31, 30, 31, 30, 31 days, and again.
    let days = year * 365 + leaps + (month * 153 + 2) / 5 + day_of_month - 1;
    const TO_1970: i64 = 719_468;
    let minutes = ((days - TO_1970) * 24 + i64::from(time.hour)) * 60 + i64::from(time.minute) - offset;
    u64::try_from(minutes * 60 + i64::from(time.second.unwrap_or(0))).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    const SHA: &str = "sha256 = '9F86D081884C7D659A2FEAA0C55AD015A3BF4F1B2B0B822CD15D6C15B0F00A08'";

    fn check(text: &str, expect: Expect) {
        let outcome = match AccessFile::parse(&text.replace("SHA", SHA)) {
            Ok(file) => {
                let keys =
                    file.keys.iter().map(|key| format!("{} {} {:?}", key.name, &key.sha256[..4], key.terms));
                let keys: Vec<_> = keys.collect();
                format!("{} {:?} {:?}", file.anonymous, keys, file.browser)
            }
            Err(error) => error,
        };
        expect.assert_eq(&outcome);
    }

    #[test]
    fn files_are_checked() {
        check(
            "[[key]]\nname = 'a'\nSHA",
            expect![[
                r#"false ["a 9f86 Terms { expires: None, max_connections: None, requests_per_second: None }"] Browser { allowed_origins: None, allow_query: false }"#
            ]],
        );
        check(
            "[[key]]\nname = 'a'\nSHA\nexpires = 2030-01-31T13:00:00+01:00\nmax_connections = 3\nrequests_per_second = 7",
            expect![[
                r#"false ["a 9f86 Terms { expires: Some(1896091200), max_connections: Some(3), requests_per_second: Some(7) }"] Browser { allowed_origins: None, allow_query: false }"#
            ]],
        );
        check(
            "anonymous = true\n[browser]\nallowed_origins = ['https://a.example:8443', 'null']\nallow_query = true",
            expect![[
                r#"true [] Browser { allowed_origins: Some(["https://a.example:8443", "null"]), allow_query: true }"#
            ]],
        );
        for (text, expect) in [
            (
                "",
                expect![
                    "there is no [[key]], so nobody could come in; `anonymous = true` lets in who has none"
                ],
            ),
            (
                "[[key]]\nname = 'a'\nsha256 = 'my secret key'",
                expect!["key 'a': sha256 is 64 hexadecimal digits; `thalweg keys hash` tells them"],
            ),
            (
                "[[key]]\nname = 'a'\nSHA\n[[key]]\nname = 'b'\nSHA",
                expect!["the keys 'a' and 'b' have the same name or sha256"],
            ),
            (
                "[[key]]\nname = 'a b'\nSHA",
                expect!["the name of a key is 1 to 64 letters, digits, '.', '_' and '-'"],
            ),
            (
                "[[key]]\nname = 'a'\nSHA\nexpires = 2030-01-31",
                expect!["key 'a': expires is a date, a time and an offset, such as 2030-01-31T12:00:00Z"],
            ),
            (
                "[[key]]\nname = 'a'\nSHA\nexpires = 2030-01-31T00:00:00",
                expect!["key 'a': expires is a date, a time and an offset, such as 2030-01-31T12:00:00Z"],
            ),
            (
                "[[key]]\nname = 'a'\nSHA\nexpires = '2030-01-31T00:00:00Z'",
                expect![[r#"line 4: invalid type: string "2030-01-31T00:00:00Z", expected a TOML datetime"#]],
            ),
            (
                "[[key]]\nname = 'a'\nSHA\nmax_connections = 0",
                expect!["key 'a': max_connections is at least 1"],
            ),
            (
                "[[key]]\nname = 'a'\nSHA\nrequests_per_second = 0",
                expect!["key 'a': requests_per_second is between 1 and 1000000"],
            ),
            (
                "[[key]]\nname = 'a'\nSHA\nkey = 'my secret key'",
                expect![
                    "line 4: unknown field `key`, expected one of `name`, `sha256`, `expires`, `max_connections`, `requests_per_second`"
                ],
            ),
            ("[[key]]\nname = 'a'\nmy secret key", expect!["line 3: key with no value, expected `=`"]),
            (
                "anonymous = true\n[browser]\nallowed_origins = ['app.example']",
                expect!["'app.example' is no origin; write a scheme and a host, such as https://app.example"],
            ),
            (
                "anonymous = true\n[browser]\nallowed_origins = ['https://app.example/']",
                expect![
                    "'https://app.example/' is no origin; write a scheme and a host, such as https://app.example"
                ],
            ),
        ] {
            check(text, expect);
        }
        let many: String =
            (0..1025).map(|n| format!("[[key]]\nname = 'k{n}'\nsha256 = '{n:064}'\n")).collect();
        check(&many, expect!["there are 1025 keys, 1024 are the most"]);
    }

    #[test]
    fn the_document_has_an_example_that_is_right_and_every_key() {
        let document = include_str!("../../../docs/OPERATIONS.md");
        let (_, rest) = document.split_once("```toml\n[[key]]").unwrap();
        let example = format!("[[key]]{}", rest.split("```").next().unwrap());
        assert!(AccessFile::parse(&example).is_ok_and(|file| file.browser.allowed_origins.is_some()));
        for (section, prefix) in [("", ""), ("[[key]]", "key[]."), ("[browser]", "browser.")] {
            let error = AccessFile::parse(&format!("{section}\nno_such_key = 1")).unwrap_err();
            for key in error.split('`').skip(3).step_by(2) {
                let row = [format!("| `{key}` |"), format!("| `{prefix}{key}` |")];
                let section = ["key", "browser"].contains(&key);
                assert!(section || row.iter().any(|row| document.contains(row)), "{prefix}{key}: {error}");
            }
        }
    }

    #[test]
    fn dates_are_seconds() {
        for (date, expected) in [
            ("1970-01-01T00:00:00Z", Some(0)),
            ("1970-01-01T00:00:00+00:01", None),
            ("1999-12-31T23:59:59Z", Some(946_684_799)),
            ("2000-02-29T12:00:00Z", Some(951_825_600)),
            ("2000-03-01T00:00:00Z", Some(951_868_800)),
            ("2024-02-29T23:59:59.9-05:30", Some(1_709_270_999)),
            ("2100-03-01T00:00:00Z", Some(4_107_542_400)),
            ("2030-01-31T13:00:00", None),
            ("2030-01-31", None),
        ] {
            assert_eq!(seconds(&date.parse().unwrap()), expected, "{date}");
        }
    }
}
