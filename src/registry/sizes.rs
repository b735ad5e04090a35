//! Sizes that `model.toml` fixes where the model file leaves them free.

use std::collections::BTreeMap;

use super::FieldError;
use super::file::ModelFile;
use crate::engine::{Graph, Port, PortDim};

/// The graph with the sizes of `inputs.NAME.dims`. A symbol stands for one size wherever it stands.
pub fn fix(graph: &Graph, file: &ModelFile) -> Result<Graph, FieldError> {
    let mut graph = graph.clone();
    let mut symbols = BTreeMap::new();
    for port in &mut graph.inputs {
        if let Some(sizes) = file.inputs.get(&port.name).and_then(|input| input.dims.as_deref()) {
            fix_port(port, sizes, &mut symbols)?;
        }
    }
    for dim in graph.inputs.iter_mut().chain(&mut graph.outputs).flat_map(|port| &mut port.dims) {
        if let PortDim::Symbol(symbol) = dim
            && let Some(size) = symbols.get(symbol)
        {
            *dim = PortDim::Fixed(*size);
        }
    }
    Ok(graph)
}

fn fix_port(port: &mut Port, sizes: &[i64], symbols: &mut BTreeMap<String, usize>) -> Result<(), FieldError> {
    let error = |why: String| FieldError::new(format!("inputs.{}.dims", port.name), why);
    if sizes.len() != port.dims.len() {
        let why = format!("{} were given, the tensor has {} dimensions", sizes.len(), port.dims.len());
        return Err(error(why));
    }
    for (dim, &size) in port.dims.iter_mut().zip(sizes).filter(|(_, size)| **size != -1) {
        let size = usize::try_from(size).ok().filter(|size| *size > 0).ok_or_else(|| {
            error(format!("{size} was given; write a size, or -1 for what the model file says"))
        })?;
        let other = match dim {
            PortDim::Fixed(other) => Some(*other),
            PortDim::Symbol(symbol) => symbols.insert(symbol.clone(), size),
            PortDim::Unknown => None,
        };
        if let Some(other) = other.filter(|other| *other != size) {
            return Err(error(format!("{size} was given, dimension '{dim}' has size {other}")));
        }
        *dim = PortDim::Fixed(size);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn check(toml: &str, expect: Expect) {
        let port =
            |name: &str, dims: &[PortDim]| Port { name: name.into(), datatype: None, dims: dims.into() };
        let symbol = |name: &str| PortDim::Symbol(name.into());
        let graph = Graph {
            inputs: vec![
                port("x", &[symbol("batch"), symbol("time"), PortDim::Unknown]),
                port("mask", &[symbol("batch"), symbol("time"), PortDim::Fixed(4)]),
            ],
            outputs: vec![port("y", &[symbol("time"), symbol("other")])],
        };
        let text = match fix(&graph, &toml::from_str(toml).unwrap()) {
            Err(error) => format!("{}: {}", error.field, error.why),
            Ok(Graph { inputs, outputs }) => {
                let show = |port: &Port| {
                    let dims: Vec<_> = port.dims.iter().map(ToString::to_string).collect();
                    format!("{}[{}]", port.name, dims.join(","))
                };
                inputs.iter().chain(&outputs).map(show).collect::<Vec<_>>().join(" ")
            }
        };
        expect.assert_eq(&text);
    }

    #[test]
    fn sizes_are_fixed_wherever_their_symbol_stands() {
        check("", expect!["x[batch,time,?] mask[batch,time,4] y[time,other]"]);
        check("inputs.x.dims = [-1, -1, -1]", expect!["x[batch,time,?] mask[batch,time,4] y[time,other]"]);
        check("inputs.x.dims = [-1, 9, -1]", expect!["x[batch,9,?] mask[batch,9,4] y[9,other]"]);
        check("inputs.x.dims = [-1, -1, 7]", expect!["x[batch,time,7] mask[batch,time,4] y[time,other]"]);
        check(
            "inputs.x.dims = [-1, 9, 7]\ninputs.mask.dims = [-1, 9, 4]",
            expect!["x[batch,9,7] mask[batch,9,4] y[9,other]"],
        );
    }

    #[test]
    fn sizes_that_do_not_fit_are_refused() {
        check("inputs.x.dims = [1]", expect!["inputs.x.dims: 1 were given, the tensor has 3 dimensions"]);
        check(
            "inputs.x.dims = [-1, 0, -1]",
            expect!["inputs.x.dims: 0 was given; write a size, or -1 for what the model file says"],
        );
        check(
            "inputs.x.dims = [-1, -2, -1]",
            expect!["inputs.x.dims: -2 was given; write a size, or -1 for what the model file says"],
        );
        check(
            "inputs.mask.dims = [-1, -1, 5]",
            expect!["inputs.mask.dims: 5 was given, dimension '4' has size 4"],
        );
        check(
            "inputs.x.dims = [-1, 9, 7]\ninputs.mask.dims = [-1, 8, 4]",
            expect!["inputs.mask.dims: 8 was given, dimension 'time' has size 9"],
        );
    }
}
