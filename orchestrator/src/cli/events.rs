//! `events`: what a container uses, once or again and again, and when the host has killed something of it for want of memory.

use std::time::{Duration, Instant};

use clap::Args;
use serde_json::{Value, json};

use super::{Context, parse_id};
use crate::{
    cgroup::Places,
    error::{Error, Result},
    state::Status,
};

/// How often is looked whether it still runs.
const LOOK: Duration = Duration::from_millis(500);

/// Arguments of `events`.
#[derive(Args, Debug)]
pub struct Arguments {
    /// Time between two reports, such as 5s or 500ms
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = parse_duration)]
    interval: Duration,
    /// Report once
    #[arg(long)]
    stats: bool,
    /// The container's name
    #[arg(value_name = "ID")]
    id: String,
}

/// Prints one JSON object a line until the container stops.
pub fn run(context: &Context, arguments: &Arguments) -> Result<i32> {
    if arguments.interval.is_zero() {
        return Err(Error::Usage("duration interval must be greater than 0".into()));
    }
    let id = parse_id(&arguments.id)?;
    let state = context.store.load(&id)?;
    if state.status() == Status::Stopped {
        return Err(Error::Usage(format!("container with id {id} is not running")));
    }
    let places = Places::of(&state.cgroups);
    let report = || event("stats", id.as_str(), Some(places.stats()));
    if arguments.stats {
        println!("{}", report());
        return Ok(0);
    }
    let mut killed = places.oom_kills();
    let mut next = Instant::now() + arguments.interval;
    while state.status() != Status::Stopped {
        let now = places.oom_kills();
        if now > killed {
            println!("{}", event("oom", id.as_str(), None));
            killed = now;
        }
        let left = next.saturating_duration_since(Instant::now());
        if left.is_zero() {
            println!("{}", report());
            next += arguments.interval;
        }
        std::thread::sleep(left.min(LOOK));
    }
    Ok(0)
}

fn event(kind: &str, id: &str, data: Option<Value>) -> Value {
    let mut event = json!({ "type": kind, "id": id });
    if let Some(data) = data {
        event["data"] = data;
    }
    event
}

/// As Go writes durations: `1h2m3.5s`, `500ms`.
pub(super) fn parse_duration(text: &str) -> std::result::Result<Duration, String> {
    const UNITS: [(&str, f64); 6] = [("ms", 1e-3), ("us", 1e-6), ("ns", 1e-9), ("h", 3600.0), ("m", 60.0), ("s", 1.0)];
    let invalid = || format!("invalid duration {text:?}");
    let mut rest = text;
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(invalid)?;
        let number: f64 = rest[..end].parse().map_err(|_| invalid())?;
        let (unit, factor) = UNITS.iter().find(|(unit, _)| rest[end..].starts_with(unit)).ok_or_else(invalid)?;
        seconds += number * factor;
        rest = &rest[end + unit.len()..];
    }
    if text.is_empty() { Err(invalid()) } else { Duration::try_from_secs_f64(seconds).map_err(|_| invalid()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_gos() {
        assert_eq!(parse_duration("5s"), Ok(Duration::from_secs(5)));
        assert_eq!(parse_duration("1m1.5s"), Ok(Duration::from_millis(61_500)));
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
        for text in ["", "5", "s", "5x", "-5s", "1e300h"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }
}
