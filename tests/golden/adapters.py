"""Golden values for adapters, quantised weights and 8-bit optimizer states from PEFT, Transformers and bitsandbytes.

Regenerate from the repository's root, with torch 2.11.0, transformers 5.23.0, peft 0.21.2 and bitsandbytes 0.50.2 (its CPU
kernels) installed:
    python tests/golden/adapters.py
It writes tests/golden/adapters/: for each case a base model, the adapter before training, and case.json with the losses of 20
updates, logits and some weights afterwards; blockwise.safetensors and eight_bit_adamw.safetensors.
"""

import json
import pathlib
import shutil

import bitsandbytes as bnb
import bitsandbytes.functional as F
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

HERE = pathlib.Path(__file__).parent / "adapters"
torch.set_num_threads(1)
STEPS = 20
VOCAB = 48


def llama(tied):
    torch.manual_seed(3)
    return LlamaForCausalLM(LlamaConfig(
        vocab_size=VOCAB, hidden_size=24, intermediate_size=40, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        head_dim=8, max_position_embeddings=64, tie_word_embeddings=tied, initializer_range=0.2))


def gpt2():
    torch.manual_seed(4)
    return GPT2LMHeadModel(GPT2Config(
        vocab_size=VOCAB, n_embd=24, n_layer=2, n_head=4, n_positions=64, resid_pdrop=0, embd_pdrop=0, attn_pdrop=0,
        initializer_range=0.2))


CASES = {
    "llama_default": (llama(True), LoraConfig(r=4, lora_alpha=8, task_type="CAUSAL_LM")),
    "llama_all": (llama(False), LoraConfig(
        r=4, lora_alpha=6, target_modules="all-linear", use_rslora=True, modules_to_save=["lm_head"], task_type="CAUSAL_LM",
        exclude_modules=r".*layers\.1\.mlp\..*", rank_pattern={"q_proj": 2}, alpha_pattern={"layers.0.self_attn.k_proj": 3})),
    "gpt2_bias": (gpt2(), LoraConfig(
        r=3, lora_alpha=3, target_modules=["c_attn", "mlp.c_proj"], bias="lora_only", fan_in_fan_out=True, task_type="CAUSAL_LM")),
    "gpt2_all_biases": (gpt2(), LoraConfig(
        r=2, lora_alpha=3, bias="all", fan_in_fan_out=True, init_lora_weights=False, task_type="CAUSAL_LM")),
}


def batch(step):
    """Ids and labels that a few integers describe: [2, 12], the second sample padded."""
    ids = torch.tensor([[(7 * step + 5 * i * (i + row + 1) + 11 * row) % VOCAB for i in range(12)] for row in range(2)])
    mask = torch.ones_like(ids)
    mask[1, 9:] = 0
    labels = ids.masked_fill(mask == 0, -100)
    labels[0, :3] = -100
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def adapters():
    for name, (model, config) in CASES.items():
        folder = HERE / name
        model.save_pretrained(folder / "base")
        (folder / "base" / "generation_config.json").unlink(missing_ok=True)
        torch.manual_seed(5)
        peft_model = get_peft_model(model, config)
        peft_model.save_pretrained(folder / "start")
        (folder / "start" / "README.md").unlink()
        peft_model.train()
        trained = [n.replace(".default", "").replace("base_model.model.", "").replace(".base_layer", "").replace(".modules_to_save", "")
                   for n, p in peft_model.named_parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW([p for p in peft_model.parameters() if p.requires_grad], lr=5e-3, eps=1e-6, weight_decay=0.01,
                                      foreach=False)
        losses = []
        for step in range(STEPS):
            loss = peft_model(**batch(step)).loss
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.item())
        peft_model.save_pretrained(folder / "finished")
        (folder / "finished" / "README.md").unlink()
        (folder / "finished" / "adapter_config.json").unlink()
        peft_model.eval()
        with torch.no_grad():
            logits = peft_model(input_ids=batch(0)["input_ids"][:1]).logits[0, -1].tolist()
        merged = peft_model.merge_and_unload()
        save_file({k: v.contiguous() for k, v in merged.state_dict().items() if "layers.0.self_attn.q_proj" in k or "h.0.attn.c_attn" in k},
                  folder / "merged.safetensors")
        (folder / "case.json").write_text(json.dumps({"losses": losses, "logits": logits, "trained": sorted(trained)}) + "\n")


def blockwise():
    torch.manual_seed(6)
    out = {}
    weight = torch.randn(20, 36)  # 720 elements: the last block is short
    weight[3] *= 40
    weight[5, :] = 0
    out["weight"] = weight
    for kind in ("nf4", "fp4"):
        codes, state = F.quantize_4bit(weight, blocksize=64, quant_type=kind)
        out[f"{kind}.codes"], out[f"{kind}.absmax"] = codes.flatten(), state.absmax
        out[f"{kind}.dense"] = F.dequantize_4bit(codes, state)
        half, half_state = F.quantize_4bit(weight.bfloat16(), blocksize=64, quant_type=kind)
        out[f"{kind}.bf16.codes"], out[f"{kind}.bf16.dense"] = half.flatten(), F.dequantize_4bit(half, half_state)
    large = torch.randn(300, 64) * torch.rand(300, 1)  # 300 blocks: two of the nested kind
    large = large.bfloat16().float()  # as it is stored
    out["nested.weight"] = large.bfloat16()
    codes, state = F.quantize_4bit(large, blocksize=64, quant_type="nf4", compress_statistics=True)
    out["nested.absmax_codes"], out["nested.absmax"], out["nested.offset"] = state.absmax, state.state2.absmax, state.offset.reshape(1)
    out["nested.dense"] = F.dequantize_4bit(codes, state).bfloat16()
    out["map.signed"], out["map.unsigned"] = F.create_dynamic_map(signed=True), F.create_dynamic_map(signed=False)
    save_file({k: v.contiguous().clone() for k, v in out.items()}, HERE / "blockwise.safetensors")


def eight_bit_adamw():
    out = {}
    for dtype in (torch.float32, torch.bfloat16):
        name = str(dtype).removeprefix("torch.")
        generator = torch.Generator().manual_seed(7)
        start = torch.randn(70, 60, generator=generator)
        gradients = torch.randn(6, 70, 60, generator=generator) * (0.5 + torch.rand(70, 1, generator=generator))
        gradients = gradients.bfloat16().float()  # as they are stored
        small = torch.randn(9, generator=generator)
        parameters = [torch.nn.Parameter(v.to(dtype).clone()) for v in (start, small)]
        optimizer = bnb.optim.AdamW8bit(parameters, lr=1e-2, betas=(0.9, 0.99), eps=1e-8, weight_decay=0.1)
        for step in range(6):
            parameters[0].grad = gradients[step].to(dtype)
            parameters[1].grad = gradients[step, 0, :9].to(dtype)
            optimizer.step()
        state = [optimizer.state[p] for p in parameters]
        out |= {f"{name}.parameter": parameters[0].detach(), f"{name}.small": parameters[1].detach()}
        out |= {f"{name}.{key}": state[0][key] for key in ("state1", "state2", "absmax1", "absmax2")}
        out |= {f"{name}.small.{key}": state[1][key] for key in ("state1", "state2")}
    out |= {"start": start, "small": small, "gradients": gradients.bfloat16()}
    save_file({k: v.contiguous().clone() for k, v in out.items()}, HERE / "eight_bit_adamw.safetensors")


if __name__ == "__main__":
    shutil.rmtree(HERE, ignore_errors=True)
    HERE.mkdir()
    adapters()
    blockwise()
    eight_bit_adamw()
