"""A ban on the clock of the next run, whatever happened to the clock on the wall meanwhile."""

import pytest

from p2pfinetune.names import PeerId
from peerd.core.offences import ban_seconds
from peerd.daemon.resume import standing_of
from peerd.store.port import KeptBan

BAN = KeptBan(peer=PeerId("liar"), until_unix=10_600.0, seconds=600.0, bans=2, reason="norm")


@pytest.mark.parametrize(
    ("now", "left"),
    [(10_100.0, 500.0), (10_600.0, 0.0), (99_999.0, -89_399.0), (10_000.0 - 3600.0, 600.0), (0.0, 600.0)],
    ids=["later", "just over", "long over", "an hour back", "at the epoch"],
)
def test_a_ban_lasts_as_long_as_it_should_and_no_longer(now: float, left: float) -> None:
    standing = standing_of(BAN, at=50.0, unix=now)

    assert standing.until == pytest.approx(50.0 + left)
    assert standing.is_banned(50.0) == (left > 0)


def test_a_ban_that_is_over_makes_the_next_one_longer() -> None:
    assert ban_seconds(standing_of(BAN, at=0.0, unix=1e9).bans) == 16 * ban_seconds(0)
