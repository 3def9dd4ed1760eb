"""The exports of the runtime component; see `wit/worlds.wit`."""

import os
import traceback

import wit_world
from componentize_py_types import Err
from pq import _request
from pqhost_runtime import failures, loader, preload, randomness, response, stdio, warmup

randomness.install()
preload.preload()


class WitWorld(wit_world.WitWorld):
    """Called by the host. State lives in `loader.SCRIPT`; the host rewinds it after each call."""

    def prime(self) -> bytes:
        """Makes the base image: everything imported, every path warm, memory free and in order."""
        try:
            stdio.install()
            return warmup.run(self)
        except BaseException:
            # An exception that leaves `prime` is an abort without a word.
            os.write(2, traceback.format_exc().encode())
            raise

    def load(self, files: list, explain: bool) -> None:
        """Runs the module-level code of a script."""
        try:
            loader.load(files, explain)
        except BaseException as error:
            raise Err(failures.describe(error)) from None
        finally:
            stdio.flush()

    def handle(self, incoming: bytes, body: bytes, files: list[bytes]) -> object:
        """Runs the handler."""
        try:
            return response.make(loader.SCRIPT.call(_request.make(incoming, body, files)))
        except BaseException as error:
            answer = response.make_for_http_error(error)
            if answer is not None:
                return answer
            raise Err(failures.describe(error)) from None
        finally:
            stdio.flush()
