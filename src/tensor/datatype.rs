//! The datatypes of the Open Inference Protocol.

use std::fmt;

macro_rules! datatypes {
    ($($name:ident = $text:literal, $size:expr;)+) => {
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum DataType { $($name,)+ }

        impl DataType {
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// The name on the wire.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)+ }
            }

            pub fn parse(text: &str) -> Option<Self> {
                match text { $($text => Some(Self::$name),)+ _ => None }
            }

            /// Bytes an element, or `None` where elements differ in length.
            pub const fn size(self) -> Option<usize> {
                match self { $(Self::$name => $size,)+ }
            }
        }
    };
}

datatypes! {
    Bool = "BOOL", Some(1);
    Uint8 = "UINT8", Some(1);
    Uint16 = "UINT16", Some(2);
    Uint32 = "UINT32", Some(4);
    Uint64 = "UINT64", Some(8);
    Int8 = "INT8", Some(1);
    Int16 = "INT16", Some(2);
    Int32 = "INT32", Some(4);
    Int64 = "INT64", Some(8);
    Fp16 = "FP16", Some(2);
    Fp32 = "FP32", Some(4);
    Fp64 = "FP64", Some(8);
    Bf16 = "BF16", Some(2);
    // Each element is a little-endian u32 length and that many bytes.
    Bytes = "BYTES", None;
}

impl fmt::Display for DataType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
