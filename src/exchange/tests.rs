//! Damaged directories: every command ends with an error that names the file, or with what is whole.

use std::fs;
use std::path::{Path, PathBuf};

use codec::varint::write_signed;
use model::{Labels, Timestamp};
use prometheus_tsdb::block::BlockBuilder;
use prometheus_tsdb::cut::Cutter;
use prometheus_tsdb::sample::Sample;
use prometheus_tsdb::wal;

use crate::exchange::directory::Database;
use crate::exchange::dump::{Form, Question, dump};
use crate::exchange::walk::Walk;
use crate::exchange::write::BlockWriter;
use crate::exchange::{Error, analyze, list};
use crate::rt::clock::ManualClock;
use crate::rt::rng::Rng;

const SERIES: usize = 4;
const SAMPLES: i64 = 300;
const LOG_FROM: Timestamp = 10_000_000;

fn labels(i: usize) -> Labels {
    Labels::from_pairs([("__name__", "m".to_owned()), ("i", i.to_string())])
}

struct Dir(PathBuf);

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A block, and a log behind it.
fn directory(name: &str) -> Dir {
    let dir = std::env::temp_dir().join(format!("systole-exchange-{name}-{}", std::process::id()));
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(dir.join("wal")).expect("a directory");
    let mut builder = BlockBuilder::default();
    for i in 0..SERIES {
        let mut cutter = Cutter::new(7_200_000);
        let mut chunks = Vec::new();
        for t in 0..SAMPLES {
            chunks.extend(cutter.push(Sample::float(t * 1000, t as f64 / 7.0)).expect("a sample"));
        }
        chunks.extend(cutter.finish().expect("a chunk"));
        builder.add(labels(i), chunks);
    }
    let clock = ManualClock::starting_at(1_700_000_000_000);
    let mut writer = BlockWriter { dir: &dir, clock: &*clock, rng: Rng::seeded(1) };
    writer.write(builder).expect("a block");
    fs::write(dir.join("wal/00000000"), log()).expect("a log");
    Dir(dir)
}

fn log() -> Vec<u8> {
    let mut series = vec![1];
    for i in 0..SERIES {
        series.extend_from_slice(&(i as u64).to_be_bytes());
        series.extend_from_slice(b"\x02\x08__name__\x01m\x01i\x01");
        series.push(b'0' + i as u8);
    }
    let mut segment = Vec::new();
    wal::push_record(&series, &mut segment);
    for t in 0..SAMPLES {
        let mut samples = vec![2];
        samples.extend_from_slice(&0u64.to_be_bytes());
        samples.extend_from_slice(&LOG_FROM.to_be_bytes());
        for i in 0..SERIES {
            write_signed(i as i64, &mut samples);
            write_signed(t * 1000, &mut samples);
            samples.extend_from_slice(&(t as f64).to_bits().to_be_bytes());
        }
        wal::push_record(&samples, &mut segment);
    }
    segment
}

/// Samples of all series, and how much of the log was not read.
fn count(dir: &Path) -> Result<(usize, usize), Error> {
    let database = Database::open(dir)?;
    let mut walk = Walk::new(&database, Timestamp::MIN, Timestamp::MAX)?;
    let (mut scratch, mut samples, mut count) = (Vec::new(), Vec::new(), 0);
    while let Some(found) = walk.try_next()? {
        found.read(&database, Timestamp::MIN, Timestamp::MAX, &mut scratch, &mut samples)?;
        count += samples.len();
    }
    Ok((count, database.damage.len()))
}

fn files(dir: &Path, out: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("a directory").flatten() {
        if entry.path().is_dir() { files(&entry.path(), out) } else { out.push(entry.path()) }
    }
}

#[test]
fn blocks_and_log_are_one_database() {
    let dir = directory("whole");
    assert_eq!(count(&dir.0).expect("it is whole"), (2 * SERIES * SAMPLES as usize, 0));
    let mut out = Vec::new();
    let selectors = ["m{i=\"2\"}".to_owned()];
    let question = Question { mint: 299_000, maxt: LOG_FROM, selectors: &selectors, form: Form::Prometheus };
    dump(&dir.0, &question, &mut out).expect("a dump");
    let want = "{__name__=\"m\", i=\"2\"} 42.714285714285715 299000\n{__name__=\"m\", i=\"2\"} 0 10000000\n";
    assert_eq!(String::from_utf8_lossy(&out), want);
}

#[test]
fn a_flipped_bit_or_a_torn_file_is_said_or_harmless() {
    let dir = directory("damaged");
    let mut all = Vec::new();
    files(&dir.0, &mut all);
    let (whole, mut rng) = (2 * SERIES * SAMPLES as usize, Rng::seeded(7));
    let (mut errors, mut damages) = (0, 0);
    for path in &all {
        let good = fs::read(path).expect("a file");
        for _ in 0..60 {
            let mut bad = good.clone();
            let at = rng.below(bad.len() as u64) as usize;
            let is_torn = rng.chance(0.2);
            if is_torn {
                bad.truncate(at);
            } else {
                bad[at] ^= 1 << rng.below(8);
            }
            fs::write(path, &bad).expect("the file");
            match count(&dir.0) {
                Ok((count, damage)) => {
                    damages += damage;
                    // A log torn between two records is a shorter log; a meta file may say another time.
                    let may_differ = damage > 0 || is_torn || path.ends_with("meta.json");
                    assert!(count == whole || may_differ, "{path:?} at {at}");
                }
                Err(e) => {
                    errors += 1;
                    let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
                    assert!(e.to_string().contains(name), "{path:?} at {at}: {e}");
                }
            }
            let question = analyze::Question { block: "", limit: 9, is_extended: true, selector: "" };
            let _ = analyze::analyze(&dir.0, &question, &mut Vec::new());
            let _ = list::list(&dir.0, true, &mut Vec::new());
        }
        fs::write(path, &good).expect("the file");
    }
    assert!(errors > 60 && damages > 30, "{errors} errors, {damages} damages");
}
