"""The `objectscape` command. Each verb lives in a file of its own and is imported when it is used."""

from __future__ import annotations

import argparse
import importlib
import logging
import os
import sys
from collections.abc import Sequence

VERBS = {
    "quickstart": "make data, train, evaluate and draw, in minutes on a laptop CPU",
    "train": "train a recipe: objectscape train recipe=slot_attention/tetrominoes seed=1",
    "evaluate": "measure everything a trained model can do, on any data set",
    "show": "draw a run's decompositions, a data set's samples, or your own picture",
    "explore": "take hold of what a model has found, on a page in the browser",
    "latents": "slots and latents of a data set as NumPy, CSV or HDF5",
    "translate": "say what a workspace sees, draw what it is told: from any domain to any other",
    "sample": "imagine new scenes with a trained model",
    "plan": "reach goals with what a model imagines: model-predictive control",
    "benchmark": "train and evaluate recipes with several seeds: one table of scores, failures and cost",
    "compare": "one table over runs: mean, spread and failures over seeds",
    "reproduce": "train a recipe and compare with what it reached when it was measured",
    "list": "what there is: models, data, recipes, metrics, runs",
    "data": "info | make | convert | check | fetch data sets",
    "import-checkpoint": "load the original authors' weights",
    "import-config": "an original's YAML as commands of ours, and what has no counterpart",
    "completion": "print what makes the Tab key complete commands, for bash, zsh and fish",
    "doctor": "report versions, devices and what is missing",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status. A user's mistake is answered in words, not with a traceback."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(
        prog="objectscape",
        description="Learn structured representations of scenes without labels.",
        epilog="`objectscape VERB --help` says more. Files are data: a class of your own that a run folder names is\n"
        "built only with --trust MODULE (any verb). Set OBJECTSCAPE_DEBUG=1 to see tracebacks.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="store_true", help="print the version")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB")
    for verb, text in VERBS.items():
        verbs.add_parser(verb, help=text, add_help=False)
    if words and words[0] in VERBS:
        return _run(words[0], words[1:])
    if words and not words[0].startswith("-"):
        from objectscape.names import unknown

        print(f"objectscape: {unknown('command', words[0], VERBS)}", file=sys.stderr)
        return 2
    options = parser.parse_args(words)
    if options.version:
        from objectscape import __version__

        print(__version__)
    else:
        parser.print_help()
    return 0


def _run(verb: str, words: list[str]) -> int:
    # Threads that spin long while they wait ruin each other on busy cores; a short spin costs nothing on idle ones.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s", stream=sys.stderr)
    logging.getLogger("objectscape").setLevel(logging.INFO)
    name = {"list": "listing"}.get(verb, verb.replace("-", "_"))  # a submodule called list would hide the builtin here
    if os.environ.get("OBJECTSCAPE_DEBUG"):
        return importlib.import_module(f"objectscape.cli.{name}").main(_trust(words))
    try:
        return importlib.import_module(f"objectscape.cli.{name}").main(_trust(words))
    except KeyboardInterrupt as interrupt:
        print(f"\nobjectscape: interrupted. {interrupt}".rstrip(), file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader of our output has gone
        return 0
    except Exception as error:
        cause = _cause(error)
        if not isinstance(cause, USER_ERRORS) and type(error).__name__ not in USER_ERROR_NAMES:
            raise
        print(f"objectscape {verb}: {cause}", file=sys.stderr)
        return 1


def _trust(words: list[str]) -> list[str]:
    """The words without `--trust MODULE`, whose modules are trusted from here on."""
    if not any(word.partition("=")[0] == "--trust" for word in words):
        return words
    from objectscape.building import trust

    rest, after = [], iter(words)
    for word in after:
        option, _, value = word.partition("=")
        if option != "--trust":
            rest.append(word)
            continue
        module = value or next(after, None)
        if not module:
            raise ValueError("--trust needs the name of a module whose classes a run's files may name")
        trust(*module.split(","))
    return rest


USER_ERRORS = (ValueError, OSError, ModuleNotFoundError)
# by name: their homes are slow to import
USER_ERROR_NAMES = ("NonFiniteLossError", "InstantiationException", "MisconfigurationException")


def _cause(error: BaseException) -> BaseException:
    """What went wrong, without Hydra's wrapping."""
    while type(error).__name__ == "InstantiationException" and error.__cause__ is not None:
        error = error.__cause__
    return error
