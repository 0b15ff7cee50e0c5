#!/usr/bin/env python3
"""Other ways to score a dataset with a Llama checkpoint that does not fit into memory, each measured from building the
model to results in memory, imports and a tiny warm-up left out. One JSON line on stdout.

    peers.py list                          the peers that can run here
    peers.py gemm                          torch's rate of bf16 products of 2048 x 2048 x 8192, FLOP/s
    peers.py prepare PEER MODEL            what a peer wants to have beside the model
    peers.py run PEER MODEL SAMPLES LENGTH [BATCH]

Each run gives the log-likelihood of every token given those before it, and the hidden state after the final norm; those
of sentence-transformers the mean of the last hidden states of texts.
"""
import importlib.util, json, mmap, os, sys, time

import llama_cpp_peer

os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false", CUDA_VISIBLE_DEVICES="", OMP_NUM_THREADS="2")
PEERS = {"accelerate": ["torch", "transformers", "accelerate"], "airllm": ["torch", "transformers", "airllm"],
         "llama_cpp": ["torch", "transformers", "llama_cpp", "gguf"], "loop": ["torch", "transformers"], "sentence_transformers": ["torch", "sentence_transformers"],
         "sentence_transformers_bf16": ["torch", "sentence_transformers"]}
TOKENIZER = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None,
             "pre_tokenizer": {"type": "Whitespace"}, "post_processor": None, "decoder": None,
             "model": {"type": "WordLevel", "vocab": {"<unk>": 0, "<s>": 1, "</s>": 2}, "unk_token": "<unk>"}}


def present(peer):
    return all(importlib.util.find_spec(module) for module in PEERS[peer])


def gemm():
    import torch
    torch.set_num_threads(2)
    a, b = torch.randn(2048, 8192).bfloat16(), torch.randn(2048, 8192).bfloat16()
    times = []
    for _ in range(6):
        start = time.perf_counter()
        a @ b.t()
        times.append(time.perf_counter() - start)
    return 2 * 2048 * 2048 * 8192 / sorted(times)[2]


def weight_map(model):
    names = json.load(open(os.path.join(model, "model.safetensors.index.json")))["weight_map"]
    return {name: os.path.join(model, file) for name, file in names.items()}


def prepare(peer, model):
    if peer == "llama_cpp":
        llama_cpp_peer.convert(model, weight_map(model))
    if peer != "airllm":
        return
    if not os.path.exists(os.path.join(model, "tokenizer.json")):
        json.dump(TOKENIZER, open(os.path.join(model, "tokenizer.json"), "w"))
        json.dump({"tokenizer_class": "PreTrainedTokenizerFast", "unk_token": "<unk>", "bos_token": "<s>",
                   "eos_token": "</s>"}, open(os.path.join(model, "tokenizer_config.json"), "w"))
    open_airllm(model, 32)


def open_airllm(model, length):
    import contextlib, torch
    with contextlib.redirect_stdout(sys.stderr):
        from airllm import AutoModel
        return AutoModel.from_pretrained(model, device="cpu", dtype=torch.bfloat16, max_seq_len=length,
                                         layer_shards_saving_path=model + ".airllm", prefetching=True)


def embed(model, samples, length, dtype, batch):
    """Seconds that sentence-transformers takes for texts of so many words."""
    import torch
    from sentence_transformers import SentenceTransformer, models
    torch.set_num_threads(2)
    transformer = models.Transformer(model, model_args={"dtype": getattr(torch, dtype)})
    pooling = models.Pooling(transformer.get_word_embedding_dimension(), "mean")
    encoder = SentenceTransformer(modules=[transformer, pooling], device="cpu")
    texts = [" ".join(f"w{5 + (i * length + j) * 7919 % 29990}" for j in range(length)) for i in range(samples)]
    encoder.encode(texts[:64])
    start = time.perf_counter()
    encoder.encode(texts, batch_size=batch)
    return time.perf_counter() - start


class Run:
    def __init__(self, model, samples, length, batch):
        import numpy, torch, transformers
        torch.set_num_threads(2)
        torch.set_grad_enabled(False)
        transformers.logging.set_verbosity_error()
        self.torch, self.model, self.samples, self.length = torch, model, samples, length
        self.batch = batch or samples
        self.config = transformers.AutoConfig.from_pretrained(model)
        rng = numpy.random.default_rng(1)
        self.ids = torch.from_numpy(rng.integers(5, self.config.vocab_size, size=(samples, length)))
        self.likelihoods = torch.zeros(samples, length - 1)
        self.hidden = torch.zeros(samples, length, self.config.hidden_size, dtype=torch.bfloat16)
        tiny = transformers.LlamaConfig(vocab_size=64, hidden_size=64, intermediate_size=64, num_hidden_layers=1,
                                        num_attention_heads=2, num_key_value_heads=1)
        tiny = transformers.LlamaForCausalLM(tiny).to(torch.bfloat16).eval()
        tiny(input_ids=torch.ones(2, 8, dtype=torch.long), use_cache=False)

    def score(self, logits, first):
        """logits [n, T, V] of samples first.., a few samples at a time, so that the f32 copy stays small"""
        step = max(1, 512 // self.length)
        for i in range(0, logits.shape[0], step):
            x = logits[i:i + step, :-1].float()
            at = first + i
            targets = self.ids[at:at + x.shape[0], 1:, None]
            self.likelihoods[at:at + x.shape[0]] = x.gather(-1, targets)[..., 0] - x.logsumexp(-1)

    def forward_all(self, model, norm):
        seen = {}
        hook = norm.register_forward_hook(lambda _m, _i, out: seen.__setitem__("hidden", out))
        for first in range(0, self.samples, self.batch):
            out = model(input_ids=self.ids[first:first + self.batch], use_cache=False)
            self.hidden[first:first + self.batch] = seen.pop("hidden")
            self.score(out.logits, first)
            del out
        hook.remove()

    def accelerate(self):
        from accelerate import dispatch_model, init_empty_weights
        from transformers import AutoModelForCausalLM
        with init_empty_weights(include_buffers=False):
            model = AutoModelForCausalLM.from_config(self.config, dtype=self.torch.bfloat16).eval()
        index = {name: {"safetensors_file": path, "weight_name": name, "dtype": "bfloat16"}
                 for name, path in weight_map(self.model).items()}
        devices = {"model.embed_tokens": "disk", "model.norm": "disk", "model.rotary_emb": "cpu", "lm_head": "disk"}
        devices.update({f"model.layers.{i}": "disk" for i in range(self.config.num_hidden_layers)})
        dispatch_model(model, devices, main_device="cpu", offload_index=index)
        self.forward_all(model, model.model.norm)

    def airllm(self):
        model = open_airllm(self.model, self.length)
        self.forward_all(model, model.model.model.norm)

    def llama_cpp(self):
        llama_cpp_peer.run(self.model, self.ids, self.likelihoods, self.hidden, self.batch)

    def loop(self):
        """The best loop by hand: direct reads by a thread into two buffers in turn, eight samples per call of a layer."""
        from concurrent.futures import ThreadPoolExecutor
        from transformers.models.llama.modeling_llama import LlamaDecoderLayer, LlamaRMSNorm, LlamaRotaryEmbedding
        torch, config = self.torch, self.config
        config._attn_implementation = "sdpa"
        weights = DirectWeights(torch, weight_map(self.model))
        layers = [f"model.layers.{i}." for i in range(config.num_hidden_layers)]
        with torch.device("meta"):
            layer = LlamaDecoderLayer(config, 0).to(torch.bfloat16).eval()
        x = weights.embedding("model.embed_tokens.weight", self.ids)
        position = LlamaRotaryEmbedding(config)(x, torch.arange(self.length)[None])
        reader = ThreadPoolExecutor(1)
        groups = layers + ["model.norm.", "lm_head."]
        coming = reader.submit(weights.read, groups[0], 0)

        def take(i):
            nonlocal coming
            tensors = coming.result()
            if i + 1 < len(groups):
                coming = reader.submit(weights.read, groups[i + 1], (i + 1) % 2)
            return tensors

        for i in range(len(layers)):
            layer.load_state_dict(take(i), assign=True)
            for first in range(0, self.samples, 8):
                part = x[first:first + 8]
                x[first:first + 8] = layer(part, position_embeddings=position, attention_mask=None)
        norm = LlamaRMSNorm(config.hidden_size, config.rms_norm_eps).to(torch.bfloat16)
        norm.load_state_dict({name: tensor.clone() for name, tensor in take(len(layers)).items()}, assign=True)
        head = take(len(layers) + 1)["weight"]
        step = max(1, 512 // self.length)
        for first in range(0, self.samples, step):
            hidden = norm(x[first:first + step])
            self.hidden[first:first + step] = hidden
            self.score(torch.nn.functional.linear(hidden, head), first)


class DirectWeights:
    """Tensors of groups of a checkpoint, read past the page cache into one of two buffers."""
    BLOCK, PIECE = 4096, 16 << 20

    def __init__(self, torch, weight_map):
        self.torch, self.where, self.buffers = torch, {}, [None, None]
        for path in sorted(set(weight_map.values())):
            with open(path, "rb") as file:
                length = int.from_bytes(file.read(8), "little")
                header = json.loads(file.read(length))
            for name, tensor in header.items():
                if name != "__metadata__":
                    start, end = (8 + length + offset for offset in tensor["data_offsets"])
                    self.where[name] = (path, start, end, tensor["shape"])

    def read(self, prefix, buffer):
        wanted = {name: where for name, where in self.where.items() if name.startswith(prefix)}
        spans = {}
        for path, start, end, _ in wanted.values():
            low, high = spans.get(path, (start, end))
            spans[path] = (min(low, start), max(high, end))
        rooms, size = {}, 0
        for path, (low, high) in spans.items():
            low -= low % self.BLOCK
            rooms[path] = (low, high, size)
            size += -(-(high - low) // self.BLOCK) * self.BLOCK
        if self.buffers[buffer] is None or len(self.buffers[buffer]) < size:
            self.buffers[buffer] = mmap.mmap(-1, size)
        memory = self.buffers[buffer]
        view = memoryview(memory)
        for path, (low, high, at) in rooms.items():
            fd = os.open(path, os.O_RDONLY | os.O_DIRECT)
            room = -(-(high - low) // self.BLOCK) * self.BLOCK
            done = 0
            while done < high - low:
                done += os.preadv(fd, [view[at + done:at + min(done + self.PIECE, room)]], low + done)
            os.close(fd)
        tensors = {}
        for name, (path, start, end, shape) in wanted.items():
            low, _, at = rooms[path]
            flat = self.torch.frombuffer(memory, dtype=self.torch.bfloat16, count=(end - start) // 2,
                                         offset=at + start - low)
            tensors[name[len(prefix):]] = flat.view(shape)
        return tensors

    def embedding(self, name, ids):
        path, start, _, (_, width) = self.where[name]
        rows = {}
        fd = os.open(path, os.O_RDONLY)
        for row in ids.unique().tolist():
            rows[row] = self.torch.frombuffer(bytearray(os.pread(fd, 2 * width, start + 2 * width * row)),
                                              dtype=self.torch.bfloat16)
        os.close(fd)
        return self.torch.stack([rows[row] for row in ids.flatten().tolist()]).view(*ids.shape, width)


def main():
    command, *rest = sys.argv[1:]
    if command == "list":
        print(json.dumps([peer for peer in PEERS if present(peer)]))
    elif command == "gemm":
        print(json.dumps(gemm()))
    elif command == "prepare":
        prepare(*rest)
        print("null")
    else:
        peer, model, *numbers = rest
        numbers = [int(number) for number in numbers] + [0] * (3 - len(numbers))
        if peer.startswith("sentence_transformers"):
            # As it comes: float32, 32 texts at once. In bf16 larger batches are faster.
            dtype, batch = ("bfloat16", 256) if peer.endswith("bf16") else ("float32", 32)
            print(json.dumps({"seconds": embed(model, numbers[0], numbers[1], dtype, batch)}))
            return
        run = Run(model, *numbers)
        start = time.perf_counter()
        getattr(run, peer)()
        seconds = time.perf_counter() - start
        print(json.dumps({"seconds": seconds, "mean_log_likelihood": run.likelihoods.mean().item()}))


main()
