//! Vectors that are used again. A large vector that is freed goes back to the operating system, and the next one costs
//! a page fault for each of its pages, which took a fifth of the time of a layer. So the kernels' inputs, once the last
//! tensor over them is gone, become the next kernels' outputs.

use std::cell::RefCell;

/// Smaller vectors are left to the allocator, which keeps their memory.
const SMALLEST: usize = 1 << 14;
/// A vector that was not wanted for so many requests is freed: a block makes about a dozen.
const PATIENCE: u64 = 48;

/// Vectors of one thread that wait to be used again.
#[derive(Default)]
struct Idle {
    vectors: Vec<Waiting>,
    requests: u64,
}

struct Waiting {
    vector: Vec<f32>,
    since: u64,
}

thread_local! {
    static IDLE: RefCell<Idle> = RefCell::default();
}

/// A vector of this length with any contents.
pub(super) fn vector(length: usize) -> Vec<f32> {
    if length < SMALLEST {
        return vec![0.0; length];
    }
    let found = IDLE.with_borrow_mut(|idle| idle.take(length));
    let mut vector = found.unwrap_or_else(|| vec![0.0; rounded(length)]);
    vector.resize(length, 0.0);
    vector
}

/// Keeps a vector for later.
pub(super) fn recycle(vector: Vec<f32>) {
    if vector.capacity() >= SMALLEST {
        IDLE.with_borrow_mut(|idle| idle.keep(vector));
    }
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

    #[test]
    fn vectors_of_about_the_same_size_are_used_again() {
        let first = vector(SMALLEST + 100);
        let address = first.as_ptr();
        recycle(first);
        let second = vector(SMALLEST + 300);
        assert_eq!((second.as_ptr(), second.len()), (address, SMALLEST + 300));
        recycle(second);
        let larger = vector(4 * SMALLEST);
        assert_ne!(larger.as_ptr(), address, "a much larger one is made anew");
        assert_eq!(vector(10).len(), 10);
    }

    #[test]
    fn vectors_that_nobody_wants_are_freed() {
        recycle(vector(64 * SMALLEST));
        for _ in 0..PATIENCE {
            recycle(vector(SMALLEST));
        }
        let kept = IDLE.with_borrow(|idle| idle.vectors.iter().map(|w| w.vector.capacity()).max());
        assert!(kept.is_some_and(|largest| largest < 64 * SMALLEST), "{kept:?}");
    }
}
