//! The power goes: what was not flushed is lost, in whole or in part. What was acknowledged is not.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use everstate_store::open::{Flush, Settings, open};

use crate::crash::{acks, check, child};

const INPUTS: u64 = 120;
const CUTS: usize = 24;

#[test]
fn what_was_acknowledged_survives() {
    let lost = lost(Flush::Always);
    assert!(lost.is_empty(), "{}", lost.join("\n"));
}

#[test]
fn without_flushing_it_would_not() {
    let lost = lost(Flush::Never);
    assert!(lost.len() > CUTS / 2, "only {} cuts were noticed: {}", lost.len(), lost.join("\n"));
}

/// Runs a child, cuts the power at many moments, and says what was found wrong.
fn lost(flush: Flush) -> Vec<String> {
    let scratch = tempfile::tempdir().unwrap();
    let folder = scratch.path().join("store");
    fs::create_dir(&folder).unwrap();
    let records = recorded(scratch.path(), &folder, flush);
    assert!(records.iter().any(|it| it.kind == b'W'), "the shim saw nothing");

    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut cuts: Vec<usize> =
        (1..CUTS).map(|_| random.below(records.len())).chain([records.len()]).collect();
    cuts.sort_unstable();
    let mut disk = Disk::default();
    let (mut lost, mut at, mut most) = (Vec::new(), 0, 0);
    for (n, cut) in cuts.into_iter().enumerate() {
        records[at..cut].iter().enumerate().for_each(|(n, record)| disk.record(at + n, record));
        at = cut;
        let after = scratch.path().join(format!("after-{n}"));
        // None, some, or most of what was on its way has arrived.
        disk.write(&folder, &after, [0, 50, 95][n % 3], &mut random);
        let acks = acks(&disk.acks);
        most = acks.values().map(Vec::len).sum();
        let found = runtime.block_on(async {
            let url = format!("sqlite:{}", after.join("state.db").display());
            let store = open(&url, Settings::default()).await.map_err(|it| it.to_string())?;
            check(&store, &acks).await
        });
        lost.extend(found.err().map(|why| format!("cut at {cut} of {}: {why}", records.len())));
        fs::remove_dir_all(&after).unwrap();
    }
    assert!(most > 500, "only {most} appends were acknowledged");
    lost
}

// ---- the record --------------------------------------------------------------------------

struct Record {
    kind: u8,
    path: PathBuf,
    number: u64,
    data: Vec<u8>,
}

fn recorded(scratch: &Path, folder: &Path, flush: Flush) -> Vec<Record> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/powercut/shim.c");
    let (shim, log) = (scratch.join("shim.so"), scratch.join("log"));
    let mut gcc = Command::new("gcc");
    gcc.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&shim).arg(&source).arg("-ldl");
    let built = gcc.status();
    assert!(built.expect("gcc is needed for this test").success(), "gcc could not build the shim");
    let mut child = child(folder, Some(INPUTS), flush);
    child.stdout(Stdio::null());
    child.env("LD_PRELOAD", &shim).env("POWERCUT_FOLDER", folder).env("POWERCUT_LOG", &log);
    let mut child = child.spawn().unwrap();
    assert!(child.wait().unwrap().success(), "the child failed");
    let text = fs::read(&log).expect("the shim wrote its log");
    let mut rest = text.as_slice();
    let mut records = Vec::new();
    while let Some((&kind, tail)) = rest.split_first() {
        rest = tail;
        let len = u32::from_ne_bytes(take(&mut rest, 4).try_into().unwrap()) as usize;
        let path = String::from_utf8(take(&mut rest, len).to_vec()).unwrap().into();
        let number = u64::from_ne_bytes(take(&mut rest, 8).try_into().unwrap());
        let len = u64::from_ne_bytes(take(&mut rest, 8).try_into().unwrap()) as usize;
        let data = take(&mut rest, len).to_vec();
        records.push(Record { kind, path, number, data });
    }
    records
}

fn take<'a>(rest: &mut &'a [u8], len: usize) -> &'a [u8] {
    let (taken, tail) = rest.split_at(len);
    *rest = tail;
    taken
}

// ---- the disk ----------------------------------------------------------------------------

/// What is on the plate, and what is still on its way there. Names are taken to arrive at once.
#[derive(Default)]
struct Disk {
    files: BTreeMap<PathBuf, DiskFile>,
    /// Flushes under way, and when they began.
    flushes: BTreeMap<u64, usize>,
    acks: Vec<u8>,
}

#[derive(Clone, Default)]
struct DiskFile {
    flushed: Vec<u8>,
    pending: Vec<(usize, Write)>,
}

#[derive(Clone)]
enum Write {
    Data(usize, Vec<u8>),
    Cut(usize),
}

impl Write {
    fn apply(&self, file: &mut Vec<u8>) {
        match self {
            Write::Cut(len) => file.resize(*len, 0),
            Write::Data(at, data) => {
                file.resize(file.len().max(at + data.len()), 0);
                file[*at..at + data.len()].copy_from_slice(data);
            }
        }
    }
}

impl Disk {
    fn record(&mut self, now: usize, record: &Record) {
        let Record { kind, path, number, data } = record;
        let at = *number as usize;
        if path.ends_with("acks") && *kind == b'W' {
            self.acks.extend_from_slice(data);
        }
        match kind {
            b'O' => drop(self.file(path)),
            b'W' => self.file(path).pending.push((now, Write::Data(at, data.clone()))),
            b'T' => self.file(path).pending.push((now, Write::Cut(at))),
            b'B' => drop(self.flushes.insert(*number, now)),
            b'E' => {
                let began = self.flushes.remove(number).expect("it began");
                let DiskFile { flushed, pending } = self.file(path);
                let (done, rest) = pending.drain(..).partition(|(at, _)| *at < began);
                *pending = rest;
                let done: Vec<(usize, Write)> = done;
                done.iter().for_each(|(_, write)| write.apply(flushed));
            }
            b'U' => drop(self.files.remove(path)),
            b'R' => {
                let to = PathBuf::from(String::from_utf8(data.clone()).unwrap());
                if let Some(file) = self.files.remove(path) {
                    self.files.insert(to, file);
                }
            }
            other => panic!("the shim wrote {other}"),
        }
    }

    fn file(&mut self, path: &Path) -> &mut DiskFile {
        self.files.entry(path.to_owned()).or_default()
    }

    /// The folder as it is found when the power is back.
    fn write(&self, folder: &Path, to: &Path, arrived_percent: usize, random: &mut Random) {
        for (path, file) in &self.files {
            let mut content = file.flushed.clone();
            for (_, write) in &file.pending {
                if random.below(100) < arrived_percent {
                    write.apply(&mut content);
                }
            }
            let path = to.join(path.strip_prefix(folder).unwrap());
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, content).unwrap();
            let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
            fs::set_permissions(&path, private).unwrap();
        }
        fs::create_dir_all(to).unwrap();
    }
}

struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end.max(1) as u64) as usize
    }
}
