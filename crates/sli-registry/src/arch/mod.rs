//! One file per architecture, each stating how it differs from others. Nothing outside of this folder decides by an
//! architecture's name.

mod afmoe;
mod albert;
mod apertus;
mod arcee;
mod arctic;
mod aria_text;
mod baichuan;
mod bamba;
mod bart;
mod bert;
mod biogpt;
mod bitnet;
mod bloom;
mod chatglm;
mod chatglm_6b;
mod codegen;
mod cohere;
mod cohere2;
mod ctrl;
mod dbrx;
mod deberta;
mod deberta_v2;
mod deci;
mod deepseek;
mod deepseek_v2;
mod deepseek_v3;
mod deepseek_v4;
mod diffllama;
mod distilbert;
mod doge;
mod dots1;
mod electra;
mod ernie;
mod ernie4_5;
mod ernie4_5_moe;
mod eurobert;
mod exaone;
mod exaone4;
mod falcon;
mod falcon_h1;
mod falcon_mamba;
mod flex_olmo;
mod gemma;
mod gemma2;
mod gemma3;
mod gemma3_multimodal;
mod gemma3n;
mod gemma4;
mod glm;
mod glm4;
mod glm4_moe;
mod gpt2;
mod gpt_bigcode;
mod gpt_neo;
mod gpt_neox;
mod gpt_neox_japanese;
mod gpt_oss;
mod gptj;
mod granite;
mod granitemoe;
mod granitemoehybrid;
mod grok1;
mod grok2;
mod helium;
mod hunyuan_v1_dense;
mod hunyuan_v1_moe;
mod internlm;
mod internlm2;
mod internlm3;
mod jamba;
mod jetmoe;
mod jina_bert_v2;
mod jina_embeddings_v3;
mod kimi_linear;
mod lfm2;
mod llama;
mod llama4;
mod llava;
mod longcat_flash;
mod longformer;
mod longt5;
mod m2m_100;
mod mamba;
mod mamba2;
mod mbart;
mod megatron_bert;
mod mimo_v2_flash;
mod minicpm;
mod minicpm3;
mod minimax;
mod minimax_m2;
mod ministral;
mod mistral;
mod mixtral;
mod modernbert;
mod mpnet;
mod mpt;
mod multimodal;
mod nanochat;
mod nemotron;
mod nemotron_h;
mod neobert;
mod nomic_bert;
mod olmo;
mod olmo2;
mod olmo3;
mod olmo_hybrid;
mod olmoe;
mod openai_gpt;
mod opt;
mod orion;
mod persimmon;
mod phi;
mod phi3;
mod phi3small;
mod phimoe;
mod qwen;
mod qwen2;
mod qwen2_moe;
mod qwen3;
mod qwen3_5;
mod qwen3_moe;
mod qwen3_next;
mod qwen_multimodal;
mod recurrent_gemma;
mod roberta;
mod roformer;
mod rwkv;
mod rwkv5;
mod rwkv7;
mod seed_oss;
mod smollm3;
mod solar_open;
mod stablelm;
mod starcoder2;
mod switch_transformers;
mod t5;
mod t5gemma;
mod umt5;
mod vaultgemma;
mod xglm;
mod xlm_roberta_xl;
mod xverse;
mod yi;
mod zamba;
mod zamba2;
mod zaya;

use crate::architecture::Architecture;

/// All built-in architectures. Detection, listings and the taxonomy derive from this.
pub const ARCHITECTURES: &[Architecture] = &[
    llama::ARCHITECTURE,
    llama4::ARCHITECTURE,
    llama4::MULTIMODAL,
    lfm2::ARCHITECTURE,
    mistral::ARCHITECTURE,
    ministral::ARCHITECTURE,
    llava::MISTRAL3,
    llava::LLAVA,
    llava::SMOLVLM,
    seed_oss::ARCHITECTURE,
    internlm::ARCHITECTURE,
    internlm2::ARCHITECTURE,
    internlm3::ARCHITECTURE,
    baichuan::ARCHITECTURE,
    orion::ARCHITECTURE,
    exaone::ARCHITECTURE,
    xverse::ARCHITECTURE,
    yi::ARCHITECTURE,
    deci::ARCHITECTURE,
    stablelm::ARCHITECTURE,
    starcoder2::ARCHITECTURE,
    nemotron::ARCHITECTURE,
    arcee::ARCHITECTURE,
    apertus::ARCHITECTURE,
    diffllama::ARCHITECTURE,
    doge::ARCHITECTURE,
    bitnet::ARCHITECTURE,
    helium::ARCHITECTURE,
    ernie4_5::ARCHITECTURE,
    smollm3::ARCHITECTURE,
    granite::ARCHITECTURE,
    minicpm::ARCHITECTURE,
    minicpm3::ARCHITECTURE,
    olmo::ARCHITECTURE,
    olmo2::ARCHITECTURE,
    olmo3::ARCHITECTURE,
    olmo_hybrid::ARCHITECTURE,
    exaone4::ARCHITECTURE,
    hunyuan_v1_dense::ARCHITECTURE,
    cohere::ARCHITECTURE,
    cohere2::ARCHITECTURE,
    gpt2::ARCHITECTURE,
    openai_gpt::ARCHITECTURE,
    gpt_neo::ARCHITECTURE,
    gpt_bigcode::ARCHITECTURE,
    gptj::ARCHITECTURE,
    codegen::ARCHITECTURE,
    gpt_neox::ARCHITECTURE,
    gpt_neox_japanese::ARCHITECTURE,
    falcon::ARCHITECTURE,
    mpt::ARCHITECTURE,
    nanochat::ARCHITECTURE,
    persimmon::ARCHITECTURE,
    ctrl::ARCHITECTURE,
    biogpt::ARCHITECTURE,
    xglm::ARCHITECTURE,
    qwen::ARCHITECTURE,
    qwen2::ARCHITECTURE,
    qwen3::ARCHITECTURE,
    qwen_multimodal::QWEN2_VL,
    qwen_multimodal::QWEN2_AUDIO,
    qwen_multimodal::QWEN2_5_OMNI,
    qwen_multimodal::QWEN3_VL,
    qwen_multimodal::QWEN3_VL_MOE,
    qwen_multimodal::QWEN3_OMNI_MOE,
    qwen3_next::ARCHITECTURE,
    qwen3_5::DENSE,
    qwen3_5::SPARSE,
    qwen3_5::MULTIMODAL,
    qwen3_5::SPARSE_MULTIMODAL,
    deepseek_v2::ARCHITECTURE,
    deepseek_v3::ARCHITECTURE,
    deepseek_v3::SPARSE,
    deepseek_v4::ARCHITECTURE,
    mixtral::ARCHITECTURE,
    lfm2::MOE,
    deepseek::ARCHITECTURE,
    qwen2_moe::ARCHITECTURE,
    qwen3_moe::ARCHITECTURE,
    ernie4_5_moe::ARCHITECTURE,
    olmoe::ARCHITECTURE,
    flex_olmo::ARCHITECTURE,
    gpt_oss::ARCHITECTURE,
    minimax::ARCHITECTURE,
    minimax_m2::ARCHITECTURE,
    granitemoe::ARCHITECTURE,
    dbrx::ARCHITECTURE,
    grok1::ARCHITECTURE,
    grok2::ARCHITECTURE,
    arctic::ARCHITECTURE,
    jetmoe::ARCHITECTURE,
    aria_text::ARCHITECTURE,
    aria_text::MULTIMODAL,
    mimo_v2_flash::ARCHITECTURE,
    afmoe::ARCHITECTURE,
    dots1::ARCHITECTURE,
    solar_open::ARCHITECTURE,
    longcat_flash::ARCHITECTURE,
    zaya::ARCHITECTURE,
    hunyuan_v1_moe::ARCHITECTURE,
    bert::ARCHITECTURE,
    roberta::ARCHITECTURE,
    xlm_roberta_xl::ARCHITECTURE,
    longformer::ARCHITECTURE,
    distilbert::ARCHITECTURE,
    albert::ARCHITECTURE,
    electra::ARCHITECTURE,
    mpnet::ARCHITECTURE,
    megatron_bert::ARCHITECTURE,
    deberta::ARCHITECTURE,
    deberta_v2::ARCHITECTURE,
    roformer::ARCHITECTURE,
    nomic_bert::ARCHITECTURE,
    jina_bert_v2::ARCHITECTURE,
    jina_embeddings_v3::ARCHITECTURE,
    eurobert::ARCHITECTURE,
    neobert::ARCHITECTURE,
    modernbert::ARCHITECTURE,
    ernie::ARCHITECTURE,
    t5::ARCHITECTURE,
    umt5::ARCHITECTURE,
    switch_transformers::ARCHITECTURE,
    t5gemma::ARCHITECTURE,
    longt5::ARCHITECTURE,
    bart::ARCHITECTURE,
    mbart::ARCHITECTURE,
    m2m_100::ARCHITECTURE,
    mamba::ARCHITECTURE,
    mamba2::ARCHITECTURE,
    falcon_mamba::ARCHITECTURE,
    jamba::ARCHITECTURE,
    bamba::ARCHITECTURE,
    granitemoehybrid::ARCHITECTURE,
    falcon_h1::ARCHITECTURE,
    nemotron_h::ARCHITECTURE,
    zamba::ARCHITECTURE,
    zamba2::ARCHITECTURE,
    rwkv::ARCHITECTURE,
    rwkv5::EAGLE,
    rwkv5::FINCH,
    rwkv7::ARCHITECTURE,
    kimi_linear::ARCHITECTURE,
    chatglm::ARCHITECTURE,
    glm::ARCHITECTURE,
    glm4_moe::ARCHITECTURE,
    deepseek_v3::GLM_LITE,
    deepseek_v3::GLM_SPARSE,
    phi3::ARCHITECTURE,
    phi3small::ARCHITECTURE,
    phimoe::ARCHITECTURE,
    glm4::ARCHITECTURE,
    phi::ARCHITECTURE,
    gemma::ARCHITECTURE,
    gemma2::ARCHITECTURE,
    vaultgemma::ARCHITECTURE,
    gemma3::ARCHITECTURE,
    gemma3_multimodal::ARCHITECTURE,
    gemma3n::ARCHITECTURE,
    gemma4::ARCHITECTURE,
    recurrent_gemma::ARCHITECTURE,
    bloom::ARCHITECTURE,
    opt::ARCHITECTURE,
];
