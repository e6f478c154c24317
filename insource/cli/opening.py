"""What commands open: the configuration, the registry, the artifacts, and a version ready to answer.

It knows which room opens what; it decides nothing and shows nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import click

from insource.cli.choices import Choices
from insource.errors import UserError

if TYPE_CHECKING:
    from insource.backends.contract import Backend
    from insource.backends.house_tier import HouseTier
    from insource.backends.onnx import Trunk
    from insource.backends.specialist import Specialist
    from insource.config import Config
    from insource.store.artifacts import ArtifactStore
    from insource.store.registry import Registry
    from insource.types import SpecialistVersion

_DIGEST = re.compile(r"[0-9a-f]{64}")
Say = Callable[[str], Callable[[int, int | None], None]]


def configuration(ctx: click.Context, flags: Mapping[str, Any] | None = None) -> Config:
    """Return the configuration under the global options; `flags` are a command's own, by key ("gateway.port").

    Raises ConfigError.
    """
    from insource.config import load

    choices = ctx.find_object(Choices) or Choices()
    return load(choices.config, flags={"store.home": choices.home, **(flags or {})})


def open_registry(config: Config) -> Registry:
    """Return the registry, to be closed by leaving its context; made where it is missing. Raises StoreError."""
    from insource.store.registry import Registry

    return Registry.open(config.home)


def open_artifacts(config: Config) -> ArtifactStore:
    """Return the artifacts of the home. Raises StoreError."""
    from insource.store.artifacts import ArtifactStore

    return ArtifactStore(config.home)


def split_name(name_at_version: str) -> tuple[str, int | None]:
    """Return "x@3" as ("x", 3) and "x" as ("x", None); raise UserError for anything else."""
    name, at, version = name_at_version.partition("@")
    number = version.removeprefix("v")
    if not name or (at and not (number.isascii() and number.isdigit() and int(number))):
        raise UserError(
            f"{name_at_version!r} names no version; NAME or NAME@V was expected, such as triage@3. "
            "`insource tasks` lists the names."
        )
    return name, int(number) if at else None


def find_version(registry: Registry, name_at_version: str) -> SpecialistVersion:
    """Return the version that NAME@V names; for NAME the active one, else the newest.

    Raises UserError, UnknownTask or UnknownVersion.
    """
    name, version = split_name(name_at_version)
    if version is None:
        return registry.active(name) or registry.get(name)
    return registry.get(name, version)


def open_version(config: Config, name_at_version: str, say: Say) -> tuple[SpecialistVersion, Specialist]:
    """Return the version that `find_version` finds, and its specialist, verified and open.

    Raises what `find_version` and `Opener` raise.
    """
    with open_registry(config) as registry:
        version = find_version(registry, name_at_version)
    report = say(f"opening {version.name}")
    report(0, None)
    specialist = Opener(config).specialist(version)
    report(1, 1)
    return version, specialist


class Opener:
    """Verifies and opens versions; those opened by one of these share their trunks. Threads may share it."""

    def __init__(self, config: Config) -> None:
        from insource.backends.onnx import Trunks

        self._home = config.home
        self._artifacts = open_artifacts(config)
        self._trunks = Trunks(lambda digest: self._artifacts.open(digest).folder)

    def __call__(self, version: SpecialistVersion, upstream: Backend | None = None) -> Specialist | HouseTier:
        """Return the specialist of a version, or the tier of one that asks `upstream`.

        Raises ArtifactDamaged where its bytes are not those registered.
        """
        artifact = self._artifacts.open(version.digest)
        if upstream is not None:
            from insource.backends.house_tier import open_house_tier

            return open_house_tier(
                artifact.folder, artifact.manifest, name=version.name, digest=version.digest, upstream=upstream
            )
        return self.specialist(version)

    def check(self, version: SpecialistVersion) -> None:
        """Raise ArtifactDamaged where a version, specialist or tier, could not be served."""
        from insource.backends.house_tier import FAMILY, read_house_tier

        if version.family == FAMILY:
            artifact = self._artifacts.open(version.digest)
            read_house_tier(artifact.folder, artifact.manifest)
        else:
            self.specialist(version)

    def specialist(self, version: SpecialistVersion) -> Specialist:
        """Return the specialist of a version; raise ArtifactDamaged where its bytes are not those registered."""
        from insource.backends.specialist import open_specialist

        artifact = self._artifacts.open(version.digest)
        return open_specialist(
            artifact.folder, artifact.manifest, name=version.name, digest=version.digest, trunk=self._trunks.get
        )

    def trunk(self, named: str) -> Trunk:
        """Return the trunk of a digest, or the one made from a base model, which is built where it is not there yet.

        Raises ArtifactDamaged where there is no such trunk, FetchError where the base model cannot be had.
        """
        if _DIGEST.fullmatch(named) is None:
            from insource.training.trunks import TrunkRoom

            named = TrunkRoom(self._home, self._artifacts, lambda _: lambda done, of: None).ensure(named)
        return self._trunks.get(named)
