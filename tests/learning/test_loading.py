import threading
import time

import pytest
import torch

from indeed.learning.loading import Sample, ahead, draw_batch


def source(generator: torch.Generator) -> Sample:
    return Sample(*torch.randn(2, 1, 4, 4, generator=generator))


def test_a_sample_does_not_depend_on_the_batch_it_is_drawn_in():
    together = draw_batch(source, range(10), seed=3)
    for index in (0, 4, 9):
        alone = draw_batch(source, [index], seed=3)
        assert torch.equal(together.observed[index : index + 1], alone.observed)
        assert torch.equal(together.target[index : index + 1], alone.target)
        draws = [torch.rand(3, generator=batch.generators()[k]) for batch, k in ((together, index), (alone, 0))]
        assert torch.equal(*draws)


def test_samples_and_the_draws_within_the_network_are_all_different():
    batch = draw_batch(source, range(50))
    draws = torch.stack([torch.randn(1, 4, 4, generator=generator) for generator in batch.generators()])
    values = torch.cat([batch.observed, batch.target, draws])
    assert len(values.unique(dim=0)) == 150


def test_results_come_in_order_whichever_thread_is_faster():
    def slow_when_even(step: int) -> int:
        time.sleep(0.01 * (step % 2 == 0))
        return step

    assert list(ahead(slow_when_even, range(20), threads=4, depth=6)) == list(range(20))


def test_drawing_is_ahead_of_the_caller_by_the_depth_and_no_more():
    drawn = []
    results = ahead(drawn.append, range(100), threads=1, depth=2)
    next(results)
    deadline = time.monotonic() + 30
    while len(drawn) < 3 and time.monotonic() < deadline:
        time.sleep(0.001)
    time.sleep(0.05)
    assert drawn == [0, 1, 2]  # the caller has 0; 1 and 2 wait
    results.close()


def test_a_fault_in_a_thread_is_raised_in_its_place_and_the_threads_end():
    def fail_at_3(step: int) -> int:
        if step == 3:
            raise RuntimeError("no third sample")
        return step

    before, results = threading.active_count(), ahead(fail_at_3, range(10))
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(RuntimeError, match="no third sample"):
        next(results)
    assert threading.active_count() == before
