//! Inference requests: made from what a model says of itself or read from files, and encoded as messages.

use bytes::Bytes;
use fastrand::Rng;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::judge::{ID_DIGITS, find};
use super::plan::Form;
use super::script::Message;
use super::{Failure, frame};
use crate::protocol;

/// What a model says of itself, as much of it as matters here.
#[derive(Debug, Deserialize)]
pub struct Metadata {
    pub inputs: Vec<Input>,
}

#[derive(Debug, Deserialize)]
pub struct Input {
    pub name: String,
    pub datatype: String,
    pub shape: Vec<i64>,
}

/// Elements of a tensor that is made.
const MOST_ELEMENTS: usize = 1 << 24;

/// A request for a model: one row, where the shape leaves that open, of numbers that a seed chooses.
pub fn make(
    metadata: &Metadata,
    shapes: &[(String, Vec<usize>)],
    random: &mut Rng,
) -> Result<Value, Failure> {
    let inputs = metadata.inputs.iter().map(|input| {
        let given = shapes.iter().find(|(name, _)| *name == input.name).map(|(_, shape)| shape.clone());
        let shape = given
            .unwrap_or_else(|| input.shape.iter().map(|&size| usize::try_from(size).unwrap_or(1)).collect());
        let count = crate::tensor::element_count(&shape).filter(|count| *count <= MOST_ELEMENTS);
        let count = count.ok_or_else(|| format!("input '{}' is too large: {shape:?}", input.name))?;
        let data = (0..count).map(|_| element(&input.datatype, random)).collect::<Result<Vec<_>, _>>()?;
        let Input { name, datatype, .. } = input;
        Ok(json!({ "name": name, "shape": shape, "datatype": datatype, "data": data }))
    });
    Ok(json!({ "inputs": inputs.collect::<Result<Vec<_>, Failure>>()? }))
}

/// Numbers that every format holds exactly, and that are short in JSON.
fn element(datatype: &str, random: &mut Rng) -> Result<Value, Failure> {
    Ok(match datatype {
        "BOOL" => json!(random.bool()),
        "BYTES" => json!(format!("text {}", random.u8(..))),
        "FP16" | "BF16" | "FP32" | "FP64" => json!(f64::from(random.i8(-64..64)) / 64.0),
        integer if integer.contains("INT") => json!(random.u8(0..100)),
        other => return Err(format!("the model has an input of the datatype '{other}'").into()),
    })
}

/// A request of a file, or of what was made, with an id of ours before everything else.
pub fn with_id(request: Value) -> Result<String, Failure> {
    let Value::Object(members) = request else { return Err("a request is a JSON object".into()) };
    let mut request = Map::new();
    request.insert("id".to_owned(), json!("0".repeat(ID_DIGITS)));
    request.extend(members.into_iter().filter(|(key, _)| key != "id"));
    Ok(Value::Object(request).to_string())
}

/// The request's JSON and what stands behind it; a binary one has its tensors there.
pub fn body(request: Value, form: Form) -> Result<(String, Vec<u8>), Failure> {
    let text = with_id(request)?;
    if form == Form::Text {
        return Ok((text, Vec::new()));
    }
    let decoded = protocol::decode_json(text.as_bytes()).map_err(|refusal| refusal.error)?;
    let mut request: Value = serde_json::from_str(&text)?;
    let mut data = Vec::new();
    let inputs = request["inputs"].as_array_mut().into_iter().flatten();
    for (input, tensor) in inputs.zip(decoded.inputs) {
        if let Value::Object(input) = input {
            input.shift_remove("data");
            input.insert("parameters".to_owned(), json!({ "binary_data_size": tensor.data.len() }));
        }
        data.extend_from_slice(&tensor.data);
    }
    Ok((request.to_string(), data))
}

/// As a message of a WebSocket.
pub fn message((json, data): (String, Vec<u8>), form: Form) -> Result<Message, Failure> {
    let mut bytes = Vec::new();
    let payload = match form {
        Form::Text => json.into_bytes(),
        Form::Binary => {
            let length = u32::try_from(json.len())?.to_le_bytes();
            [&length[..], json.as_bytes(), &data].concat()
        }
    };
    let opcode = if form == Form::Text { frame::TEXT } else { frame::BINARY };
    let start = frame::append(&mut bytes, opcode, &payload);
    Ok(with_id_found(bytes, start))
}

/// As an HTTP request.
pub fn post((json, data): (String, Vec<u8>), path: &str, headers: &str, form: Form) -> Message {
    let length = json.len() + data.len();
    let what = match form {
        Form::Text => "Content-Type: application/json\r\n".to_owned(),
        Form::Binary => format!(
            "Content-Type: application/octet-stream\r\nInference-Header-Content-Length: {}\r\n",
            json.len()
        ),
    };
    let head = format!("POST {path} HTTP/1.1\r\n{headers}{what}Content-Length: {length}\r\n\r\n");
    let start = head.len();
    with_id_found([head.as_bytes(), json.as_bytes(), &data].concat(), start)
}

fn with_id_found(bytes: Vec<u8>, from: usize) -> Message {
    const KEY: &[u8] = br#"{"id":""#;
    let id_at = bytes.get(from..).and_then(|rest| find(rest, KEY)).map(|at| from + at + KEY.len());
    Message { bytes, id_at }
}

/// Asks for binary outputs of an HTTP request, which would be JSON otherwise.
pub fn binary_outputs(request: &mut Value) {
    request["parameters"]["binary_data_output"] = json!(true);
}

/// A frame that holds a message of `/stream` as it is.
pub fn plain(payload: &Bytes) -> Message {
    let mut bytes = Vec::new();
    frame::append(&mut bytes, frame::BINARY, payload);
    Message { bytes, id_at: None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn metadata() -> Metadata {
        let json = r#"{"name":"m","inputs":[{"name":"x","datatype":"FP32","shape":[-1,2]},{"name":"s","datatype":"BYTES","shape":[-1]}]}"#;
        serde_json::from_str(json).unwrap()
    }

    fn made(shapes: &[(String, Vec<usize>)]) -> Value {
        make(&metadata(), shapes, &mut Rng::with_seed(1)).unwrap()
    }

    fn check(message: &Message, expect: Expect) {
        let at = message.id_at.unwrap();
        assert_eq!(&message.bytes[at..at + ID_DIGITS], b"00000000");
        let shown: String = message.bytes.iter().map(|byte| byte.escape_ascii().to_string()).collect();
        expect.assert_eq(&shown);
    }

    #[test]
    fn a_request_has_what_the_model_takes() {
        let text = with_id(made(&[])).unwrap();
        expect![[r#"{"id":"00000000","inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":[0.421875,0.328125]},{"name":"s","shape":[1],"datatype":"BYTES","data":["text 134"]}]}"#]].assert_eq(&text);
        let wide = made(&[("x".into(), vec![3, 2])]);
        assert_eq!(wide["inputs"][0]["data"].as_array().unwrap().len(), 6);
        assert!(protocol::decode_json(text.as_bytes()).is_ok());
    }

    #[test]
    fn it_can_be_sent_in_every_form() {
        let one = json!({"id":"mine","inputs":[{"name":"x","shape":[1,1],"datatype":"FP32","data":[1]}]});
        let of = |form| body(one.clone(), form).unwrap();
        check(
            &message(of(Form::Text), Form::Text).unwrap(),
            expect![[
                r#"\x81\xd4\x00\x00\x00\x00{\"id\":\"00000000\",\"inputs\":[{\"name\":\"x\",\"shape\":[1,1],\"datatype\":\"FP32\",\"data\":[1]}]}"#
            ]],
        );
        check(
            &message(of(Form::Binary), Form::Binary).unwrap(),
            expect![[
                r#"\x82\xf5\x00\x00\x00\x00m\x00\x00\x00{\"id\":\"00000000\",\"inputs\":[{\"name\":\"x\",\"shape\":[1,1],\"datatype\":\"FP32\",\"parameters\":{\"binary_data_size\":4}}]}\x00\x00\x80?"#
            ]],
        );
        check(
            &post(of(Form::Text), "/p", "Host: h\r\n", Form::Text),
            expect![[
                r#"POST /p HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nContent-Length: 84\r\n\r\n{\"id\":\"00000000\",\"inputs\":[{\"name\":\"x\",\"shape\":[1,1],\"datatype\":\"FP32\",\"data\":[1]}]}"#
            ]],
        );
        check(
            &post(of(Form::Binary), "/p", "Host: h\r\n", Form::Binary),
            expect![[
                r#"POST /p HTTP/1.1\r\nHost: h\r\nContent-Type: application/octet-stream\r\nInference-Header-Content-Length: 109\r\nContent-Length: 113\r\n\r\n{\"id\":\"00000000\",\"inputs\":[{\"name\":\"x\",\"shape\":[1,1],\"datatype\":\"FP32\",\"parameters\":{\"binary_data_size\":4}}]}\x00\x00\x80?"#
            ]],
        );
    }

    #[test]
    fn what_is_no_request_is_refused() {
        assert!(with_id(json!([])).is_err());
        assert!(body(json!({"inputs": 1}), Form::Binary).is_err());
        assert!(element("FP8", &mut Rng::with_seed(1)).is_err());
    }
}
