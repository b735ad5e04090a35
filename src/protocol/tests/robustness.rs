//! Damaged messages: whatever arrives, decoding returns.

use super::*;

/// Valid messages, the seeds of damaged ones.
fn messages() -> Vec<Bytes> {
    let binary = r#"{"id":"a","parameters":{"timeout":9,"sequence_id":"s","sequence_start":true},"inputs":[
        {"name":"x","shape":[2,2],"datatype":"FP32","parameters":{"binary_data_size":16}},
        {"name":"s","shape":[2],"datatype":"BYTES","parameters":{"binary_data_size":11}},
        {"name":"b","shape":[1],"datatype":"BOOL","data":[true]}],"outputs":[{"name":"y"}]}"#;
    let tail = [&[0; 16][..], &strings(&[b"abc", b""])].concat();
    let json = r#"{"id":"\u00e9","inputs":[{"name":"x","shape":[2,3],"datatype":"FP16","data":[[1,-2.5e1,3],[4,5,6]]},
        {"name":"s","data":["a\n","\ud83d\ude00"],"shape":[2],"datatype":"BYTES"},
        {"name":"i","shape":[3],"datatype":"INT64","data":[-9223372036854775808,0,1]}],
        "outputs":[{"name":"y","parameters":{"binary_data":true,"classification":2}}],"more":{"a":[null,false,{}]}}"#;
    vec![framed(binary, &tail), Bytes::from(json)]
}

/// Flips, drops, repeats or replaces bytes, once or a few times.
fn damage(message: &[u8], random: &mut fastrand::Rng) -> Vec<u8> {
    const TOKENS: &[&str] = &[
        "[",
        "]",
        "{",
        "}",
        ",",
        ":",
        "\"",
        "\\",
        "-",
        "1e999",
        "NaN",
        "null",
        "18446744073709551616",
        "[[[[",
    ];
    let mut message = message.to_vec();
    for _ in 0..random.usize(1..4) {
        if message.is_empty() {
            break;
        }
        let at = random.usize(..message.len());
        let end = random.usize(at..message.len().min(at + 64)) + 1;
        match random.u8(..6) {
            0 => message[at] ^= 1 << random.u8(..8),
            1 => message[at] = random.u8(..),
            2 => message.truncate(at),
            3 => drop(message.drain(at..end)),
            4 => {
                let repeated = message[at..end].to_vec();
                message.splice(at..at, repeated);
            }
            _ => {
                let token = TOKENS[random.usize(..TOKENS.len())];
                message.splice(at..at, token.bytes());
            }
        }
    }
    message
}

#[test]
fn damaged_messages_are_answered_in_bounded_memory() {
    let mut random = random();
    let messages = messages();
    for message in &messages {
        assert!(decode_binary(message.clone()).is_ok() || decode_json(message).is_ok());
    }
    let (mut accepted, mut refused) = (0, 0);
    for _ in 0..40_000 {
        let message = damage(&messages[random.usize(..messages.len())], &mut random);
        // Half of the time the header's length is right, so that what follows is put to the test.
        let end = message.iter().rposition(|&byte| byte == b'}').unwrap_or(0);
        let header_len =
            if random.bool() { end.saturating_sub(3) } else { random.usize(..message.len() + 2) };
        let whole = Bytes::from(message.clone());
        let body = whole.slice(whole.len().min(4)..);
        for result in [decode_binary(whole.clone()), decode_json(&message), decode_framed(body, header_len)] {
            match result {
                Ok(request) => {
                    accepted += 1;
                    assert_bounded(&request, message.len());
                }
                Err(refusal) => {
                    refused += 1;
                    assert!(refusal.error.message.len() <= 400, "{}", refusal.error);
                    assert!(refusal.id.is_none_or(|id| id.len() <= message.len()));
                }
            }
        }
    }
    assert!(accepted > 100 && refused > 100, "{accepted} accepted, {refused} refused");
}

/// Two bytes of JSON (a digit and a comma) make at most the eight of an FP64.
fn assert_bounded(request: &InferRequest, message_len: usize) {
    let data: usize = request.inputs.iter().map(|input| input.data.len()).sum();
    assert!(data <= 4 * message_len, "{data} bytes of data from {message_len} of message");
    for input in &request.inputs {
        let count = crate::tensor::element_count(&input.shape).expect("checked");
        match input.datatype.size() {
            Some(size) => assert_eq!(input.data.len(), count * size),
            None => assert!(input.data.len() >= count * 4),
        }
    }
}
