"""The soak in short: a few rounds of everything."""

import pytest

from soak import WARM_UP, soak


@pytest.mark.aioxide_alone  # asyncio has connections that are never lost
@pytest.mark.hung_after(120)
def test_a_few_rounds(run):
    done = run(soak, 0, WARM_UP + 10, 1)
    for what in ("tcp", "tls", "unix", "datagrams", "children", "cancelled", "rude peers"):
        assert done.counts[what] > 0
