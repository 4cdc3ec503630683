"""The codecs by name: the closed set that a manifest may name."""

from collections.abc import Mapping
from types import MappingProxyType

from tidemill.storage.codecs.bf16_bundles import Bf16BundlesCodec
from tidemill.storage.codecs.codec import Codec
from tidemill.storage.codecs.planes import Bf16PlanesCodec, Fp16PlanesCodec
from tidemill.storage.codecs.raw import RawCodec
from tidemill.storage.codecs.raw_bundles import RawBundlesCodec
from tidemill.storage.codecs.zstd import ZstdCodec
from tidemill.storage.errors import FormatError

_ALL: tuple[Codec, ...] = (
    RawCodec(), ZstdCodec(), Bf16PlanesCodec(), Fp16PlanesCodec(), RawBundlesCodec(), Bf16BundlesCodec(),
)  # fmt: skip
CODECS: Mapping[str, Codec] = MappingProxyType({codec.name: codec for codec in _ALL})


def get_codec(name: str) -> Codec:
    codec = CODECS.get(name)
    if codec is None:
        raise FormatError(f"codec {name!r} is not known; this version reads {', '.join(CODECS)}")
    return codec
