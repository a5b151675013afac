"""A network of diffusers gives under our samplers what it gives under those of diffusers."""

import json
from dataclasses import replace

import made
import pytest
import torch
from click.testing import CliRunner
from diffusers import DDIMScheduler, DDPMPipeline, DDPMScheduler, UNet2DModel

from harness.cli import main
from harness.data.digits import digits
from harness.diffusion.samplers import SAMPLERS
from harness.diffusion.schedules import SCHEDULES
from harness.diffusion.times import SPACINGS
from harness.engine.courier import files_of
from harness.engine.identity import with_network
from harness.engine.network import load_pretrained, make_schedule, table_log_snr
from harness.engine.pretrained import keep_networks, network_of
from harness.engine.score import ScoreJob
from harness.errors import BadOption, DataError, HarnessError, StoreError
from harness.execute import machine
from harness.models.timesteps import AtTimesteps
from harness.store import Store
from harness.work.cells import Part
from harness.work.options import Workplace

CPU = torch.device("cpu")
SMALL = {
    "sample_size": 8, "in_channels": 1, "out_channels": 1, "block_out_channels": (8, 16),
    "layers_per_block": 1, "norm_num_groups": 4, "attention_head_dim": 8,
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
    "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
}  # fmt: skip
LINEAR = Part("linear")
ENDS = {"beta_start": 1e-4, "beta_end": 0.02}
TRAINED = [
    ("linear", "epsilon", LINEAR),
    ("scaled_linear", "v_prediction", Part.of("scaled_linear", ENDS)),
    ("squaredcos_cap_v2", "sample", Part("cosine_discrete")),
]  # fmt: skip


def saved(folder, scheduler=None, seed=0, **changes):
    """A pipeline of random weights in this folder, and its network."""
    torch.manual_seed(seed)
    network = UNet2DModel(**SMALL | changes).eval()
    DDPMPipeline(network, scheduler or DDPMScheduler()).save_pretrained(folder)
    return network


@pytest.fixture
def at(tmp_path):
    return Workplace(tmp_path / "store", tmp_path / "data", "cpu")


def training_of(folder, schedule=LINEAR, told=()):
    model = Part.of("diffusers", {"path": str(folder), **dict(told)})
    return replace(made.TRAINING, model=model, schedule=schedule, training_steps=0)


def loaded(training, at):
    return load_pretrained(with_network(training, at), at, digits(at.data_dir), CPU)


def noise(images=3):
    return torch.randn(images, 1, 8, 8, generator=torch.Generator().manual_seed(7))


def theirs(network, scheduler, steps, **options):
    scheduler.set_timesteps(steps)
    x = noise()
    with torch.inference_mode():
        for step in scheduler.timesteps:
            x = scheduler.step(network(x, step).sample, step, x, **options).prev_sample
    return x


def ours(trained, sampler, spacing, steps):
    schedule = make_schedule(trained.training.schedule)
    generator = torch.Generator().manual_seed(11)
    with torch.inference_mode():
        return SAMPLERS[sampler](
            trained.denoiser(schedule), schedule, noise(), SPACINGS[spacing](schedule, steps),
            lambda: torch.randn(3, 1, 8, 8, generator=generator),
        )  # fmt: skip


@pytest.mark.parametrize(("betas", "predicts", "schedule"), TRAINED, ids=str)
def test_ddim_and_ddpm_give_the_images_of_diffusers(betas, predicts, schedule, at, tmp_path):
    how = {"beta_schedule": betas, "prediction_type": predicts, "clip_sample": False}
    network = saved(tmp_path / "net", DDPMScheduler(**how))
    trained = loaded(training_of(tmp_path / "net", schedule), at)
    for spacing, steps in (("trailing", 10), ("leading", 25)):
        told = how | {"timestep_spacing": spacing}
        expected = theirs(network, DDIMScheduler(**told), steps)
        difference = ours(trained, "ddim", spacing, steps) - expected
        assert difference.abs().max() < 1e-4 * expected.abs().max()
    generator = torch.Generator().manual_seed(11)
    told = how | {"timestep_spacing": "leading"}
    expected = theirs(network, DDPMScheduler(**told), 25, generator=generator)
    difference = ours(trained, "ddpm", "leading", 25) - expected
    assert difference.abs().max() < 1e-4 * expected.abs().max()


@pytest.mark.parametrize("name", ["linear", "scaled_linear", "cosine_discrete"])
def test_each_step_of_the_table_is_asked_for_as_itself_and_between_two_what_is_between(name):
    schedule = SCHEDULES[name]()
    table = table_log_snr(schedule)
    network = AtTimesteps(torch.nn.Identity(), table)
    assert torch.equal(network.timesteps(table), torch.arange(1000.0))
    between = network.timesteps((table[:-1] + table[1:]) / 2)
    assert (between - torch.arange(999.0) - 0.5).abs().max() < 0.01
    assert network.timesteps(torch.tensor([30.0, -30.0])).tolist() == [0, 999]


def test_a_network_that_predicts_a_variance_too_is_asked_for_its_first_half(at, tmp_path):
    network = saved(tmp_path / "net", out_channels=2)
    training = with_network(training_of(tmp_path / "net"), at)
    predictor = load_pretrained(training, at, digits(at.data_dir), CPU).predictor()
    log_snr = table_log_snr(SCHEDULES["linear"]())[500].expand(3).float()
    with torch.inference_mode():
        expected = network(noise(), 500).sample[:, :1]
        assert torch.allclose(predictor(noise(), log_snr), expected, atol=1e-5)
    assert network_of(training, at).has_variance


def test_weights_name_the_work_and_not_where_they_are(at, tmp_path):
    saved(tmp_path / "net")
    saved(tmp_path / "elsewhere" / "net")
    saved(tmp_path / "other" / "net", seed=1)
    here, moved, other = (
        with_network(training_of(tmp_path / folder / "net"), at)
        for folder in ("", "elsewhere", "other")
    )
    assert here == moved
    assert here.key == moved.key != other.key
    assert (str(here.model), here.origin) == ("diffusers(path=net)", "net")
    assert here.as_written() == training_of("net").as_written()
    saved(tmp_path / "net", seed=1)
    assert with_network(training_of(tmp_path / "net"), at) == other


def test_the_store_goes_on_without_the_folder_and_refuses_another_network(at, tmp_path):
    saved(tmp_path / "net")
    training = with_network(training_of(tmp_path / "net"), at)
    keep_networks([replace(made.CELL, training=training)], at)
    for path in (tmp_path / "net").rglob("*.safetensors"):
        path.unlink()
    images = digits(at.data_dir)
    assert load_pretrained(training, at, images, CPU).shape == (1, 8, 8)
    [weights] = at.store.glob("networks/*/*.safetensors")
    weights.write_bytes(weights.read_bytes()[:-4] + b"oops")
    with pytest.raises(StoreError, match="copies it again"):
        load_pretrained(training, at, images, CPU)


def test_it_is_sampled_in_the_precision_of_what_is_trained_beside_it(at, tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "_cpu_can", lambda what: what == "avx512_bf16")
    saved(tmp_path / "net")
    training = replace(training_of(tmp_path / "net"), precision="auto")
    assert loaded(training, at).precision == "bfloat16"
    here = replace(made.EXECUTION, machine=machine.name(CPU))
    Store(at.store).keep_execution("key", replace(here, asked="bfloat16"))
    assert loaded(training, at).precision == "bfloat16"
    Store(at.store).keep_execution("other", here)
    assert loaded(training, at).precision == "float32"


def test_a_node_of_a_cluster_is_sent_the_network_from_the_store(at, tmp_path):
    saved(tmp_path / "net")
    training = with_network(training_of(tmp_path / "net"), at)
    cell = replace(made.CELL, training=training)
    keep_networks([cell], at)
    sent = files_of(ScoreJob(cell, ("kid",)), Store(at.store))
    assert {path.name for path in sent} == {"config.json", "diffusion_pytorch_model.safetensors"}


def edited(file, **changes):
    def edit(folder):
        path = folder / file
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return edit


def pickled(folder):
    [weights] = folder.glob("unet/*.safetensors")
    weights.rename(weights.with_suffix(".bin"))


REFUSED = {
    "a pickle": pickled,
    "no config": lambda folder: (folder / "unet/config.json").unlink(),
    "another class": edited("unet/config.json", _class_name="UNet2DConditionModel"),
    "a class of images": edited("unet/config.json", num_class_embeds=10),
    "fourier": edited("unet/config.json", time_embedding_type="fourier"),
    "another size": edited("unet/config.json", sample_size=32),
    "colour": edited("unet/config.json", in_channels=3, out_channels=3),
    "other weights": edited("unet/config.json", layers_per_block=2),
    "no such schedule": edited("scheduler/scheduler_config.json", beta_schedule="sigmoid"),
    "a table": edited("scheduler/scheduler_config.json", trained_betas=[0.1, 0.2]),
    "another schedule": edited("scheduler/scheduler_config.json", beta_end=0.03),
    "flow": edited("scheduler/scheduler_config.json", prediction_type="flow"),
    "no scheduler": lambda folder: (folder / "scheduler/scheduler_config.json").unlink(),
    "text for a number": edited("scheduler/scheduler_config.json", beta_start="low"),
    "a list for a name": edited("scheduler/scheduler_config.json", beta_schedule=["linear"]),
    "nothing for a number": edited("unet/config.json", in_channels=None),
    "no JSON": lambda folder: (folder / "unet/config.json").write_text("{"),
    "nothing": lambda folder: folder.rename(folder.with_name("gone")),
}  # fmt: skip


@pytest.mark.parametrize("spoil", REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_sampled_is_refused_with_what_to_use(spoil, at, tmp_path):
    saved(tmp_path / "net")
    spoil(tmp_path / "net")
    with pytest.raises(HarnessError, match=r"Use|Give"):
        loaded(training_of(tmp_path / "net"), at)


def test_where_nothing_tells_how_it_was_trained_the_grid_does(at, tmp_path):
    saved(tmp_path / "net")
    told = {"schedule": "cosine_discrete", "target": "velocity"}
    with pytest.raises(BadOption, match=r"scheduler_config\.json .* says"):
        loaded(training_of(tmp_path / "net", told=told), at)
    inner = training_of(tmp_path / "net" / "unet", Part("cosine_discrete"), told)
    assert with_network(inner, at).target == "velocity"
    with pytest.raises(BadOption, match=r"Use schedules: \[cosine_discrete\]"):
        with_network(replace(inner, schedule=Part("cosine")), at)
    with pytest.raises(BadOption, match="Use scale: range"):
        with_network(replace(inner, scale="unit"), at)


def test_without_diffusers_the_package_is_named(at, tmp_path, monkeypatch):
    saved(tmp_path / "net")
    monkeypatch.setattr("harness.models.pretrained.find_spec", lambda name: None)
    with pytest.raises(DataError, match=r"pip install .*diffusers"):
        loaded(training_of(tmp_path / "net"), at)


GRID = """
name: given
data: digits
model: {name: diffusers, path: %s}
schedules: [linear]
sample_schedules: [same, cosine]
samplers: [ddim, dpmpp_2m]
steps: [2]
images: 16
extractor: digits
metrics: [kid]
"""


@pytest.mark.slow
def test_a_grid_compares_samplers_on_it_without_any_training(at, tmp_path):
    saved(tmp_path / "net")
    (tmp_path / "given.yaml").write_text(GRID % (tmp_path / "net"))
    store = ["--store", str(at.store)]

    def harness(*words):
        done = CliRunner().invoke(main, [*words, *store])
        assert done.exit_code == 0, done.output
        return done.output

    report = tmp_path / "report"
    assert "0 trainings, 4 cells" in harness("plan", str(tmp_path / "given.yaml"))
    harness("run", str(tmp_path / "given.yaml"), "--report-dir", str(report), "--device", "cpu")
    written = [report / "report.md", report / "results.csv"]
    for path in [*at.store.glob("cells/*/result.json"), *written]:
        assert str(tmp_path) not in path.read_text().partition("## Rebuild")[0], path
    assert "diffusers(path=net)" in (report / "report.md").read_text()
    (tmp_path / "net").rename(tmp_path / "gone")
    picture = tmp_path / "x.png"
    harness("sample", "sampler=ddim,sample_schedule=cosine", "--out", str(picture), "-n", "2")
    assert picture.exists()
