//! Blocks of language models on Burn, built from a spec: attention, MLPs, experts, state-space mixers.
