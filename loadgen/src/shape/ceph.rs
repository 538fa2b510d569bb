//! A Ceph cluster: the manager's page with metadata of all OSDs, and a ceph-exporter page a host with 20 OSDs.
//!
//! 201 targets are 4 000 OSDs. The queries that matter join an OSD's counters with its metadata by `ceph_daemon`.

use super::fleet::{OWNER, Template};
use super::mix;
use super::value::Value;

pub const OSDS_PER_HOST: u32 = 20;
pub const CLASSES: [&str; 3] = ["hdd", "ssd", "nvme"];

/// Number in the cluster: the host's number and two digits of its own.
fn daemon(osd: u32) -> String {
    format!(r#"ceph_daemon="osd.{OWNER}{osd:02}""#)
}

pub fn class(osd: u32) -> &'static str {
    CLASSES[osd as usize % 5 % CLASSES.len()]
}

/// Counters that every OSD has, with growth a second.
const COUNTERS: [(&str, f64); 14] = [
    ("ceph_osd_op", 110.0),
    ("ceph_osd_op_r", 60.0),
    ("ceph_osd_op_w", 50.0),
    ("ceph_osd_op_rw", 2.0),
    ("ceph_osd_op_in_bytes", 900_000.0),
    ("ceph_osd_op_out_bytes", 1_400_000.0),
    ("ceph_osd_op_r_out_bytes", 1_400_000.0),
    ("ceph_osd_op_w_in_bytes", 900_000.0),
    ("ceph_osd_recovery_ops", 0.1),
    ("ceph_osd_recovery_bytes", 4000.0),
    ("ceph_osd_scrub_omapgetnext_cnt", 0.0),
    ("ceph_osd_map_messages", 0.02),
    ("ceph_osd_slow_ops_count", 0.0),
    ("ceph_osd_agent_evict", 0.0),
];

/// Pairs of a sum and a count: what ceph-exporter makes of averages.
const LATENCIES: [&str; 60] = [
    "osd_op_latency",
    "osd_op_process_latency",
    "osd_op_prepare_latency",
    "osd_op_r_latency",
    "osd_op_r_process_latency",
    "osd_op_r_prepare_latency",
    "osd_op_w_latency",
    "osd_op_w_process_latency",
    "osd_op_w_prepare_latency",
    "osd_op_rw_latency",
    "osd_op_rw_process_latency",
    "osd_op_rw_prepare_latency",
    "osd_op_before_queue_op_lat",
    "osd_op_before_dequeue_op_lat",
    "osd_subop_latency",
    "osd_subop_w_latency",
    "osd_subop_pull_latency",
    "osd_subop_push_latency",
    "osd_tier_flush_lat",
    "osd_tier_promote_lat",
    "osd_tier_r_lat",
    "bluestore_read_lat",
    "bluestore_read_onode_meta_lat",
    "bluestore_read_wait_aio_lat",
    "bluestore_csum_lat",
    "bluestore_compress_lat",
    "bluestore_decompress_lat",
    "bluestore_kv_flush_lat",
    "bluestore_kv_commit_lat",
    "bluestore_kv_sync_lat",
    "bluestore_kv_final_lat",
    "bluestore_txc_throttle_lat",
    "bluestore_txc_submit_lat",
    "bluestore_txc_commit_lat",
    "bluestore_state_prepare_lat",
    "bluestore_state_aio_wait_lat",
    "bluestore_state_io_done_lat",
    "bluestore_state_kv_queued_lat",
    "bluestore_state_kv_commiting_lat",
    "bluestore_state_kv_done_lat",
    "bluestore_state_deferred_queued_lat",
    "bluestore_state_deferred_aio_wait_lat",
    "bluestore_state_deferred_cleanup_lat",
    "bluestore_state_finishing_lat",
    "bluestore_state_done_lat",
    "bluestore_omap_seek_to_first_lat",
    "bluestore_omap_upper_bound_lat",
    "bluestore_omap_lower_bound_lat",
    "bluestore_omap_next_lat",
    "bluestore_omap_get_keys_lat",
    "bluestore_omap_get_values_lat",
    "bluestore_clist_lat",
    "bluestore_remove_lat",
    "bluestore_truncate_lat",
    "bluefs_flush_lat",
    "bluefs_fsync_lat",
    "bluefs_compact_lat",
    "bluefs_read_lat",
    "rocksdb_submit_latency",
    "rocksdb_get_latency",
];

/// Gauges, with their spread.
const GAUGES: [(&str, u64); 20] = [
    ("ceph_osd_stat_bytes_used", 1 << 34),
    ("ceph_osd_numpg", 4),
    ("ceph_osd_numpg_primary", 3),
    ("ceph_osd_numpg_removing", 0),
    ("ceph_bluestore_onodes", 90_000),
    ("ceph_bluestore_pinned_onodes", 40),
    ("ceph_bluestore_extents", 40_000),
    ("ceph_bluestore_blobs", 40_000),
    ("ceph_bluestore_buffer_bytes", 1 << 28),
    ("ceph_bluefs_db_used_bytes", 1 << 26),
    ("ceph_bluefs_db_total_bytes", 0),
    ("ceph_bluefs_slow_used_bytes", 0),
    ("ceph_bluefs_wal_total_bytes", 0),
    ("ceph_rocksdb_compact_queue_len", 0),
    ("ceph_throttle_msgr_dispatch_val", 9000),
    ("ceph_throttle_objecter_bytes_val", 0),
    ("ceph_prioritycache_target_bytes", 0),
    ("ceph_prioritycache_mapped_bytes", 1 << 24),
    ("ceph_prioritycache_heap_bytes", 1 << 24),
    ("ceph_prioritycache_cache_bytes", 1 << 22),
];

/// The page of one host's ceph-exporter.
pub fn exporter(mut t: Template, seed: u64) -> Template {
    for (name, per_second) in COUNTERS {
        t.family(name, "counter", "A counter of the daemon.");
        each_osd(&mut t, |t, osd| {
            let base = mix(seed, u64::from(osd), name.len() as u64) % 100_000_000;
            if per_second > 0.0 { t.counter(base, per_second, 0.9, 1.0) } else { Value::constant(0) }
        });
    }
    for name in LATENCIES {
        let busy = mix(seed, 5, name.len() as u64).is_multiple_of(3);
        for (part, per_second, scale) in [("sum", 0.04, 1e6), ("count", 40.0, 1.0)] {
            t.family(&format!("ceph_{name}_{part}"), "counter", "A latency of the daemon.");
            each_osd(&mut t, |t, osd| {
                let base = mix(seed, u64::from(osd), 99) % 1_000_000;
                if busy { t.counter(base, per_second, 0.9, scale) } else { Value::constant(base) }
            });
        }
    }
    for (name, spread) in GAUGES {
        t.family(name, "gauge", "A gauge of the daemon.");
        each_osd(&mut t, |_, osd| {
            let base = mix(seed, u64::from(osd), 7) % 1_000_000_000;
            if spread > 0 { Value::gauge(base, spread, 0.5, 1.0) } else { Value::constant(base) }
        });
    }
    t
}

fn each_osd(t: &mut Template, value: impl Fn(&Template, u32) -> Value) {
    for osd in 0..OSDS_PER_HOST {
        let value = value(t, osd);
        t.line(&daemon(osd), value);
    }
}

/// The manager's page, telling of the OSDs of `hosts` hosts.
pub fn manager(mut t: Template, seed: u64, hosts: u32) -> Template {
    t.family("ceph_health_status", "untyped", "Cluster health status.");
    t.line("", Value::gauge(0, 2, 0.05, 1.0));
    let each: [(&str, u64); 9] = [
        ("ceph_osd_metadata", 1),
        ("ceph_osd_in", 1),
        ("ceph_osd_up", 1),
        ("ceph_osd_weight", 1),
        ("ceph_osd_apply_latency_ms", 20),
        ("ceph_osd_commit_latency_ms", 20),
        ("ceph_osd_flag_nodown", 0),
        ("ceph_disk_occupation", 1),
        ("ceph_osd_stat_bytes", 1 << 42),
    ];
    for (name, shown) in each {
        t.family(name, "untyped", "What the manager knows of one OSD.");
        for host in 0..hosts {
            t.owner(host);
            for osd in 0..OSDS_PER_HOST {
                let latency = name.ends_with("_ms");
                let value = if latency { Value::gauge(1, shown, 0.8, 1.0) } else { Value::constant(shown) };
                t.line(&format!("{}{}", daemon(osd), more(name, osd)), value);
            }
        }
    }
    for kind in ["stored", "max_avail", "objects", "rd", "wr", "rd_bytes", "wr_bytes", "dirty"] {
        t.family(&format!("ceph_pool_{kind}"), "untyped", "A figure of one pool.");
        for pool in 1..=40u64 {
            let value = t.counter(mix(seed, pool, 3) % 1_000_000_000, 900.0, 0.9, 1.0);
            t.line(&format!(r#"pool_id="{pool}""#), value);
        }
    }
    t.family("ceph_pg_active", "untyped", "Placement groups that are active, by pool.");
    for pool in 1..=40u64 {
        t.line(&format!(r#"pool_id="{pool}""#), Value::constant(256));
    }
    t
}

fn more(name: &str, osd: u32) -> String {
    match name {
        "ceph_osd_metadata" => format!(
            r#",back_iface="bond1",ceph_version="ceph version 20.2.4",cluster_addr="10.1.0.1",device_class="{}",front_iface="bond0",hostname="stor-{OWNER}",objectstore="bluestore",public_addr="10.0.0.1""#,
            class(osd)
        ),
        "ceph_disk_occupation" => {
            format!(
                r#",device="/dev/sd{}",db_device="",wal_device="",instance_host="stor-{OWNER}""#,
                (b'a' + osd as u8) as char
            )
        }
        _ => String::new(),
    }
}
