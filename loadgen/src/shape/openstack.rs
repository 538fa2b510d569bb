//! An OpenStack cloud: on each compute host a node page of 1 500 samples, and a page of its 30 virtual machines.
//!
//! 2 000 targets are 1 000 computes with 30 000 machines of 40 samples. Machines are items, which churn replaces.

use super::fleet::{OWNER, Template, UUID};
use super::mix;
use super::value::Value;

pub const MACHINES_PER_HOST: u32 = 30;
const PROJECTS: [&str; 12] =
    ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa", "lambda", "mu"];
const FLAVORS: [&str; 4] = ["m1.small", "m1.medium", "m1.large", "c1.xlarge"];
const CPUS: u32 = 96;
const MODES: [&str; 8] = ["idle", "iowait", "irq", "nice", "softirq", "steal", "system", "user"];
const COMPUTE_SAMPLES: usize = 1500;

pub fn project(machine: u32) -> &'static str {
    PROJECTS[machine as usize % PROJECTS.len()]
}

fn domain(machine: u32) -> String {
    format!(
        r#"domain="instance-{OWNER}{machine:02}",instance_id="{UUID}",project_name="{}",flavor="{}""#,
        project(machine),
        FLAVORS[machine as usize / 7 % FLAVORS.len()]
    )
}

/// Families with one line a machine: name, growth a second or 0 for a gauge, spread.
const SINGLE: [(&str, f64, u64); 16] = [
    ("libvirt_domain_info_cpu_time_seconds_total", 0.6, 0),
    ("libvirt_domain_info_vstate", 0.0, 0),
    ("libvirt_domain_info_virtual_cpus", 0.0, 0),
    ("libvirt_domain_info_maximum_memory_bytes", 0.0, 0),
    ("libvirt_domain_info_memory_usage_bytes", 0.0, 90_000_000),
    ("libvirt_domain_memory_stats_unused_bytes", 0.0, 90_000_000),
    ("libvirt_domain_memory_stats_available_bytes", 0.0, 90_000_000),
    ("libvirt_domain_memory_stats_actual_balloon_bytes", 0.0, 0),
    ("libvirt_domain_memory_stats_rss_bytes", 0.0, 40_000_000),
    ("libvirt_domain_memory_stats_major_fault_total", 0.01, 0),
    ("libvirt_domain_memory_stats_minor_fault_total", 20.0, 0),
    ("libvirt_domain_memory_stats_used_percent", 0.0, 60),
    ("libvirt_domain_memory_stats_swap_in_bytes_total", 0.0, 0),
    ("libvirt_domain_memory_stats_swap_out_bytes_total", 0.0, 0),
    ("libvirt_domain_vcpu_maximum", 0.0, 0),
    ("libvirt_domain_vcpu_current", 0.0, 0),
];
/// Families with a line a device or a virtual CPU, two of each a machine.
const DOUBLE: [(&str, &str, f64); 12] = [
    ("libvirt_domain_vcpu_time_seconds_total", "vcpu", 0.3),
    ("libvirt_domain_vcpu_delay_seconds_total", "vcpu", 0.01),
    ("libvirt_domain_block_stats_read_bytes_total", "target_device", 40_000.0),
    ("libvirt_domain_block_stats_write_bytes_total", "target_device", 90_000.0),
    ("libvirt_domain_block_stats_read_requests_total", "target_device", 3.0),
    ("libvirt_domain_block_stats_write_requests_total", "target_device", 8.0),
    ("libvirt_domain_block_stats_flush_requests_total", "target_device", 0.7),
    ("libvirt_domain_block_stats_capacity_bytes", "target_device", 0.0),
    ("libvirt_domain_interface_stats_receive_bytes_total", "target_device", 30_000.0),
    ("libvirt_domain_interface_stats_transmit_bytes_total", "target_device", 20_000.0),
    ("libvirt_domain_interface_stats_receive_packets_total", "target_device", 60.0),
    ("libvirt_domain_interface_stats_transmit_packets_total", "target_device", 50.0),
];

/// The page of one host's libvirt exporter.
pub fn machines(mut t: Template, seed: u64) -> Template {
    for (name, per_second, spread) in SINGLE {
        t.family(
            name,
            if per_second > 0.0 { "counter" } else { "gauge" },
            "A figure of one virtual machine.",
        );
        for machine in 0..MACHINES_PER_HOST {
            t.item(machine);
            let draw = mix(seed, u64::from(machine), name.len() as u64);
            let value = if per_second > 0.0 {
                t.counter(draw % 10_000, per_second, 0.8, scale(name))
            } else if spread > 0 {
                Value::gauge(spread, spread / 3, 0.6, 1.0)
            } else {
                Value::constant(1 + draw % 4)
            };
            t.line(&domain(machine), value);
        }
    }
    for (name, label, per_second) in DOUBLE {
        t.family(name, if per_second > 0.0 { "counter" } else { "gauge" }, "A figure of one device.");
        for machine in 0..MACHINES_PER_HOST {
            t.item(machine);
            for k in 0..2 {
                let draw = mix(seed, u64::from(machine), name.len() as u64 + k);
                let value = if per_second > 0.0 {
                    t.counter(draw % 10_000, per_second, 0.7, scale(name))
                } else {
                    Value::constant((1 + draw % 9) << 33)
                };
                let device = match label {
                    "vcpu" => k.to_string(),
                    _ if name.contains("interface") => format!("tap{k}"),
                    _ => format!("vd{}", (b'a' + k as u8) as char),
                };
                t.line(&format!(r#"{},{label}="{device}""#, domain(machine)), value);
            }
        }
    }
    t
}

fn scale(name: &str) -> f64 {
    if name.contains("seconds") { 1000.0 } else { 1.0 }
}

/// The node page of one compute host.
pub fn compute(mut t: Template, seed: u64) -> Template {
    t.family("node_cpu_seconds_total", "counter", "Seconds the CPUs spent in each mode.");
    for cpu in 0..CPUS {
        for (m, mode) in MODES.iter().enumerate() {
            let per_second = [0.5, 0.01, 0.0, 0.0, 0.01, 0.0, 0.08, 0.4][m];
            let base = mix(seed, u64::from(cpu), m as u64) % 1_000_000;
            let value =
                if per_second > 0.0 { t.counter(base, per_second, 0.7, 100.0) } else { Value::constant(0) };
            t.line(&format!(r#"cpu="{cpu}",mode="{mode}""#), value);
        }
    }
    for family in ["processed", "dropped", "times_squeezed"] {
        t.family(&format!("node_softnet_{family}_total"), "counter", "Per-CPU figure of the kernel.");
        for cpu in 0..CPUS {
            let value = t.counter(mix(seed, u64::from(cpu), 5) % 1_000_000, 200.0, 0.4, 1.0);
            let value = if family == "processed" { value } else { Value::constant(0) };
            t.line(&format!(r#"cpu="{cpu}""#), value);
        }
    }
    let interfaces = 2 * MACHINES_PER_HOST;
    let left = COMPUTE_SAMPLES - (CPUS as usize) * (MODES.len() + 3);
    let names = [
        "receive_bytes",
        "transmit_bytes",
        "receive_packets",
        "transmit_packets",
        "receive_drop",
        "up",
        "speed",
    ];
    let mut written = 0;
    for name in names {
        t.family(&format!("node_network_{name}_total"), "counter", "Network device statistic.");
        for device in 0..interfaces {
            let base = mix(seed, u64::from(device), 8) % 1_000_000_000;
            let value =
                if written < 240 { t.counter(base, 90_000.0, 0.8, 1.0) } else { Value::constant(base) };
            t.line(&format!(r#"device="tap{device:03}""#), value);
            written += 1;
        }
    }
    t.family("node_memory_field_bytes", "gauge", "Memory information by field.");
    for field in 0..left.saturating_sub(written) {
        let value =
            if field < 15 { Value::gauge(1 << 33, 1 << 28, 0.8, 1.0) } else { Value::constant(1 << 12) };
        t.line(&format!(r#"field="f{field:02}""#), value);
    }
    t
}
