//! `thalweg models tune`: measures a model, recommends how to run it, and writes that down if told to.

mod options;
mod report;
mod subject;

use std::io::{IsTerminal, Write};
use std::path::Path;
use std::time::Duration;

use clap::Args;

use super::repositories::folders_only;
use super::{Failure, runtime};
use crate::check::Effort;
use crate::clock::Clock;
use crate::config::RawSettings;
use crate::registry::file::{InstanceKind, ModelFile};
use crate::registry::{self, ModelConfigError, Origin, PROFILE, Profile, ProfiledRun};
use crate::tune::{self, Change, Instance, Point, Recommendation, Wanted};
use options::Shape;
pub(super) use options::time;
use report::{Report, us};
use subject::Subject;

/// Runs that are not counted, at the least, and at the most, for each point.
const WARM_UP: usize = 2;
const FEWEST: usize = 5;
const MOST: usize = 20_000;

#[derive(Args)]
pub struct Tune {
    /// A model of the repository
    model: String,
    /// This version [default: the newest that is served]
    #[arg(long = "version", value_name = "N")]
    number: Option<u64>,
    /// How long a request may take at the worst, such as 10ms or 500us [default: as long as it likes]
    #[arg(long, value_name = "TIME", value_parser = options::time)]
    latency: Option<Duration>,
    /// The largest batch to measure [default: the model's max_batch_size, or 64]
    #[arg(long, value_name = "ROWS", value_parser = clap::value_parser!(u16).range(1..))]
    max_batch: Option<u16>,
    /// Sizes of an input that model.toml leaves free, one for each axis, -1 for the batch, as in pixels=-1,3,224,224
    #[arg(long = "shape", value_name = "INPUT=SIZES", value_parser = options::shape, allow_hyphen_values = true)]
    shapes: Vec<Shape>,
    /// How long each batch size is measured
    #[arg(long, default_value = "250ms", value_name = "TIME", value_parser = options::time)]
    each: Duration,
    /// What the inputs follow from
    #[arg(long, default_value_t = 1, value_name = "NUMBER")]
    seed: u64,
    /// Write what is recommended to model.toml, and keep what was measured beside the model
    #[arg(long)]
    write: bool,
    /// Keep what was measured beside the model, and leave model.toml as it is
    #[arg(long)]
    keep: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    settings: RawSettings,
}

impl Tune {
    pub fn run(self) -> Result<(), Failure> {
        let settings = self.settings.clone().validate()?;
        let folder = registry::find_model(folders_only(&settings.model_repository)?, &self.model)?;
        let (file, versions) = registry::read_model(&folder)?;
        let on_gpu = |kind| kind == Some(InstanceKind::Cuda);
        if file.instance_group.iter().any(|group| on_gpu(group.kind)) {
            return Err("model.toml has it run on a GPU, and only the CPU is tuned for".into());
        }
        let version = self.number.or(versions.last().copied()).unwrap_or(1);
        let runtime = runtime::for_cpu(&settings)?;
        let subject = Subject::new(&runtime, &folder, version, &file, &self)?;
        for input in &subject.free {
            eprintln!(
                "thalweg: {input} has sizes that nothing fixes, which are measured as 1; --shape gives others"
            );
        }

        let points = self.measure(&subject)?;
        let origin = Origin::here(&subject.path, runtime.build())?;
        let tuned = tune::recommend(&points, self.latency).ok_or("nothing was measured")?;
        if self.write || self.keep {
            let profile = Profile { origin: origin.clone(), runs: points.iter().map(kept).collect() };
            let path = subject.path.with_file_name(PROFILE);
            tune::replace(&path, &profile.text()?).map_err(|why| format!("{}: {why}", path.display()))?;
        }
        let config = folder.join("model.toml");
        let changed = tuned.as_ref().ok().map(|recommended| self.change(&config, &subject, recommended));
        let changes = changed.as_ref().and_then(|changed| changed.as_deref().ok());
        let report = Report::new(&self, version, &subject, origin, &points, &tuned, changes, &config);
        if self.json {
            println!("{}", serde_json::to_string_pretty(&report)?);
        } else {
            print!("{report}");
        }
        if tune::disturbed(&points) {
            eprintln!("thalweg: something else was busy on this machine; measure again when it is not");
        }
        changed.transpose()?;
        tuned.map(drop).map_err(Into::into)
    }

    fn measure(&self, subject: &Subject<'_>) -> Result<Vec<Point>, Failure> {
        let effort = Effort { warm_up: WARM_UP, fewest: FEWEST, most: MOST, time: self.each };
        let layouts = tune::layouts(registry::cpus());
        let sizes = tune::sizes(subject.limit());
        let batches = subject.batches(&sizes, self.seed);
        let batches = &batches;
        let start = |layout: tune::Layout| {
            let pipelines = subject.start(layout)?.into_iter();
            let instance = |mut pipeline: Box<dyn crate::lane::Pipeline>| -> Instance<'_> {
                Box::new(move |rows| match batches.get(&rows) {
                    Some(batch) => batch.run(&mut *pipeline).map(drop),
                    None => Err(format!("there is no batch of {rows} rows")),
                })
            };
            Ok(pipelines.map(instance).collect())
        };
        let watched = std::io::stderr().is_terminal();
        let tell = |_: &Point| {
            if watched {
                eprint!(".");
                let _ = std::io::stderr().flush();
            }
        };
        let points = tune::measure(&layouts, &sizes, &effort, &Clock::start(), start, tell);
        if watched {
            eprintln!();
        }
        Ok(points?)
    }

    /// What is to change in `model.toml`, or with `--write` has changed.
    fn change(
        &self,
        path: &Path,
        subject: &Subject<'_>,
        recommended: &Recommendation,
    ) -> Result<Vec<Change>, Failure> {
        let layout = recommended.point.layout;
        let wanted = Wanted {
            max_batch_size: subject.batches_requests().then_some(recommended.point.rows),
            instances: layout.instances,
            threads: layout.threads,
        };
        let old = match std::fs::read_to_string(path) {
            Err(why) if why.kind() == std::io::ErrorKind::NotFound => String::new(),
            text => text?,
        };
        let (text, changes) = tune::edit(&old, &wanted)?;
        if self.write && !changes.is_empty() {
            let wrong = |field: String, why: String| {
                let error = ModelConfigError { file: path.to_owned(), field, why };
                format!("model.toml stays as it is, for with what is recommended it would not load: {error}")
            };
            let file: ModelFile =
                toml::from_str(&text).map_err(|error| wrong(String::new(), error.message().to_owned()))?;
            registry::policy(&file, recommended.point.rows).map_err(|error| wrong(error.field, error.why))?;
            tune::replace(path, &text).map_err(|why| format!("{}: {why}", path.display()))?;
        }
        Ok(changes)
    }
}

fn kept(point: &Point) -> ProfiledRun {
    let Point { layout, rows, times } = *point;
    let tune::Layout { instances, threads } = layout;
    ProfiledRun { instances, threads, rows, median_us: us(times.median), p95_us: us(times.p95) }
}
