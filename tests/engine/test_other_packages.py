"""What parts of other packages give is looked at where it enters, by their names: data sets,
features, networks, times and images."""

from dataclasses import replace

import made
import numpy as np
import pytest
import torch

from harness.data.images import ImageSet
from harness.diffusion.samplers import ddim
from harness.diffusion.schedules import Linear
from harness.engine.inputs import image_set, new_extractor
from harness.engine.network import Predictor, build
from harness.engine.sample import path_of, sample
from harness.engine.steps import Setting
from harness.errors import DataError, PartFailed
from harness.metrics.features import Pixels
from harness.work.cells import Part
from harness.work.options import Workplace

IMAGES = np.random.default_rng(0).integers(0, 256, (6, 1, 8, 8), dtype=np.uint8)
WRONG = Part("wrong")

DATA = {
    "a list": [IMAGES, IMAGES],
    "lists of numbers": (IMAGES.tolist(), IMAGES),
    "from 0 to 1": (IMAGES / 255, IMAGES),
    "not a number": (IMAGES * np.nan, IMAGES),
    "no channels": (IMAGES[:, 0], IMAGES[:, 0]),
    "not square": (IMAGES[..., :4], IMAGES[..., :4]),
    "none": (IMAGES[:0], IMAGES),
    "nothing held out": (IMAGES, None),
    "masked": (np.ma.masked_array(IMAGES), IMAGES),
    "a tensor": (torch.from_numpy(IMAGES), IMAGES),
}


@pytest.mark.parametrize("given", DATA.values(), ids=DATA)
def test_a_data_set_that_is_none_is_refused_by_its_name(offered, tmp_path, given):
    offered("dataset", lambda data_dir: given if isinstance(given, list) else ImageSet("w", *given))
    with pytest.raises((PartFailed, DataError), match=r"'(wrong|w)'"):
        image_set(tmp_path, WRONG, is_fresh=True)


@pytest.mark.parametrize("field", [{"flip": "no"}, {"notes": "one"}, {"distribution": IMAGES}])
def test_a_data_set_whose_fields_are_of_other_types_is_refused(offered, tmp_path, field):
    offered("dataset", lambda data_dir: ImageSet("w", IMAGES, IMAGES, **field))
    with pytest.raises(DataError, match=f"'w': {next(iter(field))} cannot be"):
        image_set(tmp_path, WRONG, is_fresh=True)


@pytest.mark.parametrize("error", [KeyError("x"), SystemExit(2)], ids=["raises", "exits"])
def test_a_part_that_raises_where_it_is_made_is_named(offered, tmp_path, error):
    def broken(data_dir, device=""):
        raise error

    for kind, made_by in (("dataset", image_set), ("extractor", extract)):
        offered(kind, broken)
        with pytest.raises(PartFailed, match=f"{kind} 'wrong' .* cannot be made"):
            made_by(tmp_path, WRONG)


def extract(data_dir, part):
    """The features of all images, as in two chunks of work."""
    extractor = new_extractor(data_dir, "cpu", part)
    return [extractor(IMAGES[:4]), extractor(IMAGES[4:])]


FEATURES = {
    "fewer rows": lambda found: found[1:],
    "one axis": lambda found: found.mean(1),
    "four axes": lambda found: found[:, :, None, None],
    "no features": lambda found: found[:, :0],
    "other widths": lambda found: found[:, : len(found)],
    "half precision": lambda found: found.astype(np.float16),
    "whole numbers": lambda found: found.astype(int),
    "complex": lambda found: found * 1j,
    "a list": lambda found: found.tolist(),
    "not finite": lambda found: found * np.nan,
    "an error": lambda found: 1 / 0,
}


@pytest.mark.parametrize("spoil", FEATURES.values(), ids=FEATURES)
def test_an_extractor_that_gives_no_features_is_refused_by_its_name(offered, tmp_path, spoil):
    class Wrong(Pixels):
        def __call__(self, images, batch_size=0):
            return spoil(super().__call__(images))

    offered("extractor", Wrong)
    with pytest.raises(PartFailed, match=r"extractor 'wrong' .*Use another extractor"):
        extract(tmp_path, WRONG)


def test_features_in_single_precision_are_taken_as_they_are(offered, tmp_path):
    class Single(Pixels):
        def __call__(self, images, batch_size=0):
            return super().__call__(images).astype(np.float32)

    offered("extractor", Single)
    first, _ = extract(tmp_path, WRONG)
    assert first.dtype == np.float64
    assert np.allclose(first, IMAGES[:4].reshape(4, -1) / 127.5 - 1)


@pytest.mark.parametrize("lacking", ["label", "fingerprint", "check"])
def test_an_extractor_without_what_it_is_asked_for_is_refused(offered, tmp_path, lacking):
    offered("extractor", type("Wrong", (Pixels,), {lacking: None}))
    with pytest.raises(PartFailed, match="extractor 'wrong'"):
        new_extractor(tmp_path, "cpu", WRONG)


NETWORKS = {
    "one column": lambda x: x[..., :1],  # would be stretched over the images
    "one image": lambda x: x[:1],
    "a tuple": lambda x: (x,),
    "nothing": lambda x: None,
    "complex": lambda x: x * 1j,
}


@pytest.mark.parametrize("answer", NETWORKS.values(), ids=NETWORKS)
def test_a_network_that_answers_in_another_shape_is_refused(answer):
    x = torch.zeros(2, 1, 8, 8)
    with pytest.raises(PartFailed, match=r"answers .* for images \[2, 1, 8, 8\]"):
        Predictor(lambda x, log_snr: answer(x), "float32")(x, torch.zeros(2))


@pytest.mark.parametrize("built", [None, torch.relu, 3])
def test_a_model_that_builds_no_network_is_refused_by_its_name(offered, built):
    offered("model", type("Shape", (), {"build": lambda *_: built}))
    training = replace(made.TRAINING, model=WRONG)
    with pytest.raises(PartFailed, match=r"model 'wrong' .* builds no torch module"):
        build(training, 1, 8, torch.device("cpu"))


TIMES = {
    "a list": lambda times: times.tolist(),
    "too few": lambda times: times[1:],
    "rising": lambda times: times.flip(0),
    "not a number": lambda times: times * torch.nan,
    "above 1": lambda times: times * 2,
}


@pytest.mark.parametrize("spoil", TIMES.values(), ids=TIMES)
def test_a_spacing_that_gives_no_times_is_refused_by_its_name(offered, spoil):
    offered("spacing", lambda schedule, steps: spoil(torch.linspace(1, 0, steps + 1)))
    with pytest.raises(PartFailed, match="spacing 'wrong'"):
        path_of(replace(made.CELL, spacing=WRONG))


@pytest.mark.parametrize("spoil", [lambda a: -a, lambda a: a * torch.nan, lambda a: a[:1]])
def test_a_schedule_that_does_not_fall_is_refused_by_its_name(offered, spoil):
    offered("schedule", type("W", (Linear,), {"log_snr": lambda s, t: spoil(Linear().log_snr(t))}))
    with pytest.raises(PartFailed, match="schedule 'wrong'"):
        path_of(replace(made.CELL, sample_schedule=WRONG))


SAMPLERS = {
    "nothing": lambda x, denoise, times: None,
    "an array": lambda x, denoise, times: x.numpy(),
    "fewer images": lambda x, denoise, times: x[1:],
    "one image": lambda x, denoise, times: x[:1],
    "whole numbers": lambda x, denoise, times: x.int(),
    "complex": lambda x, denoise, times: x * 1j,
    "one more evaluation": lambda x, denoise, times: denoise(x, times[0]),
    "a time that is none": lambda x, denoise, times: denoise(x, torch.tensor(1.5)),
}


@pytest.mark.parametrize("spoil", SAMPLERS.values(), ids=SAMPLERS)
def test_a_sampler_that_gives_no_images_is_refused_by_its_name(offered, trained, spoil):
    def wrong(denoise, schedule, x, times, draw_noise):
        return spoil(ddim(denoise, schedule, x, times, draw_noise), denoise, times)

    offered("sampler", wrong)
    with pytest.raises(PartFailed, match="sampler 'wrong'"):
        sample(replace(made.CELL, sampler=WRONG, steps=2, images=3), trained, lambda progress: None)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    from harness.engine.network import with_weights

    at = Workplace(tmp_path_factory.mktemp("store"), tmp_path_factory.mktemp("data"), "cpu")
    setting = Setting.of(made.TRAINING, at)
    weights = build(made.TRAINING, 1, 8, torch.device("cpu")).state_dict()
    return with_weights(made.TRAINING, weights, setting.images, setting.device)
