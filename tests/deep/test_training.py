"""Networks and their training: a known loss, a planted signal, noise, repeatability, taking up a stopped run."""

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file
from scipy import optimize

from rps_utils.deep.augmentation import NO_AUGMENTATION
from rps_utils.deep.checkpoints import read_card, read_checkpoint, write_checkpoint
from rps_utils.deep.folds import fit_fold_networks
from rps_utils.deep.networks import (
    MONAI_NETWORKS,
    GroupRuler,
    RegionNetwork,
    body_positions,
    build_network,
    layer_table,
    regional_weights,
    spread_about,
    take_over_weights,
    weighted_sums,
)
from rps_utils.deep.training import (
    Training,
    TrainingSettings,
    Unfinished,
    cox_loss,
    event_batches,
    predict_risk,
    settle_head,
    train_network,
)
from rps_utils.learning.crossfit import assemble, leave_out_sets
from rps_utils.survival.concordance import harrell_c

QUICK = TrainingSettings(epochs=3, network_options={"widths": [4]}, seed=3)


def planted_patients(n, seed, effect, size=16):
    """Return patches in which the second tissue of a ball lies lateral or medial, and times that depend on it."""
    rng = np.random.default_rng(seed)
    axis = np.linspace(-1, 1, size)
    x, y, z = np.meshgrid(axis, axis, axis, indexing="ij")
    side = rng.normal(size=n)
    radius = rng.uniform(0.5, 0.7, size=(n, 1, 1, 1))
    mask = (x**2 + y**2 + z**2)[None] < radius**2
    key = rng.normal(size=(n, size, size, size)) + 1.5 * side[:, None, None, None] * x
    second = mask & (key > 0.8)
    tumour = np.where(second, -0.1, 0.25) * mask
    rim = (x**2 + y**2 + z**2)[None] < (radius + 0.15) ** 2
    context = np.where(mask, 0, -0.7)
    patches = np.stack([tumour, mask, second * 0.6, context, rim & ~mask], axis=1).astype(np.float16)
    time = rng.exponential(20 * np.exp(-effect * side)) + 0.5
    end = rng.uniform(10, 60, size=n)
    return patches, np.minimum(time, end), time <= end


def tensors(patches, time, event):
    return torch.from_numpy(patches), torch.from_numpy(time), torch.from_numpy(event)


def as_cohort(patches, time, event, folds=3, validation=6):
    n = len(patches)
    split = np.where(np.arange(n) < n - validation, "training", "validation")
    fold = np.where(split == "training", np.arange(n) % folds, -1).astype(float)
    return pd.DataFrame(
        {
            "patient_id": [f"P{i:03d}" for i in range(n)],
            "split": split,
            "fold": np.where(fold < 0, np.nan, fold),
            "time_months": time,
            "event": event.astype(int),
        }
    )


# ---------------------------------------------------------------- loss and batches


def test_loss_by_hand_for_four_patients():
    risk = torch.tensor([0.5, -0.2, 0.1, 0.0])
    time = torch.tensor([3.0, 5.0, 7.0, 9.0])
    event = torch.tensor([True, False, True, False])
    hazard = risk.exp()
    by_hand = -((risk[0] - hazard.sum().log()) + (risk[2] - hazard[2:].sum().log())) / 2
    assert torch.isclose(cox_loss(risk, time, event), by_hand)


def test_loss_handles_tied_events_as_efron_does():
    risk, time, event = torch.tensor([0.3, -0.4, 0.2]), torch.tensor([2.0, 2.0, 5.0]), torch.tensor([1, 1, 0])
    hazard = risk.exp()
    first, second = hazard.sum(), hazard.sum() - hazard[:2].sum() / 2
    by_hand = -(risk[0] + risk[1] - first.log() - second.log())
    assert torch.isclose(cox_loss(risk, time, event), by_hand), "both events fall on one time: one term"


@pytest.mark.parametrize(
    ("n", "events", "batch_size", "batches"), [(86, 37, 16, 5), (20, 3, 4, 3), (10, 10, 16, 1), (9, 1, 4, 1)]
)
def test_batches_share_out_events_and_use_everybody_once(n, events, batch_size, batches):
    event = torch.arange(n) < events
    dealt = event_batches(event, batch_size, torch.Generator().manual_seed(0))
    assert len(dealt) == batches
    assert sorted(torch.cat(dealt).tolist()) == list(range(n))
    counts = [int(event[batch].sum()) for batch in dealt]
    assert min(counts) >= 1
    assert max(counts) - min(counts) <= 1


def test_no_events_cannot_be_trained():
    with pytest.raises(ValueError, match="none of 12 training patients has an event"):
        event_batches(torch.zeros(12, dtype=torch.bool), 4, torch.Generator())


# ---------------------------------------------------------------- networks


@pytest.mark.parametrize("name", ["region", "plain"])
def test_network_gives_one_log_hazard_and_passes_gradients(name):
    network = build_network(name, in_channels=5, size=24)
    patches = tensors(*planted_patients(6, 0, 1.0, size=24))[0].float()
    torch.nn.init.normal_(network.head.weight)
    risk = network(patches)
    assert risk.shape == (6, 1)
    (risk**2).sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in network.parameters())
    assert sum(row["parameters"] for row in layer_table(network, patches)) == sum(
        p.numel() for p in network.parameters()
    )


def test_order_of_patients_does_not_matter_when_scoring():
    network = build_network("region", 5, 16).eval()
    torch.nn.init.normal_(network.head.weight)
    patches = tensors(*planted_patients(9, 1, 1.0))[0]
    order = torch.randperm(9)
    risk = predict_risk(network, patches, "lateral_axis_kept")
    assert np.allclose(predict_risk(network, patches[order], "lateral_axis_kept", batch_size=4), risk[order], atol=1e-5)


def test_regions_by_hand():
    inside = torch.zeros(1, 1, 4, 4, 4)
    inside[0, 0, 1:3] = 1.0
    ramp = torch.arange(4.0).view(1, 1, 4, 1, 1).expand(1, 1, 4, 4, 4)
    weights = regional_weights(inside)
    assert weighted_sums(ramp, weights)[0].item() == pytest.approx(1.5)
    places = body_positions(weights)
    assert torch.allclose(places[0, 0, 1:3, 0, 0], torch.tensor([-1.0, 1.0]), atol=5e-3)
    along = [weighted_sums(ramp, weights * places[:, [axis]])[0].item() for axis in range(3)]
    assert along == pytest.approx([0.5, 0.0, 0.0], abs=5e-3), "the ramp runs along the first axis"
    two = weighted_sums(torch.cat([ramp, 2 * ramp], dim=1), torch.cat([weights, 0 * weights], dim=1))
    assert torch.allclose(torch.cat(two), torch.tensor([[1.5, 3.0], [0.0, 0.0]])), "weight by weight"
    assert spread_about(ramp, torch.tensor([[1.5]]), weights).item() == pytest.approx(0.5)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_flip_turns_the_gradient_of_its_axis_round_and_nothing_else(axis):
    network = RegionNetwork(5, widths=[])
    patches = tensors(*planted_patients(5, 2, 1.0))[0].float()
    straight, flipped = network.summaries(patches), network.summaries(patches.flip(2 + axis))
    signs = torch.ones(straight.shape[1])
    signs[[6 + axis, 9 + axis, 13 + axis]] = -1.0  # of tumour, deviation and context
    assert torch.allclose(straight, signs * flipped, atol=1e-4)


def test_no_axis_is_preferred():
    """A patient turned by a quarter has the same summaries, at another axis."""
    network = RegionNetwork(5, widths=[])
    patches = tensors(*planted_patients(5, 2, 1.0))[0].float()
    order = [0, 1, 2, 3, 4, 5, 7, 8, 6, 10, 11, 9, 12, 14, 15, 13, 16]
    turned = network.summaries(patches.permute(0, 1, 3, 4, 2))
    assert torch.allclose(turned, network.summaries(patches)[:, order], atol=1e-4)


def test_filters_answer_to_a_pattern_and_not_to_level_or_border():
    network = RegionNetwork(5, widths=[8])
    patches = torch.zeros(3, 5, 16, 16, 16)
    patches[:, 1, 4:12, 4:12, 4:12] = 1.0
    patches[0, 0] = 0.7 * patches[0, 1]
    patches[1, 0] = -0.2 * patches[1, 1]
    patches[2, 0] = patches[2, 1] * torch.randn(16, 16, 16, generator=torch.Generator().manual_seed(1))
    answers = network.summaries(patches)[:, -9:-1]
    assert answers[:2].abs().max() < 1e-3, "levelled tumours hold no pattern"
    assert answers[2].min() > 1e-2


def test_a_group_is_measured_with_one_ruler():
    summaries = torch.randn(500, 4, generator=torch.Generator().manual_seed(0)) * torch.tensor([5.0, 3.0, 0.1, 0.0])
    ruler = GroupRuler([1, 3])
    ruler.fit(summaries)
    scaled = ruler.eval()(summaries)
    assert scaled.mean(dim=0).abs().max() < 1e-5
    assert scaled[:, 0].std(correction=0).item() == pytest.approx(1.0)
    assert scaled[:, 1:].var(dim=0, correction=0).sum().item() == pytest.approx(1.0), "the group, not each of it"
    ratio = scaled[:, 1].std() / scaled[:, 2].std()
    assert ratio.item() == pytest.approx((summaries[:, 1].std() / summaries[:, 2].std()).item(), rel=1e-4)
    assert torch.equal(scaled[:, 3], torch.zeros(500)), "what does not vary says nothing"


def test_channels_that_a_patch_lacks_are_refused():
    with pytest.raises(ValueError, match=r"'region' reads channels \[0, 0, 1, 2, 3, 4\] of a patch that has 3"):
        build_network("region", 3, 16)
    assert build_network("region", 3, 16, rim_channel=2, inside_channels=[0], margin_channels=[0])


def efron_loss(weights, terms, time, event):
    """Efron's negative partial log-likelihood, written down as in the textbooks."""
    risk, total = terms @ weights, 0.0
    for now in np.unique(time[event == 1]):
        tied = (time == now) & (event == 1)
        at_risk, own = np.exp(risk[time >= now]).sum(), np.exp(risk[tied]).sum()
        total += sum(np.log(at_risk - k / tied.sum() * own) for k in range(tied.sum())) - risk[tied].sum()
    return total


def test_the_last_layer_is_a_ridge_cox_model_of_the_summaries():
    patches, time, event = tensors(*planted_patients(60, 5, 1.0))
    torch.manual_seed(0)
    network = RegionNetwork(5, widths=[4]).eval()
    settle_head(network, patches, time.round(), event, ridge=4.0)
    with torch.no_grad():
        terms = network.ruler(network.summaries(patches.float())).double().numpy()
    weights, outcome = network.head.weight[0].detach().double().numpy(), (time.round().numpy(), event.numpy())
    best = optimize.minimize(lambda w: efron_loss(w, terms, *outcome) + 2.0 * w @ w, np.zeros(len(weights)), tol=1e-8)
    assert np.abs(best.x).max() > 0.1 and len(np.unique(outcome[0])) < 60
    assert np.allclose(weights, best.x, atol=1e-5)


def test_where_training_stopped_does_not_matter_to_the_last_layer():
    data = tensors(*planted_patients(40, 5, 1.0))
    short, long = (train_network(*data, replace(QUICK, network_options={"widths": []}, epochs=n))[0] for n in (1, 4))
    assert torch.allclose(short.head.weight, long.head.weight, atol=1e-5)


def test_unknown_network_is_refused_with_the_allowed_ones():
    with pytest.raises(ValueError, match="network = 'resnet99'; allowed: region, plain, resnet10"):
        build_network("resnet99", 1, 48)


@pytest.mark.parametrize("name", MONAI_NETWORKS)
def test_networks_of_monai_take_the_usual_patch(name):
    if name == "vit":
        pytest.importorskip("einops")  # MONAI's ViT needs it; pinned with the other packages
    size = 32 if name == "densenet121" else 24
    network = build_network(name, in_channels=5, size=size).eval()
    with torch.no_grad():
        risk = network(tensors(*planted_patients(2, 0, 1.0, size=size))[0].float())
    assert risk.shape == (2, 1) and torch.isfinite(risk).all()


@pytest.mark.parametrize(
    ("name", "size", "message"),
    [("densenet121", 24, "patches of 24 voxels; allowed: 32 or more"), ("vit", 20, "allowed: a multiple of 8")],
)
def test_patches_that_a_network_cannot_take_are_refused(name, size, message):
    with pytest.raises(ValueError, match=message):
        build_network(name, 5, size)


def test_weights_of_a_local_file_are_taken_over(tmp_path):
    donor, network = build_network("region", 5, 16), build_network("region", 5, 16)
    save_file(donor.state_dict(), tmp_path / "donor.safetensors")
    assert "filters.0.weight" in take_over_weights(network, tmp_path / "donor.safetensors")
    assert torch.equal(network.filters[0].weight, donor.filters[0].weight)
    save_file({"other": torch.zeros(3)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="none of its 1 tensors fits the network"):
        build_network("region", 5, 16, weights=tmp_path / "other.safetensors")
    with pytest.raises(FileNotFoundError, match=r"no such file; give a local \.safetensors"):
        build_network("region", 5, 16, weights=tmp_path / "none.safetensors")


def test_importing_the_training_code_leaves_monai_and_torchsurv_alone():
    code = "import sys, rps_utils.deep.training; print([m for m in ('monai', 'torchsurv') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


# ---------------------------------------------------------------- learning


def held_out_c(effect, settings=None, seed=11):
    settings = settings or TrainingSettings(epochs=12, seed=seed)
    learn, judge = (tensors(*planted_patients(n, s, effect)) for n, s in ((86, seed), (300, seed + 1)))
    network, losses = train_network(*learn, settings)
    risk = predict_risk(network, judge[0], settings.augmentation.orientations)
    return harrell_c(judge[1].numpy(), judge[2].numpy(), risk), losses


def test_planted_signal_is_learned():
    c, losses = held_out_c(effect=1.2)
    assert losses[-1] < losses[0]
    assert 0.68 < c < 0.85, "the planted side alone reaches about 0.80"


def test_noise_is_not_learned():
    values = [held_out_c(effect=0.0, seed=seed)[0] for seed in (21, 31, 41)]
    assert abs(np.mean(values) - 0.5) < 0.06, "3 SE of the mean of three cohorts of 300"


def test_illegal_flips_erase_what_the_side_tells():
    everything = TrainingSettings(epochs=12, seed=11)
    flips = TrainingSettings(epochs=12, seed=11, augmentation=NO_AUGMENTATION.__class__("all", 0, 0.0, 0.0, 0.0))
    assert held_out_c(1.2, flips)[0] < held_out_c(1.2, everything)[0] - 0.1


def test_same_seed_gives_the_same_bits_and_another_seed_does_not():
    data = tensors(*planted_patients(24, 5, 1.0))
    risks = [predict_risk(train_network(*data, QUICK, seed)[0], data[0]) for seed in (1, 1, 2)]
    assert np.array_equal(risks[0], risks[1])
    assert not np.allclose(risks[0], risks[2])


def test_first_weights_are_drawn_from_the_seed_and_from_nothing_else():
    data = tensors(*planted_patients(24, 5, 1.0))
    risks = []
    for disturbance in (1, 2):
        torch.manual_seed(disturbance)
        before = torch.get_rng_state()
        risks.append(predict_risk(train_network(*data, QUICK)[0], data[0]))
        assert torch.equal(torch.get_rng_state(), before), "nobody else's random numbers are used up"
    assert np.array_equal(*risks)


def test_bf16_gives_nearly_the_scores_of_fp32():
    data, judge = (tensors(*planted_patients(n, s, 1.2)) for n, s in ((40, 1), (200, 2)))
    networks = [train_network(*data, replace(QUICK, precision=p))[0] for p in ("fp32", "bf16")]
    raw = [predict_risk(network, judge[0]) for network in networks]
    one, other = ((risk - risk.mean()) / risk.std() for risk in raw)
    assert not np.array_equal(*raw), "bf16 was not used"
    assert np.corrcoef(one, other)[0, 1] > 0.99 and np.abs(one - other).max() < 0.2
    c = [harrell_c(judge[1].numpy(), judge[2].numpy(), risk) for risk in raw]
    assert abs(c[0] - c[1]) < 0.01


def test_diverging_training_stops_with_advice():
    patches, time, event = tensors(*planted_patients(16, 6, 1.0))
    patches[0, 0] = float("nan")
    with pytest.raises(FloatingPointError, match="lower learning_rate"):
        train_network(patches, time, event, QUICK)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"epochs": 0}, "epochs = 0; allowed: 1 or more"),
        ({"batch_size": 2}, "batch_size = 2; allowed: 4 or more"),
        ({"learning_rate": 0.0}, r"learning_rate = 0.0; allowed: above 0"),
        ({"precision": "fp16"}, "precision = 'fp16'; allowed: fp32 or bf16"),
        ({"seeds_per_fold": 0}, "seeds_per_fold = 0; allowed: 1 or more"),
        ({"device": "gpu"}, "device = 'gpu'; allowed: cpu, or cuda where PyTorch finds such a GPU"),
    ],
)
def test_settings_out_of_range_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        TrainingSettings(**arguments)


def test_a_gpu_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="device = 'cuda'; allowed: cpu, or cuda where PyTorch finds such a GPU"):
        TrainingSettings(device="cuda")


# ---------------------------------------------------------------- cross-fitting and checkpoints


@pytest.fixture(scope="module")
def small_cohort():
    patches, time, event = planted_patients(36, 7, 1.0)
    return patches, as_cohort(patches, time, event)


@pytest.fixture
def trained(monkeypatch):
    """Names of the networks that are trained, and not read."""
    names = []

    def write_and_note(network, card, path):
        names.append(path.stem)
        return write_checkpoint(network, card, path)

    monkeypatch.setattr("rps_utils.deep.folds.write_checkpoint", write_and_note)
    return names


@pytest.fixture(scope="module")
def fitted(small_cohort, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    plan = leave_out_sets(3, whole=False)
    return folder, fit_fold_networks(*small_cohort, plan, QUICK, folder, preprocessing={"size": 16})


def test_every_left_out_set_scores_everybody_on_one_scale(small_cohort, fitted):
    cohort = small_cohort[1]
    folder, scores = fitted
    assert list(scores) == [(0,), (1,), (2,), (0, 1), (0, 2), (1, 2)]
    assert len(list(folder.glob("DL_without_*.safetensors"))) == 6
    for left_out, risk in scores.items():
        assert list(risk.index) == list(cohort["patient_id"])
        learners = cohort.loc[(cohort["split"] == "training") & ~cohort["fold"].isin(left_out), "patient_id"]
        assert risk[learners].mean() == pytest.approx(0, abs=1e-9)
        assert risk[learners].std(ddof=0) == pytest.approx(1, abs=1e-9)
    assert assemble(cohort, scores).cross_fitted.notna().all()


def test_card_tells_how_the_network_came_about(fitted):
    card = read_card(fitted[0] / "DL_without_0_1_0.safetensors")
    assert card["left_out_folds"] == [0, 1]
    assert card["training_patients"] == 10
    assert card["settings"]["epochs"] == 3
    assert card["preprocessing"] == {"size": 16}
    assert len(card["losses"]) == 3
    assert card["settings"]["network"] == "region" and len(card["training_ids_sha256"]) == 64
    assert 0 < card["metrics"]["c_apparent"] <= 1 and 0 <= card["metrics"]["c_left_out"] <= 1
    assert json.loads((fitted[0] / "DL_without_0_1_0.json").read_text()) == card


def test_stopped_run_goes_on_with_the_same_scores(small_cohort, fitted, trained):
    folder, scores = fitted
    (folder / "DL_without_1_0.safetensors").unlink()
    again = fit_fold_networks(*small_cohort, list(scores), QUICK, folder, preprocessing={"size": 16})
    assert trained == ["DL_without_1_0"], "the others are read"
    assert all(np.array_equal(again[key], scores[key]) for key in scores)


KILLED = """
import sys, time
import numpy as np, pandas as pd
from rps_utils.deep import training
from rps_utils.deep.folds import fit_fold_networks

class Halting(training.Training):
    def save(self, kept):
        super().save(kept)
        if len(self.losses) == 4:
            print("saved", flush=True)
            time.sleep(600)

training.Training, training.SAVE_EVERY_S, training.SAVING_SHARE = Halting, 0.0, np.inf
folder = sys.argv[1]
cohort = pd.read_csv(folder + "/cohort.csv", float_precision="round_trip")
settings = training.TrainingSettings(epochs=9, network_options={"widths": [4]}, seed=3)
fit_fold_networks(np.load(folder + "/patches.npy"), cohort, [(0,)], settings, folder + "/models")
"""


def test_killed_training_goes_on_from_the_last_epoch_bit_by_bit(small_cohort, tmp_path, monkeypatch):
    patches, cohort = small_cohort
    np.save(tmp_path / "patches.npy", patches)
    cohort.to_csv(tmp_path / "cohort.csv", index=False)
    with subprocess.Popen([sys.executable, "-c", KILLED, tmp_path], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "saved\n"
        process.kill()
    state, network = (tmp_path / "models" / f"{before}DL_without_0_0.safetensors" for before in ("unfinished_", ""))
    assert state.is_file() and not network.exists()

    epochs = []
    monkeypatch.setattr(
        Training, "train_epoch", lambda self, own=Training.train_epoch: (epochs.append(len(self.losses)), own(self))
    )
    settings = TrainingSettings(epochs=9, network_options={"widths": [4]}, seed=3)
    resumed = fit_fold_networks(patches, cohort, [(0,)], settings, tmp_path / "models")
    assert epochs == [4, 5, 6, 7, 8] and not state.exists()
    straight = fit_fold_networks(patches, cohort, [(0,)], settings, tmp_path / "straight")
    assert np.array_equal(resumed[(0,)], straight[(0,)])
    assert network.read_bytes() == (tmp_path / "straight" / network.name).read_bytes(), "weights and card"


def test_state_of_another_training_is_not_taken_up(tmp_path):
    data = tensors(*planted_patients(16, 6, 1.0))
    begun, kept = Training(*data, QUICK), Unfinished(tmp_path / "state.safetensors", {"settings": 1})
    begun.train_epoch()
    begun.save(kept)
    again, other = Training(*data, QUICK), Training(*data, QUICK)
    again.take_up(kept)
    other.take_up(replace(kept, card={"settings": 2}))
    assert len(again.losses) == 1 and other.losses == []
    assert not torch.equal(other.network.filters[0].weight, again.network.filters[0].weight)


def test_weights_to_start_from_are_part_of_the_card(small_cohort, tmp_path, trained):
    start = tmp_path / "start.safetensors"
    counts = []
    for seed in (1, 2, 2):
        torch.manual_seed(seed)
        save_file(build_network("region", 5, 16, widths=[4]).state_dict(), start)
        settings = replace(QUICK, weights=str(start))
        fit_fold_networks(*small_cohort, [(0,)], settings, tmp_path / "models")
        counts.append(len(trained))
    assert counts == [1, 2, 2], "another file, another network"
    with pytest.raises(FileNotFoundError, match=r"weights = .none\.safetensors.: no such file"):
        fit_fold_networks(*small_cohort, [(0,)], replace(QUICK, weights="none.safetensors"), tmp_path)


@pytest.mark.parametrize("change", ["settings", "outcome", "patches", "preprocessing"])
def test_checkpoint_of_another_run_is_not_used(small_cohort, fitted, tmp_path, change, trained):
    patches, cohort = small_cohort
    settings, preprocessing = QUICK, {"size": 16}
    path = tmp_path / "DL_without_0_0.safetensors"
    path.write_bytes((fitted[0] / path.name).read_bytes())
    if change == "settings":
        settings = TrainingSettings(epochs=2, network_options={"widths": [4]}, seed=3)
    elif change == "outcome":
        cohort = cohort.assign(time_months=cohort["time_months"] + 1)
    elif change == "patches":
        patches = patches + np.float16(0.1)
    else:
        preprocessing = {"size": 17}
    fit_fold_networks(patches, cohort, [(0,)], settings, tmp_path, preprocessing=preprocessing)
    assert trained == ["DL_without_0_0"]


def test_checkpoint_gives_back_the_network(small_cohort, fitted):
    network = read_checkpoint(fitted[0] / "DL_without_0_0.safetensors")
    cohort, risk = small_cohort[1], fitted[1][(0,)]
    raw = predict_risk(network, torch.from_numpy(small_cohort[0]), QUICK.augmentation.orientations)
    assert np.corrcoef(raw, risk[cohort["patient_id"]])[0, 1] == pytest.approx(1, abs=1e-9)
    assert read_checkpoint(fitted[0] / "missing.safetensors") is None


def test_processes_and_order_of_sets_do_not_change_scores(small_cohort, fitted, tmp_path):
    scores = fit_fold_networks(*small_cohort, [(1, 2), (0,)], QUICK, tmp_path, n_jobs=2)
    assert all(np.array_equal(risk, fitted[1][key]) for key, risk in scores.items())


def test_seeds_of_a_set_are_averaged(small_cohort, tmp_path):
    settings = TrainingSettings(epochs=2, network_options={"widths": [4]}, seeds_per_fold=2)
    scores = fit_fold_networks(*small_cohort, [(0,)], settings, tmp_path)
    assert len(list(tmp_path.glob("*.safetensors"))) == 2
    learners = (small_cohort[1]["split"] == "training") & (small_cohort[1]["fold"] != 0)
    assert scores[(0,)][learners.to_numpy()].std(ddof=0) == pytest.approx(1, abs=1e-9)


def test_patches_and_cohort_must_be_the_same_patients(small_cohort, tmp_path):
    with pytest.raises(ValueError, match="35 patches and 36 patients"):
        fit_fold_networks(small_cohort[0][:-1], small_cohort[1], [(0,)], QUICK, tmp_path)
