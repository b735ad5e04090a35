//! What a model asks of shapes, answered beforehand where the answer is known.
//!
//! Exporters write conditions such as "squeeze this axis if its size is 1". ONNX Runtime decides them once a shape is
//! known in full, which it never is while the batch is free. So we answer the two questions that are asked of a part
//! of a shape: the size of one axis (`Gather` behind `Shape`), and the number of elements (`Size`).

use std::collections::{BTreeMap, BTreeSet};

use super::model::number::*;
use super::model::{self, Met, Node, messages, text_in, walk};
use super::tensor::{self, Integers};
use super::wire::{Damaged, fields, put_bytes};
use crate::engine::{Graph, PortDim};
use crate::tensor::DataType;

/// The values whose shapes the model asks for.
pub fn asked(model: &[u8]) -> Result<BTreeSet<&str>, Damaged> {
    let mut asked = BTreeSet::new();
    for node in messages(model::graph(model)?, GRAPH_NODE) {
        let node = Node::read(node?)?;
        if node.is("Shape") || node.is("Size") {
            asked.extend(node.inputs.first());
        }
    }
    Ok(asked)
}

/// The model with more outputs, so that ONNX Runtime tells their shapes.
pub fn with_outputs(model: &[u8], names: &BTreeSet<&str>) -> Result<Vec<u8>, Damaged> {
    let mut graph = model::graph(model)?.to_vec();
    let mut told = BTreeSet::new();
    for number in [GRAPH_INPUT, GRAPH_OUTPUT] {
        for value in messages(model::graph(model)?, number) {
            told.extend(text_in(value?, VALUE_NAME)?);
        }
    }
    for name in names.difference(&told) {
        let mut value = Vec::new();
        put_bytes(&mut value, VALUE_NAME, name.as_bytes());
        put_bytes(&mut graph, GRAPH_OUTPUT, &value);
    }
    model::edited(model, MODEL_GRAPH, |_| Ok(Some(std::mem::take(&mut graph))))
}

/// Puts constants in the place of questions that `known` answers; `None` if there are none.
pub fn answered(model: &[u8], known: &Graph) -> Result<Option<Vec<u8>>, Damaged> {
    let graph = model::graph(model)?;
    let nodes: Vec<_> =
        messages(graph, GRAPH_NODE).map(|node| Node::read(node?)).collect::<Result<_, _>>()?;
    let answers = Questions { graph, nodes: &nodes, known }.answers()?;
    if answers.is_empty() {
        return Ok(None);
    }
    let mut used = BTreeSet::new();
    walk(model, |met| match met {
        Met::Node(node) if !is_answered(&node, &answers) => used.extend(node.inputs),
        Met::Output(name) => drop(used.insert(name)),
        _ => {}
    })?;
    // A shape that nobody asks for any more.
    let idle = |node: &Node<'_>| node.is("Shape") && !node.outputs.iter().any(|name| used.contains(name));

    let mut new = Vec::with_capacity(graph.len());
    let mut nodes = nodes.iter();
    for field in fields(graph) {
        let field = field?;
        let node = if field.number == GRAPH_NODE { nodes.next() } else { None };
        if !node.is_some_and(|node| is_answered(node, &answers) || idle(node)) {
            new.extend_from_slice(field.raw);
        }
    }
    for (name, Integers { shape, values }) in &answers {
        let data: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        put_bytes(&mut new, GRAPH_INITIALIZER, &tensor::write(name, DataType::Int64, shape, &data)?);
    }
    model::edited(model, MODEL_GRAPH, |_| Ok(Some(std::mem::take(&mut new)))).map(Some)
}

/// Tensors of integers by the name of the value that they are.
type Answers<'m> = BTreeMap<&'m str, Integers>;

fn is_answered(node: &Node<'_>, answers: &Answers<'_>) -> bool {
    matches!(node.outputs[..], [name] if answers.contains_key(name))
}

struct Questions<'a, 'm> {
    graph: &'m [u8],
    nodes: &'a [Node<'m>],
    known: &'a Graph,
}

impl<'m> Questions<'_, 'm> {
    fn answers(&self) -> Result<Answers<'m>, Damaged> {
        let mut shapes = BTreeMap::new();
        for node in self.nodes {
            // Newer models may ask for a part.
            let whole = node.integer("start")?.unwrap_or(0) == 0 && node.integer("end")?.is_none();
            if let ([of], [shape]) = (&node.inputs[..], &node.outputs[..])
                && node.is("Shape")
                && whole
            {
                shapes.insert(*shape, *of);
            }
        }
        let mut answers = Answers::new();
        for node in self.nodes {
            let [output] = node.outputs[..] else { continue };
            let answer = match node.inputs[..] {
                [of] if node.is("Size") => {
                    self.elements(of).map(|count| Integers { shape: Vec::new(), values: vec![count] })
                }
                [shape, indices] if node.is("Gather") => match shapes.get(shape) {
                    Some(of) => self.sizes(of, indices)?,
                    None => None,
                },
                _ => None,
            };
            answers.extend(answer.map(|answer| (output, answer)));
        }
        Ok(answers)
    }

    fn elements(&self, of: &str) -> Option<i64> {
        let sizes = self.known.dims(of)?.iter().map(fixed);
        sizes
            .map(|size| size.and_then(|size| i64::try_from(size).ok()))
            .try_fold(1i64, |product, size| product.checked_mul(size?))
    }

    /// The sizes of the axes that an initializer names.
    fn sizes(&self, of: &str, indices: &str) -> Result<Option<Integers>, Damaged> {
        let Some(dims) = self.known.dims(of) else { return Ok(None) };
        for initializer in messages(self.graph, GRAPH_INITIALIZER) {
            let initializer = initializer?;
            if text_in(initializer, TENSOR_NAME)? != Some(indices) {
                continue;
            }
            let Some(Integers { shape, values: axes }) = tensor::integers(initializer)? else {
                return Ok(None);
            };
            let size = |axis: i64| {
                let back = usize::try_from(axis.unsigned_abs()).ok()?;
                let axis = if axis < 0 { dims.len().checked_sub(back)? } else { back };
                i64::try_from(fixed(dims.get(axis)?)?).ok()
            };
            let sizes: Option<Vec<_>> = axes.into_iter().map(size).collect();
            return Ok(sizes.map(|values| Integers { shape, values }));
        }
        Ok(None)
    }
}

fn fixed(dim: &PortDim) -> Option<usize> {
    match dim {
        PortDim::Fixed(size) => Some(*size),
        PortDim::Symbol(_) | PortDim::Unknown => None,
    }
}
