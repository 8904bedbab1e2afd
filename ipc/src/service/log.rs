//! The log: one line an event, as text or JSON, with the service's and the sandbox's name in each.
//!
//! Values may come from the guest: control characters are escaped, so that a line stays a line and a terminal that shows it is
//! not driven by it.
#![forbid(unsafe_code)]

use serde_json::{Map, Value};
use std::{
    fmt::{self, Write},
    fs::File,
    os::fd::OwnedFd,
    panic::PanicHookInfo,
};
use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    EnvFilter, Registry,
    fmt::{
        FmtContext, FormatEvent, FormatFields, FormattedFields,
        format::Writer,
        time::{FormatTime, SystemTime},
    },
    layer::SubscriberExt,
    registry::LookupSpan,
    reload,
    util::SubscriberInitExt,
};

/// Exit status of a service that panicked.
const PANICKED: i32 = 101;

/// What the log is to be.
pub(super) struct Settings<'a> {
    pub file: OwnedFd,
    pub filter: &'a str,
    pub json: bool,
    pub service: &'static str,
    pub sandbox: String,
}

/// A log filter that cannot be understood.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is no log filter: {1}")]
pub struct BadFilter(String, String);

/// Which events are logged; can be changed while the service runs.
#[derive(Clone, Debug)]
pub struct LogFilter(reload::Handle<EnvFilter, Registry>);

impl LogFilter {
    /// Changes it; returns the one before.
    pub fn set(&self, filter: &str) -> Result<String, BadFilter> {
        let new = parse(filter)?;
        let previous = self.0.with_current(ToString::to_string).unwrap_or_default();
        self.0.reload(new).map_err(|error| BadFilter(filter.to_owned(), error.to_string()))?;
        Ok(previous)
    }
}

fn parse(filter: &str) -> Result<EnvFilter, BadFilter> {
    EnvFilter::builder().parse(filter).map_err(|error| BadFilter(filter.to_owned(), error.to_string()))
}

/// Starts the log of this process. Panics are reported to it and end the process.
pub(super) fn start(settings: Settings<'_>) -> Result<LogFilter, BadFilter> {
    let (filter, handle) = reload::Layer::new(parse(settings.filter)?);
    let Settings { file, json, service, sandbox, .. } = settings;
    let lines = tracing_subscriber::fmt::layer()
        .with_ansi(false)
        .event_format(Lines { json, service, sandbox })
        .with_writer(File::from(file));
    // Fails only when there is a log already.
    let _ = tracing_subscriber::registry().with(filter).with(lines).try_init();
    std::panic::set_hook(Box::new(report_panic));
    Ok(LogFilter(handle))
}

fn report_panic(info: &PanicHookInfo<'_>) {
    let payload = info.payload();
    let message = payload.downcast_ref::<&str>().copied().or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    let place = info.location().map(ToString::to_string).unwrap_or_default();
    tracing::error!(place, "panicked: {}", message.unwrap_or("without a message"));
    std::process::exit(PANICKED);
}

/// The form of a line.
struct Lines {
    json: bool,
    service: &'static str,
    sandbox: String,
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let mut time = String::new();
        SystemTime.format_time(&mut Writer::new(&mut time))?;
        let spans = context.event_scope().into_iter().flat_map(|scope| scope.from_root()).map(|span| {
            let fields = span.extensions().get::<FormattedFields<N>>().map(|fields| fields.fields.clone()).unwrap_or_default();
            if fields.is_empty() { span.name().to_owned() } else { format!("{}{{{fields}}}", span.name()) }
        });
        let (level, target) = (event.metadata().level(), event.metadata().target());
        if self.json {
            let mut line = Map::new();
            line.insert("time".into(), time.into());
            line.insert("level".into(), level.as_str().into());
            line.insert("sandbox".into(), self.sandbox.as_str().into());
            line.insert("service".into(), self.service.into());
            line.insert("target".into(), target.into());
            line.insert("message".into(), fields.message.into());
            let spans: Vec<Value> = spans.map(Value::from).collect();
            if !spans.is_empty() {
                line.insert("spans".into(), spans.into());
            }
            if !fields.others.is_empty() {
                line.insert("fields".into(), Value::Object(fields.others));
            }
            return writeln!(writer, "{}", Value::Object(line));
        }
        let mut line = format!("{time} {level:>5} {}[{}] ", self.service, self.sandbox);
        for span in spans {
            write!(line, "{span}: ")?;
        }
        line.push_str(&fields.message);
        for (name, value) in &fields.others {
            write!(line, " {name}={value}")?;
        }
        for c in line.chars() {
            if c.is_control() { write!(writer, "{}", c.escape_default())? } else { writer.write_char(c)? }
        }
        writer.write_char('\n')
    }
}

/// An event's fields. JSON's quoting keeps control characters out of the values.
#[derive(Default)]
struct Fields {
    message: String,
    others: Map<String, Value>,
}

impl Fields {
    fn put(&mut self, field: &Field, value: Value) {
        self.others.insert(field.name().to_owned(), value);
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = format!("{value:?}");
        if field.name() == "message" { self.message = text } else { self.put(field, text.into()) }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" { self.message = value.to_owned() } else { self.put(field, value.into()) }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Seek};

    /// What two events look like in the log.
    fn lines(json: bool) -> Vec<String> {
        let file = nix::sys::memfd::memfd_create(c"log", nix::sys::memfd::MFdFlags::empty()).unwrap();
        let layer = tracing_subscriber::fmt::layer()
            .with_ansi(false)
            .event_format(Lines { json, service: "vfs", sandbox: "c1".to_owned() })
            .with_writer(File::from(file.try_clone().unwrap()));
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            let _span = tracing::info_span!("task", id = 7).entered();
            tracing::info!(count = 3u64, path = "/a\nb", "opened {}", "x\x1b[31m");
        });
        let mut text = String::new();
        let mut file = File::from(file);
        file.rewind().unwrap();
        file.read_to_string(&mut text).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn a_text_line_names_service_and_sandbox_and_holds_no_control_characters() {
        let lines = lines(false);
        assert_eq!(lines.len(), 1);
        assert!(lines[0].ends_with(r#"INFO vfs[c1] task{id=7}: opened x\u{1b}[31m count=3 path="/a\nb""#), "{lines:?}");
    }

    #[test]
    fn a_json_line_has_the_same_as_fields() {
        let line: Value = serde_json::from_str(&lines(true)[0]).unwrap();
        assert_eq!(line["service"], "vfs");
        assert_eq!(line["sandbox"], "c1");
        assert_eq!(line["level"], "INFO");
        assert_eq!(line["fields"]["path"], "/a\nb");
        assert_eq!(line["fields"]["count"], 3);
        assert_eq!(line["spans"][0], "task{id=7}");
    }
}
