"""Jinja for templates that anybody may have written: no access to the program, bounded steps, bounded memory.

Jinja's sandbox keeps a template from the program's objects, but not from `'x' * 10**10`, `10 ** 10**9` or loops within
loops. Here every place where a value grows asks first whether it fits: operators, calls, filters, concatenation,
literals and output. What is interpreted is counted line by line, so that nothing that loops goes on for ever.
"""

import functools
import re
import sys
from collections.abc import Callable, Collection, ItemsView, Iterable, Iterator, KeysView, Mapping, Sequence, ValuesView
from contextlib import contextmanager
from types import FrameType
from typing import Any, TypeVar

import jinja2
from jinja2 import nodes
from jinja2.compiler import CodeGenerator, Frame
from jinja2.ext import loopcontrols
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

SOURCE_CHARS_MAX = 256 << 10
STEPS_MAX = 2_000_000  # lines of Python, some seconds at most
PRODUCED_BYTES_MAX = 128 << 20  # all that one rendering makes; a conversation passes through a template a few times
INTEGER_BITS_MAX = 4096
ARGUMENT_MAX = 1 << 20  # of a whole number given to a call or a filter: widths, counts, lengths
WIDE_PERCENT = re.compile(r"[0-9]{6}|%[-+ #0-9]*\.?\*")  # a width that is large, or comes with the values
WIDE_BRACES = re.compile(r"[0-9]{6}|\{[^{}]*[:!\[.][^{}]*\{")
# What may be larger than all that it is given: at most the product of the sizes.
GROWING = frozenset({"expandtabs", "format", "format_map", "indent", "join", "tojson", "translate", "wordwrap"})
HELD = (list, tuple, set, frozenset, KeysView, ValuesView, ItemsView)
LISTING = ("join", "sum")
PASSED = (Context, jinja2.Environment, nodes.EvalContext)  # by jinja, before what the template gives
UNTRUSTED_FILTERS = ("urlize",)  # its pattern takes time that grows with the square of the text


Value = TypeVar("Value")


class TemplateLimitError(jinja2.TemplateError):
    """The template asks for more than a conversation needs."""


class _StepsSpent(BaseException):
    """Not an Exception: some of jinja's own functions go on after those."""


class _BoundedCode(CodeGenerator):
    """What makes values without an operator or a call is handed to the environment, too."""

    def visit_Concat(self, node: nodes.Concat, frame: Frame) -> None:  # noqa: N802
        self._hand("concatenate", super().visit_Tuple, nodes.Tuple(node.nodes, "load"), frame)

    def visit_List(self, node: nodes.List, frame: Frame) -> None:  # noqa: N802
        self._hand("admit", super().visit_List, node, frame)

    def visit_Dict(self, node: nodes.Dict, frame: Frame) -> None:  # noqa: N802
        self._hand("admit", super().visit_Dict, node, frame)

    def visit_Tuple(self, node: nodes.Tuple, frame: Frame) -> None:  # noqa: N802
        if node.ctx == "load":
            self._hand("admit", super().visit_Tuple, node, frame)
        else:
            super().visit_Tuple(node, frame)

    def _hand(self, method: str, write: Callable[[Any, Frame], None], node: nodes.Node, frame: Frame) -> None:
        self.write(f"environment.{method}(")
        write(node, frame)
        self.write(")")


class BoundedEnvironment(ImmutableSandboxedEnvironment):
    """For one thread, whose templates come from `parse_template` and are rendered inside `bounded`."""

    code_generator_class = _BoundedCode
    intercepted_binops = frozenset(ImmutableSandboxedEnvironment.default_binop_table)

    def __init__(self) -> None:
        super().__init__(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols], finalize=self.admit)
        self._left = PRODUCED_BYTES_MAX
        self.concat = self.join_pieces  # type: ignore[method-assign]
        for name in UNTRUSTED_FILTERS:
            del self.filters[name]
        for name, act in self.filters.items():
            self.add_filter(name, act)

    def add_filter(self, name: str, act: Callable[..., object]) -> None:
        self.filters[name] = self._bound_filter(name, act)

    def parse_template(self, source: str) -> jinja2.Template:
        """Raises TemplateLimitError, and much else for a source that is damaged."""
        if len(source) > SOURCE_CHARS_MAX:
            raise TemplateLimitError(f"it has {len(source)} characters, at most {SOURCE_CHARS_MAX} are allowed")
        self._left = PRODUCED_BYTES_MAX  # constant parts are computed here
        return self.from_string(source)

    @contextmanager
    def bounded(self) -> Iterator[None]:
        """Raises TemplateLimitError when the block takes too many steps."""
        self._left = PRODUCED_BYTES_MAX
        steps = 0

        def count(frame: FrameType, event: str, argument: object) -> Any:
            nonlocal steps
            steps += 1
            if steps > STEPS_MAX:
                raise _StepsSpent
            return count

        before = sys.gettrace()
        sys.settrace(count)
        try:
            yield
        except _StepsSpent:
            raise TemplateLimitError(f"it takes more than {STEPS_MAX} steps") from None
        finally:
            sys.settrace(before)

    def admit(self, value: Value) -> Value:
        """The value, when it is small enough to be taken apart, compared and written."""
        self._spend(self._weigh(value))
        return value

    def concatenate(self, values: tuple[object, ...]) -> str:
        """What `~` does."""
        return self.join_pieces([str(self.admit(value)) for value in values])

    def join_pieces(self, pieces: Iterable[str]) -> str:
        listed = list(pieces)
        self._spend(sum(map(sys.getsizeof, listed)))
        return "".join(listed)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        if isinstance(left, int) and isinstance(right, int):
            self._check_integers(operator, left, right)
        elif operator == "*":
            self._check_product(left, (right,))
        elif operator == "%":
            self._check_format(WIDE_PERCENT, left, (right,))
        return self.admit(super().call_binop(context, operator, left, right))

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805
        __self._check_arguments((*args, *kwargs.values()))
        name = getattr(__obj, "__name__", "")
        bound = getattr(getattr(__obj, "__wrapped__", __obj), "__self__", None)
        if isinstance(bound, str):
            args = tuple(_listed(value) for value in args)
            __self._check_growth(name, (bound, *args, *kwargs.values()), is_filter=False)
        return __self.admit(super().call(__context, __obj, *args, **kwargs))

    def _bound_filter(self, name: str, act: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(act)  # jinja's marks of what is passed come along
        def bounded(*args: Any, **kwargs: Any) -> Any:
            if name in LISTING:
                args = tuple(_listed(value) for value in args)
            given = [value for value in (*args, *kwargs.values()) if not isinstance(value, PASSED)]
            self._check_arguments(given[1:])
            if name == "sum" and not all(isinstance(value, int | float | str | None) for value in given[1:]):
                raise TemplateLimitError("it sums what are no numbers")  # takes time that grows with the square
            self._check_growth(name, given, is_filter=True)
            return self.admit(act(*args, **kwargs))

        return bounded

    def _check_growth(self, name: str, given: Sequence[object], *, is_filter: bool) -> None:
        """`given`: what a filter or a method of a text is called with, the value itself first."""
        match name, given:
            case "replace", [str(text), str(old), str(new), *_]:
                size = len(text) + (text.count(old) if old else len(text) + 1) * len(new)
                if size > self._left:
                    raise self._too_large(size)
            case "format" | "format_map", [form, *values]:
                self._check_format(WIDE_PERCENT if is_filter else WIDE_BRACES, form, values)
            case _, [value, *others] if name in GROWING:
                self._check_product(value, others)

    def _check_arguments(self, values: Collection[object]) -> None:
        for value in values:
            if isinstance(value, int) and abs(value) > ARGUMENT_MAX:
                raise TemplateLimitError(
                    f"it asks for {_short(value)} of something, at most {ARGUMENT_MAX} are allowed"
                )
            if isinstance(value, str):  # which may be a new part of another
                self._spend(sys.getsizeof(value))

    def _check_integers(self, operator: str, left: int, right: int) -> None:
        bits = {
            "*": left.bit_length() + right.bit_length(),
            "**": left.bit_length() * max(right, 1) if abs(left) > 1 else 1,
        }.get(operator, 0)
        if bits > INTEGER_BITS_MAX:
            raise TemplateLimitError(f"it computes a number of {_short(bits)} bits, at most {INTEGER_BITS_MAX}")

    def _check_product(self, left: object, others: Collection[object]) -> None:
        size = (1 + self._extent(left)) * (1 + sum(map(self._extent, others)))
        if size > self._left:
            raise self._too_large(size)

    def _extent(self, value: object) -> int:
        if isinstance(value, int):
            return abs(value)
        return len(value) if isinstance(value, str) else self._weigh(value)

    def _check_format(self, wide: re.Pattern[str], form: object, values: Collection[object]) -> None:
        if isinstance(form, str):
            if wide.search(form.replace("{{", "").replace("}}", "")):
                raise TemplateLimitError(f"it formats with the width in {form!r:.50}")
            self._check_product(form, values)

    def _too_large(self, size: int) -> TemplateLimitError:
        return TemplateLimitError(f"it makes a value of up to {_short(size)} bytes, at most {self._left} are left")

    def _spend(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            raise TemplateLimitError(f"it makes more than {PRODUCED_BYTES_MAX} bytes")

    def _weigh(self, value: object) -> int:
        """Bytes of the value with all that it holds, as often as it holds it: what writing it would take. Raises
        TemplateLimitError beyond what is left."""
        total, waiting = 0, [iter((value,))]
        while waiting:
            for item in waiting[-1]:
                total += sys.getsizeof(item) if isinstance(item, str | bytes | int) else 64
                if total > self._left:
                    raise TemplateLimitError(f"it makes more than {PRODUCED_BYTES_MAX} bytes")
                if isinstance(item, Mapping):
                    waiting.append(iter([*item.keys(), *item.values()]))
                    break
                if isinstance(item, HELD):
                    waiting.append(iter(item))
                    break
            else:
                waiting.pop()
        return total


def _listed(value: object) -> object:
    """What is made as it is gone through has no size before."""
    is_lazy = isinstance(value, Iterable) and not isinstance(value, (str, bytes, Mapping, *HELD))
    return list(value) if is_lazy else value  # type: ignore[call-overload]


def _short(number: int) -> str:
    """Very long numbers cannot be written."""
    return str(number) if number.bit_length() < 64 else f"a number of {number.bit_length()} bits"
