"""Notebooks: what was written into them."""

from __future__ import annotations

import json

import pytest

from p2pfinetune.data.formats.notebook import notebook

CELLS = [
    {"cell_type": "markdown", "source": ["# Rain\n", "in *Kiel*"], "metadata": {}},
    {"cell_type": "code", "source": "plot(rain)", "outputs": [{"data": {"image/png": "iVBORw0KGgo" * 99}}]},
    {"cell_type": "code", "source": [], "outputs": [{"text": ["0 1 2\n"] * 99}]},
]


@pytest.mark.parametrize("name", ["rain.ipynb", "rain.json", "rain"])
def test_of_a_notebook_the_sources_stay_and_its_outputs_go(seen, name):
    text = json.dumps({"cells": CELLS, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}, indent=1)
    found = seen(name, text.encode())

    assert found.texts == ["# Rain\nin *Kiel*\n\nplot(rain)"]
    assert found.left_out == {"notebook outputs": len(text) - len(found.texts[0])}


def test_a_notebook_of_long_ago_is_read_too():
    cells = [{"cell_type": "heading", "source": "Rain"}, {"cell_type": "code", "input": ["plot(\n", "rain)"]}]
    found = notebook(json.dumps({"nbformat": 3, "worksheets": [{"cells": cells}]}))

    assert found is not None
    assert found.parts[0].text == "Rain\n\nplot(\nrain)"


@pytest.mark.parametrize(
    "text",
    [
        '{"nbformat": 4',
        '{"nbformat": 4, "cells": 5}',
        '{"nbformat": 4, "cells": [{"cell_type": "code"}]}',
        '{"nbformat": 3, "worksheets": [3]}',
        '["nbformat"]',
    ],
)
def test_what_is_no_notebook_is_read_as_it_is(text):
    assert notebook(text) is None
