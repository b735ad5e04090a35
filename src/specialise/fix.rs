//! Inputs that never change, and sizes that never change, written into the model.

use super::model::number::*;
use super::model::{edited, find, graph, text_in};
use super::wire::{Damaged, fields, put_bytes, put_number};
use super::{model, tensor};
use crate::engine::{Constant, Graph, PortDim};

/// Turns the inputs that are constants into initializers, and gives inputs and outputs the sizes that `ports` say.
pub fn fix(model: &[u8], ports: &Graph, constants: &[Constant]) -> Result<Vec<u8>, Damaged> {
    let is_constant = |name: &str| constants.iter().any(|constant| constant.name == name);
    let old = graph(model)?;
    let mut new = Vec::with_capacity(old.len());
    for field in fields(old) {
        let field = field?;
        let ports = match field.number {
            GRAPH_INPUT => &ports.inputs,
            GRAPH_OUTPUT => &ports.outputs,
            // The default of an input that is given now.
            GRAPH_INITIALIZER if text_in(field.bytes()?, TENSOR_NAME)?.is_some_and(is_constant) => {
                continue;
            }
            _ => {
                new.extend_from_slice(field.raw);
                continue;
            }
        };
        let name = text_in(field.bytes()?, VALUE_NAME)?.ok_or(Damaged)?;
        if field.number == GRAPH_INPUT && is_constant(name) {
            continue;
        }
        match ports.iter().find(|port| port.name == name) {
            Some(port) => put_bytes(&mut new, field.number, &with_sizes(field.bytes()?, &port.dims)?),
            None => new.extend_from_slice(field.raw),
        }
    }
    for Constant { name, datatype, shape, data } in constants {
        put_bytes(&mut new, GRAPH_INITIALIZER, &tensor::write(name, *datatype, shape, data)?);
    }
    model::edited(model, MODEL_GRAPH, |_| Ok(Some(std::mem::take(&mut new))))
}

/// The description of an input or output, with sizes where it had none.
fn with_sizes(value: &[u8], dims: &[PortDim]) -> Result<Vec<u8>, Damaged> {
    edited(value, VALUE_TYPE, |of_value| {
        let with_type = edited(of_value, TYPE_TENSOR, |of_tensor| {
            let with_tensor = edited(of_tensor, TENSOR_TYPE_SHAPE, |shape| {
                let mut dims = dims.iter();
                edited(shape, SHAPE_DIM, |dim| sized(dim, dims.next())).map(Some)
            });
            with_tensor.map(Some)
        });
        with_type.map(Some)
    })
}

/// A dimension with a size in place of its symbol; `None` if there is nothing to change.
fn sized(dim: &[u8], size: Option<&PortDim>) -> Result<Option<Vec<u8>>, Damaged> {
    let Some(PortDim::Fixed(size)) = size else { return Ok(None) };
    // A negative size is another word for a free one.
    if find(dim, DIM_VALUE)?.is_some_and(|field| field.number().is_ok_and(|size| size.cast_signed() >= 0)) {
        return Ok(None);
    }
    let mut out = Vec::new();
    put_number(&mut out, DIM_VALUE, *size as u64);
    for field in fields(dim) {
        let field = field?;
        if ![DIM_VALUE, DIM_SYMBOL].contains(&field.number) {
            out.extend_from_slice(field.raw);
        }
    }
    Ok(Some(out))
}
