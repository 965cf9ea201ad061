"""A reference that is asked once for each response, by whatever run comes first."""

import time
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import final

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from dpo_lab.errors import UserError
from dpo_lab.model.policy import Inputs, Policy
from dpo_lab.reductions import Choices
from dpo_lab.reference.cache_store import CacheStore
from dpo_lab.reference.cache_use import CacheMismatchError, CacheUse, KeyedGroups, MissingRowsError, Say
from dpo_lab.reference.reference import Reference
from dpo_lab.reference.rounding import is_exact, same_within
from dpo_lab.reference.rows import Row, as_groups, batches
from dpo_lab.types import LogProbs

KEEP_SECONDS = 30.0
"""Computed rows are written that often, so that a build that is killed loses no more."""

REPORT_SECONDS = 10.0


@final
class CachedReference(Reference):
    """Log-probs of `inner`, which never moves, from disk; what is not there is computed as if there were no cache.

    The key is exactly what a log-prob depends on: the token ids of prompt and response, and, for the folder, every
    weight of the reference, how it computes (`Policy.computation`) and the trainer's precision. Never a loss, a beta,
    a seed, a learning rate, a batch size or a path. Values are kept for every decision, float32, so that each loss
    finds what it needs. `num_forward_passes` counts those over rows of the data; samples and verified rows are apart.

    Once `prepare` has seen all rows, `inner` is needed for samples and whole distributions alone, and rests.
    """

    def __init__(
        self,
        inner: Reference,
        policy: Policy,
        cache_dir: Path,
        *,
        precision: str,
        is_required: bool = False,
        verify_rows: int = 2,
    ):
        """
        Args:
            policy: the model whose log-probs `inner` gives.
            precision: "bf16-mixed" where it runs under autocast, else "32-true".
            is_required: stop where a row is missing.
            verify_rows: of the rows that are found, how many `prepare` computes again.
        """
        self._inner = inner
        self._policy = policy
        self._cache_dir = cache_dir
        self._precision = precision
        self._is_required = is_required
        self._verify_rows = verify_rows
        self._device: torch.device | None = None
        self._first_fingerprint: str | None = None
        self._opened: CacheStore | None = None
        self.num_forward_passes = 0

    @torch.no_grad()
    def log_prob(self, inputs: Inputs, key: Int[Tensor, " n 2"] | None = None) -> LogProbs:
        """From disk where all rows of the batch are there, else computed.

        Raises:
            CacheMismatchError: where a row on disk has another length.
            MissingRowsError: where a row is missing and the cache is required.
        """
        if key is None:
            return self._awake().log_prob(inputs)
        store = self._store()
        rows = store.find(key.cpu().numpy())
        if (rows < 0).any():
            self._refuse_missing(int((rows < 0).sum()), len(rows))
            self.num_forward_passes += 1
            return self._awake().log_prob(inputs)
        mask = self._policy.decision_mask(inputs)
        if mask.sum(1).tolist() != store.lengths(rows).tolist():
            raise CacheMismatchError(f"{store.folder} holds other lengths than the responses have. {self._advice()}")
        return LogProbs(torch.from_numpy(store.take(rows, mask.shape[1])).to(mask.device), mask)

    @torch.no_grad()
    def log_prob_and_choices(self, inputs: Inputs) -> tuple[LogProbs, Choices]:
        """Computed: whole distributions are not kept, at one number for each word of the vocabulary."""
        self.num_forward_passes += 1
        return self._awake().log_prob_and_choices(inputs)

    def as_policy(self) -> AbstractContextManager[Policy]:
        return self._awake().as_policy()

    def to(self, device: torch.device) -> None:
        """Have it compute on `device`, to which weights are moved when something has to be computed."""
        self._device = device
        self._inner.rest()

    def rest(self) -> None:
        self._inner.rest()

    def fingerprint(self) -> str:
        found = self._inner.fingerprint()
        self._first_fingerprint = self._first_fingerprint or found
        return found

    @torch.no_grad()
    def prepare(
        self, groups: Iterable[KeyedGroups], *, is_checked_later: bool = False, seed: int = 0, say: Say = print
    ) -> CacheUse:
        """Look up every response of `groups`, compute what is missing and keep it on disk.

        Of several processes one computes and the others wait for it. To be called under the autocast of training.

        Args:
            is_checked_later: no row is verified here, since the policy is compared with them before its first update.
            seed: of the draw of the rows that are verified.
            say: gets a line about what takes time.

        Raises:
            CacheMismatchError: a row that was computed again differs.
            MissingRowsError: a row is missing and the cache is required.
        """
        store, passes, seconds = self._store(), self.num_forward_passes, 0.0
        keys, missing, drawn = self._look_up(groups, 0 if is_checked_later else self._verify_rows, seed)
        num_rows = len(keys)
        self._refuse_missing(len(missing), num_rows)
        if missing:
            with store.locked(lambda: say("reference: waiting for another process, which computes responses")):
                store.load()
                found = store.find(np.array([row.key for row in missing]))
                missing = [row for row, at in zip(missing, found, strict=True) if at < 0]
                seconds = self._build(missing, num_rows, say)
            store.load()
        self._compare(drawn)
        self.rest()
        num_hits = num_rows - len(missing)
        return CacheUse(
            folder=str(store.folder),
            num_hits=num_hits,
            num_computed=len(missing),
            num_forward_passes=self.num_forward_passes - passes,
            num_verified=len(drawn),
            num_bytes=store.num_bytes,
            num_ignored_files=store.num_ignored,
            seconds_saved=num_hits * store.seconds_per_row,
            seconds_computing=seconds,
            rows_hash=store.rows_hash(keys),
        )

    @torch.no_grad()
    def verify(self, groups: Iterable[KeyedGroups], num_rows: int, *, seed: int = 0) -> tuple[int, float]:
        """Compute up to `num_rows` of the rows that are found again: how many, and the largest difference, nats.

        Raises:
            CacheMismatchError: a row differs by more than rounding.
        """
        _, _, drawn = self._look_up(groups, num_rows, seed)
        return len(drawn), self._compare(drawn)

    def _look_up(
        self, groups: Iterable[KeyedGroups], num_drawn: int, seed: int
    ) -> tuple[np.ndarray, list[Row], list[Row]]:
        """Distinct keys, the rows that are missing, and some that are found, drawn at random."""
        store, generator = self._store(), np.random.default_rng(seed)
        seen: list[np.ndarray] = [np.zeros((0, 2), np.int64)]
        missing: dict[tuple[int, int], Row] = {}
        drawn: list[tuple[float, Row]] = []
        for prompts, keys in groups:
            rows = [
                Row(group, response, (first, second))
                for (group, response), (first, second) in zip(
                    ((group, response) for group in prompts for response in group.responses),
                    keys.tolist(),
                    strict=True,
                )
            ]
            found = store.find(keys) >= 0
            missing.update((rows[at].key, rows[at]) for at in np.flatnonzero(~found))
            seen.append(np.unique(keys, axis=0))
            if num_drawn:
                draws = np.where(found, generator.random(len(rows)), np.inf)
                drawn += [(float(draws[at]), rows[at]) for at in np.argsort(draws)[:num_drawn] if found[at]]
                drawn = sorted(drawn, key=lambda draw: draw[0])[:num_drawn]
        return np.unique(np.concatenate(seen), axis=0), list(missing.values()), [row for _, row in drawn]

    def _build(self, missing: Sequence[Row], num_rows: int, say: Say) -> float:
        """Compute `missing` and write them; how many seconds that took."""
        if missing:
            say(f"reference: {len(missing)} of {num_rows} responses are not in the cache; computing them")
        store, num_left = self._store(), sum(row.width for row in missing)
        began = kept = reported = time.monotonic()
        num_tokens, waiting = num_left, []
        for number, batch in enumerate(rows := list(batches(missing))):
            self.num_forward_passes += 1
            log_probs = self._compute(batch)
            values = log_probs.token[log_probs.mask].float().cpu().numpy()
            if np.isnan(values).any():
                raise UserError("the reference gives log-probs that are not a number; they are not kept")
            keys = np.array([row.key for row in batch])
            waiting.append((keys, log_probs.mask.sum(1).cpu().numpy(), values))
            num_left -= sum(row.width for row in batch)
            now = time.monotonic()
            if now - kept > KEEP_SECONDS or number == len(rows) - 1:
                joined = (np.concatenate(parts) for parts in zip(*waiting, strict=True))
                store.add(*joined, seconds=now - kept)
                kept, waiting = now, []
            if now - reported > REPORT_SECONDS and num_left:
                left = (now - began) / (num_tokens - num_left) * num_left
                say(f"reference: {1 - num_left / num_tokens:.0%} computed, {left:.0f} s left")
                reported = now
        return time.monotonic() - began

    def _compare(self, rows: Sequence[Row]) -> float:
        """Largest difference, nats, between a row on disk and the same row computed again; 0 of none."""
        store, largest = self._store(), 0.0
        for batch in batches(rows):
            log_probs = self._compute(batch)
            found = store.find(np.array([row.key for row in batch]))
            lengths = log_probs.mask.sum(1).cpu()
            kept = torch.from_numpy(store.take(found, log_probs.mask.shape[1]).sum(1))
            difference = (kept - log_probs.sum().float().cpu()).abs()
            is_equal = difference <= same_within(lengths, is_exact=self._is_exact())
            if not is_equal.all() or lengths.tolist() != store.lengths(found).tolist():
                raise CacheMismatchError(
                    f"{int((~is_equal).sum())} of {len(batch)} cached responses that were computed again differ, by up "
                    f"to {float(difference.max()):.3g} nats: {store.folder} does not hold what this reference gives. "
                    f"{self._advice()}"
                )
            largest = max(largest, float(difference.max()))
        return largest

    def _compute(self, rows: Sequence[Row]) -> LogProbs:
        inner, device = self._awake(), self._where()
        inputs = self._policy.collate(as_groups(rows))
        return inner.log_prob({name: tensor.to(device) for name, tensor in inputs.items()})

    def _is_exact(self) -> bool:
        return is_exact(precision=self._precision, dtype=self._policy.computation()["dtype"])

    def _awake(self) -> Reference:
        if self._device is not None:
            self._inner.to(self._device)
        return self._inner

    def _where(self) -> torch.device:
        return self._device or next(self._policy.parameters()).device

    def _store(self) -> CacheStore:
        """The rows of this identity, which is fixed the first time: there it lies on the device of training.

        Raises:
            RuntimeError: where log-probs are asked for in another precision than those that are kept.
        """
        if torch.is_autocast_enabled(self._where().type) != (self._precision == "bf16-mixed"):
            raise RuntimeError(f"log-probs are kept for precision {self._precision}, and asked for in another")
        if self._opened is None:
            self._awake()
            weights = self._first_fingerprint or self.fingerprint()
            parts = {**self._policy.computation(), "reference": weights, "precision": self._precision}
            self._opened = CacheStore(self._cache_dir, parts)
            self._opened.load()
        return self._opened

    def _refuse_missing(self, num_missing: int, num_rows: int) -> None:
        if num_missing and self._is_required:
            raise MissingRowsError(
                f"reference.cache=require: {num_missing} of {num_rows} responses are not in {self._store().folder}. "
                "Compute them with `dpo-lab cache build` and the same overrides, or use reference.cache=auto"
            )

    def _advice(self) -> str:
        return f"Remove it with `dpo-lab cache prune {self._store().identity}`, or use reference.cache=off"
