//! The trace that a request is a part of, as W3C's Trace Context writes it in headers.

use opentelemetry::propagation::{Extractor, TextMapPropagator};
use opentelemetry::trace::{SpanContext, TraceContextExt};
use opentelemetry_sdk::propagation::TraceContextPropagator;

/// A state that is longer is left out: spans wait in memory.
const MAX_STATE: usize = 512;

/// Who asked, and whether that is sampled.
#[derive(Debug, Clone, PartialEq)]
pub struct Parent(pub(super) SpanContext);

impl Parent {
    /// What is not well formed is as good as absent, as the standard has it.
    pub fn parse(traceparent: &str, tracestate: Option<&str>) -> Option<Self> {
        // The library takes longer fields of digits, and signs before them.
        let shape = |(at, byte): (usize, u8)| match at {
            2 | 35 | 52 => byte == b'-',
            0..55 => byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte),
            _ => true,
        };
        let fits = traceparent.len() >= 55 && (0..).zip(traceparent.bytes()).all(shape);
        let ends = traceparent.len() == 55
            || (!traceparent.starts_with("00") && traceparent.as_bytes().get(55) == Some(&b'-'));
        if !fits || !ends {
            return None;
        }
        let tracestate = tracestate.filter(|state| state.len() <= MAX_STATE);
        let context = TraceContextPropagator::new().extract(&Fields { traceparent, tracestate });
        let span = context.span().span_context().clone();
        span.is_valid().then_some(Self(span))
    }

    pub fn trace_id(&self) -> String {
        self.0.trace_id().to_string()
    }
}

struct Fields<'a> {
    traceparent: &'a str,
    tracestate: Option<&'a str>,
}

impl Extractor for Fields<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        match key {
            "traceparent" => Some(self.traceparent),
            "tracestate" => self.tracestate,
            _ => None,
        }
    }

    fn keys(&self) -> Vec<&str> {
        vec!["traceparent", "tracestate"]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parents_are_read_as_the_standard_says() {
        let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
        let check = |text: &str, expected: Option<bool>| {
            let parent = Parent::parse(text, None);
            assert_eq!(parent.as_ref().map(|parent| parent.0.is_sampled()), expected, "{text}");
            assert!(parent.is_none_or(|parent| parent.trace_id() == trace), "{text}");
        };
        check(&format!("00-{trace}-00f067aa0ba902b7-01"), Some(true));
        check(&format!("00-{trace}-00f067aa0ba902b7-00"), Some(false));
        check(&format!("00-{trace}-00f067aa0ba902b7-03"), Some(true));
        check(&format!("01-{trace}-00f067aa0ba902b7-01"), Some(true));
        check(&format!("cc-{trace}-00f067aa0ba902b7-01-what-comes"), Some(true));
        check(&format!("cc-{trace}-00f067aa0ba902b7-01.what-comes"), None);
        check(&format!("00-{trace}-00f067aa0ba902b7-01-more"), None);
        check(&format!("ff-{trace}-00f067aa0ba902b7-01"), None);
        check(&format!("00-{trace}-0000000000000000-01"), None);
        check("00-00000000000000000000000000000000-00f067aa0ba902b7-01", None);
        check(&format!("00-{}-00f067aa0ba902b7-01", trace.to_uppercase()), None);
        check(&format!("00-{trace}-+0f067aa0ba902b7-01"), None);
        check(&format!("00-{trace}-00f067aa0ba902b7-1"), None);
        check(&format!("00-{trace}-0f067aa0ba902b7-001"), None);
        check("00-é", None);
        check("", None);
    }

    #[test]
    fn a_state_is_kept_and_a_bad_one_is_not() {
        let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let state =
            |text: Option<&str>| Parent::parse(parent, text).map(|Parent(span)| span.trace_state().header());
        assert_eq!(state(Some("a=1,b=2")).as_deref(), Some("a=1,b=2"));
        assert_eq!(state(Some("no state")).as_deref(), Some(""));
        assert_eq!(state(Some(&format!("a={}", "x".repeat(256)))).map(|state| state.len()), Some(258));
        assert_eq!(state(Some(&"a=1,".repeat(129))).as_deref(), Some(""));
        assert_eq!(state(None).as_deref(), Some(""));
    }
}
