//! `[inputs.NAME.convert]`: what clients send in place of what the model takes.

use serde::Deserialize;

use super::FieldError;
use super::file::ModelFile;
use crate::tensor::{Conversion, DataType, Dim, Narrow, Signature, TensorSpec};

/// Numbers with a scale and an offset, or with a layout images with a mean and a deviation for each channel.
#[derive(Debug, Default, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConvertFile {
    pub datatype: Option<Narrow>,
    pub scale: Option<f32>,
    pub offset: Option<f32>,
    pub layout: Option<Layout>,
    pub mean: Option<Vec<f32>>,
    pub deviation: Option<Vec<f32>>,
}

/// How the pixels of an image stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum Layout {
    /// Row by row, all channels of a pixel together.
    #[serde(rename = "HWC")]
    Hwc,
}

/// For each input of the model how it is made of what clients send.
pub fn conversions(model: &Signature, file: &ModelFile) -> Result<Vec<Option<Conversion>>, FieldError> {
    for (name, input) in file.inputs.iter().filter(|(_, input)| input.convert.is_some()) {
        let why = if file.stream.is_some() {
            "[stream] makes the model's input of messages; a model has one or the other"
        } else if input.constant.is_some() || model.inputs.iter().all(|spec| spec.name != *name) {
            "the input is constant or state, and clients send neither"
        } else {
            continue;
        };
        return Err(FieldError::new(format!("inputs.{name}.convert"), why));
    }
    let conversion = |spec: &TensorSpec| {
        let convert = file.inputs.get(&spec.name).and_then(|input| input.convert.as_ref());
        convert.map(|convert| convert.check(spec)).transpose()
    };
    model.inputs.iter().map(conversion).collect()
}

impl ConvertFile {
    fn check(&self, spec: &TensorSpec) -> Result<Conversion, FieldError> {
        if spec.datatype != DataType::Fp32 {
            let why = format!("the model takes {}, only FP32 is made of other datatypes", spec.datatype);
            return Err(FieldError::new(format!("inputs.{}.convert", spec.name), why));
        }
        match self.layout {
            None => self.numbers(&spec.name),
            Some(Layout::Hwc) => self.image(spec),
        }
    }

    fn numbers(&self, name: &str) -> Result<Conversion, FieldError> {
        let error = |key: &str, why: String| FieldError::new(format!("inputs.{name}.convert.{key}"), why);
        for (key, given) in [("mean", &self.mean), ("deviation", &self.deviation)] {
            if given.is_some() {
                return Err(error(key, "it is for images, which need layout = \"HWC\"".into()));
            }
        }
        let from = self.datatype.ok_or_else(|| {
            error("datatype", "none was given; UINT8, INT16, FP16 and BF16 are possible".into())
        })?;
        let (scale, offset) = (self.scale.unwrap_or(1.0), self.offset.unwrap_or(0.0));
        // A GPU divides samples by 32768 before it scales them by as much more.
        if scale == 0.0 || !(scale * 32_768.0).is_finite() {
            return Err(error(
                "scale",
                format!("{scale:?} was given, a number other than 0 below 1e34 is needed"),
            ));
        }
        if !offset.is_finite() {
            return Err(error("offset", format!("{offset} was given, a finite number is needed")));
        }
        Ok(Conversion::Scale { from, scale, offset })
    }

    fn image(&self, spec: &TensorSpec) -> Result<Conversion, FieldError> {
        let error =
            |key: &str, why: String| FieldError::new(format!("inputs.{}.convert.{key}", spec.name), why);
        if let Some(other) = self.datatype.filter(|datatype| *datatype != Narrow::Uint8) {
            let why = format!("{} was given, the pixels of an image are UINT8", other.datatype());
            return Err(error("datatype", why));
        }
        for (key, given) in [("scale", self.scale), ("offset", self.offset)] {
            if given.is_some() {
                return Err(error(key, "an image has a mean and a deviation instead".into()));
            }
        }
        let channels = match (spec.batch_axis, &spec.dims[..]) {
            (Some(0), [_, Dim::Fixed(channels), _, _]) => *channels,
            (None, [Dim::Fixed(1), Dim::Fixed(channels), _, _]) => *channels,
            _ => {
                let why = format!(
                    "it makes [batch, channels, height, width] with fixed channels, the input is {:?}",
                    spec.wire_shape()
                );
                return Err(error("layout", why));
            }
        };
        let each = |key: &str, given: &Option<Vec<f32>>, default: f32| {
            let given = given.clone().unwrap_or_else(|| vec![default; channels]);
            match given.len() == channels && given.iter().all(|value| value.is_finite()) {
                true => Ok(given),
                false => {
                    let why =
                        format!("{given:?} was given, a number for each of {channels} channels is needed");
                    Err(error(key, why))
                }
            }
        };
        let (mean, deviation) = (each("mean", &self.mean, 0.0)?, each("deviation", &self.deviation, 1.0)?);
        if deviation.contains(&0.0) {
            return Err(error("deviation", format!("{deviation:?} was given, what is divided by is not 0")));
        }
        Ok(Conversion::Planes { mean, deviation })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn check(datatype: DataType, batch_axis: Option<usize>, toml: &str, expect: Expect) {
        let size = |size: &i64| usize::try_from(*size).map_or(Dim::Dynamic, Dim::Fixed);
        let first = if batch_axis.is_some() { -1 } else { 1 };
        let spec = |name: &str, dims: &[i64]| TensorSpec {
            name: name.into(),
            datatype,
            dims: dims.iter().map(size).collect(),
            batch_axis,
        };
        let inputs = vec![spec("x", &[first, 3, -1, 8]), spec("flat", &[first, 4])];
        let model = Signature { inputs, outputs: vec![], states: vec![], max_batch_size: 1 };
        let text = match conversions(&model, &toml::from_str(toml).unwrap()) {
            Err(error) => format!("{}: {}", error.field, error.why),
            Ok(conversions) => {
                let show = |(conversion, spec): (&Option<Conversion>, &TensorSpec)| {
                    let conversion = conversion.as_ref()?;
                    let seen = conversion.seen(spec);
                    Some(format!("{} {:?}: {conversion:?}", seen.datatype, seen.wire_shape()))
                };
                conversions.iter().zip(&model.inputs).filter_map(show).collect::<Vec<_>>().join("\n")
            }
        };
        expect.assert_eq(&text);
    }

    fn of_fp32(convert: &str, expect: Expect) {
        check(DataType::Fp32, Some(0), &format!("[inputs.x.convert]\n{convert}"), expect);
    }

    #[test]
    fn numbers_have_a_datatype_a_scale_and_an_offset() {
        of_fp32(
            "datatype = 'UINT8'",
            expect!["UINT8 [-1, 3, -1, 8]: Scale { from: Uint8, scale: 1.0, offset: 0.0 }"],
        );
        of_fp32(
            "datatype = 'BF16'\nscale = 2\noffset = -1.5",
            expect!["BF16 [-1, 3, -1, 8]: Scale { from: Bf16, scale: 2.0, offset: -1.5 }"],
        );
        check(
            DataType::Fp32,
            None,
            "inputs.flat.convert.datatype = 'INT16'",
            expect!["INT16 [1, 4]: Scale { from: Int16, scale: 1.0, offset: 0.0 }"],
        );
    }

    #[test]
    fn images_have_a_mean_and_a_deviation() {
        of_fp32(
            "layout = 'HWC'",
            expect!["UINT8 [-1, -1, 8, 3]: Planes { mean: [0.0, 0.0, 0.0], deviation: [1.0, 1.0, 1.0] }"],
        );
        of_fp32(
            "layout = 'HWC'\nmean = [0.1, 0.2, 0.3]\ndeviation = [1, 2, 3]\ndatatype = 'UINT8'",
            expect!["UINT8 [-1, -1, 8, 3]: Planes { mean: [0.1, 0.2, 0.3], deviation: [1.0, 2.0, 3.0] }"],
        );
        check(
            DataType::Fp32,
            None,
            "inputs.x.convert.layout = 'HWC'",
            expect!["UINT8 [1, -1, 8, 3]: Planes { mean: [0.0, 0.0, 0.0], deviation: [1.0, 1.0, 1.0] }"],
        );
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        of_fp32(
            "",
            expect!["inputs.x.convert.datatype: none was given; UINT8, INT16, FP16 and BF16 are possible"],
        );
        of_fp32(
            "datatype = 'UINT8'\nscale = 0",
            expect!["inputs.x.convert.scale: 0.0 was given, a number other than 0 below 1e34 is needed"],
        );
        of_fp32(
            "datatype = 'UINT8'\nscale = 1e35",
            expect!["inputs.x.convert.scale: 1e35 was given, a number other than 0 below 1e34 is needed"],
        );
        of_fp32(
            "datatype = 'UINT8'\noffset = nan",
            expect!["inputs.x.convert.offset: NaN was given, a finite number is needed"],
        );
        of_fp32(
            "datatype = 'UINT8'\nmean = [1]",
            expect![[r#"inputs.x.convert.mean: it is for images, which need layout = "HWC""#]],
        );
        of_fp32(
            "layout = 'HWC'\ndatatype = 'FP16'",
            expect!["inputs.x.convert.datatype: FP16 was given, the pixels of an image are UINT8"],
        );
        of_fp32(
            "layout = 'HWC'\noffset = 1",
            expect!["inputs.x.convert.offset: an image has a mean and a deviation instead"],
        );
        of_fp32(
            "layout = 'HWC'\nmean = [1, 2]",
            expect!["inputs.x.convert.mean: [1.0, 2.0] was given, a number for each of 3 channels is needed"],
        );
        of_fp32(
            "layout = 'HWC'\ndeviation = [1, 2, 0]",
            expect!["inputs.x.convert.deviation: [1.0, 2.0, 0.0] was given, what is divided by is not 0"],
        );
        check(
            DataType::Fp32,
            Some(0),
            "inputs.flat.convert.layout = 'HWC'",
            expect![
                "inputs.flat.convert.layout: it makes [batch, channels, height, width] with fixed channels, the input is [-1, 4]"
            ],
        );
        check(
            DataType::Fp32,
            Some(1),
            "inputs.x.convert.layout = 'HWC'",
            expect![
                "inputs.x.convert.layout: it makes [batch, channels, height, width] with fixed channels, the input is [-1, 3, -1, 8]"
            ],
        );
        check(
            DataType::Int64,
            Some(0),
            "inputs.x.convert.datatype = 'UINT8'",
            expect!["inputs.x.convert: the model takes INT64, only FP32 is made of other datatypes"],
        );
    }

    #[test]
    fn what_clients_do_not_send_is_not_converted() {
        let check = |toml: &str, expect: Expect| check(DataType::Fp32, Some(0), toml, expect);
        check(
            "inputs.x = { constant = 1, convert = { datatype = 'UINT8' } }",
            expect!["inputs.x.convert: the input is constant or state, and clients send neither"],
        );
        check(
            "inputs.state.convert.datatype = 'UINT8'",
            expect!["inputs.state.convert: the input is constant or state, and clients send neither"],
        );
        check(
            "inputs.x.convert.datatype = 'UINT8'\nstream.bytes = { head = 1, tail = 1, pad = 0 }",
            expect![
                "inputs.x.convert: [stream] makes the model's input of messages; a model has one or the other"
            ],
        );
    }
}
