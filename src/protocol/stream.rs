//! What the server says on `/stream`.

use bytes::{BufMut, BytesMut};

use super::text::{float, integer, raw, string};
use crate::tensor::Told;

/// The part of a signal that a result is about, in milliseconds from its beginning.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Span {
    pub start_ms: f64,
    pub end_ms: f64,
}

/// Something that began or ended.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Happened<'a> {
    /// What, such as `speech`.
    pub name: &'a str,
    /// `start` or `end`.
    pub what: &'static str,
    pub at_ms: f64,
}

pub(super) fn head(out: &mut BytesMut, seq: u64, span: Option<Span>) {
    raw(out, r#"{"type":"result","seq":"#);
    integer(out, seq);
    if let Some(Span { start_ms, end_ms }) = span {
        raw(out, r#","start_ms":"#);
        number(out, start_ms);
        raw(out, r#","end_ms":"#);
        number(out, end_ms);
    }
}

/// Appends the result of a model that gives a probability, and what it made happen.
pub fn encode_happened(
    out: &mut BytesMut,
    seq: u64,
    span: Span,
    probability: f32,
    happened: &[Happened<'_>],
) {
    head(out, seq, Some(span));
    raw(out, r#","probability":"#);
    score(out, probability);
    events(out, happened);
    out.put_u8(b'}');
}

fn events(out: &mut BytesMut, happened: &[Happened<'_>]) {
    raw(out, r#","events":["#);
    for (index, Happened { name, what, at_ms }) in happened.iter().enumerate() {
        raw(out, if index == 0 { r#"{"type":"# } else { r#",{"type":"# });
        string(out, &format!("{name}_{what}"));
        raw(out, r#","at_ms":"#);
        number(out, *at_ms);
        out.put_u8(b'}');
    }
    out.put_u8(b']');
}

/// Appends the answer to a control message, with what it made happen.
pub fn encode_done(out: &mut BytesMut, what: &str, happened: &[Happened<'_>]) {
    raw(out, r#"{"type":"#);
    string(out, what);
    if !happened.is_empty() {
        events(out, happened);
    }
    out.put_u8(b'}');
}

/// Appends that the server will end the connection unless something is sent.
pub fn encode_going_away(out: &mut BytesMut, time_left_ms: u128) {
    raw(out, r#"{"type":"going_away","time_left_ms":"#);
    integer(out, time_left_ms);
    out.put_u8(b'}');
}

fn number(out: &mut BytesMut, value: f64) {
    if !float(out, value, value.is_finite()) {
        raw(out, "null");
    }
}

/// Appends a classifier's result for the `seq`th message of a stream.
pub fn encode_told(out: &mut BytesMut, seq: u64, span: Option<Span>, told: &Told<'_>) {
    head(out, seq, span);
    raw(out, r#","label":"#);
    string(out, told.label);
    raw(out, r#","score":"#);
    score(out, told.score);
    if let Some(label) = told.model_label {
        raw(out, r#","model_label":"#);
        string(out, label);
    }
    if !told.attributes.is_empty() {
        out.put_u8(b',');
        raw(out, told.attributes);
    }
    raw(out, r#","top":["#);
    for (index, &(label, value)) in told.top.iter().enumerate() {
        raw(out, if index == 0 { r#"{"label":"# } else { r#",{"label":"# });
        string(out, label);
        raw(out, r#","score":"#);
        score(out, value);
        out.put_u8(b'}');
    }
    raw(out, "]}");
}

/// JSON has no NaN; a model that gives one is told as `null`.
fn score(out: &mut BytesMut, value: f32) {
    if !float(out, value, value.is_finite()) {
        raw(out, "null");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    #[test]
    fn results_are_json() {
        let mut out = BytesMut::new();
        let told = Told {
            label: "html",
            score: 0.5,
            attributes: r#""mime_type":"text/html""#,
            model_label: Some("html"),
            top: vec![("html", 0.5), ("x\"ml", f32::NAN)],
        };
        encode_told(&mut out, 7, None, &told);
        expect![[r#"{"type":"result","seq":7,"label":"html","score":0.5,"model_label":"html","mime_type":"text/html","top":[{"label":"html","score":0.5},{"label":"x\"ml","score":null}]}"#]]
            .assert_eq(std::str::from_utf8(&out).unwrap());
    }
}
