//! A disk in memory on which the power can fail: what was synced stays, what was not is torn or gone.
//!
//! Two images of everything, live and durable. A test runs its work with the power cut after 0, 1, 2 .. operations,
//! lets the disk come back, and looks at what recovery finds. Futures are ready at once: any executor will do.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::ready;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use crate::rt::buffer::{ALIGNMENT, Buffer};
use crate::rt::disk::{Block, Disk, Entry, File, Io, Mode, unpublished};
use crate::rt::error::Error;
use crate::rt::rng::Rng;

/// What an operation fails with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The disk is full, until [`CrashDisk::heal`].
    Full,
    /// An I/O error, once.
    Io,
    /// The power is off: this operation and all after it fail and change nothing.
    PowerCut,
}

/// What a disk comes back with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// Exactly what was synced: the worst a disk may do short of tearing.
    Power,
    /// What was synced, and by the seed's choice some of the later writes: whole, in any order, one of them torn.
    Torn(u64),
    /// All that was written: only the process was killed.
    Kill,
}

/// Clones are handles to one disk.
#[derive(Clone, Default)]
pub struct CrashDisk {
    state: Rc<RefCell<State>>,
}

#[derive(Default)]
struct State {
    files: BTreeMap<u64, Image>,
    live: Names,
    durable: Names,
    next_file: u64,
    operations: u64,
    fault: Option<(u64, Fault)>,
}

#[derive(Clone, Default)]
struct Names {
    files: BTreeMap<PathBuf, u64>,
    dirs: BTreeMap<PathBuf, ()>,
}

#[derive(Default)]
struct Image {
    live: Vec<u8>,
    durable: Vec<u8>,
    /// What has changed since the last sync, in order.
    unsynced: Vec<Change>,
}

enum Change {
    Write(usize, Vec<u8>),
    Cut(usize),
}

/// What a torn write may be torn at: the sector, the least a device writes whole.
const SECTOR: usize = 512;

impl CrashDisk {
    pub fn new() -> CrashDisk {
        CrashDisk::default()
    }

    /// Operations that change or sync something, so far: where faults may be put.
    pub fn operations(&self) -> u64 {
        self.state.borrow().operations
    }

    /// Makes the operation after the next `operations` ones fail.
    pub fn fail_after(&self, operations: u64, fault: Fault) {
        let mut state = self.state.borrow_mut();
        state.fault = Some((state.operations + operations, fault));
    }

    /// Ends a lasting fault: space returns.
    pub fn heal(&self) {
        self.state.borrow_mut().fault = None;
    }

    /// The disk as it is found after the crash; this one is left as it was.
    pub fn crash(&self, crash: Crash) -> CrashDisk {
        let state = self.state.borrow();
        let mut rng = Rng::seeded(if let Crash::Torn(seed) = crash { seed } else { 0 });
        let names = if crash == Crash::Kill { &state.live } else { &state.durable };
        let image = |(id, image): (&u64, &Image)| {
            let bytes = match crash {
                Crash::Power => image.durable.clone(),
                Crash::Kill => image.live.clone(),
                Crash::Torn(_) => image.torn(&mut rng),
            };
            (*id, Image { live: bytes.clone(), durable: bytes, unsynced: Vec::new() })
        };
        let found = State {
            files: state.files.iter().map(image).collect(),
            live: names.clone(),
            durable: names.clone(),
            next_file: state.next_file,
            ..State::default()
        };
        CrashDisk { state: Rc::new(RefCell::new(found)) }
    }

    /// Flips the bits of `mask` in one durable and live byte: a disk that lies.
    pub fn corrupt(&self, path: &Path, at: usize, mask: u8) {
        let mut state = self.state.borrow_mut();
        let Some(id) = state.live.files.get(path).copied() else { return };
        let Some(image) = state.files.get_mut(&id) else { return };
        let Image { live, durable, .. } = image;
        for bytes in [live, durable] {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= mask;
            }
        }
    }

    fn with<'a, R: 'a>(
        &self,
        operation: &'static str,
        path: &Path,
        work: impl FnOnce(&mut State) -> io::Result<R>,
    ) -> Io<'a, R> {
        let result = work(&mut self.state.borrow_mut());
        Box::pin(ready(result.map_err(|e| Error::file(operation, path, e))))
    }

    /// The same for what changes or syncs something: counted, and failing when its time has come.
    fn change<'a, R: 'a>(
        &self,
        operation: &'static str,
        path: &Path,
        work: impl FnOnce(&mut State) -> io::Result<R>,
    ) -> Io<'a, R> {
        self.with(operation, path, |state| {
            state.step()?;
            work(state)
        })
    }
}

impl State {
    fn step(&mut self) -> io::Result<()> {
        let number = self.operations;
        self.operations += 1;
        let Some((at, fault)) = self.fault else { return Ok(()) };
        if number < at {
            return Ok(());
        }
        match fault {
            Fault::Full => Err(io::Error::from_raw_os_error(libc::ENOSPC)),
            Fault::PowerCut => Err(io::Error::other("the power is off")),
            Fault::Io => {
                self.fault = None;
                Err(io::Error::from_raw_os_error(libc::EIO))
            }
        }
    }

    fn image(&mut self, id: u64) -> io::Result<&mut Image> {
        self.files.get_mut(&id).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn find(&self, path: &Path) -> io::Result<u64> {
        self.live.files.get(path).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn create(&mut self, path: &Path) -> u64 {
        if let Some((id, image)) =
            self.live.files.get(path).and_then(|id| Some((*id, self.files.get_mut(id)?)))
        {
            image.cut(0);
            return id;
        }
        let id = self.next_file;
        self.next_file += 1;
        self.files.insert(id, Image::default());
        self.live.files.insert(path.to_path_buf(), id);
        id
    }

    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let moved = |path: &Path| path.strip_prefix(from).ok().map(|rest| to.join(rest));
        let moved = |path: &Path| if path == from { Some(to.to_path_buf()) } else { moved(path) };
        let files: Vec<_> = self.live.files.keys().filter_map(|p| Some((p.clone(), moved(p)?))).collect();
        let dirs: Vec<_> = self.live.dirs.keys().filter_map(|p| Some((p.clone(), moved(p)?))).collect();
        if files.is_empty() && dirs.is_empty() {
            return Err(io::ErrorKind::NotFound.into());
        }
        for (old, new) in files {
            if let Some(id) = self.live.files.remove(&old) {
                self.live.files.insert(new, id);
            }
        }
        for (old, new) in dirs {
            self.live.dirs.remove(&old);
            self.live.dirs.insert(new, ());
        }
        Ok(())
    }

    fn remove(&mut self, path: &Path) -> io::Result<()> {
        let before = self.live.files.len() + self.live.dirs.len();
        self.live.files.retain(|p, _| !p.starts_with(path));
        self.live.dirs.retain(|p, _| !p.starts_with(path));
        let after = self.live.files.len() + self.live.dirs.len();
        if before == after { Err(io::ErrorKind::NotFound.into()) } else { Ok(()) }
    }

    /// The names directly in `dir` become durable, and with a directory's name all that is durable in it: a renamed
    /// directory brings its files along.
    fn sync_dir(&mut self, dir: &Path) {
        let State { live, durable, .. } = self;
        let came: Vec<_> = live.dirs.keys().filter(|p| p.parent() == Some(dir)).cloned().collect();
        let came: Vec<_> = came.into_iter().filter(|p| !durable.dirs.contains_key(p)).collect();
        let gone: Vec<_> = durable.dirs.keys().filter(|p| p.parent() == Some(dir)).cloned().collect();
        let gone: Vec<_> = gone.into_iter().filter(|p| !live.dirs.contains_key(p)).collect();
        let known: Vec<u64> = durable.files.values().copied().collect();
        for path in gone {
            durable.files.retain(|p, _| !p.starts_with(&path));
            durable.dirs.retain(|p, _| !p.starts_with(&path));
        }
        for path in came {
            durable.dirs.extend(live.dirs.keys().filter(|p| p.starts_with(&path)).map(|p| (p.clone(), ())));
            let inside = live.files.iter().filter(|(p, id)| p.starts_with(&path) && known.contains(id));
            durable.files.extend(inside.map(|(p, id)| (p.clone(), *id)));
        }
        durable.files.retain(|p, _| p.parent() != Some(dir));
        let here = live.files.iter().filter(|(p, _)| p.parent() == Some(dir));
        durable.files.extend(here.map(|(p, id)| (p.clone(), *id)));
    }
}

impl Image {
    fn write(&mut self, at: usize, bytes: &[u8]) {
        put(&mut self.live, at, bytes);
        self.unsynced.push(Change::Write(at, bytes.to_vec()));
    }

    fn cut(&mut self, size: usize) {
        self.live.resize(size, 0);
        self.unsynced.push(Change::Cut(size));
    }

    fn sync(&mut self) {
        self.durable.clone_from(&self.live);
        self.unsynced.clear();
    }

    fn torn(&self, rng: &mut Rng) -> Vec<u8> {
        let mut bytes = self.durable.clone();
        let torn = rng.below(self.unsynced.len() as u64 + 1) as usize;
        for (number, change) in self.unsynced.iter().enumerate() {
            match change {
                Change::Write(at, written) if number == torn => {
                    let sectors = rng.below((written.len() / SECTOR) as u64 + 1) as usize;
                    put(&mut bytes, *at, &written[..sectors * SECTOR]);
                }
                Change::Write(at, written) if rng.chance(0.5) => put(&mut bytes, *at, written),
                Change::Cut(size) if rng.chance(0.5) => bytes.resize(*size, 0),
                _ => {}
            }
        }
        bytes
    }
}

fn put(image: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    if bytes.is_empty() {
        return;
    }
    let end = at + bytes.len();
    if image.len() < end {
        image.resize(end, 0);
    }
    image[at..end].copy_from_slice(bytes);
}

impl Disk for CrashDisk {
    fn open(&self, path: &Path, mode: Mode) -> Io<'_, Rc<dyn File>> {
        let handle = |id| Rc::new(CrashFile { disk: self.clone(), path: path.into(), id }) as Rc<dyn File>;
        let exists = self.state.borrow().live.files.contains_key(path);
        match mode {
            Mode::Read | Mode::LogAgain => self.with("open", path, |state| state.find(path).map(handle)),
            Mode::Write if exists => self.with("open", path, |state| state.find(path).map(handle)),
            _ => self.change("open", path, |state| Ok(handle(state.create(path)))),
        }
    }

    fn publish(&self, path: &Path, bytes: Vec<u8>) -> Io<'_, ()> {
        let (disk, path) = (self.clone(), path.to_path_buf());
        let beside = unpublished(&path);
        Box::pin(async move {
            let create = |state: &mut State| Ok(state.create(&beside));
            let id = disk.change("write", &beside, create).await?;
            disk.change("write", &beside, |state| state.image(id).map(|i| i.write(0, &bytes))).await?;
            disk.change("sync", &beside, |state| state.image(id).map(Image::sync)).await?;
            disk.rename(&beside, &path).await?;
            match path.parent() {
                Some(dir) => disk.sync_dir(dir).await,
                None => Ok(()),
            }
        })
    }

    fn read(&self, path: &Path) -> Io<'_, Vec<u8>> {
        self.with("read", path, |state| {
            let id = state.find(path)?;
            Ok(state.image(id)?.live.clone())
        })
    }

    fn list(&self, dir: &Path) -> Io<'_, Vec<Entry>> {
        self.with("list", dir, |state| {
            let name = |path: &Path| path.file_name().map(|n| n.to_string_lossy().into_owned());
            let inside = |path: &Path| path.parent() == Some(dir);
            let file = |(path, id): (&PathBuf, &u64)| {
                let size = state.files.get(id).map_or(0, |image| image.live.len() as u64);
                inside(path).then(|| Some(Entry { name: name(path)?, is_dir: false, size }))?
            };
            let folder = |path: &PathBuf| {
                inside(path).then(|| Some(Entry { name: name(path)?, is_dir: true, size: 0 }))?
            };
            let files = state.live.files.iter().filter_map(file);
            let mut entries: Vec<Entry> = files.chain(state.live.dirs.keys().filter_map(folder)).collect();
            entries.sort();
            let known = state.live.dirs.contains_key(dir) || !entries.is_empty();
            if known { Ok(entries) } else { Err(io::ErrorKind::NotFound.into()) }
        })
    }

    fn create_dir(&self, dir: &Path) -> Io<'_, ()> {
        if self.state.borrow().live.dirs.contains_key(dir) {
            return Box::pin(ready(Ok(())));
        }
        self.change("create directory", dir, |state| {
            let new = dir.ancestors().filter(|p| !p.as_os_str().is_empty()).map(|p| (p.to_path_buf(), ()));
            state.live.dirs.extend(new);
            Ok(())
        })
    }

    fn rename(&self, from: &Path, to: &Path) -> Io<'_, ()> {
        self.change("rename", from, |state| state.rename(from, to))
    }

    fn link(&self, from: &Path, to: &Path) -> Io<'_, ()> {
        self.change("link", to, |state| {
            let id = state.find(from)?;
            state.live.files.entry(to.to_path_buf()).or_insert(id);
            Ok(())
        })
    }

    fn remove(&self, path: &Path) -> Io<'_, ()> {
        self.change("remove", path, |state| state.remove(path))
    }

    fn sync_dir(&self, dir: &Path) -> Io<'_, ()> {
        self.change("sync", dir, |state| {
            state.sync_dir(dir);
            Ok(())
        })
    }
}

struct CrashFile {
    disk: CrashDisk,
    path: PathBuf,
    id: u64,
}

impl File for CrashFile {
    fn path(&self) -> &Path {
        &self.path
    }

    fn size(&self) -> Io<'_, u64> {
        self.disk.with("stat", &self.path, |state| Ok(state.image(self.id)?.live.len() as u64))
    }

    fn write_at(&self, buffer: Buffer, at: u64) -> Io<'_, Buffer> {
        assert!(at.is_multiple_of(ALIGNMENT as u64), "write at {at}");
        self.disk.change("write", &self.path, |state| {
            state.image(self.id)?.write(at as usize, &buffer);
            Ok(buffer)
        })
    }

    fn read_at(&self, at: u64, len: usize) -> Io<'_, Block> {
        self.disk.with("read", &self.path, |state| {
            let live = &state.image(self.id)?.live;
            let from = live.len().min(at as usize);
            let to = live.len().min(from.saturating_add(len));
            Ok(Block::plain(live[from..to].to_vec()))
        })
    }

    fn sync(&self) -> Io<'_, ()> {
        self.disk.change("sync", &self.path, |state| state.image(self.id).map(Image::sync))
    }

    fn preallocate(&self, _size: u64) -> Io<'_, ()> {
        self.disk.change("allocate", &self.path, |_state| Ok(()))
    }

    fn truncate(&self, size: u64) -> Io<'_, ()> {
        self.disk.change("truncate", &self.path, |state| {
            state.image(self.id).map(|image| image.cut(size as usize))
        })
    }

    fn close(self: Rc<Self>) -> Io<'static, ()> {
        Box::pin(ready(Ok(())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_lite::future::block_on;

    fn path(name: &str) -> PathBuf {
        Path::new("data").join(name)
    }

    fn block(byte: u8) -> Buffer {
        let mut buffer = Buffer::zeroed(4096);
        buffer.fill(byte);
        buffer
    }

    /// Writes 1, syncs, writes 2, with the name made durable first.
    fn written() -> CrashDisk {
        let disk = CrashDisk::new();
        block_on(async {
            disk.create_dir(&path("")).await.expect("create");
            let file = disk.open(&path("log"), Mode::Create).await.expect("open");
            disk.sync_dir(&path("")).await.expect("sync directory");
            file.write_at(block(1), 0).await.expect("write");
            file.sync().await.expect("sync");
            file.write_at(block(2), 4096).await.expect("write");
        });
        disk
    }

    fn content(disk: &CrashDisk, name: &str) -> Option<Vec<u8>> {
        block_on(disk.read(&path(name))).ok()
    }

    #[test]
    fn a_power_cut_leaves_what_was_synced_and_a_kill_leaves_all() {
        let disk = written();
        assert_eq!(content(&disk.crash(Crash::Power), "log"), Some(vec![1; 4096]));
        let all = [vec![1; 4096], vec![2; 4096]].concat();
        assert_eq!(content(&disk.crash(Crash::Kill), "log"), Some(all));
    }

    #[test]
    fn a_torn_write_ends_at_a_sector_and_spares_what_was_synced() {
        let disk = written();
        let mut lengths: Vec<usize> = Vec::new();
        for seed in 0..64 {
            let bytes = content(&disk.crash(Crash::Torn(seed)), "log").expect("the log");
            assert_eq!((&bytes[..4096], bytes.len() % SECTOR), (&[1u8; 4096][..], 0));
            lengths.push(bytes.len());
        }
        lengths.sort_unstable();
        lengths.dedup();
        assert!(lengths.len() > 4, "{lengths:?}");
    }

    #[test]
    fn a_name_that_was_not_synced_is_gone() {
        let disk = CrashDisk::new();
        block_on(async {
            let file = disk.open(&path("new"), Mode::Create).await.expect("open");
            file.write_at(block(1), 0).await.expect("write");
            file.sync().await.expect("sync");
        });
        assert_eq!(content(&disk.crash(Crash::Power), "new"), None);
    }

    #[test]
    fn publishing_is_all_or_nothing_wherever_the_power_fails() {
        for cut in 0.. {
            let disk = CrashDisk::new();
            block_on(disk.publish(&path("meta"), vec![1; 700])).expect("the first");
            disk.fail_after(cut, Fault::PowerCut);
            let done = block_on(disk.publish(&path("meta"), vec![2; 900])).is_ok();
            for crash in [Crash::Power, Crash::Kill, Crash::Torn(cut)] {
                let found = content(&disk.crash(crash), "meta").expect("one of them");
                assert!(found == [1; 700] && !done || found == [2; 900], "cut {cut}, {crash:?}");
            }
            if done {
                break;
            }
        }
    }

    #[test]
    fn a_full_disk_stays_full_until_it_heals_and_an_error_comes_once() {
        let disk = written();
        let file = block_on(disk.open(&path("log"), Mode::Write)).expect("open");
        disk.fail_after(1, Fault::Full);
        assert!(block_on(file.write_at(block(3), 0)).is_ok());
        for _ in 0..2 {
            assert!(block_on(file.write_at(block(3), 0)).is_err_and(|e| e.is_full()));
        }
        disk.heal();
        assert!(block_on(file.sync()).is_ok());
        disk.fail_after(0, Fault::Io);
        assert!(block_on(file.sync()).is_err_and(|e| !e.is_full()));
        assert!(block_on(file.sync()).is_ok());
    }

    #[test]
    fn a_renamed_directory_is_durable_with_its_parent() {
        let disk = CrashDisk::new();
        block_on(async {
            disk.create_dir(&path("block.new")).await.expect("create");
            let file = disk.open(&path("block.new/chunks"), Mode::Create).await.expect("open");
            file.write_at(block(9), 0).await.expect("write");
            file.sync().await.expect("sync");
            disk.sync_dir(&path("block.new")).await.expect("sync inside");
            disk.sync_dir(&path("")).await.expect("sync outside");
            disk.rename(&path("block.new"), &path("block")).await.expect("rename");
        });
        assert_eq!(content(&disk.crash(Crash::Power), "block/chunks"), None);
        assert!(content(&disk.crash(Crash::Power), "block.new/chunks").is_some());
        block_on(disk.sync_dir(&path(""))).expect("sync outside");
        assert!(content(&disk.crash(Crash::Power), "block/chunks").is_some());
        assert_eq!(content(&disk.crash(Crash::Power), "block.new/chunks"), None);
    }
}
