import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kdexport.core.adapters import Adapter
from kdexport.core.errors import OptionError

NAMES = st.text(min_size=1)
SCALES = st.floats(allow_nan=False, allow_infinity=False).filter(bool)


@pytest.mark.parametrize(
    ("text", "name", "scale"),
    [
        ("owner/name", "owner/name", 1.0),
        ("owner/name:0.5", "owner/name", 0.5),
        ("a/b/c.safetensors:-1e-1", "a/b/c.safetensors", -0.1),
        ("C:\\loras\\a.safetensors", "C:\\loras\\a.safetensors", 1.0),
        ("C:\\loras\\a.safetensors:2", "C:\\loras\\a.safetensors", 2.0),
        ("style:v2:0.7", "style:v2", 0.7),
        ("owner/name:", "owner/name:", 1.0),
    ],
)
def test_parse(text, name, scale):
    assert Adapter.parse(text) == Adapter(name, scale)


@settings(deadline=None)
@given(NAMES, SCALES)
def test_a_written_scale_is_read_again(name, scale):
    assert Adapter.parse(f"{name}:{scale!r}") == Adapter(name, scale)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a:0", "scale of the adapter 'a' is 0; give a finite number"),
        ("a:nan", "is nan; give a finite number"),
        ("a:-inf", "is -inf; give"),
        ("", "needs a name"),
        (":0.5", "needs a name"),
    ],
)
def test_refused(text, message):
    with pytest.raises(OptionError, match=message):
        Adapter.parse(text)
