//! Log lines as Prometheus writes them: `time=... level=INFO source=file:line msg="..." key=value`, or JSON.

use std::fmt::{self, Write};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::rt::clock::SystemClock;

struct Lines {
    is_json: bool,
}

/// Installs the process's log. Called once; a second call is ignored.
pub fn install(level: &str, format: &str) {
    let level = match level {
        "debug" => Level::DEBUG,
        "warn" => Level::WARN,
        "error" => Level::ERROR,
        _ => Level::INFO,
    };
    let filter = tracing_subscriber::EnvFilter::new(format!("systole={}", level.as_str().to_lowercase()));
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .event_format(Lines { is_json: format == "json" })
        .try_init();
}

#[derive(Default)]
struct Fields {
    message: String,
    rest: Vec<(&'static str, String)>,
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.message = value.to_owned();
        } else {
            self.rest.push((field.name(), value.to_owned()));
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }
}

fn logfmt_value(out: &mut String, value: &str) {
    let needs_quotes = value.is_empty() || value.contains(|c: char| c <= ' ' || c == '=' || c == '"');
    if needs_quotes { model::quote::push_quoted(out, value) } else { out.push_str(value) }
}

impl<S, N> FormatEvent<S, N> for Lines
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
        let meta = event.metadata();
        let time = millis_text(SystemClock::shared().now_ms());
        let file = meta.file().and_then(|f| f.rsplit("src/").next()).unwrap_or("");
        let source = format!("{file}:{}", meta.line().unwrap_or(0));
        let level = meta.level().as_str();
        let head = [("time", time.as_str()), ("level", level), ("source", &source), ("msg", &fields.message)];
        let pairs = head.into_iter().chain(fields.rest.iter().map(|(n, v)| (*n, v.as_str())));
        let mut line = String::new();
        for (i, (name, value)) in pairs.enumerate() {
            if self.is_json {
                let _ = write!(line, "{}{}:", if i == 0 { "{" } else { "," }, model::quote::quoted(name));
                model::quote::push_quoted(&mut line, value);
            } else {
                let _ = write!(line, "{}{name}=", if i == 0 { "" } else { " " });
                logfmt_value(&mut line, value);
            }
        }
        writeln!(writer, "{line}{}", if self.is_json { "}" } else { "" })
    }
}

/// RFC 3339 with exactly three decimals.
fn millis_text(ms: i64) -> String {
    let whole = model::civil::format_rfc3339(ms.div_euclid(1000), 0);
    format!("{}.{:03}Z", whole.trim_end_matches('Z'), ms.rem_euclid(1000))
}
