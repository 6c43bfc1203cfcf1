"""bimGW, shimmer and shimmer-ssd: domains, workspaces, selections, losses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from objectscape.checkpoints import bimgw, shimmer
from objectscape.models.domains.attributes import Attributes
from objectscape.models.domains.latents import symexp, symlog
from objectscape.models.domains.text_gru import AttributeReader
from objectscape.models.domains.text_vae import TextVAE
from objectscape.models.domains.visual_vae import VisualVAE
from objectscape.models.global_workspace import GlobalWorkspace, WorkspaceOutput
from objectscape.nn.attribute_vectors import to_rows, to_vector
from objectscape.nn.contrastive import LOG_SCALE, clip_loss, info_nce, vse_loss
from objectscape.nn.odd_one_out import OddClassifier, distance_logits, swap_one
from objectscape.nn.selection import EqualSelection, one_hot_weights, random_weights
from objectscape.scene import Multimodal
from tests.parity.case import Case


def run_contrastive(case: Case) -> None:
    inputs = case.inputs()
    x, y = inputs["x"].requires_grad_(), inputs["y"].requires_grad_()
    losses: dict[str, Tensor] = {}
    for name, scale in (("init", LOG_SCALE), ("capped", 6.0), ("one", 0.0)):
        case.compare(f"clip_{name}_none", clip_loss(x, y, scale))
        losses |= {f"clip_{name}": clip_loss(x, y, scale).mean(), f"infonce_{name}": info_nce(x, y, scale).mean()}
    for measure in ("cosine", "order"):
        for name, hardest in (("max", True), ("sum", False)):
            losses[f"vse_{measure}_{name}"] = vse_loss(
                x, y, margin=case.config["margin"], measure=measure, hardest=hardest
            )
    for name, loss in losses.items():
        case.compare(name, loss)
        for leaf, grad in zip("xy", torch.autograd.grad(loss, (x, y)), strict=True):
            norm = case.arrays[f"grad_norms/{name}/{leaf}"]
            torch.testing.assert_close(grad.norm(), torch.tensor(norm), rtol=1e-3, atol=1e-5)
    case.finish()


def run_normalize(case: Case) -> None:
    arrays = {name: torch.from_numpy(array) for name, array in case.arrays.items()}
    vector = to_vector(arrays["labels"], scale="ranges")
    torch.testing.assert_close(vector[:, :3].long(), arrays["category_onehot"])
    torch.testing.assert_close(vector[:, 3:], arrays["attributes"], **case.tolerance)
    rows = to_rows(vector, scale="ranges")
    names = ("category", "x", "y", "size", "rotation", "color_r", "color_g", "color_b")
    for column, name in enumerate(names):
        expected = arrays[f"back/{name}"].float()
        torch.testing.assert_close(rows[:, column], expected, rtol=1e-5, atol=2e-4)


def everyone(domains: dict[str, Tensor]) -> Multimodal:
    rows = len(next(iter(domains.values())))
    return Multimodal(domains=domains, present={name: torch.ones(rows, dtype=torch.bool) for name in domains})


class Lens(nn.Module):
    """Calls a function of a module with other weights, for `functional_call`."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, look: Callable[[Any], Any]) -> Any:
        return look(self.model)


def look_into(model: nn.Module, weights: dict[str, Tensor], look: Callable[[Any], Any]) -> Any:
    renamed = {f"model.{key}": value for key, value in weights.items()}
    with torch.backends.mkldnn.flags(enabled=False):
        return functional_call(Lens(model), renamed, (look,))


def run_vae(case: Case, code: Any, *, released: bool) -> None:
    leaves, inputs = case.weights(requires_grad=True), case.inputs()
    model: VisualVAE = code.build_vae(case.config)
    params = code.convert_vae(leaves, case.config)
    params = {k: v.detach() if "running" in k else v for k, v in params.items()}
    batch = everyone({"v": inputs["images"]})
    rows = len(inputs["images"])

    def evaluate(vae: VisualVAE) -> dict[str, Tensor]:
        features = vae.encoder(batch.domains["v"])
        found = {"encoder_features": features, "mean": vae.mean(features), "logvar": vae.logvar(features)}
        found |= {"reconstruction": vae.draw(found["mean"]), "encode": vae.encode(batch.domains["v"])}
        last = next(i for i, part in enumerate(vae.decoder) if isinstance(part, nn.ZeroPad2d | nn.Identity))
        found["decoder_pre_head"] = vae.decoder[:last](found["mean"][:, :, None, None])
        if "z" in inputs:
            found["decode_of_z"] = vae.draw(inputs["z"])
        return found

    computed = {f"eval/{name}": value for name, value in look_into(model.eval(), params, evaluate).items()}
    statistics = {k: v.detach().clone() for k, v in params.items() if "running" in k or "num_batches" in k}

    def train(vae: VisualVAE) -> Any:
        vae.encoder.train()
        vae.decoder.train()  # the model itself stays in eval mode: no noise
        output = vae(batch)
        return vae.loss(batch, output, 0)

    losses = look_into(model, {**params, **statistics}, train)
    whole = "total_loss" if released else "loss"
    computed |= {
        "train/reconstruction_loss": losses.terms["nll"] * rows,
        "train/kl_loss": losses.terms["kl"] * rows,
        f"train/{whole}": losses.total * rows,
        "train/log_sigma": losses.terms["log_sigma"],
    }
    for name in case.group("outputs"):
        if name.startswith("train/after_step/"):
            theirs = name.removeprefix("train/after_step/")
            ours = theirs.replace(".layers", "")
            computed[name] = statistics[ours]
        case.compare(name, computed[name])
    case.compare_gradients(losses.total * rows, leaves)
    case.finish()


def run_bimgw_attributes(case: Case) -> None:
    inputs, domain = case.inputs(), Attributes()
    rows = inputs["labels"]
    latent = domain.encode(rows[:, :8])
    raw = torch.cat([inputs["raw_cls_logits"], inputs["raw_attr"]], 1)
    predicted = domain.activate(raw)
    adapted = domain.adapt(predicted)
    scaled = (latent[:, 3:] + 1) / 2
    loader = torch.cat([scaled[:, :3] * 32, scaled[:, 3:]], 1)
    decoded = (predicted[:, 3:] + 1) / 2
    computed: dict[str, Tensor] = {
        "loader_cls": rows[:, 0].long(),
        "loader_attr": loader,
        "loader_attr_with_unpaired": torch.cat([loader, rows[:, 11:]], 1),
        "decoded_cls": domain.decode(predicted)[:, 0].long(),
        "decoded_attr": torch.cat([domain.decode(predicted)[:, 1:4], decoded[:, 3:]], 1),
        "loss": domain.latent_loss(predicted, latent).mean(),
    }
    for name, value in (("encoded", latent), ("pred", predicted), ("adapted", adapted)):
        computed |= {f"{name}_z_cls": value[:, :3], f"{name}_z_attr": value[:, 3:]}
    computed["loss_attr"] = (predicted[:, 3:] - latent[:, 3:]).square().mean()
    computed["loss_cls"] = computed["loss"] - computed["loss_attr"]
    for alpha in (1.0, 2.5):
        label = f"{alpha:g}"
        computed[f"symlog_alpha{label}"] = symlog(inputs["symlog_x"], alpha)
        computed[f"symexp_alpha{label}"] = symexp(inputs["symlog_x"], alpha, as_released=True)
        assert torch.allclose(symexp(symlog(inputs["symlog_x"], alpha), alpha), inputs["symlog_x"], atol=1e-5)
    for name in case.group("outputs"):
        case.compare(name, computed[name])
    case.finish()


def run_bimgw_text(case: Case) -> None:
    leaves, inputs = case.weights(requires_grad=True), case.inputs()
    model = bimgw.build_text(case.config).eval()
    params = bimgw.convert_text(leaves, case.config)
    kind, numbers = inputs["cls"], inputs["attr"]  # numbers as bimGW's loader gives them
    lengths, turns, colors = numbers[:, :3], 2 * numbers[:, 3:5] - 1, numbers[:, 5:] * 255
    angle = torch.atan2(turns[:, 1], turns[:, 0])
    rows = torch.cat([kind[:, None].float(), lengths, angle[:, None], colors], 1)
    names = list(case.config["heads"])
    grammar = torch.stack([inputs[f"choices/{name}"].long() for name in names], 1)
    batch = everyone({"t": inputs["bert"], "attr": rows, "grammar": grammar})

    def look(text: TextVAE) -> Any:
        output = text(batch)
        return output, text.loss(batch, output, 0)

    output, losses = look_into(model, params, look)
    count, terms, heads = len(rows), losses.terms, output.heads
    vae = terms["rec"] + model.beta * terms["kl"]
    target = Attributes().encode(rows)
    decoded = (heads["attributes"][:, 3:] + 1) / 2
    computed = {
        "total_loss": losses.total,
        "reconstruction_loss": terms["rec"] * count,
        "kl_divergence_loss": terms["kl"] * count,
        "vae_loss": vae,
        "loss_attributes_0": terms["class"],
        "loss_attributes_1": terms["numbers"],
        "attribute_grammar_loss": terms["class"] + terms["numbers"] + terms["grammar"],
        "mean": output.latent,
        "logvar": output.logvar,
        "bert_reconstruction": output.decoded,
        "attr_logprobs": heads["attributes"][:, :3],
        "attr_values": heads["attributes"][:, 3:],
        "target_onehot": target[:, :3],
        "target_attr": target[:, 3:],
        "decoded_cls": heads["attributes"][:, :3].argmax(1),
        "decoded_attr": torch.cat([decoded[:, :3] * 32, decoded[:, 3:]], 1),
    }
    for index, name in enumerate(names):
        computed[f"grammar_logits/{name}"] = heads[name]
        computed[f"loss_grammar_{name}"] = nn.functional.cross_entropy(heads[name], grammar[:, index])
    for name, expected in case.group("outputs").items():
        value = computed[name]
        case.compare(name, value.to(torch.float32) if value.dtype.is_floating_point else value.reshape(expected.shape))
    trained = case.config["train_vae"], case.config["train_attr_decoders"]
    frozen = tuple(
        key
        for key in leaves
        if key in ("log_sigma", "beta") or not (trained[0] if key.startswith(("encoder", "decoder")) else trained[1])
    )
    case.compare_gradients(losses.total, leaves, skip=frozen)
    case.finish()


def run_bimgw_workspace(case: Case) -> None:
    leaves, inputs, config = case.weights(requires_grad=True), case.inputs(), case.config
    model = bimgw.build_workspace(config).eval()
    params = bimgw.convert_workspace(leaves, config)
    domains, present = {}, {}
    for name in config["domains"]:
        present[name] = inputs[f"{name}/available"]
        if name == "attr":
            kind, numbers = inputs["attr/cls"], inputs["attr/attr"]
            turns = 2 * numbers[:, 3:5] - 1
            angle = torch.atan2(turns[:, 1], turns[:, 0])[:, None]
            rows = torch.cat([kind[:, None].float(), numbers[:, :3], angle, numbers[:, 5:] * 255], 1)
            vector = torch.cat([nn.functional.one_hot(kind, 3).float(), _bimgw_numbers(numbers)], 1)
            domains["attr"], domains["attr_latent"] = rows, vector  # absent rows are zeros, which are no angle
            present["attr_latent"] = present["attr"]
        else:
            domains[name] = inputs[f"{name}/{bimgw.PARTS[name][0]}"]
    batch = Multimodal(domains=domains, present=present)
    output, losses = look_into(model, params, lambda m: (o := m(batch), m.loss(batch, o, 0)))
    terms = look_into(model, params, lambda m: m.terms(m(batch)))
    names = config["domains"]
    computed: dict[str, Tensor] = {"loss/total": losses.total}

    def parts_of(name: str, latent: Tensor) -> dict[str, Tensor]:
        return dict(zip(bimgw.PARTS[name], latent.split(list(model.domain(name).parts.values()), 1), strict=True))

    for name in names:
        computed |= {f"latent/{name}/{part}": v for part, v in parts_of(name, output.latents[name]).items()}
        computed |= {f"encoder_preact/{name}": output.encodings[name], f"state/{name}": output.states[name]}
    for key, value in output.decoded.items():
        source, to = key.split(">")
        computed |= {f"prediction/{source}_to_{to}/{part}": v for part, v in parts_of(to, value).items()}
    for key, value in output.cycled.items():
        d, through, _ = key.split(">")
        computed |= {f"cycle/{d}_through_{through}/{part}": v for part, v in parts_of(d, value).items()}
    computed["state/fused_all"] = torch.stack(list(output.encodings.values())).sum(0).tanh()
    means = {term: torch.stack(list(values.values())).mean() for term, values in terms.items() if values}
    computed |= {f"loss/{theirs}": means[ours] for theirs, ours in (
        ("translation", "translation"), ("demi_cycles", "demi_cycle"), ("cycles", "cycle"),
        ("contrastive", "contrastive"))}  # fmt: skip
    for key, value in terms["translation"].items():
        source, to = key.split(">")
        computed[f"loss/translation/domain_{to}-{source}"] = value
    for key, value in terms["demi_cycle"].items():
        computed[f"loss/demi_cycles/domain_{key.split('>')[0]}-u"] = value
    for key, value in terms["cycle"].items():
        d, through, _ = key.split(">")
        computed[f"loss/cycles/domain_{d}-{through}"] = value
    for key, value in terms["contrastive"].items():
        one, other = key.split("=")
        computed[f"loss/contrastive_s_{one}-s_{other}"] = value
    given = config["loss_coefs"]
    supervised = ("translation", "contrastive")
    unsupervised = ("demi_cycles", "cycles")
    computed["loss/supervised"] = sum((given[n] * computed[f"loss/{n}"] for n in supervised), torch.zeros(()))
    computed["loss/unsupervised"] = sum((given[n] * computed[f"loss/{n}"] for n in unsupervised), torch.zeros(()))
    computed["loss/supervised_no_coefs"] = sum((computed[f"loss/{n}"] for n in supervised), torch.zeros(()))
    computed["loss/unsupervised_no_coefs"] = sum((computed[f"loss/{n}"] for n in unsupervised), torch.zeros(()))
    computed["loss/total_no_coefs"] = computed["loss/supervised_no_coefs"]
    if config["optim_unsupervised_losses_after"] < 0:
        computed["loss/total_no_coefs"] = computed["loss/total_no_coefs"] + computed["loss/unsupervised_no_coefs"]
    computed |= part_losses(model, output)
    for name in case.group("outputs"):
        case.compare(name, computed[name])
    assert any(model.weights[term] for term in ("translation", "contrastive"))
    case.compare_gradients(losses.total, leaves, skip=tuple(k for k in case.group("grad_norms") if k[:3] == "of_"))
    compare_terms(case, leaves, {theirs: means[ours] for theirs, ours in (
        ("translation", "translation"), ("demi_cycles", "demi_cycle"), ("cycles", "cycle"),
        ("contrastive", "contrastive"))})  # fmt: skip
    case.finish()


def part_losses(model: GlobalWorkspace, output: WorkspaceOutput) -> dict[str, Tensor]:
    """{bimGW's label: scalar} of every part of every latent, over the rows that count."""
    found = {}
    for key, predicted in (output.decoded | output.cycled).items():
        first, *through, to = key.split(">")
        rows, target = output.present[first] & output.present[to], output.latents[to]
        if through:
            label = f"cycles/domain_{to}-{through[0]}"
        else:
            label = f"demi_cycles/domain_{to}-u" if first == to else f"translation/domain_{to}-{first}"
        widths = list(model.domain(to).parts.values())
        for number, (p, t) in enumerate(zip(predicted[rows].split(widths, 1), target[rows].split(widths, 1))):
            kinds = to == "attr" and number == 0
            value = nn.functional.nll_loss(p, t.argmax(1)) if kinds else nn.functional.mse_loss(p, t)
            found[f"loss/{label}_{number}"] = value
    return found


def _bimgw_numbers(numbers: Tensor) -> Tensor:
    return 2 * torch.cat([numbers[:, :3] / 32, numbers[:, 3:]], 1) - 1


def compare_terms(case: Case, leaves: dict[str, Tensor], terms: dict[str, Tensor]) -> None:
    """Gradient norms of single terms: `of_<term>/<weight>`."""
    for name, term in terms.items():
        keys = [k.split("/", 1)[1] for k in case.group("grad_norms") if k.startswith(f"of_{name}/")]
        if not keys:
            continue
        found = torch.autograd.grad(term, [leaves[k] for k in keys], allow_unused=True, retain_graph=True)
        for key, grad in zip(keys, found, strict=True):
            norm = torch.zeros(()) if grad is None else grad.norm()
            expected = torch.tensor(case.arrays[f"grad_norms/of_{name}/{key}"])
            torch.testing.assert_close(
                norm, expected, rtol=1e-3, atol=1e-5, msg=lambda m, k=key, n=name: f"{n} {k}: {m}"
            )


def run_shimmer(case: Case) -> None:
    leaves, inputs, config = case.weights(requires_grad=True), case.inputs(), case.config
    model = shimmer.build_workspace(config).eval()
    if config["selection_temperature"]:
        model.selection = EqualSelection()  # the recorded draws give equal weights
    params = shimmer.convert_workspace(leaves, config)
    sizes = config["domain_latent_dims"]
    groups = [(members, rows) for members, rows in config["groups"]]
    domains = {
        name: torch.cat([
            inputs[f"{'+'.join(members)}/{name}"] if name in members else torch.zeros(rows, sizes[name])
            for members, rows in groups
        ])
        for name in sizes
    }  # fmt: skip
    present = {name: torch.cat([torch.full((rows,), name in members) for members, rows in groups]) for name in sizes}
    batch = Multimodal(domains=domains, present=present)
    output, losses = look_into(model, params, lambda m: (o := m(batch), m.loss(batch, o, 0)))
    terms = look_into(model, params, lambda m: m.terms(m(batch)))
    means = {term: torch.stack(list(values.values())).mean() for term, values in terms.items() if values}
    case.compare("loss", losses.total)
    for theirs, ours in shimmer.TERMS.items():
        if f"metric/{theirs}" in case.group("outputs"):
            case.compare(f"metric/{theirs}", means[ours])
    single = labels_of(terms)
    for name in case.group("outputs"):
        if name.removeprefix("metric/") in single:
            case.compare(name, single[name.removeprefix("metric/")])
    starts = torch.tensor([0, *[rows for _, rows in groups]]).cumsum(0).tolist()
    for (members, _), start, stop in zip(groups, starts, starts[1:], strict=False):
        label, rows = "+".join(members), slice(start, stop)
        for name in members:
            case.compare(f"prefusion/{label}/{name}", output.encodings[name][rows])
        if label in output.states:
            key = label
        else:
            key = next((k for k in output.states if set(k.split("+")) == set(members)), "")
        if key:
            case.compare(f"state/{label}", output.states[key][rows])
            for to in sizes:
                if f"{key}>{to}" in output.decoded:
                    case.compare(f"broadcast/{label}_to_{to}", output.decoded[f"{key}>{to}"][rows])
            for path, value in output.cycled.items():
                first, _, to = path.split(">")
                if first == key:
                    case.compare(f"broadcast_cycle/{label}_to_{to}", value[rows])
    case.compare_gradients(losses.total, leaves, skip=tuple(k for k in case.group("grad_norms") if k[:3] == "of_"))
    compare_terms(case, leaves, {theirs: means[ours] for theirs, ours in shimmer.TERMS.items() if ours in means})
    shown = ("_logit_scale", "broadcast_loss")  # a constant, and a sum of the rest
    case.finish(ignore=tuple(n for n in case.group("outputs") if not n.startswith("metric/") or n.endswith(shown)))


def labels_of(terms: dict[str, dict[str, Tensor]]) -> dict[str, Tensor]:
    """{shimmer's label: scalar} of every single loss."""

    def several(names: str) -> str:
        return "{" + ",".join(sorted(names.split("+"))) + "}"

    found = {}
    for term, values in terms.items():
        for key, value in values.items():
            path, _, group = key.partition("@")
            first, *through, to = path.split(">") if ">" in path else path.split("=")
            if term == "contrastive":
                found |= dict.fromkeys((f"contrastive_{first}_and_{to}", f"contrastive_{to}_and_{first}"), value)
            elif group and through:
                found[f"from_{several(first)}_through_{several(through[0])}_to_{to}_case_{several(group)}_loss"] = value
            elif group:
                found[f"from_{several(first)}_to_{to}_loss"] = value
            elif through:
                found[f"cycle_{to}_through_{through[0]}"] = value
            else:
                found[f"demi_cycle_{to}" if first == to else f"translation_{first}_to_{to}"] = value
    return found


def run_selection(case: Case) -> None:
    leaves, inputs, config = case.weights(requires_grad=True), case.inputs(), case.config
    names = config["domains"]
    latents = {name: inputs[f"latent/{name}"] for name in names}
    encodings = {name: inputs[f"prefusion/{name}"] for name in names}
    found: dict[str, dict[str, Tensor]] = {}
    for temperature in (0.2, 1.0):
        weights = random_weights(inputs["uniform"], temperature)
        found[f"random_T{temperature}"] = dict(zip(names, weights.unbind(1), strict=True))
    found["single"] = dict(zip(names, one_hot_weights(inputs["choice"], len(names)).unbind(1), strict=True))
    found["shared"] = EqualSelection()(latents, encodings)
    params = shimmer.convert_attention(leaves, config)
    for steps in (0, 1, 3):
        model = shimmer.build_attention({**config, "n_steps": steps})
        found[f"attention_steps{steps}"] = look_into(model, params, lambda m: m(latents, encodings))
    for kind, weights in found.items():
        for name in names:
            case.compare(f"{kind}/{name}", weights[name])
    loss = (found["attention_steps3"][names[0]] - inputs["target"]).square().mean()
    case.compare("attention_loss", loss)
    case.compare_gradients(loss, leaves)
    case.finish()


def run_ssd_attributes(case: Case) -> None:
    leaves, inputs = case.weights(requires_grad=True), case.inputs()
    model = shimmer.build_attributes(case.config).eval()
    params = shimmer.convert_attributes(leaves, case.config)
    rows = to_rows(torch.cat([inputs["category_onehot"].float(), inputs["attributes"]], 1), scale="ranges")
    batch = everyone({"attr": rows})
    output, losses = look_into(model, params, lambda m: (o := m(batch), m.loss(batch, o, 0)))
    count, terms = len(rows), losses.terms
    several = case.config["n_unpaired"]
    wide = shimmer.build_attributes(case.config, several)
    latent = look_into(wide, params, lambda m: m.encode(torch.cat([rows, inputs["unpaired"]], 1)))
    predicted = inputs["unpaired_prediction"]
    paired = (predicted[:, :-several] - latent[:, :-several]).square().mean()
    unpaired = (predicted[:, -several:] - latent[:, -several:]).square().mean()
    torch.testing.assert_close(wide.latent_loss(predicted, latent).mean(), paired + unpaired)
    computed = {
        "mean": output.latent,
        "logvar": output.logvar,
        "category_logits": output.decoded[:, :3],
        "attributes": output.decoded[:, 3:],
        "train/reconstruction_loss_categories": terms["class"] * count,
        "train/reconstruction_loss_attributes": terms["numbers"] * count,
        "train/reconstruction_loss": (terms["class"] + terms["numbers"]) * count,
        "train/kl_loss": terms["kl"] * count,
        "train/loss": losses.total * count,
        "unpaired/latent": latent,
        "unpaired/loss_paired": paired,
        "unpaired/loss_unpaired": unpaired,
        "unpaired/loss": wide.latent_loss(predicted, latent).mean(),
        "unpaired/decoded_unpaired": look_into(wide, params, lambda m: m.decode(latent))[:, 8:],
    }
    for name in case.group("outputs"):
        case.compare(name, computed[name])
    case.compare_gradients(losses.total * count, leaves)
    case.finish()


def run_ssd_gru(case: Case) -> None:
    leaves, inputs, config = case.weights(requires_grad=True), case.inputs(), case.config
    model = shimmer.build_text(config).eval()
    params = shimmer.convert_text(leaves, config)
    batch = everyone({"t": inputs["bert"], "tokens": inputs["tokens"]})
    output, losses = look_into(model, params, lambda m: (o := m(batch), m.loss(batch, o, 0)))
    written = look_into(model, params, lambda m: m.write(output.latent))
    reader = AttributeReader(latent_size=config["latent_dim"], hidden_size=config["text2attr_hidden"])
    names = {"numbers": "pred_attr", "kind": "pred_cat"}
    heads = {k: leaves[f"text2attr/{names[k.split('.')[0]]}.{k.split('.', 1)[1]}"] for k in reader.state_dict()}
    kind = inputs["category_onehot"].argmax(1)
    of_class, of_numbers = look_into(reader, heads, lambda m: m.losses(output.latent, kind, inputs["attributes"]))
    told = look_into(reader, heads, lambda m: m(output.latent))[:, :3].argmax(1)
    computed = {
        "mean": output.latent,
        "logvar": output.logvar,
        "decode/token_logits": written,
        "decode/tokens": written.argmax(2),
        "bert_reconstruction": output.decoded,
        "teacher_forced/token_logits": output.heads["tokens"],
        "token_loss": losses.terms["words"],
        "token_accuracy": losses.terms["accuracy"],
        "train/kl_loss": losses.terms["kl"],
        "train/reconstruction_loss": losses.terms["rec"],
        "train/total_loss": losses.total,
        "train/loss": losses.terms["words"],
        "train/acc": losses.terms["accuracy"],
        "text2attr/train/loss_cat": of_class,
        "text2attr/train/loss_attr": of_numbers,
        "text2attr/train/acc_cat": (told == kind).float().mean(),
        "text2attr/train/loss": of_class + of_numbers,
    }
    for name in case.group("outputs"):
        case.compare(name, computed[name])
    case.compare_gradients(
        losses.total, leaves, skip=tuple(k for k in case.group("grad_norms") if k.startswith("text2attr"))
    )
    case.finish()


def run_ssd_text_vae(case: Case) -> None:
    leaves, inputs, config = case.weights(requires_grad=True), case.inputs(), case.config
    model = shimmer.build_text_vae(config).eval()
    params = shimmer.convert_text_vae(leaves, config)
    rows = to_rows(torch.cat([inputs["cls"].float(), inputs["attr"]], 1), scale="ranges")
    grammar = torch.cat([inputs[name] for name in config["heads"]], 1)
    batch = everyone({"t": inputs["bert"], "attr": rows, "grammar": grammar})
    output, losses = look_into(model, params, lambda m: (o := m(batch), m.loss(batch, o, 0)))
    count, terms = len(rows), losses.terms
    computed = {
        "mean": output.latent,
        "logvar": output.logvar,
        "bert_reconstruction": output.decoded,
        "category_logits": output.heads["attributes"][:, :3],
        "attributes": output.heads["attributes"][:, 3:],
        "train/reconstruction_loss": terms["rec"] * count,
        "train/kl_loss": terms["kl"] * count,
        "train/attr_category": terms["class"] * count,
        "train/attr_attr": terms["numbers"] * count,
        "train/loss": losses.total * count,
    }
    for i, name in enumerate(config["heads"]):
        logits = output.heads[name]
        computed[f"grammar_logits/{name}"] = logits
        target = grammar[:, i].long()
        computed[f"train/{name}_ce"] = nn.functional.cross_entropy(logits, target, reduction="sum")
    for name in case.group("outputs"):
        case.compare(name, computed[name])
    case.compare_gradients(losses.total * count, leaves)
    case.finish()


def run_odd_one_out(case: Case) -> None:
    leaves, inputs, config = case.weights(requires_grad=True), case.inputs(), case.config
    label, place = inputs["label"].long(), inputs["swap_index"].long()
    states = {
        d: torch.stack(
            [
                (inputs[f"{d}/{i}"] @ leaves[f"encoders.{d}.0.weight"].T + leaves[f"encoders.{d}.0.bias"]).tanh()
                for i in range(3)
            ],
            1,
        )
        for d in "vt"
    }
    mixed = swap_one(states["v"], states["t"], place)
    classifier = OddClassifier(state_size=config["z_size"], hidden_size=config["hidden"])
    weights = {key: leaves[key.replace("layers", "classifier")] for key in classifier.state_dict()}
    losses = {}
    for kind, judge in (
        ("mlp", lambda x: look_into(classifier, weights, lambda m: m(x))),
        ("dist", distance_logits),
    ):
        for name, found in (("v", states["v"]), ("t", states["t"]), ("cross_modal", mixed)):
            logits = judge(found)
            loss = nn.functional.cross_entropy(logits, label)
            case.compare(f"{kind}/logits_{name}", logits)
            case.compare(f"{kind}/{name}_loss", loss)
            case.compare(f"{kind}/{name}_acc", (logits.argmax(1) == label).float().mean())
            losses[f"{kind}/{name}"] = loss
        case.compare(f"{kind}/cross_modal_v_prop", (judge(mixed).argmax(1) == place).float().mean())
        case.compare(f"{kind}/loss", losses[f"{kind}/v"])
    for d in "vt":
        case.compare(f"latents/{d}", states[d])
    case.compare_gradients(losses["mlp/v"], leaves)
    case.finish()


KINDS = {
    "global_workspace/bimgw_odd_one_out": run_odd_one_out,
    "global_workspace/ssd_text_gru": run_ssd_gru,
    "global_workspace/ssd_text_vae": run_ssd_text_vae,
    "metrics/gw_contrastive_losses": run_contrastive,
    "simple_shapes/normalise": run_normalize,
    "global_workspace/bimgw_vae": lambda case: run_vae(case, bimgw, released=True),
    "global_workspace/ssd_visual": lambda case: run_vae(case, shimmer, released=False),
    "global_workspace/bimgw_attributes": run_bimgw_attributes,
    "global_workspace/bimgw_text": run_bimgw_text,
    "global_workspace/bimgw_workspace": run_bimgw_workspace,
    "global_workspace/shimmer_two_domains": run_shimmer,
    "global_workspace/shimmer_fusion": run_shimmer,
    "global_workspace/shimmer_selection": run_selection,
    "global_workspace/ssd_attribute": run_ssd_attributes,
}
