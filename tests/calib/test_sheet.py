"""The sheet of pictures."""

import numpy as np
import pytest
from kdexport.calib.sheet import picture_sheet


def flat(*shades):
    return np.stack([np.full((8, 10, 3), shade, np.uint8) for shade in shades])


@pytest.mark.parametrize("across", [1, 2])
def test_every_picture_stands_in_its_place(across):
    ours, theirs = flat(10, 20, 30), flat(110, 120, 130)
    sheet = picture_sheet(["a", "b", "c"], {"ours": ours, "theirs": theirs}, across=across)
    pixels = np.asarray(sheet)
    group, rows = pixels.shape[1] // across, -(-3 // across)
    head = pixels.shape[0] - rows * 8
    for index in range(3):
        top, right = head + 8 * (index % rows), group * (index // rows + 1)
        assert (pixels[top : top + 8, right - 20 : right - 10] == ours[index]).all()
        assert (pixels[top : top + 8, right - 10 : right] == theirs[index]).all()


def test_captions_and_names_are_written():
    sheet = np.asarray(picture_sheet(["a red circle"], {"ours": flat(255)}))
    head = sheet.shape[0] - 8
    assert (sheet[:head] < 128).any()
    assert (sheet[head:] < 128).any()
