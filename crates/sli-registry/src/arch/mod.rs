//! One file per architecture, each stating how it differs from others. Nothing outside of this folder decides by an
//! architecture's name.

mod bert;
mod gpt2;
mod llama;
mod mamba;
mod mistral;
mod mixtral;
mod qwen2;
mod qwen3;
mod t5;

use crate::architecture::Architecture;

/// All built-in architectures. Detection, listings and the taxonomy derive from this.
pub const ARCHITECTURES: &[Architecture] = &[
    llama::ARCHITECTURE,
    mistral::ARCHITECTURE,
    qwen2::ARCHITECTURE,
    qwen3::ARCHITECTURE,
    mixtral::ARCHITECTURE,
    gpt2::ARCHITECTURE,
    bert::ARCHITECTURE,
    t5::ARCHITECTURE,
    mamba::ARCHITECTURE,
];
