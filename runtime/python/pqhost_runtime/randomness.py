"""`random` seeds itself from the host when a request first uses it.

An image holds no seed, or all requests would see the same numbers. Seeding each request's generator in advance would
cost as much as running a small handler.
"""

import os
import random

# Functions of the module that are methods of its hidden generator.
_FUNCTIONS = [name for name, value in vars(random).items() if getattr(value, "__self__", None) is random._inst]


class Unseeded(random.Random):
    """A generator that becomes a seeded `random.Random` when it is used."""

    def random(self) -> float:
        """A number from 0 to 1."""
        _seed(self)
        return random.Random.random(self)  # which a test may have replaced

    def getrandbits(self, bits: int) -> int:
        """An int of so many bits."""
        _seed(self)
        return random.Random.getrandbits(self, bits)

    def seed(self, a: object = None, version: int = 2) -> None:
        """Seeds the generator as its user wants."""
        self.__class__ = random.Random
        random.Random.seed(self, a, version)

    def getstate(self) -> tuple:
        """The generator's state."""
        _seed(self)
        return random.Random.getstate(self)

    def setstate(self, state: tuple) -> None:
        """Continues from a state."""
        self.__class__ = random.Random
        random.Random.setstate(self, state)


def _seed(generator: random.Random) -> None:
    # Code that imported `random.random` by name goes on calling the methods above after the generator was seeded.
    if type(generator) is Unseeded:
        generator.__class__ = random.Random
        _native_seed(generator, int.from_bytes(os.urandom(16)))
        generator.gauss_next = None


_native_seed = random.Random.__base__.seed


def install() -> None:
    """Replaces the hidden generator of `random`; before anything imports functions of `random` by name."""
    generator = random._inst = random.Random.__new__(Unseeded)
    generator.gauss_next = None
    for name in _FUNCTIONS:
        setattr(random, name, getattr(generator, name))


def forget() -> None:
    """Makes the next use seed the generator anew, whatever was done to it before."""
    generator = random._inst
    if type(generator) is random.Random:
        generator.__class__ = Unseeded
