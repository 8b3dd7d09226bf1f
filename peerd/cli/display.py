"""What people read when they look: status, peers, trust, rounds, id. Loads no command-line library, to be quick."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

from p2pfinetune.names import PeerId
from p2pfinetune.scoring.perplexity import perplexity
from peerd.cli.output import facts, in_home, say, say_bold, table
from peerd.control import answers, assembly, figures, merges
from peerd.control.peer_names import OTHERS, cell, mine, shown, title, told_apart
from peerd.control.render import NOTHING, bar, duration, padded, printable, share, short_id, size, some, when, written
from peerd.control.render import columns as columns_of
from peerd.control.words import advice, copied, headline, note, refusals, served, text_used, twin, verdict
from peerd.status import BannedNow, NeighbourNow, RoundRecord, Status

BAR_WIDTH = 24  # characters
HISTORY_SHOWN = 12  # rounds


def status(now: Status, home: Path | None = None) -> None:
    """What the daemon does, and what to do."""
    say_bold(f"{title(now.name, now.peer_id)}: {headline(now)}")
    for sentence in (verdict(now), served(now), now.held_out.contradiction, *advice(now), *now.notices):
        if sentence:
            say(f"  {in_home(sentence, home)}")
    say()
    network = now.network[:12] if now.network else "not known yet"
    facts(
        [
            ("perplexity", _side_by_side(now)),
            *([("twin", in_home(printable(twin(now)), home))] if now.worker.twin else []),
            ("loss", f"train {_loss(now.loss.train)}, trust {_loss(now.loss.trust)}, guard {_loss(now.loss.guard)}"),
            *([("rests on", rests)] if (rests := _rests_on(now)) else []),
            ("peers", _peer_line(now, home)),
            ("text", _text_line(now, home)),
            *([("merge", f"{printable(now.merge)}; {in_home('see: peerd rounds', home)}")] if now.merge else []),
            *([("assembly", printable(now.assembly))] if now.assembly else []),
            ("traffic", f"{size(now.traffic.bytes_in)} in, {size(now.traffic.bytes_out)} out"),
            ("sent", _sent_line(now, home)),
            ("privacy", now.privacy.sentence or NOTHING),
            ("refused", refusals(now.refused) or "nothing"),
            *([("turned away", refusals(now.turned_away))] if now.turned_away else []),
            *([("failed", _failed_line(now))] if now.failures.counts else []),
            *([("before", printable(now.before))] if now.before else []),
            ("worker", _worker_line(now)),
            *([("memory", _memory_line(now))] if now.worker.memory.said else []),
            ("loop", f"held at most {now.loop.max_callback_cpu_ms:.0f} ms, lag {now.loop.max_lag_ms:.0f} ms"),
            ("network", f"{network}, group {printable(now.group)}, model {printable(now.model)}"),
            *([("model", _model_line(now))] if now.worker.known_as else []),
            ("running", f"{duration(now.uptime_seconds)}, peerd {now.version}, {short_id(now.peer_id)}"),
            ("health", "fine" if now.health.ok else "see above"),
        ]
    )


def _side_by_side(now: Status) -> str:
    given = (("base", now.perplexity.base), ("own", now.perplexity.own), ("personal", now.perplexity.personal))
    known = [*given, *([("twin", now.perplexity.twin)] if now.perplexity.twin is not None else [])]
    if all(value is None for _, value in known):
        return "not measured yet"
    return ", ".join(f"{name} {written(value, 'perplexity')}" for name, value in known)


def _rests_on(now: Status) -> str:
    known = [(name, found) for name in ("trust", "guard") if (found := getattr(now.held_out, name)) is not None]
    return ", ".join(f"{name} {figures.rests_on(found)}" for name, found in known)


def _peer_line(now: Status, home: Path | None) -> str:
    shut_out = f"; {len(now.banned)} banned: {in_home('see peerd peers', home)}" if now.banned else ""
    if not now.neighbours:
        return "none found yet" + shut_out
    connected = sum(peer.connected for peer in now.neighbours)
    trusted = sorted(now.neighbours, key=lambda peer: -peer.trust)[:3]
    names = told_apart({now.peer_id: now.name, **{peer.peer_id: peer.name for peer in now.neighbours}})
    named = [f"{names[peer.peer_id]} {share(peer.trust)}" for peer in trusted if peer.trust > 0]
    taken = f"; round {now.merges.round} took: {', '.join(named)}" if named else ""
    return f"{connected} of {len(now.neighbours)} connected" + taken + shut_out


def _text_line(now: Status, home: Path | None) -> str:
    if not now.text.documents:
        return "not read yet"
    left_out = now.text.skipped or now.text.left_out
    return text_used(now.text) + (f"; some is left out, {in_home('see: peerd data', home)}" if left_out else "")


def _sent_line(now: Status, home: Path | None) -> str:
    total = now.sent
    updates, peers = some(total.publications, "update"), some(total.peers, "peer")
    return f"ever: {updates}, {size(total.bytes)} to {peers}; {in_home('see: peerd sent', home)}"


def _model_line(now: Status) -> str:
    return f"{printable(now.worker.known_as)}, licence {printable(now.worker.licence) or 'not stated'}"


def _failed_line(now: Status) -> str:
    found = now.failures
    last = f"; last {printable(found.last)}, {duration(found.last_seconds or 0.0)} ago"
    return f"{refusals(found.counts)}{last}"


def _memory_line(now: Status) -> str:
    memory = now.worker.memory
    return memory.said + (f"; {memory.measures}" if memory.measures else "")


def _worker_line(now: Status) -> str:
    worker = now.worker
    where = f" on {worker.device}" if worker.device else ""
    why = f" ({worker.precision_why})" if worker.precision_why else ""
    parts = [worker.state + where + (f" in {worker.precision}{why}" if worker.precision else "")]
    if worker.tokens_per_second is not None:
        parts.append(f"{worker.tokens_per_second:,.0f} tokens/s")
    if worker.restarts:
        parts.append(f"restarted {some(worker.restarts, 'time')}")
    if worker.last_error:
        parts.append(f"last error: {printable(worker.last_error)}")
    return ", ".join(parts)


def peers(found: list[NeighbourNow], banned: list[BannedNow], home: Path | None = None) -> None:
    """A table of peers, and one of those that are shut out."""
    if found:
        _known_peers(found)
    elif not banned:
        say(in_home("No peer found yet. What to do: peerd status", home))
    if banned:
        say()
        how = in_home("peerd unban ID", home)
        say_bold(f"Banned: nothing of them is taken until then. To lift it: {how}   (its last characters will do)")
        columns = [("peer", "text"), ("id", "id"), ("ends in", "seconds"), ("bans", "number"), ("last offence", "text")]
        named = [(cell(b.name), b) for b in banned]
        table(columns, [(name, b.peer_id, b.seconds, b.bans, printable(b.reason)) for name, b in named])


def _known_peers(found: list[NeighbourNow]) -> None:
    columns = [("peer", "text"), ("id", "id"), ("link", "text"), ("trust", "percent"), ("round", "number")]
    columns += [("latest", "seconds"), ("in", "bytes"), ("out", "bytes"), ("refused", "text"), ("note", "text")]
    names = told_apart({p.peer_id: p.name for p in found})
    ranked = sorted(found, key=lambda peer: (-peer.trust, not peer.connected, peer.peer_id))
    table(
        columns,
        [
            (
                cell(p.name),
                p.peer_id,
                "connected" if p.connected else "away",
                p.trust,
                p.round,
                p.age_seconds,
                p.bytes_in,
                p.bytes_out,
                refusals(p.refused) or "none",
                note(p, names) or "none",
            )
            for p in ranked
        ],
    )


def trust(found: answers.TrustNow) -> None:
    """My trust row with what it rests on, and if it was not taken, what my model is made of instead."""
    if found.round is None:
        say("Nothing merged yet: trust is worked out at the end of a round.")
        return
    names = _labels(found.row)
    me = next((peer.peer_id for peer in found.row if peer.is_me), PeerId(""))
    is_refused = found.merges.refused > 0 and not found.accepted
    say_bold(f"Trust in round {found.round}, by {printable(found.scheme)}" + (": NOT TAKEN" if is_refused else ""))
    if found.measured:
        say(f"  {found.measured}")
    say(f"  {_guard_sentence(found)}")
    if refused := merges.refused_in_words(found.merges, names, me):
        say(f"  {refused}")
    say()
    _row(found.row, names, {peer.peer_id: peer.weight for peer in found.row}, "not taken" if is_refused else "")
    if found.merges.round is None or found.merges.round != found.round:
        say()
        say_bold("What my model took from others")
        say(f"  {merges.taken_in_words(found.merges)}")
        _row(found.row, names, {peer.peer_id: peer.taken_weight for peer in found.row}, "")


def _row(row: list[answers.TrustedPeer], names: dict[PeerId, str], weights: dict[PeerId, float], said: str) -> None:
    width = max(columns_of(name) for name in names.values())
    for peer in row:
        if not (weight := weights[peer.peer_id]) and peer.update_age_seconds is None:
            continue
        age = f"update {duration(peer.update_age_seconds)} old" if peer.update_age_seconds is not None else ""
        refused = refusals(peer.refused)
        found_notes = (
            said if weight and not peer.is_me else "",
            age,
            f"refused: {refused}" if refused else "",
            copied(peer.copy_of, names),
        )
        notes = ", ".join(note for note in found_notes if note)
        label = padded(names[peer.peer_id], width)
        line = f"{label}  {share(weight):>5}  {bar(weight, BAR_WIDTH):<{BAR_WIDTH}}  {notes}"
        say(f"  {line}".rstrip())


def _guard_sentence(found: answers.TrustNow) -> str:
    losses = f"guard loss {_loss(found.guard_own)} before, {_loss(found.guard_personal)} after"
    weighed = [peer for peer in found.row if peer.weight > 0.0]
    if len(weighed) < 2:
        return f"There was nobody to merge with in that round: {losses}."
    if found.accepted:
        return f"The guard took the merge: {losses}."
    return f"The merge was not taken ({printable(found.reason) or 'the guard gave no reason'}): {losses}."


def one_trusted(found: answers.TrustNow) -> None:
    """One entry of the row, with its history."""
    (peer,) = found.row
    say_bold(
        f"{_labels([peer])[peer.peer_id]}: {share(peer.weight)} of the merge in round {found.round}{_taken(found)}"
    )
    say(f"  {peer.peer_id}")
    if found.measured:
        say(f"  by {printable(found.scheme)}: {found.measured}")
    if found.merges.round is not None:
        say(f"  the last merge that was taken, in round {found.merges.round}: {share(peer.taken_weight)} of it")
    say(f"  mean over {len(peer.history)} rounds: {share(peer.mean_weight)}")
    for point in peer.history[-HISTORY_SHOWN:]:
        said = "" if point.taken else "  not taken"
        say(f"  round {point.round:>5}  {share(point.weight):>5}  {bar(point.weight, BAR_WIDTH)}{said}".rstrip())


def _taken(found: answers.TrustNow) -> str:
    """Where there was a merge that was not."""
    return f", which was not taken ({printable(found.reason)})" if found.merges.refused and not found.accepted else ""


def rounds(found: list[RoundRecord]) -> None:
    """A table of rounds."""
    if not found:
        say("No round has ended yet.")
        return
    columns = [("round", "number"), ("ended", "text"), ("train", "loss"), ("base", "perplexity")]
    columns += [("own", "perplexity"), ("personal", "perplexity"), ("twin", "perplexity")]
    columns += [
        ("beside base", "text"),
        ("tokens", "number"),
        ("peers", "number"),
        ("in", "bytes"),
        ("out", "bytes"),
        ("merge", "text"),
    ]
    table(columns, [_round_row(record) for record in found])


def sent(found: answers.Sent) -> None:
    """Updates, then bytes by round and peer."""
    since, total = when(found.since_unix), found.total
    say_bold(f"{some(total.publications, 'update')}, {size(total.bytes)} to {some(total.peers, 'peer')} since {since}")
    say(f"  {found.privacy.sentence}")
    say("  Your text itself is never sent. What updates can reveal: docs/threat-model.md")
    say()
    if not found.rows:
        say("No peer has fetched or heard anything yet.")
        return
    made = {update.round: update for update in found.updates}
    columns = [("round", "text"), ("announced", "text"), ("epsilon", "text"), ("to", "text"), ("id", "id")]
    columns += [("my update", "bytes"), ("others' updates", "bytes"), ("announcements", "bytes")]
    table(columns, [_sent_row(row, made.get(row.round) if row.round else None) for row in found.rows])


def _sent_row(row: answers.SentRow, made: answers.SentUpdate | None) -> tuple[object, ...]:
    announced = dt.datetime.fromtimestamp(made.unix).astimezone().strftime("%m-%d %H:%M:%S") if made else NOTHING
    spent = "no noise" if made and not made.noise else f"{made.epsilon:.3g}" if made and made.epsilon else NOTHING
    who = cell(row.name) if row.peer_id else OTHERS
    round_ = str(row.round) if row.round is not None else "older"
    return (round_, announced, spent, who, row.peer_id, row.update_bytes, row.passed_on_bytes, row.announcement_bytes)


def _round_row(record: RoundRecord) -> tuple[object, ...]:
    ended = dt.datetime.fromtimestamp(record.finished_unix).astimezone().strftime("%m-%d %H:%M:%S")
    losses = (record.guard_base, record.guard_own, record.guard_personal, record.guard_twin)
    perplexities = [perplexity(loss) for loss in losses]
    merge = "nobody" if len(record.row) < 2 else "taken" if record.accepted else record.reason or "not taken"
    merge = assembly.in_words(record).partition(", perplexity")[0] or merge
    rest = record.on_guard
    beside = (figures.briefly(rest.against_base) or NOTHING, rest.tokens) if rest is not None else (NOTHING, None)
    alike = (*beside, len(record.row) - 1, record.bytes_in, record.bytes_out, merge)
    return (record.round, ended, record.loss_train, *perplexities, *alike)


def identity(found: answers.Identity) -> None:
    """Who I am and how others reach me."""
    say(found.peer_id)
    facts(
        [
            ("name", shown(found.name) or "(none; give one with: peerd start --name NAME)"),
            ("group", printable(found.group)),
            ("network", found.network or "not known yet"),
        ]
    )
    if found.invitations:
        say("\nOthers join me with one of these, each on a machine of its own:")
    for invitation in found.invitations:
        say(f"  {invitation}")
    for sentence in found.invitation_notes:
        say(f"  {sentence}")


def _labels(row: list[answers.TrustedPeer]) -> dict[PeerId, str]:
    names = told_apart({peer.peer_id: peer.name for peer in row})
    return names | {peer.peer_id: mine(peer.name) for peer in row if peer.is_me}


def _loss(value: float | None) -> str:
    return written(value, "loss")
