"""The self-supervised stage of an encoder: it guesses hidden tokens of the training texts, and of no other."""

import hashlib
import importlib.metadata
import sys
import time

import torch

from dpo_lab.assemble.lightning import computing
from dpo_lab.data.order import epoch_order
from dpo_lab.data.source import DataSource
from dpo_lab.errors import UserError
from dpo_lab.model.encoder_policy import EncoderPolicy
from dpo_lab.model.masked_tokens import MaskedTokens
from dpo_lab.model.policy import Policy
from dpo_lab.optimizer.adamw import adamw
from dpo_lab.run.identity import canonical_json
from dpo_lab.start import MaskedTokensStart

FORMAT = 2  # raise whenever this file trains other weights from the same inputs
CLIP_NORM = 1.0
LINES = 10
DECISIVE_PACKAGES = ("torch", "transformers", "tokenizers", "pytorch-lightning")

Texts = list[tuple[int, ...]]


def training_texts(policy: Policy, source: DataSource) -> Texts:
    """Token ids of the distinct prompts of the training rows, in order, cut to `source.max_length`.

    Raises:
        UserError: the policy is no encoder.
    """
    if not isinstance(policy, EncoderPolicy):
        raise UserError(
            "start=masked_tokens: only an encoder guesses hidden tokens (model=classifier, extractive_qa, the small "
            "ones); use start=none or start=supervised"
        )
    prompts = (encoded.prompt for encoded in policy.encode([*source.train, *source.demonstrations]))
    longest = min(length for length in (source.max_length, policy.longest_row) if length is not None)
    return list(dict.fromkeys(prompt[:longest] for prompt in prompts))


def decisive_versions() -> dict[str, str]:
    return {package: importlib.metadata.version(package) for package in DECISIVE_PACKAGES}


def noise_of(policy: Policy) -> dict[str, float]:
    """Rates of the noise that `policy` trains under, which its weights do not tell."""
    names = ("dropout", "largest_dropout", "token_dropout", "item_dropout")
    return {name: getattr(policy, name) for name in names if hasattr(policy, name)}


def masked_tokens_key(policy: Policy, texts: Texts, settings: MaskedTokensStart) -> str:
    """Hash of all that the weights of this stage depend on: of the data the texts, and nothing that is said of them."""
    content = {
        "stage": "masked_tokens",
        "format": FORMAT,
        "settings": vars(settings),
        "initial_weights": policy.fingerprint(),
        "noise": noise_of(policy),
        "encoding": policy.encoding_fingerprint(),
        "texts": hashlib.sha256(repr(texts).encode()).hexdigest(),
        "versions": decisive_versions(),
    }
    return hashlib.sha256(canonical_json(content).encode()).hexdigest()[:16]


def train_masked_tokens(policy: Policy, texts: Texts, settings: MaskedTokensStart) -> None:
    """Train the encoder of `policy`; its head stays as it is."""
    assert isinstance(policy, EncoderPolicy)
    model = MaskedTokens(policy, settings.seed)
    optimizer, scheduler = adamw(
        model, settings.max_steps, lr=settings.lr, schedule="cosine", warmup_steps=settings.warmup_steps
    )
    generator = torch.Generator().manual_seed(settings.seed)
    print(f"masked tokens: {settings.max_steps} steps on {len(texts)} texts", file=sys.stderr)
    started, order, epoch, losses = time.monotonic(), list[int](), 0, list[float]()
    with computing(settings.num_threads), torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(settings.seed)  # dropout
        for step in range(1, settings.max_steps + 1):
            while len(order) < settings.global_batch_size:
                order += epoch_order(settings.seed, epoch, len(texts), shuffle=True)
                epoch += 1
            batch, order = order[: settings.global_batch_size], order[settings.global_batch_size :]
            rows = [texts[index] for index in batch]
            loss = model(rows, share=settings.share, length=settings.span_length, generator=generator)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP_NORM)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            scheduler.step()
            losses.append(float(loss.detach()))
            if step * LINES // settings.max_steps > (step - 1) * LINES // settings.max_steps:
                left = (time.monotonic() - started) / step * (settings.max_steps - step)
                mean = sum(losses) / len(losses)
                print(f"masked tokens {step}/{settings.max_steps}  loss {mean:.3f}  {left:.0f} s left", file=sys.stderr)
                losses.clear()
