"""objectscape reproduce: train a recipe and compare the result with what it reached when it was measured."""

from __future__ import annotations

import argparse

from objectscape.cli import config as configs
from objectscape.cli.common import console
from objectscape.cli.train import train
from objectscape.evaluation.results import judge, read_results


def main(words: list[str]) -> int:
    """Train, evaluate, compare; the exit status is 1 if a metric is worse than measured."""
    parser = argparse.ArgumentParser(
        prog="objectscape reproduce",
        description="Train a recipe from scratch, evaluate it on its test split and compare with the values that the "
        "recipe states under `expected` (measured by us: mean and spread over seeds).",
    )
    parser.add_argument("recipe", help="a recipe with expected values (objectscape list recipes)")
    parser.add_argument("settings", nargs="*", default=[], metavar="key=value", help="such as seed=1")
    options = parser.parse_args(words)
    config = configs.load([f"recipe={options.recipe}", *options.settings])
    expected = config.get("expected")
    if not expected:
        raise ValueError(
            f"the recipe {options.recipe} states no expected values: nobody has measured it with this library"
        )
    from objectscape.cli import evaluate

    run = train(config)
    evaluate.main([str(run.path)])
    (result,) = read_results(run).values()
    worse = False
    for metric, known in expected.items():
        verdict = judge(result["scores"][metric]["mean"], known)
        worse |= verdict == "worse"
        console.print(
            f"{metric}: {result['scores'][metric]['mean']:.4f}, measured {known['mean']:.4f} +- {known['sd']:.4f} over "
            f"{known['seeds']} seeds ({known['source']}): {verdict}"
        )
    status = run.status()
    console.print(
        f"This run: {status['precision']}; threads: {status['threads']}. Another precision, thread count or processor "
        "rounds otherwise, which makes another run of the same distribution: means and spreads agree, digits do not."
    )
    return int(worse)
