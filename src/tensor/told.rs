//! What an output row means, as a client is told.

/// A classifier's row.
#[derive(Debug, PartialEq)]
pub struct Told<'a> {
    pub label: &'a str,
    pub score: f32,
    /// Members of a JSON object, without its braces; may be empty.
    pub attributes: &'a str,
    /// What the model itself said, if it was asked.
    pub model_label: Option<&'a str>,
    pub top: Vec<(&'a str, f32)>,
}
