//! Which path means what.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

/// What a path asks for.
#[derive(Debug, PartialEq, Eq)]
pub enum Route<'a> {
    /// `/`: a stream of the default model, or of `?model=M`.
    Root,
    Health,
    Metrics,
    Server,
    Live,
    Ready,
    Model {
        model: Cow<'a, str>,
        version: Option<Cow<'a, str>>,
        what: ModelRoute,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModelRoute {
    Metadata,
    Ready,
    Config,
    Stats,
    Infer,
    Stream,
}

impl<'a> Route<'a> {
    pub fn parse(path: &'a str) -> Option<Self> {
        let mut parts = path.strip_prefix('/')?.split('/');
        let (first, second, third) = (parts.next()?, parts.next(), parts.next());
        Some(match (first, second, third) {
            ("", None, _) => Self::Root,
            ("health", None, _) => Self::Health,
            ("metrics", None, _) => Self::Metrics,
            ("v2", None, _) | ("v2", Some(""), None) => Self::Server,
            ("v2", Some("health"), Some("live")) if parts.next().is_none() => Self::Live,
            ("v2", Some("health"), Some("ready")) if parts.next().is_none() => Self::Ready,
            ("v2", Some("models"), Some(model)) => Self::model(model, parts)?,
            _ => return None,
        })
    }

    fn model(model: &'a str, mut parts: std::str::Split<'a, char>) -> Option<Self> {
        let model = decode(model)?;
        let mut next = parts.next();
        let mut version = None;
        if next == Some("versions") {
            version = Some(decode(parts.next()?)?);
            next = parts.next();
        }
        let what = match next {
            None => ModelRoute::Metadata,
            Some("ready") => ModelRoute::Ready,
            Some("config") => ModelRoute::Config,
            Some("stats") => ModelRoute::Stats,
            Some("infer") => ModelRoute::Infer,
            Some("stream") => ModelRoute::Stream,
            Some(_) => return None,
        };
        parts.next().is_none().then_some(Self::Model { model, version, what })
    }

    /// Whether it needs no key: whoever watches over servers has none, and learns nothing of anybody here.
    pub fn is_open(&self) -> bool {
        matches!(self, Self::Health | Self::Live | Self::Ready | Self::Metrics)
    }

    /// What it can be asked with, as the header `Allow` lists it; WebSockets are opened with GET.
    pub fn methods(&self) -> &'static str {
        match self {
            Self::Model { what: ModelRoute::Infer, .. } => "GET, POST",
            Self::Root | Self::Model { what: ModelRoute::Stream, .. } => "GET",
            _ => "GET, HEAD",
        }
    }

    /// The route's name in metrics; the path itself would be a label without bound.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Root => "/",
            Self::Health => "/health",
            Self::Metrics => "/metrics",
            Self::Server => "/v2",
            Self::Live => "/v2/health/live",
            Self::Ready => "/v2/health/ready",
            Self::Model { what, .. } => match what {
                ModelRoute::Metadata => "/v2/models/{model}",
                ModelRoute::Ready => "/v2/models/{model}/ready",
                ModelRoute::Config => "/v2/models/{model}/config",
                ModelRoute::Stats => "/v2/models/{model}/stats",
                ModelRoute::Infer => "/v2/models/{model}/infer",
                ModelRoute::Stream => "/v2/models/{model}/stream",
            },
        }
    }
}

fn decode(part: &str) -> Option<Cow<'_, str>> {
    (!part.is_empty()).then(|| percent_decode_str(part).decode_utf8().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_routes() {
        let model = |model: &'static str, version: Option<&'static str>, what| {
            Some(Route::Model { model: model.into(), version: version.map(Into::into), what })
        };
        for (path, route) in [
            ("/", Some(Route::Root)),
            ("/health", Some(Route::Health)),
            ("/metrics", Some(Route::Metrics)),
            ("/v2", Some(Route::Server)),
            ("/v2/", Some(Route::Server)),
            ("/v2/health/live", Some(Route::Live)),
            ("/v2/health/ready", Some(Route::Ready)),
            ("/v2/models/a", model("a", None, ModelRoute::Metadata)),
            ("/v2/models/a%20b/ready", model("a b", None, ModelRoute::Ready)),
            ("/v2/models/a/versions/3", model("a", Some("3"), ModelRoute::Metadata)),
            ("/v2/models/a/versions/3/infer", model("a", Some("3"), ModelRoute::Infer)),
            ("/v2/models/a/stream", model("a", None, ModelRoute::Stream)),
        ] {
            assert_eq!(Route::parse(path), route, "{path}");
        }
        for path in [
            "",
            "v2",
            "/v3",
            "/health/",
            "/v2/models",
            "/v2/models/",
            "/v2/models/a/x",
            "/v2/models/a/infer/x",
            "/v2/models/a/versions",
            "/v2/models/%ff",
            "/v2/health/live/x",
        ] {
            assert_eq!(Route::parse(path), None, "{path}");
        }
    }
}
