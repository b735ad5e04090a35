//! Short convolutions along one axis, written as matrix products over the whole batch.
//!
//! ONNX Runtime computes a convolution one sample at a time, as a matrix product in which the positions of the result
//! are one side. If those are fewer than a vector register has lanes, most lanes are empty, and a batch costs as much as
//! its rows alone. Here what each position sees is laid out as a row (im2col), so that the positions of all samples are
//! one side of one product (Chellapilla, Puri, Simard 2006). The sums are taken in another order: results differ in
//! their last bits.

use std::collections::{BTreeMap, BTreeSet};

use smallvec::SmallVec;

use super::model::number::*;
use super::model::{self, Node, messages, text_in};
use super::tensor::{self, Floats};
use super::wire::{Damaged, fields, put_bytes};
use crate::engine::{Graph, PortDim};
use crate::tensor::DataType;

/// Floats in a vector of AVX-512. With as many positions, or more, the product is no faster.
const LANES: usize = 16;

/// Since then, what `Pad` does is an input.
const OLDEST_OPSET: u64 = 11;

/// The values whose shapes decide what can be done.
pub fn asked(model: &[u8]) -> Result<BTreeSet<&str>, Damaged> {
    let mut asked = BTreeSet::new();
    for node in messages(model::graph(model)?, GRAPH_NODE) {
        let node = Node::read(node?)?;
        if node.is("Conv") {
            asked.extend(node.inputs.first());
        }
    }
    Ok(asked)
}

/// The model with products in place of its short convolutions; `None` if it has none.
pub fn lowered(model: &[u8], known: &Graph) -> Result<Option<Vec<u8>>, Damaged> {
    if model::opset(model)?.is_none_or(|version| version < OLDEST_OPSET) {
        return Ok(None);
    }
    let graph = model::graph(model)?;
    let mut constants = BTreeMap::new();
    for initializer in messages(graph, GRAPH_INITIALIZER) {
        let initializer = initializer?;
        constants.extend(text_in(initializer, TENSOR_NAME)?.map(|name| (name, initializer)));
    }
    let mut new = Vec::with_capacity(graph.len());
    let mut found = false;
    for field in fields(graph) {
        let field = field?;
        let convolution = match field.number {
            GRAPH_NODE => Convolution::read(&Node::read(field.bytes()?)?, known, &constants)?,
            _ => None,
        };
        match convolution {
            Some(convolution) => {
                convolution.write(&mut new)?;
                found = true;
            }
            None => new.extend_from_slice(field.raw),
        }
    }
    if !found {
        return Ok(None);
    }
    // Constants that nothing uses any more are left to ONNX Runtime.
    model::edited(model, MODEL_GRAPH, |_| Ok(Some(std::mem::take(&mut new)))).map(Some)
}

/// One that is worth it: of `length` values in `channels`, `kernel` at a time.
struct Convolution<'m> {
    input: &'m str,
    /// Kernels by channels by outputs.
    weights: Vec<f32>,
    bias: Option<&'m str>,
    output: &'m str,
    channels: usize,
    outputs: usize,
    kernel: usize,
    stride: usize,
    padding: [usize; 2],
    length: usize,
    positions: usize,
}

impl<'m> Convolution<'m> {
    fn read(
        node: &Node<'m>,
        known: &Graph,
        constants: &BTreeMap<&str, &[u8]>,
    ) -> Result<Option<Self>, Damaged> {
        let (input, weights, bias) = match node.inputs[..] {
            [input, weights] => (input, weights, None),
            [input, weights, bias] => (input, weights, Some(bias).filter(|bias| !bias.is_empty())),
            _ => return Ok(None),
        };
        let ([output], true) = (&node.outputs[..], node.is("Conv")) else { return Ok(None) };
        let Some(Kernel { stride, padding }) = Kernel::read(node)? else { return Ok(None) };
        let Some(&[_, PortDim::Fixed(channels), PortDim::Fixed(length)]) = known.dims(input) else {
            return Ok(None);
        };
        let Some(weights) = constants.get(weights) else { return Ok(None) };
        let Some(Floats { shape, values: weights }) = tensor::floats(weights)? else { return Ok(None) };
        let &[outputs, of_channels, kernel] = &shape[..] else { return Ok(None) };
        let padded = length + padding.iter().sum::<usize>();
        let positions = match padded.checked_sub(kernel) {
            Some(steps) if of_channels == channels && kernel > 0 => steps / stride + 1,
            _ => return Ok(None),
        };
        if positions >= LANES {
            return Ok(None);
        }
        // Outputs by channels by kernel, as a convolution has them.
        let weight = |row: usize, output: usize| {
            weights.get((output * channels + row % channels) * kernel + row / channels).copied()
        };
        let rows = (0..kernel * channels).flat_map(|row| (0..outputs).map(move |output| weight(row, output)));
        let weights = rows.collect::<Option<_>>().ok_or(Damaged)?;
        Ok(Some(Self {
            input,
            weights,
            bias,
            output,
            channels,
            outputs,
            kernel,
            stride,
            padding,
            length,
            positions,
        }))
    }

    fn write(&self, graph: &mut Vec<u8>) -> Result<(), Damaged> {
        let &Self { channels, outputs, kernel, stride, padding: [before, after], positions, .. } = self;
        let swapped = model::integers("perm", &[0, 2, 1]);
        let mut chain = Chain { graph, name: self.output, value: self.input.to_owned(), named: 0 };
        // Each value with its channels beside it.
        chain.add("Transpose", &[], Some(&swapped));
        if before + after > 0 {
            let padding = chain.integers(&[0, before, 0, 0, after, 0])?;
            chain.add("Pad", &[&padding], None);
        }
        let padded = before + self.length + after;
        // What kernel and stride have in common is copied as one block.
        let block = Some(common(kernel, stride)).filter(|block| padded.is_multiple_of(*block)).unwrap_or(1);
        if block > 1 {
            let blocks = chain.integers(&[SAME, padded / block, block * channels])?;
            chain.add("Reshape", &[&blocks], None);
        }
        let seen =
            (0..positions).flat_map(|at| (0..kernel / block).map(move |of| at * (stride / block) + of));
        let seen: Vec<_> = seen.collect();
        if !seen.iter().copied().eq(0..padded / block) {
            let seen = chain.integers(&seen)?;
            chain.add("Gather", &[&seen], Some(&model::integer("axis", 1)));
        }
        let rows = chain.integers(&[REST, kernel * channels])?;
        chain.add("Reshape", &[&rows], None);
        let weights = bytemuck::cast_slice(&self.weights);
        let weights = chain.constant(DataType::Fp32, &[kernel * channels, outputs], weights)?;
        let factors: SmallVec<[&str; 2]> = std::iter::once(&*weights).chain(self.bias).collect();
        chain.add("Gemm", &factors, None);
        let samples = chain.integers(&[REST, positions, outputs])?;
        chain.add("Reshape", &[&samples], None);
        chain.end("Transpose", Some(&swapped));
        Ok(())
    }
}

/// In a new shape: a size that stays as it was.
const SAME: usize = 0;

/// In a new shape: a size that the others leave.
const REST: usize = usize::MAX;

/// How a kernel moves along its axis.
struct Kernel {
    stride: usize,
    padding: [usize; 2],
}

impl Kernel {
    /// `None` for more than one axis, groups, gaps, and padding that is to be computed.
    fn read(node: &Node<'_>) -> Result<Option<Self>, Damaged> {
        let ones = |numbers: Option<Vec<i64>>| numbers.is_none_or(|numbers| numbers == [1]);
        let plain = node.integer("group")?.unwrap_or(1) == 1
            && ones(node.integers("dilations")?)
            && node.text("auto_pad")?.is_none_or(|how| how == "NOTSET");
        let stride = match node.integers("strides")?.as_deref() {
            None => Some(1),
            Some([stride]) => usize::try_from(*stride).ok().filter(|stride| *stride > 0),
            Some(_) => None,
        };
        let padding = match node.integers("pads")?.as_deref() {
            None => Some([0, 0]),
            Some(&[before, after]) => size(before).zip(size(after)).map(<[usize; 2]>::from),
            Some(_) => None,
        };
        Ok(stride.zip(padding).filter(|_| plain).map(|(stride, padding)| Self { stride, padding }))
    }
}

/// A padding of a size that is sensible.
fn size(padding: i64) -> Option<usize> {
    u16::try_from(padding).ok().map(usize::from)
}

/// The greatest common divisor.
fn common(mut a: usize, mut b: usize) -> usize {
    while b > 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// Nodes one behind the other, with names of their own.
struct Chain<'a> {
    graph: &'a mut Vec<u8>,
    name: &'a str,
    /// What the last one gives.
    value: String,
    named: usize,
}

impl Chain<'_> {
    fn new_name(&mut self) -> String {
        self.named += 1;
        format!("{}/gemm/{}", self.name, self.named)
    }

    fn constant(&mut self, datatype: DataType, shape: &[usize], data: &[u8]) -> Result<String, Damaged> {
        let name = self.new_name();
        put_bytes(self.graph, GRAPH_INITIALIZER, &tensor::write(&name, datatype, shape, data)?);
        Ok(name)
    }

    fn integers(&mut self, values: &[usize]) -> Result<String, Damaged> {
        // Only `REST` is beyond its range.
        let number = |value: usize| i64::try_from(value).unwrap_or(-1);
        let data: Vec<u8> = values.iter().flat_map(|&value| number(value).to_le_bytes()).collect();
        self.constant(DataType::Int64, &[values.len()], &data)
    }

    /// Adds a node that takes the value so far and some constants.
    fn add(&mut self, operator: &str, constants: &[&str], attribute: Option<&[u8]>) {
        let output = self.new_name();
        self.write(operator, constants, attribute, &output);
        self.value = output;
    }

    /// Adds the node whose output has the name that the others know.
    fn end(mut self, operator: &str, attribute: Option<&[u8]>) {
        self.write(operator, &[], attribute, self.name);
    }

    fn write(&mut self, operator: &str, constants: &[&str], attribute: Option<&[u8]>, output: &str) {
        let mut node = Vec::new();
        for input in std::iter::once(&&*self.value).chain(constants) {
            put_bytes(&mut node, NODE_INPUT, input.as_bytes());
        }
        put_bytes(&mut node, NODE_OUTPUT, output.as_bytes());
        put_bytes(&mut node, NODE_OPERATOR, operator.as_bytes());
        if let Some(attribute) = attribute {
            put_bytes(&mut node, NODE_ATTRIBUTE, attribute);
        }
        put_bytes(self.graph, GRAPH_NODE, &node);
    }
}
