//! Streams: what comes, in which order, within which memory, and that nobody waits for ever.

mod common;

use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use common::{checkpoint, counted, map, mlp, spec, tensors};
use sli_core::{Ffn, Group, HostTensor, Place, TensorRole};
use sli_weights::{GroupTensors, Layout, ReadMode, ReadRequest, StreamOptions, WeightStream};
use tempfile::TempDir;

const LAYERS: usize = 12;

fn layer(layer: usize) -> (Place, Group) {
    (Place::Layer { stack: 0, layer }, Group::Dense)
}

fn layout() -> (TempDir, Arc<Layout>) {
    let (directory, checkpoint) = checkpoint(&tensors("", LAYERS));
    let layout = Layout::new(&checkpoint, &spec(LAYERS, &Ffn::GatedMlp(mlp())), &map()).unwrap();
    (directory, Arc::new(layout))
}

/// A stream with memory for so many layers.
fn stream(layout: &Arc<Layout>, ahead: u64, urgent: u64) -> WeightStream {
    let bytes = layout.memory_bytes(&layer(0).into()).unwrap();
    let options =
        StreamOptions { ahead_bytes: ahead * bytes, urgent_bytes: urgent * bytes, mode: ReadMode::Direct };
    WeightStream::new(layout.clone(), options).unwrap()
}

/// Runs a test that would hang if it failed.
fn within_seconds<T: Send + 'static>(test: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || sender.send(test()));
    receiver.recv_timeout(Duration::from_secs(60)).expect("the stream hangs, or the test failed")
}

/// Waits until the stream holds so many bytes.
fn wait_until_held(stream: &WeightStream, bytes: u64) {
    let start = Instant::now();
    while stream.stats().held_bytes != bytes {
        assert!(
            start.elapsed() < Duration::from_secs(60),
            "{:?} instead of {bytes} bytes held",
            stream.stats()
        );
        thread::sleep(Duration::from_millis(1));
    }
}

fn first_value(tensors: &GroupTensors) -> f32 {
    tensors.require(TensorRole::MixerNorm.weight()).unwrap().elements::<f32>()[0]
}

#[test]
fn layers_come_as_they_are_stored_in_either_mode() {
    let (_directory, layout) = layout();
    for mode in [ReadMode::Direct, ReadMode::Buffered] {
        let options = StreamOptions { ahead_bytes: 1 << 20, urgent_bytes: 0, mode };
        let stream = WeightStream::new(layout.clone(), options).unwrap();
        stream.enqueue((0..LAYERS).map(layer));
        for i in 0..LAYERS {
            let streamed = stream.take(layer(i)).unwrap();
            let (place, _) = layer(i);
            let loaded = layout.load_groups(place, &[Group::Dense]).unwrap();
            assert_eq!(streamed.bytes_read(), loaded.bytes_read());
            for ((key, a), (other, b)) in streamed.iter().zip(loaded.iter()) {
                assert_eq!((key, a.shape(), a.bytes()), (other, b.shape(), b.bytes()));
            }
            assert_eq!(first_value(&streamed), 100.0 * (2 + 9 * i) as f32);
        }
        assert!(stream.stats().bytes_read >= layout.group_bytes(layer(0).0, Group::Dense) * LAYERS as u64);
    }
}

#[test]
fn files_in_memory_are_read_through_the_page_cache() {
    let Ok(directory) = tempfile::tempdir_in("/dev/shm") else { return };
    common::write(&directory.path().join("model.safetensors"), &tensors("", 2));
    let checkpoint = sli_weights::Checkpoint::open(directory.path()).unwrap();
    let layout = Arc::new(Layout::new(&checkpoint, &spec(2, &Ffn::GatedMlp(mlp())), &map()).unwrap());
    let stream = stream(&layout, 2, 1);
    assert_eq!(first_value(&stream.take(layer(1)).unwrap()), 1100.0);
}

#[test]
fn memory_for_reading_ahead_is_bounded() {
    within_seconds(|| {
        let (_directory, layout) = layout();
        let stream = stream(&layout, 3, 1);
        let one = layout.memory_bytes(&layer(0).into()).unwrap();
        stream.enqueue((0..LAYERS).map(layer));
        wait_until_held(&stream, 3 * one);
        let first = stream.take(layer(0)).unwrap();
        let kept: HostTensor = first.require(TensorRole::AttnQ.weight()).unwrap().clone();
        drop(first);
        stream.take(layer(2)).unwrap();
        let four_layers =
            (0..4).map(|i| layout.load_groups(layer(i).0, &[Group::Dense]).unwrap().bytes_read()).sum();
        while stream.stats().bytes_read < four_layers {
            thread::sleep(Duration::from_millis(1));
        }
        thread::sleep(Duration::from_millis(50));
        assert_eq!(stream.stats().bytes_read, four_layers, "one tensor holds the memory of its group");
        drop(kept);
        for i in (1..LAYERS).filter(|i| *i != 2) {
            stream.take(layer(i)).unwrap();
        }
        wait_until_held(&stream, 0);
        assert_eq!(stream.stats().peak_bytes, 3 * one);
    });
}

#[test]
fn urgent_requests_are_served_when_the_memory_for_reading_ahead_is_full() {
    within_seconds(|| {
        let (_directory, layout) = layout();
        let stream = stream(&layout, 2, 2);
        let one = layout.memory_bytes(&layer(0).into()).unwrap();
        stream.enqueue((0..4).map(layer));
        wait_until_held(&stream, 2 * one);
        stream.enqueue_urgent((6..10).map(layer));
        wait_until_held(&stream, 4 * one);
        for i in (6..10).chain([11]) {
            assert_eq!(first_value(&stream.take(layer(i)).unwrap()), 100.0 * (2 + 9 * i) as f32);
        }
        assert!(stream.stats().peak_bytes <= 4 * one);
    });
}

#[test]
fn a_caller_that_keeps_everything_never_waits_for_itself() {
    within_seconds(|| {
        let (_directory, layout) = layout();
        for (ahead, urgent) in [(0, 0), (1, 0), (2, 1)] {
            let stream = stream(&layout, ahead, urgent);
            stream.enqueue((0..8).map(layer));
            stream.enqueue_urgent((8..LAYERS).map(layer));
            let kept: Vec<_> = (0..LAYERS).map(|i| stream.take(layer(i)).unwrap()).collect();
            assert!(kept.iter().enumerate().all(|(i, t)| first_value(t) == 100.0 * (2 + 9 * i) as f32));
        }
    });
}

#[test]
fn layers_may_be_taken_in_any_order_and_by_several_threads() {
    within_seconds(|| {
        let (_directory, layout) = layout();
        let stream = Arc::new(stream(&layout, 2, 1));
        stream.enqueue((0..LAYERS).map(layer));
        let takers: Vec<_> = (0..3)
            .map(|taker| {
                let stream = stream.clone();
                thread::spawn(move || {
                    for i in (0..LAYERS).rev().filter(|i| i % 3 == taker) {
                        assert_eq!(first_value(&stream.take(layer(i)).unwrap()), 100.0 * (2 + 9 * i) as f32);
                    }
                })
            })
            .collect();
        takers.into_iter().for_each(|taker| taker.join().unwrap());
    });
}

#[test]
fn single_tensors_and_rows_are_streamed_too() {
    let (_directory, layout) = layout();
    let stream = stream(&layout, 4, 1);
    let head = TensorRole::LmHead.weight();
    let tiles = [0..4, 4..6].map(|rows| ReadRequest::Rows(Place::Head, head, rows));
    stream.enqueue(tiles.clone());
    let second = stream.take(tiles[1].clone()).unwrap();
    let rows = second.require(head).unwrap();
    assert_eq!((rows.shape(), rows.elements::<f32>()[0]), (&[2, 4][..], 16.0));
    let norm = ReadRequest::Tensor(Place::FinalNorm { stack: 0 }, TensorRole::FinalNorm.weight());
    assert_eq!(stream.take(norm).unwrap().iter().count(), 1);
}

#[test]
fn errors_reach_the_one_who_takes() {
    within_seconds(|| {
        let (directory, layout) = layout();
        let stream = stream(&layout, 2, 1);
        let head = TensorRole::LmHead.weight();
        let beyond = ReadRequest::Rows(Place::Head, head, 5..9);
        stream.enqueue([beyond.clone()]);
        assert!(stream.take(beyond).unwrap_err().to_string().contains("which has 6 rows"));
        let unknown = ReadRequest::Tensor(Place::Head, TensorRole::Router.weight());
        assert!(stream.take(unknown).unwrap_err().to_string().contains("missing"));

        let path = directory.path().join("model.safetensors");
        let length = path.metadata().unwrap().len();
        std::fs::File::options().write(true).open(&path).unwrap().set_len(length - 2500).unwrap();
        let results: Vec<_> = (0..LAYERS).map(|i| stream.take(layer(i)).is_ok()).collect();
        assert!(results.contains(&true) && results.contains(&false), "{results:?}");
        wait_until_held(&stream, 0);
    });
}

#[test]
fn a_dropped_stream_ends_and_what_was_taken_stays() {
    within_seconds(|| {
        let (_directory, layout) = layout();
        let stream = stream(&layout, 3, 1);
        stream.enqueue((0..LAYERS).map(layer));
        let taken = stream.take(layer(0)).unwrap();
        drop(stream);
        assert_eq!(first_value(&taken), 200.0);
        assert_eq!(Arc::strong_count(&layout), 2, "held by the test and by what was taken");
        drop(taken);
        assert_eq!(Arc::strong_count(&layout), 1);
    });
}

/// A table of more than one piece, at an odd offset, between small tensors.
#[test]
fn large_tensors_are_read_in_pieces() {
    const VOCABULARY: usize = 1_500_000;
    let mut spec = spec(1, &Ffn::GatedMlp(mlp()));
    spec.stacks[0].embedding.vocab_size = VOCABULARY;
    spec.head = None;
    let mut tensors = tensors("", 1);
    tensors[0] = counted("embed.weight", &[VOCABULARY, 4], 0.0);
    let (_directory, checkpoint) = checkpoint(&tensors);
    let layout = Arc::new(Layout::new(&checkpoint, &spec, &map()).unwrap());
    let key = TensorRole::TokenEmbedding.weight();
    let place = Place::Embedding { stack: 0 };
    for mode in [ReadMode::Direct, ReadMode::Buffered] {
        let options = StreamOptions { ahead_bytes: 64 << 20, urgent_bytes: 1 << 20, mode };
        let stream = WeightStream::new(layout.clone(), options).unwrap();
        let table = stream.take(ReadRequest::Tensor(place, key)).unwrap().remove(key).unwrap();
        let values = table.elements::<f32>();
        assert!(values.iter().enumerate().all(|(i, value)| *value == i as f32));
    }
    let rows = layout.read_rows(layout.slot(place, key).unwrap(), &[1_499_999, 700_000, 700_001]).unwrap();
    let firsts: Vec<_> = rows.elements::<f32>().iter().step_by(4).copied().collect();
    assert_eq!(firsts, [5_999_996.0, 2_800_000.0, 2_800_004.0]);
}
