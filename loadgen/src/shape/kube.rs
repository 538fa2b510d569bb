//! A Kubernetes cluster: kube-state-metrics, which tells of all pods, and a cAdvisor page a node.
//!
//! Pods are items: with churn, one ends and another with a new name takes its place.

use super::fleet::{OWNER, SUFFIX, Template};
use super::mix;
use super::value::Value;

/// What a node is allowed is 110; a third of it is usual.
pub const PODS_PER_NODE: u32 = 30;
const NAMESPACES: [&str; 8] =
    ["default", "kube-system", "monitoring", "shop", "payments", "search", "batch", "ingress"];
const APPS: [&str; 10] =
    ["api", "web", "worker", "cache", "gateway", "cart", "ledger", "indexer", "cron", "proxy"];

pub fn namespace(item: u32) -> &'static str {
    NAMESPACES[item as usize % NAMESPACES.len()]
}

fn pod(item: u32) -> String {
    let app = APPS[item as usize / 3 % APPS.len()];
    format!(r#"namespace="{}",pod="{app}-{item:03}-{OWNER}-{SUFFIX}""#, namespace(item))
}

/// A family of gauges or counters that each container of a pod has: name, growth a second (0 for a gauge), spread.
type Each = (&'static str, f64, u64);

const CONTAINER: [Each; 16] = [
    ("container_cpu_usage_seconds_total", 0.2, 0),
    ("container_cpu_user_seconds_total", 0.14, 0),
    ("container_cpu_system_seconds_total", 0.06, 0),
    ("container_cpu_cfs_periods_total", 10.0, 0),
    ("container_cpu_cfs_throttled_periods_total", 0.2, 0),
    ("container_cpu_cfs_throttled_seconds_total", 0.02, 0),
    ("container_memory_working_set_bytes", 0.0, 60_000_000),
    ("container_memory_rss", 0.0, 50_000_000),
    ("container_memory_cache", 0.0, 9_000_000),
    ("container_memory_usage_bytes", 0.0, 70_000_000),
    ("container_memory_failcnt", 0.0, 0),
    ("container_memory_swap", 0.0, 0),
    ("container_fs_reads_total", 1.5, 0),
    ("container_fs_writes_total", 4.0, 0),
    ("container_spec_memory_limit_bytes", 0.0, 0),
    ("container_last_seen", 0.0, 40),
];

const POD_NETWORK: [Each; 6] = [
    ("container_network_receive_bytes_total", 24_000.0, 0),
    ("container_network_transmit_bytes_total", 31_000.0, 0),
    ("container_network_receive_packets_total", 60.0, 0),
    ("container_network_transmit_packets_total", 64.0, 0),
    ("container_network_receive_errors_total", 0.0, 0),
    ("container_network_receive_packets_dropped_total", 0.0, 0),
];

fn value(t: &Template, seed: u64, each: &Each, item: u32) -> Value {
    let draw = mix(seed, u64::from(item), each.0.len() as u64);
    match *each {
        (name, per_second, _) if per_second > 0.0 => {
            let scale = if name.contains("seconds") { 1000.0 } else { 1.0 };
            t.counter(draw % 1_000_000, per_second * (0.5 + (draw % 100) as f64 / 100.0), 0.8, scale)
        }
        (_, _, 0) => Value::constant(if each.0.contains("limit") { 1 << 29 } else { 0 }),
        (_, _, spread) => Value::gauge(spread + draw % spread, spread / 4 + 1, 0.7, 1.0),
    }
}

/// The page of one node's cAdvisor.
pub fn cadvisor(mut t: Template, seed: u64) -> Template {
    for (family, labels) in CONTAINER
        .iter()
        .map(|f| (f, r#"container="main",image="registry.example.com/team/app:v1.14.2","#))
        .chain(POD_NETWORK.iter().map(|f| (f, r#"interface="eth0","#)))
    {
        let kind = if family.1 > 0.0 { "counter" } else { "gauge" };
        t.family(family.0, kind, "A figure of one container's control group.");
        for item in 0..PODS_PER_NODE {
            t.item(item);
            let value = value(&t, seed, family, item);
            t.line(&format!("{labels}{}", pod(item)), value);
        }
    }
    for (name, spread) in [("machine_cpu_cores", 0), ("machine_memory_bytes", 0), ("kubelet_running_pods", 3)]
    {
        t.family(name, "gauge", "A figure of the node.");
        let value = if spread > 0 { Value::gauge(28, spread, 0.1, 1.0) } else { Value::constant(64) };
        t.line("", value);
    }
    t
}

const POD_STATE: [(&str, &str, u64); 9] = [
    ("kube_pod_info", r#",host_ip="10.0.0.1",created_by_kind="ReplicaSet",priority_class="normal""#, 1),
    ("kube_pod_created", "", 1_790_000_000),
    ("kube_pod_status_ready", r#",condition="true""#, 1),
    ("kube_pod_container_info", r#",container="main",image="registry.example.com/team/app:v1.14.2""#, 1),
    ("kube_pod_container_status_ready", r#",container="main""#, 1),
    ("kube_pod_container_status_restarts_total", r#",container="main""#, 0),
    ("kube_pod_container_resource_requests", r#",container="main",resource="cpu",unit="core""#, 2),
    ("kube_pod_container_resource_limits", r#",container="main",resource="memory",unit="byte""#, 1 << 29),
    ("kube_pod_owner", r#",owner_kind="ReplicaSet",owner_is_controller="true""#, 1),
];
const PHASES: [&str; 5] = ["Failed", "Pending", "Running", "Succeeded", "Unknown"];

/// The page of kube-state-metrics, telling of the pods of `nodes` nodes.
pub fn state(mut t: Template, seed: u64, nodes: u32) -> Template {
    for (name, more, shown) in POD_STATE {
        let kind = if name.ends_with("_total") { "counter" } else { "gauge" };
        t.family(name, kind, "What the cluster knows of one pod.");
        for node in 0..nodes {
            t.owner(node);
            for item in 0..PODS_PER_NODE {
                t.item(item);
                let shown = if name == "kube_pod_created" {
                    shown + mix(seed, u64::from(node), u64::from(item)) % 1000
                } else {
                    shown
                };
                let on =
                    if name == "kube_pod_info" { format!(r#",node="node-{OWNER}""#) } else { String::new() };
                t.line(&format!("{}{on}{more}", pod(item)), Value::constant(shown));
            }
        }
    }
    t.family("kube_pod_status_phase", "gauge", "The pod's phase.");
    for node in 0..nodes {
        t.owner(node);
        for item in 0..PODS_PER_NODE {
            t.item(item);
            for phase in PHASES {
                let shown = u64::from(phase == "Running");
                t.line(&format!(r#"{},phase="{phase}""#, pod(item)), Value::constant(shown));
            }
        }
    }
    t.family("kube_node_info", "gauge", "What the cluster knows of one node.");
    for node in 0..nodes {
        t.owner(node);
        t.line(
            &format!(r#"node="node-{OWNER}",kernel_version="6.12.41",kubelet_version="v1.36.4""#),
            Value::constant(1),
        );
    }
    t
}
