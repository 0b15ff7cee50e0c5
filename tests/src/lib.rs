//! Helpers that the tests of the workspace share.

pub mod command;
pub mod golden;
pub mod golden_weights;
pub mod tensors;
