//! VictoriaMetrics' export format: a line of JSON is a series with its values and their times.

use simd_json::{Node, StaticNode};

/// One line's series.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Line<'a> {
    pub labels: Vec<(&'a str, &'a str)>,
    pub values: Vec<f64>,
    /// In ms, one for each value.
    pub times: Vec<i64>,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    #[error("invalid JSON: {0}")]
    Syntax(String),
    #[error("{field}: {wanted} expected")]
    Type { field: &'static str, wanted: &'static str },
    #[error("{values} values, but {times} timestamps")]
    Uneven { values: usize, times: usize },
}

/// Reads one line, which is used up.
pub fn read(line: &mut [u8]) -> Result<Line<'_>, LineError> {
    let tape = simd_json::to_tape(line).map_err(|e| LineError::Syntax(e.to_string()))?;
    let nodes = &tape.0;
    let Some(Node::Object { len, .. }) = nodes.first() else {
        return Err(LineError::Type { field: "line", wanted: "an object" });
    };
    let (mut out, mut at) = (Line::default(), 1);
    for _ in 0..*len {
        let value = at + 1;
        match nodes.get(at) {
            Some(Node::String("metric")) => read_labels(nodes, value, &mut out.labels)?,
            Some(Node::String("values")) => read_list(nodes, value, "values", float, &mut out.values)?,
            Some(Node::String("timestamps")) => {
                read_list(nodes, value, "timestamps", integer, &mut out.times)?;
            }
            _ => {}
        }
        at = after(nodes, value);
    }
    let (values, times) = (out.values.len(), out.times.len());
    if values != times { Err(LineError::Uneven { values, times }) } else { Ok(out) }
}

fn after(nodes: &[Node<'_>], at: usize) -> usize {
    match nodes.get(at) {
        Some(Node::Object { count, .. } | Node::Array { count, .. }) => at + count + 1,
        _ => at + 1,
    }
}

fn read_labels<'a>(
    nodes: &[Node<'a>],
    at: usize,
    out: &mut Vec<(&'a str, &'a str)>,
) -> Result<(), LineError> {
    let Some(Node::Object { len, .. }) = nodes.get(at) else {
        return Err(LineError::Type { field: "metric", wanted: "an object" });
    };
    for pair in 0..*len {
        // Texts have no nodes within: a pair is two nodes.
        let i = at + 1 + 2 * pair;
        let (Some(Node::String(name)), Some(Node::String(value))) = (nodes.get(i), nodes.get(i + 1)) else {
            return Err(LineError::Type { field: "metric", wanted: "a text for each label" });
        };
        out.push((name, value));
    }
    Ok(())
}

fn read_list<T>(
    nodes: &[Node<'_>],
    at: usize,
    field: &'static str,
    read: fn(&Node<'_>) -> Option<T>,
    out: &mut Vec<T>,
) -> Result<(), LineError> {
    let Some(Node::Array { len, .. }) = nodes.get(at) else {
        return Err(LineError::Type { field, wanted: "a list" });
    };
    out.clear();
    for node in nodes.iter().skip(at + 1).take(*len) {
        out.push(read(node).ok_or(LineError::Type { field, wanted: "a number" })?);
    }
    Ok(())
}

/// What JSON has no number for is null, or a word.
fn float(node: &Node<'_>) -> Option<f64> {
    match node {
        Node::Static(StaticNode::F64(v)) => Some(*v),
        Node::Static(StaticNode::I64(v)) => Some(*v as f64),
        Node::Static(StaticNode::U64(v)) => Some(*v as f64),
        Node::Static(StaticNode::Null) | Node::String("NaN") => Some(model::NORMAL_NAN),
        Node::String("Infinity" | "Inf" | "+Inf") => Some(f64::INFINITY),
        Node::String("-Infinity" | "-Inf") => Some(f64::NEG_INFINITY),
        _ => None,
    }
}

fn integer(node: &Node<'_>) -> Option<i64> {
    match node {
        Node::Static(StaticNode::I64(v)) => Some(*v),
        Node::Static(StaticNode::U64(v)) => i64::try_from(*v).ok(),
        Node::Static(StaticNode::F64(v)) if v.abs() < 1e17 => Some(*v as i64),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LINE: &str = r#"{"metric":{"__name__":"m","a":"b\n"},"x":[1,{"y":2}],"values":[1,2.5,null,"-Infinity"],"timestamps":[1000,2000,3000,4e3]}"#;

    #[test]
    fn a_line_is_a_series() {
        let mut bytes = LINE.as_bytes().to_vec();
        let line = read(&mut bytes).unwrap();
        assert_eq!(line.labels, [("__name__", "m"), ("a", "b\n")]);
        assert_eq!(line.times, [1000, 2000, 3000, 4000]);
        assert_eq!((line.values[1], line.values[3]), (2.5, f64::NEG_INFINITY));
        assert!(line.values[2].is_nan());
    }

    #[test]
    fn what_is_no_series_is_refused() {
        let check = |text: &str, expect: &str| {
            let error = read(&mut text.as_bytes().to_vec()).unwrap_err().to_string();
            assert!(error.starts_with(expect), "{text}: {error}");
        };
        check("x", "invalid JSON");
        check("[]", "line: an object expected");
        check(r#"{"metric":{"a":1}}"#, "metric: a text for each label expected");
        check(r#"{"metric":[]}"#, "metric: an object expected");
        check(r#"{"values":[1,[2]],"timestamps":[1,2]}"#, "values: a number expected");
        check(r#"{"values":[1],"timestamps":[1,2]}"#, "1 values, but 2 timestamps");
    }

    proptest! {
        #[test]
        fn no_change_of_a_line_makes_it_panic(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
            let mut bytes = LINE.as_bytes().to_vec();
            let i = at.index(bytes.len());
            bytes[i] = byte;
            let _ = read(&mut bytes.clone());
            bytes.truncate(i);
            let _ = read(&mut bytes);
        }

        #[test]
        fn no_bytes_make_it_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = read(&mut bytes);
        }
    }
}
