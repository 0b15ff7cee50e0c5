//! What [`BackgroundStore`] adds to the store that it wraps.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use sli_cache::*;
use sli_core::{Result, SliError};
use tempfile::TempDir;

/// A store in memory whose writes wait at a gate, and may fail.
struct Gated {
    inner: ResidentStore,
    open: Mutex<bool>,
    opened: Condvar,
    failing: AtomicBool,
    panicking: AtomicBool,
    puts: AtomicUsize,
    gets: Mutex<Vec<usize>>,
    _dir: TempDir,
}

impl Gated {
    fn new(open: bool) -> Arc<Self> {
        let dir = tempfile::tempdir().unwrap();
        Arc::new(Self {
            inner: ResidentStore::create(dir.path()).unwrap(),
            open: Mutex::new(open),
            opened: Condvar::new(),
            failing: AtomicBool::new(false),
            panicking: AtomicBool::new(false),
            puts: AtomicUsize::new(0),
            gets: Mutex::default(),
            _dir: dir,
        })
    }

    fn open(&self) {
        *self.open.lock().unwrap() = true;
        self.opened.notify_all();
    }

    fn gets(&self) -> Vec<usize> {
        self.gets.lock().unwrap().clone()
    }
}

impl ActivationStore for Gated {
    fn put(&self, generation: Generation, chunk: usize, state: ChunkState) -> Result<()> {
        drop(self.opened.wait_while(self.open.lock().unwrap(), |open| !*open).unwrap());
        assert!(!self.panicking.load(Ordering::SeqCst), "the store that is wrapped panics");
        self.puts.fetch_add(1, Ordering::SeqCst);
        if self.failing.load(Ordering::SeqCst) {
            return Err(SliError::io("cannot write", "/disk")(io::Error::from_raw_os_error(28)));
        }
        self.inner.put(generation, chunk, state)
    }

    fn get(&self, generation: Generation, chunk: usize) -> Result<ChunkState> {
        self.gets.lock().unwrap().push(chunk);
        self.inner.get(generation, chunk)
    }

    fn release(&self, generation: Generation, chunk: usize) {
        self.inner.release(generation, chunk);
    }

    fn drop_generation(&self, generation: Generation) -> Result<()> {
        self.inner.drop_generation(generation)
    }

    fn sync(&self) -> Result<()> {
        self.inner.sync()
    }

    fn is_durable(&self) -> bool {
        false
    }
}

use Generation::{Even, Odd};

/// 400 bytes.
fn chunk(seed: usize) -> ChunkState {
    ChunkState::new(Rows::new(10, vec![seed as f32; 100]))
}

/// Waits for something that another thread will do.
#[track_caller]
fn eventually(condition: impl Fn() -> bool) {
    for _ in 0..2000 {
        if condition() {
            return;
        }
        thread::sleep(Duration::from_millis(5));
    }
    panic!("it never came true");
}

#[test]
fn chunks_that_wait_are_served_from_the_queue() {
    let gated = Gated::new(false);
    let store = BackgroundStore::new(gated.clone(), 10_000).unwrap();
    store.put(Even, 0, chunk(0)).unwrap();
    store.put(Even, 1, chunk(1)).unwrap();
    store.put(Even, 0, chunk(2)).unwrap();
    assert_eq!(store.get(Even, 0).unwrap(), chunk(2));
    assert_eq!(store.get(Even, 1).unwrap(), chunk(1));
    assert_eq!(gated.puts.load(Ordering::SeqCst), 0);
    gated.open();
    store.sync().unwrap();
    assert_eq!(gated.puts.load(Ordering::SeqCst), 3);
    assert_eq!(gated.inner.get(Even, 0).unwrap(), chunk(2));
}

#[test]
fn a_full_queue_holds_puts_back() {
    let gated = Gated::new(false);
    let store = BackgroundStore::new(gated.clone(), 1000).unwrap();
    let (tell, told) = mpsc::channel();
    thread::scope(|scope| {
        scope.spawn(|| {
            for i in 0..4 {
                store.put(Even, i, chunk(i)).unwrap();
                tell.send(i).unwrap();
            }
        });
        assert_eq!((told.recv().unwrap(), told.recv().unwrap()), (0, 1));
        assert!(told.recv_timeout(Duration::from_millis(50)).is_err(), "800 of 1000 bytes are taken");
        gated.open();
        assert_eq!((told.recv().unwrap(), told.recv().unwrap()), (2, 3));
    });
    store.sync().unwrap();
    // One chunk larger than the queue does not wait for ever.
    store.put(Odd, 0, ChunkState::new(Rows::new(10, vec![0.0; 1000]))).unwrap();
    store.sync().unwrap();
}

#[test]
fn an_error_is_returned_by_every_later_call() {
    let gated = Gated::new(false);
    gated.failing.store(true, Ordering::SeqCst);
    let store = BackgroundStore::new(gated.clone(), 10_000).unwrap();
    store.put(Even, 0, chunk(0)).unwrap();
    store.put(Even, 1, chunk(1)).unwrap();
    gated.open();
    for result in [store.sync(), store.put(Even, 2, chunk(2)), store.get(Even, 0).map(drop), store.sync()] {
        let SliError::Io { action: "cannot write", path, source } = result.unwrap_err() else { panic!() };
        assert_eq!((path.to_str(), source.kind()), (Some("/disk"), io::ErrorKind::StorageFull));
    }
    assert!(store.drop_generation(Even).is_err());
    assert_eq!(gated.puts.load(Ordering::SeqCst), 1, "after an error nothing more is written");
}

#[test]
fn a_panic_of_the_writer_is_an_error_and_no_hang() {
    let gated = Gated::new(false);
    gated.panicking.store(true, Ordering::SeqCst);
    let store = BackgroundStore::new(gated.clone(), 10_000).unwrap();
    store.put(Even, 0, chunk(0)).unwrap();
    gated.open();
    assert!(store.sync().unwrap_err().to_string().contains("panicked"));
}

#[test]
fn the_next_chunk_is_read_ahead_and_once() {
    let gated = Gated::new(true);
    for i in 0..3 {
        gated.inner.put(Even, i, chunk(i)).unwrap();
    }
    let store = BackgroundStore::new(gated.clone(), 10_000).unwrap();
    store.prefetch(Even, 0);
    eventually(|| gated.gets() == [0]);
    for i in 0..3 {
        assert_eq!(store.get(Even, i).unwrap(), chunk(i));
        // After the last one, it looks in vain for another.
        eventually(|| gated.gets().len() == i + 2);
    }
    assert_eq!(gated.gets(), [0, 1, 2, 3]);
}

#[test]
fn what_was_read_ahead_gives_way_to_what_is_put() {
    let gated = Gated::new(true);
    for i in 0..3 {
        gated.inner.put(Even, i, chunk(i)).unwrap();
    }
    let store = BackgroundStore::new(gated.clone(), 10_000).unwrap();
    store.get(Even, 0).unwrap();
    eventually(|| gated.gets().contains(&1));
    store.put(Even, 1, chunk(7)).unwrap();
    store.sync().unwrap();
    assert_eq!(store.get(Even, 1).unwrap(), chunk(7));
    eventually(|| gated.gets().contains(&2));
    store.drop_generation(Even).unwrap();
    assert!(store.get(Even, 2).is_err());
}

#[test]
fn released_chunks_need_not_be_written() {
    let gated = Gated::new(false);
    let store = BackgroundStore::new(gated.clone(), 10_000).unwrap();
    for i in 0..4 {
        store.put(Even, i, chunk(i)).unwrap();
    }
    // The writer may be at the first one, and release would wait for it.
    store.release(Even, 2);
    gated.open();
    store.sync().unwrap();
    assert_eq!(gated.puts.load(Ordering::SeqCst), 3);
    assert!(store.get(Even, 2).is_err());
}

#[test]
fn dropping_writes_what_is_queued() {
    let gated = Gated::new(true);
    let store = BackgroundStore::new(gated.clone(), 10_000).unwrap();
    for i in 0..5 {
        store.put(Odd, i, chunk(i)).unwrap();
    }
    drop(store);
    assert_eq!(gated.inner.get(Odd, 4).unwrap(), chunk(4));
    assert_eq!(Arc::strong_count(&gated), 1, "the threads are gone");
}
