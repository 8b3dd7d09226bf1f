"""What the publications of this device promise, in plain words. Pure; the worker does the sums."""

from __future__ import annotations

import math

from peerd.config import Config
from peerd.status import PrivacyNow
from peerd.store.sent import Spending
from peerd.worker.hidden import Private

STRONG = 1.0  # odds change by less than a factor of three
MEANINGLESS = 10.0  # odds may change by a factor of 22,000: such a promise excludes nothing


def privacy_now(config: Config, spending: Spending, withheld: str = "") -> PrivacyNow:
    """For `peerd status` and `peerd sent`."""
    is_on = bool(config.private_clip)
    is_bounded = not spending.bare and not spending.lost and bool(spending.hidden)
    return PrivacyNow(
        mechanism="gaussian" if is_on else "none",
        clip=config.private_clip if is_on else None,
        noise=config.private_noise if is_on else None,
        delta=spending.delta or (config.private_delta if is_on else None),
        budget=config.private_budget or None,
        publications=spending.hidden,
        bare=spending.bare,
        epsilon=spending.epsilon if is_bounded else None,
        sentence=" ".join(_sentences(config, spending, withheld)),
    )


def _sentences(config: Config, spending: Spending, withheld: str) -> list[str]:
    found = []
    if spending.lost:
        found.append("Nobody counted the updates of this home from before, so no bound holds for all of them.")
    if not config.private_clip:
        found.append("Updates go out without noise: they may betray parts of your text.")
    elif spending.bare:
        found.append(f"{_updates(spending.bare)} went out without noise, and nothing bounds what they betray.")
    if spending.hidden and spending.epsilon is not None:
        found.append(f"{_updates(spending.hidden)} with noise: {meaning(spending.epsilon, spending.delta)}")
    elif config.private_clip:
        found.append("No update has been published with noise yet.")
    if withheld:
        found.append(f"Not publishing any more: {withheld}.")
    return found


def meaning(epsilon: float, delta: float | None) -> str:
    """What an epsilon promises."""
    spent = f"epsilon {epsilon_text(epsilon)}"
    if epsilon > MEANINGLESS:
        return f"{spent}, too large to mean anything; count them as unprotected."
    odds = math.exp(epsilon)
    factor = f"{odds:.1f}" if odds < 10 else f"{odds:,.0f}"
    grade = "strong" if epsilon <= STRONG else "weak"
    return (
        f"{spent}, a {grade} promise: whatever an onlooker guesses about your text, seeing all updates makes its odds "
        f"at most {factor} times better (but for a chance of {delta:g})."
    )


def epsilon_text(epsilon: float) -> str:
    """Three digits, or a whole number with thousands."""
    return f"{epsilon:.3g}" if epsilon < 1000 else f"{epsilon:,.0f}"


def _updates(count: int) -> str:
    return f"{count:,} update" if count == 1 else f"{count:,} updates"


def private_of(config: Config, spending: Spending) -> Private | None:
    """How the next update is hidden; None if it goes out as it is."""
    if not config.private_clip:
        return None
    return Private(
        clip=config.private_clip,
        noise=config.private_noise,
        delta=config.private_delta,
        budget=config.private_budget,
        spent=spending.noised,
    )
