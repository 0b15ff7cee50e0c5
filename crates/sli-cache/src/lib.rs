//! Activations between layers, in memory or on disk, with commits that survive a crash.
