"""llama.cpp as a peer: a Llama checkpoint as a GGUF file of bf16, and a run of it through llama.cpp's library.

Needs llama-cpp-python (built for this machine) and gguf.
"""
import json, os


def convert(model, weight_map):
    """Writes MODEL.gguf, a tensor at a time, without a vocabulary."""
    import gguf, numpy, torch
    from safetensors import safe_open
    target = model + ".gguf"
    if os.path.exists(target):
        return
    config = json.load(open(os.path.join(model, "config.json")))
    heads, width = config["num_attention_heads"], config["hidden_size"]
    key_heads, head_dim = config.get("num_key_value_heads", heads), config.get("head_dim") or width // heads
    theta = config.get("rope_theta") or config.get("rope_parameters", {}).get("rope_theta", 10000.0)
    writer = gguf.GGUFWriter(target + ".part", "llama")
    writer.add_vocab_size(config["vocab_size"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(width)
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(key_heads)
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_dimension_count(head_dim)
    writer.add_rope_freq_base(theta)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_BF16)
    writer.add_tokenizer_model("no_vocab")

    def tensor(name, interleaved_heads):
        with safe_open(weight_map[name], framework="pt") as file:
            values = file.get_tensor(name)
        if values.ndim == 1:
            return values.float().numpy()
        if interleaved_heads:  # its rope turns neighbours, the checkpoint's halves
            rows, columns = values.shape
            values = values.view(interleaved_heads, 2, head_dim // 2, columns).transpose(1, 2).reshape(rows, columns)
        return values.contiguous().view(torch.int16).numpy().view(numpy.uint8)

    names = [("token_embd", "model.embed_tokens", None), ("output_norm", "model.norm", None), ("output", "lm_head", None)]
    for i in range(config["num_hidden_layers"]):
        parts = [("attn_norm", "input_layernorm", None), ("attn_q", "self_attn.q_proj", heads),
                 ("attn_k", "self_attn.k_proj", key_heads), ("attn_v", "self_attn.v_proj", None),
                 ("attn_output", "self_attn.o_proj", None), ("ffn_norm", "post_attention_layernorm", None),
                 ("ffn_gate", "mlp.gate_proj", None), ("ffn_up", "mlp.up_proj", None),
                 ("ffn_down", "mlp.down_proj", None)]
        names += [(f"blk.{i}.{ours}", f"model.layers.{i}.{theirs}", turned) for ours, theirs, turned in parts]
    for ours, theirs, _ in names:
        with safe_open(weight_map[theirs + ".weight"], framework="pt") as file:
            shape = file.get_slice(theirs + ".weight").get_shape()
        if len(shape) == 1:
            writer.add_tensor_info(ours + ".weight", shape, numpy.dtype(numpy.float32), 4 * shape[0])
        else:
            writer.add_tensor_info(ours + ".weight", (shape[0], 2 * shape[1]), numpy.dtype(numpy.uint8),
                                   2 * shape[0] * shape[1], raw_dtype=gguf.GGMLQuantizationType.BF16)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for _, theirs, turned in names:
        writer.write_tensor_data(tensor(theirs + ".weight", turned))
    writer.close()
    os.rename(target + ".part", target)


def run(model, ids, likelihoods, hidden, at_once):
    """Scores so many samples in a batch, with the file mapped into memory."""
    import llama_cpp
    options = llama_cpp.llama_model_default_params()
    options.n_gpu_layers = 0
    weights = llama_cpp.llama_model_load_from_file((model + ".gguf").encode(), options)
    assert weights, "the model is not loaded"
    length = ids.shape[1]
    options = llama_cpp.llama_context_default_params()
    options.n_ctx = options.n_batch = options.n_ubatch = at_once * length
    options.n_seq_max = at_once
    options.n_threads = options.n_threads_batch = 2
    options.embeddings, options.pooling_type = True, llama_cpp.LLAMA_POOLING_TYPE_NONE
    context = llama_cpp.llama_init_from_model(weights, options)
    assert context, "there is no context"
    for first in range(0, len(ids), at_once):
        part = slice(first, first + at_once)
        score(weights, context, ids[part], likelihoods[part], hidden[part])
    llama_cpp.llama_free(context)
    llama_cpp.llama_model_free(weights)


def score(weights, context, ids, likelihoods, hidden):
    import llama_cpp, numpy, torch
    samples, length = ids.shape
    vocab = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(weights))
    batch = llama_cpp.llama_batch_init(samples * length, 0, 1)
    batch.n_tokens = samples * length
    for row, token in enumerate(ids.flatten().tolist()):
        batch.token[row], batch.pos[row] = token, row % length
        batch.n_seq_id[row], batch.seq_id[row][0], batch.logits[row] = 1, row // length, 1
    llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(context), True)
    assert llama_cpp.llama_decode(context, batch) == 0, "it does not decode"
    for row in range(samples * length):
        sample, at = divmod(row, length)
        state = numpy.ctypeslib.as_array(llama_cpp.llama_get_embeddings_ith(context, row), hidden.shape[-1:])
        hidden[sample, at] = torch.from_numpy(state)
        if at + 1 < length:
            logits = numpy.ctypeslib.as_array(llama_cpp.llama_get_logits_ith(context, row), (vocab,))
            logits = torch.from_numpy(logits)
            likelihoods[sample, at] = logits[ids[sample, at + 1]] - logits.logsumexp(-1)
    llama_cpp.llama_batch_free(batch)
