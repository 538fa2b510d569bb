//! Lines of a script into commands.

use model::{Labels, Timestamp};
use promql::series::{SeriesValue, parse_metric, parse_series};

#[derive(Debug)]
pub(super) enum Command {
    Clear,
    Load(Load),
    Eval(Eval),
}

#[derive(Debug)]
pub(super) struct Load {
    pub(super) step: i64,
    /// Classic histograms are loaded a second time as native ones with custom bounds.
    pub(super) with_nhcb: bool,
    pub(super) series: Vec<LoadSeries>,
}

#[derive(Debug)]
pub(super) struct LoadSeries {
    pub(super) labels: Labels,
    pub(super) values: Vec<SeriesValue>,
    /// For each value how far its start time is from its own, in milliseconds.
    pub(super) starts: Vec<Option<i64>>,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Time {
    Instant(Timestamp),
    Range { start: Timestamp, end: Timestamp, step: i64 },
}

#[derive(Debug)]
pub(super) struct Eval {
    pub(super) expr: String,
    pub(super) time: Time,
    pub(super) expectations: Vec<Expectation>,
    pub(super) results: Vec<Expected>,
}

#[derive(Debug)]
pub(super) enum Expected {
    Scalar(f64),
    Series(Labels, Vec<SeriesValue>),
}

#[derive(Debug)]
pub(super) enum Expectation {
    Fail(Text),
    Warn(Text),
    Info(Text),
    NoWarn,
    NoInfo,
    Ordered,
    /// An instant question that gives a range vector.
    Matrix {
        start: Timestamp,
        end: Timestamp,
        step: i64,
    },
    String(String),
}

/// What a text has to be.
#[derive(Debug)]
pub(super) enum Text {
    Any,
    Exact(String),
    Regex(model::regex::Regex),
}

impl Text {
    pub(super) fn matches(&self, text: &str) -> bool {
        match self {
            Text::Any => true,
            Text::Exact(t) => t == text,
            Text::Regex(r) => r.matches(text),
        }
    }
}

impl Eval {
    pub(super) fn fails(&self) -> bool {
        self.expectations.iter().any(|e| matches!(e, Expectation::Fail(_)))
    }

    pub(super) fn ordered(&self) -> bool {
        self.expectations.iter().any(|e| matches!(e, Expectation::Ordered))
    }
}

/// The commands of a script with the lines they begin at.
pub(super) fn commands(text: &str) -> Vec<(usize, Result<Command, String>)> {
    let lines: Vec<&str> =
        text.lines().map(str::trim).map(|l| if l.starts_with('#') { "" } else { l }).collect();
    let mut out = Vec::new();
    let mut at = 0;
    while at < lines.len() {
        let line = lines[at];
        if line.is_empty() {
            at += 1;
            continue;
        }
        let end = (at + 1..lines.len()).find(|i| lines[*i].is_empty()).unwrap_or(lines.len());
        let word = line.split_whitespace().next().unwrap_or_default().to_ascii_lowercase();
        // `clear` has no body: what follows is another command.
        let end = if word == "clear" { at + 1 } else { end };
        let body = &lines[at + 1..end];
        let command = match word.as_str() {
            "clear" => Ok(Command::Clear),
            "load" | "load_with_nhcb" => load(line, word == "load_with_nhcb", body).map(Command::Load),
            w if w.starts_with("eval") => eval(line, w, body).map(Command::Eval),
            w => Err(format!("unknown command {w:?}")),
        };
        out.push((at + 1, command));
        at = end;
    }
    out
}

/// A time or length: a duration, or seconds.
fn time(text: &str) -> Result<i64, String> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text),
    };
    if let Ok(ms) = model::time::parse_duration(digits) {
        return Ok(sign * ms);
    }
    digits
        .parse::<f64>()
        .map(|s| sign * (s * 1000.0).round() as i64)
        .map_err(|_| format!("not a time: {text:?}"))
}

fn load(line: &str, with_nhcb: bool, body: &[&str]) -> Result<Load, String> {
    let step = time(line.split_whitespace().nth(1).ok_or("load without a step")?)?;
    let mut load = Load { step, with_nhcb, series: Vec::new() };
    let mut starts: Option<(Labels, Vec<Option<i64>>)> = None;
    for line in body {
        if let Some((metric, rest)) = start_line(line) {
            starts = Some((parse_metric(metric).map_err(|e| e.to_string())?, start_items(rest)?));
            continue;
        }
        let parsed = parse_series(line).map_err(|e| format!("{line:?}: {e}"))?;
        let mut series = LoadSeries { labels: parsed.labels, values: parsed.values, starts: Vec::new() };
        if let Some((labels, items)) = starts.take() {
            if labels != series.labels {
                return Err(format!("start times are of {labels}, values of {}", series.labels));
            }
            series.starts = items;
        }
        load.series.push(series);
    }
    Ok(load)
}

/// `metric@st items`: splits off the metric.
fn start_line(line: &str) -> Option<(&str, &str)> {
    let at = line.find("@st")?;
    let (metric, rest) = (&line[..at], &line[at + 3..]);
    let begins_items = rest.starts_with(char::is_whitespace);
    (begins_items && (metric.ends_with('}') || !metric.contains('{'))).then_some((metric, rest))
}

/// `_ _x3 -1m -1m+1sx4`: offsets from the samples' times.
fn start_items(text: &str) -> Result<Vec<Option<i64>>, String> {
    let mut out = Vec::new();
    for item in text.split_whitespace() {
        let (body, times) = match item.rsplit_once('x') {
            Some((body, n)) => (body, n.parse::<usize>().map_err(|_| format!("bad repetition: {item:?}"))?),
            None => (item, 0),
        };
        if body == "_" {
            out.extend(std::iter::repeat_n(None, times.max(1)));
            continue;
        }
        let (first, step) = match body.char_indices().skip(1).find(|(_, c)| matches!(c, '+' | '-')) {
            Some((at, _)) => (&body[..at], Some(&body[at..])),
            None => (body, None),
        };
        let signed = |t: &str| time(t.strip_prefix('+').unwrap_or(t));
        let first = signed(first)?;
        let step = step.map(signed).transpose()?.unwrap_or(0);
        out.extend((0..=times as i64).map(|i| Some(first + step * i)));
    }
    Ok(out)
}

fn eval(line: &str, word: &str, body: &[&str]) -> Result<Eval, String> {
    let mut expectations = Vec::new();
    match word {
        "eval" => {}
        "eval_fail" => expectations.push(Expectation::Fail(Text::Any)),
        "eval_warn" => expectations.push(Expectation::Warn(Text::Any)),
        "eval_info" => expectations.push(Expectation::Info(Text::Any)),
        "eval_ordered" => expectations.push(Expectation::Ordered),
        other => return Err(format!("unknown command {other:?}")),
    }
    let mut words = Words(line);
    words.next();
    let time = match words.next().unwrap_or_default() {
        "instant" => {
            words.expect("at")?;
            Time::Instant(time(words.next().unwrap_or_default())?)
        }
        "range" => {
            words.expect("from")?;
            let (start, end, step) = words.range()?;
            Time::Range { start, end, step }
        }
        other => return Err(format!("neither instant nor range: {other:?}")),
    };
    let mut eval = Eval { expr: words.0.trim().to_owned(), time, expectations, results: Vec::new() };
    for line in body {
        if !expectation(line, &mut eval.expectations)? {
            eval.results.push(result(line)?);
        }
    }
    Ok(eval)
}

/// Words of a line, taken from the front.
struct Words<'a>(&'a str);

impl<'a> Words<'a> {
    fn next(&mut self) -> Option<&'a str> {
        let text = self.0.trim_start();
        let end = text.find(char::is_whitespace).unwrap_or(text.len());
        self.0 = &text[end..];
        (end > 0).then_some(&text[..end])
    }

    fn expect(&mut self, word: &str) -> Result<(), String> {
        match self.next() {
            Some(w) if w == word => Ok(()),
            w => Err(format!("expected {word:?}, got {w:?}")),
        }
    }

    /// `T to T step D`.
    fn range(&mut self) -> Result<(i64, i64, i64), String> {
        let start = time(self.next().unwrap_or_default())?;
        self.expect("to")?;
        let end = time(self.next().unwrap_or_default())?;
        self.expect("step")?;
        Ok((start, end, time(self.next().unwrap_or_default())?))
    }
}

/// Takes a directive; false where the line is none.
fn expectation(line: &str, out: &mut Vec<Expectation>) -> Result<bool, String> {
    if let Some(rest) = line.strip_prefix("expected_fail_message ") {
        out.push(Expectation::Fail(Text::Exact(rest.trim().to_owned())));
        return Ok(true);
    }
    if let Some(rest) = line.strip_prefix("expected_fail_regexp ") {
        out.push(Expectation::Fail(Text::Regex(unanchored(rest.trim())?)));
        return Ok(true);
    }
    let mut words = Words(line);
    if words.next() != Some("expect") {
        return Ok(false);
    }
    let expectation = match words.next().unwrap_or_default() {
        "fail" => Expectation::Fail(text(words.0)?),
        "warn" => Expectation::Warn(text(words.0)?),
        "info" => Expectation::Info(text(words.0)?),
        "no_warn" => Expectation::NoWarn,
        "no_info" => Expectation::NoInfo,
        "ordered" => Expectation::Ordered,
        "string" => Expectation::String(string(words.0.trim())?),
        "range" => {
            words.expect("vector")?;
            words.expect("from")?;
            let (start, end, step) = words.range()?;
            Expectation::Matrix { start, end, step }
        }
        other => return Err(format!("unknown expectation {other:?}")),
    };
    out.push(expectation);
    Ok(true)
}

fn text(rest: &str) -> Result<Text, String> {
    let rest = rest.trim();
    if rest.is_empty() {
        Ok(Text::Any)
    } else if let Some(exact) = rest.strip_prefix("msg:") {
        Ok(Text::Exact(exact.trim().to_owned()))
    } else if let Some(pattern) = rest.strip_prefix("regex:") {
        unanchored(pattern.trim()).map(Text::Regex)
    } else {
        Err(format!("expected msg: or regex:, got {rest:?}"))
    }
}

/// An expression that may match anywhere.
fn unanchored(pattern: &str) -> Result<model::regex::Regex, String> {
    model::regex::Regex::new(&format!(".*(?:{pattern}).*")).map_err(|e| e.to_string())
}

/// A quoted string, as a query has it.
fn string(text: &str) -> Result<String, String> {
    match promql::parse(text, promql::Options::ALL) {
        Ok(promql::Expr::String(s)) => Ok(s.text().into_owned()),
        Ok(_) => Err(format!("not a string: {text}")),
        Err(e) => Err(e.to_string()),
    }
}

fn result(line: &str) -> Result<Expected, String> {
    if let Some(v) = number(line) {
        return Ok(Expected::Scalar(v));
    }
    let parsed = parse_series(line).map_err(|e| format!("{line:?}: {e}"))?;
    Ok(Expected::Series(parsed.labels, parsed.values))
}

fn number(text: &str) -> Option<f64> {
    let mut expr = promql::parse(text, promql::Options::ALL).ok()?;
    let mut sign = 1.0;
    loop {
        match expr {
            promql::Expr::Number(n) => return Some(sign * n.value),
            promql::Expr::Unary(u) => {
                sign *= if u.negate { -1.0 } else { 1.0 };
                expr = *u.expr;
            }
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn start_times_unfold_like_values() {
        let items = start_items("_ _x2 -30s-1mx2 0 1ms -0msx1 +1m").unwrap();
        let want = [
            None,
            None,
            None,
            Some(-30_000),
            Some(-90_000),
            Some(-150_000),
            Some(0),
            Some(1),
            Some(0),
            Some(0),
            Some(60_000),
        ];
        assert_eq!(items, want);
    }

    #[test]
    fn commands_end_at_blank_lines_and_comments() {
        let text = "load 5m\n  a 1\n# c\n  b 2\n\nclear\nclear\neval instant at 5m a\n  a 1";
        let kinds: Vec<(usize, bool)> = commands(text).iter().map(|(l, c)| (*l, c.is_ok())).collect();
        assert_eq!(kinds, [(1, true), (4, false), (6, true), (7, true), (8, true)]);
    }
}
