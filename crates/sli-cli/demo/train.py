"""Trains the small language model that `sli-cli demo` runs, and writes model/.

    python train.py

Needs torch, tokenizers, safetensors and numpy. Runs on one CPU core, from a fixed seed. Reads corpus/*.txt,
the licence at the root of the repository and stories.grammar; then run expect.py.
"""

import json
import math
import random
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch import Tensor, nn

from stories import Grammar

HERE = Path(__file__).resolve().parent
LICENSE = HERE.parents[2] / "LICENSE"

SEED = 1
EPOCHS = 10
STORIES_PER_EPOCH = 2500  # fresh ones in each epoch; the prose and the licence are the same in all
TOKENS_PER_STEP = 2048
PEAK_LEARNING_RATE = 3e-3
WARMUP_STEPS = 100
WEIGHT_DECAY = 0.1
DROPOUT = 0.25
HELD_OUT_EVERY = 12  # every 12th paragraph of the prose is never trained on
SHARED_WORDS = 8  # a text with as many words in a row in common with a sample of the demo is not trained on

BOS, EOS = "<s>", "</s>"
CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": 1024,
    "hidden_size": 96,
    "intermediate_size": 256,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 24,
    "hidden_act": "silu",
    "max_position_embeddings": 256,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "attention_bias": False,
    "mlp_bias": False,
    "tie_word_embeddings": True,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "initializer_range": 0.02,
    "torch_dtype": "bfloat16",
    "use_cache": True,
}


# ------------------------------------------------------------------------------------------------- the model
# Llama (https://arxiv.org/abs/2302.13971) with grouped queries. The attributes are named so that the state
# dict has the names that transformers gives to the tensors of LlamaForCausalLM.


class RmsNorm(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(CONFIG["hidden_size"]))

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, self.weight.shape, self.weight, CONFIG["rms_norm_eps"])


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        hidden, head_dim = CONFIG["hidden_size"], CONFIG["head_dim"]
        self.q_proj = nn.Linear(hidden, CONFIG["num_attention_heads"] * head_dim, bias=False)
        self.k_proj = nn.Linear(hidden, CONFIG["num_key_value_heads"] * head_dim, bias=False)
        self.v_proj = nn.Linear(hidden, CONFIG["num_key_value_heads"] * head_dim, bias=False)
        self.o_proj = nn.Linear(CONFIG["num_attention_heads"] * head_dim, hidden, bias=False)

    def forward(self, x: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
        batch, length, _ = x.shape

        def heads(projected: Tensor) -> Tensor:  # [batch, heads, length, head_dim]
            return projected.view(batch, length, -1, CONFIG["head_dim"]).transpose(1, 2)

        query, key, value = heads(self.q_proj(x)), heads(self.k_proj(x)), heads(self.v_proj(x))
        query, key = rotate(query, rotation), rotate(key, rotation)
        # Rows are padded at the end, and no token sees a later one, so the padding needs no mask.
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=True)
        return self.o_proj(mixed.transpose(1, 2).reshape(batch, length, -1))


class Mlp(nn.Module):
    def __init__(self):
        super().__init__()
        hidden, inner = CONFIG["hidden_size"], CONFIG["intermediate_size"]
        self.gate_proj = nn.Linear(hidden, inner, bias=False)
        self.up_proj = nn.Linear(hidden, inner, bias=False)
        self.down_proj = nn.Linear(inner, hidden, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.input_layernorm, self.self_attn = RmsNorm(), Attention()
        self.post_attention_layernorm, self.mlp = RmsNorm(), Mlp()

    def forward(self, x: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
        x = x + F.dropout(self.self_attn(self.input_layernorm(x), rotation), DROPOUT, self.training)
        return x + F.dropout(self.mlp(self.post_attention_layernorm(x)), DROPOUT, self.training)


class Decoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed_tokens = nn.Embedding(CONFIG["vocab_size"], CONFIG["hidden_size"])
        self.layers = nn.ModuleList(Layer() for _ in range(CONFIG["num_hidden_layers"]))
        self.norm = RmsNorm()

    def forward(self, tokens: Tensor) -> Tensor:
        x = F.dropout(self.embed_tokens(tokens), DROPOUT, self.training)
        rotation = rotation_of(tokens.shape[1])
        for layer in self.layers:
            x = layer(x, rotation)
        return self.norm(x)


class LanguageModel(nn.Module):
    def __init__(self):
        super().__init__()
        self.model = Decoder()
        for parameter in self.parameters():
            if parameter.dim() == 2:
                nn.init.normal_(parameter, std=CONFIG["initializer_range"])

    def forward(self, tokens: Tensor) -> Tensor:
        """tokens [batch, length] -> logits [batch, length, vocab]; the head is the embedding."""
        return F.linear(self.model(tokens), self.model.embed_tokens.weight)


def rotation_of(length: int) -> tuple[Tensor, Tensor]:
    """Cosine and sine [length, head_dim] of the rotary embedding (https://arxiv.org/abs/2104.09864)."""
    dims = torch.arange(0, CONFIG["head_dim"], 2) / CONFIG["head_dim"]
    angles = torch.outer(torch.arange(length), CONFIG["rope_theta"] ** -dims).repeat(1, 2)
    return angles.cos(), angles.sin()


def rotate(x: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
    """Rotates the pairs (i, i + head_dim / 2) of x [.., length, head_dim]."""
    cos, sin = rotation
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-second, first), dim=-1) * sin


# -------------------------------------------------------------------------------------------------- the text


def paragraphs(path: Path) -> list[str]:
    """The paragraphs of a text file, each on one line."""
    return [" ".join(paragraph.split()) for paragraph in path.read_text().split("\n\n") if paragraph.strip()]


def held_apart(texts: list[str]) -> list[str]:
    """`texts` without those that share SHARED_WORDS words in a row with a sample of the demo."""
    lines = (HERE / "samples.jsonl").read_text().splitlines()
    samples = {run for line in lines for run in runs_of_words(json.loads(line)["text"])}
    return [text for text in texts if samples.isdisjoint(runs_of_words(text))]


def runs_of_words(text: str) -> list[tuple[str, ...]]:
    words = "".join(c if c.isalnum() else " " for c in text.lower()).split()
    return list(zip(*(words[start:] for start in range(SHARED_WORDS))))


def train_tokenizer(texts: list[str]) -> Tokenizer:
    """Byte-level BPE; each encoding begins with BOS, so that the first token of a text is scored too."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=CONFIG["vocab_size"],
        special_tokens=[BOS, EOS],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", special_tokens=[(BOS, CONFIG["bos_token_id"])]
    )
    return tokenizer


def encode(tokenizer: Tokenizer, texts: list[str]) -> list[list[int]]:
    """The tokens of each text, from BOS to EOS, cut to what the model takes."""
    rows = [encoding.ids + [CONFIG["eos_token_id"]] for encoding in tokenizer.encode_batch(texts)]
    return [row[: CONFIG["max_position_embeddings"]] for row in rows]


def batches(rows: list[list[int]]) -> list[Tensor]:
    """Rows of about the same length laid side by side, about TOKENS_PER_STEP in a batch, padded with -1."""
    out, batch = [], []
    for row in sorted(rows, key=len):
        if batch and (len(batch) + 1) * len(row) > TOKENS_PER_STEP:
            out.append(batch)
            batch = []
        batch.append(torch.tensor(row))
    out.append(batch)
    return [nn.utils.rnn.pad_sequence(batch, batch_first=True, padding_value=-1) for batch in out]


# ---------------------------------------------------------------------------------------------- the training


def loss_of(model: LanguageModel, batch: Tensor, reduction: str) -> Tensor:
    """Cross entropy of each token given those before it."""
    logits = model(batch[:, :-1].clamp(min=0))
    return F.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten(), ignore_index=-1, reduction=reduction)


@torch.no_grad()
def held_out_loss(model: LanguageModel, rows: list[list[int]]) -> float:
    """Mean loss per token, in nats."""
    model.eval()
    total = sum(loss_of(model, batch, "sum").item() for batch in batches(rows))
    model.train()
    return total / sum(len(row) - 1 for row in rows)


def learning_rate(step: int, steps: int) -> float:
    """Linear warm-up, then half a cosine down to a tenth."""
    if step < WARMUP_STEPS:
        return PEAK_LEARNING_RATE * (step + 1) / WARMUP_STEPS
    done = (step - WARMUP_STEPS) / (steps - WARMUP_STEPS)
    return PEAK_LEARNING_RATE * (0.55 + 0.45 * math.cos(math.pi * done))


def train(model: LanguageModel, epochs: list[list[Tensor]], held_out: dict[str, list[list[int]]]):
    matrices = [p for p in model.parameters() if p.dim() == 2]
    vectors = [p for p in model.parameters() if p.dim() == 1]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": WEIGHT_DECAY}, {"params": vectors, "weight_decay": 0.0}],
        betas=(0.9, 0.95),
    )
    step, steps, start = 0, sum(map(len, epochs)), time.monotonic()
    for number, epoch in enumerate(epochs, 1):
        for batch in epoch:
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(step, steps)
            loss = loss_of(model, batch, "mean")
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            step += 1
        if number % 2 == 0:
            losses = ", ".join(f"{name} {held_out_loss(model, rows):.3f}" for name, rows in held_out.items())
            seconds = time.monotonic() - start
            print(f"epoch {number}, step {step} of {steps}, {seconds:.0f} s: held-out {losses}", flush=True)


def main():
    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    rng = random.Random(SEED)
    grammar = Grammar(HERE / "stories.grammar")

    prose = [paragraph for path in sorted((HERE / "corpus").glob("*.txt")) for paragraph in paragraphs(path)]
    held_out = prose[HELD_OUT_EVERY - 1 :: HELD_OUT_EVERY]
    known = held_apart([paragraph for paragraph in prose if paragraph not in held_out] + paragraphs(LICENSE))
    stories = [held_apart([grammar.story(rng) for _ in range(STORIES_PER_EPOCH)]) for _ in range(EPOCHS)]
    told = {story for epoch in stories for story in epoch}
    new_stories = [story for story in (grammar.story(rng) for _ in range(300)) if story not in told]

    # The prose counts as much as the stories for the choice of the tokens.
    tokenizer = train_tokenizer(known * 4 + stories[0])
    known_rows = encode(tokenizer, known)
    epochs = [batches(known_rows + encode(tokenizer, epoch)) for epoch in stories]
    for epoch in epochs:
        rng.shuffle(epoch)

    model = LanguageModel()
    print(f"{sum(p.numel() for p in model.parameters())} parameters")
    print(f"{sum(map(len, known_rows))} tokens of prose and licence, {sum(map(len, stories))} stories")
    train(model, epochs, {"prose": encode(tokenizer, held_out), "stories": encode(tokenizer, new_stories)})

    folder = HERE / "model"
    folder.mkdir(exist_ok=True)
    weights = {name: tensor.to(torch.bfloat16).contiguous() for name, tensor in model.state_dict().items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    tokenizer.save(str(folder / "tokenizer.json"))
    write_json(folder / "config.json", CONFIG)
    write_json(folder / "tokenizer_config.json", {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": CONFIG["max_position_embeddings"],
        "bos_token": BOS,
        "eos_token": EOS,
    })


def write_json(path: Path, value: dict):
    path.write_text(json.dumps(value, indent=2) + "\n")


if __name__ == "__main__":
    main()
