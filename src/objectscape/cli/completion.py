"""objectscape completion: what the Tab key proposes in bash, zsh and fish."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import re

from objectscape.cli.common import HelpText

SCRIPTS = {
    "bash": """_objectscape() {
  local line="${COMP_LINE:0:COMP_POINT}"
  local -a words
  read -ra words <<< "${line#* }"
  local last="${line##* }"
  [[ -z "$last" ]] && words+=("")
  local prefix=""                                 # bash splits words at "=": it replaces only what follows
  [[ "$last" == *=* ]] && prefix="${last%%=*}="
  local candidate
  COMPREPLY=()
  while IFS= read -r candidate; do
    [[ -n "$candidate" ]] && COMPREPLY+=("${candidate#"$prefix"}")
  done < <(objectscape completion --propose "${words[@]}" 2>/dev/null)
  [[ ${#COMPREPLY[@]} -eq 1 && "${COMPREPLY[0]}" == *= ]] && compopt -o nospace
}
complete -o default -F _objectscape objectscape""",
    "zsh": """#compdef objectscape
_objectscape() {
  local -a candidates
  candidates=("${(@f)$(objectscape completion --propose "${(@)words[2,CURRENT]}" 2>/dev/null)}")
  candidates=(${candidates:#})
  if (( ${#candidates} )); then compadd -S '' -Q -- $candidates; else _files; fi
}
compdef _objectscape objectscape""",
    "fish": """function __objectscape_propose
  set -l words (commandline -opc) (commandline -ct)
  objectscape completion --propose $words[2..-1] 2>/dev/null
end
complete -c objectscape -a '(__objectscape_propose)'""",
}
GROUPS = ("recipe", "model", "data")
TAKES_MODELS = ("evaluate", "show", "explore", "sample", "latents", "translate")
TAKES_SETTINGS = ("train", "evaluate", "show", "explore", "sample", "benchmark", "reproduce", "latents")


def main(words: list[str]) -> int:
    """Print a script for a shell, or the candidates for a command line that is being typed."""
    if words[:1] == ["--propose"]:
        print("\n".join(propose(words[1:])))
        return 0
    parser = argparse.ArgumentParser(
        prog="objectscape completion",
        description="Print what makes the Tab key complete commands, recipes and options. For bash, add to ~/.bashrc:\n"
        '  eval "$(objectscape completion bash)"\n'
        'For zsh, add to ~/.zshrc after compinit:\n  eval "$(objectscape completion zsh)"\n'
        "For fish:\n  objectscape completion fish > ~/.config/fish/completions/objectscape.fish",
        formatter_class=HelpText,
    )
    parser.add_argument("shell", choices=list(SCRIPTS))
    print(SCRIPTS[parser.parse_args(words).shell])
    return 0


def propose(words: list[str]) -> list[str]:
    """What may stand in the place of the last word, given those before it.

    Args:
        words: the command line after `objectscape`, the last one perhaps empty or half typed.
    """
    from objectscape.cli import VERBS
    from objectscape.cli.config import options
    from objectscape.pretrained import PREFIX, names

    *before, last = words or [""]
    if not before:
        return [verb for verb in VERBS if verb.startswith(last)]
    verb = before[0]
    if verb not in VERBS:
        return []
    if last.startswith("-"):
        return [flag for flag in _flags(verb) if flag.startswith(last)]
    group, equals, name = last.partition("=")
    if equals:
        known = options(group) if group in GROUPS else []
        return [f"{group}={option}" for option in known if option.startswith(name)]
    if verb == "reproduce":
        return [recipe for recipe in options("recipe") if recipe.startswith(last)]
    if verb in TAKES_MODELS and last.startswith(PREFIX[:3]):
        return [PREFIX + name for name in names() if (PREFIX + name).startswith(last)]
    if verb in TAKES_SETTINGS:
        return [f"{group}=" for group in GROUPS if group.startswith(last)]
    return []


def _flags(verb: str) -> list[str]:
    """The options that `objectscape VERB --help` lists."""
    name = {"list": "listing"}.get(verb, verb.replace("-", "_"))
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        importlib.import_module(f"objectscape.cli.{name}").main(["--help"])
    return sorted(set(re.findall(r"(?<![\w-])--[a-z][\w-]*", printed.getvalue())))
