"""Calibration data written and read back, and every way in which a file can be wrong."""

import errno
import json
import shutil
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kdexport.core.architecture import architecture_digest
from kdexport.core.calibration import Calibration, CalibrationRecord
from kdexport.core.calibration_options import CalibrationOptions
from kdexport.core.calibration_writer import CalibrationWriter
from kdexport.core.errors import CalibrationError, DiskSpaceError, OptionError
from kdexport.core.folder import whole_file

RECORD = CalibrationRecord(
    format_version=1,
    kdexport="1.0",
    model="a model",
    weights_sha256={"unet/model.safetensors": "ab"},
    architecture={"text_encoder": "1", "unet": "2"},
    family="sd",
    prompts=("a cat", "žluťoučký kůň"),
    seed=3,
    steps=2,
    guidance=7.5,
    height=32,
    width=48,
    components={},
)
SHAPES = {
    "encoder_hidden_states": ("batch", 3, 5),
    "residual": ("batch", 2, "height // 2", "width // 2"),
    "sample": ("batch", 4, "height", "width"),
    "timestep": (),
}


def feed(rows, timestep, seed=0):
    random = np.random.default_rng(seed)
    return {
        "sample": random.standard_normal((rows, 4, 4, 6), np.float32),
        "timestep": np.array(timestep, np.float32),
        # Not in the order that it is written in.
        "encoder_hidden_states": random.standard_normal((rows, 5, 3), np.float32).swapaxes(1, 2),
        "residual": random.standard_normal((rows, 2, 2, 3), np.float32),
    }


def texts(rows):
    return {"input_ids": np.arange(rows * 3, dtype=np.int64).reshape(rows, 3)}


FEEDS = [feed(2, 801.5, 1), feed(1, 1, 2)]


def write(path, feeds=tuple(FEEDS), record=RECORD):
    with CalibrationWriter(path) as writer:
        writer.add("text_encoder", texts(2))
        for each in feeds:
            writer.add("unet", each)
        writer.finish(replace(record, components=writer.components))
    return path


@pytest.fixture
def path(tmp_path):
    return write(tmp_path / "calib.npz")


def rewrite(path, **changes):
    """Replaces members of the archive by name; None leaves one out."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in {**members, **changes}.items():
            if data is not None:
                archive.writestr(name, data)


def edit_record(path, **changes):
    with zipfile.ZipFile(path) as archive:
        data = json.loads(archive.read("calibration.json"))
    rewrite(path, **{"calibration.json": json.dumps({**data, **changes})})


def test_what_is_written_is_read(path):
    with Calibration.open(path) as data:
        unet = data.record.components["unet"]
        assert (unet.samples, unet.timesteps) == (2, (801.5, 1.0))
        assert unet.bytes == sum(array.nbytes for each in FEEDS for array in each.values())
        assert data.record.components["text_encoder"].timesteps == ()
        assert replace(data.record, components={}) == RECORD
        for found, expected in zip(data.samples("unet"), FEEDS, strict=True):
            assert set(found) == set(expected)
            for port, array in found.items():
                assert array.dtype == expected[port].dtype
                np.testing.assert_array_equal(array, expected[port], strict=True)
        (ids,) = data.samples("text_encoder")
        assert ids["input_ids"].dtype == np.int64
        data.require_ports("unet", SHAPES)
        data.require_ports("text_encoder", {"input_ids": ("batch", 3)})
        data.require_model({"unet": "2"}, "another name")


def test_numpy_reads_it_too(path):
    with np.load(path) as archive:
        np.testing.assert_array_equal(archive["unet/00001/sample"], FEEDS[1]["sample"])
        assert json.loads(archive["calibration.json"])["model"] == "a model"


def test_the_same_samples_make_the_same_bytes(tmp_path):
    assert write(tmp_path / "a").read_bytes() == write(tmp_path / "b").read_bytes()


def test_a_disk_that_fills_up(tmp_path, monkeypatch):
    """What the archive does while it is closed does not hide the reason."""

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    def fill():
        with whole_file(tmp_path / "calib.npz") as staging, CalibrationWriter(staging) as writer:
            writer.add("unet", FEEDS[0])
            monkeypatch.setattr("kdexport.core.calibration_writer.npy.write_array", full)
            writer.add("unet", FEEDS[1])

    with pytest.raises(DiskSpaceError, match="filled up while"):
        fill()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_is_not_written(tmp_path, value):
    bad = feed(1, 7)
    bad["sample"][0, 1, 2, 3] = value
    with pytest.raises(CalibrationError, match=r"'sample' of the unet at timestep 7, so nothing"):
        write(tmp_path / "a", [bad])


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_no_number_is_not_read(path, value, tmp_path):
    planted = FEEDS[1]["sample"].copy()
    planted[0, 0, 0, 0] = value
    with (tmp_path / "planted.npy").open("wb") as file:
        np.save(file, planted)
    rewrite(path, **{"unet/00001/sample.npy": (tmp_path / "planted.npy").read_bytes()})
    with Calibration.open(path) as data:
        samples = data.samples("unet")
        next(samples)
        message = r"NaN or infinite values in 'sample' of the unet, sample 1; record it again"
        with pytest.raises(CalibrationError, match=message):
            next(samples)


def test_another_model(path):
    with Calibration.open(path) as data:
        message = r"is of 'a model' and does not fit 'mine', which has another unet; record 'mine'"
        with pytest.raises(CalibrationError, match=message):
            data.require_model({"text_encoder": "1", "unet": "3"}, "mine")
        with pytest.raises(CalibrationError, match="has another controlnet"):
            data.require_model({"controlnet": "2"}, "mine")


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (
            {**SHAPES, "encoder_hidden_states": ("batch", 3, 6)},
            r"'encoder_hidden_states' of the unet is \(2, 3, 5\) in sample 0, but the model takes "
            r"\(2, 3, 6\)",
        ),
        (
            {**SHAPES, "sample": (2, 4, 4, 6), "residual": (2, 2, 2, 3)},
            r"is of another shape: '(sample|residual)' of the unet is \(1, .* in sample 1",
        ),
        ({**SHAPES, "sample": ("batch", 4, "height")}, r"'sample' of the unet is"),
        ({**SHAPES, "encoder_hidden_states": ("height", 3, 5)}, "is of another shape"),
        (
            {**SHAPES, "residual": ("batch", 2, "height // 4", "width // 2")},
            r"'residual' of the unet is \(2, 2, 2, 3\) .* takes \(2, 2, 1, 3\)",
        ),
        (
            {name: SHAPES[name] for name in ("sample", "timestep")},
            "has the inputs encoder_hidden_states, residual, sample, timestep of the unet, but "
            "the model takes sample, timestep; record it again",
        ),
    ],
)
def test_other_ports(path, shapes, message):
    with Calibration.open(path) as data, pytest.raises(CalibrationError, match=message):
        data.require_ports("unet", shapes)


def test_another_role(path):
    with Calibration.open(path) as data:
        message = "has no samples of the vae_decoder, only of text_encoder, unet"
        with pytest.raises(CalibrationError, match=message):
            next(data.samples("vae_decoder"))
        with pytest.raises(CalibrationError, match=message):
            data.require_ports("vae_decoder", {})


def test_no_calibration_data(tmp_path):
    missing, other, array = (tmp_path / name for name in ("missing", "other", "array.npy"))
    other.write_text("text")
    np.save(array, np.zeros(3))
    with pytest.raises(CalibrationError, match=r"There is no calibration data .*missing'; make it"):
        Calibration.open(missing)
    for path in (other, array):
        with pytest.raises(CalibrationError, match=r"is no \.npz file; name one that"):
            Calibration.open(path)
    np.savez(tmp_path / "else.npz", sample=np.zeros(3))
    with pytest.raises(CalibrationError, match=r"an \.npz file without calibration\.json"):
        Calibration.open(tmp_path / "else.npz")


@pytest.mark.parametrize("share", [0.01, 0.3, 0.7, 0.999])
def test_a_truncated_file(path, share):
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(CalibrationError, match=r"is cut off or damaged .* copy it again"):
        Calibration.open(path)


def test_a_changed_byte(path):
    data = bytearray(path.read_bytes())
    data[data.index(FEEDS[0]["sample"].tobytes()) + 1] ^= 1
    path.write_bytes(data)
    with Calibration.open(path) as opened:
        with pytest.raises(CalibrationError, match="is cut off or damaged"):
            next(opened.samples("unet"))
        next(opened.samples("text_encoder"))


def test_a_missing_sample(path):
    names = [f"unet/00001/{port}.npy" for port in SHAPES]
    rewrite(path, **dict.fromkeys(names))
    with pytest.raises(CalibrationError, match="does not hold 2 samples of the unet"):
        Calibration.open(path)


@pytest.mark.parametrize("damage", ["nothing", "[]", '{"format_version": 1}', "{", b"\xff\xfe"])
def test_a_damaged_record(path, damage):
    rewrite(path, **{"calibration.json": damage})
    with pytest.raises(CalibrationError, match="is cut off or damaged"):
        Calibration.open(path)


@pytest.mark.parametrize("changes", [{"components": []}, {"components": {"unet": {}}}])
def test_a_record_of_other_values(path, changes):
    edit_record(path, **changes)
    with pytest.raises(CalibrationError, match="is cut off or damaged"):
        Calibration.open(path)


def test_a_newer_format(path):
    edit_record(path, format_version=2, components=None)
    with pytest.raises(CalibrationError, match="has format version 2, this kdexport reads up to 1"):
        Calibration.open(path)


def test_a_failed_opening_leaves_nothing_open(path, tmp_path, recwarn):
    edit_record(path, format_version=2)
    for _ in range(3):
        with pytest.raises(CalibrationError):
            Calibration.open(path)
    shutil.move(path, tmp_path / "moved")
    assert not [each for each in recwarn if each.category is ResourceWarning]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"samples": 0}, "number of samples must be at least 1, not 0"),
        ({"steps": 0}, "number of steps must be at least 1, not 0"),
        ({"limit_mb": 0}, "limit in MB must be at least 1, not 0"),
        ({"height": -8, "width": 8}, "The height must be at least 1, not -8"),
        ({"height": 8}, "A size needs both a height and a width"),
        ({"guidance": float("nan")}, "guidance scale must be a finite number, not nan"),
        ({"seed": -1}, "seed must be at least 0, not -1"),
    ],
)
def test_options(options, message):
    with pytest.raises(OptionError, match=message):
        CalibrationOptions(**options)


names = st.text("ab.1", min_size=1, max_size=5)
weights = st.dictionaries(names, st.lists(st.integers(1, 99), max_size=4), max_size=5)


@given(weights, weights, st.randoms())
def test_the_digest_tells_architectures_apart(first, second, random):
    mixed = list(first.items())
    random.shuffle(mixed)
    assert architecture_digest(dict(mixed)) == architecture_digest(first)
    as_tuples = {name: tuple(shape) for name, shape in first.items()}
    assert architecture_digest(as_tuples) == architecture_digest(first)
    assert (architecture_digest(first) == architecture_digest(second)) == (first == second)
