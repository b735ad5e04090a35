//! What a classifier's output row means: labels, scores, and what else is known of each label.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Map, Value};

use super::file::{ClassesFile, Fallback};
use super::{FieldError, output};
use crate::tensor::{DataType, Dim, Signature, Told, reduce};

/// How the rows of one output are told to a client.
#[derive(Debug)]
pub struct Labels {
    /// Which of the model's outputs it is.
    pub output: usize,
    labels: Vec<Label>,
    fallback: Fallback,
    top_k: usize,
    softmax: bool,
    known: BTreeMap<Arc<str>, Attributes>,
}

#[derive(Debug)]
struct Label {
    /// As the model has it.
    name: Arc<str>,
    /// As clients are told.
    shown: Arc<str>,
    threshold: f32,
}

/// What is known of a label beside its name.
#[derive(Debug, Default)]
struct Attributes {
    is_text: bool,
    /// The object's members as JSON, without its braces.
    json: String,
}

impl Labels {
    pub fn load(file: &ClassesFile, signature: &Signature, folder: &Path) -> Result<Self, FieldError> {
        let output = output::find(file.tensor.as_deref(), signature, "output.classes.tensor")?;
        let names = strings(folder, "output.classes.labels", &file.labels)?;
        let spec = &signature.outputs[output];
        if spec.datatype != DataType::Fp32 || spec.dims.last() != Some(&Dim::Fixed(names.len())) {
            let why = format!(
                "{} labels were given; output '{}' is {} {:?}, whose last dimension must be FP32 and of that size",
                names.len(),
                spec.name,
                spec.datatype,
                spec.wire_shape()
            );
            return Err(FieldError::new("output.classes.labels", why));
        }
        let thresholds = object(folder, "output.classes.thresholds", file.thresholds.as_deref())?;
        let rename = object(folder, "output.classes.rename", file.rename.as_deref())?;
        let known = object(folder, "output.classes.attributes", file.attributes.as_deref())?;
        let label = |name: &str| Label {
            name: name.into(),
            shown: rename.get(name).and_then(Value::as_str).unwrap_or(name).into(),
            #[allow(clippy::cast_possible_truncation, reason = "scores are FP32")]
            threshold: thresholds.get(name).and_then(Value::as_f64).map_or(file.threshold, |t| t as f32),
        };
        Ok(Self {
            output,
            labels: names.iter().map(|name| label(name)).collect(),
            fallback: file.fallback.clone(),
            top_k: file.top_k.max(1),
            softmax: file.softmax,
            known: known.iter().map(|(name, about)| (name.as_str().into(), Attributes::new(about))).collect(),
        })
    }

    /// Tells of a row of scores.
    pub fn tell(&self, scores: &[f32]) -> Told<'_> {
        let mut probabilities = Vec::new();
        let scores = if self.softmax {
            probabilities.extend_from_slice(scores);
            reduce::softmax(&mut probabilities);
            &probabilities
        } else {
            scores
        };
        let top = reduce::top_k(scores, self.top_k).into_iter();
        let top: Vec<_> = top.filter_map(|(index, score)| Some((self.labels.get(index)?, score))).collect();
        let Some(&(best, score)) = top.first() else { return self.fixed("") };
        let sure = score >= best.threshold;
        let label = match self.known.get(&best.shown).is_some_and(|about| about.is_text) {
            _ if sure => &*best.shown,
            true => &self.fallback.text,
            false => &self.fallback.binary,
        };
        // Without a fallback the model's word stands.
        let label = if label.is_empty() { &*best.shown } else { label };
        Told {
            label,
            score,
            attributes: self.attributes(label),
            model_label: Some(&best.name),
            top: top.iter().map(|(label, score)| (&*label.name, *score)).collect(),
        }
    }

    /// Tells of a message that is too short for the model.
    pub fn tell_short(&self, message: &[u8]) -> Told<'_> {
        match std::str::from_utf8(message) {
            _ if message.is_empty() => self.fixed(&self.fallback.empty),
            Ok(_) => self.fixed(&self.fallback.text),
            Err(_) => self.fixed(&self.fallback.binary),
        }
    }

    fn fixed<'a>(&'a self, label: &'a str) -> Told<'a> {
        Told { label, score: 1.0, attributes: self.attributes(label), model_label: None, top: Vec::new() }
    }

    fn attributes(&self, label: &str) -> &str {
        self.known.get(label).map_or("", |about| &about.json)
    }
}

impl Attributes {
    fn new(about: &Value) -> Self {
        let Some(about) = about.as_object() else { return Self::default() };
        let is_text = about.get("is_text").and_then(Value::as_bool).unwrap_or(false);
        let told: Map<_, _> =
            about.iter().filter(|(_, value)| !value.is_null()).map(|(k, v)| (k.clone(), v.clone())).collect();
        let json = Value::Object(told).to_string();
        Self {
            is_text,
            json: json
                .strip_prefix('{')
                .and_then(|json| json.strip_suffix('}'))
                .unwrap_or_default()
                .to_owned(),
        }
    }
}

fn strings(folder: &Path, field: &str, source: &str) -> Result<Vec<String>, FieldError> {
    serde_json::from_value(read(folder, field, source)?)
        .map_err(|why| FieldError::new(field, format!("{source} is no array of strings: {why}")))
}

fn object(folder: &Path, field: &str, source: Option<&str>) -> Result<Map<String, Value>, FieldError> {
    match source.map(|source| read(folder, field, source)).transpose()? {
        None => Ok(Map::new()),
        Some(Value::Object(object)) => Ok(object),
        Some(_) => Err(FieldError::new(field, format!("{} is no JSON object", source.unwrap_or_default()))),
    }
}

/// Reads a value of a JSON file: `file.json`, or `file.json#/pointer` (RFC 6901) for a part of it.
fn read(folder: &Path, field: &str, source: &str) -> Result<Value, FieldError> {
    let (file, pointer) = source.split_once('#').unwrap_or((source, ""));
    let path: PathBuf = folder.join(file);
    let text = std::fs::read_to_string(&path)
        .map_err(|why| FieldError::new(field, format!("{} cannot be read: {why}", path.display())))?;
    let value: Value = serde_json::from_str(&text)
        .map_err(|why| FieldError::new(field, format!("{} is no JSON: {why}", path.display())))?;
    let part = value.pointer(pointer).cloned();
    part.ok_or_else(|| FieldError::new(field, format!("{} has no '{pointer}'", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::TensorSpec;

    fn labels(toml: &str) -> Result<Labels, FieldError> {
        let folder = tempfile::tempdir().unwrap();
        let config = r#"{"labels": ["html", "raw", "odd"], "thresholds": {"html": 0.9}, "rename": {"odd": "bin"},
            "about": {"html": {"mime_type": "text/html", "group": null, "is_text": true}, "txt": {}}}"#;
        std::fs::write(folder.path().join("c.json"), config).unwrap();
        let spec = TensorSpec {
            name: "scores".into(),
            datatype: DataType::Fp32,
            dims: vec![Dim::Dynamic, Dim::Fixed(3)],
            batch_axis: Some(0),
        };
        let signature = Signature { inputs: vec![], outputs: vec![spec], states: vec![], max_batch_size: 1 };
        Labels::load(&toml::from_str(toml).unwrap(), &signature, folder.path())
    }

    const FULL: &str = "labels = 'c.json#/labels'\nattributes = 'c.json#/about'\ntop_k = 2\nthreshold = 0.5
        thresholds = 'c.json#/thresholds'\nrename = 'c.json#/rename'
        fallback = { text = 'txt', binary = 'unknown', empty = 'empty' }";

    #[test]
    fn rows_are_told() {
        let labels = labels(FULL).unwrap();
        let told = labels.tell(&[0.95, 0.04, 0.01]);
        assert_eq!((told.label, told.score, told.model_label), ("html", 0.95, Some("html")));
        assert_eq!(told.attributes, r#""mime_type":"text/html","is_text":true"#);
        assert_eq!(told.top, [("html", 0.95), ("raw", 0.04)]);
        assert_eq!(labels.tell(&[0.8, 0.1, 0.1]).label, "txt", "below its own threshold, and text");
        assert_eq!(labels.tell(&[0.3, 0.4, 0.3]).label, "unknown", "below the threshold");
        assert_eq!(labels.tell(&[0.1, 0.2, 0.7]).label, "bin", "renamed");
        let short: Vec<_> = [&b""[..], b"a", b"\xff"].map(|m| labels.tell_short(m).label).into();
        assert_eq!(short, ["empty", "txt", "unknown"]);
    }

    #[test]
    fn logits_become_probabilities() {
        let labels = labels("labels = 'c.json#/labels'\nsoftmax = true").unwrap();
        let told = labels.tell(&[0.0, 0.0, f32::NEG_INFINITY]);
        assert_eq!((told.label, told.score), ("html", 0.5));
    }

    #[test]
    fn errors_name_the_field() {
        let field = |toml: &str| labels(toml).unwrap_err().field;
        assert_eq!(field("labels = 'none.json'"), "output.classes.labels");
        assert_eq!(field("labels = 'c.json#/none'"), "output.classes.labels");
        assert_eq!(field("labels = 'c.json#/rename'"), "output.classes.labels");
        assert_eq!(field("labels = 'c.json#/labels'\nrename = 'c.json#/labels'"), "output.classes.rename");
        assert_eq!(field("labels = 'c.json#/labels'\ntensor = 'none'"), "output.classes.tensor");
    }
}
