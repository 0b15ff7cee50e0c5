//! Checkpoints on disk as a bounded stream of layers: safetensors, direct I/O, read-ahead.
