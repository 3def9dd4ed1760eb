"""What answers and numbers are held against.

Owns: the form of a promise that was checked, and the comparison of answers before any load. Never: measures.
"""

import json

import servers
from load import BenchError


def check(name, value, bound, at_least=False, unit=""):
    passed = value >= bound if at_least else value <= bound
    return {"name": name, "value": value, "bound": bound, "at_least": at_least, "unit": unit, "passed": passed}


def assert_same_answers(targets, comparable=lambda answer, target: answer):
    """A benchmark of different answers says nothing."""
    answers = [
        comparable(json.loads(servers.fetch(target.url, target.token, target.body)), target) for target in targets
    ]
    for target, answer in zip(targets[1:], answers[1:], strict=True):
        if answer != answers[0]:
            raise BenchError(
                f"{target.name} answers {str(answer)[:300]}, but {targets[0].name} {str(answers[0])[:300]}"
            )
