//! `/targets`, `/targets/metadata`, `/scrape_pools`.

use axum::response::Response;
use model::civil::format_rfc3339_ms;

use crate::api::backend::{ActiveTarget, Backend, Health};
use crate::api::error::{ApiError, ErrorKind};
use crate::api::json::Json;
use crate::api::params::Params;
use crate::api::respond;

/// What Go prints for a time that was never set.
const NEVER: &str = "0001-01-01T00:00:00Z";

pub async fn targets(
    backend: &dyn Backend,
    params: &Params,
    external_host: &str,
) -> Result<Response, ApiError> {
    let state = params.first("state").to_lowercase();
    let pool = params.first("scrapePool");
    let (shows_active, shows_dropped) = match state.as_str() {
        "active" => (true, false),
        "dropped" => (false, true),
        _ => (true, true),
    };
    let targets = backend.targets().await?;
    let in_pool = |name: &str| pool.is_empty() || pool == name;
    Ok(respond::success(|j| {
        j.object(|j| {
            j.key("activeTargets");
            j.list(|j| {
                for t in targets.active.iter().filter(|t| shows_active && in_pool(&t.scrape_pool)) {
                    j.item();
                    active(j, t, external_host);
                }
            });
            j.key("droppedTargets");
            j.list(|j| {
                for t in targets.dropped.iter().filter(|t| shows_dropped && in_pool(&t.scrape_pool)) {
                    j.item();
                    j.object(|j| {
                        j.key("discoveredLabels");
                        j.labels(&t.discovered_labels);
                        j.text_member("scrapePool", &t.scrape_pool);
                    });
                }
            });
            j.key("droppedTargetCounts");
            if !shows_dropped {
                return j.raw("null");
            }
            j.object(|j| {
                for (pool, n) in targets.dropped_counts.iter().filter(|(p, _)| in_pool(p)) {
                    j.key(pool);
                    j.number(*n as u64);
                }
            });
        });
    }))
}

fn active(j: &mut Json, t: &ActiveTarget, external_host: &str) {
    j.object(|j| {
        j.key("discoveredLabels");
        j.labels(&t.discovered_labels);
        j.key("labels");
        j.labels(&t.labels);
        j.text_member("scrapePool", &t.scrape_pool);
        j.text_member("scrapeUrl", &t.scrape_url);
        j.text_member("globalUrl", &global_url(&t.scrape_url, external_host));
        j.text_member("lastError", &t.last_error);
        let last = t.last_scrape.map_or_else(|| NEVER.to_owned(), format_rfc3339_ms);
        j.text_member("lastScrape", &last);
        j.key("lastScrapeDuration");
        j.float(t.last_scrape_seconds);
        j.text_member(
            "health",
            match t.health {
                Health::Up => "up",
                Health::Down => "down",
                Health::Unknown => "unknown",
            },
        );
        j.text_member("scrapeInterval", &t.interval);
        j.text_member("scrapeTimeout", &t.timeout);
    });
}

/// A target on this machine's loopback is named by the host that the outside knows; this server by its port, too.
fn global_url(url: &str, external_host: &str) -> String {
    let external_name = external_host.rsplit_once(':').map_or(external_host, |(name, _)| name);
    for local in ["localhost", "127.0.0.1", "[::1]"] {
        let Some((scheme, rest)) = url.split_once("://") else { continue };
        // Without a port the address is left as it is.
        if let Some(after) = rest.strip_prefix(local).filter(|a| a.starts_with(':')) {
            return format!("{scheme}://{external_name}{after}");
        }
    }
    url.to_owned()
}

pub async fn metadata(backend: &dyn Backend, params: &Params) -> Result<Response, ApiError> {
    let limit = match params.first("limit") {
        "" => None,
        text => {
            let n: i64 = text.parse().map_err(|_| ApiError::bad_data("limit must be a number"))?;
            usize::try_from(n).ok()
        }
    };
    let matchers = match params.first("match_target") {
        "" => Vec::new(),
        text => promql::parse_metric_selector(text, promql::Options::default())
            .map_err(|e| ApiError::bad_parameter("match_target", e))?,
    };
    let metric = params.first("metric");
    let mut found = backend.target_metadata().await?;
    found.retain(|m| {
        let is_target = matchers.iter().all(|x| x.matches(m.target.value_or_empty(&x.name)));
        is_target && (metric.is_empty() || m.entry.metric == metric)
    });
    found.truncate(limit.unwrap_or(usize::MAX));
    if found.is_empty() {
        return Err(ApiError::new(ErrorKind::NotFound, "specified metadata not found"));
    }
    Ok(respond::success(|j| {
        j.list(|j| {
            for m in &found {
                j.item();
                j.object(|j| {
                    j.key("target");
                    j.labels(&m.target);
                    if metric.is_empty() {
                        j.text_member("metric", &m.entry.metric);
                    }
                    j.text_member("type", &m.entry.kind);
                    j.text_member("help", &m.entry.help);
                    j.text_member("unit", &m.entry.unit);
                });
            }
        });
    }))
}

pub fn scrape_pools(backend: &dyn Backend) -> Response {
    let mut pools = backend.scrape_pools();
    pools.sort_unstable();
    respond::success(|j| {
        j.object(|j| {
            j.key("scrapePools");
            j.texts(pools.iter().map(String::as_str));
        });
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_targets_are_named_for_the_outside() {
        for (url, want) in [
            ("http://localhost:9100/metrics", "http://box:9100/metrics"),
            ("http://127.0.0.1:9090/metrics?x=1", "http://box:9090/metrics?x=1"),
            ("http://localhost.example:1/m", "http://localhost.example:1/m"),
            ("http://10.0.0.1:1/m", "http://10.0.0.1:1/m"),
            ("http://localhost/m", "http://localhost/m"),
        ] {
            assert_eq!(global_url(url, "box:9090"), want);
        }
    }
}
