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
    "bart": Case(
        "T5",
        "BartForConditionalGeneration",
        {
            "vocab_size": 96,
            "d_model": 32,
            "encoder_layers": 3,
            "decoder_layers": 2,
            "encoder_attention_heads": 4,
            "decoder_attention_heads": 4,
            "encoder_ffn_dim": 48,
            "decoder_ffn_dim": 40,
            "max_position_embeddings": 16,
        },
    ),
}
