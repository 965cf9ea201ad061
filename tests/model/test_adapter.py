"""Low-rank adapters: nothing changes at first, they alone are trained and kept, and other programs read them."""

import copy
import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from dpo_lab.errors import UserError
from dpo_lab.loss.ipo import ipo
from dpo_lab.model.adapter import Adapter
from dpo_lab.model.causal_lm import CausalLM, causal_lm
from dpo_lab.model.tiny import tiny
from dpo_lab.module import PreferenceModule
from dpo_lab.needs import Objective, Term
from dpo_lab.optimizer.adamw import adamw
from dpo_lab.reference.frozen import frozen
from dpo_lab.run.checkpoint import load
from dpo_lab.types import Encoded
from tests.model.architectures import write_model
from tests.small import small_loader, small_policy, train_module

GROUPS = [Encoded((1, 20, 31), ((40, 2), (41, 42, 43, 2))), Encoded((1,), ((5, 6),))]
OBJECTIVE = Objective((Term("ipo", ipo),))

small = partial(tiny, ["a text"], hidden_size=16, num_layers=1, num_heads=2, vocab_size=300)


@pytest.fixture
def base(model_folder: Callable[[str], Path]) -> Path:
    return model_folder("llama")


def adapter_of(policy: CausalLM) -> Adapter:
    assert policy.adapter is not None
    return policy.adapter


def disturb(policy: CausalLM, seed: int = 7) -> CausalLM:
    """`policy` with an adapter that changes its numbers."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in adapter_of(policy).tensors().values():
            tensor.copy_(torch.randn(tensor.shape, generator=generator) * 0.3)
    return policy


@torch.no_grad()
def score(policy: CausalLM) -> Tensor:
    return policy.eval().log_prob(policy.collate(GROUPS)).token


@torch.no_grad()
def logits(model: Any) -> Tensor:
    return model.eval()(input_ids=torch.tensor([[1, 20, 31, 40, 2]])).logits


@pytest.mark.parametrize("name", ["llama", "qwen3", "gemma2", "gpt2", "xglm", "mixtral"])
def test_a_fresh_adapter_changes_nothing_and_is_trained_alone(name: str, model_folder: Callable[[str], Path]):
    plain = causal_lm(path=str(model_folder(name)))
    policy = causal_lm(path=str(model_folder(name)), lora_rank=2)
    torch.testing.assert_close(score(policy), score(plain), rtol=0, atol=1e-6)
    assert adapter_of(policy).is_zero()
    assert adapter_of(policy).base_fingerprint() == plain.fingerprint() != policy.fingerprint()
    trained = [name for name, tensor in policy.named_parameters() if tensor.requires_grad]
    assert len(trained) == len(adapter_of(policy).tensors()) >= 4
    assert all("lora_" in name for name in trained)
    assert not torch.equal(score(disturb(policy)), score(plain))
    assert not adapter_of(policy).is_zero()
    assert adapter_of(policy).base_fingerprint() == plain.fingerprint()


def test_the_seed_of_the_model_draws_the_adapter(base: Path):
    state = torch.get_rng_state()
    first, again, other = (causal_lm(seed, path=str(base), lora_rank=2) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    assert first.fingerprint() == again.fingerprint() != other.fingerprint()
    apart = causal_lm(1, adapter_seed=2, path=str(base), lora_rank=2)
    assert apart.fingerprint() == other.fingerprint()
    one, two = small(1, adapter_seed=2, lora_rank=2), small(1, adapter_seed=3, lora_rank=2)
    assert adapter_of(one).base_fingerprint() == adapter_of(two).base_fingerprint() == small(1).fingerprint()
    assert one.fingerprint() != two.fingerprint()


def test_every_knob_acts(base: Path):
    policy = causal_lm(path=str(base), lora_rank=3)
    shapes = {tuple(t.shape) for name, t in adapter_of(policy).tensors().items() if "lora_A" in name}
    assert shapes == {(3, 16)}
    assert {name.split(".")[4] for name in adapter_of(policy).tensors()} == {"q_proj", "v_proj"}
    chosen = causal_lm(path=str(base), lora_rank=3, lora_target=["k_proj"])
    assert {name.split(".")[4] for name in adapter_of(chosen).tensors()} == {"k_proj"}
    everywhere = causal_lm(path=str(base), lora_rank=3, lora_target="all-linear")
    assert len(adapter_of(everywhere).tensors()) == 2 * 7 * 2
    # Twice the rank is what alpha stands at when nobody says it.
    scores = [score(disturb(causal_lm(path=str(base), lora_rank=3, lora_alpha=alpha))) for alpha in (None, 6.0, 1.0)]
    assert torch.equal(scores[0], scores[1]) and not torch.equal(scores[0], scores[2])
    noisy = disturb(causal_lm(path=str(base), lora_rank=3, lora_dropout=0.5)).train()
    inputs = noisy.collate(GROUPS)
    assert not torch.equal(noisy.log_prob(inputs).token, noisy.log_prob(inputs).token)
    assert noisy.attention != "shared", "a shared prompt would share its noise"


def test_knobs_that_could_not_act_are_refused(base: Path, tmp_path: Path):
    for knob in ({"lora_alpha": 1.0}, {"lora_dropout": 0.1}, {"lora_target": "q_proj"}, {"lora_export": "adapter"}):
        with pytest.raises(UserError, match=f"model.{next(iter(knob))}: there is no adapter.*lora_rank"):
            causal_lm(path=str(base), **knob)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="lora_alpha: there is no adapter"):
        small(0, lora_alpha=1.0)
    causal_lm(path=str(base), lora_rank=2, lora_export="adapter").export(tmp_path / "adapter")
    with pytest.raises(UserError, match=r"model.lora_rank: the adapter in .* has its own"):
        causal_lm(path=str(tmp_path / "adapter"), lora_rank=2)


def test_targets_that_are_not_there_are_refused(base: Path):
    with pytest.raises(UserError, match=r"model.lora_target=\['nope'\]"):
        causal_lm(path=str(base), lora_rank=2, lora_target=["nope"])
    with pytest.raises(UserError, match="embedding and the output head take no adapter"):
        causal_lm(path=str(base), lora_rank=2, lora_target=["lm_head"])


def test_without_peft_it_is_said_what_to_install(base: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(UserError, match=r"needs peft.*pip install 'dpo-lab\[peft\]'"):
        causal_lm(path=str(base), lora_rank=2)
    assert causal_lm(path=str(base)).adapter is None


@pytest.mark.parametrize("name", ["llama", "gpt2", "mixtral"])
def test_a_merged_export_is_a_plain_model(name: str, model_folder: Callable[[str], Path], tmp_path: Path):
    from transformers import AutoModelForCausalLM

    policy = disturb(causal_lm(path=str(model_folder(name)), lora_rank=2))
    before = policy.fingerprint()
    policy.export(tmp_path)
    assert policy.fingerprint() == before
    assert not (tmp_path / "adapter_config.json").exists()
    loader: Any = AutoModelForCausalLM
    plain, info = loader.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    torch.testing.assert_close(logits(plain), logits(policy.model), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(score(causal_lm(path=str(tmp_path))), score(policy), rtol=1e-5, atol=1e-5)


def test_an_adapter_alone_is_read_by_peft_and_trained_further(base: Path, tmp_path: Path):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    policy = disturb(causal_lm(path=str(base), lora_rank=2, lora_export="adapter"))
    policy.export(tmp_path)
    assert not list(tmp_path.glob("model*.safetensors"))
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), tmp_path)
    torch.testing.assert_close(logits(model), logits(policy.model), rtol=1e-6, atol=1e-6)
    again = causal_lm(path=str(tmp_path))
    assert again.fingerprint() == policy.fingerprint()
    assert again.encoding_fingerprint() == policy.encoding_fingerprint()
    assert torch.equal(score(again), score(policy))
    assert adapter_of(again).is_trained and not adapter_of(policy).is_trained
    assert all(tensor.requires_grad for tensor in adapter_of(again).tensors().values())
    noisy = causal_lm(path=str(tmp_path), lora_dropout=0.5)
    assert adapter_of(noisy).dropout == 0.5
    other = causal_lm(path=str(base)).load_other(str(tmp_path))
    assert other.fingerprint() == policy.fingerprint()


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("peft_type", "IA3", "only LoRA"),
        ("modules_to_save", ["lm_head"], "modules_to_save"),
        ("bias", "all", "bias"),
        ("use_dora", True, "use_dora"),
        ("base_model_name_or_path", None, "names no base model"),
    ],
)
def test_other_adapters_are_refused(key: str, value: Any, message: str, base: Path, tmp_path: Path):
    causal_lm(path=str(base), lora_rank=2, lora_export="adapter").export(tmp_path)
    file = tmp_path / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), key: value}))
    with pytest.raises(UserError, match=message):
        causal_lm(path=str(tmp_path))


def test_an_adapter_with_other_names_is_refused(base: Path, tmp_path: Path):
    """peft would train factors that it draws itself."""
    causal_lm(path=str(base), lora_rank=2, lora_export="adapter").export(tmp_path)
    file = tmp_path / "adapter_model.safetensors"
    save_file({f"other.{name}": factor for name, factor in load_file(file).items()}, file)
    with pytest.raises(UserError, match=r"it lacks factors .*: base_model.*; it has others: other\.base_model"):
        causal_lm(path=str(tmp_path))


def test_weights_of_a_start_go_below_the_adapter(base: Path, tmp_path: Path):
    """The policy is then what was exported, to rounding, and its adapter says nothing."""
    disturbed = disturb(causal_lm(path=str(base), lora_rank=2))
    disturbed.export(tmp_path / "start")
    policy = disturb(causal_lm(path=str(base), lora_rank=2))
    policy.load_weights(tmp_path / "start")
    assert adapter_of(policy).is_zero()
    assert adapter_of(policy).base_fingerprint() == causal_lm(path=str(tmp_path / "start")).fingerprint()
    torch.testing.assert_close(score(policy), score(disturbed), rtol=1e-5, atol=1e-5)
    alone = causal_lm(path=str(base), lora_rank=2, lora_export="adapter")
    with pytest.raises(UserError, match="start=none"):
        alone.load_weights(tmp_path / "start")


def test_below_the_adapter_stands_a_plain_policy(base: Path, tmp_path: Path):
    """Its fingerprint, its names, its training; and afterwards the adapter is back, on the weights as they are now."""
    plain, policy = causal_lm(path=str(base)), disturb(causal_lm(path=str(base), lora_rank=2))
    names, own = list(policy.state_dict()), adapter_of(policy)
    kept = {name: tensor.detach().clone() for name, tensor in own.tensors().items()}
    with policy.below_adapter():
        assert policy.adapter is None
        assert policy.fingerprint() == plain.fingerprint()
        assert list(policy.state_dict()) == list(plain.state_dict())
        assert all(tensor.requires_grad for tensor in policy.parameters())
        assert torch.equal(score(policy), score(plain))
        with torch.no_grad():
            for tensor in policy.parameters():
                tensor.mul_(1.1)
        policy.export(tmp_path)
        policy.load_weights(tmp_path)
    assert policy.adapter is own
    assert list(policy.state_dict()) == names
    assert {name for name, tensor in policy.named_parameters() if tensor.requires_grad} == {
        f"model.{name}" for name in own.tensors()
    }
    assert all(torch.equal(tensor, kept[name]) for name, tensor in own.tensors().items())
    assert own.base_fingerprint() == causal_lm(path=str(tmp_path)).fingerprint() != plain.fingerprint()
    with plain.below_adapter():
        assert plain.adapter is None


def test_a_copy_is_independent(base: Path):
    policy = disturb(causal_lm(path=str(base), lora_rank=2))
    twin = copy.deepcopy(policy)
    before = score(twin)
    disturb(policy, seed=8)
    with adapter_of(policy).off():
        assert torch.equal(score(twin), before)
    assert not torch.equal(score(policy), before)


def train(num_steps: int, checkpoint: Path | None = None, seed: int = 1) -> PreferenceModule:
    policy = small_lora(seed)
    loader = small_loader(policy, 16, global_batch_size=4, micro_batch_size=2)
    factory = partial(adamw, num_steps=4, lr=1e-2)
    reference = frozen(small_policy(seed=2))
    return train_module(
        policy, reference, OBJECTIVE, loader, num_steps=num_steps, make_optimizer=factory, checkpoint=checkpoint
    )


def small_lora(seed: int = 1, **knobs: Any) -> CausalLM:
    """The policy of `small_policy` with an adapter."""
    from dpo_lab.model.lora import LoraSettings, add_adapter

    plain = small_policy(seed)
    adapter = add_adapter(plain.model, LoraSettings(rank=2, target="all-linear", **knobs), seed, base=None)
    return CausalLM(
        plain.model, plain.encoder.tokenizer, dtype="float32", dropout=0.0, exported_dropout={}, adapter=adapter
    )


def test_checkpoints_hold_the_adapter_alone_and_resume_is_exact(tmp_path: Path):
    whole = train(4)
    train(2).trainer.save_checkpoint(tmp_path / "half.ckpt")
    checkpoint = load(tmp_path / "half.ckpt")
    saved = {f"policy.model.{name}" for name in adapter_of(small_lora()).tensors()}
    assert set(checkpoint["state_dict"]) == saved
    num_moments = sum(t.numel() for state in checkpoint["optimizer_states"] for t in moments(state))
    assert num_moments == 2 * sum(tensor.numel() for tensor in checkpoint["state_dict"].values())
    resumed = train(4, tmp_path / "half.ckpt")
    for name, tensor in whole.policy.state_dict().items():
        assert torch.equal(resumed.policy.state_dict()[name], tensor)
    assert adapter_of(whole.policy).base_fingerprint() == small_policy(seed=1).fingerprint()  # type: ignore[arg-type]
    with pytest.raises(UserError, match="another base model"):
        train(4, tmp_path / "half.ckpt", seed=3)


def moments(state: dict[str, Any]) -> list[Tensor]:
    return [t for each in state["state"].values() for name, t in each.items() if name.startswith("exp_avg")]


def test_a_whole_model_is_saved_whole(tmp_path: Path):
    policy = small_policy(seed=1)
    module = train_module(policy, None, Objective((Term("ipo", ipo),)), small_loader(policy), num_steps=0)
    checkpoint: dict[str, Any] = {"state_dict": module.state_dict()}
    module.on_save_checkpoint(checkpoint)
    assert set(checkpoint["state_dict"]) == set(module.state_dict())
    assert checkpoint["untrained_weights"] is None


def test_a_base_in_bfloat16_has_an_adapter_in_float32(tmp_path: Path):
    folder = write_model(tmp_path / "base", "llama", torch.bfloat16)
    policy = disturb(causal_lm(path=str(folder), dtype="bfloat16", lora_rank=2))
    assert {tensor.dtype for tensor in adapter_of(policy).tensors().values()} == {torch.float32}
    policy.export(tmp_path / "merged")
    merged = causal_lm(path=str(tmp_path / "merged"), dtype="bfloat16")
    torch.testing.assert_close(score(merged), score(policy), rtol=0.05, atol=0.05)
