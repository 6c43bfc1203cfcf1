"""objectscape show: pictures of a run, a data set, or your own image. `drawing` draws them."""

from __future__ import annotations

import argparse
from pathlib import Path

from objectscape.checkpoints.run_folder import RunFolder
from objectscape.cli import config as configs
from objectscape.cli.common import HelpText, add_device, at_least, device_of
from objectscape.files import ANIMATIONS, FIGURE_FORMATS, check_suffix
from objectscape.lazy import lazy
from objectscape.names import did_you_mean
from objectscape.pretrained import PREFIX

# how `show` sees picture files, for those who ask; with torch, only then
__getattr__, _ = lazy(__name__, dict.fromkeys(("fit_pictures", "read_pictures"), "objectscape.cli.drawing"))


def main(words: list[str]) -> int:
    """Parse the command line, draw, save and say where."""
    parser = argparse.ArgumentParser(
        prog="objectscape show",
        description="Draw how a trained model decomposes scenes and what its latents mean, or what a data set looks "
        "like.",
        epilog="examples:\n"
        "  objectscape show RUN                          # test scenes: image, reconstruction, masks, every slot\n"
        "  objectscape show pretrained/instance_coloring-tetrominoes      # a model that comes with the package\n"
        "  objectscape show RUN my_picture.png           # your own image\n"
        "  objectscape show RUN multi_dsprites           # scenes of other data\n"
        "  objectscape show RUN --video --out clips.mp4  # clips: frames, masks and slots over time; futures\n"
        "  objectscape show RUN --boxes                  # what a model finds, beside motion and alpha\n"
        "  objectscape show RUN --objects --map tsne     # its objects, those alike near each other\n"
        "  objectscape show RUN --traversals             # what each latent dimension of each object does\n"
        "  objectscape show RUN --interpolate --swap     # between scenes; objects exchanged\n"
        "  objectscape show RUN --weights                # of a workspace: whom it trusts, under noise\n"
        "  objectscape show RUN --out refinement.mp4     # the steps of an iterative model as a film\n"
        "  objectscape show tetrominoes                  # a data set: samples with ground truth\n"
        "  objectscape show shapestacks_like data.frames=24 --out falls.gif    # clips of a data set as a film",
        formatter_class=HelpText,
    )
    parser.add_argument("words", nargs="+", metavar="RUN | PICTURE | DATASET | key=value")
    parser.add_argument("--video", action="store_true", help="clips as a film (.gif; .mp4 with the extra video)")
    parser.add_argument("--traversals", action="store_true", help="objects x latent dimensions, the most active first")
    parser.add_argument("--interpolate", action="store_true", help="on the lines between pairs of scenes")
    parser.add_argument("--swap", action="store_true", help="pairs of scenes exchange their most conspicuous objects")
    parser.add_argument("--boxes", action="store_true", help="objects found, over the images; true boxes as dots")
    parser.add_argument(
        "--objects",
        action="store_true",
        help="a map of the found objects by what is known of them; its .html shows an object under the pointer",
    )
    parser.add_argument("--map", default="pca", choices=["pca", "tsne"], help="of --objects (default pca)")
    parser.add_argument(
        "--weights", action="store_true", help="of a workspace: whom it trusts while a domain gets noisy"
    )
    parser.add_argument("--all", action="store_true", help="every picture that the model can give")
    parser.add_argument("--split", default="test", choices=["train", "val", "test"])
    parser.add_argument(
        "-n", type=at_least(1), help="scenes (default 8; of traversals 1) or pairs of scenes (default 4)"
    )
    parser.add_argument("--first", type=int, default=0, help="number of the first scene in the split (default 0)")
    parser.add_argument(
        "--out", type=Path, help="file to write (.png, .pdf, .svg; animations .gif, .mp4; objects .html)"
    )
    parser.add_argument(
        "--context", type=at_least(1), help="frames before a film's futures (default: the model's own, or 2)"
    )
    parser.add_argument("--dimensions", type=at_least(1), default=6, help="of a traversal (default 6)")
    parser.add_argument("--steps", type=at_least(1), default=7, help="of a traversal or interpolation (default 7)")
    parser.add_argument(
        "--range",
        default="range",
        choices=["range", "corrected", "released"],
        help="of a traversal: the latents' range (default), or a formula around it",
    )
    parser.add_argument(
        "--images", type=at_least(1), default=16, help="scenes that activeness is measured on (default 16)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the model's random draws")
    add_device(parser)
    options = parser.parse_intermixed_args(words)
    paths, settings = sort_words(options.words)
    if options.out is not None:
        check_suffix(options.out, (*FIGURE_FORMATS, *ANIMATIONS, *((".html",) if options.objects else ())))
    from objectscape.cli.drawing import PICTURES, show_data, show_run  # torch and matplotlib: for pictures only

    options.device = device_of(options)
    kinds = [kind for kind in PICTURES if getattr(options, kind, False)]
    if not paths:
        if kinds or options.all:
            raise ValueError("name a run first: objectscape show RUN --traversals")
        return show_data(settings, options)
    if options.all:
        kinds = list(PICTURES)
    kinds = kinds or ["decomposition"]
    if options.out and len(kinds) > 1:
        raise ValueError(
            f"--out {options.out} names one file, but {len(kinds)} kinds of pictures are asked for; ask for one, or "
            "leave --out away: they go to RUN/figures"
        )
    return show_run(paths, settings, kinds, options)


def sort_words(words: list[str]) -> tuple[list[Path], list[str]]:
    """Run folders and pictures; settings, where the name of a data set stands for data=NAME.

    Raises:
        FileNotFoundError: for a word that is neither, with near matches.
    """
    known = configs.options("data")
    paths, settings = [], []
    for word in words:
        exists = Path(word).exists()
        if "=" in word and not exists:
            settings.append(word)
        elif word in known and not (exists and RunFolder(Path(word)).is_run()):
            settings.append(f"data={word}")
        elif exists or word.startswith(PREFIX):
            paths.append(Path(word))
        else:
            hint = "" if Path(word).suffix else did_you_mean(word, known)
            raise FileNotFoundError(
                f"there is no run folder, picture or data set {word}."
                + (hint or " `objectscape list runs` and `objectscape list data` show what there is.")
            )
    return paths, settings
