import pytest
import torch
from torch import nn

from dpo_lab.errors import UserError
from dpo_lab.model.tiny import tiny
from dpo_lab.optimizer.adamw import adamw


class Small(nn.Module):
    """A matrix, a bias, a norm, and a tensor that is not trained."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(2, 2)
        self.norm = nn.LayerNorm(2)
        self.frozen = nn.Parameter(torch.ones(2, 2), requires_grad=False)


def decayed(model: nn.Module) -> dict[str, bool]:
    """Name of every tensor that is updated, and whether it is decayed."""
    optimizer, _ = adamw(model, 10, weight_decay=0.1)
    names = {id(tensor): name for name, tensor in model.named_parameters()}
    found = [(names[id(t)], group["weight_decay"] > 0) for group in optimizer.param_groups for t in group["params"]]
    assert len(found) == len(dict(found)), "a tensor stands in two groups"
    return dict(found)


def test_norms_and_biases_are_not_decayed():
    expected = {"linear.weight": True, "linear.bias": False, "norm.weight": False, "norm.bias": False}
    assert decayed(Small()) == expected


def test_every_trainable_tensor_of_a_model_stands_in_one_group():
    """Also where the embedding is the output matrix as well."""
    model = tiny(["a text"], 0, hidden_size=8, num_layers=1, num_heads=2, vocab_size=260)
    found = decayed(model)
    assert set(found) == {name for name, _ in model.named_parameters()}
    assert {name for name, is_decayed in found.items() if not is_decayed} == {n for n in found if "norm" in n}


@pytest.mark.parametrize("fused", [True, False])
def test_first_update_by_hand(fused: bool):
    """Gradient 2 for all: Adam's first step is lr * g / (|g| + eps) = 0.1, after a decay by lr * 0.5 = 5 %.

    A weight of 1 becomes 0.95 - 0.1 = 0.85; a bias of 1, not decayed, 0.9; what is frozen stays.
    """
    model = Small()
    for tensor in model.parameters():
        nn.init.ones_(tensor)
        tensor.grad = torch.full_like(tensor, 2.0) if tensor.requires_grad else None
    optimizer, _ = adamw(model, 10, lr=0.1, weight_decay=0.5, fused=fused)
    optimizer.step()
    assert model.linear.weight.tolist()[0] == pytest.approx([0.85, 0.85])
    assert model.linear.bias.tolist() == pytest.approx([0.9, 0.9])
    assert model.norm.weight.tolist() == pytest.approx([0.9, 0.9])
    assert model.frozen.tolist() == [[1.0, 1.0], [1.0, 1.0]]


def test_fused_is_what_torch_has_for_the_device(monkeypatch: pytest.MonkeyPatch):
    """On the CPU it has one; on a device without, null does without, and true is refused."""
    assert adamw(Small(), 10)[0].param_groups[0]["fused"]
    assert not adamw(Small().to("meta"), 10)[0].param_groups[0]["fused"]
    with pytest.raises(UserError, match=r"optimizer.fused: torch has no fused AdamW for this device"):
        adamw(Small().to("meta"), 10, fused=True)


def test_fused_and_plain_updates_are_the_same_numbers():
    """Twenty updates on gradients that change: 1e-5 relative of what the weights moved."""
    ends = []
    for fused in (True, False):
        generator = torch.Generator().manual_seed(0)
        model = Small()
        for tensor in model.parameters():
            nn.init.ones_(tensor)
        optimizer, scheduler = adamw(model, 20, lr=0.01, weight_decay=0.1, schedule="cosine", fused=fused)
        for _ in range(20):
            for tensor in model.parameters():
                tensor.grad = torch.randn(tensor.shape, generator=generator) if tensor.requires_grad else None
            optimizer.step()
            scheduler.step()
        ends.append(torch.cat([tensor.detach().flatten() for tensor in model.parameters()]))
    assert float((ends[0] - 1).abs().max()) > 1e-2
    assert float((ends[0] - ends[1]).norm()) <= 1e-5 * float((ends[0] - 1).norm())


def test_knobs_reach_the_optimizer():
    optimizer, _ = adamw(Small(), 10, lr=0.3, weight_decay=0.2, beta1=0.8, beta2=0.95, eps=1e-6, fused=False)
    group = optimizer.param_groups[0]
    assert (group["lr"], group["weight_decay"], group["betas"], group["eps"]) == (0.3, 0.2, (0.8, 0.95), 1e-6)
    assert not group["fused"]


def test_every_group_follows_the_schedule():
    """Warm-up over two updates, then linearly down over four."""
    optimizer, scheduler = adamw(Small(), 6, lr=0.4, schedule="linear", warmup_steps=2)
    rates = []
    for _ in range(6):
        rates.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        scheduler.step()
    assert [first for first, _ in rates] == pytest.approx([0.2, 0.4, 0.4, 0.3, 0.2, 0.1])
    assert all(first == second for first, second in rates)
