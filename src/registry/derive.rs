//! From what the model file says and what `model.toml` corrects to what is served.

use std::collections::BTreeMap;

use smallvec::smallvec;

use super::file::{BatchAxis, ModelFile};
use super::{FieldError, constant, convert, reduce, sizes, state};
use crate::engine::{Constant, Graph, Port, PortDim};
use crate::tensor::{Conversion, Dim, Reduction, Signature, TensorSpec};

/// Rows that a batch holds where nobody has said or measured otherwise.
const DEFAULT_MAX_BATCH_SIZE: usize = 32;

/// What clients see of a model, what the model sees, and what is between them.
#[derive(Debug, Clone, PartialEq)]
pub struct Derived {
    /// What clients send and get.
    pub signature: Signature,
    /// What the model itself takes and gives.
    pub model: Signature,
    /// For each of the model's inputs.
    pub conversions: Vec<Option<Conversion>>,
    /// For each of the model's outputs.
    pub reductions: Vec<Option<Reduction>>,
    /// The inputs that clients do not see.
    pub constants: Vec<Constant>,
}

/// Joins the two; where they do not agree, the error names the field that would mend it.
pub fn derive(graph: &Graph, file: &ModelFile) -> Result<Derived, FieldError> {
    known("inputs", &file.inputs, &graph.inputs)?;
    known("outputs", &file.outputs, &graph.outputs)?;
    let graph = &sizes::fix(graph, file)?;
    let mut constants = Vec::new();
    let mut inputs = Vec::new();
    for port in &graph.inputs {
        match file.inputs.get(&port.name).and_then(|input| input.constant.as_ref()) {
            Some(value) => constants.push(constant::build(port, value)?),
            None => inputs.push(port),
        }
    }
    let batch = if file.max_batch_size == Some(0) { None } else { BatchDim::find(&inputs) };
    let spec = |section: &str, port: &Port, axis: Option<BatchAxis>| {
        let datatype = port.datatype.ok_or_else(|| {
            let field = format!("{section}.{}", port.name);
            FieldError::new(field, "its type is none of the protocol's, so the model cannot be served")
        })?;
        let dims = port.dims.iter().map(|dim| match dim {
            PortDim::Fixed(size) => Dim::Fixed(*size),
            PortDim::Symbol(_) | PortDim::Unknown => Dim::Dynamic,
        });
        let batch_axis = match axis {
            Some(BatchAxis::Axis(axis)) => Some(axis),
            Some(BatchAxis::None(_)) => None,
            None => batch.as_ref().and_then(|batch| batch.axis(port)),
        };
        Ok(TensorSpec { name: port.name.clone(), datatype, dims: dims.collect(), batch_axis })
    };
    let inputs: Vec<_> = inputs
        .into_iter()
        .map(|port| spec("inputs", port, file.input_axis(&port.name)))
        .collect::<Result<_, FieldError>>()?;
    let outputs: Vec<_> = graph
        .outputs
        .iter()
        .map(|port| spec("outputs", port, file.output_axis(&port.name)))
        .collect::<Result<_, FieldError>>()?;

    let mut model = Signature { inputs, outputs, states: Vec::new(), max_batch_size: 0 };
    match batch_problem(&model, file) {
        None => model.max_batch_size = file.max_batch_size.unwrap_or(DEFAULT_MAX_BATCH_SIZE),
        // Nobody asked for batches: the model runs each request alone.
        Some(problem) if problem.asked || !matches!(file.max_batch_size, None | Some(0)) => {
            return Err(problem.error);
        }
        Some(_) => {
            for spec in model.inputs.iter_mut().chain(&mut model.outputs) {
                spec.batch_axis = None;
            }
        }
    }
    if let Some(sequences) = &file.sequence_batching {
        state::split(&mut model, sequences)?;
    }
    let conversions = convert::conversions(&model, file)?;
    let reductions = reduce::reductions(&model, file)?;
    let signature = seen(&model, &conversions, &reductions);
    Ok(Derived { signature, model, conversions, reductions, constants })
}

/// What clients see of a model.
fn seen(
    model: &Signature,
    conversions: &[Option<Conversion>],
    reductions: &[Option<Reduction>],
) -> Signature {
    let inputs = model.inputs.iter().zip(conversions);
    let inputs = inputs.map(|(spec, conversion)| match conversion {
        None => spec.clone(),
        Some(conversion) => conversion.seen(spec),
    });
    let outputs = model.outputs.iter().zip(reductions);
    let outputs = outputs.flat_map(|(spec, reduction)| match reduction {
        None => smallvec![spec.clone()],
        Some(reduction) => reduction.seen(spec),
    });
    Signature { inputs: inputs.collect(), outputs: outputs.collect(), ..model.clone() }
}

/// The dimension that a model's author meant as the batch.
struct BatchDim<'a> {
    symbol: Option<&'a str>,
}

impl<'a> BatchDim<'a> {
    /// It is the first dimension of the first input that has a dynamic one there.
    fn find(inputs: &[&'a Port]) -> Option<Self> {
        inputs.iter().find_map(|port| match port.dims.first()? {
            PortDim::Symbol(name) => Some(Self { symbol: Some(name) }),
            PortDim::Unknown => Some(Self { symbol: None }),
            PortDim::Fixed(_) => None,
        })
    }

    /// In other tensors it is where its symbol stands; failing that, a dynamic first dimension.
    fn axis(&self, port: &Port) -> Option<usize> {
        let same = |dim: &PortDim| matches!((dim, self.symbol), (PortDim::Symbol(a), Some(b)) if a == b);
        let first = |dim: &PortDim| !matches!(dim, PortDim::Fixed(_));
        port.dims.iter().position(same).or_else(|| port.dims.first().is_some_and(first).then_some(0))
    }
}

/// Why requests cannot be joined.
struct Problem {
    error: FieldError,
    /// The configuration itself named what does not hold.
    asked: bool,
}

/// Why requests for this model cannot be joined, if they cannot.
fn batch_problem(signature: &Signature, file: &ModelFile) -> Option<Problem> {
    if file.max_batch_size == Some(0) {
        return Some(Problem { error: FieldError::new("max_batch_size", "0 was given"), asked: false });
    }
    let inputs = signature.inputs.iter().map(|spec| ("inputs", spec, file.input_axis(&spec.name)));
    let outputs = signature.outputs.iter().map(|spec| ("outputs", spec, file.output_axis(&spec.name)));
    for (section, spec, explicit) in inputs.chain(outputs) {
        let field = format!("{section}.{}.batch_axis", spec.name);
        let why = match spec.batch_axis {
            _ if explicit == Some(BatchAxis::None(true)) => {
                "true was given; name an axis, or write false if there is none".to_owned()
            }
            Some(axis) if axis >= spec.dims.len() => {
                format!("{axis} was given, the tensor has {} dimensions", spec.dims.len())
            }
            Some(axis) if spec.dims[axis] != Dim::Dynamic => {
                format!("axis {axis} has a fixed size in the model file; export the model with it dynamic")
            }
            Some(axis) if axis != 0 && spec.datatype.size().is_none() => {
                format!("{axis} was given, BYTES can only be joined along axis 0")
            }
            None if section == "inputs" => "no axis could be found; name it".to_owned(),
            None if explicit.is_none() => {
                "no axis could be found; name it, or write false if the output belongs to a whole batch"
                    .to_owned()
            }
            _ => continue,
        };
        let asked = matches!(explicit, Some(BatchAxis::Axis(_) | BatchAxis::None(true)));
        return Some(Problem { error: FieldError::new(field, why), asked });
    }
    if signature.inputs.is_empty() {
        let error = FieldError::new("max_batch_size", "a model without inputs has nothing to join");
        return Some(Problem { error, asked: false });
    }
    None
}

fn known<T>(section: &str, files: &BTreeMap<String, T>, ports: &[Port]) -> Result<(), FieldError> {
    match files.keys().find(|name| ports.iter().all(|port| port.name != **name)) {
        Some(name) => {
            let names: Vec<_> = ports.iter().map(|port| port.name.as_str()).collect();
            let why = format!("the model has no such tensor; it has {}", names.join(", "));
            Err(FieldError::new(format!("{section}.{name}"), why))
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::DataType;
    use expect_test::{Expect, expect};

    /// Ports in short: `name[2,batch,?]`.
    fn ports(text: &str) -> Vec<Port> {
        let port = |text: &str| {
            let (name, dims) = text.split_once('[').unwrap();
            let dim = |dim: &str| match dim.parse() {
                Ok(size) => PortDim::Fixed(size),
                Err(_) if dim == "?" => PortDim::Unknown,
                Err(_) => PortDim::Symbol(dim.into()),
            };
            let dims = dims.trim_end_matches(']').split(',').filter(|dim| !dim.is_empty()).map(dim).collect();
            Port { name: name.into(), datatype: Some(DataType::Fp32), dims }
        };
        text.split_whitespace().map(port).collect()
    }

    fn check(inputs: &str, outputs: &str, toml: &str, expect: Expect) {
        let graph = Graph { inputs: ports(inputs), outputs: ports(outputs) };
        let text = match derive(&graph, &toml::from_str(toml).unwrap()) {
            Err(error) => format!("{}: {}", error.field, error.why),
            Ok(Derived { signature, constants, .. }) => {
                let show = |specs: &[TensorSpec]| {
                    let one = |spec: &TensorSpec| match spec.batch_axis {
                        Some(axis) => format!("{}@{axis}", spec.name),
                        None => spec.name.clone(),
                    };
                    specs.iter().map(one).collect::<Vec<_>>().join(" ")
                };
                let Signature { inputs, outputs, max_batch_size, .. } = &signature;
                let constants: Vec<_> =
                    constants.iter().map(|c| format!(" {}={:?}", c.name, c.data)).collect();
                format!("{max_batch_size}: {} -> {}{}", show(inputs), show(outputs), constants.concat())
            }
        };
        expect.assert_eq(&text);
    }

    #[test]
    fn batch_axes_are_found_by_symbol_then_by_place() {
        check("x[batch,4]", "y[batch,4]", "", expect!["32: x@0 -> y@0"]);
        check("bytes[unk__1,8]", "label[unk__2,3]", "", expect!["32: bytes@0 -> label@0"]);
        check("x[b,s] state[2,b,128]", "y[b,1] z[2,b,128]", "", expect!["32: x@0 state@1 -> y@0 z@1"]);
        check("x[?,4]", "y[?,4]", "max_batch_size = 7", expect!["7: x@0 -> y@0"]);
    }

    #[test]
    fn models_without_a_batch_axis_run_requests_alone() {
        check("x[3,4]", "y[3,4]", "", expect!["0: x -> y"]);
        check("x[b,4]", "sum[]", "", expect!["0: x -> sum"]);
        check("x[b,4]", "y[b,4]", "max_batch_size = 0", expect!["0: x -> y"]);
        check("x[b,4] n[4]", "y[b,4]", "", expect!["0: x n -> y"]);
        check(
            "x[3,4]",
            "y[3,4]",
            "max_batch_size = 2",
            expect!["inputs.x.batch_axis: no axis could be found; name it"],
        );
    }

    #[test]
    fn streams_are_bounded() {
        for (count, expect) in [
            (0, expect!["sequence_batching.max_candidate_sequences: 0 was given, 1 to 1048576 are possible"]),
            (1 << 20, expect!["32: x@0 -> y@0"]),
        ] {
            let state = r#"[{ input_name = "s", output_name = "t" }]"#;
            let toml = format!("[sequence_batching]\nmax_candidate_sequences = {count}\nstate = {state}");
            check("x[b,4] s[b,2]", "y[b,4] t[b,2]", &toml, expect);
        }
    }

    #[test]
    fn clients_see_what_they_send_and_get() {
        check(
            "image[b,3,h,w] x[b,4]",
            "y[b,9] z[b,2]",
            "inputs.image.convert.layout = 'HWC'\noutputs.y.reduce.top_k = 5\noutputs.z.reduce.argmax = true",
            expect!["32: image@0 x@0 -> y@0 y_index@0 z@0"],
        );
    }

    #[test]
    fn configuration_corrects_the_file() {
        let silero = ("input[?,?] state[2,?,128] sr[]", "output[?,1] stateN[?,?,?]");
        let toml = "inputs.state.batch_axis = 1\noutputs.stateN.batch_axis = 1\ninputs.sr.constant = 2.5";
        check(
            silero.0,
            silero.1,
            toml,
            expect!["32: input@0 state@1 -> output@0 stateN@1 sr=[0, 0, 32, 64]"],
        );
        check("x[b,4]", "sum[]", "outputs.sum.batch_axis = false", expect!["32: x@0 -> sum"]);
        check("x[b,t]", "y[b]", "inputs.x.dims = [3, -1]", expect!["0: x -> y"]);
        check(
            "x[b,t] k[t]",
            "y[b]",
            "inputs.x.dims = [-1, 2]\ninputs.k.constant = 1",
            expect!["32: x@0 -> y@0 k=[0, 0, 128, 63, 0, 0, 128, 63]"],
        );
        check(
            "x[b]",
            "y[b]",
            "inputs.z.batch_axis = 1",
            expect![["inputs.z: the model has no such tensor; it has x"]],
        );
        check(
            "x[b]",
            "y[b]",
            "inputs.x.batch_axis = 1",
            expect![["inputs.x.batch_axis: 1 was given, the tensor has 1 dimensions"]],
        );
        check(
            "x[4,b]",
            "y[b]",
            "inputs.x.batch_axis = 0\nmax_batch_size = 2",
            expect![[
                "inputs.x.batch_axis: axis 0 has a fixed size in the model file; export the model with it dynamic"
            ]],
        );
    }
}
