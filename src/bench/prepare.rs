//! Asks the server what it serves, and makes from that what connections will say.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use fastrand::Rng;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Failure;
use super::audio::{Input, Recording};
use super::judge::Naming;
use super::plan::{Form, Payload, Plan, Reference, Target};
use super::reference::{Recorded, References};
use super::request::{self, Metadata};
use super::script::{Answering, Script};
use super::socket::Dialer;
use super::talk::Talk;

/// All that a step needs beside its load.
pub struct Prepared {
    pub dialer: Dialer,
    /// The path of the WebSockets; none over HTTP.
    pub path: Option<String>,
    pub script: Arc<Script>,
}

/// Answers that were written down.
#[derive(Serialize, Deserialize)]
struct Record {
    target: String,
    model: String,
    answers: Vec<Recorded>,
}

pub async fn prepare(plan: &Plan) -> Result<Prepared, Failure> {
    let dialer = Dialer::new(&plan.address).await?;
    let mut base = format!("/v2/models/{}", utf8_percent_encode(&plan.model, NON_ALPHANUMERIC));
    if let Some(version) = &plan.version {
        base += &format!("/versions/{}", utf8_percent_encode(version, NON_ALPHANUMERIC));
    }
    let infer = format!("{base}/infer");
    let (path, mut script) = match plan.target {
        Target::Infer(form) => {
            let requests = requests(plan, &dialer, &base).await?;
            let messages = requests.into_iter().map(|one| request::message(request::body(one, form)?, form));
            let messages = messages.collect::<Result<_, Failure>>()?;
            let script =
                Script { messages, naming: Naming::Id, answering: Answering::Each, references: None };
            (Some(infer), script)
        }
        Target::Http(form) => {
            let requests = requests(plan, &dialer, &base).await?;
            let messages = requests.into_iter().map(|mut one| {
                if form == Form::Binary {
                    request::binary_outputs(&mut one);
                }
                Ok(request::post(request::body(one, form)?, &infer, dialer.headers(), form))
            });
            let messages = messages.collect::<Result<_, Failure>>()?;
            (None, Script { messages, naming: Naming::Id, answering: Answering::Each, references: None })
        }
        Target::Stream => {
            let (query, script) = stream(plan, &dialer, &base).await?;
            (Some(format!("{base}/stream?greeting=false{query}")), script)
        }
    };
    script.references = references(plan, &dialer, path.as_deref(), &script).await?;
    Ok(Prepared { dialer, path, script: Arc::new(script) })
}

/// What requests carry, from files or made.
async fn requests(plan: &Plan, dialer: &Dialer, base: &str) -> Result<Vec<Value>, Failure> {
    match &plan.payload {
        Payload::Files(files) => {
            let read = |path: &Path| -> Result<Value, Failure> {
                serde_json::from_slice(&read(path)?).map_err(|error| {
                    format!("{}: {error}; a payload of this target is an inference request", path.display())
                        .into()
                })
            };
            files.iter().map(|path| read(path)).collect()
        }
        Payload::Made { count, shapes } => {
            let (status, body) = dialer.get(base).await?;
            if status != 200 {
                return Err(format!("{base} answers {status}: {}", String::from_utf8_lossy(&body)).into());
            }
            let metadata: Metadata = serde_json::from_slice(&body)?;
            let mut random = Rng::with_seed(plan.seed);
            (0..*count).map(|_| request::make(&metadata, shapes, &mut random)).collect()
        }
    }
}

/// What a stream is sent, and the rest of the query. The server says what it takes.
async fn stream(plan: &Plan, dialer: &Dialer, base: &str) -> Result<(String, Script), Failure> {
    #[derive(Deserialize)]
    struct Greeting {
        input: Input,
    }
    let mut talk = Talk::open(dialer, Some(&format!("{base}/stream"))).await?;
    let greeting = talk.hear().await?;
    let Greeting { input } = serde_json::from_slice(&greeting.json)
        .map_err(|error| format!("the stream's greeting is not understood: {error}"))?;
    talk.close().await;
    let script = |messages, answering| Script { messages, naming: Naming::Seq, answering, references: None };
    if input.encoding == "bytes" {
        let Payload::Files(files) = &plan.payload else {
            let mut random = Rng::with_seed(plan.seed);
            let documents = (0..16).map(|_| Bytes::from_iter((0..1024).map(|_| random.alphanumeric() as u8)));
            let messages = documents.map(|document| request::plain(&document)).collect();
            return Ok((String::new(), script(messages, Answering::Each)));
        };
        let messages = files.iter().map(|path| Ok(request::plain(&read(path)?.into())));
        let messages = messages.collect::<Result<_, Failure>>()?;
        return Ok((String::new(), script(messages, Answering::Each)));
    }
    let recording = match &plan.payload {
        Payload::Files(files) => {
            let [file] = &files[..] else { return Err("a stream plays one recording".into()) };
            Recording::read(file)?
        }
        Payload::Made { .. } => Recording::noise(input.sample_rate, input.hop, plan.seed),
    };
    let (windows, encoding) = (input.windows(recording.rate)?, input.encoding()?);
    let pieces = recording.pieces(windows.piece, encoding)?;
    let messages = pieces.into_iter().map(|piece| request::plain(&piece.into())).collect();
    let query = format!("&encoding={}&sample_rate={}", encoding.as_str(), recording.rate);
    Ok((query, script(messages, Answering::Windows(windows))))
}

async fn references(
    plan: &Plan,
    dialer: &Dialer,
    path: Option<&str>,
    script: &Script,
) -> Result<Option<References>, Failure> {
    let answers = match &plan.check.reference {
        Reference::None => return Ok(None),
        Reference::File(file) => {
            let record: Record = serde_json::from_slice(&read(file)?)
                .map_err(|error| format!("{}: no record of answers: {error}", file.display()))?;
            let (target, model) = (plan.target.to_string(), &plan.model);
            if (&record.target, &record.model) != (&target, model) {
                let Record { target, model, .. } = record;
                return Err(format!("{}: is a record of {model}, {target}", file.display()).into());
            }
            record.answers
        }
        Reference::Now | Reference::Record(_) => {
            let mut talk = Talk::open(dialer, path).await?;
            let answers = talk.record(script, windows_of(plan, script)).await?;
            talk.close().await;
            answers
        }
    };
    if let Reference::Record(file) = &plan.check.reference {
        let (target, model) = (plan.target.to_string(), plan.model.clone());
        let record = serde_json::to_vec(&Record { target, model, answers: answers.clone() })?;
        std::fs::write(file, record).map_err(|error| format!("{}: {error}", file.display()))?;
    }
    Ok(Some(References::new(&answers, plan.check.tolerance)))
}

/// As many windows as a stream can have in a step.
fn windows_of(plan: &Plan, script: &Script) -> u64 {
    let Answering::Windows(windows) = script.answering else { return 0 };
    let time = plan.times.warm_up + plan.times.duration;
    let pieces = time.as_secs_f64() * windows.rate as f64 / windows.piece.max(1) as f64;
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a number of pieces")]
    windows.complete(pieces.ceil() as u64)
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()).into())
}
