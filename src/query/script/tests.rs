//! Prometheus's own scripts, over one shard and over several.

use std::path::PathBuf;

fn scripts() -> Option<PathBuf> {
    let root = match std::env::var_os("SYSTOLE_SHARED") {
        Some(root) => PathBuf::from(root),
        None => PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared"),
    };
    let dir = root.join("data/promqltest");
    if dir.is_dir() {
        return Some(dir);
    }
    println!("skipped: {} is not there", dir.display());
    None
}

fn check(shard_count: usize) {
    let Some(dir) = scripts() else { return };
    let path = match std::env::var("SYSTOLE_SCRIPT") {
        Ok(name) => dir.join(name),
        Err(_) => dir,
    };
    let report = super::run(&[path], shard_count).unwrap();
    println!("{report}");
    assert_eq!(report.failed(), 0);
    assert!(report.passed() > 0);
}

#[test]
fn scripts_pass_on_one_shard() {
    check(1);
}

#[test]
fn scripts_pass_on_two_shards() {
    check(2);
}

#[test]
fn scripts_pass_on_seven_shards() {
    check(7);
}
