//! Reading JSON objects by their fields, so that a failure knows its place.
//!
//! Everything here respects serde_json's limit of nesting, which serde's own way of skipping values does not.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::marker::PhantomData;

use serde::de::{self, Deserialize, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use super::{MAX_DEPTH, MAX_TENSORS};
use crate::error::{Code, Error, Result};
use crate::tensor::Shape;

/// The way to the field that failed, put together as the failure passes outwards.
#[derive(Default)]
pub(super) struct Trace {
    path: RefCell<String>,
    /// What to call the failure if not an invalid request.
    pub code: Cell<Option<Code>>,
}

impl Trace {
    #[cold]
    fn passed(&self, step: impl fmt::Display) {
        let mut path = self.path.borrow_mut();
        let joint = if path.is_empty() || path.starts_with('[') { "" } else { "." };
        *path = format!("{step}{joint}{path}");
    }

    #[cold]
    pub fn explain(&self, error: &serde_json::Error) -> Error {
        let mut message = error.to_string();
        // It may quote a string of the message whole.
        message.truncate(message.floor_char_boundary(256));
        let path = self.path.borrow();
        match error.classify() {
            serde_json::error::Category::Data if path.is_empty() => Error::new(Code::InvalidRequest, message),
            serde_json::error::Category::Data => {
                let code = self.code.get().unwrap_or(Code::InvalidRequest);
                Error::new(code, format!("{path}: {message}"))
            }
            // Its sentence is all that tells this error from others of syntax.
            _ if message.starts_with("recursion limit exceeded") => {
                Error::new(Code::JsonTooDeep, format!("the JSON nests deeper than {MAX_DEPTH} levels"))
            }
            _ => Error::new(Code::InvalidJson, message),
        }
    }
}

/// What an object holds.
pub(super) trait Fields<'de>: Default {
    /// Takes the value of a known key; leaves that of an unknown one and says so with `false`.
    fn field<A: MapAccess<'de>>(&mut self, key: &str, map: &mut A, trace: &Trace) -> Result<bool, A::Error>;
}

pub(super) fn set<T, E: de::Error>(slot: &mut Option<T>, value: Option<T>) -> Result<(), E> {
    if slot.is_some() {
        return Err(E::custom("given twice"));
    }
    *slot = value;
    Ok(())
}

/// Reads an object field by field; `null` is none.
pub(super) struct Object<'t, F> {
    trace: &'t Trace,
    fields: PhantomData<F>,
}

impl<'t, F> Object<'t, F> {
    pub fn new(trace: &'t Trace) -> Self {
        Self { trace, fields: PhantomData }
    }
}

impl<'de, F: Fields<'de>> DeserializeSeed<'de> for Object<'_, F> {
    type Value = Option<F>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<F>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, F: Fields<'de>> Visitor<'de> for Object<'_, F> {
    type Value = Option<F>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_unit<E>(self) -> Result<Option<F>, E> {
        Ok(None)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Option<F>, A::Error> {
        let mut fields = F::default();
        while let Some(Text(key)) = map.next_key()? {
            match fields.field(&key, &mut map, self.trace) {
                Ok(true) => {}
                Ok(false) => {
                    map.next_value::<Skipped>()?;
                }
                Err(error) => {
                    self.trace.passed(key);
                    return Err(error);
                }
            }
        }
        Ok(Some(fields))
    }
}

/// Reads an array of objects; `null` is none.
pub(super) struct List<'t, F> {
    trace: &'t Trace,
    fields: PhantomData<F>,
}

impl<'t, F> List<'t, F> {
    pub fn new(trace: &'t Trace) -> Self {
        Self { trace, fields: PhantomData }
    }
}

impl<'de, F: Fields<'de>> DeserializeSeed<'de> for List<'_, F> {
    type Value = Option<Vec<F>>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<Vec<F>>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, F: Fields<'de>> Visitor<'de> for List<'_, F> {
    type Value = Option<Vec<F>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of objects")
    }

    fn visit_unit<E>(self) -> Result<Option<Vec<F>>, E> {
        Ok(None)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Option<Vec<F>>, A::Error> {
        let mut objects = Vec::new();
        loop {
            let object = seq.next_element_seed(Object::new(self.trace)).and_then(|object| match object {
                Some(_) if objects.len() == MAX_TENSORS => {
                    Err(de::Error::custom(format_args!("more than {MAX_TENSORS} tensors")))
                }
                Some(None) => Err(de::Error::invalid_type(de::Unexpected::Unit, &"an object")),
                object => Ok(object.flatten()),
            });
            match object {
                Ok(Some(object)) => objects.push(object),
                Ok(None) => return Ok(Some(objects)),
                Err(error) => {
                    self.trace.passed(format_args!("[{}]", objects.len()));
                    return Err(error);
                }
            }
        }
    }
}

/// A string that stays in the message unless it has escapes.
pub(super) struct Text<'a>(pub Cow<'a, str>);

impl<'de> Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Strings;

        impl<'de> Visitor<'de> for Strings {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }

        deserializer.deserialize_str(Strings)
    }
}

/// The dimensions of a shape.
pub(super) struct Dims(pub Shape);

impl<'de> Deserialize<'de> for Dims {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Sizes;

        impl<'de> Visitor<'de> for Sizes {
            type Value = Dims;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array of sizes")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Dims, A::Error> {
                let mut shape = Shape::new();
                while let Some(size) = seq.next_element()? {
                    shape.push(size);
                }
                Ok(Dims(shape))
            }
        }

        deserializer.deserialize_seq(Sizes)
    }
}

/// Any value, read to its end; unlike serde's `IgnoredAny` it keeps to the limit of nesting.
struct Skipped;

impl<'de> Deserialize<'de> for Skipped {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Anything;

        impl<'de> Visitor<'de> for Anything {
            type Value = Skipped;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("any value")
            }

            fn visit_unit<E>(self) -> Result<Skipped, E> {
                Ok(Skipped)
            }

            fn visit_bool<E>(self, _: bool) -> Result<Skipped, E> {
                Ok(Skipped)
            }

            fn visit_i64<E>(self, _: i64) -> Result<Skipped, E> {
                Ok(Skipped)
            }

            fn visit_u64<E>(self, _: u64) -> Result<Skipped, E> {
                Ok(Skipped)
            }

            fn visit_f64<E>(self, _: f64) -> Result<Skipped, E> {
                Ok(Skipped)
            }

            fn visit_str<E>(self, _: &str) -> Result<Skipped, E> {
                Ok(Skipped)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Skipped, A::Error> {
                while seq.next_element::<Skipped>()?.is_some() {}
                Ok(Skipped)
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Skipped, A::Error> {
                while map.next_entry::<Skipped, Skipped>()?.is_some() {}
                Ok(Skipped)
            }
        }

        deserializer.deserialize_any(Anything)
    }
}
