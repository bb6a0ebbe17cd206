"""The readers, each as a function of bytes that raises where something is wrong with the reader."""

from __future__ import annotations

import io
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image

from weakclip.cam.imported import read_maps
from weakclip.deeplab.mxnet_params import read_params
from weakclip.errors import WeakClipError
from weakclip.features.journal import RECORD, Journal, journalled
from weakclip.plain_png import decode_plain_png
from weakclip.prob_npy import read_prob_npy
from weakclip.torchscript_archive import read_tensors

CORPUS: Final = Path(__file__).parent / "corpus"
MEMORY: Final = Path("/dev/shm")  # where there is such a folder: journals wait for the disk
LARGEST: Final = 1_000_000  # pixels
STORAGES: Final = {"0": 24, "1": 8}  # bytes of each, by key: those of the layer in the corpus
Reader = Callable[[bytes], None]


@contextmanager
def as_file(content: bytes, ending: str) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder:
        path = Path(folder) / f"a{ending}"
        path.write_bytes(content)
        yield path


def mxnet_params(content: bytes) -> None:
    """Tensors by name, all of whose bytes are the file's, or a refusal."""
    with as_file(content, ".params") as path:
        try:
            tensors = read_params(path)
        except WeakClipError as error:
            assert str(path) in error.problem and error.hint
        else:
            assert sum(tensor.nbytes for tensor in tensors.values()) <= len(content)


def pickled_npy(content: bytes) -> None:
    """Scores and maps of other programs, looked at in full, or a refusal."""
    with as_file(content, ".npy") as path:
        try:
            for values in read_maps(path).values():
                assert values.dtype == np.float32 and np.isfinite(values).all()
        except WeakClipError as error:
            assert str(path) in error.problem and error.hint
        try:
            assert read_prob_npy(path).labels.ndim == 2
        except WeakClipError as error:
            assert str(path) in error.problem and error.hint


def feature_journal(content: bytes) -> None:
    """Rows that the journal vouches for, the same ones after it was opened to go on; and what is added is there."""
    with as_file(content, ".journal") as path:
        found = journalled(path)
        assert len(found) <= len(content) // RECORD.size
        journal = Journal(path)
        assert journal.rows == found
        journal.append([(7, 11)])
        journal.close()
        assert journalled(path) == found | {7: 11}


def plain_png(content: bytes) -> None:
    """The pixels that PIL finds as well, or None."""
    found = decode_plain_png(content, LARGEST)
    if found is None:
        return
    try:
        with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
            expected = np.asarray(image)
    except Exception:  # it may refuse more
        return
    np.testing.assert_array_equal(found, expected)


def module_pickle(content: bytes) -> None:
    """Tensors of a TorchScript archive whose description is the content, no larger than its storages, or a refusal."""
    with as_file(b"", ".pt") as path:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("a/data.pkl", content)
            for key, n_bytes in STORAGES.items():
                archive.writestr(f"a/data/{key}", bytes(n_bytes))
        try:
            found = read_tensors(path)
        except Exception:  # nearly any kind; who calls it names the file
            return
        assert all(tensor.nbytes <= max(STORAGES.values()) for tensor in found.values())


READERS: Final[Mapping[str, Reader]] = {
    reader.__name__: reader for reader in (mxnet_params, pickled_npy, feature_journal, plain_png, module_pickle)
}


def seeds(name: str) -> list[bytes]:
    """The kept files of a reader: sound ones of each kind, and such as once made it fail."""
    return [path.read_bytes() for path in sorted((CORPUS / name).iterdir())]
