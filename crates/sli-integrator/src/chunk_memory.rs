//! Memory that the tokens of a chunk take while they are in a layer.

use sli_core::{
    AttentionSpec, BlockSpec, ExpertSpec, Ffn, LayerPart, LinearInputs, Mixer, ModelSpec, MoeSpec,
    PositionSpec, Residual,
};

/// Tokens whose inner values an MLP holds at a time, at most.
pub(crate) const PACKED_TOKENS: u64 = 384;

/// f32 values that are held for each of these tokens: inputs and inner values.
pub(crate) fn packed_floats(block: &BlockSpec, hidden: u64) -> u64 {
    let inner = match &block.ffn {
        Some(Ffn::Moe(moe)) => moe.expert.intermediate_size().max(shared_size(moe)),
        _ => inner_size(block),
    };
    hidden + inner.max(beside_size(block)) as u64
}

/// Values that a token has between the products of such MLPs, of all experts that it chooses. Those of the other MLPs are
/// among its `scratch_floats`.
pub(crate) fn activated_values(block: &BlockSpec) -> u64 {
    let inner = match &block.ffn {
        Some(Ffn::Moe(moe)) => moe.router.top_k * moe.expert.intermediate_size() + shared_size(moe),
        _ => inner_size(block),
    };
    (inner + beside_size(block)) as u64
}

/// Inner values of an MLP that holds them for some tokens at a time.
fn inner_size(block: &BlockSpec) -> usize {
    match &block.ffn {
        Some(Ffn::Mlp(mlp) | Ffn::GatedMlp(mlp)) => mlp.intermediate_size,
        Some(Ffn::ClampedGatedMlp(mlp)) => mlp.intermediate_size,
        Some(Ffn::BiasedGatedMlp { intermediate_size, .. }) => *intermediate_size,
        Some(Ffn::ChannelMix(mix)) => mix.intermediate_size,
        _ => 0,
    }
}

/// Those of the experts that every token goes through.
fn shared_size(moe: &MoeSpec) -> usize {
    moe.shared.map_or(0, |shared| shared.mlp.intermediate_size)
}

/// Those of an MLP beside the mixer or the experts.
fn beside_size(block: &BlockSpec) -> usize {
    match block.residual {
        Residual::DenseBetween(mlp)
        | Residual::ScaledSandwich { beside: Some(mlp), .. }
        | Residual::Shortcut(mlp) => mlp.intermediate_size,
        _ => 0,
    }
}

/// f32 values that attention makes of weights, whatever the chunk: the rows of distances, and the same laid out.
pub(crate) fn distance_floats(block: &BlockSpec) -> u64 {
    match &block.mixer {
        Mixer::Attention(AttentionSpec {
            position: PositionSpec::Disentangled(distances),
            num_heads,
            head_dim,
            ..
        }) => (2 * distances.terms() * distances.rows() * num_heads * head_dim) as u64,
        _ => 0,
    }
}

/// f32 values that a token takes while a part of a layer computes: the residual stream with a branch's input and output,
/// and the widest of what is between.
pub(crate) fn scratch_floats(block: &BlockSpec, part: LayerPart, inputs: LinearInputs, hidden: u64) -> u64 {
    let mixer = mixer_floats(&block.mixer, hidden);
    let ffn = match &block.ffn {
        None => 0,
        // What is between the projections is held for some tokens at a time, see `packed_floats`.
        Some(Ffn::Mlp(_) | Ffn::GatedMlp(_) | Ffn::ClampedGatedMlp(_)) if inputs.is_exact() => 0,
        Some(Ffn::BiasedGatedMlp { .. }) if inputs.is_exact() => 0,
        Some(Ffn::Mlp(mlp) | Ffn::GatedMlp(mlp)) => 4 * mlp.intermediate_size,
        Some(Ffn::BiasedGatedMlp { intermediate_size, .. }) => 4 * intermediate_size,
        Some(Ffn::ClampedGatedMlp(mlp)) => 6 * mlp.intermediate_size,
        // Mixtures with the token before, and the gate.
        Some(Ffn::ChannelMix(_)) => 4 * hidden as usize,
        Some(Ffn::ScaledGatedMlp(scaled)) => 6 * scaled.mlp.intermediate_size,
        Some(Ffn::SparseGatedMlp(sparse)) => 6 * sparse.mlp.intermediate_size,
        Some(Ffn::NormedGatedMlp(normed)) => 4 * normed.mlp.intermediate_size,
        Some(Ffn::XieluMlp { intermediate_size }) => 6 * intermediate_size,
        // The sum of the experts, what goes into some of them and comes out, and an output that waits for its turn.
        Some(Ffn::Moe(moe)) => {
            let inner = match moe.expert {
                ExpertSpec::Limited { mlp, .. } => 4 * mlp.intermediate_size,
                _ => 0,
            };
            5 * hidden as usize + inner + 3 * (moe.num_experts + moe.router.idle_experts())
        }
    };
    let between = match block.residual {
        Residual::DenseBetween(_) | Residual::ScaledSandwich { beside: Some(_), .. } => hidden as usize,
        // All streams together, normed, mixed and with what is added.
        Residual::Hyper(hyper) => 4 * hyper.streams * hidden as usize,
        // The layer's input, what the convolution sees at each token, and what is added.
        Residual::ConvolvedPostNorm(convolution) => (convolution.width + 3) * hidden as usize,
        // What the experts see waits beside it.
        Residual::Shortcut(_) => 2 * hidden as usize,
        _ => 0,
    };
    let mixer = if part.has_mixers() { mixer } else { 0 };
    let ffn = if part.has_feed_forward() { ffn } else { 0 };
    5 * hidden + mixer.max(ffn).max(between) as u64
}

/// Those of a mixer, besides its input and its output.
fn mixer_floats(mixer: &Mixer, hidden: u64) -> usize {
    match mixer {
        Mixer::None => 0,
        Mixer::Attention(a) => {
            let (q, v) = (a.num_heads * a.head_dim, a.num_heads * a.value_dim);
            2 * q + 2 * a.num_kv_heads * (a.head_dim + a.value_dim) + v
        }
        Mixer::Differential(d) => {
            let a = &d.attention;
            // Queries and keys, values before and after they are put side by side, what is seen, and the difference.
            2 * a.num_heads * (a.head_dim + 2 * a.value_dim)
                + a.num_kv_heads * (2 * a.head_dim + 6 * a.value_dim)
        }
        Mixer::AttentionExperts(e) => {
            let a = &e.attention;
            let (q, v) = (a.num_heads * a.head_dim, a.num_heads * a.value_dim);
            3 * q + 2 * a.num_kv_heads * (a.head_dim + a.value_dim) + 2 * v + 3 * e.num_experts
        }
        // Queries before and after each step, the latent, keys, the projections for summaries, what is mixed.
        Mixer::CompressedAttention(c) => {
            let summaries = c.summaries.map_or(0, |summaries| {
                let index = summaries
                    .indexer()
                    .map_or(0, |i| 2 * summaries.channels(i.head_dim) + i.num_heads * i.head_dim);
                2 * summaries.channels(c.head_dim) + index
            });
            5 * c.num_heads * c.head_dim
                + 2 * (c.query_rank + c.head_dim)
                + summaries
                + 2 * c.output_groups * c.output_rank
        }
        Mixer::ConvolvedAttention(c) => {
            // Queries and keys before, between and after the convolutions, a copy for a tap, what is added, the values.
            let (a, all) = (&c.attention, c.heads() * c.attention.head_dim);
            7 * all + 3 * a.num_kv_heads * a.head_dim + 2 * a.num_heads * a.head_dim
        }
        // Queries, keys and values twice, what blocks read, and what is normed and gated.
        Mixer::DecayedAttention(d) => 10 * d.width(),
        Mixer::Mla(m) => {
            // Queries, keys (their own part and whole), values and what is mixed, besides the narrow latents.
            let latents = m.query_rank.unwrap_or(0) + m.latent_rank + m.rotary_dim;
            m.num_heads * (2 * m.head_dim() + m.content_dim + 3 * m.value_dim) + 2 * latents
        }
        Mixer::DeltaNet(d) => {
            // Queries, keys and values before and after their convolutions, the factors of decay, the gate, what is
            // read.
            6 * d.key_width() + 6 * d.value_width() + 3 * d.num_decays()
        }
        // What goes in and its three parts, their product, and what is mixed.
        Mixer::ShortConv(_) => 9 * hidden as usize,
        Mixer::Mamba1(m) => 7 * m.inner_size + 3 * (m.dt_rank + 2 * m.state_size),
        // What is projected, the channels of the convolution before and after it, gate and what is read, normed.
        Mixer::Mamba2(m) => 2 * m.projected_size() + 2 * m.conv_channels() + 4 * m.inner_size(),
        // Mixtures, what is projected from them, and what is read.
        Mixer::Wkv4(w) => 3 * hidden as usize + 5 * w.width,
        Mixer::Wkv5(w) => {
            let dynamic = w.dynamic.map_or(0, |dynamic| 6 * dynamic.mix_rank + 4 * hidden as usize);
            4 * hidden as usize + 10 * w.width() + dynamic
        }
        Mixer::Wkv7(w) => 6 * hidden as usize + 16 * w.width(),
        // What one has found waits while the other runs.
        Mixer::AttentionAndScan(both) => {
            let (attention, scan) = (Mixer::Attention(both.attention.clone()), Mixer::Mamba2(both.scan));
            2 * hidden as usize + mixer_floats(&attention, hidden).max(mixer_floats(&scan, hidden))
        }
        // Stream and embedding side by side, normed or not, while attention runs, and what was found while others do.
        Mixer::InformedScan(informed) => {
            let attention = Mixer::Attention(informed.attention.clone());
            let adapted = informed.adapters.map_or(0, |_| 6 * informed.mlp.intermediate_size);
            let attention = 4 * hidden as usize + mixer_floats(&attention, hidden);
            2 * hidden as usize + attention.max(adapted).max(mixer_floats(&informed.scan, hidden))
        }
        // The branches and gates, and state and product of decays before and after a step of their doubling.
        Mixer::RgLru(r) => 12 * r.width,
    }
}

/// f32 values that a token takes while it waits for experts: residual stream, input, sum, and its choices.
pub(crate) fn pending_floats(hidden: u64, top_k: u64) -> u64 {
    3 * hidden + 4 * top_k
}

/// Experts per token, zero for models without experts.
pub(crate) fn layers_top_k(spec: &ModelSpec) -> u64 {
    let layers = spec.stacks.iter().flat_map(|stack| &stack.layers);
    let top_k = layers.filter_map(|block| match &block.ffn {
        Some(Ffn::Moe(moe)) => Some(moe.router.top_k as u64),
        _ => None,
    });
    top_k.max().unwrap_or(0)
}
