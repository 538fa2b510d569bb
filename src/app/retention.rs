//! How long samples are kept: from flags and configuration to what each shard may hold.

use std::path::Path;

use model::time::{format_duration, parse_duration};

use crate::config;
use crate::config::size::{format_size, parse_size};
use crate::rt::disk::file_system_bytes;
use crate::shard::block::class::{Class, ClassMark, Classes, Downsampling};
use crate::shard::block::retention::Retention;

/// Prometheus's, where nothing is said.
const DEFAULT_TIME_MS: u64 = 15 * 24 * 3600 * 1000;

/// A flag that is a size.
pub fn bytes_of(flag: &str, text: &str) -> Result<u64, String> {
    let bytes = parse_size(text).map_err(|e| format!("--{flag}: {e}"))?;
    u64::try_from(bytes).map_err(|_| format!("--{flag}: {text} is less than nothing"))
}

/// What the flags say; without a time and a size, 15 days.
pub fn of_flags(time: &str, size: &str) -> Result<config::Retention, String> {
    let bytes = bytes_of("storage.tsdb.retention.size", size)?;
    let time_ms = parse_duration(time).map_err(|e| format!("--storage.tsdb.retention.time: {e}"))?;
    let time_ms = match (u64::try_from(time_ms).unwrap_or(0), bytes) {
        (0, 0) => DEFAULT_TIME_MS,
        (time_ms, _) => time_ms,
    };
    Ok(config::Retention { time_ms, bytes, percentage: 0.0 })
}

/// What one of `shard_count` shards may keep in `data_dir`.
pub fn of_shard(storage: &config::Storage, data_dir: &Path, shard_count: u16) -> Retention {
    let classes = Classes::new(storage.retention_classes.iter().map(class_of).collect());
    let downsampling: Vec<Downsampling> = storage.downsample.iter().map(downsampling_of).collect();
    let Some(r) = storage.retention else {
        return Retention { classes, downsampling, ..Retention::default() };
    };
    let mut bytes = r.bytes;
    if r.percentage > 0.0 {
        match file_system_bytes(data_dir) {
            Ok(total) => bytes = (total as f64 * r.percentage / 100.0) as u64,
            Err(e) => {
                tracing::warn!(error = %e, "the file system's size is not known: its percentage is not kept")
            }
        }
    }
    Retention {
        time_ms: (r.time_ms > 0).then(|| i64::try_from(r.time_ms).unwrap_or(i64::MAX)),
        bytes: (bytes > 0).then(|| bytes / u64::from(shard_count.max(1))),
        classes,
        downsampling,
    }
}

fn class_of(class: &config::RetentionClass) -> Class {
    let time_ms = i64::try_from(class.time_ms).unwrap_or(i64::MAX);
    let mark = ClassMark { selector: class.selector.as_str().into(), time_ms };
    let downsampling = class.downsample.iter().map(downsampling_of).collect();
    Class { mark, matchers: class.matchers.clone(), downsampling }
}

fn downsampling_of(d: &config::Downsample) -> Downsampling {
    let ms = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    Downsampling { resolution_ms: ms(d.resolution_ms), after_ms: ms(d.after_ms), keep_ms: ms(d.retention_ms) }
}

/// As `/api/v1/status/runtimeinfo` shows it.
pub fn shown(retention: Option<config::Retention>) -> String {
    let Some(r) = retention else { return String::new() };
    let mut parts = Vec::new();
    if r.time_ms > 0 {
        parts.push(format_duration(r.time_ms as i64));
    }
    if r.bytes > 0 {
        parts.push(format_size(r.bytes as i64));
    }
    parts.join(" or ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_say_how_long_and_how_much() {
        let of = |time, size| of_flags(time, size).map(|r| (shown(Some(r)), r.time_ms));
        assert_eq!(of("0s", "0"), Ok(("15d".to_owned(), DEFAULT_TIME_MS)));
        assert_eq!(of("0s", "1GB"), Ok(("1GiB".to_owned(), 0)));
        assert_eq!(of("1d", "512MB"), Ok(("1d or 512MiB".to_owned(), 86_400_000)));
        assert!(of("x", "0").is_err() && of("1d", "-1MB").is_err());
    }

    #[test]
    fn shards_share_what_may_be_kept() {
        let all = config::Retention { time_ms: 1000, bytes: 4000, percentage: 0.0 };
        let fine = config::Downsample { resolution_ms: 300_000, after_ms: 5, retention_ms: 9 };
        let matchers = vec![model::Matcher::equal("a", "b")];
        let class = config::RetentionClass {
            selector: "{a=\"b\"}".to_owned(),
            matchers,
            time_ms: 7,
            downsample: vec![fine],
        };
        let storage = |retention| config::Storage {
            out_of_order_window_ms: 0,
            retention: Some(retention),
            retention_classes: vec![class.clone()],
            downsample: vec![fine],
            max_source_resolution: config::SourceResolution::Auto,
            exemplars_max: None,
        };
        let one = of_shard(&storage(all), Path::new("."), 4);
        assert_eq!((one.time_ms, one.bytes), (Some(1000), Some(1000)));
        assert_eq!(one.classes, Classes::new(vec![class_of(&class)]));
        assert_eq!(one.downsampling, [Downsampling { resolution_ms: 300_000, after_ms: 5, keep_ms: 9 }]);
        let part = config::Retention { time_ms: 0, bytes: 0, percentage: 50.0 };
        assert!(of_shard(&storage(part), &std::env::temp_dir(), 1).bytes.is_some_and(|b| b > 1 << 20));
    }
}
