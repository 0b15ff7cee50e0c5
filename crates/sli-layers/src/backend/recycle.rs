//! Vectors that are used again. A large vector that is freed goes back to the operating system, and the next one costs
//! a page fault for each of its pages, which took a fifth of the time of a layer. So the kernels' inputs, once the last
//! tensor over them is gone, become the next kernels' outputs.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Smaller vectors are left to the allocator, which keeps their memory.
const SMALLEST: usize = 1 << 14;
/// A vector that was not wanted for so many requests is freed: a block makes about a dozen.
const PATIENCE: u64 = 48;

/// Vectors that wait to be used again, by any thread: one may end what another began.
struct Idle {
    vectors: Vec<Waiting>,
    requests: u64,
}

struct Waiting {
    vector: Vec<f32>,
    since: u64,
}

static IDLE: Mutex<Idle> = Mutex::new(Idle { vectors: Vec::new(), requests: 0 });

// A thread that panicked leaves whole vectors.
fn idle() -> MutexGuard<'static, Idle> {
    IDLE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A vector of this length with any contents.
pub(super) fn vector(length: usize) -> Vec<f32> {
    if length < SMALLEST {
        return vec![0.0; length];
    }
    let found = idle().take(length);
    resized(found.unwrap_or_default(), length)
}

/// Keeps a vector for later.
pub(super) fn recycle(vector: Vec<f32>) {
    if vector.capacity() >= SMALLEST {
        idle().keep(vector);
    }
}

/// A vector of this length: the one at hand, or a new one when that is empty.
fn resized(vector: Vec<f32>, length: usize) -> Vec<f32> {
    let mut vector = if vector.capacity() == 0 { vec![0.0; rounded(length)] } else { vector };
    vector.resize(length, 0.0);
    vector
}

/// Up to an eighth more, so that chunks of almost the same size share vectors.
fn rounded(length: usize) -> usize {
    length.next_multiple_of((1 << length.ilog2()) / 8)
}

impl Idle {
    /// The smallest vector that is large enough without wasting half of itself.
    fn take(&mut self, length: usize) -> Option<Vec<f32>> {
        self.requests += 1;
        let capacities = self.vectors.iter().map(|waiting| waiting.vector.capacity()).enumerate();
        let fitting = capacities.filter(|(_, capacity)| (length..=2 * length).contains(capacity));
        let (best, _) = fitting.min_by_key(|(_, capacity)| *capacity)?;
        Some(self.vectors.swap_remove(best).vector)
    }

    fn keep(&mut self, vector: Vec<f32>) {
        let now = self.requests;
        self.vectors.retain(|waiting| now - waiting.since < PATIENCE);
        self.vectors.push(Waiting { vector, since: now });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTHING: Idle = Idle { vectors: Vec::new(), requests: 0 };

    #[test]
    fn vectors_of_about_the_same_size_are_used_again() {
        let mut idle = NOTHING;
        let first = resized(Vec::new(), SMALLEST + 100);
        let address = first.as_ptr();
        idle.keep(first);
        let second = resized(idle.take(SMALLEST + 300).unwrap(), SMALLEST + 300);
        assert_eq!((second.as_ptr(), second.len()), (address, SMALLEST + 300));
        idle.keep(second);
        assert!(idle.take(4 * SMALLEST).is_none(), "a much larger one is made anew");
        assert_eq!(vector(10).len(), 10);
    }

    #[test]
    fn vectors_that_nobody_wants_are_freed() {
        let mut idle = NOTHING;
        idle.keep(vec![0.0; 64 * SMALLEST]);
        for _ in 0..PATIENCE {
            let wanted = idle.take(SMALLEST).unwrap_or_else(|| vec![0.0; SMALLEST]);
            idle.keep(wanted);
        }
        let kept = idle.vectors.iter().map(|w| w.vector.capacity()).max();
        assert!(kept.is_some_and(|largest| largest < 64 * SMALLEST), "{kept:?}");
    }
}
