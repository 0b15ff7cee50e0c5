"""Encoder-decoders."""

from cases.case import Case

T5 = {
    "vocab_size": 96,
    "d_model": 32,
    "d_kv": 10,
    "d_ff": 48,
    "num_layers": 3,
    "num_decoder_layers": 2,
    "num_heads": 3,
    "relative_attention_num_buckets": 8,
    "relative_attention_max_distance": 10,
    "layer_norm_epsilon": 1e-3,
    "decoder_start_token_id": 0,
}
# Only self attention has a bias; the first checkpoints hold one for the first cross attention all the same.
DEAD_BIAS = {"decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight": ("F32", [8, 3])}
BART = {
    "vocab_size": 96,
    "d_model": 32,
    "encoder_layers": 3,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 40,
    "max_position_embeddings": 16,
}
# Scores and logits are capped where it shows.
GEMMA = {
    "vocab_size": 96,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 12,
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-3,
    "query_pre_attn_scalar": 10,
    "sliding_window": 4,
    "attn_logit_softcapping": 0.5,
    "final_logit_softcapping": 2.0,
    "bos_token_id": 2,
    "eos_token_id": 1,
    "pad_token_id": 0,
    "rope_parameters": {"rope_type": "default", "rope_theta": 500.0},
}
RELEASED_GEMMA = {key: value for key, value in GEMMA.items() if key != "rope_parameters"} | {
    "model_type": "t5_gemma_module",
    "rope_theta": 500.0,
}

CASES = {
    "t5_relu": Case(
        "T5", "T5ForConditionalGeneration", T5, legacy={"scale_decoder_outputs": None}, ignored=DEAD_BIAS
    ),
    "t5_v1_1_gated_gelu": Case(
        "T5",
        "T5ForConditionalGeneration",
        T5 | {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False},
        legacy={"tie_word_embeddings": False, "scale_decoder_outputs": None},
        added={"lm_head.weight": ("F32", [96, 32])},
    ),
    "umt5": Case("T5", "UMT5ForConditionalGeneration", T5 | {"feed_forward_proj": "gated-gelu"}),
    "bart": Case("T5", "BartForConditionalGeneration", BART),
    "mbart": Case(
        "T5",
        "MBartForConditionalGeneration",
        BART | {"scale_embedding": True, "decoder_start_token_id": 2, "tie_word_embeddings": False},
        legacy={"normalize_before": True, "add_final_layer_norm": True, "normalize_embedding": True},
        idle=("model.shared.weight",),
    ),
    "m2m_100": Case("T5", "M2M100ForConditionalGeneration", BART),
    # More tokens than there are places.
    "switch_transformers": Case(
        "T5",
        "SwitchTransformersForConditionalGeneration",
        {
            "vocab_size": 96,
            "d_model": 32,
            "d_kv": 12,
            "d_ff": 20,
            "num_heads": 4,
            "num_layers": 4,
            "num_decoder_layers": 2,
            "num_sparse_encoder_layers": 2,
            "num_sparse_decoder_layers": 1,
            "num_experts": 3,
            "expert_capacity": 6,
            "relative_attention_num_buckets": 8,
            "relative_attention_max_distance": 10,
            "layer_norm_epsilon": 1e-3,
            "dense_act_fn": "relu",
            "decoder_start_token_id": 0,
            "pad_token_id": 0,
            "eos_token_id": 1,
        },
        lengths=(40, 32),
    ),
    "longt5": Case(
        "T5",
        "LongT5ForConditionalGeneration",
        T5 | {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False, "local_radius": 3},
        legacy={"tie_word_embeddings": False, "scale_decoder_outputs": None},
        added={"lm_head.weight": ("F32", [96, 32])},
    ),
    "t5gemma": Case(
        "T5",
        "T5GemmaForConditionalGeneration",
        {
            "vocab_size": 96,
            "decoder_start_token_id": 2,
            "encoder": GEMMA,
            "decoder": GEMMA | {"num_hidden_layers": 2},
        },
        layers="layers",
        legacy={
            "encoder": RELEASED_GEMMA,
            "decoder": RELEASED_GEMMA
            | {"num_hidden_layers": 2, "is_decoder": True, "cross_attention_hidden_size": 32},
        },
    ),
}
