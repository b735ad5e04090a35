//! What the server says on `/stream`.

use bytes::{BufMut, BytesMut};

use super::text::{float, integer, raw, string};
use crate::tensor::Told;

/// Appends a classifier's result for the `seq`th message of a stream.
pub fn encode_told(out: &mut BytesMut, seq: u64, told: &Told<'_>) {
    raw(out, r#"{"type":"result","seq":"#);
    integer(out, seq);
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
        encode_told(&mut out, 7, &told);
        expect![[r#"{"type":"result","seq":7,"label":"html","score":0.5,"model_label":"html","mime_type":"text/html","top":[{"label":"html","score":0.5},{"label":"x\"ml","score":null}]}"#]]
            .assert_eq(std::str::from_utf8(&out).unwrap());
    }
}
