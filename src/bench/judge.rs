//! What an answer says: whose it is, and whether it is one. It looks at a few bytes, not at all of the JSON.

use std::ops::Range;

/// What tells whose an answer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Naming {
    /// The `id` of the request, echoed.
    Id,
    /// The `seq` of a stream's result.
    Seq,
}

/// Digits of the ids that requests are sent with.
pub const ID_DIGITS: usize = 8;
/// Ids begin anew behind this.
pub const IDS: u64 = 100_000_000;

/// How a stream's result begins; its `seq` follows.
const RESULT: &[u8] = br#"{"type":"result","seq":"#;

/// What an answer says.
#[derive(Debug, PartialEq, Eq)]
pub enum Said<'a> {
    /// The result of this number.
    Result(u64),
    /// An error, by its code.
    Failed(&'a str, Option<u64>),
    /// It answers nothing.
    Unasked,
    /// It is not what an answer looks like.
    Unreadable,
}

/// Reads answers of one connection.
#[derive(Debug, Clone)]
pub struct Judge {
    naming: Naming,
    /// Where the last answer had its id: the next one is looked at there first.
    hint: usize,
}

impl Judge {
    pub fn new(naming: Naming) -> Self {
        Self { naming, hint: 0 }
    }

    /// Reads the JSON of an answer.
    pub fn read<'a>(&mut self, json: &'a [u8]) -> Said<'a> {
        match self.naming {
            Naming::Id => self.read_inference(json),
            Naming::Seq => read_stream(json),
        }
    }

    fn read_inference<'a>(&mut self, json: &'a [u8]) -> Said<'a> {
        if json.strip_prefix(b"{").is_some_and(|json| json.trim_ascii_start().starts_with(br#""error""#)) {
            return failed(json);
        }
        let Some(id) = self.find_id(json) else { return Said::Unreadable };
        let number = number(json.get(id.clone()).unwrap_or_default());
        // Members may stand in any order; ours has the outputs behind the id.
        let rest = json.get(id.end..).unwrap_or_default();
        let outputs = rest.starts_with(br#"","outputs":"#) || find(json, br#""outputs""#).is_some();
        match number {
            Some(number) if outputs => Said::Result(number),
            _ => Said::Unreadable,
        }
    }

    /// Where the digits stand that tell whose an answer is.
    pub fn find_number(&mut self, json: &[u8]) -> Option<Range<usize>> {
        match self.naming {
            Naming::Id => self.find_id(json),
            Naming::Seq => json.starts_with(RESULT).then(|| RESULT.len()..RESULT.len() + digits(json)),
        }
    }

    fn find_id(&mut self, json: &[u8]) -> Option<Range<usize>> {
        if id_at(json, self.hint).is_none() {
            self.hint = (0..json.len()).find(|at| id_at(json, *at).is_some())?;
        }
        let start = id_at(json, self.hint)?;
        let length = json.get(start..)?.iter().position(|byte| *byte == b'"')?;
        Some(start..start + length)
    }
}

/// Where the text of an `id` begins whose member begins here. Other servers write blanks around the colon.
fn id_at(json: &[u8], at: usize) -> Option<usize> {
    let name = json.get(at..)?.strip_prefix(br#""id""#)?;
    let value = name.trim_ascii_start().strip_prefix(b":")?.trim_ascii_start().strip_prefix(b"\"")?;
    Some(json.len() - value.len())
}

/// How many digits the `seq` of a stream's result has.
fn digits(json: &[u8]) -> usize {
    let rest = json.get(RESULT.len()..).unwrap_or_default();
    rest.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(rest.len())
}

/// The answers of `/stream`, whose first member is their type.
fn read_stream(json: &[u8]) -> Said<'_> {
    if json.starts_with(RESULT) {
        return match number(json.get(RESULT.len()..RESULT.len() + digits(json)).unwrap_or_default()) {
            Some(number) => Said::Result(number),
            None => Said::Unreadable,
        };
    }
    if json.starts_with(br#"{"type":"error""#) {
        return failed(json);
    }
    let unasked = [&br#"{"type":"session.created""#[..], br#"{"type":"going_away""#, br#"{"type":"flushed""#];
    if unasked.iter().any(|start| json.starts_with(start)) { Said::Unasked } else { Said::Unreadable }
}

/// An error: rare enough to be read in full.
fn failed(json: &[u8]) -> Said<'_> {
    #[derive(serde::Deserialize)]
    struct Refused<'a> {
        code: Option<&'a str>,
        #[serde(default)]
        id: Option<&'a str>,
    }
    match serde_json::from_slice::<Refused<'_>>(json) {
        Ok(Refused { code, id }) => {
            Said::Failed(code.unwrap_or("error"), id.and_then(|id| number(id.as_bytes())))
        }
        Err(_) => Said::Failed("error", None),
    }
}

fn number(digits: &[u8]) -> Option<u64> {
    let all = !digits.is_empty() && digits.len() < 19 && digits.iter().all(u8::is_ascii_digit);
    all.then(|| digits.iter().fold(0, |number, digit| number * 10 + u64::from(digit - b'0')))
}

pub fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

/// Writes an id over the digits of another.
pub fn write_id(mut id: u64, digits: &mut [u8]) {
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + u8::try_from(id % 10).unwrap_or_default();
        id /= 10;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn check(naming: Naming, json: &str, expect: Expect) {
        let mut judge = Judge::new(naming);
        let said = format!("{:?}", judge.read(json.as_bytes()));
        expect.assert_eq(&said);
        // A hint changes nothing.
        for hint in 0..json.len() {
            judge.hint = hint;
            assert_eq!(format!("{:?}", judge.read(json.as_bytes())), said);
        }
    }

    #[test]
    fn answers_to_requests_are_told_by_their_id() {
        check(
            Naming::Id,
            r#"{"model_name":"m","model_version":"1","id":"00000042","outputs":[]}"#,
            expect!["Result(42)"],
        );
        check(Naming::Id, r#"{"outputs":[],"id":"7"}"#, expect!["Result(7)"]);
        check(Naming::Id, r#"{"name": "id", "id" : "7", "outputs": []}"#, expect!["Result(7)"]);
        check(Naming::Id, r#"{ "error": "full", "id": "7" }"#, expect![[r#"Failed("error", Some(7))"#]]);
        check(Naming::Id, r#"{"id":"7","model_name":"m"}"#, expect!["Unreadable"]);
        check(Naming::Id, r#"{"id":"seven","outputs":[]}"#, expect!["Unreadable"]);
        check(Naming::Id, r#"{"id":"7"#, expect!["Unreadable"]);
        check(Naming::Id, r#"{"outputs":[]}"#, expect!["Unreadable"]);
        check(
            Naming::Id,
            r#"{"error":"full","code":"queue_full","id":"00000007","retryable":true}"#,
            expect![[r#"Failed("queue_full", Some(7))"#]],
        );
        check(Naming::Id, r#"{"error":"of another server"}"#, expect![[r#"Failed("error", None)"#]]);
        check(Naming::Id, r#"{"error":"#, expect![[r#"Failed("error", None)"#]]);
    }

    #[test]
    fn results_of_streams_are_told_by_their_seq() {
        check(Naming::Seq, r#"{"type":"result","seq":12,"start_ms":0.0}"#, expect!["Result(12)"]);
        check(Naming::Seq, r#"{"type":"result","seq":x"#, expect!["Unreadable"]);
        check(
            Naming::Seq,
            r#"{"type":"error","error":"lost","code":"state_lost","retryable":false}"#,
            expect![[r#"Failed("state_lost", None)"#]],
        );
        check(Naming::Seq, r#"{"type":"going_away","time_left_ms":1}"#, expect!["Unasked"]);
        check(Naming::Seq, r#"{"type":"session.created"}"#, expect!["Unasked"]);
        check(Naming::Seq, "hello", expect!["Unreadable"]);
    }

    #[test]
    fn the_digits_are_found_that_differ_from_answer_to_answer() {
        let found = |naming, json: &str| {
            let range = Judge::new(naming).find_number(json.as_bytes());
            range.map(|range| json[range].to_owned())
        };
        assert_eq!(found(Naming::Id, r#"{"id":"0042"}"#).as_deref(), Some("0042"));
        assert_eq!(found(Naming::Seq, r#"{"type":"result","seq":42}"#).as_deref(), Some("42"));
        assert_eq!(found(Naming::Seq, r#"{"type":"flushed"}"#), None);
    }

    #[test]
    fn ids_have_their_digits() {
        let mut digits = *b"xxxxxxxx";
        write_id(4_711, &mut digits);
        assert_eq!(&digits, b"00004711");
    }
}
