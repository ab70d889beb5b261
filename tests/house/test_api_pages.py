"""The pages of docs/api name every public name of the package once; the site describes them."""

import pathlib
import re

import aioxide

PAGES = sorted((pathlib.Path(__file__).resolve().parents[2] / "docs" / "api").glob("*.md"))


def test_every_public_name_has_an_entry():
    names = [
        name
        for page in PAGES
        for block in re.findall(r"(?ms)^```\{aioxide-api\}\n(.*?)^```$", page.read_text())
        for name in block.split()
    ]
    assert len(names) == len(set(names)), "a name stands there twice"
    assert set(aioxide.__all__) <= set(names)
