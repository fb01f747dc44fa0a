//! The log, in the two forms that zap gives to every controller: `time TAB LEVEL TAB logger TAB message
//! TAB {fields}` for people, and one JSON object a line. What the guides tell people to grep is found.

use std::fmt;
use std::io;

use jiff::Timestamp;
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::{Log, TimeEncoding};

/// Writes the log of this process to stderr from now on. A second call changes nothing.
pub fn start(log: Log) {
    let _ = tracing_subscriber::registry().with(layer(log, io::stderr)).try_init();
}

/// Our own messages from the level that was asked for on, those of libraries only if they warn.
fn layer<S, W>(log: Log, writer: W) -> impl Layer<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let libraries = LevelFilter::from_level(Level::WARN.min(log.level));
    let targets = Targets::new().with_default(libraries).with_target("holdfast", log.level);
    tracing_subscriber::fmt::layer().event_format(Zap(log)).with_writer(writer).with_filter(targets)
}

/// zap's two encoders.
struct Zap(Log);

impl<S, N> FormatEvent<S, N> for Zap
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let metadata = event.metadata();
        let logger = logger(metadata.target());
        let level = level(*metadata.level());
        let time = time(self.0.time, Timestamp::now());
        if self.0.json {
            let mut line = Map::new();
            line.insert("level".to_owned(), level.to_ascii_lowercase().into());
            line.insert("ts".to_owned(), time);
            line.insert("logger".to_owned(), logger.into());
            line.insert("msg".to_owned(), fields.message.into());
            line.extend(fields.rest);
            return writeln!(writer, "{}", Value::Object(line));
        }
        let time = time.as_str().map_or_else(|| time.to_string(), str::to_owned);
        // A message is one line, whatever a peer has put into it.
        let message = fields.message.replace(['\n', '\r', '\t'], " ");
        write!(writer, "{time}\t{level}\t{logger}\t{message}")?;
        if !fields.rest.is_empty() {
            write!(writer, "\t{}", Value::Object(fields.rest))?;
        }
        writeln!(writer)
    }
}

/// `holdfast_manager::users::sync` is the logger `manager.users.sync`.
fn logger(target: &str) -> String {
    target.strip_prefix("holdfast_").unwrap_or(target).replace("::", ".")
}

fn level(level: Level) -> &'static str {
    match level {
        Level::ERROR => "ERROR",
        Level::WARN => "WARN",
        Level::INFO => "INFO",
        _ => "DEBUG",
    }
}

/// Numbers where zap has numbers.
fn time(encoding: TimeEncoding, now: Timestamp) -> Value {
    let text = |format: &str| Value::from(now.strftime(format).to_string());
    match encoding {
        TimeEncoding::Epoch => now.as_duration().as_secs_f64().into(),
        TimeEncoding::Millis => (now.as_duration().as_secs_f64() * 1e3).into(),
        // Fits until the year 2262.
        TimeEncoding::Nano => i64::try_from(now.as_nanosecond()).unwrap_or(i64::MAX).into(),
        TimeEncoding::Iso8601 => text("%Y-%m-%dT%H:%M:%S.%3fZ"),
        TimeEncoding::Rfc3339 => text("%Y-%m-%dT%H:%M:%SZ"),
        TimeEncoding::Rfc3339Nano => Value::from(now.to_string()),
    }
}

#[derive(Default)]
struct Fields {
    message: String,
    rest: Map<String, Value>,
}

impl Fields {
    fn put(&mut self, field: &Field, value: Value) {
        match (field.name(), value) {
            ("message", Value::String(text)) => self.message = text,
            (name, value) => {
                self.rest.insert(name.to_owned(), value);
            }
        }
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}").into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value.into());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn written(log: Log, say: impl FnOnce()) -> String {
        let sink = Sink::default();
        let made = sink.clone();
        let subscriber = tracing_subscriber::registry().with(layer(log, move || made.clone()));
        tracing::subscriber::with_default(subscriber, say);
        String::from_utf8(sink.0.lock().unwrap().clone()).unwrap()
    }

    const CONSOLE: Log = Log { json: false, level: Level::INFO, time: TimeEncoding::Rfc3339 };

    #[test]
    fn as_zap_writes_it_for_people() {
        let text = written(CONSOLE, || {
            let target = "netmaker";
            tracing::info!(interface = target, attempt = 2, ok = true, "Found WireGuard interface");
            tracing::debug!("not shown");
            tracing::warn!(error = %"a \"b\"", "one\nline");
            tracing::info!(target: "kube_client", "not shown");
        });
        let lines: Vec<&str> = text.lines().collect();
        let [found, warned] = lines[..] else { panic!("{text}") };
        let (time, rest) = found.split_once('\t').unwrap();
        assert!(time.parse::<Timestamp>().is_ok() && time.len() == 20, "{time}");
        assert_eq!(
            rest,
            "INFO\tmanager.log.tests\tFound WireGuard interface\t\
             {\"interface\":\"netmaker\",\"attempt\":2,\"ok\":true}"
        );
        assert!(warned.ends_with("WARN\tmanager.log.tests\tone line\t{\"error\":\"a \\\"b\\\"\"}"));
    }

    #[test]
    fn as_zap_writes_it_for_machines() {
        let log = Log { json: true, level: Level::DEBUG, time: TimeEncoding::Epoch };
        let text = written(log, || tracing::debug!(attempt = 1, "Attempting"));
        let value: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["level"], "debug");
        assert!(value["ts"].as_f64().unwrap() > 1e9);
        assert_eq!(value["logger"], "manager.log.tests");
        assert_eq!((&value["msg"], &value["attempt"]), (&"Attempting".into(), &1.into()));
    }

    #[test]
    fn points_in_time() {
        let now: Timestamp = "2026-11-22T01:02:03.0045Z".parse().unwrap();
        for (encoding, text) in [
            (TimeEncoding::Rfc3339, "\"2026-11-22T01:02:03Z\""),
            (TimeEncoding::Iso8601, "\"2026-11-22T01:02:03.004Z\""),
            (TimeEncoding::Rfc3339Nano, "\"2026-11-22T01:02:03.0045Z\""),
            (TimeEncoding::Nano, "1795309323004500000"),
        ] {
            assert_eq!(time(encoding, now).to_string(), text);
        }
    }
}
