"""Models that were released with code of their own and that transformers has no class for.

Each module is an independent reference, written after the released code and kept plain: whole matrices of scores, one
sample at a time. Modules are named as released checkpoints name their tensors.
"""

from remote.arctic import ArcticForCausalLM
from remote.baichuan import BaichuanForCausalLM
from remote.chatglm import ChatGLMForCausalLM
from remote.chatglm_6b import ChatGLM6BForCausalLM
from remote.grok1 import Grok1ForCausalLM
from remote.grok2 import Grok2ForCausalLM
from remote.internlm2 import InternLM2ForCausalLM
from remote.jina_bert import JinaBertModel
from remote.phi3small import Phi3SmallForCausalLM
from remote.qwen import QWenForCausalLM
from remote.rwkv import RWKV7ForCausalLM, Rwkv5ForCausalLM
from remote.xverse_moe import XverseMoeForCausalLM

CLASSES = {
    model.__name__: model
    for model in (
        ArcticForCausalLM,
        BaichuanForCausalLM,
        ChatGLM6BForCausalLM,
        ChatGLMForCausalLM,
        Grok1ForCausalLM,
        Grok2ForCausalLM,
        InternLM2ForCausalLM,
        JinaBertModel,
        Phi3SmallForCausalLM,
        QWenForCausalLM,
        RWKV7ForCausalLM,
        Rwkv5ForCausalLM,
        XverseMoeForCausalLM,
    )
}
