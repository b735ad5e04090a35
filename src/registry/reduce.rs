//! `[outputs.NAME.reduce]`: what clients get in place of what the model gives.

use serde::Deserialize;

use super::FieldError;
use super::file::{ModelFile, OutputFile};
use crate::tensor::{DataType, Dim, Reduction, Signature, TensorSpec};

/// One of these; only `top_k` and `softmax` go together.
#[derive(Debug, Default, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ReduceFile {
    pub softmax: bool,
    pub top_k: Option<usize>,
    pub argmax: bool,
    pub l2_norm: bool,
    pub threshold: Option<f32>,
}

/// For each output of the model what becomes of it.
pub fn reductions(model: &Signature, file: &ModelFile) -> Result<Vec<Option<Reduction>>, FieldError> {
    for (name, _) in file.outputs.iter().filter(|(_, output)| output.reduce.is_some()) {
        if model.outputs.iter().all(|spec| spec.name != *name) {
            let why = "the output is state, which clients do not see";
            return Err(FieldError::new(format!("outputs.{name}.reduce"), why));
        }
    }
    let reduction = |spec: &TensorSpec| {
        let reduce = file.outputs.get(&spec.name).and_then(|output| output.reduce.as_ref());
        reduce.map(|reduce| reduce.check(spec, model)).transpose()
    };
    let reductions: Vec<_> = model.outputs.iter().map(reduction).collect::<Result<_, FieldError>>()?;
    let (section, tensor, softmax) = match &file.output {
        None => return Ok(reductions),
        Some(OutputFile::Events(events)) => ("events", events.tensor.as_deref(), false),
        Some(OutputFile::Classes(classes)) => ("classes", classes.tensor.as_deref(), classes.softmax),
    };
    if told(section, tensor, model, &reductions)? && softmax {
        let why = "the output is reduced to probabilities already";
        return Err(FieldError::new("output.classes.softmax", why));
    }
    Ok(reductions)
}

/// Whether what `[output]` tells of are probabilities. It needs each score in its place, where softmax leaves it.
fn told(
    section: &str,
    tensor: Option<&str>,
    model: &Signature,
    reductions: &[Option<Reduction>],
) -> Result<bool, FieldError> {
    let told = |name: &str| tensor.is_none_or(|tensor| tensor == name);
    let mut reduced = model.outputs.iter().zip(reductions).filter(|(spec, _)| told(&spec.name));
    match reduced.find_map(|(spec, reduction)| Some((spec, (*reduction)?))) {
        None => Ok(false),
        Some((_, Reduction::Softmax)) => Ok(true),
        Some((spec, _)) => {
            let why = format!(
                "output '{}' is reduced, and [output] needs all of its values; `softmax` alone leaves them",
                spec.name
            );
            Err(FieldError::new(format!("output.{section}.tensor"), why))
        }
    }
}

impl ReduceFile {
    fn check(&self, spec: &TensorSpec, model: &Signature) -> Result<Reduction, FieldError> {
        let field = format!("outputs.{}.reduce", spec.name);
        let error = |why: String| FieldError::new(&field, why);
        if !matches!(spec.datatype, DataType::Fp32 | DataType::Fp16 | DataType::Bf16) {
            let why = format!("the model gives {}; FP32, FP16 and BF16 can be reduced", spec.datatype);
            return Err(error(why));
        }
        let last = spec.dims.len().checked_sub(1);
        let Some(axis) = last.filter(|last| spec.batch_axis != Some(*last)) else {
            let why = format!(
                "the model gives {:?}; a last axis beside the batch is needed, whose values are reduced",
                spec.wire_shape()
            );
            return Err(error(why));
        };
        let width = match spec.dims.get(axis) {
            Some(Dim::Fixed(0)) => return Err(error("the output's last axis has size 0".into())),
            Some(Dim::Fixed(width)) => *width,
            _ => usize::MAX,
        };
        let reduction = self.choose().map_err(error)?;
        match reduction {
            Reduction::TopK { k, .. } if !(1..=width).contains(&k) => {
                let why = match width {
                    usize::MAX => format!("{k} was given, at least 1 is needed"),
                    width => format!("{k} was given, the output's rows have 1 to {width} values"),
                };
                Err(FieldError::new(format!("{field}.top_k"), why))
            }
            Reduction::TopK { .. } if model.output_index(&Reduction::index_name(&spec.name)).is_some() => {
                let name = Reduction::index_name(&spec.name);
                let why = format!("the indices would be '{name}', and the model has such an output");
                Err(FieldError::new(format!("{field}.top_k"), why))
            }
            Reduction::Threshold(at) if !at.is_finite() => {
                let why = format!("{at} was given, a finite number is needed");
                Err(FieldError::new(format!("{field}.threshold"), why))
            }
            reduction => Ok(reduction),
        }
    }

    /// The one that is given. Why not is a sentence.
    fn choose(&self) -> Result<Reduction, String> {
        let softmax = self.softmax && self.top_k.is_none();
        let given = [
            ("softmax", softmax.then_some(Reduction::Softmax)),
            ("top_k", self.top_k.map(|k| Reduction::TopK { k, softmax: self.softmax })),
            ("argmax", self.argmax.then_some(Reduction::Argmax)),
            ("l2_norm", self.l2_norm.then_some(Reduction::L2Norm)),
            ("threshold", self.threshold.map(Reduction::Threshold)),
        ];
        let given: Vec<_> = given.into_iter().filter_map(|(name, given)| Some((name, given?))).collect();
        match given[..] {
            [(_, reduction)] => Ok(reduction),
            [] => Err("nothing was given; softmax, top_k, argmax, l2_norm or threshold is needed".into()),
            _ => {
                let names: Vec<_> = given.iter().map(|(name, _)| *name).collect();
                Err(format!("{} were given; one is possible, or top_k with softmax", names.join(" and ")))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn check(toml: &str, expect: Expect) {
        let spec = |name: &str, datatype, dims: &[i64]| TensorSpec {
            name: name.into(),
            datatype,
            dims: dims.iter().map(|&size| usize::try_from(size).map_or(Dim::Dynamic, Dim::Fixed)).collect(),
            batch_axis: Some(0),
        };
        let outputs = vec![
            spec("y", DataType::Fp16, &[-1, 2, 5]),
            spec("free", DataType::Fp32, &[-1, -1]),
            spec("flat", DataType::Fp32, &[-1]),
            spec("ids", DataType::Int64, &[-1, 4]),
            spec("none", DataType::Fp32, &[-1, 0]),
            spec("free_index", DataType::Fp32, &[-1, 1]),
        ];
        let model = Signature { inputs: vec![], outputs, states: vec![], max_batch_size: 1 };
        let text = match reductions(&model, &toml::from_str(toml).unwrap()) {
            Err(error) => format!("{}: {}", error.field, error.why),
            Ok(reductions) => {
                let show = |(reduction, spec): (&Option<Reduction>, &TensorSpec)| {
                    let seen = (*reduction)?.seen(spec);
                    let one = |seen: &TensorSpec| {
                        format!("{} {} {:?}", seen.name, seen.datatype, seen.wire_shape())
                    };
                    Some(seen.iter().map(one).collect::<Vec<_>>().join(", "))
                };
                reductions.iter().zip(&model.outputs).filter_map(show).collect::<Vec<_>>().join("\n")
            }
        };
        expect.assert_eq(&text);
    }

    #[test]
    fn rows_become_what_clients_want() {
        check("outputs.y.reduce.softmax = true", expect!["y FP32 [-1, 2, 5]"]);
        check("outputs.y.reduce.l2_norm = true", expect!["y FP32 [-1, 2, 5]"]);
        check("outputs.y.reduce.argmax = true", expect!["y INT32 [-1, 2]"]);
        check("outputs.y.reduce.threshold = 0.5", expect!["y BOOL [-1, 2, 5]"]);
        check("outputs.y.reduce.top_k = 3", expect!["y FP32 [-1, 2, 3], y_index INT32 [-1, 2, 3]"]);
        check(
            "outputs.y.reduce = { top_k = 5, softmax = true, argmax = false }",
            expect!["y FP32 [-1, 2, 5], y_index INT32 [-1, 2, 5]"],
        );
        check("outputs.free.reduce.softmax = true", expect!["free FP32 [-1, -1]"]);
        check("", expect![[""]]);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        check(
            "outputs.y.reduce = {}",
            expect![
                "outputs.y.reduce: nothing was given; softmax, top_k, argmax, l2_norm or threshold is needed"
            ],
        );
        check(
            "outputs.y.reduce = { argmax = true, softmax = true }",
            expect![
                "outputs.y.reduce: softmax and argmax were given; one is possible, or top_k with softmax"
            ],
        );
        check(
            "outputs.y.reduce.top_k = 6",
            expect!["outputs.y.reduce.top_k: 6 was given, the output's rows have 1 to 5 values"],
        );
        check(
            "outputs.free.reduce.top_k = 0",
            expect!["outputs.free.reduce.top_k: 0 was given, at least 1 is needed"],
        );
        check(
            "outputs.free.reduce.top_k = 1",
            expect![
                "outputs.free.reduce.top_k: the indices would be 'free_index', and the model has such an output"
            ],
        );
        check(
            "outputs.y.reduce.threshold = inf",
            expect!["outputs.y.reduce.threshold: inf was given, a finite number is needed"],
        );
        check(
            "outputs.flat.reduce.argmax = true",
            expect![
                "outputs.flat.reduce: the model gives [-1]; a last axis beside the batch is needed, whose values are reduced"
            ],
        );
        check(
            "outputs.ids.reduce.argmax = true",
            expect!["outputs.ids.reduce: the model gives INT64; FP32, FP16 and BF16 can be reduced"],
        );
        check(
            "outputs.none.reduce.argmax = true",
            expect!["outputs.none.reduce: the output's last axis has size 0"],
        );
        check(
            "outputs.state.reduce.argmax = true",
            expect!["outputs.state.reduce: the output is state, which clients do not see"],
        );
    }

    #[test]
    fn what_is_told_of_stays_in_its_place() {
        let classes = |reduce: &str, classes: &str| {
            format!("outputs.y.reduce.{reduce} = true\n[output.classes]\nlabels = 'l.json'\n{classes}")
        };
        check(&classes("softmax", "tensor = 'y'"), expect!["y FP32 [-1, 2, 5]"]);
        check(
            &classes("softmax", "tensor = 'y'\nsoftmax = true"),
            expect!["output.classes.softmax: the output is reduced to probabilities already"],
        );
        check(
            &classes("l2_norm", "tensor = 'y'"),
            expect![
                "output.classes.tensor: output 'y' is reduced, and [output] needs all of its values; `softmax` alone leaves them"
            ],
        );
        check(
            &classes("l2_norm", ""),
            expect![
                "output.classes.tensor: output 'y' is reduced, and [output] needs all of its values; `softmax` alone leaves them"
            ],
        );
        check(&classes("l2_norm", "tensor = 'free'\nsoftmax = true"), expect!["y FP32 [-1, 2, 5]"]);
        let events = "[output.events]\nname = 'n'\nthreshold = 0.5\nmin_silence_ms = 1\ntensor = 'y'";
        check(
            &format!("outputs.y.reduce.argmax = true\n{events}"),
            expect![
                "output.events.tensor: output 'y' is reduced, and [output] needs all of its values; `softmax` alone leaves them"
            ],
        );
        check(&format!("outputs.y.reduce.softmax = true\n{events}"), expect!["y FP32 [-1, 2, 5]"]);
    }
}
