//! Released models of the families of decoders, under the names that their configs give them: each finds its architecture,
//! is listed with it, and the architecture resolves a released config.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::json;
use sli_core::Family;
use sli_registry::{ArchitectureRegistry, HfConfig};

/// The names of the architectures that resolve a config in the snapshots of sli-registry.
fn resolving() -> BTreeSet<&'static str> {
    let registry = ArchitectureRegistry::new();
    let configs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/sli-registry/tests/configs");
    let folders = std::fs::read_dir(&configs).unwrap_or_else(|e| panic!("{}: {e}", configs.display()));
    let resolved = folders.flatten().map(|folder| {
        let config = folder.path().join("released.json");
        registry.resolve_path(&config).unwrap_or_else(|e| panic!("{}: {e}", config.display()))
    });
    resolved.map(|resolved| resolved.architecture.name).collect()
}

#[test]
fn released_models_resolve() {
    let (registry, resolving) = (ArchitectureRegistry::new(), resolving());
    for (family, models) in RELEASED {
        for (id, model_type, class) in *models {
            let config = json!({ "model_type": model_type, "architectures": [class] }).to_string();
            let config = HfConfig::parse(&config, "config.json").unwrap();
            let architecture = registry.detect(&config).unwrap_or_else(|e| panic!("{id}: {e}"));
            let name = architecture.name;
            assert!(
                architecture.known_models.iter().any(|model| model.id == *id),
                "{name} does not list {id}"
            );
            assert!(resolving.contains(name), "{id}: no released config shows that {name} resolves");
            assert!(registry.models(*family).any(|(other, _)| other.name == name), "{id} is not of {family}");
        }
    }
}

/// Repository, `model_type` and class.
type Model = (&'static str, &'static str, &'static str);

const RELEASED: &[(Family, &[Model])] = &[
    (
        Family::Llama,
        &[
            ("huggyllama/llama-7b", "llama", "LlamaForCausalLM"),
            ("meta-llama/Llama-2-7b-hf", "llama", "LlamaForCausalLM"),
            ("meta-llama/Llama-2-70b-hf", "llama", "LlamaForCausalLM"),
            ("codellama/CodeLlama-34b-hf", "llama", "LlamaForCausalLM"),
            ("meta-llama/Meta-Llama-3-70B", "llama", "LlamaForCausalLM"),
            ("meta-llama/Llama-3.1-405B", "llama", "LlamaForCausalLM"),
            ("meta-llama/Llama-3.2-1B", "llama", "LlamaForCausalLM"),
            ("meta-llama/Llama-3.3-70B-Instruct", "llama", "LlamaForCausalLM"),
            ("TinyLlama/TinyLlama-1.1B-Chat-v1.0", "llama", "LlamaForCausalLM"),
            ("01-ai/Yi-34B", "llama", "LlamaForCausalLM"),
            ("deepseek-ai/deepseek-llm-67b-base", "llama", "LlamaForCausalLM"),
            ("deepseek-ai/deepseek-coder-33b-base", "llama", "LlamaForCausalLM"),
            ("upstage/SOLAR-10.7B-v1.0", "llama", "LlamaForCausalLM"),
            ("kyutai/helium-1-2b", "llama", "LlamaForCausalLM"),
            ("mistralai/Mistral-7B-v0.1", "mistral", "MistralForCausalLM"),
            ("mistralai/Mistral-Nemo-Base-2407", "mistral", "MistralForCausalLM"),
            ("mistralai/Mistral-Large-Instruct-2407", "mistral", "MistralForCausalLM"),
            ("mistralai/Mistral-Small-3.1-24B-Base-2503", "mistral3", "Mistral3ForConditionalGeneration"),
            ("deepseek-ai/DeepSeek-V2", "deepseek_v2", "DeepseekV2ForCausalLM"),
            ("deepseek-ai/DeepSeek-V2-Lite", "deepseek_v2", "DeepseekV2ForCausalLM"),
            ("deepseek-ai/DeepSeek-V3", "deepseek_v3", "DeepseekV3ForCausalLM"),
            ("deepseek-ai/DeepSeek-V3.2", "deepseek_v32", "DeepseekV32ForCausalLM"),
            ("moonshotai/Kimi-K2-Instruct", "kimi_k2", "DeepseekV3ForCausalLM"),
            ("allenai/OLMo-7B-hf", "olmo", "OlmoForCausalLM"),
            ("allenai/OLMo-2-0325-32B", "olmo2", "Olmo2ForCausalLM"),
            ("allenai/Olmo-3-1125-32B", "olmo3", "Olmo3ForCausalLM"),
            ("CohereForAI/c4ai-command-r-plus", "cohere", "CohereForCausalLM"),
            ("CohereForAI/c4ai-command-a-03-2025", "cohere2", "Cohere2ForCausalLM"),
            ("ibm-granite/granite-3.3-8b-base", "granite", "GraniteForCausalLM"),
            ("bigcode/starcoder2-15b", "starcoder2", "Starcoder2ForCausalLM"),
            ("stabilityai/stablelm-2-12b", "stablelm", "StableLmForCausalLM"),
            ("nvidia/Nemotron-4-340B-Base-hf", "nemotron", "NemotronForCausalLM"),
            ("HuggingFaceTB/SmolLM3-3B", "smollm3", "SmolLM3ForCausalLM"),
            ("ByteDance-Seed/Seed-OSS-36B-Base", "seed_oss", "SeedOssForCausalLM"),
            ("LGAI-EXAONE/EXAONE-4.0-32B", "exaone4", "Exaone4ForCausalLM"),
            ("arcee-ai/AFM-4.5B-Base", "arcee", "ArceeForCausalLM"),
            ("swiss-ai/Apertus-70B-2509", "apertus", "ApertusForCausalLM"),
            ("kyutai/helium-1-preview-2b", "helium", "HeliumForCausalLM"),
            ("tencent/Hunyuan-7B-Instruct", "hunyuan_v1_dense", "HunYuanDenseV1ForCausalLM"),
            ("baidu/ERNIE-4.5-0.3B-PT", "ernie4_5", "Ernie4_5ForCausalLM"),
            ("internlm/internlm2-20b", "internlm2", "InternLM2ForCausalLM"),
            ("internlm/internlm3-8b-instruct", "internlm3", "InternLM3ForCausalLM"),
            ("baichuan-inc/Baichuan2-7B-Base", "baichuan", "BaichuanForCausalLM"),
            ("baichuan-inc/Baichuan2-13B-Base", "baichuan", "BaichuanForCausalLM"),
            ("openbmb/MiniCPM-2B-sft-bf16", "minicpm", "MiniCPMForCausalLM"),
            ("openbmb/MiniCPM3-4B", "minicpm3", "MiniCPM3ForCausalLM"),
            ("xverse/XVERSE-65B", "xverse", "XverseForCausalLM"),
            ("xverse/XVERSE-MoE-A4.2B", "xverse", "XverseForCausalLM"),
            ("LiquidAI/LFM2-1.2B", "lfm2", "Lfm2ForCausalLM"),
            ("OrionStarAI/Orion-14B-Base", "orion", "OrionForCausalLM"),
            ("microsoft/bitnet-b1.58-2B-4T-bf16", "bitnet", "BitNetForCausalLM"),
            ("meta-llama/Llama-4-Scout-17B-16E", "llama4", "Llama4ForConditionalGeneration"),
            ("meta-llama/Llama-4-Maverick-17B-128E", "llama4", "Llama4ForConditionalGeneration"),
            ("kajuma/DiffLlama-0.3B-handcut", "diffllama", "DiffLlamaForCausalLM"),
            ("LiquidAI/LFM2-1.2B", "lfm2", "Lfm2ForCausalLM"),
        ],
    ),
    (
        Family::Gpt,
        &[
            ("openai-community/openai-gpt", "openai-gpt", "OpenAIGPTLMHeadModel"),
            ("openai-community/gpt2", "gpt2", "GPT2LMHeadModel"),
            ("distilbert/distilgpt2", "gpt2", "GPT2LMHeadModel"),
            ("AI-Sweden-Models/gpt-sw3-40b", "gpt2", "GPT2LMHeadModel"),
            ("EleutherAI/gpt-neo-2.7B", "gpt_neo", "GPTNeoForCausalLM"),
            ("EleutherAI/gpt-j-6b", "gptj", "GPTJForCausalLM"),
            ("Salesforce/codegen-16B-mono", "codegen", "CodeGenForCausalLM"),
            ("EleutherAI/gpt-neox-20b", "gpt_neox", "GPTNeoXForCausalLM"),
            ("EleutherAI/pythia-12b", "gpt_neox", "GPTNeoXForCausalLM"),
            ("togethercomputer/RedPajama-INCITE-7B-Base", "gpt_neox", "GPTNeoXForCausalLM"),
            ("stabilityai/stablelm-base-alpha-7b", "gpt_neox", "GPTNeoXForCausalLM"),
            ("abeja/gpt-neox-japanese-2.7b", "gpt_neox_japanese", "GPTNeoXJapaneseForCausalLM"),
            ("bigcode/gpt_bigcode-santacoder", "gpt_bigcode", "GPTBigCodeForCausalLM"),
            ("bigcode/starcoder", "gpt_bigcode", "GPTBigCodeForCausalLM"),
            ("tiiuae/falcon-7b", "falcon", "FalconForCausalLM"),
            ("tiiuae/falcon-40b", "falcon", "FalconForCausalLM"),
            ("tiiuae/falcon-180B", "falcon", "FalconForCausalLM"),
            ("tiiuae/falcon-rw-1b", "falcon", "FalconForCausalLM"),
            ("tiiuae/falcon-11B", "falcon", "FalconForCausalLM"),
            ("mosaicml/mpt-30b", "mpt", "MptForCausalLM"),
            ("microsoft/BioGPT-Large", "biogpt", "BioGptForCausalLM"),
            ("facebook/xglm-7.5B", "xglm", "XGLMForCausalLM"),
            ("adept/persimmon-8b-base", "persimmon", "PersimmonForCausalLM"),
            ("Salesforce/ctrl", "ctrl", "CTRLLMHeadModel"),
            ("cerebras/Cerebras-GPT-13B", "gpt2", "GPT2LMHeadModel"),
        ],
    ),
    (
        Family::Qwen,
        &[
            ("Qwen/Qwen-72B", "qwen", "QWenLMHeadModel"),
            ("Qwen/Qwen-VL", "qwen", "QWenLMHeadModel"),
            ("Qwen/Qwen1.5-110B", "qwen2", "Qwen2ForCausalLM"),
            ("Qwen/Qwen2-72B", "qwen2", "Qwen2ForCausalLM"),
            ("Qwen/Qwen2.5-0.5B", "qwen2", "Qwen2ForCausalLM"),
            ("Qwen/Qwen2.5-72B", "qwen2", "Qwen2ForCausalLM"),
            ("Qwen/QwQ-32B", "qwen2", "Qwen2ForCausalLM"),
            ("Qwen/Qwen3-32B", "qwen3", "Qwen3ForCausalLM"),
            ("Qwen/Qwen3-Next-80B-A3B-Instruct", "qwen3_next", "Qwen3NextForCausalLM"),
            ("Qwen/Qwen3.5-27B", "qwen3_5", "Qwen3_5ForConditionalGeneration"),
            ("Qwen/Qwen2-VL-72B-Instruct", "qwen2_vl", "Qwen2VLForConditionalGeneration"),
            ("Qwen/Qwen2.5-VL-72B-Instruct", "qwen2_5_vl", "Qwen2_5_VLForConditionalGeneration"),
            ("Qwen/Qwen3-VL-235B-A22B-Instruct", "qwen3_vl_moe", "Qwen3VLMoeForConditionalGeneration"),
            ("Qwen/Qwen2-Audio-7B", "qwen2_audio", "Qwen2AudioForConditionalGeneration"),
            ("Qwen/Qwen2.5-Omni-7B", "qwen2_5_omni", "Qwen2_5OmniModel"),
            ("Qwen/Qwen3-Omni-30B-A3B-Instruct", "qwen3_omni_moe", "Qwen3OmniMoeForConditionalGeneration"),
        ],
    ),
    (
        Family::Gemma,
        &[
            ("google/gemma-7b", "gemma", "GemmaForCausalLM"),
            ("google/codegemma-7b", "gemma", "GemmaForCausalLM"),
            ("google/gemma-2-27b", "gemma2", "Gemma2ForCausalLM"),
            ("google/gemma-3-1b-pt", "gemma3_text", "Gemma3ForCausalLM"),
            ("google/gemma-3-27b-it", "gemma3", "Gemma3ForConditionalGeneration"),
            ("google/medgemma-27b-text-it", "gemma3_text", "Gemma3ForCausalLM"),
            ("google/gemma-3n-E4B-it", "gemma3n", "Gemma3nForConditionalGeneration"),
            ("google/embeddinggemma-300m", "gemma3_text", "Gemma3TextModel"),
            ("google/vaultgemma-1b", "vaultgemma", "VaultGemmaForCausalLM"),
            ("google/recurrentgemma-9b", "recurrent_gemma", "RecurrentGemmaForCausalLM"),
            ("google/gemma-4-26B-A4B-it", "gemma4", "Gemma4ForConditionalGeneration"),
        ],
    ),
    (
        Family::ChatGlm,
        &[
            ("THUDM/chatglm-6b", "chatglm", "ChatGLMModel"),
            ("THUDM/chatglm2-6b", "chatglm", "ChatGLMModel"),
            ("THUDM/chatglm3-6b", "chatglm", "ChatGLMModel"),
            ("THUDM/chatglm3-6b-32k", "chatglm", "ChatGLMModel"),
            ("THUDM/codegeex2-6b", "chatglm", "ChatGLMModel"),
            ("THUDM/glm-4-9b-chat", "chatglm", "ChatGLMForConditionalGeneration"),
            ("THUDM/glm-4-9b-chat-hf", "glm", "GlmForCausalLM"),
            ("THUDM/GLM-4-32B-0414", "glm4", "Glm4ForCausalLM"),
            ("zai-org/GLM-4.5-Air", "glm4_moe", "Glm4MoeForCausalLM"),
            ("zai-org/GLM-4.6", "glm4_moe", "Glm4MoeForCausalLM"),
            ("zai-org/GLM-4.7-Flash", "glm4_moe_lite", "Glm4MoeLiteForCausalLM"),
            ("zai-org/GLM-5", "glm_moe_dsa", "GlmMoeDsaForCausalLM"),
        ],
    ),
    (
        Family::Phi,
        &[
            ("microsoft/phi-1_5", "phi", "PhiForCausalLM"),
            ("microsoft/phi-2", "phi", "PhiForCausalLM"),
            ("microsoft/Phi-3-mini-4k-instruct", "phi3", "Phi3ForCausalLM"),
            ("microsoft/Phi-3-mini-128k-instruct", "phi3", "Phi3ForCausalLM"),
            ("microsoft/Phi-3-medium-4k-instruct", "phi3", "Phi3ForCausalLM"),
            ("microsoft/Phi-3-small-8k-instruct", "phi3small", "Phi3SmallForCausalLM"),
            ("microsoft/phi-4", "phi3", "Phi3ForCausalLM"),
            ("microsoft/Phi-4-mini-instruct", "phi3", "Phi3ForCausalLM"),
            ("microsoft/Phi-mini-MoE-instruct", "phimoe", "PhimoeForCausalLM"),
            ("microsoft/Phi-3.5-MoE-instruct", "phimoe", "PhimoeForCausalLM"),
        ],
    ),
    (
        Family::Bloom,
        &[
            ("bigscience/bloom-560m", "bloom", "BloomForCausalLM"),
            ("bigscience/bloom-3b", "bloom", "BloomForCausalLM"),
            ("bigscience/bloom-7b1", "bloom", "BloomForCausalLM"),
            ("bigscience/bloom", "bloom", "BloomForCausalLM"),
            ("bigscience/bloomz", "bloom", "BloomForCausalLM"),
            ("bigscience/bloomz-7b1-mt", "bloom", "BloomForCausalLM"),
        ],
    ),
    (
        Family::Opt,
        &[
            ("facebook/opt-125m", "opt", "OPTForCausalLM"),
            ("facebook/opt-350m", "opt", "OPTForCausalLM"),
            ("facebook/opt-1.3b", "opt", "OPTForCausalLM"),
            ("facebook/opt-30b", "opt", "OPTForCausalLM"),
            ("facebook/opt-66b", "opt", "OPTForCausalLM"),
            ("facebook/opt-iml-30b", "opt", "OPTForCausalLM"),
            ("facebook/galactica-120b", "opt", "OPTForCausalLM"),
        ],
    ),
    (
        Family::Moe,
        &[
            ("mistralai/Mixtral-8x7B-v0.1", "mixtral", "MixtralForCausalLM"),
            ("mistralai/Mixtral-8x22B-v0.1", "mixtral", "MixtralForCausalLM"),
            ("Qwen/Qwen3-30B-A3B", "qwen3_moe", "Qwen3MoeForCausalLM"),
            ("Qwen/Qwen3-235B-A22B", "qwen3_moe", "Qwen3MoeForCausalLM"),
            ("Qwen/Qwen3-Coder-480B-A35B-Instruct", "qwen3_moe", "Qwen3MoeForCausalLM"),
            ("Qwen/Qwen1.5-MoE-A2.7B", "qwen2_moe", "Qwen2MoeForCausalLM"),
            ("Qwen/Qwen2-57B-A14B", "qwen2_moe", "Qwen2MoeForCausalLM"),
            ("deepseek-ai/deepseek-moe-16b-base", "deepseek", "DeepseekForCausalLM"),
            ("deepseek-ai/DeepSeek-V4-Flash-Base", "deepseek_v4", "DeepseekV4ForCausalLM"),
            ("hpcai-tech/grok-1", "grok-1", "Grok1ModelForCausalLM"),
            ("xai-org/grok-2", "git", "Grok1ForCausalLM"),
            ("openai/gpt-oss-120b", "gpt_oss", "GptOssForCausalLM"),
            ("openai/gpt-oss-20b", "gpt_oss", "GptOssForCausalLM"),
            ("databricks/dbrx-base", "dbrx", "DbrxForCausalLM"),
            ("allenai/OLMoE-1B-7B-0924", "olmoe", "OlmoeForCausalLM"),
            ("allenai/FlexOlmo-7x7B-1T", "flex_olmo", "FlexOlmoForCausalLM"),
            ("ibm-granite/granite-3.1-3b-a800m-base", "granitemoe", "GraniteMoeForCausalLM"),
            ("jetmoe/jetmoe-8b", "jetmoe", "JetMoeForCausalLM"),
            ("Snowflake/snowflake-arctic-base", "arctic", "ArcticForCausalLM"),
            ("MiniMaxAI/MiniMax-Text-01-hf", "minimax", "MiniMaxForCausalLM"),
            ("MiniMaxAI/MiniMax-M2", "minimax_m2", "MiniMaxM2ForCausalLM"),
            ("baidu/ERNIE-4.5-300B-A47B-PT", "ernie4_5_moe", "Ernie4_5_MoeForCausalLM"),
            ("tencent/Hunyuan-A13B-Instruct", "hunyuan_v1_moe", "HunYuanMoEV1ForCausalLM"),
            ("rednote-hilab/dots.llm1.base", "dots1", "Dots1ForCausalLM"),
            ("meituan-longcat/LongCat-Flash-Chat", "longcat_flash", "LongcatFlashForCausalLM"),
            ("XiaomiMiMo/MiMo-V2-Flash", "mimo_v2_flash", "MiMoV2FlashForCausalLM"),
            ("upstage/Solar-Open-100B", "solar_open", "SolarOpenForCausalLM"),
            ("arcee-ai/Trinity-Mini", "afmoe", "AfmoeForCausalLM"),
            ("LiquidAI/LFM2-8B-A1B", "lfm2_moe", "Lfm2MoeForCausalLM"),
            ("rhymes-ai/Aria", "aria", "AriaForConditionalGeneration"),
            ("Zyphra/ZAYA1-8B", "zaya", "ZayaForCausalLM"),
        ],
    ),
    (
        Family::Mamba,
        &[
            ("state-spaces/mamba-2.8b-hf", "mamba", "MambaForCausalLM"),
            ("state-spaces/mamba2-2.7b", "mamba2", "Mamba2ForCausalLM"),
            ("mistralai/Mamba-Codestral-7B-v0.1", "mamba2", "Mamba2ForCausalLM"),
            ("tiiuae/falcon-mamba-7b", "falcon_mamba", "FalconMambaForCausalLM"),
            ("ai21labs/Jamba-v0.1", "jamba", "JambaForCausalLM"),
            ("ai21labs/AI21-Jamba-1.5-Large", "jamba", "JambaForCausalLM"),
            ("Zyphra/Zamba-7B-v1", "zamba", "ZambaForCausalLM"),
            ("Zyphra/Zamba2-7B", "zamba2", "Zamba2ForCausalLM"),
            ("Zyphra/Zamba2-2.7B", "zamba2", "Zamba2ForCausalLM"),
            ("ibm-ai-platform/Bamba-9B-v2", "bamba", "BambaForCausalLM"),
            ("tiiuae/Falcon-H1-34B-Base", "falcon_h1", "FalconH1ForCausalLM"),
            ("ibm-granite/granite-4.0-h-small", "granitemoehybrid", "GraniteMoeHybridForCausalLM"),
            ("nvidia/Nemotron-H-56B-Base-8K", "nemotron_h", "NemotronHForCausalLM"),
            ("nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16", "nemotron_h", "NemotronHForCausalLM"),
            ("RWKV/rwkv-4-14b-pile", "rwkv", "RwkvForCausalLM"),
            ("RWKV/v5-Eagle-7B-HF", "rwkv5", "Rwkv5ForCausalLM"),
            ("RWKV/v6-Finch-14B-HF", "rwkv6", "Rwkv6ForCausalLM"),
            ("fla-hub/rwkv7-2.9B-world", "rwkv7", "RWKV7ForCausalLM"),
            ("moonshotai/Kimi-Linear-48B-A3B-Base", "kimi_linear", "KimiLinearForCausalLM"),
        ],
    ),
];
