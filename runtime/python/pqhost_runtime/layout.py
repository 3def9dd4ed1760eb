"""Where objects lie in the base image, so that a request writes to few pages: each one has to be rewound."""

import gc
import types
from array import array

# Larger holes than this are rare, and are filled in pieces of it.
_HOLE_BYTES_MAX = 64 << 10
# Size of a `bytes` object without its content; shorter ones than `_BYTES_MIN` are shared, not allocated.
_BYTES_OVERHEAD = 17
_BYTES_MIN = 2
# The allocator's granularity.
_STEP = 8
# Holes at most; building fails if there are more.
_HOLES_MAX = 200_000


def reference_counts() -> bytes:
    """The addresses of the reference counts of all objects that can be reached; see `prime` in `wit/worlds.wit`.

    A reference count is the first field of an object, so its address is the object's.
    """
    gc.collect()
    seen: dict[int, object] = {}
    objects = gc.get_objects()
    while objects:
        found = []
        for candidate in (*gc.get_referents(*objects), *_parts_of_code(objects)):
            address = id(candidate)
            if address not in seen:
                seen[address] = candidate
                # What the collector tracks is in the first list.
                if not gc.is_tracked(candidate):
                    found.append(candidate)
        objects = found
    own = (id(seen), id(objects), id(found))
    return array("I", sorted(address for address in seen if address not in own)).tobytes()


def _parts_of_code(objects: list) -> list:
    """The parts of code objects, which do not tell the collector about them."""
    parts = []
    for code in objects:
        if type(code) is types.CodeType:
            parts += [code.co_consts, code.co_names, code.co_filename, code.co_name, code.co_qualname]
            parts += [code.co_linetable, code.co_exceptiontable]
    return parts


def fill_holes(free_bytes: int) -> None:
    """Occupies all free blocks of the heap but its end, where `free_bytes` are left free.

    After all that was imported and done, there are holes everywhere: a request would take a block here and a block
    there. Without them it takes blocks that follow one another.
    """
    kept: list[bytes | None] = [None] * _HOLES_MAX
    n_kept = 0
    end_of_heap = id(bytes(free_bytes))
    for size in range(_HOLE_BYTES_MAX, _BYTES_OVERHEAD + _BYTES_MIN, -_STEP):
        while id(block := bytes(size - _BYTES_OVERHEAD)) < end_of_heap:
            kept[n_kept] = block
            n_kept += 1
    _KEPT.append(kept)


_KEPT: list[list] = []
