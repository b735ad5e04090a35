//! Which loads are tried, one after the other: those that were asked for, or those of a search.

use super::Failure;
use super::plan::{Goal, Load, Pace, Plan, Sought};
use super::report::{Found, Step};
use super::script::{Answering, Script};
use super::search::Search;

pub struct Steps {
    loads: std::vec::IntoIter<Load>,
    search: Option<(Search, Goal, Load)>,
}

impl Steps {
    /// What a stream is, a signal or messages, is known only when the server has said so.
    pub fn new(plan: &Plan, script: &Script) -> Result<Self, Failure> {
        let signal = matches!(script.answering, Answering::Windows(_));
        let loads = plan.loads.iter().map(|load| match load.pace {
            Pace::Closed { .. } if signal && !plan.recorded => {
                Ok(Load { pace: Pace::RealTime { at_once: plan.at_once }, ..*load })
            }
            Pace::Open { .. } if signal => Err("a live signal has a rate of its own: leave --rate out"),
            _ if plan.at_once && (!signal || plan.recorded) => {
                Err("--at-once is for streams of live signals")
            }
            _ => Ok(*load),
        });
        let mut loads = loads.collect::<Result<Vec<_>, _>>()?;
        let search = match plan.search {
            None => None,
            Some(goal) => {
                let first = *loads.first().ok_or("there is nothing to begin the search with")?;
                loads.clear();
                let value = match (goal.sought, first.pace) {
                    (Sought::Rate, Pace::Open { rate, .. }) => rate,
                    (Sought::Rate, _) => return Err("--search rate is for an open loop".into()),
                    (Sought::Streams, Pace::RealTime { .. }) | (Sought::Connections, _) => {
                        first.connections as f64
                    }
                    (Sought::Streams, _) => {
                        return Err("--search streams is for streams of live signals".into());
                    }
                };
                let search = Search::new(value, goal.precision, goal.sought != Sought::Rate);
                Some((search, goal, first))
            }
        };
        Ok(Self { loads: loads.into_iter(), search })
    }

    pub fn next(&mut self) -> Option<Load> {
        let Some((search, goal, first)) = &self.search else { return self.loads.next() };
        let value = search.next()?;
        Some(match (goal.sought, first.pace) {
            (Sought::Rate, Pace::Open { poisson, depth, .. }) => {
                Load { pace: Pace::Open { rate: value, poisson, depth }, ..*first }
            }
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a number of things")]
            _ => Load { connections: value as usize, ..*first },
        })
    }

    pub fn tell(&mut self, step: &Step) {
        if let Some((search, goal, _)) = &mut self.search {
            search.tell(step.holds(goal));
        }
    }

    pub fn found(&self) -> Option<Found> {
        let (search, goal, _) = self.search.as_ref()?;
        let held = Some(search.held()).filter(|held| *held > 0.0);
        let bound_ms = goal.bound.as_secs_f64() * 1000.0;
        Some(Found { sought: goal.sought, quantile: goal.quantile, bound_ms, held })
    }
}
