import torch

from harness.engine.noise import NOISE_BLOCK, FreshNoise, Purpose, batch_at, normal, starting_noise

SHAPE = (1, 4, 4)
CPU = torch.device("cpu")


def test_starting_noise_does_not_depend_on_the_batches():
    whole = starting_noise(0, range(10), SHAPE)
    halves = [starting_noise(0, range(5), SHAPE), starting_noise(0, range(5, 10), SHAPE)]
    assert torch.equal(whole, torch.cat(halves))


def test_starting_noise_differs_between_images_and_between_seeds():
    drawn = torch.cat([starting_noise(seed, range(10), SHAPE) for seed in range(3)])
    assert len(torch.unique(drawn.flatten(1), dim=0)) == 30


def test_fresh_noise_does_not_depend_on_the_batches():
    images = 2 * NOISE_BLOCK + 10
    whole = FreshNoise(7, range(images), SHAPE, CPU)
    first, second = whole(), whole()
    for start, end in [
        (0, NOISE_BLOCK),
        (NOISE_BLOCK, images),
        (10, 20),
        (NOISE_BLOCK - 3, NOISE_BLOCK + 3),
    ]:
        part = FreshNoise(7, range(start, end), SHAPE, CPU)
        assert torch.equal(part(), first[start:end])
        assert torch.equal(part(), second[start:end])


def test_fresh_noise_is_new_at_every_step_and_is_not_the_starting_noise():
    draw = FreshNoise(7, range(NOISE_BLOCK), SHAPE, CPU)
    drawn = [draw(), draw(), starting_noise(7, range(NOISE_BLOCK), SHAPE)]
    assert len(torch.unique(torch.cat(drawn).flatten(1), dim=0)) == 3 * NOISE_BLOCK


def test_noise_is_standard_normal():
    drawn = normal((200_000,), CPU, Purpose.TRAINING, 3, 1, 1)
    assert drawn.dtype == torch.float32
    assert abs(drawn.mean()) < 0.01
    assert abs(drawn.std() - 1) < 0.01
    assert abs((drawn**4).mean() - 3) < 0.1


def test_purposes_with_the_same_seed_share_nothing():
    drawn = [normal((8,), CPU, purpose, 0, 0, 0) for purpose in Purpose]
    assert len({tuple(noise.tolist()) for noise in drawn}) == len(Purpose)


def test_every_image_is_seen_once_before_any_is_seen_again():
    seen = torch.cat([batch_at(step, seed=0, images=10, batch_size=4) for step in range(5)])
    assert sorted(seen[:10].tolist()) == list(range(10))
    assert sorted(seen[10:].tolist()) == list(range(10))
    assert seen[:10].tolist() != seen[10:].tolist()


def test_the_order_depends_on_the_step_alone():
    steps = [batch_at(step, seed=0, images=10, batch_size=4) for step in range(6)]
    again = [batch_at(step, seed=0, images=10, batch_size=4) for step in (5, 0, 3)]
    assert all(map(torch.equal, again, [steps[5], steps[0], steps[3]]))


def test_a_batch_may_be_larger_than_the_set():
    counts = torch.bincount(batch_at(0, seed=1, images=3, batch_size=8))
    assert counts.tolist().count(3) == 2
    assert counts.sum() == 8
