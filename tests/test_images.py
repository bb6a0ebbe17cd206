"""Photos as cameras and scrapers make them: read upright in RGB, or refused by name."""

from __future__ import annotations

import errno
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

from weakclip import images
from weakclip.errors import WeakClipError
from weakclip.images import file_crc32, read_photo, read_photo_size, resize_photo

WIDTH, HEIGHT = 12, 9


def gradient() -> Image.Image:
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    return Image.fromarray(np.stack([20 * x, 25 * y, 10 * (x + y)], axis=2).astype(np.uint8))


def refused(path: Path) -> str:
    with pytest.raises(WeakClipError) as info:
        read_photo(path)
    assert str(path) in info.value.problem
    assert info.value.hint
    return info.value.problem


def huge_png(path: Path, width: int, height: int) -> None:
    """A PNG whose header claims a size that its few bytes do not hold."""
    chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    header = struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
    data = b"IDAT" + zlib.compress(b"\0" * 100)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + header + struct.pack(">I", len(data) - 4) + data + struct.pack(">I", zlib.crc32(data))
    )


def huge_jpeg(path: Path, width: int, height: int) -> None:
    gradient().save(path)
    content = path.read_bytes()
    start = content.index(b"\xff\xc0") + 5
    path.write_bytes(content[:start] + struct.pack(">HH", height, width) + content[start + 4 :])


def test_an_rgb_photo_comes_as_it_is_and_writable(tmp_path: Path) -> None:
    gradient().save(tmp_path / "a.png")
    photo = read_photo(tmp_path / "a.png")
    np.testing.assert_array_equal(photo, np.asarray(gradient()))
    assert photo.dtype == np.uint8 and photo.flags.writeable


@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "bmp", "tif", "gif", "jp2", "ppm"])
def test_common_formats_are_read(tmp_path: Path, ending: str) -> None:
    gradient().save(tmp_path / f"a.{ending}")
    assert read_photo(tmp_path / f"a.{ending}").shape == (HEIGHT, WIDTH, 3)
    assert read_photo_size(tmp_path / f"a.{ending}") == (HEIGHT, WIDTH)


@pytest.mark.parametrize(
    ("orientation", "expected"),
    [
        (1, lambda a: a),
        (2, lambda a: a[:, ::-1]),
        (3, lambda a: a[::-1, ::-1]),
        (4, lambda a: a[::-1]),
        (5, lambda a: a.transpose(1, 0, 2)),
        (6, lambda a: np.rot90(a, -1)),
        (7, lambda a: a[::-1, ::-1].transpose(1, 0, 2)),
        (8, lambda a: np.rot90(a, 1)),
    ],
)
@pytest.mark.parametrize("ending", ["png", "webp", "tif"])
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int, expected, ending: str) -> None:  # type: ignore[no-untyped-def]
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    path = tmp_path / f"a.{ending}"
    gradient().save(path, exif=exif, **({"lossless": True} if ending == "webp" else {}))
    upright = expected(np.asarray(gradient()))
    np.testing.assert_array_equal(read_photo(path), upright)
    assert read_photo_size(path) == upright.shape[:2]


def test_the_size_of_a_turned_jpeg_is_that_of_the_upright_photo(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    gradient().save(tmp_path / "a.jpg", exif=exif)
    assert read_photo_size(tmp_path / "a.jpg") == (WIDTH, HEIGHT)
    assert read_photo(tmp_path / "a.jpg").shape == (WIDTH, HEIGHT, 3)


@pytest.mark.parametrize(
    "exif", [b"Exif\0\0garbage", b"Exif\0\0II*\0\xff\xff\xff\x7f", b"Exif\0\0MM\0*\0\0\0\x08\0\x05\x01\x12"]
)
def test_a_damaged_exif_block_does_not_cost_the_photo(tmp_path: Path, exif: bytes) -> None:
    gradient().save(tmp_path / "a.jpg", exif=exif)
    assert read_photo(tmp_path / "a.jpg").shape == (HEIGHT, WIDTH, 3)
    assert read_photo_size(tmp_path / "a.jpg") == (HEIGHT, WIDTH)


def test_an_unknown_orientation_is_ignored(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 9
    gradient().save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(read_photo(tmp_path / "a.png"), np.asarray(gradient()))


def test_grey_becomes_three_equal_channels(tmp_path: Path) -> None:
    grey = gradient().convert("L")
    grey.save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_photo(tmp_path / "a.png"), np.stack([np.asarray(grey)] * 3, axis=2))


def test_sixteen_bits_are_scaled_to_eight(tmp_path: Path) -> None:
    values = np.zeros((8, 8), dtype=np.uint16)
    values[0, :4] = (0, 128, 32896, 65535)  # 128 / 257 rounds to 0, 32896 / 257 is 128
    for name in ("a.png", "a.tif", "a.pgm"):
        Image.fromarray(values).save(tmp_path / name)
        assert read_photo(tmp_path / name)[0, :4, 0].tolist() == [0, 0, 128, 255]


def test_big_endian_sixteen_bits_are_read(tmp_path: Path) -> None:
    values = np.full((8, 8), 65535, dtype=">u2")
    path = tmp_path / "a.tif"
    Image.frombytes("I;16B", (8, 8), values.tobytes()).save(path)
    assert read_photo(path).min() == 255


def test_32_bit_and_floating_point_pixels_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.full((8, 8), 70000, dtype=np.int32)).save(tmp_path / "a.tif")
    assert "32-bit" in refused(tmp_path / "a.tif")
    Image.fromarray(np.zeros((8, 8), dtype=np.float32)).save(tmp_path / "b.tif")
    assert "floating-point" in refused(tmp_path / "b.tif")


def test_transparency_is_laid_on_white(tmp_path: Path) -> None:
    pixels = np.zeros((8, 8, 4), dtype=np.uint8)
    pixels[..., 3] = (0, 51, 102, 153, 204, 255, 255, 255)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    assert read_photo(tmp_path / "a.png")[0, :6, 0].tolist() == [255, 204, 153, 102, 51, 0]
    Image.fromarray(pixels).convert("LA").save(tmp_path / "b.png")
    assert read_photo(tmp_path / "b.png")[0, 0].tolist() == [255, 255, 255]


@pytest.mark.parametrize("transparency", [0, bytes([0, 255])])
def test_a_palette_with_transparency_is_laid_on_white(tmp_path: Path, transparency: int | bytes) -> None:
    image = Image.fromarray(np.eye(8, dtype=np.uint8))
    image.putpalette([200, 0, 0, 0, 0, 200])
    image.save(tmp_path / "a.png", transparency=transparency)
    photo = read_photo(tmp_path / "a.png")
    assert photo[0, 1].tolist() == [255, 255, 255]
    assert photo[0, 0].tolist() == [0, 0, 200]


def test_cmyk_and_ycbcr_and_one_bit_are_converted(tmp_path: Path) -> None:
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "a.tif")
    assert read_photo(tmp_path / "a.tif")[0, 0].tolist() == [255, 0, 0]
    gradient().convert("CMYK").save(tmp_path / "a.jpg")
    assert np.abs(read_photo(tmp_path / "a.jpg").astype(int) - np.asarray(gradient())).mean() < 25
    Image.new("1", (8, 8), 1).save(tmp_path / "a.png")
    assert read_photo(tmp_path / "a.png").min() == 255


def test_the_first_frame_of_an_animation_counts(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8), "red").save(tmp_path / "a.gif", save_all=True, append_images=[Image.new("RGB", (8, 8), "blue")])
    assert read_photo(tmp_path / "a.gif")[0, 0].tolist() == [255, 0, 0]


def test_file_names_may_hold_any_letters(tmp_path: Path) -> None:
    gradient().save(tmp_path / "Kätzchen 猫 (1).png")
    assert read_photo(tmp_path / "Kätzchen 猫 (1).png").shape == (HEIGHT, WIDTH, 3)


def test_the_ending_need_not_fit_the_format(tmp_path: Path) -> None:
    gradient().save(tmp_path / "a.jpg", format="PNG")
    np.testing.assert_array_equal(read_photo(tmp_path / "a.jpg"), np.asarray(gradient()))


@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "bmp", "tif", "gif"])
def test_a_truncated_file_is_refused(tmp_path: Path, ending: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    path = tmp_path / f"a.{ending}"
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    refused(path)


def test_what_is_no_photo_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "empty.jpg").touch()
    assert "empty" in refused(tmp_path / "empty.jpg")
    (tmp_path / "page.jpg").write_text("<html>404</html>")
    assert "not an image" in refused(tmp_path / "page.jpg")
    (tmp_path / "script.jpg").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 99 99\n")
    assert "not an image" in refused(tmp_path / "script.jpg")
    (tmp_path / "folder.jpg").mkdir()
    refused(tmp_path / "folder.jpg")
    assert "missing" in refused(tmp_path / "nothing.jpg")


def test_photos_under_eight_pixels_are_refused(tmp_path: Path) -> None:
    gradient().resize((8, 8)).save(tmp_path / "a.png")
    assert read_photo(tmp_path / "a.png").shape == (8, 8, 3)
    gradient().resize((7, 40)).save(tmp_path / "b.png")
    assert "7 x 40" in refused(tmp_path / "b.png")
    with pytest.raises(WeakClipError, match="at least 8"):
        read_photo_size(tmp_path / "b.png")


@pytest.mark.parametrize(("width", "height"), [(10_001, 10_000), (20_000, 20_000)])
def test_photos_over_100_megapixels_are_refused_without_decoding(tmp_path: Path, width: int, height: int) -> None:
    for path, write in ((tmp_path / "a.png", huge_png), (tmp_path / "a.jpg", huge_jpeg)):
        write(path, width, height)
        assert "larger than 100 megapixels" in refused(path)
        with pytest.raises(WeakClipError, match="larger than 100 megapixels"):
            read_photo_size(path)


def test_100_megapixels_pass_without_a_warning(tmp_path: Path) -> None:
    huge_jpeg(tmp_path / "a.jpg", 10_000, 10_000)
    assert read_photo_size(tmp_path / "a.jpg") == (10_000, 10_000)


def test_resizing_averages_when_it_shrinks_and_keeps_the_photo_when_it_fits() -> None:
    board = np.zeros((16, 16, 3), dtype=np.uint8)
    board[::2, ::2] = board[1::2, 1::2] = 254
    assert np.abs(resize_photo(board, 4, 4).astype(int) - 127).max() <= 1
    same = resize_photo(board, 16, 16)
    np.testing.assert_array_equal(same, board)
    assert same is not board
    assert resize_photo(board, 5, 7).shape == (5, 7, 3)


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO])
def test_what_the_machine_lacks_is_not_said_of_the_photo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    # A stage that skips unusable photos would leave it out.
    gradient().save(tmp_path / "a.png")

    def refuse(*_: object, **__: object) -> None:
        raise MemoryError if number == errno.ENOMEM else OSError(number, os.strerror(number))

    with monkeypatch.context() as patch, pytest.raises(OSError) as caught:
        patch.setattr(Image, "open", refuse)
        read_photo(tmp_path / "a.png")
    assert caught.value.errno == number
    monkeypatch.setattr(images, "read_bytes", refuse)
    with pytest.raises((OSError, MemoryError)):
        file_crc32(tmp_path / "a.png")


def test_a_pipe_in_the_place_of_a_listed_photo_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.png")
    for crc32 in (None, 7):
        with pytest.raises(WeakClipError, match=r"a\.png is no file"):
            read_photo(tmp_path / "a.png", crc32)
