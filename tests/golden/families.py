"""Tiny language models of every family, saved by Transformers: weights, logits, and 20 AdamW steps.

Each tests/golden/families/CASE/ is a model folder (config.json and weights) beside check.safetensors:
  input_ids, attention_mask, labels  int64 [4, 2, 12]   four batches; the first is padded on the left, the second on the right
  logits                             float32 [2, 2, 12, vocab]   of the first two batches, before training
  loss_items                         the third batch's loss with num_items_in_batch = 7
  losses                             float32 [20]   batches 0, 1, 2, 3, 0, ..., AdamW(lr 1e-3, eps 1e-6, weight decay 0.01)
  after.NAME                         weights after those steps, by their names in saved files

Regenerate: python tests/golden/families.py [CASE ...]   (needs torch, transformers >= 5 and safetensors)
"""
import json
import shutil
import sys
import tempfile
from pathlib import Path

import torch
import transformers as hf
from safetensors.torch import load_file, save_file

OUT = Path(__file__).parent / "families"
STEPS, BATCHES, ROWS, LENGTH, VOCAB = 20, 4, 2, 12, 64
SMALL = dict(vocab_size=VOCAB, hidden_size=16, intermediate_size=20, num_hidden_layers=2, num_attention_heads=4,
             num_key_value_heads=2, max_position_embeddings=64, bos_token_id=1, eos_token_id=2)
LLAMA3 = dict(rope_type="llama3", factor=4.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=16)
LONGROPE = dict(rope_type="longrope", short_factor=[1.1, 1.3], long_factor=[1.7, 4.5])


def older(config, rope_theta=None, rope_scaling=None, **more):
    """Transformers 4's spelling of a saved config."""
    config.pop("rope_parameters", None)
    config["torch_dtype"] = config.pop("dtype", "float32")
    if rope_theta is not None:
        config["rope_theta"] = rope_theta
    if rope_scaling is not None:
        config["rope_scaling"] = rope_scaling
    config.update(more)
    return config


def cases():
    gemma = {**SMALL, "head_dim": 8, "pad_token_id": 0, "query_pre_attn_scalar": 24, "sliding_window": 5}
    moe = {**SMALL, "head_dim": 8, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 12}
    yield ("llama_llama3", hf.LlamaConfig(**SMALL, head_dim=8, attention_bias=True, mlp_bias=True, pad_token_id=3,
                                          rope_parameters={"rope_theta": 500.0, **LLAMA3}),
           dict(config=lambda c: older(c, 500.0, LLAMA3)))
    yield ("llama_linear", hf.LlamaConfig(**SMALL, tie_word_embeddings=True,
                                          rope_parameters={"rope_type": "linear", "factor": 3.0, "rope_theta": 1000.0}), dict(bin=True))
    yield ("llama_dynamic", hf.LlamaConfig(**{**SMALL, "max_position_embeddings": 8}, hidden_act="gelu",
                                           rope_parameters={"rope_type": "dynamic", "factor": 2.0, "rope_theta": 100.0}),
           dict(config=lambda c: older(c, 100.0, {"type": "dynamic", "factor": 2.0})))
    yield ("llama_yarn", hf.LlamaConfig(**SMALL, head_dim=12, rope_parameters={
        "rope_type": "yarn", "factor": 4.0, "rope_theta": 1000.0, "original_max_position_embeddings": 16, "mscale": 0.7, "mscale_all_dim": 1.4}), {})
    yield ("mistral", hf.MistralConfig(**SMALL, head_dim=6, sliding_window=5), {})
    yield ("qwen2", hf.Qwen2Config(**{**SMALL, "num_hidden_layers": 3}, use_sliding_window=True, sliding_window=4, max_window_layers=1,
                                   tie_word_embeddings=True), dict(shard="12KB"))
    yield ("qwen2_older", hf.Qwen2Config(**SMALL, rope_parameters={"rope_type": "default", "rope_theta": 1e6}),
           dict(config=lambda c: (c.pop("layer_types"), older(c, 1e6, use_sliding_window=False, sliding_window=4, max_window_layers=1))[1]))
    yield ("qwen3", hf.Qwen3Config(**SMALL, head_dim=8, attention_bias=True, use_sliding_window=True, sliding_window=4,
                                   layer_types=["sliding_attention", "full_attention"]), {})
    yield ("phi3_longrope", hf.Phi3Config(**SMALL, pad_token_id=None, original_max_position_embeddings=8, sliding_window=7,
                                          rope_parameters={**LONGROPE, "short_factor": [1.1], "long_factor": [4.5], "rope_theta": 100.0,
                                                           "partial_rotary_factor": 0.5}), {})
    yield ("phi3_older", hf.Phi3Config(**SMALL, pad_token_id=None, original_max_position_embeddings=16, tie_word_embeddings=True,
                                       rope_parameters={**LONGROPE, "rope_theta": 100.0}),
           dict(config=lambda c: older(c, 100.0, {**{k: v for k, v in LONGROPE.items() if k != "rope_type"}, "type": "longrope"},
                                       original_max_position_embeddings=16, embd_pdrop=0.0)))
    gpt = dict(vocab_size=VOCAB, n_embd=16, n_layer=2, n_head=4, n_positions=32, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
               bos_token_id=1, eos_token_id=2)
    yield ("gpt2", hf.GPT2Config(**gpt, n_inner=24, scale_attn_by_inverse_layer_idx=True), {})
    yield ("gpt2_untied", hf.GPT2Config(**gpt, activation_function="relu", tie_word_embeddings=False, scale_attn_weights=False), {})
    yield ("gemma2", hf.Gemma2Config(**{**gemma, "num_hidden_layers": 3}, attn_logit_softcapping=2.0, final_logit_softcapping=3.0), {})
    yield ("gemma3", hf.Gemma3TextConfig(**{**gemma, "num_hidden_layers": 3}, layer_types=["sliding_attention", "sliding_attention", "full_attention"],
                                         rope_parameters={"sliding_attention": {"rope_type": "default", "rope_theta": 100.0},
                                                          "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 10000.0}}), {})
    yield ("gemma3_older", hf.Gemma3TextConfig(**gemma, final_logit_softcapping=4.0, layer_types=["sliding_attention", "full_attention"],
                                               rope_parameters={"sliding_attention": {"rope_type": "default", "rope_theta": 100.0},
                                                                "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 5000.0}}),
           dict(config=lambda c: (c.pop("layer_types"), older(c, 5000.0, {"rope_type": "linear", "factor": 8.0}, rope_local_base_freq=100.0,
                                                              sliding_window_pattern=2))[1]))
    vision = dict(hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2, image_size=16, patch_size=8, model_type="siglip_vision_model")
    yield ("gemma3_multimodal", hf.Gemma3Config(text_config=hf.Gemma3TextConfig(**gemma), vision_config=vision, mm_tokens_per_image=4), {})
    yield ("olmo2", hf.Olmo2Config(**SMALL, pad_token_id=None, rope_parameters={"rope_type": "default", "rope_theta": 500.0}), {})
    yield ("olmo3", hf.Olmo3Config(**{**SMALL, "num_hidden_layers": 3}, pad_token_id=None, sliding_window=4,
                                   layer_types=["sliding_attention", "sliding_attention", "full_attention"],
                                   rope_parameters={"sliding_attention": {"rope_type": "default", "rope_theta": 500.0},
                                                    "full_attention": {"rope_type": "yarn", "factor": 4.0, "rope_theta": 500.0,
                                                                       "original_max_position_embeddings": 16}}), {})
    yield ("olmo3_older", hf.Olmo3Config(**{**SMALL, "num_hidden_layers": 4}, pad_token_id=None, sliding_window=4,
                                         rope_parameters={"sliding_attention": {"rope_type": "default", "rope_theta": 500000.0},
                                                          "full_attention": {"rope_type": "yarn", "factor": 4.0, "rope_theta": 500000.0,
                                                                             "original_max_position_embeddings": 16}}),
           dict(config=lambda c: (c.pop("layer_types"), older(c, 500000.0, {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}))[1]))
    yield ("qwen3_moe", hf.Qwen3MoeConfig(**{**moe, "num_hidden_layers": 3}, norm_topk_prob=True, mlp_only_layers=[1]), {})
    yield ("qwen3_moe_fused", hf.Qwen3MoeConfig(**moe, norm_topk_prob=False, decoder_sparse_step=2, use_sliding_window=True, sliding_window=5), dict(fused=True))


def randomise(model, generator):
    """Weights away from their neutral values: norms, biases and heads all count."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.dim() == 1:
                base = 0.0 if name.endswith("bias") or "gemma" in type(model).__name__.lower() else 1.0
                parameter.copy_(base + 0.2 * noise)
            else:
                parameter.copy_(0.3 * noise)


def batches(generator):
    ids = torch.randint(4, VOCAB, (BATCHES, ROWS, LENGTH), generator=generator)
    ids[torch.rand(ids.shape, generator=generator) < 0.1] = 3  # where llama_llama3 has its padding row
    mask = torch.ones_like(ids)
    mask[0, 0, :3] = 0
    mask[1, 1, -4:] = 0
    labels = ids.clone()
    labels[torch.rand(ids.shape, generator=generator) < 0.2] = -100
    labels[mask == 0] = -100
    labels[0, 0, 3] = -100  # predicted from padding, whose hidden states depend on the attention implementation
    return ids, mask, labels


def saved_weights(model, fused=False):
    if fused:
        return {k: v.clone() for k, v in model.state_dict().items()}
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        return {k: v.clone() for k, v in load_file(f"{folder}/model.safetensors").items()}


def load(folder, multimodal):
    cls = hf.Gemma3ForConditionalGeneration if multimodal else hf.AutoModelForCausalLM
    return cls.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32)


def make(name, config, options):
    folder = OUT / name
    shutil.rmtree(folder, ignore_errors=True)
    generator = torch.Generator().manual_seed(sum(map(ord, name)))
    multimodal = name.endswith("multimodal")
    torch.manual_seed(0)
    built = hf.Gemma3ForConditionalGeneration(config) if multimodal else hf.AutoModelForCausalLM.from_config(config)
    randomise(built, generator)
    built.save_pretrained(folder, **({"max_shard_size": options["shard"]} if "shard" in options else {}))
    (folder / "generation_config.json").unlink(missing_ok=True)
    if options.get("fused"):
        save_file(saved_weights(built, fused=True), folder / "model.safetensors", metadata={"format": "pt"})
    if options.get("bin"):
        torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    ids, mask, labels = batches(generator)
    model = load(folder, multimodal).eval()
    with torch.no_grad():
        logits = torch.stack([model(input_ids=ids[i], attention_mask=mask[i]).logits for i in range(2)])
        kwargs = {} if multimodal else {"num_items_in_batch": 7}
        loss_items = model(input_ids=ids[2], attention_mask=mask[2], labels=labels[2], **kwargs).loss
    if options.get("bin"):
        (folder / "model.safetensors").unlink()
    if "config" in options:
        path = folder / "config.json"
        path.write_text(json.dumps(options["config"](json.loads(path.read_text())), indent=2) + "\n")
        again = load(folder, multimodal).eval()(input_ids=ids[0], attention_mask=mask[0]).logits
        assert torch.equal(again, logits[0]), f"{name}: the older spelling means something else"
    check = {"input_ids": ids, "attention_mask": mask, "labels": labels, "logits": logits, "loss_items": loss_items}
    if not multimodal:
        model.train()
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, eps=1e-6, weight_decay=0.01)
        losses = []
        for step in range(STEPS):
            i = step % BATCHES
            loss = model(input_ids=ids[i], attention_mask=mask[i], labels=labels[i]).loss
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.item())
        check["losses"] = torch.tensor(losses)
        check.update({f"after.{k}": v for k, v in saved_weights(model).items()})
    save_file({k: v.contiguous() for k, v in check.items()}, folder / "check.safetensors")
    size = sum(f.stat().st_size for f in folder.iterdir())
    print(f"{name}: {size / 1024:.0f} KiB, loss {check['losses'][0]:.3f} -> {check['losses'][-1]:.3f}" if not multimodal else f"{name}: {size / 1024:.0f} KiB")


def main():
    wanted = set(sys.argv[1:])
    OUT.mkdir(exist_ok=True)
    for name, config, options in cases():
        if not wanted or name in wanted:
            make(name, config, options)


if __name__ == "__main__":
    main()
