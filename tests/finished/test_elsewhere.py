"""A run folder from somebody else: whatever no run writes is refused by `predict` and `audit`, with the file named."""

import json
import shutil
import socket
import zipfile

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from rps_utils import schema
from rps_utils.cli.main import main
from rps_utils.deep.checkpoints import read_network
from rps_utils.deep.networks import build_network
from rps_utils.files import LARGEST_JSON, read_json, write_json
from rps_utils.finished import recompute
from rps_utils.finished.models import load_run
from rps_utils.imaging.patches import read_patches
from rps_utils.learning.ledger import read_ledger
from rps_utils.run_folder import RunFolder
from tests.finished.conftest import seal


def refused(run, message, exception=ValueError):
    with pytest.raises(exception, match=message):
        load_run(run)


def test_an_honest_run_is_read(whole):
    frozen = load_run(whole / "run")
    assert set(frozen.fusions) == {"DL", "Rad", "Clinical", "DLCM", "RSCM"} and frozen.likeness is not None


# ---------------------------------------------------------------- hashes


def test_a_run_without_hashes_is_refused_with_what_to_do(altered):
    record = read_json(altered / "run.json")
    del record["files"]
    write_json(record, altered / "run.json")
    refused(altered, r"run.json has no hashes of the run's files: `rps run --out .*` writes them")
    (altered / "run.json").unlink()
    refused(altered, "is no finished run; missing: run.json", FileNotFoundError)


@pytest.mark.parametrize(
    "name", ["models/rad_all.json", "models/DL_without_1_0.safetensors", "cohort.csv", "patches.npz"]
)
def test_a_file_that_is_not_what_the_run_wrote_is_named(altered, name):
    content = bytearray((altered / name).read_bytes())
    content[-3] ^= 1
    (altered / name).write_bytes(bytes(content))
    refused(altered, rf"{name} is not what the run wrote: its hash is another than in run.json\n`rps run --out .*anew")


def test_a_file_that_the_run_did_not_write_is_named(altered):
    record = read_json(altered / "run.json")
    del record["files"]["models/bounds.json"]
    write_json(record, altered / "run.json")
    refused(altered, "models/bounds.json is not in run.json: the run did not write it")


# ---------------------------------------------------------------- values; the hashes are made to fit


def change(*path, value):
    """Return a change of a JSON file: one value, at a place."""

    def apply(content):
        at = content
        for key in path[:-1]:
            at = at[key]
        at[path[-1]] = value(at[path[-1]]) if callable(value) else value
        return content

    return apply


VALUES = {
    "one mean for all features": ("rad_all", change("means", value=lambda m: m[:1] if len(m) > 1 else m * 2)),
    "zero SD": ("rad_all", change("sds", 0, value=0.0)),
    "NaN coefficient": ("rad_all", change("coefficients", 0, value=float("nan"))),
    "infinite coefficient": ("DLCM", change("coefficients", 0, value=float("inf"))),
    "coefficient that is text": ("DLCM", change("coefficients", 0, value="0.5")),
    "coefficient that is true": ("DLCM", change("coefficients", 0, value=True)),
    "huge coefficient": ("DLCM", change("coefficients", 0, value=1e9)),
    "one coefficient more": ("clinical_cox", change("coefficients", value=lambda c: [*c, 0.1])),
    "a term twice": ("clinical_cox", change("terms", 1, value="age")),
    "baseline that falls": ("dl_cox", change("cumulative_hazard", value=lambda h: h[::-1])),
    "times that fall": ("dl_cox", change("times", value=lambda t: t[::-1])),
    "negative hazard": ("dl_cox", change("cumulative_hazard", 0, value=-1.0)),
    "more alive later": (
        "dl_cox",
        lambda c: {**c, "alive_before": [i / len(c["times"]) for i in range(len(c["times"]))]},
    ),
    "alive at too few times": ("dl_cox", lambda c: {**c, "alive_before": [1.0] * (len(c["times"]) - 1)}),
    "scale without spread": ("rad_scale", change("sd", value=0.0)),
    "extraction with another key": ("rad_extraction", lambda c: {**c, "hook": "x"}),
    "image type unknown": ("rad_extraction", change("image_types", value=["original", "exec"])),
    "mode that nobody had": ("clinical_design", change("modes", "grade", value="G9")),
    "level in no column": ("clinical_design", lambda c: {**c, "levels": {}}),
    "knots of a word": ("clinical_design", lambda c: {**c, "knots": {"grade": [1.0, 2.0, 3.0]}}),
    "knots that fall": ("clinical_design", lambda c: {**c, "knots": {"age": [70.0, 60.0, 50.0]}}),
    "precision not square": ("likeness", change("precision", 0, value=[1.0])),
    "zero SD of images": ("likeness", change("sds", 0, value=0.0)),
    "bound of a certain level": ("bounds", change("level", value=1.5)),
    "negative residual": ("bounds", change("residual", "DL", value=-0.1)),
    "list for an object": ("bounds", lambda c: [c]),
    "ensemble without spread": ("DL_ensembles", change("ensembles", 0, "scale", value=[0.0, 0.0])),
}


@pytest.mark.parametrize(("name", "apply"), VALUES.values(), ids=VALUES)
def test_values_that_no_fit_gives_are_refused_though_the_hashes_fit(altered, name, apply):
    path = altered / "models" / f"{name}.json"
    path.write_text(json.dumps(apply(read_json(path))))
    seal(altered)
    refused(altered, rf"models/{name}\.json: .*(allowed|no number of JSON)")


PLACES = [
    "../../x.safetensors",
    "/etc/x.safetensors",
    "..\\x.safetensors",
    "a/b.safetensors",
    "x.pt",
    "http://x/y.safetensors",
]


@pytest.mark.parametrize("place", PLACES)
def test_networks_outside_the_folder_are_refused(altered, place):
    shutil.copy(altered / "models" / "DL_without_0_0.safetensors", altered.parent / "x.safetensors")
    path = altered / "models" / "DL_ensembles.json"
    content = read_json(path)
    content["ensembles"][0]["networks"] = {place: [0.0, 1.0]}
    write_json(content, path)
    seal(altered)
    refused(
        altered,
        r"models/DL_ensembles.json: a name in content.ensembles\[0\].networks is '.*; allowed: a text of the form",
    )


@pytest.mark.parametrize("name", ["models/rad_all.json", "models/DL_without_0_0.safetensors", "cohort.csv"])
def test_links_that_lead_out_are_refused(altered, name):
    outside = altered.parent / "outside"
    (altered / name).rename(outside)
    (altered / name).symlink_to(outside)
    refused(altered, "leads out of .*; allowed: files below it, and no link to elsewhere")


TEXTS = {
    "damaged": ('{"mean": 0.1, "sd"', "not readable as JSON"),
    "twice": ('{"mean": 0.1, "sd": 1.0, "sd": 2.0}', "the name 'sd' stands twice in one object"),
    "nested": ("[" * 100_000 + "]" * 100_000, "not readable as JSON"),
    "nan": ('{"mean": NaN, "sd": 1.0}', "NaN is no number of JSON"),
    "infinite": ('{"mean": 1e999, "sd": 1.0}', "content.mean is inf; allowed: a finite number"),
    "digits": ('{"mean": ' + "9" * 5000 + ', "sd": 1.0}', "rad_scale.json: "),
    "not UTF-8": (b'{"mean": "\xff"}', "not readable as JSON"),
    "empty": ("", "not readable as JSON"),
}


@pytest.mark.parametrize(("content", "message"), TEXTS.values(), ids=TEXTS)
def test_json_of_every_bad_kind_is_refused_with_the_file(altered, content, message):
    path = altered / "models" / "rad_scale.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    seal(altered)
    refused(altered, f"rad_scale.json.*{message}" if "rad_scale" not in message else message)


def test_a_huge_json_is_refused_unread(altered):
    path = altered / "models" / "rad_scale.json"
    with path.open("wb") as stream:
        stream.truncate(LARGEST_JSON + 1)
    seal(altered)
    refused(altered, r"rad_scale.json: 64 MiB; allowed: JSON of at most 64 MiB")


# ---------------------------------------------------------------- networks


def rewrite_network(run, card=lambda c: c, weights=lambda w: w):
    """Write a network anew with another card or other weights, and hashes that fit."""
    path = run / "models" / "DL_without_0_0.safetensors"
    with safe_open(path, framework="pt") as stored:
        old_card = json.loads(stored.metadata()["card"])
        old = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
    new_card = card(old_card)
    save_file(weights(old), path, metadata={"card": json.dumps(new_card)})
    path.with_suffix(".json").write_text(json.dumps(new_card))
    seal(run)
    return path


def with_options(network, **options):
    def apply(card):
        card["settings"] = {**card["settings"], "network": network, "network_options": options}
        return card

    return apply


CARDS = {
    "pretrained weights": (with_options("resnet18", pretrained=True), "'pretrained'; allowed: none"),
    "an option of nobody": (with_options("region", device="cuda"), "'device'; allowed: widths"),
    "absurd widths": (
        with_options("region", widths=[10**9]),
        r"widths.*is 1000000000; allowed: a whole number, 1 to 1024",
    ),
    "a network of nobody": (with_options("os"), "network = 'os'; allowed: region"),
    "a shape too large": (lambda c: {**c, "patch_shape": [5, 10**6, 10**6, 10**6]}, "patch_shape.*; allowed"),
    "no settings": (lambda c: {k: v for k, v in c.items() if k != "settings"}, r"lacks \['settings'\]"),
    "a turn of nobody": (
        lambda c: {
            **c,
            "settings": {**c["settings"], "augmentation": {**c["settings"]["augmentation"], "orientations": "x"}},
        },
        "orientations is 'x'; allowed: 'lateral_axis_kept'",
    ),
}


@pytest.mark.parametrize(("card", "message"), CARDS.values(), ids=CARDS)
def test_cards_that_no_training_writes_are_refused(altered, card, message, monkeypatch):
    monkeypatch.setattr(socket, "socket", lambda *_, **__: pytest.fail("a network connection was asked for"))
    path = rewrite_network(altered, card)
    with pytest.raises(ValueError, match=rf"DL_without_0_0.safetensors.*{message}"):
        read_network(path)


WEIGHTS = {
    "a tensor missing": lambda w: dict(list(w.items())[1:]),
    "a tensor more": lambda w: {**w, "extra": torch.zeros(1)},
    "another shape": lambda w: {**w, "head.weight": torch.zeros(1, 3)},
    "another type": lambda w: {**w, "head.weight": w["head.weight"].double()},
    "not finite": lambda w: {**w, "head.weight": w["head.weight"] * float("nan")},
}


@pytest.mark.parametrize("weights", WEIGHTS.values(), ids=WEIGHTS)
def test_weights_of_another_network_are_refused(altered, weights):
    path = rewrite_network(altered, weights=weights)
    with pytest.raises(ValueError, match=r"DL_without_0_0.safetensors: not readable as a network.*(tensors|allowed)"):
        read_network(path)


@pytest.mark.parametrize("cut", [10, 200, -5])
def test_a_network_cut_short_is_named(altered, cut):
    path = altered / "models" / "DL_without_0_0.safetensors"
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(ValueError, match=r"DL_without_0_0.safetensors: not readable as a network"):
        read_network(path)


def test_other_weights_of_the_right_shapes_are_found_by_the_audit(altered):
    """The hashes fit, the shapes fit: applying the network tells."""
    rewrite_network(altered, weights=lambda w: {**w, "head.weight": w["head.weight"] + 0.2})
    findings = list(recompute.other_image_scores("DL")(recompute.RunData(altered)))
    assert any("DL, cross_fitted:" in line and "another risk" in line for line in findings), findings


def test_options_of_every_kind_are_checked_where_networks_are_built():
    assert build_network("region", 5, 16, widths=(4,), inside_channels=[2, 0], filtered_channels=[0])
    for options in ({"widths": "8"}, {"mask_channel": 0.5}, {"inside_channels": []}, {"margin_channels": [True]}):
        with pytest.raises(ValueError, match="network_options"):
            build_network("region", 5, 16, **options)


# ---------------------------------------------------------------- patches, ledger, records, commands


def test_packed_or_damaged_patches_are_refused(altered):
    path = altered / "patches.npz"
    patients = ["P00"]
    with np.load(path) as stored:
        arrays = dict(stored)
    np.savez_compressed(path, **{**arrays, "patches": np.zeros((48, 5, 64, 64, 64), np.float16)})
    with pytest.raises(ValueError, match=r"patches.npz"):
        read_patches(path, patients)
    np.savez(path, **{**arrays, "settings": np.array('{"size": 16, "hook": 1}')})
    with pytest.raises(ValueError, match=r"patches.npz.*settings: content lacks"):
        read_patches(path, patients)
    np.savez(path, **{**arrays, "patches": np.array([object()], dtype=object)})
    with pytest.raises(ValueError, match=r"patches.npz"):
        read_patches(path, patients)
    np.savez(path, **arrays)
    path.write_bytes(path.read_bytes()[:-400])
    with pytest.raises(ValueError, match=r"patches.npz: not readable as patches"):
        read_patches(path, patients)
    assert not zipfile.is_zipfile(path)


def test_a_ledger_of_another_form_is_refused(altered):
    write_json([{"name": "DL", "kind": "network", "saw": "everybody"}], altered / "ledger" / "DL.json")
    with pytest.raises(ValueError, match=r"ledger/DL.json: content\[0\].saw is 'everybody'; allowed: a list"):
        read_ledger(altered)


def test_records_and_models_asked_for_by_name_are_held_to_the_rules(altered):
    (altered / "run.json").write_text('{"parameters": {}, "files": {"x": "no hash"}}')
    with pytest.raises(ValueError, match=r"run.json: content.files.x is 'no hash'; allowed"):
        RunFolder(altered).read_record()
    write_json({"level": 2, "residual": {"DL": 1}}, altered / "models" / "bounds.json")
    with pytest.raises(ValueError, match=r"bounds.json: content.level is 2; allowed: a finite number, above 0"):
        RunFolder(altered).read_model("bounds")


def test_every_json_of_a_run_fits_its_rule(whole):
    run = whole / "run"
    found = (path.relative_to(run).as_posix() for path in run.rglob("*.json"))
    names = [name for name in found if "/." not in name]  # kept parts, which only their own writer reads
    assert len(names) > 80
    for name in names:
        schema.read_run_json(run, name)
    assert not [name for name in names if schema.rule_for(name) is schema.PLAIN_VALUES]


@pytest.mark.parametrize("command", ["audit", "predict"])
def test_commands_say_it_in_one_line_and_fail(altered, whole, command, capsys):
    write_json({"mean": 0.0, "sd": 0.0}, altered / "models" / "rad_scale.json")
    seal(altered)
    more = ["--manifest", str(whole / "data_manifest.csv"), "--out", str(altered.parent / "new.csv")] * (
        command == "predict"
    )
    with pytest.raises(SystemExit) as stop:
        main([command, str(altered), *more])
    printed = capsys.readouterr()
    assert stop.value.code == 1 and "Traceback" not in printed.err
    assert "models/rad_scale.json: content.sd is 0.0; allowed: a finite number, above 0" in printed.out + printed.err
    assert not (altered.parent / "new.csv").exists()
