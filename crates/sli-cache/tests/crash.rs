//! Runs that are killed at random moments and resumed until they are done. What the journal says is committed must be
//! there and right each time.
//!
//! The runs are processes of their own: this test program again, told by an environment variable what to be. A killed
//! process leaves what it wrote in the page cache, so these tests find wrong orders and torn states of the program;
//! they do not cut the power.

use std::env;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use sli_cache::*;

const RUN: &str = "SLI_CACHE_CRASH_RUN";
const STAGES: usize = 15;
const CHUNKS: usize = 7;

/// How a run keeps its activations, and after how many chunks it commits.
#[derive(Clone, Copy)]
struct Kind {
    name: &'static str,
    spilled: bool,
    background: bool,
    commit_every: usize,
}

const KINDS: [Kind; 4] = [
    Kind { name: "spilled", spilled: true, background: false, commit_every: 1 },
    Kind { name: "spilled behind", spilled: true, background: true, commit_every: 3 },
    Kind { name: "resident", spilled: false, background: false, commit_every: 5 },
    Kind { name: "resident behind", spilled: false, background: true, commit_every: 11 },
];

#[test]
fn killed_runs_go_on_and_end() {
    KINDS.into_iter().for_each(kill_until_done);
}

/// What the stage makes of the chunk; a stage's input is the output of the one before.
fn output(stage: usize, chunk: usize) -> ChunkState {
    let count = 300 + 10 * chunk;
    let rows = |width: usize| {
        let value = |i| (stage * 100_000 + chunk * 10_000 + i) as f32;
        Rows::new(width, (0..count * width).map(value).collect())
    };
    ChunkState { hidden: rows(16), carry: vec![Carry { name: "first values".into(), rows: rows(2) }] }
}

fn open_store(kind: Kind, dir: &Path, resumed: Option<&Resumed>) -> Arc<dyn ActivationStore> {
    let tokens: Vec<_> = (0..CHUNKS).map(|chunk| 300 + 10 * chunk).collect();
    let store: Arc<dyn ActivationStore> = match (kind.spilled, resumed) {
        (true, None) => {
            Arc::new(SpilledStore::create(dir, &SlotLayout::from_tokens(&tokens, 18 * 4)).unwrap())
        }
        (true, Some(_)) => Arc::new(SpilledStore::open(dir).unwrap()),
        (false, None) => Arc::new(ResidentStore::create(dir).unwrap()),
        (false, Some(resumed)) => Arc::new(ResidentStore::open(dir, resumed.snapshot.unwrap()).unwrap()),
    };
    if kind.background { Arc::new(BackgroundStore::new(store, 50_000).unwrap()) } else { store }
}

fn open_journal(kind: Kind, dir: &Path) -> (RunJournal, Option<Resumed>) {
    RunJournal::open_or_create(dir, &Fingerprint::new().with("kind", kind.name)).unwrap()
}

/// The run itself; not a test when nobody asks for a run.
#[test]
fn run() {
    let Ok(what) = env::var(RUN) else { return };
    let (name, dir) = what.split_once('|').unwrap();
    let kind = KINDS.into_iter().find(|kind| kind.name == name).unwrap();
    let (mut journal, resumed) = open_journal(kind, Path::new(dir));
    let store = open_store(kind, Path::new(dir), resumed.as_ref());
    let start = resumed.map(|resumed| resumed.position).unwrap_or_default();
    let mut since_commit = 0;
    for stage in start.stage..STAGES {
        let generation = Generation::written_by(stage);
        for chunk in (0..CHUNKS).skip(if stage == start.stage { start.chunks } else { 0 }) {
            if stage > 0 {
                let input = Generation::written_by(stage - 1);
                assert_eq!(store.get(input, chunk).unwrap(), output(stage - 1, chunk));
                store.put(generation, chunk, output(stage, chunk)).unwrap();
                store.release(input, chunk);
            } else {
                store.put(generation, chunk, output(stage, chunk)).unwrap();
            }
            since_commit += 1;
            // A spilling run commits each stage, since the next one overwrites what this one read.
            if since_commit >= kind.commit_every || (kind.spilled && chunk + 1 == CHUNKS) {
                store.sync().unwrap();
                let done = stage * CHUNKS + chunk + 1;
                let position = Position { stage: done / CHUNKS, chunks: done % CHUNKS };
                journal.commit(position, done.into()).unwrap();
                since_commit = 0;
            }
        }
    }
    store.sync().unwrap();
    journal.commit(Position { stage: STAGES, chunks: 0 }, (STAGES * CHUNKS).into()).unwrap();
}

/// Runs from start to end, as often as it takes to have killed enough of them at work.
fn kill_until_done(kind: Kind) {
    let mut random = 0x2545_f491_4f6c_dd1d_u64 ^ kind.commit_every as u64;
    let mut next_wait = || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        Duration::from_micros(2_000 + random % 40_000)
    };
    let mut killed_at_work = 0;
    while killed_at_work < 4 {
        let dir = tempfile::tempdir().unwrap();
        let mut last = Position::default();
        while last.stage < STAGES {
            let killed = run_and_kill(kind, dir.path(), next_wait());
            let position = check(kind, dir.path());
            assert!(position >= last, "{}: {position:?} after {last:?}", kind.name);
            killed_at_work += usize::from(killed && position > last);
            last = position;
        }
        open_journal(kind, dir.path()).0.finish().unwrap();
        assert!(!dir.path().exists());
    }
}

/// Starts or resumes the run in a process and kills it after a while. Was it still running?
fn run_and_kill(kind: Kind, dir: &Path, wait: Duration) -> bool {
    let mut child = Command::new(env::current_exe().unwrap())
        .args(["--exact", "run", "--nocapture"])
        .env(RUN, format!("{}|{}", kind.name, dir.display()))
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    thread::sleep(wait);
    child.kill().unwrap();
    let status = child.wait().unwrap();
    assert!(status.success() || status.code().is_none(), "{}: the run failed: {status}", kind.name);
    !status.success()
}

/// Everything that the rest of the run needs is there: what the stage at work has made of the first chunks, and what
/// the stage before made of the others.
fn check(kind: Kind, dir: &Path) -> Position {
    let (_journal, resumed) = open_journal(kind, dir);
    let Some(resumed) = resumed else { return Position::default() };
    let Position { stage, chunks } = resumed.position;
    assert_eq!(resumed.notes.last(), Some(&(resumed.position, (stage * CHUNKS + chunks).into())));
    let store = open_store(kind, dir, Some(&resumed));
    for chunk in 0..CHUNKS {
        let made_by = if chunk < chunks { Some(stage) } else { stage.checked_sub(1) };
        if let Some(made_by) = made_by {
            let state = store.get(Generation::written_by(made_by), chunk).unwrap();
            assert_eq!(
                state,
                output(made_by, chunk),
                "{}: chunk {chunk} at {:?}",
                kind.name,
                resumed.position
            );
        }
    }
    resumed.position
}
