from dataclasses import replace

import pytest
from kdexport.core.errors import OptionError
from kdexport.core.options import VerifyOptions
from kdexport.runtimes.comparison import comparison_plans


@pytest.fixture
def manifest(sd):
    return sd.manifest


def rows(plan):
    return plan.latent_shape[0] * (2 if plan.guided else 1)


def with_shapes(manifest, **changes):
    return replace(manifest, shapes=replace(manifest.shapes, **changes))


def test_two_sizes_one_of_them_not_square_and_two_batches(manifest):
    main, other = comparison_plans(manifest, VerifyOptions(steps=1))
    assert (main.height, main.width) == (manifest.defaults.height, manifest.defaults.width)
    assert other.height != other.width
    assert (other.height, other.width) != (main.height, main.width)
    assert rows(main) != rows(other)


def test_a_plan_per_prompt(manifest):
    plans = comparison_plans(manifest, VerifyOptions(steps=1, prompts=("a", "b"), guidance=0.0))
    assert [plan.prompts for plan in plans[:2]] == [("a",), ("b",)]
    assert len(plans) == 3
    assert rows(plans[0]) == 1
    assert rows(plans[2]) == 2


@pytest.mark.parametrize("batch", [1, 2, 3, 4])
def test_a_fixed_number_of_rows_is_filled(manifest, batch):
    fixed = with_shapes(manifest, batch=batch)
    plans = comparison_plans(fixed, VerifyOptions(steps=1))
    assert {rows(plan) for plan in plans} == {batch}
    assert plans[0].guided is (batch % 2 == 0 and manifest.defaults.guidance > 1)


def test_a_fixed_size_has_no_second_one(manifest):
    height, width = manifest.defaults.height, manifest.defaults.width
    plans = comparison_plans(with_shapes(manifest, height=height, width=width), VerifyOptions(1))
    assert [(plan.height, plan.width) for plan in plans] == [(height, width)]


def test_guidance_that_a_fixed_batch_cannot_take(manifest):
    with pytest.raises(OptionError, match="takes 1 rows"):
        comparison_plans(with_shapes(manifest, batch=1), VerifyOptions(steps=1, guidance=5.0))
