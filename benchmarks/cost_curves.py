"""How CPU seconds and memory of a step grow: with tokens, prompt, response, responses a prompt, vocabulary, model.

    python benchmarks/cost_curves.py [--rounds 2] [--axes tokens prompt ...] [--out FILE.json]
    python benchmarks/cost_curves_picture.py FILE.json PICTURE.png

Random weights and random token ids: only shapes matter here. Every point is a process of its own, with one thread, and
every round goes through all points. CPU seconds of a point are the least of any of its steps, since what else the
machine does only adds to them. The same command goes on where it stopped. What the figures mean: docs/speed.md.
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from step_cost import REPOSITORY, machine, shown

SIDE = Path(__file__).with_name("cost_curves_side.py")
SIZES = {
    "9m": {"hidden_size": 256, "num_layers": 6, "num_heads": 4, "intermediate_size": 704},
    "17m": {"hidden_size": 384, "num_layers": 6, "num_heads": 6, "intermediate_size": 1024},
    "34m": {"hidden_size": 512, "num_layers": 8, "num_heads": 8, "intermediate_size": 1376},
    "69m": {"hidden_size": 768, "num_layers": 8, "num_heads": 12, "intermediate_size": 2048},
}
"""Of a Llama; with a tied vocabulary of 16,384 it has as many weights as its name says, in millions."""

NARROW = {"hidden_size": 64, "num_layers": 2, "num_heads": 2, "intermediate_size": 176}
"""So that of a step's memory the logits are the most, and not the vocabulary's weights."""

BASE = {**SIZES["9m"], "vocab": 16_384, "groups": 4, "prompt": 112, "response": 40, "responses": 2}
STEPS = 2
Point = dict[str, Any]


def _axis(of: str, base: Mapping[str, Any], attentions: Mapping[str, Sequence[int]]) -> list[Point]:
    return [
        {**BASE, **base, of: value, "attention": attention}
        for attention, values in attentions.items()
        for value in values
    ]


def _sizes() -> list[Point]:
    return [
        {**BASE, **size, "size": name, "attention": attention}
        for attention, (name, size) in product(("shared", "padded"), SIZES.items())
    ]


PROMPTS, RESPONSES = (32, 128, 512, 1024, 2048), (16, 64, 256, 1024)
AXES: dict[str, list[Point]] = {
    "tokens": _axis("groups", {}, {"shared": (3, 6, 12, 24, 48), "padded": (12,)}),
    "prompt": _axis("prompt", {"response": 64}, {"shared": PROMPTS, "packed": PROMPTS}),
    "response": _axis("response", {"prompt": 128}, {"shared": RESPONSES, "padded": RESPONSES}),
    "responses": _axis("responses", {"prompt": 256, "response": 64}, {"shared": (2, 4, 8), "packed": (2, 4, 8)}),
    "vocabulary": _axis(
        "vocab",
        {**NARROW, "prompt": 64, "response": 128},
        {"shared": (8_192, 32_768, 65_536, 131_072, 262_144), "padded": (8_192, 32_768, 131_072)},
    ),
    "size": _sizes(),
}


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """All rounds over all points that the record lacks; it is written after each point."""
    if args.out.exists():
        record = json.loads(args.out.read_text())
    else:
        command = shlex.join(["python", "benchmarks/cost_curves.py", *shown(sys.argv[1:])])
        versions = {name: version(name) for name in ("torch", "transformers")}
        record = {"command": command, "machine": machine(), "versions": versions, "taken": []}
    wanted = [(number, axis, point) for number in range(args.rounds) for axis in args.axes for point in AXES[axis]]
    for number, axis, point in wanted:
        if any((one["round"], one["axis"], one["point"]) == (number, axis, point) for one in record["taken"]):
            continue
        found = run_point(point)
        record["taken"].append({"round": number, "axis": axis, "point": point, **found})
        record["summary"] = summarize(record["taken"])
        args.out.write_text(json.dumps(record, indent=1) + "\n")
        print(f"round {number + 1}: {axis}: {_named(axis, point)}: {min(found['cpu_seconds']):.2f} s", flush=True)
    return record


def run_point(point: Point) -> dict[str, Any]:
    """What one process says of a point.

    Raises:
        SystemExit: the process failed.
    """
    given = json.dumps({"steps": STEPS, **point})
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, SIDE, given], capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise SystemExit(f"{point} failed:\n{done.stderr[-4000:]}")
    return json.loads(done.stdout)


def _named(axis: str, point: Mapping[str, Any]) -> str:
    named = {"tokens": "groups", "vocabulary": "vocab"}.get(axis, axis)
    return f"{point['attention']}, {named} {point[named]}"


def summarize(taken: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Of each point the least CPU seconds and the largest memory of any round, and a line through those of `tokens`."""
    curves: dict[str, list[dict[str, Any]]] = {}
    for axis, points in AXES.items():
        for point in points:
            same = [one for one in taken if (one["axis"], one["point"]) == (axis, point)]
            if same:
                curves.setdefault(axis, []).append(_merged(point, same))
    shared = [found for found in curves.get("tokens", []) if found["point"]["attention"] == "shared"]
    fits = {}
    if len(shared) > 2:
        tokens = [found["unique_tokens"] for found in shared]
        fits = {name: fit_line(tokens, [found[name] for found in shared]) for name in ("cpu_seconds", "step_bytes")}
    return {"curves": curves, "line_through_tokens": fits}


def _merged(point: Point, same: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    names = ("unique_tokens", "real_tokens", "num_weights", "gradient_bytes", "largest_logits_bytes")
    return {
        "point": point,
        "cpu_seconds": min(min(one["cpu_seconds"]) for one in same),
        "step_bytes": max(one["step_bytes"] for one in same),
        "peak_bytes": max(one["peak_bytes"] for one in same),
        **{name: same[0][name] for name in names},
    }


def fit_line(x: Sequence[float], y: Sequence[float]) -> dict[str, float]:
    """The line with the least sum of squared *relative* residuals, so that small points count as much as large ones.

    `r_squared` is the plain one: the share of the variance of `y` that the line explains.
    """
    given, wanted = np.asarray(x, float), np.asarray(y, float)
    rows = np.stack([np.ones_like(given), given], axis=1)
    (intercept, slope), *_ = np.linalg.lstsq(rows / wanted[:, None], np.ones_like(wanted), rcond=None)
    residual = wanted - (intercept + slope * given)
    return {
        "intercept": float(intercept),
        "slope": float(slope),
        "r_squared": float(1 - (residual**2).sum() / ((wanted - wanted.mean()) ** 2).sum()),
        "largest_relative_residual": float(np.abs(residual / wanted).max()),
    }


def table(summary: Mapping[str, Any]) -> Iterable[str]:
    """Lines of Markdown, a table an axis."""
    for axis, found in summary["curves"].items():
        yield f"\n### {axis}\n"
        yield "| | unique tokens | CPU s a step | ms a 1000 of them | memory, MB | gradient, MB | largest logits, MB |"
        yield "|---|---|---|---|---|---|---|"
        for one in found:
            cells = [
                f"{one['unique_tokens']:,}",
                f"{one['cpu_seconds']:.2f}",
                f"{1e6 * one['cpu_seconds'] / one['unique_tokens']:.0f}",
                f"{one['step_bytes'] / 1e6:.0f}",
                f"{one['gradient_bytes'] / 1e6:.0f}",
                f"{one['largest_logits_bytes'] / 1e6:.0f}" if one["largest_logits_bytes"] else "whole head",
            ]
            yield f"| {_named(axis, one['point'])} | " + " | ".join(cells) + " |"
    for name, line in summary["line_through_tokens"].items():
        yield (
            f"\n{name} = {line['intercept']:.4g} + {line['slope']:.4g} x unique tokens; R^2 {line['r_squared']:.5f}, "
            + (f"largest relative residual {line['largest_relative_residual']:.1%}")
        )


def main() -> int:
    """Measure what the record lacks, and print it all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=2, help="over all points")
    parser.add_argument("--axes", nargs="+", choices=AXES, default=list(AXES), metavar="AXIS", help=", ".join(AXES))
    parser.add_argument("--out", type=Path, default=REPOSITORY / "docs" / "speed" / "cost_curves.json")
    args = parser.parse_args()
    print("\n".join(table(measure(args)["summary"])))
    return 0


if __name__ == "__main__":
    sys.exit(main())
