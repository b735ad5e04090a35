//! As much of an ONNX file as is read here: its graph, its nodes, and the graphs inside them.

use super::wire::{Damaged, Field, fields, put_bytes, put_number};

/// The numbers of ONNX's fields, by message.
pub mod number {
    pub const MODEL_GRAPH: u64 = 7;
    pub const MODEL_OPSET: u64 = 8;
    pub const MODEL_FUNCTION: u64 = 25;
    pub const FUNCTION_NODE: u64 = 7;
    pub const GRAPH_NODE: u64 = 1;
    pub const GRAPH_INITIALIZER: u64 = 5;
    pub const GRAPH_INPUT: u64 = 11;
    pub const GRAPH_OUTPUT: u64 = 12;
    pub const NODE_INPUT: u64 = 1;
    pub const NODE_OUTPUT: u64 = 2;
    pub const NODE_OPERATOR: u64 = 4;
    pub const NODE_ATTRIBUTE: u64 = 5;
    pub const NODE_DOMAIN: u64 = 7;
    pub const ATTRIBUTE_NAME: u64 = 1;
    pub const ATTRIBUTE_INTEGER: u64 = 3;
    pub const ATTRIBUTE_TEXT: u64 = 4;
    pub const ATTRIBUTE_TENSOR: u64 = 5;
    pub const ATTRIBUTE_GRAPH: u64 = 6;
    pub const ATTRIBUTE_INTEGERS: u64 = 8;
    pub const ATTRIBUTE_TENSORS: u64 = 10;
    pub const ATTRIBUTE_GRAPHS: u64 = 11;
    pub const ATTRIBUTE_TYPE: u64 = 20;
    pub const OPSET_DOMAIN: u64 = 1;
    pub const OPSET_VERSION: u64 = 2;
    pub const VALUE_NAME: u64 = 1;
    pub const VALUE_TYPE: u64 = 2;
    pub const TYPE_TENSOR: u64 = 1;
    pub const TENSOR_TYPE_SHAPE: u64 = 2;
    pub const SHAPE_DIM: u64 = 1;
    pub const DIM_VALUE: u64 = 1;
    pub const DIM_SYMBOL: u64 = 2;
    pub const TENSOR_DIMS: u64 = 1;
    pub const TENSOR_DATATYPE: u64 = 2;
    pub const TENSOR_FLOAT: u64 = 4;
    pub const TENSOR_INT32: u64 = 5;
    pub const TENSOR_STRING: u64 = 6;
    pub const TENSOR_INT64: u64 = 7;
    pub const TENSOR_NAME: u64 = 8;
    pub const TENSOR_RAW: u64 = 9;
    pub const TENSOR_LOCATION: u64 = 14;
}
use number::*;

/// How far graphs may lie in graphs; a file that goes deeper was made to do harm.
const DEEPEST: usize = 64;

/// An operator of a graph.
#[derive(Debug, Default)]
pub struct Node<'a> {
    pub operator: &'a str,
    domain: &'a str,
    pub inputs: Vec<&'a str>,
    pub outputs: Vec<&'a str>,
    attributes: Vec<&'a [u8]>,
}

impl<'a> Node<'a> {
    pub fn read(message: &'a [u8]) -> Result<Self, Damaged> {
        let mut node = Self::default();
        for field in fields(message) {
            let field = field?;
            match field.number {
                NODE_INPUT => node.inputs.push(field.text()?),
                NODE_OUTPUT => node.outputs.push(field.text()?),
                NODE_OPERATOR => node.operator = field.text()?,
                NODE_ATTRIBUTE => node.attributes.push(field.bytes()?),
                NODE_DOMAIN => node.domain = field.text()?,
                _ => {}
            }
        }
        Ok(node)
    }

    /// Whether it is this one of ONNX's own operators.
    pub fn is(&self, operator: &str) -> bool {
        self.operator == operator && matches!(self.domain, "" | "ai.onnx")
    }

    fn attribute(&self, name: &str) -> Result<Option<&'a [u8]>, Damaged> {
        for attribute in &self.attributes {
            if text_in(attribute, ATTRIBUTE_NAME)? == Some(name) {
                return Ok(Some(attribute));
            }
        }
        Ok(None)
    }

    /// The value of an attribute that is an integer; `None` if it is not given.
    pub fn integer(&self, name: &str) -> Result<Option<u64>, Damaged> {
        let Some(attribute) = self.attribute(name)? else { return Ok(None) };
        // Zero need not be written.
        find(attribute, ATTRIBUTE_INTEGER)?.map_or(Ok(Some(0)), |field| field.number().map(Some))
    }

    /// The value of an attribute that is a list of integers; `None` if it is not given.
    pub fn integers(&self, name: &str) -> Result<Option<Vec<i64>>, Damaged> {
        let Some(attribute) = self.attribute(name)? else { return Ok(None) };
        let mut integers = Vec::new();
        for field in fields(attribute) {
            let field = field?;
            if field.number == ATTRIBUTE_INTEGERS {
                integers.extend(field.numbers()?.into_iter().map(u64::cast_signed));
            }
        }
        Ok(Some(integers))
    }

    /// The value of an attribute that is a text; `None` if it is not given.
    pub fn text(&self, name: &str) -> Result<Option<&'a str>, Damaged> {
        let Some(attribute) = self.attribute(name)? else { return Ok(None) };
        text_in(attribute, ATTRIBUTE_TEXT).map(|text| Some(text.unwrap_or_default()))
    }
}

/// An attribute that is an integer.
pub fn integer(name: &str, value: u64) -> Vec<u8> {
    attribute(name, 2, ATTRIBUTE_INTEGER, &[value])
}

/// An attribute that is a list of integers.
pub fn integers(name: &str, values: &[u64]) -> Vec<u8> {
    attribute(name, 7, ATTRIBUTE_INTEGERS, values)
}

fn attribute(name: &str, kind: u64, number: u64, values: &[u64]) -> Vec<u8> {
    let mut out = Vec::new();
    put_bytes(&mut out, ATTRIBUTE_NAME, name.as_bytes());
    put_number(&mut out, ATTRIBUTE_TYPE, kind);
    values.iter().for_each(|&value| put_number(&mut out, number, value));
    out
}

/// The last field of a number, which is the one that counts.
pub fn find(message: &[u8], number: u64) -> Result<Option<Field<'_>>, Damaged> {
    let mut found = None;
    for field in fields(message) {
        let field = field?;
        if field.number == number {
            found = Some(field);
        }
    }
    Ok(found)
}

pub fn text_in(message: &[u8], number: u64) -> Result<Option<&str>, Damaged> {
    find(message, number)?.map(|field| field.text()).transpose()
}

/// The messages in the fields of a number.
pub fn messages(message: &[u8], number: u64) -> impl Iterator<Item = Result<&[u8], Damaged>> {
    fields(message).filter_map(move |field| match field {
        Ok(field) if field.number == number => Some(field.bytes()),
        Ok(_) => None,
        Err(damaged) => Some(Err(damaged)),
    })
}

/// A model's one graph.
pub fn graph(model: &[u8]) -> Result<&[u8], Damaged> {
    let mut graphs = messages(model, MODEL_GRAPH);
    let graph = graphs.next().ok_or(Damaged)??;
    graphs.next().map_or(Ok(graph), |_| Err(Damaged))
}

/// The version of ONNX's own operators that the model names.
pub fn opset(model: &[u8]) -> Result<Option<u64>, Damaged> {
    for opset in messages(model, MODEL_OPSET) {
        let opset = opset?;
        if matches!(text_in(opset, OPSET_DOMAIN)?, None | Some("" | "ai.onnx")) {
            return find(opset, OPSET_VERSION)?.map(|version| version.number()).transpose();
        }
    }
    Ok(None)
}

/// The message with each field of a number edited, and all others as they stand; `None` leaves a field as it is.
pub fn edited(
    message: &[u8],
    number: u64,
    mut edit: impl FnMut(&[u8]) -> Result<Option<Vec<u8>>, Damaged>,
) -> Result<Vec<u8>, Damaged> {
    let mut out = Vec::with_capacity(message.len());
    for field in fields(message) {
        let field = field?;
        let new = if field.number == number { edit(field.bytes()?)? } else { None };
        match new {
            Some(new) => put_bytes(&mut out, number, &new),
            None => out.extend_from_slice(field.raw),
        }
    }
    Ok(out)
}

/// What a walk through a model meets, in graphs inside of graphs too.
pub enum Met<'m> {
    Node(Node<'m>),
    /// A constant: an initializer, or in an attribute.
    Tensor(&'m [u8]),
    /// The name of a graph's output.
    Output(&'m str),
}

/// Shows all of a model.
pub fn walk<'m>(model: &'m [u8], mut meet: impl FnMut(Met<'m>)) -> Result<(), Damaged> {
    walk_graph(graph(model)?, DEEPEST, &mut meet)?;
    for function in messages(model, MODEL_FUNCTION) {
        for node in messages(function?, FUNCTION_NODE) {
            walk_node(node?, DEEPEST, &mut meet)?;
        }
    }
    Ok(())
}

fn walk_graph<'m>(graph: &'m [u8], room: usize, meet: &mut impl FnMut(Met<'m>)) -> Result<(), Damaged> {
    for field in fields(graph) {
        let field = field?;
        match field.number {
            GRAPH_NODE => walk_node(field.bytes()?, room, meet)?,
            GRAPH_INITIALIZER => meet(Met::Tensor(field.bytes()?)),
            GRAPH_OUTPUT => {
                if let Some(name) = text_in(field.bytes()?, VALUE_NAME)? {
                    meet(Met::Output(name));
                }
            }
            _ => {}
        }
    }
    Ok(())
}

fn walk_node<'m>(node: &'m [u8], room: usize, meet: &mut impl FnMut(Met<'m>)) -> Result<(), Damaged> {
    let room = room.checked_sub(1).ok_or(Damaged)?;
    let node = Node::read(node)?;
    for attribute in &node.attributes {
        for field in fields(attribute) {
            let field = field?;
            match field.number {
                ATTRIBUTE_GRAPH | ATTRIBUTE_GRAPHS => walk_graph(field.bytes()?, room, meet)?,
                ATTRIBUTE_TENSOR | ATTRIBUTE_TENSORS => meet(Met::Tensor(field.bytes()?)),
                _ => {}
            }
        }
    }
    meet(Met::Node(node));
    Ok(())
}

/// The operators of control flow, each as often as it is there.
pub fn control_flow(model: &[u8]) -> Result<Vec<String>, Damaged> {
    let mut found = Vec::new();
    walk(model, |met| {
        if let Met::Node(node) = met
            && ["If", "Loop", "Scan"].iter().any(|operator| node.is(operator))
        {
            found.push(node.operator.to_owned());
        }
    })?;
    found.sort_unstable();
    Ok(found)
}

/// A tensor whose elements lie in a file beside the model.
pub fn external(model: &[u8]) -> Result<Option<String>, Damaged> {
    let mut tensors = Vec::new();
    walk(model, |met| {
        if let Met::Tensor(tensor) = met {
            tensors.push(tensor);
        }
    })?;
    for tensor in tensors {
        if find(tensor, TENSOR_LOCATION)?.is_some_and(|field| field.number() == Ok(1)) {
            return Ok(Some(text_in(tensor, TENSOR_NAME)?.unwrap_or_default().to_owned()));
        }
    }
    Ok(None)
}
