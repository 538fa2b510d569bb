//! OTLP's JSON form, rewritten as the protobuf form by a table of its messages: one reader serves both.
//!
//! The mapping is protobuf's JSON mapping with OTLP's exceptions: names in lowerCamelCase (the names of the fields are
//! taken too), 64-bit integers as numbers or texts, enums as numbers or names, trace and span ids in hexadecimal.
//! Unknown fields and nulls are passed over.

use simd_json::{Node, StaticNode};

use crate::base64::from_base64;

/// Why a JSON body is no request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    #[error("invalid JSON: {0}")]
    Syntax(String),
    #[error("field {field}: {wanted} expected")]
    Type { field: &'static str, wanted: &'static str },
    #[error("values are nested too deeply")]
    TooDeep,
}

/// Messages within messages: a request is eight deep, the rest is for values within values.
const DEPTH_MAX: usize = 64;

/// A length is written before its message is: in four bytes, which hold 2^28.
const LENGTH_BYTES: usize = 4;

#[derive(Clone, Copy)]
enum Form {
    Message(&'static Message),
    Text,
    /// Base64.
    Bytes,
    /// Hexadecimal.
    Id,
    Bool,
    Double,
    Fixed,
    SignedFixed,
    Varint,
    Zigzag,
    Temporality,
}

/// The fields of a message that are read.
struct Message(&'static [Field]);

struct Field {
    name: &'static str,
    /// As in the proto file, where it differs.
    snake: &'static str,
    number: u8,
    form: Form,
}

const fn field(name: &'static str, snake: &'static str, number: u8, form: Form) -> Field {
    Field { name, snake, number, form }
}

static REQUEST: Message =
    Message(&[field("resourceMetrics", "resource_metrics", 1, Form::Message(&RESOURCE_METRICS))]);
static RESOURCE_METRICS: Message = Message(&[
    field("resource", "", 1, Form::Message(&RESOURCE)),
    field("scopeMetrics", "scope_metrics", 2, Form::Message(&SCOPE_METRICS)),
    field("schemaUrl", "schema_url", 3, Form::Text),
]);
static RESOURCE: Message = Message(&[field("attributes", "", 1, Form::Message(&KEY_VALUE))]);
static SCOPE_METRICS: Message = Message(&[
    field("scope", "", 1, Form::Message(&SCOPE)),
    field("metrics", "", 2, Form::Message(&METRIC)),
    field("schemaUrl", "schema_url", 3, Form::Text),
]);
static SCOPE: Message = Message(&[
    field("name", "", 1, Form::Text),
    field("version", "", 2, Form::Text),
    field("attributes", "", 3, Form::Message(&KEY_VALUE)),
]);
static METRIC: Message = Message(&[
    field("name", "", 1, Form::Text),
    field("description", "", 2, Form::Text),
    field("unit", "", 3, Form::Text),
    field("gauge", "", 5, Form::Message(&GAUGE)),
    field("sum", "", 7, Form::Message(&SUM)),
    field("histogram", "", 9, Form::Message(&HISTOGRAM)),
    field("exponentialHistogram", "exponential_histogram", 10, Form::Message(&EXPONENTIAL)),
    field("summary", "", 11, Form::Message(&SUMMARY)),
]);
static GAUGE: Message = Message(&[field("dataPoints", "data_points", 1, Form::Message(&NUMBER_POINT))]);
static SUM: Message = Message(&[
    field("dataPoints", "data_points", 1, Form::Message(&NUMBER_POINT)),
    field("aggregationTemporality", "aggregation_temporality", 2, Form::Temporality),
    field("isMonotonic", "is_monotonic", 3, Form::Bool),
]);
static HISTOGRAM: Message = Message(&[
    field("dataPoints", "data_points", 1, Form::Message(&HISTOGRAM_POINT)),
    field("aggregationTemporality", "aggregation_temporality", 2, Form::Temporality),
]);
static EXPONENTIAL: Message = Message(&[
    field("dataPoints", "data_points", 1, Form::Message(&EXPONENTIAL_POINT)),
    field("aggregationTemporality", "aggregation_temporality", 2, Form::Temporality),
]);
static SUMMARY: Message = Message(&[field("dataPoints", "data_points", 1, Form::Message(&SUMMARY_POINT))]);
static NUMBER_POINT: Message = Message(&[
    field("startTimeUnixNano", "start_time_unix_nano", 2, Form::Fixed),
    field("timeUnixNano", "time_unix_nano", 3, Form::Fixed),
    field("asDouble", "as_double", 4, Form::Double),
    field("exemplars", "", 5, Form::Message(&EXEMPLAR)),
    field("asInt", "as_int", 6, Form::SignedFixed),
    field("attributes", "", 7, Form::Message(&KEY_VALUE)),
    field("flags", "", 8, Form::Varint),
]);
static HISTOGRAM_POINT: Message = Message(&[
    field("startTimeUnixNano", "start_time_unix_nano", 2, Form::Fixed),
    field("timeUnixNano", "time_unix_nano", 3, Form::Fixed),
    field("count", "", 4, Form::Fixed),
    field("sum", "", 5, Form::Double),
    field("bucketCounts", "bucket_counts", 6, Form::Fixed),
    field("explicitBounds", "explicit_bounds", 7, Form::Double),
    field("exemplars", "", 8, Form::Message(&EXEMPLAR)),
    field("attributes", "", 9, Form::Message(&KEY_VALUE)),
    field("flags", "", 10, Form::Varint),
]);
static EXPONENTIAL_POINT: Message = Message(&[
    field("attributes", "", 1, Form::Message(&KEY_VALUE)),
    field("startTimeUnixNano", "start_time_unix_nano", 2, Form::Fixed),
    field("timeUnixNano", "time_unix_nano", 3, Form::Fixed),
    field("count", "", 4, Form::Fixed),
    field("sum", "", 5, Form::Double),
    field("scale", "", 6, Form::Zigzag),
    field("zeroCount", "zero_count", 7, Form::Fixed),
    field("positive", "", 8, Form::Message(&BUCKETS)),
    field("negative", "", 9, Form::Message(&BUCKETS)),
    field("flags", "", 10, Form::Varint),
    field("exemplars", "", 11, Form::Message(&EXEMPLAR)),
]);
static BUCKETS: Message =
    Message(&[field("offset", "", 1, Form::Zigzag), field("bucketCounts", "bucket_counts", 2, Form::Varint)]);
static SUMMARY_POINT: Message = Message(&[
    field("startTimeUnixNano", "start_time_unix_nano", 2, Form::Fixed),
    field("timeUnixNano", "time_unix_nano", 3, Form::Fixed),
    field("count", "", 4, Form::Fixed),
    field("sum", "", 5, Form::Double),
    field("quantileValues", "quantile_values", 6, Form::Message(&QUANTILE)),
    field("attributes", "", 7, Form::Message(&KEY_VALUE)),
    field("flags", "", 8, Form::Varint),
]);
static QUANTILE: Message =
    Message(&[field("quantile", "", 1, Form::Double), field("value", "", 2, Form::Double)]);
static EXEMPLAR: Message = Message(&[
    field("timeUnixNano", "time_unix_nano", 2, Form::Fixed),
    field("asDouble", "as_double", 3, Form::Double),
    field("spanId", "span_id", 4, Form::Id),
    field("traceId", "trace_id", 5, Form::Id),
    field("asInt", "as_int", 6, Form::SignedFixed),
    field("filteredAttributes", "filtered_attributes", 7, Form::Message(&KEY_VALUE)),
]);
static KEY_VALUE: Message =
    Message(&[field("key", "", 1, Form::Text), field("value", "", 2, Form::Message(&ANY_VALUE))]);
static ANY_VALUE: Message = Message(&[
    field("stringValue", "string_value", 1, Form::Text),
    field("boolValue", "bool_value", 2, Form::Bool),
    field("intValue", "int_value", 3, Form::Varint),
    field("doubleValue", "double_value", 4, Form::Double),
    field("arrayValue", "array_value", 5, Form::Message(&ARRAY)),
    field("kvlistValue", "kvlist_value", 6, Form::Message(&MAP)),
    field("bytesValue", "bytes_value", 7, Form::Bytes),
]);
static ARRAY: Message = Message(&[field("values", "", 1, Form::Message(&ANY_VALUE))]);
static MAP: Message = Message(&[field("values", "", 1, Form::Message(&KEY_VALUE))]);

/// Rewrites a JSON request; `json` is used up.
pub fn to_protobuf(json: &mut [u8]) -> Result<Vec<u8>, JsonError> {
    let room = json.len();
    let tape = simd_json::to_tape(json).map_err(|e| JsonError::Syntax(e.to_string()))?;
    let mut writer = Writer { nodes: &tape.0, out: Vec::with_capacity(room) };
    writer.message(0, &REQUEST, "", 0)?;
    Ok(writer.out)
}

struct Writer<'t, 'i> {
    nodes: &'t [Node<'i>],
    out: Vec<u8>,
}

impl<'t, 'i> Writer<'t, 'i> {
    /// The node after the value at `at`.
    fn after(&self, at: usize) -> usize {
        match self.nodes.get(at) {
            Some(Node::Object { count, .. } | Node::Array { count, .. }) => at + count + 1,
            _ => at + 1,
        }
    }

    /// Writes the fields of the object at `at`.
    fn message(
        &mut self,
        at: usize,
        message: &'static Message,
        name: &'static str,
        depth: usize,
    ) -> Result<(), JsonError> {
        if depth > DEPTH_MAX {
            return Err(JsonError::TooDeep);
        }
        let Some(Node::Object { len, .. }) = self.nodes.get(at) else {
            return Err(JsonError::Type { field: name, wanted: "an object" });
        };
        let mut next = at + 1;
        for _ in 0..*len {
            let value = next + 1;
            let known = match self.nodes.get(next) {
                Some(Node::String(key)) => message.0.iter().find(|f| f.name == *key || f.snake == *key),
                _ => None,
            };
            if let Some(field) = known {
                self.field(value, field, depth)?;
            }
            next = self.after(value);
        }
        Ok(())
    }

    /// Writes one value or all of a list.
    fn field(&mut self, at: usize, field: &'static Field, depth: usize) -> Result<(), JsonError> {
        let Some(Node::Array { len, .. }) = self.nodes.get(at) else {
            return self.value(at, field, depth);
        };
        let mut next = at + 1;
        for _ in 0..*len {
            self.value(next, field, depth)?;
            next = self.after(next);
        }
        Ok(())
    }

    fn value(&mut self, at: usize, field: &'static Field, depth: usize) -> Result<(), JsonError> {
        let wrong = |wanted| JsonError::Type { field: field.name, wanted };
        let node = *self.nodes.get(at).ok_or(wrong("a value"))?;
        if matches!(node, Node::Static(StaticNode::Null)) {
            return Ok(());
        }
        match field.form {
            Form::Message(message) => {
                self.key(field, 2);
                let from = self.out.len();
                self.out.extend_from_slice(&[0; LENGTH_BYTES]);
                self.message(at, message, field.name, depth + 1)?;
                let length = self.out.len() - from - LENGTH_BYTES;
                self.patch_length(from, length);
            }
            Form::Text => self.sized(field, text(node).ok_or(wrong("a text"))?.as_bytes()),
            Form::Bytes => {
                let bytes = text(node).and_then(from_base64).ok_or(wrong("base64"))?;
                self.sized(field, &bytes);
            }
            Form::Id => {
                let bytes = text(node).and_then(from_hex).ok_or(wrong("hexadecimal digits"))?;
                self.sized(field, &bytes);
            }
            Form::Bool => {
                let Node::Static(StaticNode::Bool(b)) = node else { return Err(wrong("true or false")) };
                self.varint(field, u64::from(b));
            }
            Form::Double => self.fixed(field, double(node).ok_or(wrong("a number"))?.to_bits()),
            Form::Fixed => self.fixed(field, unsigned(node).ok_or(wrong("a whole number"))?),
            Form::SignedFixed => self.fixed(field, signed(node).ok_or(wrong("a whole number"))? as u64),
            Form::Varint => {
                let v = signed(node).map(|v| v as u64).or_else(|| unsigned(node));
                self.varint(field, v.ok_or(wrong("a whole number"))?);
            }
            Form::Zigzag => {
                let v = signed(node).and_then(|v| i32::try_from(v).ok()).ok_or(wrong("a whole number"))?;
                self.varint(field, u64::from(((v << 1) ^ (v >> 31)) as u32));
            }
            Form::Temporality => {
                let v = match text(node) {
                    Some("AGGREGATION_TEMPORALITY_UNSPECIFIED") => 0,
                    Some("AGGREGATION_TEMPORALITY_DELTA") => 1,
                    Some("AGGREGATION_TEMPORALITY_CUMULATIVE") => 2,
                    _ => unsigned(node).ok_or(wrong("an aggregation temporality"))?,
                };
                self.varint(field, v);
            }
        }
        Ok(())
    }

    fn key(&mut self, field: &Field, wire: u8) {
        self.out.push(field.number << 3 | wire);
    }

    fn varint(&mut self, field: &Field, value: u64) {
        self.key(field, 0);
        push_varint(&mut self.out, value);
    }

    fn fixed(&mut self, field: &Field, value: u64) {
        self.key(field, 1);
        self.out.extend_from_slice(&value.to_le_bytes());
    }

    fn sized(&mut self, field: &Field, bytes: &[u8]) {
        self.key(field, 2);
        push_varint(&mut self.out, bytes.len() as u64);
        self.out.extend_from_slice(bytes);
    }

    /// A varint that is as wide as the room that was left for it.
    fn patch_length(&mut self, at: usize, length: usize) {
        for i in 0..LENGTH_BYTES {
            let is_last = i + 1 == LENGTH_BYTES;
            self.out[at + i] = (length >> (7 * i)) as u8 & 0x7f | if is_last { 0 } else { 0x80 };
        }
    }
}

fn push_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn text<'i>(node: Node<'i>) -> Option<&'i str> {
    match node {
        Node::String(text) => Some(text),
        _ => None,
    }
}

fn unsigned(node: Node<'_>) -> Option<u64> {
    match node {
        Node::String(text) => text.parse().ok(),
        Node::Static(StaticNode::U64(v)) => Some(v),
        Node::Static(StaticNode::I64(v)) => u64::try_from(v).ok(),
        _ => None,
    }
}

fn signed(node: Node<'_>) -> Option<i64> {
    match node {
        Node::String(text) => text.parse().ok(),
        Node::Static(StaticNode::U64(v)) => i64::try_from(v).ok(),
        Node::Static(StaticNode::I64(v)) => Some(v),
        _ => None,
    }
}

fn double(node: Node<'_>) -> Option<f64> {
    match node {
        Node::String("NaN") => Some(f64::NAN),
        Node::String("Infinity") => Some(f64::INFINITY),
        Node::String("-Infinity") => Some(f64::NEG_INFINITY),
        Node::String(text) => text.parse().ok(),
        Node::Static(StaticNode::F64(v)) => Some(v),
        Node::Static(StaticNode::U64(v)) => Some(v as f64),
        Node::Static(StaticNode::I64(v)) => Some(v as f64),
        _ => None,
    }
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |b: u8| (b as char).to_digit(16).map(|d| d as u8);
    let pairs = text.as_bytes().chunks(2);
    pairs.map(|p| Some(digit(p[0])? << 4 | digit(*p.get(1)?)?)).collect()
}
