"""How many captions are drawn where nobody says how many."""

import pytest
from kdexport.cli.world import captions_to_draw
from kdexport.core.errors import OptionError
from kdexport.export.load import load_checkpoint


@pytest.mark.parametrize(
    ("wanted", "backend", "drawn"), [(None, "onnx", 64), (None, "coreml", 16), (5, "coreml", 5)]
)
def test_of_the_demo_model(wanted, backend, drawn):
    assert captions_to_draw(load_checkpoint("demo"), wanted, backend) == drawn


def test_of_a_model_that_cannot_be_scored(narrow):
    checkpoint = load_checkpoint(str(narrow("bk-sdm-small")))
    assert captions_to_draw(checkpoint, None) == 0
    with pytest.raises(OptionError, match="cannot be scored, only those of the demo model"):
        captions_to_draw(checkpoint, 3)
