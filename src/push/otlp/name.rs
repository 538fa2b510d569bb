//! Names of OpenTelemetry as names of series and labels: the rules of Prometheus's translator.

use exposition::otlp::Kind;
use model::quote::quoted;

/// How names are translated: `otlp.translation_strategy` and the settings of labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Naming {
    /// To the characters that names had before UTF-8.
    pub escapes: bool,
    /// Units and kinds are told by suffixes.
    pub suffixes: bool,
    /// A label name that begins with `_` becomes one that begins with `key_`.
    pub sanitizes_underscore: bool,
    pub preserves_underscores: bool,
}

const UNITS: [(&str, &str); 24] = [
    ("d", "days"),
    ("h", "hours"),
    ("min", "minutes"),
    ("s", "seconds"),
    ("ms", "milliseconds"),
    ("us", "microseconds"),
    ("ns", "nanoseconds"),
    ("By", "bytes"),
    ("KiBy", "kibibytes"),
    ("MiBy", "mebibytes"),
    ("GiBy", "gibibytes"),
    ("TiBy", "tibibytes"),
    ("KBy", "kilobytes"),
    ("MBy", "megabytes"),
    ("GBy", "gigabytes"),
    ("TBy", "terabytes"),
    ("m", "meters"),
    ("V", "volts"),
    ("A", "amperes"),
    ("J", "joules"),
    ("W", "watts"),
    ("g", "grams"),
    ("Cel", "celsius"),
    ("Hz", "hertz"),
];

const MORE_UNITS: [(&str, &str); 2] = [("1", ""), ("%", "percent")];

const PER_UNITS: [(&str, &str); 7] = [
    ("s", "second"),
    ("m", "minute"),
    ("h", "hour"),
    ("d", "day"),
    ("w", "week"),
    ("mo", "month"),
    ("y", "year"),
];

/// The word for a unit, or the unit itself.
fn word<'a>(table: impl IntoIterator<Item = &'a (&'a str, &'a str)>, unit: &'a str) -> &'a str {
    table.into_iter().find(|(u, _)| *u == unit).map_or(unit, |(_, word)| word)
}

/// Words of a unit's parts before and behind its slash, the second with `per_`; empty where there is nothing to say.
fn unit_words(unit: &str) -> (String, String) {
    let (main, per) = unit.split_once('/').unwrap_or((unit, ""));
    let is_said = |part: &str| !part.is_empty() && !part.contains(['{', '}']);
    let (main, per) = (main.trim(), per.trim());
    let main = if is_said(main) { word(UNITS.iter().chain(&MORE_UNITS), main) } else { "" };
    let per = if is_said(per) { word(&PER_UNITS, per) } else { "" };
    let per = if per.is_empty() { String::new() } else { format!("per_{per}") };
    (main.to_owned(), per)
}

/// Letters, digits and colons stay, runs of others are one `_`, none at the beginning.
fn clean_unit(unit: &str) -> String {
    let mut out = String::new();
    for c in unit.chars() {
        match c.is_ascii_alphanumeric() || c == ':' {
            true => out.push(c),
            false if out.ends_with('_') => {}
            false => out.push('_'),
        }
    }
    out.strip_prefix('_').map(str::to_owned).unwrap_or(out)
}

/// The value of the label `__unit__`.
pub(super) fn unit_label(unit: &str) -> String {
    let (main, per) = unit_words(unit);
    let (main, per) = (clean_unit(&main), clean_unit(&per));
    let joined = match (main.is_empty(), per.is_empty()) {
        (false, false) => format!("{main}_{per}"),
        (false, true) => main,
        _ => per,
    };
    let joined = joined.strip_prefix('_').unwrap_or(&joined);
    joined.strip_suffix('_').unwrap_or(joined).to_owned()
}

impl Naming {
    /// The name of a metric's series.
    pub fn metric(&self, name: &str, unit: &str, kind: Kind, is_monotonic: bool) -> Result<String, String> {
        let (is_counter, is_gauge) = (kind == Kind::Sum && is_monotonic, kind == Kind::Gauge);
        if !self.escapes {
            let with = || with_suffixes(name, unit, is_counter, is_gauge);
            return Ok(if self.suffixes { with() } else { name.to_owned() });
        }
        let made = match self.suffixes {
            true => from_tokens(name, unit, is_counter, is_gauge),
            false => {
                let is_other = |c: char| !(c.is_ascii_alphanumeric() || c == ':' || c == '_');
                let parts: Vec<&str> = name.split(is_other).filter(|p| !p.is_empty()).collect();
                parts.join("_")
            }
        };
        let made = if made.starts_with(|c: char| c.is_ascii_digit()) { format!("_{made}") } else { made };
        if made.is_empty() {
            return Err(format!("normalization for metric {} resulted in empty name", quoted(name)));
        }
        if made != name && made.bytes().all(|b| b == b'_') {
            let (name, made) = (quoted(name), quoted(&made));
            return Err(format!("normalization for metric {name} resulted in invalid name {made}"));
        }
        Ok(made)
    }

    /// The name of an attribute's label.
    pub fn label(&self, name: &str) -> Result<String, String> {
        if name.is_empty() {
            return Err("label name is empty".to_owned());
        }
        let is_blank = |t: &str| t.bytes().all(|b| b == b'_');
        if !self.escapes {
            return match is_blank(name) {
                true => Err(format!("label name {} contains only underscores", quoted(name))),
                false => Ok(name.to_owned()),
            };
        }
        let mut made = self.sanitized(name);
        if made.starts_with(|c: char| c.is_ascii_digit()) {
            made.insert_str(0, "key_");
        } else if self.sanitizes_underscore && made.starts_with('_') && !made.starts_with("__") {
            made.insert_str(0, "key");
        }
        if is_blank(&made) {
            let (name, made) = (quoted(name), quoted(&made));
            return Err(format!("normalization for label name {name} resulted in invalid name {made}"));
        }
        Ok(made)
    }

    fn sanitized(&self, name: &str) -> String {
        let valid = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
        if self.preserves_underscores {
            return name.chars().map(valid).collect();
        }
        let inner = name.strip_prefix("__").and_then(|n| n.strip_suffix("__")).filter(|n| !n.is_empty());
        let mut out = String::new();
        for c in inner.unwrap_or(name).chars().map(valid) {
            if c != '_' || !out.ends_with('_') {
                out.push(c);
            }
        }
        if inner.is_some() { format!("__{out}__") } else { out }
    }
}

/// Words of the name, then of the unit, then of the kind, joined by `_`.
fn from_tokens(name: &str, unit: &str, is_counter: bool, is_gauge: bool) -> String {
    let is_other = |c: char| !(c.is_ascii_alphanumeric() || c == ':');
    let mut tokens: Vec<&str> = name.split(is_other).filter(|t| !t.is_empty()).collect();
    let (main, per) = unit_words(unit);
    let (mut main, mut per) = (clean_unit(&main), clean_unit(&per));
    if tokens.contains(&main.as_str()) {
        main.clear();
    }
    if per == "per_" {
        per.clear();
    } else if let Some(shorter) = per.strip_suffix('_') {
        per = shorter.to_owned();
    }
    if tokens.contains(&per.as_str()) {
        per.clear();
    }
    if !per.is_empty() && main.ends_with('_') {
        main.pop();
    }
    tokens.extend([main.as_str(), per.as_str()].into_iter().filter(|t| !t.is_empty()));
    for (is_wanted, word) in [(is_counter, "total"), (is_gauge && unit == "1", "ratio")] {
        if is_wanted {
            tokens.retain(|t| *t != word);
            tokens.push(word);
        }
    }
    tokens.join("_")
}

/// The name as it is, with its suffixes moved to their places behind it.
fn with_suffixes(name: &str, unit: &str, is_counter: bool, is_gauge: bool) -> String {
    let is_ratio = is_gauge && unit == "1";
    let (main, per) = unit_words(unit);
    let mut out = name;
    for (is_wanted, suffix) in [(is_ratio, "ratio"), (is_counter, "total"), (!per.is_empty(), per.as_str())] {
        if is_wanted {
            out = without_suffix(out, suffix);
        }
    }
    let mut out = out.to_owned();
    if !main.is_empty() && !out.ends_with(&main) {
        out.push('_');
        out.push_str(&main);
    }
    for (is_wanted, suffix) in [(!per.is_empty(), per.as_str()), (is_counter, "total"), (is_ratio, "ratio")] {
        if is_wanted {
            out.push('_');
            out.push_str(suffix);
        }
    }
    out
}

/// Without a suffix and the character before it, whatever it is.
fn without_suffix<'a>(name: &'a str, suffix: &str) -> &'a str {
    let Some(rest) = name.strip_suffix(suffix).filter(|rest| rest.len() > 1) else { return name };
    let mut chars = rest.chars();
    chars.next_back();
    chars.as_str()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEFAULT: Naming =
        Naming { escapes: true, suffixes: true, sanitizes_underscore: true, preserves_underscores: true };

    #[test]
    fn metrics_are_named_as_prometheus_names_them() {
        let check = |name: &str, unit: &str, kind: (Kind, bool), expect: [&str; 4]| {
            let got =
                [(true, true), (true, false), (false, true), (false, false)].map(|(escapes, suffixes)| {
                    Naming { escapes, suffixes, ..DEFAULT }
                        .metric(name, unit, kind.0, kind.1)
                        .unwrap_or_else(|e| e)
                });
            assert_eq!(got, expect, "{name} {unit} {kind:?}");
        };
        let (gauge, sum, counter) = ((Kind::Gauge, false), (Kind::Sum, false), (Kind::Sum, true));
        check(
            "http.server.duration",
            "s",
            (Kind::Histogram, false),
            [
                "http_server_duration_seconds",
                "http_server_duration",
                "http.server.duration_seconds",
                "http.server.duration",
            ],
        );
        check("a__b", "", sum, ["a_b", "a__b", "a__b", "a__b"]);
        check("x", "1", gauge, ["x_ratio", "x", "x_ratio", "x"]);
        check("x.ratio.y", "1", gauge, ["x_y_ratio", "x_ratio_y", "x.ratio.y_ratio", "x.ratio.y"]);
        check("x", "1", counter, ["x_total", "x", "x_total", "x"]);
        check("total.x", "By", counter, ["x_bytes_total", "total_x", "total.x_bytes_total", "total.x"]);
        check(
            "x.total",
            "By/s",
            counter,
            ["x_bytes_per_second_total", "x_total", "x_bytes_per_second_total", "x.total"],
        );
        check("x_bytes", "By", gauge, ["x_bytes", "x_bytes", "x_bytes", "x_bytes"]);
        check("x", "{packets}/m", sum, ["x_per_minute", "x", "x_per_minute", "x"]);
        check("x", "m/s", gauge, ["x_meters_per_second", "x", "x_meters_per_second", "x"]);
        check("x", "foo bar/{y}", gauge, ["x_foo_bar", "x", "x_foo bar", "x"]);
        check("1x", "%", gauge, ["_1x_percent", "_1x", "1x_percent", "1x"]);
        let empty = "normalization for metric \"...\" resulted in empty name";
        check("...", "", sum, [empty, empty, "...", "..."]);
    }

    #[test]
    fn labels_are_named_as_prometheus_names_them() {
        let check = |name: &str, expect: &str| assert_eq!(DEFAULT.label(name).unwrap_or_else(|e| e), expect);
        check("http.method", "http_method");
        check("a..b", "a__b");
        check("0a", "key_0a");
        check("_a", "key_a");
        check(".a", "key_a");
        check("__a", "__a");
        check("ä", "key_");
        check("", "label name is empty");
        check("__", "normalization for label name \"__\" resulted in invalid name \"__\"");
        let collapsing = Naming { preserves_underscores: false, ..DEFAULT };
        assert_eq!(collapsing.label("a..__b"), Ok("a_b".to_owned()));
        assert_eq!(collapsing.label("__a..b__"), Ok("__a_b__".to_owned()));
        let plain = Naming { escapes: false, ..DEFAULT };
        assert_eq!(plain.label("a.b"), Ok("a.b".to_owned()));
        assert!(plain.label("__").is_err());
        assert_eq!(unit_label("By/s"), "bytes_per_second");
        assert_eq!(unit_label("{x}/s"), "per_second");
    }
}
