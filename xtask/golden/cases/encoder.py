"""Encoders."""

from cases.case import DECODER, Case, rope

BERT = {
    "vocab_size": 96,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 16,
    "layer_norm_eps": 1e-3,
}

DEBERTA = BERT | {
    "max_relative_positions": 5,
    "pad_token_id": 0,
    "pos_att_type": ["c2p", "p2c"],
    "position_biased_input": False,
    "relative_attention": True,
    "type_vocab_size": 0,
}

CASES = {
    "bert": Case("Encoder", "BertForMaskedLM", BERT | {"hidden_act": "gelu_new"}),
    # As the first checkpoints were stored: old names of the norms, and the heads that no masked model has.
    "bert_gamma_beta": Case(
        "Encoder",
        "BertForMaskedLM",
        BERT,
        rename=((r"LayerNorm\.weight$", "LayerNorm.gamma"), (r"LayerNorm\.bias$", "LayerNorm.beta")),
        ignored={
            "bert.pooler.dense.bias": ("F32", [32]),
            "bert.pooler.dense.weight": ("F32", [32, 32]),
            "cls.seq_relationship.bias": ("F32", [2]),
            "cls.seq_relationship.weight": ("F32", [2, 32]),
            "bert.embeddings.position_ids": ("I64", [1, 16]),
        },
    ),
    # Positions count from the padding id on; one kind of segment.
    "roberta": Case(
        "Encoder",
        "RobertaForMaskedLM",
        BERT | {"max_position_embeddings": 18, "type_vocab_size": 1, "pad_token_id": 1},
        legacy={"tie_word_embeddings": None},
        ignored={"roberta.embeddings.position_ids": ("I64", [1, 18])},
    ),
    "distilbert": Case(
        "Encoder",
        "DistilBertForMaskedLM",
        {
            "vocab_size": 96,
            "dim": 32,
            "hidden_dim": 48,
            "n_layers": 3,
            "n_heads": 4,
            "max_position_embeddings": 16,
        },
        legacy={"tie_weights_": True},
    ),
    # One layer's weights, used three times.
    "albert": Case(
        "Encoder",
        "AlbertForMaskedLM",
        BERT | {"embedding_size": 20, "bos_token_id": 2, "eos_token_id": 3},
        layers="encoder.albert_layer_groups",
    ),
    # Two groups of two layers, run one and a half times each.
    "albert_groups": Case(
        "Encoder",
        "AlbertForMaskedLM",
        BERT
        | {
            "embedding_size": 20,
            "bos_token_id": 2,
            "eos_token_id": 3,
            "num_hidden_groups": 2,
            "inner_group_num": 2,
            "tie_word_embeddings": False,
        },
        idle=("predictions.bias",),
        layers="encoder.albert_layer_groups.*.albert_layers",
    ),
    "electra": Case("Encoder", "ElectraForPreTraining", BERT | {"embedding_size": 20}),
    "electra_generator": Case("Encoder", "ElectraForMaskedLM", BERT | {"embedding_size": 20, "hidden_act": "relu"}),
    "xlm_roberta_xl": Case(
        "Encoder",
        "XLMRobertaXLForMaskedLM",
        BERT | {"max_position_embeddings": 18, "type_vocab_size": 1, "pad_token_id": 1},
    ),
    "mpnet": Case("Encoder", "MPNetForMaskedLM", BERT | {"max_position_embeddings": 18, "pad_token_id": 1}),
    "megatron_bert": Case("Encoder", "MegatronBertForMaskedLM", BERT),
    "nomic_bert": Case("Encoder", "NomicBertForMaskedLM", BERT | {"rope_parameters": rope(500.0)}),
    "eurobert": Case(
        "Encoder",
        "EuroBertForMaskedLM",
        DECODER | {"rms_norm_eps": 1e-3, "rope_parameters": rope(500.0)},
    ),
    "jina_embeddings_v3": Case(
        "Encoder",
        "JinaEmbeddingsV3ForMaskedLM",
        BERT | {"type_vocab_size": 1, "pad_token_id": 1, "rope_parameters": rope(500.0)},
    ),
    "roformer": Case(
        "Encoder",
        "RoFormerForMaskedLM",
        BERT | {"embedding_size": 20},
        # The sines and cosines are stored, and get no gradient; their sign makes no difference here.
        idle=("roformer.encoder.embed_positions.weight",),
    ),
    "roformer_values": Case("Encoder", "RoFormerForMaskedLM", BERT | {"rotary_value": True}),
    # A token sees two or four tokens to either side; the projections for tokens that see all are not used.
    "longformer": Case(
        "Encoder",
        "LongformerForMaskedLM",
        BERT | {"max_position_embeddings": 18, "type_vocab_size": 1, "pad_token_id": 1, "attention_window": [4, 8, 4]},
        # transformers fills samples up to whole windows.
        lengths=(16, 8),
        idle=tuple(
            f"longformer.encoder.layer.{layer}.attention.self.{name}_global.{part}"
            for layer in range(3)
            for name in ("query", "key", "value")
            for part in ("weight", "bias")
        ),
    ),
    # Distances beyond five are alike. The head is stored under either of two names.
    "deberta": Case("Encoder", "DebertaForMaskedLM", DEBERTA, legacy={"pos_att_type": "c2p|p2c"}),
    "deberta_lm_predictions": Case(
        "Encoder",
        "DebertaForMaskedLM",
        DEBERTA | {"legacy": False, "max_relative_positions": -1},
        legacy={"pos_att_type": "c2p|p2c"},
        ignored={"deberta.embeddings.position_embeddings.weight": ("F32", [16, 32])},
    ),
    # Six buckets, of which the last two are for 4 to 12 tokens apart, and a convolution beside the first layer.
    "deberta_v2": Case(
        "Encoder",
        "DebertaV2ForMaskedLM",
        DEBERTA
        | {
            "max_relative_positions": 13,
            "position_buckets": 6,
            "norm_rel_ebd": "layer_norm",
            "share_att_key": True,
            "conv_kernel_size": 3,
            "conv_act": "gelu",
        },
        legacy={"pos_att_type": "p2c|c2p"},
        ends_first="encoder.conv",
    ),
    # Projections for distances, of which keys alone are met; positions are added as well.
    "deberta_v2_own": Case(
        "Encoder",
        "DebertaV2Model",
        DEBERTA | {"pos_att_type": ["c2p"], "position_biased_input": True, "type_vocab_size": 2},
        legacy={"pos_att_type": "c2p"},
    ),
    "modernbert": Case(
        "Encoder",
        "ModernBertForMaskedLM",
        {
            "vocab_size": 96,
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "max_position_embeddings": 32,
            "norm_eps": 1e-3,
            "local_attention": 6,
            "global_attn_every_n_layers": 3,
            "pad_token_id": 0,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "cls_token_id": 1,
            "sep_token_id": 2,
        },
    ),
    "ernie": Case("Encoder", "ErnieForMaskedLM", BERT | {"use_task_id": True, "task_type_vocab_size": 3}),
}
