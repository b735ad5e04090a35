//! The value of an input that clients do not give, as a tensor.

use super::FieldError;
use crate::engine::{Constant, Port, PortDim};
use crate::tensor::{DataType, Shape, element_count};

/// A scalar fills the input's shape; a list (flat or nested) gives each element.
pub fn build(port: &Port, value: &toml::Value) -> Result<Constant, FieldError> {
    let error = |why: String| FieldError::new(format!("inputs.{}.constant", port.name), why);
    let datatype = port.datatype.ok_or_else(|| error("the input's type is none of the protocol's".into()))?;
    let mut data = Vec::new();
    let mut count = 0;
    flatten(value, &mut |element| {
        count += 1;
        push(datatype, element, &mut data)
            .ok_or_else(|| error(format!("{element} was given, the input takes {datatype}")))
    })?;

    let dynamic = port.dims.iter().filter(|dim| !matches!(dim, PortDim::Fixed(_))).count();
    let fixed: usize =
        port.dims.iter().map(|dim| if let PortDim::Fixed(size) = dim { *size } else { 1 }).product();
    // One dynamic dimension takes what the list leaves to it; more than one could be cut anyhow.
    let free = match dynamic {
        0 => 1,
        1 if fixed > 0 && count % fixed == 0 => count / fixed,
        _ => {
            return Err(error(
                "the input's shape is dynamic, so the shape of this value is not known".into(),
            ));
        }
    };
    let shape: Shape =
        port.dims.iter().map(|dim| if let PortDim::Fixed(size) = dim { *size } else { free }).collect();
    let wanted = element_count(&shape).unwrap_or(usize::MAX);
    if !value.is_array() {
        data = data.repeat(wanted);
    } else if count != wanted {
        return Err(error(format!("{count} elements were given, the input takes {wanted}")));
    }
    Ok(Constant { name: port.name.clone(), datatype, shape, data })
}

fn flatten(
    value: &toml::Value,
    each: &mut impl FnMut(&toml::Value) -> Result<(), FieldError>,
) -> Result<(), FieldError> {
    match value {
        toml::Value::Array(values) => values.iter().try_for_each(|value| flatten(value, each)),
        value => each(value),
    }
}

/// Appends the element's bytes, if the datatype can hold it.
fn push(datatype: DataType, value: &toml::Value, out: &mut Vec<u8>) -> Option<()> {
    #[allow(
        clippy::cast_precision_loss,
        reason = "a float of the configuration may be written as an integer"
    )]
    let float = value.as_float().or(value.as_integer().map(|integer| integer as f64));
    macro_rules! integer {
        ($type:ty) => {
            out.extend_from_slice(&<$type>::try_from(value.as_integer()?).ok()?.to_le_bytes())
        };
    }
    #[allow(clippy::cast_possible_truncation, reason = "rounding to the input's precision is what is meant")]
    match datatype {
        DataType::Bool => out.push(u8::from(value.as_bool()?)),
        DataType::Uint8 => integer!(u8),
        DataType::Uint16 => integer!(u16),
        DataType::Uint32 => integer!(u32),
        DataType::Uint64 => integer!(u64),
        DataType::Int8 => integer!(i8),
        DataType::Int16 => integer!(i16),
        DataType::Int32 => integer!(i32),
        DataType::Int64 => integer!(i64),
        DataType::Fp16 => out.extend_from_slice(&half::f16::from_f64(float?).to_le_bytes()),
        DataType::Bf16 => out.extend_from_slice(&half::bf16::from_f64(float?).to_le_bytes()),
        DataType::Fp32 => out.extend_from_slice(&(float? as f32).to_le_bytes()),
        DataType::Fp64 => out.extend_from_slice(&float?.to_le_bytes()),
        DataType::Bytes => {
            let text = value.as_str()?;
            out.extend_from_slice(&u32::try_from(text.len()).ok()?.to_le_bytes());
            out.extend_from_slice(text.as_bytes());
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn constant(datatype: DataType, dims: &[PortDim], value: &str) -> Result<(Vec<usize>, Vec<u8>), String> {
        let port = Port { name: "k".into(), datatype: Some(datatype), dims: dims.to_vec() };
        let value: toml::Table = toml::from_str(&format!("v = {value}")).unwrap();
        build(&port, &value["v"]).map(|c| (c.shape.to_vec(), c.data)).map_err(|error| error.why)
    }

    #[test]
    fn constants_take_the_inputs_shape_and_type() {
        use PortDim::{Fixed, Unknown};
        assert_eq!(constant(DataType::Int64, &[], "16000").unwrap().1, 16000i64.to_le_bytes());
        assert_eq!(constant(DataType::Uint8, &[Fixed(2), Fixed(2)], "7").unwrap(), (vec![2, 2], vec![7; 4]));
        assert_eq!(constant(DataType::Uint8, &[Unknown, Fixed(2)], "[[1, 2], [3, 4]]").unwrap().0, [2, 2]);
        assert_eq!(constant(DataType::Bool, &[Fixed(2)], "[true, false]").unwrap().1, [1, 0]);
        assert_eq!(constant(DataType::Bytes, &[], "'hi'").unwrap().1, b"\x02\0\0\0hi");
        for (datatype, dims, value) in [
            (DataType::Uint8, &[][..], "256"),
            (DataType::Int64, &[], "1.5"),
            (DataType::Bool, &[], "1"),
            (DataType::Uint8, &[Fixed(3)], "[1, 2]"),
            (DataType::Uint8, &[Unknown, Unknown], "[1, 2]"),
        ] {
            assert!(constant(datatype, dims, value).is_err(), "{value}");
        }
    }
}
