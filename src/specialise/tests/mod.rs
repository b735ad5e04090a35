//! Edits of small models.

mod damage;

use std::fmt::Write;

use expect_test::{Expect, expect};

use super::model::number::*;
use super::model::{Node, control_flow, external, find, graph, messages, text_in};
use super::tensor::{self, Integers};
use super::wire::{fields, put_bytes, put_number};
use super::{fix, gemm, shapes};
use crate::engine::{Constant, Graph, Port, PortDim};
use crate::tensor::DataType;

/// A message of fields that are messages or strings.
fn message<B: AsRef<[u8]>>(fields: impl IntoIterator<Item = (u64, B)>) -> Vec<u8> {
    let mut out = Vec::new();
    for (number, bytes) in fields {
        put_bytes(&mut out, number, bytes.as_ref());
    }
    out
}

/// `name[2,batch,?]`
fn value(text: &str) -> Vec<u8> {
    let (name, dims) = text.trim_end_matches(']').split_once('[').unwrap();
    let dim = |dim: &str| {
        let mut out = Vec::new();
        match dim.parse::<i64>() {
            Ok(size) => put_number(&mut out, DIM_VALUE, size.cast_unsigned()),
            Err(_) if dim == "?" => {}
            Err(_) => put_bytes(&mut out, DIM_SYMBOL, dim.as_bytes()),
        }
        // A denotation.
        put_bytes(&mut out, 3, b"D");
        (SHAPE_DIM, out)
    };
    let shape = message(dims.split(',').filter(|text| !text.is_empty()).map(dim));
    let mut of_tensor = Vec::new();
    put_number(&mut of_tensor, 1, 1);
    put_bytes(&mut of_tensor, TENSOR_TYPE_SHAPE, &shape);
    let of_value = message([(TYPE_TENSOR, of_tensor)]);
    message([(VALUE_NAME, name.as_bytes().to_vec()), (VALUE_TYPE, of_value)])
}

/// `Add a b -> c`; what stands before the operands are attributes: `end=1`, `strides=1,`, or `{…}` for a graph of nodes.
fn node(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut text = text.trim();
    if let Some((body, rest)) = text.strip_prefix('{').and_then(|text| text.rsplit_once('}')) {
        let graph = message(body.split(';').map(|text| (GRAPH_NODE, node(text))));
        put_bytes(&mut out, NODE_ATTRIBUTE, &message([(ATTRIBUTE_GRAPH, graph)]));
        text = rest.trim();
    }
    let (left, outputs) = text.split_once(" -> ").unwrap();
    let mut operator = true;
    for word in left.split(' ') {
        if let Some((name, number)) = word.split_once('=') {
            let numbers = number.split_terminator(',').map(|number| number.parse().unwrap());
            let attribute = match number.contains(',') {
                true => super::model::integers(name, &numbers.collect::<Vec<_>>()),
                false => super::model::integer(name, number.parse().unwrap()),
            };
            put_bytes(&mut out, NODE_ATTRIBUTE, &attribute);
        } else {
            put_bytes(&mut out, if operator { NODE_OPERATOR } else { NODE_INPUT }, word.as_bytes());
            operator = false;
        }
    }
    out.extend(message(outputs.split(' ').map(|name| (NODE_OUTPUT, name))));
    out
}

fn integers(name: &str, values: &[i64]) -> Vec<u8> {
    let data: Vec<_> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    tensor::write(name, DataType::Int64, &[values.len()], &data).unwrap()
}

/// A model with a version and a producer around its graph, and nodes with semicolons between.
fn model(inputs: &str, outputs: &str, nodes: &str, initializers: &[Vec<u8>]) -> Vec<u8> {
    let mut graph = message(nodes.split('|').map(|text| (GRAPH_NODE, node(text))));
    for (number, values) in [(GRAPH_INPUT, inputs), (GRAPH_OUTPUT, outputs)] {
        graph.extend(message(values.split_whitespace().map(|text| (number, value(text)))));
    }
    graph.extend(message(initializers.iter().map(|tensor| (GRAPH_INITIALIZER, tensor))));
    let mut model = Vec::new();
    put_number(&mut model, 1, 8);
    put_bytes(&mut model, 2, b"tests");
    put_bytes(&mut model, MODEL_GRAPH, &graph);
    let mut opset = Vec::new();
    put_number(&mut opset, OPSET_VERSION, 17);
    put_bytes(&mut model, MODEL_OPSET, &opset);
    put_bytes(&mut model, 14, b"behind");
    model
}

/// The same words for what a model holds.
fn show(model: &[u8]) -> String {
    let graph = graph(model).unwrap();
    let mut text = String::new();
    for (title, number) in [("in", GRAPH_INPUT), ("out", GRAPH_OUTPUT)] {
        for value in messages(graph, number) {
            let value = value.unwrap();
            writeln!(text, "{title} {}{:?}", text_in(value, VALUE_NAME).unwrap().unwrap(), dims(value))
                .unwrap();
        }
    }
    for tensor in messages(graph, GRAPH_INITIALIZER) {
        let tensor = tensor.unwrap();
        let name = text_in(tensor, TENSOR_NAME).unwrap().unwrap();
        match tensor::integers(tensor).unwrap() {
            Some(Integers { shape, values }) => writeln!(text, "{name}{shape:?} = {values:?}").unwrap(),
            None => {
                let raw = find(tensor, TENSOR_RAW).unwrap().map(|raw| raw.bytes().unwrap());
                let strings: Vec<_> = messages(tensor, TENSOR_STRING).map(Result::unwrap).collect();
                writeln!(text, "{name} = {raw:?} {strings:?}").unwrap();
            }
        }
    }
    for node in messages(graph, GRAPH_NODE) {
        let Node { operator, inputs, outputs, .. } = Node::read(node.unwrap()).unwrap();
        writeln!(text, "{operator} {} -> {}", inputs.join(" "), outputs.join(" ")).unwrap();
    }
    text
}

fn dims(value: &[u8]) -> Vec<String> {
    let mut message = value;
    for number in [VALUE_TYPE, TYPE_TENSOR, TENSOR_TYPE_SHAPE] {
        match find(message, number).unwrap() {
            Some(field) => message = field.bytes().unwrap(),
            None => return vec!["no type".into()],
        }
    }
    let dim = |dim: &[u8]| match (find(dim, DIM_VALUE).unwrap(), text_in(dim, DIM_SYMBOL).unwrap()) {
        (Some(size), None) => size.number().unwrap().cast_signed().to_string(),
        (None, Some(symbol)) => symbol.to_owned(),
        (size, symbol) => format!("{size:?} {symbol:?}"),
    };
    messages(message, SHAPE_DIM).map(|message| dim(message.unwrap())).collect()
}

/// Ports that are written like values.
fn ports(text: &str) -> Vec<Port> {
    let port = |text: &str| {
        let (name, dims) = text.trim_end_matches(']').split_once('[').unwrap();
        let dim = |dim: &str| dim.parse().map_or(PortDim::Unknown, PortDim::Fixed);
        let dims = dims.split(',').filter(|text| !text.is_empty()).map(dim).collect();
        Port { name: name.into(), datatype: None, dims }
    };
    text.split_whitespace().map(port).collect()
}

fn constant(name: &str, datatype: DataType, shape: &[usize], data: &[u8]) -> Constant {
    Constant { name: name.into(), datatype, shape: shape.into(), data: data.into() }
}

#[test]
fn inputs_become_initializers_and_dimensions_sizes() {
    let before = model(
        "x[batch,time,-1,?] k[] text[2] y[batch,4]",
        "z[batch,time]",
        "Add x k -> z",
        &[integers("k", &[7]), integers("w", &[1, 2])],
    );
    let sizes = Graph { inputs: ports("x[?,9,3,5] k[] text[2] y[?,4]"), outputs: ports("z[?,9]") };
    let constants = [
        constant("k", DataType::Int64, &[], &16000i64.to_le_bytes()),
        constant("text", DataType::Bytes, &[2], b"\x02\0\0\0hi\0\0\0\0"),
    ];
    let after = fix::fix(&before, &sizes, &constants).unwrap();
    expect![[r#"
        in x["batch", "9", "3", "5"]
        in y["batch", "4"]
        out z["batch", "9"]
        w[2] = [1, 2]
        k[] = [16000]
        text = None [[104, 105], []]
        Add x k -> z
    "#]]
    .assert_eq(&show(&after));
    // A denotation says what a dimension means, whatever its size.
    assert_eq!(after.windows(3).filter(|bytes| bytes == &[0x1a, 1, b'D']).count(), 4 + 2 + 2);
}

#[test]
fn what_is_not_touched_stays_byte_for_byte() {
    // A field of no version of ONNX, and one whose length takes more bytes than it needs.
    let strange: &[u8] = &[0xfa, 0x7f, 2, 1, 2, 0x52, 0x81, 0x80, 0x00, 9];
    let mut value = value("x[batch,time]");
    value.extend_from_slice(strange);
    let mut inside = message([(GRAPH_INPUT, &value)]);
    inside.extend_from_slice(strange);
    let mut before = strange.to_vec();
    put_bytes(&mut before, MODEL_GRAPH, &inside);
    before.extend_from_slice(strange);

    let nothing = Graph { inputs: ports("x[?,?]"), outputs: Vec::new() };
    assert_eq!(fix::fix(&before, &nothing, &[]).unwrap(), before);
    let sizes = Graph { inputs: ports("x[?,8]"), outputs: Vec::new() };
    let after = fix::fix(&before, &sizes, &[]).unwrap();
    assert_ne!(after, before);
    assert_eq!(after.windows(strange.len()).filter(|bytes| *bytes == strange).count(), 4);
    let raws: Vec<_> = fields(&after).map(|field| field.unwrap()).filter(|field| field.number != 7).collect();
    let expected: Vec<_> = fields(strange).chain(fields(strange)).map(Result::unwrap).collect();
    assert_eq!(raws, expected);
}

fn check_answers(known: &str, nodes: &str, initializers: &[Vec<u8>], expect: Expect) {
    let model = model("x[?]", "y[?]", nodes, initializers);
    let known = Graph { inputs: ports(known), outputs: Vec::new() };
    let answered = shapes::answered(&model, &known).unwrap();
    expect.assert_eq(&answered.map_or("nothing".to_owned(), |model| show(&model)));
}

#[test]
fn sizes_that_are_known_are_answered() {
    let [last, both] = [("last", &[-1][..]), ("both", &[0, 2])].map(|(name, axes)| integers(name, axes));
    check_answers(
        "x[2,?,128]",
        "Shape x -> s | Gather s last -> n | Mul x n -> y",
        std::slice::from_ref(&last),
        expect![[r#"
            in x["None None"]
            out y["None None"]
            last[1] = [-1]
            n[1] = [128]
            Mul x n -> y
        "#]],
    );
    check_answers(
        "x[2,?,128]",
        "Shape start=0 x -> s | Gather axis=0 s both -> n | Add s n -> y",
        &[last.clone(), both.clone()],
        expect![[r#"
            in x["None None"]
            out y["None None"]
            last[1] = [-1]
            both[2] = [0, 2]
            n[2] = [2, 128]
            Shape x -> s
            Add s n -> y
        "#]],
    );
    check_answers(
        "x[2,3] s[2]",
        "Size x -> elements | Shape x -> s | Size s -> rank | {Add s rank -> inner}If rank -> y",
        &[],
        expect![[r#"
            in x["None None"]
            out y["None None"]
            elements[] = [6]
            rank[] = [2]
            Shape x -> s
            If rank -> y
        "#]],
    );
}

#[test]
fn what_is_not_known_is_left() {
    let [middle, beyond] =
        [("middle", &[0, 1][..]), ("beyond", &[3])].map(|(name, axes)| integers(name, axes));
    for (known, nodes) in [
        ("x[2,?,128]", "Shape x -> s | Gather s middle -> y"),
        ("x[2,3,128]", "Shape x -> s | Gather s beyond -> y"),
        ("x[2,3,128]", "Shape x -> s | Gather s elsewhere -> y"),
        ("x[2,3,128]", "Shape end=1 x -> s | Gather s middle -> y"),
        ("x[2,3,128]", "Shape start=1 x -> s | Gather s middle -> y"),
        ("x[2,?,128]", "Size x -> y"),
        // No dimensions: a scalar, or nothing is known.
        ("x[]", "Size x -> y"),
        ("", "Size x -> y"),
        ("x[2]", "Gather x middle -> y"),
        ("x[4294967296,4294967296]", "Size x -> y"),
    ] {
        check_answers(known, nodes, &[middle.clone(), beyond.clone()], expect!["nothing"]);
    }
}

#[test]
fn questions_are_asked_as_outputs() {
    let model = model(
        "x[?]",
        "y[?]",
        "Shape x -> s | Relu x -> h | Size h -> y | Size y -> e | {Shape q -> r}If e -> i",
        &[],
    );
    let asked = shapes::asked(&model).unwrap();
    assert_eq!(asked.iter().copied().collect::<Vec<_>>(), ["h", "x", "y"]);
    let shown = show(&shapes::with_outputs(&model, &asked).unwrap());
    let outputs: Vec<_> = shown.lines().filter(|line| line.starts_with("out")).collect();
    assert_eq!(outputs, [r#"out y["None None"]"#, r#"out h["no type"]"#]);
}

#[test]
fn control_flow_is_found_in_branches_too() {
    let flow = |nodes: &str| control_flow(&model("x[?]", "y[?]", nodes, &[])).unwrap();
    assert_eq!(flow("Add x x -> y"), [""; 0]);
    assert_eq!(flow("{Scan a -> b;Add a b -> c}If x -> y | Loop x -> z"), ["If", "Loop", "Scan"]);
    let mut theirs = node("If x -> y");
    put_bytes(&mut theirs, NODE_DOMAIN, b"com.example");
    let graph = message([(GRAPH_NODE, theirs)]);
    assert_eq!(control_flow(&message([(MODEL_GRAPH, graph)])), Ok(vec![]));
    let mut function = model("x[?]", "y[?]", "Add x x -> y", &[]);
    put_bytes(&mut function, MODEL_FUNCTION, &message([(FUNCTION_NODE, node("If x -> y"))]));
    assert_eq!(control_flow(&function), Ok(vec!["If".to_owned()]));
}

#[test]
fn tensors_in_other_files_are_found() {
    let mut elsewhere = integers("weights", &[1]);
    assert_eq!(external(&model("x[?]", "y[?]", "Add x x -> y", &[elsewhere.clone()])), Ok(None));
    put_number(&mut elsewhere, TENSOR_LOCATION, 1);
    let found = external(&model("x[?]", "y[?]", "Add x x -> y", &[elsewhere]));
    assert_eq!(found, Ok(Some("weights".to_owned())));
}

#[test]
fn tensors_that_lie_about_themselves_are_none() {
    let mut huge = Vec::new();
    put_number(&mut huge, TENSOR_DATATYPE, 7);
    for size in [1 << 40, 1 << 40] {
        put_number(&mut huge, TENSOR_DIMS, size);
    }
    assert_eq!(tensor::integers(&huge), Ok(None));
    assert_eq!(tensor::integers(&integers("many", &[1; 100])), Ok(None));
    // 32 bits, one number at a time and in a row.
    let mut small = Vec::new();
    put_number(&mut small, TENSOR_DATATYPE, 6);
    put_number(&mut small, TENSOR_DIMS, 3);
    put_number(&mut small, TENSOR_INT32, (-1i64).cast_unsigned());
    put_bytes(&mut small, TENSOR_INT32, &[5, 0x80, 1]);
    assert_eq!(tensor::integers(&small), Ok(Some(Integers { shape: vec![3], values: vec![-1, 5, 128] })));
}

/// Each position takes two values and gives one of two outputs: what is put in place of that.
#[test]
fn a_convolution_becomes_a_product() {
    let model = model(
        "x[batch,1,4]",
        "y[batch,2,2]",
        "Conv pads=1,0 strides=2, kernel_shape=2, x w b -> y",
        &[tensor::write("w", DataType::Fp32, &[2, 1, 2], &[0; 16]).unwrap(), integers("other", &[1])],
    );
    let known = Graph { inputs: ports("x[?,1,4]"), outputs: Vec::new() };
    expect![[r#"
        in x["batch", "1", "4"]
        out y["batch", "2", "2"]
        y/gemm/2[6] = [0, 1, 0, 0, 0, 0]
        y/gemm/4[4] = [0, 1, 2, 3]
        y/gemm/6[2] = [-1, 2]
        y/gemm/8 = Some([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]) []
        y/gemm/10[3] = [-1, 2, 2]
        w = Some([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]) []
        other[1] = [1]
        Transpose x -> y/gemm/1
        Pad y/gemm/1 y/gemm/2 -> y/gemm/3
        Gather y/gemm/3 y/gemm/4 -> y/gemm/5
        Reshape y/gemm/5 y/gemm/6 -> y/gemm/7
        Gemm y/gemm/7 y/gemm/8 b -> y/gemm/9
        Reshape y/gemm/9 y/gemm/10 -> y/gemm/11
        Transpose y/gemm/11 -> y
    "#]]
    .assert_eq(&show(&gemm::lowered(&model, &known).unwrap().unwrap()));
    let unknown = Graph { inputs: ports("x[?,1,?]"), outputs: Vec::new() };
    assert_eq!(gemm::lowered(&model, &unknown), Ok(None));
}
