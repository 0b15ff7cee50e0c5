//! Where the values of `tests/configs/*/released.json` come from, and whether as many parameters follow from them as the
//! model is known to have. A new folder needs a line here.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use sli_core::{ModelSpec, Place, TensorNeed, WeightMap};
use sli_registry::ArchitectureRegistry;

/// A folder, and the billions of parameters that its authors or the hub state, less those of towers and of layers that
/// predict further tokens.
type Released = (&'static str, f64);

/// Compared key by key with the file on the hub, an unchanged copy of it, or that of a sister with the same sizes. Copies add
/// a path, a dtype or a version at most.
const AS_ON_THE_HUB: &[Released] = &[
    ("all_minilm_l6_v2", 0.0227),
    ("all_mpnet_base_v2", 0.109),
    ("aria", 24.9),
    ("baichuan2_13b", 13.9),
    ("baichuan2_7b", 7.5),
    ("bamba_9b", 9.78),
    ("bert_base_uncased", 0.11),
    ("biogpt_large", 1.57),
    ("bitnet_2b_4t", 2.4),
    ("bloom_176b", 176.2),
    ("chatglm3_6b_32k", 6.24),
    ("chatglm_6b", 6.7),
    ("codegen_16b", 16.0),
    ("codestral_mamba_7b", 7.29),
    ("command_r_plus", 104.0),
    ("ctrl", 1.63),
    ("dbrx", 132.0),
    ("deberta_base", 0.139),
    ("deci_7b", 7.04),
    ("deepseek_coder_33b", 33.3),
    ("deepseek_v2", 236.0),
    ("deepseek_v3", 671.0),
    ("diffllama_375m", 0.375),
    ("distilbert_base_uncased", 0.067),
    ("doge_20m", 0.0131),
    ("dots1", 142.8),
    ("ernie_3_base_zh", 0.118),
    ("eurobert_2_1b", 2.4),
    ("exaone_3_0_7_8b", 7.8),
    ("falcon_11b", 11.1),
    ("falcon_40b", 41.3),
    ("falcon_7b", 6.92),
    ("falcon_mamba_7b", 7.27),
    ("falcon_rw_1b", 1.31),
    ("flan_t5_xxl", 11.3),
    ("gemma_2_27b", 27.2),
    ("gemma_3_1b", 1.0),
    ("gemma_3_27b", 27.0),
    ("gemma_7b", 8.54),
    ("glm_4_5_air", 106.9),
    ("glm_4_9b_chat_hf", 9.4),
    ("gpt2", 0.124),
    ("gpt_j_6b", 6.05),
    ("gpt_neo_2_7b", 2.65),
    ("gpt_neox_20b", 20.6),
    ("gpt_neox_japanese_2_7b", 2.7),
    ("gpt_oss_120b", 116.8),
    ("gpt_oss_20b", 20.9),
    ("granite_3_1_3b_a800m", 3.3),
    ("granite_3_3_8b", 8.17),
    ("grok_1", 314.0),
    ("helium_1_preview_2b", 2.17),
    ("internlm3_8b", 8.8),
    ("internlm_7b", 7.32),
    ("kimi_k2", 1026.0),
    ("lfm2_8b_a1b", 8.34),
    ("llama4_scout", 107.8),
    ("llama_2_7b", 6.74),
    ("llama_3_1_8b", 8.03),
    ("llava_1_5_7b", 6.74),
    ("long_t5_local_large", 0.75),
    ("longcat_flash", 560.0),
    ("mamba_2_8b", 2.77),
    ("mbart_large_50", 0.611),
    ("minicpm_2b", 2.72),
    ("minimax_text_01", 456.0),
    ("mistral_small_3_1_24b", 23.6),
    ("mixtral_8x7b", 46.7),
    ("mpt_7b_storywriter", 6.65),
    ("mt5_small", 0.3),
    ("nemotron_h_56b", 56.0),
    ("neobert", 0.25),
    ("olmo_2_32b", 32.2),
    ("olmo_7b", 6.89),
    ("olmoe_1b_7b", 6.92),
    ("openai_gpt", 0.117),
    ("opt_350m", 0.331),
    ("orion_14b", 14.5),
    ("persimmon_8b", 9.4),
    ("phi_2", 2.78),
    ("phi_3_mini_4k", 3.82),
    ("phi_3_small_8k", 7.39),
    ("qwen1_5_moe_a2_7b", 14.3),
    ("qwen2_5_0_5b", 0.494),
    ("qwen3_30b_a3b", 30.5),
    ("qwen3_5_35b_a3b", 35.0),
    ("qwen3_8b", 8.19),
    ("qwen3_next_80b_a3b", 80.0),
    ("qwen_7b", 7.72),
    ("recurrentgemma_9b", 8.6),
    ("redpajama_incite_7b", 6.9),
    ("snowflake_arctic", 480.0),
    ("solar_open_100b", 102.6),
    ("stablelm_2_12b", 12.1),
    ("starcoder2_15b", 16.0),
    // Half of 1.6T: the file has 12 layers without experts where the paper's decoder has 15 with them.
    ("switch_c_2048", 786.0),
    ("trinity_mini", 26.0),
    ("xglm_7_5b", 7.5),
    ("xlm_roberta_large", 0.56),
    ("xlm_roberta_xxl", 10.7),
    ("xverse_65b", 66.4),
    ("xverse_moe_a4_2b", 25.8),
    ("yi_34b_200k", 34.4),
];

/// Sizes and switches compared with published tables, presets and copies that were changed elsewhere; keys that change
/// nothing may differ. Of Command R7B the length is from memory.
const IN_SIZES: &[Released] = &[
    ("albert_xxlarge_v2", 0.206),
    ("apertus_70b", 70.6),
    ("arcee_small", 4.6),
    ("aria_text", 24.9),
    ("baichuan_7b", 7.0),
    ("bart_large", 0.406),
    ("command_r7b", 8.03),
    ("deberta_v2_xlarge", 0.9),
    ("deberta_v3_base", 0.184),
    ("deepseek_moe_16b", 16.4),
    ("deepseek_v2_lite", 15.7),
    ("deepseek_v4_flash", 284.0),
    ("electra_large_discriminator", 0.335),
    ("embeddinggemma_300m", 0.308),
    ("ernie_4_5_0_3b", 0.36),
    ("ernie_4_5_21b", 21.0),
    ("ernie_4_5_300b", 300.0),
    ("exaone_4_32b", 32.0),
    ("falcon_h1_34b", 34.0),
    ("flex_olmo_7x7b", 33.270_665_216),
    ("galactica_120b", 121.3),
    ("gemma_3n_e4b", 6.9),
    ("gemma_4_26b_a4b", 25.2),
    ("gemma_4_e2b", 4.6),
    ("glm_4_32b_0414", 32.6),
    ("granite_4_0_h_small", 32.2),
    ("granite_4_0_micro", 3.4),
    ("grok_2", 270.0),
    ("hunyuan_7b", 7.5),
    ("hunyuan_a13b", 80.0),
    ("internlm2_20b", 19.9),
    ("jamba_v0_1", 51.6),
    ("jetmoe_8b", 8.5),
    ("jina_embeddings_v2_base_en", 0.137),
    ("kimi_linear_48b", 48.0),
    ("lfm2_1_2b", 1.17),
    ("llama4_maverick_text", 400.0),
    // Of 149 million, 21 are projections for tokens that see all others.
    ("longformer_base", 0.1275),
    ("mamba2_2_7b", 2.7),
    ("mimo_v2_flash", 309.0),
    ("minicpm3_4b", 4.07),
    ("minimax_m2", 229.0),
    ("mistral_7b_v0_1", 7.24),
    ("mistral_nemo_12b", 12.25),
    ("modernbert_large", 0.395),
    ("nemotron_3_nano", 31.6),
    ("nemotron_4_340b", 340.0),
    ("nllb_200_3_3b", 3.3),
    ("nomic_embed_text_v1_5", 0.137),
    ("olmo_3_32b", 32.2),
    ("olmo_hybrid_7b", 7.43),
    ("opt_30b", 30.0),
    ("phi_3_mini_128k", 3.82),
    ("qwen2_audio_7b", 7.75),
    ("qwen2_vl_72b", 72.7),
    ("qwen3_5_27b", 27.0),
    ("qwen3_5_moe_text", 35.0),
    ("qwen3_5_text", 27.0),
    ("qwen3_omni_30b_a3b", 30.5),
    ("qwen3_vl_235b_a22b", 235.0),
    ("qwen3_vl_8b", 8.19),
    ("qwen_72b", 72.3),
    ("refinedweb_40b", 41.3),
    ("roberta_large", 0.355),
    ("roformer_base", 0.124),
    ("rwkv_4_14b", 14.1),
    ("rwkv_7_2_9b", 2.9),
    ("seed_oss_36b", 36.0),
    ("smollm3_3b", 3.08),
    ("smolvlm_instruct", 1.81),
    ("stablelm_2_1_6b", 1.64),
    ("starcoder", 15.5),
    ("t5_encoder", 4.76),
    ("t5_small", 0.0605),
    ("t5gemma_9b_9b", 20.333_401_088),
    ("umt5_xxl", 13.0),
    ("vaultgemma_1b", 1.04),
    ("zamba2_1_2b", 1.22),
    ("zamba2_2_7b", 2.7),
    ("zamba2_7b", 7.36),
    ("zamba_7b", 7.23),
    ("zaya1_8b", 8.4),
];

/// Sizes compared with tools, papers or a sister; the switches, or some of them, only with the defaults of the model's class
/// in transformers, or with sources that disagree (the activation of Megatron-BERT).
const IN_PART: &[Released] = &[
    ("deepseek_v32", 672.0),
    ("glm_4_6", 353.0),
    ("glm_4_7_flash", 30.0),
    ("glm_5", 744.0),
    ("jina_embeddings_v3", 0.572),
    ("megatron_bert_345m", 0.334),
    ("nanochat_d32", 1.88),
    ("qwen2_5_omni_7b", 7.6),
    ("rwkv_5_7b", 7.52),
    ("rwkv_6_14b", 14.1),
];

/// Not compared in all that changes numbers: half of Phi-3.5-MoE's factors of frequencies was found nowhere, and those
/// here are made up.
const NOT_COMPARED: &[Released] = &[("phi_3_5_moe", 41.9)];

/// Of no released model: they show what no other file shows.
const MADE_UP: &[&str] = &[
    "gpt2_scaled_by_layer",
    "gpt_bigcode_multi_head",
    "granite_moe_shared",
    "ministral",
    "qwen2_sliding",
    "qwen3_moe_some_dense",
];

/// How far the parameters of a spec may be from those stated, which are rounded and count poolers and the like or do not.
const TOLERANCE: f64 = 0.06;

#[test]
fn as_many_parameters_follow_as_are_stated() {
    let registry = ArchitectureRegistry::default();
    for (name, stated) in [AS_ON_THE_HUB, IN_SIZES, IN_PART, NOT_COMPARED].concat() {
        let resolved = registry.resolve_path(configs().join(name).join("released.json")).unwrap();
        let counted = [false, true].map(|own_head| stored(&resolved.spec, &resolved.weights, own_head) / 1e9);
        let near = counted.iter().any(|counted| (counted / stated - 1.0).abs() < TOLERANCE);
        assert!(near, "{name}: {counted:.4?} billion parameters, expected {stated}");
    }
}

#[test]
fn the_origin_of_every_config_is_known() {
    let released = [AS_ON_THE_HUB, IN_SIZES, IN_PART, NOT_COMPARED].concat();
    let listed: Vec<_> =
        released.iter().map(|(name, _)| *name).chain(MADE_UP.iter().copied()).map(String::from).collect();
    let folders = configs().read_dir().unwrap();
    let folders: BTreeSet<_> =
        folders.map(|folder| folder.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(BTreeSet::from_iter(listed.clone()), folders);
    assert_eq!(listed.len(), folders.len(), "a folder is listed twice");
}

fn configs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/configs")
}

/// Elements of all tensors that a checkpoint stores, each counted once however often it is used. A head that may be
/// stored or be the embedding is stored where it has one of its `own`.
fn stored(spec: &ModelSpec, weights: &WeightMap, own_head: bool) -> f64 {
    let mut tensors = BTreeMap::new();
    let mut add = |place: Place, needs: Vec<TensorNeed>| {
        for need in needs {
            let source = weights.source(place, need.key, "").unwrap();
            let known = source.names.iter().find(|name| tensors.contains_key(*name));
            let name = known.filter(|_| place != Place::Head || !own_head).unwrap_or(&source.names[0]);
            tensors.insert(name.clone(), source.stored_shape(&need.shape).iter().product::<usize>());
        }
    };
    for (stack, it) in spec.stacks.iter().enumerate() {
        add(Place::Embedding { stack }, it.embedding.needs(it.hidden_size));
        for (layer, block) in it.layers.iter().enumerate() {
            add(Place::Layer { stack, layer }, block.needs(it.hidden_size));
        }
        add(Place::FinalNorm { stack }, it.final_norm_needs());
    }
    if let (Some(head), Some(stack)) = (&spec.head, spec.stacks.last()) {
        add(Place::Head, head.needs(stack.final_width()));
    }
    tensors.into_values().sum::<usize>() as f64
}
