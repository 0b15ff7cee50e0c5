"""What a golden case is made of, and the pieces that many cases share."""

from dataclasses import dataclass, field

import remote
import transformers

# Small, and away from every library's defaults, so that a default in the wrong place shows in the numbers.
TOKENS = {"vocab_size": 96, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
DECODER = TOKENS | {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}


def rope(theta, rope_type="default", **parameters):
    """`rope_parameters` as transformers 5 spells them."""
    return {"rope_theta": theta, "rope_type": rope_type, **parameters}


@dataclass(frozen=True)
class Case:
    """A tiny model: its classes, its configuration and how released repositories spell and store it."""

    family: str
    model: str
    """Name of the model class in `remote`, else in transformers."""
    arguments: dict
    """Arguments of the configuration class."""
    config_keys: dict = field(default_factory=dict)
    """Keys of both config files that differ from what the class writes; None removes one."""
    legacy: dict = field(default_factory=dict)
    """Keys of config_legacy.json that differ from what the general rewriting gives; None removes one."""
    rename: tuple = ()
    """`(pattern, replacement)` from the names that transformers saves to those of released checkpoints."""
    added: dict = field(default_factory=dict)
    """`{name: (dtype, shape)}` of tensors that the model uses and transformers would leave out."""
    ignored: dict = field(default_factory=dict)
    """`{name: (dtype, shape)}` of tensors that released checkpoints hold and no forward pass uses."""
    computed: tuple = ()
    """Last names of tensors that released checkpoints hold and that follow from the config."""
    idle: tuple = ()
    """Parameters of the class, or `NAME[EXPERT]`, that no forward pass uses."""
    layers: str = ""
    """Path of the list of layers below the stack, where it is not the first list of that length."""
    ends_first: str = ""
    """Path below the stack of a module that ends the first layer."""
    attention: str = "eager"
    """The implementation of attention, by its name in transformers."""
    dtype: str = "F32"
    lengths: tuple = (12, 8)
    """Tokens of each sample."""
    inserted: tuple = ()
    """For each sample, `(position, token)` pairs that replace what was drawn."""
    nudged_limit: float = 1e-3
    """How far outputs may move, of their largest magnitude, when every weight is off by one part in 100000."""
    same_in_transformers: bool = True
    """Whether transformers reads config_legacy.json."""

    def model_class(self):
        """The model class."""
        return remote.CLASSES.get(self.model) or getattr(transformers, self.model)

    def config(self):
        """The configuration."""
        return self.model_class().config_class(**self.arguments)

    @property
    def causal(self):
        """Whether the model predicts each token from those before it, with a decoder alone."""
        return self.model.endswith(("ForCausalLM", "LMHeadModel"))
