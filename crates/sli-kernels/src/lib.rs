//! CPU kernels over plain slices for transformer and state-space layers: matrix products over packed weights, attention, norms, scans.
