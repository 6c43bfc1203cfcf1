"""Simple Shapes: labels, pictures, captions, alignments, held-out regions and the odd one of three."""

from __future__ import annotations

import numpy as np
import torch

from objectscape.data.matched import align, alignment_name, repeat_matched
from objectscape.data.synthetic import captions
from objectscape.data.synthetic.captions import Attributes
from objectscape.data.synthetic.simple_shapes import published_labels, published_unpaired
from objectscape.data.synthetic.simple_shapes_render import hls_to_rgb, render
from objectscape.data.synthetic.simple_shapes_tasks import inside, oddness, partners, scaled
from tests.parity.case import Case


def assert_pictures(labels: np.ndarray, images: np.ndarray) -> None:
    rows = torch.from_numpy(labels)
    image, _ = render(rows[:, 0].long(), rows[:, 1], rows[:, 2], rows[:, 3], rows[:, 4], rows[:, 5:8])
    error = (image.permute(0, 2, 3, 1).int() - torch.from_numpy(images).int()).abs()
    assert error.max() <= 7
    assert error.float().mean() <= 0.045


def run_render(case: Case) -> None:
    assert_pictures(case.arrays["labels"], case.arrays["images"])


def run_labels(case: Case) -> None:
    arrays = case.arrays
    counts = {split: len(arrays[f"labels_{split}"]) for split in ("train", "val", "test")}
    for generator in ("package", "bimgw"):
        for split, rows in published_labels(counts, case.info["seed"], generator=generator).items():
            np.testing.assert_array_equal(rows, arrays[f"labels_{split}"])
    np.testing.assert_array_equal(hls_to_rgb(torch.from_numpy(arrays["hls"])).numpy(), arrays["rgb"])


def run_sample(case: Case) -> None:
    arrays, splits = case.arrays, case.info["splits"]
    assert_pictures(arrays["labels"], arrays["images"])
    counts = {split: splits.count(split) for split in ("train", "val", "test")}
    np.testing.assert_array_equal(np.concatenate(list(published_labels(counts, 0).values())), arrays["labels"])
    np.testing.assert_array_equal(np.concatenate(list(published_unpaired(counts, 0).values())), arrays["unpaired"])
    for row, choices, caption in zip(arrays["labels"], case.info["choices"], case.info["captions"], strict=True):
        assert captions.compose(Attributes.of(row), choices) == caption
    for file, groups in case.info["alignment_files"].items():
        split = file.split("/")[1].partition("_")[0]
        pair = next(group for group in groups if "," in group).split(",")
        shares = [(pair, 0.5), ((pair[0],), 1.0), ((pair[1],), 1.0)]
        rows = counts[split] if "_ms:" in file else None
        assert file.endswith(alignment_name(split, shares, 0, rows))
        for group, expected in groups.items():
            np.testing.assert_array_equal(align(counts[split], shares, 0)[tuple(sorted(group.split(",")))], expected)


def run_captions(case: Case, version: int) -> None:
    assert captions.heads(version) == case.info["heads"]
    for row in case.info["rows"]:
        given = row["attributes"]
        attributes = Attributes(
            given["shape"], given["rotation"], tuple(given["color"]), given["size"], tuple(given["location"])
        )
        assert captions.compose(attributes, row["choices"]) == row["caption"]
        classes = captions.categories(row["choices"], version)
        assert classes == {head: row["categories"][head] for head in classes}
        assert row["categories"].keys() - classes.keys() <= {"variant_a"}  # a decision with one option
        rebuilt = captions.choices_of(classes)
        recorded = row.get("choices_from_categories", row["choices"])
        for part in ("structure", "groups"):
            assert rebuilt[part] == recorded[part]
        for name in ("rotation", "location"):
            assert rebuilt["writers"][name]["_writer"] == recorded["writers"][name]["_writer"]
        again = captions.read_caption(row["caption"], attributes)
        assert captions.compose(attributes, again.choices) == row["caption"]


def run_grammar(case: Case) -> None:
    for part in ("templates", "variants", "writers", "colors"):
        assert captions.GRAMMAR[part] == case.info[part]


def run_alignment(case: Case) -> None:
    for number, item in enumerate(case.info["cases"]):
        shares = [(group.split(","), share) for group, share in item["proportions (in this order)"]]
        assert alignment_name("train", shares, item["seed"], item["n"]) == f"train_{item['file_stem']}"
        for group, rows in align(item["n"], shares, item["seed"]).items():
            np.testing.assert_array_equal(rows, case.arrays[f"case{number}/{','.join(group)}"])


def run_sync(case: Case) -> None:
    for number, item in enumerate(case.info["cases"]):
        order = np.random.RandomState(item["numpy_seed"]).permutation(item["n"])
        extra = dict(zip(item["domains"], item["ood_indices"], strict=True)) if item["ood_indices"] else None
        rows, groups = repeat_matched(
            item["n"],
            item["domains"],
            matched=item["prop_labelled"],
            available=item["prop_available"],
            order=order,
            extra=extra,
        )
        np.testing.assert_array_equal(rows, case.arrays[f"case{number}/mapping"])
        assert ["+".join(group) for group in groups] == case.arrays[f"case{number}/domains"].tolist()


def run_hole(case: Case) -> None:
    labels = torch.from_numpy(case.arrays["labels"])
    for number, item in enumerate(case.info["cases"]):
        hole = {
            name: (b, b + 1) if isinstance(b, int) else (b[0][b[1] - 1], b[0][b[1]]) for name, b in item["bins"].items()
        }
        held_out = inside(labels, hole)
        np.testing.assert_array_equal(held_out.nonzero().flatten(), case.arrays[f"case{number}/ood"])
        np.testing.assert_array_equal((~held_out).nonzero().flatten(), case.arrays[f"case{number}/in_dist"])


def run_splits(case: Case) -> None:
    arrays = case.arrays
    labels = torch.from_numpy(arrays["labels"])
    for item in case.info["cases"]:
        hole = {name: (float(low), float(high)) for name, low, high in item["boundaries"]}
        held_out = inside(labels, hole, rule="any")
        seed = f"seed{item['python_random_seed']}"
        np.testing.assert_array_equal(held_out.nonzero().flatten(), arrays[f"{seed}/ood"])
        np.testing.assert_array_equal((~held_out).nonzero().flatten(), arrays[f"{seed}/in_dist"])
    rows, references = scaled(labels), torch.arange(len(arrays["odd/closest"]))
    np.testing.assert_allclose(rows, arrays["odd/normalised_labels"], atol=1e-7)
    found = [partners(rows, references, columns) for columns in ((4,), (5, 6, 7))]
    np.testing.assert_array_equal(torch.stack(found, 1), arrays["odd/closest"])
    np.testing.assert_allclose(
        oddness(rows, references, found[1]).topk(10, 1).values, arrays["odd/top10_scores"], atol=1e-7
    )


KINDS = {
    "simple_shapes/render": run_render,
    "simple_shapes/labels_generator": run_labels,
    "simple_shapes/sample": run_sample,
    "simple_shapes/caption_grammar": run_grammar,
    "simple_shapes/captions": lambda case: run_captions(case, 1),
    "simple_shapes/captions_v2": lambda case: run_captions(case, 2),
    "simple_shapes/alignment": run_alignment,
    "simple_shapes/sync_mapping": run_sync,
    "simple_shapes/ood_hole": run_hole,
    "simple_shapes/splits": run_splits,
}
