"""Causal language models: a response is many decisions, one a token."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, final

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from dpo_lab.errors import UserError
from dpo_lab.model.adapter import Adapter
from dpo_lab.model.attention_choice import Attention, choose_attention
from dpo_lab.model.dropout import restore_config_dropout, set_module_dropout
from dpo_lab.model.fingerprint import model_fingerprint
from dpo_lab.model.grouped_scoring import (
    collate_groups,
    decided_hidden,
    decision_log_probs,
    decision_logits,
    ungroup,
)
from dpo_lab.model.layers import prepare_layers
from dpo_lab.model.loading import load_weights_into, read_weights
from dpo_lab.model.lora import LoraExport, LoraSettings, LoraTarget, load_with_adapter
from dpo_lab.model.policy import Inputs, Policy
from dpo_lab.model.text_encoding import TextEncoder
from dpo_lab.ranges import Fraction, Positive, PositiveInt
from dpo_lab.types import Encoded, Example, LogProbs

Dtype = Literal["float32", "bfloat16"]


def causal_lm(
    seed: int = 0,
    adapter_seed: int | None = None,
    *,
    path: str,
    dtype: Dtype = "float32",
    dropout: Fraction = 0.0,
    attention: Attention = "auto",
    lora_rank: PositiveInt | None = None,
    lora_alpha: Positive | None = None,
    lora_dropout: Fraction = 0.0,
    lora_target: LoraTarget | None = None,
    lora_export: LoraExport = "merged",
    gradient_checkpointing: bool = False,
    compile: bool = False,
    chat_template: str | None = None,
    revision: str | None = None,
    trust_remote_code: bool = False,
) -> "CausalLM":
    """Any model that transformers' AutoModelForCausalLM loads, whole or with a low-rank adapter (LoRA, Hu et al. 2021,
    arXiv 2106.09685): beside a frozen matrix W stands alpha/rank * B A, and A and B alone are trained.

    Args:
        seed: of the initial weights, of which only a fresh adapter has any; the framework gives it.
        adapter_seed: of a fresh adapter's first factor A (B is zero), where it is another; the framework gives it.
        path: a folder, a hub name such as ``Qwen/Qwen3-0.6B``, or a folder with an adapter that peft wrote
            (adapter_config.json), which is then trained further.
        dtype: of the weights that are trained, whatever the checkpoint holds. In bfloat16 small steps round to
            nothing; mixed precision is ``trainer.precision=bf16-mixed`` over float32 weights. An adapter is float32.
        dropout: every dropout rate of the model, in [0, 1). 0 is none, whatever the checkpoint's config says. Other
            noise of training (layers left out, jitter of a router) is always off.
        attention: how log-probs are computed. "shared": the prompt of a group once for all its responses; "packed":
            once for each response, without padding; "padded": row by row, for models that can do neither. "auto" takes
            the first that this model can, by trying it; the numbers are the same to rounding.
        lora_rank: of a fresh adapter; null trains the whole model.
        lora_alpha: scale of the adapter, which is alpha/rank; null is twice the rank, so a scale of 2.
        lora_dropout: in front of the adapter, in [0, 1).
        lora_target: matrices that get one: ends of their names, "all-linear", or null for those that peft holds to be
            usual for this kind of model (of attention), all linear ones where it knows of none.
        lora_export: "merged" writes a plain model with the adapter added in, "adapter" the adapter alone.
        gradient_checkpointing: compute layers twice instead of keeping their insides for the way back: less memory.
        compile: have torch.compile make kernels of the layers, at the first step, which then takes minutes; not
            together with `gradient_checkpointing`. A copy of the policy as reference is not compiled.
        chat_template: file with a Jinja template that replaces the tokenizer's own.
        revision: of a hub model: a branch, tag or commit.
        trust_remote_code: run code that comes with the model.

    Raises:
        UserError: when the model cannot be had; the message says what to do.
    """
    settings = LoraSettings(
        rank=lora_rank, alpha=lora_alpha, dropout=lora_dropout, target=lora_target, export=lora_export
    )
    settings.check(path)
    model, tokenizer, rates, adapter = load_with_adapter(
        path,
        settings,
        seed if adapter_seed is None else adapter_seed,
        dtype=dtype,
        dropout=dropout,
        revision=revision,
        trust_remote_code=trust_remote_code,
    )
    if chat_template is not None:
        tokenizer.chat_template = _read_template(chat_template)
    policy = CausalLM(
        model, tokenizer, dtype=dtype, dropout=dropout, exported_dropout=rates, attention=attention, adapter=adapter
    )
    prepare_layers(model, recompute=gradient_checkpointing, compile=compile)
    return policy


def _read_template(file: str) -> str:
    path = Path(file).expanduser()
    if not path.is_file():
        raise UserError(f"model.chat_template: no file {file}")
    return path.read_text(encoding="utf-8")


@final
class CausalLM(Policy):
    """A causal language model of transformers and its tokenizer, as a policy.

    Where the model allows (`attention`), responses are packed behind their prompt, which is computed once for all of
    them, and nothing is padded. Otherwise rows are padded on the right, where a causal model cannot see it. Either way
    neither padding nor the other rows of a batch change a log-probability.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        dtype: Dtype,
        dropout: float,
        exported_dropout: dict[str, float],
        attention: Attention = "auto",
        adapter: Adapter | None = None,
    ):
        super().__init__()
        self.model = model
        self.adapter = adapter
        self.encoder = TextEncoder(tokenizer)
        self.dtype_name: Dtype = dtype
        self.dropout = dropout
        self._exported_dropout = exported_dropout
        self.attention, self.attention_reason = choose_attention(
            model, attention, dropout=dropout if adapter is None else max(dropout, adapter.dropout)
        )
        set_module_dropout(model, dropout)
        if adapter is not None:
            adapter.set_dropout()
        # from_pretrained gives evaluation mode, which trainers keep: dropout would be configured and never happen.
        self.train()

    @property
    def scoring(self) -> str:
        words = {"shared": "each prompt once for all its responses", "packed": "packed", "padded": "row by row, padded"}
        return words[self.attention] + (f", since {self.attention_reason}" if self.attention_reason else "")

    @property
    def end_id(self) -> int:
        return self.encoder.end_id

    @property
    def max_positions(self) -> int | None:
        return getattr(self.model.config.get_text_config(), "max_position_embeddings", None)

    def encode(self, examples: Sequence[Example]) -> list[Encoded]:
        return self.encoder.encode(examples)

    def collate(self, groups: Sequence[Encoded]) -> Inputs:
        """What `log_prob` eats: of packed groups (`collate_groups`), or right-padded `input_ids[n, l]` and
        `attention_mask[n, l]`, and where each row's response lies.

        Raises:
            ValueError: for a prompt or a response without tokens: the first decision is made at the prompt's last.
        """
        if self.attention != "padded":
            return collate_groups(groups, is_shared=self.attention == "shared")
        return self._collate_padded(groups)

    @staticmethod
    def _collate_padded(groups: Sequence[Encoded]) -> Inputs:
        rows = [(group.prompt, response) for group in groups for response in group.responses]
        if not all(prompt and response for prompt, response in rows):
            raise ValueError("a prompt and each of its responses need at least one token")
        width = max(len(prompt) + len(response) for prompt, response in rows)
        input_ids = torch.zeros(len(rows), width, dtype=torch.long)
        attention_mask = torch.zeros(len(rows), width, dtype=torch.long)
        for index, (prompt, response) in enumerate(rows):
            ids = torch.tensor([*prompt, *response], dtype=torch.long)
            input_ids[index, : len(ids)] = ids
            attention_mask[index, : len(ids)] = 1
        return {
            "input_ids": input_ids,
            "attention_mask": attention_mask,
            "response_start": torch.tensor([len(prompt) for prompt, _ in rows]),
            "response_length": torch.tensor([len(response) for _, response in rows]),
        }

    def decision_mask(self, inputs: Inputs) -> Bool[Tensor, " n t"]:
        length = inputs["response_length"]
        return torch.arange(int(length.max()), device=length.device)[None] < length[:, None]

    def log_prob(self, inputs: Inputs) -> LogProbs:
        if "spans" in inputs and self.attention != "padded":
            flat = decision_log_probs(self.model, decided_hidden(self.model, inputs), inputs["target"])
            mask = self.decision_mask(inputs)
            return LogProbs(flat.new_zeros(mask.shape).masked_scatter(mask, flat), mask)
        decided, target, mask = self._decide(self._padded(inputs))
        with torch.autocast(device_type=target.device.type, enabled=False):
            token = decided.gather(-1, target[..., None]).squeeze(-1) - torch.logsumexp(decided, dim=-1)
        return LogProbs(torch.where(mask, token, 0.0), mask)

    def log_prob_and_distribution(self, inputs: Inputs) -> tuple[LogProbs, Float[Tensor, " n t v"]]:
        if "spans" in inputs and self.attention != "padded":
            flat = decision_logits(self.model, decided_hidden(self.model, inputs)).log_softmax(-1)
            token = flat.gather(-1, inputs["target"][:, None])[:, 0]
            mask = self.decision_mask(inputs)
            scattered = flat.new_zeros(*mask.shape, flat.shape[-1]).masked_scatter(mask[..., None], flat)
            return LogProbs(token.new_zeros(mask.shape).masked_scatter(mask, token), mask), scattered
        decided, target, mask = self._decide(self._padded(inputs))
        with torch.autocast(device_type=target.device.type, enabled=False):
            distribution = torch.log_softmax(decided, dim=-1)
            token = distribution.gather(-1, target[..., None]).squeeze(-1)
        return LogProbs(torch.where(mask, token, 0.0), mask), distribution

    def _padded(self, inputs: Inputs) -> Inputs:
        """`inputs` row by row: for a model that cannot attend by group beside one that collated for it."""
        if "spans" not in inputs:
            return inputs
        padded = self._collate_padded(ungroup(inputs))
        return {name: tensor.to(inputs["input_ids"].device) for name, tensor in padded.items()}

    def _decide(self, inputs: Inputs) -> tuple[Float[Tensor, " n t v"], Int[Tensor, " n t"], Bool[Tensor, " n t"]]:
        """Logits of every decision in float32 or wider, the token taken there, and which decisions there are."""
        input_ids, attention_mask = inputs["input_ids"], inputs["attention_mask"]
        # No position_ids: some models count from 2 or from the padding id, and right padding moves no position.
        logits = self.model(input_ids=input_ids, attention_mask=attention_mask, use_cache=False).logits
        mask = self.decision_mask(inputs)
        steps = torch.arange(mask.shape[1], device=mask.device)
        target_at = torch.where(mask, inputs["response_start"][:, None] + steps, 1)
        target = input_ids.gather(1, target_at)
        # The token at position i is decided by the logits at i - 1.
        decided = logits.gather(1, (target_at - 1)[..., None].expand(-1, -1, logits.shape[-1]))
        return decided.to(torch.promote_types(decided.dtype, torch.float32)), target, mask

    @torch.no_grad()
    def sample(
        self, prompts: Sequence[Sequence[int]], *, generator: torch.Generator, max_new_tokens: int
    ) -> list[list[int]]:
        device = self.model.device
        width = max(len(prompt) for prompt in prompts)
        input_ids = torch.zeros(len(prompts), width, dtype=torch.long)
        attention_mask = torch.zeros(len(prompts), width, dtype=torch.long)
        for index, prompt in enumerate(prompts):
            input_ids[index, width - len(prompt) :] = torch.tensor(prompt)
            attention_mask[index, width - len(prompt) :] = 1
        seed = int(torch.randint(2**62, (1,), generator=generator))
        # generate draws from the global generators, which must come out of this unchanged.
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), self._sampling(max_new_tokens):
            _seed_global(device, seed)
            output = self.model.generate(input_ids=input_ids.to(device), attention_mask=attention_mask.to(device))
        return [self._until_end(row) for row in output[:, width:].tolist()]

    @contextmanager
    def _sampling(self, max_new_tokens: int) -> Iterator[None]:
        """Evaluation mode, and draws from the policy itself; mode and generation config are put back.

        `generate` fills whatever it is not told from the model's generation_config.json: a repetition penalty, a
        temperature, banned tokens. So that config is exchanged as a whole.
        """
        from transformers import GenerationConfig

        was_training, own = self.model.training, self.model.generation_config
        self.model.eval()
        self.model.generation_config = GenerationConfig(
            do_sample=True,
            temperature=1.0,
            top_k=0,
            top_p=1.0,
            max_new_tokens=max_new_tokens,
            eos_token_id=self.end_id,
            pad_token_id=self.end_id,
        )
        try:
            yield
        finally:
            self.model.generation_config = own
            self.model.train(was_training)

    def _until_end(self, response: list[int]) -> list[int]:
        return response[: response.index(self.end_id) + 1] if self.end_id in response else response

    def decode(self, response: Sequence[int]) -> str:
        return self.encoder.tokenizer.decode(list(response), skip_special_tokens=True)

    def load_other(self, path: str) -> "CausalLM":
        model, tokenizer, rates, adapter = load_with_adapter(
            path, LoraSettings(), 0, dtype=self.dtype_name, dropout=self.dropout
        )
        other = CausalLM(
            model, tokenizer, dtype=self.dtype_name, dropout=self.dropout, exported_dropout=rates, adapter=adapter
        )
        if tokenizer.get_vocab() != self.encoder.tokenizer.get_vocab():
            raise UserError(
                f"{path} has another tokenizer than the policy, so their log-probabilities cannot be compared"
            )
        return other

    def load_weights(self, folder: Path) -> None:
        if self.adapter is None:
            load_weights_into(self.model, folder)
        else:
            self.adapter.load_base(read_weights(self.model, folder))

    def export(self, folder: Path) -> None:
        """Write model and tokenizer in transformers' format, with the dropout rates that the model came with.

        An adapter is added into the model's weights, or written alone in peft's format where that is wanted.
        """
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()
        self.encoder.tokenizer.save_pretrained(folder)
        if self.adapter is not None and self.adapter.exported_alone:
            self.adapter.save(folder)
            return
        model = self.model if self.adapter is None else self.adapter.merged()
        applied = restore_config_dropout(model.config, self._exported_dropout)
        try:
            model.save_pretrained(folder)
        finally:
            restore_config_dropout(model.config, applied)

    def fingerprint(self) -> str:
        return model_fingerprint(self.model) if self.adapter is None else self.adapter.fingerprint()

    def computation(self) -> dict[str, str]:
        return {
            "model": type(self.model).__name__,
            "dtype": self.dtype_name,
            "attention": self.attention,
            "device": self.model.device.type,
            "torch": torch.__version__,
            "transformers": version("transformers"),
        }

    def encoding_fingerprint(self) -> str:
        return self.encoder.fingerprint()


def _seed_global(device: torch.device, seed: int) -> None:
    """Seed the global generator of `device` and no other."""
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)
    else:
        torch.default_generator.manual_seed(seed)
