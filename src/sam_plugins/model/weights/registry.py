"""The models that have a name: where their files are, how to check them, what they are good for.

Sources of the facts. SAM: Kirillov et al. 2023 and its repository. MobileSAM: Zhang et al. 2023,
arXiv:2306.14289. MedSAM: Ma et al. 2024, doi:10.1038/s41467-024-44824-z. micro-sam: Archit et al.
2025, doi:10.1038/s41592-024-02580-4; PathoSAM: arXiv:2502.00408; MedicoSAM: arXiv:2501.11734.
micro-sam publishes 128-bit xxHashes of its current files and no SHA-256: those are checked instead.
"""

from __future__ import annotations

import importlib.resources
from dataclasses import dataclass
from pathlib import Path

from sam_plugins.errors import UnknownModelError
from sam_plugins.model.networks.config import Preprocessing
from sam_plugins.model.weights.hashing import split_digest
from sam_plugins.model.weights.naming import nearest_names, normalise_name
from sam_plugins.model.weights.paths import models_directory

DEFAULT_MODEL = "default"


@dataclass(frozen=True)
class ModelEntry:
    """One model that can be asked for by name.

    Parameters
    ----------
    name : str
        The name that this package uses.
    file_name : str
        Name of the file in the cache folder (or in the package, for the shipped model).
    urls : tuple of str
        Where the file can be had, in the order to try; empty for the shipped model.
    digest : str or None
        ``"sha256:..."`` or another ``algorithm:hex``; None for the shipped model alone.
    size_bytes : int
        Size of the file.
    size_is_exact : bool
        False where the publisher gives no byte count and the size is that of the same architecture.
    licence : str
        Licence of the weights.
    input_convention : str
        What the network expects to see, in words.
    good_for : str
        One line for people who must choose.
    preprocessing : Preprocessing or None
        Set where the file's architecture does not tell how its pictures were prepared.
    aliases : tuple of str
        Other names that lead here.

    Raises
    ------
    ValueError
        If a file that is downloaded has no digest.
    """

    name: str
    file_name: str
    urls: tuple[str, ...]
    digest: str | None
    size_bytes: int
    licence: str
    input_convention: str
    good_for: str
    size_is_exact: bool = True
    preprocessing: Preprocessing | None = None
    aliases: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse an entry whose download nothing could check."""
        if self.urls and self.digest is None:
            raise ValueError(f"model {self.name!r} is downloaded and must have a digest, got None")

    @property
    def is_shipped(self) -> bool:
        """Whether the file comes with the package."""
        return not self.urls

    @property
    def path(self) -> Path:
        """Where the file is on this machine, or will be when it is downloaded."""
        if self.is_shipped:
            package = importlib.resources.files("sam_plugins.model.weights")
            return Path(str(package / "default" / self.file_name))
        return models_directory() / self.file_name

    @property
    def sha256(self) -> str | None:
        """The SHA-256 in hexadecimal, if that is the published kind."""
        if self.digest is None:
            return None
        algorithm, value = split_digest(self.digest)
        return value if algorithm == "sha256" else None


_SAM_INPUT = "8-bit RGB, longer side 1024, ImageNet mean and deviation, zeros to a 1024 square"
_MICRO_SAM_INPUT = "each picture stretched to 8 bits from minimum to maximum, then as SAM"
_BIOIMAGE = "https://uk1s3.embassy.ebi.ac.uk/public-datasets/bioimage.io"
_OWNCLOUD = "https://owncloud.gwdg.de/index.php/s"
_SAM_URL = "https://dl.fbaipublicfiles.com/segment_anything"
_MOBILE_SAM_URL = "https://raw.githubusercontent.com/ChaoningZhang/MobileSAM"

_SIZES = {"t": 40_728_226, "b": 375_042_383, "l": 1_249_524_607, "h": 2_564_550_879}


def _micro_sam(name: str, url: str, digest: str, licence: str, good_for: str) -> ModelEntry:
    """Return the entry of a file that micro-sam publishes; ``vit_`` is followed by its size."""
    suffix = ".pth" if ".pth" in url else ".pt"
    return ModelEntry(
        name=name,
        file_name=f"micro_sam_{name}{suffix}",
        urls=(url,),
        digest=digest,
        size_bytes=_SIZES[name[4]],
        size_is_exact=False,
        licence=licence,
        input_convention=_MICRO_SAM_INPUT,
        good_for=good_for,
        aliases=(f"micro_sam_{name}",),
    )


_LM = "cells and nuclei in light microscopy"
_EM = "mitochondria, nuclei and other roundish organelles in electron microscopy"
_HISTO = "nuclei in histopathology (H&E and alike)"
_CC_BY = "CC-BY-4.0"
_UNSTATED = "not stated with the file (its code: MIT)"

_ENTRIES = (
    ModelEntry(
        name=DEFAULT_MODEL,
        file_name="default.safetensors",
        urls=(),
        digest=None,
        size_bytes=25 * 2**20,
        size_is_exact=False,
        licence="Apache-2.0",
        input_convention="RGB of 0 to 255 after robust contrast; sizes as its passport says",
        good_for="nuclei, cells and particles on a laptop; comes with the package",
        aliases=("sam_plugins", "sam_plugins_default"),
    ),
    ModelEntry(
        name="sam_vit_b",
        file_name="sam_vit_b_01ec64.pth",
        urls=(f"{_SAM_URL}/sam_vit_b_01ec64.pth",),
        digest="sha256:ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912",
        size_bytes=_SIZES["b"],
        licence="Apache-2.0",
        input_convention=_SAM_INPUT,
        good_for="photographs; a base for fine-tuning",
        aliases=("vit_b", "sam_b"),
    ),
    ModelEntry(
        name="sam_vit_l",
        file_name="sam_vit_l_0b3195.pth",
        urls=(f"{_SAM_URL}/sam_vit_l_0b3195.pth",),
        digest="sha256:3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622",
        size_bytes=_SIZES["l"],
        licence="Apache-2.0",
        input_convention=_SAM_INPUT,
        good_for="photographs, better and slower than sam_vit_b",
        aliases=("vit_l", "sam_l"),
    ),
    ModelEntry(
        name="sam_vit_h",
        file_name="sam_vit_h_4b8939.pth",
        urls=(f"{_SAM_URL}/sam_vit_h_4b8939.pth",),
        digest="sha256:a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e",
        size_bytes=_SIZES["h"],
        licence="Apache-2.0",
        input_convention=_SAM_INPUT,
        good_for="photographs, the largest SAM; wants a GPU",
        aliases=("vit_h", "sam_h"),
    ),
    ModelEntry(
        name="mobile_sam",
        file_name="mobile_sam.pt",
        urls=(
            f"{_MOBILE_SAM_URL}/f706ad9c4eb7f219c00d9050e46328518ffb65d2/weights/mobile_sam.pt",
            f"{_MOBILE_SAM_URL}/master/weights/mobile_sam.pt",
        ),
        digest="sha256:6dbb90523a35330fedd7f1d3dfc66f995213d81b29a5ca8108dbcdd4e37d6c2f",
        size_bytes=_SIZES["t"],
        licence="Apache-2.0",
        input_convention=_SAM_INPUT,
        good_for="photographs without a GPU",
        aliases=("vit_t", "mobilesam", "sam_vit_t"),
    ),
    ModelEntry(
        name="medsam",
        file_name="medsam_vit_b.pth",
        urls=("https://zenodo.org/records/10689643/files/medsam_vit_b.pth?download=1",),
        digest="sha256:34b34b78c1d18cb8c6bf84cf9c00e135d6d6c965699f3c0e31ef1bc9dcb5be74",
        size_bytes=375_049_145,
        licence=_CC_BY,
        input_convention=(
            "RGB scaled to 0..1 by the picture's minimum and maximum, no mean or deviation; "
            "trained on pictures stretched to a 1024 square"
        ),
        good_for="medical pictures (CT, MRI, ultrasound, endoscopy), from a box",
        # 0..255 divided by 255: the 0..1 of its authors.
        preprocessing=Preprocessing(pixel_mean=(0.0, 0.0, 0.0), pixel_std=(255.0, 255.0, 255.0)),
        aliases=("medsam_vit_b",),
    ),
    _micro_sam(
        "vit_t_lm",
        f"{_BIOIMAGE}/faithful-chicken/1.1/files/vit_t.pt",
        "xxh128:72ec5074774761a6e5c05a08942f981e",
        _CC_BY,
        f"{_LM}, fast",
    ),
    _micro_sam(
        "vit_b_lm",
        f"{_BIOIMAGE}/diplomatic-bug/1.2/files/vit_b.pt",
        "xxh128:fe9252a29f3f4ea53c15a06de471e186",
        _CC_BY,
        _LM,
    ),
    _micro_sam(
        "vit_l_lm",
        f"{_BIOIMAGE}/idealistic-rat/1.2/files/vit_l.pt",
        "xxh128:017f20677997d628426dec80a8018f9d",
        _CC_BY,
        f"{_LM}, better and slower than vit_b_lm",
    ),
    _micro_sam(
        "vit_t_em_organelles",
        f"{_BIOIMAGE}/greedy-whale/1/files/vit_t.pt",
        "xxh128:253474720c497cce605e57c9b1d18fd9",
        _CC_BY,
        f"{_EM}, fast",
    ),
    _micro_sam(
        "vit_b_em_organelles",
        f"{_BIOIMAGE}/noisy-ox/1.2/files/vit_b.pt",
        "xxh128:f3bf2ed83d691456bae2c3f9a05fb438",
        _CC_BY,
        _EM,
    ),
    _micro_sam(
        "vit_l_em_organelles",
        f"{_BIOIMAGE}/humorous-crab/1.2/files/vit_l.pt",
        "xxh128:810b084b6e51acdbf760a993d8619f2d",
        _CC_BY,
        f"{_EM}, better and slower than vit_b_em_organelles",
    ),
    _micro_sam(
        "vit_b_em_boundaries",
        "https://zenodo.org/records/10524894/files/vit_b_em_boundaries.pth?download=1",
        "sha256:d87348b2adef30ab427fb787d458643300eb30624a0e808bf36af21764705f4f",
        _UNSTATED,
        "cells and neurites drawn by their borders in electron microscopy (an older model)",
    ),
    _micro_sam(
        "vit_b_histopathology",
        f"{_OWNCLOUD}/sBB4H8CTmIoBZsQ/download",
        "xxh128:ffd1a2cd84570458b257bd95fdd8f974",
        _UNSTATED,
        _HISTO,
    ),
    _micro_sam(
        "vit_l_histopathology",
        f"{_OWNCLOUD}/IZgnn1cpBq2PHod/download",
        "xxh128:b591833c89754271023e901281dee3f2",
        _UNSTATED,
        f"{_HISTO}, better and slower",
    ),
    _micro_sam(
        "vit_h_histopathology",
        f"{_OWNCLOUD}/L7AcvVz7DoWJ2RZ/download",
        "xxh128:bd1856dafc156a43fb3aa705f1a6e92e",
        _UNSTATED,
        f"{_HISTO}, the largest; wants a GPU",
    ),
    _micro_sam(
        "vit_b_medical_imaging",
        f"{_OWNCLOUD}/f5Ol4FrjPQWfjUF/download",
        "xxh128:40169f1e3c03a4b67bff58249c176d92",
        _UNSTATED,
        "medical pictures (X-ray, CT, MRI, ultrasound), from clicks and boxes",
    ),
)


def model_entries() -> tuple[ModelEntry, ...]:
    """Return every model that has a name, the shipped one first."""
    return _ENTRIES


def find_entry(name: str) -> ModelEntry:
    """Return the entry of a model by its name or one of its aliases.

    Parameters
    ----------
    name : str
        Upper case, hyphens and spaces do not matter: ``"SAM ViT-B"`` is ``"sam_vit_b"``.

    Raises
    ------
    UnknownModelError
        If no model has that name; the message lists the nearest ones.
    """
    wanted = normalise_name(name)
    for entry in _ENTRIES:
        if wanted in (normalise_name(known) for known in (entry.name, *entry.aliases)):
            return entry
    known = [spelling for entry in _ENTRIES for spelling in (entry.name, *entry.aliases)]
    nearest = nearest_names(name, known)
    hint = f"did you mean {', '.join(nearest)}?" if nearest else "nothing known looks like it."
    raise UnknownModelError(
        f"no model is called {name!r}: {hint} Known models: "
        f"{', '.join(entry.name for entry in _ENTRIES)}. For a file of your own give its path."
    )


def entry_of_sha256(sha256: str) -> ModelEntry | None:
    """Return the entry of a published file by its SHA-256 (hexadecimal), however it was renamed."""
    return next((entry for entry in _ENTRIES if entry.sha256 == sha256), None)
