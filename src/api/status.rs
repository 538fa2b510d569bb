//! `/status/...`.

use axum::response::Response;
use model::civil::format_rfc3339_ms;

use crate::api::backend::{Backend, BlockStatus, NamedCount};
use crate::api::error::ApiError;
use crate::api::json::Json;
use crate::api::params::Params;
use crate::api::respond;

/// The Prometheus whose behaviour this is: clients pick features by it.
pub const PROMETHEUS_VERSION: &str = "3.14.0";

pub fn build_info() -> Response {
    respond::success(push_build_info)
}

/// The same without the envelope, for `/version`.
pub fn version() -> Response {
    let mut j = Json::new();
    push_build_info(&mut j);
    respond::with_type(axum::http::StatusCode::OK, "application/json", j.into_bytes())
}

fn push_build_info(j: &mut Json) {
    j.object(|j| {
        j.text_member("version", PROMETHEUS_VERSION);
        j.text_member("revision", concat!("systole-", env!("CARGO_PKG_VERSION")));
        j.text_member("branch", "HEAD");
        j.text_member("buildUser", "systole");
        j.text_member("buildDate", "");
        j.text_member("goVersion", "");
    });
}

pub fn config(backend: &dyn Backend) -> Response {
    let yaml = backend.config_yaml();
    respond::success(|j| j.object(|j| j.text_member("yaml", &yaml)))
}

pub fn flags(backend: &dyn Backend) -> Response {
    let mut flags = backend.flags();
    flags.sort_unstable();
    respond::success(|j| {
        j.object(|j| {
            for (name, value) in &flags {
                j.text_member(name, value);
            }
        });
    })
}

pub fn runtime_info(backend: &dyn Backend) -> Response {
    let r = backend.runtime_info();
    respond::success(|j| {
        j.object(|j| {
            j.text_member("startTime", &format_rfc3339_ms(r.start_ms));
            j.text_member("CWD", &r.working_directory);
            j.text_member("hostname", &r.hostname);
            j.text_member("serverTime", &format_rfc3339_ms(r.now_ms));
            j.raw_member("reloadConfigSuccess", if r.reload_succeeded { "true" } else { "false" });
            j.text_member("lastConfigTime", &format_rfc3339_ms(r.last_config_ms));
            j.key("corruptionCount");
            j.number(r.corruption_count);
            j.raw_member("goroutineCount", "0");
            j.key("GOMAXPROCS");
            j.number(r.shard_count as u64);
            j.raw_member("GOMEMLIMIT", "0");
            j.text_member("GOGC", "");
            j.text_member("GODEBUG", "");
            j.text_member("storageRetention", &r.storage_retention);
        });
    })
}

pub async fn tsdb(backend: &dyn Backend, params: &Params) -> Result<Response, ApiError> {
    let limit = match params.first("limit") {
        "" => 10,
        text => match text.parse::<i64>() {
            Ok(n) if n > 10_000 => return Err(ApiError::bad_data("limit must not exceed 10000")),
            Ok(n) if n >= 1 => n as usize,
            _ => return Err(ApiError::bad_data("limit must be a positive number")),
        },
    };
    let t = backend.tsdb_status(limit).await?;
    Ok(respond::success(|j| {
        j.object(|j| {
            j.key("headStats");
            j.object(|j| {
                for (name, n) in [
                    ("numSeries", t.series_count),
                    ("numLabelPairs", t.label_pair_count),
                    ("chunkCount", t.chunk_count),
                ] {
                    j.key(name);
                    j.number(n);
                }
                // An empty head says so by its impossible times, as Prometheus does.
                j.raw_member("minTime", &t.min_time.unwrap_or(i64::MAX).to_string());
                j.raw_member("maxTime", &t.max_time.unwrap_or(i64::MIN).to_string());
            });
            for (name, counts) in [
                ("seriesCountByMetricName", &t.series_by_metric),
                ("labelValueCountByLabelName", &t.values_by_label),
                ("memoryInBytesByLabelName", &t.bytes_by_label),
                ("seriesCountByLabelValuePair", &t.series_by_pair),
            ] {
                j.key(name);
                named_counts(j, counts);
            }
        });
    }))
}

/// Each block as its `meta.json` would say it.
pub async fn tsdb_blocks(backend: &dyn Backend) -> Result<Response, ApiError> {
    let blocks = backend.tsdb_blocks().await?;
    Ok(respond::success(|j| {
        j.object(|j| {
            j.key("blocks");
            j.list(|j| {
                for b in &blocks {
                    j.item();
                    block(j, b);
                }
            });
        });
    }))
}

/// What of the stored data was found damaged. Prometheus has no such endpoint.
pub async fn damage(backend: &dyn Backend) -> Result<Response, ApiError> {
    let all = backend.damage().await?;
    Ok(respond::success(|j| {
        j.object(|j| {
            j.key("damage");
            j.list(|j| {
                for d in &all {
                    j.item();
                    j.object(|j| {
                        j.key("shard");
                        j.number(d.shard as u64);
                        j.text_member("path", &d.path);
                        j.key("offset");
                        j.number(d.offset);
                        j.text_member("what", &d.what);
                    });
                }
            });
        });
    }))
}

fn block(j: &mut Json, b: &BlockStatus) {
    j.object(|j| {
        j.text_member("ulid", &b.ulid);
        j.raw_member("minTime", &b.min_time.to_string());
        j.raw_member("maxTime", &b.max_time.to_string());
        j.key("stats");
        j.object(|j| {
            for (name, n) in [
                ("numSamples", b.float_count + b.histogram_count),
                ("numFloatSamples", b.float_count),
                ("numHistogramSamples", b.histogram_count),
                ("numSeries", b.series_count),
                ("numChunks", b.chunk_count),
                ("numTombstones", b.tombstone_count),
            ] {
                if n > 0 {
                    j.key(name);
                    j.number(n);
                }
            }
        });
        j.key("compaction");
        j.object(|j| {
            j.raw_member("level", &b.level.to_string());
            j.key("sources");
            j.texts([b.ulid.as_str()]);
        });
        j.raw_member("version", "1");
        // Not Prometheus's: only where there are retention classes.
        if !b.class.is_empty() {
            j.text_member("class", &b.class);
        }
        // Thanos's place for it, and only where there are aggregates.
        if b.resolution_ms > 0 {
            j.key("thanos");
            j.object(|j| {
                j.key("downsample");
                j.object(|j| j.raw_member("resolution", &b.resolution_ms.to_string()));
            });
        }
    });
}

fn named_counts(j: &mut Json, counts: &[NamedCount]) {
    j.list(|j| {
        for c in counts {
            j.item();
            j.object(|j| {
                j.text_member("name", &c.name);
                j.key("value");
                j.number(c.value);
            });
        }
    });
}
