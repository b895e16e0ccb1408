/* SPDX-License-Identifier: Apache-2.0 */
/*
 * models: the built-in table of models; see model.h. The columns: bits of a parameter,
 * where they are not the data type's 16; name and id; layers, those with a window, the
 * window; heads of queries, hidden size; KV heads and their size, or the latent vector's
 * size; millions of parameters, of all and of those active; the longest context.
 */
#include "client/plan/model.h"
#include "client/plan/names.h"

#include <string.h>

/* Attention multiplies each query with the keys before it and the result with the
 * values: 4 FLOP for each query head's element, and half the pairs are masked. */
#define GQA_OF(bits, name, id, layers, windowed, window, q_heads, hidden, kv_heads, head_dim,      \
	       params, active, context, source)                                                    \
	{                                                                                          \
		name, id, layers, windowed, window, q_heads, hidden, kv_heads, head_dim, 0, 16,    \
			2 * (q_heads) * (head_dim), bits, (params)*1000000ull,                     \
			(active)*1000000ull, context, source                                       \
	}
#define GQA(...) GQA_OF(16, __VA_ARGS__)
/* A prompt is computed with keys of 128 + 64 and values of 128 elements in each head,
 * unpacked from the latent. */
#define MLA_OF(bits, name, id, layers, q_heads, hidden, latent, params, active, context, source)   \
	{                                                                                          \
		name, id, layers, 0, 0, q_heads, hidden, 0, 0, latent, 16,                         \
			(128 + 64 + 128) * (q_heads), bits, (params)*1000000ull,                   \
			(active)*1000000ull, context, source                                       \
	}
#define MLA(...) MLA_OF(16, __VA_ARGS__)

#define FP8 8
/* Experts in MXFP4, the rest in the data type: the mean width in the published files. */
#define MXFP4(bytes, params) (8.0 * (bytes) / ((params)*1e6))

const struct plan_model plan_models[] = {
	GQA("Llama-2-7B", "meta-llama/Llama-2-7b-hf", 32, 0, 0, 32, 4096, 32, 128, 6740, 6740, 4096,
	    "read here: layers/heads/hidden in jychen21/Habana-LLM-Viewer models.py (search code); "
	    "ctx/params memory"),
	GQA("Llama-2-13B", "meta-llama/Llama-2-13b-hf", 40, 0, 0, 40, 5120, 40, 128, 13020, 13020,
	    4096, "read here: huggingface.co/NousResearch/Llama-2-13b-chat-hf config.json"),
	GQA("Llama-2-70B", "meta-llama/Llama-2-70b-hf", 80, 0, 0, 64, 8192, 8, 128, 68980, 68980,
	    4096, "read here: layers/heads/hidden in jychen21/Habana-LLM-Viewer models.py"),
	GQA("Llama-3-8B", "meta-llama/Meta-Llama-3-8B", 32, 0, 0, 32, 4096, 8, 128, 8030, 8030,
	    8192, "read here: ziruiliu.github.io index.md table + search code excerpt"),
	GQA("Llama-3.1-8B", "meta-llama/Llama-3.1-8B-Instruct", 32, 0, 0, 32, 4096, 8, 128, 8030,
	    8030, 131072, "read here: citsjtu2020/LLM-Prof sglang/Model_Config.md"),
	GQA("Llama-3.1-70B", "meta-llama/Llama-3.1-70B-Instruct", 80, 0, 0, 64, 8192, 8, 128, 70550,
	    70550, 131072,
	    "read here: layers/kv/head_dim in ziruiliu.github.io index.md; ctx/params memory"),
	GQA("Llama-3.1-405B", "meta-llama/Llama-3.1-405B-Instruct", 126, 0, 0, 128, 16384, 8, 128,
	    405850, 405850, 131072,
	    "from memory of the published config.json; NOT re-read here (HF discussion #14 notes "
	    "an early config had "
	    "num_key_value_heads=16)"),
	GQA("Llama-3.2-1B", "meta-llama/Llama-3.2-1B", 16, 0, 0, 32, 2048, 8, 64, 1240, 1240,
	    131072, "from memory of the published config.json; NOT re-read here"),
	GQA("Llama-3.2-3B", "meta-llama/Llama-3.2-3B", 28, 0, 0, 24, 3072, 8, 128, 3210, 3210,
	    131072, "read here: citsjtu2020/LLM-Prof sglang/Model_Config.md"),
	GQA("Llama-3.3-70B", "meta-llama/Llama-3.3-70B-Instruct", 80, 0, 0, 64, 8192, 8, 128, 70550,
	    70550, 131072,
	    "from memory of the published config.json; NOT re-read here (same shape as 3.1-70B)"),
	GQA("Qwen2.5-7B", "Qwen/Qwen2.5-7B-Instruct", 28, 0, 0, 28, 3584, 4, 128, 7620, 7620, 32768,
	    "read here: citsjtu2020/LLM-Prof Model_Config.md; "
	    "huggingface.co/osllmai-community/Qwen2.5-7B-Instruct "
	    "config.json (head_dim=hidden/q_heads)"),
	GQA("Qwen2.5-14B", "Qwen/Qwen2.5-14B", 48, 0, 0, 40, 5120, 8, 128, 14770, 14770, 131072,
	    "read here: citsjtu2020/LLM-Prof Model_Config.md"),
	GQA("Qwen2.5-32B", "Qwen/Qwen2.5-32B", 64, 0, 0, 40, 5120, 8, 128, 32760, 32760, 131072,
	    "read here: citsjtu2020/LLM-Prof Model_Config.md"),
	GQA("Qwen2.5-72B", "Qwen/Qwen2.5-72B-Instruct", 80, 0, 0, 64, 8192, 8, 128, 72710, 72710,
	    32768,
	    "read here: huggingface.co/m8than/banana-2-b-72b and gghfez/UwU-72B-Preview "
	    "config.json (copies)"),
	GQA("Qwen3-4B", "Qwen/Qwen3-4B", 36, 0, 0, 32, 2560, 8, 128, 4020, 4020, 40960,
	    "read here: citsjtu2020/LLM-Prof Model_Config.md"),
	GQA("Qwen3-8B", "Qwen/Qwen3-8B", 36, 0, 0, 32, 4096, 8, 128, 8190, 8190, 40960,
	    "read here: citsjtu2020/LLM-Prof Model_Config.md"),
	GQA("Qwen3-32B", "Qwen/Qwen3-32B", 64, 0, 0, 64, 5120, 8, 128, 32760, 32760, 40960,
	    "read here: citsjtu2020/LLM-Prof Model_Config.md"),
	GQA("Qwen3-30B-A3B", "Qwen/Qwen3-30B-A3B", 48, 0, 0, 32, 2048, 4, 128, 30530, 3300, 40960,
	    "read here: citsjtu2020/LLM-Prof Model_Config.md"),
	GQA("Qwen3-235B-A22B", "Qwen/Qwen3-235B-A22B", 94, 0, 0, 64, 4096, 4, 128, 235090, 22000,
	    40960, "from memory of the published config.json; NOT re-read here"),
	GQA("Yi-34B-200K", "01-ai/Yi-34B-200K", 60, 0, 0, 56, 7168, 8, 128, 34390, 34390, 200000,
	    "read here: huggingface.co/LoneStriker/Yi-34B-200K-6.0bpw-h6-exl2 and "
	    "TheBloke/Yi-34B-200K-GPTQ "
	    "config.json"),
	GQA("Mistral-7B-v0.1", "mistralai/Mistral-7B-v0.1", 32, 32, 4096, 32, 4096, 8, 128, 7240,
	    7240, 32768, "read here: huggingface.co/manu/mistral-7B-v0.1 params.json"),
	GQA("Mistral-Nemo-12B", "mistralai/Mistral-Nemo-Instruct-2407", 40, 0, 0, 32, 5120, 8, 128,
	    12250, 12250, 131072,
	    "read here: huggingface.co/riple-saanvi-lab/Saanvi-C0-12B and mgoin FP8-KV config.json "
	    "(max_position "
	    "131072 or 1024000 by revision)"),
	GQA("Mixtral-8x7B", "mistralai/Mixtral-8x7B-v0.1", 32, 0, 0, 32, 4096, 8, 128, 46700, 12900,
	    32768,
	    "read here: huggingface.co/klyrone/Chimera config.json; Habana-LLM-Viewer models.py"),
	GQA("Mixtral-8x22B", "mistralai/Mixtral-8x22B-v0.1", 56, 0, 0, 48, 6144, 8, 128, 140600,
	    39000, 65536,
	    "read here: huggingface.co/mistral-community/Mixtral-8x22B-v0.1 config.json"),
	MLA("DeepSeek-V2", "deepseek-ai/DeepSeek-V2", 60, 128, 5120, 576, 235700, 21000, 163840,
	    "read here: DeepSeek-V3 repo inference/configs/config_236B.json"),
	MLA_OF(FP8, "DeepSeek-V3/R1", "deepseek-ai/DeepSeek-V3", 61, 128, 7168, 576, 671000, 37000,
	       163840,
	       "read here: gitcode cann-recipes-train config.json; docs.vllm.ai deepseek_v3 "
	       "config"),
	MLA_OF(FP8, "Kimi-K2", "moonshotai/Kimi-K2-Instruct", 61, 64, 7168, 576, 1026000, 32000,
	       131072,
	       "read here: docs.nvidia.com megatron-bridge KimiK2Provider (61 layers, 7168, 64 "
	       "heads, 384 experts); "
	       "kv_lora 512 in huggingface.co/Edithai/aura-v1 (kimi_k2)"),
	MLA("GLM-5", "zai-org/GLM-5", 78, 64, 6144, 704, 0, 0, 202752,
	    "read here: kvcache-ai/Mooncake benchmarks/storage_benchmark_v1/layout/mla.py preset "
	    "glm5 (adds "
	    "index_head_dim 128 per token and layer)"),
	GQA("Gemma-2-9B", "google/gemma-2-9b-it", 42, 21, 4096, 16, 3584, 8, 256, 9240, 9240, 8192,
	    "read here: huggingface.co/hfhugs/gemma-2-9b-it config.json (alternating "
	    "local/global)"),
	GQA("Gemma-2-27B", "google/gemma-2-27b-it", 46, 23, 4096, 32, 4608, 16, 128, 27230, 27230,
	    8192,
	    "read here: huggingface.co/EdgerunnersArchive/google-gemma-2-27b-it-ortho config.json"),
	GQA("Gemma-3-27B", "google/gemma-3-27b-it", 62, 52, 1024, 32, 5376, 16, 128, 27430, 27430,
	    131072,
	    "from memory of the published config.json; NOT re-read here (5 local : 1 global)"),
	GQA("Phi-3-mini-4k", "microsoft/Phi-3-mini-4k-instruct", 32, 0, 0, 32, 3072, 32, 96, 3820,
	    3820, 4096,
	    "read here: huggingface.co/Alignment-Lab-AI/idfkphi4kiguess (duplicate of "
	    "microsoft/Phi-3-mini-4k-instruct) config.json"),
	GQA("Phi-3-medium-4k", "microsoft/Phi-3-medium-4k-instruct", 40, 0, 0, 40, 5120, 10, 128,
	    13960, 13960, 4096,
	    "read here: huggingface.co/microsoft/Phi-3-medium-4k-instruct config.json"),
	GQA("Phi-4", "microsoft/phi-4", 40, 0, 0, 40, 5120, 10, 128, 14660, 14660, 16384,
	    "read here: huggingface.co/microsoft/phi-4 config.json"),
	GQA_OF(MXFP4(13.76e9, 20900), "gpt-oss-20b", "openai/gpt-oss-20b", 24, 12, 128, 64, 2880, 8,
	       64, 20900, 3600, 131072,
	       "read here: huggingface.co/leeloolee/oss-math config.json (gpt-oss-20b fine-tune)"),
	GQA_OF(MXFP4(65.2e9, 116800), "gpt-oss-120b", "openai/gpt-oss-120b", 36, 18, 128, 64, 2880,
	       8, 64, 116800, 5100, 131072,
	       "read here: huggingface.co/GohaDAYN/Affine-A10 config.json (gpt-oss-120b shape)"),
	GQA("GLM-4.5", "zai-org/GLM-4.5", 92, 0, 0, 96, 5120, 8, 128, 355000, 32000, 131072,
	    "from memory of the published config.json; NOT re-read here (params read at "
	    "inference.readthedocs.io)"),
	GQA("GLM-4.5-Air", "zai-org/GLM-4.5-Air", 46, 0, 0, 96, 4096, 8, 128, 106000, 12000, 131072,
	    "read here: ollama.com MichelRosselli/GLM-4.5-Air gguf metadata (block_count 47 incl. "
	    "1 MTP layer)"),
	GQA("Command-R-v01", "CohereForAI/c4ai-command-r-v01", 40, 0, 0, 64, 8192, 64, 128, 34980,
	    34980, 131072,
	    "read here: huggingface.co/prince-canuma/c4ai-command-r-v01-4bit config.json"),
	GQA("Command-R-08-2024", "CohereForAI/c4ai-command-r-08-2024", 40, 0, 0, 64, 8192, 8, 128,
	    32300, 32300, 131072,
	    "read here: huggingface.co/unsloth/c4ai-command-r-08-2024 config.json"),
};
const size_t plan_model_count = sizeof(plan_models) / sizeof(plan_models[0]);

/* Models that are published under two names: the one in the table, and an alias. */
static const struct {
	const char *name, *alias;
} model_aliases[] = {{"DeepSeek-V3/R1", "DeepSeek-R1"}};

static const char *models_alias(const char *name)
{
	for (size_t i = 0; i < sizeof(model_aliases) / sizeof(model_aliases[0]); i++) {
		if (strcmp(model_aliases[i].name, name) == 0)
			return model_aliases[i].alias;
	}
	return NULL;
}

const char *plan_model_name(size_t row, unsigned which)
{
	const struct plan_model *model = &plan_models[row];

	switch (which) {
	case 0:
		return model->name;
	case 1:
		return model->hf_id;
	case 2:
		return strchr(model->hf_id, '/') + 1;
	case 3:
		return models_alias(model->name);
	default:
		return NULL;
	}
}

const struct plan_model *plan_model_find(const char *name)
{
	size_t row;

	return names_find(name, plan_model_name, plan_model_count, &row, 1) == 1 ? &plan_models[row]
										 : NULL;
}

uint64_t plan_model_elements(const struct plan_model *model)
{
	return model->latent_dim ? model->latent_dim
				 : 2 * (uint64_t)model->kv_heads * model->head_dim;
}

bool plan_model_weight_bytes(const struct plan_model *model, uint64_t *bytes)
{
	double product = (double)model->params * model->weight_bits / 8;

	if (!(product >= 0 && product < 0x1p63))
		return false;
	*bytes = (uint64_t)product;
	return true;
}
