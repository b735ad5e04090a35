//! Protocol Buffers as they lie in a file: fields of a message, read and written one by one.
//!
//! Nothing is known here of any schema. A field keeps its own bytes, so that what is not understood, or not to
//! be changed, is copied as it stands.

/// Bytes that are no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the file is damaged, or is no ONNX model")]
pub struct Damaged;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value<'a> {
    Varint(u64),
    /// A string, bytes, a message, or packed numbers.
    Bytes(&'a [u8]),
    /// Four or eight bytes: floats.
    Fixed(&'a [u8]),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field<'a> {
    pub number: u64,
    pub value: Value<'a>,
    /// Key and value as they stand.
    pub raw: &'a [u8],
}

impl<'a> Field<'a> {
    /// The message, string or packed numbers that the field holds.
    pub fn bytes(&self) -> Result<&'a [u8], Damaged> {
        match self.value {
            Value::Bytes(bytes) => Ok(bytes),
            _ => Err(Damaged),
        }
    }

    pub fn text(&self) -> Result<&'a str, Damaged> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Damaged)
    }

    /// A number, which ONNX never stores otherwise.
    pub fn number(&self) -> Result<u64, Damaged> {
        match self.value {
            Value::Varint(number) => Ok(number),
            _ => Err(Damaged),
        }
    }

    /// The numbers of a repeated field: one, or many in a row.
    pub fn numbers(&self) -> Result<Vec<u64>, Damaged> {
        let mut rest = match self.value {
            Value::Varint(number) => return Ok(vec![number]),
            Value::Bytes(bytes) => bytes,
            Value::Fixed(_) => return Err(Damaged),
        };
        let mut numbers = Vec::new();
        while !rest.is_empty() {
            numbers.push(varint(&mut rest)?);
        }
        Ok(numbers)
    }
}

/// The fields of a message, in its order; the first that is damaged ends it.
pub fn fields(message: &[u8]) -> Fields<'_> {
    Fields { rest: message }
}

pub struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<Field<'a>, Damaged>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = self.read();
        if field.is_err() {
            self.rest = &[];
        }
        Some(field)
    }
}

impl<'a> Fields<'a> {
    fn read(&mut self) -> Result<Field<'a>, Damaged> {
        let start = self.rest;
        let key = varint(&mut self.rest)?;
        let value = match key & 7 {
            0 => Value::Varint(varint(&mut self.rest)?),
            1 => Value::Fixed(self.take(8)?),
            2 => {
                let length = varint(&mut self.rest)?;
                Value::Bytes(self.take(length)?)
            }
            5 => Value::Fixed(self.take(4)?),
            // Groups, which ONNX has none of.
            _ => return Err(Damaged),
        };
        let raw = start.get(..start.len() - self.rest.len()).ok_or(Damaged)?;
        Ok(Field { number: key >> 3, value, raw })
    }

    fn take(&mut self, length: u64) -> Result<&'a [u8], Damaged> {
        let length = usize::try_from(length).map_err(|_| Damaged)?;
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(Damaged)?;
        self.rest = rest;
        Ok(taken)
    }
}

fn varint(rest: &mut &[u8]) -> Result<u64, Damaged> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, after) = rest.split_first().ok_or(Damaged)?;
        *rest = after;
        let bits = u64::from(byte & 0x7f);
        // The tenth byte has room for one bit.
        if shift == 63 && bits > 1 {
            return Err(Damaged);
        }
        number |= bits << shift;
        if byte < 0x80 {
            return Ok(number);
        }
    }
    Err(Damaged)
}

pub fn put_number(out: &mut Vec<u8>, field: u64, number: u64) {
    put_varint(out, field << 3);
    put_varint(out, number);
}

pub fn put_bytes(out: &mut Vec<u8>, field: u64, bytes: &[u8]) {
    put_varint(out, field << 3 | 2);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    loop {
        let [low, ..] = number.to_le_bytes();
        number >>= 7;
        if number == 0 {
            return out.push(low & 0x7f);
        }
        out.push(low | 0x80);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn check(hex: &str, expect: Expect) {
        let bytes: Vec<_> =
            hex.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect();
        let show = |field: Result<Field<'_>, Damaged>| match field {
            Err(error) => format!("{error:?}"),
            Ok(Field { number, value, raw }) => format!("{number}={value:?} of {}", raw.len()),
        };
        expect.assert_eq(&fields(&bytes).map(show).collect::<Vec<_>>().join(", "));
    }

    #[test]
    fn fields_are_read_in_order() {
        check("", expect![""]);
        check(
            "08 96 01 12 02 68 69 1d 01 02 03 04",
            expect!["1=Varint(150) of 3, 2=Bytes([104, 105]) of 4, 3=Fixed([1, 2, 3, 4]) of 5"],
        );
        check("21 01 02 03 04 05 06 07 08", expect!["4=Fixed([1, 2, 3, 4, 5, 6, 7, 8]) of 9"]);
        check("08 ff ff ff ff ff ff ff ff ff 01", expect!["1=Varint(18446744073709551615) of 11"]);
    }

    #[test]
    fn what_is_cut_or_lies_about_its_length_is_damaged() {
        check("08", expect!["Damaged"]);
        check("80 80", expect!["Damaged"]);
        check("08 01 12 03 68 69", expect!["1=Varint(1) of 2, Damaged"]);
        check("12 ff ff ff ff ff ff ff ff ff 01", expect!["Damaged"]);
        check("08 ff ff ff ff ff ff ff ff ff 02", expect!["Damaged"]);
        check("08 ff ff ff ff ff ff ff ff ff ff 01", expect!["Damaged"]);
        check("0b 0c", expect!["Damaged"]);
        check("1d 01 02", expect!["Damaged"]);
    }

    #[test]
    fn what_is_written_is_read() {
        for number in [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX] {
            let mut out = Vec::new();
            put_number(&mut out, 7, number);
            put_bytes(&mut out, 2000, &[1, 2, 3]);
            let read: Vec<_> =
                fields(&out).map(|field| field.map(|field| (field.number, field.value))).collect();
            assert_eq!(read, [Ok((7, Value::Varint(number))), Ok((2000, Value::Bytes(&[1, 2, 3])))]);
            let raw: Vec<u8> = fields(&out).flat_map(|field| field.unwrap().raw.to_vec()).collect();
            assert_eq!(raw, out);
        }
    }
}
