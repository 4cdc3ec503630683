"""tidemill decodes language models that are bigger than the memory at hand.

The parts live in three folders: `storage` (bytes on flash and in the arena), `actors` (behaviour) and
`runtime` (processes, assembly and the public face). `LLM` is the Python entry point.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tidemill.runtime.llm import LLM as LLM

__version__ = "0.1.0"
__all__ = ["LLM", "__version__"]


def __getattr__(name: str) -> object:
    # Lazy: each actor's process imports only its own part, as its memory counts against the ceiling.
    if name == "LLM":
        from tidemill.runtime.llm import LLM

        return LLM
    raise AttributeError(f"module 'tidemill' has no attribute {name!r}")
