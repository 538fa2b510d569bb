//! OpenTelemetry's own exporters, run by Python: what they send is found.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::house::House;

/// The folder with Python's OpenTelemetry packages, fetched once into the build's folder.
fn packages() -> Option<PathBuf> {
    static FOUND: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let found = FOUND.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("opentelemetry-python");
        let is_there = |f: &Path| {
            let code = "import opentelemetry.exporter.otlp.proto.http, opentelemetry.exporter.otlp.proto.grpc, opentelemetry.sdk";
            let run = Command::new("python3").env("PYTHONPATH", f).args(["-c", code]).output();
            run.is_ok_and(|o| o.status.success())
        };
        if is_there(&folder) {
            return Ok(folder);
        }
        let packages = [
            "opentelemetry-sdk",
            "opentelemetry-exporter-otlp-proto-http",
            "opentelemetry-exporter-otlp-proto-grpc",
        ];
        let install = Command::new("python3")
            .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target"])
            .arg(&folder)
            .args(packages)
            .output();
        match install {
            Ok(_) if is_there(&folder) => Ok(folder),
            Ok(o) => Err(String::from_utf8_lossy(&o.stderr).lines().last().unwrap_or("no word why").to_owned()),
            Err(e) => Err(e.to_string()),
        }
    });
    found.as_ref().map_err(|why| println!("skipped: no OpenTelemetry for Python: {why}")).ok().cloned()
}

const SCRIPT: &str = r#"
import sys
kind, endpoint, compression = sys.argv[1:4]
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.metrics.view import View, ExponentialBucketHistogramAggregation
from opentelemetry.sdk.resources import Resource
if kind == "http":
    from opentelemetry.exporter.otlp.proto.http import Compression
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    exporter = OTLPMetricExporter(endpoint=endpoint, compression=Compression(compression))
else:
    import grpc
    from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
    c = grpc.Compression.Gzip if compression == "gzip" else grpc.Compression.NoCompression
    exporter = OTLPMetricExporter(endpoint=endpoint, insecure=True, compression=c)
reader = PeriodicExportingMetricReader(exporter, export_interval_millis=600000)
views = [View(instrument_name="exp", aggregation=ExponentialBucketHistogramAggregation())]
resource = Resource.create({"service.name": "py-" + kind, "service.instance.id": compression, "host.name": "h"})
provider = MeterProvider(resource=resource, metric_readers=[reader], views=views)
meter = provider.get_meter("it")
meter.create_counter("sent.bytes", unit="By").add(17, {"peer.name": "x"})
meter.create_histogram("took", unit="s").record(0.3)
meter.create_histogram("exp").record(4.0)
meter.create_up_down_counter("open").add(-3)
ok = provider.force_flush()
provider.shutdown()
sys.exit(0 if ok else 1)
"#;

pub(crate) fn check_exporter(kind: &str, endpoint: &str, compression: &str, server: &crate::house::Server) {
    let Some(packages) = packages() else { return };
    let run = Command::new("python3")
        .env("PYTHONPATH", packages)
        .args(["-c", SCRIPT, kind, endpoint, compression])
        .output()
        .expect("python3");
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let labels = format!("job=\"py-{kind}\",instance=\"{compression}\"");
    let check = |query: &str, expect: &str| {
        assert_eq!(server.value(query).as_deref(), Some(expect), "{query}");
    };
    check(&format!("sent_bytes_total{{{labels},peer_name=\"x\"}}"), "17");
    check(
        &format!("took_seconds_bucket{{{labels},le=\"5.0\"}} or took_seconds_bucket{{{labels},le=\"5\"}}"),
        "1",
    );
    check(&format!("histogram_count(exp{{{labels}}})"), "1");
    check(&format!("open{{{labels}}}"), "-3");
    check(&format!("target_info{{{labels},host_name=\"h\"}}"), "1");
}

#[test]
fn the_grpc_exporter_of_python_is_understood() {
    let house =
        House::new("otlp-grpc", "scrape_configs: []\n").with("--otlp.grpc-listen-address=127.0.0.1:0");
    let Some(mut running) = house.start() else { return };
    let port = running.process.wait_for_port("OTLP over gRPC is received on 127.0.0.1:");
    let endpoint = format!("127.0.0.1:{port}");
    check_exporter("grpc", &endpoint, "none", &running.server);
    check_exporter("grpc", &endpoint, "gzip", &running.server);
}

#[test]
fn the_http_exporter_of_python_is_understood() {
    let house = House::new("otlp-python", "scrape_configs: []\n").with(super::ENABLED);
    let Some(running) = house.start() else { return };
    let endpoint = format!("http://127.0.0.1:{}/v1/metrics", running.port);
    check_exporter("http", &endpoint, "none", &running);
    check_exporter("http", &endpoint, "gzip", &running);
}
