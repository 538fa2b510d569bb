//! OTLP metrics: requests of OpenTelemetry's exporters, one level of messages at a time.
//!
//! The outer levels (resource, scope, metric) are few and come as small values that point into the body; points are
//! many and are read one after the other into reused values. Nothing is copied but what a value's text needs.

use crate::remote_write::{BYTES, Cursor, FIXED64, Malformed, VARINT, expect};

pub mod json; // the JSON form as the protobuf form
mod value;

pub use value::{AnyValue, push_json_float};

/// Why a request is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error("proto: field {0} contains invalid UTF-8")]
    NotText(&'static str),
    /// Few bytes can stand for many: labels are said once there and with each series here.
    #[error("the request stands for more than {0} bytes of series")]
    TooLarge(usize),
}

/// Bit of a point's flags: there is no value, the series paused or ended.
const NO_RECORDED_VALUE: u64 = 1;

/// A key and its value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Attribute<'a> {
    pub key: &'a str,
    pub value: AnyValue<'a>,
}

/// Who sends, and its metrics by scope.
#[derive(Clone, Debug, Default)]
pub struct ResourceMetrics<'a> {
    pub attributes: Vec<Attribute<'a>>,
    /// Messages for [`ScopeMetrics::read`].
    pub scopes: Vec<&'a [u8]>,
}

/// The library that made some metrics.
#[derive(Clone, Debug, Default)]
pub struct ScopeMetrics<'a> {
    pub name: &'a str,
    pub version: &'a str,
    pub schema_url: &'a str,
    pub attributes: Vec<Attribute<'a>>,
    /// Messages for [`Metric::read`].
    pub metrics: Vec<&'a [u8]>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// None of those below: newer than this reader, or nothing at all.
    #[default]
    Unknown,
    Gauge,
    Sum,
    Histogram,
    ExponentialHistogram,
    Summary,
}

/// Whether points tell of all since the start or only of what came since the point before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Temporality {
    #[default]
    Unspecified,
    Delta,
    Cumulative,
}

#[derive(Clone, Debug, Default)]
pub struct Metric<'a> {
    pub name: &'a str,
    pub unit: &'a str,
    pub kind: Kind,
    pub temporality: Temporality,
    pub is_monotonic: bool,
    /// Messages for the point type that `kind` asks for.
    pub points: Vec<&'a [u8]>,
}

/// The resources of an `ExportMetricsServiceRequest`.
pub fn read_request(body: &[u8]) -> Result<Vec<ResourceMetrics<'_>>, Error> {
    let mut resources = Vec::new();
    let mut cursor = Cursor::new(body);
    while let Some((field, wire)) = cursor.field("ExportMetricsServiceRequest")? {
        match field {
            1 => {
                expect(wire, BYTES, "ResourceMetrics")?;
                resources.push(ResourceMetrics::read(cursor.sized()?)?);
            }
            _ => cursor.skip(wire)?,
        }
    }
    Ok(resources)
}

impl<'a> ResourceMetrics<'a> {
    fn read(message: &'a [u8]) -> Result<Self, Error> {
        let mut resource = ResourceMetrics::default();
        let mut cursor = Cursor::new(message);
        while let Some((field, wire)) = cursor.field("ResourceMetrics")? {
            match field {
                1 => {
                    expect(wire, BYTES, "Resource")?;
                    let mut inner = Cursor::new(cursor.sized()?);
                    while let Some((field, wire)) = inner.field("Resource")? {
                        match field {
                            1 => read_attribute(&mut inner, wire, &mut resource.attributes)?,
                            _ => inner.skip(wire)?,
                        }
                    }
                }
                2 => {
                    expect(wire, BYTES, "ScopeMetrics")?;
                    resource.scopes.push(cursor.sized()?);
                }
                _ => cursor.skip(wire)?,
            }
        }
        Ok(resource)
    }
}

impl<'a> ScopeMetrics<'a> {
    pub fn read(message: &'a [u8]) -> Result<Self, Error> {
        let mut scope = ScopeMetrics::default();
        let mut cursor = Cursor::new(message);
        while let Some((field, wire)) = cursor.field("ScopeMetrics")? {
            match field {
                1 => {
                    expect(wire, BYTES, "Scope")?;
                    scope.read_scope(cursor.sized()?)?;
                }
                2 => {
                    expect(wire, BYTES, "Metrics")?;
                    scope.metrics.push(cursor.sized()?);
                }
                3 => scope.schema_url = text(&mut cursor, wire, "SchemaUrl")?,
                _ => cursor.skip(wire)?,
            }
        }
        Ok(scope)
    }

    fn read_scope(&mut self, message: &'a [u8]) -> Result<(), Error> {
        let mut cursor = Cursor::new(message);
        while let Some((field, wire)) = cursor.field("InstrumentationScope")? {
            match field {
                1 => self.name = text(&mut cursor, wire, "Name")?,
                2 => self.version = text(&mut cursor, wire, "Version")?,
                3 => read_attribute(&mut cursor, wire, &mut self.attributes)?,
                _ => cursor.skip(wire)?,
            }
        }
        Ok(())
    }
}

impl<'a> Metric<'a> {
    pub fn read(message: &'a [u8]) -> Result<Self, Error> {
        let mut metric = Metric::default();
        let mut cursor = Cursor::new(message);
        while let Some((field, wire)) = cursor.field("Metric")? {
            let kind = match field {
                1 => {
                    metric.name = text(&mut cursor, wire, "Name")?;
                    continue;
                }
                3 => {
                    metric.unit = text(&mut cursor, wire, "Unit")?;
                    continue;
                }
                5 => Kind::Gauge,
                7 => Kind::Sum,
                9 => Kind::Histogram,
                10 => Kind::ExponentialHistogram,
                11 => Kind::Summary,
                _ => {
                    cursor.skip(wire)?;
                    continue;
                }
            };
            expect(wire, BYTES, "Data")?;
            metric.read_data(kind, cursor.sized()?)?;
        }
        Ok(metric)
    }

    /// One of the kinds' messages; of several the last one counts.
    fn read_data(&mut self, kind: Kind, message: &'a [u8]) -> Result<(), Error> {
        if self.kind != kind {
            self.points.clear();
            self.temporality = Temporality::Unspecified;
            self.is_monotonic = false;
        }
        self.kind = kind;
        let mut cursor = Cursor::new(message);
        while let Some((field, wire)) = cursor.field("Metric")? {
            match field {
                1 => {
                    expect(wire, BYTES, "DataPoints")?;
                    self.points.push(cursor.sized()?);
                }
                2 => {
                    self.temporality = match varint(&mut cursor, wire, "AggregationTemporality")? {
                        1 => Temporality::Delta,
                        2 => Temporality::Cumulative,
                        _ => Temporality::Unspecified,
                    };
                }
                3 => self.is_monotonic = varint(&mut cursor, wire, "IsMonotonic")? != 0,
                _ => cursor.skip(wire)?,
            }
        }
        Ok(())
    }

    /// Only the time of one of its points, in ns.
    pub fn point_time(point: &[u8]) -> Result<u64, Error> {
        let (mut time, mut cursor) = (0, Cursor::new(point));
        while let Some((field, wire)) = cursor.field("DataPoint")? {
            match field {
                3 => time = fixed(&mut cursor, wire, "TimeUnixNano")?,
                _ => cursor.skip(wire)?,
            }
        }
        Ok(time)
    }
}

/// What all points have.
#[derive(Clone, Debug, Default)]
pub struct Common<'a> {
    pub attributes: Vec<Attribute<'a>>,
    /// In ns.
    pub start: u64,
    pub time: u64,
    flags: u64,
    /// Messages.
    pub exemplars: Vec<&'a [u8]>,
}

impl Common<'_> {
    pub fn has_no_value(&self) -> bool {
        self.flags & NO_RECORDED_VALUE != 0
    }

    /// A point that tells a total has a value, whatever its sender had to say.
    pub fn note_value(&mut self) {
        self.flags &= !NO_RECORDED_VALUE;
    }

    /// In ms.
    pub fn time_ms(&self) -> i64 {
        (self.time as i64) / 1_000_000
    }

    fn clear(&mut self) {
        self.attributes.clear();
        self.exemplars.clear();
        (self.start, self.time, self.flags) = (0, 0, 0);
    }
}

/// A point of a gauge or sum. Reused.
#[derive(Clone, Debug, Default)]
pub struct NumberPoint<'a> {
    pub common: Common<'a>,
    pub value: f64,
}

impl<'a> NumberPoint<'a> {
    pub fn read(&mut self, message: &'a [u8]) -> Result<(), Error> {
        let (c, mut cursor) = (&mut self.common, Cursor::new(message));
        c.clear();
        self.value = 0.0;
        while let Some((field, wire)) = cursor.field("NumberDataPoint")? {
            match field {
                2 => c.start = fixed(&mut cursor, wire, "StartTimeUnixNano")?,
                3 => c.time = fixed(&mut cursor, wire, "TimeUnixNano")?,
                4 => self.value = double(&mut cursor, wire, "AsDouble")?,
                5 => c.exemplars.push(message_of(&mut cursor, wire, "Exemplars")?),
                6 => self.value = fixed(&mut cursor, wire, "AsInt")? as i64 as f64,
                7 => read_attribute(&mut cursor, wire, &mut c.attributes)?,
                8 => c.flags = varint(&mut cursor, wire, "Flags")?,
                _ => cursor.skip(wire)?,
            }
        }
        Ok(())
    }
}

/// A point of a histogram with listed bounds. Reused.
#[derive(Clone, Debug, Default)]
pub struct HistogramPoint<'a> {
    pub common: Common<'a>,
    pub count: u64,
    pub sum: Option<f64>,
    pub bucket_counts: Vec<u64>,
    pub bounds: Vec<f64>,
}

impl<'a> HistogramPoint<'a> {
    pub fn read(&mut self, message: &'a [u8]) -> Result<(), Error> {
        let (c, mut cursor) = (&mut self.common, Cursor::new(message));
        c.clear();
        (self.count, self.sum) = (0, None);
        self.bucket_counts.clear();
        self.bounds.clear();
        while let Some((field, wire)) = cursor.field("HistogramDataPoint")? {
            match field {
                2 => c.start = fixed(&mut cursor, wire, "StartTimeUnixNano")?,
                3 => c.time = fixed(&mut cursor, wire, "TimeUnixNano")?,
                4 => self.count = fixed(&mut cursor, wire, "Count")?,
                5 => self.sum = Some(double(&mut cursor, wire, "Sum")?),
                6 => each_fixed(&mut cursor, wire, "BucketCounts", |v| self.bucket_counts.push(v))?,
                7 => {
                    each_fixed(&mut cursor, wire, "ExplicitBounds", |v| self.bounds.push(f64::from_bits(v)))?
                }
                8 => c.exemplars.push(message_of(&mut cursor, wire, "Exemplars")?),
                9 => read_attribute(&mut cursor, wire, &mut c.attributes)?,
                10 => c.flags = varint(&mut cursor, wire, "Flags")?,
                _ => cursor.skip(wire)?,
            }
        }
        Ok(())
    }
}

/// One side's buckets of an exponential histogram: counts from an index on, none left out.
#[derive(Clone, Debug, Default)]
pub struct Buckets {
    pub offset: i32,
    pub counts: Vec<u64>,
}

/// A point of an exponential histogram. Reused.
#[derive(Clone, Debug, Default)]
pub struct ExponentialPoint<'a> {
    pub common: Common<'a>,
    pub count: u64,
    pub sum: Option<f64>,
    pub scale: i32,
    pub zero_count: u64,
    pub zero_threshold: f64,
    pub positive: Buckets,
    pub negative: Buckets,
}

impl<'a> ExponentialPoint<'a> {
    pub fn read(&mut self, message: &'a [u8]) -> Result<(), Error> {
        let (c, mut cursor) = (&mut self.common, Cursor::new(message));
        c.clear();
        (self.count, self.sum, self.scale, self.zero_count) = (0, None, 0, 0);
        self.zero_threshold = 0.0;
        for side in [&mut self.positive, &mut self.negative] {
            side.offset = 0;
            side.counts.clear();
        }
        while let Some((field, wire)) = cursor.field("ExponentialHistogramDataPoint")? {
            match field {
                1 => read_attribute(&mut cursor, wire, &mut c.attributes)?,
                2 => c.start = fixed(&mut cursor, wire, "StartTimeUnixNano")?,
                3 => c.time = fixed(&mut cursor, wire, "TimeUnixNano")?,
                4 => self.count = fixed(&mut cursor, wire, "Count")?,
                5 => self.sum = Some(double(&mut cursor, wire, "Sum")?),
                6 => self.scale = zigzag(varint(&mut cursor, wire, "Scale")?),
                7 => self.zero_count = fixed(&mut cursor, wire, "ZeroCount")?,
                8 => read_buckets(message_of(&mut cursor, wire, "Positive")?, &mut self.positive)?,
                9 => read_buckets(message_of(&mut cursor, wire, "Negative")?, &mut self.negative)?,
                10 => c.flags = varint(&mut cursor, wire, "Flags")?,
                11 => c.exemplars.push(message_of(&mut cursor, wire, "Exemplars")?),
                14 => self.zero_threshold = double(&mut cursor, wire, "ZeroThreshold")?,
                _ => cursor.skip(wire)?,
            }
        }
        Ok(())
    }
}

fn read_buckets(message: &[u8], out: &mut Buckets) -> Result<(), Error> {
    let mut cursor = Cursor::new(message);
    while let Some((field, wire)) = cursor.field("Buckets")? {
        match (field, wire) {
            (1, _) => out.offset = zigzag(varint(&mut cursor, wire, "Offset")?),
            (2, VARINT) => out.counts.push(cursor.varint()?),
            (2, _) => {
                let mut packed = Cursor::new(message_of(&mut cursor, wire, "BucketCounts")?);
                while !packed.is_done() {
                    out.counts.push(packed.varint()?);
                }
            }
            _ => cursor.skip(wire)?,
        }
    }
    Ok(())
}

/// A point of a summary. Reused.
#[derive(Clone, Debug, Default)]
pub struct SummaryPoint<'a> {
    pub common: Common<'a>,
    pub count: u64,
    pub sum: f64,
    /// Quantile and value.
    pub quantiles: Vec<(f64, f64)>,
}

impl<'a> SummaryPoint<'a> {
    pub fn read(&mut self, message: &'a [u8]) -> Result<(), Error> {
        let (c, mut cursor) = (&mut self.common, Cursor::new(message));
        c.clear();
        (self.count, self.sum) = (0, 0.0);
        self.quantiles.clear();
        while let Some((field, wire)) = cursor.field("SummaryDataPoint")? {
            match field {
                2 => c.start = fixed(&mut cursor, wire, "StartTimeUnixNano")?,
                3 => c.time = fixed(&mut cursor, wire, "TimeUnixNano")?,
                4 => self.count = fixed(&mut cursor, wire, "Count")?,
                5 => self.sum = double(&mut cursor, wire, "Sum")?,
                6 => {
                    let mut inner = Cursor::new(message_of(&mut cursor, wire, "QuantileValues")?);
                    let mut pair = (0.0, 0.0);
                    while let Some((field, wire)) = inner.field("ValueAtQuantile")? {
                        match field {
                            1 => pair.0 = double(&mut inner, wire, "Quantile")?,
                            2 => pair.1 = double(&mut inner, wire, "Value")?,
                            _ => inner.skip(wire)?,
                        }
                    }
                    self.quantiles.push(pair);
                }
                7 => read_attribute(&mut cursor, wire, &mut c.attributes)?,
                8 => c.flags = varint(&mut cursor, wire, "Flags")?,
                _ => cursor.skip(wire)?,
            }
        }
        Ok(())
    }
}

/// A measurement with the trace it was made in.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Exemplar<'a> {
    pub attributes: Vec<Attribute<'a>>,
    /// In ns.
    pub time: u64,
    pub value: f64,
    pub trace_id: &'a [u8],
    pub span_id: &'a [u8],
}

impl<'a> Exemplar<'a> {
    pub fn read(message: &'a [u8]) -> Result<Self, Error> {
        let (mut e, mut cursor) = (Exemplar::default(), Cursor::new(message));
        while let Some((field, wire)) = cursor.field("Exemplar")? {
            match field {
                2 => e.time = fixed(&mut cursor, wire, "TimeUnixNano")?,
                3 => e.value = double(&mut cursor, wire, "AsDouble")?,
                4 => e.span_id = message_of(&mut cursor, wire, "SpanId")?,
                5 => e.trace_id = message_of(&mut cursor, wire, "TraceId")?,
                6 => e.value = fixed(&mut cursor, wire, "AsInt")? as i64 as f64,
                7 => read_attribute(&mut cursor, wire, &mut e.attributes)?,
                _ => cursor.skip(wire)?,
            }
        }
        Ok(e)
    }
}

fn read_attribute<'a>(cursor: &mut Cursor<'a>, wire: u8, out: &mut Vec<Attribute<'a>>) -> Result<(), Error> {
    let mut attribute = Attribute { key: "", value: AnyValue::Empty };
    let mut inner = Cursor::new(message_of(cursor, wire, "Attributes")?);
    while let Some((field, wire)) = inner.field("KeyValue")? {
        match field {
            1 => attribute.key = text(&mut inner, wire, "Key")?,
            2 => attribute.value = AnyValue::read(message_of(&mut inner, wire, "Value")?)?,
            _ => inner.skip(wire)?,
        }
    }
    out.push(attribute);
    Ok(())
}

fn message_of<'a>(cursor: &mut Cursor<'a>, wire: u8, field: &'static str) -> Result<&'a [u8], Malformed> {
    expect(wire, BYTES, field)?;
    cursor.sized()
}

fn text<'a>(cursor: &mut Cursor<'a>, wire: u8, field: &'static str) -> Result<&'a str, Error> {
    std::str::from_utf8(message_of(cursor, wire, field)?).map_err(|_| Error::NotText(field))
}

fn varint(cursor: &mut Cursor<'_>, wire: u8, field: &'static str) -> Result<u64, Malformed> {
    expect(wire, VARINT, field)?;
    cursor.varint()
}

fn fixed(cursor: &mut Cursor<'_>, wire: u8, field: &'static str) -> Result<u64, Malformed> {
    double(cursor, wire, field).map(f64::to_bits)
}

fn double(cursor: &mut Cursor<'_>, wire: u8, field: &'static str) -> Result<f64, Malformed> {
    expect(wire, FIXED64, field)?;
    cursor.double()
}

/// Packed or one by one.
fn each_fixed(
    cursor: &mut Cursor<'_>,
    wire: u8,
    field: &'static str,
    mut push: impl FnMut(u64),
) -> Result<(), Malformed> {
    if wire == FIXED64 {
        push(cursor.double()?.to_bits());
        return Ok(());
    }
    let mut packed = Cursor::new(message_of(cursor, wire, field)?);
    while !packed.is_done() {
        push(packed.double()?.to_bits());
    }
    Ok(())
}

fn zigzag(v: u64) -> i32 {
    let v = v as u32;
    (v >> 1) as i32 ^ -((v & 1) as i32)
}

#[cfg(test)]
mod tests;
