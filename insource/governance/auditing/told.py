"""What registry, configuration and texts tell beside the rows: no row proves it, and it says how things are now.

It reads; whether what it tells agrees with the rows is checked where they meet (the digest of a version).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import msgspec

from insource.config import Config
from insource.governance.verifier.verify_ledger import printable, sealed_version, version_facts, worded
from insource.store.columns import micros
from insource.store.ledger import ERASE_ACT
from insource.store.ledger_reader import LedgerReader, LedgerRow
from insource.store.recertifications import calibration_text
from insource.store.registry import Registry
from insource.store.registry_rows import ALTERED
from insource.types import Mode, Sensitivity, SpecialistVersion

Statement = dict[str, Any]
MODES = {
    Mode.AUTO: "the steward moves versions on by itself, on the evidence that its acts tell",
    Mode.APPROVE: "the steward proposes, and a person carries out each step",
    Mode.MANUAL: "people alone move versions",
}


def told_by(source: str, question: str, kind: str, facts: Mapping[str, Any], text: str) -> Statement:
    """Return a statement that no row proves."""
    return {"question": question, "kind": kind, "source": source, "facts": dict(facts), "text": printable(text)}


class Told:
    """What is told; `registry` is None where the home has none. `now` is when it is asked."""

    def __init__(self, config: Config, registry: Registry | None, now: datetime) -> None:
        self._config, self._registry, self._now = config, registry, now

    def statements(self, found: Sequence[Statement], acts: Sequence[Any]) -> Iterator[Statement]:
        """Yield what is told about the versions, tasks, upstreams and keys that statements name; `acts` are proved."""
        yield from self._versions(found, acts)
        tasks = {each["facts"]["task"] for each in found if each["question"] == "model"}
        for task in sorted(tasks - {None}):
            if task in self._config.tasks:
                mode = self._config.tasks[task].mode
                text = f"Task {task} is in mode {mode.value}: {MODES[mode]}."
                yield told_by("configuration", "approved", "mode", {"task": task, "mode": mode.value}, text)
        left = [each["facts"] for each in found if each["kind"] == "left"]
        yield from self._upstreams(left, tasks)
        yield from self._keys(left)

    def knows(self, task: str) -> bool:
        """Say whether configuration or registry have a task; TASK/TIER, which names a tier's versions, is none."""
        known = () if self._registry is None else self._registry.tasks()
        return task in self._config.tasks or (task in known and "/" not in task)

    def text(self, ledger: LedgerReader, request_id: str) -> Statement:
        """Return the text of a request where it is kept, else why it is not."""
        row = ledger.decision(request_id)
        content = None if row is None else row.content
        if row is None or content is None:
            why = "the ledger has no such request" if row is None else self._why_gone(row, ledger)
            return told_by("ledger, unproven", "model", "text", {"kept": False, "why": why}, f"Its text: {why}.")
        facts = {"kept": True, "text": content.text, "answer": content.answer, "reference": content.reference}
        parts = ((name, facts[name]) for name in ("text", "answer", "reference"))
        said = "; ".join(f"{name}: {part!r}" for name, part in parts if part is not None)
        return told_by("ledger, unproven", "model", "text", facts, f"What is kept of it. {said}.")

    def _why_gone(self, row: LedgerRow, ledger: LedgerReader) -> str:
        if row.content_digest is None:
            return 'not kept, nor a digest of it (content = "none")'
        decision = row.decision
        task = self._config.tasks.get(decision.task or "")
        days = self._config.store.retention_days if task is None else self._config.days_kept(task)
        if any(act.what == ERASE_ACT and act.time >= decision.time for act in ledger.acts()):
            return "not kept: it was erased (acts of erasing follow this request), has expired, or was never kept"
        if self._now < decision.time + timedelta(days=days):
            return 'not kept: only its digest was recorded (content = "digest" when it came)'
        return f"not kept: more than {days} days have passed, so that it has expired if it was ever kept"

    def _versions(self, found: Sequence[Statement], acts: Sequence[Any]) -> Iterator[Statement]:
        """Yield where each version that was asked comes from, and those that it was made from, back to the first.

        What a registry's row says is proved where an act names that row's digest, and only told else.
        """
        artifacts = [each["facts"] for each in found if each["kind"] == "artifact"]
        waiting = [facts["version"] for facts in artifacts if facts["decisions"]]
        done: set[str] = set()
        while waiting:
            name = waiting.pop(0)
            if name in done:
                continue
            done.add(name)
            version = self._version(name)
            if version is None:
                yield told_by("registry", "data", "unknown", {"name": name}, f"{name} is not in the registry.")
                continue
            waiting += self._parents(version)
            yield self._told_version(version, acts)

    def _told_version(self, version: SpecialistVersion, acts: Sequence[Any]) -> Statement:
        if version.digest == ALTERED:
            text = f"{version.name} has a row in the registry that was altered, so what it says is not told."
            return told_by("registry", "data", "altered", {"name": version.name}, text)
        calibration = None if version.calibration is None else calibration_text(version.calibration)
        lineage = msgspec.json.encode(version.lineage).decode()
        values = [version.task, version.version, version.family, version.digest, micros(version.created), calibration,
                  lineage]  # fmt: skip
        facts = version_facts(values)
        return sealed_version(values, acts) or told_by("registry", "data", "version", facts, worded("version", facts))

    def _version(self, name: str) -> SpecialistVersion | None:
        task = name.rpartition("@")[0]
        versions = () if self._registry is None else self._registry.versions(task)
        return next((version for version in versions if version.name == name), None)

    def _parents(self, version: SpecialistVersion) -> list[str]:
        """Return the versions that one was made from: compressed, taught by, or certified behind."""
        lineage, task = version.lineage, version.task.partition("/")[0]
        parents = [lineage.get("compressed_from")]
        if (teacher := _mapping(lineage, "recipe").get("teacher")) is not None:
            parents.append(f"{version.task}@{teacher}")
        behind = lineage.get("behind")
        digests = [each.get("digest") for each in behind] if isinstance(behind, list | tuple) else []
        known = () if self._registry is None or not digests else self._registry.versions(task)
        parents += [each.name for each in known if each.digest in digests]
        return [str(name) for name in parents if name is not None]

    def _upstreams(self, left: Iterable[Mapping[str, Any]], tasks: Iterable[str | None]) -> Iterator[Statement]:
        named, configured = {facts["upstream"] for facts in left}, self._config.upstreams
        if None in named:
            for task in sorted(tasks, key=str):
                ways = [name for name, _ in self._config.upstreams_of(self._config.tasks.get(task or ""))]
                whose = "of no task" if task is None else f"of task {task}"
                text = f"Where a row names no upstream: requests {whose} go to {', '.join(ways) or 'none'}."
                yield told_by("configuration", "left", "ways", {"task": task, "upstreams": ways}, text)
                named |= set(ways)
        for name in sorted(named - {None}):
            upstream = configured.get(name)
            address = None if upstream is None else urlsplit(upstream.base_url)
            host = None if address is None else (address.hostname or "") + (f":{address.port}" if address.port else "")
            place = None if upstream is None else upstream.jurisdiction
            text = f"{name} is at {host}, jurisdiction {place or 'not stated'}."
            if host is None:
                text = f"{name} is not in the configuration any more, so where it was is not told."
            yield told_by("configuration", "left", "upstream",
                          {"upstream": name, "host": host, "jurisdiction": place}, text)  # fmt: skip

    def _keys(self, left: Iterable[Mapping[str, Any]]) -> Iterator[Statement]:
        """Yield whether the scope of each key, which never changes, allows what went out with it."""
        keys = {} if self._registry is None else {key.id: key for key in self._registry.keys()}
        asked = {(each["key"], each["upstream"], each["sensitivity"]) for each in left if each["key"] is not None}
        for id_, upstream, rated in sorted(asked, key=str):
            key, level = keys.get(id_), Sensitivity(rated or Sensitivity.RESTRICTED)
            facts = {"key": id_, "upstream": upstream, "sensitivity": rated, "name": None, "allowed": None}
            if key is None:
                yield told_by("registry", "left", "key", facts, f"Key {id_} is not in the registry.")
                continue
            sent = upstream or next(iter(key.upstreams or ()), "")
            facts |= {"name": key.name, "allowed": key.may_send(sent, level)}
            verb = "allows" if facts["allowed"] else "does NOT allow"
            text = f"Key {id_} ({key.name}, made by {key.created_by}) {verb} texts rated {level.value} to go to "
            yield told_by("registry", "left", "key", facts, text + f"{upstream or 'an upstream'}.")


def _mapping(lineage: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = lineage.get(name)
    return found if isinstance(found, Mapping) else {}
